// rng.h: counter-based random numbers, Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011). A draw is a pure function of (seed, stream, counter): the same for any number of ranks and threads, and
// after any resume.
#ifndef GRIDSEG_BASE_RNG_H
#define GRIDSEG_BASE_RNG_H

#include <stdint.h>

// The four 32-bit words at `counter` of `stream` under `seed`.
void rng_block(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]);

// A sequential reader over one stream.
struct rng {
  uint64_t seed, stream, counter;
  uint32_t word[4];
  int left;
};

void rng_init(struct rng *r, uint64_t seed, uint64_t stream);
uint32_t rng_u32(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n); // uniform in [0, n), n > 0, without modulo bias
double rng_uniform(struct rng *r);             // uniform in [0, 1), 53 bits
double rng_normal(struct rng *r);              // mean 0, variance 1 (Box-Muller, one of the pair)
// Fisher-Yates over 0..n-1 into `order`.
void rng_permutation(struct rng *r, uint64_t *order, uint64_t n);
// A stream number from a name, for streams that belong to an operation or tensor (FNV-1a, 64 bits).
uint64_t rng_stream(const char *name);

#endif
