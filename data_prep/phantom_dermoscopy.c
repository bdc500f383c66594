// phantom_dermoscopy.c: skin under a lens: tone and mottling, pigment with a network, dots and a ragged border, hairs, and
// sometimes a dark surround or a ruler.
#include "data_prep/phantom_scene.h"

#include "base/mem.h"

enum { HAIRS = 14 };

struct hair {
  float x[3], y[3], width; // a quadratic curve through three control points, pixels
};

static int plan_hairs(const struct scene *s, struct hair *hairs) {
  int count = s->style[0] < 0.35f ? 0 : (int)(s->style[0] * HAIRS);
  for (int k = 0; k < count; k++) {
    struct hair *h = &hairs[k];
    float turns = noise_white(s->seed[6], k, 0), bow = noise_white(s->seed[6], k, 1) - 0.5f;
    float x = (float)s->width * noise_white(s->seed[6], k, 2), y = (float)s->height * noise_white(s->seed[6], k, 3);
    float length = (float)s->height * (0.15f + 0.35f * noise_white(s->seed[6], k, 4));
    float c = wave(turns + 0.25f) * length, n = wave(turns) * length;
    h->x[0] = x - c;
    h->y[0] = y - n;
    h->x[1] = x - n * bow * 1.6f;
    h->y[1] = y + c * bow * 1.6f;
    h->x[2] = x + c;
    h->y[2] = y + n;
    h->width = 0.35f + 0.75f * noise_white(s->seed[6], k, 5);
  }
  return count;
}

// Lay one hair over the cover map [height, width] by walking along the curve.
static void lay_hair(const struct hair *h, int width, int height, float *cover) {
  int steps = 2 * (width + height);
  for (int i = 0; i <= steps; i++) {
    float t = (float)i / (float)steps, a = (1.0f - t) * (1.0f - t), b = 2.0f * t * (1.0f - t), c = t * t;
    float x = a * h->x[0] + b * h->x[1] + c * h->x[2], y = a * h->y[0] + b * h->y[1] + c * h->y[2];
    int x0 = floor_int(x) - 2, y0 = floor_int(y) - 2;
    for (int yy = y0; yy <= y0 + 4; yy++) {
      for (int xx = x0; xx <= x0 + 4; xx++) {
        if (xx < 0 || yy < 0 || xx >= width || yy >= height) continue;
        float dx = (float)xx - x, dy = (float)yy - y;
        float radius = h->width * (1.0f - 0.7f * t); // from the root to the tip
        float k = ramp(radius + 0.8f, radius - 0.5f, sqrtf(dx * dx + dy * dy));
        float *at = &cover[(size_t)yy * (size_t)width + (size_t)xx];
        if (k > *at) *at = k;
      }
    }
  }
}

static struct colour paint_skin(const struct scene *s, float x, float y) {
  float h = (float)s->height, u = x / h, v = y / h;
  struct colour pale = {0.91f, 0.82f, 0.81f}, tan = {0.84f, 0.68f, 0.58f};
  struct colour c = colour_mix(pale, tan, s->style[1]);
  float mottle = noise_fractal(s->seed[0], u * 3.0f, v * 3.0f, 5),
        fine = noise_fractal(s->seed[1], u * 45.0f, v * 45.0f, 3);
  float line = fabsf(noise_fractal(s->seed[2], u * 16.0f + 0.5f * mottle, v * 16.0f, 2));
  c = colour_mix(c, (struct colour){0.86f, 0.60f, 0.58f}, clampf(0.14f + 0.26f * mottle, 0.0f, 1.0f));
  float spot =
      ramp(0.45f, 0.80f, noise_fractal(s->seed[7], u * 7.0f, v * 7.0f, 2)); // freckles, far paler than a lesion
  c = colour_mix(c, (struct colour){0.72f, 0.52f, 0.42f}, 0.40f * spot);
  return colour_scale(c, 1.0f + 0.03f * fine - 0.035f * ramp(0.10f, 0.0f, line));
}

// The pigment network: a mesh of dark lines around pale holes, from the smallest distance to scattered points.
static float mesh(uint32_t seed, float x, float y) {
  int32_t ix = floor_int(x), iy = floor_int(y);
  float first = 9.0f, second = 9.0f;
  for (int32_t cy = iy - 1; cy <= iy + 1; cy++) {
    for (int32_t cx = ix - 1; cx <= ix + 1; cx++) {
      float dx = (float)cx + noise_white(seed, cx, cy) - x, dy = (float)cy + noise_white(seed + 1, cx, cy) - y;
      float d = dx * dx + dy * dy;
      if (d < first) {
        second = first;
        first = d;
      } else if (d < second) {
        second = d;
      }
    }
  }
  return ramp(0.28f, 0.05f, sqrtf(second) - sqrtf(first)); // 1 on the walls between two cells
}

