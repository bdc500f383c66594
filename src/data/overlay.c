// overlay.c: see overlay.h. Lines come from erosion and dilation by a square; the caption is set by cairo.
#include "data/overlay.h"

#include "base/mem.h"

#include <cairo.h>
#include <math.h>
#include <string.h>

const struct overlay overlay_default = {.mask_colour = {40, 220, 90}, .truth_colour = {255, 214, 10}, .opacity = 0.35f};

// Smallest (erosion) or largest (dilation) value of each line of `count` samples within `reach`; outside counts as 0.
static void sweep(const uint8_t *in, uint8_t *out, int count, size_t stride, int reach, int erode) {
  int set = 0, window = 2 * reach + 1;
  for (int i = -reach; i < count + reach; i++) { // i is the sample that enters, i - reach the centre
    if (i >= 0 && i < count) set += in[(size_t)i * stride];
    int left = i - window;
    if (left >= 0 && left < count) set -= in[(size_t)left * stride];
    int centre = i - reach;
    if (centre >= 0 && centre < count) out[(size_t)centre * stride] = erode ? set == window : set > 0;
  }
}

// The border of a mask as a line of `thick` pixels: inside it, or outside. `out` and `scratch` are [height, width].
static void outline(const uint8_t *mask, int height, int width, int thick, int inside, uint8_t *out, uint8_t *scratch) {
  size_t pixels = (size_t)height * (size_t)width;
  for (size_t i = 0; i < pixels; i++) out[i] = mask[i] != 0;
  for (int y = 0; y < height; y++)
    sweep(out + (size_t)y * (size_t)width, scratch + (size_t)y * (size_t)width, width, 1, thick, inside);
  for (int x = 0; x < width; x++) sweep(scratch + x, out + x, height, (size_t)width, thick, inside);
  for (size_t i = 0; i < pixels; i++) out[i] = (mask[i] != 0) != out[i];
}

static void blend(uint8_t *pixel, const uint8_t colour[3], float share) {
  for (int k = 0; k < 3; k++) {
    pixel[k] = (uint8_t)((float)pixel[k] + share * ((float)colour[k] - (float)pixel[k]) + 0.5f);
  }
}

// The lines of a caption that fit a width: cairo measures, words are moved on. Calls `draw` for each when it is not NULL.
static int lay_out(cairo_t *c, char *text, double width, double line_height, int draw) {
  int lines = 0;
  char *line = text, *last = NULL; // `last` is the last blank at which the line fits
  for (char *p = text;; p++) {
    if (*p != ' ' && *p != '\n' && *p != '\0') continue;
    char kept = *p;
    cairo_text_extents_t size = {0};
    *p = '\0';
    cairo_text_extents(c, line, &size);
    if (size.x_advance > width && last) { // the line ends at the blank before
      *p = kept;
      kept = *last;
      *last = '\0';
      p = last;
    }
    if (p == last || kept == '\n' || kept == '\0') {
      cairo_move_to(c, 0.5 * line_height, line_height * (lines + 0.95));
      if (draw) cairo_show_text(c, line);
      lines++;
      line = p + 1;
      last = NULL;
    } else {
      last = p;
    }
    *p = kept;
    if (kept == '\0') return lines;
  }
}

struct strip {
  cairo_surface_t *surface;
  int height;
};

static status_t open_canvas(int width, int height, double size, cairo_surface_t **surface, cairo_t **c) {
  *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height);
  *c = cairo_create(*surface);
  cairo_select_font_face(*c, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
  cairo_set_font_size(*c, size);
  if (cairo_status(*c) == CAIRO_STATUS_SUCCESS) return OK;
  return FAIL(ERR_NOMEM, "a strip of %d x %d pixels: %s", width, height, cairo_status_to_string(cairo_status(*c)));
}

