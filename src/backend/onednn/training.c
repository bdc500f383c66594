// training.c: SEGMENT_LOSS, SUM_SQUARES and ADAMW on own kernels, all in fp32.
#include "backend/onednn/inside.h"

static bool loss_supports(const struct onednn *b, const struct op *op) {
  (void)b;
  return op->in[0].dtype == DTYPE_F32 && op->out[0].dtype == DTYPE_F32;
}

static status_t loss_run(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct op *op = &p->op;
  const struct loss_kernels *k = p->b->kernels->loss;
  int64_t batch = op->in[0].dim[0], n = op->in[0].dim[1] * op->in[0].dim[2];
  if (op->direction == FORWARD) {
    k->forward(p->b->base.threads, op->attr.loss, batch, n, operands[0], operands[1], operands[2], operands[3]);
  } else {
    k->backward(p->b->base.threads, op->attr.loss, batch, n, operands[0], operands[1], operands[2],
                *(const float *)operands[3], operands[4]);
  }
  return OK;
}

static status_t loss_create(struct plan *p) {
  p->run = loss_run;
  return OK;
}

static bool loss_in_place(const struct op *op, int out, int in) {
  return op->direction == BACKWARD_DATA && out == 0 && in == 0;
}

static bool squares_supports(const struct onednn *b, const struct op *op) {
  (void)b;
  return is_real(op->in[0].dtype) && op->out[0].dtype == DTYPE_F32;
}

static status_t squares_run(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct tensor_desc *x = &p->op.in[0];
  *(float *)operands[1] =
      p->b->kernels->reduce->sum_squares(p->b->base.threads, desc_count(x), view_of(x, operands[0]));
  return OK;
}

static status_t squares_create(struct plan *p) {
  p->run = squares_run;
  return OK;
}

static bool adamw_supports(const struct onednn *b, const struct op *op) {
  (void)b;
  for (int i = 0; i < 4; i++) {
    if (op->in[i].dtype != DTYPE_F32) return false;
  }
  return true;
}

static status_t adamw_run(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  p->b->kernels->loss->adamw(p->b->base.threads, desc_count(&p->op.in[0]), operands[0], operands[1], operands[2],
                             operands[3], operands[4], operands[5]);
  return OK;
}

static status_t adamw_create(struct plan *p) {
  p->run = adamw_run;
  return OK;
}

static bool adamw_in_place(const struct op *op, int out, int in) {
  (void)op;
  return (out == 0 && in == 0) || (out == 1 && in == 2) || (out == 2 && in == 3);
}

const struct op_class segment_loss_class = {
    .supports = loss_supports, .create = loss_create, .in_place = loss_in_place};
const struct op_class sum_squares_class = {.supports = squares_supports, .create = squares_create};
const struct op_class adamw_class = {.supports = adamw_supports, .create = adamw_create, .in_place = adamw_in_place};
