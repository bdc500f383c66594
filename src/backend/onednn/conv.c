// conv.c: CONV and CONV_TRANSPOSE as oneDNN's convolution and deconvolution, weights in the layout that oneDNN likes,
// pictures as they lie (NHWC) or in its layout too. ways.c says when.
#include "backend/onednn/conv.h"

#include "backend/onednn/layer.h"

// oneDNN's deconvolution adds a bias and applies an activation element by element, in plain C: 25 times as slow as the
// sums themselves. Both are done here then, from the fp32 sums.
static bool finishes(const struct op *op) {
  if (op->kind != OP_CONV_TRANSPOSE || op->direction != FORWARD) return false;
  return op->attr.activation != ACT_NONE || (op->inputs > 2 && op->in[2].dtype != DTYPE_NONE);
}

// The operands of a direction: picture x, weights, bias and y or their gradients; -1: none.
struct conv_operands {
  int x, w, bias, y, residual;
  enum compat_conv kind;
};

static struct conv_operands conv_operands(const struct op *op, conv_way_t way) {
  int n = op->inputs;
  if (way == CONV_TURNED) return (struct conv_operands){0, 1, -1, n, -1, COMPAT_FORWARD};
  bool input_bias = op->direction == FORWARD && n > 2 && op->in[2].dtype != DTYPE_NONE && !finishes(op);
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

static status_t picture(struct plan *p, md_t *out, const struct tensor_desc *d, dtype_t type, bool any) {
  dnnl_dims_t dims = {d->dim[0], d->dim[3], d->dim[1], d->dim[2]};
  DNNL_TRY(md_create_tag(out, 4, dims, layer_type(type), any ? dnnl_format_tag_any : dnnl_nhwc));
  return OK;
}

// Products read bf16 where both operands are bf16 and the processor multiplies it.
static bool is_half(const struct plan *p) {
  return p->b->bf16 && p->op.in[0].dtype == DTYPE_BF16 && p->op.in[1].dtype == DTYPE_BF16;
}

static float number(const void *data, dtype_t type, int64_t i) {
  return type == DTYPE_F32 ? ((const float *)data)[i] : bf16_to_f32(((const uint16_t *)data)[i]);
}

// [c,1,taps] with the last tap first.
static void turn_depthwise(const struct plan *p, const void *from, void *to) {
  const struct tensor_desc *w = &p->op.in[1];
  int64_t n = desc_count(w), taps = w->dim[2] * w->dim[3];
  bool half = is_half(p);
  for (int64_t i = 0; i < n; i++) {
    int64_t at = i / taps * taps + taps - 1 - i % taps;
    if (half) {
      ((uint16_t *)to)[i] = ((const uint16_t *)from)[at];
    } else {
      ((float *)to)[i] = number(from, w->dtype, at);
    }
  }
}

// [o,c,taps] -> [taps,o,c], the last tap first: the kernels of the gradient of the picture.
static void turn_kernels(const struct plan *p, const void *from, void *to) {
  const struct tensor_desc *w = &p->op.in[1];
  int64_t o = w->dim[0], c = w->dim[1], taps = w->dim[2] * w->dim[3];
  bool half = is_half(p), wide = !half && w->dtype == DTYPE_F32;
#pragma omp parallel for num_threads(o *c *taps > 8192 ? p->b->base.threads : 1) schedule(static)
  for (int64_t i = 0; i < o; i++) {
    for (int64_t t = 0; t < taps; t++) {
      int64_t at = i * c * taps + taps - 1 - t, out = (t * o + i) * c;
      if (half) { // bf16 on both sides
        for (int64_t k = 0; k < c; k++) ((uint16_t *)to)[out + k] = ((const uint16_t *)from)[at + k * taps];
      } else if (wide) {
        for (int64_t k = 0; k < c; k++) ((float *)to)[out + k] = ((const float *)from)[at + k * taps];
      } else {
        for (int64_t k = 0; k < c; k++) ((float *)to)[out + k] = number(from, w->dtype, at + k * taps);
      }
    }
  }
}

// The weights as they lie, and in any layout.
static status_t weights(struct plan *p, md_t *plain, md_t *any, const struct tensor_desc *d, dtype_t type,
                        bool turned) {
  int64_t g = p->op.attr.groups;
  dnnl_dims_t dims = {d->dim[0], d->dim[1], d->dim[2], d->dim[3]};
  dnnl_format_tag_t tag = dnnl_oihw;
  int rank = 4;
  if (turned && g == 1) { // as turn_kernels leaves them: from O to C
    dims[0] = d->dim[1];
    dims[1] = d->dim[0];
    tag = dnnl_hwio;
  } else if (p->op.kind == OP_CONV_TRANSPOSE) { // logical order is O, C
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

static struct compat_window window_of(const struct op *op, const struct conv_operands *o, conv_way_t way) {
  struct compat_window window = {0};
  const struct tensor_desc *xd = operand(op, o->x), *yd = operand(op, o->y), *wd = operand(op, o->w);
  for (int i = 0; i < 2; i++) {
    int64_t reach = (wd->dim[2 + i] - 1) * op->attr.dilation[i] + 1, pad = op->attr.pad[i];
    int64_t small = op->kind == OP_CONV ? yd->dim[1 + i] : xd->dim[1 + i];
    int64_t large = op->kind == OP_CONV ? xd->dim[1 + i] : yd->dim[1 + i];
    if (way == CONV_TURNED) pad = reach - 1 - pad;
    window.stride[i] = op->attr.stride[i];
    window.dilation[i] = op->attr.dilation[i] - 1;
    window.before[i] = pad;
    window.after[i] =
        (small - 1) * op->attr.stride[i] + reach - large - pad; // may be less: the last rows see no window
  }
  return window;
}

// The memory of a primitive: as the tensors lie, and as oneDNN is asked for them.
struct conv_memory {
  md_t x, w, bias, y, residual; // as they lie
  md_t x_any, w_any, y_any;     // NULL: as it lies
};

static void memory_destroy(struct conv_memory *m) {
  md_t *all[] = {&m->x, &m->w, &m->bias, &m->y, &m->residual, &m->x_any, &m->w_any, &m->y_any};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) md_destroy(all[i]);
}

// The description of the direction; gradients want that of forward, in one type, as a hint.
static status_t describe(struct plan *p, const struct conv_operands *o, conv_way_t way, dtype_t type,
                         const struct conv_memory *m, const_dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *out) {
  status_t st = OK;
  const struct op *op = &p->op;
  describe_t make = op->kind == OP_CONV ? compat_convolution : compat_deconvolution;
  struct compat_window window = window_of(op, o, way);
  struct conv_memory f = {0};
  dnnl_primitive_desc_t hint = NULL;
  bool any = way == CONV_BLOCKED;
  if (o->kind != COMPAT_FORWARD) {
    TRY_GOTO(picture(p, &f.x, operand(op, o->x), type, any), done);
    TRY_GOTO(picture(p, &f.y, operand(op, o->y), type, any), done);
    TRY_GOTO(weights(p, &f.w, &f.w_any, operand(op, o->w), type, false), done);
    DNNL_TRY_GOTO(make(&hint, p->b->engine, COMPAT_FORWARD, f.x, f.w_any, NULL, f.y, &window, NULL, NULL), done);
  }
  DNNL_TRY_GOTO(make(out, p->b->engine, o->kind, any ? m->x_any : m->x, m->w_any, m->bias, any ? m->y_any : m->y,
                     &window, hint, attr),
                done);
done:
  if (hint) (void)dnnl_primitive_desc_destroy(hint);
  memory_destroy(&f);
  return st;
}

// The arguments of the three directions, in the order x, w, bias, y.
static const int arguments[3][4] = {
    [COMPAT_FORWARD] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST},
    [COMPAT_BACKWARD_DATA] = {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DIFF_DST},
    [COMPAT_BACKWARD_WEIGHT] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_BIAS, DNNL_ARG_DIFF_DST},
};

