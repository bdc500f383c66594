// image.c: reading a picture whatever its kind; see image.h. The truth is Pillow (tests/peer/pixels.py,
// tests/data/golden).
#include "data/image.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/image_codec.h"

#include <string.h>

void image_free(struct image *image) {
  if (!image) return;
  mem_free(&image->pixels);
  *image = (struct image){0};
}

status_t image_create(const char *name, int64_t height, int64_t width, int channels, struct image *out) {
  *out = (struct image){0};
  if (height < 1 || width < 1 || height > IMAGE_LIMIT || width > IMAGE_LIMIT || height * width > IMAGE_LIMIT)
    return FAIL(ERR_FORMAT, "%s%sa picture of %lld x %lld pixels; wanted 1 to %d pixels", name, *name ? ": " : "",
                (long long)width, (long long)height, IMAGE_LIMIT);
  TRY(mem_alloc_raw(&out->pixels, (size_t)height * (size_t)width, (size_t)channels));
  out->height = (int)height;
  out->width = (int)width;
  out->channels = channels;
  return OK;
}

int image_is_jpeg(const uint8_t *bytes, size_t size) {
  return size >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
}

static int is_png(const uint8_t *bytes, size_t size) {
  return size >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0;
}

static int is_tiff(const uint8_t *bytes, size_t size) {
  return size >= 8 && (memcmp(bytes, "II*\0", 4) == 0 || memcmp(bytes, "MM\0*", 4) == 0 ||
                       memcmp(bytes, "II+\0", 4) == 0 || memcmp(bytes, "MM\0+", 4) == 0);
}

// Name what a file is that we do not read, so that the user need not guess.
static const char *other_kind(const uint8_t *b, size_t n) {
  if (n == 0) return "an empty file";
  if (n >= 6 && memcmp(b, "GIF8", 4) == 0) return "a GIF";
  if (n >= 2 && memcmp(b, "BM", 2) == 0) return "a BMP";
  if (n >= 12 && memcmp(b, "RIFF", 4) == 0 && memcmp(b + 8, "WEBP", 4) == 0) return "a WebP";
  if (n >= 132 && memcmp(b + 128, "DICM", 4) == 0) return "a DICOM file";
  if (n >= 2 && b[0] == 0x1f && b[1] == 0x8b) return "gzip data (NIfTI?)";
  if (n >= 12 && memcmp(b + 4, "jP  ", 4) == 0) return "a JPEG 2000";
  if (n >= 4 && b[0] == 'P' && b[1] >= '1' && b[1] <= '7') return "a netpbm picture";
  return "of no kind known here";
}

static uint16_t exif_u16(const uint8_t *p, int big) {
  return (uint16_t)(big ? p[0] << 8 | p[1] : p[1] << 8 | p[0]);
}
static uint32_t exif_u32(const uint8_t *p, int big) {
  uint32_t a = exif_u16(p, big), b = exif_u16(p + 2, big);
  return big ? a << 16 | b : b << 16 | a;
}

