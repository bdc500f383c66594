// tensor.c: see tensor.h.
#include "tensor/tensor.h"

#include "base/mem.h"

#include <stdio.h>

size_t dtype_bytes(dtype_t dtype) {
  static const size_t bytes[] = {0, 4, 8, 2, 2, 4, 8, 1};
  return bytes[dtype];
}

const char *dtype_name(dtype_t dtype) {
  static const char *const name[] = {"none", "fp32", "fp64", "bf16", "fp16", "int32", "int64", "uint8"};
  return name[dtype];
}

int64_t desc_count(const struct tensor_desc *d) {
  int64_t n = 1;
  for (int i = 0; i < d->rank; i++) n *= d->dim[i];
  return n;
}

size_t desc_bytes(const struct tensor_desc *d) {
  return (size_t)desc_count(d) * dtype_bytes(d->dtype);
}

status_t desc_check(const struct tensor_desc *d, const char *name) {
  size_t bytes = dtype_bytes(d->dtype);
  if (d->rank < 0 || d->rank > TENSOR_MAX_RANK) {
    return FAIL(ERR_SHAPE, "%s: rank %d is outside 0..%d", name, d->rank, TENSOR_MAX_RANK);
  }
  for (int i = 0; i < d->rank; i++) {
    if (d->dim[i] < 0) return FAIL(ERR_SHAPE, "%s: dimension %d is negative (%lld)", name, i, (long long)d->dim[i]);
    if (!size_mul(bytes, (size_t)d->dim[i], &bytes) || bytes > PTRDIFF_MAX) {
      return FAIL(ERR_SHAPE, "%s: the size of the tensor overflows", name);
    }
  }
  return OK;
}

bool desc_same_shape(const struct tensor_desc *a, const struct tensor_desc *b) {
  if (a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++) {
    if (a->dim[i] != b->dim[i]) return false;
  }
  return true;
}

bool desc_equal(const struct tensor_desc *a, const struct tensor_desc *b) {
  return a->dtype == b->dtype && desc_same_shape(a, b);
}

int64_t desc_columns(const struct tensor_desc *d) {
  return d->rank ? d->dim[d->rank - 1] : 1;
}

int64_t desc_rows(const struct tensor_desc *d) {
  int64_t n = 1;
  for (int i = 0; i + 1 < d->rank; i++) n *= d->dim[i];
  return n;
}

const char *desc_text(const struct tensor_desc *d, char text[DESC_TEXT]) {
  int n = snprintf(text, DESC_TEXT, "%s [", dtype_name(d->dtype));
  for (int i = 0; i < d->rank && n < DESC_TEXT - 24; i++) {
    n += snprintf(text + n, (size_t)(DESC_TEXT - n), "%s%lld", i ? "," : "", (long long)d->dim[i]);
  }
  (void)snprintf(text + n, (size_t)(DESC_TEXT - n), "]");
  return text;
}
