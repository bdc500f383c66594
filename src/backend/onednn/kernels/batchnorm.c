// batchnorm.c: batch normalisation over the last dimension. Sums are made in fp64: of at most REDUCE_CHUNKS runs of rows,
// whose number depends on the shape alone, each from its first row to its last, then of the runs in order.
// Where channels are few, several rows side by side make one line of `wide` columns, so that vectors are full; what belongs
// to a channel is repeated along the line.
#include "backend/onednn/kernels/kernels.h"
#include "backend/onednn/kernels/vecmath.h"

#include <math.h>

// Pairs of sums that the registers hold: of eight columns in fp64, of sixteen in fp32.
#if defined(__AVX512F__)
enum { SQUARES = 8, SUMS = 4 };
#elif defined(__AVX__)
enum { SQUARES = 2, SUMS = 2 };
#else
enum { SQUARES = 1, SUMS = 1 };
#endif

enum { LANES = 8, LINES = 16 }; // LINES: that are summed before the next columns are met
typedef double vd __attribute__((vector_size(64), may_alias));
typedef double vd_mem __attribute__((vector_size(64), aligned(8), may_alias));
typedef float v8_mem __attribute__((vector_size(32), aligned(4), may_alias));

// sums[16] += v
INLINE void add_wide(double *sums, vf v) {
  float f[VL];
  v_store(f, v);
  *(vd_mem *)sums += __builtin_convertvector(*(const v8_mem *)f, vd);
  *(vd_mem *)(sums + LANES) += __builtin_convertvector(*(const v8_mem *)(f + LANES), vd);
}

// Once a line of the cache: the next lines of a tensor lie too far apart for the processor to see them coming.
INLINE void ahead_of(const void *p, dtype_t type, int64_t i, int vector) {
  if (type == DTYPE_F32) {
    __builtin_prefetch((const float *)p + i);
  } else if (vector % 2 == 0) {
    __builtin_prefetch((const uint16_t *)p + i);
  }
}

static float scalar(struct view x, int64_t i) {
  return x.type == DTYPE_F32 ? ((const float *)x.data)[i] : bf16_to_f32(((const uint16_t *)x.data)[i]);
}

static int64_t rows_a_line(int64_t c) {
  int64_t fold = PANEL;
  if (c >= PANEL) return 1;
  for (int64_t n = c; n % 2 == 0; n /= 2) fold /= 2;
  return fold;
}

static size_t scratch_bytes(int64_t c) {
  size_t wide = (size_t)(c * rows_a_line(c));
  return REDUCE_CHUNKS * 2 * wide * sizeof(double) + wide * sizeof(float);
}

static double inverse_deviation(const struct batchnorm *b, int64_t i) {
  return 1 / sqrt((double)b->var[i] + b->epsilon);
}

// A line's first c values, repeated.
static void repeat(int64_t c, int64_t wide, float *line) {
  for (int64_t i = c; i < wide; i++) line[i] = line[i - c];
}

// The two sums of a pass: of x and x^2, or, where there is a second tensor b, of a (b - mean) and a.
struct pass {
  struct view a, b;
  const float *mean; // wide
  int64_t wide;
};

// Columns j.. of a few lines, in fp64 from the first to the last: the variance is a difference of sums of fp32.
INLINE void square_block(int vectors, const struct pass *p, int64_t from, int64_t lines, int64_t j, double *sums) {
  const float *x = (const float *)p->a.data + from * p->wide + j;
  vd s[SQUARES], t[SQUARES];
#pragma GCC unroll 8
  for (int v = 0; v < vectors; v++) s[v] = t[v] = (vd){0};
  for (int64_t l = 0; l < lines; l++, x += p->wide) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
      vd a = __builtin_convertvector(*(const v8_mem *)(x + v * LANES), vd);
      if (v % 2 == 0) __builtin_prefetch(x + v * LANES + LINES * p->wide);
      s[v] += a;
      t[v] += a * a;
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < vectors; v++) {
    *(vd_mem *)(sums + j + v * LANES) += s[v];
    *(vd_mem *)(sums + p->wide + j + v * LANES) += t[v];
  }
}

