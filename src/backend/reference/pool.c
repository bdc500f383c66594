// pool.c: POOL, one window at a time.
#include "backend/reference/inside.h"

#include <math.h>

// One window of one channel: `first` is its pixel (0, 0), which padding may put outside the picture.
struct window {
  const struct op *op;
  const struct tensor_desc *x; // the fine picture
  int64_t batch, row, column, channel;
};

// The element of the fine picture under tap k (row by row), -1 where that is padding.
static int64_t under_tap(const struct window *s, int k) {
  int64_t h = s->row + k / s->op->attr.kernel[1], w = s->column + k % s->op->attr.kernel[1];
  if (h < 0 || w < 0 || h >= s->x->dim[1] || w >= s->x->dim[2]) return -1;
  return ((s->batch * s->x->dim[1] + h) * s->x->dim[2] + w) * s->x->dim[3] + s->channel;
}

static struct window window_of(const struct op *op, const struct tensor_desc *x, const struct tensor_desc *y,
                               int64_t at) {
  int64_t c = y->dim[3], j = at / c % y->dim[2], i = at / c / y->dim[2] % y->dim[1];
  return (struct window){.op = op,
                         .x = x,
                         .batch = at / c / y->dim[2] / y->dim[1],
                         .row = i * op->attr.stride[0] - op->attr.pad[0],
                         .column = j * op->attr.stride[1] - op->attr.pad[1],
                         .channel = at % c};
}

// The tap of the greatest element, the first of equals; a NaN is greater than all.
static int greatest(const struct window *s, const double *x, int taps) {
  int best = -1;
  double top = 0;
  for (int k = 0; k < taps; k++) {
    int64_t at = under_tap(s, k);
    if (at < 0 || (best >= 0 && (isnan(top) || x[at] <= top))) continue;
    top = x[at];
    best = k;
  }
  return best;
}

static void forward(const struct run *r, int taps) {
  const struct tensor_desc *x = &r->op->in[0], *y = &r->op->out[0];
  uint8_t *where = r->raw_out[1];
  for (int64_t i = 0, n = desc_count(y); i < n; i++) {
    struct window s = window_of(r->op, x, y, i);
    if (r->op->attr.pool == POOL_MAX) {
      int best = greatest(&s, r->in[0], taps);
      r->out[0][i] = r->in[0][under_tap(&s, best)];
      if (where) where[i] = (uint8_t)best;
      continue;
    }
    double sum = 0;
    for (int k = 0; k < taps; k++) sum += r->in[0][under_tap(&s, k)];
    r->out[0][i] = sum / taps;
  }
}

static status_t backward(const struct run *r, int taps) {
  const struct tensor_desc *x = &r->op->out[0], *y = &r->op->in[0];
  const uint8_t *where = r->raw[1];
  fill(r->out[0], 0, desc_count(x));
  for (int64_t i = 0, n = desc_count(y); i < n; i++) {
    struct window s = window_of(r->op, x, y, i);
    if (where) {
      int64_t at = where[i] < taps ? under_tap(&s, where[i]) : -1;
      if (at < 0) return FAIL(ERR_NUMERIC, "pool: tap %d at place %lld is not in its window", where[i], (long long)i);
      r->out[0][at] += r->in[0][i];
      continue;
    }
    for (int k = 0; k < taps; k++) r->out[0][under_tap(&s, k)] += r->in[0][i] / taps;
  }
  return OK;
}

status_t run_pool(const struct run *r) {
  int taps = r->op->attr.kernel[0] * r->op->attr.kernel[1];
  if (r->op->direction != FORWARD) return backward(r, taps);
  forward(r, taps);
  return OK;
}
