// evaluate.h: score a network on one pool with several prompts.
//
// Each picture passes the image side once, each distinct text the text side once, whatever the number of prompts; only the
// decoder runs per (sample, text). Ranks share the pool's pictures; every (sample, prompt) is measured exactly once.
#ifndef GRIDSEG_TRAIN_EVALUATE_H
#define GRIDSEG_TRAIN_EVALUATE_H

#include "comm/comm.h"
#include "data/pool.h"
#include "text/tokenizer.h"
#include "train/network.h"
#include "train/samples.h"
#include "train/store.h"

typedef enum {
  PROMPT_KIND, // a kind of the pool ("p6"), wording 0
  PROMPT_RANDOM, // the mean over every kind but p0 that a sample has, and over a kind's wordings within it: what training with
                 // prompt: random draws, without the chance
  PROMPT_LITERAL, // the same words for all samples
  PROMPT_NONE     // the model takes none; `text` is what tables say
} prompt_type_t;

struct evaluate_prompt {
  prompt_type_t type;
  const char *text; // the kind, "random", or the words
};

struct evaluate_job {
  const struct model *model;
  struct network *network;
  const struct tokenizer *tokenizer; // NULL: a model without prompts, asked with PROMPT_NONE
  bool study;                        // a model with several planes is scored as planes.h says
  bool pad;                          // texts to the tokenizer's limit with its end token (quirks: study of some models)
  struct store *store;               // features are looked up here; NULL: none
  bool keep_features;                // and put there: the store has a folder
  struct comm *comm;
  const struct pool *pool;
  const struct evaluate_prompt *prompts;
  int prompt_count;
  int size;         // the network's
  double threshold; // a pixel is foreground where sigmoid(logit) is above
  int batch;        // decoder passes at once
  int threads;      // of the measuring; 0: all cores
  bool resolutions[RESOLUTIONS];
  const char *mask_directory; // masks are kept in MASK_DIRECTORY/PROMPT/NAME.png, original size; NULL: none
};

// One prompt on one sample.
struct evaluate_row {
  int64_t sample;
  int32_t prompt;  // index into job.prompts
  int32_t wording; // -1 for PROMPT_RANDOM
  double loss;
  struct sample_measure at[RESOLUTIONS];
};

// Collective. On rank 0 *rows is [*count] sorted by (prompt, sample), freed with mem_free; elsewhere empty. A sample that lacks a
// prompt has no row. A logit that is not a number is ERR_NUMERIC naming the sample.
status_t evaluate_pool(const struct evaluate_job *job, struct evaluate_row **rows, size_t *count);

// Does `sample` have `prompt`?
bool evaluate_has_prompt(const struct pool *pool, int64_t sample, const struct evaluate_prompt *prompt);

#endif
