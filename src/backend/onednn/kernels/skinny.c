// skinny.c: the product of two tall matrices, out[wide,narrow] = A' B with A[rows,wide], B[rows,narrow], and the sums of A's
// columns on the way: the gradient of a LINEAR between a wide and a narrow side, which oneDNN does at 60 to 65 % of its
// best together with the bias (Zen 5, [1940,2048]' [1940,64], fp32; here 85 %).
#include "backend/onednn/kernels/kernels.h"
#include "backend/onednn/kernels/product.h"

// Of one step: A's block and the block of the result stay in the second cache. PIECE is a multiple of every tile height.
enum { ROWS = 128, PIECE = 516 };

// sum[0,n) (+)= the columns of A's block, which the product has just brought into the cache.
static void column_sums(int64_t rows, int64_t wide, const float *a, int64_t n, bool first, float *sum) {
  int64_t j = 0;
  for (; j + 8 * VL <= n; j += 8 * VL) {
    vf s[8] = {0};
    for (int64_t r = 0; r < rows; r++) {
      for (int v = 0; v < 8; v++) s[v] += v_load(a + r * wide + j + v * VL);
    }
    for (int v = 0; v < 8; v++) {
      if (!first) s[v] += v_load(sum + j + v * VL);
      v_store(sum + j + v * VL, s[v]);
    }
  }
  for (; j < n; j += VL) {
    vf s = {0};
    for (int64_t r = 0; r < rows; r++) s += v_take(a + r * wide, DTYPE_F32, j, n - j);
    if (!first) s += v_take(sum, DTYPE_F32, j, n - j);
    v_put(sum, DTYPE_F32, j, n - j, s);
  }
}

// to[narrow,wide] = from[wide,narrow]', columns [begin,end).
static void turn(int64_t wide, int64_t narrow, int64_t begin, int64_t end, const float *from, float *to) {
  for (int64_t i = begin; i < end; i += VL) {
    int64_t n = end - i < VL ? end - i : VL;
    for (int64_t j = 0; j < narrow; j++) {
      for (int64_t k = 0; k < n; k++) to[j * wide + i + k] = from[(i + k) * narrow + j];
    }
  }
}

static void skinny_piece(int64_t rows, int64_t wide, int64_t narrow, const float *a, const float *b, int64_t n,
                         float *out, float *sums) {
  for (int64_t r = 0; r < rows; r += ROWS) {
    int64_t k = rows - r < ROWS ? rows - r : ROWS;
    product_run(&(struct product){.m = n,
                                  .n = narrow,
                                  .k = k,
                                  .a = a + r * wide,
                                  .a_row = 1,
                                  .a_k = wide,
                                  .b = b + r * narrow,
                                  .b_k = narrow,
                                  .panel = PANEL,
                                  .c = out,
                                  .c_row = narrow,
                                  .accumulate = r > 0});
    if (sums) column_sums(k, wide, a + r * wide, n, r == 0, sums);
  }
}

static void skinny(int threads, int64_t rows, int64_t wide, int64_t narrow, const float *a, const float *b, float *out,
                   float *turned, float *sums) {
#pragma omp parallel num_threads(threads)
  {
    int64_t begin, end;
    share(wide, 12, &begin, &end);
    for (int64_t j = begin; j < end; j += PIECE) {
      int64_t n = end - j < PIECE ? end - j : PIECE;
      skinny_piece(rows, wide, narrow, a + j, b, n, out + j * narrow, sums ? sums + j : NULL);
    }
    if (turned) turn(wide, narrow, begin, end, out, turned);
  }
}

const struct product_kernels K(product_kernels) = {.skinny = skinny};
