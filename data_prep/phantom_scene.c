// phantom_scene.c: see phantom_scene.h.
#include "data_prep/phantom_scene.h"

#include <string.h>

static float uniform(struct rng *r, float low, float high) {
  return low + (high - low) * ((float)(rng_u32(r) >> 8) * 0x1p-24f);
}

float shape_distance(const struct shape *s, float x, float y, float *inward) {
  float dx = x - s->x, dy = y - s->y;
  float u = (dx * s->cos + dy * s->sin) / s->a, v = (dy * s->cos - dx * s->sin) / s->b;
  float r = sqrtf(u * u + v * v), c = 1.0f, n = 0.0f, radius = 1.0f;
  if (r > 2.5f) { // no border swings that far: the direction does not matter
    *inward = (1.0f - r) * sqrtf(dx * dx + dy * dy) / r;
    return r;
  }
  if (r > 1e-6f) {
    c = u / r;
    n = v / r;
  }
  float ck = c * c - n * n, nk = 2.0f * c * n; // cosine and sine of twice the direction, then thrice, ...
  for (int k = 0; k < SHAPE_HARMONICS; k++) {
    radius += s->even[k] * ck + s->odd[k] * nk;
    float next = ck * c - nk * n;
    nk = nk * c + ck * n;
    ck = next;
  }
  if (s->rough > 0.0f) radius += s->rough * noise_fractal(s->seed, 3.0f * c + 5.0f, 3.0f * n + 5.0f, 4);
  float q = r / radius;
  *inward = (1.0f - q) * (q > 1e-6f ? sqrtf(dx * dx + dy * dy) / q : s->b);
  return q;
}

int scene_nearest(const struct scene *s, float x, float y, float *q, float *inward) {
  int best = 0;
  *inward = -1e9f;
  *q = 1e9f;
  for (int k = 0; k < s->count; k++) {
    float in, qk = shape_distance(&s->shape[k], x, y, &in);
    if (in <= *inward) continue;
    *inward = in;
    *q = qk;
    best = k;
  }
  return best;
}

float scene_lens(const struct scene *s) {
  float w = (float)s->width;
  return s->style[2] < 0.2f ? 0.50f * w : s->style[2] < 0.4f ? 0.58f * w : 4.0f * w;
}

// Endoscopes show an octagon, convex probes a sector of a ring, the others the whole picture.
float scene_field(const struct scene *s, float x, float y) {
  float w = (float)s->width, h = (float)s->height;
  if (s->domain == DOMAIN_ENDOSCOPY) {
    float dx = fabsf(x - 0.5f * w), dy = fabsf(y - 0.5f * h);
    float side = fminf(0.485f * w - dx, 0.485f * h - dy);
    return fminf(side, (0.485f * w + 0.485f * h - (0.17f + 0.08f * s->style[0]) * h - dx - dy) * 0.7071f);
  }
  if (s->domain == DOMAIN_ULTRASOUND && s->cone) {
    float dx = x - 0.5f * w, dy = y + 0.30f * h, r = sqrtf(dx * dx + dy * dy);
    float across = fminf(dy * 0.60f - fabsf(dx) * 0.80f, fminf(x, w - 1.0f - x)); // 37 degrees to each side
    return fminf(across, fminf(r - 0.38f * h, 1.28f * h - r));
  }
  float side = fminf(fminf(x, w - 1.0f - x), fminf(y, h - 1.0f - y));
  if (s->domain == DOMAIN_ULTRASOUND || scene_lens(s) > w) return side;
  float dx = x - 0.5f * w, dy = y - 0.5f * h;
  return fminf(side, scene_lens(s) - sqrtf(dx * dx + dy * dy));
}

void scene_mask(const struct scene *s, uint8_t *mask) {
  memset(mask, 0, (size_t)s->width * (size_t)s->height);
  for (int y = 0; y < s->height; y++) {
    for (int x = 0; x < s->width; x++) {
      float q, inward;
      (void)scene_nearest(s, (float)x, (float)y, &q, &inward);
      mask[(size_t)y * (size_t)s->width + (size_t)x] = q <= 1.0f;
    }
  }
}

// A border for the domain: polyps are smooth, pigment lesions ragged, malignant tumours spiculated.
static void plan_border(struct scene *s, struct shape *o, struct rng *r) {
  float swing = s->domain == DOMAIN_DERMOSCOPY ? 0.055f : s->irregular ? 0.05f : 0.022f;
  for (int k = 0; k < SHAPE_HARMONICS; k++) {
    float fall = 1.0f / (1.0f + 0.5f * (float)k);
    if (s->irregular && k >= 3) fall = 1.5f; // many narrow spikes
    o->even[k] = uniform(r, -swing, swing) * fall;
    o->odd[k] = uniform(r, -swing, swing) * fall;
  }
  o->rough = s->domain == DOMAIN_DERMOSCOPY ? uniform(r, 0.08f, 0.20f)
             : s->irregular                 ? uniform(r, 0.25f, 0.40f)
                                            : 0.02f;
  o->seed = rng_u32(r);
}

