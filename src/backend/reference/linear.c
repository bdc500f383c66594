// linear.c: LINEAR, and the sums that several kinds use.
#include "backend/reference/inside.h"

// Eight sums side by side: one alone would wait for each addition, and a full CLIPSeg layer takes 1e9 of them. The order
// is fixed by n.
double dot(const double *a, const double *b, int64_t n) {
  double sum[8] = {0};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int k = 0; k < 8; k++) sum[k] += a[i + k] * b[i + k];
  }
  for (; i < n; i++) sum[0] += a[i] * b[i];
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

void axpy(double *y, double a, const double *x, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] += a * x[i];
}

void fill(double *y, double value, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = value;
}

void column_sums(double *y, const double *x, int64_t rows, int64_t columns) {
  fill(y, 0, columns);
  for (int64_t i = 0; i < rows; i++) axpy(y, 1, x + i * columns, columns);
}

void epilogue(const struct op *op, double *y, const double *b, const double *r) {
  int64_t rows = desc_rows(&op->out[0]), columns = desc_columns(&op->out[0]);
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < columns; j++) {
      int64_t at = i * columns + j;
      double sum = y[at] + (b ? b[j] : 0), residual = r ? r[at] : 0;
      if (op->attr.residual_first) {
        y[at] = activation_value(op->attr.activation, sum + residual);
      } else {
        y[at] = activation_value(op->attr.activation, sum) + residual;
      }
    }
  }
}

status_t run_linear(const struct run *r) {
  const struct op *op = r->op;
  int64_t rows = desc_rows(&op->in[0]), from = desc_columns(&op->in[0]), to = desc_columns(&op->out[0]);
  const double *a = r->in[0], *b = r->in[1];
  double *y = r->out[0];
  switch (op->direction) {
  case FORWARD:
    for (int64_t i = 0; i < rows; i++) {
      for (int64_t n = 0; n < to; n++) y[i * to + n] = dot(a + i * from, b + n * from, from);
    }
    epilogue(op, y, r->in[2], r->in[3]);
    break;
  case BACKWARD_DATA:
    for (int64_t i = 0; i < rows; i++) {
      fill(y + i * to, 0, to);
      for (int64_t n = 0; n < from; n++) axpy(y + i * to, a[i * from + n], b + n * to, to);
      if (r->in[2]) axpy(y + i * to, 1, r->in[2] + i * to, to);
    }
    break;
  case BACKWARD_WEIGHT:
    fill(y, 0, from * to);
    for (int64_t i = 0; i < rows; i++) {
      for (int64_t n = 0; n < from; n++) axpy(y + n * to, a[i * from + n], b + i * to, to);
    }
    if (r->out[1]) column_sums(r->out[1], a, rows, from);
    break;
  }
  return OK;
}
