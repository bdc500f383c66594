// batches.h: the sampler's places turned into what a step of the network wants: feature or picture, prompt, mask. Batches
// are read ahead by a thread (data/prefetch.h).
#ifndef GRIDSEG_TRAIN_BATCHES_H
#define GRIDSEG_TRAIN_BATCHES_H

#include "data/sampler.h"
#include "train/features.h"

struct batches;

struct batches_options {
  const struct model *model; // borrowed
  int planes;                // of its output
  struct pool *const *pools; // borrowed
  int pool_count;
  const char *prompt; // a kind ("p6"), "random", or with `literal` the text itself
  bool literal;
  bool scoring;  // in order, wording 0, every epoch the same; else shuffled
  bool pixels;   // the network wants pictures, not features
  int64_t batch; // global
  uint64_t seed;
  int rank, ranks;
  const struct augment *augment; // of the pictures, masks and words of training; NULL: none; borrowed
};

// Gives `features` the pools' pictures and every prompt that can be drawn: features_fill comes next. Samples that lack
// the prompt are left out, counted and named in a warning; when none is left that is ERR_ARG, as is a sample whose class has no
// plane of the model's output.
status_t batches_create(const struct batches_options *options, struct features *features, struct batches **out);
void batches_destroy(struct batches **b);

int64_t batches_samples(const struct batches *b); // samples of an epoch
int64_t batches_steps(const struct batches *b);   // global batches of an epoch
int batches_largest(const struct batches *b);     // the largest share of this rank

// This rank's part of one global batch.
struct share {
  struct network_sample *sample; // [count]
  int count;                     // may be 0
  int64_t total;                 // samples of all ranks
};

// The share of a step (0 .. steps-1) of an epoch; borrowed until the next call. Steps asked for in their order have been
// read ahead; any other step is read at once.
status_t batches_get(struct batches *b, int64_t epoch, int64_t step, const struct share **out);
// Name of the i-th sample of the last share, "POOL/NAME".
status_t batches_name(const struct batches *b, int i, char **name);

#endif
