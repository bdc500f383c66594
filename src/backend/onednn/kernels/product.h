// product.h: small matrix products out of registers: C[m,n] (+)= A[m,k] B[k,n], where n is a multiple of
// 16, A has any strides, and B lies in panels of 64 columns (panel stride `panel`; a plain row-major B has 64).
// 90 % of the peak of a Zen 5 core at k >= 64 when A and B are in its first or second cache.
#ifndef GRIDSEG_BACKEND_ONEDNN_KERNELS_PRODUCT_H
#define GRIDSEG_BACKEND_ONEDNN_KERNELS_PRODUCT_H

#include "backend/onednn/kernels/vector.h"

#if defined(__AVX512F__) // 32 registers of 16 floats
enum { TILE_VECTORS = 4, TILE_ROWS_1 = 12, TILE_ROWS_2 = 12, TILE_ROWS_3 = 8, TILE_ROWS_4 = 6 };
#elif defined(__AVX__) // 16 of 8
enum { TILE_VECTORS = 1, TILE_ROWS_1 = 6, TILE_ROWS_2 = 1, TILE_ROWS_3 = 1, TILE_ROWS_4 = 1 };
#else                  // 16 of 4
enum { TILE_VECTORS = 1, TILE_ROWS_1 = 3, TILE_ROWS_2 = 1, TILE_ROWS_3 = 1, TILE_ROWS_4 = 1 };
#endif

struct product {
  int64_t m, n, k;
  const float *a;
  int64_t a_row, a_k;
  const float *b;
  int64_t b_k, panel;
  float *c;
  int64_t c_row;
  bool accumulate;
};

INLINE void tile(int rows, int vectors, int64_t k, const float *a, int64_t a_row, int64_t a_k, const float *b,
                 int64_t b_k, float *c, int64_t c_row, bool accumulate) {
  vf sum[12][4];
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sum[r][v] = v_set(0);
  }
  for (int64_t i = 0; i < k; i++) {
    vf line[4];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) line[v] = v_load(b + i * b_k + v * VL);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
      vf x = v_set(a[r * a_row + i * a_k]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) sum[r][v] += x * line[v];
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      float *to = c + r * c_row + v * VL;
      if (accumulate) sum[r][v] += v_load(to);
      v_store(to, sum[r][v]);
    }
  }
}

// One column block of `vectors` vectors: full tiles of `rows`, then the remaining rows two and one at a time.
INLINE void strip(int rows, int vectors, const struct product *p, const float *b, float *c) {
  int64_t i = 0;
  for (; i + rows <= p->m; i += rows) {
    tile(rows, vectors, p->k, p->a + i * p->a_row, p->a_row, p->a_k, b, p->b_k, c + i * p->c_row, p->c_row,
         p->accumulate);
  }
  for (; i + 4 <= p->m && rows > 4; i += 4) {
    tile(4, vectors, p->k, p->a + i * p->a_row, p->a_row, p->a_k, b, p->b_k, c + i * p->c_row, p->c_row, p->accumulate);
  }
  for (; i < p->m; i++) {
    tile(1, vectors, p->k, p->a + i * p->a_row, p->a_row, p->a_k, b, p->b_k, c + i * p->c_row, p->c_row, p->accumulate);
  }
}

static void product_run(const struct product *p) {
  for (int64_t j = 0; j < p->n;) {
    int64_t left = (p->n - j) / VL, room = (PANEL - j % PANEL) / VL;
    if (left > room) left = room;
    const float *b = p->b + j / PANEL * p->panel + j % PANEL;
    if (left > TILE_VECTORS) left = TILE_VECTORS;
    switch (left) {
#if defined(__AVX512F__)
    case 4: strip(TILE_ROWS_4, 4, p, b, p->c + j); break;
    case 3: strip(TILE_ROWS_3, 3, p, b, p->c + j); break;
    case 2: strip(TILE_ROWS_2, 2, p, b, p->c + j); break;
#endif
    default: strip(TILE_ROWS_1, 1, p, b, p->c + j); break;
    }
    j += left * VL;
  }
}

#endif
