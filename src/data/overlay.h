// overlay.h: a picture with masks and words drawn over it, for people to look at.
#ifndef GRIDSEG_DATA_OVERLAY_H
#define GRIDSEG_DATA_OVERLAY_H

#include "base/status.h"
#include "data/image.h"

#include <stdint.h>

struct overlay {
  const uint8_t *mask;  // [height, width], 0 or not: filled, with a line along the inside of its border; may be NULL
  const uint8_t *truth; // the same, drawn as a line along the outside of its border; may be NULL
  uint8_t mask_colour[3], truth_colour[3];
  float opacity;       // of the filling: 0 (only the line) to 1
  const char *caption; // UTF-8, set in a strip below the picture, broken at blanks; may be NULL
};

// A green prediction, a yellow truth, filling at 0.35: what predict and the demo use.
extern const struct overlay overlay_default;

// Draw over a picture of 1 or 3 channels. *out is fresh, 3 channels, as wide as the picture and as high plus the strip; the
// lines are thicker on large pictures. ERR_ARG when the caption is no UTF-8. The caption needs some font that fontconfig
// knows; without any the strip stays empty.
status_t image_overlay(const struct image *picture, const struct overlay *what, struct image *out);

#endif
