// depthwise.c: convolutions in which every channel has a kernel of its own, at any stride and dilation, on pictures whose
// channels lie side by side. oneDNN does the dilated ones at 1 to 2 GFLOP/s. Windows that reach beyond the picture cost
// what they cover, and no more: at DeepLab's rates most of their taps see nothing.
#include "backend/onednn/kernels/kernels.h"
#include "backend/onednn/kernels/vecmath.h"

// Window places [first, end) of one axis that fall into [0, size) when the window starts at `at`.
struct span {
  int first, end;
};

static struct span covered(int64_t at, int places, int64_t dilation, int64_t size) {
  struct span s = {0, places};
  while (s.first < places && at + s.first * dilation < 0) s.first++;
  while (s.end > s.first && at + (s.end - 1) * dilation >= size) s.end--;
  return s;
}

// The taps that one window sees: where they read, from the first pixel of the group on, and where their weights lie.
struct seen {
  int n;
  int64_t at[DEPTHWISE_TAPS], weight[DEPTHWISE_TAPS];
};

struct output {
  const struct depthwise_shape *s;
  const float *weights, *bias;
  struct view r, y;
};

INLINE vf finish(const struct output *o, int64_t at, int64_t left, vf sum) {
  activation_t a = o->s->activation;
  vf r = {0};
  if (o->r.data) r = v_take(o->r.data, o->r.type, at, left);
  if (o->s->residual_first) sum += r;
  if (a == ACT_RELU) {
    sum = v_max(sum, v_set(0));
  } else if (a != ACT_NONE) {
    sum = v_activate(a, sum);
  }
  if (!o->s->residual_first) sum += r;
  return sum;
}

// min(left, 16) channels of `pixels` neighbours, `step` apart in x.
INLINE void places(int pixels, dtype_t type, const struct output *o, const struct seen *t, const void *x, int64_t step,
                   int64_t to, int64_t k, int64_t left) {
  vf sum[4], bias = {0};
  if (o->bias) bias = v_take(o->bias, DTYPE_F32, k, left);
#pragma GCC unroll 4
  for (int p = 0; p < pixels; p++) sum[p] = bias;
  for (int i = 0; i < t->n; i++) {
    vf w = v_take(o->weights, DTYPE_F32, t->weight[i] + k, left);
#pragma GCC unroll 4
    for (int p = 0; p < pixels; p++) sum[p] += v_take(x, type, t->at[i] + p * step + k, left) * w;
  }
#pragma GCC unroll 4
  for (int p = 0; p < pixels; p++) {
    int64_t at = to + p * o->s->c + k;
    v_put(o->y.data, o->y.type, at, left, finish(o, at, left, sum[p]));
  }
}

INLINE void pixels_run(int pixels, dtype_t type, const struct output *o, const struct seen *t, const void *x,
                       int64_t to) {
  int64_t c = o->s->c, step = o->s->stride[1] * c, k = 0;
  for (; k + VL <= c; k += VL) places(pixels, type, o, t, x, step, to, k, VL);
  if (k < c) places(pixels, type, o, t, x, step, to, k, c - k);
}

INLINE void line_run(dtype_t type, const struct output *o, const void *x, int64_t line) {
  const struct depthwise_shape *s = o->s;
  int64_t b = line / s->h_out, top = line % s->h_out * s->stride[0] - s->pad[0];
  struct span rows = covered(top, s->kernel[0], s->dilation[0], s->h);
  for (int64_t j = 0; j < s->w_out;) {
    int64_t left = j * s->stride[1] - s->pad[1];
    struct span columns = covered(left, s->kernel[1], s->dilation[1], s->w);
    struct seen t = {0};
    for (int ky = rows.first; ky < rows.end; ky++) {
      for (int kx = columns.first; kx < columns.end; kx++) {
        int64_t row = b * s->h + top + ky * s->dilation[0], column = left + kx * s->dilation[1];
        t.at[t.n] = (row * s->w + column) * s->c;
        t.weight[t.n++] = (ky * s->kernel[1] + kx) * s->c;
      }
    }
    struct span last = covered(left + 3 * s->stride[1], s->kernel[1], s->dilation[1], s->w);
    int64_t to = (line * s->w_out + j) * s->c;
    if (j + 4 <= s->w_out && last.first == columns.first && last.end == columns.end) {
      pixels_run(4, type, o, &t, x, to);
      j += 4;
    } else {
      pixels_run(1, type, o, &t, x, to);
      j++;
    }
  }
}

