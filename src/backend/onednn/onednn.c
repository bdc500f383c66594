// onednn.c: the vtable of the oneDNN backend.
#include "backend/onednn/onednn.h"

#include "backend/onednn/inside.h"
#include "base/mem.h"
#include "base/parallel.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

// Part of numerics(): raised whenever a kernel of this folder may give other bits.
enum { KERNEL_VERSION = 7 };

static const struct op_class *const classes[OP_KINDS] = {
    [OP_LINEAR] = &linear_class,
    [OP_CONV] = &conv_class,
    [OP_CONV_TRANSPOSE] = &conv_transpose_class,
    [OP_ACTIVATION] = &activation_class,
    [OP_ADD] = &combine_class,
    [OP_MULTIPLY] = &combine_class,
    [OP_SUM_TO] = &sum_to_class,
    [OP_EXPAND] = &expand_class,
    [OP_LAYERNORM] = &layernorm_class,
    [OP_BATCHNORM_SUMS] = &batchnorm_sums_class,
    [OP_BATCHNORM_MOMENTS] = &batchnorm_moments_class,
    [OP_BATCHNORM] = &batchnorm_class,
    [OP_BATCHNORM_FOLD] = &batchnorm_fold_class,
    [OP_DOUBLED_KERNEL] = &doubled_kernel_class,
    [OP_DROPOUT] = &dropout_class,
    [OP_ATTENTION] = &attention_class,
    [OP_EMBED] = &embed_class,
    [OP_TAKE_ROW] = &take_row_class,
    [OP_TAKE_PLANE] = &take_plane_class,
    [OP_POOL] = &pool_class,
    [OP_CONV_EACH] = &conv_each_class,
    [OP_CONCAT] = &concat_class,
    [OP_SLICE] = &slice_class,
    [OP_TRANSPOSE] = &transpose_class,
    [OP_CAST] = &cast_class,
    [OP_RESIZE] = &resize_class,
    [OP_PIXELS] = &pixels_class,
    [OP_SEGMENT_LOSS] = &segment_loss_class,
    [OP_SUM_SQUARES] = &sum_squares_class,
    [OP_ADAMW] = &adamw_class,
};

static const struct onednn *of(const struct backend *b) {
  return (const struct onednn *)(const void *)b;
}

bool op_is_single(const struct op *op) {
  for (int i = 0; i < op->inputs + op->outputs; i++) {
    dtype_t t = i < op->inputs ? op->in[i].dtype : op->out[i - op->inputs].dtype;
    if (t == DTYPE_F64 || t == DTYPE_F16) return false;
  }
  return true;
}

size_t plan_reserve(struct plan *p, size_t bytes) {
  size_t at = p->scratch;
  p->scratch += size_round_up(bytes, MEM_ALIGN);
  return at;
}

// Denormals to zero and OpenMP's thread count, for the calling thread and its team. Both belong to threads, not to the
// backend, so each host thread that runs plans is made ready once.
static void make_ready(int threads) {
  static _Thread_local int ready;
  omp_set_num_threads(threads);
  if (ready >= threads) return;
#ifdef __SSE2__
#pragma omp parallel num_threads(threads)
  _mm_setcsr(_mm_getcsr() | 0x8040); // FTZ, DAZ
#endif
  ready = threads;
}

static const char *onednn_numerics(const struct backend *b) {
  return of(b)->numerics;
}

static void onednn_destroy(struct backend **b) {
  struct onednn *o = (struct onednn *)(void *)*b;
  if (!o) return;
  if (o->stream) (void)dnnl_stream_destroy(o->stream);
  if (o->engine) (void)dnnl_engine_destroy(o->engine);
  mem_free(b);
}

static status_t onednn_alloc(struct backend *b, size_t bytes, void **out) {
  (void)b;
  return mem_alloc(out, bytes, 1);
}

static void onednn_free(struct backend *b, void **memory) {
  (void)b;
  mem_free(memory);
}

static status_t onednn_copy(struct backend *b, void *to, const void *from, size_t bytes, struct stream *stream) {
  (void)b, (void)stream;
  if (bytes) memcpy(to, from, bytes);
  return OK;
}

