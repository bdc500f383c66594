// layernorm.c: LAYERNORM (Ba, Kiros and Hinton 2016) over the last dimension, biased variance.
#include "backend/reference/inside.h"

#include <math.h>

static void forward(const struct run *r, int64_t rows, int64_t width) {
  for (int64_t i = 0; i < rows; i++) {
    const double *x = r->in[0] + i * width;
    double mean = 0, variance = 0;
    for (int64_t j = 0; j < width; j++) mean += x[j];
    mean /= (double)width;
    for (int64_t j = 0; j < width; j++) variance += (x[j] - mean) * (x[j] - mean);
    double rstd = 1 / sqrt(variance / (double)width + r->op->attr.epsilon);
    for (int64_t j = 0; j < width; j++) {
      r->out[0][i * width + j] = (x[j] - mean) * rstd * r->in[1][j] + r->in[2][j];
    }
    if (r->out[1]) r->out[1][i] = mean;
    if (r->out[2]) r->out[2][i] = rstd;
  }
}

// With h = (x - mean) rstd and g = dy gamma: dx = rstd (g - mean(g) - h mean(g h)).
static void backward_data(const struct run *r, int64_t rows, int64_t width) {
  const double *gamma = r->in[2];
  for (int64_t i = 0; i < rows; i++) {
    const double *dy = r->in[0] + i * width, *x = r->in[1] + i * width;
    double mean = r->in[3][i], rstd = r->in[4][i], sum = 0, sum_h = 0;
    for (int64_t j = 0; j < width; j++) {
      sum += dy[j] * gamma[j];
      sum_h += dy[j] * gamma[j] * (x[j] - mean) * rstd;
    }
    for (int64_t j = 0; j < width; j++) {
      double h = (x[j] - mean) * rstd;
      double dx = rstd * (dy[j] * gamma[j] - (sum + h * sum_h) / (double)width);
      r->out[0][i * width + j] = r->in[5] ? dx + r->in[5][i * width + j] : dx;
    }
  }
}

static void backward_weight(const struct run *r, int64_t rows, int64_t width) {
  fill(r->out[0], 0, width);
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < width; j++) {
      int64_t at = i * width + j;
      r->out[0][j] += r->in[0][at] * (r->in[1][at] - r->in[2][i]) * r->in[3][i];
    }
  }
  column_sums(r->out[1], r->in[0], rows, width);
}

status_t run_layernorm(const struct run *r) {
  int64_t rows = desc_rows(&r->op->in[0]), width = desc_columns(&r->op->in[0]);
  switch (r->op->direction) {
  case FORWARD: forward(r, rows, width); break;
  case BACKWARD_DATA: backward_data(r, rows, width); break;
  case BACKWARD_WEIGHT: backward_weight(r, rows, width); break;
  }
  return OK;
}
