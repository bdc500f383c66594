// philox.h: the random words of base/rng.h (Philox 4x32-10), sixty-four at a time, and the draw of a dropout out of them.
#ifndef GRIDSEG_BACKEND_ONEDNN_KERNELS_PHILOX_H
#define GRIDSEG_BACKEND_ONEDNN_KERNELS_PHILOX_H

#include "backend/onednn/kernels/kernels.h"
#include "backend/onednn/kernels/vector.h"

#include <math.h>

// The draw of one sample: which words drop their element, and what the others are multiplied by.
enum { ROUNDS = 10 };
struct draw {
  uint64_t key[ROUNDS][2]; // of each round
  uint32_t step, sample;
  uint64_t stream;
  uint32_t last; // the greatest word that drops
  float factor;
};

// 0 < p < 1.
static inline struct draw draw_of(const struct dropout *d, int64_t sample) {
  const int32_t *noise = d->noise + sample * 4;
  double first = ceil(d->p * 0x1p32); // the smallest word that keeps
  struct draw draw = {.step = (uint32_t)noise[2],
                      .sample = (uint32_t)noise[3],
                      .stream = (uint64_t)d->stream,
                      .last = first > 1 ? (uint32_t)(first - 1) : 0,
                      .factor = (float)(1 / (1 - d->p))};
  for (uint32_t round = 0; round < ROUNDS; round++) {
    draw.key[round][0] = (uint32_t)noise[0] + round * 0x9E3779B9u;
    draw.key[round][1] = (uint32_t)noise[1] + round * 0xBB67AE85u;
  }
  return draw;
}

typedef uint64_t vq __attribute__((vector_size(64), may_alias));

// The low halves of eight lanes times m.
INLINE vq q_product(vq a, uint32_t m) {
#if defined(__AVX512F__)
  return (vq)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64((int64_t)m));
#else
  return (a & 0xffffffffu) * (uint64_t)m;
#endif
}

// words[2i] and words[2i+1] of eight lanes, those of `a` before those of `b`: a0 b0 a1 b1 ..
INLINE void q_weave(vq a, vq b, uint32_t words[32]) {
#if defined(__AVX512F__)
  const __m512i low = _mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0), high = _mm512_set_epi64(15, 7, 14, 6, 13, 5, 12, 4);
  _mm512_storeu_si512(words, _mm512_permutex2var_epi64((__m512i)a, low, (__m512i)b));
  _mm512_storeu_si512(words + 16, _mm512_permutex2var_epi64((__m512i)a, high, (__m512i)b));
#else
  for (int i = 0; i < 8; i++) {
    memcpy(words + 4 * i, (const char *)&a + 8 * i, 8);
    memcpy(words + 4 * i + 2, (const char *)&b + 8 * i, 8);
  }
#endif
}

enum { DRAW = 64 }; // words of one call

// The words of elements [at, at + 64); at is a multiple of 4. A lane of 64 bits holds one word of one block.
INLINE void draw_words(const struct draw *d, int64_t at, uint32_t words[DRAW]) {
  const vq lane = {0, 1, 2, 3, 4, 5, 6, 7};
  vq c0[2], c1[2], c2[2], c3[2];
  for (int h = 0; h < 2; h++) {
    c0[h] = lane + ((uint64_t)at / 4 + 8 * (uint64_t)h);
    c1[h] = (c0[h] >> 32) | d->stream;
    c2[h] = (vq){0} + d->step;
    c3[h] = (vq){0} + d->sample;
  }
  for (int round = 0; round < ROUNDS; round++) {
    for (int h = 0; h < 2; h++) {
      vq p0 = q_product(c0[h], 0xD2511F53u), p1 = q_product(c2[h], 0xCD9E8D57u);
      c0[h] = (p1 >> 32) ^ c1[h] ^ d->key[round][0];
      c2[h] = (p0 >> 32) ^ c3[h] ^ d->key[round][1];
      c1[h] = p1;
      c3[h] = p0;
    }
  }
  for (int h = 0; h < 2; h++) {
    q_weave((c0[h] & 0xffffffffu) | (c1[h] << 32), (c2[h] & 0xffffffffu) | (c3[h] << 32), words + 32 * h);
  }
}

// Lanes whose element is kept.
INLINE vi draw_kept(const struct draw *d, const uint32_t *words) {
  vu w;
  memcpy(&w, words, sizeof w);
  return (vi)(w > (vu){0} + d->last);
}

#endif
