// network_run.c: executables of a network, features, and steps.
#include "base/mem.h"
#include "train/network_state.h"

#include <math.h>
#include <string.h>

// ---- units: an executable with its buffers -------------------------------------------------------------------------

void unit_destroy(struct network *n, struct unit **unit) {
  struct unit *u = *unit;
  if (!u) return;
  if (n->last == u) n->last = NULL;
  const struct backend_ops *ops = n->backend->ops;
  executable_destroy(&u->executable);
  built_destroy(&u->built);
  void **inputs[] = {&u->pixels, &u->condition_pixels, &u->ids,  &u->row, &u->lengths, &u->noise,
                     &u->plane,  &u->target,           &u->scale};
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) ops->free(n->backend, inputs[i]);
  for (size_t i = 0; i < u->leaves; i++) ops->free(n->backend, &u->leaf[i]);
  for (size_t i = 0; i < u->outputs; i++) ops->free(n->backend, &u->output[i]);
  mem_free(&u->leaf);
  mem_free(&u->output);
  mem_free(&u->ready);
  mem_free(unit);
}

static status_t bind_inputs(struct network *n, struct unit *u) {
  const struct {
    const char *name;
    void **memory;
  } inputs[] = {{"pixels", &u->pixels},  {"condition_pixels", &u->condition_pixels},
                {"ids", &u->ids},        {"row", &u->row},
                {"length", &u->lengths}, {"noise", &u->noise},
                {"plane", &u->plane},    {"target", &u->target},
                {"scale", &u->scale}};
  for (size_t i = 0; i < executable_external_count(u->executable); i++) {
    const struct value *v = executable_external_at(u->executable, i);
    if (v->kind != VALUE_INPUT) continue;
    for (size_t k = 0; k < sizeof inputs / sizeof *inputs; k++) {
      if (strcmp(v->name, inputs[k].name)) continue;
      TRY(n->backend->ops->alloc(n->backend, desc_bytes(&v->desc), inputs[k].memory));
      TRY(executable_bind(u->executable, v, *inputs[k].memory));
    }
  }
  return OK;
}

// Buffers for the features that the live part reads: the leaves of both sources, in order.
static status_t bind_leaves(struct network *n, struct unit *u, const uint8_t *leaf) {
  status_t st = OK;
  struct value **tap = NULL;
  TRY(mem_alloc(&u->leaf, n->source[0].taps + n->source[1].taps + 1, sizeof *u->leaf));
  for (int s = 0; s < SOURCES; s++) {
    const struct source *source = &n->source[s];
    size_t count;
    mem_free(&tap);
    TRY_GOTO(network_find_taps(&u->built, leaf, (source_t)s, &tap, &count), done);
    if (count != source->leaves[u->kind])
      FAIL_GOTO(done, ERR_SHAPE, "the frozen part has %zu results, planned %zu", count, source->leaves[u->kind]);
    for (size_t i = 0; i < count; i++) {
      size_t each = source->tap[source->order[u->kind][i]].bytes;
      if (desc_bytes(&tap[i]->desc) != each * (size_t)u->batch) {
        FAIL_GOTO(done, ERR_SHAPE, "result %zu of the frozen part changes with the batch", i);
      }
      TRY_GOTO(n->backend->ops->alloc(n->backend, each * (size_t)u->batch, &u->leaf[u->leaves]), done);
      TRY_GOTO(executable_bind(u->executable, tap[i], u->leaf[u->leaves++]), done);
    }
  }
done:
  mem_free(&tap);
  return st;
}

// Bind gradients to their places in the arena, and learn after which step how much of it is final. New statistics go where the old
// ones stand.
static status_t bind_gradients(struct network *n, struct unit *u) {
  size_t steps = executable_nodes(u->executable);
  TRY(mem_alloc(&u->ready, steps ? steps : 1, sizeof *u->ready));
  for (size_t s = 0; s < steps; s++) u->ready[s] = n->arena_count;
  for (size_t i = 0; i < n->parameters; i++) {
    const struct value *g = u->built.parameter[i]->gradient;
    const struct value *next = u->built.parameter[i]->update;
    int64_t offset = n->parameter[i].offset;
    void *memory;
    if (next) {
      TRY(network_memory(n, i, &memory));
      TRY(executable_bind(u->executable, next, memory));
    }
    if (!g) continue;
    TRY(executable_bind(u->executable, g, (char *)n->gradients + (size_t)offset * dtype_bytes(n->real)));
    int made = executable_step_of(u->executable, g);
    for (int s = 0; s < made; s++) { // before its step, the arena is final at most up to it
      if (u->ready[s] > offset) u->ready[s] = offset;
    }
  }
  return OK;
}

