// attention.h: what the fp32 and the bf16 form of attention share.
#ifndef GRIDSEG_BACKEND_ONEDNN_KERNELS_ATTENTION_H
#define GRIDSEG_BACKEND_ONEDNN_KERNELS_ATTENTION_H

#include "backend/onednn/kernels/philox.h"
#include "backend/onednn/kernels/vecmath.h"

#include <math.h>

enum { BLOCK = 48 }; // queries; a multiple of every tile height

// One (sample, head) at work. Sizes: t queries, s keys (those not masked), d width, w = d rounded up to 16, columns = s
// rounded up to 64.
struct head {
  const struct attention_shape *shape;
  int64_t sample, head, t, s, d, w, columns;
  bool drops;
  struct draw draw; // where it drops
};

static inline int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

static inline int64_t limit(const struct head *h, int64_t query) {
  return h->shape->causal && query + 1 < h->s ? query + 1 : h->s;
}

static inline struct head head_of(const struct attention_shape *s, const int32_t *length, int64_t task) {
  struct head h = {.shape = s, .sample = task / s->heads, .head = task % s->heads, .t = s->queries, .s = s->keys};
  if (length) {
    int64_t n = length[h.sample];
    h.s = n < 0 ? 0 : n < s->keys ? n : s->keys;
  }
  h.drops = s->dropout.noise != NULL;
  if (h.drops) h.draw = draw_of(&s->dropout, h.sample);
  h.d = s->width;
  h.w = round_up(s->width, VL);
  h.columns = round_up(h.s, PANEL);
  return h;
}

// Random words of keys [key, key + 64) of a query, as backend.h counts them.
INLINE void head_words(const struct head *h, int64_t query, int64_t key, uint32_t words[DRAW]) {
  draw_words(&h->draw, ((h->head * h->t + query) << 16) + key, words);
}

INLINE float row_peak(const float *row, int64_t n) {
  vf peak = v_set(-INFINITY);
  int64_t j = 0;
  for (; j + VL <= n; j += VL) peak = v_max(peak, v_load(row + j));
  float m = v_peak(peak);
  for (; j < n; j++) m = row[j] > m ? row[j] : m;
  return m;
}

#ifdef __AVX512BF16__
// The forward direction where q, k and v are bf16: products in pairs of bf16, softmax in fp32. Needs no more scratch
// than the fp32 form.
void K(attention_half)(int threads, const struct attention_shape *s, const uint16_t *q, const uint16_t *k,
                       const uint16_t *v, const int32_t *length, struct view o, float *lse, void *scratch);
#endif

#endif
