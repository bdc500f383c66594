// mask.h: a file of a segmentation mask to bytes of 0 and 1, and the refusal of what is no mask.
#ifndef GRIDSEG_DATA_MASK_H
#define GRIDSEG_DATA_MASK_H

#include "data/image.h"

// What was noticed while a mask was read.
struct mask_note {
  int values_0_1; // the file holds 0 and 1 instead of 0 and 255: understood as a mask
  int empty;      // no pixel is set
};

// Read a mask at its own size: *out has 1 channel, 1 where luminance is above 127. Refused with ERR_FORMAT, file and
// reason named:
//   colour       more than 0.1 % of the pixels have channels further apart than 32;
//   label map    nothing above 127, though a PNG or TIFF holds values over 1 (0..3 say); or one value between 32 and
//   223
//                fills more than 0.2 % (and a sixteenth of all between);
//   soft map     more than 2 % of the pixels lie between 32 and 223.
// Accepted therefore: JPEG noise around 0 and 255, interpolated greys along edges, {0,1} (1 is then the mask).
status_t mask_read(const char *path, int apply_exif, struct image *out, struct mask_note *note);
status_t mask_decode(const char *name, const uint8_t *bytes, size_t size, int apply_exif, struct image *out,
                     struct mask_note *note);

#endif