// White on dark grey, as wide as the picture. The caller destroys *out->surface.
static status_t make_strip(const char *caption, int width, struct strip *out) {
  double size = fmax(11, fmin(width / 26.0, 40)), line_height = 1.35 * size, room = width - line_height;
  cairo_surface_t *probe = NULL;
  cairo_t *c = NULL;
  char *text = NULL;
  status_t st = OK;
  TRY_GOTO(mem_copy_text(&text, caption), done);
  TRY_GOTO(open_canvas(1, 1, size, &probe, &c), done);
  int lines = lay_out(c, text, room, line_height, 0);
  if (cairo_status(c) != CAIRO_STATUS_SUCCESS) {
    FAIL_GOTO(done, ERR_ARG, "caption '%.60s': %s", caption, cairo_status_to_string(cairo_status(c)));
  }
  if (lines > 100) FAIL_GOTO(done, ERR_ARG, "caption '%.60s...' takes %d lines", caption, lines);
  out->height = (int)(line_height * (lines + 0.4));
  cairo_destroy(c);
  TRY_GOTO(open_canvas(width, out->height, size, &out->surface, &c), done);
  cairo_set_source_rgb(c, 0.11, 0.11, 0.12);
  cairo_paint(c);
  cairo_set_source_rgb(c, 1, 1, 1);
  (void)lay_out(c, text, room, line_height, 1);
  cairo_surface_flush(out->surface);
done:
  cairo_destroy(c);
  cairo_surface_destroy(probe);
  mem_free(&text);
  return st;
}

static void copy_strip(const struct strip *strip, int top, struct image *out) {
  const uint8_t *data = cairo_image_surface_get_data(strip->surface);
  size_t stride = (size_t)cairo_image_surface_get_stride(strip->surface);
  for (int y = 0; y < strip->height; y++) {
    uint8_t *to = out->pixels + (size_t)(top + y) * (size_t)out->width * 3;
    for (int x = 0; x < out->width; x++) {
      uint32_t word;
      memcpy(&word, data + (size_t)y * stride + 4 * (size_t)x, 4);
      for (int k = 0; k < 3; k++) to[3 * x + k] = (uint8_t)(word >> (16 - 8 * k));
    }
  }
}

static status_t draw_masks(const struct overlay *what, int height, int width, uint8_t *pixels) {
  size_t count = (size_t)height * (size_t)width;
  int side = height < width ? height : width, thick = side < 350 ? 1 : (side + 100) / 225;
  uint8_t *line = NULL;
  TRY(mem_alloc(&line, 2 * count, 1));
  if (what->mask) {
    outline(what->mask, height, width, thick, 1, line, line + count);
    for (size_t i = 0; i < count; i++)
      if (what->mask[i]) blend(pixels + 3 * i, what->mask_colour, line[i] ? 1.0f : what->opacity);
  }
  if (what->truth) {
    outline(what->truth, height, width, thick, 0, line, line + count);
    for (size_t i = 0; i < count; i++)
      if (line[i]) blend(pixels + 3 * i, what->truth_colour, 1.0f);
  }
  mem_free(&line);
  return OK;
}

status_t image_overlay(const struct image *picture, const struct overlay *what, struct image *out) {
  struct strip strip = {0};
  status_t st = OK;
  *out = (struct image){0};
  if (!(what->opacity >= 0 && what->opacity <= 1)) return FAIL(ERR_ARG, "opacity %g is not in 0..1", what->opacity);
  if (picture->channels != 1 && picture->channels != 3) {
    return FAIL(ERR_SHAPE, "a picture of %d channels, wanted 1 or 3", picture->channels);
  }
  if (what->caption && *what->caption) TRY_GOTO(make_strip(what->caption, picture->width, &strip), done);
  TRY_GOTO(image_create("overlay", (int64_t)picture->height + strip.height, picture->width, 3, out), done);
  size_t count = (size_t)picture->height * (size_t)picture->width;
  for (size_t i = 0; i < count; i++)
    for (size_t k = 0; k < 3; k++) out->pixels[3 * i + k] = picture->pixels[picture->channels == 3 ? 3 * i + k : i];
  TRY_GOTO(draw_masks(what, picture->height, picture->width, out->pixels), done);
  if (strip.surface) copy_strip(&strip, picture->height, out);
done:
  if (strip.surface) cairo_surface_destroy(strip.surface);
  if (st != OK) image_free(out);
  return st;
}
