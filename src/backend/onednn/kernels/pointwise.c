// pointwise.c: activations, broadcast sums and products, casts.
#include "backend/onednn/kernels/kernels.h"
#include "backend/onednn/kernels/vecmath.h"

// dy times the derivative; s is y for relu, sigmoid and tanh, else x.
INLINE vf v_slope(activation_t a, vf dy, vf s) {
  switch (a) {
  case ACT_RELU: return (vf)((vi)dy & (s > 0.0f));
  case ACT_QUICKGELU: {
    vf p = v_sigmoid(s * 1.702f);
    return dy * (p + s * 1.702f * p * (1.0f - p));
  }
  case ACT_GELU_ERF: {
    vf density = v_exp(s * s * -0.5f) * 0.39894228f;
    return dy * (0.5f * (1.0f + v_erf(s * 0.70710678f)) + s * density);
  }
  case ACT_SIGMOID: return dy * s * (1.0f - s);
  case ACT_TANH: return dy * (1.0f - s * s);
  default: return dy;
  }
}

INLINE void activate_range(activation_t a, int64_t begin, int64_t end, struct view x, struct view y) {
  for (int64_t i = begin; i < end; i += VL) {
    v_put(y.data, y.type, i, end - i, v_activate(a, v_take(x.data, x.type, i, end - i)));
  }
}

static void activate(int threads, activation_t a, int64_t n, struct view x, struct view y) {
#pragma omp parallel num_threads(team(threads, n))
  {
    int64_t begin, end;
    share(n, 64, &begin, &end);
    switch (a) { // a constant in each call: the loop holds one activation
    case ACT_RELU: activate_range(ACT_RELU, begin, end, x, y); break;
    case ACT_QUICKGELU: activate_range(ACT_QUICKGELU, begin, end, x, y); break;
    case ACT_GELU_ERF: activate_range(ACT_GELU_ERF, begin, end, x, y); break;
    case ACT_SIGMOID: activate_range(ACT_SIGMOID, begin, end, x, y); break;
    case ACT_TANH: activate_range(ACT_TANH, begin, end, x, y); break;
    default: activate_range(ACT_NONE, begin, end, x, y); break;
    }
  }
}

INLINE void slope_range(activation_t a, int64_t begin, int64_t end, struct view dy, struct view s, struct view dx) {
  for (int64_t i = begin; i < end; i += VL) {
    vf v = v_slope(a, v_take(dy.data, dy.type, i, end - i), v_take(s.data, s.type, i, end - i));
    v_put(dx.data, dx.type, i, end - i, v);
  }
}

static void activate_backward(int threads, activation_t a, int64_t n, struct view dy, struct view s, struct view dx) {
#pragma omp parallel num_threads(team(threads, n))
  {
    int64_t begin, end;
    share(n, 64, &begin, &end);
    switch (a) {
    case ACT_RELU: slope_range(ACT_RELU, begin, end, dy, s, dx); break;
    case ACT_QUICKGELU: slope_range(ACT_QUICKGELU, begin, end, dy, s, dx); break;
    case ACT_GELU_ERF: slope_range(ACT_GELU_ERF, begin, end, dy, s, dx); break;
    case ACT_SIGMOID: slope_range(ACT_SIGMOID, begin, end, dy, s, dx); break;
    case ACT_TANH: slope_range(ACT_TANH, begin, end, dy, s, dx); break;
    default: slope_range(ACT_NONE, begin, end, dy, s, dx); break;
    }
  }
}

static int64_t broadcast_count(const struct broadcast *g) {
  int64_t n = 1;
  for (int i = 0; i < g->rank; i++) n *= g->dim[i];
  return n;
}

// Where the second operand stands for the outer index `outer` (all dims but the innermost).
INLINE int64_t broadcast_offset(const struct broadcast *g, int64_t outer) {
  int64_t at = 0;
  for (int d = g->rank - 2; d >= 0; d--) {
    at += outer % g->dim[d] * g->stride[d];
    outer /= g->dim[d];
  }
  return at;
}

enum combine { COMBINE_ADD, COMBINE_MULTIPLY, COMBINE_SECOND };

INLINE vf v_combine(enum combine how, vf a, vf b) {
  if (how == COMBINE_ADD) return a + b;
  if (how == COMBINE_MULTIPLY) return a * b;
  return b;
}

// Elements [i, i+n) of y, in one row, whose b is at `at` and repeated when `repeat`.
INLINE void combine_row(enum combine how, int64_t i, int64_t n, struct view a, struct view b, int64_t at, bool repeat,
                        struct view y) {
  vf same = {0};
  if (repeat) {
    same = v_set(b.type == DTYPE_F32 ? ((const float *)b.data)[at] : bf16_to_f32(((const uint16_t *)b.data)[at]));
  }
  for (int64_t j = 0; j < n; j += VL) {
    vf second = repeat ? same : v_take(b.data, b.type, at + j, n - j);
    vf first = how == COMBINE_SECOND ? second : v_take(a.data, a.type, i + j, n - j);
    v_put(y.data, y.type, i + j, n - j, v_combine(how, first, second));
  }
}

INLINE void combine(enum combine how, int threads, const struct broadcast *g, struct view a, struct view b,
                    struct view y) {
  int64_t n = broadcast_count(g), inner = g->rank ? g->dim[g->rank - 1] : 1;
  bool repeat = !g->rank || !g->stride[g->rank - 1];
  if (!n) return;
#pragma omp parallel num_threads(team(threads, n))
  {
    int64_t begin, end;
    share(n, 64, &begin, &end);
    while (begin < end) {
      int64_t row = begin / inner, from = begin % inner, count = inner - from;
      if (count > end - begin) count = end - begin;
      combine_row(how, begin, count, a, b, broadcast_offset(g, row) + (repeat ? 0 : from), repeat, y);
      begin += count;
    }
  }
}

static void add(int threads, const struct broadcast *g, struct view a, struct view b, struct view y) {
  combine(COMBINE_ADD, threads, g, a, b, y);
}
static void multiply(int threads, const struct broadcast *g, struct view a, struct view b, struct view y) {
  combine(COMBINE_MULTIPLY, threads, g, a, b, y);
}
static void expand(int threads, const struct broadcast *g, struct view x, struct view y) {
  combine(COMBINE_SECOND, threads, g, x, x, y);
}

static double element(struct view x, int64_t i) {
  if (x.type == DTYPE_F64) return ((const double *)x.data)[i];
  return x.type == DTYPE_F32 ? (double)((const float *)x.data)[i] : (double)bf16_to_f32(((const uint16_t *)x.data)[i]);
}

static void cast(int threads, int64_t n, struct view x, struct view y) {
  if (x.type != DTYPE_F64 && y.type != DTYPE_F64) {
    activate(threads, ACT_NONE, n, x, y);
    return;
  }
#pragma omp parallel for num_threads(team(threads, n)) schedule(static)
  for (int64_t i = 0; i < n; i++) {
    double v = element(x, i);
    if (y.type == DTYPE_F64) {
      ((double *)y.data)[i] = v;
    } else if (y.type == DTYPE_F32) {
      ((float *)y.data)[i] = (float)v;
    } else {
      ((uint16_t *)y.data)[i] = f32_to_bf16((float)v);
    }
  }
}

const struct pointwise_kernels K(pointwise_kernels) = {
    .activate = activate,
    .activate_backward = activate_backward,
    .add = add,
    .multiply = multiply,
    .expand = expand,
    .cast = cast,
};