int image_exif_orientation(const uint8_t *exif, size_t size) {
  if (size < 8) return 1;
  int big = exif[0] == 'M';
  size_t at = exif_u32(exif + 4, big);
  if (at > size || size - at < 2) return 1;
  size_t entries = exif_u16(exif + at, big);
  at += 2;
  for (size_t i = 0; i < entries && size - at >= 12; i++, at += 12) {
    if (exif_u16(exif + at, big) != 0x0112 || exif_u16(exif + at + 2, big) != 3) continue; // Orientation, SHORT
    int value = exif_u16(exif + at + 8, big);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

void image_warn_cut_16(const char *name) {
  log_warn("%s: 16-bit grey with values over 255, which are cut off at 255 as Pillow does; scale it to 8 bits if that "
           "is not meant",
           name);
}

// Pillow's MULDIV255: a*b/255, rounded.
static inline int muldiv_255(int a, int b) {
  int t = a * b + 128;
  return ((t >> 8) + t) >> 8;
}

void image_cmyk_to_rgb(const uint8_t *cmyk, uint8_t *rgb, size_t pixels) {
  for (size_t i = 0; i < pixels; i++, cmyk += 4, rgb += 3) {
    int white = 255 - cmyk[3];
    for (int c = 0; c < 3; c++) {
      int v = white - muldiv_255(cmyk[c], white);
      rgb[c] = (uint8_t)(v < 0 ? 0 : v);
    }
  }
}

void image_luminance(const uint8_t *rgb, uint8_t *out, size_t pixels) {
  for (size_t i = 0; i < pixels; i++) {
    unsigned sum = rgb[3 * i] * 19595u + rgb[3 * i + 1] * 38470u + rgb[3 * i + 2] * 7471u + 0x8000u;
    out[i] = (uint8_t)(sum >> 16);
  }
}

static status_t to_channels(struct image *image, int channels) {
  if (channels == 0 || image->channels == channels) return OK;
  struct image made = {0};
  size_t pixels = (size_t)image->height * (size_t)image->width;
  TRY(image_create("", image->height, image->width, channels, &made));
  if (channels == 1) {
    image_luminance(image->pixels, made.pixels, pixels);
  } else {
    for (size_t i = 0; i < pixels; i++)
      made.pixels[3 * i] = made.pixels[3 * i + 1] = made.pixels[3 * i + 2] = image->pixels[i];
  }
  image_free(image);
  *image = made;
  return OK;
}

// Turn and mirror so that EXIF orientation `how` (2..8) is shown upright: what Pillow's ImageOps.exif_transpose does.
static status_t turn(struct image *image, int how) {
  if (how <= 1 || how > 8) return OK;
  struct image made = {0};
  int swap = how >= 5, height = swap ? image->width : image->height, width = swap ? image->height : image->width;
  TRY(image_create("", height, width, image->channels, &made));
  size_t c = (size_t)image->channels;
  for (int y = 0; y < height; y++) {
    for (int x = 0; x < width; x++) {
      int sy = swap ? x : y, sx = swap ? y : x; // 5 is the plain transpose
      if (how == 2 || how == 3 || how == 7 || how == 8) sx = image->width - 1 - sx;
      if (how == 3 || how == 4 || how == 6 || how == 7) sy = image->height - 1 - sy;
      memcpy(made.pixels + ((size_t)y * (size_t)width + (size_t)x) * c,
             image->pixels + ((size_t)sy * (size_t)image->width + (size_t)sx) * c, c);
    }
  }
  image_free(image);
  *image = made;
  return OK;
}

static status_t decode_kind(const char *name, const uint8_t *bytes, size_t size, int apply_exif, struct image *out) {
  int how = 1;
  if (image_is_jpeg(bytes, size)) {
    TRY(image_decode_jpeg(bytes, size, apply_exif, out, &how));
  } else if (is_png(bytes, size)) {
    if (!image_decode_png_fast(bytes, size, out)) TRY(image_decode_png(name, bytes, size, out, &how));
  } else if (is_tiff(bytes, size)) {
    TRY(image_decode_tiff(name, bytes, size, out, &how));
    apply_exif = 1;
  } else {
    return FAIL(ERR_FORMAT, "%s; wanted a JPEG, PNG or TIFF", other_kind(bytes, size));
  }
  if (apply_exif) TRY(turn(out, how));
  return OK;
}

status_t image_decode(const char *name, const uint8_t *bytes, size_t size, int channels, int apply_exif,
                      struct image *out) {
  *out = (struct image){0};
  status_t st = decode_kind(name, bytes, size, apply_exif, out);
  if (st == OK) st = to_channels(out, channels);
  if (st == OK) return OK;
  image_free(out);
  return status_prefix(st, "%s", name);
}

status_t image_read(const char *path, int channels, int apply_exif, struct image *out) {
  *out = (struct image){0};
  uint8_t *bytes = NULL;
  size_t size = 0;
  TRY(file_read(path, IMAGE_FILE_LIMIT, &bytes, &size));
  status_t st = image_decode(path, bytes, size, channels, apply_exif, out);
  mem_free(&bytes);
  return st;
}
