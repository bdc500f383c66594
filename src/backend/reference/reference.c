// reference.c: the backend around the loops: operands are widened to double, the operation of its kind runs, results are
// rounded once. Every output goes through memory of its own, so any output may share memory with any like input.
#include "backend/reference/reference.h"

#include "backend/reference/inside.h"
#include "base/mem.h"

#include <string.h>

struct plan {
  struct op op;
  size_t scratch_bytes;
};

static status_t (*const run_kind[OP_KINDS])(const struct run *) = {
    [OP_LINEAR] = run_linear,
    [OP_CONV] = run_conv,
    [OP_CONV_TRANSPOSE] = run_conv,
    [OP_CONV_EACH] = run_conv_each,
    [OP_ACTIVATION] = run_activation,
    [OP_ADD] = run_binary,
    [OP_MULTIPLY] = run_binary,
    [OP_SUM_TO] = run_sum_to,
    [OP_EXPAND] = run_expand,
    [OP_LAYERNORM] = run_layernorm,
    [OP_BATCHNORM_SUMS] = run_batchnorm_sums,
    [OP_BATCHNORM_MOMENTS] = run_batchnorm_moments,
    [OP_BATCHNORM] = run_batchnorm,
    [OP_BATCHNORM_FOLD] = run_batchnorm_fold,
    [OP_DOUBLED_KERNEL] = run_doubled_kernel,
    [OP_DROPOUT] = run_dropout,
    [OP_ATTENTION] = run_attention,
    [OP_EMBED] = run_embed,
    [OP_TAKE_ROW] = run_take_row,
    [OP_TAKE_PLANE] = run_take_plane,
    [OP_POOL] = run_pool,
    [OP_CONCAT] = run_concat,
    [OP_SLICE] = run_slice,
    [OP_TRANSPOSE] = run_transpose,
    [OP_CAST] = run_cast,
    [OP_RESIZE] = run_resize,
    [OP_PIXELS] = run_pixels,
    [OP_SEGMENT_LOSS] = run_segment_loss,
    [OP_SUM_SQUARES] = run_sum_squares,
    [OP_ADAMW] = run_adamw,
};

static bool is_float(dtype_t t) {
  return t == DTYPE_F32 || t == DTYPE_F64 || t == DTYPE_BF16;
}

// Conversion of n elements, and of their double values back.
static void widen(double *to, const void *from, dtype_t type, int64_t n) {
  const float *f = from;
  const double *d = from;
  const uint16_t *h = from;
  for (int64_t i = 0; i < n; i++) to[i] = type == DTYPE_F64 ? d[i] : type == DTYPE_F32 ? f[i] : bf16_to_f32(h[i]);
}

static void narrow(void *to, const double *from, dtype_t type, int64_t n) {
  float *f = to;
  double *d = to;
  uint16_t *h = to;
  for (int64_t i = 0; i < n; i++) {
    if (type == DTYPE_F64) d[i] = from[i];
    if (type == DTYPE_F32) f[i] = (float)from[i];
    if (type == DTYPE_BF16) h[i] = f32_to_bf16((float)from[i]);
  }
}

static size_t doubles_of(const struct tensor_desc *d) {
  return is_float(d->dtype) ? (size_t)desc_count(d) : 0;
}

static const char *reference_numerics(const struct backend *b) {
  (void)b;
  return "reference-1";
}

static void reference_destroy(struct backend **b) {
  mem_free(b);
}

static status_t reference_alloc(struct backend *b, size_t bytes, void **out) {
  (void)b;
  return mem_alloc(out, bytes, 1);
}

static void reference_free(struct backend *b, void **memory) {
  (void)b;
  mem_free(memory);
}

static status_t reference_copy(struct backend *b, void *to, const void *from, size_t bytes, struct stream *stream) {
  (void)b, (void)stream;
  if (bytes) memcpy(to, from, bytes);
  return OK;
}

static status_t reference_zero(struct backend *b, void *memory, size_t bytes, struct stream *stream) {
  (void)b, (void)stream;
  if (bytes) memset(memory, 0, bytes);
  return OK;
}

