// optimizer.c: SUM_SQUARES and ADAMW (Loshchilov and Hutter 2019, as torch.optim.AdamW orders it).
#include "backend/reference/inside.h"

#include <math.h>

status_t run_sum_squares(const struct run *r) {
  enum { CHUNK = 4096 }; // part of the contract: it fixes the order, and so the bits
  int64_t n = desc_count(&r->op->in[0]);
  double total = 0;
  for (int64_t from = 0; from < n; from += CHUNK) {
    double sum = 0;
    for (int64_t i = from; i < n && i < from + CHUNK; i++) sum += r->in[0][i] * r->in[0][i];
    total += sum;
  }
  r->out[0][0] = total;
  return OK;
}

status_t run_adamw(const struct run *r) {
  const double *scalars = r->in[5];
  double lr = scalars[0], beta1 = scalars[1], beta2 = scalars[2], epsilon = scalars[3], decay = scalars[4];
  double bc1 = scalars[5], bc2 = scalars[6], factor = scalars[7];
  const uint8_t *decays = r->raw[4];
  int64_t n = desc_count(&r->op->in[0]);
  for (int64_t i = 0; i < n; i++) {
    double p = r->in[0][i], g = factor * r->in[1][i];
    double m = beta1 * r->in[2][i] + (1 - beta1) * g, v = beta2 * r->in[3][i] + (1 - beta2) * g * g;
    if (decays[i]) p -= lr * decay * p;
    r->out[0][i] = p - lr / bc1 * m / (sqrt(v) / sqrt(bc2) + epsilon);
    r->out[1][i] = m;
    r->out[2][i] = v;
  }
  return OK;
}
