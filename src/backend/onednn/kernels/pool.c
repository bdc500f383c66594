// pool.c: largest and mean values of windows, 64 channels at a time. Backward goes over the places of the picture and gathers
// from the windows that hold them, so every place is written once.
#include "backend/onednn/kernels/kernels.h"
#include "backend/onednn/kernels/vector.h"

enum { WIDE = PANEL / VL }; // vectors of a block of channels
typedef uint8_t vb __attribute__((vector_size(16), may_alias));

INLINE vi tap_take(const uint8_t *where, int64_t i, int64_t left) {
  vb b = {0};
  if (left >= VL) {
    memcpy(&b, where + i, VL);
  } else {
    memcpy(&b, where + i, (size_t)left);
  }
#ifdef __AVX512F__
  return (vi)_mm512_cvtepu8_epi32((__m128i)b);
#endif
  return __builtin_convertvector(b, vi);
}

INLINE void tap_put(uint8_t *where, int64_t i, int64_t left, vi tap) {
#ifdef __AVX512F__
  vb b = (vb)_mm512_cvtepi32_epi8((__m512i)tap);
#else
  vb b = __builtin_convertvector(tap, vb);
#endif
  if (left >= VL) {
    memcpy(where + i, &b, VL);
  } else {
    memcpy(where + i, &b, (size_t)left);
  }
}

// What one thread is at. A copy of its own, which no store can change.
struct line {
  struct pooling g;
  dtype_t from_type, to_type;
  const void *from;
  void *to;
  const uint8_t *won; // backward, max
  uint8_t *where;     // forward, max
};

// Taps [low,high) of the window at `at` that lie in a picture of n places.
INLINE void inside(int64_t at, int kernel, int64_t n, int64_t *low, int64_t *high) {
  *low = at < 0 ? -at : 0;
  *high = n - at < kernel ? n - at : kernel;
}

// Channels [k, k + 16 vectors) of one window, whose taps in the picture are rows [top,bottom) and columns [left,right); `at` is
// the place of its first tap.
INLINE void max_block(int vectors, const struct line *l, int64_t at, const int64_t rows[2], const int64_t columns[2],
                      int64_t k, int64_t to) {
  int64_t c = l->g.c, last = vectors > 1 ? VL : c - k;
  vf best[WIDE];
  vi tap[WIDE];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) {
    best[v] = v_set(-__builtin_inff());
    tap[v] = (vi){0} + (int32_t)(rows[0] * l->g.kernel[1] + columns[0]);
  }
  for (int64_t a = rows[0]; a < rows[1]; a++) {
    for (int64_t b = columns[0]; b < columns[1]; b++) {
      int64_t from = (at + a * l->g.w + b) * c + k;
      int32_t here = (int32_t)(a * l->g.kernel[1] + b);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) {
        vf x = v_take(l->from, l->from_type, from + v * VL, last);
        vi better = ~(x <= best[v]) & (best[v] <= __builtin_inff()); // as in torch: the first that is no number wins
        best[v] = v_select(better, x, best[v]);
        tap[v] = (better & here) | (~better & tap[v]);
      }
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) {
    v_put(l->to, l->to_type, to + k + v * VL, last, best[v]);
    if (l->where) tap_put(l->where, to + k + v * VL, last, tap[v]);
  }
}

INLINE void max_line(const struct line *l, int64_t line) {
  const struct pooling *g = &l->g;
  int64_t rows[2], columns[2], k, i = line % g->h_out * g->stride[0] - g->pad[0], image = line / g->h_out * g->h;
  inside(i, g->kernel[0], g->h, &rows[0], &rows[1]);
  for (int64_t o = 0; o < g->w_out; o++) {
    int64_t j = o * g->stride[1] - g->pad[1], at = (image + i) * g->w + j, to = (line * g->w_out + o) * g->c;
    inside(j, g->kernel[1], g->w, &columns[0], &columns[1]);
    for (k = 0; k + PANEL <= g->c; k += PANEL) max_block(WIDE, l, at, rows, columns, k, to);
    for (; k < g->c; k += VL) max_block(1, l, at, rows, columns, k, to);
  }
}

