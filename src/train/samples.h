// samples.h: samples.h5, what every cell measured on every sample: one row a (cell, sample), one 1-dimensional dataset a column,
// read with h5py as file["original_dice"][:]. Texts are variable-length UTF-8. The group "excluded" names the samples that
// lacked a cell's prompt.
#ifndef GRIDSEG_TRAIN_SAMPLES_H
#define GRIDSEG_TRAIN_SAMPLES_H

#include "base/key.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { RESOLUTION_NETWORK, RESOLUTION_ORIGINAL, RESOLUTIONS } resolution_t;
const char *resolution_name(resolution_t resolution); // "network" | "original"

// Measured on one sample at one resolution; for the prompt `random` the mean over its prompts, pixel counts included. hd95 and
// surface_dice are NaN where a mask is empty, everything where the resolution was not asked for.
struct sample_measure {
  double predicted, truth, both; // pixels
  double dice, iou, hd95, surface_dice;
};

struct sample_row {
  const char *cell_key; // hexadecimal
  const char *pool, *prompt;
  const char *name, *group, *class_name; // the sample's, as in the pool
  const char *text;                      // the prompt's words; "" for `random`
  int32_t wording;                       // which wording of the prompt; -1 for `random`
  double loss;                           // at network size
  struct sample_measure at[RESOLUTIONS];
};

struct sample_excluded {
  const char *cell_key, *pool, *prompt, *name;
};

struct samples; // the rows in memory

// Read PATH; an absent file is an empty table. A dataset that is missing or of another kind or length is ERR_FORMAT.
status_t samples_open(const char *path, struct samples **out);
void samples_close(struct samples **samples);
bool samples_has(const struct samples *samples, const struct key *cell); // a row or an excluded sample of that cell
void samples_remove(struct samples *samples, const struct key *cell);
status_t samples_add(struct samples *samples, const struct sample_row *row); // copies the texts
status_t samples_exclude(struct samples *samples, const struct sample_excluded *row);
size_t samples_count(const struct samples *samples);
const struct sample_row *samples_at(const struct samples *samples, size_t i);
size_t samples_excluded_count(const struct samples *samples);
const struct sample_excluded *samples_excluded_at(const struct samples *samples, size_t i);
status_t samples_save(const struct samples *samples, const char *path); // complete or absent

#endif
