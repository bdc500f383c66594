// evaluate_plan.h: what one rank has to run for one pool (inside evaluate.c and evaluate_plan.c only).
#ifndef GRIDSEG_TRAIN_EVALUATE_PLAN_H
#define GRIDSEG_TRAIN_EVALUATE_PLAN_H

#include "train/evaluate.h"

// One decoder pass: a sample with a text. Units of a sample are neighbours, as are those of an image.
struct unit {
  int64_t sample, image;
  size_t text;            // index into texts
  size_t first_use, uses; // rows that its result goes into
  double loss;            // the result
  struct sample_measure at[RESOLUTIONS];
};

struct use {
  size_t row;
  double weight; // of the unit in the row: 1, or its share in the mean of PROMPT_RANDOM
};

struct plan_text {
  const char *words; // borrowed from pool or prompts
  size_t unit;       // one that asks it
  int32_t *ids;
  int length;
  const void *feature; // what the network takes: a feature, or NULL where its text side is trained
  void *owned;         // the feature's memory when it isn't the store's
};

struct evaluate_plan {
  struct unit *units;
  size_t unit_count, unit_room;
  struct use *uses;
  size_t use_count, use_room;
  struct evaluate_row *rows;
  size_t row_count, row_room;
  struct plan_text *texts; // distinct
  size_t text_count, text_room;
  size_t images; // distinct pictures of this rank
};

// The images i with i % size == rank, their samples in pool order.
status_t evaluate_plan_make(const struct evaluate_job *job, int rank, int size, struct evaluate_plan *out);
void evaluate_plan_free(struct evaluate_plan *plan);
// Results of the units into the rows.
status_t evaluate_plan_reduce(struct evaluate_plan *plan);

#endif
