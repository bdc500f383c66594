// pool.c: largest and mean values of windows. Backward goes over the places of the picture and gathers from the windows that
// hold them, so every place is written once.
#include "backend/onednn/kernels/kernels.h"
#include "backend/onednn/kernels/vector.h"

typedef uint8_t vb __attribute__((vector_size(16), may_alias));

INLINE vi tap_take(const uint8_t *where, int64_t i, int64_t left) {
  vb b = {0};
  memcpy(&b, where + i, left >= VL ? VL : (size_t)left);
  return __builtin_convertvector(b, vi);
}

INLINE void tap_put(uint8_t *where, int64_t i, int64_t left, vi tap) {
  vb b = __builtin_convertvector(tap, vb);
  memcpy(where + i, &b, left >= VL ? VL : (size_t)left);
}

// Taps [low,high) of the window at `at` that lie in a picture of n places.
INLINE void inside(int64_t at, int kernel, int64_t n, int64_t *low, int64_t *high) {
  *low = at < 0 ? -at : 0;
  *high = n - at < kernel ? n - at : kernel;
}

// One window, channels [k, k + 16): x is at its picture, i and j are its first row and column.
INLINE void max_window(const struct pooling *g, int64_t i, int64_t j, int64_t k, dtype_t type, const void *x,
                       int64_t picture, vf *best, vi *tap) {
  int64_t top, bottom, left, right;
  inside(i, g->kernel[0], g->h, &top, &bottom);
  inside(j, g->kernel[1], g->w, &left, &right);
  *best = v_set(-__builtin_inff());
  *tap = (vi){0} + (int32_t)(top * g->kernel[1] + left);
  for (int64_t a = top; a < bottom; a++) {
    int64_t row = picture + ((i + a) * g->w + j) * g->c + k;
    for (int64_t b = left; b < right; b++) {
      vf v = v_take(x, type, row + b * g->c, g->c - k);
      vi better = ~(v <= *best) & (*best == *best); // as in torch: the first that is no number wins
      *best = v_select(better, v, *best);
      *tap = (better & (int32_t)(a * g->kernel[1] + b)) | (~better & *tap);
    }
  }
}

INLINE void max_line(const struct pooling *g, int64_t line, dtype_t type, const void *x, dtype_t to_type, void *y,
                     uint8_t *where) {
  int64_t i = line % g->h_out * g->stride[0] - g->pad[0], picture = line / g->h_out * g->h * g->w * g->c;
  for (int64_t o = 0; o < g->w_out; o++) {
    int64_t to = (line * g->w_out + o) * g->c;
    for (int64_t k = 0; k < g->c; k += VL) {
      vf best;
      vi tap;
      max_window(g, i, o * g->stride[1] - g->pad[1], k, type, x, picture, &best, &tap);
      v_put(y, to_type, to + k, g->c - k, best);
      if (where) tap_put(where, to + k, g->c - k, tap);
    }
  }
}

static void max_forward(int threads, const struct pooling *g, struct view x, struct view y, uint8_t *where) {
#pragma omp parallel for num_threads(team(threads, g->batch * g->h * g->w * g->c)) schedule(static)
  for (int64_t line = 0; line < g->batch * g->h_out; line++) {
    if (x.type == DTYPE_F32 && y.type == DTYPE_F32) {
      max_line(g, line, DTYPE_F32, x.data, DTYPE_F32, y.data, where);
    } else if (x.type == DTYPE_BF16 && y.type == DTYPE_BF16) {
      max_line(g, line, DTYPE_BF16, x.data, DTYPE_BF16, y.data, where);
    } else {
      max_line(g, line, x.type, x.data, y.type, y.data, where);
    }
  }
}

// Windows [first,last) along one axis that hold `place`.
INLINE void holders(int64_t place, int kernel, int stride, int pad, int64_t windows, int64_t *first, int64_t *last) {
  int64_t at = place + pad, low = at - kernel + 1;
  *first = low <= 0 ? 0 : (low + stride - 1) / stride;
  *last = at / stride + 1 < windows ? at / stride + 1 : windows;
}

