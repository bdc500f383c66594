// cells.h: cells.csv, the results in long form: one line per cell (model x pool x prompt x shift), resolution and metric. Its
// columns are DESIGN's; reports and grids read it.
#ifndef GRIDSEG_TRAIN_CELLS_H
#define GRIDSEG_TRAIN_CELLS_H

#include "base/csv.h"
#include "base/key.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum {
  CELL_KEY,
  CELL_MODEL,
  CELL_TRAINED_ON,
  CELL_TESTED_ON,
  CELL_PROMPT,
  CELL_PROMPT_SOURCE,
  CELL_SHIFT,
  CELL_SEVERITY,
  CELL_SEED,
  CELL_LOSS,
  CELL_QUIRKS,
  CELL_PRECISION,
  CELL_RESOLUTION, // network | original
  CELL_THRESHOLD,
  CELL_METRIC, // dice iou hd95 surface_dice (means over images), dice_dataset iou_dataset (of summed pixels)
  CELL_VALUE,
  CELL_LO, // 95% interval, bootstrap over groups
  CELL_HI,
  CELL_N,          // samples in the value
  CELL_N_GROUPS,   // groups that they belong to
  CELL_N_EXCLUDED, // samples left out: without the prompt, or without a value of this metric
  CELL_LEAK,       // test images that are among the training images; empty where the training set is not known
  CELL_SECONDS,    // of the whole cell
  CELL_DEVICE,
  CELL_VERSION,
  CELL_COLUMNS
} cell_column_t;

// One line. Texts are borrowed; NULL and NaN are written as empty fields.
struct cell {
  struct key key;
  const char *model, *trained_on, *tested_on, *prompt, *prompt_source, *shift, *severity, *seed, *loss, *quirks,
      *precision, *resolution, *metric, *leak, *device, *version;
  double threshold, value, lo, hi, seconds;
  int64_t n, n_groups, n_excluded;
};

struct cells; // a table in memory

// Read PATH; an absent file is an empty table. Other columns than ours are ERR_FORMAT.
status_t cells_open(const char *path, struct cells **out);
void cells_close(struct cells **cells);
bool cells_has(const struct cells *cells, const struct key *key);
void cells_remove(struct cells *cells, const struct key *key); // every line of that cell
status_t cells_add(struct cells *cells, const struct cell *cell);
status_t cells_save(const struct cells *cells, const char *path); // complete or absent
size_t cells_count(const struct cells *cells);
const char *cells_at(const struct cells *cells, size_t row, cell_column_t column);

#endif
