// picture.c: resizing, normalised pixels, and windows that do not overlap.
#include "backend/onednn/kernels/kernels.h"
#include "backend/onednn/kernels/vecmath.h"

// One output place of c channels.
INLINE void resample_place(const struct taps *rows, const struct taps *columns, int64_t i, int64_t j, int64_t at,
                           int64_t w_in, int64_t c, struct view x, int64_t to, struct view y) {
  for (int64_t k = 0; k < c; k += VL) {
    vf sum = {0};
    for (int32_t a = rows->first[i]; a < rows->first[i + 1]; a++) {
      vf line = {0};
      int64_t row = at + rows->index[a] * w_in * c + k;
      for (int32_t b = columns->first[j]; b < columns->first[j + 1]; b++) {
        line += v_take(x.data, x.type, row + columns->index[b] * c, c - k) * columns->weight[b];
      }
      sum += line * rows->weight[a];
    }
    v_put(y.data, y.type, to + k, c - k, sum);
  }
}

static float scalar(struct view x, int64_t i) {
  return x.type == DTYPE_F32 ? ((const float *)x.data)[i] : bf16_to_f32(((const uint16_t *)x.data)[i]);
}

// Pictures of one channel: no vector along the channels, so plain numbers.
static void resample_single(const struct taps *rows, const struct taps *columns, int64_t i, int64_t at, int64_t w_in,
                            int64_t w_out, struct view x, int64_t to, struct view y) {
  for (int64_t j = 0; j < w_out; j++) {
    float sum = 0;
    for (int32_t a = rows->first[i]; a < rows->first[i + 1]; a++) {
      float line = 0;
      int64_t row = at + rows->index[a] * w_in;
      for (int32_t b = columns->first[j]; b < columns->first[j + 1]; b++) {
        line += scalar(x, row + columns->index[b]) * columns->weight[b];
      }
      sum += line * rows->weight[a];
    }
    if (y.type == DTYPE_F32) {
      ((float *)y.data)[to + j] = sum;
    } else {
      ((uint16_t *)y.data)[to + j] = f32_to_bf16(sum);
    }
  }
}

static void resample(int threads, int64_t batch, int64_t h_in, int64_t w_in, int64_t h_out, int64_t w_out, int64_t c,
                     const struct taps *rows, const struct taps *columns, struct view x, struct view y) {
#pragma omp parallel for num_threads(team(threads, batch *h_out *w_out *c)) schedule(static)
  for (int64_t line = 0; line < batch * h_out; line++) {
    int64_t i = line % h_out, at = line / h_out * h_in * w_in * c;
    if (c == 1) {
      resample_single(rows, columns, i, at, w_in, w_out, x, line * w_out, y);
      continue;
    }
    for (int64_t j = 0; j < w_out; j++) {
      resample_place(rows, columns, i, j, at, w_in, c, x, (line * w_out + j) * c, y);
    }
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

const struct picture_kernels K(picture_kernels) = {
    .resample = resample,
    .pixels = pixels,
    .gather = gather,
    .scatter = scatter,
};
