// batchnorm.c: BATCHNORM (Ioffe and Szegedy 2015) in the parts between which ranks exchange sums: BATCHNORM_SUMS,
// BATCHNORM_MOMENTS, BATCHNORM, and BATCHNORM_FOLD. A channel is an index of the last dimension.
#include "backend/reference/inside.h"

#include <math.h>

status_t run_batchnorm_sums(const struct run *r) {
  int64_t rows = desc_rows(&r->op->in[0]), channels = desc_columns(&r->op->in[0]);
  double *sum = r->out[0], *squares = sum + channels;
  fill(sum, 0, 2 * channels);
  for (int64_t i = 0; i < rows; i++) {
    const double *x = r->in[0] + i * channels;
    for (int64_t c = 0; c < channels; c++) {
      sum[c] += x[c];
      squares[c] += x[c] * x[c];
    }
  }
  sum[2 * channels] = (double)rows;
  return OK;
}

status_t run_batchnorm_moments(const struct run *r) {
  int64_t channels = r->op->out[0].dim[0];
  double rows = r->in[0][2 * channels], momentum = r->op->attr.momentum;
  for (int64_t c = 0; c < channels; c++) {
    double mean = r->in[0][c] / rows, var = r->in[0][channels + c] / rows - mean * mean;
    if (var < 0) var = 0; // a rounded difference; a NaN stays
    double unbiased = rows > 1 ? var * (rows / (rows - 1)) : var;
    r->out[0][c] = mean;
    r->out[1][c] = var;
    if (r->out[2]) r->out[2][c] = (1 - momentum) * r->in[1][c] + momentum * mean;
    if (r->out[3]) r->out[3][c] = (1 - momentum) * r->in[2][c] + momentum * unbiased;
  }
  return OK;
}

static void forward(const struct run *r, int64_t rows, int64_t channels) {
  const double *x = r->in[0], *mean = r->in[1], *var = r->in[2], *gamma = r->in[3], *beta = r->in[4];
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t c = 0; c < channels; c++) {
      int64_t at = i * channels + c;
      double y = gamma[c] * (x[at] - mean[c]) / sqrt(var[c] + r->op->attr.epsilon) + beta[c];
      if (r->in[5]) y += r->in[5][at];
      r->out[0][at] = activation_value(r->op->attr.activation, y);
    }
  }
}

// dsums: sum dy xhat, then sum dy.
static void backward_data(const struct run *r, int64_t rows, int64_t channels) {
  const double *dy = r->in[0], *x = r->in[1], *mean = r->in[2], *var = r->in[3], *gamma = r->in[4];
  const double *dsums = r->in[5], *sums = r->in[6];
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t c = 0; c < channels; c++) {
      int64_t at = i * channels + c;
      double rstd = 1 / sqrt(var[c] + r->op->attr.epsilon), d = dy[at];
      if (dsums) d -= (dsums[channels + c] + (x[at] - mean[c]) * rstd * dsums[c]) / sums[2 * channels];
      r->out[0][at] = gamma[c] * rstd * d;
    }
  }
}

static void backward_weight(const struct run *r, int64_t rows, int64_t channels) {
  const double *dy = r->in[0], *x = r->in[1], *mean = r->in[2], *var = r->in[3];
  double *dgamma = r->out[0], *dbeta = r->out[1];
  fill(dgamma, 0, channels);
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t c = 0; c < channels; c++) {
      int64_t at = i * channels + c;
      dgamma[c] += dy[at] * (x[at] - mean[c]) / sqrt(var[c] + r->op->attr.epsilon);
    }
  }
  column_sums(dbeta, dy, rows, channels);
  for (int64_t c = 0; c < channels; c++) {
    r->out[2][c] = dgamma[c];
    r->out[2][channels + c] = dbeta[c];
  }
}

status_t run_batchnorm(const struct run *r) {
  int64_t rows = desc_rows(&r->op->in[0]), channels = desc_columns(&r->op->in[0]);
  switch (r->op->direction) {
  case FORWARD: forward(r, rows, channels); break;
  case BACKWARD_DATA: backward_data(r, rows, channels); break;
  case BACKWARD_WEIGHT: backward_weight(r, rows, channels); break;
  }
  return OK;
}

status_t run_batchnorm_fold(const struct run *r) {
  const double *w = r->in[0], *b = r->in[1], *mean = r->in[2], *var = r->in[3], *gamma = r->in[4], *beta = r->in[5];
  int64_t outputs = r->op->in[0].dim[0], each = desc_count(&r->op->in[0]) / outputs;
  for (int64_t o = 0; o < outputs; o++) {
    double factor = gamma[o] / sqrt(var[o] + r->op->attr.epsilon);
    for (int64_t i = o * each; i < (o + 1) * each; i++) r->out[0][i] = w[i] * factor;
    r->out[1][o] = beta[o] + ((b ? b[o] : 0) - mean[o]) * factor;
  }
  return OK;
}
