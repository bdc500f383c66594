// differentiate.c: reverse-mode differentiation of a graph. One rule for each operation says which backward operations
// give the gradients of its inputs; the walk goes through the list once, from the end, and stops at whatever no trained
// parameter feeds.
#include "graph/graph.h"

#include "base/mem.h"

#include <limits.h>

struct walk {
  struct graph *g;
  bool *wanted;        // by value id: a trained parameter feeds it
  struct value **grad; // by value id: the gradient so far; views hand theirs to their base
  struct value *scale; // input [1]: factor of the loss
  size_t forward_nodes;
};

static bool wants(const struct walk *w, const struct value *v) {
  return v && w->wanted[v->base ? v->base->id : v->id];
}

// grad(v) += d. The sum is an ordinary ADD, which graph_fuse turns into the epilogue of what makes `d`.
static void accumulate(struct walk *w, struct value *v, struct value *d) {
  if (!d || !wants(w, v)) return;
  if (v->base) {
    d = graph_reshape(w->g, d, &v->base->desc);
    v = v->base;
  }
  w->grad[v->id] = w->grad[v->id] ? graph_add(w->g, w->grad[v->id], d) : d;
}

// Append one backward operation of `n`; its outputs take the descriptors of `like` (NULL: left out).
static struct node *backward(struct walk *w, const struct node *n, direction_t direction, struct value *const *in,
                             int inputs, struct value *const *like, int outputs) {
  struct op op = n->op;
  op.direction = direction;
  op.inputs = inputs;
  op.outputs = outputs;
  struct tensor_desc out[OP_MAX_OUT] = {{0}};
  for (int i = 0; i < OP_MAX_IN; i++) op.in[i] = (struct tensor_desc){0};
  for (int i = 0; i < OP_MAX_OUT; i++) op.out[i] = (struct tensor_desc){0};
  for (int i = 0; i < outputs; i++) {
    if (like[i]) out[i] = like[i]->desc;
  }
  return graph_apply(w->g, &op, in, out);
}

static void one_gradient(struct walk *w, struct value *x, const struct node *made) {
  if (made) accumulate(w, x, made->out[0]);
}

// LINEAR, CONV, CONV_TRANSPOSE, CONV_EACH: x, w, b.
static void weighted(struct walk *w, const struct node *n, struct value *dy) {
  struct value *x = n->in[0], *weight = n->in[1], *bias = n->in[2];
  if (wants(w, weight) || wants(w, bias)) {
    struct node *made = backward(w, n, BACKWARD_WEIGHT, (struct value *[]){dy, x}, 2,
                                 (struct value *[]){weight, wants(w, bias) ? bias : NULL}, 2);
    if (made) {
      accumulate(w, weight, made->out[0]);
      if (made->out[1]) accumulate(w, bias, made->out[1]);
    }
  }
  if (wants(w, x)) {
    int inputs = n->op.kind == OP_LINEAR ? 3 : 2;
    one_gradient(w, x, backward(w, n, BACKWARD_DATA, (struct value *[]){dy, weight, NULL}, inputs, &x, 1));
  }
}

static struct value *sum_to(struct walk *w, struct value *d, const struct value *like) {
  if (!d || desc_same_shape(&d->desc, &like->desc)) return d;
  struct op op = {.kind = OP_SUM_TO, .inputs = 1, .outputs = 1};
  struct node *n = graph_apply(w->g, &op, &d, &like->desc);
  return n ? n->out[0] : NULL;
}

static void add(struct walk *w, const struct node *n, struct value *dy) {
  accumulate(w, n->in[0], dy);
  if (wants(w, n->in[1])) accumulate(w, n->in[1], sum_to(w, dy, n->in[1]));
}

static void multiply(struct walk *w, const struct node *n, struct value *dy) {
  if (wants(w, n->in[0])) accumulate(w, n->in[0], graph_multiply(w->g, dy, n->in[1]));
  if (wants(w, n->in[1])) accumulate(w, n->in[1], sum_to(w, graph_multiply(w->g, dy, n->in[0]), n->in[1]));
}

