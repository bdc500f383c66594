// wordpiece_vocabulary.c: read vocab.txt as transformers' BertTokenizerFast does: Python's lines, the number of a line is its id,
// and a token that stands twice has the last of its ids.
#include "text/wordpiece.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static const char *const special_name[WORDPIECE_SPECIALS] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
static const char *const special_key[WORDPIECE_SPECIALS] = {"pad_token", "unk_token", "cls_token", "sep_token",
                                                            "mask_token"};

const char *wordpiece_special_name(int special) {
  return special_name[special];
}

void wordpiece_free(struct wordpiece *w) {
  free(w->names);
  mem_free(&w->file);
  *w = (struct wordpiece){0};
}

static int compare_text(const char *a, size_t na, const char *b, size_t nb) {
  int c = memcmp(a, b, na < nb ? na : nb);
  return c ? c : (na > nb) - (na < nb);
}

static int compare_names(const void *a, const void *b) {
  const struct wordpiece_name *x = a, *y = b;
  int c = compare_text(x->text, x->size, y->text, y->size);
  return c ? c : (x->id > y->id) - (x->id < y->id);
}

int32_t wordpiece_find(const struct wordpiece *w, const char *text, size_t size) {
  size_t low = 0, high = w->count;
  while (low < high) {
    size_t mid = (low + high) / 2;
    int c = compare_text(text, size, w->names[mid].text, w->names[mid].size);
    if (c == 0) return w->names[mid].id;
    if (c > 0) {
      low = mid + 1;
    } else {
      high = mid;
    }
  }
  return -1;
}

// Lines end with \n, \r or \r\n, as Python's text files have it; the last one may lack its end.
static status_t split_lines(struct wordpiece *w, const char *where, const char *text, size_t size) {
  size_t capacity = 0;
  for (size_t i = 0; i < size; w->count++) {
    if (w->count == WORDPIECE_ID_LIMIT) {
      return FAIL(ERR_FORMAT, "%s: more than the limit of %d lines", where, WORDPIECE_ID_LIMIT);
    }
    size_t end = i;
    while (end < size && text[end] != '\n' && text[end] != '\r') end++;
    TRY(mem_grow(&w->names, &capacity, w->count + 1, sizeof *w->names));
    w->names[w->count] =
        (struct wordpiece_name){.text = text + i, .size = (uint32_t)(end - i), .id = (int32_t)w->count};
    if (end - i > w->longest) w->longest = end - i;
    i = end + (end + 1 < size && text[end] == '\r' && text[end + 1] == '\n' ? 2 : 1);
  }
  w->size = (int)w->count;
  return OK;
}

// Order the names by text; of equal ones the last id stays.
static void sort_names(struct wordpiece *w) {
  size_t kept = 0;
  if (w->count) qsort(w->names, w->count, sizeof *w->names, compare_names);
  for (size_t i = 0; i < w->count; i++) {
    const struct wordpiece_name *n = &w->names[i], *last = kept ? &w->names[kept - 1] : NULL;
    bool same = last && compare_text(last->text, last->size, n->text, n->size) == 0;
    w->names[same ? kept - 1 : kept++] = *n;
  }
  w->count = kept;
}

static status_t read_vocabulary(const char *path, struct wordpiece *w) {
  size_t size;
  struct code_points scratch = {0};
  TRY(file_read(path, WORDPIECE_FILE_LIMIT, &w->file, &size));
  status_t st = unicode_decode((const char *)w->file, size, &scratch);
  code_points_free(&scratch);
  if (st != OK) return status_prefix(st, "%s", path);
  TRY(split_lines(w, path, (const char *)w->file, size));
  sort_names(w);
  for (int i = 0; i < WORDPIECE_SPECIALS; i++) {
    w->special[i] = wordpiece_find(w, special_name[i], strlen(special_name[i]));
    if (w->special[i] < 0) return FAIL(ERR_FORMAT, "%s: special token '%s' is missing", path, special_name[i]);
  }
  return OK;
}

// "unk_token": "[UNK]", or {"content": "[UNK]", ...}. Other names would give other ids: refused.
static status_t check_special(const json_t *config, const char *where, int which) {
  const json_t *value = json_object_get(config, special_key[which]);
  if (json_is_object(value)) value = json_object_get(value, "content");
  if (!value || json_is_null(value)) return OK;
  if (json_is_string(value) && !strcmp(json_string_value(value), special_name[which])) return OK;
  return FAIL(ERR_UNSUPPORTED, "%s: '%s' must be '%s', met '%s'", where, special_key[which], special_name[which],
              json_is_string(value) ? json_string_value(value) : "no text");
}

// "strip_accents": null (the default) follows do_lower_case.
static status_t read_config(const char *path, struct wordpiece *w) {
  json_t *config = NULL;
  status_t st = OK;
  w->lower = w->strip = w->chinese = true;
  if (!file_exists(path)) return OK;
  TRY_GOTO(json_read(path, &config), done);
  if (!json_is_object(config)) FAIL_GOTO(done, ERR_FORMAT, "%s must be an object", path);
  TRY_GOTO(json_get_bool_or(config, path, "do_lower_case", true, &w->lower), done);
  TRY_GOTO(json_get_bool_or(config, path, "tokenize_chinese_chars", true, &w->chinese), done);
  w->strip = w->lower;
  if (!json_is_null(json_object_get(config, "strip_accents"))) {
    TRY_GOTO(json_get_bool_or(config, path, "strip_accents", w->lower, &w->strip), done);
  }
  for (int i = 0; i < WORDPIECE_SPECIALS; i++) TRY_GOTO(check_special(config, path, i), done);
done:
  json_decref(config);
  return st;
}

status_t wordpiece_load(const char *vocabulary_path, const char *config_path, struct wordpiece *out) {
  *out = (struct wordpiece){0};
  TRY(read_config(config_path, out));
  return read_vocabulary(vocabulary_path, out);
}

status_t wordpiece_add_to_key(const struct wordpiece *w, struct key_builder *key) {
  TRY(key_add_int(key, "lower", w->lower));
  TRY(key_add_int(key, "strip", w->strip));
  TRY(key_add_int(key, "chinese", w->chinese));
  TRY(key_add_bytes(key, "special", w->special, sizeof w->special));
  for (size_t i = 0; i < w->count; i++) {
    TRY(key_add_bytes(key, "token", w->names[i].text, w->names[i].size));
    TRY(key_add_int(key, "id", w->names[i].id));
  }
  return OK;
}
