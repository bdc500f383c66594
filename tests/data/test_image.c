// test_image.c: our pixels against Pillow's on the small pictures of golden/ (made by golden/make.py), damaged and
// hostile files, and the rule for masks. Label: unit.
#include "testing.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/image.h"
#include "data/mask.h"

#define GOLDEN     TEST_SOURCE_DIR "/tests/data/golden/"
#define FUZZ_SEEDS TEST_SOURCE_DIR "/tests/fuzz/seeds/image/"

static void check_equal(const char *name, const char *what, const struct image *met, const uint8_t **want) {
  size_t n = (size_t)met->height * (size_t)met->width * (size_t)met->channels;
  for (size_t i = 0; i < n; i++)
    if (met->pixels[i] != (*want)[i])
      fail_msg("%s, %s: byte %zu is %d; Pillow has %d", name, what, i, met->pixels[i], (*want)[i]);
  *want += n;
}

static void check_golden(const char *name, int width, int height) {
  char path[512], raw[520];
  uint8_t *truth = NULL;
  size_t size = 0;
  struct image rgb = {0}, grey = {0}, sized = {0}, nearest = {0};
  (void)snprintf(path, sizeof path, GOLDEN "%s", name);
  (void)snprintf(raw, sizeof raw, "%s.raw", path);
  assert_ok(file_read(raw, 1 << 20, &truth, &size));
  const uint8_t *want = truth;
  assert_ok(image_read(path, 3, 0, &rgb));
  assert_ok(image_read(path, 1, 0, &grey));
  assert_int_equal(rgb.width, width);
  assert_int_equal(rgb.height, height);
  check_equal(name, "RGB", &rgb, &want);
  check_equal(name, "luminance", &grey, &want);
  assert_ok(image_resize_bilinear(&rgb, 28, 20, &sized));
  check_equal(name, "bilinear", &sized, &want);
  assert_ok(image_resize_nearest(&grey, 28, 20, &nearest));
  check_equal(name, "nearest", &nearest, &want);
  if (strncmp(name, "exif", 4) == 0) {
    image_free(&rgb);
    assert_ok(image_read(path, 3, 1, &rgb));
    check_equal(name, "turned", &rgb, &want);
  }
  assert_int_equal((int64_t)size, want - truth); // all of the truth was used
  image_free(&rgb);
  image_free(&grey);
  image_free(&sized);
  image_free(&nearest);
  mem_free(&truth);
}

static void test_golden(void **state) {
  (void)state;
  uint8_t *list = NULL;
  size_t size = 0;
  int count = 0, width, height;
  char name[128];
  assert_ok(file_read(GOLDEN "sizes.txt", 1 << 16, &list, &size));
  for (char *line = strtok((char *)list, "\n"); line; line = strtok(NULL, "\n"), count++) {
    assert_int_equal(sscanf(line, "%127s %d %d", name, &width, &height), 3);
    check_golden(name, width, height);
  }
  assert_int_equal(count, 42);
  mem_free(&list);
}

// Every file cut short at every tenth byte, and with bytes changed: an error or a picture, never more. A file that ends
// early is an error with its name.
static void test_damage(void **state) {
  (void)state;
  static const char *const names[] = {"s420.jpg",   "progressive.jpg", "cmyk.jpg",  "interlaced.png", "palette.png",
                                      "grey16.png", "lzw.tif",         "tiled.tif", "bilevel.tif",    "jpeg.tif"};
  for (size_t f = 0; f < sizeof names / sizeof *names; f++) {
    char path[512];
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct image image = {0};
    (void)snprintf(path, sizeof path, GOLDEN "%s", names[f]);
    assert_ok(file_read(path, 1 << 20, &bytes, &size));
    for (size_t cut = 0; cut + 32 < size; cut += 10) { // each in its own block, so that a sanitizer sees overreads
      uint8_t *part = NULL;
      assert_ok(mem_alloc(&part, cut, 1));
      if (cut) memcpy(part, bytes, cut);
      status_t st = image_decode(names[f], part, cut, 3, 1, &image);
      if (st == OK && strstr(names[f], ".tif") == NULL) fail_msg("%s cut to %zu bytes was read", names[f], cut);
      if (st != OK && !strstr(status_message(), names[f])) fail_msg("no name: %s", status_message());
      image_free(&image);
      mem_free(&part);
    }
    for (size_t at = 0; at < size; at += 7) {
      bytes[at] = (uint8_t)(bytes[at] ^ 0x55);
      (void)image_decode(names[f], bytes, size, 3, 1, &image);
      image_free(&image);
      bytes[at] = (uint8_t)(bytes[at] ^ 0x55);
    }
    mem_free(&bytes);
  }
}

