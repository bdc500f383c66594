// image_png.c: PNG by libpng, read as Pillow reads it and written for masks. libpng reports errors through a function
// that must not return: it jumps back here.
#include "base/file.h"
#include "base/mem.h"
#include "data/image_codec.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <png.h>

struct coder {
  const uint8_t *bytes; // reading
  size_t size, at;
  uint8_t *made; // writing, grown by malloc
  size_t made_size, made_capacity;
  png_bytep *rows;   // [height]
  uint16_t *samples; // 16-bit grey, or palette indices while they are checked
  char message[256];
  jmp_buf back;
};

static void on_error(png_structp png, png_const_charp text) {
  struct coder *c = png_get_error_ptr(png);
  (void)snprintf(c->message, sizeof c->message, "%s", text);
  longjmp(c->back, 1);
}

// libpng warns about what does not touch the pixels: colour profiles, text, chunks out of order.
static void on_warning(png_structp png, png_const_charp text) {
  (void)png;
  (void)text;
}

static void on_read(png_structp png, png_bytep to, size_t n) {
  struct coder *c = png_get_io_ptr(png);
  if (n > c->size - c->at) png_error(png, "the file ends early");
  memcpy(to, c->bytes + c->at, n);
  c->at += n;
}

static void set_rows(struct coder *c, uint8_t *base, size_t stride, size_t height) {
  for (size_t y = 0; y < height; y++) c->rows[y] = base + y * stride;
}

// Ask libpng for 8-bit grey or RGB (16-bit grey stays: we cut it off ourselves). Pillow drops alpha and transparency.
static void set_transforms(png_structp png, int depth, int type) {
  if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  if (type == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(png);
  if (depth == 16 && type != PNG_COLOR_TYPE_GRAY) png_set_strip_16(png);
  if (depth == 16 && type == PNG_COLOR_TYPE_GRAY && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) png_set_swap(png);
  png_set_strip_alpha(png);
}

static status_t cut_16(const char *name, const struct coder *c, struct image *out) {
  int more = 0;
  size_t n = (size_t)out->height * (size_t)out->width;
  for (size_t i = 0; i < n; i++) out->pixels[i] = image_cut_16(c->samples[i], &more);
  if (more) image_warn_cut_16(name);
  return OK;
}

// A deflate stream expands at most 1032 times: a header that promises more than the file can hold is found out before
// memory is asked for.
static status_t check_size(const struct coder *c, uint32_t height, uint32_t width, int depth) {
  uint64_t least = (uint64_t)height * (((uint64_t)width * (uint64_t)depth + 7) / 8) / 1040;
  if (least > c->size)
    return FAIL(ERR_FORMAT, "damaged PNG: %u x %u pixels can't be in %zu bytes", width, height, c->size);
  return OK;
}

static status_t read_png(png_structp png, png_infop info, const char *name, struct coder *c, struct image *out,
                         int *orientation) {
  if (setjmp(c->back)) return FAIL(ERR_FORMAT, "damaged PNG: %s", c->message);
  png_set_read_fn(png, c, on_read);
  png_set_user_limits(png, 1 << 20, 1 << 20); // ours (IMAGE_LIMIT) is on the product
  png_set_chunk_malloc_max(png, 16 << 20);
  png_read_info(png, info);
  uint32_t width = png_get_image_width(png, info), height = png_get_image_height(png, info);
  int depth = png_get_bit_depth(png, info), type = png_get_color_type(png, info);
  int grey = type == PNG_COLOR_TYPE_GRAY || type == PNG_COLOR_TYPE_GRAY_ALPHA;
  int deep = type == PNG_COLOR_TYPE_GRAY && depth == 16;
  TRY(check_size(c, height, width, depth));
  TRY(image_create("", height, width, grey ? 1 : 3, out));
  TRY(mem_alloc(&c->rows, height, sizeof *c->rows));
  set_transforms(png, depth, type);
  (void)png_set_interlace_handling(png);
  png_read_update_info(png, info);
  size_t stride = (size_t)width * (deep ? 2 : (size_t)out->channels);
  if (png_get_rowbytes(png, info) != stride)
    return FAIL(ERR_UNSUPPORTED, "a PNG of colour type %d with %d bits a sample", type, depth);
  if (deep) TRY(mem_alloc(&c->samples, (size_t)height * width, 2));
  set_rows(c, deep ? (uint8_t *)c->samples : out->pixels, stride, height);
  png_read_image(png, c->rows);
  png_read_end(png, info);
  if (type == PNG_COLOR_TYPE_PALETTE) {
    png_colorp palette = NULL;
    int colours = 0, largest = png_get_palette_max(png, info);
    (void)png_get_PLTE(png, info, &palette, &colours);
    if (largest >= colours) return FAIL(ERR_FORMAT, "damaged PNG: palette index %d with %d colours", largest, colours);
  }
  png_bytep exif = NULL;
  png_uint_32 exif_size = 0;
  if (png_get_eXIf_1(png, info, &exif_size, &exif)) *orientation = image_exif_orientation(exif, exif_size);
  return deep ? cut_16(name, c, out) : OK;
}

status_t image_decode_png(const char *name, const uint8_t *bytes, size_t size, struct image *out, int *orientation) {
  struct coder c = {.bytes = bytes, .size = size};
  png_infop info = NULL;
  *orientation = 1;
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &c, on_error, on_warning);
  if (png) info = png_create_info_struct(png);
  status_t st = info ? read_png(png, info, name, &c, out, orientation) : FAIL(ERR_NOMEM, "no memory for libpng");
  png_destroy_read_struct(&png, &info, NULL);
  mem_free(&c.rows);
  mem_free(&c.samples);
  if (st != OK) image_free(out);
  return st;
}

