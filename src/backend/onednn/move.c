// move.c: EMBED, TAKE_ROW, TAKE_PLANE, CONCAT, SLICE and TRANSPOSE: bytes from one place to another.
#include "backend/onednn/inside.h"

#include "base/mem.h"

#include <string.h>

static bool embed_supports(const struct onednn *b, const struct op *op) {
  (void)b;
  dtype_t from = op->in[0].dtype;
  if (op->direction == FORWARD) return is_real(op->in[1].dtype) && op->in[1].dtype == op->out[0].dtype;
  return is_real(from) && op->out[0].dtype == DTYPE_F32;
}

static bool same_type(const struct onednn *b, const struct op *op) {
  (void)b;
  for (int i = 0; i < op->inputs; i++) {
    if (op->in[i].dtype != op->out[0].dtype && op->in[i].dtype != DTYPE_NONE) return false;
  }
  return true;
}

static bool take_row_supports(const struct onednn *b, const struct op *op) {
  (void)b;
  return op->in[0].dtype == op->out[0].dtype;
}

static status_t check_indices(const struct op *op, const int32_t *index, int64_t n, int64_t limit) {
  for (int64_t i = 0; i < n; i++) {
    if (index[i] < 0 || index[i] >= limit) {
      char text[OP_TEXT];
      return FAIL(ERR_NUMERIC, "index %d at place %lld is outside 0..%lld in %s", (int)index[i], (long long)i,
                  (long long)limit - 1, op_text(op, text));
    }
  }
  return OK;
}

static void copy_rows(char *to, const char *table, const int32_t *index, int64_t n, size_t bytes) {
  for (int64_t i = 0; i < n; i++) memcpy(to + (size_t)i * bytes, table + (size_t)index[i] * bytes, bytes);
}

// Every thread owns a part of the columns, so that rows are added in the order of their ids.
static void add_rows(int threads, float *table, struct view dy, const int32_t *index, int64_t n, int64_t v, int64_t d) {
  memset(table, 0, sizeof(float) * (size_t)(v * d));
  const int64_t piece = 64;
#pragma omp parallel for num_threads(n *d > 16384 ? threads : 1) schedule(static)
  for (int64_t from = 0; from < d; from += piece) {
    int64_t end = from + piece < d ? from + piece : d;
    for (int64_t i = 0; i < n; i++) {
      float *row = table + index[i] * d;
      for (int64_t j = from; j < end; j++) {
        int64_t at = i * d + j;
        row[j] += dy.type == DTYPE_F32 ? ((const float *)dy.data)[at] : bf16_to_f32(((const uint16_t *)dy.data)[at]);
      }
    }
  }
}

static status_t embed_run(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct op *op = &p->op;
  bool forward = op->direction == FORWARD;
  const struct tensor_desc *id = &op->in[forward ? 0 : 1], *table = forward ? &op->in[1] : &op->out[0];
  int64_t n = desc_count(id), d = table->dim[1];
  const int32_t *index = operands[forward ? 0 : 1];
  TRY(check_indices(op, index, n, table->dim[0]));
  if (forward) {
    copy_rows(operands[2], operands[1], index, n, (size_t)d * dtype_bytes(table->dtype));
  } else {
    add_rows(p->b->base.threads, operands[2], view_of(&op->in[0], operands[0]), index, n, table->dim[0], d);
  }
  return OK;
}

static status_t take_row_run(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct op *op = &p->op;
  bool forward = op->direction == FORWARD;
  const struct tensor_desc *whole = forward ? &op->in[0] : &op->out[0];
  int64_t batch = whole->dim[0], rows = whole->dim[1];
  size_t bytes = (size_t)whole->dim[2] * dtype_bytes(whole->dtype);
  const int32_t *row = operands[1];
  TRY(check_indices(op, row, batch, rows));
  if (!forward) memset(operands[2], 0, desc_bytes(whole));
  for (int64_t i = 0; i < batch; i++) {
    size_t at = (size_t)(i * rows + row[i]) * bytes;
    if (forward) {
      memcpy((char *)operands[2] + (size_t)i * bytes, (const char *)operands[0] + at, bytes);
    } else {
      memcpy((char *)operands[2] + at, (const char *)operands[0] + (size_t)i * bytes, bytes);
    }
  }
  return OK;
}

