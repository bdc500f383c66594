// loss.c: Dice and cross-entropy of one sample, and the step of AdamW.
#include "backend/onednn/kernels/kernels.h"
#include "backend/onednn/kernels/vecmath.h"

#include <math.h>

enum { PIECE = 4096 }; // pixels whose sums are kept in fp32
static const float smooth = 1e-5f, ce_weight = 0.2f;

INLINE vf v_target(const uint8_t *t, int64_t i, int64_t left) {
  uint8_t byte[VL] = {0};
  memcpy(byte, t + i, left >= VL ? (size_t)VL : (size_t)left);
  typedef uint8_t vb __attribute__((vector_size(16)));
  vb b;
  memcpy(&b, byte, sizeof b);
  return __builtin_convertvector(__builtin_convertvector(b, vi), vf);
}

// -[t log sigmoid(z) + (1-t) log(1 - sigmoid(z))]
INLINE vf v_cross_entropy(vf z, vf t) {
  return v_max(z, v_set(0)) - z * t + v_log1p(v_exp(-v_abs(z)));
}

// sums of one piece: p, t, pt, cross-entropy.
INLINE void piece_sums(loss_t kind, int64_t n, const float *x, const uint8_t *target, double out[4]) {
  const vi lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  vf p_sum = {0}, t_sum = {0}, pt_sum = {0}, ce_sum = {0};
  for (int64_t i = 0; i < n; i += VL) {
    vf z = v_take(x, DTYPE_F32, i, n - i), t = v_target(target, i, n - i), p = v_sigmoid(z);
    vi valid = lane < (int32_t)(n - i < VL ? n - i : VL);
    p = (vf)((vi)p & valid);
    p_sum += p;
    t_sum += t;
    pt_sum += p * t;
    if (kind != LOSS_DICE_ONLY) {
      vf ce = v_cross_entropy(kind == LOSS_MONAI14 ? p : z, t);
      ce_sum += (vf)((vi)ce & valid);
    }
  }
  out[0] = (double)v_sum(p_sum);
  out[1] = (double)v_sum(t_sum);
  out[2] = (double)v_sum(pt_sum);
  out[3] = (double)v_sum(ce_sum);
}

static void sample_loss(loss_t kind, int64_t n, const double s[4], float *loss, float *sums) {
  double dice = 1.0 - (2.0 * s[2] + (double)smooth) / (s[0] + s[1] + (double)smooth);
  *loss = (float)(kind == LOSS_DICE_ONLY ? dice : dice + (double)ce_weight * s[3] / (double)n);
  for (int k = 0; k < 4; k++) sums[k] = (float)s[k];
}

static void forward(int threads, loss_t kind, int64_t batch, int64_t n, const float *logits, const uint8_t *target,
                    float *loss, float *sums) {
  int64_t pieces = (n + PIECE - 1) / PIECE;
#pragma omp parallel for num_threads(team(threads, batch *n)) schedule(static)
  for (int64_t b = 0; b < batch; b++) {
    double total[4] = {0};
    for (int64_t p = 0; p < pieces; p++) {
      int64_t at = p * PIECE, size = n - at < PIECE ? n - at : PIECE;
      double part[4];
      const float *x = logits + b * n + at;
      const uint8_t *t = target + b * n + at;
      switch (kind) {
      case LOSS_DICE_ONLY: piece_sums(LOSS_DICE_ONLY, size, x, t, part); break;
      case LOSS_MONAI14: piece_sums(LOSS_MONAI14, size, x, t, part); break;
      default: piece_sums(LOSS_DICE_CE, size, x, t, part); break;
      }
      for (int k = 0; k < 4; k++) total[k] += part[k];
    }
    sample_loss(kind, n, total, loss + b, sums + b * 4);
  }
}