// Feature units write into buffers of their own.
static status_t bind_outputs(struct network *n, struct unit *u, struct value **tap, size_t count) {
  TRY(mem_alloc(&u->output, count, sizeof *u->output));
  for (size_t i = 0; i < count; i++) {
    TRY(n->backend->ops->alloc(n->backend, desc_bytes(&tap[i]->desc), &u->output[u->outputs]));
    TRY(executable_bind(u->executable, tap[i], u->output[u->outputs++]));
  }
  return OK;
}

// The exchanges of a step, as its executable calls them; a rank without samples adds nothing.
static status_t exchange(void *context, double *values, size_t count) {
  struct network *n = context;
  if (n->absent) memset(values, 0, count * sizeof *values);
  status_t st = n->options.exchange(n->options.exchange_context, values, count);
  if (st != OK) n->lost = true;
  n->exchanged++;
  return st;
}

static status_t fill_live_unit(struct network *n, struct unit *u) {
  status_t st = OK;
  struct value **wanted = NULL;
  uint8_t *leaf = NULL;
  size_t count;
  TRY_GOTO(network_wanted(n, &u->built, u->kind, &wanted, &count), done);
  TRY_GOTO(graph_frontier(u->built.graph, wanted, count, u->built.depends, PART_LIVE, &leaf), done);
  struct executable_options o = {.leaf = leaf, .depends = u->built.depends, .profile = n->options.profile};
  if (u->kind == UNIT_STEP) {
    o.bound = wanted + NETWORK_RESULTS;
    o.bounds = count - NETWORK_RESULTS;
    o.exchange = n->options.exchange ? exchange : NULL;
    o.exchange_context = n;
  }
  TRY_GOTO(executable_create(u->built.graph, n->backend, wanted, count, &o, &u->executable), done);
  TRY_GOTO(network_bind_frozen(n, &u->built, u->executable, leaf), done);
  TRY_GOTO(bind_inputs(n, u), done);
  TRY_GOTO(bind_leaves(n, u, leaf), done);
  if (u->kind == UNIT_STEP) TRY_GOTO(bind_gradients(n, u), done);
done:
  mem_free(&leaf);
  mem_free(&wanted);
  return st;
}

// The frozen part of one source, for one input. The taps are those of the live part of the same graph.
static status_t fill_feature_unit(struct network *n, struct unit *u, source_t s) {
  status_t st = OK;
  struct value **tap = NULL;
  uint8_t *leaf = NULL;
  size_t taps;
  TRY_GOTO(network_taps(n, &u->built, network_main_kind(n), s, &tap, &taps), done);
  if (taps != n->source[s].taps)
    FAIL_GOTO(done, ERR_SHAPE, "a feature has %zu parts, planned %zu", taps, n->source[s].taps);
  TRY_GOTO(graph_frontier(u->built.graph, tap, taps, u->built.depends, PART_FEATURE, &leaf), done);
  // Packing pays for pictures, of which there are many of one shape; a text runs once for its length.
  bool pack = u->length == 0;
  struct executable_options o = {.leaf = leaf,
                                 .depends = pack ? u->built.depends : NULL,
                                 .bound = tap,
                                 .bounds = taps,
                                 .profile = n->options.profile};
  TRY_GOTO(executable_create(u->built.graph, n->backend, tap, taps, &o, &u->executable), done);
  TRY_GOTO(network_bind_frozen(n, &u->built, u->executable, leaf), done);
  TRY_GOTO(bind_inputs(n, u), done);
  TRY_GOTO(bind_outputs(n, u, tap, taps), done);
done:
  mem_free(&leaf);
  mem_free(&tap);
  return st;
}