// Replace a layout that was left to oneDNN by the one that it has chosen.
static status_t settle(struct plan *p, dnnl_primitive_desc_t description, dnnl_query_t what, md_t *any) {
  if (!*any) return OK;
  md_destroy(any);
  DNNL_TRY(md_copy(any, dnnl_primitive_desc_query_md(description, what, 0)));
  return OK;
}

static status_t settle_all(struct plan *p, enum compat_conv kind, dnnl_primitive_desc_t description,
                           struct conv_memory *m) {
  bool to_x = kind == COMPAT_BACKWARD_DATA, to_w = kind == COMPAT_BACKWARD_WEIGHT, to_y = kind == COMPAT_FORWARD;
  TRY(settle(p, description, to_x ? dnnl_query_diff_src_md : dnnl_query_src_md, &m->x_any));
  TRY(settle(p, description, to_w ? dnnl_query_diff_weights_md : dnnl_query_weights_md, &m->w_any));
  return settle(p, description, to_y ? dnnl_query_dst_md : dnnl_query_diff_dst_md, &m->y_any);
}

bool conv_sums(const struct op *op) {
  if (op->direction != FORWARD || op->kind != OP_CONV || op->inputs < 4 || op->in[3].dtype == DTYPE_NONE) return false;
  bool rounded = op->in[3].dtype == DTYPE_F32 && op->out[0].dtype == DTYPE_BF16; // it would be, before the addition
  return !rounded && (op->attr.activation == ACT_NONE || op->attr.residual_first);
}

