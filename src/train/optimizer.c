// optimizer.c: see optimizer.h.
#include "train/optimizer.h"

#include "base/mem.h"

#include <math.h>

enum { SCALARS = 8 };

struct optimizer {
  struct network *network;
  struct backend *backend;
  struct optimizer_options options;
  dtype_t real; // of weights, gradients and moments
  int64_t count, steps;
  void *moment[2], *scalars, *squares; // backend memory
  struct plan *norm_plan, *step_plan;
  void *norm_scratch, *step_scratch;
};

static status_t make_plan(struct optimizer *o, const struct op *op, struct plan **plan, void **scratch) {
  const struct backend_ops *ops = o->backend->ops;
  TRY(ops->plan_create(o->backend, op, plan));
  size_t bytes = ops->plan_scratch(*plan);
  return bytes ? ops->alloc(o->backend, bytes, scratch) : OK;
}

static status_t make_plans(struct optimizer *o) {
  const struct tensor_desc flat = TENSOR_DESC(o->real, o->count);
  const struct op norm = {.kind = OP_SUM_SQUARES,
                          .direction = FORWARD,
                          .inputs = 1,
                          .outputs = 1,
                          .in = {flat},
                          .out = {TENSOR_DESC(o->real, 1)}};
  const struct op step = {
      .kind = OP_ADAMW,
      .direction = FORWARD,
      .inputs = 6,
      .outputs = 3,
      .in = {flat, flat, flat, flat, TENSOR_DESC(DTYPE_U8, o->count), TENSOR_DESC(DTYPE_F64, SCALARS)},
      .out = {flat, flat, flat}};
  TRY(make_plan(o, &norm, &o->norm_plan, &o->norm_scratch));
  return make_plan(o, &step, &o->step_plan, &o->step_scratch);
}

status_t optimizer_create(struct network *n, struct backend *b, const struct optimizer_options *options,
                          struct optimizer **out) {
  status_t st = OK;
  struct optimizer *o = NULL;
  size_t bytes;
  *out = NULL;
  TRY_GOTO(mem_alloc(&o, 1, sizeof *o), done);
  o->network = n;
  o->backend = b;
  o->options = *options;
  o->count = network_arena_count(n);
  if (o->count <= 0) FAIL_GOTO(done, ERR_ARG, "the model has no trained parameter");
  o->real = network_parameter_at(n, 0)->desc.dtype;
  if (!size_mul((size_t)o->count, dtype_bytes(o->real), &bytes))
    FAIL_GOTO(done, ERR_NOMEM, "parameters do not fit in memory");
  for (int i = 0; i < 2; i++) {
    TRY_GOTO(b->ops->alloc(b, bytes, &o->moment[i]), done);
    TRY_GOTO(b->ops->fill_zero(b, o->moment[i], bytes, NULL), done);
  }
  TRY_GOTO(b->ops->alloc(b, SCALARS * sizeof(double), &o->scalars), done);
  TRY_GOTO(b->ops->alloc(b, sizeof(double), &o->squares), done);
  TRY_GOTO(make_plans(o), done);
  *out = o;
  o = NULL;
done:
  optimizer_destroy(&o);
  return st;
}

void optimizer_destroy(struct optimizer **optimizer) {
  struct optimizer *o = *optimizer;
  if (!o) return;
  const struct backend_ops *ops = o->backend->ops;
  if (o->norm_plan) ops->plan_destroy(&o->norm_plan);
  if (o->step_plan) ops->plan_destroy(&o->step_plan);
  void **memory[] = {&o->moment[0], &o->moment[1], &o->scalars, &o->squares, &o->norm_scratch, &o->step_scratch};
  for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) {
    if (*memory[i]) ops->free(o->backend, memory[i]);
  }
  mem_free(optimizer);
}

status_t optimizer_norm(struct optimizer *o, double *norm) {
  const struct backend_ops *ops = o->backend->ops;
  float narrow = 0;
  double squares = 0;
  bool wide = o->real == DTYPE_F64;
  void *operands[] = {network_gradients(o->network), o->squares};
  TRY(ops->plan_run(o->norm_plan, operands, o->norm_scratch, NULL));
  TRY(ops->copy_out(o->backend, wide ? (void *)&squares : (void *)&narrow, o->squares, dtype_bytes(o->real), NULL));
  if (ops->stream_wait) TRY(ops->stream_wait(NULL));
  *norm = sqrt(wide ? squares : (double)narrow);
  return OK;
}

status_t optimizer_step(struct optimizer *o, double norm, double lr) {
  const struct backend_ops *ops = o->backend->ops;
  const struct optimizer_options *p = &o->options;
  double factor = 1.0, t = (double)(o->steps + 1);
  if (p->clip > 0) factor = fmin(1.0, p->clip / (norm + 1e-6));
  const double scalars[SCALARS] = {
      lr, p->beta1, p->beta2, p->epsilon, p->weight_decay, 1.0 - pow(p->beta1, t), 1.0 - pow(p->beta2, t), factor};
  void *w = network_weights(o->network);
  TRY(ops->copy_in(o->backend, o->scalars, scalars, sizeof scalars, NULL));
  void *operands[] = {w,
                      network_gradients(o->network),
                      o->moment[0],
                      o->moment[1],
                      (void *)(uintptr_t)network_decay(o->network), // read only
                      o->scalars,
                      w,
                      o->moment[0],
                      o->moment[1]};
  TRY(ops->plan_run(o->step_plan, operands, o->step_scratch, NULL));
  o->steps++;
  return OK;
}

int64_t optimizer_steps(const struct optimizer *o) {
  return o->steps;
}
void optimizer_set_steps(struct optimizer *o, int64_t steps) {
  o->steps = steps;
}

status_t optimizer_get_moment(struct optimizer *o, moment_t which, float *out) {
  const struct backend_ops *ops = o->backend->ops;
  TRY(ops->copy_out(o->backend, out, o->moment[which], (size_t)o->count * sizeof *out, NULL));
  return ops->stream_wait ? ops->stream_wait(NULL) : OK;
}

status_t optimizer_set_moment(struct optimizer *o, moment_t which, const float *in) {
  return o->backend->ops->copy_in(o->backend, o->moment[which], in, (size_t)o->count * sizeof *in, NULL);
}
