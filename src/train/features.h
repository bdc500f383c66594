// features.h: what the frozen parts of a network make of a set of pictures and prompts: found in the store or computed,
// each one once, shared out over the ranks. Training, evaluation and prediction ask here for what a sample's step wants.
#ifndef GRIDSEG_TRAIN_FEATURES_H
#define GRIDSEG_TRAIN_FEATURES_H

#include "comm/comm.h"
#include "data/augment.h"
#include "text/tokenizer.h"
#include "train/network.h"
#include "train/store.h"

struct features;

struct features_options {
  struct network *network;
  struct store *store;
  struct comm *comm;
  const struct tokenizer *tokenizer; // NULL: a model without prompts, for which every text is the same nothing
  bool pad;                          // texts to the tokenizer's limit with its end token, as if it were part of them
  const char
      *store_dir; // as given to store_open: decides how ranks learn of each other's values; NULL or "none": memory
  // Asked between rounds of computing; a true anywhere makes all ranks return ERR_PREEMPTED with what they have stored.
  bool (*stop)(void *context);
  void *context;
};

// Everything in `options` is borrowed.
status_t features_create(const struct features_options *options, struct features **out);
void features_destroy(struct features **f);

// The pool's pictures will be asked for; *index names the pool in features_image. With `augment` (borrowed) each picture
// has augment->views views. Same order on all ranks.
status_t features_add_pool(struct features *f, const struct pool *pool, const struct augment *augment, int *index);
// The prompt's number; a text that was added before keeps its number. Same order on all ranks.
status_t features_add_prompt(struct features *f, const char *text, int *index);
// The number of a prompt that was added, -1 when it was not.
int features_find_prompt(const struct features *f, const char *text);

// Collective. Afterwards every added picture and prompt has its feature (where its source has one).
status_t features_fill(struct features *f);

// Feature of a picture, NULL where the network wants pixels.
const void *features_image(const struct features *f, int pool, int64_t image, int64_t view);
// What network_sample.condition wants: the prompt's feature, or its token ids; *length: number of ids.
const void *features_prompt(const struct features *f, int prompt, int *length);

#endif
