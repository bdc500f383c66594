// network.c: creation, parameters and weights of a network.
#include "base/log.h"
#include "base/mem.h"
#include "train/network_state.h"

#include <stdlib.h>
#include <string.h>

// BatchNorm's count of steps, which nothing is computed from; files of torch before 0.4.1 lack it.
static bool is_counter(const char *name) {
  static const char end[] = "num_batches_tracked";
  size_t n = strlen(name), m = sizeof end - 1;
  return n >= m && !strcmp(name + n - m, end);
}

struct placed {
  int index, step, id;
};

static int by_step(const void *a, const void *b) {
  const struct placed *x = a, *y = b;
  if (x->step != y->step) return x->step - y->step;
  return x->id - y->id;
}

// The parameter table from the graph, and the place of every trained parameter in the arenas: in the order in which
// backward finishes the gradients.
static status_t make_table(struct network *n, const struct built *b) {
  status_t st = OK;
  struct placed *placed = NULL;
  int trained = 0;
  TRY_GOTO(mem_alloc(&n->parameter, n->parameters ? n->parameters : 1, sizeof *n->parameter), done);
  TRY_GOTO(mem_alloc(&n->memory, n->parameters ? n->parameters : 1, sizeof *n->memory), done);
  TRY_GOTO(mem_alloc(&n->given, n->parameters ? n->parameters : 1, sizeof *n->given), done);
  TRY_GOTO(mem_alloc(&placed, n->parameters ? n->parameters : 1, sizeof *placed), done);
  for (size_t i = 0; i < n->parameters; i++) {
    const struct value *v = b->parameter[i];
    char *name = NULL;
    TRY_GOTO(mem_copy_text(&name, v->name), done);
    n->parameter[i] = (struct network_parameter){.name = name,
                                                 .desc = v->desc,
                                                 .stored = is_counter(name) ? DTYPE_I64 : DTYPE_F32,
                                                 .init = v->init,
                                                 .trained = v->gradient != NULL,
                                                 .decay = v->decay,
                                                 .tracked = v->tracked,
                                                 .offset = -1};
    if (!v->gradient) continue;
    const struct value *root = v->gradient->base ? v->gradient->base : v->gradient;
    placed[trained++] = (struct placed){(int)i, root->producer, root->id};
  }
  qsort(placed, (size_t)trained, sizeof *placed, by_step);
  int64_t align = MEM_ALIGN / (int64_t)dtype_bytes(n->real);
  for (int k = 0; k < trained; k++) {
    struct network_parameter *p = &n->parameter[placed[k].index];
    p->offset = n->arena_count;
    n->arena_count += (desc_count(&p->desc) + align - 1) / align * align;
  }
done:
  mem_free(&placed);
  return st;
}

static status_t make_arenas(struct network *n) {
  if (n->arena_count == 0) return OK;
  status_t st = OK;
  const struct backend_ops *ops = n->backend->ops;
  size_t bytes = (size_t)n->arena_count * dtype_bytes(n->real);
  uint8_t *flags = NULL;
  TRY_GOTO(ops->alloc(n->backend, bytes, &n->arena), done);
  TRY_GOTO(ops->alloc(n->backend, bytes, &n->gradients), done);
  TRY_GOTO(ops->alloc(n->backend, (size_t)n->arena_count, (void **)&n->decay), done);
  TRY_GOTO(ops->fill_zero(n->backend, n->arena, bytes, NULL), done);
  TRY_GOTO(ops->fill_zero(n->backend, n->gradients, bytes, NULL), done);
  TRY_GOTO(mem_alloc(&flags, (size_t)n->arena_count, 1), done);
  for (size_t i = 0; i < n->parameters; i++) {
    const struct network_parameter *p = &n->parameter[i];
    void *memory;
    if (!p->trained) continue;
    TRY_GOTO(network_memory(n, i, &memory), done);
    memset(flags + p->offset, p->decay, (size_t)desc_count(&p->desc));
  }
  TRY_GOTO(ops->copy_in(n->backend, n->decay, flags, (size_t)n->arena_count, NULL), done);
done:
  mem_free(&flags);
  return st;
}

