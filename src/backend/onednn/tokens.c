// tokens.c: LAYERNORM and ATTENTION on own kernels.
#include "backend/onednn/inside.h"

#include "base/mem.h"

static bool left_out(const struct op *op, int i) {
  return i >= op->inputs || op->in[i].dtype == DTYPE_NONE;
}

static bool layernorm_supports(const struct onednn *b, const struct op *op) {
  (void)b;
  return op_is_single(op);
}

static void layernorm_forward(struct plan *p, void *const *operands) {
  const struct op *op = &p->op;
  void *const *out = operands + op->inputs;
  float *mean = op->outputs > 1 && op->out[1].dtype != DTYPE_NONE ? out[1] : NULL;
  float *rstd = op->outputs > 2 && op->out[2].dtype != DTYPE_NONE ? out[2] : NULL;
  p->b->kernels->norm->forward(p->b->base.threads, desc_rows(&op->in[0]), desc_columns(&op->in[0]),
                               (float)op->attr.epsilon, view_of(&op->in[0], operands[0]),
                               view_of(&op->in[1], operands[1]), view_of(&op->in[2], operands[2]),
                               view_of(&op->out[0], out[0]), mean, rstd);
}

static void layernorm_data(struct plan *p, void *const *operands) {
  const struct op *op = &p->op;
  struct view r = {0};
  if (!left_out(op, 5)) r = view_of(&op->in[5], operands[5]);
  p->b->kernels->norm->backward_data(p->b->base.threads, desc_rows(&op->in[0]), desc_columns(&op->in[0]),
                                     view_of(&op->in[0], operands[0]), view_of(&op->in[1], operands[1]),
                                     view_of(&op->in[2], operands[2]), operands[3], operands[4], r,
                                     view_of(&op->out[0], operands[op->inputs]));
}

static status_t layernorm_run(struct plan *p, void *const *operands, char *scratch) {
  const struct op *op = &p->op;
  if (op->direction == FORWARD) {
    layernorm_forward(p, operands);
  } else if (op->direction == BACKWARD_DATA) {
    layernorm_data(p, operands);
  } else {
    p->b->kernels->norm->backward_weight(p->b->base.threads, desc_rows(&op->in[0]), desc_columns(&op->in[0]),
                                         view_of(&op->in[0], operands[0]), view_of(&op->in[1], operands[1]),
                                         operands[2], operands[3], view_of(&op->out[0], operands[op->inputs]),
                                         view_of(&op->out[1], operands[op->inputs + 1]), (float *)(void *)scratch);
  }
  return OK;
}

static status_t layernorm_create(struct plan *p) {
  p->run = layernorm_run;
  if (p->op.direction == BACKWARD_WEIGHT) {
    (void)plan_reserve(p, sizeof(float) * REDUCE_CHUNKS * 2 * (size_t)desc_columns(&p->op.in[0]));
  }
  return OK;
}

// A row is read whole before it is written.
static bool layernorm_in_place(const struct op *op, int out, int in) {
  return out == 0 && op->direction != BACKWARD_WEIGHT && desc_same_shape(&op->in[in], &op->in[0]);
}

static bool attention_supports(const struct onednn *b, const struct op *op) {
  (void)b;
  return op_is_single(op);
}

// operands NULL: only the sizes.
static struct attention_shape attention_shape(const struct op *op, void *const *operands) {
  const struct tensor_desc *q = &op->in[op->direction == FORWARD ? 0 : 1],
                           *k = &op->in[op->direction == FORWARD ? 1 : 2];
  int noise = op->direction == FORWARD ? 4 : 7;
  return (struct attention_shape){.batch = q->dim[0],
                                  .queries = q->dim[1],
                                  .keys = k->dim[1],
                                  .heads = op->attr.heads,
                                  .width = q->dim[2] / op->attr.heads,
                                  .causal = op->attr.causal != 0,
                                  .scale = (float)op->attr.scale,
                                  .dropout = {.noise = !operands || left_out(op, noise) ? NULL : operands[noise],
                                              .p = op->attr.dropout,
                                              .stream = op->attr.stream}};
}

static status_t check_lengths(const struct op *op, const int32_t *length, int64_t batch, int64_t keys) {
  for (int64_t b = 0; length && b < batch; b++) {
    if (length[b] < 1 || length[b] > keys) {
      char text[OP_TEXT];
      return FAIL(ERR_NUMERIC, "length %d of sample %lld is outside 1..%lld in %s", (int)length[b], (long long)b,
                  (long long)keys, op_text(op, text));
    }
  }
  return OK;
}

static status_t attention_run(struct plan *p, void *const *operands, char *scratch) {
  const struct op *op = &p->op;
  const struct attention_kernels *k = p->b->kernels->attention;
  struct attention_shape s = attention_shape(op, operands);
  bool forward = op->direction == FORWARD;
  const int32_t *length = left_out(op, forward ? 3 : 6) ? NULL : operands[forward ? 3 : 6];
  void *const *out = operands + op->inputs;
  TRY(check_lengths(op, length, s.batch, s.keys));
  if (forward) {
    float *lse = op->outputs > 1 && op->out[1].dtype != DTYPE_NONE ? out[1] : NULL;
    k->forward(p->b->base.threads, &s, view_of(&op->in[0], operands[0]), view_of(&op->in[1], operands[1]),
               view_of(&op->in[2], operands[2]), length, view_of(&op->out[0], out[0]), lse, scratch);
  } else {
    k->backward(p->b->base.threads, &s, view_of(&op->in[0], operands[0]), view_of(&op->in[1], operands[1]),
                view_of(&op->in[2], operands[2]), view_of(&op->in[3], operands[3]), view_of(&op->in[4], operands[4]),
                operands[5], length, view_of(&op->out[0], out[0]), view_of(&op->out[1], out[1]),
                view_of(&op->out[2], out[2]), scratch);
  }
  return OK;
}

static status_t attention_create(struct plan *p) {
  struct attention_shape s = attention_shape(&p->op, NULL);
  const struct attention_kernels *k = p->b->kernels->attention;
  p->run = attention_run;
  (void)plan_reserve(p,
                     (p->op.direction == FORWARD ? k->forward_scratch : k->backward_scratch)(p->b->base.threads, &s));
  return OK;
}

const struct op_class layernorm_class = {
    .supports = layernorm_supports, .create = layernorm_create, .in_place = layernorm_in_place};
const struct op_class attention_class = {.supports = attention_supports, .create = attention_create};
