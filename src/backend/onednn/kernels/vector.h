// vector.h: sixteen floats at a time, in GCC's vector extensions. The width is the same on every machine (the compiler
// splits it where registers are narrower), so that an order of summation does not depend on the instruction set.
// Files of this folder are compiled once for each instruction set; K(name) is the name of this compilation's copy.
#ifndef GRIDSEG_BACKEND_ONEDNN_KERNELS_VECTOR_H
#define GRIDSEG_BACKEND_ONEDNN_KERNELS_VECTOR_H

#include "tensor/tensor.h"

#include <omp.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define K_JOIN_(a, b) a##_##b
#define K_JOIN(a, b)  K_JOIN_(a, b)
#define K(name)       K_JOIN(name, KERNEL_ISA)
#define INLINE        static inline __attribute__((always_inline, unused))

enum { VL = 16, PANEL = 64 }; // PANEL: columns of a packed operand of a product
typedef float vf __attribute__((vector_size(64), may_alias));
typedef float vf_mem __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(64), may_alias));
typedef uint32_t vu __attribute__((vector_size(64), may_alias));
typedef uint16_t vh __attribute__((vector_size(32), may_alias));
typedef uint16_t vh_mem __attribute__((vector_size(32), aligned(2), may_alias));
typedef float v8 __attribute__((vector_size(32), may_alias));

INLINE vf v_load(const float *p) {
  return *(const vf_mem *)p;
}
INLINE void v_store(float *p, vf v) {
  *(vf_mem *)p = v;
}
INLINE vf v_set(float x) {
  return x - (vf){0};
}
INLINE vf v_select(vi mask, vf a, vf b) {
  return (vf)((mask & (vi)a) | (~mask & (vi)b));
}
INLINE vf v_max(vf a, vf b) {
#ifdef __AVX512F__
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#else
  return v_select(a > b, a, b);
#endif
}
INLINE vf v_min(vf a, vf b) {
#ifdef __AVX512F__
  return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#else
  return v_select(a < b, a, b);
#endif
}
INLINE vf v_abs(vf a) {
  return (vf)((vi)a & 0x7fffffff);
}

// Sum and maximum of the lanes, in one fixed tree.
INLINE float v_sum(vf v) {
  float f[VL];
  v_store(f, v);
  for (int n = VL / 2; n; n /= 2) {
    for (int i = 0; i < n; i++) f[i] += f[i + n];
  }
  return f[0];
}
INLINE float v_peak(vf v) {
  float f[VL];
  v_store(f, v);
  for (int n = VL / 2; n; n /= 2) {
    for (int i = 0; i < n; i++) f[i] = f[i] > f[i + n] ? f[i] : f[i + n];
  }
  return f[0];
}

INLINE vf v_from_bf16(vh h) {
#ifdef __AVX512F__
  return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)h), 16);
#endif
  return (vf)(__builtin_convertvector(h, vu) << 16);
}
// Round to nearest even, NaN stays NaN.
INLINE vh v_to_bf16(vf x) {
#ifdef __AVX512BF16__
  return (vh)_mm512_cvtneps_pbh((__m512)x);
#endif
  vu u = (vu)x;
  vu rounded = (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
  vu quiet = (u >> 16) | 0x40;
  vu nan = (vu)((u & 0x7fffffffu) > 0x7f800000u);
  return __builtin_convertvector((nan & quiet) | (~nan & rounded), vh);
}

// Sixteen elements at index i of an fp32 or bf16 tensor, and the first n < 16 of them (the rest read as 0).
INLINE vf v_read(const void *p, dtype_t type, int64_t i) {
  if (type == DTYPE_F32) return v_load((const float *)p + i);
  return v_from_bf16(*(const vh_mem *)((const uint16_t *)p + i));
}
INLINE void v_write(void *p, dtype_t type, int64_t i, vf v) {
  if (type == DTYPE_F32) {
    v_store((float *)p + i, v);
  } else {
    *(vh_mem *)((uint16_t *)p + i) = v_to_bf16(v);
  }
}
INLINE vf v_read_part(const void *p, dtype_t type, int64_t i, int64_t n) {
  float f[VL] = {0};
  for (int64_t j = 0; j < n; j++) {
    f[j] = type == DTYPE_F32 ? ((const float *)p)[i + j] : bf16_to_f32(((const uint16_t *)p)[i + j]);
  }
  return v_load(f);
}
INLINE void v_write_part(void *p, dtype_t type, int64_t i, int64_t n, vf v) {
  float f[VL];
  v_store(f, v);
  for (int64_t j = 0; j < n; j++) {
    if (type == DTYPE_F32) {
      ((float *)p)[i + j] = f[j];
    } else {
      ((uint16_t *)p)[i + j] = f32_to_bf16(f[j]);
    }
  }
}
// min(left, 16) elements.
INLINE vf v_take(const void *p, dtype_t type, int64_t i, int64_t left) {
  return left >= VL ? v_read(p, type, i) : v_read_part(p, type, i, left);
}
INLINE void v_put(void *p, dtype_t type, int64_t i, int64_t left, vf v) {
  if (left >= VL) {
    v_write(p, type, i, v);
  } else {
    v_write_part(p, type, i, left, v);
  }
}

// Inside a parallel region: this thread's share [begin,end) of n items, in multiples of `grain`.
INLINE void share(int64_t n, int64_t grain, int64_t *begin, int64_t *end) {
  int64_t part = omp_get_thread_num(), parts = omp_get_num_threads(), blocks = (n + grain - 1) / grain;
  *begin = blocks * part / parts * grain;
  *end = blocks * (part + 1) / parts * grain;
  if (*begin > n) *begin = n;
  if (*end > n) *end = n;
}
// Threads worth waking for n elements of light work.
INLINE int team(int threads, int64_t n) {
  int64_t most = n / 8192 + 1;
  return most < threads ? (int)most : threads;
}

#endif
