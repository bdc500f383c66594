// windows.c: see windows.h. With S channels in the small picture, L in the large one, and weights [S,L,kh,kw] turned into
// W [S, kh*kw*L]:
//   to_small   small = gather(large) W'     CONV forward, CONV_TRANSPOSE backward data
//   to_large   large = scatter(small W)     CONV_TRANSPOSE forward, CONV backward data
//   to_weights dW = small' gather(large)    both backward weight
// The first two go image by image, so that the matrix of windows stays in the cache.
#include "backend/onednn/windows.h"

#include "backend/onednn/layer.h"
#include "base/mem.h"

enum way { TO_SMALL, TO_LARGE, TO_WEIGHTS };

struct windows {
  enum way way;
  int small, large, weights, bias, residual; // operands; -1: none
  int64_t batch, h, w, s, l, run;            // run = kh*kw*l
  int kh, kw;
  int64_t images; // of one product
  dtype_t inner;  // of the product's inputs
  struct primitive product;
  size_t small_at, large_at, matrix_at, weights_at, bias_at, sum_at;
  void *kept; // constant weights
};

static const struct tensor_desc *operand(const struct op *op, int i) {
  return i < op->inputs ? &op->in[i] : &op->out[i - op->inputs];
}

// x, weights, y of a direction, as in conv.c.
static void places(const struct op *op, int *x, int *w, int *y) {
  *x = op->direction == FORWARD ? 0 : op->direction == BACKWARD_DATA ? op->inputs : 1;
  *y = op->direction == FORWARD ? op->inputs : 0;
  *w = op->direction == BACKWARD_WEIGHT ? op->inputs : 1;
}

bool windows_apply(const struct op *op) {
  int x, w, y;
  places(op, &x, &w, &y);
  const struct tensor_desc *weights = operand(op, w), *large = operand(op, op->kind == OP_CONV ? x : y);
  for (int i = 0; i < 2; i++) {
    if (op->attr.stride[i] != weights->dim[2 + i] || op->attr.pad[i] || op->attr.dilation[i] != 1) return false;
    if (large->dim[1 + i] % weights->dim[2 + i] || weights->dim[2 + i] == 1) return false;
  }
  return op->attr.groups == 1;
}

static int given(const struct op *op, int i) {
  bool there = i < op->inputs ? op->in[i].dtype != DTYPE_NONE
                              : i - op->inputs < op->outputs && op->out[i - op->inputs].dtype != DTYPE_NONE;
  return there ? i : -1;
}

static void describe(const struct plan *p, struct windows *s) {
  const struct op *op = &p->op;
  int x, w, y;
  places(op, &x, &w, &y);
  bool conv = op->kind == OP_CONV;
  s->small = conv ? y : x;
  s->large = conv ? x : y;
  s->weights = w;
  s->bias = s->residual = -1;
  if (op->direction == FORWARD && op->inputs > 2) s->bias = given(op, 2);
  if (op->direction == FORWARD && conv && op->inputs > 3) s->residual = given(op, 3);
  if (op->direction == BACKWARD_WEIGHT && op->outputs > 1) s->bias = given(op, op->inputs + 1);
  s->way = op->direction == BACKWARD_WEIGHT ? TO_WEIGHTS : conv == (op->direction == FORWARD) ? TO_SMALL : TO_LARGE;
  const struct tensor_desc *small = operand(op, s->small), *weights = operand(op, w);
  s->batch = small->dim[0], s->h = small->dim[1], s->w = small->dim[2], s->s = small->dim[3];
  s->l = weights->dim[1], s->kh = (int)weights->dim[2], s->kw = (int)weights->dim[3];
  s->run = s->kh * s->kw * s->l;
  bool half = p->b->bf16 && op->in[0].dtype == DTYPE_BF16 && op->in[1].dtype == DTYPE_BF16;
  s->inner = half ? DTYPE_BF16 : DTYPE_F32;
  // Images of one product: all when the weights are wanted, else as many as divide the batch and keep the matrix within
  // the second cache of a few cores.
  s->images = s->batch;
  const int64_t most = 1 << 19;
  while (s->way != TO_WEIGHTS && s->images > 1 && (s->batch % s->images || s->images * s->h * s->w * s->run > most)) {
    s->images--;
  }
}

