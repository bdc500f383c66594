// each.c: CONV_EACH: every sample of a batch has its own kernel with one output channel. With the picture of a sample as a
// matrix X[pixels,C] and its kernel as W[C,taps] this is
//   forward          T = X W, and y is the sum of T's columns, each shifted by its tap
//   backward data    dX = G W', where column t of G is dy shifted by tap t
//   backward weight  dW = X' G
// so X is read or written once, however many taps there are. Memory sets the pace.
#include "backend/onednn/kernels/kernels.h"
#include "backend/onednn/kernels/vector.h"

enum { RUN = 32 }; // pixels that are worked on together: their channels stay in the first cache

static float number(struct view x, int64_t i) {
  return x.type == DTYPE_F32 ? ((const float *)x.data)[i] : bf16_to_f32(((const uint16_t *)x.data)[i]);
}

// [rows pixels][16 taps] += X[rows, from..from+16) and the kernel's lines; w: [c][16].
INLINE void dot_rows(int rows, dtype_t type, const void *x, int64_t at, int64_t c, const float *w, float *out,
                     int64_t out_step) {
  vf sum[8] = {0};
  float part[8][VL];
  int64_t k = 0;
  for (; k < c; k += VL) {
    int64_t n = c - k < VL ? c - k : VL;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) { // of the next rows: each is too short for the processor to see a stream
      __builtin_prefetch((const char *)x + (at + (r + rows) * c + k) * (type == DTYPE_F32 ? 4 : 2));
    }
    if (type != DTYPE_F32) {
#pragma GCC unroll 8
      for (int r = 0; r < rows; r++) v_store(part[r], v_take(x, type, at + r * c + k, n));
    }
    for (int64_t i = 0; i < n; i++) {
      vf line = v_load(w + (k + i) * VL);
#pragma GCC unroll 8
      for (int r = 0; r < rows; r++) {
        sum[r] += v_set(type == DTYPE_F32 ? ((const float *)x)[at + r * c + k + i] : part[r][i]) * line;
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; r++) v_store(out + r * out_step, sum[r]);
}

// T of all pixels of a sample for taps [group * 16, group * 16 + 16).
static void dot_line(const struct each_shape *s, struct view x, int64_t line, const float *w, float *t) {
  for (int64_t g = 0; g < s->groups; g++) {
    const float *panel = w + g * s->c * VL;
    int64_t j = 0, step = s->groups * VL;
    for (; j + 8 <= s->w; j += 8) {
      int64_t at = (line * s->w + j) * s->c;
      if (x.type == DTYPE_F32) {
        dot_rows(8, DTYPE_F32, x.data, at, s->c, panel, t + j * step + g * VL, step);
      } else {
        dot_rows(8, DTYPE_BF16, x.data, at, s->c, panel, t + j * step + g * VL, step);
      }
    }
    for (; j < s->w; j++) {
      dot_rows(1, x.type, x.data, (line * s->w + j) * s->c, s->c, panel, t + j * step + g * VL, step);
    }
  }
}

static int64_t kernels_of(const struct each_shape *s) {
  return s->shared ? 1 : s->batch;
}

// Rows of w as the kernels want them: [B][groups][c][16] or [B][taps][c], in fp32.
static void pack(int threads, const struct each_shape *s, struct view w, bool by_tap, float *out) {
  int taps = s->kernel[0] * s->kernel[1];
  int64_t wide = s->groups * VL;
#pragma omp parallel for num_threads(team(threads, s->batch * s->c * taps)) schedule(static)
  for (int64_t b = 0; b < kernels_of(s); b++) {
    if (!by_tap) memset(out + b * wide * s->c, 0, sizeof(float) * (size_t)(wide * s->c));
    for (int64_t k = 0; k < s->c; k++) {
      for (int t = 0; t < taps; t++) {
        int64_t to = by_tap ? (b * taps + t) * s->c + k : ((b * s->groups + t / VL) * s->c + k) * VL + t % VL;
        out[to] = number(w, (b * s->c + k) * taps + t);
      }
    }
  }
}

enum { STRIP = 32 }; // lines of y that one thread makes in a row

// Floats that one thread needs: T of the lines that a window sees, and a line of y.
static int64_t strip_floats(const struct each_shape *s) {
  int64_t n = s->kernel[0] * s->w * s->groups * VL + s->w_out;
  return (n + VL - 1) / VL * VL;
}

static size_t forward_scratch(int threads, const struct each_shape *s) {
  return sizeof(float) * (size_t)(kernels_of(s) * s->groups * VL * s->c + threads * strip_floats(s));
}

// sum[0,w_out) += T's column of one tap, shifted by its place.
static void add_tap(const struct each_shape *s, const float *t, int64_t kx, float *sum) {
  int64_t step = s->groups * VL, shift = kx - s->pad[1], begin = shift < 0 ? -shift : 0, end = s->w - shift;
  if (end > s->w_out) end = s->w_out;
  for (int64_t j = begin; j < end; j++) sum[j] += t[(j + shift) * step];
}

// Lines [begin,end) of y of sample b. Line r of T stays in ring[r % kh] until no window sees it any more.
static void strip(const struct each_shape *s, struct view x, const float *w, float bias, int64_t b, int64_t begin,
                  int64_t end, struct view y, float *ring) {
  int64_t kh = s->kernel[0], kw = s->kernel[1], line = s->w * s->groups * VL, next = begin - s->pad[0];
  float *sum = ring + kh * line;
  if (next < 0) next = 0;
  for (int64_t i = begin; i < end; i++) {
    int64_t top = i - s->pad[0], bottom = top + kh < s->h ? top + kh : s->h;
    for (; next < bottom; next++) dot_line(s, x, b * s->h + next, w, ring + next % kh * line);
    for (int64_t j = 0; j < s->w_out; j++) sum[j] = bias;
    for (int64_t row = top < 0 ? 0 : top; row < bottom; row++) {
      for (int64_t kx = 0; kx < kw; kx++) add_tap(s, ring + row % kh * line + (row - top) * kw + kx, kx, sum);
    }
    for (int64_t j = 0; j < s->w_out; j += VL) {
      v_put(y.data, y.type, (b * s->h_out + i) * s->w_out + j, s->w_out - j, v_take(sum, DTYPE_F32, j, s->w_out - j));
    }
  }
}

static void forward(int threads, const struct each_shape *s, struct view x, struct view w, struct view bias,
                    struct view y, float *scratch) {
  int64_t panel = s->groups * VL * s->c, strips = (s->h_out + STRIP - 1) / STRIP;
  float *rings = scratch + kernels_of(s) * panel;
  pack(threads, s, w, false, scratch);
#pragma omp parallel for num_threads(team(threads, s->batch * s->h * s->w * s->c)) schedule(static)
  for (int64_t task = 0; task < s->batch * strips; task++) {
    int64_t b = task / strips, kernel = s->shared ? 0 : b, begin = task % strips * STRIP, end = begin + STRIP;
    strip(s, x, scratch + kernel * panel, bias.data ? number(bias, kernel) : 0, b, begin,
          end < s->h_out ? end : s->h_out, y, rings + omp_get_thread_num() * strip_floats(s));
  }
}

// What dy gives the n pixels of x from (i, j) on: [pixel][tap], zero where no window of dy has x under that tap.
static void spread(const struct each_shape *s, struct view dy, int64_t b, int64_t i, int64_t j, int64_t n, float *g) {
  int taps = s->kernel[0] * s->kernel[1];
  for (int64_t ky = 0; ky < s->kernel[0]; ky++) {
    int64_t row = i - ky + s->pad[0];
    bool there = row >= 0 && row < s->h_out;
    for (int64_t kx = 0; kx < s->kernel[1]; kx++) {
      float *to = g + ky * s->kernel[1] + kx;
      for (int64_t p = 0; p < n; p++) {
        int64_t column = j + p - kx + s->pad[1];
        bool inside = there && column >= 0 && column < s->w_out;
        to[p * taps] = inside ? number(dy, (b * s->h_out + row) * s->w_out + column) : 0;
      }
    }
  }
}

INLINE void data_pixels(int pixels, const struct each_shape *s, const float *w, const float *g, struct view dx,
                        int64_t to, int64_t k, int64_t left) {
  int taps = s->kernel[0] * s->kernel[1];
  vf sum[4] = {0};
  for (int t = 0; t < taps; t++) {
    vf line = v_take(w, DTYPE_F32, t * s->c + k, left);
#pragma GCC unroll 4
    for (int p = 0; p < pixels; p++) sum[p] += v_set(g[p * taps + t]) * line;
  }
#pragma GCC unroll 4
  for (int p = 0; p < pixels; p++) v_put(dx.data, dx.type, to + p * s->c + k, left, sum[p]);
}

INLINE void data_run(int pixels, const struct each_shape *s, const float *w, const float *g, struct view dx,
                     int64_t to) {
  int64_t k = 0;
  for (; k + VL <= s->c; k += VL) data_pixels(pixels, s, w, g, dx, to, k, VL);
  if (k < s->c) data_pixels(pixels, s, w, g, dx, to, k, s->c - k);
}

static size_t data_scratch(const struct each_shape *s) {
  return sizeof(float) * (size_t)(s->batch * s->kernel[0] * s->kernel[1] * s->c);
}

static void backward_data(int threads, const struct each_shape *s, struct view dy, struct view w, struct view dx,
                          float *scratch) {
  int taps = s->kernel[0] * s->kernel[1];
  pack(threads, s, w, true, scratch);
#pragma omp parallel for num_threads(team(threads, s->batch * s->h * s->w * s->c)) schedule(static)
  for (int64_t line = 0; line < s->batch * s->h; line++) {
    int64_t b = line / s->h;
    const float *kernel = scratch + b * taps * s->c;
    float g[4 * EACH_TAPS];
    for (int64_t j = 0; j < s->w;) {
      int64_t n = s->w - j < 4 ? 1 : 4, to = (line * s->w + j) * s->c;
      spread(s, dy, b, line % s->h, j, n, g);
      if (n == 4) {
        data_run(4, s, kernel, g, dx, to);
      } else {
        data_run(1, s, kernel, g, dx, to);
      }
      j += n;
    }
  }
}

// sums[taps][channels] += X' G over n pixels, `taps` taps from g on and `vectors` vectors of channels from k on.
INLINE void weight_tile(int taps, int vectors, dtype_t type, const struct each_shape *s, int64_t n, const void *x,
                        int64_t at, int64_t left, const float *g, int64_t g_step, float *sums, int64_t sums_step) {
  vf sum[9][2] = {0};
  for (int64_t p = 0; p < n; p++) {
    vf line[2];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) { // of the next run of pixels
      __builtin_prefetch((const char *)x + (at + (p + n) * s->c + v * VL) * (type == DTYPE_F32 ? 4 : 2));
    }
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) line[v] = v_take(x, type, at + p * s->c + v * VL, left);
#pragma GCC unroll 9
    for (int t = 0; t < taps; t++) {
      vf factor = v_set(g[p * g_step + t]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) sum[t][v] += factor * line[v];
    }
  }