INLINE void gradient(loss_t kind, int64_t n, const float *x, const uint8_t *target, float a, float b, float ce,
                     float *dx) {
  for (int64_t i = 0; i < n; i += VL) {
    vf z = v_take(x, DTYPE_F32, i, n - i), t = v_target(target, i, n - i), p = v_sigmoid(z);
    vf slope = p * (1.0f - p), g = (b - a * t) * slope;
    if (kind == LOSS_DICE_CE) g += ce * (p - t);
    if (kind == LOSS_MONAI14) g += ce * (v_sigmoid(p) - t) * slope;
    v_put(dx, DTYPE_F32, i, n - i, g);
  }
}

static void backward(int threads, loss_t kind, int64_t batch, int64_t n, const float *logits, const uint8_t *target,
                     const float *sums, float scale, float *dlogits) {
  int64_t pieces = (n + PIECE - 1) / PIECE;
#pragma omp parallel for num_threads(team(threads, batch *n)) schedule(static)
  for (int64_t i = 0; i < batch * pieces; i++) {
    int64_t sample = i / pieces, at = i % pieces * PIECE, size = n - at < PIECE ? n - at : PIECE;
    const float *s = sums + sample * 4, *x = logits + sample * n + at;
    const uint8_t *t = target + sample * n + at;
    // d/dp of 1 - (2 I + e)/(P + T + e) = b - a t
    double bottom = (double)s[0] + (double)s[1] + (double)smooth, top = 2.0 * (double)s[2] + (double)smooth;
    float a = (float)((double)scale * 2.0 / bottom), b = (float)((double)scale * top / (bottom * bottom));
    float ce = (float)((double)scale * (double)ce_weight / (double)n), *dx = dlogits + sample * n + at;
    switch (kind) {
    case LOSS_DICE_ONLY: gradient(LOSS_DICE_ONLY, size, x, t, a, b, ce, dx); break;
    case LOSS_MONAI14: gradient(LOSS_MONAI14, size, x, t, a, b, ce, dx); break;
    default: gradient(LOSS_DICE_CE, size, x, t, a, b, ce, dx); break;
    }
  }
}

INLINE vf v_sqrt(vf x) {
#ifdef __AVX512F__
  return (vf)_mm512_sqrt_ps((__m512)x);
#else
  float f[VL];
  v_store(f, x);
  for (int i = 0; i < VL; i++) f[i] = __builtin_sqrtf(f[i]);
  return v_load(f);
#endif
}

static void adamw(int threads, int64_t n, float *p, const float *g, float *m, float *v, const uint8_t *decay,
                  const double scalars[8]) {
  float beta1 = (float)scalars[1], rest1 = (float)(1 - scalars[1]), beta2 = (float)scalars[2];
  float rest2 = (float)(1 - scalars[2]), epsilon = (float)scalars[3], shrink = (float)(1 - scalars[0] * scalars[4]);
  float step = (float)(scalars[0] / scalars[5]), root = (float)(1 / sqrt(scalars[6])), factor = (float)scalars[7];
#pragma omp parallel num_threads(team(threads, n))
  {
    int64_t begin, end;
    share(n, 64, &begin, &end);
    for (int64_t i = begin; i < end; i += VL) {
      int64_t left = end - i;
      vf gi = v_take(g, DTYPE_F32, i, left) * factor, pi = v_take(p, DTYPE_F32, i, left);
      vf mi = v_take(m, DTYPE_F32, i, left) * beta1 + gi * rest1;
      vf wi = v_take(v, DTYPE_F32, i, left) * beta2 + gi * gi * rest2;
      pi = v_select(v_target(decay, i, left) != 0.0f, pi * shrink, pi);
      pi -= step * mi / (v_sqrt(wi) * root + epsilon);
      v_put(p, DTYPE_F32, i, left, pi);
      v_put(m, DTYPE_F32, i, left, mi);
      v_put(v, DTYPE_F32, i, left, wi);
    }
  }
}

const struct loss_kernels K(loss_kernels) = {
    .forward = forward,
    .backward = backward,
    .adamw = adamw,
};