static void test_other_kinds(void **state) {
  (void)state;
  struct image image;
  assert_fails(ERR_FORMAT, image_decode("a.png", (const uint8_t *)"GIF89a....", 10, 3, 0, &image), "a.png", "GIF");
  assert_fails(ERR_FORMAT, image_decode("b", (const uint8_t *)"", 0, 3, 0, &image), "b: an empty file");
  assert_fails(ERR_ARG, image_read("/nonexistent/x.png", 3, 0, &image), "/nonexistent/x.png");
  // A PNG header of 2^31-1 x 2^31-1 pixels, in 60 bytes.
  static const uint8_t huge[] = {0x89, 'P',  'N',  'G',  '\r', '\n', 0x1a, '\n', 0, 0, 0, 13, 'I', 'H', 'D', 'R', 0x7f,
                                 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 8,    2, 0, 0, 0,  0,   0,   0,   0};
  assert_fails(ERR_FORMAT, image_decode("huge.png", huge, sizeof huge, 3, 0, &image), "huge.png");
  // A picture of 27 x 21 in tiles of 567 x 3,276,821, in 146 bytes: found by fuzz_image.
  uint8_t *bytes = NULL;
  size_t size = 0;
  assert_ok(file_read(FUZZ_SEEDS "huge_tile.tif", 1 << 20, &bytes, &size));
  assert_fails(ERR_UNSUPPORTED, image_decode("huge_tile.tif", bytes, size, 3, 0, &image), "huge_tile.tif",
               "tiles of 567 x 3276821");
  mem_free(&bytes);
}

// A kind told by content: the same JPEG under any name; PNG written by us is read back by us.
static void test_png_round(void **state) {
  (void)state;
  uint8_t pixels[13 * 21], *bytes = NULL;
  size_t size = 0;
  struct image in = {.height = 13, .width = 21, .channels = 1, .pixels = pixels}, out = {0};
  for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * i % 7 < 3);
  assert_ok(image_encode_png(&in, 1, &bytes, &size));
  assert_ok(image_decode("memory", bytes, size, 1, 0, &out));
  assert_int_equal(out.width, 21);
  for (size_t i = 0; i < sizeof pixels; i++) assert_int_equal(out.pixels[i], pixels[i] ? 255 : 0);
  image_free(&out);
  mem_free(&bytes);
  pixels[5] = 2;
  assert_fails(ERR_ARG, image_encode_png(&in, 1, &bytes, &size), "0 and 1");
}

static void write_mask(const char *path, const uint8_t *pixels, int channels, int side) {
  struct image m = {.height = side, .width = side, .channels = channels, .pixels = (uint8_t *)pixels};
  assert_ok(image_write_png(path, &m, 8));
}