static status_t onednn_zero(struct backend *b, void *memory, size_t bytes, struct stream *stream) {
  (void)b, (void)stream;
  if (bytes) memset(memory, 0, bytes);
  return OK;
}

static bool onednn_supports(const struct backend *b, const struct op *op) {
  if (op_check(op) != OK) {
    status_clear();
    return false;
  }
  return classes[op->kind] && classes[op->kind]->supports(of(b), op);
}

static void onednn_plan_destroy(struct plan **plan) {
  if (!*plan) return;
  if ((*plan)->release) (*plan)->release(*plan);
  mem_free(plan);
}

static status_t onednn_plan_create(struct backend *b, const struct op *op, struct plan **out) {
  char text[OP_TEXT];
  struct plan *p;
  *out = NULL;
  TRY(op_check(op));
  if (!classes[op->kind] || !classes[op->kind]->supports(of(b), op)) {
    return FAIL(ERR_UNSUPPORTED, "the onednn backend does not do %s", op_text(op, text));
  }
  make_ready(b->threads);
  TRY(mem_alloc(&p, 1, sizeof *p));
  p->b = (struct onednn *)(void *)b;
  p->op = *op;
  status_t st = classes[op->kind]->create(p);
  if (st != OK) {
    (void)status_trace(st, __FILE__, __LINE__, "create");
    onednn_plan_destroy(&p);
  }
  *out = p;
  return st;
}

static size_t onednn_plan_scratch(const struct plan *plan) {
  return plan->scratch;
}

static bool onednn_in_place(const struct backend *b, const struct op *op, int out, int in) {
  (void)b;
  const struct op_class *class = classes[op->kind];
  if (op->in[in].dtype == DTYPE_NONE || !desc_equal(&op->in[in], &op->out[out])) return false;
  return class->in_place && class->in_place(op, out, in);
}

static status_t onednn_plan_run(struct plan *plan, void *const *operands, void *scratch, struct stream *stream) {
  (void)stream;
  make_ready(plan->b->base.threads);
  return plan->run(plan, operands, scratch);
}

static void onednn_plan_reset(struct plan *plan) {
  if (plan->reset) plan->reset(plan);
}

static const struct backend_ops onednn_ops = {
    .name = "onednn",
    .numerics = onednn_numerics,
    .destroy = onednn_destroy,
    .alloc = onednn_alloc,
    .free = onednn_free,
    .copy_in = onednn_copy,
    .copy_out = onednn_copy,
    .fill_zero = onednn_zero,
    .supports = onednn_supports,
    .plan_create = onednn_plan_create,
    .plan_destroy = onednn_plan_destroy,
    .plan_scratch = onednn_plan_scratch,
    .in_place = onednn_in_place,
    .plan_run = onednn_plan_run,
    .plan_reset = onednn_plan_reset,
};

status_t onednn_backend_create(int threads, struct backend **out) {
  struct onednn *o;
  *out = NULL;
  TRY(mem_alloc(&o, 1, sizeof *o));
  o->base.ops = &onednn_ops;
  o->base.threads = threads > 0 ? threads : parallel_cores();
  struct backend *b = &o->base;
  if (dnnl_engine_create(&o->engine, dnnl_cpu, 0) != dnnl_success ||
      dnnl_stream_create(&o->stream, o->engine, dnnl_stream_default_flags) != dnnl_success) {
    onednn_destroy(&b);
    return FAIL(ERR_BACKEND, "oneDNN gives no CPU engine");
  }
  o->kernels = kernels_choose();
  dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  o->bf16 = (isa & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core;
  if ((isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16) o->base.capabilities |= BACKEND_BF16;
  const dnnl_version_t *v = dnnl_version();
  (void)snprintf(o->numerics, sizeof o->numerics, "onednn-%d.%d.%d-isa%x-kernels%d-%s", v->major, v->minor, v->patch,
                 (unsigned)isa, KERNEL_VERSION, o->kernels->isa);
  *out = b;
  return OK;
}