#pragma GCC unroll 9
  for (int t = 0; t < taps; t++) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
      float *to = sums + t * sums_step + v * VL;
      v_store(to, v_load(to) + sum[t][v]);
    }
  }
}

INLINE void weight_channels(int taps, dtype_t type, const struct each_shape *s, int64_t n, const void *x, int64_t at,
                            const float *g, int64_t g_step, float *sums, int64_t padded) {
  int64_t k = 0;
  for (; k + 2 * VL <= s->c; k += 2 * VL) {
    weight_tile(taps, 2, type, s, n, x, at + k, VL, g, g_step, sums + k, padded);
  }
  for (; k + VL <= s->c; k += VL) weight_tile(taps, 1, type, s, n, x, at + k, VL, g, g_step, sums + k, padded);
  if (k < s->c) weight_tile(taps, 1, type, s, n, x, at + k, s->c - k, g, g_step, sums + k, padded);
}

INLINE void weight_taps(dtype_t type, const struct each_shape *s, int64_t n, const void *x, int64_t at, const float *g,
                        float *sums, int64_t padded) {
  int taps = s->kernel[0] * s->kernel[1], t = 0;
  for (; t + 9 <= taps; t += 9) weight_channels(9, type, s, n, x, at, g + t, taps, sums + t * padded, padded);
  for (; t < taps; t++) weight_channels(1, type, s, n, x, at, g + t, taps, sums + t * padded, padded);
}

