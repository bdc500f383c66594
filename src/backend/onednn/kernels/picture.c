// picture.c: resizing, normalised pixels, and windows that do not overlap.
#include "backend/onednn/kernels/kernels.h"
#include "backend/onednn/kernels/vecmath.h"

static float scalar(struct view x, int64_t i) {
  return x.type == DTYPE_F32 ? ((const float *)x.data)[i] : bf16_to_f32(((const uint16_t *)x.data)[i]);
}

static void put_scalar(struct view y, int64_t i, float v) {
  if (y.type == DTYPE_F32) {
    ((float *)y.data)[i] = v;
  } else {
    ((uint16_t *)y.data)[i] = f32_to_bf16(v);
  }
}

// Four vectors, or one of min(left, 16) elements, of a weighted sum of lines of x.
INLINE void blend_vectors(int vectors, dtype_t type, const struct taps *rows, int64_t i, const void *x, int64_t at,
                          int64_t step, int64_t left, float *to) {
  vf sum[4] = {0};
  for (int32_t a = rows->first[i]; a < rows->first[i + 1]; a++) {
    int64_t from = at + rows->index[a] * step;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) sum[v] += v_take(x, type, from + v * VL, left) * rows->weight[a];
  }
#pragma GCC unroll 4
  for (int v = 0; v < vectors; v++) v_put(to, DTYPE_F32, v * VL, left, sum[v]);
}

// The line between the rows of x that output row i lies at: n numbers.
INLINE void blend_rows(dtype_t type, const struct taps *rows, int64_t i, const void *x, int64_t at, int64_t n,
                       float *line) {
  int64_t k = 0;
  for (; k + 4 * VL <= n; k += 4 * VL) blend_vectors(4, type, rows, i, x, at + k, n, VL, line + k);
  for (; k < n; k += VL) blend_vectors(1, type, rows, i, x, at + k, n, n - k, line + k);
}

INLINE void blend_place(dtype_t type, const struct taps *columns, int64_t j, int64_t c, const void *line, int64_t at,
                        int64_t to, struct view y) {
  for (int64_t k = 0; k < c; k += VL) {
    vf sum = {0};
    for (int32_t b = columns->first[j]; b < columns->first[j + 1]; b++) {
      sum += v_take(line, type, at + columns->index[b] * c + k, c - k) * columns->weight[b];
    }
    v_put(y.data, y.type, to + k, c - k, sum);
  }
}

// A row of y out of a line of places of c channels: without vectors where those are few.
static void blend_columns(const struct taps *columns, int64_t w_out, int64_t c, struct view line, int64_t at,
                          int64_t to, struct view y) {
  for (int64_t j = 0; j < w_out; j++) {
    if (c < VL) {
      for (int64_t k = 0; k < c; k++) {
        float sum = 0;
        for (int32_t b = columns->first[j]; b < columns->first[j + 1]; b++) {
          sum += scalar(line, at + columns->index[b] * c + k) * columns->weight[b];
        }
        put_scalar(y, to + j * c + k, sum);
      }
    } else if (line.type == DTYPE_F32) {
      blend_place(DTYPE_F32, columns, j, c, line.data, at, to + j * c, y);
    } else {
      blend_place(DTYPE_BF16, columns, j, c, line.data, at, to + j * c, y);
    }
  }
}

// First the rows into one line of the input's width, then the columns; a row that is a copy is read where it lies.
static void resample(int threads, int64_t batch, int64_t h_in, int64_t w_in, int64_t h_out, int64_t w_out, int64_t c,
                     const struct taps *rows, const struct taps *columns, struct view x, struct view y,
                     float *scratch) {
  int64_t n = w_in * c;
#pragma omp parallel for num_threads(team(threads, batch *(h_in * w_in + h_out * w_out) * c)) schedule(static)
  for (int64_t row = 0; row < batch * h_out; row++) {
    int64_t i = row % h_out, at = row / h_out * h_in * n, to = row * w_out * c;
    int32_t a = rows->first[i];
    if (rows->first[i + 1] == a + 1 && rows->weight[a] == 1) {
      blend_columns(columns, w_out, c, x, at + rows->index[a] * n, to, y);
      continue;
    }
    struct view line = {scratch + omp_get_thread_num() * (n + VL), DTYPE_F32};
    if (x.type == DTYPE_F32) {
      blend_rows(DTYPE_F32, rows, i, x.data, at, n, line.data);
    } else {
      blend_rows(DTYPE_BF16, rows, i, x.data, at, n, line.data);
    }
    blend_columns(columns, w_out, c, line, 0, to, y);
  }
}

