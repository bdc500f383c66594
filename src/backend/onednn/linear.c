// linear.c: LINEAR as one oneDNN product. Measured on Zen 5 (2 threads, fp32): packed weights 98 %, weights as they lie 95 %,
// gradients of weights 85 % of the best product; inner_product is never faster.
#include "backend/onednn/layer.h"
#include "base/mem.h"

static bool supports(const struct onednn *b, const struct op *op) {
  (void)b;
  return op_is_single(op);
}

// Sizes and types of the product C[m,n] = A[m,k] B[k,n] that a direction is.
struct product_of {
  int64_t m, n, k;
  bool a_transposed, b_transposed; // as the tensors lie in memory
  int a, b, bias, residual, c;     // operands; -1: none
  dtype_t inner, c_inner;          // types of A and B, of C
};

static struct product_of describe(const struct plan *p) {
  const struct op *op = &p->op;
  struct product_of d = {.a = 0, .b = 1, .bias = -1, .residual = -1, .c = op->inputs};
  if (op->direction == BACKWARD_WEIGHT) { // dw[N,K] = dy' x
    d.m = desc_columns(&op->in[0]);
    d.n = desc_columns(&op->in[1]);
    d.k = desc_rows(&op->in[0]);
    d.a_transposed = true;
  } else {
    bool forward = op->direction == FORWARD;
    d.m = desc_rows(&op->in[0]);
    d.k = desc_columns(&op->in[0]);
    d.n = desc_columns(&op->out[0]);
    d.b_transposed = forward;
    int r = forward ? 3 : 2;
    if (forward && op->inputs > 2 && op->in[2].dtype != DTYPE_NONE) d.bias = 2;
    if (op->inputs > r && op->in[r].dtype != DTYPE_NONE) d.residual = r;
  }
  bool half = p->b->bf16 && op->in[0].dtype == DTYPE_BF16 && op->in[1].dtype == DTYPE_BF16;
  d.inner = half ? DTYPE_BF16 : DTYPE_F32;
  d.c_inner = half ? op->out[0].dtype : DTYPE_F32;
  return d;
}

// A matrix whose rows (columns, when it lies transposed) are `pitch` elements apart.
static status_t matrix(struct plan *p, md_t *out, int64_t rows, int64_t columns, int64_t pitch, dtype_t type,
                       bool transposed) {
  dnnl_dims_t dims = {rows, columns}, strides = {transposed ? 1 : pitch, transposed ? pitch : 1};
  DNNL_TRY(md_create_strides(out, 2, dims, layer_type(type), strides));
  return OK;
}

static void bias_gradient(struct plan *p, void *const *operands, char *scratch) {
  const struct op *op = &p->op;
  const struct layer *l = p->state;
  p->b->kernels->reduce->columns(p->b->base.threads, desc_rows(&op->in[0]), desc_columns(&op->in[0]),
                                 view_of(&op->in[0], operands[0]), view_of(&op->out[1], operands[op->inputs + 1]),
                                 (float *)(void *)(scratch + l->after_at));
}

// Elements first .. first+k-1 of the sum over K; the first part brings the bias, the last the epilogue.
static status_t create_part(struct plan *p, const struct product_of *whole, int64_t first, int64_t k) {
  status_t st = OK;
  const struct op *op = &p->op;
  struct product_of d = *whole;
  bool last = first + k == whole->k;
  activation_t activation = last ? op->attr.activation : ACT_NONE;
  md_t a = NULL, b = NULL, any = NULL, bias = NULL, residual = NULL, c = NULL;
  dnnl_primitive_attr_t attr = NULL;
  dnnl_primitive_desc_t description = NULL;
  struct layer *l;
  d.k = k;
  if (first > 0) d.bias = -1;
  if (!last) d.residual = -1;
  size_t skip = (size_t)first * dtype_bytes(d.inner);
  TRY(layer_begin(p, &l));
  TRY_GOTO(matrix(p, &a, d.m, d.k, d.a_transposed ? d.m : whole->k, d.inner, d.a_transposed), done);
  TRY_GOTO(matrix(p, &b, d.k, d.n, d.b_transposed ? whole->k : d.n, d.inner, d.b_transposed), done);
  TRY_GOTO(matrix(p, &c, d.m, d.n, d.n, d.c_inner, false), done);
  if (d.bias >= 0) TRY_GOTO(matrix(p, &bias, 1, d.n, d.n, DTYPE_F32, false), done);
  if (d.residual >= 0) TRY_GOTO(matrix(p, &residual, d.m, d.n, d.n, op->in[d.residual].dtype, false), done);
  // A part of B is no dense matrix: oneDNN's good product takes it packed only (the other is 0.7 times as fast).
  bool pack = op->direction != BACKWARD_WEIGHT && (op->constant >> d.b & 1 || k < whole->k);
  dnnl_dims_t b_dims = {d.k, d.n};
  if (pack) DNNL_TRY_GOTO(md_create_tag(&any, 2, b_dims, layer_type(d.inner), dnnl_format_tag_any), done);
  TRY_GOTO(layer_attributes(p, first > 0, activation, residual, op->attr.residual_first != 0, &attr), done);
  DNNL_TRY_GOTO(compat_matmul(&description, p->b->engine, a, pack ? any : b, bias, c, attr), done);
  md_destroy(&any);
  if (pack) DNNL_TRY_GOTO(md_copy(&any, dnnl_primitive_desc_query_md(description, dnnl_query_weights_md, 0)), done);
  TRY_GOTO(primitive_create(p, &description, &l->main), done);
  TRY_GOTO(layer_link_part(p, l, d.a, skip, DNNL_ARG_SRC, d.inner, a, NULL), done);
  TRY_GOTO(layer_link_part(p, l, d.b, skip, DNNL_ARG_WEIGHTS, d.inner, b, any), done);
  if (bias) TRY_GOTO(layer_link(p, l, d.bias, DNNL_ARG_BIAS, DTYPE_F32, bias, NULL), done);
  if (residual) {
    int arg = DNNL_ARG_ATTR_MULTIPLE_POST_OP((first > 0) + (activation != ACT_NONE && !op->attr.residual_first)) |
              DNNL_ARG_SRC_1;
    TRY_GOTO(layer_link(p, l, d.residual, arg, op->in[d.residual].dtype, residual, NULL), done);
  }
  TRY_GOTO(layer_link(p, l, d.c, DNNL_ARG_DST, d.c_inner, c, NULL), done);
  if (op->direction == BACKWARD_WEIGHT && op->outputs > 1 && op->out[1].dtype != DTYPE_NONE) {
    l->after = bias_gradient;
    l->after_at = plan_reserve(p, sizeof(float) * REDUCE_CHUNKS * (size_t)(d.m + 16));
  }
done:
  if (description) (void)dnnl_primitive_desc_destroy(description);
  if (attr) (void)dnnl_primitive_attr_destroy(attr);
  md_destroy(&c), md_destroy(&residual), md_destroy(&bias), md_destroy(&any), md_destroy(&b), md_destroy(&a);
  return st;
}

