// test_metric.c: metrics against MONAI's (golden/metrics.json, made by golden/make_metrics.py), and properties that MONAI can't
// tell. ranks 1, label unit.
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "testing.h"
#include "train/metric.h"

#include <math.h>
#include <stdbool.h>

static uint8_t *read_bits(const json_t *row, const char *key, size_t count) {
  const char *hex = json_string_value(json_object_get(row, key));
  assert_non_null(hex);
  assert_int_equal(strlen(hex), (count + 7) / 8 * 2);
  uint8_t *mask = NULL;
  assert_ok(mem_alloc(&mask, count, 1));
  for (size_t i = 0; i < count; i++) {
    unsigned byte = 0;
    assert_int_equal(sscanf(hex + i / 8 * 2, "%2x", &byte), 1);
    mask[i] = (uint8_t)(byte >> (7 - i % 8) & 1);
  }
  return mask;
}

static void check_value(const json_t *row, const char *key, double met, double tolerance) {
  const json_t *wanted = json_object_get(row, key);
  assert_non_null(wanted);
  const char *name = json_string_value(json_object_get(row, "name"));
  if (json_is_null(wanted)) {
    if (!isnan(met)) fail_msg("%s: %s is %.9g, wanted none", name, key, met);
  } else if (!(fabs(met - json_number_value(wanted)) <= tolerance)) {
    fail_msg("%s: %s is %.9g, MONAI says %.9g", name, key, met, json_number_value(wanted));
  }
}

static void metrics_equal_monai(void **state) {
  (void)state;
  json_t *rows = NULL;
  assert_ok(json_read(TEST_SOURCE_DIR "/tests/train/golden/metrics.json", &rows));
  assert_true(json_array_size(rows) > 40);
  for (size_t i = 0; i < json_array_size(rows); i++) {
    const json_t *row = json_array_get(rows, i);
    int height = (int)json_integer_value(json_object_get(row, "height"));
    int width = (int)json_integer_value(json_object_get(row, "width"));
    size_t count = (size_t)height * (size_t)width;
    uint8_t *predicted = read_bits(row, "predicted", count), *truth = read_bits(row, "truth", count);
    struct metrics m;
    assert_ok(metric_compute(predicted, truth, height, width, METRIC_TOLERANCE, &m));
    check_value(row, "dice", m.dice, 1e-6); // MONAI divides in fp32
    check_value(row, "iou", m.iou, 1e-6);
    check_value(row, "hd95", m.hd95, 0); // to the bit
    check_value(row, "surface_dice", m.surface_dice, 1e-6);
    mem_free(&predicted);
    mem_free(&truth);
  }
  json_decref(rows);
}

// The box, the row search and the envelope agree with distances taken from every pixel to every other.
static int64_t nearest(const uint8_t *edge, int height, int width, int y, int x) {
  int64_t best = INT64_MAX;
  for (int j = 0; j < height; j++) {
    for (int i = 0; i < width; i++) {
      int64_t d = (int64_t)(j - y) * (j - y) + (int64_t)(i - x) * (i - x);
      if (edge[j * width + i] && d < best) best = d;
    }
  }
  return best;
}

static void mark_edges(const uint8_t *m, int height, int width, uint8_t *edge) {
  for (int y = 0; y < height; y++) {
    for (int x = 0; x < width; x++) {
      const uint8_t *p = m + y * width + x;
      bool inner = y > 0 && y < height - 1 && x > 0 && x < width - 1 && p[-1] && p[1] && p[-width] && p[width];
      edge[y * width + x] = *p && !inner;
    }
  }
}

static void surface_dice_is_exact_at_any_tolerance(void **state) {
  (void)state;
  enum { H = 37, W = 90 };
  static uint8_t mask[2][H * W], edge[2][H * W];
  struct rng r;
  rng_init(&r, 3, 0);
  for (int round = 0; round < 6; round++) {
    for (int m = 0; m < 2; m++) {
      double density = rng_uniform(&r) * (round < 3 ? 0.02 : 0.9);
      for (int i = 0; i < H * W; i++) mask[m][i] = rng_uniform(&r) < density;
      if (round == 5) memset(mask[m] + 5 * W, 1, 3 * W); // rows full of edges
      mask[m][0] = 1;
      mark_edges(mask[m], H, W, edge[m]);
    }
    for (double tolerance = 0; tolerance < 12; tolerance += 1.5) {
      int64_t within = 0, all = 0;
      for (int m = 0; m < 2; m++) {
        for (int i = 0; i < H * W; i++) {
          if (!edge[m][i]) continue;
          all++;
          within += sqrt((double)nearest(edge[1 - m], H, W, i / W, i % W)) <= tolerance;
        }
      }
      struct metrics out;
      assert_ok(metric_compute(mask[0], mask[1], H, W, tolerance, &out));
      assert_true(fabs(out.surface_dice - (double)within / (double)all) < 1e-12);
    }
  }
}

static void metrics_do_not_depend_on_place_or_order(void **state) {
  (void)state;
  enum { H = 50, W = 70, BIG_W = 1225, BIG_H = 966 };
  static uint8_t a[H * W], b[H * W], big_a[BIG_H * BIG_W], big_b[BIG_H * BIG_W];
  struct rng r;
  rng_init(&r, 4, 0);
  for (int y = 1; y < H - 1; y++) {
    for (int x = 1; x < W - 1; x++) {
      a[y * W + x] = (y - 20) * (y - 20) + (x - 30) * (x - 30) < 300 || rng_uniform(&r) < 0.01;
      b[y * W + x] = (y - 28) * (y - 28) + (x - 33) * (x - 33) < 250;
      big_a[(y + 900) * BIG_W + x + 1100] = a[y * W + x];
      big_b[(y + 900) * BIG_W + x + 1100] = b[y * W + x];
    }
  }
  struct metrics one, two, moved;
  assert_ok(metric_compute(a, b, H, W, 2, &one));
  assert_ok(metric_compute(b, a, H, W, 2, &two));
  assert_ok(metric_compute(big_a, big_b, BIG_H, BIG_W, 2, &moved));
  assert_true(one.dice == two.dice && one.iou == two.iou && one.hd95 == two.hd95 &&
              one.surface_dice == two.surface_dice);
  assert_memory_equal(&one, &moved, sizeof one);
  assert_true(one.hd95 > 0 && one.dice < 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(metrics_equal_monai),
      cmocka_unit_test(surface_dice_is_exact_at_any_tolerance),
      cmocka_unit_test(metrics_do_not_depend_on_place_or_order),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
