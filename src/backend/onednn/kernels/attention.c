// attention.c: scaled dot-product attention of one (sample, head) at a time, after the idea of FlashAttention (Dao et
// al. 2022): a block of queries meets all keys while its scores stay in the second cache; only the log of the sum is kept,
// and backward makes the probabilities again from it. One thread owns a (sample, head), so the order of every sum is
// fixed. Keys are packed transposed, in panels of 64, once a head.
#include "backend/onednn/kernels/attention.h"
#include "backend/onednn/kernels/product.h"
#include "backend/onednn/kernels/vecmath.h"

#include <math.h>

// Rows of one head of x[B,T,N*d] into dense rows of w floats (the rest 0), times `scale`.
static void pack_rows(const struct head *h, struct view x, int64_t rows, int64_t rows_all, int64_t from, float *out) {
  int64_t stride = h->shape->heads * h->d, at = (h->sample * rows_all + from) * stride + h->head * h->d;
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < h->w; j += VL) {
      v_store(out + i * h->w + j, v_take(x.data, x.type, at + i * stride + j, h->d - j));
    }
  }
}

static void unpack_rows(const struct head *h, const float *x, int64_t rows, int64_t rows_all, int64_t from,
                        struct view out) {
  int64_t stride = h->shape->heads * h->d, at = (h->sample * rows_all + from) * stride + h->head * h->d;
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < h->d; j += VL) {
      v_put(out.data, out.type, at + i * stride + j, h->d - j, v_load(x + i * h->w + j));
    }
  }
}

// rows[s][w] -> panels of [w][64]; columns beyond s are 0.
static void pack_transposed(const struct head *h, const float *rows, float *out) {
  for (int64_t p = 0; p < h->columns; p += PANEL) {
    float *panel = out + p * h->w;
    int64_t n = h->s - p < PANEL ? h->s - p : PANEL;
    for (int64_t j = 0; j < h->w; j++) {
      for (int64_t i = 0; i < n; i++) panel[j * PANEL + i] = rows[(p + i) * h->w + j];
      for (int64_t i = n; i < PANEL; i++) panel[j * PANEL + i] = 0;
    }
  }
}

// exp(scale * score - bias) in place over `n` scores; the rest of the row up to `end` becomes 0. Returns the sum.
INLINE float exponents(float *row, int64_t n, int64_t end, float scale, float bias) {
  const vi lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  vf sum = {0};
  int64_t j = 0;
  for (; j + VL <= n; j += VL) {
    vf e = v_exp(v_load(row + j) * scale - bias);
    v_store(row + j, e);
    sum += e;
  }
  if (j < n) {
    vf e = v_exp(v_load(row + j) * scale - bias);
    e = (vf)((vi)e & (lane < (int32_t)(n - j)));
    v_store(row + j, e);
    sum += e;
    j += VL;
  }
  for (; j < end; j += VL) v_store(row + j, v_set(0));
  return v_sum(sum);
}

// Drop out of a row of `end` probabilities; those that stay are not scaled.
static void drop_row(const struct head *h, int64_t query, float *row, int64_t end) {
  for (int64_t j = 0; j < end; j += DRAW) {
    uint32_t words[DRAW];
    head_words(h, query, j, words);
    for (int64_t i = 0; i < DRAW && j + i < end; i += VL) {
      v_store(row + j + i, (vf)((vi)v_load(row + j + i) & draw_kept(&h->draw, words + i)));
    }
  }
}

struct forward_memory {
  float *keys, *keys_packed, *values, *query, *score, *out;
};

static size_t forward_floats(const struct attention_shape *s, float *base, struct forward_memory *m) {
  int64_t w = round_up(s->width, VL), columns = round_up(s->keys, PANEL);
  int64_t size[] = {columns * w, columns * w, columns * w, BLOCK * w, BLOCK * columns, BLOCK * w}, at = 0;
  float **to[] = {&m->keys, &m->keys_packed, &m->values, &m->query, &m->score, &m->out};
  for (int i = 0; i < 6; i++) {
    if (base) *to[i] = base + at;
    at += size[i];
  }
  return (size_t)at;
}

