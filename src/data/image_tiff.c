// image_tiff.c: TIFF by libtiff, first page, from memory. Strips and tiles are put together here, so that every kind is
// converted as Pillow does it: bilevel, grey of 2, 4, 8 and 16 bits, palette, RGB and CMYK of 8 and 16 bits, extra
// samples, separate planes, YCbCr in JPEG.
#include "base/mem.h"
#include "data/image_codec.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <tiffio.h>

static _Thread_local char last_message[256]; // libtiff's handlers are global; its text is kept per thread

static void on_error(const char *module, const char *format, va_list args) {
  if (last_message[0]) return; // the first says most
  int n = module ? snprintf(last_message, sizeof last_message, "%s: ", module) : 0;
  if (n >= 0 && (size_t)n < sizeof last_message)
    (void)vsnprintf(last_message + n, sizeof last_message - (size_t)n, format, args);
}

static void on_warning(const char *module, const char *format, va_list args) {
  (void)module; // unknown private tags and their like
  (void)format;
  (void)args;
}

static void set_handlers(void) {
  (void)TIFFSetErrorHandler(on_error);
  (void)TIFFSetWarningHandler(on_warning);
}

struct memory {
  const uint8_t *bytes;
  size_t size, at;
};

static tmsize_t memory_read(thandle_t handle, void *to, tmsize_t n) {
  struct memory *m = handle;
  size_t left = m->size - m->at, want = n < 0 ? 0 : (size_t)n;
  if (want > left) want = left;
  memcpy(to, m->bytes + m->at, want);
  m->at += want;
  return (tmsize_t)want;
}
static tmsize_t memory_write(thandle_t handle, void *from, tmsize_t n) {
  (void)handle;
  (void)from;
  (void)n;
  return -1;
}
static toff_t memory_seek(thandle_t handle, toff_t offset, int whence) {
  struct memory *m = handle;
  toff_t base = whence == SEEK_CUR ? m->at : whence == SEEK_END ? m->size : 0, to;
  if (__builtin_add_overflow(base, offset, &to) || to > m->size) to = m->size;
  m->at = (size_t)to;
  return to;
}
static int memory_close(thandle_t handle) {
  (void)handle;
  return 0;
}
static toff_t memory_size(thandle_t handle) {
  return ((struct memory *)handle)->size;
}
static int memory_map(thandle_t handle, void **base, toff_t *size) {
  (void)handle;
  (void)base;
  (void)size;
  return 0;
}
static void memory_unmap(thandle_t handle, void *base, toff_t size) {
  (void)handle;
  (void)base;
  (void)size;
}

// What the header says of the samples.
struct layout {
  uint32_t width, height;
  uint16_t bits, samples, photometric, planar, compression;
  bool premultiplied;
  int used; // samples of a pixel that are read: 1 grey or palette, 3 RGB, 4 CMYK or premultiplied RGB
};

static status_t read_layout(TIFF *t, struct layout *l) {
  uint16_t format = SAMPLEFORMAT_UINT, extras = 0, *extra = NULL;
  if (!TIFFGetField(t, TIFFTAG_IMAGEWIDTH, &l->width) || !TIFFGetField(t, TIFFTAG_IMAGELENGTH, &l->height))
    return FAIL(ERR_FORMAT, "damaged TIFF: no width or height");
  (void)TIFFGetFieldDefaulted(t, TIFFTAG_BITSPERSAMPLE, &l->bits);
  (void)TIFFGetFieldDefaulted(t, TIFFTAG_SAMPLESPERPIXEL, &l->samples);
  (void)TIFFGetFieldDefaulted(t, TIFFTAG_PLANARCONFIG, &l->planar);
  (void)TIFFGetFieldDefaulted(t, TIFFTAG_COMPRESSION, &l->compression);
  (void)TIFFGetFieldDefaulted(t, TIFFTAG_SAMPLEFORMAT, &format);
  (void)TIFFGetFieldDefaulted(t, TIFFTAG_EXTRASAMPLES, &extras, &extra);
  if (!TIFFGetField(t, TIFFTAG_PHOTOMETRIC, &l->photometric)) l->photometric = PHOTOMETRIC_MINISWHITE;
  l->premultiplied = extras > 0 && extra && extra[0] == EXTRASAMPLE_ASSOCALPHA;
  if (format != SAMPLEFORMAT_UINT && format != SAMPLEFORMAT_VOID)
    return FAIL(ERR_UNSUPPORTED, "a TIFF of signed or floating-point samples; wanted unsigned integers");
  if (l->samples < 1 || l->samples > 16) return FAIL(ERR_UNSUPPORTED, "a TIFF of %u samples a pixel", l->samples);
  if (l->photometric == PHOTOMETRIC_YCBCR && l->compression == COMPRESSION_JPEG && l->planar == PLANARCONFIG_CONTIG) {
    (void)TIFFSetField(t, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB); // libjpeg converts, as for a JPEG file
    l->photometric = PHOTOMETRIC_RGB;
  }
  bool wide = l->bits == 8 || l->bits == 16, small = l->bits == 1 || l->bits == 2 || l->bits == 4;
  bool ok = false;
  if (l->photometric == PHOTOMETRIC_MINISBLACK || l->photometric == PHOTOMETRIC_MINISWHITE) {
    l->used = 1;
    ok = l->bits == 8 || (l->samples == 1 && (small || l->bits == 16));
    if (l->premultiplied) ok = false;
  } else if (l->photometric == PHOTOMETRIC_PALETTE) {
    l->used = 1;
    ok = l->bits == 8 || (l->samples == 1 && small);
  } else if (l->photometric == PHOTOMETRIC_RGB) {
    l->used = l->premultiplied ? 4 : 3;
    ok = wide && (!l->premultiplied || l->bits == 8);
  } else if (l->photometric == PHOTOMETRIC_SEPARATED) {
    l->used = 4;
    ok = wide;
  }
  if (!ok || l->samples < l->used)
    return FAIL(ERR_UNSUPPORTED, "a TIFF of photometric kind %u with %u samples of %u bits a pixel", l->photometric,
                l->samples, l->bits);
  return OK;
}