static void on_write(png_structp png, png_bytep from, size_t n) {
  struct coder *c = png_get_io_ptr(png);
  if (mem_grow(&c->made, &c->made_capacity, c->made_size + n, 1) != OK) png_error(png, "no memory");
  memcpy(c->made + c->made_size, from, n);
  c->made_size += n;
}

static void on_flush(png_structp png) {
  (void)png;
}

static status_t write_png(png_structp png, png_infop info, struct coder *c, const struct image *image) {
  if (setjmp(c->back)) return FAIL(ERR_NOMEM, "cannot write a PNG: %s", c->message);
  size_t height = (size_t)image->height, width = (size_t)image->width;
  TRY(mem_alloc(&c->rows, height, sizeof *c->rows));
  set_rows(c, image->pixels, width * (size_t)image->channels, height);
  png_set_write_fn(png, c, on_write, on_flush);
  png_set_IHDR(png, info, (uint32_t)width, (uint32_t)height, 8,
               image->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, info);
  png_write_image(png, c->rows);
  png_write_end(png, NULL);
  return OK;
}

status_t image_encode_png(const struct image *image, int bits, uint8_t **bytes, size_t *size) {
  struct coder c = {0};
  png_infop info = NULL;
  *bytes = NULL;
  *size = 0;
  if ((bits != 8 && !(bits == 1 && image->channels == 1)) || (image->channels != 1 && image->channels != 3))
    return FAIL(ERR_ARG, "a PNG of %d channels with %d bits is not written", image->channels, bits);
  if (bits == 1) return image_encode_bits(image, bytes, size);
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &c, on_error, on_warning);
  if (png) info = png_create_info_struct(png);
  status_t st = info ? write_png(png, info, &c, image) : FAIL(ERR_NOMEM, "no memory for libpng");
  png_destroy_write_struct(&png, &info);
  mem_free(&c.rows);
  if (st != OK) {
    mem_free(&c.made);
    return st;
  }
  *bytes = c.made;
  *size = c.made_size;
  return OK;
}

status_t image_write_png(const char *path, const struct image *image, int bits) {
  uint8_t *bytes = NULL;
  size_t size = 0;
  status_t st = image_encode_png(image, bits, &bytes, &size);
  if (st == OK) st = file_write_atomic(path, bytes, size);
  mem_free(&bytes);
  return st == OK ? OK : status_prefix(st, "%s", path);
}