// Pigment over the skin: `inward` pixels inside the border.
static struct colour paint_pigment(const struct scene *s, struct colour skin, float q, float inward, float x, float y) {
  float h = (float)s->height, u = x / h, v = y / h, reach = 0.020f * h;
  float cloud = noise_fractal(s->seed[3], u * 5.0f, v * 5.0f, 5),
        tint = noise_fractal(s->seed[3] + 3, u * 3.0f, v * 3.0f, 2);
  float net = mesh(s->seed[4], u * 34.0f + 0.5f * cloud, v * 34.0f + 0.5f * tint);
  float dots = ramp(0.35f, 0.62f, noise_fractal(s->seed[5], u * 22.0f, v * 22.0f, 2)) * ramp(0.3f, 0.9f, q);
  float light = 1.10f + 0.30f * cloud + 0.24f * tint - 0.22f * net - 0.30f * dots;
  struct colour c = colour_scale(s->colour, clampf(light, 0.35f, 1.7f));
  struct colour rusty = {s->colour.r * 1.25f, s->colour.g * 1.05f, s->colour.b * 0.9f};
  c = colour_mix(c, rusty, 0.5f * ramp(0.0f, 0.5f, tint));
  c = colour_mix(c, colour_mix(s->colour, skin, 0.6f), 0.55f * ramp(0.10f, 0.55f, cloud) * ramp(0.35f, 0.9f, q));
  float cover =
      ramp(-0.9f * reach, 1.5f * reach, inward + 0.9f * reach * cloud + 0.45f * reach * (net - 0.4f) + 0.3f * reach);
  return colour_mix(skin, c, cover);
}

// The ticks of a ruler along the lower edge.
static float ruler(const struct scene *s, int x, int y) {
  if (s->style[3] > 0.18f || y < s->height - 18) return 0.0f;
  int tick = (x + 7) % 12, tall = ((x + 7) / 12) % 5 == 0 ? 16 : 9;
  return tick < 2 && y >= s->height - tall ? 0.8f : 0.0f;
}

// `cover` [height, width] says how much hair lies over each pixel.
static void paint_pixels(const struct scene *s, const float *cover, struct image *out) {
  float w = (float)s->width, h = (float)s->height;
  float lens = scene_lens(s);
  for (int y = 0; y < s->height; y++) {
    for (int x = 0; x < s->width; x++) {
      float fx = (float)x, fy = (float)y, q, inward;
      size_t at = (size_t)y * (size_t)s->width + (size_t)x;
      uint8_t *p = out->pixels + 3 * at;
      struct colour c = paint_skin(s, fx, fy);
      (void)scene_nearest(s, fx, fy, &q, &inward);
      if (inward > -0.06f * h) c = paint_pigment(s, c, q, inward, fx, fy);
      c = colour_mix(c, (struct colour){0.14f, 0.10f, 0.09f}, 0.78f * cover[at]);
      c = colour_mix(c, (struct colour){0.08f, 0.08f, 0.10f}, ruler(s, x, y));
      float dx = fx - 0.5f * w, dy = fy - 0.5f * h, r = sqrtf(dx * dx + dy * dy);
      float light = (1.05f - 0.42f * r * r / (w * w)) * mixf(0.10f, 1.0f, ramp(lens + 6.0f, lens - 10.0f, r));
      float grain = (noise_white(s->seed[1], x, y) - 0.5f) * 0.02f;
      p[0] = to_byte(c.r * light + grain);
      p[1] = to_byte(c.g * light + grain);
      p[2] = to_byte(c.b * light + grain);
    }
  }
}

status_t paint_dermoscopy(const struct scene *s, struct image *out) {
  struct hair hairs[HAIRS];
  float *cover;
  TRY(mem_alloc(&cover, (size_t)s->width * (size_t)s->height, sizeof *cover));
  int count = plan_hairs(s, hairs);
  for (int k = 0; k < count; k++) lay_hair(&hairs[k], s->width, s->height, cover);
  paint_pixels(s, cover, out);
  mem_free(&cover);
  return OK;
}
