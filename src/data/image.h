// image.h: pictures in memory, read from and written to files by libjpeg-turbo, libpng and libtiff.
#ifndef GRIDSEG_DATA_IMAGE_H
#define GRIDSEG_DATA_IMAGE_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

// 8 bits a sample, row-major, channels interleaved: 1 = luminance, 3 = RGB.
struct image {
  int height, width, channels;
  uint8_t *pixels; // [height, width, channels], owned; image_free
};

void image_free(struct image *image);

// Decode a file; its kind is told by its first bytes, never by its name. `channels` is what is wanted: 3 gives what
// Pillow's convert("RGB") gives (CMYK, palette, alpha, 1-bit, 16-bit, grey), 1 gives convert("L").
// EXIF orientation is ignored unless `apply_exif`. Errors name the file and the reason; sizes are bounded (IMAGE_LIMIT).
status_t image_read(const char *path, int channels, int apply_exif, struct image *out);
status_t image_decode(const char *name, const uint8_t *bytes, size_t size, int channels, int apply_exif, struct image *out);
enum { IMAGE_LIMIT = 1 << 28 }; // pixels in one picture

// PNG, complete or absent. A 1-channel picture whose values are 0 and 1 only may be stored as 1 bit (`bits` = 1, 1 becomes
// white); else `bits` = 8.
status_t image_write_png(const char *path, const struct image *image, int bits);
status_t image_encode_png(const struct image *image, int bits, uint8_t **bytes, size_t *size);

// Pillow's Image.resize(BILINEAR) with its antialiasing (fixed-point, 8 bits a sample, horizontal pass first), bit for bit.
status_t image_resize_bilinear(const struct image *in, int height, int width, struct image *out);
// Pillow's Image.resize(NEAREST).
status_t image_resize_nearest(const struct image *in, int height, int width, struct image *out);

#endif