// Axes for an area fraction of the picture, and whether the object is to look round or long.
static void plan_axes(struct scene *s, struct shape *o, float fraction, bool round, struct rng *r) {
  float area = fraction * (float)s->width * (float)s->height;
  float ratio = round ? uniform(r, 0.92f, 1.0f) : uniform(r, 0.52f, 0.66f);
  if (s->irregular) ratio = uniform(r, 0.75f, 1.0f);
  o->a = sqrtf(area / (3.14159265f * ratio));
  o->b = o->a * ratio;
  // Tumours lie along the layers when they are long; a polyp may point anywhere.
  float turns = s->domain == DOMAIN_ULTRASOUND && !round ? uniform(r, -0.06f, 0.06f) : uniform(r, 0.0f, 1.0f);
  o->cos = wave(turns + 0.25f);
  o->sin = wave(turns);
}

// Whether the whole border (and a rim around it) lies in the field of view.
static bool fits(const struct scene *s, const struct shape *o, float rim) {
  for (int k = 0; k < 48; k++) {
    float c = wave((float)k / 48.0f + 0.25f), n = wave((float)k / 48.0f), in;
    float x = o->x + c, y = o->y + n, q = shape_distance(o, x, y, &in);
    float radius = 1.0f / q + rim; // q grows in proportion to the distance from the centre
    if (scene_field(s, o->x + c * radius, o->y + n * radius) < 0.0f) return false;
  }
  return true;
}

static bool apart(const struct scene *s, int count) {
  const struct shape *o = &s->shape[count];
  for (int k = 0; k < count; k++) {
    float dx = o->x - s->shape[k].x, dy = o->y - s->shape[k].y;
    float need = (fmaxf(o->a, o->b) + fmaxf(s->shape[k].a, s->shape[k].b)) * 1.15f + 10.0f;
    if (dx * dx + dy * dy < need * need) return false;
  }
  return true;
}

static void plan_objects(struct scene *s, struct rng *r) {
  float low = 0.018f, high = 0.068f, dice = uniform(r, 0.0f, 1.0f);
  int wanted = 1 + (uniform(r, 0.0f, 1.0f) < 0.2f) + (uniform(r, 0.0f, 1.0f) < 0.06f);
  if (s->domain == DOMAIN_DERMOSCOPY && wanted == 3) wanted = 2;
  if (wanted == 1 && dice > 0.40f) {
    low = 0.09f;
    high = 0.25f;
  }
  if (wanted == 1 && dice > 0.90f && s->domain != DOMAIN_ULTRASOUND) {
    low = 0.32f;
    high = 0.40f;
  }
  bool round = uniform(r, 0.0f, 1.0f) < 0.55f || low > 0.3f;
  s->count = 0;
  for (int attempt = 0; attempt < 200 && s->count < wanted; attempt++) {
    struct shape *o = &s->shape[s->count];
    *o = (struct shape){0};
    plan_axes(s, o, uniform(r, low, high), round, r);
    plan_border(s, o, r);
    o->x = uniform(r, 0.0f, (float)s->width);
    o->y = uniform(r, 0.0f, (float)s->height);
    if (low > 0.3f) { // there is room in the middle only
      o->x = (float)s->width * uniform(r, 0.46f, 0.54f);
      o->y = (float)s->height * uniform(r, 0.47f, 0.53f);
    }
    if (s->domain == DOMAIN_ULTRASOUND && o->y < 0.16f * (float)s->height + o->b) continue; // skin and fat
    if (fits(s, o, 4.0f) && apart(s, s->count)) s->count++;
  }
}

struct paint {
  struct colour colour;
  float share;
};

static struct colour pick(const struct paint *list, struct rng *r) {
  float dice = uniform(r, 0.0f, 1.0f);
  int k = 0;
  for (; dice >= list[k].share; k++) dice -= list[k].share;
  struct colour c = list[k].colour;
  float light = uniform(r, 0.95f, 1.05f);
  return colour_scale((struct colour){c.r, c.g + uniform(r, -0.01f, 0.01f), c.b + uniform(r, -0.01f, 0.01f)}, light);
}

void scene_plan(struct scene *s, domain_t domain, struct rng *r) {
  // Colours as they should look on the average, after shading. The last share is a guard.
  static const struct paint polyp[] = {{{0.86f, 0.52f, 0.49f}, 0.32f},   // pink
                                       {{0.72f, 0.26f, 0.23f}, 0.20f},   // red
                                       {{0.92f, 0.93f, 0.92f}, 0.18f},   // white
                                       {{0.87f, 0.80f, 0.33f}, 0.15f},   // yellow
                                       {{0.95f, 0.61f, 0.20f}, 2.0f}};   // orange
  static const struct paint lesion[] = {{{0.46f, 0.29f, 0.155f}, 0.62f}, // brown
                                        {{0.10f, 0.07f, 0.065f}, 0.16f}, // black
                                        {{0.56f, 0.21f, 0.19f}, 2.0f}};  // red
  *s = (struct scene){.domain = domain};
  do {
    s->width = 352 + 4 * (int)rng_below(r, 33);
    s->height = 320 + 4 * (int)rng_below(r, 25);
  } while (s->width == s->height);
  for (int k = 0; k < 8; k++) s->seed[k] = rng_u32(r);
  for (int k = 0; k < 8; k++) s->style[k] = uniform(r, 0.0f, 1.0f);
  if (domain == DOMAIN_ULTRASOUND) {
    s->irregular = uniform(r, 0.0f, 1.0f) < 0.6f;
    s->cone = uniform(r, 0.0f, 1.0f) < 0.3f;
  } else {
    s->colour = pick(domain == DOMAIN_ENDOSCOPY ? polyp : lesion, r);
  }
  plan_objects(s, r);
}