// The samples of all pixels as the file has them, unpacked to 8 bits (1, 2 and 4 bits: their value) or 16.
struct raw {
  uint8_t *block; // one strip or tile, as libtiff hands it out
  void *samples;  // [height, width, used] of uint8_t or uint16_t
};

static void unpack_row(const struct layout *l, const uint8_t *row, uint32_t count, uint32_t step, uint32_t take,
                       void *to, size_t at, int to_step) {
  for (uint32_t x = 0; x < count; x++) {
    for (uint32_t s = 0; s < take; s++) {
      size_t from = (size_t)x * step + s, into = at + (size_t)x * (size_t)to_step + s;
      if (l->bits == 8) {
        ((uint8_t *)to)[into] = row[from];
      } else if (l->bits == 16) {
        memcpy((uint16_t *)to + into, row + 2 * from, 2);
      } else {
        unsigned shift = 8 - l->bits - (unsigned)(from * l->bits % 8);
        ((uint8_t *)to)[into] = (uint8_t)((unsigned)row[from * l->bits / 8] >> shift & ((1u << l->bits) - 1));
      }
    }
  }
}

static status_t read_blocks(TIFF *t, const struct layout *l, struct raw *r) {
  bool tiled = TIFFIsTiled(t) != 0, separate = l->planar == PLANARCONFIG_SEPARATE && l->samples > 1;
  uint32_t bw = l->width, bh = l->height;
  if (tiled) {
    if (!TIFFGetField(t, TIFFTAG_TILEWIDTH, &bw) || !TIFFGetField(t, TIFFTAG_TILELENGTH, &bh) || bw < 1 || bh < 1)
      return FAIL(ERR_FORMAT, "damaged TIFF: no tile size");
    if ((uint64_t)bw * bh > IMAGE_LIMIT) // a few bytes of header must not cost gigabytes
      return FAIL(ERR_UNSUPPORTED, "a TIFF with tiles of %u x %u pixels; %d pixels are read at most", bw, bh,
                  IMAGE_LIMIT);
  } else {
    (void)TIFFGetFieldDefaulted(t, TIFFTAG_ROWSPERSTRIP, &bh);
    if (bh < 1 || bh > l->height) bh = l->height;
  }
  tmsize_t size = tiled ? TIFFTileSize(t) : TIFFStripSize(t), row = tiled ? TIFFTileRowSize(t) : TIFFScanlineSize(t);
  uint32_t per = separate ? 1 : l->samples;
  uint64_t least = ((uint64_t)bw * per * l->bits + 7) / 8;
  if (size < 1 || row < 1 || (uint64_t)row < least || (uint64_t)size / bh < least || size > (tmsize_t)1 << 32)
    return FAIL(ERR_FORMAT, "damaged TIFF: a block of %lld bytes", (long long)size);
  TRY(mem_alloc(&r->block, (size_t)size, 1));
  for (int plane = 0; plane < (separate ? l->used : 1); plane++) {
    for (uint32_t y = 0; y < l->height; y += bh) {
      for (uint32_t x = 0; x < l->width; x += bw) {
        uint32_t rows = l->height - y < bh ? l->height - y : bh, columns = l->width - x < bw ? l->width - x : bw;
        tmsize_t want = tiled ? size : row * (tmsize_t)rows;
        tmsize_t got = tiled ? TIFFReadEncodedTile(t, TIFFComputeTile(t, x, y, 0, (uint16_t)plane), r->block, size)
                             : TIFFReadEncodedStrip(t, TIFFComputeStrip(t, y, (uint16_t)plane), r->block, want);
        if (got < want)
          return FAIL(ERR_FORMAT, "damaged TIFF: %s", last_message[0] ? last_message : "a block ends early");
        for (uint32_t i = 0; i < rows; i++)
          unpack_row(l, r->block + (size_t)row * i, columns, per, separate ? 1 : (uint32_t)l->used, r->samples,
                     ((size_t)(y + i) * l->width + x) * (size_t)l->used + (size_t)plane, l->used);
      }
    }
  }
  return OK;
}

