// tally.h: from measurements of samples to the numbers of a cell.
#ifndef GRIDSEG_TRAIN_TALLY_H
#define GRIDSEG_TRAIN_TALLY_H

#include "train/bootstrap.h"
#include "train/samples.h"

typedef enum {
  TALLY_DICE,
  TALLY_IOU,
  TALLY_HD95,
  TALLY_SURFACE_DICE,
  TALLY_DICE_DATASET,
  TALLY_IOU_DATASET,
  TALLIES
} tally_t;
const char *tally_name(tally_t tally); // the metric's name in cells.csv

struct tally {
  struct bootstrap_interval interval; // NaN where nothing was measured
  int64_t n, groups;                  // samples and groups that have a value
};

// Means over samples (NaN values are left out), dataset-level Dice and IoU of summed pixels, and their bootstrap intervals over
// groups, of `count` samples: at[i] belongs to group[i] (equal texts are one group).
status_t tally_samples(const struct sample_measure *const *at, const char *const *group, size_t count, uint64_t seed,
                       int threads, struct tally out[TALLIES]);

#endif
