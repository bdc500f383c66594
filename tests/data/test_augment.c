// test_augment.c: views of pictures against NumPy and PyTorch, what is drawn, and words that turn with the picture. Label: unit.
#include "data/augment.h"

#include "base/mem.h"
#include "tensor/safetensors.h"
#include "testing.h"

#include <string.h>

static const struct safetensors_entry *entry(const struct safetensors *s, const char *kind, int i) {
  char name[64];
  (void)snprintf(name, sizeof name, i < 0 ? "%s" : "%s.%d", kind, i);
  const struct safetensors_entry *e = safetensors_find(s, name);
  if (!e) fail_msg("the golden file lacks %s", name);
  return e;
}

// The largest difference of a view from the golden one.
static int difference(const struct safetensors *s, const char *kind, int i, const struct augment_view *v) {
  const struct safetensors_entry *e = entry(s, kind, -1), *want = entry(s, kind, i);
  int side = (int)e->desc.dim[0], channels = e->desc.rank == 3 ? 3 : 1, worst = 0;
  size_t bytes = (size_t)desc_count(&e->desc);
  uint8_t *pixels = NULL, *scratch = NULL;
  assert_ok(mem_alloc(&pixels, bytes, 1));
  assert_ok(mem_alloc(&scratch, bytes, 1));
  memcpy(pixels, e->data, bytes);
  augment_apply(v, side, channels, pixels, scratch);
  for (size_t k = 0; k < bytes; k++) {
    int d = abs((int)pixels[k] - (int)((const uint8_t *)want->data)[k]);
    if (d > worst) worst = d;
  }
  mem_free(&scratch);
  mem_free(&pixels);
  return worst;
}

static void test_pixels(void **state) {
  (void)state;
  struct safetensors *s = NULL;
  assert_ok(safetensors_open(TEST_SOURCE_DIR "/tests/golden/augment.safetensors", &s));
  for (int i = 0; i < 9; i++) {
    double v[8];
    memcpy(v, entry(s, "view", i)->data, sizeof v);
    struct augment_view view = {.mirror = v[0] != 0,
                                .flip = v[1] != 0,
                                .turns = (int)v[2],
                                .zoom = v[3],
                                .left = v[4],
                                .top = v[5],
                                .contrast = v[6],
                                .brightness = v[7]};
    // A bilinear value that lies within rounding of a half may go either way, and contrast carries the step on.
    assert_true(difference(s, "picture", i, &view) <= (v[3] != 1 ? 1 : 0));
    assert_int_equal(difference(s, "mask", i, &view), 0);
  }
  safetensors_close(&s);
}

static void test_draws(void **state) {
  (void)state;
  struct augment a = {
      .mirror = true, .turns = true, .scale = 0.5, .brightness = 0.2, .contrast = 0.3, .views = 3, .seed = 7};
  int mirrors = 0, turns[4] = {0}, picks[3] = {0};
  assert_true(augment_is_on(&a));
  assert_false(augment_is_on(&(struct augment){.views = 8}));
  for (uint64_t e = 0; e < 4000; e++) {
    struct augment_view v, again, other;
    augment_draw(&a, "pool", "a.png", 100, e, &v);
    augment_draw(&a, "pool", "a.png", 100, e, &again);
    augment_draw(&a, "pool", "b.png", 100, e, &other);
    assert_memory_equal(&v.zoom, &again.zoom, sizeof v.zoom);
    assert_true(v.zoom != other.zoom);
    assert_false(v.flip);
    assert_true(v.zoom >= 1 / 1.5 && v.zoom <= 1.5 && v.contrast >= 0.7 && v.contrast <= 1.3);
    assert_true(v.brightness >= -51 && v.brightness <= 51);
    double side = 100 / v.zoom, low = side < 100 ? 0 : 100 - side, high = side < 100 ? 100 - side : 0;
    assert_true(v.left >= low && v.left <= high && v.top >= low && v.top <= high);
    mirrors += v.mirror;
    turns[v.turns]++;
    int64_t pick = augment_pick(&a, "pool", "a.png", e);
    assert_true(pick >= 0 && pick < 3);
    picks[pick]++;
  }
  assert_true(mirrors > 1850 && mirrors < 2150); // 2000, five standard deviations
  for (int i = 0; i < 4; i++) assert_true(turns[i] > 860 && turns[i] < 1140);
  for (int i = 0; i < 3; i++) assert_true(picks[i] > 1180 && picks[i] < 1490);
  struct augment_view pose[16];
  assert_int_equal(augment_poses(&a, pose), 8);
  assert_int_equal(augment_poses(&(struct augment){.mirror = true}, pose), 2);
  assert_int_equal(augment_poses(&(struct augment){.scale = 1}, pose), 1);
}

static void test_words(void **state) {
  (void)state;
  static const struct {
    struct augment_view view;
    const char *text, *want;
  } cases[] = {
      {{.mirror = true},
       "one round polyp, located in top left of the image",
       "one round polyp, located in top right of the image"},
      {{.flip = true},
       "one round polyp, located in top left of the image",
       "one round polyp, located in bottom left of the image"},
      {{.turns = 1},
       "one round polyp, located in top left of the image",
       "one round polyp, located in bottom left of the image"},
      {{.turns = 1}, "polyp located in top right of it", "polyp located in top left of it"},
      {{.turns = 1}, "located in right of the image", "located in top of the image"},
      {{.turns = 3}, "located in right of the image", "located in bottom of the image"},
      {{.turns = 2}, "located in center, bottom right of the image", "located in center, top left of the image"},
      {{.mirror = true},
       "a tumor at the top right in the breast ultrasound",
       "a tumor at the top left in the breast ultrasound"},
      {{.mirror = true}, "A spot on the Left side of the foot", "A spot on the Right side of the foot"},
      {{.flip = true}, "in the upper part", "in the lower part"},
      {{.mirror = true}, "Left ventricular cavity in the echo", "Left ventricular cavity in the echo"},
      {{.mirror = true}, "opacity in the left lung", "opacity in the left lung"},
      {{.mirror = true}, "Right Lung in a chest x-ray", "Right Lung in a chest x-ray"},
      {{.mirror = true}, "left", "left"},
      {{.mirror = true}, "", ""},
      {{.mirror = true, .flip = true},
       "located in left, top left, top of the image",
       "located in right, bottom right, bottom of the image"},
      {{.turns = 0}, "located in left of the image", "located in left of the image"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char *got;
    assert_ok(augment_text(&cases[i].view, cases[i].text, &got));
    assert_string_equal(got, cases[i].want);
    mem_free(&got);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_pixels), cmocka_unit_test(test_draws),
                                     cmocka_unit_test(test_words)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
