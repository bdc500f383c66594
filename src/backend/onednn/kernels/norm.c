// norm.c: layer normalisation over the last dimension.
#include "backend/onednn/kernels/kernels.h"
#include "backend/onednn/kernels/vector.h"

// The parts of a row beyond its last full vector must not count in the sums of squared differences.
INLINE vf v_keep(vf v, int64_t left) {
  if (left >= VL) return v;
  const vi lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return (vf)((vi)v & (lane < (int32_t)left));
}

INLINE void forward_row(int64_t d, float epsilon, struct view x, int64_t at, struct view gamma, struct view beta,
                        struct view y, float *mean, float *rstd) {
  vf sum = {0}, square = {0};
  for (int64_t j = 0; j < d; j += VL) sum += v_take(x.data, x.type, at + j, d - j);
  float m = v_sum(sum) / (float)d;
  for (int64_t j = 0; j < d; j += VL) {
    vf c = v_keep(v_take(x.data, x.type, at + j, d - j) - m, d - j);
    square += c * c;
  }
  float s = 1.0f / __builtin_sqrtf(v_sum(square) / (float)d + epsilon);
  for (int64_t j = 0; j < d; j += VL) {
    vf c = (v_take(x.data, x.type, at + j, d - j) - m) * s;
    c = c * v_take(gamma.data, gamma.type, j, d - j) + v_take(beta.data, beta.type, j, d - j);
    v_put(y.data, y.type, at + j, d - j, c);
  }
  *mean = m;
  *rstd = s;
}

static void forward(int threads, int64_t rows, int64_t d, float epsilon, struct view x, struct view gamma,
                    struct view beta, struct view y, float *mean, float *rstd) {
#pragma omp parallel for num_threads(team(threads, rows *d)) schedule(static)
  for (int64_t r = 0; r < rows; r++) {
    float m, s;
    forward_row(d, epsilon, x, r * d, gamma, beta, y, &m, &s);
    if (mean) mean[r] = m;
    if (rstd) rstd[r] = s;
  }
}

static void backward_data(int threads, int64_t rows, int64_t d, struct view dy, struct view x, struct view gamma,
                          const float *mean, const float *rstd, struct view r, struct view dx) {
#pragma omp parallel for num_threads(team(threads, rows *d)) schedule(static)
  for (int64_t i = 0; i < rows; i++) {
    int64_t at = i * d;
    float m = mean[i], s = rstd[i];
    vf sum = {0}, dot = {0};
    for (int64_t j = 0; j < d; j += VL) {
      vf g = v_take(dy.data, dy.type, at + j, d - j) * v_take(gamma.data, gamma.type, j, d - j);
      sum += g;
      dot += g * ((v_take(x.data, x.type, at + j, d - j) - m) * s);
    }
    float a = v_sum(sum) / (float)d, b = v_sum(dot) / (float)d;
    for (int64_t j = 0; j < d; j += VL) {
      vf g = v_take(dy.data, dy.type, at + j, d - j) * v_take(gamma.data, gamma.type, j, d - j);
      vf h = (v_take(x.data, x.type, at + j, d - j) - m) * s;
      vf v = (g - a - h * b) * s;
      if (r.data) v += v_take(r.data, r.type, at + j, d - j);
      v_put(dx.data, dx.type, at + j, d - j, v);
    }
  }
}

// Sums over rows [begin,end) of one chunk: out[0..d) = sum dy xhat, out[d..2d) = sum dy.
static void weight_chunk(int64_t begin, int64_t end, int64_t d, struct view dy, struct view x, const float *mean,
                         const float *rstd, float *out) {
  memset(out, 0, sizeof(float) * 2 * (size_t)d);
  for (int64_t i = begin; i < end; i++) {
    for (int64_t j = 0; j < d; j += VL) {
      vf g = v_take(dy.data, dy.type, i * d + j, d - j);
      vf h = (v_take(x.data, x.type, i * d + j, d - j) - mean[i]) * rstd[i];
      v_put(out, DTYPE_F32, j, d - j, v_take(out, DTYPE_F32, j, d - j) + g * h);
      v_put(out + d, DTYPE_F32, j, d - j, v_take(out + d, DTYPE_F32, j, d - j) + g);
    }
  }
}

static void backward_weight(int threads, int64_t rows, int64_t d, struct view dy, struct view x, const float *mean,
                            const float *rstd, struct view dgamma, struct view dbeta, float *scratch) {
#pragma omp parallel for num_threads(team(threads, rows *d)) schedule(static)
  for (int64_t c = 0; c < REDUCE_CHUNKS; c++) {
    int64_t begin = rows * c / REDUCE_CHUNKS, end = rows * (c + 1) / REDUCE_CHUNKS;
    weight_chunk(begin, end, d, dy, x, mean, rstd, scratch + c * 2 * d);
  }
  for (int64_t j = 0; j < 2 * d; j++) {
    float sum = 0;
    for (int64_t c = 0; c < REDUCE_CHUNKS; c++) sum += scratch[c * 2 * d + j];
    struct view to = j < d ? dgamma : dbeta;
    v_write_part(to.data, to.type, j < d ? j : j - d, 1, v_set(sum));
  }
}

const struct norm_kernels K(norm_kernels) = {
    .forward = forward,
    .backward_data = backward_data,
    .backward_weight = backward_weight,
};
