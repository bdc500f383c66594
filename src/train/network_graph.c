// network_graph.c: from a model and a shape to a graph with every pass done, and the memory of what does not change.
#include "base/mem.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "train/network_state.h"

#include <stdlib.h>
#include <string.h>

static bool is_trained(const void *context, const char *parameter) {
  const struct network *n = context;
  if (!n->options.train) return false;
  return n->options.encoders || !n->model->arch->is_encoder(parameter);
}

static status_t index_parameters(struct network *n, struct built *b) {
  size_t count = 0;
  for (size_t i = 0; i < b->graph->values; i++) count += b->graph->value[i]->kind == VALUE_PARAMETER;
  TRY(mem_alloc(&b->parameter, count ? count : 1, sizeof(struct value *)));
  count = 0;
  for (size_t i = 0; i < b->graph->values; i++) {
    if (b->graph->value[i]->kind == VALUE_PARAMETER) b->parameter[count++] = b->graph->value[i];
  }
  if (n->parameters == 0) n->parameters = count;
  if (n->parameters != count) {
    return FAIL(ERR_SHAPE, "the model declares %zu parameters for one shape and %zu for another", n->parameters, count);
  }
  for (size_t i = 0; n->parameter && i < count; i++) {
    if (!strcmp(n->parameter[i].name, b->parameter[i]->name)) continue;
    return FAIL(ERR_SHAPE, "the model declares %s in one mode where it declares %s in the other", n->parameter[i].name,
                b->parameter[i]->name);
  }
  return OK;
}

// Each sample's plane of what the model returned.
static struct value *take_planes(struct graph *g, struct value *planes) {
  if (!planes || planes->desc.rank != 4) return planes;
  const int64_t *d = planes->desc.dim;
  if (d[3] == 1) return graph_reshape(g, planes, &TENSOR_DESC(planes->desc.dtype, d[0], d[1], d[2]));
  return graph_take_plane(g, planes, graph_input(g, "plane", &TENSOR_DESC(DTYPE_I32, d[0])));
}

static status_t find_dependence(const struct network *n, struct built *b) {
  const struct graph_source sources[] = {{"pixels", SOURCE_IMAGE},
                                         {"ids", SOURCE_CONDITION},
                                         {"row", SOURCE_CONDITION},
                                         {"length", SOURCE_CONDITION},
                                         {"condition_pixels", SOURCE_CONDITION}};
  mem_free(&b->depends);
  TRY(graph_depend(b->graph, sources, sizeof sources / sizeof *sources, &b->depends));
  for (size_t i = 0; i < b->graph->values; i++) { // a source without a feature of its own is live from its input on
    for (int s = 0; s < SOURCES; s++) {
      if (n->live[s] && b->depends[i] & 1u << s) b->depends[i] |= DEPENDS_LIVE;
    }
  }
  return OK;
}

status_t built_create(struct network *n, int64_t batch, int64_t length, bool training, struct built *out) {
  status_t st = OK;
  *out = (struct built){.training = training};
  TRY_GOTO(graph_create(n->real, &out->graph), done);
  struct graph *g = out->graph;
  struct net net = {.g = g, .trained = is_trained, .context = n, .training = training};
  int64_t size = n->options.size;
  struct model_spec spec = {.batch = batch,
                            .size = size,
                            .text_length = length,
                            .condition = n->options.condition,
                            .study = n->options.study};
  out->planes = n->model->arch->build(&net, n->model->config, &spec, &n->model->preprocess);
  out->logits = take_planes(g, out->planes);
  struct value *target = graph_input(g, "target", &TENSOR_DESC(DTYPE_U8, batch, size, size));
  out->loss = graph_segment_loss(g, out->logits, target, n->options.loss, &out->sums);
  TRY_GOTO(graph_status(g), done);
  struct value *const keep[] = {out->logits, out->loss, out->sums, out->planes};
  TRY_GOTO(graph_simplify(g, keep, sizeof keep / sizeof *keep), done);
  if (training) {
    struct value *scale = graph_input(g, "scale", &TENSOR_DESC(n->real, 1));
    TRY_GOTO(graph_differentiate(g, out->loss, scale), done);
  }
  if (n->options.precision == PRECISION_BF16) TRY_GOTO(graph_lower_bf16(g), done);
  TRY_GOTO(find_dependence(n, out), done);
  TRY_GOTO(graph_fuse(g, keep, sizeof keep / sizeof *keep, out->depends), done);
  TRY_GOTO(find_dependence(n, out), done); // folding has added values
  TRY_GOTO(index_parameters(n, out), done);
done:
  if (st != OK) built_destroy(out);
  return st;
}

