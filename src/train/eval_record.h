// eval_record.h: where an evaluation's results go: cells.csv, samples.h5 and the table on standard output. Rank 0 only.
#ifndef GRIDSEG_TRAIN_EVAL_RECORD_H
#define GRIDSEG_TRAIN_EVAL_RECORD_H

#include "train/cells.h"
#include "train/eval_config.h"

// One model x pool x prompt.
struct eval_cell {
  struct key key;
  const struct pool *pool;
  const char *pool_label; // its name in tables and folders: NAME, or NAME-SPLIT where the split isn't "test"
  const struct evaluate_prompt *prompt;
};

struct eval_record; // OUT, with what it holds already

status_t eval_record_open(const char *out, struct eval_record **record);
void eval_record_close(struct eval_record **record);
// Are the cell's lines and rows there, and its masks where they are wanted?
bool eval_record_has(const struct eval_record *record, const struct eval_cell *cell, bool masks);

// Before a cell's masks are written: an empty folder. After it: say whose masks they are.
status_t eval_record_begin_masks(const struct eval_record *record, const struct eval_cell *cell);
status_t eval_record_end_masks(const struct eval_record *record, const struct eval_cell *cell);

// What is the same for all cells of a pool.
struct eval_context {
  const struct eval_options *options;
  const struct provenance *provenance;
  const char *device;
  int64_t leak;   // -1: not known
  double seconds; // of one cell
};

// Replace what is there of the cell by `rows` ([count], of one prompt, in pool order), in memory.
status_t eval_record_put(struct eval_record *record, const struct eval_cell *cell, const struct evaluate_row *rows,
                         size_t count, const struct eval_context *context);
// Write samples.h5, then cells.csv: a cell whose line is there has its rows.
status_t eval_record_save(struct eval_record *record);

// Dice of cells[pool][prompt] with its interval, and a row of means over pools, to `out`.
void eval_record_print(const struct eval_record *record, const struct eval_cell *cells, int pools, int prompts,
                       resolution_t resolution, FILE *out);

#endif