static void forward_block(const struct head *h, const struct forward_memory *m, int64_t from, int64_t rows,
                          struct view q, struct view o, float *lse) {
  float scale = h->shape->scale;
  int64_t end = round_up(limit(h, from + rows - 1), VL), used = limit(h, from + rows - 1);
  pack_rows(h, q, rows, h->t, from, m->query);
  product_run(&(struct product){.m = rows,
                                .n = end,
                                .k = h->w,
                                .a = m->query,
                                .a_row = h->w,
                                .a_k = 1,
                                .b = m->keys_packed,
                                .b_k = PANEL,
                                .panel = h->w * PANEL,
                                .c = m->score,
                                .c_row = h->columns});
  float inverse[BLOCK];
  for (int64_t i = 0; i < rows; i++) {
    float *row = m->score + i * h->columns;
    int64_t n = limit(h, from + i);
    float peak = scale >= 0 ? row_peak(row, n) * scale : 0;
    float sum = exponents(row, n, end, scale, peak);
    inverse[i] = n ? 1.0f / sum : 0;
    if (h->drops) {
      drop_row(h, from + i, row, end);
      inverse[i] *= h->draw.factor;
    }
    if (lse) lse[(h->sample * h->shape->heads + h->head) * h->t + from + i] = n ? peak + logf(sum) : -INFINITY;
  }
  product_run(&(struct product){.m = rows,
                                .n = h->w,
                                .k = used,
                                .a = m->score,
                                .a_row = h->columns,
                                .a_k = 1,
                                .b = m->values,
                                .b_k = h->w,
                                .panel = PANEL,
                                .c = m->out,
                                .c_row = h->w});
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < h->w; j += VL) v_store(m->out + i * h->w + j, v_load(m->out + i * h->w + j) * inverse[i]);
  }
  unpack_rows(h, m->out, rows, h->t, from, o);
}

static size_t forward_scratch(int threads, const struct attention_shape *s) {
  struct forward_memory m;
  return (size_t)threads * forward_floats(s, NULL, &m) * sizeof(float);
}

static void forward(int threads, const struct attention_shape *s, struct view q, struct view k, struct view v,
                    const int32_t *length, struct view o, float *lse, void *scratch) {
#ifdef __AVX512BF16__
  if (q.type == DTYPE_BF16 && k.type == DTYPE_BF16 && v.type == DTYPE_BF16 && s->width % 2 == 0) {
    K(attention_half)(threads, s, q.data, k.data, v.data, length, o, lse, scratch);
    return;
  }
#endif
#pragma omp parallel num_threads(threads)
  {
    struct forward_memory m;
    size_t floats = forward_floats(s, NULL, &m);
    (void)forward_floats(s, (float *)scratch + (size_t)omp_get_thread_num() * floats, &m);
    int64_t begin, end;
    share(s->batch * s->heads, 1, &begin, &end);
    for (int64_t task = begin; task < end; task++) {
      struct head h = head_of(s, length, task);
      pack_rows(&h, k, h.s, s->keys, 0, m.keys);
      pack_transposed(&h, m.keys, m.keys_packed);
      pack_rows(&h, v, h.s, s->keys, 0, m.values);
      for (int64_t i = 0; i < h.t; i += BLOCK) {
        forward_block(&h, &m, i, h.t - i < BLOCK ? h.t - i : BLOCK, q, o, lse);
      }
    }
  }
}

struct backward_memory {
  float *keys, *keys_packed, *values, *values_packed, *query, *d_out, *out, *p, *dp, *d_query, *d_keys, *d_values;
};

static size_t backward_floats(const struct attention_shape *s, float *base, struct backward_memory *m) {
  int64_t w = round_up(s->width, VL), columns = round_up(s->keys, PANEL), key = columns * w, query = BLOCK * w, at = 0;
  int64_t score = BLOCK * columns;
  int64_t size[] = {key, key, key, key, query, query, query, score, score, query, key, key};
  float **to[] = {&m->keys, &m->keys_packed, &m->values, &m->values_packed, &m->query,  &m->d_out,
                  &m->out,  &m->p,           &m->dp,     &m->d_query,       &m->d_keys, &m->d_values};
  for (int i = 0; i < 12; i++) {
    if (base) *to[i] = base + at;
    at += size[i];
  }
  return (size_t)at;
}

// With dropout: the probabilities that were used, and the gradient of the scores through those that stayed.
static void dropped_scores(const struct head *h, int64_t query, float *p, float *dp, int64_t end, float mean) {
  float scale = h->shape->scale, factor = h->draw.factor;
  for (int64_t j = 0; j < end; j += DRAW) {
    uint32_t words[DRAW];
    head_words(h, query, j, words);
    for (int64_t i = j; i < j + DRAW && i < end; i += VL) {
      vi kept = draw_kept(&h->draw, words + (i - j));
      vf all = v_load(p + i), back = (vf)((vi)(v_load(dp + i) * factor) & kept);
      v_store(dp + i, all * (back - mean) * scale);
      v_store(p + i, (vf)((vi)(all * factor) & kept));
    }
  }
}

