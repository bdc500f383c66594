// test_planes.c: the study's Dice and IoU of several planes against MONAI 1.4's compute_dice and compute_iou (include_background=False,
// ignore_empty=False): the numbers below are theirs for the same logits and masks. ranks 1, label unit.
#include "testing.h"
#include "train/logit.h"
#include "train/metric.h"
#include "train/planes.h"

#include <math.h>

enum { SIDE = 4, AREA = SIDE * SIDE, PLANES = 4 };

static float logit_at(int sample, int pixel, int plane) {
  int x = (pixel * 7 + plane * 5 + sample * 3) % 11 - (plane == 2 ? 6 * (sample % 2) : 0);
  return (float)x - 7.5f;
}

static void agrees_with_monai(void **state) {
  (void)state;
  static const struct {
    int sample, own;
    double dice, iou;
  } want[] = {
      {0, 0, 0.0000000, 0.0000000}, {0, 1, 0.0000000, 0.0000000}, {0, 2, 0.1818182, 0.1250000},
      {0, 3, 0.0666667, 0.0370370}, {1, 0, 0.3333333, 0.3333333}, {1, 1, 0.4000000, 0.3703704},
      {1, 2, 0.0000000, 0.0000000}, {1, 3, 0.3333333, 0.3333333}, {2, 0, 0.0000000, 0.0000000},
      {2, 1, 0.2000000, 0.1428571}, {2, 2, 0.0000000, 0.0000000}, {2, 3, 0.1818182, 0.1250000},
      {3, 0, 0.3333333, 0.3333333}, {3, 1, 0.3333333, 0.3333333}, {3, 2, 0.3333333, 0.3333333},
      {3, 3, 0.3333333, 0.3333333},
  };
  for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
    float logits[AREA * PLANES], own[AREA];
    uint8_t mask[AREA], predicted[AREA];
    bool any[PLANES];
    struct metrics m;
    for (int i = 0; i < AREA; i++) {
      for (int p = 0; p < PLANES; p++) logits[i * PLANES + p] = logit_at(want[k].sample, i, p);
      own[i] = logits[i * PLANES + want[k].own];
      mask[i] = (i / SIDE + i % SIDE) % 3 == 0 && want[k].sample != 3; // the last sample has no truth at all
    }
    float cut = logit_cut(0.5);
    assert_ok(logit_to_mask(own, SIDE, SIDE, SIDE, cut, predicted));
    assert_ok(metric_compute(predicted, mask, SIDE, SIDE, METRIC_TOLERANCE, &m));
    assert_ok(planes_predicted(logits, SIDE, PLANES, SIDE, SIDE, cut, any));
    assert_true(fabs(planes_mean(any, PLANES, want[k].own, m.dice) - want[k].dice) < 1e-6);
    assert_true(fabs(planes_mean(any, PLANES, want[k].own, m.iou) - want[k].iou) < 1e-6);
  }
}

// A foreground that bilinear resizing washes out is none.
static void planes_are_seen_at_the_size_asked_for(void **state) {
  (void)state;
  float logits[AREA * 2];
  bool any[2];
  for (int i = 0; i < AREA; i++) logits[2 * i] = logits[2 * i + 1] = -10;
  logits[2 * 5 + 1] = 1;
  assert_ok(planes_predicted(logits, SIDE, 2, SIDE, SIDE, 0, any));
  assert_true(!any[0] && any[1]);
  assert_ok(planes_predicted(logits, SIDE, 2, 2, 2, 0, any));
  assert_true(!any[0] && !any[1]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(agrees_with_monai),
      cmocka_unit_test(planes_are_seen_at_the_size_asked_for),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
