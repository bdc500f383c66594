// inside.h: inside of the oneDNN backend: the backend, plans, and the table of operations.
#ifndef GRIDSEG_BACKEND_ONEDNN_INSIDE_H
#define GRIDSEG_BACKEND_ONEDNN_INSIDE_H

#include "backend/backend.h"
#include "backend/onednn/compat.h"
#include "backend/onednn/kernels/kernels.h"

struct onednn {
  struct backend base;
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  const struct kernels *kernels;
  bool bf16; // oneDNN multiplies bf16 here
  char numerics[128];
};

// What a plan runs. `state` belongs to the kind.
struct plan {
  struct onednn *b;
  struct op op;
  size_t scratch; // bytes, grown by plan_reserve
  void *state;
  status_t (*run)(struct plan *p, void *const *operands, char *scratch);
  void (*reset)(struct plan *p);   // NULL: nothing is kept
  void (*release)(struct plan *p); // frees what `state` owns and `state`; NULL: nothing
};

// One kind of operation. create sets p->run and reserves scratch; where it fails it leaves nothing behind but what
// p->release frees.
struct op_class {
  bool (*supports)(const struct onednn *b, const struct op *op); // op_check has passed, no fp64
  status_t (*create)(struct plan *p);
  bool (*in_place)(const struct op *op, int out, int in); // types and shapes agree; NULL: never
};

extern const struct op_class linear_class, conv_class, conv_transpose_class, activation_class, combine_class,
    sum_to_class, expand_class, layernorm_class, batchnorm_sums_class, batchnorm_moments_class, batchnorm_class,
    batchnorm_fold_class, doubled_kernel_class, dropout_class, attention_class, embed_class, take_row_class,
    take_plane_class, pool_class, concat_class, slice_class, transpose_class, cast_class, resize_class, conv_each_class,
    pixels_class, segment_loss_class, sum_squares_class, adamw_class;

// Reserve 64-byte aligned scratch in the plan: the offset.
size_t plan_reserve(struct plan *p, size_t bytes);

static inline bool is_real(dtype_t t) {
  return t == DTYPE_F32 || t == DTYPE_BF16;
}

// All float operands are fp32 or bf16; those that are left out or integer do not matter.
bool op_is_single(const struct op *op);

static inline struct view view_of(const struct tensor_desc *d, void *data) {
  return (struct view){data, d->dtype};
}

#endif