static void activation(struct walk *w, const struct node *n, struct value *dy) {
  activation_t a = n->op.attr.activation;
  struct value *saved = a == ACT_QUICKGELU || a == ACT_GELU_ERF ? n->in[0] : n->out[0];
  one_gradient(w, n->in[0], backward(w, n, BACKWARD_DATA, (struct value *[]){dy, saved}, 2, &n->in[0], 1));
}

static void layernorm(struct walk *w, const struct node *n, struct value *dy) {
  struct value *x = n->in[0], *gamma = n->in[1], *mean = n->out[1], *rstd = n->out[2];
  if (wants(w, gamma) || wants(w, n->in[2])) {
    struct node *made = backward(w, n, BACKWARD_WEIGHT, (struct value *[]){dy, x, mean, rstd}, 4,
                                 (struct value *[]){gamma, n->in[2]}, 2);
    if (made) {
      accumulate(w, gamma, made->out[0]);
      accumulate(w, n->in[2], made->out[1]);
    }
  }
  if (wants(w, x)) {
    one_gradient(w, x, backward(w, n, BACKWARD_DATA, (struct value *[]){dy, x, gamma, mean, rstd, NULL}, 6, &x, 1));
  }
}

// The statistics of a batch depend on x: what passes through them is the part with `dsums` and `sums`.
static void batchnorm(struct walk *w, const struct node *n, struct value *dy) {
  struct value *x = n->in[0], *mean = n->in[1], *var = n->in[2], *gamma = n->in[3], *beta = n->in[4];
  bool batch = mean->producer >= 0 && w->g->node[mean->producer]->op.kind == OP_BATCHNORM_MOMENTS;
  struct value *sums = batch ? w->g->node[mean->producer]->in[0] : NULL, *dsums = NULL;
  if (wants(w, gamma) || wants(w, beta) || batch) {
    struct op op = n->op;
    op.direction = BACKWARD_WEIGHT;
    op.inputs = 4;
    op.outputs = 3;
    struct tensor_desc total = TENSOR_DESC(DTYPE_F64, 2 * desc_columns(&x->desc));
    for (int i = 0; i < OP_MAX_IN; i++) op.in[i] = (struct tensor_desc){0};
    struct node *made = graph_apply(w->g, &op, (struct value *[]){dy, x, mean, var},
                                    (struct tensor_desc[]){gamma->desc, beta->desc, total});
    if (!made) return;
    accumulate(w, gamma, made->out[0]);
    accumulate(w, beta, made->out[1]);
    op = (struct op){.kind = OP_EXCHANGE, .inputs = 1, .outputs = 1};
    struct node *exchanged = batch && wants(w, x) ? graph_apply(w->g, &op, &made->out[2], &total) : NULL;
    dsums = exchanged ? exchanged->out[0] : NULL;
  }
  if (wants(w, x)) {
    struct value *in[] = {dy, x, mean, var, gamma, dsums, dsums ? sums : NULL};
    one_gradient(w, x, backward(w, n, BACKWARD_DATA, in, 7, &x, 1));
  }
}

static void attention(struct walk *w, const struct node *n, struct value *dy) {
  struct value *in[] = {dy, n->in[0], n->in[1], n->in[2], n->out[0], n->out[1], n->in[3], n->in[4]};
  struct node *made = backward(w, n, BACKWARD_DATA, in, 8, n->in, 3);
  for (int i = 0; made && i < 3; i++) accumulate(w, n->in[i], made->out[i]);
}

static void concat(struct walk *w, const struct node *n, struct value *dy) {
  int axis = n->op.attr.axis;
  int64_t start = 0;
  for (int i = 0; i < n->op.inputs; i++) {
    int64_t length = n->in[i]->desc.dim[axis];
    if (wants(w, n->in[i])) accumulate(w, n->in[i], graph_slice(w->g, dy, axis, start, length));
    start += length;
  }
}

static void transpose(struct walk *w, const struct node *n, struct value *dy) {
  struct op op = {.kind = OP_TRANSPOSE, .inputs = 1, .outputs = 1};
  for (int i = 0; i < n->in[0]->desc.rank; i++) op.attr.permutation[n->op.attr.permutation[i]] = i;
  one_gradient(w, n->in[0], graph_apply(w->g, &op, &dy, &n->in[0]->desc));
}

