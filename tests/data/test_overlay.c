// test_overlay.c: fill, lines and caption stand where they should. ranks 1, label unit.
#include "base/mem.h"
#include "data/overlay.h"
#include "testing.h"

enum { H = 60, W = 80 };

static struct image grey(int channels) {
  struct image i;
  assert_ok(image_create("test", H, W, channels, &i));
  memset(i.pixels, 100, (size_t)(H * W * channels));
  return i;
}

static void fill(uint8_t *mask, int y0, int x0, int y1, int x1) {
  memset(mask, 0, H * W);
  for (int y = y0; y < y1; y++)
    for (int x = x0; x < x1; x++) mask[y * W + x] = 1;
}

static void expect(const struct image *i, int y, int x, int r, int g, int b) {
  const uint8_t *p = i->pixels + 3 * (y * i->width + x);
  if (p[0] != r || p[1] != g || p[2] != b) {
    fail_msg("row %d, column %d: wanted %d %d %d, met %d %d %d", y, x, r, g, b, p[0], p[1], p[2]);
  }
}

static void mask_is_filled_and_outlined(void **state) {
  (void)state;
  uint8_t mask[H * W], truth[H * W];
  for (int channels = 1; channels <= 3; channels += 2) {
    struct image in = grey(channels), out;
    struct overlay o = {
        .mask = mask, .truth = truth, .mask_colour = {0, 200, 0}, .truth_colour = {250, 0, 0}, .opacity = 0.5f};
    fill(mask, 10, 20, 30, 40);
    fill(truth, 40, 50, 60, 80); // reaches two sides of the picture
    assert_ok(image_overlay(&in, &o, &out));
    assert_int_equal(out.height, H);
    assert_int_equal(out.width, W);
    expect(&out, 9, 20, 100, 100, 100);
    expect(&out, 10, 20, 0, 200, 0); // the line lies inside the mask
    expect(&out, 29, 39, 0, 200, 0);
    expect(&out, 11, 21, 50, 150, 50);
    expect(&out, 30, 40, 100, 100, 100);
    expect(&out, 39, 49, 250, 0, 0); // outside the truth
    expect(&out, 40, 49, 250, 0, 0);
    expect(&out, 39, 79, 250, 0, 0);
    expect(&out, 40, 50, 100, 100, 100); // the truth itself is not filled
    expect(&out, 59, 79, 100, 100, 100);
    expect(&out, 59, 48, 100, 100, 100);
    image_free(&out);
    image_free(&in);
  }
}

static void mask_at_the_border_and_empty_mask(void **state) {
  (void)state;
  uint8_t mask[H * W];
  struct image in = grey(3), out;
  struct overlay o = overlay_default;
  o.mask = mask;
  fill(mask, 0, 0, H, W);
  assert_ok(image_overlay(&in, &o, &out));
  expect(&out, 0, 0, o.mask_colour[0], o.mask_colour[1], o.mask_colour[2]);
  expect(&out, H - 1, W - 1, o.mask_colour[0], o.mask_colour[1], o.mask_colour[2]);
  image_free(&out);
  fill(mask, 0, 0, 0, 0);
  o.truth = mask;
  assert_ok(image_overlay(&in, &o, &out));
  assert_memory_equal(out.pixels, in.pixels, H * W * 3);
  image_free(&out);
  image_free(&in);
}

static void caption_adds_a_strip(void **state) {
  (void)state;
  struct image in = grey(3), one, three;
  struct overlay o = overlay_default;
  o.caption = "a";
  assert_ok(image_overlay(&in, &o, &one));
  assert_int_equal(one.width, W);
  assert_true(one.height > H + 11);
  assert_memory_equal(one.pixels, in.pixels, H * W * 3);
  o.caption = "a\nb\nc";
  assert_ok(image_overlay(&in, &o, &three));
  assert_true(three.height > one.height + 20);
  int bright = 0;
  for (int i = H * W * 3; i < one.height * W * 3; i++) bright += one.pixels[i] > 150;
  assert_true(bright > 3); // something is written there
  image_free(&one);
  image_free(&three);
  o.caption = "one medium white round polyp, located in top of the image"; // far wider than 80 pixels
  assert_ok(image_overlay(&in, &o, &three));
  assert_true(three.height > H + 5 * 14);
  image_free(&three);
  o.caption = "bad \xff";
  assert_fails(ERR_ARG, image_overlay(&in, &o, &three), "caption", "UTF-8");
  o.caption = NULL;
  o.opacity = 2;
  assert_fails(ERR_ARG, image_overlay(&in, &o, &three), "opacity");
  image_free(&in);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(mask_is_filled_and_outlined),
      cmocka_unit_test(mask_at_the_border_and_empty_mask),
      cmocka_unit_test(caption_adds_a_strip),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
