// predict.h: masks of pictures without truth (inside predict*.c only; the subcommand is declared in eval.h).
#ifndef GRIDSEG_TRAIN_PREDICT_H
#define GRIDSEG_TRAIN_PREDICT_H

#include "base/status.h"
#include "train/network.h"

#include <stdbool.h>
#include <stddef.h>

struct predict_options {
  const char *model, *out, *device;
  char **images; // paths, owned
  size_t image_count, image_room;
  bool folder;          // they were found in a folder: one that cannot be read doesn't stop the others
  const char **prompts; // borrowed
  size_t prompt_count, prompt_room;
  const char *prompt_image; // instead of prompts
  const char *logits;       // NULL: not written
  bool overlay, exif;
  double threshold; // NaN: the recipe's
  precision_t precision;
  int size;    // 0: the model's
  int threads; // 0: all cores
};

status_t predict_run(const struct predict_options *options);

#endif