void built_destroy(struct built *b) {
  graph_destroy(&b->graph);
  mem_free(&b->parameter);
  mem_free(&b->depends);
}

status_t network_wanted(const struct network *n, const struct built *b, unit_kind_t kind, struct value ***out,
                        size_t *count) {
  TRY(mem_alloc(out, NETWORK_RESULTS + 1 + 2 * n->parameters, sizeof **out));
  *count = 0;
  (*out)[(*count)++] = b->logits;
  bool every = kind != UNIT_STEP && n->options.study && b->planes->desc.rank == 4;
  if (kind != UNIT_FORWARD) {
    (*out)[(*count)++] = b->loss;
    (*out)[(*count)++] = b->sums;
  }
  if (every) (*out)[(*count)++] = b->planes;
  for (size_t i = 0; kind == UNIT_STEP && i < n->parameters; i++) {
    if (b->parameter[i]->gradient) (*out)[(*count)++] = b->parameter[i]->gradient;
    if (b->parameter[i]->update) (*out)[(*count)++] = b->parameter[i]->update;
  }
  return OK;
}

status_t network_find_taps(const struct built *b, const uint8_t *leaf, source_t source, struct value ***out,
                           size_t *count) {
  *count = 0;
  TRY(mem_alloc(out, b->graph->values, sizeof **out));
  for (size_t i = 0; i < b->graph->values; i++) {
    if (leaf[i] && b->depends[i] == 1u << source) (*out)[(*count)++] = b->graph->value[i];
  }
  return OK;
}

// ---- parameters ----------------------------------------------------------------------------------------------------

struct draw {
  float *out;
  struct init init;
  uint64_t seed, stream;
  int64_t count;
};

enum { DRAW_PIECE = 1 << 16 };

static status_t draw_piece(void *context, size_t piece, int worker) {
  (void)worker;
  const struct draw *d = context;
  struct rng r;
  rng_init(&r, d->seed, d->stream + 0x9E3779B97F4A7C15u * (piece + 1));
  int64_t end = ((int64_t)piece + 1) * DRAW_PIECE < d->count ? ((int64_t)piece + 1) * DRAW_PIECE : d->count;
  for (int64_t i = (int64_t)piece * DRAW_PIECE; i < end; i++) {
    switch (d->init.kind) {
    case INIT_ZEROS: d->out[i] = 0; break;
    case INIT_ONES: d->out[i] = 1; break;
    case INIT_CONSTANT: d->out[i] = (float)d->init.scale; break;
    case INIT_NORMAL: d->out[i] = (float)(d->init.scale * rng_normal(&r)); break;
    case INIT_UNIFORM: d->out[i] = (float)(d->init.scale * (2 * rng_uniform(&r) - 1)); break;
    }
  }
  return OK;
}

// A counter as its file has it (int64, or whatever a converter made of it); 0 where it has none.
static status_t read_counter(const struct network *n, const struct network_parameter *p, float *out) {
  const struct safetensors_entry *e = safetensors_find(n->weights, p->name);
  int64_t count = 0;
  *out = 0;
  if (!e) return OK;
  if (e->desc.dtype != DTYPE_I64)
    return safetensors_read(n->weights, p->name, &(struct tensor_desc){.dtype = DTYPE_F32}, out);
  TRY(safetensors_read(n->weights, p->name, &(struct tensor_desc){.dtype = DTYPE_I64}, &count));
  *out = (float)count;
  return OK;
}

