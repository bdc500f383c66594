// pointwise.c: ACTIVATION, ADD, MULTIPLY, EXPAND, CAST and SUM_TO on own kernels.
#include "backend/onednn/inside.h"

#include "base/mem.h"

static bool supports(const struct onednn *b, const struct op *op) {
  (void)b;
  return op_is_single(op);
}

static bool same_place(const struct op *op, int out, int in) {
  (void)op, (void)out, (void)in;
  return true; // every element is read before its place is written
}

static void release(struct plan *p) {
  mem_free(&p->state);
}

// y of `large` elements, with `small` right-aligned under it; neighbouring dims that behave alike become one.
static void broadcast_of(const struct tensor_desc *large, const struct tensor_desc *small, struct broadcast *g) {
  int64_t stride = 1, steps[TENSOR_MAX_RANK];
  bool moves[TENSOR_MAX_RANK];
  for (int i = large->rank - 1; i >= 0; i--) {
    int at = i - (large->rank - small->rank);
    moves[i] = at >= 0 && small->dim[at] != 1;
    steps[i] = moves[i] ? stride : 0;
    if (moves[i]) stride *= small->dim[at];
  }
  *g = (struct broadcast){0};
  bool last = false;
  for (int i = 0; i < large->rank; i++) {
    if (large->dim[i] == 1) continue;
    if (g->rank && last == moves[i]) {
      g->dim[g->rank - 1] *= large->dim[i];
      g->stride[g->rank - 1] = steps[i];
    } else {
      g->dim[g->rank] = large->dim[i];
      g->stride[g->rank++] = steps[i];
    }
    last = moves[i];
  }
  if (!g->rank) *g = (struct broadcast){.rank = 1, .dim = {1}, .stride = {1}};
}

static status_t run_activation(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct op *op = &p->op;
  const struct pointwise_kernels *k = p->b->kernels->pointwise;
  int64_t n = desc_count(&op->in[0]);
  struct view a = view_of(&op->in[0], operands[0]), y = view_of(&op->out[0], operands[op->inputs]);
  if (op->direction == FORWARD) {
    k->activate(p->b->base.threads, op->attr.activation, n, a, y);
  } else {
    k->activate_backward(p->b->base.threads, op->attr.activation, n, a, view_of(&op->in[1], operands[1]), y);
  }
  return OK;
}

static status_t create_activation(struct plan *p) {
  p->run = run_activation;
  return OK;
}

static status_t run_cast(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct op *op = &p->op;
  p->b->kernels->pointwise->cast(p->b->base.threads, desc_count(&op->in[0]), view_of(&op->in[0], operands[0]),
                                 view_of(&op->out[0], operands[op->inputs]));
  return OK;
}

static status_t create_cast(struct plan *p) {
  p->run = run_cast;
  return OK;
}

static bool cast_supports(const struct onednn *b, const struct op *op) {
  (void)b;
  dtype_t x = op->in[0].dtype, y = op->out[0].dtype;
  return (is_real(x) || x == DTYPE_F64) && (is_real(y) || y == DTYPE_F64);
}

static status_t run_combine(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct op *op = &p->op;
  const struct pointwise_kernels *k = p->b->kernels->pointwise;
  (op->kind == OP_ADD ? k->add : k->multiply)(p->b->base.threads, p->state, view_of(&op->in[0], operands[0]),
                                              view_of(&op->in[1], operands[1]),
                                              view_of(&op->out[0], operands[op->inputs]));
  return OK;
}

static status_t create_combine(struct plan *p) {
  p->run = run_combine;
  p->release = release;
  TRY(mem_alloc(&p->state, 1, sizeof(struct broadcast)));
  broadcast_of(&p->op.in[0], &p->op.in[1], p->state);
  return OK;
}

static status_t run_expand(struct plan *p, void *const *operands, char *scratch) {
  (void)scratch;
  const struct op *op = &p->op;
  p->b->kernels->pointwise->expand(p->b->base.threads, p->state, view_of(&op->in[0], operands[0]),
                                   view_of(&op->out[0], operands[op->inputs]));
  return OK;
}

static status_t create_expand(struct plan *p) {
  p->run = run_expand;
  p->release = release;
  TRY(mem_alloc(&p->state, 1, sizeof(struct broadcast)));
  broadcast_of(&p->op.out[0], &p->op.in[0], p->state);
  return OK;
}

static status_t run_sum_to(struct plan *p, void *const *operands, char *scratch) {
  const struct op *op = &p->op;
  p->b->kernels->reduce->sum_to(p->b->base.threads, p->state, view_of(&op->in[0], operands[0]),
                                view_of(&op->out[0], operands[op->inputs]), (float *)(void *)scratch);
  return OK;
}

static status_t create_sum_to(struct plan *p) {
  const struct tensor_desc *x = &p->op.in[0], *y = &p->op.out[0];
  p->run = run_sum_to;
  p->release = release;
  TRY(mem_alloc(&p->state, 1, sizeof(struct reduction)));
  struct reduction *g = p->state;
  for (int i = 0; i < x->rank; i++) {
    int at = i - (x->rank - y->rank);
    bool keep = at >= 0 && y->dim[at] != 1;
    if (x->dim[i] == 1) continue;
    if (g->rank && g->keep[g->rank - 1] == keep) {
      g->dim[g->rank - 1] *= x->dim[i];
    } else {
      g->dim[g->rank] = x->dim[i];
      g->keep[g->rank++] = keep;
    }
  }
  (void)plan_reserve(p, sizeof(float) * REDUCE_CHUNKS * (size_t)(desc_count(y) + 16));
  return OK;
}

const struct op_class activation_class = {.supports = supports, .create = create_activation, .in_place = same_place};
const struct op_class cast_class = {.supports = cast_supports, .create = create_cast, .in_place = same_place};
const struct op_class combine_class = {.supports = supports, .create = create_combine, .in_place = same_place};
const struct op_class expand_class = {.supports = supports, .create = create_expand};
const struct op_class sum_to_class = {.supports = supports, .create = create_sum_to};
