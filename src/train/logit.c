// logit.c: see logit.h. A source row is stretched to the output's width once and kept while output rows need it; what is
// left per output pixel is one weighted sum of two kept rows. Positions are computed in fp32 with a fused multiply-add, as
// torch's AVX2 and AVX-512 builds do (ATen, UpSample.h): for pictures of thousands of pixels fp64 gives other weights.
#include "train/logit.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

static float sigmoid(float x) {
  return (float)(1.0 / (1.0 + exp(-(double)x)));
}

float logit_cut(double threshold) {
  float t = (float)threshold, low = -200.0f, high = 200.0f; // sigmoid is 0 and 1 in fp32 there
  if (!(sigmoid(high) > t)) return INFINITY;
  if (sigmoid(low) > t) return -INFINITY;
  for (;;) { // sigmoid(low) <= t < sigmoid(high)
    float middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) return high;
    if (sigmoid(middle) > t) {
      high = middle;
    } else {
      low = middle;
    }
  }
}

struct tap { // one output position between two source positions
  int below, above;
  float weight[2];
};

static struct tap make_tap(int position, int in, int out) {
  if (in == out) return (struct tap){.below = position, .above = position, .weight = {1.0f, 0.0f}};
  float scale = (float)in / (float)out, source = fmaf(scale, (float)position + 0.5f, -0.5f);
  if (source < 0.0f) source = 0.0f;
  struct tap t = {.below = (int)source};
  if (t.below > in - 1) t.below = in - 1;
  t.above = t.below < in - 1 ? t.below + 1 : t.below;
  float w = source - (float)t.below;
  t.weight[1] = w < 1.0f ? w : 1.0f;
  t.weight[0] = 1.0f - t.weight[1];
  return t;
}

struct stretch {
  const float *logits;
  int size, height, width;
  struct tap *column; // [width]
  float *row[2];      // stretched source rows
  int held[2];        // which; -1: none
};

static status_t stretch_open(struct stretch *s) {
  TRY(mem_alloc(&s->column, (size_t)s->width, sizeof *s->column));
  for (int x = 0; x < s->width; x++) s->column[x] = make_tap(x, s->size, s->width);
  for (int i = 0; i < 2; i++) {
    s->held[i] = -1;
    TRY(mem_alloc(&s->row[i], (size_t)s->width, sizeof(float)));
  }
  return OK;
}

static void stretch_close(struct stretch *s) {
  mem_free(&s->row[1]);
  mem_free(&s->row[0]);
  mem_free(&s->column);
}

// Source row y at the output's width. Two neighbours fall in different places, so that both stay.
static const float *stretch_row(struct stretch *s, int y) {
  float *out = s->row[y & 1];
  if (s->held[y & 1] == y) return out;
  const float *in = s->logits + (size_t)y * (size_t)s->size;
  for (int x = 0; x < s->width; x++) {
    const struct tap *t = &s->column[x];
    out[x] = t->weight[0] * in[t->below] + t->weight[1] * in[t->above];
  }
  s->held[y & 1] = y;
  return out;
}

status_t logit_resize(const float *logits, int size, int height, int width, float *out) {
  struct stretch s = {.logits = logits, .size = size, .height = height, .width = width};
  status_t st = stretch_open(&s);
  for (int y = 0; st == OK && y < height; y++) {
    struct tap t = make_tap(y, size, height);
    const float *a = stretch_row(&s, t.below), *b = stretch_row(&s, t.above);
    float *o = out + (size_t)y * (size_t)width;
    for (int x = 0; x < width; x++) o[x] = t.weight[0] * a[x] + t.weight[1] * b[x];
  }
  stretch_close(&s);
  return st;
}

status_t logit_to_mask(const float *logits, int size, int height, int width, float cut, uint8_t *mask) {
  if (height == size && width == size) {
    size_t count = (size_t)size * (size_t)size;
    for (size_t i = 0; i < count; i++) mask[i] = logits[i] >= cut;
    return OK;
  }
  struct stretch s = {.logits = logits, .size = size, .height = height, .width = width};
  status_t st = stretch_open(&s);
  for (int y = 0; st == OK && y < height; y++) {
    struct tap t = make_tap(y, size, height);
    const float *a = stretch_row(&s, t.below), *b = stretch_row(&s, t.above);
    uint8_t *o = mask + (size_t)y * (size_t)width;
    for (int x = 0; x < width; x++) o[x] = t.weight[0] * a[x] + t.weight[1] * b[x] >= cut;
  }
  stretch_close(&s);
  return st;
}
