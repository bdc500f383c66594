// phantom_ultrasound.c: B-mode: layers of tissue, fascia, speckle, attenuation, and dark lesions with what they do to the
// beam behind them: enhancement behind smooth ones, shadow behind spiculated ones.
#include "data_prep/phantom_scene.h"

#include "base/mem.h"

// Where a pixel lies for the beam: along (depth, 0 at the probe to 1) and across (in depths).
static void beam_place(const struct scene *s, float x, float y, float *along, float *across) {
  float w = (float)s->width, h = (float)s->height;
  *along = y / h;
  *across = x / h;
  if (!s->cone) return;
  float dx = x - 0.5f * w, dy = y + 0.30f * h, r = sqrtf(dx * dx + dy * dy);
  *along = (r - 0.38f * h) / (0.90f * h);
  *across = dx / r * 0.85f + 1.0f;
}

// Echo strength of the tissue without lesions, before speckle.
static float tissue_echo(const struct scene *s, float t, float u) {
  float sway = 0.07f * noise_fractal(s->seed[0], u * 1.4f, t * 0.8f, 2);
  float z = t + sway, fat = 0.15f + 0.10f * s->style[0], gland = fat + 0.25f + 0.20f * s->style[1];
  float streak = noise_fractal(s->seed[1], u * 3.0f, z * 30.0f, 3),
        lobule = noise_fractal(s->seed[2], u * 3.5f, z * 8.0f, 3);
  float echo = 0.20f + 0.10f * lobule + 0.06f * streak;                                              // fat
  echo = mixf(echo, 0.50f + 0.26f * lobule + 0.16f * streak, ramp(fat - 0.02f, fat + 0.05f, z));     // gland
  echo = mixf(echo, 0.24f + 0.30f * streak + 0.06f * lobule, ramp(gland - 0.03f, gland + 0.06f, z)); // muscle
  // Fascia: long bright sheets along the layers, of changing strength.
  float crest = fabsf(noise_fractal(s->seed[3], u * 1.3f, z * 7.0f, 2)),
        strength = noise_at(s->seed[3] + 1, u * 3.0f, z * 5.0f);
  echo += 0.75f * ramp(0.055f, 0.0f, crest) * ramp(-0.25f, 0.6f, strength) * ramp(0.05f, 0.16f, z);
  echo += 0.60f * ramp(0.020f, 0.004f, fabsf(z - sway - 0.022f)) + 0.15f * ramp(0.008f, 0.0f, t); // skin
  return fmaxf(echo, 0.03f) * mixf(1.15f, 0.22f + 0.20f * s->style[2], clampf(t, 0.0f, 1.0f));
}

// Change of brightness behind the lesions.
static float behind(const struct scene *s, float x, float y) {
  float gain = 1.0f;
  for (int k = 0; k < s->count; k++) {
    const struct shape *o = &s->shape[k];
    float dx = x - o->x, dy = y - o->y;
    if (s->cone) { // follow the beam back to the height of the lesion
      float apex_y = -0.30f * (float)s->height, apex_x = 0.5f * (float)s->width;
      float ratio = (o->y - apex_y) / fmaxf(y - apex_y, 1.0f);
      dx = apex_x + (x - apex_x) * ratio - o->x;
    }
    float half = sqrtf(o->a * o->a * o->cos * o->cos + o->b * o->b * o->sin * o->sin);
    float tall = sqrtf(o->a * o->a * o->sin * o->sin + o->b * o->b * o->cos * o->cos);
    float inside = ramp(1.05f, 0.45f, fabsf(dx) / half), below = ramp(0.4f * tall, 1.2f * tall, dy);
    float fade = ramp(5.0f * tall, 1.0f * tall, dy);
    gain *= 1.0f + (s->irregular ? -0.62f : 0.85f) * inside * below * fade;
    float edge = ramp(0.20f, 0.0f, fabsf(fabsf(dx) / half - 0.97f)); // refraction at the flanks of smooth ones
    if (!s->irregular) gain *= 1.0f - 0.30f * edge * below * fade;
  }
  return gain;
}

