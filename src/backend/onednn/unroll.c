// unroll.c: see unroll.h. With P [rows, c*kh*kw], a row for each place of the small picture, and w [o, c*kh*kw]:
//   from the large picture   P = unroll(large):  dw = small' P   CONV and CONV_TRANSPOSE backward weight
//                                                small = P w'    CONV_TRANSPOSE backward data
//   to the large picture     large = fold(P):    P = small w     CONV_TRANSPOSE forward, CONV backward data
#include "backend/onednn/unroll.h"

#include "base/mem.h"

struct unroll {
  struct unrolling shape;
  struct plan product; // a LINEAR
  int first, second;   // its inputs: operands of the plan; MATRIX: P
  bool folds;
  size_t matrix_at, bias_at, product_at;
};

enum { MATRIX = -1 };

static bool has_bias(const struct op *op) { // as an output
  return op->outputs > 1 && op->out[1].dtype != DTYPE_NONE;
}

bool unroll_apply(const struct op *op) {
  bool weight = op->direction == BACKWARD_WEIGHT, conv = op->kind == OP_CONV;
  const struct tensor_desc *w = weight ? &op->out[0] : &op->in[1];
  if (op->attr.groups != 1 || w->dim[2] * w->dim[3] > UNROLL_TAPS) return false;
  return conv ? op->direction != FORWARD : !weight || !has_bias(op);
}

static void describe(const struct op *op, struct unroll *s, struct tensor_desc *matrix) {
  bool conv = op->kind == OP_CONV, weight = op->direction == BACKWARD_WEIGHT;
  bool large_first = conv == (op->direction == FORWARD); // else the small one
  const struct tensor_desc *first = &op->in[0], *other = weight ? &op->in[1] : &op->out[0];
  const struct tensor_desc *large = large_first ? first : other, *small = large_first ? other : first;
  const struct tensor_desc *w = weight ? &op->out[0] : &op->in[1];
  s->folds = !weight && !large_first;
  s->shape = (struct unrolling){.batch = large->dim[0],
                                .h = large->dim[1],
                                .w = large->dim[2],
                                .c = large->dim[3],
                                .h_out = small->dim[1],
                                .w_out = small->dim[2]};
  for (int i = 0; i < 2; i++) {
    s->shape.kernel[i] = (int)w->dim[2 + i];
    s->shape.stride[i] = op->attr.stride[i];
    s->shape.pad[i] = op->attr.pad[i];
    s->shape.dilation[i] = op->attr.dilation[i];
  }
  int64_t o = w->dim[0], run = w->dim[1] * w->dim[2] * w->dim[3];
  *matrix = TENSOR_DESC(s->folds ? DTYPE_F32 : large->dtype, desc_rows(small), run);
  struct tensor_desc flat = TENSOR_DESC(w->dtype, o, run);
  struct op *product = &s->product.op;
  *product = (struct op){.kind = OP_LINEAR, .inputs = 2, .outputs = 1};
  if (weight) {
    product->direction = BACKWARD_WEIGHT;
    product->in[0] = *small, product->in[1] = *matrix, product->out[0] = flat;
    s->first = conv ? 0 : 1, s->second = MATRIX;
    if (has_bias(op)) product->out[product->outputs++] = op->out[1];
    return;
  }
  product->direction = s->folds ? BACKWARD_DATA : FORWARD;
  product->in[0] = s->folds ? *small : *matrix, product->in[1] = flat, product->out[0] = s->folds ? *matrix : *small;
  product->constant = op->constant & 1u << 1;
  s->first = s->folds ? 0 : MATRIX, s->second = 1;
}

static void fold(struct plan *p, void *const *operands, char *scratch) {
  const struct unroll *s = p->state;
  const struct op *op = &p->op;
  int threads = p->b->base.threads;
  const float *bias = NULL;
  if (op->inputs > 2 && op->in[2].dtype != DTYPE_NONE) {
    struct view fp32 = {scratch + s->bias_at, DTYPE_F32};
    p->b->kernels->pointwise->cast(threads, s->shape.c, view_of(&op->in[2], operands[2]), fp32);
    bias = fp32.data;
  }
  p->b->kernels->picture->fold(threads, &s->shape, op->attr.activation,
                               (const float *)(const void *)(scratch + s->matrix_at), bias,
                               view_of(&op->out[0], operands[op->inputs]));
}

static status_t unroll_run(struct plan *p, void *const *operands, char *scratch) {
  struct unroll *s = p->state;
  const struct op *op = &p->op;
  void *matrix = scratch + s->matrix_at, *const *results = operands + op->inputs;
  void *inner[] = {s->first == MATRIX ? matrix : operands[s->first], s->second == MATRIX ? matrix : operands[s->second],
                   s->folds ? matrix : results[0], s->product.op.outputs > 1 ? results[1] : NULL};
  if (!s->folds) {
    int large = op->kind == OP_CONV ? 1 : 0;
    p->b->kernels->picture->unroll(p->b->base.threads, &s->shape, dtype_bytes(op->in[large].dtype), operands[large],
                                   matrix);
  }
  TRY(s->product.run(&s->product, inner, scratch + s->product_at));
  if (s->folds) fold(p, operands, scratch);
  return OK;
}

static void unroll_reset(struct plan *p) {
  struct unroll *s = p->state;
  if (s->product.reset) s->product.reset(&s->product);
}

static void unroll_release(struct plan *p) {
  struct unroll *s = p->state;
  if (s->product.release) s->product.release(&s->product);
  mem_free(&p->state);
}

status_t unroll_create(struct plan *p) {
  struct unroll *s;
  struct tensor_desc matrix;
  TRY(mem_alloc(&s, 1, sizeof *s));
  p->state = s;
  p->run = unroll_run;
  p->reset = unroll_reset;
  p->release = unroll_release;
  describe(&p->op, s, &matrix);
  s->product.b = p->b;
  s->matrix_at = plan_reserve(p, desc_bytes(&matrix));
  s->bias_at = plan_reserve(p, sizeof(float) * (size_t)s->shape.c);
  TRY(linear_class.create(&s->product));
  s->product_at = plan_reserve(p, s->product.scratch);
  return OK;
}
