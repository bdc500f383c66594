// csv.h: tables of text as RFC 4180 has them: commas, quotes where needed, LF or CRLF, UTF-8 with or without a mark.
#ifndef GRIDSEG_BASE_CSV_H
#define GRIDSEG_BASE_CSV_H

#include "base/status.h"

#include <stddef.h>
#include <stdio.h>

enum { CSV_LIMIT_BYTES = 1 << 30 };

struct csv {
  size_t rows, columns; // the header line is row 0; every row has as many fields as it
  char **cell;          // [rows * columns], borrowed from `text`
  size_t *line;         // [rows] where each row begins in the file, counted from 1
  char *text;
};

// Empty lines are left out. A row of another width, a quote without end or a 0 byte is ERR_FORMAT with file and line.
status_t csv_read(const char *path, struct csv *out);
status_t csv_parse(const char *name, const char *text, size_t size, struct csv *out);
void csv_free(struct csv *csv);
static inline const char *csv_at(const struct csv *c, size_t row, size_t column) {
  return c->cell[row * c->columns + column];
}
// The column whose header is `name`; c->columns when there is none.
size_t csv_find_column(const struct csv *c, const char *name);

// One field to a stream, quoted where needed, after a comma unless it is the first of its line.
void csv_write_field(FILE *out, const char *text, int first);

#endif