static void pixels(int threads, int64_t n, const float table[3][256], const uint8_t *p, struct view y) {
#pragma omp parallel for num_threads(team(threads, n * 3)) schedule(static)
  for (int64_t i = 0; i < n; i++) {
    for (int c = 0; c < 3; c++) {
      float v = table[c][p[i * 3 + c]];
      if (y.type == DTYPE_F32) {
        ((float *)y.data)[i * 3 + c] = v;
      } else {
        ((uint16_t *)y.data)[i * 3 + c] = f32_to_bf16(v);
      }
    }
  }
}

// A window's line of a few bytes is moved without a call.
INLINE void copy_run(char *to, const char *from, size_t bytes) {
  switch (bytes) {
  case 8: memcpy(to, from, 8); break;
  case 16: memcpy(to, from, 16); break;
  case 32: memcpy(to, from, 32); break;
  case 64: memcpy(to, from, 64); break;
  default: memcpy(to, from, bytes);
  }
}

static void gather(int threads, int64_t batch, int64_t h, int64_t w, int kh, int kw, int64_t c, struct view picture,
                   struct view matrix) {
  size_t bytes = dtype_bytes(picture.type), run = (size_t)(kw * c) * bytes;
#pragma omp parallel for num_threads(team(threads, batch *h *w *kh *kw *c)) schedule(static)
  for (int64_t line = 0; line < batch * h; line++) {
    for (int64_t j = 0; j < w; j++) {
      char *to = (char *)matrix.data + (size_t)(line * w + j) * (size_t)kh * run;
      for (int i = 0; i < kh; i++) {
        const char *from = (const char *)picture.data + (size_t)((line * kh + i) * w + j) * run;
        copy_run(to + (size_t)i * run, from, run);
      }
    }
  }
}

// A line of the picture out of w windows of `run` numbers each, `stride` apart: runs shorter than a vector are put side
// by side first.
static void scatter_short(activation_t a, int64_t w, int64_t run, int64_t stride, const float *from, const float *bias,
                          struct view picture, int64_t to) {
  enum { WINDOWS = 16 };
  float line[WINDOWS * VL];
  for (int64_t j = 0; j < w; j += WINDOWS) {
    int64_t windows = w - j < WINDOWS ? w - j : WINDOWS, n = windows * run;
    for (int64_t i = 0; i < windows; i++) {
      copy_run((char *)(line + i * run), (const char *)(from + (j + i) * stride), sizeof(float) * (size_t)run);
      for (int64_t k = 0; bias && k < run; k++) line[i * run + k] += bias[k];
    }
    for (int64_t k = 0; k < n; k += VL) {
      v_put(picture.data, picture.type, to + j * run + k, n - k, v_activate(a, v_take(line, DTYPE_F32, k, n - k)));
    }
  }
}

static void scatter_long(activation_t a, int64_t run, const float *from, const float *bias, struct view picture,
                         int64_t to) {
  for (int64_t k = 0; k < run; k += VL) {
    vf v = v_take(from, DTYPE_F32, k, run - k);
    if (bias) v += v_take(bias, DTYPE_F32, k, run - k);
    v_put(picture.data, picture.type, to + k, run - k, v_activate(a, v));
  }
}

static void scatter(int threads, activation_t a, int64_t batch, int64_t h, int64_t w, int kh, int kw, int64_t c,
                    const float *matrix, const float *bias, struct view picture) {
  int64_t run = kw * c, window = kh * run;
#pragma omp parallel for num_threads(team(threads, batch *h *w *window)) schedule(static)
  for (int64_t line = 0; line < batch * h; line++) {
    for (int i = 0; i < kh; i++) {
      const float *from = matrix + line * w * window + i * run;
      int64_t to = (line * kh + i) * w * run;
      if (run < VL) {
        scatter_short(a, w, run, window, from, bias, picture, to);
        continue;
      }
      for (int64_t j = 0; j < w; j++) scatter_long(a, run, from + j * window, bias, picture, to + j * run);
    }
  }
}

