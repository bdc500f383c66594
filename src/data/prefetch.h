// prefetch.h: batches read ahead of their use. One thread fills a ring of batches in the sampler's order; the consumer
// takes them one by one.
#ifndef GRIDSEG_DATA_PREFETCH_H
#define GRIDSEG_DATA_PREFETCH_H

#include "data/augment.h"
#include "data/sampler.h"

// This rank's slice of one global batch. count may be 0.
struct batch {
  uint64_t epoch;
  int64_t index;                // of the batch in its epoch
  int64_t first, count;         // positions in the epoch
  int64_t global;               // samples of the batch over all ranks
  const struct sample_ref *ref; // [count]
  const uint8_t *images;        // [count, S, S, 3], NULL when images are not wanted
  const uint8_t *masks;         // [count, S, S] of 0 and 1
};

struct prefetch_options {
  struct sampler_options sampler; // the reader makes its own sampler
  int rank, world;
  int images;           // read images; else only masks
  int depth;            // batches in the ring, at least 2
  uint64_t first_epoch; // where to begin: the first batch handed out
  int64_t first_batch;
  uint64_t epochs;               // how many are handed out (the first may be begun in the middle); 0: without end
  const struct augment *augment; // NULL: pictures and masks as they are; borrowed
  bool bank;                     // the picture's view is one of augment.views, else one of the epoch's own
};

struct prefetch; // opaque; one consumer thread

// The view that a sample's picture shows in an epoch: what the reader applies.
status_t prefetch_view(const struct prefetch_options *options, const struct sample_ref *ref, uint64_t epoch,
                       struct augment_view *out);

status_t prefetch_create(const struct prefetch_options *options, struct prefetch **out);
// The next batch in *out, valid until the next call; NULL after the last epoch. An error of the reader comes up here,
// with its message, in its turn: batches read before it are handed out first. It then stays.
status_t prefetch_next(struct prefetch *p, const struct batch **out);
// Whether images are read, for batches that the reader has not begun: features may have made them needless.
void prefetch_want_images(struct prefetch *p, int images);
// Stops the reader, at the latest after the sample that it reads.
void prefetch_destroy(struct prefetch **prefetch);

#endif