status_t unit_get(struct network *n, unit_kind_t kind, int batch, int length, struct unit **out) {
  int slot = 0;
  n->tick++;
  for (int i = 0; i < MAX_UNITS; i++) {
    struct unit *u = n->unit[i];
    if (u && u->kind == kind && u->batch == batch && u->length == length) {
      u->used = n->tick;
      *out = u;
      return OK;
    }
    if (!u)
      slot = i;
    else if (n->unit[slot] && u->used < n->unit[slot]->used)
      slot = i;
  }
  unit_destroy(n, &n->unit[slot]);
  // Texts come sorted by length, each length once: an older one is of no more use, and its plans cost memory.
  for (int i = 0; kind == UNIT_FEATURE_CONDITION && i < MAX_UNITS; i++) {
    if (n->unit[i] && n->unit[i]->kind == kind) unit_destroy(n, &n->unit[i]);
  }
  status_t st = OK;
  struct unit *u = NULL;
  TRY_GOTO(mem_alloc(&u, 1, sizeof *u), done);
  u->kind = kind;
  u->batch = batch;
  u->length = length;
  u->used = n->tick;
  TRY_GOTO(built_create(n, batch, length ? length : n->text_limit, network_mode(n, kind), &u->built), done);
  if (kind == UNIT_FEATURE_IMAGE || kind == UNIT_FEATURE_CONDITION) {
    TRY_GOTO(fill_feature_unit(n, u, kind == UNIT_FEATURE_IMAGE ? SOURCE_IMAGE : SOURCE_CONDITION), done);
  } else {
    TRY_GOTO(fill_live_unit(n, u), done);
  }
  n->unit[slot] = u;
  *out = u;
  u = NULL;
done:
  unit_destroy(n, &u);
  return st;
}

size_t network_picture_bytes(const struct network *n) {
  return (size_t)n->options.size * (size_t)n->options.size * 3;
}

status_t network_check_length(const struct network *n, int length) {
  if (length >= 1 && length <= n->text_limit) return OK;
  return FAIL(ERR_SHAPE, "a text of %d tokens: the model takes 1 to %d", length, n->text_limit);
}

// ---- steps ---------------------------------------------------------------------------------------------------------

static status_t load_features(struct network *n, struct unit *u, const struct network_sample *samples) {
  size_t leaf = 0;
  for (int s = 0; s < SOURCES; s++) {
    const struct source *source = &n->source[s];
    for (size_t i = 0; i < source->leaves[u->kind]; i++, leaf++) {
      const struct tap *t = &source->tap[source->order[u->kind][i]];
      for (int k = 0; k < u->batch; k++) {
        const char *from = s == SOURCE_IMAGE ? samples[k].image : samples[k].condition;
        TRY(n->backend->ops->copy_in(n->backend, (char *)u->leaf[leaf] + (size_t)k * t->bytes, from + t->offset,
                                     t->bytes, NULL));
      }
    }
  }
  return OK;
}

// Texts of a batch are padded to the longest by repeating their last token: what stands behind the pooled token cannot reach it, or
// is masked by the text's length.
static status_t load_ids(struct network *n, struct unit *u, const struct network_sample *samples) {
  int32_t *ids = NULL;
  size_t width = u->length ? (size_t)u->length : (size_t)n->text_limit;
  TRY(mem_alloc(&ids, (size_t)u->batch * width, sizeof *ids));
  for (int k = 0; k < u->batch; k++) {
    const int32_t *from = samples[k].condition;
    for (size_t i = 0; i < width; i++) {
      ids[(size_t)k * width + i] = from[i < (size_t)samples[k].length ? i : (size_t)samples[k].length - 1];
    }
  }
  status_t st = n->backend->ops->copy_in(n->backend, u->ids, ids, (size_t)u->batch * width * sizeof *ids, NULL);
  mem_free(&ids);
  return st;
}

status_t unit_load_texts(struct network *n, struct unit *u, const struct network_sample *samples) {
  const struct backend_ops *ops = n->backend->ops;
  if (u->ids) TRY(load_ids(n, u, samples));
  for (int k = 0; k < u->batch; k++) {
    const struct network_sample *s = &samples[k];
    if (u->row) {
      int32_t row = n->model->arch->pooled_token(n->model->config, s->condition, s->length);
      TRY(ops->copy_in(n->backend, (int32_t *)u->row + k, &row, sizeof row, NULL));
    }
    if (u->lengths) {
      int32_t length = s->length;
      TRY(network_check_length(n, s->length));
      TRY(ops->copy_in(n->backend, (int32_t *)u->lengths + k, &length, sizeof length, NULL));
    }
  }
  return OK;
}

