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
// "libjpeg-turbo 2.1.5, libpng 1.6.39, libtiff 4.5.0": for --version; a static buffer.
const char *image_libraries(void);
// Uninitialised pixels of the given size. ERR_FORMAT when the size is not in 1..IMAGE_LIMIT pixels, `name` in front.
status_t image_create(const char *name, int64_t height, int64_t width, int channels, struct image *out);

// Decode a file; its kind is told by its first bytes, never by its name. `channels` is what is wanted: 3 gives what
// Pillow's convert("RGB") gives (CMYK, palette, alpha, 1-bit, 16-bit, grey), 1 gives convert("L"), 0 gives 1 channel
// for grey files and 3 for the others. Like Pillow: alpha and transparency are dropped, never blended; 16-bit grey is
// cut off at 255 (and a warning logged, for such a picture is most often meant to be scaled), 16-bit colour keeps its
// high bytes; CMYK JPEGs are inverted (Adobe's polarity). EXIF orientation is ignored unless `apply_exif`; a TIFF's own
// orientation is always applied, as Pillow does. A file that ends early or is damaged is refused, also where the codec
// could have gone on with a guess. Errors name the file and the reason; sizes are bounded (IMAGE_LIMIT).
status_t image_read(const char *path, int channels, int apply_exif, struct image *out);
status_t image_decode(const char *name, const uint8_t *bytes, size_t size, int channels, int apply_exif,
                      struct image *out);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
enum { IMAGE_LIMIT = 1 << 20 }; // a fuzzer looks for faults, not for memory
#else
enum { IMAGE_LIMIT = 1 << 28 }; // pixels in one picture, and in one tile of a TIFF
#endif
enum { IMAGE_FILE_LIMIT = 1 << 30 }; // bytes in one file

// Whether the bytes are a JPEG's: values of a lossy mask scatter around 0 and 255.
int image_is_jpeg(const uint8_t *bytes, size_t size);

// RGB to luminance as Pillow rounds it (ITU-R 601-2 with 16-bit fixed-point weights).
void image_luminance(const uint8_t *rgb, uint8_t *out, size_t pixels);

// PNG, complete or absent. A 1-channel picture whose values are 0 and 1 only may be stored as 1 bit (`bits` = 1, 1
// becomes white); else `bits` = 8.
status_t image_write_png(const char *path, const struct image *image, int bits);
// The same into memory; *bytes is freed with mem_free.
status_t image_encode_png(const struct image *image, int bits, uint8_t **bytes, size_t *size);

// Pillow's Image.resize(BILINEAR) with its antialiasing (fixed-point, 8 bits a sample), bit for bit with Pillow
// 13; with Pillow up to 12, which goes horizontally first also where 13 does not, within 1. *out is fresh.
status_t image_resize_bilinear(const struct image *in, int height, int width, struct image *out);
// Pillow's Image.resize(NEAREST). *out is fresh.
status_t image_resize_nearest(const struct image *in, int height, int width, struct image *out);

#endif
