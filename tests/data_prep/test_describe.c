// test_describe.c: measures and words of masks whose truth is known. ranks 1, label unit.
#include "data_prep/describe.h"
#include "testing.h"

#include <math.h>

enum { H = 200, W = 300 };
static uint8_t mask[H * W];

static void ellipse(double x, double y, double a, double b) {
  for (int i = 0; i < H * W; i++) {
    double u = (i % W - x) / a, v = (i / W - y) / b;
    if (u * u + v * v <= 1) mask[i] = 1;
  }
}

static void ellipses_are_measured(void **state) {
  (void)state;
  struct description d;
  memset(mask, 0, sizeof mask);
  ellipse(60, 40, 20, 10);
  ellipse(220, 150, 40, 38);
  assert_ok(describe_mask(mask, H, W, NULL, &d));
  assert_int_equal(d.count, 2);
  const struct part *large = &d.part[0], *small = &d.part[1]; // largest first
  assert_true(fabs(large->fraction - 3.14159 * 40 * 38 / (H * W)) < 0.001);
  assert_true(fabs(small->ratio - 0.5) < 0.02);
  assert_true(fabs(large->ratio - 0.95) < 0.01);
  assert_true(large->fill > 0.97 && small->fill > 0.94);
  assert_true(fabs(small->x - 60.5 / W) < 1e-3 && fabs(small->y - 40.5 / H) < 1e-3);
  assert_string_equal(describe_place(large->x, large->y), "bottom right");
  assert_string_equal(describe_place(small->x, small->y), "top left");
  assert_string_equal(describe_shape(large->ratio), "round");
  assert_string_equal(describe_shape(small->ratio), "oval");
  const int box[4] = {40, 30, 260, 188};
  assert_memory_equal(d.box, box, sizeof box);
}

static void a_cross_is_no_ellipse(void **state) {
  (void)state;
  struct description d;
  memset(mask, 0, sizeof mask);
  for (int i = -60; i <= 60; i++)
    for (int k = -6; k <= 6; k++) mask[(100 + i) * W + 150 + k] = mask[(100 + k) * W + 150 + i] = 1;
  assert_ok(describe_mask(mask, H, W, NULL, &d));
  assert_int_equal(d.count, 1);
  assert_true(d.part[0].fill < 0.5);
  assert_true(d.part[0].ratio > 0.99);
}

static void components_touch_at_corners(void **state) {
  (void)state;
  struct description d;
  memset(mask, 0, sizeof mask);
  assert_ok(describe_mask(mask, H, W, NULL, &d));
  assert_int_equal(d.count, 0);
  mask[5 * W + 5] = mask[6 * W + 6] = mask[7 * W + 5] = 1; // one part, corner to corner
  for (int k = 0; k < 20; k++) mask[20 * W + 3 * k] = 1;   // and twenty specks
  assert_ok(describe_mask(mask, H, W, NULL, &d));
  assert_int_equal(d.count, 21);
  assert_int_equal(d.part[0].pixels, 3);
  assert_int_equal(d.part[DESCRIBE_PARTS - 1].pixels, 1);
  assert_fails(ERR_SHAPE, describe_mask(mask, 0, W, NULL, &d), "0 x 300");
}

static void words_change_at_their_limits(void **state) {
  (void)state;
  assert_string_equal(describe_size(0.0799), "small");
  assert_string_equal(describe_size(0.08), "medium");
  assert_string_equal(describe_size(0.2999), "medium");
  assert_string_equal(describe_size(0.30), "large");
  assert_string_equal(describe_place(0.5, 0.5), "center");
  assert_string_equal(describe_place(0.5, 0.1), "top");
  assert_string_equal(describe_place(0.1, 0.5), "left");
  assert_string_equal(describe_place(0.9, 0.3), "top right");
  assert_string_equal(describe_place(0.2, 0.9), "bottom left");
  assert_string_equal(describe_number(3), "three");
  assert_string_equal(describe_number(12), "many");
  static const struct {
    const char *name;
    double rgb[3];
  } known[] = {
      {"white", {1, 1, 1}},     {"gray", {0.5, 0.5, 0.5}}, {"black", {0, 0, 0}},          {"red", {1, 0, 0}},
      {"pink", {1, 0.75, 0.8}}, {"orange", {1, 0.55, 0}},  {"brown", {0.55, 0.27, 0.07}}, {"tan", {0.82, 0.71, 0.55}},
      {"yellow", {1, 1, 0}},    {"green", {0, 0.5, 0}},    {"blue", {0, 0, 1}},           {"purple", {0.5, 0, 0.5}}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) // the CSS colours of these names
    assert_string_equal(describe_colour(known[i].rgb), known[i].name);
}

static void doubt_is_seen(void **state) {
  (void)state;
  struct description d = {
      .count = 1, .part = {{.fraction = 0.05, .x = 0.5, .y = 0.5, .ratio = 0.95}}, .colour = {0.8, 0.2, 0.2}};
  assert_true(describe_is_clear(&d, true));
  d.part[0].fraction = 0.081;
  assert_false(describe_is_clear(&d, true));
  d.part[0].fraction = 0.05;
  d.part[0].x = 0.34;
  assert_false(describe_is_clear(&d, true));
  d.part[0].x = 0.5;
  d.part[0].ratio = 0.79;
  assert_false(describe_is_clear(&d, true));
  d.part[0].ratio = 0.95;
  d.colour[0] = 0.23; // nearly black
  d.colour[1] = d.colour[2] = 0.1;
  assert_false(describe_is_clear(&d, true));
  assert_true(describe_is_clear(&d, false));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ellipses_are_measured),
      cmocka_unit_test(a_cross_is_no_ellipse),
      cmocka_unit_test(components_touch_at_corners),
      cmocka_unit_test(words_change_at_their_limits),
      cmocka_unit_test(doubt_is_seen),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