static bool reference_supports(const struct backend *b, const struct op *op) {
  (void)b;
  bool fits = op_check(op) == OK;
  if (!fits) status_clear();
  return fits && run_kind[op->kind];
}

static status_t scratch_bytes(const struct op *op, size_t *out) {
  size_t n = reference_work(op);
  for (int i = 0; i < op->inputs + op->outputs; i++) {
    const struct tensor_desc *d = i < op->inputs ? &op->in[i] : &op->out[i - op->inputs];
    if (!size_add(n, doubles_of(d), &n)) return FAIL(ERR_NOMEM, "the scratch memory of an operation overflows");
  }
  if (!size_mul(n, sizeof(double), out)) return FAIL(ERR_NOMEM, "the scratch memory of an operation overflows");
  return OK;
}

static status_t reference_plan_create(struct backend *b, const struct op *op, struct plan **out) {
  (void)b;
  *out = NULL;
  size_t bytes = 0;
  struct plan *plan;
  TRY(op_check(op));
  if (!run_kind[op->kind]) return FAIL(ERR_UNSUPPORTED, "no backend does %s", op_kind_name(op->kind));
  TRY(scratch_bytes(op, &bytes));
  TRY(mem_alloc(&plan, 1, sizeof *plan));
  plan->op = *op;
  plan->scratch_bytes = bytes;
  *out = plan;
  return OK;
}

static void reference_plan_destroy(struct plan **plan) {
  mem_free(plan);
}

static size_t reference_plan_scratch(const struct plan *plan) {
  return plan->scratch_bytes;
}

static bool reference_in_place(const struct backend *b, const struct op *op, int out, int in) {
  (void)b;
  return op->in[in].dtype != DTYPE_NONE && desc_equal(&op->in[in], &op->out[out]);
}

static status_t reference_plan_run(struct plan *plan, void *const *operands, void *scratch, struct stream *stream) {
  (void)stream;
  const struct op *op = &plan->op;
  struct run r = {.op = op};
  double *next = scratch;
  for (int i = 0; i < op->inputs; i++) {
    const struct tensor_desc *d = &op->in[i];
    if (d->dtype == DTYPE_NONE) continue;
    r.raw[i] = operands[i];
    if (!is_float(d->dtype)) continue;
    widen(next, operands[i], d->dtype, desc_count(d));
    r.in[i] = next;
    next += doubles_of(d);
  }
  for (int i = 0; i < op->outputs; i++) {
    if (op->out[i].dtype == DTYPE_NONE) continue;
    r.raw_out[i] = operands[op->inputs + i];
    if (!is_float(op->out[i].dtype)) continue;
    r.out[i] = next;
    next += doubles_of(&op->out[i]);
  }
  r.work = next;
  TRY(run_kind[op->kind](&r));
  for (int i = 0; i < op->outputs; i++) {
    if (r.out[i]) narrow(operands[op->inputs + i], r.out[i], op->out[i].dtype, desc_count(&op->out[i]));
  }
  return OK;
}

static void reference_plan_reset(struct plan *plan) {
  (void)plan; // nothing is packed
}

static const struct backend_ops reference_ops = {
    .name = "reference",
    .numerics = reference_numerics,
    .destroy = reference_destroy,
    .alloc = reference_alloc,
    .free = reference_free,
    .copy_in = reference_copy,
    .copy_out = reference_copy,
    .fill_zero = reference_zero,
    .supports = reference_supports,
    .plan_create = reference_plan_create,
    .plan_destroy = reference_plan_destroy,
    .plan_scratch = reference_plan_scratch,
    .in_place = reference_in_place,
    .plan_run = reference_plan_run,
    .plan_reset = reference_plan_reset,
};

status_t reference_backend_create(int threads, struct backend **out) {
  (void)threads;
  struct backend *b;
  *out = NULL;
  TRY(mem_alloc(&b, 1, sizeof *b));
  b->ops = &reference_ops;
  b->threads = 1;
  *out = b;
  return OK;
}
