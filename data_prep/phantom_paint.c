// phantom_paint.c: see phantom_paint.h.
#include "data_prep/phantom_paint.h"

static float corner(uint32_t seed, int32_t ix, int32_t iy, float dx, float dy) {
  static const float direction[8][2] = {{1.0f, 0.0f},  {0.7071f, 0.7071f},   {0.0f, 1.0f},  {-0.7071f, 0.7071f},
                                        {-1.0f, 0.0f}, {-0.7071f, -0.7071f}, {0.0f, -1.0f}, {0.7071f, -0.7071f}};
  const float *d = direction[noise_hash(seed, ix, iy) & 7];
  return d[0] * dx + d[1] * dy;
}

static float fade(float t) {
  return t * t * t * (t * (t * 6.0f - 15.0f) + 10.0f);
}

float noise_at(uint32_t seed, float x, float y) {
  int32_t ix = floor_int(x), iy = floor_int(y);
  float fx = x - (float)ix, fy = y - (float)iy, u = fade(fx), v = fade(fy);
  float top = mixf(corner(seed, ix, iy, fx, fy), corner(seed, ix + 1, iy, fx - 1.0f, fy), u);
  float low = mixf(corner(seed, ix, iy + 1, fx, fy - 1.0f), corner(seed, ix + 1, iy + 1, fx - 1.0f, fy - 1.0f), u);
  return mixf(top, low, v) * 1.41f;
}

float noise_fractal(uint32_t seed, float x, float y, int octaves) {
  float sum = 0.0f, weight = 1.0f, total = 0.0f;
  for (int k = 0; k < octaves; k++) {
    sum += weight * noise_at(seed + (uint32_t)k * 0x9E3779B9u, x, y);
    total += weight;
    weight *= 0.5f;
    x = x * 2.0f + 17.3f; // shifted, so that lattice points of the octaves do not coincide
    y = y * 2.0f + 9.1f;
  }
  return sum / total * 1.3f;
}