// From scores and dP to probabilities (m->p) and the gradient of the scores (m->dp).
static void backward_scores(const struct head *h, const struct backward_memory *m, int64_t from, int64_t rows,
                            int64_t end, const float *lse) {
  float scale = h->shape->scale;
  const float *saved = lse + (h->sample * h->shape->heads + h->head) * h->t + from;
  for (int64_t i = 0; i < rows; i++) {
    float *p = m->p + i * h->columns, *dp = m->dp + i * h->columns;
    vf dot = {0};
    for (int64_t j = 0; j < h->w; j += VL) dot += v_load(m->d_out + i * h->w + j) * v_load(m->out + i * h->w + j);
    float mean = v_sum(dot);
    int64_t n = limit(h, from + i);
    (void)exponents(p, n, end, scale, n ? saved[i] : 0);
    if (h->drops) {
      dropped_scores(h, from + i, p, dp, end, mean);
      continue;
    }
    for (int64_t j = 0; j < end; j += VL) v_store(dp + j, v_load(p + j) * (v_load(dp + j) - mean) * scale);
  }
}

static void backward_block(const struct head *h, const struct backward_memory *m, int64_t from, int64_t rows,
                           struct view d_o, struct view q, struct view o, const float *lse, struct view dq) {
  int64_t used = limit(h, from + rows - 1), end = round_up(used, VL), w = h->w, c = h->columns;
  pack_rows(h, q, rows, h->t, from, m->query);
  pack_rows(h, d_o, rows, h->t, from, m->d_out);
  pack_rows(h, o, rows, h->t, from, m->out);
  struct product score = {.m = rows,
                          .n = end,
                          .k = w,
                          .a = m->query,
                          .a_row = w,
                          .a_k = 1,
                          .b = m->keys_packed,
                          .b_k = PANEL,
                          .panel = w * PANEL,
                          .c = m->p,
                          .c_row = c};
  product_run(&score);
  score.a = m->d_out, score.b = m->values_packed, score.c = m->dp;
  product_run(&score);
  backward_scores(h, m, from, rows, end, lse);
  struct product outer = {.m = used,
                          .n = w,
                          .k = rows,
                          .a = m->p,
                          .a_row = 1,
                          .a_k = c,
                          .b = m->d_out,
                          .b_k = w,
                          .panel = PANEL,
                          .c = m->d_values,
                          .c_row = w,
                          .accumulate = true};
  product_run(&outer);
  outer.a = m->dp, outer.b = m->query, outer.c = m->d_keys;
  product_run(&outer);
  product_run(&(struct product){.m = rows,
                                .n = w,
                                .k = used,
                                .a = m->dp,
                                .a_row = c,
                                .a_k = 1,
                                .b = m->keys,
                                .b_k = w,
                                .panel = PANEL,
                                .c = m->d_query,
                                .c_row = w});
  unpack_rows(h, m->d_query, rows, h->t, from, dq);
}

static size_t backward_scratch(int threads, const struct attention_shape *s) {
  struct backward_memory m;
  return (size_t)threads * backward_floats(s, NULL, &m) * sizeof(float);
}

static void backward(int threads, const struct attention_shape *s, struct view d_o, struct view q, struct view k,
                     struct view v, struct view o, const float *lse, const int32_t *length, struct view dq,
                     struct view dk, struct view dv, void *scratch) {
#pragma omp parallel num_threads(threads)
  {
    struct backward_memory m;
    size_t floats = backward_floats(s, NULL, &m);
    (void)backward_floats(s, (float *)scratch + (size_t)omp_get_thread_num() * floats, &m);
    int64_t begin, end;
    share(s->batch * s->heads, 1, &begin, &end);
    for (int64_t task = begin; task < end; task++) {
      struct head h = head_of(s, length, task);
      pack_rows(&h, k, h.s, s->keys, 0, m.keys);
      pack_transposed(&h, m.keys, m.keys_packed);
      pack_rows(&h, v, h.s, s->keys, 0, m.values);
      pack_transposed(&h, m.values, m.values_packed);
      memset(m.d_keys, 0, sizeof(float) * (size_t)(s->keys * h.w)); // masked keys get 0
      memset(m.d_values, 0, sizeof(float) * (size_t)(s->keys * h.w));
      for (int64_t i = 0; i < h.t; i += BLOCK) {
        backward_block(&h, &m, i, h.t - i < BLOCK ? h.t - i : BLOCK, d_o, q, o, lse, dq);
      }
      unpack_rows(&h, m.d_keys, s->keys, s->keys, 0, dk);
      unpack_rows(&h, m.d_values, s->keys, s->keys, 0, dv);
    }
  }
}

const struct attention_kernels K(attention_kernels) = {
    .forward_scratch = forward_scratch,
    .forward = forward,
    .backward_scratch = backward_scratch,
    .backward = backward,
};
