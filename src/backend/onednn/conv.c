// conv.c: CONV and CONV_TRANSPOSE as oneDNN's convolution and deconvolution on NHWC pictures, weights in the layout that
// oneDNN likes. Windows that do not overlap are products instead: windows.c.
#include "backend/onednn/depthwise.h"
#include "backend/onednn/layer.h"
#include "backend/onednn/windows.h"

static bool supports(const struct onednn *b, const struct op *op) {
  (void)b;
  return op_is_single(op);
}

// The operands of a direction: picture x, weights, bias and y or their gradients; -1: none.
struct conv_operands {
  int x, w, bias, y, residual;
  enum compat_conv kind;
};

static struct conv_operands conv_operands(const struct op *op) {
  int n = op->inputs;
  bool input_bias = op->direction == FORWARD && n > 2 && op->in[2].dtype != DTYPE_NONE;
  bool output_bias = op->direction == BACKWARD_WEIGHT && op->outputs > 1 && op->out[1].dtype != DTYPE_NONE;
  bool residual = op->direction == FORWARD && op->kind == OP_CONV && n > 3 && op->in[3].dtype != DTYPE_NONE;
  switch (op->direction) {
  case FORWARD: return (struct conv_operands){0, 1, input_bias ? 2 : -1, n, residual ? 3 : -1, COMPAT_FORWARD};
  case BACKWARD_DATA: return (struct conv_operands){n, 1, -1, 0, -1, COMPAT_BACKWARD_DATA};
  default: return (struct conv_operands){1, n, output_bias ? n + 1 : -1, 0, -1, COMPAT_BACKWARD_WEIGHT};
  }
}

static const struct tensor_desc *operand(const struct op *op, int i) {
  return i < op->inputs ? &op->in[i] : &op->out[i - op->inputs];
}

static status_t picture(struct plan *p, md_t *out, const struct tensor_desc *d, dtype_t type) {
  dnnl_dims_t dims = {d->dim[0], d->dim[3], d->dim[1], d->dim[2]};
  DNNL_TRY(md_create_tag(out, 4, dims, layer_type(type), dnnl_nhwc));
  return OK;
}

// The weights as they lie, and in any layout.
static status_t weights(struct plan *p, md_t *plain, md_t *any, const struct tensor_desc *d, dtype_t type) {
  int64_t g = p->op.attr.groups;
  dnnl_dims_t dims = {d->dim[0], d->dim[1], d->dim[2], d->dim[3]};
  dnnl_format_tag_t tag = dnnl_oihw;
  int rank = 4;
  if (p->op.kind == OP_CONV_TRANSPOSE) { // logical order is O, C
    dims[0] = d->dim[1];
    dims[1] = d->dim[0];
    tag = dnnl_iohw;
  } else if (g > 1) {
    dnnl_dims_t grouped = {g, d->dim[0] / g, d->dim[1], d->dim[2], d->dim[3]};
    for (int i = 0; i < 5; i++) dims[i] = grouped[i];
    tag = dnnl_goihw;
    rank = 5;
  }
  DNNL_TRY(md_create_tag(plain, rank, dims, layer_type(type), tag));
  DNNL_TRY(md_create_tag(any, rank, dims, layer_type(type), dnnl_format_tag_any));
  return OK;
}

typedef dnnl_status_t (*describe_t)(dnnl_primitive_desc_t *, dnnl_engine_t, enum compat_conv, md_view_t, md_view_t,
                                    md_view_t, md_view_t, const struct compat_window *, dnnl_primitive_desc_t,
                                    const_dnnl_primitive_attr_t);

// The description of the direction; gradients want that of forward, in one type, as a hint.
static status_t describe(struct plan *p, const struct conv_operands *o, dtype_t type, md_view_t x, md_view_t w,
                         md_view_t bias, md_view_t y, const_dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *out) {
  status_t st = OK;
  const struct op *op = &p->op;
  describe_t make = op->kind == OP_CONV ? compat_convolution : compat_deconvolution;
  struct compat_window window = {0};
  const struct tensor_desc *xd = operand(op, o->x), *yd = operand(op, o->y), *wd = operand(op, o->w);
  for (int i = 0; i < 2; i++) {
    int64_t reach = (wd->dim[2 + i] - 1) * op->attr.dilation[i] + 1, pad = op->attr.pad[i];
    int64_t small = op->kind == OP_CONV ? yd->dim[1 + i] : xd->dim[1 + i];
    int64_t large = op->kind == OP_CONV ? xd->dim[1 + i] : yd->dim[1 + i];
    window.stride[i] = op->attr.stride[i];
    window.dilation[i] = op->attr.dilation[i] - 1;
    window.before[i] = pad;
    window.after[i] =
        (small - 1) * op->attr.stride[i] + reach - large - pad; // may be less: the last rows see no window
  }
  md_t x1 = NULL, y1 = NULL, plain = NULL, w1 = NULL;
  dnnl_primitive_desc_t hint = NULL;
  if (o->kind != COMPAT_FORWARD) {
    TRY_GOTO(picture(p, &x1, xd, type), done);
    TRY_GOTO(picture(p, &y1, yd, type), done);
    TRY_GOTO(weights(p, &plain, &w1, wd, type), done);
    DNNL_TRY_GOTO(make(&hint, p->b->engine, COMPAT_FORWARD, x1, w1, NULL, y1, &window, NULL, NULL), done);
  }
  DNNL_TRY_GOTO(make(out, p->b->engine, o->kind, x, w, bias, y, &window, hint, attr), done);
done:
  if (hint) (void)dnnl_primitive_desc_destroy(hint);
  md_destroy(&w1), md_destroy(&plain), md_destroy(&y1), md_destroy(&x1);
  return st;
}

