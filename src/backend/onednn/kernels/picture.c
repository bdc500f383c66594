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

static void gather(int threads, int64_t batch, int64_t h, int64_t w, int kh, int kw, int64_t c, struct view picture,
                   struct view matrix) {
  size_t bytes = dtype_bytes(picture.type), run = (size_t)(kw * c) * bytes;
#pragma omp parallel for num_threads(team(threads, batch *h *w *kh *kw *c)) schedule(static)
  for (int64_t line = 0; line < batch * h; line++) {
    for (int64_t j = 0; j < w; j++) {
      char *to = (char *)matrix.data + (size_t)(line * w + j) * (size_t)kh * run;
      for (int i = 0; i < kh; i++) {
        const char *from = (const char *)picture.data + (size_t)((line * kh + i) * w + j) * run;
        memcpy(to + (size_t)i * run, from, run);
      }
    }
  }
}

static void scatter(int threads, activation_t a, int64_t batch, int64_t h, int64_t w, int kh, int kw, int64_t c,
                    struct view matrix, const float *bias, struct view picture) {
  int64_t run = kw * c;
#pragma omp parallel for num_threads(team(threads, batch *h *w *kh *run)) schedule(static)
  for (int64_t line = 0; line < batch * h; line++) {
    for (int i = 0; i < kh; i++) {
      for (int64_t j = 0; j < w; j++) {
        int64_t from = ((line * w + j) * kh + i) * run, to = ((line * kh + i) * w + j) * run;
        for (int64_t k = 0; k < run; k += VL) {
          vf v = v_take(matrix.data, matrix.type, from + k, run - k);
          if (bias) v += v_take(bias, DTYPE_F32, k, run - k);
          v_put(picture.data, picture.type, to + k, run - k, v_activate(a, v));
        }
      }
    }
  }
}

const struct picture_kernels K(picture_kernels) = {
    .resample = resample,
    .pixels = pixels,
    .gather = gather,
    .scatter = scatter,
};
