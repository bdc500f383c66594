// vecmath.h: exp, log1p, sigmoid, tanh, erf of sixteen floats, 1 to 2 units in the last place. Coefficients: Cephes (exp, log,
// tanh); erf as published by N. Juffa. libm's vector functions are left out because they differ between machines.
#ifndef GRIDSEG_BACKEND_ONEDNN_KERNELS_VECMATH_H
#define GRIDSEG_BACKEND_ONEDNN_KERNELS_VECMATH_H

#include "backend/backend.h"
#include "backend/onednn/kernels/vector.h"

// exp(x); 0 below -87.3, and no infinity (x is cut at 88.3).
INLINE vf v_exp(vf x) {
  const float magic = 12582912.0f; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  vf y = v_min(v_max(x, v_set(-87.3f)), v_set(88.3f));
  vf t = y * 1.44269504f + magic;
  vf k = t - magic;
  vf r = y - k * 0.693359375f;
  r = r + k * 2.12194440e-4f;
  vf p = v_set(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  vi scale = ((vi)t - (vi)v_set(magic)) << 23;
  vf e = (vf)((vi)p + scale);
  return (vf)((vi)e & ~(x < v_set(-87.3f)));
}

// log(x) for a normal x > 0.
INLINE vf v_log(vf x) {
  vi bits = (vi)x;
  vf e = __builtin_convertvector((bits >> 23) - 126, vf);
  vf m = (vf)((bits & 0x7fffff) | 0x3f000000);
  vi low = m < v_set(0.707106781f);
  e = e - (vf)(low & (vi)v_set(1.0f));
  m = m + (vf)(low & (vi)m) - 1.0f;
  vf z = m * m, p = v_set(7.0376836292e-2f);
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  p = p * m * z - e * 2.12194440e-4f - z * 0.5f;
  return m + p + e * 0.693359375f;
}

// log(1 + e) for 0 <= e <= 1.
INLINE vf v_log1p(vf e) {
  vf u = e + 1.0f;
  return v_log(u) + (e - (u - 1.0f)) / u;
}

INLINE vf v_sigmoid(vf x) {
  return 1.0f / (1.0f + v_exp(-x));
}

INLINE vf v_tanh(vf x) {
  vf a = v_abs(x), s = x * x;
  vf e = v_exp(a * -2.0f);
  vf far = (1.0f - e) / (1.0f + e);
  far = (vf)((vi)far | ((vi)x & (int32_t)0x80000000));
  vf p = v_set(-5.70498872745e-3f);
  p = p * s + 2.06390887954e-2f;
  p = p * s - 5.37397155531e-2f;
  p = p * s + 1.33314422036e-1f;
  p = p * s - 3.33332819422e-1f;
  vf near = p * s * x + x;
  return v_select(a < v_set(0.625f), near, far);
}

INLINE vf v_erf(vf a) {
  vf t = v_abs(a), s = a * a;
  vf r = t * -1.72853470e-5f + 3.83197126e-4f;
  vf u = t * -3.88396438e-3f + 2.42546219e-2f;
  r = r * s + u;
  r = r * t - 1.06777877e-1f;
  r = r * t - 6.34846687e-1f;
  r = r * t - 1.28717512e-1f;
  r = r * t - t;
  vf far = 1.0f - v_exp(r);
  far = (vf)((vi)far | ((vi)a & (int32_t)0x80000000));
  vf p = v_set(-5.96761703e-4f);
  p = p * s + 4.99119423e-3f;
  p = p * s - 2.67681349e-2f;
  p = p * s + 1.12819925e-1f;
  p = p * s - 3.76125336e-1f;
  p = p * s + 1.28379166e-1f;
  vf near = p * a + a;
  return v_select(t > v_set(0.927734375f), far, near);
}

INLINE vf v_activate(activation_t a, vf x) {
  switch (a) {
  case ACT_RELU: return v_max(x, v_set(0));
  case ACT_QUICKGELU: return x * v_sigmoid(x * 1.702f);
  case ACT_GELU_ERF: return x * 0.5f * (1.0f + v_erf(x * 0.70710678f));
  case ACT_SIGMOID: return v_sigmoid(x);
  case ACT_TANH: return v_tanh(x);
  default: return x;
  }
}

#endif
