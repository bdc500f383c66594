// batches.h: which samples a step takes, with which prompt, on which rank; and their pictures, masks and features.
//
// The training set is the concatenation of its pools. Each epoch has one permutation by (seed, epoch); the prompt's kind
// and wording are drawn by (seed, epoch, sample). A global batch is a stretch of the permutation, each rank takes a
// stretch of that: the same samples and prompts for any number of ranks. For scoring, every sample comes once, in
// order, with wording 0 - or, with prompt: random, once for each kind but p0 and wording, weighted so that a sample
// counts once (the exact mean of what training draws).
#ifndef GRIDSEG_TRAIN_BATCHES_H
#define GRIDSEG_TRAIN_BATCHES_H

#include "comm/comm.h"
#include "data/pool.h"
#include "train/features.h"

struct batches;

struct batches_options {
  struct pool *const *pools;
  int pool_count;
  const char *prompt; // a kind ("p6"), "random", or with `literal` the text itself
  bool literal;
  bool scoring;  // every sample once, in order
  int64_t batch; // global
  uint64_t seed;
  int rank, ranks;
};

// Lists the samples, and gives `features` the pools' pictures and every prompt that can be drawn: features_fill comes
// next. A sample that lacks the prompt is left out, counted and named in a warning; a pool without the kind, or nothing
// left, is ERR_ARG.
status_t batches_create(const struct batches_options *options, struct features *features, struct batches **out);
void batches_destroy(struct batches **b);

int64_t batches_samples(const struct batches *b); // samples in use
int64_t batches_steps(const struct batches *b);   // global batches of an epoch
int64_t batches_left_out(const struct batches *b);

struct batch {
  struct network_sample *sample; // [count] of this rank
  double *weight;                // [count] 1 except when scoring with prompt: random
  const char **name;             // [count] the samples' names
  int count;
  int64_t total; // samples of all ranks
};

// The batch of a step (0 .. steps-1) of an epoch; borrowed until the next call.
status_t batches_get(struct batches *b, int64_t epoch, int64_t step, const struct batch **out);

// Which samples that are, without their pixels: indices into the concatenation and prompt numbers of `features`, for
// this rank; both have room for the largest slice. *count is their number.
status_t batches_plan(struct batches *b, int64_t epoch, int64_t step, int64_t *sample, int *prompt, int *count);
int batches_largest(const struct batches *b); // the largest slice of this rank

#endif