// As square_block, a few lines in fp32, and their sums in fp64: bf16's squares fit in fp32, and gradients want no more.
INLINE void sum_block(bool pair, int vectors, const struct pass *p, dtype_t a_type, dtype_t b_type, int64_t from,
                      int64_t lines, int64_t j, double *sums) {
  vf s[SUMS], t[SUMS], mean[SUMS];
  int64_t at = from * p->wide + j, ahead = LINES * p->wide;
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) {
    s[v] = t[v] = v_set(0);
    if (pair) mean[v] = v_load(p->mean + j + v * VL);
  }
  for (int64_t l = 0; l < lines; l++, at += p->wide) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
      vf a = v_read(p->a.data, a_type, at + v * VL);
      ahead_of(p->a.data, a_type, at + v * VL + ahead, v);
      if (pair) {
        ahead_of(p->b.data, b_type, at + v * VL + ahead, v);
        s[v] += a * (v_read(p->b.data, b_type, at + v * VL) - mean[v]);
        t[v] += a;
      } else {
        s[v] += a;
        t[v] += a * a;
      }
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) {
    add_wide(sums + j + v * VL, s[v]);
    add_wide(sums + p->wide + j + v * VL, t[v]);
  }
}

static void sum_rest(bool pair, const struct pass *p, int64_t from, int64_t lines, int64_t j, int64_t end,
                     double *sums) {
  for (int64_t l = from; l < from + lines; l++) {
    for (int64_t k = j; k < end; k++) {
      float a = scalar(p->a, l * p->wide + k), b = pair ? scalar(p->b, l * p->wide + k) - p->mean[k] : 0;
      sums[k] += pair ? (double)a * (double)b : (double)a;
      sums[p->wide + k] += pair ? (double)a : (double)a * (double)a;
    }
  }
}

// Add lines [from, from + lines), columns [j, end), to sums[2 wide].
INLINE void sum_columns(bool pair, const struct pass *p, dtype_t a_type, dtype_t b_type, int64_t from, int64_t lines,
                        int64_t j, int64_t end, double *sums) {
  if (!pair && a_type == DTYPE_F32) {
    for (; j + SQUARES * LANES <= end; j += SQUARES * LANES) square_block(SQUARES, p, from, lines, j, sums);
    for (; j + LANES <= end; j += LANES) square_block(1, p, from, lines, j, sums);
  } else {
    for (; j + SUMS * VL <= end; j += SUMS * VL) sum_block(pair, SUMS, p, a_type, b_type, from, lines, j, sums);
    for (; j + VL <= end; j += VL) sum_block(pair, 1, p, a_type, b_type, from, lines, j, sums);
  }
  if (j < end) sum_rest(pair, p, from, lines, j, end, sums);
}

static void sum_lines(const struct pass *p, int64_t from, int64_t lines, int64_t j, int64_t end, double *sums) {
  dtype_t a = p->a.type, b = p->b.type;
  if (!p->b.data) {
    if (a == DTYPE_F32) {
      sum_columns(false, p, DTYPE_F32, DTYPE_F32, from, lines, j, end, sums);
    } else {
      sum_columns(false, p, DTYPE_BF16, DTYPE_BF16, from, lines, j, end, sums);
    }
  } else if (a == DTYPE_F32 && b == DTYPE_F32) {
    sum_columns(true, p, DTYPE_F32, DTYPE_F32, from, lines, j, end, sums);
  } else if (a == DTYPE_BF16 && b == DTYPE_BF16) {
    sum_columns(true, p, DTYPE_BF16, DTYPE_BF16, from, lines, j, end, sums);
  } else {
    sum_columns(true, p, a, b, from, lines, j, end, sums);
  }
}

// Lines [from,to), columns [j,end), a few lines at a time.
static void sum_chunk(const struct pass *p, int64_t from, int64_t to, int64_t j, int64_t end, double *sums) {
  for (int64_t k = j; k < end; k++) sums[k] = sums[p->wide + k] = 0;
  for (; from < to; from += LINES) sum_lines(p, from, to - from < LINES ? to - from : LINES, j, end, sums);
}