static int64_t chunks_of(const struct each_shape *s) {
  return s->h < REDUCE_CHUNKS ? s->h : REDUCE_CHUNKS;
}

static size_t weight_scratch(const struct each_shape *s) {
  int64_t padded = (s->c + VL - 1) / VL * VL;
  return sizeof(float) * (size_t)(s->batch * chunks_of(s) * s->kernel[0] * s->kernel[1] * padded);
}

static void weight_chunk(const struct each_shape *s, struct view dy, struct view x, int64_t b, int64_t begin,
                         int64_t end, float *sums) {
  int64_t padded = (s->c + VL - 1) / VL * VL;
  int taps = s->kernel[0] * s->kernel[1];
  float g[RUN * EACH_TAPS] = {0};
  memset(sums, 0, sizeof(float) * (size_t)(taps * padded));
  for (int64_t i = begin; i < end; i++) {
    for (int64_t j = 0; j < s->w; j += RUN) {
      int64_t n = s->w - j < RUN ? s->w - j : RUN, at = ((b * s->h + i) * s->w + j) * s->c;
      spread(s, dy, b, i, j, n, g);
      if (x.type == DTYPE_F32) {
        weight_taps(DTYPE_F32, s, n, x.data, at, g, sums, padded);
      } else {
        weight_taps(DTYPE_BF16, s, n, x.data, at, g, sums, padded);
      }
    }
  }
}