static void finish(struct plan *p, void *const *operands, char *scratch, const void *from, void *to) {
  const struct op *op = &p->op;
  const struct tensor_desc *y = &op->out[0];
  const struct layer *l = p->state;
  const float *bias = NULL;
  int threads = p->b->base.threads;
  if (op->inputs > 2 && op->in[2].dtype != DTYPE_NONE) {
    struct view fp32 = {scratch + l->after_at, DTYPE_F32};
    p->b->kernels->pointwise->cast(threads, y->dim[3], view_of(&op->in[2], operands[2]), fp32);
    bias = fp32.data;
  }
  p->b->kernels->picture->scatter(threads, op->attr.activation, y->dim[0], y->dim[1], y->dim[2], 1, 1, y->dim[3], from,
                                  bias, view_of(y, to));
}

struct conv_types {
  dtype_t in, x, w, y; // `in`: what the products read
};

static struct conv_types types_of(const struct plan *p, enum compat_conv kind) {
  dtype_t in = is_half(p) ? DTYPE_BF16 : DTYPE_F32;
  dtype_t out = is_half(p) && !finishes(&p->op) ? p->op.out[0].dtype : DTYPE_F32;
  return (struct conv_types){in, kind == COMPAT_BACKWARD_DATA ? out : in, kind == COMPAT_BACKWARD_WEIGHT ? out : in,
                             kind == COMPAT_FORWARD ? out : in};
}

static status_t memory_create(struct plan *p, const struct conv_operands *o, conv_way_t way, struct conv_memory *m) {
  const struct op *op = &p->op;
  struct conv_types t = types_of(p, o->kind);
  const struct tensor_desc *x = operand(op, o->x), *y = operand(op, o->y);
  TRY(picture(p, &m->x, x, t.x, false));
  TRY(picture(p, &m->y, y, t.y, false));
  if (way == CONV_BLOCKED) {
    TRY(picture(p, &m->x_any, x, t.x, true));
    TRY(picture(p, &m->y_any, y, t.y, true));
  }
  TRY(weights(p, &m->w, &m->w_any, operand(op, o->w), t.w, way == CONV_TURNED));
  dnnl_dims_t channels = {y->dim[3]};
  if (o->bias >= 0) DNNL_TRY(md_create_tag(&m->bias, 1, channels, dnnl_f32, dnnl_a));
  if (o->residual >= 0 && !conv_sums(op)) {
    const struct tensor_desc *r = operand(op, o->residual);
    TRY(picture(p, &m->residual, r, r->dtype, false));
  }
  return OK;
}

static status_t link_all(struct plan *p, struct layer *l, const struct conv_operands *o, conv_way_t way,
                         const struct conv_memory *m) {
  struct conv_types t = types_of(p, o->kind);
  const int *arg = arguments[o->kind];
  TRY(layer_link(p, l, o->x, arg[0], t.x, m->x, m->x_any));
  if (way == CONV_TURNED) {
    TRY(layer_link_prepared(p, l, o->w, arg[1], t.w, m->w, m->w_any,
                            p->op.attr.groups == 1 ? turn_kernels : turn_depthwise));
  } else {
    TRY(layer_link(p, l, o->w, arg[1], t.w, m->w, m->w_any));
  }
  if (m->bias) TRY(layer_link(p, l, o->bias, arg[2], DTYPE_F32, m->bias, NULL));
  struct link *y = l->link + l->links;
  TRY(layer_link(p, l, o->y, arg[3], t.y, m->y, m->y_any));
  if (finishes(&p->op)) {
    y->finish = finish;
    l->after_at = plan_reserve(p, sizeof(float) * (size_t)p->op.out[0].dim[3]);
  }
  if (o->residual >= 0 && !m->residual) y->start = o->residual;
  if (!m->residual) return OK;
  return layer_link(p, l, o->residual, layer_residual(&p->op), operand(&p->op, o->residual)->dtype, m->residual, NULL);
}

status_t conv_create_layer(struct plan *p, conv_way_t way) {
  status_t st = OK;
  const struct op *op = &p->op;
  struct conv_operands o = conv_operands(op, way);
  struct conv_memory m = {0};
  dnnl_primitive_attr_t attr = NULL;
  dnnl_primitive_desc_t description = NULL;
  struct layer *l;
  TRY(layer_begin(p, &l));
  TRY_GOTO(memory_create(p, &o, way, &m), done);
  activation_t activation = finishes(op) ? ACT_NONE : op->attr.activation;
  TRY_GOTO(layer_attributes(p, conv_sums(op), activation, m.residual, op->attr.residual_first != 0, &attr), done);
  TRY_GOTO(describe(p, &o, way, types_of(p, o.kind).in, &m, attr, &description), done);
  TRY_GOTO(settle_all(p, o.kind, description, &m), done);
  TRY_GOTO(primitive_create(p, &description, &l->main), done);
  TRY_GOTO(link_all(p, l, &o, way, &m), done);
done:
  if (description) (void)dnnl_primitive_desc_destroy(description);
  if (attr) (void)dnnl_primitive_attr_destroy(attr);
  memory_destroy(&m);
  return st;
}