// Both sums of the c channels over `rows`, into the first 2 c places of `sums`, which has room for all chunks.
static void sum_all(const struct batchnorm *b, struct pass *p, double *sums) {
  int64_t c = b->c, fold = p->wide / c, wide = p->wide, lines = b->rows / fold, rest = b->rows % fold * c;
  int64_t chunks = lines / 128 < 1 ? 1 : lines / 128 < REDUCE_CHUNKS ? lines / 128 : REDUCE_CHUNKS;
  int64_t pieces = chunks == REDUCE_CHUNKS ? 1 : (wide + 255) / 256, piece = pieces > 1 ? 256 : wide;
#pragma omp parallel for num_threads(team(b->threads, b->rows *c)) schedule(static)
  for (int64_t task = 0; task < chunks * pieces; task++) {
    int64_t chunk = task / pieces, j = task % pieces * piece, end = j + piece < wide ? j + piece : wide;
    sum_chunk(p, lines * chunk / chunks, lines * (chunk + 1) / chunks, j, end, sums + chunk * 2 * wide);
  }
  for (int64_t k = 1; k < chunks; k++) {
    for (int64_t i = 0; i < 2 * wide; i++) sums[i] += sums[k * 2 * wide + i];
  }
  if (rest) sum_lines(p, lines, 1, 0, rest, sums);
  for (int64_t half = 0; half < 2; half++) {
    for (int64_t i = 0; i < c; i++) {
      double sum = 0;
      for (int64_t f = 0; f < fold; f++) sum += sums[half * wide + f * c + i];
      sums[half * c + i] = sum;
    }
  }
}

static void batch_sums(const struct batchnorm *b, struct view x, double *sums) {
  double *all = b->scratch;
  struct pass p = {.a = x, .wide = b->c * rows_a_line(b->c)};
  sum_all(b, &p, all);
  memcpy(sums, all, 2 * (size_t)b->c * sizeof *sums);
  sums[2 * b->c] = (double)b->rows;
}

static void backward_weight(const struct batchnorm *b, struct view dy, struct view x, struct view dgamma,
                            struct view dbeta, double *dsums) {
  int64_t c = b->c, wide = c * rows_a_line(c);
  double *all = b->scratch;
  float *mean = (float *)(void *)(all + REDUCE_CHUNKS * 2 * wide);
  memcpy(mean, b->mean, sizeof *mean * (size_t)c);
  repeat(c, wide, mean);
  struct pass p = {dy, x, mean, wide};
  sum_all(b, &p, all);
  for (int64_t i = 0; i < c; i++) {
    dsums[i] = all[i] * inverse_deviation(b, i);
    dsums[c + i] = all[c + i];
    v_write_part(dgamma.data, dgamma.type, i, 1, v_set((float)dsums[i]));
    v_write_part(dbeta.data, dbeta.type, i, 1, v_set((float)dsums[c + i]));
  }
}

// y = act(scale (x - mean) + shift + r); elements [begin,end), the first of which begins a line.
struct forward_pass {
  struct view x, r, y;
  const float *mean, *scale, *shift;
  int64_t wide;
};

INLINE void forward_share(const struct forward_pass *p, activation_t a, dtype_t type, dtype_t to_type, int64_t begin,
                          int64_t end) {
  for (; begin < end; begin += p->wide) {
    int64_t n = end - begin < p->wide ? end - begin : p->wide;
    for (int64_t j = 0; j < n; j += VL) {
      vf v = v_take(p->x.data, type, begin + j, n - j) - v_take(p->mean, DTYPE_F32, j, n - j);
      v = v * v_take(p->scale, DTYPE_F32, j, n - j) + v_take(p->shift, DTYPE_F32, j, n - j);
      if (p->r.data) v += v_take(p->r.data, p->r.type, begin + j, n - j);
      v_put(p->y.data, to_type, begin + j, n - j, v_activate(a, v));
    }
  }
}

INLINE void forward_types(const struct forward_pass *p, activation_t a, int64_t begin, int64_t end) {
  if (p->x.type == DTYPE_F32 && p->y.type == DTYPE_F32) {
    forward_share(p, a, DTYPE_F32, DTYPE_F32, begin, end);
  } else if (p->x.type == DTYPE_BF16 && p->y.type == DTYPE_BF16) {
    forward_share(p, a, DTYPE_BF16, DTYPE_BF16, begin, end);
  } else {
    forward_share(p, a, p->x.type, p->y.type, begin, end);
  }
}

static void forward(const struct batchnorm *b, activation_t a, struct view x, struct view gamma, struct view beta,
                    struct view r, struct view y) {
  int64_t c = b->c, wide = c * rows_a_line(c), n = b->rows * c;
  float *mean = b->scratch, *scale = mean + wide, *shift = scale + wide;
  for (int64_t i = 0; i < c; i++) {
    mean[i] = b->mean[i];
    scale[i] = (float)((double)scalar(gamma, i) * inverse_deviation(b, i));
    shift[i] = scalar(beta, i);
  }
  repeat(c, wide, mean);
  repeat(c, wide, scale);
  repeat(c, wide, shift);
  struct forward_pass p = {x, r, y, mean, scale, shift, wide};
#pragma omp parallel num_threads(team(b->threads, n))
  {
    int64_t begin, end;
    share(n, wide, &begin, &end);
    switch (a) { // a constant in each call
    case ACT_NONE: forward_types(&p, ACT_NONE, begin, end); break;
    case ACT_RELU: forward_types(&p, ACT_RELU, begin, end); break;
    default: forward_share(&p, a, x.type, y.type, begin, end); break;
    }
  }
}

