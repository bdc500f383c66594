// ways.c: which ways a convolution has, and which it takes: see conv.h.
//
// Measured on Zen 5, one thread, fraction of oneDNN's best over all layouts: the convolution forward on NHWC gives 0.95 to
// 1 everywhere. Its gradients of the picture give 0.6 to 0.95 in fp32, but the turned convolution forward 1.0. Its
// gradients of weights give 0.65 in fp32 where lines are long, windows are dilated or step: there blocked layouts win,
// their reorders counted. With kernels of one pixel the product needs no packed weights, which are as large as the
// pictures where those are small.
#include "backend/onednn/conv.h"

#include "backend/onednn/depthwise.h"
#include "backend/onednn/each.h"
#include "backend/onednn/onednn.h"
#include "backend/onednn/unroll.h"
#include "backend/onednn/windows.h"

#include <string.h>

static const struct tensor_desc *operand(const struct op *op, int i) {
  return i < op->inputs ? &op->in[i] : &op->out[i - op->inputs];
}

static const struct tensor_desc *picture(const struct op *op) {
  return operand(op, op->direction == FORWARD ? 0 : op->direction == BACKWARD_DATA ? op->inputs : 1);
}

static const struct tensor_desc *result(const struct op *op) {
  return operand(op, op->direction == FORWARD ? op->inputs : 0);
}

static const struct tensor_desc *weights(const struct op *op) {
  return operand(op, op->direction == BACKWARD_WEIGHT ? op->inputs : 1);
}

static const char *way_name(int way) {
  static const char *const name[] = {"plain", "blocked", "product", "turned", "unrolled", "own"};
  return name[way];
}

static bool has_residual(const struct op *op) {
  return op->direction == FORWARD && op->inputs > 3 && op->in[3].dtype != DTYPE_NONE;
}

// The ways that can do this operation, bit by bit.
static unsigned ways_of(const struct op *op) {
  const struct tensor_desc *w = weights(op);
  if (windows_apply(op)) return 1u << CONV_OWN;
  unsigned ways = 1u << CONV_PLAIN;
  if (unroll_apply(op)) ways |= 1u << CONV_UNROLLED;
  if (op->kind != OP_CONV) return ways;
  bool steps = op->attr.stride[0] != 1 || op->attr.stride[1] != 1, single = op->attr.groups == 1, small = true;
  for (int i = 0; i < 2; i++) small &= op->attr.pad[i] <= (w->dim[2 + i] - 1) * op->attr.dilation[i];
  if (depthwise_apply(op) || each_apply(op)) ways |= 1u << CONV_OWN;
  if (single && !has_residual(op)) ways |= 1u << CONV_BLOCKED;
  if (single && !steps && small && w->dim[2] * w->dim[3] == 1) ways |= 1u << CONV_PRODUCT;
  if ((single || depthwise_apply(op)) && !steps && small && op->direction == BACKWARD_DATA) ways |= 1u << CONV_TURNED;
  return ways;
}

// Where the pictures are small and the weights large, oneDNN's convolution in bf16 and its steps give 0.5 to 0.8 of the
// best product: it makes the weights' layout anew, and sums up what each thread has. Unrolling costs as much as a hundred
// products of an element.
static bool unrolling_pays(const struct op *op) {
  const struct tensor_desc *w = weights(op), *small = op->kind == OP_CONV ? result(op) : picture(op);
  bool weight = op->direction == BACKWARD_WEIGHT, half = op->in[0].dtype == DTYPE_BF16;
  bool steps = op->attr.stride[0] != 1 || op->attr.stride[1] != 1, single = w->dim[2] * w->dim[3] == 1;
  if (!steps || w->dim[0] < 512 || desc_rows(small) > (single ? 8192 : 4096)) return false;
  return weight || (half && op->kind == OP_CONV_TRANSPOSE);
}

// The best of them, by measurements made beforehand.
static conv_way_t rule_of(const struct op *op, unsigned ways) {
  const struct tensor_desc *x = picture(op), *y = result(op), *w = weights(op);
  int64_t rows = desc_rows(y), c = x->dim[3], o = y->dim[3];
  bool dilated = op->attr.dilation[0] != 1 || op->attr.dilation[1] != 1;
  bool steps = op->attr.stride[0] != 1 || op->attr.stride[1] != 1;
  bool weight = op->direction == BACKWARD_WEIGHT;
  // oneDNN does depthwise windows at 1 to 2 GFLOP/s when they are dilated, else it is faster but for the weights.
  bool depthwise = op->kind == OP_CONV && op->attr.groups > 1;
  if (ways >> CONV_OWN & 1 && (!depthwise || dilated || weight)) return CONV_OWN;
  if (ways >> CONV_PRODUCT & 1) {
    bool packed = !weight && op->constant >> 1 & 1;
    bool slow = has_residual(op) && !conv_sums(op); // convolutions add another tensor slowly
    bool heavy = weight ? c * o >= 128 * 512 : slow || (rows <= 1024 && !packed);
    return heavy ? CONV_PRODUCT : CONV_PLAIN;
  }
  if (ways >> CONV_UNROLLED & 1 && unrolling_pays(op)) return CONV_UNROLLED;
  if (ways >> CONV_TURNED & 1) return CONV_TURNED;
  if (ways >> CONV_BLOCKED & 1 && weight && op->in[0].dtype == DTYPE_F32) {
    bool window = w->dim[2] * w->dim[3] > 1, deep = c >= 64 && o >= 64;
    if (window && deep && (x->dim[2] * c >= 24576 || steps || dilated)) return CONV_BLOCKED;
  }
  return CONV_PLAIN;
}

// The operation that a kernel of one pixel is: its weights [O,C,1,1] lie as [O,C].
static status_t create_product(struct plan *p) {
  struct op *op = &p->op;
  struct tensor_desc *w = op->direction == BACKWARD_WEIGHT ? &op->out[0] : &op->in[1];
  activation_t activation = op->attr.activation;
  int residual_first = op->attr.residual_first;
  *w = TENSOR_DESC(w->dtype, w->dim[0], w->dim[1]);
  op->kind = OP_LINEAR;
  memset(&op->attr, 0, sizeof op->attr);
  op->attr.activation = activation;
  op->attr.residual_first = residual_first;
  return linear_class.create(p);
}

static status_t create_own(struct plan *p) {
  if (windows_apply(&p->op)) return windows_create(p);
  return depthwise_apply(&p->op) ? depthwise_create(p) : each_create(p);
}

static bool supports(const struct onednn *b, const struct op *op) {
  (void)b;
  return op_is_single(op);
}

static const char *forced;

void onednn_force_way(const char *way) {
  forced = way;
}

static status_t create(struct plan *p) {
  unsigned ways = ways_of(&p->op);
  conv_way_t way = rule_of(&p->op, ways);
  for (int i = 0; forced && i < CONV_WAYS; i++) {
    if (ways >> i & 1 && !strcmp(way_name(i), forced)) way = (conv_way_t)i;
  }
  switch (way) {
  case CONV_OWN: return create_own(p);
  case CONV_PRODUCT: return create_product(p);
  case CONV_UNROLLED: return unroll_create(p);
  default: return conv_create_layer(p, way);
  }
}

// The residual, where the convolution adds its result to it.
static bool in_place(const struct op *op, int out, int in) {
  return out == 0 && in == 3 && conv_sums(op) && rule_of(op, ways_of(op)) == CONV_PLAIN;
}

const struct op_class conv_class = {.supports = supports, .create = create, .in_place = in_place};
const struct op_class conv_transpose_class = {.supports = supports, .create = create};