static status_t matrix(struct plan *p, md_t *out, int64_t rows, int64_t columns, dtype_t type, bool transposed) {
  dnnl_dims_t dims = {rows, columns}, strides = {transposed ? 1 : columns, transposed ? rows : 1};
  DNNL_TRY(md_create_strides(out, 2, dims, layer_type(type), strides));
  return OK;
}

// The product of the way; the result is fp32, or y's own type where it goes to the small picture.
static status_t create_product(struct plan *p, struct windows *s) {
  status_t st = OK;
  const struct op *op = &p->op;
  int64_t rows = s->images * s->h * s->w, m = s->way == TO_WEIGHTS ? s->s : rows;
  int64_t n = s->way == TO_SMALL ? s->s : s->run;
  int64_t k = s->way == TO_SMALL ? s->run : s->way == TO_LARGE ? s->s : rows;
  dtype_t c_type = s->way == TO_SMALL && s->inner == DTYPE_BF16 ? op->out[0].dtype : DTYPE_F32;
  bool bias_here = s->way == TO_SMALL && s->bias >= 0;
  md_t a = NULL, b = NULL, c = NULL, bias = NULL, residual = NULL;
  dnnl_primitive_attr_t attr = NULL;
  dnnl_primitive_desc_t description = NULL;
  TRY_GOTO(matrix(p, &a, m, k, s->inner, s->way == TO_WEIGHTS), done);
  TRY_GOTO(matrix(p, &b, k, n, s->inner, s->way == TO_SMALL), done);
  TRY_GOTO(matrix(p, &c, m, n, c_type, false), done);
  if (bias_here) TRY_GOTO(matrix(p, &bias, 1, n, DTYPE_F32, false), done);
  if (s->residual >= 0) TRY_GOTO(matrix(p, &residual, m, n, operand(op, s->residual)->dtype, false), done);
  activation_t a_here = s->way == TO_SMALL ? op->attr.activation : ACT_NONE;
  TRY_GOTO(layer_attributes(p, false, a_here, residual, op->attr.residual_first != 0, &attr), done);
  DNNL_TRY_GOTO(compat_matmul(&description, p->b->engine, a, b, bias, c, attr), done);
  TRY_GOTO(primitive_create(p, &description, &s->product), done);
  TRY_GOTO(primitive_bind(p, &s->product, DNNL_ARG_SRC, a), done);
  TRY_GOTO(primitive_bind(p, &s->product, DNNL_ARG_WEIGHTS, b), done);
  TRY_GOTO(primitive_bind(p, &s->product, DNNL_ARG_DST, c), done);
  if (bias) TRY_GOTO(primitive_bind(p, &s->product, DNNL_ARG_BIAS, bias), done);
  if (residual) {
    int post = layer_residual(op);
    TRY_GOTO(primitive_bind(p, &s->product, post, residual), done);
  }
done:
  if (description) (void)dnnl_primitive_desc_destroy(description);
  if (attr) (void)dnnl_primitive_attr_destroy(attr);
  md_destroy(&residual), md_destroy(&bias), md_destroy(&c), md_destroy(&b), md_destroy(&a);
  return st;
}

static float number(const void *data, dtype_t type, int64_t i) {
  return type == DTYPE_F32 ? ((const float *)data)[i] : bf16_to_f32(((const uint16_t *)data)[i]);
}

static void put(void *data, dtype_t type, int64_t i, float v) {
  if (type == DTYPE_F32) {
    ((float *)data)[i] = v;
  } else {
    ((uint16_t *)data)[i] = f32_to_bf16(v);
  }
}

// [s,l,kh,kw] -> [s,kh,kw,l] in the type of the product, or back.
static void turn_weights(const struct windows *s, int threads, bool back, const void *from, dtype_t from_type, void *to,
                         dtype_t to_type) {
  int64_t window = s->kh * s->kw;
#pragma omp parallel for num_threads(s->s * s->run > 8192 ? threads : 1) schedule(static)
  for (int64_t i = 0; i < s->s; i++) {
    for (int64_t w = 0; w < window; w++) {
      for (int64_t j = 0; j < s->l; j++) {
        int64_t plain = (i * s->l + j) * window + w, turned = (i * window + w) * s->l + j;
        put(to, to_type, back ? plain : turned, number(from, from_type, back ? turned : plain));
      }
    }
  }
}