// dx = scale dy + slope (x - mean) + shift; without x dx = scale dy.
struct backward_pass {
  struct view dy, x, dx;
  const float *scale, *mean, *slope, *shift;
  int64_t wide;
};

INLINE void backward_share(const struct backward_pass *p, dtype_t dy_type, dtype_t x_type, dtype_t to_type,
                           int64_t begin, int64_t end) {
  for (; begin < end; begin += p->wide) {
    int64_t n = end - begin < p->wide ? end - begin : p->wide;
    for (int64_t j = 0; j < n; j += VL) {
      vf v = v_take(p->dy.data, dy_type, begin + j, n - j) * v_take(p->scale, DTYPE_F32, j, n - j);
      if (p->x.data) {
        vf h = v_take(p->x.data, x_type, begin + j, n - j) - v_take(p->mean, DTYPE_F32, j, n - j);
        v += h * v_take(p->slope, DTYPE_F32, j, n - j) + v_take(p->shift, DTYPE_F32, j, n - j);
      }
      v_put(p->dx.data, to_type, begin + j, n - j, v);
    }
  }
}

static void backward_data(const struct batchnorm *b, struct view dy, struct view x, struct view gamma,
                          const double *dsums, const double *sums, struct view dx) {
  int64_t c = b->c, wide = c * rows_a_line(c), n = b->rows * c;
  float *scale = b->scratch, *mean = scale + wide, *slope = mean + wide, *shift = slope + wide;
  for (int64_t i = 0; i < c; i++) {
    double rstd = inverse_deviation(b, i), s = (double)scalar(gamma, i) * rstd;
    scale[i] = (float)s;
    mean[i] = b->mean[i];
    slope[i] = dsums ? (float)(-s * rstd * dsums[i] / sums[2 * c]) : 0;
    shift[i] = dsums ? (float)(-s * dsums[c + i] / sums[2 * c]) : 0;
  }
  repeat(c, wide, scale);
  repeat(c, wide, mean);
  repeat(c, wide, slope);
  repeat(c, wide, shift);
  struct backward_pass p = {dy, dsums ? x : (struct view){NULL, x.type}, dx, scale, mean, slope, shift, wide};
#pragma omp parallel num_threads(team(b->threads, n))
  {
    int64_t begin, end;
    share(n, wide, &begin, &end);
    if (dy.type == DTYPE_F32 && x.type == DTYPE_F32 && dx.type == DTYPE_F32) {
      backward_share(&p, DTYPE_F32, DTYPE_F32, DTYPE_F32, begin, end);
    } else if (dy.type == DTYPE_BF16 && x.type == DTYPE_BF16 && dx.type == DTYPE_BF16) {
      backward_share(&p, DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, begin, end);
    } else {
      backward_share(&p, dy.type, x.type, dx.type, begin, end);
    }
  }
}

// w[c][n]: each channel's weights times scale; bias = beta + (bias - mean) scale.
static void fold(const struct batchnorm *b, int64_t n, struct view w, struct view bias, struct view gamma,
                 struct view beta, struct view w_out, struct view bias_out) {
#pragma omp parallel for num_threads(team(b->threads, b->c *n)) schedule(static)
  for (int64_t i = 0; i < b->c; i++) {
    double scale = (double)scalar(gamma, i) * inverse_deviation(b, i);
    double from = bias.data ? (double)scalar(bias, i) : 0;
    float to = (float)((double)scalar(beta, i) + (from - (double)b->mean[i]) * scale), factor = (float)scale;
    v_write_part(bias_out.data, bias_out.type, i, 1, v_set(to));
    for (int64_t j = 0; j < n; j += VL) {
      v_put(w_out.data, w_out.type, i * n + j, n - j, v_take(w.data, w.type, i * n + j, n - j) * factor);
    }
  }
}

const struct batchnorm_kernels K(batchnorm_kernels) = {
    .scratch_bytes = scratch_bytes,
    .sums = batch_sums,
    .forward = forward,
    .backward_weight = backward_weight,
    .backward_data = backward_data,
    .fold = fold,
};
