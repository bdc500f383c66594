// sampler.h: which sample stands where in which epoch, and with which words. Everything is a function of (seed, epoch,
// sample): the same for any number of ranks and after any resume.
#ifndef GRIDSEG_DATA_SAMPLER_H
#define GRIDSEG_DATA_SAMPLER_H

#include "data/pool.h"

// One place in an epoch.
struct sample_ref {
  int pool;       // index into the union's pools
  int64_t sample; // in that pool
  int64_t whole;  // in the union: pools one after the other
  int kind;       // prompt kind of that pool, -1 for a literal prompt
  int wording;
};

struct sampler_options {
  const struct pool *const *pools; // borrowed, outlive the sampler; of one size
  int count;
  const char *prompt; // a kind ("p6"), "random" (any kind of the sample but p0), or NULL for a literal text
  uint64_t seed;
  int64_t batch; // global
  int shuffle;   // 0: in the order of the union, wording 0 (and with "random" still a drawn kind): for evaluation
};

struct sampler; // opaque, used from one thread

// ERR_ARG when pools differ in size, when a kind is in none of them, or when no sample is left.
status_t sampler_create(const struct sampler_options *options, struct sampler **out);
void sampler_destroy(struct sampler **sampler);

int64_t sampler_samples(const struct sampler *s); // that take part in an epoch
int64_t sampler_batches(const struct sampler *s); // in an epoch; the last one may be short
int64_t sampler_batch(const struct sampler *s);   // global size of a full batch
// Samples that lack the prompt take no part; *whole lists them (union indices, borrowed) for the caller to name.
int64_t sampler_missing(const struct sampler *s, const int64_t **whole);

// Make `epoch` the current one (one permutation). sampler_get then answers for positions of that epoch.
status_t sampler_set_epoch(struct sampler *s, uint64_t epoch);
// What stands at `position` in [0, sampler_samples).
status_t sampler_get(const struct sampler *s, int64_t position, struct sample_ref *out);
// The positions [*first, *first + *count) of `batch` that belong to `rank`: contiguous slices that differ by at most
// one; *count may be 0 in a short batch.
void sampler_slice(const struct sampler *s, int64_t batch, int rank, int world, int64_t *first, int64_t *count);
// The union index as pool and sample.
void sampler_locate(const struct sampler *s, int64_t whole, int *pool, int64_t *sample);

#endif
