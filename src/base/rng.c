// rng.c: see rng.h.
#include "base/rng.h"

#include <math.h>

void rng_block(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]) {
  uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
    uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)p1;
    c3 = (uint32_t)p0;
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

void rng_init(struct rng *r, uint64_t seed, uint64_t stream) {
  *r = (struct rng){.seed = seed, .stream = stream};
}

uint32_t rng_u32(struct rng *r) {
  if (r->left == 0) {
    rng_block(r->seed, r->stream, r->counter++, r->word);
    r->left = 4;
  }
  return r->word[4 - r->left--];
}

static uint64_t u64(struct rng *r) {
  uint64_t high = rng_u32(r);
  return high << 32 | rng_u32(r);
}

uint64_t rng_below(struct rng *r, uint64_t n) {
  uint64_t limit = UINT64_MAX - UINT64_MAX % n; // the largest multiple of n: draws at or above it are thrown away
  for (;;) {
    uint64_t x = u64(r);
    if (x < limit) return x % n;
  }
}

double rng_uniform(struct rng *r) {
  return (double)(u64(r) >> 11) * 0x1p-53;
}

double rng_normal(struct rng *r) {
  double u = 1.0 - rng_uniform(r), v = rng_uniform(r); // u in (0, 1]
  return sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * v);
}

void rng_permutation(struct rng *r, uint64_t *order, uint64_t n) {
  for (uint64_t i = 0; i < n; i++) order[i] = i;
  for (uint64_t i = n; i > 1; i--) {
    uint64_t j = rng_below(r, i), kept = order[i - 1];
    order[i - 1] = order[j];
    order[j] = kept;
  }
}

uint64_t rng_stream(const char *name) {
  uint64_t h = 0xcbf29ce484222325u;
  for (; *name; name++) h = (h ^ (uint8_t)*name) * 0x100000001b3u;
  return h;
}
