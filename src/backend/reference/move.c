// move.c: CONCAT, SLICE, TRANSPOSE: data at other places, unchanged.
#include "backend/reference/inside.h"

#include <string.h>

// Elements of one index step along `axis`.
static int64_t step_of(const struct tensor_desc *d, int axis) {
  int64_t n = 1;
  for (int i = axis + 1; i < d->rank; i++) n *= d->dim[i];
  return n;
}

// Copy a part to the indices from `start` on of `axis` of the whole (`into`), or from there to the part.
static void move_part(double *to, const double *from, bool into, const struct tensor_desc *whole,
                      const struct tensor_desc *part, int axis, int64_t start) {
  int64_t step = step_of(whole, axis), outer = desc_count(whole) / (step * whole->dim[axis]);
  size_t bytes = (size_t)(part->dim[axis] * step) * sizeof(double);
  for (int64_t i = 0; i < outer; i++) {
    int64_t in_whole = (i * whole->dim[axis] + start) * step, in_part = i * part->dim[axis] * step;
    memcpy(to + (into ? in_whole : in_part), from + (into ? in_part : in_whole), bytes);
  }
}

status_t run_concat(const struct run *r) {
  int64_t start = 0;
  int axis = r->op->attr.axis;
  for (int i = 0; i < r->op->inputs; i++) {
    move_part(r->out[0], r->in[i], true, &r->op->out[0], &r->op->in[i], axis, start);
    start += r->op->in[i].dim[axis];
  }
  return OK;
}

status_t run_slice(const struct run *r) {
  bool forward = r->op->direction == FORWARD;
  const struct tensor_desc *x = &r->op->in[0], *y = &r->op->out[0];
  if (!forward) fill(r->out[0], 0, desc_count(y));
  move_part(r->out[0], r->in[0], !forward, forward ? x : y, forward ? y : x, r->op->attr.axis, r->op->attr.start);
  return OK;
}

status_t run_transpose(const struct run *r) {
  const struct tensor_desc *x = &r->op->in[0], *y = &r->op->out[0];
  int64_t at[TENSOR_MAX_RANK] = {0}, n = desc_count(y);
  for (int64_t i = 0; i < n; i++) {
    int64_t from = 0;
    for (int k = 0; k < y->rank; k++) from += at[k] * step_of(x, r->op->attr.permutation[k]);
    r->out[0][i] = r->in[0][from];
    for (int k = y->rank - 1; k >= 0 && ++at[k] == y->dim[k]; k--) at[k] = 0;
  }
  return OK;
}