// What dropout draws for a sample, and the plane that it is about.
static status_t load_numbers(struct network *n, struct unit *u, const struct network_sample *samples, int64_t step) {
  const struct backend_ops *ops = n->backend->ops;
  for (int k = 0; k < u->batch; k++) {
    const struct network_sample *s = &samples[k];
    const uint32_t noise[4] = {(uint32_t)n->options.seed, (uint32_t)(n->options.seed >> 32), (uint32_t)step,
                               (uint32_t)s->number};
    int32_t plane = s->plane;
    if (plane < 0 || plane >= n->planes) {
      return FAIL(ERR_ARG, "sample %d is about plane %d of a model with %d", k, plane, n->planes);
    }
    if (u->noise) TRY(ops->copy_in(n->backend, (uint32_t *)u->noise + 4 * k, noise, sizeof noise, NULL));
    if (u->plane) TRY(ops->copy_in(n->backend, (int32_t *)u->plane + k, &plane, sizeof plane, NULL));
  }
  return OK;
}

static status_t load_samples(struct network *n, struct unit *u, const struct network_sample *samples) {
  const struct backend_ops *ops = n->backend->ops;
  size_t picture = network_picture_bytes(n), mask = picture / 3;
  TRY(load_features(n, u, samples));
  TRY(unit_load_texts(n, u, samples));
  for (size_t k = 0; k < (size_t)u->batch; k++) {
    if (u->pixels) TRY(ops->copy_in(n->backend, (char *)u->pixels + k * picture, samples[k].image, picture, NULL));
    if (u->condition_pixels) {
      TRY(ops->copy_in(n->backend, (char *)u->condition_pixels + k * picture, samples[k].condition, picture, NULL));
    }
    if (u->target) TRY(ops->copy_in(n->backend, (char *)u->target + k * mask, samples[k].mask, mask, NULL));
  }
  return OK;
}

// Copy a result to the host as fp32.
static status_t fetch(struct network *n, const struct unit *u, const struct value *v, float *out) {
  size_t count = (size_t)desc_count(&v->desc);
  const void *from = executable_memory(u->executable, v, n->workspace);
  if (n->real == DTYPE_F32) return n->backend->ops->copy_out(n->backend, out, from, count * sizeof *out, NULL);
  double *wide = NULL;
  TRY(mem_alloc(&wide, count, sizeof *wide));
  status_t st = n->backend->ops->copy_out(n->backend, wide, from, count * sizeof *wide, NULL);
  for (size_t i = 0; st == OK && i < count; i++) out[i] = (float)wide[i];
  mem_free(&wide);
  return st;
}

struct hooked {
  const struct unit *unit;
  const struct network_hook *hook;
};

static status_t after_step(void *context, int step) {
  const struct hooked *h = context;
  return h->hook->progress(h->hook->context, h->unit->ready[step]);
}

static status_t check_lengths(const struct network *n, const struct network_sample *samples, int count, int *longest) {
  *longest = 0;
  if (!n->live[SOURCE_CONDITION] || n->options.condition != CONDITION_TEXT || !n->text_limit) return OK;
  for (int i = 0; i < count; i++) {
    TRY(network_check_length(n, samples[i].length));
    if (samples[i].length > *longest) *longest = samples[i].length;
  }
  return OK;
}

static status_t run(struct network *n, unit_kind_t kind, const struct network_sample *samples, int count, double scale,
                    int64_t step, const struct network_hook *hook, float *loss, float (*sums)[4], float *logits) {
  struct unit *u;
  int length;
  TRY(check_lengths(n, samples, count, &length));
  TRY(unit_get(n, kind, count, length, &u));
  TRY(load_samples(n, u, samples));
  TRY(load_numbers(n, u, samples, step));
  if (u->scale) {
    float narrow = (float)scale;
    const void *from = n->real == DTYPE_F64 ? (const void *)&scale : (const void *)&narrow;
    TRY(n->backend->ops->copy_in(n->backend, u->scale, from, dtype_bytes(n->real), NULL));
  }
  TRY(network_reserve(n, executable_arena_bytes(u->executable)));
  n->last = kind == UNIT_STEP ? NULL : u;
  struct hooked h = {u, hook};
  TRY(executable_run(u->executable, n->workspace, NULL, hook ? after_step : NULL, &h));
  if (logits) TRY(fetch(n, u, u->built.logits, logits));
  if (kind == UNIT_FORWARD) return OK;
  TRY(fetch(n, u, u->built.loss, loss));
  TRY(fetch(n, u, u->built.sums, sums[0]));
  for (int i = 0; i < count; i++) {
    if (!isfinite(loss[i]))
      return FAIL(ERR_NUMERIC, "the loss of sample %d of this rank's batch is %g", i, (double)loss[i]);
  }
  return OK;
}

status_t network_forward(struct network *n, const struct network_sample *samples, int count, float *logits) {
  return run(n, UNIT_FORWARD, samples, count, 0, 0, NULL, NULL, NULL, logits);
}

