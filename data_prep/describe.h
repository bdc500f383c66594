// describe.h: words for what a mask shows: number, size, place, shape and colour of its objects. The words and the rules of
// size are the study's: in 300 of its own masks every single object under 8 % of the picture is called small, under 30 %
// medium, above large.
#ifndef GRIDSEG_DATA_PREP_DESCRIBE_H
#define GRIDSEG_DATA_PREP_DESCRIBE_H

#include "base/status.h"
#include "data/image.h"

#include <stdbool.h>
#include <stdint.h>

enum { DESCRIBE_PARTS = 16 };

struct part {
  int64_t pixels;
  double fraction; // of the picture
  double x, y;     // centroid, in widths and heights: [0, 1]
  double ratio;    // minor over major axis of the ellipse with the same second moments: 1 is round
  double fill;     // intersection over union of the part and that ellipse: 0.97 for an ellipse, low for a ragged border
  int box[4];      // first column, first row, last column, last row
};

struct description {
  int count; // parts, largest first; those beyond DESCRIBE_PARTS are counted, not described
  struct part part[DESCRIBE_PARTS];
  int box[4];       // of all
  double colour[3]; // mean of the picture under the mask, 0 to 1
};

// Measure a mask of 0 and 1 [height, width] by 8-connected components, and the picture's colour under it (`picture` may be
// NULL). ERR_NOMEM, or ERR_SHAPE when sizes differ. An empty mask has no parts.
status_t describe_mask(const uint8_t *mask, int height, int width, const struct image *picture,
                       struct description *out);

// "small" | "medium" | "large" by the fraction of the picture.
const char *describe_size(double fraction);
// Place of a centroid in a 3 x 3 grid: "top left", "top", "top right", "left", "center", ...
const char *describe_place(double x, double y);
// "round" when the axes differ by less than a fifth, else "oval".
const char *describe_shape(double ratio);
// The everyday name of a colour: white, gray, black, red, pink, orange, brown, tan, yellow, green, blue, purple.
const char *describe_colour(const double rgb[3]);
// "zero" to "nine", then "many".
const char *describe_number(int count);

// Whether the words would stay the same if each measure were a little off: area by 4 % of itself, centroid by 0.02, ratio
// by 0.04, colour channels by 0.025. (`colour` false: the colour is not asked for.)
bool describe_is_clear(const struct description *d, bool colour);

#endif
