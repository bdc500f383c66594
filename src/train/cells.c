// cells.c: see cells.h.
#include "train/cells.h"

#include "base/file.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const HEADER[CELL_COLUMNS] = {
    "cell_key", "model",    "trained_on", "tested_on",  "prompt",    "prompt_source", "shift",  "severity", "seed",
    "loss",     "quirks",   "precision",  "resolution", "threshold", "metric",        "value",  "lo",       "hi",
    "n",        "n_groups", "n_excluded", "leak",       "seconds",   "device",        "version"};

struct row {
  char *field[CELL_COLUMNS];
};

struct cells {
  struct row *rows;
  size_t count, room;
};

static void free_row(struct row *row) {
  for (int i = 0; i < CELL_COLUMNS; i++) mem_free(&row->field[i]);
}

void cells_close(struct cells **cells) {
  if (!*cells) return;
  for (size_t i = 0; i < (*cells)->count; i++) free_row(&(*cells)->rows[i]);
  mem_free(&(*cells)->rows);
  mem_free(cells);
}

// A new last row with copies of the texts.
static status_t append_row(struct cells *c, const char *const field[CELL_COLUMNS]) {
  status_t st = OK;
  struct row row = {0};
  TRY_GOTO(mem_grow(&c->rows, &c->room, c->count + 1, sizeof *c->rows), done);
  for (int i = 0; i < CELL_COLUMNS; i++) TRY_GOTO(mem_copy_text(&row.field[i], field[i] ? field[i] : ""), done);
  c->rows[c->count++] = row;
done:
  if (st != OK) free_row(&row);
  return st;
}

status_t cells_open(const char *path, struct cells **out) {
  status_t st = OK;
  struct csv csv = {0};
  struct cells *c = NULL;
  *out = NULL;
  TRY_GOTO(mem_alloc(&c, 1, sizeof *c), done);
  if (file_exists(path)) {
    TRY_GOTO(csv_read(path, &csv), done);
    bool ours = csv.rows > 0 && csv.columns == CELL_COLUMNS;
    for (int i = 0; ours && i < CELL_COLUMNS; i++) ours = strcmp(csv_at(&csv, 0, (size_t)i), HEADER[i]) == 0;
    if (!ours)
      FAIL_GOTO(done, ERR_FORMAT, "%s:1: wanted the columns %s,%s,..., met others", path, HEADER[0], HEADER[1]);
    for (size_t r = 1; r < csv.rows; r++) {
      TRY_GOTO(append_row(c, (const char *const *)(csv.cell + r * csv.columns)), done);
    }
  }
  *out = c;
  c = NULL;
done:
  csv_free(&csv);
  cells_close(&c);
  return st;
}

bool cells_has(const struct cells *c, const struct key *key) {
  char hex[65];
  key_hex(key, hex);
  for (size_t i = 0; i < c->count; i++) {
    if (strcmp(c->rows[i].field[CELL_KEY], hex) == 0) return true;
  }
  return false;
}

void cells_remove(struct cells *c, const struct key *key) {
  char hex[65];
  key_hex(key, hex);
  size_t kept = 0;
  for (size_t i = 0; i < c->count; i++) {
    if (strcmp(c->rows[i].field[CELL_KEY], hex) == 0) {
      free_row(&c->rows[i]);
    } else {
      c->rows[kept++] = c->rows[i];
    }
  }
  c->count = kept;
}

enum { NUMBER_TEXT = 32 };

static const char *write_real(char text[NUMBER_TEXT], const char *format, double value) {
  text[0] = '\0';
  if (!isnan(value)) (void)snprintf(text, NUMBER_TEXT, format, value);
  return text;
}

status_t cells_add(struct cells *c, const struct cell *cell) {
  char key[65], reals[5][NUMBER_TEXT], counts[3][NUMBER_TEXT];
  key_hex(&cell->key, key);
  const int64_t number[3] = {cell->n, cell->n_groups, cell->n_excluded};
  for (int i = 0; i < 3; i++) (void)snprintf(counts[i], NUMBER_TEXT, "%lld", (long long)number[i]);
  const char *field[CELL_COLUMNS] = {
      [CELL_KEY] = key,
      [CELL_MODEL] = cell->model,
      [CELL_TRAINED_ON] = cell->trained_on,
      [CELL_TESTED_ON] = cell->tested_on,
      [CELL_PROMPT] = cell->prompt,
      [CELL_PROMPT_SOURCE] = cell->prompt_source,
      [CELL_SHIFT] = cell->shift,
      [CELL_SEVERITY] = cell->severity,
      [CELL_SEED] = cell->seed,
      [CELL_LOSS] = cell->loss,
      [CELL_QUIRKS] = cell->quirks,
      [CELL_PRECISION] = cell->precision,
      [CELL_RESOLUTION] = cell->resolution,
      [CELL_THRESHOLD] = write_real(reals[0], "%.9g", cell->threshold),
      [CELL_METRIC] = cell->metric,
      [CELL_VALUE] = write_real(reals[1], "%.9g", cell->value),
      [CELL_LO] = write_real(reals[2], "%.9g", cell->lo),
      [CELL_HI] = write_real(reals[3], "%.9g", cell->hi),
      [CELL_N] = counts[0],
      [CELL_N_GROUPS] = counts[1],
      [CELL_N_EXCLUDED] = counts[2],
      [CELL_LEAK] = cell->leak,
      [CELL_SECONDS] = write_real(reals[4], "%.3f", cell->seconds),
      [CELL_DEVICE] = cell->device,
      [CELL_VERSION] = cell->version,
  };
  return append_row(c, field);
}

status_t cells_save(const struct cells *c, const char *path) {
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (!out) return FAIL(ERR_NOMEM, "no memory to write %s", path);
  for (int i = 0; i < CELL_COLUMNS; i++) csv_write_field(out, HEADER[i], i == 0);
  (void)fputc('\n', out);
  for (size_t r = 0; r < c->count; r++) {
    for (int i = 0; i < CELL_COLUMNS; i++) csv_write_field(out, c->rows[r].field[i], i == 0);
    (void)fputc('\n', out);
  }
  bool failed = ferror(out) != 0;
  if (fclose(out) != 0) failed = true;
  status_t st = failed ? FAIL(ERR_NOMEM, "no memory to write %s", path) : file_write_atomic(path, text, size);
  free(text);
  return st;
}

size_t cells_count(const struct cells *c) {
  return c->count;
}

const char *cells_at(const struct cells *c, size_t row, cell_column_t column) {
  return c->rows[row].field[column];
}
