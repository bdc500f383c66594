// rows.c: EMBED, TAKE_ROW and TAKE_PLANE: rows and planes chosen by index.
#include "backend/reference/inside.h"

#include <string.h>

static status_t check_index(const char *what, const int32_t *index, int64_t n, int64_t limit) {
  for (int64_t i = 0; i < n; i++) {
    if (index[i] < 0 || index[i] >= limit) {
      return FAIL(ERR_NUMERIC, "%s %d at place %lld is outside 0..%lld", what, (int)index[i], (long long)i,
                  (long long)limit - 1);
    }
  }
  return OK;
}

status_t run_embed(const struct run *r) {
  bool forward = r->op->direction == FORWARD;
  const int32_t *id = r->raw[forward ? 0 : 1];
  const struct tensor_desc *table = forward ? &r->op->in[1] : &r->op->out[0];
  int64_t n = desc_count(&r->op->in[forward ? 0 : 1]), width = table->dim[1];
  TRY(check_index("embedding: token", id, n, table->dim[0]));
  if (!forward) fill(r->out[0], 0, desc_count(table));
  for (int64_t i = 0; i < n; i++) {
    if (forward) {
      memcpy(r->out[0] + i * width, r->in[1] + id[i] * width, (size_t)width * sizeof(double));
    } else {
      axpy(r->out[0] + id[i] * width, 1, r->in[0] + i * width, width);
    }
  }
  return OK;
}

status_t run_take_row(const struct run *r) {
  bool forward = r->op->direction == FORWARD;
  const int32_t *row = r->raw[1];
  const struct tensor_desc *x = forward ? &r->op->in[0] : &r->op->out[0];
  int64_t rows = x->dim[1], width = x->dim[2];
  TRY(check_index("take row: row", row, x->dim[0], rows));
  if (!forward) fill(r->out[0], 0, desc_count(x));
  for (int64_t b = 0; b < x->dim[0]; b++) {
    int64_t at = (b * rows + row[b]) * width;
    const double *from = r->in[0] + (forward ? at : b * width);
    memcpy(r->out[0] + (forward ? b * width : at), from, (size_t)width * sizeof(double));
  }
  return OK;
}

status_t run_take_plane(const struct run *r) {
  bool forward = r->op->direction == FORWARD;
  const int32_t *plane = r->raw[1];
  const struct tensor_desc *x = forward ? &r->op->in[0] : &r->op->out[0];
  int64_t planes = x->dim[3], pixels = x->dim[1] * x->dim[2];
  TRY(check_index("take plane: plane", plane, x->dim[0], planes));
  if (!forward) fill(r->out[0], 0, desc_count(x));
  for (int64_t b = 0; b < x->dim[0]; b++) {
    for (int64_t i = b * pixels; i < (b + 1) * pixels; i++) {
      int64_t at = i * planes + plane[b];
      r->out[0][forward ? i : at] = r->in[0][forward ? at : i];
    }
  }
  return OK;
}