static void sample_reduce(const struct each_shape *s, int64_t b, const float *sums, int64_t chunks, struct view dw) {
  int64_t padded = (s->c + VL - 1) / VL * VL;
  int taps = s->kernel[0] * s->kernel[1];
  for (int64_t k = 0; k < s->c; k += VL) {
    for (int t = 0; t < taps; t++) {
      vf sum = {0};
      for (int64_t i = 0; i < chunks; i++) sum += v_load(sums + (i * taps + t) * padded + k);
      for (int64_t i = 0; i < VL && k + i < s->c; i++) {
        v_write_part(dw.data, dw.type, (b * s->c + k + i) * taps + t, 1, v_set(sum[i]));
      }
    }
  }
}

static void backward_weight(int threads, const struct each_shape *s, struct view dy, struct view x, struct view dw,
                            struct view db, float *scratch) {
  int64_t padded = (s->c + VL - 1) / VL * VL, chunks = chunks_of(s), pixels = s->h_out * s->w_out;
  int64_t size = s->kernel[0] * s->kernel[1] * padded, kernels = kernels_of(s), samples = s->batch / kernels;
#pragma omp parallel num_threads(team(threads, s->batch * s->h * s->w * s->c))
  {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < s->batch * chunks; i++) {
      int64_t c = i % chunks;
      weight_chunk(s, dy, x, i / chunks, s->h * c / chunks, s->h * (c + 1) / chunks, scratch + i * size);
    }
#pragma omp for schedule(static)
    for (int64_t b = 0; b < kernels; b++) {
      sample_reduce(s, b, scratch + b * chunks * size, chunks * samples, dw);
      double sum = 0;
      for (int64_t i = 0; db.data && i < pixels * samples; i++) sum += (double)number(dy, b * pixels + i);
      if (db.data) v_write_part(db.data, db.type, b, 1, v_set((float)sum));
    }
  }
}

const struct each_kernels K(each_kernels) = {
    .forward_scratch = forward_scratch,
    .forward = forward,
    .data_scratch = data_scratch,
    .backward_data = backward_data,
    .weight_scratch = weight_scratch,
    .backward_weight = backward_weight,
};
