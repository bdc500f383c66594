// phantom_endoscopy.c: a look down a bowel: mucosa with folds around a dark lumen, vessels, wet highlights, and polyps as
// lit domes that rise from the wall, with a rim and a shadow.
#include "data_prep/phantom_scene.h"

struct lumen {
  float x, y, size;
};

static const struct colour white = {1.0f, 0.97f, 0.94f};

// Light on the wall of a tube seen along its axis, and how warm it looks. Distances are in picture heights.
static float wall_light(const struct scene *s, const struct lumen *l, float u, float v) {
  float bend = 0.20f * noise_fractal(s->seed[0], u * 1.8f, v * 1.8f, 3);
  float dx = u - l->x, dy = (v - l->y) * 1.15f, d = fmaxf(sqrtf(dx * dx + dy * dy) + bend * 0.8f, 0.0f);
  // Folds are rings that crowd toward the lumen: bright crests, dark behind them.
  float turns = 3.6f * sqrtf(d + 0.02f) + 0.16f * noise_fractal(s->seed[1], u * 2.4f, v * 2.4f, 2);
  float phase = turns - (float)floor_int(turns), fade = ramp(0.85f, 0.15f, d);
  float fold = ramp(0.0f, 0.80f, phase) * ramp(1.0f, 0.90f, phase);
  float depth = ramp(-0.02f, 0.26f + 0.22f * s->style[2], d - l->size);
  return mixf(0.13f, 1.0f, depth) * mixf(1.0f, 0.60f + 0.55f * fold, 0.35f + 0.65f * fade);
}

static struct colour paint_mucosa(const struct scene *s, const struct lumen *l, float x, float y) {
  float h = (float)s->height, u = x / h, v = y / h;
  float light = wall_light(s, l, u, v), grain = noise_fractal(s->seed[2], u * 8.0f, v * 8.0f, 5);
  float patch = noise_fractal(s->seed[2] + 77, u * 2.0f, v * 2.0f, 2);
  struct colour warm = {0.93f, 0.56f + 0.10f * s->style[3], 0.46f + 0.06f * s->style[3]};
  struct colour deep = {0.82f, 0.36f, 0.30f};
  struct colour c = colour_mix(warm, deep, clampf(0.42f + 0.30f * grain + 0.55f * patch, 0.0f, 1.0f));
  // Vessels: the zero lines of a warped noise, broken up by another one; thin ones between thick ones.
  float line = fabsf(noise_fractal(s->seed[3], u * 5.0f + grain * 0.15f, v * 5.0f, 2));
  float thin = fabsf(noise_at(s->seed[3] + 5, u * 15.0f + grain * 0.5f, v * 15.0f));
  float some = ramp(-0.05f, 0.45f, noise_at(s->seed[4], u * 2.5f, v * 2.5f));
  float vessel = fmaxf(ramp(0.045f, 0.0f, line), 0.6f * ramp(0.08f, 0.0f, thin)) * some * 0.38f;
  c = colour_mix(c, (struct colour){0.62f, 0.16f, 0.16f}, vessel);
  return colour_scale(c, light * (1.0f + 0.09f * grain));
}

// Light on the wet surface where it happens to face the lamp: streaks in clusters.
static float wet_spots(const struct scene *s, float u, float v) {
  float cluster = ramp(0.05f, 0.55f, noise_at(s->seed[5], u * 4.0f, v * 4.0f));
  float warp = 0.4f * noise_at(s->seed[6] + 3, u * 9.0f, v * 9.0f);
  float n =
      noise_at(s->seed[6], u * 24.0f + warp, v * 38.0f + warp) + 0.35f * noise_at(s->seed[6] + 1, u * 60.0f, v * 60.0f);
  return cluster * ramp(0.50f, 0.66f, n);
}

// A dome: its normal follows from q, its lamp sits beside the lens. `wall` is the mucosa that the polyp grows from.
static struct colour paint_polyp(const struct scene *s, const struct shape *o, struct colour wall, float q, float x,
                                 float y) {
  float h = (float)s->height, u = x / h, v = y / h, size = sqrtf(o->a * o->b);
  float dx = (x - o->x) / size, dy = (y - o->y) / size;
  float bumps = noise_fractal(s->seed[6] + o->seed, u * 10.0f, v * 10.0f, 4);
  float pits = noise_fractal(o->seed, u * 30.0f + 0.5f * bumps, v * 30.0f, 2);
  float rise = sqrtf(clampf(1.0f - 0.90f * q * q, 0.0f, 1.0f)); // the normal's share toward the camera
  float facing = rise - 0.20f * dx - 0.24f * dy + 0.10f * bumps;
  float light = 0.54f + 0.58f * clampf(facing, 0.0f, 1.3f) + 0.07f * pits;
  struct colour flushed = {s->colour.r, s->colour.g * 0.72f, s->colour.b * 0.70f};
  struct colour c = colour_scale(colour_mix(s->colour, flushed, clampf(0.05f + 0.40f * bumps, 0.0f, 0.5f)), light);
  c = colour_mix(c, colour_scale(wall, 0.75f), 0.42f * ramp(0.84f, 1.04f, q)); // its foot has the wall's colour
  float gx = dx + 0.26f + 0.05f * bumps, gy = dy + 0.34f + 0.05f * pits;
  float glint = ramp(0.030f, 0.008f, gx * gx + 1.8f * gy * gy) * ramp(-0.75f, 0.1f, pits + bumps);
  return colour_mix(c, white, clampf(0.80f * glint + 0.75f * rise * wet_spots(s, u + 3.0f, v), 0.0f, 0.92f));
}

static struct colour paint_point(const struct scene *s, const struct lumen *l, float x, float y) {
  float h = (float)s->height, q, inward;
  struct colour c = paint_mucosa(s, l, x, y), wall = c;
  c = colour_mix(c, white, 0.9f * wet_spots(s, x / h, y / h) * ramp(0.40f, 0.66f, c.r));
  (void)scene_nearest(s, x - 0.016f * h, y - 0.026f * h, &q, &inward);
  c = colour_scale(c, 1.0f - 0.38f * ramp(-0.055f * h, 0.015f * h, inward)); // the shadow falls down and right
  int k = scene_nearest(s, x, y, &q, &inward);
  float cover = ramp(-1.8f, 1.8f, inward);
  return cover > 0.0f ? colour_mix(c, paint_polyp(s, &s->shape[k], wall, fminf(q, 1.0f), x, y), cover) : c;
}

status_t paint_endoscopy(const struct scene *s, struct image *out) {
  float w = (float)s->width, h = (float)s->height;
  struct lumen l = {(0.05f + 0.9f * s->style[4]) * w / h, 0.05f + 0.9f * s->style[5], 0.01f + 0.06f * s->style[6]};
  for (int y = 0; y < s->height; y++) {
    for (int x = 0; x < s->width; x++) {
      float fx = (float)x, fy = (float)y;
      uint8_t *p = out->pixels + 3 * ((size_t)y * (size_t)s->width + (size_t)x);
      struct colour c = paint_point(s, &l, fx, fy);
      float dx = (fx - 0.5f * w) / w, dy = (fy - 0.5f * h) / h, edge = dx * dx + dy * dy;
      float field = ramp(-1.0f, 1.5f, scene_field(s, fx, fy));
      float grain = (noise_white(s->seed[7], x, y) - 0.5f) * 0.03f * field + 0.012f;
      float light = (1.03f - 0.62f * edge) * field;
      p[0] = to_byte(c.r * light + grain);
      p[1] = to_byte(c.g * light + grain);
      p[2] = to_byte(c.b * light + grain);
    }
  }
  return OK;
}
