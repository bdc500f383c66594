// json.c: see json.h.
#include "base/json.h"

#include "base/file.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static const char *const type_name[] = {"an object", "an array", "a string", "an integer",
                                        "a real",    "true",     "false",    "null"};

status_t json_parse(const char *name, const char *text, size_t size, json_t **out) {
  json_error_t e;
  *out = json_loadb(text, size, JSON_REJECT_DUPLICATES, &e);
  if (!*out) return FAIL(ERR_FORMAT, "%s: line %d, column %d: %s", name, e.line, e.column, e.text);
  return OK;
}

status_t json_read(const char *path, json_t **out) {
  uint8_t *bytes = NULL;
  size_t size;
  *out = NULL;
  TRY(file_read(path, JSON_LIMIT_BYTES, &bytes, &size));
  status_t st = json_parse(path, (const char *)bytes, size, out);
  mem_free(&bytes);
  return st;
}

status_t json_write(const char *path, const json_t *value) {
  char *text = json_dumps(value, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17) | JSON_ENSURE_ASCII);
  if (!text) return FAIL(ERR_NOMEM, "%s: cannot turn the value into text (invalid UTF-8 or no memory)", path);
  size_t n = strlen(text);
  text[n] = '\n'; // takes the place of the end mark: the length is passed on
  status_t st = file_write_atomic(path, text, n + 1);
  free(text);
  return st;
}

static bool is_kind(const json_t *v, json_type type) {
  if (type == JSON_REAL) return json_is_number(v);
  if (type == JSON_TRUE) return json_is_boolean(v);
  return json_typeof(v) == type;
}

static status_t wrong(const char *where, const char *key, const char *want, const json_t *v) {
  return FAIL(ERR_FORMAT, "%s: '%s' must be %s, met %s", where, key, want, type_name[json_typeof(v)]);
}

status_t json_get(const json_t *object, const char *where, const char *key, json_type type, json_t **out) {
  *out = json_object_get(object, key);
  if (!*out) return FAIL(ERR_FORMAT, "%s: '%s' is missing", where, key);
  if (!is_kind(*out, type)) {
    return wrong(where, key,
                 type == JSON_REAL   ? "a number"
                 : type == JSON_TRUE ? "true or false"
                                     : type_name[type],
                 *out);
  }
  return OK;
}

status_t json_get_text(const json_t *object, const char *where, const char *key, const char **out) {
  json_t *v;
  TRY(json_get(object, where, key, JSON_STRING, &v));
  if (strlen(json_string_value(v)) != json_string_length(v)) {
    return FAIL(ERR_FORMAT, "%s: '%s' holds a zero byte", where, key);
  }
  *out = json_string_value(v);
  return OK;
}

status_t json_get_int(const json_t *object, const char *where, const char *key, int64_t low, int64_t high,
                      int64_t *out) {
  json_t *v;
  TRY(json_get(object, where, key, JSON_INTEGER, &v));
  *out = json_integer_value(v);
  if (*out < low || *out > high) {
    return FAIL(ERR_FORMAT, "%s: '%s' must be between %lld and %lld, met %lld", where, key, (long long)low,
                (long long)high, (long long)*out);
  }
  return OK;
}

// Absent and null are the same to the public configuration files.
static bool absent(const json_t *object, const char *key) {
  const json_t *v = json_object_get(object, key);
  return !v || json_is_null(v);
}

status_t json_get_int_or(const json_t *object, const char *where, const char *key, int64_t low, int64_t high,
                         int64_t fallback, int64_t *out) {
  *out = fallback;
  return absent(object, key) ? OK : json_get_int(object, where, key, low, high, out);
}

status_t json_get_real_or(const json_t *object, const char *where, const char *key, double fallback, double *out) {
  json_t *v;
  *out = fallback;
  if (absent(object, key)) return OK;
  TRY(json_get(object, where, key, JSON_REAL, &v));
  *out = json_number_value(v);
  return OK;
}

status_t json_get_bool_or(const json_t *object, const char *where, const char *key, bool fallback, bool *out) {
  json_t *v;
  *out = fallback;
  if (absent(object, key)) return OK;
  TRY(json_get(object, where, key, JSON_TRUE, &v));
  *out = json_is_true(v);
  return OK;
}

status_t json_get_text_or(const json_t *object, const char *where, const char *key, const char *fallback,
                          const char **out) {
  *out = fallback;
  return absent(object, key) ? OK : json_get_text(object, where, key, out);
}

status_t json_put(json_t *object, const char *key, json_t *value) {
  if (!value || json_object_set_new(object, key, value) != 0)
    return FAIL(ERR_NOMEM, "no memory for JSON key '%s'", key);
  return OK;
}