// Channels [k, k + 16 vectors) of one window. Each of its rows is summed apart: the mean of a whole picture has many terms.
INLINE void mean_block(int vectors, const struct line *l, int64_t at, int64_t k, int64_t to) {
  int64_t c = l->g.c, last = vectors > 1 ? VL : c - k;
  float factor = 1.0f / ((float)l->g.kernel[0] * (float)l->g.kernel[1]);
  vf sum[WIDE], row[WIDE];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) sum[v] = v_set(0);
  for (int64_t a = 0; a < l->g.kernel[0]; a++) {
    int64_t from = (at + a * l->g.w) * c + k;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) row[v] = v_set(0);
    for (int64_t b = 0; b < l->g.kernel[1]; b++, from += c) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) row[v] += v_take(l->from, l->from_type, from + v * VL, last);
    }
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sum[v] += row[v];
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) v_put(l->to, l->to_type, to + k + v * VL, last, sum[v] * factor);
}

// Channels [k,end) of one window.
INLINE void mean_window(const struct line *l, int64_t window, int64_t k, int64_t end) {
  const struct pooling *g = &l->g;
  int64_t i = window / g->w_out % g->h_out * g->stride[0], j = window % g->w_out * g->stride[1];
  int64_t at = (window / (g->h_out * g->w_out) * g->h + i) * g->w + j, to = window * g->c;
  for (; k + PANEL <= end; k += PANEL) mean_block(WIDE, l, at, k, to);
  for (; k < end; k += VL) mean_block(1, l, at, k, to);
}

// Windows [first,last) along one axis that hold `place`; they start as those of a place before it, or 0.
INLINE void holders(int64_t place, int kernel, int stride, int pad, int64_t windows, int64_t held[2]) {
  int64_t at = place + pad;
  while (held[0] < windows && held[0] * stride + kernel <= at) ++held[0];
  while (held[1] < windows && held[1] * stride <= at) ++held[1];
}

// The gradient of channels [k, k + 16 vectors) of place (i,j) from the windows `rows` x `columns`; max: of those that it won,
// else of all, by 1 / area. `windows`: the first of this image.
INLINE void backward_block(bool max, int vectors, const struct line *l, int64_t windows, int64_t i, int64_t j,
                           const int64_t rows[2], const int64_t columns[2], int64_t k, int64_t to) {
  const struct pooling *g = &l->g;
  int64_t c = g->c, last = vectors > 1 ? VL : c - k;
  float factor = max ? 1.0f : 1.0f / ((float)g->kernel[0] * (float)g->kernel[1]);
  vf sum[WIDE];
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) sum[v] = v_set(0);
  for (int64_t a = rows[0]; a < rows[1]; a++) {
    for (int64_t b = columns[0]; b < columns[1]; b++) {
      int64_t from = (windows + a * g->w_out + b) * c + k;
      int32_t tap = (int32_t)((i + g->pad[0] - a * g->stride[0]) * g->kernel[1] + j + g->pad[1] - b * g->stride[1]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; v++) {
        vf dy = v_take(l->from, l->from_type, from + v * VL, last);
        if (max) dy = (vf)((vi)dy & (tap_take(l->won, from + v * VL, last) == tap));
        sum[v] += dy;
      }
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) v_put(l->to, l->to_type, to + k + v * VL, last, sum[v] * factor);
}

