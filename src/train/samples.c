// samples.c: see samples.h. One table of columns drives reading and writing.
#include "train/samples.h"

#include "base/file.h"
#include "base/mem.h"

#include <fcntl.h>
#include <hdf5.h>
#include <string.h>
#include <unistd.h>

enum { ROW_LIMIT = 1 << 24, BLOCK_BYTES = 1 << 16 };

typedef enum { COLUMN_TEXT, COLUMN_REAL, COLUMN_INT } column_kind_t;

struct column {
  const char *name;
  column_kind_t kind;
  size_t offset; // in the row's struct
};

#define ROW(field) offsetof(struct sample_row, field)
#define MEASURE(resolution, at)                                                                                        \
  {resolution "_predicted", COLUMN_REAL, ROW(at.predicted)}, {resolution "_truth", COLUMN_REAL, ROW(at.truth)},        \
      {resolution "_both", COLUMN_REAL, ROW(at.both)}, {resolution "_dice", COLUMN_REAL, ROW(at.dice)},                \
      {resolution "_iou", COLUMN_REAL, ROW(at.iou)}, {resolution "_hd95", COLUMN_REAL, ROW(at.hd95)}, {                \
    resolution "_surface_dice", COLUMN_REAL, ROW(at.surface_dice)                                                      \
  }

static const struct column ROW_COLUMNS[] = {
    {"cell_key", COLUMN_TEXT, ROW(cell_key)},
    {"pool", COLUMN_TEXT, ROW(pool)},
    {"prompt", COLUMN_TEXT, ROW(prompt)},
    {"name", COLUMN_TEXT, ROW(name)},
    {"group", COLUMN_TEXT, ROW(group)},
    {"class", COLUMN_TEXT, ROW(class_name)},
    {"text", COLUMN_TEXT, ROW(text)},
    {"wording", COLUMN_INT, ROW(wording)},
    {"loss", COLUMN_REAL, ROW(loss)},
    MEASURE("network", at[RESOLUTION_NETWORK]),
    MEASURE("original", at[RESOLUTION_ORIGINAL]),
};
static const struct column EXCLUDED_COLUMNS[] = {
    {"excluded/cell_key", COLUMN_TEXT, offsetof(struct sample_excluded, cell_key)},
    {"excluded/pool", COLUMN_TEXT, offsetof(struct sample_excluded, pool)},
    {"excluded/prompt", COLUMN_TEXT, offsetof(struct sample_excluded, prompt)},
    {"excluded/name", COLUMN_TEXT, offsetof(struct sample_excluded, name)},
};

struct block { // texts of all rows; they live as long as the table
  struct block *next;
  size_t used, size;
  char text[];
};

struct samples {
  struct sample_row *rows;
  size_t count, room;
  struct sample_excluded *excluded;
  size_t excluded_count, excluded_room;
  struct block *blocks;
};

const char *resolution_name(resolution_t resolution) {
  return resolution == RESOLUTION_NETWORK ? "network" : "original";
}

static status_t keep_text(struct samples *s, const char *text, const char **out) {
  size_t need = strlen(text) + 1;
  if (!s->blocks || s->blocks->size - s->blocks->used < need) {
    struct block *b = NULL;
    size_t size = need > BLOCK_BYTES ? need : BLOCK_BYTES;
    TRY(mem_alloc(&b, sizeof *b + size, 1));
    b->next = s->blocks;
    b->size = size;
    s->blocks = b;
  }
  char *copy = s->blocks->text + s->blocks->used;
  memcpy(copy, text, need);
  s->blocks->used += need;
  *out = copy;
  return OK;
}

void samples_close(struct samples **samples) {
  if (!*samples) return;
  for (struct block *b = (*samples)->blocks; b;) {
    struct block *next = b->next;
    mem_free(&b);
    b = next;
  }
  mem_free(&(*samples)->rows);
  mem_free(&(*samples)->excluded);
  mem_free(samples);
}