status_t network_loss(struct network *n, const struct network_sample *samples, int count, float *loss, float (*sums)[4],
                      float *logits) {
  return run(n, UNIT_LOSS, samples, count, 0, 0, NULL, loss, sums, logits);
}

status_t network_get_planes(struct network *n, float *out) {
  if (!n->last || !n->options.study || n->last->built.planes->desc.rank != 4)
    return FAIL(ERR_ARG, "no logits of several planes have been kept");
  return fetch(n, n->last, n->last->built.planes, out);
}

// ---- steps with exchanges ------------------------------------------------------------------------------------------

// A step that broke off here goes on elsewhere: take part in the exchanges that are left.
static status_t join_rest(struct network *n, status_t mine) {
  status_t st = OK;
  double *zeros = NULL;
  char *message = NULL;
  size_t most = 1;
  for (size_t i = n->exchanged; i < n->exchanges; i++) most = n->exchange[i] > most ? n->exchange[i] : most;
  TRY_GOTO(mem_copy_text(&message, status_message()), done);
  TRY_GOTO(mem_alloc(&zeros, most, sizeof *zeros), done);
  while (n->exchanged < n->exchanges && !n->lost) {
    memset(zeros, 0, most * sizeof *zeros);
    TRY_GOTO(exchange(n, zeros, n->exchange[n->exchanged]), done);
  }
done:
  if (message) status_set_message(message);
  mem_free(&message);
  mem_free(&zeros);
  return mine;
}

static status_t zero_gradients(struct network *n) {
  return n->backend->ops->fill_zero(n->backend, n->gradients, (size_t)n->arena_count * dtype_bytes(n->real), NULL);
}

// The step of a rank without samples: a black picture and an empty text go through the same operations, so that this rank's running
// statistics take the same bits as the others'; it adds nothing to any sum.
static status_t run_absent(struct network *n, int64_t step) {
  status_t st = OK;
  uint8_t *zeros = NULL;
  struct network_sample *nobody = NULL;
  float *loss = NULL, (*sums)[4] = NULL;
  size_t bytes = network_picture_bytes(n);
  for (int s = 0; s < SOURCES; s++) bytes = n->source[s].bytes > bytes ? n->source[s].bytes : bytes;
  TRY_GOTO(mem_alloc(&zeros, bytes, 1), done);
  TRY_GOTO(mem_alloc(&nobody, 1, sizeof *nobody), done);
  TRY_GOTO(mem_alloc(&loss, 1, sizeof *loss), done);
  TRY_GOTO(mem_alloc(&sums, 1, sizeof *sums), done);
  *nobody = (struct network_sample){.image = zeros, .condition = zeros, .length = 1, .mask = zeros};
  n->absent = true;
  st = run(n, UNIT_STEP, nobody, 1, 0, step, NULL, loss, sums, NULL);
  if (st == ERR_NUMERIC && n->exchanged == n->exchanges) st = OK; // a loss of nothing
  if (st == OK) st = zero_gradients(n);
done:
  mem_free(&sums);
  mem_free(&loss);
  mem_free(&nobody);
  mem_free(&zeros);
  return st;
}

status_t network_step(struct network *n, const struct network_sample *samples, int count, double scale, int64_t step,
                      const struct network_hook *hook, float *loss, float (*sums)[4], float *logits) {
  if (!n->options.train) return FAIL(ERR_ARG, "this network was made for evaluation: it has no backward pass");
  status_t st;
  bool together = n->options.exchange && n->exchanges;
  n->exchanged = 0;
  n->absent = false;
  if (count > 0) {
    st = run(n, UNIT_STEP, samples, count, scale, step, hook, loss, sums, logits);
  } else {
    st = together ? run_absent(n, step) : zero_gradients(n);
  }
  n->absent = true; // whatever is left to exchange
  if (st != OK && together) st = join_rest(n, st);
  n->batches++;
  TRY(st);
  return count == 0 && hook ? hook->progress(hook->context, n->arena_count) : OK;
}

status_t network_print_profile(const struct network *n, FILE *out) {
  static const char *const name[] = {"forward", "loss", "step", "feature of the picture", "feature of the prompt"};
  for (int i = 0; i < MAX_UNITS; i++) {
    const struct unit *u = n->unit[i];
    if (!u) continue;
    (void)fprintf(out, "-- %s, batch %d, length %d: ", name[u->kind], u->batch, u->length);
    TRY(executable_print_profile(u->executable, out));
  }
  return OK;
}
