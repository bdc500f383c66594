// pool.c: POOL and DROPOUT on own kernels.
#include "backend/onednn/inside.h"

static bool supports(const struct onednn *b, const struct op *op) {
  (void)b;
  return op_is_single(op);
}

static status_t pool_run(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct op *op = &p->op;
  const struct pool_kernels *k = p->b->kernels->pool;
  bool forward = op->direction == FORWARD, max = op->attr.pool == POOL_MAX;
  const struct tensor_desc *x = forward ? &op->in[0] : &op->out[0], *y = forward ? &op->out[0] : &op->in[0];
  struct pooling g = {.batch = x->dim[0],
                      .h = x->dim[1],
                      .w = x->dim[2],
                      .h_out = y->dim[1],
                      .w_out = y->dim[2],
                      .c = x->dim[3],
                      .kernel = {op->attr.kernel[0], op->attr.kernel[1]},
                      .stride = {op->attr.stride[0], op->attr.stride[1]},
                      .pad = {op->attr.pad[0], op->attr.pad[1]}};
  struct view from = view_of(&op->in[0], operands[0]), to = view_of(&op->out[0], operands[op->inputs]);
  int threads = p->b->base.threads;
  if (forward && max) {
    k->max_forward(threads, &g, from, to, op->out[1].dtype == DTYPE_NONE ? NULL : operands[2]);
  } else if (forward) {
    k->mean_forward(threads, &g, from, to);
  } else if (max) {
    k->max_backward(threads, &g, from, operands[1], to);
  } else {
    k->mean_backward(threads, &g, from, to);
  }
  return OK;
}

static status_t pool_create(struct plan *p) {
  p->run = pool_run;
  return OK;
}

// x and dy alike: what is dropped going forward is dropped going back.
static status_t dropout_run(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct op *op = &p->op;
  int64_t n = desc_count(&op->in[0]), batch = op->in[0].dim[0];
  struct view x = view_of(&op->in[0], operands[0]), y = view_of(&op->out[0], operands[2]);
  struct dropout d = {.noise = operands[1], .p = op->attr.dropout, .stream = op->attr.stream};
  if (d.p > 0) {
    p->b->kernels->dropout->dropout(p->b->base.threads, &d, batch, n / batch, x, y);
  } else {
    p->b->kernels->pointwise->cast(p->b->base.threads, n, x, y);
  }
  return OK;
}

static status_t dropout_create(struct plan *p) {
  p->run = dropout_run;
  return OK;
}

static bool dropout_in_place(const struct op *op, int out, int in) {
  (void)op;
  return out == 0 && in == 0;
}

const struct op_class pool_class = {.supports = supports, .create = pool_create};
const struct op_class dropout_class = {.supports = supports, .create = dropout_create, .in_place = dropout_in_place};
