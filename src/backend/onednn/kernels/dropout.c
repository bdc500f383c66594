// dropout.c: dropout of whole tensors.
#include "backend/onednn/kernels/philox.h"

INLINE void drop(const struct draw *d, int64_t from, int64_t n, dtype_t type, const void *x, dtype_t to_type, void *y,
                 int64_t at) {
  uint32_t words[DRAW];
  draw_words(d, from, words);
  for (int64_t j = 0; j < n; j += VL) {
    vf v = (vf)((vi)(v_take(x, type, at + j, n - j) * d->factor) & draw_kept(d, words + j));
    v_put(y, to_type, at + j, n - j, v);
  }
}

INLINE void drop_share(const struct dropout *d, int64_t batch, int64_t n, dtype_t type, const void *x, dtype_t to_type,
                       void *y) {
  int64_t units = (n + DRAW - 1) / DRAW, begin, end;
  share(batch * units, 1, &begin, &end);
  while (begin < end) { // sample by sample
    int64_t sample = begin / units, stop = (sample + 1) * units < end ? (sample + 1) * units : end;
    struct draw draw = draw_of(d, sample);
    for (; begin < stop; begin++) {
      int64_t from = (begin - sample * units) * DRAW, count = n - from < DRAW ? n - from : DRAW;
      if (count == DRAW) {
        drop(&draw, from, DRAW, type, x, to_type, y, sample * n + from);
      } else {
        drop(&draw, from, count, type, x, to_type, y, sample * n + from);
      }
    }
  }
}

static void dropout(int threads, const struct dropout *d, int64_t batch, int64_t n, struct view x, struct view y) {
#pragma omp parallel num_threads(team(threads, batch *n))
  {
    if (x.type == DTYPE_F32 && y.type == DTYPE_F32) {
      drop_share(d, batch, n, DTYPE_F32, x.data, DTYPE_F32, y.data);
    } else if (x.type == DTYPE_BF16 && y.type == DTYPE_BF16) {
      drop_share(d, batch, n, DTYPE_BF16, x.data, DTYPE_BF16, y.data);
    } else {
      drop_share(d, batch, n, x.type, x.data, y.type, y.data);
    }
  }
}

const struct dropout_kernels K(dropout_kernels) = {.dropout = dropout};