// y[i] = x[i][plane], or x[i] is 0 but for x[i][plane] = y[i]; `bytes`: 2, 4 or 8.
static void plane_pixels(bool forward, int64_t n, int64_t planes, int32_t plane, size_t bytes, char *x, char *y) {
  for (int64_t i = 0; i < n; i++) {
    char *at = x + (size_t)(i * planes + plane) * bytes, *one = y + (size_t)i * bytes;
    switch (bytes) {
    case 2: memcpy(forward ? one : at, forward ? at : one, 2); break;
    case 4: memcpy(forward ? one : at, forward ? at : one, 4); break;
    default: memcpy(forward ? one : at, forward ? at : one, 8); break;
    }
  }
}

static status_t take_plane_run(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct op *op = &p->op;
  bool forward = op->direction == FORWARD;
  const struct tensor_desc *whole = forward ? &op->in[0] : &op->out[0];
  int64_t batch = whole->dim[0], rows = whole->dim[1], columns = whole->dim[2], planes = whole->dim[3];
  size_t bytes = dtype_bytes(whole->dtype), line = (size_t)columns * bytes;
  char *x = operands[forward ? 0 : 2], *y = operands[forward ? 2 : 0];
  const int32_t *plane = operands[1];
  TRY(check_indices(op, plane, batch, planes));
#pragma omp parallel for num_threads(batch *rows *columns > 16384 ? p->b->base.threads : 1) schedule(static)
  for (int64_t i = 0; i < batch * rows; i++) {
    char *from = x + (size_t)i * line * (size_t)planes;
    if (!forward) memset(from, 0, line * (size_t)planes);
    plane_pixels(forward, columns, planes, plane[i / rows], bytes, from, y + (size_t)i * line);
  }
  return OK;
}

// Blocks before the axis, and bytes of one step along it.
static void axis_split(const struct tensor_desc *d, int axis, size_t *outer, size_t *step) {
  *outer = 1;
  *step = dtype_bytes(d->dtype);
  for (int i = 0; i < axis; i++) *outer *= (size_t)d->dim[i];
  for (int i = axis + 1; i < d->rank; i++) *step *= (size_t)d->dim[i];
}

static void copy_blocks(int threads, size_t outer, size_t bytes, char *to, size_t to_step, const char *from,
                        size_t from_step) {
#pragma omp parallel for num_threads(outer *bytes > 1 << 17 ? threads : 1) schedule(static)
  for (size_t i = 0; i < outer; i++) memcpy(to + i * to_step, from + i * from_step, bytes);
}

static status_t concat_run(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct op *op = &p->op;
  int axis = op->attr.axis;
  size_t outer, step, at = 0;
  axis_split(&op->out[0], axis, &outer, &step);
  size_t whole = (size_t)op->out[0].dim[axis] * step;
  for (int i = 0; i < op->inputs; i++) {
    size_t part = (size_t)op->in[i].dim[axis] * step;
    copy_blocks(p->b->base.threads, outer, part, (char *)operands[op->inputs] + at, whole, operands[i], part);
    at += part;
  }
  return OK;
}

static status_t slice_run(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct op *op = &p->op;
  bool forward = op->direction == FORWARD;
  int axis = op->attr.axis;
  const struct tensor_desc *large = forward ? &op->in[0] : &op->out[0], *small = forward ? &op->out[0] : &op->in[0];
  size_t outer, step;
  axis_split(large, axis, &outer, &step);
  size_t whole = (size_t)large->dim[axis] * step, part = (size_t)small->dim[axis] * step;
  size_t at = (size_t)op->attr.start * step;
  if (forward) {
    copy_blocks(p->b->base.threads, outer, part, operands[1], part, (const char *)operands[0] + at, whole);
    return OK;
  }
  char *to = operands[1];
  for (size_t i = 0; i < outer; i++) { // zero only what lies outside
    memset(to + i * whole, 0, at);
    memset(to + i * whole + at + part, 0, whole - at - part);
  }
  copy_blocks(p->b->base.threads, outer, part, to + at, whole, operands[0], part);
  return OK;
}

