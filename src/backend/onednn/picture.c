// picture.c: RESIZE and PIXELS on own kernels (oneDNN resizes neither with aligned corners nor bicubically).
#include "backend/onednn/inside.h"

#include "base/mem.h"

#include <math.h>

static bool supports(const struct onednn *b, const struct op *op) {
  (void)b;
  return op_is_single(op);
}

static void taps_free(struct taps *t) {
  mem_free(&t->weight);
  mem_free(&t->index);
  mem_free(&t->first);
}

static status_t taps_alloc(struct taps *t, int64_t places, int64_t count) {
  TRY(mem_alloc(&t->first, (size_t)places + 1, sizeof *t->first));
  TRY(mem_alloc(&t->index, (size_t)count, sizeof *t->index));
  TRY(mem_alloc(&t->weight, (size_t)count, sizeof *t->weight));
  return OK;
}

static int most_taps(resize_t mode) {
  return mode == RESIZE_BICUBIC ? 4 : mode == RESIZE_NEAREST ? 1 : 2;
}

// The weights of torch.nn.functional.interpolate: position of output `i` in the input, then 1, 2 or 4 neighbours.
static int axis_weights(const struct op *op, int64_t in, int64_t out, int64_t i, int64_t index[4], double weight[4]) {
  if (op->attr.resize == RESIZE_NEAREST) {
    index[0] = i * in / out;
    weight[0] = 1;
    return 1;
  }
  double at = op->attr.align_corners ? (out > 1 ? (double)i * (double)(in - 1) / (double)(out - 1) : 0)
                                     : ((double)i + 0.5) * (double)in / (double)out - 0.5;
  bool cubic = op->attr.resize == RESIZE_BICUBIC;
  if (!cubic && at < 0) at = 0;
  double low = floor(at), t = at - low;
  if (!cubic) {
    index[0] = (int64_t)low, index[1] = (int64_t)low + 1;
    weight[0] = 1 - t, weight[1] = t;
  } else {
    const double a = -0.75;
    for (int k = 0; k < 4; k++) {
      double x = fabs(t + 1 - k);
      index[k] = (int64_t)low - 1 + k;
      weight[k] = x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    }
  }
  int n = most_taps(op->attr.resize);
  for (int k = 0; k < n; k++) index[k] = index[k] < 0 ? 0 : index[k] >= in ? in - 1 : index[k];
  return n;
}

// Taps from input places to each output place, or the transpose of that.
static status_t taps_create(const struct op *op, int64_t in, int64_t out, bool transposed, struct taps *t) {
  int64_t index[4], n = most_taps(op->attr.resize), places = transposed ? in : out;
  double weight[4];
  if (in > INT32_MAX || out > INT32_MAX / 4) return FAIL(ERR_SHAPE, "a picture of %lld places", (long long)out);
  TRY(taps_alloc(t, places, out * n));
  for (int64_t i = 0; i < out; i++) { // count
    (void)axis_weights(op, in, out, i, index, weight);
    for (int k = 0; k < n; k++) t->first[(transposed ? index[k] : i) + 1]++;
  }
  for (int64_t i = 0; i < places; i++) t->first[i + 1] += t->first[i];
  int32_t *next;
  TRY(mem_alloc(&next, (size_t)places, sizeof *next));
  for (int64_t i = 0; i < out; i++) {
    (void)axis_weights(op, in, out, i, index, weight);
    for (int k = 0; k < n; k++) {
      int64_t place = transposed ? index[k] : i;
      int32_t slot = t->first[place] + next[place]++;
      t->index[slot] = (int32_t)(transposed ? i : index[k]);
      t->weight[slot] = (float)weight[k];
    }
  }
  mem_free(&next);
  return OK;
}

struct resize {
  struct taps rows, columns;
};

static status_t resize_run(struct plan *p, void *const *operands, char *scratch) {
  const struct resize *s = p->state;
  const struct tensor_desc *x = &p->op.in[0], *y = &p->op.out[0];
  p->b->kernels->picture->resample(p->b->base.threads, x->dim[0], x->dim[1], x->dim[2], y->dim[1], y->dim[2], x->dim[3],
                                   &s->rows, &s->columns, view_of(x, operands[0]), view_of(y, operands[1]),
                                   (float *)(void *)scratch);
  return OK;
}

static void resize_release(struct plan *p) {
  struct resize *s = p->state;
  if (!s) return;
  taps_free(&s->rows);
  taps_free(&s->columns);
  mem_free(&p->state);
}

static status_t resize_create(struct plan *p) {
  bool back = p->op.direction == BACKWARD_DATA;
  const struct tensor_desc *small = &p->op.in[0], *large = &p->op.out[0];
  struct resize *s;
  TRY(mem_alloc(&s, 1, sizeof *s));
  p->state = s;
  p->release = resize_release;
  p->run = resize_run;
  (void)plan_reserve(p, sizeof(float) * (size_t)p->b->base.threads * (size_t)(small->dim[2] * small->dim[3] + 16));
  const struct tensor_desc *from = back ? large : small, *to = back ? small : large; // of the forward direction
  TRY(taps_create(&p->op, from->dim[1], to->dim[1], back, &s->rows));
  return taps_create(&p->op, from->dim[2], to->dim[2], back, &s->columns);
}

struct pixels {
  float table[3][256];
};

static status_t pixels_run(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct pixels *s = p->state;
  p->b->kernels->picture->pixels(p->b->base.threads, desc_rows(&p->op.in[0]), s->table, operands[0],
                                 view_of(&p->op.out[0], operands[1]));
  return OK;
}

static void pixels_release(struct plan *p) {
  mem_free(&p->state);
}

static status_t pixels_create(struct plan *p) {
  struct pixels *s;
  TRY(mem_alloc(&s, 1, sizeof *s));
  p->state = s;
  p->release = pixels_release;
  p->run = pixels_run;
  for (int c = 0; c < 3; c++) {
    for (int i = 0; i < 256; i++) s->table[c][i] = (float)((i / 255.0 - p->op.attr.mean[c]) / p->op.attr.std[c]);
  }
  return OK;
}

static status_t doubled_run(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  bool forward = p->op.direction == FORWARD;
  const struct tensor_desc *w = forward ? &p->op.in[0] : &p->op.out[0], *y = forward ? &p->op.out[0] : &p->op.in[0];
  p->b->kernels->picture->double_kernels(p->b->base.threads, forward, w->dim[0], w->dim[1],
                                         view_of(w, operands[forward ? 0 : 1]), view_of(y, operands[forward ? 1 : 0]));
  return OK;
}

static status_t doubled_create(struct plan *p) {
  p->run = doubled_run;
  return OK;
}

const struct op_class doubled_kernel_class = {.supports = supports, .create = doubled_create};
const struct op_class resize_class = {.supports = supports, .create = resize_create};
const struct op_class pixels_class = {.supports = supports, .create = pixels_create};
