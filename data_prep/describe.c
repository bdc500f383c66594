// describe.c: see describe.h.
#include "data_prep/describe.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Sums over one component.
struct sums {
  int64_t n;
  double x, y, xx, xy, yy;
  int box[4];
};

static void add_pixel(struct sums *s, int x, int y) {
  if (s->n == 0) {
    s->box[0] = s->box[2] = x;
    s->box[1] = s->box[3] = y;
  }
  if (x < s->box[0]) s->box[0] = x;
  if (x > s->box[2]) s->box[2] = x;
  if (y > s->box[3]) s->box[3] = y;
  s->n++;
  s->x += x;
  s->y += y;
  s->xx += (double)x * x;
  s->xy += (double)x * y;
  s->yy += (double)y * y;
}

// Collect the component at `start`, marking its pixels with `label`; `stack` has room for all pixels.
static void flood(uint32_t *labels, int height, int width, size_t start, uint32_t label, size_t *stack,
                  struct sums *sums) {
  size_t depth = 0;
  *sums = (struct sums){0};
  labels[start] = label;
  stack[depth++] = start;
  while (depth) {
    size_t at = stack[--depth];
    int y = (int)(at / (size_t)width), x = (int)(at % (size_t)width);
    add_pixel(sums, x, y);
    for (int dy = -1; dy <= 1; dy++) {
      for (int dx = -1; dx <= 1; dx++) {
        int xx = x + dx, yy = y + dy;
        if (xx < 0 || yy < 0 || xx >= width || yy >= height) continue;
        size_t next = (size_t)yy * (size_t)width + (size_t)xx;
        if (labels[next] != UINT32_MAX) continue;
        labels[next] = label;
        stack[depth++] = next;
      }
    }
  }
}

// Ellipse of the same second moments: d' C^-1 d <= 4.
static void measure_ellipse(const struct sums *s, const uint32_t *labels, uint32_t label, int height, int width,
                            struct part *out) {
  double n = (double)s->n, mx = s->x / n, my = s->y / n;
  double a = s->xx / n - mx * mx + 1.0 / 12, b = s->xy / n - mx * my, c = s->yy / n - my * my + 1.0 / 12;
  double half = 0.5 * (a + c), root = sqrt(0.25 * (a - c) * (a - c) + b * b), det = a * c - b * b;
  int64_t both = 0, ellipse = 0;
  out->ratio = sqrt((half - root > 0 ? half - root : 0) / (half + root));
  for (int y = 0; y < height; y++) {
    for (int x = 0; x < width; x++) {
      double dx = x - mx, dy = y - my;
      if (c * dx * dx - 2 * b * dx * dy + a * dy * dy > 4 * det) continue;
      ellipse++;
      both += labels[(size_t)y * (size_t)width + (size_t)x] == label;
    }
  }
  out->fill = (double)both / (double)(s->n + ellipse - both);
}

static void keep_part(struct description *d, struct part p) {
  int k = d->count < DESCRIBE_PARTS ? d->count : DESCRIBE_PARTS;
  d->count++;
  while (k > 0 && d->part[k - 1].pixels < p.pixels) {
    if (k < DESCRIBE_PARTS) d->part[k] = d->part[k - 1];
    k--;
  }
  if (k < DESCRIBE_PARTS) d->part[k] = p;
}

static void widen(int box[4], const int by[4], bool first) {
  for (int k = 0; k < 2; k++) {
    if (first || by[k] < box[k]) box[k] = by[k];
    if (first || by[k + 2] > box[k + 2]) box[k + 2] = by[k + 2];
  }
}

static void mean_colour(const uint8_t *mask, const struct image *picture, struct description *out) {
  double sum[3] = {0};
  int64_t n = 0;
  size_t pixels = (size_t)picture->height * (size_t)picture->width;
  for (size_t i = 0; i < pixels; i++) {
    if (!mask[i]) continue;
    n++;
    for (int k = 0; k < 3; k++)
      sum[k] += picture->pixels[i * (size_t)picture->channels + (size_t)(k % picture->channels)];
  }
  for (int k = 0; k < 3; k++) out->colour[k] = n ? sum[k] / (255.0 * (double)n) : 0;
}

