// attention.c: ATTENTION, one query row of one head at a time.
#include "backend/reference/inside.h"

#include <math.h>

struct shape {
  int64_t batch, queries, keys, heads, depth, width; // width = heads * depth
};

static struct shape make_shape(const struct op *op) {
  const struct tensor_desc *q = &op->in[op->direction == FORWARD ? 0 : 1], *k = q + 1;
  int64_t heads = op->attr.heads;
  return (struct shape){q->dim[0], q->dim[1], k->dim[1], heads, q->dim[2] / heads, q->dim[2]};
}

size_t reference_work(const struct op *op) {
  if (op->kind == OP_ATTENTION) return 2 * (size_t)make_shape(op).keys;
  if (op->kind != OP_CONV && op->kind != OP_CONV_TRANSPOSE && op->kind != OP_CONV_EACH) return 0;
  const struct tensor_desc *w = op->direction == BACKWARD_WEIGHT ? &op->out[0] : &op->in[1];
  return (size_t)(desc_count(w) / w->dim[0]);
}

static status_t check_lengths(const int32_t *length, const struct shape *s) {
  for (int64_t b = 0; length && b < s->batch; b++) {
    if (length[b] < 1 || length[b] > s->keys) {
      return FAIL(ERR_NUMERIC, "attention: length %d of sample %lld is outside 1..%lld", (int)length[b], (long long)b,
                  (long long)s->keys);
    }
  }
  return OK;
}

// Keys that query i of sample b sees: the first n.
static int64_t visible(const struct op *op, const struct shape *s, const int32_t *length, int64_t b, int64_t i) {
  int64_t n = length ? length[b] : s->keys;
  return op->attr.causal && i + 1 < n ? i + 1 : n;
}

// The factors that dropout gives the first n keys of query i, head h, sample b.
static void keep_factors(const struct run *r, const struct shape *s, int64_t n, int64_t b, int64_t h, int64_t i,
                         double *factor) {
  const int32_t *noise = r->raw[r->op->direction == FORWARD ? 4 : 7];
  for (int64_t j = 0; j < n; j++) {
    factor[j] = noise ? dropout_factor(r->op, noise + 4 * b, ((h * s->queries + i) << 16) + j) : 1;
  }
}

static void forward_row(const struct run *r, const struct shape *s, int64_t n, int64_t b, int64_t h, int64_t i) {
  const double *q = r->in[0] + (b * s->queries + i) * s->width + h * s->depth;
  const double *k = r->in[1] + b * s->keys * s->width + h * s->depth, *v = r->in[2] + (k - r->in[1]);
  double *o = r->out[0] + (b * s->queries + i) * s->width + h * s->depth, top = -INFINITY, sum = 0;
  double *p = r->work, *factor = p + s->keys;
  keep_factors(r, s, n, b, h, i, factor);
  for (int64_t j = 0; j < n; j++) {
    p[j] = r->op->attr.scale * dot(q, k + j * s->width, s->depth);
    top = p[j] > top || isnan(p[j]) ? p[j] : top;
  }
  for (int64_t j = 0; j < n; j++) sum += p[j] = exp(p[j] - top);
  fill(o, 0, s->depth);
  for (int64_t j = 0; j < n; j++) axpy(o, factor[j] * p[j] / sum, v + j * s->width, s->depth);
  if (r->out[1]) r->out[1][(b * s->heads + h) * s->queries + i] = top + log(sum);
}

// p = exp(score - lse); with f, the factor of dropout: dv += f p do; ds = p (f do . v - do . o); dq = scale ds k;
// dk += scale ds q. (Dao et al. 2022, algorithm 4)
static void backward_row(const struct run *r, const struct shape *s, int64_t n, int64_t b, int64_t h, int64_t i) {
  int64_t row = (b * s->queries + i) * s->width + h * s->depth, column = b * s->keys * s->width + h * s->depth;
  const double *dout = r->in[0] + row, *q = r->in[1] + row, *k = r->in[2] + column, *v = r->in[3] + column;
  double lse = r->in[5][(b * s->heads + h) * s->queries + i], scale = r->op->attr.scale;
  double delta = dot(dout, r->in[4] + row, s->depth);
  double *factor = r->work, *dq = r->out[0] + row, *dk = r->out[1] + column, *dv = r->out[2] + column;
  keep_factors(r, s, n, b, h, i, factor);
  for (int64_t j = 0; j < n; j++) {
    double p = exp(scale * dot(q, k + j * s->width, s->depth) - lse);
    double ds = p * (factor[j] * dot(dout, v + j * s->width, s->depth) - delta);
    axpy(dv + j * s->width, factor[j] * p, dout, s->depth);
    axpy(dk + j * s->width, scale * ds, q, s->depth);
    axpy(dq, scale * ds, k + j * s->width, s->depth);
  }
}

status_t run_attention(const struct run *r) {
  bool forward = r->op->direction == FORWARD;
  struct shape s = make_shape(r->op);
  const int32_t *length = r->raw[forward ? 3 : 6];
  TRY(check_lengths(length, &s));
  for (int i = 0; !forward && i < 3; i++) fill(r->out[i], 0, desc_count(&r->op->out[i]));
  for (int64_t b = 0; b < s.batch; b++) {
    for (int64_t h = 0; h < s.heads; h++) {
      for (int64_t i = 0; i < s.queries; i++) {
        (forward ? forward_row : backward_row)(r, &s, visible(r->op, &s, length, b, i), b, h, i);
      }
    }
  }
  return OK;
}
