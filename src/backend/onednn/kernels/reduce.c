// reduce.c: sums over dimensions.
#include "backend/onednn/kernels/kernels.h"
#include "backend/onednn/kernels/vector.h"

static double element(struct view x, int64_t i) {
  return x.type == DTYPE_F32 ? (double)((const float *)x.data)[i] : (double)bf16_to_f32(((const uint16_t *)x.data)[i]);
}

// out[columns] = sum of rows [begin,end) of x. Runs of 64 rows are summed apart, so that the rounding error grows with
// the square root of the count and not with the count.
static void column_chunk(int64_t begin, int64_t end, int64_t columns, int64_t stride, struct view x, int64_t at,
                         float *out) {
  enum { RUN = 64, WIDE = 8 };
  for (int64_t j = 0; j < columns; j += VL * WIDE) {
    int64_t left = columns - j, vectors = (left + VL - 1) / VL;
    if (vectors > WIDE) vectors = WIDE;
    vf total[WIDE] = {0};
    for (int64_t i = begin; i < end; i += RUN) {
      vf sum[WIDE] = {0};
      int64_t stop = i + RUN < end ? i + RUN : end;
      for (int64_t r = i; r < stop; r++) {
        int64_t row = at + r * stride + j;
        if (left >= VL * WIDE) {
          for (int w = 0; w < WIDE; w++) sum[w] += v_read(x.data, x.type, row + w * VL);
        } else {
          for (int64_t w = 0; w < vectors; w++) sum[w] += v_take(x.data, x.type, row + w * VL, left - w * VL);
        }
      }
      for (int w = 0; w < WIDE; w++) total[w] += sum[w];
    }
    for (int64_t w = 0; w < vectors; w++) v_put(out, DTYPE_F32, j + w * VL, left - w * VL, total[w]);
  }
}

static void columns_sum(int threads, int64_t rows, int64_t columns, struct view x, struct view y, float *scratch) {
  // Few columns: several rows side by side fill the vector, and are folded at the end.
  int64_t fold = columns < VL && VL % columns == 0 ? VL / columns : 1, lines = rows / fold, wide = columns * fold;
#pragma omp parallel for num_threads(team(threads, rows *columns)) schedule(static)
  for (int64_t c = 0; c < REDUCE_CHUNKS; c++) {
    column_chunk(lines * c / REDUCE_CHUNKS, lines * (c + 1) / REDUCE_CHUNKS, wide, wide, x, 0, scratch + c * wide);
  }
  for (int64_t j = 0; fold == 1 && j < columns; j += VL) {
    vf sum = {0};
    for (int64_t c = 0; c < REDUCE_CHUNKS; c++) sum += v_take(scratch + c * columns, DTYPE_F32, j, columns - j);
    v_put(y.data, y.type, j, columns - j, sum);
  }
  for (int64_t j = 0; fold > 1 && j < columns; j++) {
    double sum = 0;
    for (int64_t c = 0; c < REDUCE_CHUNKS; c++) {
      for (int64_t f = 0; f < fold; f++) sum += (double)scratch[c * wide + f * columns + j];
    }
    for (int64_t r = lines * fold; r < rows; r++) sum += element(x, r * columns + j);
    v_write_part(y.data, y.type, j, 1, v_set((float)sum));
  }
}

// One number: elements [at, at+n) in vectors.
static float run_sum(struct view x, int64_t at, int64_t n) {
  enum { RUN = 1024 };
  float total = 0;
  for (int64_t i = 0; i < n; i += RUN) {
    vf sum = {0};
    int64_t stop = n - i < RUN ? n : i + RUN;
    for (int64_t j = i; j < stop; j += VL) sum += v_take(x.data, x.type, at + j, stop - j);
    total += v_sum(sum);
  }
  return total;
}

// The place of the `index`-th combination of the dims of one kind, before the innermost `skip` of that kind.
static int64_t place(const struct reduction *g, bool kept, int skip, int64_t index) {
  int64_t stride = 1, at = 0;
  for (int i = g->rank - 1; i >= 0; i--) {
    if (g->keep[i] == kept) {
      if (skip > 0) {
        skip--;
      } else {
        at += index % g->dim[i] * stride;
        index /= g->dim[i];
      }
    }
    stride *= g->dim[i];
  }
  return at;
}

static int64_t count(const struct reduction *g, bool kept) {
  int64_t n = 1;
  for (int i = 0; i < g->rank; i++) n *= g->keep[i] == kept ? g->dim[i] : 1;
  return n;
}