// A parameter of which every reader takes a slice, side by side along one axis, has the slices' gradients as its own, side by side.
struct tiles {
  const struct node *node[OP_MAX_IN]; // by start
  int count;                          // 0: it is read in another way
  int first;                          // the earliest in the list
};

static struct tiles tiles_of(const struct walk *w, const struct value *v) {
  struct tiles t = {.first = INT_MAX}, none = {0};
  if (v->kind != VALUE_PARAMETER) return none;
  for (size_t i = 0; i < w->forward_nodes; i++) {
    const struct node *n = w->g->node[i];
    for (int k = 0; k < n->op.inputs; k++) {
      if (!n->in[k] || (n->in[k] != v && n->in[k]->base != v)) continue;
      if (n->op.kind != OP_SLICE || n->in[k] != v || t.count == OP_MAX_IN) return none;
      int at = t.count++;
      for (; at > 0 && t.node[at - 1]->op.attr.start > n->op.attr.start; at--) t.node[at] = t.node[at - 1];
      t.node[at] = n;
      if ((int)i < t.first) t.first = (int)i;
    }
  }
  int64_t end = 0;
  for (int i = 0; i < t.count; i++) {
    const struct node *n = t.node[i];
    if (n->op.attr.axis != t.node[0]->op.attr.axis || n->op.attr.start != end) return none;
    end += n->out[0]->desc.dim[n->op.attr.axis];
  }
  return t.count > 1 && end == v->desc.dim[t.node[0]->op.attr.axis] ? t : none;
}

static void slice_gradient(struct walk *w, const struct node *n) {
  struct value *dy = w->grad[n->out[0]->id];
  if (dy) one_gradient(w, n->in[0], backward(w, n, BACKWARD_DATA, &dy, 1, &n->in[0], 1));
}

static void join_tiles(struct walk *w, struct value *v, const struct tiles *t) {
  struct value *part[OP_MAX_IN];
  bool whole = true;
  for (int i = 0; i < t->count; i++) {
    part[i] = w->grad[t->node[i]->out[0]->id];
    whole = whole && part[i];
  }
  if (whole) accumulate(w, v, graph_join(w->g, part, t->count, t->node[0]->op.attr.axis));
  for (int i = 0; i < t->count && !whole; i++) slice_gradient(w, t->node[i]);
}

static void slice(struct walk *w, const struct node *n) {
  struct tiles t = tiles_of(w, n->in[0]);
  if (t.count == 0) slice_gradient(w, n);
  if (t.count && n->out[0]->producer == t.first) join_tiles(w, n->in[0], &t); // the last one to be reached
}

// Parameters whose earliest slice the loss does not depend on.
static void join_rest(struct walk *w, size_t values) {
  for (size_t i = 0; i < values; i++) {
    struct value *v = w->g->value[i];
    struct tiles t = w->wanted[i] && !w->grad[i] ? tiles_of(w, v) : (struct tiles){0};
    if (t.count) join_tiles(w, v, &t);
  }
}