static status_t turned_weights(struct plan *p, struct windows *s, void *const *operands, char *scratch, void **out) {
  const struct tensor_desc *d = operand(&p->op, s->weights);
  *out = s->kept ? s->kept : scratch + s->weights_at;
  if (s->kept) return OK;
  if (p->op.constant >> s->weights & 1) {
    TRY(mem_alloc(&s->kept, (size_t)desc_count(d), dtype_bytes(s->inner)));
    *out = s->kept;
  }
  turn_weights(s, p->b->base.threads, false, operands[s->weights], d->dtype, *out, s->inner);
  return OK;
}

// The tensor in the type of the product: itself, or cast into scratch at `at`.
static void *inner_of(struct plan *p, const struct windows *s, int i, void *const *operands, char *scratch, size_t at) {
  const struct tensor_desc *d = operand(&p->op, i);
  if (d->dtype == s->inner) return operands[i];
  struct view from = view_of(d, operands[i]), to = {scratch + at, s->inner};
  p->b->kernels->pointwise->cast(p->b->base.threads, desc_count(d), from, to);
  return to.data;
}

static const float *bias_of(const struct plan *p, const struct windows *s, void *const *operands, char *scratch) {
  if (s->bias < 0) return NULL;
  const struct tensor_desc *d = operand(&p->op, s->bias);
  float *out = (float *)(void *)(scratch + s->bias_at);
  int64_t n = desc_count(d), repeat = s->way == TO_LARGE ? s->kw : 1;
  for (int64_t r = 0; r < repeat; r++) {
    for (int64_t i = 0; i < n; i++) out[r * n + i] = number(operands[s->bias], d->dtype, i);
  }
  return out;
}

static status_t run_small(struct plan *p, void *const *operands, char *scratch) {
  struct windows *s = p->state;
  const struct tensor_desc *y = &p->op.out[0];
  void *w;
  TRY(turned_weights(p, s, operands, scratch, &w));
  char *large = inner_of(p, s, s->large, operands, scratch, s->large_at), *matrix = scratch + s->matrix_at;
  bool cast = s->inner == DTYPE_F32 && y->dtype != DTYPE_F32;
  char *small = cast ? scratch + s->small_at : operands[s->small];
  primitive_point(&s->product, DNNL_ARG_SRC, matrix);
  primitive_point(&s->product, DNNL_ARG_WEIGHTS, w);
  primitive_point(&s->product, DNNL_ARG_BIAS, (void *)(uintptr_t)bias_of(p, s, operands, scratch));
  int post = layer_residual(&p->op);
  int64_t places = s->images * s->h * s->w;
  for (int64_t i = 0; i < s->batch; i += s->images) {
    char *from = large + (size_t)(i * s->h * s->w * s->run) * dtype_bytes(s->inner);
    p->b->kernels->picture->gather(p->b->base.threads, s->images, s->h, s->w, s->kh, s->kw, s->l,
                                   (struct view){from, s->inner}, (struct view){matrix, s->inner});
    size_t done = (size_t)(i / s->images * places * s->s);
    primitive_point(&s->product, DNNL_ARG_DST, small + done * dtype_bytes(cast ? DTYPE_F32 : y->dtype));
    if (s->residual >= 0) {
      size_t bytes = dtype_bytes(operand(&p->op, s->residual)->dtype);
      primitive_point(&s->product, post, (char *)operands[s->residual] + done * bytes);
    }
    TRY(primitive_run(p, &s->product, scratch));
  }
  if (cast) {
    p->b->kernels->pointwise->cast(p->b->base.threads, desc_count(y), (struct view){small, DTYPE_F32},
                                   view_of(y, operands[s->small]));
  }
  return OK;
}

