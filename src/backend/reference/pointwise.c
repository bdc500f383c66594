// pointwise.c: ACTIVATION, ADD, MULTIPLY, SUM_TO, EXPAND, CAST, PIXELS.
#include "backend/reference/inside.h"

#include <math.h>

double sigmoid(double x) {
  if (x >= 0) return 1 / (1 + exp(-x));
  double e = exp(x);
  return e / (1 + e);
}

double activation_value(activation_t activation, double x) {
  switch (activation) {
  case ACT_NONE: return x;
  case ACT_RELU: return x > 0 || isnan(x) ? x : 0; // a NaN must stay visible
  case ACT_QUICKGELU: return x * sigmoid(1.702 * x);
  case ACT_GELU_ERF: return 0.5 * x * erfc(-x * M_SQRT1_2);
  case ACT_SIGMOID: return sigmoid(x);
  case ACT_TANH: return tanh(x);
  }
  return NAN;
}

double activation_slope(activation_t activation, double s) {
  switch (activation) {
  case ACT_NONE: return 1;
  case ACT_RELU: return s > 0 ? 1 : 0;
  case ACT_QUICKGELU: {
    double p = sigmoid(1.702 * s);
    return p + 1.702 * s * p * sigmoid(-1.702 * s);
  }
  case ACT_GELU_ERF: return 0.5 * erfc(-s * M_SQRT1_2) + s * exp(-0.5 * s * s) * (0.5 * M_SQRT1_2 * M_2_SQRTPI);
  case ACT_SIGMOID: return s * (1 - s);
  case ACT_TANH: return 1 - s * s;
  }
  return NAN;
}

status_t run_activation(const struct run *r) {
  activation_t activation = r->op->attr.activation;
  int64_t n = desc_count(&r->op->out[0]);
  bool forward = r->op->direction == FORWARD;
  for (int64_t i = 0; i < n; i++) {
    r->out[0][i] =
        forward ? activation_value(activation, r->in[0][i]) : r->in[0][i] * activation_slope(activation, r->in[1][i]);
  }
  return OK;
}

// Walks a large tensor in memory order and keeps the place of the matching element of a small one.
struct walk {
  int rank;
  int64_t dim[TENSOR_MAX_RANK], step[TENSOR_MAX_RANK], at[TENSOR_MAX_RANK], small;
};

static struct walk walk_begin(const struct tensor_desc *large, const struct tensor_desc *small) {
  struct walk w = {.rank = large->rank};
  int64_t step = 1;
  for (int i = large->rank - 1, k = small->rank - 1; i >= 0; i--, k--) {
    w.dim[i] = large->dim[i];
    w.step[i] = k < 0 || small->dim[k] == 1 ? 0 : step;
    if (k >= 0) step *= small->dim[k];
  }
  return w;
}

static void walk_next(struct walk *w) {
  for (int i = w->rank - 1; i >= 0; i--) {
    w->small += w->step[i];
    if (++w->at[i] < w->dim[i]) return;
    w->small -= w->step[i] * w->dim[i];
    w->at[i] = 0;
  }
}

status_t run_binary(const struct run *r) {
  struct walk w = walk_begin(&r->op->in[0], &r->op->in[1]);
  int64_t n = desc_count(&r->op->in[0]);
  bool sum = r->op->kind == OP_ADD;
  for (int64_t i = 0; i < n; i++, walk_next(&w)) {
    double a = r->in[0][i], b = r->in[1][w.small];
    r->out[0][i] = sum ? a + b : a * b;
  }
  return OK;
}

status_t run_sum_to(const struct run *r) {
  struct walk w = walk_begin(&r->op->in[0], &r->op->out[0]);
  int64_t n = desc_count(&r->op->in[0]);
  fill(r->out[0], 0, desc_count(&r->op->out[0]));
  for (int64_t i = 0; i < n; i++, walk_next(&w)) r->out[0][w.small] += r->in[0][i];
  return OK;
}

status_t run_expand(const struct run *r) {
  struct walk w = walk_begin(&r->op->out[0], &r->op->in[0]);
  int64_t n = desc_count(&r->op->out[0]);
  for (int64_t i = 0; i < n; i++, walk_next(&w)) r->out[0][i] = r->in[0][w.small];
  return OK;
}

status_t run_cast(const struct run *r) {
  int64_t n = desc_count(&r->op->in[0]);
  for (int64_t i = 0; i < n; i++) r->out[0][i] = r->in[0][i];
  return OK;
}

status_t run_pixels(const struct run *r) {
  const uint8_t *p = r->raw[0];
  int64_t n = desc_count(&r->op->in[0]);
  for (int64_t i = 0; i < n; i++) {
    r->out[0][i] = (p[i] / 255.0 - r->op->attr.mean[i % 3]) / r->op->attr.std[i % 3];
  }
  return OK;
}