// The arguments of the three directions, in the order x, w, bias, y.
static const int arguments[3][4] = {
    [COMPAT_FORWARD] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST},
    [COMPAT_BACKWARD_DATA] = {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DIFF_DST},
    [COMPAT_BACKWARD_WEIGHT] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_BIAS, DNNL_ARG_DIFF_DST},
};

static status_t create_general(struct plan *p) {
  status_t st = OK;
  const struct op *op = &p->op;
  struct conv_operands o = conv_operands(op);
  bool half = p->b->bf16 && op->in[0].dtype == DTYPE_BF16 && op->in[1].dtype == DTYPE_BF16;
  dtype_t in = half ? DTYPE_BF16 : DTYPE_F32, out = half ? op->out[0].dtype : DTYPE_F32;
  dtype_t x_type = o.kind == COMPAT_BACKWARD_DATA ? out : in, w_type = o.kind == COMPAT_BACKWARD_WEIGHT ? out : in;
  dtype_t y_type = o.kind == COMPAT_FORWARD ? out : in;
  md_t x = NULL, y = NULL, w = NULL, any = NULL, bias = NULL, residual = NULL;
  dnnl_primitive_attr_t attr = NULL;
  dnnl_primitive_desc_t description = NULL;
  struct layer *l;
  TRY(layer_begin(p, &l));
  TRY_GOTO(picture(p, &x, operand(op, o.x), x_type), done);
  TRY_GOTO(picture(p, &y, operand(op, o.y), y_type), done);
  TRY_GOTO(weights(p, &w, &any, operand(op, o.w), w_type), done);
  dnnl_dims_t channels = {operand(op, o.y)->dim[3]};
  if (o.bias >= 0) DNNL_TRY_GOTO(md_create_tag(&bias, 1, channels, dnnl_f32, dnnl_a), done);
  if (o.residual >= 0) {
    TRY_GOTO(picture(p, &residual, operand(op, o.residual), operand(op, o.residual)->dtype), done);
  }
  TRY_GOTO(layer_attributes(p, false, op->attr.activation, residual, op->attr.residual_first != 0, &attr), done);
  TRY_GOTO(describe(p, &o, in, x, any, bias, y, attr, &description), done);
  bool gradient = o.kind == COMPAT_BACKWARD_WEIGHT;
  md_view_t chosen =
      dnnl_primitive_desc_query_md(description, gradient ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
  md_destroy(&any);
  DNNL_TRY_GOTO(md_copy(&any, chosen), done);
  TRY_GOTO(primitive_create(p, &description, &l->main), done);
  const int *arg = arguments[o.kind];
  TRY_GOTO(layer_link(p, l, o.x, arg[0], x_type, x, NULL), done);
  TRY_GOTO(layer_link(p, l, o.w, arg[1], w_type, w, any), done);
  if (bias) TRY_GOTO(layer_link(p, l, o.bias, arg[2], DTYPE_F32, bias, NULL), done);
  TRY_GOTO(layer_link(p, l, o.y, arg[3], y_type, y, NULL), done);
  if (residual) {
    int post = layer_residual(op);
    TRY_GOTO(layer_link(p, l, o.residual, post, operand(op, o.residual)->dtype, residual, NULL), done);
  }
done:
  if (description) (void)dnnl_primitive_desc_destroy(description);
  if (attr) (void)dnnl_primitive_attr_destroy(attr);
  md_destroy(&residual), md_destroy(&bias), md_destroy(&any), md_destroy(&w), md_destroy(&y), md_destroy(&x);
  return st;
}

static status_t create(struct plan *p) {
  if (depthwise_apply(&p->op)) return depthwise_create(p);
  return windows_apply(&p->op) ? windows_create(p) : create_general(p);
}

const struct op_class conv_class = {.supports = supports, .create = create};
const struct op_class conv_transpose_class = {.supports = supports, .create = create};