static status_t run_large(struct plan *p, void *const *operands, char *scratch) {
  struct windows *s = p->state;
  const struct tensor_desc *y = &p->op.out[0];
  void *w;
  TRY(turned_weights(p, s, operands, scratch, &w));
  char *small = inner_of(p, s, s->small, operands, scratch, s->small_at), *matrix = scratch + s->matrix_at;
  const float *bias = bias_of(p, s, operands, scratch);
  primitive_point(&s->product, DNNL_ARG_WEIGHTS, w);
  primitive_point(&s->product, DNNL_ARG_DST, matrix);
  for (int64_t i = 0; i < s->batch; i += s->images) {
    size_t place = (size_t)(i * s->h * s->w);
    primitive_point(&s->product, DNNL_ARG_SRC, small + place * (size_t)s->s * dtype_bytes(s->inner));
    TRY(primitive_run(p, &s->product, scratch));
    char *to = (char *)operands[s->large] + place * (size_t)s->run * dtype_bytes(y->dtype);
    p->b->kernels->picture->scatter(p->b->base.threads, p->op.attr.activation, s->images, s->h, s->w, s->kh, s->kw,
                                    s->l, (const float *)(void *)matrix, bias, view_of(y, to));
  }
  return OK;
}

static status_t run_weights(struct plan *p, void *const *operands, char *scratch) {
  struct windows *s = p->state;
  const struct op *op = &p->op;
  int threads = p->b->base.threads;
  char *small = inner_of(p, s, s->small, operands, scratch, s->small_at), *matrix = scratch + s->matrix_at;
  char *large = inner_of(p, s, s->large, operands, scratch, s->large_at), *turned = scratch + s->weights_at;
  p->b->kernels->picture->gather(threads, s->batch, s->h, s->w, s->kh, s->kw, s->l, (struct view){large, s->inner},
                                 (struct view){matrix, s->inner});
  primitive_point(&s->product, DNNL_ARG_SRC, small);
  primitive_point(&s->product, DNNL_ARG_WEIGHTS, matrix);
  primitive_point(&s->product, DNNL_ARG_DST, turned);
  TRY(primitive_run(p, &s->product, scratch));
  turn_weights(s, threads, true, turned, DTYPE_F32, operands[s->weights], op->out[0].dtype);
  if (s->bias >= 0) {
    p->b->kernels->reduce->columns(threads, desc_rows(&op->in[0]), desc_columns(&op->in[0]),
                                   view_of(&op->in[0], operands[0]), view_of(&op->out[1], operands[s->bias]),
                                   (float *)(void *)(scratch + s->sum_at));
  }
  return OK;
}

static void windows_reset(struct plan *p) {
  struct windows *s = p->state;
  mem_free(&s->kept);
}

static void windows_release(struct plan *p) {
  struct windows *s = p->state;
  if (!s) return;
  primitive_destroy(&s->product);
  mem_free(&s->kept);
  mem_free(&p->state);
}

status_t windows_create(struct plan *p) {
  static status_t (*const run[])(struct plan *, void *const *, char *) = {run_small, run_large, run_weights};
  struct windows *s;
  TRY(mem_alloc(&s, 1, sizeof *s));
  p->state = s;
  p->release = windows_release;
  p->reset = windows_reset;
  describe(p, s);
  p->run = run[s->way];
  const struct op *op = &p->op;
  size_t f = sizeof(float); // fp32 is the widest that anything here becomes
  if (operand(op, s->small)->dtype != s->inner) {
    s->small_at = plan_reserve(p, f * (size_t)desc_count(operand(op, s->small)));
  }
  if (operand(op, s->large)->dtype != s->inner) {
    s->large_at = plan_reserve(p, f * (size_t)desc_count(operand(op, s->large)));
  }
  s->matrix_at = plan_reserve(p, f * (size_t)(s->images * s->h * s->w * s->run));
  s->weights_at = plan_reserve(p, f * (size_t)desc_count(operand(op, s->weights)));
  s->bias_at = plan_reserve(p, f * (size_t)(s->kw * s->l + s->s));
  s->sum_at = plan_reserve(p, f * REDUCE_CHUNKS * (size_t)(s->s + s->l + 16));
  return create_product(p, s);
}