static status_t host_copy(struct network *n, size_t i, float *out) {
  const struct network_parameter *p = &n->parameter[i];
  struct tensor_desc plain = p->desc;
  plain.dtype = DTYPE_F32;
  int64_t count = desc_count(&plain);
  if (n->memory[i]) {
    if (n->real == DTYPE_F32) {
      return n->backend->ops->copy_out(n->backend, out, n->memory[i], desc_bytes(&plain), NULL);
    }
    double *wide = NULL;
    TRY(mem_alloc(&wide, (size_t)count, sizeof *wide));
    status_t st = n->backend->ops->copy_out(n->backend, wide, n->memory[i], (size_t)count * sizeof *wide, NULL);
    for (int64_t k = 0; st == OK && k < count; k++) out[k] = (float)wide[k];
    mem_free(&wide);
    return st;
  }
  if (n->weights && p->stored == DTYPE_I64) return read_counter(n, p, out);
  if (n->weights) return safetensors_read(n->weights, p->name, &plain, out);
  struct draw d = {out, p->init, n->options.seed, rng_stream(p->name), count};
  return parallel_for(((size_t)count + DRAW_PIECE - 1) / DRAW_PIECE, n->backend->threads, draw_piece, &d);
}

status_t network_host_copy(struct network *n, size_t i, float *out) {
  TRY(host_copy(n, i, out));
  if (n->parameter[i].tracked && n->parameter[i].stored == DTYPE_I64) out[0] += (float)n->batches;
  return OK;
}

status_t network_memory(struct network *n, size_t i, void **out) {
  if (n->memory[i]) {
    *out = n->memory[i];
    return OK;
  }
  status_t st = OK;
  struct network_parameter *p = &n->parameter[i];
  size_t count = (size_t)desc_count(&p->desc);
  float *host = NULL;
  double *wide = NULL;
  void *device = NULL;
  TRY_GOTO(mem_alloc(&host, count, sizeof *host), done);
  TRY_GOTO(host_copy(n, i, host), done);
  if (p->offset >= 0) {
    device = (char *)n->arena + (size_t)p->offset * dtype_bytes(n->real);
  } else {
    TRY_GOTO(n->backend->ops->alloc(n->backend, count * dtype_bytes(n->real), &device), done);
  }
  if (n->real == DTYPE_F64) {
    TRY_GOTO(mem_alloc(&wide, count, sizeof *wide), done);
    for (size_t k = 0; k < count; k++) wide[k] = host[k];
  }
  TRY_GOTO(n->backend->ops->copy_in(n->backend, device, wide ? (void *)wide : (void *)host,
                                    count * dtype_bytes(n->real), NULL),
           done);
  *out = n->memory[i] = device;
  device = NULL;
done:
  if (device && p->offset < 0) n->backend->ops->free(n->backend, &device);
  mem_free(&wide);
  mem_free(&host);
  return st;
}

// ---- constants -----------------------------------------------------------------------------------------------------

status_t network_name_key(void *context, const struct value *leaf, struct key *out) {
  (void)context;
  return key_sha256(leaf->name, strlen(leaf->name), out);
}

static status_t table_key(const struct value *v, struct key *out) {
  struct key_builder *k = NULL;
  struct key content;
  char text[DESC_TEXT];
  TRY(key_sha256(v->content, (size_t)desc_count(&v->desc) * sizeof *v->content, &content));
  TRY(key_begin(&k, "table"));
  status_t st = key_add_text(k, "desc", desc_text(&v->desc, text));
  if (st == OK) st = key_add_key(k, "content", &content);
  CLEANUP(key_finish(&k, out));
  return st;
}

static struct constant *find_constant(struct network *n, const struct key *key) {
  for (size_t i = 0; i < n->constants; i++) {
    if (key_equal(&n->constant[i].key, key)) return &n->constant[i];
  }
  return NULL;
}

// A table of the model on the device, once for all graphs that have it.
static status_t table_memory(struct network *n, const struct value *v, void **out) {
  status_t st = OK;
  struct key key;
  char text[DESC_TEXT];
  void *device = NULL, *host = NULL;
  size_t count = (size_t)desc_count(&v->desc);
  TRY(table_key(v, &key));
  const struct constant *known = find_constant(n, &key);
  *out = known ? known->memory : NULL;
  if (known) return OK;
  TRY_GOTO(mem_alloc(&host, count, sizeof(double)), done);
  for (size_t i = 0; i < count; i++) {
    double x = v->content[i];
    switch (v->desc.dtype) {
    case DTYPE_F64: ((double *)host)[i] = x; break;
    case DTYPE_F32: ((float *)host)[i] = (float)x; break;
    case DTYPE_BF16: ((uint16_t *)host)[i] = f32_to_bf16((float)x); break;
    case DTYPE_I32: ((int32_t *)host)[i] = (int32_t)x; break;
    default: FAIL_GOTO(done, ERR_UNSUPPORTED, "a table of the model is %s", desc_text(&v->desc, text));
    }
  }
  TRY_GOTO(mem_grow(&n->constant, &n->constant_capacity, n->constants + 1, sizeof *n->constant), done);
  TRY_GOTO(n->backend->ops->alloc(n->backend, desc_bytes(&v->desc), &device), done);
  TRY_GOTO(n->backend->ops->copy_in(n->backend, device, host, desc_bytes(&v->desc), NULL), done);
  n->constant[n->constants++] = (struct constant){key, device};
  *out = device;
  device = NULL;
done:
  n->backend->ops->free(n->backend, &device);
  mem_free(&host);
  return st;
}

