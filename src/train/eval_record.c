// eval_record.c: see eval_record.h.
#include "train/eval_record.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "train/mask_file.h"
#include "train/tally.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_SHOWN = 20 };

struct eval_record {
  char *out, *cells_path, *samples_path;
  struct cells *cells;
  struct samples *samples;
};

status_t eval_record_open(const char *out, struct eval_record **record) {
  status_t st = OK;
  struct eval_record *r = NULL;
  *record = NULL;
  TRY_GOTO(mem_alloc(&r, 1, sizeof *r), done);
  TRY_GOTO(file_make_directories(out), done);
  TRY_GOTO(mem_copy_text(&r->out, out), done);
  TRY_GOTO(file_join(&r->cells_path, out, "cells.csv"), done);
  TRY_GOTO(file_join(&r->samples_path, out, "samples.h5"), done);
  TRY_GOTO(cells_open(r->cells_path, &r->cells), done);
  TRY_GOTO(samples_open(r->samples_path, &r->samples), done);
  *record = r;
  r = NULL;
done:
  eval_record_close(&r);
  return st;
}

void eval_record_close(struct eval_record **record) {
  if (!*record) return;
  samples_close(&(*record)->samples);
  cells_close(&(*record)->cells);
  mem_free(&(*record)->samples_path);
  mem_free(&(*record)->cells_path);
  mem_free(&(*record)->out);
  mem_free(record);
}

static status_t mask_folder(const struct eval_record *r, const struct eval_cell *cell, char **out) {
  char *name = NULL;
  TRY(mask_readable_name(cell->prompt->text, &name));
  status_t st = mem_format(out, "%s/masks/%s/%s", r->out, cell->pool_label, name);
  mem_free(&name);
  return st;
}

// The file that names the cell whose masks a folder holds; other models' masks may stand there.
static status_t mask_owner(const struct eval_record *r, const struct eval_cell *cell, char **out) {
  char *folder = NULL;
  TRY(mask_folder(r, cell, &folder));
  status_t st = file_join(out, folder, ".cell");
  mem_free(&folder);
  return st;
}

static bool has_masks(const struct eval_record *r, const struct eval_cell *cell) {
  char *path = NULL, hex[65];
  uint8_t *bytes = NULL;
  size_t size = 0;
  key_hex(&cell->key, hex);
  bool there = mask_owner(r, cell, &path) == OK && file_exists(path) && file_read(path, 64, &bytes, &size) == OK &&
               strcmp((char *)bytes, hex) == 0;
  mem_free(&bytes);
  mem_free(&path);
  return there;
}

status_t eval_record_begin_masks(const struct eval_record *r, const struct eval_cell *cell) {
  char *folder = NULL;
  TRY(mask_folder(r, cell, &folder));
  status_t st = file_remove_tree(folder);
  mem_free(&folder);
  return st;
}

status_t eval_record_end_masks(const struct eval_record *r, const struct eval_cell *cell) {
  char *path = NULL, *folder = NULL, hex[65];
  status_t st = OK;
  key_hex(&cell->key, hex);
  TRY_GOTO(mask_folder(r, cell, &folder), done);
  TRY_GOTO(file_make_directories(folder), done);
  TRY_GOTO(mask_owner(r, cell, &path), done);
  TRY_GOTO(file_write_atomic(path, hex, 64), done);
done:
  mem_free(&folder);
  mem_free(&path);
  return st;
}

bool eval_record_has(const struct eval_record *r, const struct eval_cell *cell, bool masks) {
  if (!cells_has(r->cells, &cell->key) || !samples_has(r->samples, &cell->key)) return false;
  return !masks || cell->prompt->type == PROMPT_RANDOM || has_masks(r, cell);
}

// Where the words of a cell's prompts come from; of `random` every source once.
static void name_sources(const struct eval_cell *cell, char *text, size_t size) {
  const struct pool_info *info = pool_get_info(cell->pool);
  unsigned seen = 0;
  text[0] = '\0';
  if (cell->prompt->type == PROMPT_LITERAL) (void)snprintf(text, size, "%s", prompt_source_name(PROMPT_PERSON));
  bool of_pool = cell->prompt->type == PROMPT_KIND || cell->prompt->type == PROMPT_RANDOM;
  for (int k = 0; of_pool && k < info->prompt_kinds; k++) {
    bool asked = cell->prompt->type == PROMPT_RANDOM ? strcmp(info->prompt_kind[k], "p0") != 0
                                                     : strcmp(info->prompt_kind[k], cell->prompt->text) == 0;
    if (!asked || (seen & 1u << info->prompt_source[k])) continue;
    seen |= 1u << info->prompt_source[k];
    size_t n = strlen(text);
    (void)snprintf(text + n, size - n, "%s%s", n ? "+" : "", prompt_source_name(info->prompt_source[k]));
  }
}

