// half.h: IEEE 754 binary16 in portable C: files hold it, no kernel computes in it.
#ifndef GRIDSEG_TENSOR_HALF_H
#define GRIDSEG_TENSOR_HALF_H

#include <math.h>
#include <stdint.h>

static inline double f16_to_double(uint16_t x) {
  int exponent = x >> 10 & 31, fraction = x & 1023;
  double value = exponent == 0    ? ldexp(fraction, -24)
                 : exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY)
                                  : ldexp(1024 + fraction, exponent - 25);
  return x >> 15 ? -value : value;
}

// Round to nearest even; what is too large becomes infinite, NaN stays NaN.
static inline uint16_t double_to_f16(double x) {
  uint16_t sign = signbit(x) ? 0x8000 : 0;
  double a = fabs(x);
  if (isnan(x)) return (uint16_t)(sign | 0x7e00);
  if (a >= 65520) return (uint16_t)(sign | 0x7c00); // half way between the largest number and the next
  if (a < 0x1p-14) return (uint16_t)(sign | (uint16_t)nearbyint(ldexp(a, 24)));
  int exponent;
  double fraction = frexp(a, &exponent); // in [0.5, 1)
  // A fraction that rounds up to 2048 carries into the exponent by itself.
  return (uint16_t)(sign | (uint16_t)(((exponent + 13) << 10) + (int)nearbyint(ldexp(fraction, 11))));
}

#endif
