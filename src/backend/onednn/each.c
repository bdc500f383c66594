// each.c: CONV_EACH on own kernels: oneDNN would take the batch as groups, in a layout that nothing else has. A CONV with
// one output channel (the last of a CNN) is the same with one kernel for all samples; oneDNN does it at 15 GFLOP/s.
#include "backend/onednn/each.h"

static struct each_shape shape_of(const struct op *op) {
  const struct tensor_desc *x = op->direction == FORWARD         ? &op->in[0]
                                : op->direction == BACKWARD_DATA ? &op->out[0]
                                                                 : &op->in[1];
  const struct tensor_desc *y = op->direction == FORWARD ? &op->out[0] : &op->in[0];
  const struct tensor_desc *w = op->direction == BACKWARD_WEIGHT ? &op->out[0] : &op->in[1];
  return (struct each_shape){.batch = x->dim[0],
                             .h = x->dim[1],
                             .w = x->dim[2],
                             .h_out = y->dim[1],
                             .w_out = y->dim[2],
                             .c = x->dim[3],
                             .groups = (w->dim[2] * w->dim[3] + 15) / 16,
                             .kernel = {(int)w->dim[2], (int)w->dim[3]},
                             .pad = {op->attr.pad[0], op->attr.pad[1]},
                             .shared = op->kind == OP_CONV};
}

static bool supports(const struct onednn *b, const struct op *op) {
  (void)b;
  struct each_shape s = shape_of(op);
  return op_is_single(op) && (int64_t)s.kernel[0] * s.kernel[1] <= EACH_TAPS;
}

static struct view optional(const struct tensor_desc *d, bool there, void *data) {
  return there && d->dtype != DTYPE_NONE ? view_of(d, data) : (struct view){0};
}

static status_t run(struct plan *p, void *const *operands, char *scratch) {
  const struct op *op = &p->op;
  const struct each_kernels *k = p->b->kernels->each;
  struct each_shape s = shape_of(op);
  int threads = p->b->base.threads, n = op->inputs;
  struct view a = view_of(&op->in[0], operands[0]), b = view_of(&op->in[1], operands[1]);
  struct view y = view_of(&op->out[0], operands[n]);
  float *work = (float *)(void *)scratch;
  if (op->direction == FORWARD) {
    k->forward(threads, &s, a, b, optional(&op->in[2], n > 2, operands[2]), y, work);
  } else if (op->direction == BACKWARD_DATA) {
    k->backward_data(threads, &s, a, b, y, work);
  } else {
    bool bias = op->outputs > 1;
    k->backward_weight(threads, &s, a, b, y, optional(&op->out[1], bias, bias ? operands[n + 1] : NULL), work);
  }
  return OK;
}

bool each_apply(const struct op *op) {
  struct each_shape s = shape_of(op);
  bool residual = op->direction == FORWARD && op->inputs > 3 && op->in[3].dtype != DTYPE_NONE;
  if (op->direction == BACKWARD_DATA) return false; // oneDNN is as fast as memory
  bool one = op->kind == OP_CONV && op->attr.groups == 1 &&
             (op->direction == FORWARD ? op->out[0].dim[3] : op->in[0].dim[3]) == 1;
  for (int i = 0; i < 2; i++) one &= op->attr.stride[i] == 1 && op->attr.dilation[i] == 1;
  return one && !residual && op->attr.activation == ACT_NONE && (int64_t)s.kernel[0] * s.kernel[1] <= EACH_TAPS;
}

status_t each_create(struct plan *p) {
  const struct each_kernels *k = p->b->kernels->each;
  struct each_shape s = shape_of(&p->op);
  p->run = run;
  (void)plan_reserve(p, p->op.direction == FORWARD         ? k->forward_scratch(p->b->base.threads, &s)
                        : p->op.direction == BACKWARD_DATA ? k->data_scratch(&s)
                                                           : k->weight_scratch(&s));
  return OK;
}

const struct op_class conv_each_class = {.supports = supports, .create = each_create};
