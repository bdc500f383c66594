// depthwise.c: see depthwise.h. The gradient of the picture is the same kind of convolution with every kernel turned
// round, so two kernels do all three directions.
#include "backend/onednn/depthwise.h"

#include "base/mem.h"

struct depthwise {
  struct depthwise_shape shape;
  size_t weights_at, bias_at, sum_at;
};

static const struct tensor_desc *operand(const struct op *op, int i) {
  return i < op->inputs ? &op->in[i] : &op->out[i - op->inputs];
}

static const struct tensor_desc *picture(const struct op *op) {
  return operand(op, op->direction == FORWARD ? 0 : op->direction == BACKWARD_DATA ? op->inputs : 1);
}

static const struct tensor_desc *weights(const struct op *op) {
  return operand(op, op->direction == BACKWARD_WEIGHT ? op->inputs : 1);
}

bool depthwise_apply(const struct op *op) {
  const struct tensor_desc *x = picture(op), *w = weights(op);
  if (op->kind != OP_CONV || op->attr.groups != x->dim[3] || w->dim[0] != x->dim[3]) return false;
  if (w->dim[2] * w->dim[3] > DEPTHWISE_TAPS) return false;
  return op->direction != BACKWARD_DATA || (op->attr.stride[0] == 1 && op->attr.stride[1] == 1);
}

static float number(const void *data, dtype_t type, int64_t i) {
  return type == DTYPE_F32 ? ((const float *)data)[i] : bf16_to_f32(((const uint16_t *)data)[i]);
}

// [c,1,kh,kw] -> [kh*kw][c] in fp32, turned round for the gradient of the picture.
static void turn_weights(const struct op *op, const void *from, float *to) {
  const struct tensor_desc *w = weights(op);
  int64_t c = w->dim[0], taps = w->dim[2] * w->dim[3];
  for (int64_t t = 0; t < taps; t++) {
    int64_t tap = op->direction == FORWARD ? t : taps - 1 - t;
    for (int64_t k = 0; k < c; k++) to[t * c + k] = number(from, w->dtype, k * taps + tap);
  }
}

static bool given(const struct op *op, int i) {
  if (i < op->inputs) return op->in[i].dtype != DTYPE_NONE;
  return i - op->inputs < op->outputs && op->out[i - op->inputs].dtype != DTYPE_NONE;
}

static status_t run_picture(struct plan *p, void *const *operands, char *scratch) {
  const struct depthwise *s = p->state;
  const struct op *op = &p->op;
  float *w = (float *)(void *)(scratch + s->weights_at), *bias = NULL;
  struct view r = {0};
  bool forward = op->direction == FORWARD;
  turn_weights(op, operands[1], w);
  if (forward && op->inputs > 2 && given(op, 2)) {
    bias = (float *)(void *)(scratch + s->bias_at);
    for (int64_t k = 0; k < s->shape.c; k++) bias[k] = number(operands[2], op->in[2].dtype, k);
  }
  if (forward && op->inputs > 3 && given(op, 3)) r = view_of(&op->in[3], operands[3]);
  p->b->kernels->depthwise->run(p->b->base.threads, &s->shape, view_of(&op->in[0], operands[0]), w, bias, r,
                                view_of(&op->out[0], operands[op->inputs]));
  return OK;
}

static status_t run_weights(struct plan *p, void *const *operands, char *scratch) {
  const struct depthwise *s = p->state;
  const struct op *op = &p->op;
  struct view db = {0};
  if (given(op, op->inputs + 1)) db = view_of(&op->out[1], operands[op->inputs + 1]);
  p->b->kernels->depthwise->weight(p->b->base.threads, &s->shape, view_of(&op->in[0], operands[0]),
                                   view_of(&op->in[1], operands[1]), view_of(&op->out[0], operands[op->inputs]), db,
                                   (float *)(void *)(scratch + s->sum_at));
  return OK;
}

static void release(struct plan *p) {
  mem_free(&p->state);
}

status_t depthwise_create(struct plan *p) {
  const struct op *op = &p->op;
  struct depthwise *s;
  TRY(mem_alloc(&s, 1, sizeof *s));
  p->state = s;
  p->release = release;
  p->run = op->direction == BACKWARD_WEIGHT ? run_weights : run_picture;
  // What is read and what is written: the pictures of the forward direction, or the other way round.
  bool back = op->direction == BACKWARD_DATA;
  const struct tensor_desc *y = operand(op, op->direction == FORWARD ? op->inputs : 0), *w = weights(op);
  const struct tensor_desc *from = back ? y : picture(op), *to = back ? picture(op) : y;
  s->shape = (struct depthwise_shape){.batch = from->dim[0],
                                      .h = from->dim[1],
                                      .w = from->dim[2],
                                      .h_out = to->dim[1],
                                      .w_out = to->dim[2],
                                      .c = from->dim[3],
                                      .activation = op->attr.activation,
                                      .residual_first = op->attr.residual_first != 0};
  for (int i = 0; i < 2; i++) {
    int64_t reach = (w->dim[2 + i] - 1) * op->attr.dilation[i];
    s->shape.kernel[i] = (int)w->dim[2 + i];
    s->shape.stride[i] = op->attr.stride[i];
    s->shape.dilation[i] = op->attr.dilation[i];
    s->shape.pad[i] = back ? reach - op->attr.pad[i] : op->attr.pad[i];
  }
  int64_t taps = w->dim[2] * w->dim[3], c = s->shape.c;
  s->weights_at = plan_reserve(p, sizeof(float) * (size_t)(taps * c));
  s->bias_at = plan_reserve(p, sizeof(float) * (size_t)c);
  if (op->direction == BACKWARD_WEIGHT) {
    s->sum_at = plan_reserve(p, sizeof(float) * REDUCE_CHUNKS * (size_t)((taps + 1) * (c + 16)));
  }
  return OK;
}
