// curves.h: OUT/curves.csv, one row a step and one an epoch. A run that goes on cuts the file back to where its
// checkpoint was made, so that an interrupted run leaves the rows of an undisturbed one (times apart).
#ifndef GRIDSEG_TRAIN_CURVES_H
#define GRIDSEG_TRAIN_CURVES_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct curves;

struct curves_row {
  bool epoch_end; // "epoch": means over the epoch and the validation's; else "step"
  int64_t epoch, step;
  double loss, dice, lr;
  bool validated;
  double val_loss, val_dice;
  double images_per_s, seconds; // seconds since the run's start, earlier parts of it included
};

// Open FOLDER/curves.csv at `keep` bytes (0: anew, with its heading). A file shorter than that, damaged by others,
// is kept as it is, with a warning.
status_t curves_open(const char *folder, int64_t keep, struct curves **out);
status_t curves_write(struct curves *c, const struct curves_row *row);
// Bytes so far, all of them on disk: what a checkpoint remembers.
status_t curves_sync(struct curves *c, int64_t *bytes);
void curves_close(struct curves **c);

#endif