// y is dense over dim[]; x moves by stride[]. Dims that stay neighbours are merged.
struct transposition {
  int rank;
  int64_t dim[TENSOR_MAX_RANK], stride[TENSOR_MAX_RANK];
  size_t bytes; // of one element, or of a run that stays together
};

static void transposition_of(const struct op *op, struct transposition *t) {
  const struct tensor_desc *x = &op->in[0];
  int64_t strides[TENSOR_MAX_RANK], stride = 1;
  for (int i = x->rank - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= x->dim[i];
  }
  *t = (struct transposition){.bytes = dtype_bytes(x->dtype)};
  for (int i = 0; i < x->rank; i++) {
    int from = op->attr.permutation[i];
    if (x->dim[from] == 1) continue;
    if (t->rank && t->stride[t->rank - 1] == strides[from] * x->dim[from]) {
      t->dim[t->rank - 1] *= x->dim[from];
      t->stride[t->rank - 1] = strides[from];
    } else {
      t->dim[t->rank] = x->dim[from];
      t->stride[t->rank++] = strides[from];
    }
  }
  if (t->rank && t->stride[t->rank - 1] == 1) { // the innermost run moves as one piece
    int64_t run = t->dim[--t->rank];
    t->bytes *= (size_t)run;
    for (int i = 0; i < t->rank; i++) t->stride[i] /= run;
  }
}

// One line of n pieces along the innermost dim of y.
static void transpose_line(char *to, const char *from, int64_t n, int64_t stride, size_t bytes) {
  switch (bytes) {
  case 2:
    for (int64_t i = 0; i < n; i++) ((uint16_t *)(void *)to)[i] = ((const uint16_t *)(const void *)from)[i * stride];
    break;
  case 4:
    for (int64_t i = 0; i < n; i++) ((uint32_t *)(void *)to)[i] = ((const uint32_t *)(const void *)from)[i * stride];
    break;
  default:
    for (int64_t i = 0; i < n; i++) memcpy(to + (size_t)i * bytes, from + (size_t)(i * stride) * bytes, bytes);
  }
}

static status_t transpose_run(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct transposition *t = p->state;
  if (!t->rank) {
    memcpy(operands[1], operands[0], t->bytes);
    return OK;
  }
  int64_t n = t->dim[t->rank - 1], step = t->stride[t->rank - 1], lines = 1;
  for (int i = 0; i < t->rank - 1; i++) lines *= t->dim[i];
#pragma omp parallel for num_threads((size_t)(lines * n) * t->bytes > 1 << 17 ? p->b->base.threads : 1) schedule(static)
  for (int64_t line = 0; line < lines; line++) {
    int64_t at = 0, rest = line;
    for (int i = t->rank - 2; i >= 0; i--) {
      at += rest % t->dim[i] * t->stride[i];
      rest /= t->dim[i];
    }
    transpose_line((char *)operands[1] + (size_t)(line * n) * t->bytes,
                   (const char *)operands[0] + (size_t)at * t->bytes, n, step, t->bytes);
  }
  return OK;
}

static void transpose_release(struct plan *p) {
  mem_free(&p->state);
}

static status_t transpose_create(struct plan *p) {
  p->run = transpose_run;
  p->release = transpose_release;
  TRY(mem_alloc(&p->state, 1, sizeof(struct transposition)));
  transposition_of(&p->op, p->state);
  return OK;
}

#define CREATE(name)                                                                                                   \
  static status_t name##_create(struct plan *p) {                                                                      \
    p->run = name##_run;                                                                                               \
    return OK;                                                                                                         \
  }
CREATE(embed)
CREATE(take_row)
CREATE(take_plane)
CREATE(concat)
CREATE(slice)

const struct op_class embed_class = {.supports = embed_supports, .create = embed_create};
const struct op_class take_row_class = {.supports = take_row_supports, .create = take_row_create};
const struct op_class take_plane_class = {.supports = take_row_supports, .create = take_plane_create};
const struct op_class concat_class = {.supports = same_type, .create = concat_create};
const struct op_class slice_class = {.supports = same_type, .create = slice_create};
const struct op_class transpose_class = {.supports = same_type, .create = transpose_create};
