// batchnorm.c: BATCHNORM in its parts, on own kernels.
#include "backend/onednn/inside.h"

#include <math.h>

static bool supports(const struct onednn *b, const struct op *op) {
  (void)b;
  for (int i = 0; i < op->inputs; i++) { // sums are fp64 always
    if (op->in[i].dtype == DTYPE_F64 && op->kind != OP_BATCHNORM_MOMENTS && i < 5) return false;
  }
  return op->out[0].dtype != DTYPE_F64 || op->kind == OP_BATCHNORM_SUMS;
}

static struct view optional(const struct op *op, int i, void *const *operands) {
  return op->in[i].dtype == DTYPE_NONE ? (struct view){0} : view_of(&op->in[i], operands[i]);
}

// mean and var are inputs `at` and `at` + 1.
static struct batchnorm batchnorm_of(struct plan *p, const struct tensor_desc *x, int at, void *const *operands,
                                     char *scratch) {
  return (struct batchnorm){.threads = p->b->base.threads,
                            .rows = desc_rows(x),
                            .c = desc_columns(x),
                            .epsilon = p->op.attr.epsilon,
                            .mean = at ? operands[at] : NULL,
                            .var = at ? operands[at + 1] : NULL,
                            .scratch = scratch};
}

static status_t sums_run(struct plan *p, void *const *operands, char *scratch) {
  const struct tensor_desc *x = &p->op.in[0];
  struct batchnorm b = batchnorm_of(p, x, 0, operands, scratch);
  p->b->kernels->batchnorm->sums(&b, view_of(x, operands[0]), operands[1]);
  return OK;
}

static status_t moments_run(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct op *op = &p->op;
  int64_t c = op->out[0].dim[0];
  const double *sums = operands[0];
  const float *running_mean = operands[1], *running_var = operands[2];
  float *mean = operands[3], *var = operands[4];
  float *new_mean = op->out[2].dtype == DTYPE_NONE ? NULL : operands[5];
  float *new_var = op->out[3].dtype == DTYPE_NONE ? NULL : operands[6];
  double rows = sums[2 * c], momentum = op->attr.momentum, unbiased = rows > 1 ? rows / (rows - 1) : 1;
  for (int64_t i = 0; i < c; i++) {
    double m = sums[i] / rows, v = sums[c + i] / rows - m * m;
    if (v < 0) v = 0; // rounding; what is no number stays
    mean[i] = (float)m;
    var[i] = (float)v;
    if (new_mean) new_mean[i] = (float)((1 - momentum) * (double)running_mean[i] + momentum * m);
    if (new_var) new_var[i] = (float)((1 - momentum) * (double)running_var[i] + momentum * v * unbiased);
  }
  return OK;
}

static status_t batchnorm_run(struct plan *p, void *const *operands, char *scratch) {
  const struct op *op = &p->op;
  const struct batchnorm_kernels *k = p->b->kernels->batchnorm;
  int x_at = op->direction == FORWARD ? 0 : 1;
  struct batchnorm b = batchnorm_of(p, &op->in[x_at], x_at + 1, operands, scratch);
  void *const *out = operands + op->inputs;
  struct view x = view_of(&op->in[x_at], operands[x_at]), first = view_of(&op->in[0], operands[0]);
  switch (op->direction) {
  case FORWARD:
    k->forward(&b, op->attr.activation, x, view_of(&op->in[3], operands[3]), view_of(&op->in[4], operands[4]),
               optional(op, 5, operands), view_of(&op->out[0], out[0]));
    break;
  case BACKWARD_WEIGHT:
    k->backward_weight(&b, first, x, view_of(&op->out[0], out[0]), view_of(&op->out[1], out[1]), out[2]);
    break;
  case BACKWARD_DATA:
    k->backward_data(&b, first, x, view_of(&op->in[4], operands[4]), optional(op, 5, operands).data,
                     optional(op, 6, operands).data, view_of(&op->out[0], out[0]));
    break;
  }
  return OK;
}

static status_t fold_run(struct plan *p, void *const *operands, char *scratch) {
  const struct op *op = &p->op;
  struct batchnorm b = batchnorm_of(p, &op->in[2], 2, operands, scratch);
  p->b->kernels->batchnorm->fold(&b, desc_count(&op->in[0]) / b.c, view_of(&op->in[0], operands[0]),
                                 optional(op, 1, operands), view_of(&op->in[4], operands[4]),
                                 view_of(&op->in[5], operands[5]), view_of(&op->out[0], operands[6]),
                                 view_of(&op->out[1], operands[7]));
  return OK;
}

static status_t reserve(struct plan *p) {
  const struct tensor_desc *x = &p->op.in[p->op.direction == FORWARD ? 0 : 1];
  (void)plan_reserve(p, p->b->kernels->batchnorm->scratch_bytes(desc_columns(x)));
  return OK;
}

static status_t sums_create(struct plan *p) {
  p->run = sums_run;
  return reserve(p);
}

static status_t batchnorm_create(struct plan *p) {
  p->run = batchnorm_run;
  return reserve(p);
}

static status_t moments_create(struct plan *p) {
  p->run = moments_run;
  return OK;
}

static status_t fold_create(struct plan *p) {
  p->run = fold_run;
  return OK;
}

// The running statistics, each on its own place.
static bool moments_in_place(const struct op *op, int out, int in) {
  (void)op;
  return out >= 2 && in == out - 1;
}

// Every element of x, of the residual and of dy is read before its place is written.
static bool batchnorm_in_place(const struct op *op, int out, int in) {
  switch (op->direction) {
  case FORWARD: return out == 0 && (in == 0 || in == 5);
  case BACKWARD_DATA: return out == 0 && (in == 0 || in == 1);
  default: return false;
  }
}

static bool fold_in_place(const struct op *op, int out, int in) {
  return out == 0 && in == 0 && op->in[0].rank > 1;
}

const struct op_class batchnorm_sums_class = {.supports = supports, .create = sums_create};
const struct op_class batchnorm_moments_class = {
    .supports = supports, .create = moments_create, .in_place = moments_in_place};
const struct op_class batchnorm_class = {
    .supports = supports, .create = batchnorm_create, .in_place = batchnorm_in_place};
const struct op_class batchnorm_fold_class = {.supports = supports, .create = fold_create, .in_place = fold_in_place};
