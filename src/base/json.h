// json.h: jansson with our limits and our error text. JSON is read from files that others wrote: sizes, kinds and
// ranges are checked here, and every message names the file and the key.
#ifndef GRIDSEG_BASE_JSON_H
#define GRIDSEG_BASE_JSON_H

#include "base/status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { JSON_LIMIT_BYTES = 256 << 20 };

// Parse a whole file; *out is owned by the caller (json_decref). Errors carry file, line and column. Duplicate keys are
// refused.
status_t json_read(const char *path, json_t **out);
status_t json_parse(const char *name, const char *text, size_t size, json_t **out);
// Write with two-space indentation, keys in insertion order, complete or absent.
status_t json_write(const char *path, const json_t *value);

// Members of `object`; `where` is the file name for messages. A missing key is ERR_FORMAT with the key named, unless
// the function takes a fallback. Borrowed results live as long as `object`.
status_t json_get(const json_t *object, const char *where, const char *key, json_type type, json_t **out);
status_t json_get_text(const json_t *object, const char *where, const char *key, const char **out);
status_t json_get_int(const json_t *object, const char *where, const char *key, int64_t low, int64_t high,
                      int64_t *out);
status_t json_get_int_or(const json_t *object, const char *where, const char *key, int64_t low, int64_t high,
                         int64_t fallback, int64_t *out);
status_t json_get_real_or(const json_t *object, const char *where, const char *key, double fallback, double *out);
status_t json_get_bool_or(const json_t *object, const char *where, const char *key, bool fallback, bool *out);
status_t json_get_text_or(const json_t *object, const char *where, const char *key, const char *fallback,
                          const char **out);
// Set a member, taking over `value`; ERR_NOMEM when value is NULL.
status_t json_put(json_t *object, const char *key, json_t *value);

#endif
