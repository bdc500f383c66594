// test_tally.c: means, dataset-level numbers and counts of a cell, by hand. ranks 1, label unit.
#include "testing.h"
#include "train/tally.h"

#include <math.h>

static struct sample_measure measure(double predicted, double truth, double both, double hd95) {
  double sum = predicted + truth;
  return (struct sample_measure){.predicted = predicted,
                                 .truth = truth,
                                 .both = both,
                                 .dice = sum > 0 ? 2 * both / sum : 1,
                                 .iou = sum > 0 ? both / (sum - both) : 1,
                                 .hd95 = hd95,
                                 .surface_dice = isnan(hd95) ? NAN : 0.5};
}

static void numbers_and_counts_are_those_of_the_samples(void **state) {
  (void)state;
  // Two videos: a has three frames, b one; one frame is empty against empty, one prediction is empty.
  struct sample_measure m[4] = {measure(10, 30, 10, 4), measure(0, 0, 0, NAN), measure(0, 20, 0, NAN),
                                measure(40, 40, 20, 8)};
  const struct sample_measure *at[4] = {&m[0], &m[1], &m[2], &m[3]};
  const char *group[4] = {"a", "a", "a", "b"};
  struct tally t[TALLIES];
  assert_ok(tally_samples(at, group, 4, 1, 2, t));
  assert_true(fabs(t[TALLY_DICE].interval.value - (0.5 + 1 + 0 + 0.5) / 4) < 1e-15);
  assert_true(fabs(t[TALLY_IOU].interval.value - (1.0 / 3 + 1 + 0 + 1.0 / 3) / 4) < 1e-15);
  assert_true(t[TALLY_HD95].interval.value == 6 && t[TALLY_HD95].n == 2 && t[TALLY_HD95].groups == 2);
  assert_true(t[TALLY_DICE].n == 4 && t[TALLY_DICE].groups == 2);
  assert_true(fabs(t[TALLY_DICE_DATASET].interval.value - 60.0 / 140) < 1e-15);
  assert_true(fabs(t[TALLY_IOU_DATASET].interval.value - 30.0 / 110) < 1e-15);
  assert_true(t[TALLY_DICE_DATASET].n == 4);
  // Resamples of two groups are aa, ab, bb: a quarter of them all a, a quarter all b.
  assert_true(t[TALLY_HD95].interval.low == 4 && t[TALLY_HD95].interval.high == 8);
}

static void nothing_is_no_number(void **state) {
  (void)state;
  struct tally t[TALLIES];
  assert_ok(tally_samples(NULL, NULL, 0, 1, 1, t));
  for (int k = 0; k < TALLIES; k++) assert_true(isnan(t[k].interval.value) && isnan(t[k].interval.low) && t[k].n == 0);
  struct sample_measure m = measure(0, 0, 0, NAN);
  const struct sample_measure *at = &m;
  const char *group = "g";
  assert_ok(tally_samples(&at, &group, 1, 1, 1, t));
  assert_true(t[TALLY_DICE].interval.value == 1 && t[TALLY_DICE_DATASET].interval.low == 1);
  assert_true(isnan(t[TALLY_HD95].interval.value) && t[TALLY_HD95].n == 0 && t[TALLY_HD95].groups == 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(numbers_and_counts_are_those_of_the_samples),
      cmocka_unit_test(nothing_is_no_number),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
