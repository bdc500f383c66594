// test_logit.c: resizing against torch (golden/resize.json, made by golden/make_resize.py), and the threshold. ranks 1, label
// unit.
#include "base/json.h"
#include "base/mem.h"
#include "testing.h"
#include "train/logit.h"

#include <math.h>

static float *read_values(const json_t *row, const char *key, size_t count) {
  const json_t *list = json_object_get(row, key);
  assert_int_equal(json_array_size(list), count);
  float *values = NULL;
  assert_ok(mem_alloc(&values, count, sizeof *values));
  for (size_t i = 0; i < count; i++) values[i] = (float)json_number_value(json_array_get(list, i));
  return values;
}

static void resize_equals_torch(void **state) {
  (void)state;
  json_t *rows = NULL;
  assert_ok(json_read(TEST_SOURCE_DIR "/tests/train/golden/resize.json", &rows));
  assert_int_equal(json_array_size(rows), 8);
  for (size_t i = 0; i < json_array_size(rows); i++) {
    const json_t *row = json_array_get(rows, i);
    int size = (int)json_integer_value(json_object_get(row, "size"));
    int height = (int)json_integer_value(json_object_get(row, "height"));
    int width = (int)json_integer_value(json_object_get(row, "width"));
    size_t count = (size_t)height * (size_t)width;
    float *in = read_values(row, "in", (size_t)size * (size_t)size), *wanted = read_values(row, "out", count),
          *met = NULL;
    uint8_t *mask = NULL;
    assert_ok(mem_alloc(&met, count, sizeof *met));
    assert_ok(mem_alloc(&mask, count, 1));
    assert_ok(logit_resize(in, size, height, width, met));
    float cut = logit_cut(0.35);
    assert_ok(logit_to_mask(in, size, height, width, cut, mask));
    for (size_t k = 0; k < count; k++) {
      if (!(fabsf(met[k] - wanted[k]) <= 2e-6f))
        fail_msg("case %zu, value %zu: %.9g, torch %.9g", i, k, met[k], wanted[k]);
      assert_int_equal(mask[k], met[k] >= cut);
    }
    mem_free(&mask);
    mem_free(&met);
    mem_free(&wanted);
    mem_free(&in);
  }
  json_decref(rows);
}

static float sigmoid(float x) {
  return (float)(1.0 / (1.0 + exp(-(double)x)));
}

static void cut_is_where_the_sigmoid_passes_the_threshold(void **state) {
  (void)state;
  for (double t = 0.001; t < 1; t += 0.037) {
    float cut = logit_cut(t);
    assert_true(sigmoid(cut) > (float)t);
    assert_false(sigmoid(nextafterf(cut, -INFINITY)) > (float)t);
    assert_true(fabs(cut - log(t / (1 - t))) < 1e-5);
  }
  assert_true(logit_cut(0.5) > 0); // a logit of 0 is a sigmoid of 0.5: not above
  assert_true(isinf(logit_cut(1.0)) && logit_cut(1.0) > 0);
  assert_true(logit_cut(0.0) < -80);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(resize_equals_torch),
      cmocka_unit_test(cut_is_where_the_sigmoid_passes_the_threshold),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