// Parameters and tables.
static status_t bind_parameters(struct network *n, struct built *b, struct executable *e) {
  for (size_t i = 0; i < executable_external_count(e); i++) {
    const struct value *v = executable_external_at(e, i);
    void *memory;
    if (v->kind == VALUE_PARAMETER) {
      size_t index = 0;
      while (b->parameter[index]->id != v->id) index++;
      TRY(network_memory(n, index, &memory));
    } else if (v->kind == VALUE_CONSTANT) {
      TRY(table_memory(n, b->graph->value[v->id], &memory));
    } else {
      continue;
    }
    TRY(executable_bind(e, v, memory));
  }
  return OK;
}

// Compute the constants in missing[0..count) into memory of their own, under their keys.
static status_t make_constants(struct network *n, struct built *b, struct value **missing, const struct key *key,
                               size_t count) {
  status_t st = OK;
  struct executable *e = NULL;
  struct executable_options o = {.bound = missing, .bounds = count};
  TRY_GOTO(executable_create(b->graph, n->backend, missing, count, &o, &e), done);
  TRY_GOTO(bind_parameters(n, b, e), done);
  TRY_GOTO(mem_grow(&n->constant, &n->constant_capacity, n->constants + count, sizeof *n->constant), done);
  for (size_t i = 0; i < count; i++) {
    void *memory;
    TRY_GOTO(n->backend->ops->alloc(n->backend, desc_bytes(&missing[i]->desc), &memory), done);
    n->constant[n->constants++] = (struct constant){key[i], memory};
    TRY_GOTO(executable_bind(e, missing[i], memory), done);
  }
  TRY_GOTO(network_reserve(n, executable_arena_bytes(e)), done);
  TRY_GOTO(executable_run(e, n->workspace, NULL, NULL, NULL), done);
done:
  executable_destroy(&e);
  return st;
}

status_t network_bind_frozen(struct network *n, struct built *b, struct executable *e, const uint8_t *leaf) {
  status_t st = OK;
  struct value **missing = NULL;
  struct key *key = NULL, *all = NULL;
  size_t count = 0;
  TRY_GOTO(bind_parameters(n, b, e), done);
  TRY_GOTO(mem_alloc(&missing, b->graph->values, sizeof *missing), done);
  TRY_GOTO(mem_alloc(&key, b->graph->values, sizeof *key), done);
  TRY_GOTO(mem_alloc(&all, b->graph->values, sizeof *all), done);
  for (size_t i = 0; i < b->graph->values; i++) {
    if (!leaf[i] || b->depends[i] != 0) continue;
    TRY_GOTO(graph_signature(b->graph, b->graph->value[i], network_name_key, NULL, &all[i]), done);
    if (find_constant(n, &all[i])) continue;
    missing[count] = b->graph->value[i];
    key[count++] = all[i];
  }
  if (count) TRY_GOTO(make_constants(n, b, missing, key, count), done);
  for (size_t i = 0; i < b->graph->values; i++) {
    if (leaf[i] && b->depends[i] == 0) {
      TRY_GOTO(executable_bind(e, b->graph->value[i], find_constant(n, &all[i])->memory), done);
    }
  }
done:
  mem_free(&all);
  mem_free(&key);
  mem_free(&missing);
  return st;
}

status_t network_reserve(struct network *n, size_t bytes) {
  if (bytes <= n->workspace_bytes) return OK;
  n->backend->ops->free(n->backend, &n->workspace);
  n->workspace_bytes = 0;
  TRY(n->backend->ops->alloc(n->backend, bytes, &n->workspace));
  n->workspace_bytes = bytes;
  return OK;
}
