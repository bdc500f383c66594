// mask.c: see mask.h. The limits were chosen on thirteen public data sets: the softest true mask has 0.18 % of its
// pixels between 32 and 223 (JPEG), the greyest edges 0.024 % (PNG), while the areas of a label map fill whole
// percents.
#include "data/mask.h"

#include "base/file.h"
#include "base/mem.h"

enum { COLOUR_SPREAD = 32, MIDDLE_LOW = 32, MIDDLE_HIGH = 223, LEAST_AREA = 16 };

static status_t check_colour(const struct image *image, size_t pixels) {
  size_t coloured = 0;
  for (size_t i = 0; i < pixels; i++) {
    const uint8_t *p = image->pixels + 3 * i;
    int low = p[0] < p[1] ? p[0] : p[1], high = p[0] < p[1] ? p[1] : p[0];
    if (p[2] < low) low = p[2];
    if (p[2] > high) high = p[2];
    coloured += high - low > COLOUR_SPREAD;
  }
  if (coloured > pixels / 1000)
    return FAIL(ERR_FORMAT,
                "a coloured picture, not a mask (%.1f %% of its pixels have unequal channels); wanted black and white. "
                "Turn each colour into its own black-and-white mask first",
                100.0 * (double)coloured / (double)pixels);
  return OK;
}

static status_t check_values(const size_t count[256], size_t pixels) {
  size_t middle = 0, least = pixels / 500 > LEAST_AREA ? pixels / 500 : LEAST_AREA;
  int top = MIDDLE_LOW;
  for (int v = MIDDLE_LOW; v <= MIDDLE_HIGH; v++) {
    middle += count[v];
    if (count[v] > count[top]) top = v;
  }
  if (count[top] > least && count[top] > middle / 16) // a few values make up the middle: labels, not shades
    return FAIL(ERR_FORMAT,
                "a label map, not a mask: value %d fills %.2f %% of it; wanted nearly black and nearly white only. "
                "Turn each label into its own mask of 0 and 255 first",
                top, 100.0 * (double)count[top] / (double)pixels);
  if (middle > pixels / 50)
    return FAIL(ERR_FORMAT,
                "a grey picture, not a mask: %.1f %% of its pixels lie between %d and %d; wanted nearly black and "
                "nearly white only. Threshold it first",
                100.0 * (double)middle / (double)pixels, MIDDLE_LOW, MIDDLE_HIGH);
  return OK;
}

// How often each value occurs. Most masks hold 0 and 255 only, which two vectorised sums tell at once.
static void count_values(const uint8_t *grey, size_t pixels, size_t count[256]) {
  size_t black = 0, white = 0;
  for (size_t i = 0; i < pixels; i += 4096) {
    size_t n = pixels - i < 4096 ? pixels - i : 4096;
    uint32_t zeros = 0, full = 0;
    for (size_t k = 0; k < n; k++) {
      zeros += grey[i + k] == 0;
      full += grey[i + k] == 255;
    }
    black += zeros;
    white += full;
  }
  if (black + white == pixels) {
    count[0] = black;
    count[255] = white;
    return;
  }
  for (size_t i = 0; i < pixels; i++) count[grey[i]]++;
}

static status_t to_mask(const struct image *image, bool lossy, struct image *out, struct mask_note *note) {
  size_t pixels = (size_t)image->height * (size_t)image->width, count[256] = {0}, above = 0, other = 0;
  TRY(image_create("", image->height, image->width, 1, out));
  if (image->channels == 3) {
    TRY(check_colour(image, pixels));
    image_luminance(image->pixels, out->pixels, pixels);
  }
  const uint8_t *grey = image->channels == 3 ? out->pixels : image->pixels;
  count_values(grey, pixels, count);
  for (int v = 128; v < 256; v++) above += count[v];
  for (int v = 2; v < 128; v++) other += count[v];
  note->values_0_1 = !lossy && above == 0 && other == 0 && count[1] > 0;
  note->empty = above == 0 && !note->values_0_1;
  if (!note->values_0_1) {
    if (note->empty && !lossy && other > 0)
      return FAIL(ERR_FORMAT,
                  "a label map or dim picture, not a mask: no value is above 127 and %zu pixels are over 1; "
                  "wanted 0 and 255 (or 0 and 1)",
                  other);
    TRY(check_values(count, pixels));
  }
  int limit = note->values_0_1 ? 0 : 127;
  for (size_t i = 0; i < pixels; i++) out->pixels[i] = grey[i] > limit;
  return OK;
}

status_t mask_decode(const char *name, const uint8_t *bytes, size_t size, int apply_exif, struct image *out,
                     struct mask_note *note) {
  struct image image = {0};
  *note = (struct mask_note){0};
  *out = (struct image){0};
  TRY(image_decode(name, bytes, size, 0, apply_exif, &image));
  status_t st = to_mask(&image, image_is_jpeg(bytes, size), out, note);
  image_free(&image);
  if (st == OK) return OK;
  image_free(out);
  return status_prefix(st, "%s", name);
}

status_t mask_read(const char *path, int apply_exif, struct image *out, struct mask_note *note) {
  uint8_t *bytes = NULL;
  size_t size = 0;
  *out = (struct image){0};
  TRY(file_read(path, IMAGE_FILE_LIMIT, &bytes, &size));
  status_t st = mask_decode(path, bytes, size, apply_exif, out, note);
  mem_free(&bytes);
  return st;
}
