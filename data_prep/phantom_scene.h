// phantom_scene.h: what stands in a phantom and where, before it is painted.
#ifndef GRIDSEG_DATA_PREP_PHANTOM_SCENE_H
#define GRIDSEG_DATA_PREP_PHANTOM_SCENE_H

#include "base/rng.h"
#include "data/image.h"
#include "data_prep/phantom_paint.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum { DOMAIN_ENDOSCOPY, DOMAIN_ULTRASOUND, DOMAIN_DERMOSCOPY, DOMAIN_COUNT } domain_t;

enum { SHAPE_HARMONICS = 7, SCENE_OBJECTS = 3 };

// An ellipse whose radius swings with the direction: star-convex, so one object is one component without holes.
struct shape {
  float x, y;                                        // centre, pixels
  float a, b;                                        // semi-axes, pixels
  float cos, sin;                                    // of the angle of the first axis
  float even[SHAPE_HARMONICS], odd[SHAPE_HARMONICS]; // radius: 1 + sum of even[k] cos((k+2)t) + odd[k] sin((k+2)t)
  float rough;                                       // strength of the fractal part of the border
  uint32_t seed;
};

struct scene {
  domain_t domain;
  int width, height, count;
  bool irregular; // border of a malignant lesion (ultrasound)
  bool cone;      // convex probe (ultrasound)
  struct shape shape[SCENE_OBJECTS];
  struct colour colour; // what the objects are made of
  uint32_t seed[8];     // one for each part of the picture
  float style[8];       // uniform in [0, 1): free choices of the painter
};

// Draw all choices of one scene from the generator. The objects lie inside the field of view and apart; whether words
// describe them without doubt is for the caller to measure.
void scene_plan(struct scene *s, domain_t domain, struct rng *r);

// 1 on the border of the shape, less inside; *inward is about how many pixels inside the point lies (negative: outside).
float shape_distance(const struct shape *shape, float x, float y, float *inward);

// The object that covers or is nearest to a point: its index, with shape_distance's results.
int scene_nearest(const struct scene *s, float x, float y, float *q, float *inward);

// Radius in pixels of the lens around the middle, beyond the picture where there is no dark surround (dermoscopy).
float scene_lens(const struct scene *s);

// How far inside the field of view a point lies, in pixels (negative: black surround).
float scene_field(const struct scene *s, float x, float y);

// mask [height, width] of 0 and 1.
void scene_mask(const struct scene *s, uint8_t *mask);

// The painters; `out` has width, height, 3 channels and pixels.
status_t paint_endoscopy(const struct scene *s, struct image *out);
status_t paint_ultrasound(const struct scene *s, struct image *out);
status_t paint_dermoscopy(const struct scene *s, struct image *out);

#endif