static status_t rule(struct walk *w, const struct node *n, struct value *dy) {
  switch (n->op.kind) {
  case OP_LINEAR:
  case OP_CONV:
  case OP_CONV_EACH:
  case OP_CONV_TRANSPOSE: weighted(w, n, dy); break;
  case OP_ADD: add(w, n, dy); break;
  case OP_MULTIPLY: multiply(w, n, dy); break;
  case OP_ACTIVATION: activation(w, n, dy); break;
  case OP_LAYERNORM: layernorm(w, n, dy); break;
  case OP_BATCHNORM: batchnorm(w, n, dy); break;
  case OP_ATTENTION: attention(w, n, dy); break;
  case OP_CONCAT: concat(w, n, dy); break;
  case OP_TRANSPOSE: transpose(w, n, dy); break;
  case OP_SUM_TO: accumulate(w, n->in[0], graph_expand(w->g, dy, &n->in[0]->desc)); break;
  case OP_EXPAND: accumulate(w, n->in[0], sum_to(w, dy, n->in[0])); break;
  case OP_SLICE: slice(w, n); break;
  case OP_DOUBLED_KERNEL:
  case OP_RESIZE: one_gradient(w, n->in[0], backward(w, n, BACKWARD_DATA, &dy, 1, &n->in[0], 1)); break;
  case OP_POOL:
    one_gradient(w, n->in[0], backward(w, n, BACKWARD_DATA, (struct value *[]){dy, n->out[1]}, 2, &n->in[0], 1));
    break;
  case OP_DROPOUT:
  case OP_TAKE_PLANE:
  case OP_TAKE_ROW:
    one_gradient(w, n->in[0], backward(w, n, BACKWARD_DATA, (struct value *[]){dy, n->in[1]}, 2, &n->in[0], 1));
    break;
  case OP_EMBED:
    one_gradient(w, n->in[1], backward(w, n, BACKWARD_WEIGHT, (struct value *[]){dy, n->in[0]}, 2, &n->in[1], 1));
    break;
  case OP_BATCHNORM_SUMS:
  case OP_BATCHNORM_MOMENTS:
  case OP_EXCHANGE: break; // BATCHNORM's gradient goes through them
  case OP_BATCHNORM_FOLD:
  case OP_CAST:
  case OP_PIXELS:
  case OP_SEGMENT_LOSS:
  case OP_SUM_SQUARES:
  case OP_ADAMW:
  case OP_KINDS: return FAIL(ERR_UNSUPPORTED, "%s has no gradient inside a graph", op_kind_name(n->op.kind));
  }
  return graph_status(w->g);
}

// Which values a trained parameter feeds.
static void mark(struct walk *w) {
  for (size_t i = 0; i < w->g->values; i++)
    w->wanted[i] = w->g->value[i]->kind == VALUE_PARAMETER && w->g->value[i]->trained;
  for (size_t i = 0; i < w->g->nodes; i++) {
    const struct node *n = w->g->node[i];
    bool any = false;
    for (int k = 0; k < n->op.inputs; k++) any = any || wants(w, n->in[k]);
    for (int k = 0; k < n->op.outputs; k++) {
      if (n->out[k]) w->wanted[n->out[k]->id] = any;
    }
  }
}

status_t graph_differentiate(struct graph *g, struct value *loss, struct value *scale) {
  TRY(graph_status(g));
  if (!loss || loss->producer < 0 || g->node[loss->producer]->op.kind != OP_SEGMENT_LOSS) {
    return FAIL(ERR_ARG, "differentiation starts at the result of a segmentation loss");
  }
  status_t st = OK;
  struct walk w = {.g = g, .scale = scale, .forward_nodes = g->nodes};
  size_t forward_values = g->values;
  TRY_GOTO(mem_alloc(&w.wanted, forward_values, sizeof *w.wanted), done);
  TRY_GOTO(mem_alloc(&w.grad, forward_values, sizeof *w.grad), done);
  mark(&w);
  const struct node *last = g->node[loss->producer];
  struct value *logits = last->in[0];
  if (!wants(&w, logits)) FAIL_GOTO(done, ERR_ARG, "nothing to train: no trained parameter feeds the loss");
  struct value *start[] = {logits, last->in[1], last->out[1], scale};
  one_gradient(&w, logits, backward(&w, last, BACKWARD_DATA, start, 4, &logits, 1));
  for (size_t i = w.forward_nodes; i-- > 0;) {
    const struct node *n = g->node[i];
    struct value *y = n->out[0];
    if (n == last || !y || !w.wanted[y->id] || !w.grad[y->id]) continue;
    TRY_GOTO(rule(&w, n, w.grad[y->id]), done);
  }
  join_rest(&w, forward_values);
  TRY_GOTO(graph_status(g), done);
  for (size_t i = 0; i < forward_values; i++) {
    struct value *v = g->value[i];
    if (v->kind == VALUE_PARAMETER && v->trained) v->gradient = w.grad[i];
  }
done:
  mem_free(&w.grad);
  mem_free(&w.wanted);
  return st;
}