// oneDNN adds the K products of an element one after the other, and rounds each time: over 3072 of them it is 2.2 times as far from the
// exact sum as MKL, which adds blocks. A long fp32 sum forward is therefore made in parts, each added to the one before.
enum { LONG_SUM = 1024, PART = 384 };

static int64_t parts_of(const struct plan *p, const struct product_of *d) {
  const struct op *op = &p->op;
  bool plain = op->in[0].dtype == DTYPE_F32 && op->in[1].dtype == DTYPE_F32 && op->out[0].dtype == DTYPE_F32;
  return op->direction == FORWARD && plain && d->k >= LONG_SUM ? (d->k + PART - 1) / PART : 1;
}

static status_t create_product(struct plan *p) {
  struct product_of d = describe(p);
  int64_t parts = parts_of(p, &d), each = (d.k + parts - 1) / parts;
  for (int64_t first = 0; first < d.k; first += each) {
    TRY(create_part(p, &d, first, first + each < d.k ? each : d.k - first));
  }
  return OK;
}

// The gradient of the weights between a wide and a narrow side, both fp32, is an own kernel.
struct skinny {
  int64_t rows, wide, narrow;
  bool wide_dy; // dy is the wide one: dw lies as the kernel makes it
  size_t out_at, sum_at;
};

static bool skinny_applies(const struct op *op) {
  if (op->direction != BACKWARD_WEIGHT) return false;
  for (int i = 0; i < 2; i++) {
    if (op->in[i].dtype != DTYPE_F32) return false;
  }
  for (int i = 0; i < op->outputs; i++) {
    if (op->out[i].dtype != DTYPE_F32 && op->out[i].dtype != DTYPE_NONE) return false;
  }
  int64_t n = desc_columns(&op->in[0]), k = desc_columns(&op->in[1]), narrow = n < k ? n : k, wide = n < k ? k : n;
  // In between (CLIPSeg's 768 to 64, whose x comes from memory, not from the cache) oneDNN is 30 % faster.
  if (wide > 128 && wide < 1024) return false;
  return narrow % 16 == 0 && narrow <= 64 && desc_rows(&op->in[0]) >= 128;
}

static status_t skinny_run(struct plan *p, void *const *operands, char *scratch) {
  const struct skinny *s = p->state;
  const struct op *op = &p->op;
  int threads = p->b->base.threads;
  float *dw = operands[2], *db = op->outputs > 1 && op->out[1].dtype != DTYPE_NONE ? operands[3] : NULL;
  float *sum = (float *)(void *)(scratch + s->sum_at);
  const float *dy = operands[0], *x = operands[1];
  if (s->wide_dy) {
    p->b->kernels->product->skinny(threads, s->rows, s->wide, s->narrow, dy, x, dw, NULL, db);
    return OK;
  }
  float *out = (float *)(void *)(scratch + s->out_at);
  p->b->kernels->product->skinny(threads, s->rows, s->wide, s->narrow, x, dy, out, dw, NULL);
  if (db) {
    p->b->kernels->reduce->columns(threads, s->rows, s->narrow, view_of(&op->in[0], operands[0]),
                                   view_of(&op->out[1], db), sum);
  }
  return OK;
}

static void skinny_release(struct plan *p) {
  mem_free(&p->state);
}

static status_t skinny_create(struct plan *p) {
  const struct op *op = &p->op;
  struct skinny *s;
  TRY(mem_alloc(&s, 1, sizeof *s));
  p->state = s;
  p->run = skinny_run;
  p->release = skinny_release;
  int64_t n = desc_columns(&op->in[0]), k = desc_columns(&op->in[1]);
  s->rows = desc_rows(&op->in[0]);
  s->wide_dy = n > k;
  s->wide = n > k ? n : k;
  s->narrow = n > k ? k : n;
  if (!s->wide_dy) s->out_at = plan_reserve(p, sizeof(float) * (size_t)(n * k));
  s->sum_at = plan_reserve(p, sizeof(float) * REDUCE_CHUNKS * (size_t)(n + 16));
  return OK;
}

static status_t create(struct plan *p) {
  return skinny_applies(&p->op) ? skinny_create(p) : create_product(p);
}

const struct op_class linear_class = {.supports = supports, .create = create};
