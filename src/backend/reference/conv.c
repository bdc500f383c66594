// conv.c: CONV, CONV_TRANSPOSE, CONV_EACH. They join a fine picture and a coarse one: each pixel of the coarse picture
// belongs to one window ("patch") of the fine one. CONV reads patches of x and writes pixels of y; CONV_TRANSPOSE reads
// pixels of x and writes patches of y, so it is the gradient of a CONV with the weights as they stand,
// [coarse,fine,kh,kw].
#include "backend/reference/inside.h"

struct window {
  int64_t batch, height, width, channels; // the fine picture
  int64_t rows, columns, outputs;         // the coarse picture
  int64_t kernel[2], stride[2], pad[2], dilation[2], groups;
  int64_t patch; // elements of the patch of one group: channels/groups * kh * kw, in the order of a row of the weights
};

static struct window make_window(const struct op *op) {
  const struct tensor_desc *x, *y, *w;
  x = op->direction == FORWARD ? &op->in[0] : op->direction == BACKWARD_DATA ? &op->out[0] : &op->in[1];
  y = op->direction == FORWARD ? &op->out[0] : &op->in[0];
  w = op->direction == BACKWARD_WEIGHT ? &op->out[0] : &op->in[1];
  bool transposed = op->kind == OP_CONV_TRANSPOSE, each = op->kind == OP_CONV_EACH;
  const struct tensor_desc *fine = transposed ? y : x, *coarse = transposed ? x : y;
  struct window s = {.batch = each ? 1 : fine->dim[0],
                     .height = fine->dim[1],
                     .width = fine->dim[2],
                     .channels = fine->dim[3],
                     .rows = coarse->dim[1],
                     .columns = coarse->dim[2],
                     .outputs = coarse->dim[3],
                     .groups = each ? 1 : op->attr.groups};
  for (int i = 0; i < 2; i++) {
    s.kernel[i] = w->dim[2 + i];
    s.stride[i] = each ? 1 : op->attr.stride[i];
    s.pad[i] = op->attr.pad[i];
    s.dilation[i] = each ? 1 : op->attr.dilation[i];
  }
  s.patch = s.channels / s.groups * s.kernel[0] * s.kernel[1];
  return s;
}

// The patch of coarse pixel (i, j) and group g of one fine picture: read into `patch` (zeros outside the picture), or,
// with `add`, added from `patch` to the picture.
static void move_patch(const struct window *s, double *picture, const double *source, double *patch, int64_t g,
                       int64_t i, int64_t j) {
  int64_t channels = s->channels / s->groups, at = 0;
  for (int64_t c = g * channels; c < (g + 1) * channels; c++) {
    for (int64_t u = 0; u < s->kernel[0]; u++) {
      for (int64_t v = 0; v < s->kernel[1]; v++, at++) {
        int64_t h = i * s->stride[0] - s->pad[0] + u * s->dilation[0];
        int64_t w = j * s->stride[1] - s->pad[1] + v * s->dilation[1];
        bool inside = h >= 0 && h < s->height && w >= 0 && w < s->width;
        int64_t pixel = (h * s->width + w) * s->channels + c;
        if (picture && inside) picture[pixel] += patch[at];
        if (source) patch[at] = inside ? source[pixel] : 0;
      }
    }
  }
}

// coarse[i,j,o] = patch(i,j) . w[o]
static void fine_to_coarse(const struct window *s, const double *fine, const double *w, double *coarse, double *patch) {
  int64_t outputs = s->outputs / s->groups;
  for (int64_t p = 0; p < s->batch * s->rows * s->columns; p++) {
    int64_t b = p / (s->rows * s->columns), i = p / s->columns % s->rows, j = p % s->columns;
    for (int64_t g = 0; g < s->groups; g++) {
      move_patch(s, NULL, fine + b * s->height * s->width * s->channels, patch, g, i, j);
      for (int64_t o = g * outputs; o < (g + 1) * outputs; o++) {
        coarse[p * s->outputs + o] = dot(patch, w + o * s->patch, s->patch);
      }
    }
  }
}

// fine += sum over o of coarse[i,j,o] w[o], patch by patch
static void coarse_to_fine(const struct window *s, const double *coarse, const double *w, double *fine, double *patch) {
  int64_t outputs = s->outputs / s->groups;
  fill(fine, 0, s->batch * s->height * s->width * s->channels);
  for (int64_t p = 0; p < s->batch * s->rows * s->columns; p++) {
    int64_t b = p / (s->rows * s->columns), i = p / s->columns % s->rows, j = p % s->columns;
    for (int64_t g = 0; g < s->groups; g++) {
      fill(patch, 0, s->patch);
      for (int64_t o = g * outputs; o < (g + 1) * outputs; o++) {
        axpy(patch, coarse[p * s->outputs + o], w + o * s->patch, s->patch);
      }
      move_patch(s, fine + b * s->height * s->width * s->channels, NULL, patch, g, i, j);
    }
  }
}

