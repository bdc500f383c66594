// loss.c: SEGMENT_LOSS: Dice of the sigmoid (MONAI DiceLoss, smooth 1e-5 above and below), plus 0.2 of a cross entropy.
#include "backend/reference/inside.h"

#include <math.h>

static const double smooth = 1e-5, entropy_weight = 0.2;

// -t log sigmoid(z) - (1-t) log sigmoid(-z), without overflow for any z.
static double cross_entropy(double z, double t) {
  return (z > 0 ? z : 0) - z * t + log1p(exp(-fabs(z)));
}

static void forward(const struct run *r, int64_t batch, int64_t n) {
  loss_t loss = r->op->attr.loss;
  const uint8_t *target = r->raw[1];
  for (int64_t b = 0; b < batch; b++) {
    double sum_p = 0, sum_t = 0, sum_pt = 0, entropy = 0;
    for (int64_t i = b * n; i < (b + 1) * n; i++) {
      double z = r->in[0][i], t = target[i], p = sigmoid(z);
      sum_p += p;
      sum_t += t;
      sum_pt += p * t;
      if (loss != LOSS_DICE_ONLY) entropy += cross_entropy(loss == LOSS_MONAI14 ? p : z, t);
    }
    r->out[0][b] = 1 - (2 * sum_pt + smooth) / (sum_p + sum_t + smooth) + entropy_weight * entropy / (double)n;
    double *sums = r->out[1] + 4 * b;
    sums[0] = sum_p, sums[1] = sum_t, sums[2] = sum_pt, sums[3] = entropy;
  }
}

// d dice / dp = (top - 2 t bottom) / bottom^2, with dice = 1 - top / bottom; d entropy / dz = sigmoid(z) - t.
static void backward(const struct run *r, int64_t batch, int64_t n) {
  loss_t loss = r->op->attr.loss;
  const uint8_t *target = r->raw[1];
  double scale = r->in[3][0], share = entropy_weight / (double)n;
  for (int64_t b = 0; b < batch; b++) {
    const double *sums = r->in[2] + 4 * b;
    double top = 2 * sums[2] + smooth, bottom = sums[0] + sums[1] + smooth;
    for (int64_t i = b * n; i < (b + 1) * n; i++) {
      double z = r->in[0][i], t = target[i], p = sigmoid(z), slope = p * sigmoid(-z);
      double dp = (top - 2 * t * bottom) / (bottom * bottom), dz = 0;
      if (loss == LOSS_MONAI14) dp += share * (sigmoid(p) - t);
      if (loss == LOSS_DICE_CE) dz = share * (p - t);
      r->out[0][i] = scale * (dp * slope + dz);
    }
  }
}

status_t run_segment_loss(const struct run *r) {
  const struct tensor_desc *logits = &r->op->in[0];
  int64_t batch = logits->dim[0], n = logits->dim[1] * logits->dim[2];
  if (r->op->direction == FORWARD) {
    forward(r, batch, n);
  } else {
    backward(r, batch, n);
  }
  return OK;
}