// The samples that lack the prompt, into samples.h5 and, the first of them, into the log.
static status_t name_excluded(struct eval_record *r, const struct eval_cell *cell, const char *hex, int64_t *count) {
  const struct pool_info *info = pool_get_info(cell->pool);
  char *names = NULL;
  size_t size = 0;
  status_t st = OK;
  FILE *out = open_memstream(&names, &size);
  if (!out) return FAIL(ERR_NOMEM, "no memory for the names of samples");
  *count = 0;
  for (int64_t i = 0; i < info->samples; i++) {
    if (evaluate_has_prompt(cell->pool, i, cell->prompt)) continue;
    struct pool_sample sample;
    TRY_GOTO(pool_get_sample(cell->pool, i, &sample), done);
    const struct sample_excluded row = {hex, cell->pool_label, cell->prompt->text, sample.name};
    TRY_GOTO(samples_exclude(r->samples, &row), done);
    if (*count < NAMES_SHOWN) (void)fprintf(out, "%s%s", *count ? ", " : "", sample.name);
    if (*count == NAMES_SHOWN) (void)fprintf(out, ", ... (all in %s, excluded)", r->samples_path);
    ++*count;
  }
done:
  (void)fclose(out);
  if (st == OK && *count > 0) {
    log_warn("%s: %lld of %lld samples lack the prompt %s and are left out: %s", info->name, (long long)*count,
             (long long)info->samples, cell->prompt->text, names);
  }
  free(names);
  return st;
}

static status_t put_rows(struct eval_record *r, const struct eval_cell *cell, const char *hex,
                         const struct evaluate_row *rows, size_t count) {
  int kind = cell->prompt->type == PROMPT_KIND ? pool_find_kind(cell->pool, cell->prompt->text) : -1;
  for (size_t i = 0; i < count; i++) {
    struct pool_sample sample;
    TRY(pool_get_sample(cell->pool, rows[i].sample, &sample));
    const char *text = cell->prompt->type == PROMPT_KIND      ? pool_get_prompt(cell->pool, rows[i].sample, kind, 0)
                       : cell->prompt->type == PROMPT_LITERAL ? cell->prompt->text
                                                              : "";
    struct sample_row row = {.cell_key = hex,
                             .pool = cell->pool_label,
                             .prompt = cell->prompt->text,
                             .name = sample.name,
                             .group = sample.group,
                             .class_name = sample.class_name,
                             .text = text,
                             .wording = rows[i].wording,
                             .loss = rows[i].loss};
    memcpy(row.at, rows[i].at, sizeof row.at);
    TRY(samples_add(r->samples, &row));
  }
  return OK;
}

// The lines of one resolution.
static status_t put_lines(struct eval_record *r, struct cell *line, const struct evaluate_row *rows, size_t count,
                          const char *const *group, int64_t excluded, resolution_t resolution,
                          const struct eval_options *o) {
  status_t st = OK;
  const struct sample_measure **at = NULL;
  struct tally tally[TALLIES];
  TRY_GOTO(mem_alloc(&at, count, sizeof *at), done);
  for (size_t i = 0; i < count; i++) at[i] = &rows[i].at[resolution];
  TRY_GOTO(tally_samples(at, group, count, o->seed, o->threads, tally), done);
  line->resolution = resolution_name(resolution);
  for (int k = 0; k < TALLIES; k++) {
    line->metric = tally_name((tally_t)k);
    line->value = tally[k].interval.value;
    line->lo = tally[k].interval.low;
    line->hi = tally[k].interval.high;
    line->n = tally[k].n;
    line->n_groups = tally[k].groups;
    line->n_excluded = excluded + (int64_t)count - tally[k].n;
    TRY_GOTO(cells_add(r->cells, line), done);
  }
done:
  mem_free(&at);
  return st;
}

