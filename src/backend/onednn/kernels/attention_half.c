// attention_half.c: attention forward on bf16 operands with the processor's bf16 products (vdpbf16ps), twice as fast as
// fp32. Operands lie in pairs along the inner dimension: a query's neighbours are pairs as they are; keys are packed as
// [w/2][64] pairs, values as [keys/2][w] pairs of two keys.
#include "backend/onednn/kernels/attention.h"

#ifdef __AVX512BF16__

typedef uint32_t pair_t; // two bf16, the first in the low half

struct half_memory {
  pair_t *keys, *values, *p;
  float *score, *out;
};

static void half_memory_of(const struct attention_shape *s, char *base, struct half_memory *m) {
  size_t w = (size_t)round_up(s->width, VL), columns = (size_t)round_up(s->keys, PANEL);
  m->keys = (pair_t *)(void *)base;
  m->values = m->keys + columns * w / 2;
  m->score = (float *)(void *)(m->values + columns * w / 2);
  m->p = (pair_t *)(void *)(m->score + BLOCK * columns);
  m->out = (float *)(void *)(m->p + BLOCK * columns / 2);
}

// C[rows, 16 vectors] = A B; A in rows of pairs, B in lines of b_line pairs.
INLINE void half_tile(int rows, int vectors, int64_t pairs, const pair_t *a, int64_t a_row, const pair_t *b,
                      int64_t b_line, float *c, int64_t c_row) {
  __m512 sum[12][4];
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_setzero_ps();
  }
  for (int64_t i = 0; i < pairs; i++) {
    __m512bh line[4];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) line[v] = (__m512bh)_mm512_loadu_si512(b + i * b_line + v * VL);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
      __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[r * a_row + i]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], x, line[v]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) _mm512_storeu_ps(c + r * c_row + v * VL, sum[r][v]);
  }
}

INLINE void half_strip(int rows, int vectors, int64_t m, int64_t pairs, const pair_t *a, int64_t a_row, const pair_t *b,
                       int64_t b_line, float *c, int64_t c_row) {
  int64_t i = 0;
  for (; i + rows <= m; i += rows) {
    half_tile(rows, vectors, pairs, a + i * a_row, a_row, b, b_line, c + i * c_row, c_row);
  }
  for (; i < m; i++) half_tile(1, vectors, pairs, a + i * a_row, a_row, b, b_line, c + i * c_row, c_row);
}

// n is a multiple of 16; B lies in panels of 64 columns, `panel` pairs apart.
static void half_product(int64_t m, int64_t n, int64_t pairs, const pair_t *a, int64_t a_row, const pair_t *b,
                         int64_t b_line, int64_t panel, float *c, int64_t c_row) {
  for (int64_t j = 0; j < n; j += PANEL) {
    const pair_t *from = b + j / PANEL * panel;
    switch ((n - j) / VL) {
    case 1: half_strip(12, 1, m, pairs, a, a_row, from, b_line, c + j, c_row); break;
    case 2: half_strip(12, 2, m, pairs, a, a_row, from, b_line, c + j, c_row); break;
    case 3: half_strip(8, 3, m, pairs, a, a_row, from, b_line, c + j, c_row); break;
    default: half_strip(6, 4, m, pairs, a, a_row, from, b_line, c + j, c_row); break;
    }
  }
}

static void pack_keys(const struct head *h, const uint16_t *k, pair_t *out) {
  int64_t stride = h->shape->heads * h->d, lines = h->d / 2;
  const uint16_t *from = k + h->sample * h->shape->keys * stride + h->head * h->d;
  for (int64_t p = 0; p < h->columns; p += PANEL) {
    pair_t *panel = out + p * lines;
    for (int64_t i = 0; i < PANEL; i++) {
      for (int64_t j = 0; j < lines; j++) {
        pair_t x = 0;
        if (p + i < h->s) memcpy(&x, from + (p + i) * stride + 2 * j, sizeof x);
        panel[j * PANEL + i] = x;
      }
    }
  }
}