static void test_masks(void **state) {
  (void)state;
  enum { SIDE = 64, AREA = SIDE * SIDE };
  const char *folder = test_folder();
  char path[128];
  uint8_t grey[AREA], rgb[3 * AREA];
  struct image mask = {0};
  struct mask_note note;
  (void)snprintf(path, sizeof path, "%s/mask.png", folder);
  for (int i = 0; i < AREA; i++) grey[i] = i % SIDE > 40 ? 1 : 0; // 0 and 1
  write_mask(path, grey, 1, SIDE);
  assert_ok(mask_read(path, 0, &mask, &note));
  assert_true(note.values_0_1 && !note.empty);
  for (int i = 0; i < AREA; i++) assert_int_equal(mask.pixels[i], i % SIDE > 40);
  image_free(&mask);
  memset(grey, 0, sizeof grey); // empty
  write_mask(path, grey, 1, SIDE);
  assert_ok(mask_read(path, 0, &mask, &note));
  assert_true(note.empty);
  image_free(&mask);
  for (int i = 0; i < AREA; i++) grey[i] = (uint8_t)(i % SIDE / 16); // labels 0..3
  write_mask(path, grey, 1, SIDE);
  assert_fails(ERR_FORMAT, mask_read(path, 0, &mask, &note), path, "label map");
  for (int i = 0; i < AREA; i++) grey[i] = (uint8_t)(i % SIDE / 16 * 85); // labels 0, 85, 170, 255
  write_mask(path, grey, 1, SIDE);
  assert_fails(ERR_FORMAT, mask_read(path, 0, &mask, &note), path, "label map", "value 85");
  for (int i = 0; i < AREA; i++) grey[i] = (uint8_t)(i % 251); // a picture
  write_mask(path, grey, 1, SIDE);
  assert_fails(ERR_FORMAT, mask_read(path, 0, &mask, &note), path, "grey picture");
  for (int i = 0; i < AREA; i++) { // red on black: its luminance is 76, so it would be lost
    rgb[3 * i] = i % SIDE > 40 ? 255 : 0;
    rgb[3 * i + 1] = rgb[3 * i + 2] = 0;
  }
  write_mask(path, rgb, 3, SIDE);
  assert_fails(ERR_FORMAT, mask_read(path, 0, &mask, &note), path, "coloured");
  for (int i = 0; i < AREA; i++) grey[i] = i % SIDE > 40 ? 250 : 9; // nearly black, nearly white, some grey edge
  for (int i = 0; i < 7; i++) grey[i * SIDE + 40] = (uint8_t)(100 + i);
  write_mask(path, grey, 1, SIDE);
  assert_ok(mask_read(path, 0, &mask, &note));
  assert_int_equal(mask.pixels[41], 1);
  assert_int_equal(mask.pixels[40], 0);
  image_free(&mask);
  assert_ok(file_remove_tree(folder));
}

// The six files of the shared folder that were picked for being awkward.
static void test_awkward(void **state) {
  (void)state;
  const char *shared = test_shared();
  char path[1200];
  struct image image = {0};
  struct mask_note note;
  if (!shared) skip();
#define AWKWARD(name) ((void)snprintf(path, sizeof path, "%s/data/awkward/%s", shared, name), path)
  assert_ok(image_read(AWKWARD("jpeg_bytes_named.png"), 3, 0, &image));
  image_free(&image);
  assert_ok(image_read(AWKWARD("image_of_mask_values_0_1.png"), 3, 0, &image));
  image_free(&image);
  assert_ok(mask_read(AWKWARD("tiff_bytes_named.png"), 0, &image, &note));
  assert_false(note.empty);
  image_free(&image);
  assert_ok(mask_read(AWKWARD("palette_mode_mask.png"), 0, &image, &note)); // its palette is black and white
  assert_false(note.empty);
  image_free(&image);
  assert_ok(mask_read(AWKWARD("mask_values_0_1_not_255.png"), 0, &image, &note));
  assert_true(note.values_0_1);
  image_free(&image);
  assert_fails(ERR_FORMAT, mask_read(AWKWARD("rgba_coloured_cropped_mask.png"), 0, &image, &note), path, "coloured");
}

int main(void) {
  log_set_level(LOG_ERROR);
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden),      cmocka_unit_test(test_damage),
                                     cmocka_unit_test(test_other_kinds), cmocka_unit_test(test_png_round),
                                     cmocka_unit_test(test_masks),       cmocka_unit_test(test_awkward)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
