// tensor.h: types and shapes. Data is dense and row-major, the last dimension fastest. Layouts, named here once:
//   pictures [B,H,W,C] (NHWC)    tokens [B,T,D]    linear weights [out,in]    convolution weights [O,C,kh,kw]
//   transposed convolution weights [C,O,kh,kw]     (weights as PyTorch stores them)
// B batch, H W image, C channels, T tokens, D width, N heads, L text length.
#ifndef GRIDSEG_TENSOR_TENSOR_H
#define GRIDSEG_TENSOR_TENSOR_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { DTYPE_NONE, DTYPE_F32, DTYPE_F64, DTYPE_BF16, DTYPE_F16, DTYPE_I32, DTYPE_I64, DTYPE_U8 } dtype_t;

size_t dtype_bytes(dtype_t dtype);     // bytes of one element, 0 for DTYPE_NONE
const char *dtype_name(dtype_t dtype); // "fp32", "bf16", ...

enum { TENSOR_MAX_RANK = 6 };

// The type and shape of a tensor; dtype DTYPE_NONE means "no tensor" (an operand that is left out).
struct tensor_desc {
  dtype_t dtype;
  int rank;
  int64_t dim[TENSOR_MAX_RANK];
};

#define TENSOR_DESC(type, ...)                                                                                         \
  ((struct tensor_desc){                                                                                               \
      .dtype = (type), .rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .dim = {__VA_ARGS__}})

// Number of elements (1 for rank 0); dims are known to be checked. desc_check refuses negative dims and products that
// overflow, naming `name`.
int64_t desc_count(const struct tensor_desc *d);
size_t desc_bytes(const struct tensor_desc *d);
status_t desc_check(const struct tensor_desc *d, const char *name);
bool desc_equal(const struct tensor_desc *a, const struct tensor_desc *b);      // dtype and shape
bool desc_same_shape(const struct tensor_desc *a, const struct tensor_desc *b); // shape only
// The product of all dims but the last (rows) and the last dim (columns).
int64_t desc_rows(const struct tensor_desc *d);
int64_t desc_columns(const struct tensor_desc *d);
// "fp32 [4,485,768]" in a caller's buffer; returns it.
enum { DESC_TEXT = 96 };
const char *desc_text(const struct tensor_desc *d, char text[DESC_TEXT]);

static inline float bf16_to_f32(uint16_t x) {
  union {
    uint32_t u;
    float f;
  } v = {.u = (uint32_t)x << 16};
  return v.f;
}

// Round to nearest even, NaN stays NaN.
static inline uint16_t f32_to_bf16(float x) {
  union {
    float f;
    uint32_t u;
  } v = {.f = x};
  if ((v.u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(v.u >> 16 | 0x40);
  return (uint16_t)((v.u + 0x7fffu + (v.u >> 16 & 1)) >> 16);
}

#endif
