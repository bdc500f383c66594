// csv.c: see csv.h.
#include "base/csv.h"

#include "base/file.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct reader {
  const char *name;
  char *at, *end; // fields are unquoted in place
  size_t line;
  struct csv *csv;
  size_t cells, cell_room, line_room;
};

static status_t add_cell(struct reader *r, char *field) {
  TRY(mem_grow(&r->csv->cell, &r->cell_room, r->cells + 1, sizeof *r->csv->cell));
  r->csv->cell[r->cells++] = field;
  return OK;
}

// One field; *last tells whether it ends its line. `at` is left behind the comma or line end.
static status_t read_field(struct reader *r, bool *last) {
  char *field = r->at, *out = r->at;
  size_t begin = r->line;
  if (r->at < r->end && *r->at == '"') {
    for (r->at++;; r->at++) {
      if (r->at >= r->end) return FAIL(ERR_FORMAT, "%s:%zu: a quoted field has no end", r->name, begin);
      if (*r->at == '"') {
        if (r->at + 1 >= r->end || r->at[1] != '"') break;
        r->at++;
      }
      if (*r->at == '\n') r->line++;
      *out++ = *r->at;
    }
    r->at++;
  } else {
    while (r->at < r->end && *r->at != ',' && *r->at != '\n' && *r->at != '\r') r->at++;
    out = r->at;
  }
  if (r->at < r->end && *r->at == '\r' && (r->at + 1 == r->end || r->at[1] == '\n')) {
    *r->at++ = '\0';
  }
  char *stop = r->at;
  *last = r->at >= r->end || *r->at == '\n';
  if (!*last && *r->at != ',') {
    return FAIL(ERR_FORMAT, "%s:%zu: wanted a comma or the end of the line after a field, met byte 0x%02x", r->name,
                r->line, (unsigned)(uint8_t)*r->at);
  }
  if (r->at < r->end) r->at++;
  if (*last && stop < r->end) r->line++;
  *out = '\0'; // at the latest the byte of `stop`, which was read
  return add_cell(r, field);
}

static status_t read_rows(struct reader *r) {
  struct csv *c = r->csv;
  while (r->at < r->end) {
    if (*r->at == '\n' || (*r->at == '\r' && (r->at + 1 == r->end || r->at[1] == '\n'))) {
      r->line += *r->at == '\n';
      r->at++;
      continue;
    }
    TRY(mem_grow(&c->line, &r->line_room, c->rows + 1, sizeof *c->line));
    c->line[c->rows] = r->line;
    size_t first = r->cells;
    for (bool last = false; !last;) TRY(read_field(r, &last));
    size_t width = r->cells - first;
    if (c->rows == 0) c->columns = width;
    if (width != c->columns) {
      return FAIL(ERR_FORMAT, "%s:%zu: %zu fields, where the header has %zu", r->name, c->line[c->rows], width,
                  c->columns);
    }
    c->rows++;
  }
  return OK;
}

status_t csv_parse(const char *name, const char *text, size_t size, struct csv *out) {
  status_t st = OK;
  *out = (struct csv){0};
  const char *zero = memchr(text, 0, size);
  if (zero) return FAIL(ERR_FORMAT, "%s: byte %zu is 0: not a text file", name, (size_t)(zero - text));
  if (size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) {
    text += 3;
    size -= 3;
  }
  TRY_GOTO(mem_copy_text_n(&out->text, text, size), done);
  struct reader r = {.name = name, .at = out->text, .end = out->text + size, .line = 1, .csv = out};
  TRY_GOTO(read_rows(&r), done);
done:
  if (st != OK) csv_free(out);
  return st;
}

status_t csv_read(const char *path, struct csv *out) {
  uint8_t *bytes = NULL;
  size_t size = 0;
  *out = (struct csv){0};
  TRY(file_read(path, CSV_LIMIT_BYTES, &bytes, &size));
  status_t st = csv_parse(path, (const char *)bytes, size, out);
  mem_free(&bytes);
  return st;
}

void csv_free(struct csv *csv) {
  mem_free(&csv->cell);
  mem_free(&csv->line);
  mem_free(&csv->text);
  *csv = (struct csv){0};
}

size_t csv_find_column(const struct csv *c, const char *name) {
  for (size_t i = 0; c->rows > 0 && i < c->columns; i++) {
    if (strcmp(csv_at(c, 0, i), name) == 0) return i;
  }
  return c->columns;
}

void csv_write_field(FILE *out, const char *text, int first) {
  if (!first) (void)fputc(',', out);
  size_t n = strlen(text);
  if (n && !strpbrk(text, ",\"\r\n") && text[0] != ' ' && text[n - 1] != ' ') {
    (void)fputs(text, out);
    return;
  }
  if (n == 0 && !first) return;
  (void)fputc('"', out); // also an empty first field, which alone on its line would be an empty line
  for (; *text; text++) {
    if (*text == '"') (void)fputc('"', out);
    (void)fputc(*text, out);
  }
  (void)fputc('"', out);
}
