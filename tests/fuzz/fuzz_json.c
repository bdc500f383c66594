// fuzz_json.c: any bytes as a JSON file. The parser refuses or answers; the getters never go out of range, and what was
// read is written and read again as the same value.
#include "base/json.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static void probe(const json_t *object) {
  json_t *member = NULL;
  const char *text = NULL;
  int64_t whole = 0;
  double real = 0.0;
  bool flag = false;
  (void)json_get(object, "fuzz", "a", JSON_OBJECT, &member);
  (void)json_get_text(object, "fuzz", "a", &text);
  (void)json_get_text_or(object, "fuzz", "b", "none", &text);
  if (json_get_int(object, "fuzz", "a", -5, 5, &whole) == OK && (whole < -5 || whole > 5)) abort();
  if (json_get_int_or(object, "fuzz", "c", 0, 1 << 20, 7, &whole) == OK && (whole < 0 || whole > 1 << 20)) abort();
  if (json_get_real_or(object, "fuzz", "c", 0.5, &real) == OK && !isfinite(real)) abort();
  (void)json_get_bool_or(object, "fuzz", "d", true, &flag);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  json_t *value = NULL, *again = NULL;
  if (json_parse("fuzz", (const char *)data, size, &value) != OK) {
    if (value) abort();
    return 0;
  }
  if (json_is_object(value)) {
    probe(value);
    char *text = json_dumps(value, JSON_COMPACT);
    if (text && json_parse("fuzz", text, strlen(text), &again) == OK && !json_equal(value, again)) abort();
    json_decref(again);
    free(text);
  }
  json_decref(value);
  return 0;
}