status_t describe_mask(const uint8_t *mask, int height, int width, const struct image *picture,
                       struct description *out) {
  size_t pixels, *stack = NULL;
  uint32_t *labels = NULL, label = 0;
  status_t st = OK;
  *out = (struct description){0};
  if (height < 1 || width < 1 || !size_mul((size_t)height, (size_t)width, &pixels)) {
    return FAIL(ERR_SHAPE, "a mask of %d x %d", height, width);
  }
  if (picture && (picture->height != height || picture->width != width)) {
    return FAIL(ERR_SHAPE, "a mask of %d x %d for a picture of %d x %d", height, width, picture->height,
                picture->width);
  }
  TRY_GOTO(mem_alloc(&labels, pixels, sizeof *labels), done);
  TRY_GOTO(mem_alloc(&stack, pixels, sizeof *stack), done);
  for (size_t i = 0; i < pixels; i++) labels[i] = mask[i] ? UINT32_MAX : 0;
  for (size_t i = 0; i < pixels; i++) {
    if (labels[i] != UINT32_MAX) continue;
    struct sums s;
    flood(labels, height, width, i, ++label, stack, &s);
    struct part p = {.pixels = s.n, .fraction = (double)s.n / (double)pixels};
    p.x = (s.x / (double)s.n + 0.5) / width;
    p.y = (s.y / (double)s.n + 0.5) / height;
    memcpy(p.box, s.box, sizeof p.box);
    // The ellipse costs a pass over the picture: not for more specks than are described.
    if (label <= DESCRIBE_PARTS) measure_ellipse(&s, labels, label, height, width, &p);
    widen(out->box, p.box, label == 1);
    keep_part(out, p);
  }
  if (picture) mean_colour(mask, picture, out);
done:
  mem_free(&stack);
  mem_free(&labels);
  return st;
}

const char *describe_size(double fraction) {
  return fraction < 0.08 ? "small" : fraction < 0.30 ? "medium" : "large";
}

static int third(double x) {
  return x < 1.0 / 3 ? 0 : x < 2.0 / 3 ? 1 : 2;
}

const char *describe_place(double x, double y) {
  static const char *const name[3][3] = {
      {"top left", "top", "top right"}, {"left", "center", "right"}, {"bottom left", "bottom", "bottom right"}};
  return name[third(y)][third(x)];
}

const char *describe_shape(double ratio) {
  return ratio > 0.8 ? "round" : "oval";
}

const char *describe_number(int count) {
  static const char *const name[] = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"};
  return count >= 0 && count <= 9 ? name[count] : "many";
}

const char *describe_colour(const double rgb[3]) {
  double high = fmax(rgb[0], fmax(rgb[1], rgb[2])), low = fmin(rgb[0], fmin(rgb[1], rgb[2])), range = high - low;
  if (high < 0.22) return "black";
  double saturation = range / high, hue = 0; // degrees
  if (saturation < 0.18) return high > 0.72 ? "white" : "gray";
  if (high == rgb[0]) {
    hue = 60 * (rgb[1] - rgb[2]) / range;
  } else if (high == rgb[1]) {
    hue = 120 + 60 * (rgb[2] - rgb[0]) / range;
  } else {
    hue = 240 + 60 * (rgb[0] - rgb[1]) / range;
  }
  if (hue < 0) hue += 360;
  if (hue >= 14 && hue < 42 && high < 0.66) return "brown";
  if (hue < 20 || hue >= 340) {
    if (saturation < 0.55 && high > 0.62) return "pink";
    return high < 0.40 ? "brown" : "red";
  }
  if (hue < 38) return saturation < 0.45 ? "tan" : "orange";
  if (hue < 70) return "yellow";
  if (hue < 165) return "green";
  return hue < 260 ? "blue" : "purple";
}

static bool colour_is_clear(const double rgb[3]) {
  const char *name = describe_colour(rgb);
  for (int k = 0; k < 27; k++) {
    double near[3] = {rgb[0] + 0.025 * (k % 3 - 1), rgb[1] + 0.025 * (k / 3 % 3 - 1), rgb[2] + 0.025 * (k / 9 - 1)};
    if (strcmp(describe_colour(near), name) != 0) return false;
  }
  return true;
}

bool describe_is_clear(const struct description *d, bool colour) {
  for (int k = 0; k < d->count && k < DESCRIBE_PARTS; k++) {
    const struct part *p = &d->part[k];
    if (describe_size(p->fraction * 0.96) != describe_size(p->fraction * 1.04)) return false;
    if (describe_shape(p->ratio - 0.04) != describe_shape(p->ratio + 0.04)) return false;
    if (third(p->x - 0.02) != third(p->x + 0.02) || third(p->y - 0.02) != third(p->y + 0.02)) return false;
  }
  return !colour || colour_is_clear(d->colour);
}
