// op_values.c: numbers for the cases of op_cases.c.
#include "op_cases.h"

#include "backend/reference/reference.h"
#include "base/mem.h"
#include "base/rng.h"

#include <math.h>
#include <string.h>

static bool is_float(dtype_t t) {
  return t == DTYPE_F32 || t == DTYPE_F64 || t == DTYPE_BF16;
}

bool op_is_statistic(const struct op *op, bool out, int i) {
  bool forward = op->direction == FORWARD;
  switch (op->kind) {
  case OP_LAYERNORM:
    if (forward) return out && i > 0;
    return !out && (op->direction == BACKWARD_DATA ? i == 3 || i == 4 : i == 2 || i == 3);
  case OP_ATTENTION: return forward ? out && i == 1 : !out && i == 5;
  case OP_BATCHNORM_MOMENTS: return out || i > 0;
  case OP_BATCHNORM: return !out && (forward ? i == 1 || i == 2 : i == 2 || i == 3);
  case OP_BATCHNORM_FOLD: return !out && (i == 2 || i == 3);
  case OP_SEGMENT_LOSS: return forward ? out : !out && i >= 2;
  case OP_SUM_SQUARES: return out;
  default: return false;
  }
}

bool op_is_sum(const struct op *op, bool out, int i) {
  switch (op->kind) {
  case OP_ADAMW: return !out && i == 5;
  case OP_EXCHANGE: return true;
  case OP_BATCHNORM_SUMS: return out;
  case OP_BATCHNORM_MOMENTS: return !out && i == 0;
  case OP_BATCHNORM: return op->direction == BACKWARD_DATA ? !out && i >= 5 : out && i == 2;
  default: return false;
  }
}

struct op op_of_type(const struct op *op, dtype_t type) {
  struct op result = *op;
  for (int k = 0; k < op->inputs + op->outputs; k++) {
    bool out = k >= op->inputs;
    int i = out ? k - op->inputs : k;
    struct tensor_desc *d = out ? &result.out[i] : &result.in[i];
    if (!is_float(d->dtype) || op_is_sum(op, out, i)) continue;
    // The types of a CAST are its meaning; only the oracle, f64, changes them.
    if (op->kind == OP_CAST && type != DTYPE_F64) continue;
    d->dtype = op_is_statistic(op, out, i) && type != DTYPE_F64 ? DTYPE_F32 : type;
  }
  return result;
}

static status_t allocate(const struct tensor_desc *d, void **out) {
  *out = NULL;
  if (d->dtype == DTYPE_NONE) return OK;
  return mem_alloc(out, (size_t)desc_count(d), is_float(d->dtype) ? sizeof(double) : dtype_bytes(d->dtype));
}

status_t op_values_allocate(const struct op *op, struct op_values *out) {
  memset(out, 0, sizeof *out);
  for (int i = 0; i < op->inputs; i++) TRY(allocate(&op->in[i], &out->in[i]));
  for (int i = 0; i < op->outputs; i++) TRY(allocate(&op->out[i], &out->out[i]));
  return OK;
}

void op_values_destroy(struct op_values *v) {
  for (int i = 0; i < OP_MAX_IN; i++) mem_free(&v->in[i]);
  for (int i = 0; i < OP_MAX_OUT; i++) mem_free(&v->out[i]);
}

static void round_to(double *x, int64_t n, dtype_t type) {
  for (int64_t i = 0; i < n; i++) {
    if (type == DTYPE_F32) x[i] = (float)x[i];
    if (type == DTYPE_BF16) x[i] = bf16_to_f32(f32_to_bf16((float)x[i]));
  }
}

static void fill_normal(double *x, int64_t n, double amplitude, uint64_t stream) {
  struct rng r;
  rng_init(&r, 1, stream);
  for (int64_t i = 0; i < n; i++) x[i] = amplitude * rng_normal(&r);
}

// Index operands: the ends of the range come first, then any.
static void fill_index(const struct op *op, int at, int32_t *x, int64_t n) {
  struct rng r;
  rng_init(&r, 2, (uint64_t)at);
  int64_t low = op->kind == OP_ATTENTION ? 1 : 0, high;
  if (op->kind == OP_DROPOUT || (op->kind == OP_ATTENTION && at == 4)) { // noise: any words
    for (int64_t i = 0; i < n; i++) x[i] = (int32_t)rng_u32(&r);
    return;
  }
  high = op->kind == OP_EMBED        ? op->in[1].dim[0] - 1
         : op->kind == OP_ATTENTION  ? op->in[1].dim[1]
         : op->kind == OP_TAKE_PLANE ? op->in[0].dim[3] - 1
                                     : op->in[0].dim[1] - 1;
  for (int64_t i = 0; i < n; i++) x[i] = (int32_t)(low + (int64_t)rng_below(&r, (uint64_t)(high - low + 1)));
  x[0] = (int32_t)high;
  if (n > 1) x[1] = (int32_t)low;
}

static void fill_bytes(const struct op_case *c, uint8_t *x, int64_t n) {
  struct rng r;
  rng_init(&r, 3, 0);
  bool mask = c->forward.kind == OP_SEGMENT_LOSS;
  for (int64_t i = 0; i < n; i++) {
    x[i] = (uint8_t)rng_below(&r, c->forward.kind == OP_PIXELS ? 256 : 2);
    if (mask && c->mask != MASK_RANDOM) x[i] = c->mask == MASK_FULL;
  }
}

static void fill_adamw(int at, double *x, int64_t n) {
  static const double scalars[8] = {1e-3, 0.9, 0.999, 1e-8, 1e-2, 1 - 0.9 * 0.9 * 0.9, 1 - 0.999 * 0.999 * 0.999, 0.5};
  if (at == 5) memcpy(x, scalars, sizeof scalars);
  for (int64_t i = 0; i < n && at == 3; i++) x[i] = 0.01 * x[i] * x[i]; // a mean of squares
}

