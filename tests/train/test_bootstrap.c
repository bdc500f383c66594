// test_bootstrap.c: intervals against numpy's (golden/bootstrap.json, made by golden/make_bootstrap.py) and against theory.
// ranks 1, label unit.
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "testing.h"
#include "train/bootstrap.h"

#include <math.h>
#include <stdbool.h>

static double number(const json_t *row, const char *key) {
  const json_t *v = json_object_get(row, key);
  assert_non_null(v);
  return json_is_null(v) ? NAN : json_number_value(v);
}

static bool close_to(double met, double wanted) {
  return isnan(wanted) ? isnan(met) : fabs(met - wanted) <= 1e-12 * (1 + fabs(wanted));
}

static void intervals_equal_numpy(void **state) {
  (void)state;
  json_t *rows = NULL;
  assert_ok(json_read(TEST_SOURCE_DIR "/tests/train/golden/bootstrap.json", &rows));
  assert_int_equal(json_array_size(rows), 12);
  for (size_t i = 0; i < json_array_size(rows); i++) {
    const json_t *row = json_array_get(rows, i), *list = json_object_get(row, "sums");
    size_t groups = json_array_size(list);
    double *sums = NULL, empty = number(row, "empty");
    assert_ok(mem_alloc(&sums, 2 * groups, sizeof *sums));
    for (size_t g = 0; g < 2 * groups; g++)
      sums[g] = json_number_value(json_array_get(json_array_get(list, g / 2), g % 2));
    for (int threads = 1; threads <= 3; threads++) {
      struct bootstrap_interval out;
      assert_ok(bootstrap_ratios(sums, &empty, groups, 1, (uint64_t)number(row, "seed"), threads, &out));
      if (!close_to(out.value, number(row, "value")) || !close_to(out.low, number(row, "low")) ||
          !close_to(out.high, number(row, "high")))
        fail_msg("case %zu: %.17g [%.17g %.17g], numpy %.17g [%.17g %.17g]", i, out.value, out.low, out.high,
                 number(row, "value"), number(row, "low"), number(row, "high"));
    }
    mem_free(&sums);
  }
  json_decref(rows);
}

static void statistics_share_the_draws(void **state) {
  (void)state;
  double sums[3 * 2 * 2], empty[2] = {NAN, NAN};
  for (int g = 0; g < 3; g++) {
    sums[4 * g] = g;
    sums[4 * g + 1] = 1;
    sums[4 * g + 2] = 10 * g;
    sums[4 * g + 3] = 2;
  }
  struct bootstrap_interval out[2];
  assert_ok(bootstrap_ratios(sums, empty, 3, 2, 9, 0, out));
  assert_true(fabs(out[1].low - 5 * out[0].low) < 1e-12 && fabs(out[1].high - 5 * out[0].high) < 1e-12);
  assert_true(out[0].low < out[0].high);
  assert_ok(bootstrap_ratios(sums, empty, 0, 2, 9, 0, out));
  assert_true(isnan(out[0].value) && isnan(out[1].low));
}

// The mean of 400 independent normal values: an interval of about 1.96 / 20 on both sides.
static void the_interval_of_a_mean_is_as_wide_as_theory_says(void **state) {
  (void)state;
  enum { N = 400 };
  static double sums[2 * N];
  double empty = NAN, mean = 0, square = 0;
  struct rng r;
  rng_init(&r, 6, 0);
  for (int i = 0; i < N; i++) {
    sums[2 * i] = rng_normal(&r);
    sums[2 * i + 1] = 1;
    mean += sums[2 * i] / N;
    square += sums[2 * i] * sums[2 * i] / N;
  }
  struct bootstrap_interval out;
  assert_ok(bootstrap_ratios(sums, &empty, N, 1, 42, 0, &out));
  double half = 1.96 * sqrt((square - mean * mean) / N);
  assert_true(fabs(out.value - mean) < 1e-12);
  assert_true(fabs(out.low - (mean - half)) < 0.1 * half && fabs(out.high - (mean + half)) < 0.1 * half);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(intervals_equal_numpy),
      cmocka_unit_test(statistics_share_the_draws),
      cmocka_unit_test(the_interval_of_a_mean_is_as_wide_as_theory_says),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