// ---- windows that overlap --------------------------------------------------------------------------------------------

// One of `taps` numbers of each channel; no `from`: outside the picture.
INLINE void put_tap(size_t bytes, int64_t c, int64_t taps, const char *from, char *to) {
  for (int64_t k = 0; k < c; k++) {
    char *at = to + (size_t)(k * taps) * bytes;
    if (from) {
      memcpy(at, from + (size_t)k * bytes, bytes);
    } else {
      memset(at, 0, bytes);
    }
  }
}

INLINE void unroll_row(size_t bytes, const struct unrolling *u, int64_t row, const char *picture, char *to) {
  int64_t j = row % u->w_out, i = row / u->w_out % u->h_out, b = row / (u->w_out * u->h_out);
  int64_t taps = (int64_t)u->kernel[0] * u->kernel[1];
  for (int64_t t = 0; t < taps; t++) {
    int64_t y = i * u->stride[0] - u->pad[0] + t / u->kernel[1] * u->dilation[0];
    int64_t x = j * u->stride[1] - u->pad[1] + t % u->kernel[1] * u->dilation[1];
    bool inside = y >= 0 && y < u->h && x >= 0 && x < u->w;
    const char *from = inside ? picture + (size_t)(((b * u->h + y) * u->w + x) * u->c) * bytes : NULL;
    if (taps == 1 && from) {
      memcpy(to, from, (size_t)u->c * bytes);
    } else {
      put_tap(bytes, u->c, taps, from, to + (size_t)t * bytes);
    }
  }
}

static void unroll(int threads, const struct unrolling *u, size_t bytes, const void *picture, void *matrix) {
  int64_t rows = u->batch * u->h_out * u->w_out, run = u->c * u->kernel[0] * u->kernel[1];
#pragma omp parallel for num_threads(team(threads, rows *run)) schedule(static)
  for (int64_t row = 0; row < rows; row++) {
    char *to = (char *)matrix + (size_t)(row * run) * bytes;
    if (bytes == sizeof(float)) {
      unroll_row(sizeof(float), u, row, picture, to);
    } else {
      unroll_row(sizeof(uint16_t), u, row, picture, to);
    }
  }
}

// The place of the small picture whose tap `t` sees `at` along one axis; -1: none.
INLINE int64_t place_of(const struct unrolling *u, int axis, int64_t at, int64_t t, int64_t places) {
  int64_t from = at + u->pad[axis] - t * u->dilation[axis], place = from / u->stride[axis];
  return from < 0 || from % u->stride[axis] || place >= places ? -1 : place;
}

INLINE void fold_block(const struct unrolling *u, int64_t b, int64_t y, int64_t x, int64_t c, int64_t n,
                       const float *matrix, float *sum) {
  int64_t taps = (int64_t)u->kernel[0] * u->kernel[1];
  for (int64_t p = u->kernel[0] - 1; p >= 0; p--) {
    int64_t i = place_of(u, 0, y, p, u->h_out);
    for (int64_t q = u->kernel[1] - 1; i >= 0 && q >= 0; q--) {
      int64_t j = place_of(u, 1, x, q, u->w_out);
      if (j < 0) continue;
      const float *from = matrix + (((b * u->h_out + i) * u->w_out + j) * u->c + c) * taps + p * u->kernel[1] + q;
      for (int64_t k = 0; k < n; k++) sum[k] += from[k * taps];
    }
  }
}

static void fold(int threads, const struct unrolling *u, activation_t a, const float *matrix, const float *bias,
                 struct view picture) {
  int64_t pixels = u->batch * u->h * u->w;
#pragma omp parallel for num_threads(team(threads, pixels * u->c)) schedule(static)
  for (int64_t pixel = 0; pixel < pixels; pixel++) {
    int64_t x = pixel % u->w, y = pixel / u->w % u->h, b = pixel / (u->w * u->h);
    for (int64_t c = 0; c < u->c; c += VL) {
      float sum[VL] = {0};
      int64_t left = u->c - c;
      fold_block(u, b, y, x, c, left < VL ? left : VL, matrix, sum);
      vf v = v_load(sum);
      if (bias) v += v_take(bias, DTYPE_F32, c, left);
      v_put(picture.data, picture.type, pixel * u->c + c, left, v_activate(a, v));
    }
  }
}

