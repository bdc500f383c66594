// augment.h: random views of a picture, its mask and its words. What is drawn is a function of (seed, picture, number of the
// view): the same for any number of ranks and after any resume.
#ifndef GRIDSEG_DATA_AUGMENT_H
#define GRIDSEG_DATA_AUGMENT_H

#include "data/pool.h"

#include <stdbool.h>

struct augment {
  bool mirror, flip; // left and right, top and bottom change places, each in half of the views
  bool turns;        // 0 to 3 quarter turns
  double scale;      // zoom from 1 / (1 + scale) to 1 + scale, the window anywhere; what lies outside is black
  double brightness; // up to this share of full white is added or taken away
  double contrast;   // distances from the mean grey are multiplied by 1 - contrast to 1 + contrast
  int64_t views;     // features: each picture has so many fixed views
  uint64_t seed;
};

// One view: mirror, then flip, then `turns` quarter turns anticlockwise, then the window [left, left + S / zoom) of the result
// (pixels; likewise from `top`), then grey values x -> (x - mean) contrast + mean + brightness.
struct augment_view {
  bool mirror, flip;
  int turns;
  double zoom, left, top, contrast, brightness;
};

// Does it change anything?
bool augment_is_on(const struct augment *a);
// View `number` of a picture of side S; the picture is known by its pool's name and its own.
void augment_draw(const struct augment *a, const char *pool, const char *image, int side, uint64_t number,
                  struct augment_view *out);
// Which view of the bank (0 .. views-1) a picture shows in an epoch.
int64_t augment_pick(const struct augment *a, const char *pool, const char *image, uint64_t epoch);

// uint8 [S,S,channels] in place; `scratch` has the same size. A mask (1 channel) is taken by nearest and keeps its values; a
// picture (3 channels) is interpolated bilinearly (half-pixel centres).
void augment_apply(const struct augment_view *v, int side, int channels, uint8_t *pixels, uint8_t *scratch);

// The words of a place turn with the picture: "located in top left of the image" mirrored is "located in top right of the
// image". Only phrases of a place do ("in, at, on [the] PLACE of | in | side ..."): a "left ventricle" stays what it is. *out is
// freed with mem_free.
status_t augment_text(const struct augment_view *v, const char *text, char **out);
// The views that differ in mirror, flip and turns, as far as `a` draws them: at most 16; returns their number.
int augment_poses(const struct augment *a, struct augment_view out[16]);

#endif