static void depthwise(int threads, const struct depthwise_shape *s, struct view x, const float *weights,
                      const float *bias, struct view r, struct view y) {
  struct output o = {.s = s, .weights = weights, .bias = bias, .r = r, .y = y};
  int64_t lines = s->batch * s->h_out;
#pragma omp parallel for num_threads(team(threads, lines * s->w_out * s->c)) schedule(static)
  for (int64_t line = 0; line < lines; line++) {
    if (x.type == DTYPE_F32) {
      line_run(DTYPE_F32, &o, x.data, line);
    } else {
      line_run(DTYPE_BF16, &o, x.data, line);
    }
  }
}

// Columns [begin, end) of a line of dy that have a pixel under place `kx` of their window.
static void under(const struct depthwise_shape *s, int64_t kx, int64_t *begin, int64_t *end) {
  int64_t stride = s->stride[1], shift = kx * s->dilation[1] - s->pad[1], most = s->w - 1 - shift;
  *begin = shift < 0 ? (-shift + stride - 1) / stride : 0;
  *end = most < 0 ? 0 : most / stride + 1;
  if (*end > s->w_out) *end = s->w_out;
  if (*begin > *end) *begin = *end;
}

// sum[channels] += the products of n pixels of dy and x; without x: the sums of dy.
INLINE void gradient_vectors(int vectors, dtype_t dy_type, dtype_t x_type, int64_t n, int64_t left, const void *dy,
                             int64_t dy_at, int64_t dy_step, const void *x, int64_t x_at, int64_t x_step, float *sum) {
  vf v[4] = {0};
  for (int64_t j = 0; j < n; j++) {
#pragma GCC unroll 4
    for (int i = 0; i < vectors; i++) {
      vf g = v_take(dy, dy_type, dy_at + j * dy_step + i * VL, left);
      if (x) g *= v_take(x, x_type, x_at + j * x_step + i * VL, left);
      v[i] += g;
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < vectors; i++) v_store(sum + i * VL, v_load(sum + i * VL) + v[i]);
}

struct gradient {
  const struct depthwise_shape *s;
  const void *dy, *x;
  int64_t padded; // channels of a line of sums
  bool bias;
};

INLINE void gradient_run(dtype_t dy_type, dtype_t x_type, const struct gradient *g, int64_t n, int64_t dy_at,
                         const void *x, int64_t x_at, int64_t channels, float *sum) {
  int64_t c = g->s->c, step = g->s->stride[1] * c, k = 0;
  for (; k + 4 * VL <= channels; k += 4 * VL) {
    gradient_vectors(4, dy_type, x_type, n, VL, g->dy, dy_at + k, c, x, x_at + k, step, sum + k);
  }
  for (; k + VL <= channels; k += VL) {
    gradient_vectors(1, dy_type, x_type, n, VL, g->dy, dy_at + k, c, x, x_at + k, step, sum + k);
  }
  if (k < channels) {
    gradient_vectors(1, dy_type, x_type, n, channels - k, g->dy, dy_at + k, c, x, x_at + k, step, sum + k);
  }
}

// Sums over lines [begin, end) for channels [from, from + channels): a line a tap, then that of the bias.
INLINE void gradient_lines(dtype_t dy_type, dtype_t x_type, const struct gradient *g, int64_t begin, int64_t end,
                           int64_t from, int64_t channels, float *sums) {
  const struct depthwise_shape *s = g->s;
  int kh = s->kernel[0], kw = s->kernel[1];
  int64_t wide = (channels + VL - 1) / VL * VL;
  for (int t = 0; t <= kh * kw; t++) memset(sums + t * g->padded + from, 0, sizeof(float) * (size_t)wide);
  for (int64_t line = begin; line < end; line++) {
    int64_t top = line % s->h_out * s->stride[0] - s->pad[0], dy_at = line * s->w_out * s->c + from;
    struct span rows = covered(top, kh, s->dilation[0], s->h);
    for (int t = rows.first * kw; t < rows.end * kw; t++) {
      int64_t first, stop, row = line / s->h_out * s->h + top + t / kw * s->dilation[0];
      under(s, t % kw, &first, &stop);
      int64_t column = first * s->stride[1] + t % kw * s->dilation[1] - s->pad[1];
      gradient_run(dy_type, x_type, g, stop - first, dy_at + first * s->c, g->x, (row * s->w + column) * s->c + from,
                   channels, sums + t * g->padded + from);
    }
    if (g->bias)
      gradient_run(dy_type, x_type, g, s->w_out, dy_at, NULL, 0, channels, sums + kh * kw * g->padded + from);
  }
}

static void gradient_reduce(int threads, int64_t c, int64_t padded, int taps, const float *sums, int64_t chunks,
                            struct view dw, struct view db) {
#pragma omp parallel for num_threads(team(threads, c *taps *chunks)) schedule(static)
  for (int64_t k = 0; k < c; k += VL) {
    int64_t left = c - k < VL ? c - k : VL;
    for (int t = 0; t <= taps; t++) {
      vf sum = {0};
      for (int64_t i = 0; i < chunks; i++) sum += v_load(sums + (i * (taps + 1) + t) * padded + k);
      if (t == taps) {
        if (db.data) v_put(db.data, db.type, k, left, sum);
        continue;
      }
      for (int64_t i = 0; i < left; i++) v_write_part(dw.data, dw.type, (k + i) * taps + t, 1, v_set(sum[i]));
    }
  }
}

static void depthwise_weight(int threads, const struct depthwise_shape *s, struct view dy, struct view x,
                             struct view dw, struct view db, float *scratch) {
  enum { LINES = 32768 }; // bytes of dy and of x under one line of windows, so that they stay in the first cache
  int taps = s->kernel[0] * s->kernel[1];
  int64_t lines = s->batch * s->h_out, chunks = lines < REDUCE_CHUNKS ? lines : REDUCE_CHUNKS;
  int64_t padded = (s->c + VL - 1) / VL * VL, block = LINES / 4 / (s->w_out + s->kernel[0] * s->w) / 64 * 64;
  if (block < 64) block = 64;
  struct gradient g = {.s = s, .dy = dy.data, .x = x.data, .padded = padded, .bias = db.data != NULL};
  int64_t blocks = (s->c + block - 1) / block;
#pragma omp parallel for num_threads(team(threads, lines * s->w_out * s->c)) schedule(static)
  for (int64_t task = 0; task < chunks * blocks; task++) {
    int64_t i = task / blocks, from = task % blocks * block, n = s->c - from < block ? s->c - from : block;
    int64_t begin = lines * i / chunks, end = lines * (i + 1) / chunks;
    float *sums = scratch + i * (taps + 1) * padded;
    if (dy.type == DTYPE_F32 && x.type == DTYPE_F32) {
      gradient_lines(DTYPE_F32, DTYPE_F32, &g, begin, end, from, n, sums);
    } else if (dy.type == DTYPE_BF16 && x.type == DTYPE_BF16) {
      gradient_lines(DTYPE_BF16, DTYPE_BF16, &g, begin, end, from, n, sums);
    } else {
      gradient_lines(dy.type, x.type, &g, begin, end, from, n, sums);
    }
  }
  gradient_reduce(threads, s->c, padded, taps, scratch, chunks, dw, db);
}

const struct depthwise_kernels K(depthwise_kernels) = {
    .run = depthwise,
    .weight = depthwise_weight,
};