static status_t add_row(struct samples *s, struct sample_row row) {
  const char **text[] = {&row.cell_key, &row.pool, &row.prompt, &row.name, &row.group, &row.class_name, &row.text};
  for (size_t i = 0; i < sizeof text / sizeof *text; i++) TRY(keep_text(s, *text[i] ? *text[i] : "", text[i]));
  TRY(mem_grow(&s->rows, &s->room, s->count + 1, sizeof *s->rows));
  s->rows[s->count++] = row;
  return OK;
}

status_t samples_add(struct samples *s, const struct sample_row *row) {
  return add_row(s, *row);
}

status_t samples_exclude(struct samples *s, const struct sample_excluded *row) {
  struct sample_excluded e = *row;
  const char **text[] = {&e.cell_key, &e.pool, &e.prompt, &e.name};
  for (size_t i = 0; i < sizeof text / sizeof *text; i++) TRY(keep_text(s, *text[i], text[i]));
  TRY(mem_grow(&s->excluded, &s->excluded_room, s->excluded_count + 1, sizeof *s->excluded));
  s->excluded[s->excluded_count++] = e;
  return OK;
}

bool samples_has(const struct samples *s, const struct key *cell) {
  char hex[65];
  key_hex(cell, hex);
  for (size_t i = 0; i < s->count; i++) {
    if (strcmp(s->rows[i].cell_key, hex) == 0) return true;
  }
  for (size_t i = 0; i < s->excluded_count; i++) {
    if (strcmp(s->excluded[i].cell_key, hex) == 0) return true;
  }
  return false;
}

void samples_remove(struct samples *s, const struct key *cell) {
  char hex[65];
  key_hex(cell, hex);
  size_t kept = 0, kept_excluded = 0;
  for (size_t i = 0; i < s->count; i++) {
    if (strcmp(s->rows[i].cell_key, hex) != 0) s->rows[kept++] = s->rows[i];
  }
  for (size_t i = 0; i < s->excluded_count; i++) {
    if (strcmp(s->excluded[i].cell_key, hex) != 0) s->excluded[kept_excluded++] = s->excluded[i];
  }
  s->count = kept;
  s->excluded_count = kept_excluded;
}

size_t samples_count(const struct samples *s) {
  return s->count;
}
const struct sample_row *samples_at(const struct samples *s, size_t i) {
  return &s->rows[i];
}
size_t samples_excluded_count(const struct samples *s) {
  return s->excluded_count;
}
const struct sample_excluded *samples_excluded_at(const struct samples *s, size_t i) {
  return &s->excluded[i];
}