// Variances are positive; the sums of a BATCHNORM_MOMENTS are those of rows with such a mean and variance.
static void fill_batchnorm(const struct op *op, int at, double *x, int64_t n) {
  int64_t channels = op->kind == OP_BATCHNORM_MOMENTS ? n / 2 : n;
  bool var = op->kind == OP_BATCHNORM_MOMENTS ? at == 2 : op->kind == OP_BATCHNORM ? at == 2 : at == 3;
  for (int64_t i = 0; i < n && var; i++) x[i] = 0.05 + x[i] * x[i];
  if (op->kind != OP_BATCHNORM_MOMENTS || at != 0) return;
  x[2 * channels] = 37;
  for (int64_t c = 0; c < channels; c++) {
    x[channels + c] = 37 * (x[c] * x[c] + 0.05 + x[channels + c] * x[channels + c]);
    x[c] *= 37;
  }
}

static void fill_forward(const struct op_case *c, dtype_t type, struct op_values *v) {
  const struct op *op = &c->forward;
  for (int i = 0; i < op->inputs; i++) {
    int64_t n = desc_count(&op->in[i]);
    if (op->in[i].dtype == DTYPE_NONE) continue;
    if (op->in[i].dtype == DTYPE_I32) fill_index(op, i, v->in[i], n);
    if (op->in[i].dtype == DTYPE_U8) fill_bytes(c, v->in[i], n);
    if (!is_float(op->in[i].dtype)) continue;
    double *x = v->in[i];
    fill_normal(x, n, c->amplitude, (uint64_t)i);
    if (op->kind == OP_ADAMW) fill_adamw(i, x, n);
    if (op->kind >= OP_BATCHNORM_MOMENTS && op->kind <= OP_BATCHNORM_FOLD) fill_batchnorm(op, i, x, n);
    // The slope of relu jumps at 0: no difference is taken across it.
    for (int64_t k = 0; k < n && op->kind == OP_ACTIVATION; k++) x[k] += x[k] < 0 ? -0.01 : 0.01;
    bool stat = op_is_statistic(op, false, i) && type == DTYPE_BF16;
    if (op_is_sum(op, false, i)) continue;
    round_to(x, n, op->kind == OP_CAST ? op->in[0].dtype : stat ? DTYPE_F32 : type);
  }
}

status_t op_values_run(const struct op *op, const struct op_values *v) {
  status_t st = OK;
  struct op wide = op_of_type(op, DTYPE_F64);
  struct backend *b = NULL;
  struct plan *plan = NULL;
  void *scratch = NULL, *operands[OP_MAX_IN + OP_MAX_OUT];
  TRY_GOTO(reference_backend_create(1, &b), done);
  TRY_GOTO(b->ops->plan_create(b, &wide, &plan), done);
  TRY_GOTO(mem_alloc(&scratch, b->ops->plan_scratch(plan), 1), done);
  for (int i = 0; i < op->inputs; i++) operands[i] = v->in[i];
  for (int i = 0; i < op->outputs; i++) operands[op->inputs + i] = v->out[i];
  TRY_GOTO(b->ops->plan_run(plan, operands, scratch, NULL), done);
done:
  mem_free(&scratch);
  if (plan) b->ops->plan_destroy(&plan);
  backend_destroy(&b);
  return st;
}

// An operand of a gradient, from those of its forward operation.
static void fill_place(const struct op_case *c, int at, const struct op_values *forward, dtype_t type, void *out) {
  int place = gradient_rule_find(c->op.kind, c->op.direction)->in[at];
  const struct tensor_desc *d = &c->op.in[at];
  int64_t n = desc_count(d);
  activation_t act = c->op.attr.activation;
  bool by_output = act == ACT_RELU || act == ACT_SIGMOID || act == ACT_TANH;
  if (place == FROM_SLOPE) place = by_output ? FROM_OUT : FROM_IN;
  if (place == FROM_SCALE) {
    *(double *)out = 0.25;
  } else if (place == FROM_DSUMS || place == FROM_SUMS) { // as if another rank had as many rows
    fill_normal(out, n, sqrt((double)desc_rows(&c->op.in[0])), 100 + (uint64_t)at);
    if (place == FROM_SUMS) ((double *)out)[n - 1] = 2 * (double)desc_rows(&c->op.in[0]);
    return;
  } else if (place < FROM_IN) {
    fill_normal(out, n, 1, 100 + (uint64_t)at);
  } else {
    const void *from = place >= FROM_OUT ? forward->out[place - FROM_OUT] : forward->in[place - FROM_IN];
    memcpy(out, from, (size_t)n * (is_float(d->dtype) ? sizeof(double) : dtype_bytes(d->dtype)));
  }
  bool stat = op_is_statistic(&c->op, false, at);
  if (is_float(d->dtype)) round_to(out, n, stat && type == DTYPE_BF16 ? DTYPE_F32 : type);
}

status_t op_values_create(const struct op_case *c, bool forward, dtype_t type, struct op_values *out) {
  status_t st = OK;
  struct op_values v;
  TRY(op_values_allocate(&c->forward, &v));
  fill_forward(c, type, &v);
  if (forward || c->op.direction == FORWARD) {
    *out = v;
    return OK;
  }
  TRY_GOTO(op_values_allocate(&c->op, out), done);
  TRY_GOTO(op_values_run(&c->forward, &v), done);
  for (int i = 0; i < c->op.inputs; i++) {
    if (out->in[i]) fill_place(c, i, &v, type, out->in[i]);
  }
done:
  op_values_destroy(&v);
  return st;
}