INLINE void backward_line(bool max, const struct line *l, int64_t line) {
  const struct pooling *g = &l->g;
  int64_t i = line % g->h, windows = line / g->h * g->h_out * g->w_out, rows[2] = {0}, columns[2] = {0}, k;
  holders(i, g->kernel[0], g->stride[0], g->pad[0], g->h_out, rows);
  for (int64_t j = 0; j < g->w; j++) {
    int64_t to = (line * g->w + j) * g->c;
    holders(j, g->kernel[1], g->stride[1], g->pad[1], g->w_out, columns);
    for (k = 0; k + PANEL <= g->c; k += PANEL) backward_block(max, WIDE, l, windows, i, j, rows, columns, k, to);
    for (; k < g->c; k += VL) backward_block(max, 1, l, windows, i, j, rows, columns, k, to);
  }
}

enum job { MAX_FORWARD, MEAN_FORWARD, MAX_BACKWARD, MEAN_BACKWARD };

// Few windows (one a picture) are shared by their channels.
static int64_t mean_piece(const struct pooling *g) {
  return g->batch * g->h_out * g->w_out < 256 ? PANEL : g->c;
}

static int64_t tasks(enum job job, const struct pooling *g) {
  int64_t piece = mean_piece(g);
  switch (job) {
  case MAX_FORWARD: return g->batch * g->h_out;
  case MEAN_FORWARD: return g->batch * g->h_out * g->w_out * ((g->c + piece - 1) / piece);
  default: return g->batch * g->h;
  }
}

INLINE void run_share(enum job job, const struct line *shared, int64_t begin, int64_t end) {
  struct line l = *shared;
  int64_t piece = mean_piece(&l.g), pieces = (l.g.c + piece - 1) / piece;
  for (int64_t task = begin; task < end; task++) {
    switch (job) {
    case MAX_FORWARD: max_line(&l, task); break;
    case MEAN_FORWARD: {
      int64_t k = task % pieces * piece;
      mean_window(&l, task / pieces, k, k + piece < l.g.c ? k + piece : l.g.c);
      break;
    }
    case MAX_BACKWARD: backward_line(true, &l, task); break;
    case MEAN_BACKWARD: backward_line(false, &l, task); break;
    }
  }
}

// Types as constants, so that the loops hold one each.
INLINE void run(int threads, enum job job, const struct line *given) {
#pragma omp parallel num_threads(team(threads, given->g.batch * given->g.h * given->g.w * given->g.c))
  {
    struct line l = *given;
    int64_t begin, end;
    share(tasks(job, &l.g), 1, &begin, &end);
    if (l.from_type == DTYPE_F32 && l.to_type == DTYPE_F32) {
      l.from_type = l.to_type = DTYPE_F32;
      run_share(job, &l, begin, end);
    } else if (l.from_type == DTYPE_BF16 && l.to_type == DTYPE_BF16) {
      l.from_type = l.to_type = DTYPE_BF16;
      run_share(job, &l, begin, end);
    } else {
      run_share(job, &l, begin, end);
    }
  }
}

static void max_forward(int threads, const struct pooling *g, struct view x, struct view y, uint8_t *where) {
  struct line l = {*g, x.type, y.type, x.data, y.data, NULL, where};
  run(threads, MAX_FORWARD, &l);
}

static void mean_forward(int threads, const struct pooling *g, struct view x, struct view y) {
  struct line l = {*g, x.type, y.type, x.data, y.data, NULL, NULL};
  run(threads, MEAN_FORWARD, &l);
}

static void max_backward(int threads, const struct pooling *g, struct view dy, const uint8_t *where, struct view dx) {
  struct line l = {*g, dy.type, dx.type, dy.data, dx.data, where, NULL};
  run(threads, MAX_BACKWARD, &l);
}

static void mean_backward(int threads, const struct pooling *g, struct view dy, struct view dx) {
  struct line l = {*g, dy.type, dx.type, dy.data, dx.data, NULL, NULL};
  run(threads, MEAN_BACKWARD, &l);
}

const struct pool_kernels K(pool_kernels) = {
    .max_forward = max_forward,
    .max_backward = max_backward,
    .mean_forward = mean_forward,
    .mean_backward = mean_backward,
};