// dw[o] = sum over pixels of coarse[i,j,o] patch(i,j)
static void weight_gradient(const struct window *s, const double *fine, const double *coarse, double *dw,
                            double *patch) {
  int64_t outputs = s->outputs / s->groups;
  fill(dw, 0, s->outputs * s->patch);
  for (int64_t p = 0; p < s->batch * s->rows * s->columns; p++) {
    int64_t b = p / (s->rows * s->columns), i = p / s->columns % s->rows, j = p % s->columns;
    for (int64_t g = 0; g < s->groups; g++) {
      move_patch(s, NULL, fine + b * s->height * s->width * s->channels, patch, g, i, j);
      for (int64_t o = g * outputs; o < (g + 1) * outputs; o++) {
        axpy(dw + o * s->patch, coarse[p * s->outputs + o], patch, s->patch);
      }
    }
  }
}

status_t run_conv(const struct run *r) {
  const struct op *op = r->op;
  struct window s = make_window(op);
  bool transposed = op->kind == OP_CONV_TRANSPOSE;
  if (op->direction == BACKWARD_WEIGHT) {
    const double *dy = r->in[0], *x = r->in[1];
    weight_gradient(&s, transposed ? dy : x, transposed ? x : dy, r->out[0], r->work);
    if (r->out[1]) column_sums(r->out[1], dy, desc_rows(&op->in[0]), desc_columns(&op->in[0]));
    return OK;
  }
  if ((op->direction == FORWARD) != transposed) {
    fine_to_coarse(&s, r->in[0], r->in[1], r->out[0], r->work);
  } else {
    coarse_to_fine(&s, r->in[0], r->in[1], r->out[0], r->work);
  }
  if (op->direction == FORWARD) epilogue(op, r->out[0], r->in[2], transposed ? NULL : r->in[3]);
  return OK;
}

// Sample by sample: a convolution of one picture with one output channel.
status_t run_conv_each(const struct run *r) {
  const struct op *op = r->op;
  struct window s = make_window(op);
  bool weight = op->direction == BACKWARD_WEIGHT, data = op->direction == BACKWARD_DATA;
  int64_t batch = op->in[0].dim[0], fine = s.height * s.width * s.channels, coarse = s.rows * s.columns;
  for (int64_t b = 0; b < batch; b++) {
    if (weight) {
      weight_gradient(&s, r->in[1] + b * fine, r->in[0] + b * coarse, r->out[0] + b * s.patch, r->work);
      if (r->out[1]) column_sums(r->out[1] + b, r->in[0] + b * coarse, coarse, 1);
    } else if (data) {
      coarse_to_fine(&s, r->in[0] + b * coarse, r->in[1] + b * s.patch, r->out[0] + b * fine, r->work);
    } else {
      fine_to_coarse(&s, r->in[0] + b * fine, r->in[1] + b * s.patch, r->out[0] + b * coarse, r->work);
      for (int64_t i = 0; r->in[2] && i < coarse; i++) r->out[0][b * coarse + i] += r->in[2][b];
    }
  }
  return OK;
}

status_t run_doubled_kernel(const struct run *r) {
  static const double m[4][3] = {{0, 0, 1}, {0, 1, 1}, {1, 1, 0}, {1, 0, 0}};
  bool forward = r->op->direction == FORWARD;
  const struct tensor_desc *w = forward ? &r->op->in[0] : &r->op->out[0];
  int64_t outputs = w->dim[0], channels = w->dim[1];
  fill(r->out[0], 0, desc_count(&r->op->out[0]));
  for (int64_t o = 0; o < outputs; o++) {
    for (int64_t c = 0; c < channels; c++) {
      for (int k = 0; k < 16 * 9; k++) {
        int y = k / 36, x = k / 9 % 4, u = k / 3 % 3, v = k % 3;
        int64_t small = (o * channels + c) * 9 + u * 3 + v, large = (c * outputs + o) * 16 + y * 4 + x;
        r->out[0][forward ? large : small] += m[y][u] * m[x][v] * r->in[0][forward ? small : large];
      }
    }
  }
  return OK;
}
