// dropout.c: DROPOUT (Srivastava et al. 2014) by counters: whether an element stays depends on its place and number only.
#include "backend/reference/inside.h"

#include "base/rng.h"

double dropout_factor(const struct op *op, const int32_t noise[4], int64_t element) {
  uint64_t part[4];
  uint32_t word[4];
  for (int i = 0; i < 4; i++) part[i] = (uint32_t)noise[i];
  rng_block(part[1] << 32 | part[0], part[3] << 32 | part[2], (uint64_t)op->attr.stream << 32 | (uint64_t)element / 4,
            word);
  return word[element % 4] >= op->attr.dropout * 0x1p32 ? 1 / (1 - op->attr.dropout) : 0;
}

status_t run_dropout(const struct run *r) {
  const struct op *op = r->op;
  const int32_t *noise = r->raw[1];
  int64_t batch = op->in[0].dim[0], each = desc_count(&op->in[0]) / batch;
  for (int64_t b = 0; b < batch; b++) {
    for (int64_t e = 0; e < each; e++) {
      double factor = dropout_factor(op, noise + 4 * b, e), x = r->in[0][b * each + e];
      r->out[0][b * each + e] = factor > 0 ? x * factor : 0; // what is dropped is 0, even where it was infinite
    }
  }
  return OK;
}
