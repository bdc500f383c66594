// resize.c: RESIZE as torch.nn.functional.interpolate does it: along each axis an output pixel is a weighted sum of 1
// (nearest), 2 (bilinear) or 4 (bicubic convolution, Keys 1981, a = -0.75) neighbours, with indices clamped to the picture.
#include "backend/reference/inside.h"

#include <math.h>

struct taps {
  int n;
  int64_t at[4];
  double weight[4];
};

static double cubic(double t) {
  const double a = -0.75;
  t = fabs(t);
  if (t <= 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
}

static struct taps make_taps(const struct op *op, int64_t out, int64_t in_size, int64_t out_size) {
  double place;
  if (op->attr.resize == RESIZE_NEAREST) return (struct taps){1, {out * in_size / out_size}, {1}};
  if (op->attr.align_corners) {
    place = out_size > 1 ? (double)out * ((double)(in_size - 1) / (double)(out_size - 1)) : 0;
  } else {
    place = ((double)out + 0.5) * ((double)in_size / (double)out_size) - 0.5;
  }
  int64_t base = (int64_t)floor(place);
  double t = place - (double)base;
  bool is_cubic = op->attr.resize == RESIZE_BICUBIC;
  struct taps s = {.n = is_cubic ? 4 : 2};
  for (int k = 0; k < s.n; k++) {
    int64_t at = base + k - (is_cubic ? 1 : 0);
    s.at[k] = at < 0 ? 0 : at >= in_size ? in_size - 1 : at;
    s.weight[k] = is_cubic ? cubic((double)(k - 1) - t) : k ? t : 1 - t;
  }
  return s;
}

status_t run_resize(const struct run *r) {
  const struct op *op = r->op;
  bool forward = op->direction == FORWARD;
  const struct tensor_desc *x = forward ? &op->in[0] : &op->out[0], *y = forward ? &op->out[0] : &op->in[0];
  int64_t channels = x->dim[3], pixels = y->dim[0] * y->dim[1] * y->dim[2];
  fill(r->out[0], 0, desc_count(&op->out[0]));
  for (int64_t p = 0; p < pixels; p++) {
    int64_t b = p / (y->dim[1] * y->dim[2]), i = p / y->dim[2] % y->dim[1], j = p % y->dim[2];
    struct taps h = make_taps(op, i, x->dim[1], y->dim[1]), w = make_taps(op, j, x->dim[2], y->dim[2]);
    for (int u = 0; u < h.n; u++) {
      for (int v = 0; v < w.n; v++) {
        int64_t at = ((b * x->dim[1] + h.at[u]) * x->dim[2] + w.at[v]) * channels;
        double weight = h.weight[u] * w.weight[v];
        if (forward) {
          axpy(r->out[0] + p * channels, weight, r->in[0] + at, channels);
        } else {
          axpy(r->out[0] + at, weight, r->in[0] + p * channels, channels);
        }
      }
    }
  }
  return OK;
}