status_t network_create(const struct model *model, struct backend *backend, const struct network_options *options,
                        struct network **out) {
  status_t st = OK;
  struct network *n = NULL;
  struct built b = {0};
  int vocabulary;
  TRY(model->arch->check_size(model->config, options->size));
  TRY_GOTO(mem_alloc(&n, 1, sizeof *n), done);
  n->model = model;
  n->backend = backend;
  n->options = *options;
  n->real = options->precision == PRECISION_FP64 ? DTYPE_F64 : DTYPE_F32;
  model->arch->text(model->config, &n->text_limit, &vocabulary);
  TRY_GOTO(built_create(n, 1, n->text_limit, options->train, &b), done);
  n->planes = b.planes->desc.rank == 4 ? (int)b.planes->desc.dim[3] : 1;
  TRY_GOTO(make_table(n, &b), done);
  TRY_GOTO(network_open_weights(n), done);
  if (!options->shapes_only) TRY_GOTO(make_arenas(n), done);
  TRY_GOTO(network_plan(n, &b), done);
  *out = n;
  n = NULL;
done:
  built_destroy(&b);
  network_destroy(&n);
  return st;
}

void network_destroy(struct network **network) {
  struct network *n = *network;
  if (!n) return;
  const struct backend_ops *ops = n->backend->ops;
  for (int i = 0; i < MAX_UNITS; i++) unit_destroy(n, &n->unit[i]);
  for (size_t i = 0; i < n->constants; i++) ops->free(n->backend, &n->constant[i].memory);
  free(n->constant);
  for (size_t i = 0; i < n->parameters && n->parameter; i++) {
    if (n->memory && n->memory[i] && n->parameter[i].offset < 0) ops->free(n->backend, &n->memory[i]);
    char *name = (char *)(uintptr_t)n->parameter[i].name;
    mem_free(&name);
  }
  network_plan_destroy(n);
  ops->free(n->backend, &n->arena);
  ops->free(n->backend, &n->gradients);
  ops->free(n->backend, (void **)&n->decay);
  ops->free(n->backend, &n->workspace);
  mem_free(&n->parameter);
  mem_free(&n->memory);
  mem_free(&n->given);
  safetensors_close(&n->weights);
  mem_free(network);
}

size_t network_parameter_count(const struct network *n) {
  return n->parameters;
}
const struct network_parameter *network_parameter_at(const struct network *n, size_t i) {
  return &n->parameter[i];
}
int64_t network_arena_count(const struct network *n) {
  return n->arena_count;
}
int network_size(const struct network *n) {
  return n->options.size;
}
int network_planes(const struct network *n) {
  return n->planes;
}
void *network_weights(struct network *n) {
  return n->arena;
}
void *network_gradients(struct network *n) {
  return n->gradients;
}
const uint8_t *network_decay(const struct network *n) {
  return n->decay;
}
status_t network_get_parameter(struct network *n, size_t i, float *out) {
  return network_host_copy(n, i, out);
}

status_t network_set_parameter(struct network *n, size_t i, const float *in) {
  status_t st = OK;
  void *memory;
  double *wide = NULL;
  const void *bytes = in;
  size_t count = (size_t)desc_count(&n->parameter[i].desc);
  float counted;
  if (n->parameter[i].tracked && n->parameter[i].stored == DTYPE_I64) { // network_get_parameter adds the steps
    counted = in[0] - (float)n->batches;
    bytes = in = &counted;
  }
  TRY_GOTO(network_memory(n, i, &memory), done);
  if (n->real == DTYPE_F64) {
    TRY_GOTO(mem_alloc(&wide, count, sizeof *wide), done);
    for (size_t k = 0; k < count; k++) wide[k] = in[k];
    bytes = wide;
  }
  TRY_GOTO(n->backend->ops->copy_in(n->backend, memory, bytes, count * dtype_bytes(n->real), NULL), done);
  n->given[i] = true;
  if (!n->parameter[i].trained && !n->parameter[i].tracked) { // what was made from it is made again
    for (size_t k = 0; k < n->constants; k++) n->backend->ops->free(n->backend, &n->constant[k].memory);
    n->constants = 0;
    for (int k = 0; k < MAX_UNITS; k++) unit_destroy(n, &n->unit[k]);
    for (int s = 0; s < SOURCES; s++) n->source[s].has_base = false;
  }
done:
  mem_free(&wide);
  return st;
}

void network_drop_features(struct network *n) {
  const struct backend_ops *ops = n->backend->ops;
  for (int i = 0; i < MAX_UNITS; i++) unit_destroy(n, &n->unit[i]);
  for (size_t i = 0; i < n->constants; i++) ops->free(n->backend, &n->constant[i].memory);
  n->constants = 0;
  for (size_t i = 0; i < n->parameters; i++) {
    const struct network_parameter *p = &n->parameter[i];
    if (n->memory[i] && !p->trained && !p->tracked && !n->given[i]) ops->free(n->backend, &n->memory[i]);
  }
  ops->free(n->backend, &n->workspace);
  n->workspace_bytes = 0;
}