status_t eval_record_put(struct eval_record *r, const struct eval_cell *cell, const struct evaluate_row *rows,
                         size_t count, const struct eval_context *x) {
  status_t st = OK;
  const char **group = NULL;
  char hex[65], source[128], leak[32] = "";
  int64_t excluded = 0;
  key_hex(&cell->key, hex);
  cells_remove(r->cells, &cell->key);
  samples_remove(r->samples, &cell->key);
  name_sources(cell, source, sizeof source);
  if (x->leak >= 0) (void)snprintf(leak, sizeof leak, "%lld", (long long)x->leak);
  TRY_GOTO(mem_alloc(&group, count, sizeof *group), done);
  for (size_t i = 0; i < count; i++) {
    struct pool_sample sample;
    TRY_GOTO(pool_get_sample(cell->pool, rows[i].sample, &sample), done);
    group[i] = sample.group;
  }
  TRY_GOTO(name_excluded(r, cell, hex, &excluded), done);
  TRY_GOTO(put_rows(r, cell, hex, rows, count), done);
  struct cell line = {.key = cell->key,
                      .model = x->options->name,
                      .trained_on = x->provenance->trained_on,
                      .tested_on = cell->pool_label,
                      .prompt = cell->prompt->text,
                      .prompt_source = source,
                      .seed = x->provenance->seed,
                      .loss = x->provenance->loss,
                      .quirks = x->provenance->quirks,
                      .precision = x->options->precision_name,
                      .leak = leak,
                      .device = x->device,
                      .version = GRIDSEG_VERSION,
                      .threshold = x->options->threshold,
                      .seconds = x->seconds};
  for (int k = 0; k < RESOLUTIONS; k++) {
    if (!x->options->resolutions[k]) continue;
    TRY_GOTO(put_lines(r, &line, rows, count, group, excluded, (resolution_t)k, x->options), done);
  }
done:
  mem_free(&group);
  return st;
}

status_t eval_record_save(struct eval_record *r) {
  TRY(samples_save(r->samples, r->samples_path));
  return cells_save(r->cells, r->cells_path);
}

// The Dice line of a cell; false where it has no value.
static bool find_dice(const struct eval_record *r, const struct eval_cell *cell, resolution_t resolution,
                      double value[3]) {
  char hex[65];
  key_hex(&cell->key, hex);
  for (size_t i = 0; i < cells_count(r->cells); i++) {
    if (strcmp(cells_at(r->cells, i, CELL_KEY), hex) != 0 ||
        strcmp(cells_at(r->cells, i, CELL_RESOLUTION), resolution_name(resolution)) != 0 ||
        strcmp(cells_at(r->cells, i, CELL_METRIC), tally_name(TALLY_DICE)) != 0)
      continue;
    static const cell_column_t column[3] = {CELL_VALUE, CELL_LO, CELL_HI};
    for (int k = 0; k < 3; k++) {
      const char *text = cells_at(r->cells, i, column[k]);
      value[k] = *text ? strtod(text, NULL) : NAN;
    }
    return !isnan(value[0]);
  }
  return false;
}

void eval_record_print(const struct eval_record *r, const struct eval_cell *cells, int pools, int prompts,
                       resolution_t resolution, FILE *out) {
  int wide = 4;
  for (int i = 0; i < pools; i++) {
    int n = (int)strlen(cells[i * prompts].pool_label);
    wide = n > wide ? n : wide;
  }
  (void)fprintf(out, "Dice, %s resolution, mean over images [95%% interval over groups]\n%-*s",
                resolution_name(resolution), wide, "");
  for (int p = 0; p < prompts; p++)
    (void)fprintf(out, "  %-19.19s", cells[p].prompt->text[0] ? cells[p].prompt->text : "\"\"");
  (void)fputc('\n', out);
  for (int i = 0; i <= pools; i++) {
    (void)fprintf(out, "%-*s", wide, i < pools ? cells[i * prompts].pool_label : "mean");
    for (int p = 0; p < prompts; p++) {
      double v[3], sum = 0;
      int n = 0;
      if (i < pools && find_dice(r, &cells[i * prompts + p], resolution, v)) {
        (void)fprintf(out, "  %.3f [%.3f %.3f]", v[0], v[1], v[2]);
        continue;
      }
      for (int k = 0; i == pools && k < pools; k++) {
        if (!find_dice(r, &cells[k * prompts + p], resolution, v)) continue;
        sum += v[0];
        n++;
      }
      if (n) {
        (void)fprintf(out, "  %-19.3f", sum / n);
      } else {
        (void)fprintf(out, "  %-19s", "-");
      }
    }
    (void)fputc('\n', out);
  }
}