static status_t fill_palette(TIFF *t, const struct layout *l, const uint8_t *in, struct image *out) {
  uint16_t *map[3] = {NULL, NULL, NULL};
  if (!TIFFGetField(t, TIFFTAG_COLORMAP, &map[0], &map[1], &map[2]) || !map[0] || !map[1] || !map[2])
    return FAIL(ERR_FORMAT, "damaged TIFF: a palette picture without its colours");
  size_t n = (size_t)l->width * l->height;
  for (size_t i = 0; i < n; i++)
    for (size_t c = 0; c < 3; c++) out->pixels[3 * i + c] = (uint8_t)(map[c][in[i]] / 256);
  return OK;
}

static void fill_grey(const char *name, const struct layout *l, const void *in, struct image *out) {
  size_t n = (size_t)l->width * l->height;
  int more = 0;
  for (size_t i = 0; i < n; i++) {
    if (l->bits == 16) {
      out->pixels[i] = image_cut_16(((const uint16_t *)in)[i], &more);
      continue; // Pillow leaves white-is-zero 16-bit grey as it is, and so do we
    }
    unsigned v = ((const uint8_t *)in)[i] * (255u / ((1u << l->bits) - 1));
    out->pixels[i] = (uint8_t)(l->photometric == PHOTOMETRIC_MINISWHITE ? 255 - v : v);
  }
  if (more) image_warn_cut_16(name);
}

static void undo_alpha(const uint8_t *in, uint8_t *out, size_t pixels) {
  for (size_t i = 0; i < pixels; i++, in += 4, out += 3) {
    for (int c = 0; c < 3; c++) {
      int v = in[3] == 0 ? 0 : 255 * in[c] / in[3];
      out[c] = (uint8_t)(v > 255 ? 255 : v);
    }
  }
}

static status_t fill(TIFF *t, const char *name, const struct layout *l, void *samples, struct image *out) {
  size_t n = (size_t)l->width * l->height;
  if (l->photometric == PHOTOMETRIC_PALETTE) return fill_palette(t, l, samples, out);
  if (l->used == 1) {
    fill_grey(name, l, samples, out);
    return OK;
  }
  uint8_t *bytes = samples;
  if (l->bits == 16) { // high bytes, in place
    for (size_t i = 0; i < n * (size_t)l->used; i++) bytes[i] = (uint8_t)(((uint16_t *)samples)[i] >> 8);
  }
  if (l->photometric == PHOTOMETRIC_SEPARATED) {
    image_cmyk_to_rgb(bytes, out->pixels, n);
  } else if (l->premultiplied) {
    undo_alpha(bytes, out->pixels, n);
  } else {
    memcpy(out->pixels, bytes, n * 3);
  }
  return OK;
}

static status_t read_tiff(TIFF *t, const char *name, size_t file_size, struct raw *r, struct image *out,
                          int *orientation) {
  struct layout l = {.bits = 1, .samples = 1};
  uint16_t how = 1;
  TRY(read_layout(t, &l));
  if (l.compression == COMPRESSION_NONE && (uint64_t)l.width * l.height / 8 > file_size)
    return FAIL(ERR_FORMAT, "damaged TIFF: %u x %u pixels can't be in %zu bytes", l.width, l.height, file_size);
  bool grey = l.used == 1 && l.photometric != PHOTOMETRIC_PALETTE;
  TRY(image_create("", l.height, l.width, grey ? 1 : 3, out));
  TRY(mem_alloc(&r->samples, (size_t)l.height * l.width * (size_t)l.used, l.bits == 16 ? 2 : 1));
  TRY(read_blocks(t, &l, r));
  TRY(fill(t, name, &l, r->samples, out));
  if (TIFFGetField(t, TIFFTAG_ORIENTATION, &how) && how >= 1 && how <= 8) *orientation = how;
  return OK;
}

status_t image_decode_tiff(const char *name, const uint8_t *bytes, size_t size, struct image *out, int *orientation) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)pthread_once(&once, set_handlers);
  struct memory memory = {.bytes = bytes, .size = size};
  struct raw raw = {0};
  *orientation = 1;
  last_message[0] = '\0';
  TIFF *t = TIFFClientOpen("TIFF", "rm", &memory, memory_read, memory_write, memory_seek, memory_close, memory_size,
                           memory_map, memory_unmap);
  if (!t) return FAIL(ERR_FORMAT, "damaged TIFF: %s", last_message[0] ? last_message : "no header");
  status_t st = read_tiff(t, name, size, &raw, out, orientation);
  TIFFClose(t);
  mem_free(&raw.block);
  mem_free(&raw.samples);
  if (st != OK) image_free(out);
  return st;
}