static void pack_values(const struct head *h, const uint16_t *v, pair_t *out) {
  int64_t stride = h->shape->heads * h->d;
  const uint16_t *from = v + h->sample * h->shape->keys * stride + h->head * h->d;
  for (int64_t i = 0; i < h->s; i += 2) {
    for (int64_t j = 0; j < h->w; j++) {
      pair_t low = j < h->d ? from[i * stride + j] : 0,
             high = j < h->d && i + 1 < h->s ? from[(i + 1) * stride + j] : 0;
      out[i / 2 * h->w + j] = low | high << 16;
    }
  }
}

// Row of scores -> row of exp(scale * score - bias) in bf16; places from n to `end` become 0, and those that are dropped.
// Returns the sum of all.
INLINE float half_exponents(const struct head *h, bool drops, int64_t query, const float *row, int64_t n, int64_t end,
                            float bias, pair_t *p) {
  const vi lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  float scale = h->shape->scale;
  uint32_t words[DRAW];
  vf sum = {0};
  for (int64_t j = 0; j < end; j += VL) {
    vf e = v_set(0);
    if (j < n) e = v_exp(v_load(row + j) * scale - bias);
    if (j + VL > n && j < n) e = (vf)((vi)e & (lane < (int32_t)(n - j)));
    sum += e;
    if (drops && j % DRAW == 0) head_words(h, query, j, words);
    if (drops) e = (vf)((vi)e & draw_kept(&h->draw, words + j % DRAW));
    _mm256_storeu_si256((void *)(p + j / 2), (__m256i)_mm512_cvtneps_pbh((__m512)e));
  }
  return v_sum(sum);
}

static void half_block(const struct head *h, const struct half_memory *m, int64_t from, int64_t rows, const uint16_t *q,
                       struct view o, float *lse) {
  float scale = h->shape->scale, inverse[BLOCK];
  int64_t stride = h->shape->heads * h->d, used = limit(h, from + rows - 1), end = round_up(used, VL);
  int64_t at = (h->sample * h->t + from) * stride + h->head * h->d;
  half_product(rows, end, h->d / 2, (const pair_t *)(const void *)(q + at), stride / 2, m->keys, PANEL,
               h->d / 2 * PANEL, m->score, h->columns);
  for (int64_t i = 0; i < rows; i++) {
    const float *row = m->score + i * h->columns;
    int64_t n = limit(h, from + i);
    float peak = scale >= 0 ? row_peak(row, n) * scale : 0;
    pair_t *p = m->p + i * (h->columns / 2);
    float sum = h->drops ? half_exponents(h, true, from + i, row, n, end, peak, p)
                         : half_exponents(h, false, from + i, row, n, end, peak, p);
    inverse[i] = (h->drops ? h->draw.factor : 1.0f) / sum;
    if (lse) lse[(h->sample * h->shape->heads + h->head) * h->t + from + i] = peak + logf(sum);
  }
  half_product(rows, h->w, (used + 1) / 2, m->p, h->columns / 2, m->values, h->w, PANEL, m->out, h->w);
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < h->d; j += VL) {
      v_put(o.data, o.type, at + i * stride + j, h->d - j, v_load(m->out + i * h->w + j) * inverse[i]);
    }
  }
}

void K(attention_half)(int threads, const struct attention_shape *s, const uint16_t *q, const uint16_t *k,
                       const uint16_t *v, const int32_t *length, struct view o, float *lse, void *scratch) {
  size_t bytes = (size_t)(round_up(s->keys, PANEL) * (round_up(s->width, VL) + BLOCK + BLOCK / 2) +
                          BLOCK * round_up(s->width, VL)) *
                 sizeof(float);
#pragma omp parallel num_threads(threads)
  {
    struct half_memory m;
    half_memory_of(s, (char *)scratch + (size_t)omp_get_thread_num() * bytes, &m);
    int64_t begin, end;
    share(s->batch * s->heads, 1, &begin, &end);
    for (int64_t task = begin; task < end; task++) {
      struct head h = head_of(s, length, task);
      pack_keys(&h, k, m.keys);
      pack_values(&h, v, m.values);
      for (int64_t i = 0; i < h.t; i += BLOCK) half_block(&h, &m, i, h.t - i < BLOCK ? h.t - i : BLOCK, q, o, lse);
    }
  }
}

#endif