// Innermost dim kept: y is made of rows of that length, each the sum of `removed` rows of x.
static void sum_rows(int threads, const struct reduction *g, struct view x, struct view y, float *scratch) {
  int64_t length = g->dim[g->rank - 1], outer = count(g, true) / length, removed = count(g, false);
  int64_t inner = g->rank > 1 ? g->dim[g->rank - 2] : 1, blocks = removed / inner; // neighbouring rows first
  if (outer == 1 && blocks == 1) {
    columns_sum(threads, removed, length, x, y, scratch);
    return;
  }
#pragma omp parallel for num_threads(team(threads, outer *removed *length)) schedule(static)
  for (int64_t o = 0; o < outer; o++) {
    int64_t at = place(g, true, 1, o);
    for (int64_t j = 0; j < length; j += 64) {
      int64_t n = length - j < 64 ? length - j : 64;
      float total[64] = {0}, part[64];
      for (int64_t b = 0; b < blocks; b++) {
        column_chunk(0, inner, n, length, x, at + place(g, false, 1, b) + j, part);
        for (int64_t i = 0; i < n; i++) total[i] += part[i];
      }
      for (int64_t i = 0; i < n; i += VL)
        v_put(y.data, y.type, o * length + j + i, n - i, v_take(total, DTYPE_F32, i, n - i));
    }
  }
}

static void sum_to(int threads, const struct reduction *g, struct view x, struct view y, float *scratch) {
  if (!count(g, true)) return;
  if (g->rank && g->keep[g->rank - 1]) {
    sum_rows(threads, g, x, y, scratch);
    return;
  }
  int64_t outer = count(g, true), length = g->rank ? g->dim[g->rank - 1] : 1,
          blocks = length ? count(g, false) / length : 0;
#pragma omp parallel for num_threads(team(threads, outer *length *blocks)) schedule(static)
  for (int64_t o = 0; o < outer; o++) {
    int64_t at = place(g, true, 0, o);
    float total = 0;
    for (int64_t b = 0; b < blocks; b++) total += run_sum(x, at + place(g, false, 1, b), length);
    v_write_part(y.data, y.type, o, 1, v_set(total));
  }
}

enum { SQUARE_CHUNK = 4096, SQUARE_GROUP = 8 };

// Eight chunks side by side, each in its own order: one alone would wait for every addition.
static void square_group(int64_t n, int64_t begin, struct view x, double sum[SQUARE_GROUP]) {
  for (int c = 0; c < SQUARE_GROUP; c++) sum[c] = 0;
  if (begin + SQUARE_GROUP * SQUARE_CHUNK <= n && x.type == DTYPE_F32) {
    const float *p = (const float *)x.data + begin;
    for (int64_t i = 0; i < SQUARE_CHUNK; i++) {
      for (int c = 0; c < SQUARE_GROUP; c++)
        sum[c] += (double)p[c * SQUARE_CHUNK + i] * (double)p[c * SQUARE_CHUNK + i];
    }
    return;
  }
  for (int c = 0; c < SQUARE_GROUP; c++) {
    int64_t from = begin + c * SQUARE_CHUNK, end = from + SQUARE_CHUNK < n ? from + SQUARE_CHUNK : n;
    for (int64_t i = from; i < end; i++) sum[c] += element(x, i) * element(x, i);
  }
}

static float sum_squares(int threads, int64_t n, struct view x) {
  enum { BATCH = 32 }; // groups whose sums wait to be added in order
  const int64_t group = SQUARE_GROUP * SQUARE_CHUNK;
  double total = 0;
  for (int64_t base = 0; base < n; base += group * BATCH) {
    double part[BATCH][SQUARE_GROUP];
    int64_t left = (n - base + group - 1) / group, groups = left < BATCH ? left : BATCH;
#pragma omp parallel for num_threads(team(threads, n - base)) schedule(static)
    for (int64_t g = 0; g < groups; g++) square_group(n, base + g * group, x, part[g]);
    for (int64_t g = 0; g < groups; g++) {
      for (int c = 0; c < SQUARE_GROUP; c++) total += part[g][c];
    }
  }
  return (float)total;
}

const struct reduce_kernels K(reduce_kernels) = {
    .columns = columns_sum,
    .sum_to = sum_to,
    .sum_squares = sum_squares,
};
