// source_csv.c: a table of samples, RFC 4180: fields in quotes may hold commas, line ends and doubled quotes.
#include "data_prep/source.h"

#include "base/file.h"
#include "base/mem.h"

#include <string.h>

enum { FILE_LIMIT = 256 << 20, COLUMNS = 5, FIELD_LIMIT = 32 };
static const char *const column_name[COLUMNS] = {"image", "mask", "prompt", "class", "group"};

struct reader {
  const char *file;
  char *at, *end; // the text is cut into fields in place
  size_t line;    // of the record's start
  size_t next;    // of the text at `at`
  char *field[FIELD_LIMIT];
  int fields;
  int column[COLUMNS]; // which field holds it, -1 for none
};

// One field from r->at, unquoted in place. *last is set when it ends its record.
static status_t read_field(struct reader *r, char **out, int *last) {
  char *to = r->at;
  *out = to;
  if (r->at < r->end && *r->at == '"') {
    r->at++;
    for (;; r->at++) {
      if (r->at >= r->end) return FAIL(ERR_FORMAT, "%s: line %zu: a quote is not closed", r->file, r->line);
      if (*r->at == '\n') r->next++;
      if (*r->at == '"') {
        r->at++;
        if (r->at >= r->end || *r->at != '"') break;
      }
      *to++ = *r->at;
    }
  } else {
    while (r->at < r->end && *r->at != ',' && *r->at != '\n' && *r->at != '\r') *to++ = *r->at++;
  }
  int stop = r->at < r->end ? *r->at : '\n';
  if (stop == '\r' && r->at + 1 < r->end && r->at[1] == '\n') stop = *++r->at;
  if (stop != ',' && stop != '\n')
    return FAIL(ERR_FORMAT, "%s: line %zu: a comma or line end is wanted after a field", r->file, r->line);
  if (r->at < r->end) r->at++;
  if (stop == '\n') r->next++;
  *last = stop == '\n';
  *to = '\0';
  return OK;
}

// The next record; fields = 0 at the end of the file. Empty lines are skipped.
static status_t read_record(struct reader *r) {
  int last = 0;
  r->fields = 0;
  while (r->at < r->end && (*r->at == '\n' || *r->at == '\r')) r->next += *r->at++ == '\n';
  r->line = r->next;
  if (r->at >= r->end) return OK;
  while (!last) {
    if (r->fields == FIELD_LIMIT)
      return FAIL(ERR_FORMAT, "%s: line %zu: more than %d columns", r->file, r->line, FIELD_LIMIT);
    TRY(read_field(r, &r->field[r->fields], &last));
    r->fields++;
  }
  return OK;
}

static status_t read_header(struct reader *r) {
  TRY(read_record(r));
  for (int c = 0; c < COLUMNS; c++) r->column[c] = -1;
  for (int f = 0; f < r->fields; f++) {
    int c = 0;
    while (c < COLUMNS && strcmp(r->field[f], column_name[c]) != 0) c++;
    if (c == COLUMNS)
      return FAIL(ERR_FORMAT, "%s: column '%s' is unknown; wanted image, mask and, if there are, prompt, class, group",
                  r->file, r->field[f]);
    if (r->column[c] >= 0) return FAIL(ERR_FORMAT, "%s: column '%s' is there twice", r->file, column_name[c]);
    r->column[c] = f;
  }
  if (r->column[0] < 0 || r->column[1] < 0)
    return FAIL(ERR_FORMAT, "%s: the first line must name the columns image and mask", r->file);
  return OK;
}

static const char *get(const struct reader *r, int column) {
  return r->column[column] < 0 ? "" : r->field[r->column[column]];
}

static status_t add_record(const struct reader *r, const char *folder, const char *prompt, struct source *out) {
  char where[1200];
  (void)snprintf(where, sizeof where, "%s: line %zu", r->file, r->line);
  TRY(source_check_name(where, get(r, 0)));
  TRY(source_check_name(where, get(r, 1)));
  TRY(source_add(out, folder, get(r, 0), folder, get(r, 1)));
  struct source_sample *x = &out->sample[out->samples - 1];
  if (*get(r, 3)) TRY(mem_copy_text(&x->class_name, get(r, 3)));
  if (*get(r, 4)) TRY(mem_copy_text(&x->group, get(r, 4)));
  TRY(source_add_prompt(out, "p0", PROMPT_CLASS, ""));
  const char *text = *get(r, 2) ? get(r, 2) : prompt ? prompt : "";
  return source_add_prompt(out, "p1", PROMPT_PERSON, text);
}

static status_t read_all(struct reader *r, const char *folder, const char *prompt, struct source *out) {
  TRY(read_header(r));
  int wanted = r->fields;
  for (;;) {
    TRY(read_record(r));
    if (r->fields == 0) break;
    if (r->fields != wanted)
      return FAIL(ERR_FORMAT, "%s: line %zu has %d fields; the first line has %d", r->file, r->line, r->fields, wanted);
    TRY(add_record(r, folder, prompt, out));
  }
  return out->samples ? OK : FAIL(ERR_ARG, "%s holds no samples", r->file);
}

status_t source_read_csv(const char *path, const char *split, const char *prompt, struct source *out) {
  char *file = NULL, *folder = NULL;
  uint8_t *text = NULL;
  size_t size = 0;
  status_t st = OK;
  *out = (struct source){0};
  if (file_is_directory(path)) {
    TRY_GOTO(mem_format(&file, "%s/%s.csv", path, split), done);
  } else {
    TRY_GOTO(mem_copy_text(&file, path), done);
  }
  const char *base = file_base_name(file);
  TRY_GOTO(base == file ? mem_copy_text(&folder, ".") : mem_copy_text_n(&folder, file, (size_t)(base - file - 1)),
           done);
  TRY_GOTO(file_read(file, FILE_LIMIT, &text, &size), done);
  if (memchr(text, 0, size)) FAIL_GOTO(done, ERR_FORMAT, "%s holds a zero byte: it is no text", file);
  struct reader r = {.file = file, .at = (char *)text, .end = (char *)text + size, .next = 1};
  if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) r.at += 3; // a byte order mark, as spreadsheets write it
  TRY_GOTO(read_all(&r, folder, prompt, out), done);
  TRY_GOTO(source_complete(out, file, file_base_name(folder)), done);
done:
  if (st != OK) source_free(out);
  mem_free(&text);
  mem_free(&folder);
  mem_free(&file);
  return st;
}
