// golden_tokens.h: token ids that transformers made (make_golden.py) against ours.
#ifndef GRIDSEG_TESTS_GOLDEN_TOKENS_H
#define GRIDSEG_TESTS_GOLDEN_TOKENS_H

#include "testing.h"
#include "text/tokenizer.h"

#include <jansson.h>

#define GOLDEN TEST_SOURCE_DIR "/tests/text/golden"

// Every row of a golden file: the text (repeated where it says so) has exactly these ids.
static void check_golden(const struct tokenizer *t, const char *path, size_t least) {
  json_error_t e;
  json_t *rows = json_load_file(path, JSON_ALLOW_NUL, &e), *row;
  size_t i;
  if (!rows) fail_msg("%s: %s", path, e.text);
  assert_true(json_array_size(rows) >= least);
  int32_t *ids = calloc((size_t)tokenizer_limit(t), sizeof *ids);
  json_array_foreach(rows, i, row) {
    const json_t *text = json_object_get(row, "text"), *truth = json_object_get(row, "ids");
    const json_t *repeat = json_object_get(row, "repeat");
    size_t one = json_string_length(text), times = repeat ? (size_t)json_integer_value(repeat) : 1;
    char *whole = malloc(one * times + 1);
    for (size_t k = 0; k < times; k++) memcpy(whole + k * one, json_string_value(text), one);
    int count = -1;
    assert_ok(tokenizer_encode(t, whole, one * times, ids, &count));
    free(whole);
    bool same = (size_t)count == json_array_size(truth);
    for (int k = 0; same && k < count; k++) same = ids[k] == json_integer_value(json_array_get(truth, (size_t)k));
    if (!same) fail_msg("%s: row %zu, text '%.80s': other ids", path, i, json_string_value(text));
  }
  free(ids);
  json_decref(rows);
}

#endif
