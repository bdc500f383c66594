// phantom_paint.h: noise and curves for drawing phantoms. Nothing here or in the painters calls libm but for sqrtf, which
// IEEE 754 defines to the last bit, and the build contracts no products: one seed gives one picture on every machine.
#ifndef GRIDSEG_DATA_PREP_PHANTOM_PAINT_H
#define GRIDSEG_DATA_PREP_PHANTOM_PAINT_H

#include <math.h>
#include <stdint.h>

struct colour {
  float r, g, b; // 0 to 1, as displayed
};

static inline float clampf(float x, float low, float high) {
  return x < low ? low : x > high ? high : x;
}
static inline float mixf(float a, float b, float t) {
  return a + (b - a) * t;
}
static inline struct colour colour_mix(struct colour a, struct colour b, float t) {
  return (struct colour){mixf(a.r, b.r, t), mixf(a.g, b.g, t), mixf(a.b, b.b, t)};
}
static inline struct colour colour_scale(struct colour a, float k) {
  return (struct colour){a.r * k, a.g * k, a.b * k};
}
// 0 below `low`, 1 above `high`, smooth between them; low > high falls instead.
static inline float ramp(float low, float high, float x) {
  float t = clampf((x - low) / (high - low), 0.0f, 1.0f);
  return t * t * (3.0f - 2.0f * t);
}
static inline uint8_t to_byte(float x) {
  return (uint8_t)(clampf(x, 0.0f, 1.0f) * 255.0f + 0.5f);
}
static inline int32_t floor_int(float x) {
  int32_t i = (int32_t)x;
  return i - (x < (float)i);
}

// Sine of `turns` full turns, within 0.001: a parabola and its correction.
static inline float wave(float turns) {
  float t = turns - (float)floor_int(turns) - 0.5f; // [-0.5, 0.5): the sine of t turns, negated
  float y = t * (8.0f - 16.0f * (t < 0.0f ? -t : t));
  float p = y * (y < 0.0f ? -y : y);
  return -(y + 0.225f * (p - y));
}

static inline uint32_t noise_hash(uint32_t seed, int32_t x, int32_t y) {
  uint32_t h = seed ^ (uint32_t)x * 0x8da6b343u ^ (uint32_t)y * 0xd8163841u;
  h = (h ^ h >> 16) * 0x7feb352du; // the "lowbias32" mixer of C. Wellons
  h = (h ^ h >> 15) * 0x846ca68bu;
  return h ^ h >> 16;
}
// White noise in [0, 1) on the lattice.
static inline float noise_white(uint32_t seed, int32_t x, int32_t y) {
  return (float)(noise_hash(seed, x, y) >> 8) * 0x1p-24f;
}

// Gradient noise (Perlin, "An image synthesizer", SIGGRAPH 1985) in about [-1, 1], period of features 1.
float noise_at(uint32_t seed, float x, float y);
// `octaves` of it, each half as strong and twice as fine, scaled back to about [-1, 1].
float noise_fractal(uint32_t seed, float x, float y, int octaves);

#endif
