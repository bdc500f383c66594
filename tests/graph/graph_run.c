// graph_run.c: see graph_run.h.
#include "graph_run.h"

#include "base/mem.h"
#include "base/rng.h"
#include "testing.h"

#include <math.h>

static const struct value *root(const struct value *v) {
  return v->base ? v->base : v;
}

// Index i of what is called `name`. Variances are positive, masks 0 or 1, the words of noise any.
static double number(const char *name, struct rng *r, const struct value *v, int64_t i) {
  if (v->desc.dtype == DTYPE_U8) return i % 3 == 0;
  if (!strcmp(name, "noise")) return (int32_t)rng_u32(r);
  if (!strcmp(name, "length")) return i ? 3 : 5;
  if (v->desc.dtype == DTYPE_I32) return (double)rng_below(r, 3);
  if (!strcmp(name, "scale")) return 0.5;
  double x = rng_normal(r);
  if (strstr(name, "var")) return 0.2 + x * x;
  return strstr(name, "gamma") ? 1 + 0.3 * x : strstr(name, ".w") ? 0.4 * x : x;
}

static void fill(struct graph_run *r, const struct value *v) {
  int64_t n = desc_count(&v->desc);
  struct rng random;
  assert_ok(mem_alloc(&r->given[v->id], (size_t)n, sizeof(double)));
  assert_ok(mem_alloc(&r->memory[v->id], desc_bytes(&v->desc), 1));
  if (v->kind == VALUE_CONSTANT) {
    memcpy(r->given[v->id], v->content, (size_t)n * sizeof(double));
    return;
  }
  rng_init(&random, 1, rng_stream(v->name));
  for (int64_t i = 0; i < n; i++) r->given[v->id][i] = number(v->name, &random, v, i);
}

void graph_run_create(const struct graph *g, const char *backend, struct value *const *outputs, size_t count,
                      const struct executable_options *options, struct graph_run *out) {
  struct value *wanted[MOST_OUTPUTS];
  size_t n = 0;
  *out = (struct graph_run){.g = g};
  assert_true(count <= MOST_OUTPUTS);
  for (size_t i = 0; i < count; i++) {
    if (outputs[i]) wanted[n++] = outputs[i];
  }
  assert_ok(backend_create(backend, 1, &out->backend));
  assert_ok(executable_create(g, out->backend, wanted, n, options, &out->executable));
  assert_ok(mem_alloc(&out->arena, executable_arena_bytes(out->executable), 1));
  assert_ok(mem_alloc(&out->given, g->values, sizeof *out->given));
  assert_ok(mem_alloc(&out->memory, g->values, sizeof *out->memory));
  for (size_t i = 0; i < executable_external_count(out->executable); i++) {
    const struct value *v = g->value[executable_external_at(out->executable, i)->id];
    fill(out, v);
    assert_ok(executable_bind(out->executable, v, out->memory[v->id]));
  }
}

void graph_run_destroy(struct graph_run *r) {
  for (size_t i = 0; i < r->g->values; i++) {
    mem_free(&r->given[i]);
    mem_free(&r->memory[i]);
  }
  mem_free(&r->given);
  mem_free(&r->memory);
  mem_free(&r->arena);
  executable_destroy(&r->executable);
  backend_destroy(&r->backend);
}

static void put(void *to, const double *from, const struct tensor_desc *d) {
  for (int64_t i = 0, n = desc_count(d); i < n; i++) {
    switch (d->dtype) {
    case DTYPE_F64: ((double *)to)[i] = from[i]; break;
    case DTYPE_F32: ((float *)to)[i] = (float)from[i]; break;
    case DTYPE_BF16: ((uint16_t *)to)[i] = f32_to_bf16((float)from[i]); break;
    case DTYPE_I32: ((int32_t *)to)[i] = (int32_t)from[i]; break;
    default: ((uint8_t *)to)[i] = (uint8_t)from[i]; break;
    }
  }
}

status_t graph_run_again(struct graph_run *r) {
  for (size_t i = 0; i < r->g->values; i++) {
    if (r->given[i]) put(r->memory[i], r->given[i], &r->g->value[i]->desc);
  }
  return executable_run(r->executable, r->arena, NULL, NULL, NULL);
}

double graph_run_value(const struct graph_run *r, const struct value *v, int64_t i) {
  const void *memory = executable_memory(r->executable, v, r->arena);
  switch (root(v)->desc.dtype) {
  case DTYPE_F64: return ((const double *)memory)[i];
  case DTYPE_F32: return ((const float *)memory)[i];
  default: return bf16_to_f32(((const uint16_t *)memory)[i]);
  }
}