enum { TAPS = 5 };

// Blur one line of `count` samples that lie `stride` apart, from `in` to `out`; the ends repeat.
static void blur_line(const float *in, float *out, int count, size_t stride, const float kernel[TAPS]) {
  for (int i = 0; i < count; i++) {
    float sum = 0.0f;
    for (int k = 0; k < TAPS; k++) {
      int j = i + k - TAPS / 2;
      sum += kernel[k] * in[(size_t)(j < 0 ? 0 : j >= count ? count - 1 : j) * stride];
    }
    out[(size_t)i * stride] = sum;
  }
}

// Speckle is the length of a random walk in the plane: two fields of white noise, blurred by the beam, which is narrower
// along its way than across. `out` and `scratch` are [height, width]; the mean of `out` is about 1.
static void make_speckle(const struct scene *s, float *out, float *scratch, float *field) {
  static const float across[TAPS] = {0.6f, 0.9f, 1.0f, 0.9f, 0.6f}, along[TAPS] = {0.15f, 0.7f, 1.0f, 0.7f, 0.15f};
  int w = s->width, h = s->height;
  for (int part = 0; part < 2; part++) {
    for (int y = 0; y < h; y++)
      for (int x = 0; x < w; x++)
        scratch[(size_t)y * (size_t)w + (size_t)x] = noise_white(s->seed[4 + part], x, y) - 0.5f;
    for (int y = 0; y < h; y++) blur_line(scratch + (size_t)y * (size_t)w, field + (size_t)y * (size_t)w, w, 1, across);
    for (int x = 0; x < w; x++) blur_line(field + x, scratch + x, h, (size_t)w, along);
    for (size_t i = 0; i < (size_t)w * (size_t)h; i++) out[i] += scratch[i] * scratch[i];
  }
  for (size_t i = 0; i < (size_t)w * (size_t)h; i++) out[i] = 1.05f * sqrtf(out[i]);
}

static float paint_echo(const struct scene *s, float x, float y, float grain) {
  float t, u, q, inward, soft = s->irregular ? 5.0f : 3.0f;
  beam_place(s, x, y, &t, &u);
  float echo = tissue_echo(s, t, u) * behind(s, x, y);
  (void)scene_nearest(s, x, y, &q, &inward);
  echo += (s->irregular ? 0.18f : 0.07f) * ramp(-14.0f, -3.0f, inward) * ramp(2.0f, -2.0f, inward); // echogenic rim
  float inner = 0.022f + 0.04f * s->style[3];
  inner *= 1.0f + 0.8f * noise_fractal(s->seed[6], u * 7.0f, t * 11.0f, 3);
  if (s->irregular) inner += 0.25f * ramp(0.55f, 0.75f, noise_at(s->seed[7], u * 45.0f, t * 45.0f)); // calcifications
  echo = mixf(echo, inner, ramp(-soft, soft, inward));
  float level =
      0.92f * sqrtf(echo) * (0.42f + 0.56f * sqrtf(grain)) - 0.05f; // the display compresses, as a logarithm does
  return level * ramp(-0.5f, 0.8f, scene_field(s, x, y) + (s->cone ? 0.0f : 1.0f));
}

status_t paint_ultrasound(const struct scene *s, struct image *out) {
  size_t pixels = (size_t)s->width * (size_t)s->height;
  float *maps;
  TRY(mem_alloc(&maps, 3 * pixels, sizeof *maps));
  make_speckle(s, maps, maps + pixels, maps + 2 * pixels);
  for (size_t i = 0; i < pixels; i++) {
    uint8_t *p = out->pixels + 3 * i;
    p[0] = p[1] = p[2] = to_byte(paint_echo(s, (float)(i % (size_t)s->width), (float)(i / (size_t)s->width), maps[i]));
  }
  mem_free(&maps);
  return OK;
}