// The gradient of one line of the picture; max: of the windows that it won, else of all, by 1 / area.
INLINE void backward_line(bool max, const struct pooling *g, int64_t line, dtype_t type, const void *dy,
                          const uint8_t *where, dtype_t to_type, void *dx) {
  int64_t i = line % g->h, windows = line / g->h * g->h_out * g->w_out, top, bottom, left, right;
  float factor = max ? 1.0f : 1.0f / ((float)g->kernel[0] * (float)g->kernel[1]);
  holders(i, g->kernel[0], g->stride[0], g->pad[0], g->h_out, &top, &bottom);
  for (int64_t j = 0; j < g->w; j++) {
    holders(j, g->kernel[1], g->stride[1], g->pad[1], g->w_out, &left, &right);
    for (int64_t k = 0; k < g->c; k += VL) {
      vf sum = {0};
      for (int64_t a = top; a < bottom; a++) {
        for (int64_t b = left; b < right; b++) {
          int64_t from = (windows + a * g->w_out + b) * g->c + k;
          vf v = v_take(dy, type, from, g->c - k);
          if (max) {
            int64_t tap = (i + g->pad[0] - a * g->stride[0]) * g->kernel[1] + (j + g->pad[1] - b * g->stride[1]);
            v = (vf)((vi)v & (tap_take(where, from, g->c - k) == (int32_t)tap));
          }
          sum += v;
        }
      }
      v_put(dx, to_type, (line * g->w + j) * g->c + k, g->c - k, sum * factor);
    }
  }
}

static void max_backward(int threads, const struct pooling *g, struct view dy, const uint8_t *where, struct view dx) {
#pragma omp parallel for num_threads(team(threads, g->batch * g->h * g->w * g->c)) schedule(static)
  for (int64_t line = 0; line < g->batch * g->h; line++) {
    if (dy.type == DTYPE_F32 && dx.type == DTYPE_F32) {
      backward_line(true, g, line, DTYPE_F32, dy.data, where, DTYPE_F32, dx.data);
    } else if (dy.type == DTYPE_BF16 && dx.type == DTYPE_BF16) {
      backward_line(true, g, line, DTYPE_BF16, dy.data, where, DTYPE_BF16, dx.data);
    } else {
      backward_line(true, g, line, dy.type, dy.data, where, dx.type, dx.data);
    }
  }
}

// Channels [k,end) of one window. Each of its rows is summed apart: the mean of a whole picture has many terms.
INLINE void mean_window(const struct pooling *g, int64_t at, int64_t k, int64_t end, dtype_t type, const void *x,
                        dtype_t to_type, void *y, int64_t to) {
  float area = (float)g->kernel[0] * (float)g->kernel[1];
  for (; k < end; k += VL) {
    vf sum = {0};
    for (int64_t a = 0; a < g->kernel[0]; a++) {
      vf line = {0};
      for (int64_t b = 0; b < g->kernel[1]; b++) line += v_take(x, type, at + (a * g->w + b) * g->c + k, g->c - k);
      sum += line;
    }
    v_put(y, to_type, to + k, g->c - k, sum / area);
  }
}

// Few windows (one a picture) are shared by their channels.
static void mean_forward(int threads, const struct pooling *g, struct view x, struct view y) {
  int64_t windows = g->batch * g->h_out * g->w_out, piece = windows < 256 ? PANEL : g->c,
          pieces = (g->c + piece - 1) / piece;
#pragma omp parallel for num_threads(team(threads, g->batch * g->h * g->w * g->c)) schedule(static)
  for (int64_t task = 0; task < windows * pieces; task++) {
    int64_t window = task / pieces, k = task % pieces * piece, end = k + piece < g->c ? k + piece : g->c;
    int64_t i = window / g->w_out % g->h_out * g->stride[0], j = window % g->w_out * g->stride[1];
    int64_t at = ((window / (g->h_out * g->w_out) * g->h + i) * g->w + j) * g->c;
    if (x.type == DTYPE_F32 && y.type == DTYPE_F32) {
      mean_window(g, at, k, end, DTYPE_F32, x.data, DTYPE_F32, y.data, window * g->c);
    } else {
      mean_window(g, at, k, end, x.type, x.data, y.type, y.data, window * g->c);
    }
  }
}

static void mean_backward(int threads, const struct pooling *g, struct view dy, struct view dx) {
#pragma omp parallel for num_threads(team(threads, g->batch * g->h * g->w * g->c)) schedule(static)
  for (int64_t line = 0; line < g->batch * g->h; line++) {
    if (dy.type == DTYPE_F32 && dx.type == DTYPE_F32) {
      backward_line(false, g, line, DTYPE_F32, dy.data, NULL, DTYPE_F32, dx.data);
    } else {
      backward_line(false, g, line, dy.type, dy.data, NULL, dx.type, dx.data);
    }
  }
}

const struct pool_kernels K(pool_kernels) = {
    .max_forward = max_forward,
    .max_backward = max_backward,
    .mean_forward = mean_forward,
    .mean_backward = mean_backward,
};
