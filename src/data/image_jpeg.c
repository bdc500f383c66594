// image_jpeg.c: JPEG by libjpeg(-turbo), with the decoder settings of Pillow (accurate integer IDCT, fancy upsampling).
// libjpeg reports errors through a function that must not return: it jumps back here, and nothing ends the process.
#include "base/mem.h"
#include "data/image_codec.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

enum { SCAN_LIMIT = 200 }; // a progressive file of more scans is an attack on our time: encoders write about ten

struct reader {
  struct jpeg_error_mgr error; // first: libjpeg hands back a pointer to it
  struct jpeg_progress_mgr progress;
  jmp_buf back;
  char message[JMSG_LENGTH_MAX + 32];
};

static void on_error(j_common_ptr info) {
  struct reader *r = (struct reader *)info->err;
  (*info->err->format_message)(info, r->message);
  longjmp(r->back, 1);
}

// A warning means that the data are damaged and libjpeg went on with a guess. Only those that leave every pixel right
// are let pass.
static void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  int code = info->err->msg_code;
  if (code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR || code == JWRN_ADOBE_XFORM ||
      code == JWRN_TOO_MUCH_DATA || code == JWRN_BOGUS_ICC)
    return;
  on_error(info);
}

static void on_output(j_common_ptr info) {
  (void)info;
}

static void on_progress(j_common_ptr info) {
  struct jpeg_decompress_struct *d = (struct jpeg_decompress_struct *)info;
  struct reader *r = (struct reader *)info->err;
  if (d->input_scan_number <= SCAN_LIMIT) return;
  (void)snprintf(r->message, sizeof r->message, "more than %d scans", SCAN_LIMIT);
  longjmp(r->back, 1);
}

static int find_orientation(const struct jpeg_decompress_struct *d) {
  for (jpeg_saved_marker_ptr m = d->marker_list; m; m = m->next) {
    if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && memcmp(m->data, "Exif\0\0", 6) == 0)
      return image_exif_orientation(m->data + 6, m->data_length - 6);
  }
  return 1;
}

// Rows straight into the picture; CMYK through one row. `row` has room for a row of CMYK.
static void read_rows(struct jpeg_decompress_struct *d, struct image *out, uint8_t *row) {
  size_t stride = (size_t)out->width * (size_t)out->channels;
  while (d->output_scanline < d->output_height) {
    JSAMPROW rows[16];
    JDIMENSION y = d->output_scanline, n = 0;
    if (row) {
      (void)jpeg_read_scanlines(d, &row, 1);
      for (size_t i = 0; i < (size_t)out->width * 4; i++) row[i] = (uint8_t)(255 - row[i]); // Adobe's polarity
      image_cmyk_to_rgb(row, out->pixels + y * stride, (size_t)out->width);
      continue;
    }
    for (; n < 16 && y + n < d->output_height; n++) rows[n] = out->pixels + (y + n) * stride;
    (void)jpeg_read_scanlines(d, rows, n);
  }
}

static status_t decode(struct jpeg_decompress_struct *d, struct reader *r, const uint8_t *bytes, size_t size,
                       int want_orientation, struct image *out, uint8_t **row, int *orientation) {
  if (setjmp(r->back)) return FAIL(ERR_FORMAT, "damaged JPEG: %s", r->message);
  jpeg_create_decompress(d);
  d->progress = &r->progress;
  if (want_orientation) jpeg_save_markers(d, JPEG_APP0 + 1, 0xffff);
  jpeg_mem_src(d, bytes, size);
  (void)jpeg_read_header(d, TRUE);
  int ink = d->num_components == 4;
  if (d->num_components != 1 && d->num_components != 3 && !ink)
    return FAIL(ERR_UNSUPPORTED, "a JPEG of %d components; wanted 1, 3 or 4", d->num_components);
  d->out_color_space = ink ? JCS_CMYK : d->num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
  d->dct_method = JDCT_ISLOW;
  d->do_fancy_upsampling = TRUE;
  TRY(image_create("", d->image_height, d->image_width, d->num_components == 1 ? 1 : 3, out));
  if (ink) TRY(mem_alloc(row, (size_t)out->width, 4));
  if (want_orientation) *orientation = find_orientation(d);
  (void)jpeg_start_decompress(d);
  read_rows(d, out, *row);
  (void)jpeg_finish_decompress(d);
  return OK;
}

status_t image_decode_jpeg(const uint8_t *bytes, size_t size, int want_orientation, struct image *out,
                           int *orientation) {
  struct jpeg_decompress_struct d;
  struct reader r;
  uint8_t *row = NULL; // its address is known outside of the jump, so its value survives it
  memset(&d, 0, sizeof d);
  memset(&r, 0, sizeof r);
  *orientation = 1;
  d.err = jpeg_std_error(&r.error);
  r.error.error_exit = on_error;
  r.error.emit_message = on_message;
  r.error.output_message = on_output;
  r.progress.progress_monitor = on_progress;
  status_t st = decode(&d, &r, bytes, size, want_orientation, out, &row, orientation);
  jpeg_destroy_decompress(&d);
  mem_free(&row);
  if (st != OK) image_free(out);
  return st;
}