// ---- kernels of a picture at twice its size ------------------------------------------------------------------------

// m a for a[3][n], and m' a for a[4][n], as backend.h has m.
INLINE void double_rows(const float *a, int n, float *out) {
  for (int i = 0; i < n; i++) {
    out[i] = a[2 * n + i];
    out[n + i] = a[n + i] + a[2 * n + i];
    out[2 * n + i] = a[i] + a[n + i];
    out[3 * n + i] = a[i];
  }
}

INLINE void halve_rows(const float *a, int n, float *out) {
  for (int i = 0; i < n; i++) {
    out[i] = a[2 * n + i] + a[3 * n + i];
    out[n + i] = a[n + i] + a[2 * n + i];
    out[2 * n + i] = a[i] + a[n + i];
  }
}

INLINE void turn(const float *a, int rows, int columns, float *out) {
  for (int i = 0; i < rows; i++) {
    for (int j = 0; j < columns; j++) out[j * rows + i] = a[i * columns + j];
  }
}

INLINE void take(struct view x, int64_t at, int n, float *out) {
  for (int i = 0; i < n; i++)
    out[i] = x.type == DTYPE_F32 ? ((const float *)x.data)[at + i] : bf16_to_f32(((const uint16_t *)x.data)[at + i]);
}

INLINE void put(struct view y, int64_t at, int n, const float *in) {
  for (int i = 0; i < n; i++) {
    if (y.type == DTYPE_F32) {
      ((float *)y.data)[at + i] = in[i];
    } else {
      ((uint16_t *)y.data)[at + i] = f32_to_bf16(in[i]);
    }
  }
}

enum { TOGETHER = 8 }; // channels: as many lie side by side in w, and so far apart in y

// Between w[o][c][9] and y[c][o][16]. The first sum goes down the columns, the second along the rows.
INLINE void double_all(bool forward, int threads, int64_t o, int64_t c, struct view w, struct view y) {
#pragma omp parallel for num_threads(team(threads, o *c * 16)) schedule(static)
  for (int64_t first = 0; first < c; first += TOGETHER) {
    for (int64_t i = 0; i < o; i++) {
      for (int64_t j = first; j < c && j < first + TOGETHER; j++) {
        int64_t small = (i * c + j) * 9, large = (j * o + i) * 16;
        float in[16], down[12], turned[12], across[16], out[16];
        if (forward) {
          take(w, small, 9, in);
          double_rows(in, 3, down);
          turn(down, 4, 3, turned);
          double_rows(turned, 4, across);
          turn(across, 4, 4, out);
          put(y, large, 16, out);
        } else {
          take(y, large, 16, in);
          halve_rows(in, 4, down);
          turn(down, 3, 4, turned);
          halve_rows(turned, 3, across);
          turn(across, 3, 3, out);
          put(w, small, 9, out);
        }
      }
    }
  }
}

static void double_kernels(int threads, bool forward, int64_t o, int64_t c, struct view w, struct view y) {
  struct view w32 = {w.data, DTYPE_F32}, y32 = {y.data, DTYPE_F32}, y16 = {y.data, DTYPE_BF16};
  if (w.type == DTYPE_F32 && y.type == DTYPE_F32) {
    if (forward) {
      double_all(true, threads, o, c, w32, y32);
    } else {
      double_all(false, threads, o, c, w32, y32);
    }
  } else if (w.type == DTYPE_F32 && forward) {
    double_all(true, threads, o, c, w32, y16);
  } else {
    double_all(forward, threads, o, c, w, y);
  }
}

const struct picture_kernels K(picture_kernels) = {
    .resample = resample,
    .double_kernels = double_kernels,
    .pixels = pixels,
    .gather = gather,
    .scatter = scatter,
    .unroll = unroll,
    .fold = fold,
};
