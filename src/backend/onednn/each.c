// each.c: CONV_EACH on own kernels: oneDNN would take the batch as groups, in a layout that nothing else has.
#include "backend/onednn/inside.h"

#include "base/mem.h"

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
                             .pad = {op->attr.pad[0], op->attr.pad[1]}};
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

static status_t create(struct plan *p) {
  const struct each_kernels *k = p->b->kernels->each;
  struct each_shape s = shape_of(&p->op);
  p->run = run;
  (void)plan_reserve(p, p->op.direction == FORWARD         ? k->forward_scratch(&s)
                        : p->op.direction == BACKWARD_DATA ? k->data_scratch(&s)
                                                           : k->weight_scratch(&s));
  return OK;
}

const struct op_class conv_each_class = {.supports = supports, .create = create};
