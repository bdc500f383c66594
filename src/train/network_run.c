// network_run.c: executables of a network, features, and steps.
#include "base/mem.h"
#include "base/parallel.h"
#include "train/network_state.h"

#include <math.h>
#include <string.h>

// ---- units: an executable with its buffers -------------------------------------------------------------------------

void unit_destroy(struct network *n, struct unit **unit) {
  struct unit *u = *unit;
  if (!u) return;
  const struct backend_ops *ops = n->backend->ops;
  executable_destroy(&u->executable);
  built_destroy(&u->built);
  void **inputs[] = {&u->pixels, &u->condition_pixels, &u->ids, &u->row, &u->target, &u->scale};
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
  } inputs[] = {{"pixels", &u->pixels}, {"condition_pixels", &u->condition_pixels},
                {"ids", &u->ids},       {"row", &u->row},
                {"target", &u->target}, {"scale", &u->scale}};
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

// Buffers for the features that the live part reads: the taps of both sources, in order.
static status_t bind_leaves(struct network *n, struct unit *u, const uint8_t *leaf) {
  status_t st = OK;
  struct value **tap = NULL;
  TRY(mem_alloc(&u->leaf, n->source[0].taps + n->source[1].taps + 1, sizeof *u->leaf));
  for (int s = 0; s < SOURCES; s++) {
    size_t count;
    mem_free(&tap);
    TRY_GOTO(network_find_taps(n, &u->built, leaf, (source_t)s, &tap, &count), done);
    if (count > n->source[s].taps)
      FAIL_GOTO(done, ERR_SHAPE, "the frozen part has %zu results, planned %zu", count, n->source[s].taps);
    for (size_t i = 0; i < count; i++) {
      size_t each = n->source[s].tap[i].bytes;
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

// Bind gradients to their places in the arena, and learn after which step how much of it is final.
static status_t bind_gradients(struct network *n, struct unit *u) {
  size_t steps = executable_nodes(u->executable);
  TRY(mem_alloc(&u->ready, steps ? steps : 1, sizeof *u->ready));
  for (size_t s = 0; s < steps; s++) u->ready[s] = n->arena_count;
  for (size_t i = 0; i < n->parameters; i++) {
    const struct value *g = u->built.parameter[i]->gradient;
    int64_t offset = n->parameter[i].offset;
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

static status_t fill_live_unit(struct network *n, struct unit *u) {
  status_t st = OK;
  struct value **wanted = NULL;
  uint8_t *leaf = NULL;
  size_t count;
  TRY_GOTO(network_wanted(n, &u->built, u->kind, &wanted, &count), done);
  TRY_GOTO(graph_frontier(u->built.graph, wanted, count, u->built.depends, PART_LIVE, &leaf), done);
  struct executable_options o = {.leaf = leaf, .depends = u->built.depends, .profile = n->options.profile};
  if (u->kind == UNIT_STEP) {
    o.bound = wanted + 3;
    o.bounds = count - 3;
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
  struct value **wanted = NULL, **tap = NULL;
  uint8_t *live_leaf = NULL, *leaf = NULL;
  size_t count, taps;
  TRY_GOTO(network_wanted(n, &u->built, n->options.train ? UNIT_STEP : UNIT_FORWARD, &wanted, &count), done);
  TRY_GOTO(graph_frontier(u->built.graph, wanted, count, u->built.depends, PART_LIVE, &live_leaf), done);
  TRY_GOTO(network_find_taps(n, &u->built, live_leaf, s, &tap, &taps), done);
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
  mem_free(&live_leaf);
  mem_free(&tap);
  mem_free(&wanted);
  return st;
}

// The unit for a kind and shape, made when it is not there.
static status_t get_unit(struct network *n, unit_kind_t kind, int batch, int length, struct unit **out) {
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
  TRY_GOTO(built_create(n, batch, length ? length : n->text_limit, &u->built), done);
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

// ---- features ------------------------------------------------------------------------------------------------------

size_t network_feature_bytes(const struct network *n, source_t source) {
  return n->source[source].bytes;
}

struct contents {
  struct network *n;
  struct key *key; // by parameter
  bool *known;
};

static status_t hash_parameter(void *context, size_t i, int worker) {
  (void)worker;
  struct contents *c = context;
  struct network *n = c->n;
  if (!c->known[i]) return OK;
  const struct network_parameter *p = &n->parameter[i];
  const struct safetensors_entry *e = n->weights && !n->memory[i] ? safetensors_find(n->weights, p->name) : NULL;
  if (e && e->desc.dtype == DTYPE_F32) return key_sha256(e->data, desc_bytes(&e->desc), &c->key[i]);
  float *copy = NULL;
  TRY(mem_alloc(&copy, (size_t)desc_count(&p->desc), sizeof *copy));
  status_t st = network_host_copy(n, i, copy);
  if (st == OK) st = key_sha256(copy, (size_t)desc_count(&p->desc) * sizeof *copy, &c->key[i]);
  mem_free(&copy);
  return st;
}

static size_t parameter_index(const struct network *n, const char *name) {
  size_t i = 0;
  while (i < n->parameters && strcmp(n->parameter[i].name, name)) i++;
  return i;
}

// First pass: which parameters a feature depends on. Second pass: their content.
static status_t note_leaf(void *context, const struct value *leaf, struct key *out) {
  struct contents *c = context;
  memset(out, 0, sizeof *out);
  if (leaf->kind == VALUE_PARAMETER) c->known[parameter_index(c->n, leaf->name)] = true;
  return OK;
}

static status_t content_leaf(void *context, const struct value *leaf, struct key *out) {
  struct contents *c = context;
  if (leaf->kind != VALUE_PARAMETER) return key_sha256(leaf->name, strlen(leaf->name), out);
  *out = c->key[parameter_index(c->n, leaf->name)];
  return OK;
}

static status_t make_base_key(struct network *n, source_t s) {
  status_t st = OK;
  struct built b = {0};
  struct contents c = {.n = n};
  struct value **wanted = NULL, **tap = NULL;
  uint8_t *leaf = NULL;
  struct key_builder *k = NULL;
  size_t count, taps;
  struct key each;
  TRY_GOTO(built_create(n, 1, n->text_limit, &b), done);
  TRY_GOTO(mem_alloc(&c.key, n->parameters, sizeof *c.key), done);
  TRY_GOTO(mem_alloc(&c.known, n->parameters, sizeof *c.known), done);
  TRY_GOTO(network_wanted(n, &b, n->options.train ? UNIT_STEP : UNIT_FORWARD, &wanted, &count), done);
  TRY_GOTO(graph_frontier(b.graph, wanted, count, b.depends, PART_LIVE, &leaf), done);
  TRY_GOTO(network_find_taps(n, &b, leaf, s, &tap, &taps), done);
  for (size_t i = 0; i < taps; i++) TRY_GOTO(graph_signature(b.graph, tap[i], note_leaf, &c, &each), done);
  TRY_GOTO(parallel_for(n->parameters, n->backend->threads, hash_parameter, &c), done);
  TRY_GOTO(key_begin(&k, "feature"), done);
  TRY_GOTO(key_add_text(k, "numerics", n->backend->ops->numerics(n->backend)), done);
  TRY_GOTO(key_add_int(k, "threads", n->backend->threads), done);
  for (size_t i = 0; i < taps; i++) {
    TRY_GOTO(graph_signature(b.graph, tap[i], content_leaf, &c, &each), done);
    TRY_GOTO(key_add_key(k, "tap", &each), done);
  }
  TRY_GOTO(key_finish(&k, &n->source[s].base), done);
  n->source[s].has_base = true;
done:
  CLEANUP(key_finish(&k, NULL));
  mem_free(&leaf);
  mem_free(&tap);
  mem_free(&wanted);
  mem_free(&c.known);
  mem_free(&c.key);
  built_destroy(&b);
  return st;
}

status_t network_feature_key(struct network *n, source_t source, const struct key *input, struct key *out) {
  if (!n->source[source].has_base) TRY(make_base_key(n, source));
  struct key_builder *k = NULL;
  TRY(key_begin(&k, "feature of an input"));
  status_t st = key_add_key(k, "base", &n->source[source].base);
  if (st == OK) st = key_add_key(k, "input", input);
  CLEANUP(key_finish(&k, out));
  return st;
}

static size_t picture_bytes(const struct network *n) {
  return (size_t)n->options.size * (size_t)n->options.size * 3;
}

static status_t check_length(const struct network *n, int length) {
  if (length >= 1 && length <= n->text_limit) return OK;
  return FAIL(ERR_SHAPE, "a text of %d tokens: the model takes 1 to %d", length, n->text_limit);
}

status_t network_compute_feature(struct network *n, source_t source, const void *input, int length, void *feature) {
  const struct source *s = &n->source[source];
  if (s->bytes == 0) return FAIL(ERR_ARG, "this input has no feature: its encoder is trained");
  bool is_text = source == SOURCE_CONDITION && n->options.condition == CONDITION_TEXT;
  struct unit *u;
  if (is_text) TRY(check_length(n, length));
  TRY(get_unit(n, source == SOURCE_IMAGE ? UNIT_FEATURE_IMAGE : UNIT_FEATURE_CONDITION, 1, is_text ? length : 0, &u));
  const struct backend_ops *ops = n->backend->ops;
  if (is_text) {
    int32_t row = n->model->arch->pooled_token(n->model->config, input, length);
    TRY(ops->copy_in(n->backend, u->ids, input, (size_t)length * sizeof(int32_t), NULL));
    TRY(ops->copy_in(n->backend, u->row, &row, sizeof row, NULL));
  } else {
    void *to = source == SOURCE_IMAGE ? u->pixels : u->condition_pixels;
    TRY(ops->copy_in(n->backend, to, input, picture_bytes(n), NULL));
  }
  TRY(network_reserve(n, executable_arena_bytes(u->executable)));
  TRY(executable_run(u->executable, n->workspace, NULL, NULL, NULL));
  for (size_t i = 0; i < s->taps; i++) {
    TRY(ops->copy_out(n->backend, (char *)feature + s->tap[i].offset, u->output[i], s->tap[i].bytes, NULL));
  }
  return OK;
}

// ---- steps ---------------------------------------------------------------------------------------------------------

static status_t load_features(struct network *n, struct unit *u, const struct network_sample *samples) {
  size_t leaf = 0;
  for (int s = 0; s < SOURCES; s++) {
    const struct source *source = &n->source[s];
    for (size_t i = 0; source->bytes && i < source->taps && leaf < u->leaves; i++, leaf++) {
      for (int k = 0; k < u->batch; k++) {
        const char *from = s == SOURCE_IMAGE ? samples[k].image : samples[k].condition;
        TRY(n->backend->ops->copy_in(n->backend, (char *)u->leaf[leaf] + (size_t)k * source->tap[i].bytes,
                                     from + source->tap[i].offset, source->tap[i].bytes, NULL));
      }
    }
  }
  return OK;
}

// Texts of a batch are padded to the longest by repeating their last token: what stands behind the pooled token cannot reach it.
static status_t load_texts(struct network *n, struct unit *u, const struct network_sample *samples) {
  status_t st = OK;
  int32_t *ids = NULL, *row = NULL;
  size_t width = (size_t)u->length;
  TRY_GOTO(mem_alloc(&ids, (size_t)u->batch * width, sizeof *ids), done);
  TRY_GOTO(mem_alloc(&row, (size_t)u->batch, sizeof *row), done);
  for (int k = 0; k < u->batch; k++) {
    const int32_t *from = samples[k].condition;
    row[k] = n->model->arch->pooled_token(n->model->config, from, samples[k].length);
    for (size_t i = 0; i < width; i++) {
      ids[(size_t)k * width + i] = from[i < (size_t)samples[k].length ? i : (size_t)samples[k].length - 1];
    }
  }
  TRY_GOTO(n->backend->ops->copy_in(n->backend, u->ids, ids, (size_t)u->batch * width * sizeof *ids, NULL), done);
  TRY_GOTO(n->backend->ops->copy_in(n->backend, u->row, row, (size_t)u->batch * sizeof *row, NULL), done);
done:
  mem_free(&row);
  mem_free(&ids);
  return st;
}

static status_t load_samples(struct network *n, struct unit *u, const struct network_sample *samples) {
  const struct backend_ops *ops = n->backend->ops;
  size_t picture = picture_bytes(n), mask = picture / 3;
  TRY(load_features(n, u, samples));
  if (u->ids) TRY(load_texts(n, u, samples));
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
static status_t fetch(struct network *n, struct unit *u, const struct value *v, float *out) {
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
  if (!n->live[SOURCE_CONDITION] || n->options.condition != CONDITION_TEXT) return OK;
  for (int i = 0; i < count; i++) {
    TRY(check_length(n, samples[i].length));
    if (samples[i].length > *longest) *longest = samples[i].length;
  }
  return OK;
}

static status_t run(struct network *n, unit_kind_t kind, const struct network_sample *samples, int count, double scale,
                    const struct network_hook *hook, float *loss, float (*sums)[4], float *logits) {
  struct unit *u;
  int length;
  TRY(check_lengths(n, samples, count, &length));
  TRY(get_unit(n, kind, count, length, &u));
  TRY(load_samples(n, u, samples));
  if (u->scale) {
    float narrow = (float)scale;
    const void *from = n->real == DTYPE_F64 ? (const void *)&scale : (const void *)&narrow;
    TRY(n->backend->ops->copy_in(n->backend, u->scale, from, dtype_bytes(n->real), NULL));
  }
  TRY(network_reserve(n, executable_arena_bytes(u->executable)));
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
  return run(n, UNIT_FORWARD, samples, count, 0, NULL, NULL, NULL, logits);
}

status_t network_loss(struct network *n, const struct network_sample *samples, int count, float *loss, float (*sums)[4],
                      float *logits) {
  return run(n, UNIT_LOSS, samples, count, 0, NULL, loss, sums, logits);
}

status_t network_step(struct network *n, const struct network_sample *samples, int count, double scale,
                      const struct network_hook *hook, float *loss, float (*sums)[4], float *logits) {
  if (!n->options.train) return FAIL(ERR_ARG, "this network was made for evaluation: it has no backward pass");
  if (count > 0) return run(n, UNIT_STEP, samples, count, scale, hook, loss, sums, logits);
  TRY(n->backend->ops->fill_zero(n->backend, n->gradients, (size_t)n->arena_count * dtype_bytes(n->real), NULL));
  return hook ? hook->progress(hook->context, n->arena_count) : OK;
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
