// image_codec.h: what image.c asks of the three codecs. Private to src/data.
#ifndef GRIDSEG_DATA_IMAGE_CODEC_H
#define GRIDSEG_DATA_IMAGE_CODEC_H

#include "data/image.h"

// Decode `bytes` into *out (fresh), with 1 channel for grey files and 3 for the others. *orientation gets the EXIF
// value 1..8 (1 where there is none or it makes no sense). Errors say what is wrong, without the file's name.
status_t image_decode_jpeg(const uint8_t *bytes, size_t size, int want_orientation, struct image *out,
                           int *orientation);
status_t image_decode_png(const char *name, const uint8_t *bytes, size_t size, struct image *out, int *orientation);
// The same for common PNGs, faster: 1 when *out was made, 0 when the file is for image_decode_png.
int image_decode_png_fast(const uint8_t *bytes, size_t size, struct image *out);
// A 1-bit PNG of values 0 and 1.
status_t image_encode_bits(const struct image *image, uint8_t **bytes, size_t *size);
status_t image_decode_tiff(const char *name, const uint8_t *bytes, size_t size, struct image *out, int *orientation);

// The orientation tag of a TIFF-structured EXIF block, 1 where there is none.
int image_exif_orientation(const uint8_t *exif, size_t size);

// 16-bit grey to 8 bits as Pillow does (cut off at 255). `more` is set when a value was over 255.
static inline uint8_t image_cut_16(unsigned value, int *more) {
  if (value <= 255) return (uint8_t)value;
  *more = 1;
  return 255;
}
// The warning that belongs to it.
void image_warn_cut_16(const char *name);

// CMYK (0 = no ink) to RGB, Pillow's rounding. `rgb` may not alias `cmyk`.
void image_cmyk_to_rgb(const uint8_t *cmyk, uint8_t *rgb, size_t pixels);

#endif