// The type of a column in memory and in the file; closed with H5Tclose.
static hid_t column_type(column_kind_t kind) {
  if (kind == COLUMN_REAL) return H5Tcopy(H5T_NATIVE_DOUBLE);
  if (kind == COLUMN_INT) return H5Tcopy(H5T_NATIVE_INT32);
  hid_t type = H5Tcopy(H5T_C_S1);
  if (type >= 0 && (H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
    (void)H5Tclose(type);
    return -1;
  }
  return type;
}

static size_t column_bytes(column_kind_t kind) {
  return kind == COLUMN_TEXT ? sizeof(char *) : kind == COLUMN_REAL ? sizeof(double) : sizeof(int32_t);
}

static status_t write_column(hid_t file, const struct column *c, const char *path, const void *rows, size_t stride,
                             size_t count) {
  status_t st = OK;
  hid_t space = -1, type = -1, set = -1, links = -1, how = -1;
  char *values = NULL;
  size_t bytes = column_bytes(c->kind);
  hsize_t dim = count;
  TRY_GOTO(mem_alloc(&values, count, bytes), done);
  for (size_t i = 0; i < count; i++) memcpy(values + i * bytes, (const char *)rows + i * stride + c->offset, bytes);
  space = H5Screate_simple(1, &dim, NULL);
  type = column_type(c->kind);
  links = H5Pcreate(H5P_LINK_CREATE);
  how = H5Pcreate(H5P_DATASET_CREATE);
  // Without times, so that equal results are equal files.
  if (space < 0 || type < 0 || links < 0 || how < 0 || H5Pset_create_intermediate_group(links, 1) < 0 ||
      H5Pset_obj_track_times(how, 0) < 0) {
    FAIL_GOTO(done, ERR_IO, "HDF5 cannot describe dataset %s of %s", c->name, path);
  }
  set = H5Dcreate2(file, c->name, type, space, links, how, H5P_DEFAULT);
  if (set < 0 || (count > 0 && H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)) {
    FAIL_GOTO(done, ERR_IO, "cannot write dataset %s of %s", c->name, path);
  }
done:
  if (set >= 0) (void)H5Dclose(set);
  if (how >= 0) (void)H5Pclose(how);
  if (links >= 0) (void)H5Pclose(links);
  if (type >= 0) (void)H5Tclose(type);
  if (space >= 0) (void)H5Sclose(space);
  mem_free(&values);
  return st;
}

static status_t sync_and_rename(const char *from, const char *to) {
  int fd = open(from, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fsync(fd) != 0) {
    if (fd >= 0) (void)close(fd);
    return FAIL(ERR_IO, "cannot sync %s", from);
  }
  (void)close(fd);
  return file_rename(from, to);
}

status_t samples_save(const struct samples *s, const char *path) {
  status_t st = OK;
  char *temp = NULL;
  hid_t file = -1;
  (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL); // our messages name file and dataset
  TRY(mem_format(&temp, "%s.tmp-%ld", path, (long)getpid()));
  file = H5Fcreate(temp, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  if (file < 0) FAIL_GOTO(done, ERR_IO, "cannot create %s", temp);
  for (size_t i = 0; i < sizeof ROW_COLUMNS / sizeof *ROW_COLUMNS; i++) {
    TRY_GOTO(write_column(file, &ROW_COLUMNS[i], temp, s->rows, sizeof *s->rows, s->count), done);
  }
  for (size_t i = 0; i < sizeof EXCLUDED_COLUMNS / sizeof *EXCLUDED_COLUMNS; i++) {
    TRY_GOTO(write_column(file, &EXCLUDED_COLUMNS[i], temp, s->excluded, sizeof *s->excluded, s->excluded_count), done);
  }
  herr_t closed = H5Fclose(file);
  file = -1;
  if (closed < 0) FAIL_GOTO(done, ERR_IO, "cannot close %s", temp);
  TRY_GOTO(sync_and_rename(temp, path), done);
done:
  if (file >= 0) (void)H5Fclose(file);
  if (st != OK) (void)unlink(temp);
  mem_free(&temp);
  return st;
}

// A type in the file that can become the column's: texts variable-length, numbers of the same class.
static bool type_fits(hid_t stored, column_kind_t kind) {
  H5T_class_t class = H5Tget_class(stored);
  if (kind == COLUMN_TEXT) return class == H5T_STRING && H5Tis_variable_str(stored) > 0;
  return class == (kind == COLUMN_REAL ? H5T_FLOAT : H5T_INTEGER);
}

// Values of a column in *values: [*count], which the caller frees; *space is open for the reclaim of texts.
static status_t read_column(hid_t file, const struct column *c, const char *path, hid_t *space, char **values,
                            size_t *count) {
  status_t st = OK;
  hid_t type = -1, stored = -1, set = H5Dopen2(file, c->name, H5P_DEFAULT);
  if (set < 0) return FAIL(ERR_FORMAT, "%s: dataset %s is missing", path, c->name);
  *space = H5Dget_space(set);
  stored = H5Dget_type(set);
  type = column_type(c->kind);
  if (*space < 0 || stored < 0 || type < 0) FAIL_GOTO(done, ERR_FORMAT, "%s: cannot read dataset %s", path, c->name);
  if (H5Sget_simple_extent_ndims(*space) != 1 || !type_fits(stored, c->kind)) {
    FAIL_GOTO(done, ERR_FORMAT, "%s: dataset %s is not one column of %s", path, c->name,
              c->kind == COLUMN_TEXT ? "texts" : "numbers");
  }
  hssize_t n = H5Sget_simple_extent_npoints(*space);
  if (n < 0 || n > ROW_LIMIT) {
    FAIL_GOTO(done, ERR_FORMAT, "%s: dataset %s has %lld rows, wanted 0 to %d", path, c->name, (long long)n, ROW_LIMIT);
  }
  *count = (size_t)n;
  TRY_GOTO(mem_alloc(values, *count, column_bytes(c->kind)), done);
  if (n > 0 && H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, *values) < 0) {
    FAIL_GOTO(done, ERR_FORMAT, "%s: cannot read dataset %s", path, c->name);
  }
done:
  if (type >= 0) (void)H5Tclose(type);
  if (stored >= 0) (void)H5Tclose(stored);
  (void)H5Dclose(set);
  return st;
}

// One column into every row; *count is set by the first column and wanted of the others.
static status_t load_column(struct samples *s, hid_t file, const struct column *c, const char *path, void *rows,
                            size_t stride, size_t count) {
  status_t st = OK;
  hid_t space = -1;
  char *values = NULL;
  size_t n = 0;
  TRY_GOTO(read_column(file, c, path, &space, &values, &n), done);
  if (n != count) {
    FAIL_GOTO(done, ERR_FORMAT, "%s: dataset %s has %zu rows, the first one %zu", path, c->name, n, count);
  }
  size_t bytes = column_bytes(c->kind);
  for (size_t i = 0; i < count; i++) {
    char *field = (char *)rows + i * stride + c->offset;
    if (c->kind == COLUMN_TEXT) {
      const char *text = ((char *const *)values)[i], *kept = NULL;
      TRY_GOTO(keep_text(s, text ? text : "", &kept), done);
      memcpy(field, &kept, sizeof kept);
    } else {
      memcpy(field, values + i * bytes, bytes);
    }
  }
done:
  if (values && c->kind == COLUMN_TEXT && space >= 0) {
    hid_t type = column_type(COLUMN_TEXT);
    if (type >= 0) {
      (void)H5Dvlen_reclaim(type, space, H5P_DEFAULT, values);
      (void)H5Tclose(type);
    }
  }
  if (space >= 0) (void)H5Sclose(space);
  mem_free(&values);
  return st;
}

static status_t count_rows(hid_t file, const char *name, const char *path, size_t *count) {
  hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
  if (set < 0) return FAIL(ERR_FORMAT, "%s: dataset %s is missing", path, name);
  hid_t space = H5Dget_space(set);
  hssize_t n = space < 0 ? -1 : H5Sget_simple_extent_npoints(space);
  if (space >= 0) (void)H5Sclose(space);
  (void)H5Dclose(set);
  if (n < 0 || n > ROW_LIMIT) return FAIL(ERR_FORMAT, "%s: dataset %s has %lld rows", path, name, (long long)n);
  *count = (size_t)n;
  return OK;
}

static status_t load_all(struct samples *s, hid_t file, const char *path) {
  size_t rows = 0, excluded = 0;
  TRY(count_rows(file, ROW_COLUMNS[0].name, path, &rows));
  TRY(count_rows(file, EXCLUDED_COLUMNS[0].name, path, &excluded));
  TRY(mem_grow(&s->rows, &s->room, rows, sizeof *s->rows));
  TRY(mem_grow(&s->excluded, &s->excluded_room, excluded, sizeof *s->excluded));
  for (size_t i = 0; i < sizeof ROW_COLUMNS / sizeof *ROW_COLUMNS; i++) {
    TRY(load_column(s, file, &ROW_COLUMNS[i], path, s->rows, sizeof *s->rows, rows));
  }
  for (size_t i = 0; i < sizeof EXCLUDED_COLUMNS / sizeof *EXCLUDED_COLUMNS; i++) {
    TRY(load_column(s, file, &EXCLUDED_COLUMNS[i], path, s->excluded, sizeof *s->excluded, excluded));
  }
  s->count = rows;
  s->excluded_count = excluded;
  return OK;
}

status_t samples_open(const char *path, struct samples **out) {
  status_t st = OK;
  struct samples *s = NULL;
  hid_t file = -1;
  *out = NULL;
  (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  TRY_GOTO(mem_alloc(&s, 1, sizeof *s), done);
  if (file_exists(path)) {
    file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file < 0) FAIL_GOTO(done, ERR_FORMAT, "%s is not an HDF5 file that can be read", path);
    TRY_GOTO(load_all(s, file, path), done);
  }
  *out = s;
  s = NULL;
done:
  if (file >= 0) (void)H5Fclose(file);
  samples_close(&s);
  return st;
}
