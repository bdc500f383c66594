// build.c: values and operations of a graph, with shapes inferred and checked as they are added.
#include "graph/graph.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

status_t graph_create(dtype_t real, struct graph **out) {
  TRY(mem_alloc(out, 1, sizeof **out));
  (*out)->real = real;
  return OK;
}

void graph_destroy(struct graph **g) {
  if (!*g) return;
  for (size_t i = 0; i < (*g)->values; i++) {
    mem_free(&(*g)->value[i]->name);
    mem_free(&(*g)->value[i]->content);
    mem_free(&(*g)->value[i]);
  }
  for (size_t i = 0; i < (*g)->nodes; i++) mem_free(&(*g)->node[i]);
  free((*g)->value);
  free((*g)->node);
  mem_free(g);
}

status_t graph_status(const struct graph *g) {
  return g->status;
}

static void *failed(struct graph *g, status_t st) {
  if (g->status == OK) g->status = st;
  return NULL;
}

static struct value *new_value(struct graph *g, value_kind_t kind, const char *name, const struct tensor_desc *desc) {
  struct value *v = NULL;
  status_t st = desc_check(desc, name ? name : "a value of the graph");
  if (st == OK) st = mem_grow(&g->value, &g->value_capacity, g->values + 1, sizeof *g->value);
  if (st == OK) st = mem_alloc(&v, 1, sizeof *v);
  if (st == OK && name) st = mem_copy_text(&v->name, name);
  if (st != OK) {
    mem_free(&v);
    return failed(g, st);
  }
  v->id = (int)g->values;
  v->kind = kind;
  v->desc = *desc;
  v->producer = -1;
  g->value[g->values++] = v;
  return v;
}

struct value *graph_find(const struct graph *g, const char *name) {
  for (size_t i = 0; i < g->values; i++) {
    if (g->value[i]->name && !strcmp(g->value[i]->name, name)) return g->value[i];
  }
  return NULL;
}

struct value *graph_input(struct graph *g, const char *name, const struct tensor_desc *desc) {
  if (g->status != OK) return NULL;
  if (graph_find(g, name)) return failed(g, FAIL(ERR_ARG, "the graph has '%s' twice", name));
  return new_value(g, VALUE_INPUT, name, desc);
}

struct value *graph_parameter(struct graph *g, const char *name, const struct tensor_desc *desc, struct init init,
                              bool trained, bool decay) {
  struct value *v = graph_input(g, name, desc);
  if (!v) return NULL;
  v->kind = VALUE_PARAMETER;
  v->init = init;
  v->trained = trained;
  v->decay = decay;
  return v;
}

struct value *graph_constant(struct graph *g, const struct tensor_desc *desc, const double *values) {
  if (g->status != OK) return NULL;
  struct value *v = new_value(g, VALUE_CONSTANT, NULL, desc);
  if (!v) return NULL;
  size_t count = (size_t)desc_count(desc);
  status_t st = mem_alloc(&v->content, count, sizeof *v->content);
  if (st != OK) return failed(g, st);
  memcpy(v->content, values, count * sizeof *values);
  return v;
}

struct node *graph_apply(struct graph *g, const struct op *op, struct value *const *in, const struct tensor_desc *out) {
  if (g->status != OK) return NULL;
  struct node *n = NULL;
  status_t st = mem_grow(&g->node, &g->node_capacity, g->nodes + 1, sizeof *g->node);
  if (st == OK) st = mem_alloc(&n, 1, sizeof *n);
  if (st != OK) return failed(g, st);
  n->op = *op;
  for (int i = 0; i < op->inputs; i++) {
    n->in[i] = in[i];
    n->op.in[i] = in[i] ? in[i]->desc : (struct tensor_desc){0};
  }
  for (int i = 0; i < op->outputs; i++) n->op.out[i] = out[i];
  st = op_check(&n->op);
  for (int i = 0; st == OK && i < op->outputs; i++) {
    if (out[i].dtype == DTYPE_NONE) continue;
    n->out[i] = new_value(g, VALUE_RESULT, NULL, &out[i]);
    if (!n->out[i]) {
      mem_free(&n);
      return NULL;
    }
    n->out[i]->producer = (int)g->nodes;
  }
  if (st != OK) {
    mem_free(&n);
    return failed(g, st);
  }
  g->node[g->nodes++] = n;
  return n;
}

// A node with one result.
static struct value *apply(struct graph *g, const struct op *op, struct value *const *in,
                           const struct tensor_desc *out) {
  struct node *n = graph_apply(g, op, in, out);
  return n ? n->out[0] : NULL;
}

struct value *graph_linear(struct graph *g, struct value *x, struct value *w, struct value *b) {
  if (!x || !w) return NULL;
  struct op op = {.kind = OP_LINEAR, .inputs = 4, .outputs = 1};
  struct tensor_desc y = x->desc;
  if (y.rank < 1 || w->desc.rank != 2) return failed(g, FAIL(ERR_SHAPE, "linear wants x[..,K] and w[N,K]"));
  y.dim[y.rank - 1] = w->desc.dim[0];
  return apply(g, &op, (struct value *[]){x, w, b, NULL}, &y);
}

static struct op conv_op(op_kind_t kind, int inputs, int stride, int pad) {
  return (struct op){.kind = kind,
                     .inputs = inputs,
                     .outputs = 1,
                     .attr = {.stride = {stride, stride}, .pad = {pad, pad}, .dilation = {1, 1}, .groups = 1}};
}

struct value *graph_conv(struct graph *g, struct value *x, struct value *w, struct value *b, int stride, int pad) {
  return graph_conv_grouped(g, x, w, b, stride, pad, 1, 1);
}

struct value *graph_conv_grouped(struct graph *g, struct value *x, struct value *w, struct value *b, int stride,
                                 int pad, int dilation, int groups) {
  if (!x || !w) return NULL;
  if (x->desc.rank != 4 || w->desc.rank != 4 || stride < 1)
    return failed(g, FAIL(ERR_SHAPE, "conv wants x[B,H,W,C], w[O,C/groups,kh,kw] and a stride"));
  struct op op = conv_op(OP_CONV, 4, stride, pad);
  op.attr.dilation[0] = op.attr.dilation[1] = dilation;
  op.attr.groups = groups;
  const int64_t *in = x->desc.dim, *k = w->desc.dim;
  int64_t high = in[1] + 2 * pad - dilation * (k[2] - 1) - 1, wide = in[2] + 2 * pad - dilation * (k[3] - 1) - 1;
  struct tensor_desc y = TENSOR_DESC(x->desc.dtype, in[0], high / stride + 1, wide / stride + 1, k[0]);
  return apply(g, &op, (struct value *[]){x, w, b, NULL}, &y);
}

struct value *graph_conv_each(struct graph *g, struct value *x, struct value *w, struct value *b, int pad) {
  if (!x || !w) return NULL;
  if (x->desc.rank != 4 || w->desc.rank != 4)
    return failed(g, FAIL(ERR_SHAPE, "conv each wants x[B,H,W,C] and w[B,C,kh,kw]"));
  struct op op = {.kind = OP_CONV_EACH, .inputs = 3, .outputs = 1, .attr = {.pad = {pad, pad}}};
  const int64_t *in = x->desc.dim, *k = w->desc.dim;
  struct tensor_desc y = TENSOR_DESC(x->desc.dtype, in[0], in[1] + 2 * pad - k[2] + 1, in[2] + 2 * pad - k[3] + 1, 1);
  return apply(g, &op, (struct value *[]){x, w, b}, &y);
}

static struct value *pool(struct graph *g, struct value *x, pool_t how, const int kernel[2], int stride, int pad) {
  struct op op = {
      .kind = OP_POOL,
      .inputs = 1,
      .outputs = 2,
      .attr = {.pool = how, .kernel = {kernel[0], kernel[1]}, .stride = {stride, stride}, .pad = {pad, pad}}};
  const int64_t *in = x->desc.dim;
  struct tensor_desc y = TENSOR_DESC(x->desc.dtype, in[0], (in[1] + 2 * pad - kernel[0]) / stride + 1,
                                     (in[2] + 2 * pad - kernel[1]) / stride + 1, in[3]);
  struct tensor_desc where = y;
  where.dtype = how == POOL_MAX ? DTYPE_U8 : DTYPE_NONE;
  return apply(g, &op, &x, (struct tensor_desc[]){y, where});
}

struct value *graph_pool(struct graph *g, struct value *x, pool_t how, int kernel, int stride, int pad) {
  if (!x) return NULL;
  if (x->desc.rank != 4 || stride < 1) return failed(g, FAIL(ERR_SHAPE, "pool wants x[B,H,W,C] and a stride"));
  return pool(g, x, how, (int[]){kernel, kernel}, stride, pad);
}

struct value *graph_average(struct graph *g, struct value *x) {
  if (!x) return NULL;
  if (x->desc.rank != 4 || x->desc.dim[1] > INT32_MAX || x->desc.dim[2] > INT32_MAX)
    return failed(g, FAIL(ERR_SHAPE, "average wants x[B,H,W,C]"));
  return pool(g, x, POOL_AVERAGE, (int[]){(int)x->desc.dim[1], (int)x->desc.dim[2]}, 1, 0);
}

struct value *graph_conv_transpose(struct graph *g, struct value *x, struct value *w, struct value *b, int stride,
                                   int pad) {
  if (!x || !w) return NULL;
  if (x->desc.rank != 4 || w->desc.rank != 4) {
    return failed(g, FAIL(ERR_SHAPE, "transposed conv wants x[B,H,W,C] and w[C,O,kh,kw]"));
  }
  struct op op = conv_op(OP_CONV_TRANSPOSE, 3, stride, pad);
  const int64_t *in = x->desc.dim, *k = w->desc.dim;
  struct tensor_desc y = TENSOR_DESC(x->desc.dtype, in[0], (in[1] - 1) * stride - 2 * pad + k[2],
                                     (in[2] - 1) * stride - 2 * pad + k[3], k[1]);
  return apply(g, &op, (struct value *[]){x, w, b}, &y);
}

struct value *graph_doubled_kernel(struct graph *g, struct value *w) {
  if (!w) return NULL;
  if (w->desc.rank != 4) return failed(g, FAIL(ERR_SHAPE, "doubled kernel wants w[O,C,3,3]"));
  struct op op = {.kind = OP_DOUBLED_KERNEL, .inputs = 1, .outputs = 1};
  return apply(g, &op, &w, &TENSOR_DESC(w->desc.dtype, w->desc.dim[1], w->desc.dim[0], 4, 4));
}

struct value *graph_activation(struct graph *g, struct value *x, activation_t activation) {
  if (!x) return NULL;
  struct op op = {.kind = OP_ACTIVATION, .inputs = 1, .outputs = 1, .attr = {.activation = activation}};
  return apply(g, &op, &x, &x->desc);
}

static struct value *binary(struct graph *g, op_kind_t kind, struct value *a, struct value *b) {
  if (!a || !b) return NULL;
  struct op op = {.kind = kind, .inputs = 2, .outputs = 1};
  return apply(g, &op, (struct value *[]){a, b}, &a->desc);
}

struct value *graph_add(struct graph *g, struct value *a, struct value *b) {
  return binary(g, OP_ADD, a, b);
}
struct value *graph_multiply(struct graph *g, struct value *a, struct value *b) {
  return binary(g, OP_MULTIPLY, a, b);
}

struct value *graph_expand(struct graph *g, struct value *x, const struct tensor_desc *to) {
  if (!x) return NULL;
  struct op op = {.kind = OP_EXPAND, .inputs = 1, .outputs = 1};
  return apply(g, &op, &x, to);
}

struct value *graph_layernorm(struct graph *g, struct value *x, struct value *gamma, struct value *beta,
                              double epsilon) {
  if (!x || !gamma || !beta) return NULL;
  struct op op = {.kind = OP_LAYERNORM, .inputs = 3, .outputs = 3, .attr = {.epsilon = epsilon}};
  struct tensor_desc rows = TENSOR_DESC(g->real, desc_rows(&x->desc));
  return apply(g, &op, (struct value *[]){x, gamma, beta}, (struct tensor_desc[]){x->desc, rows, rows});
}

struct value *graph_batchnorm_fixed(struct graph *g, struct value *x, struct value *gamma, struct value *beta,
                                    struct value *mean, struct value *var, double epsilon) {
  if (!x || !gamma || !beta || !mean || !var) return NULL;
  struct op op = {.kind = OP_BATCHNORM, .inputs = 6, .outputs = 1, .attr = {.epsilon = epsilon}};
  return apply(g, &op, (struct value *[]){x, mean, var, gamma, beta, NULL}, &x->desc);
}

struct value *graph_batchnorm(struct graph *g, struct value *x, struct value *gamma, struct value *beta,
                              struct value *running_mean, struct value *running_var, double epsilon, double momentum) {
  if (!x || !running_mean || !running_var) return NULL;
  int64_t c = desc_columns(&x->desc);
  struct op op = {.kind = OP_BATCHNORM_SUMS, .inputs = 1, .outputs = 1};
  struct tensor_desc sums = TENSOR_DESC(DTYPE_F64, 2 * c + 1), each = TENSOR_DESC(g->real, c);
  struct value *s = apply(g, &op, &x, &sums);
  if (!s) return NULL;
  op.kind = OP_EXCHANGE;
  s = apply(g, &op, &s, &sums);
  op = (struct op){.kind = OP_BATCHNORM_MOMENTS, .inputs = 3, .outputs = 4, .attr = {.momentum = momentum}};
  struct node *n = s ? graph_apply(g, &op, (struct value *[]){s, running_mean, running_var},
                                   (struct tensor_desc[]){each, each, each, each})
                     : NULL;
  if (!n) return NULL;
  running_mean->update = n->out[2];
  running_var->update = n->out[3];
  return graph_batchnorm_fixed(g, x, gamma, beta, n->out[0], n->out[1], epsilon);
}

struct value *graph_dropout(struct graph *g, struct value *x, struct value *noise, double dropout, int64_t stream) {
  if (!x || !noise) return NULL;
  struct op op = {.kind = OP_DROPOUT, .inputs = 2, .outputs = 1, .attr = {.dropout = dropout, .stream = stream}};
  return apply(g, &op, (struct value *[]){x, noise}, &x->desc);
}

struct value *graph_attention(struct graph *g, struct value *q, struct value *k, struct value *v, int heads,
                              double scale, bool causal) {
  return graph_attention_with(g, q, k, v, heads, scale, causal, &(struct attention_extra){0});
}

struct value *graph_attention_with(struct graph *g, struct value *q, struct value *k, struct value *v, int heads,
                                   double scale, bool causal, const struct attention_extra *extra) {
  if (!q || !k || !v) return NULL;
  struct op op = {
      .kind = OP_ATTENTION, .inputs = 5, .outputs = 2, .attr = {.heads = heads, .causal = causal, .scale = scale}};
  if (extra->noise) {
    op.attr.dropout = extra->dropout;
    op.attr.stream = extra->stream;
  }
  if (q->desc.rank != 3) return failed(g, FAIL(ERR_SHAPE, "attention wants q[B,T,D]"));
  struct tensor_desc lse = TENSOR_DESC(g->real, q->desc.dim[0], heads, q->desc.dim[1]);
  return apply(g, &op, (struct value *[]){q, k, v, extra->length, extra->noise}, (struct tensor_desc[]){q->desc, lse});
}

struct value *graph_embed(struct graph *g, struct value *id, struct value *table) {
  if (!id || !table) return NULL;
  struct op op = {.kind = OP_EMBED, .inputs = 2, .outputs = 1};
  if (id->desc.rank != 2 || table->desc.rank != 2)
    return failed(g, FAIL(ERR_SHAPE, "embed wants id[B,L] and table[V,D]"));
  struct tensor_desc y = TENSOR_DESC(table->desc.dtype, id->desc.dim[0], id->desc.dim[1], table->desc.dim[1]);
  return apply(g, &op, (struct value *[]){id, table}, &y);
}

struct value *graph_take_row(struct graph *g, struct value *x, struct value *row) {
  if (!x || !row) return NULL;
  struct op op = {.kind = OP_TAKE_ROW, .inputs = 2, .outputs = 1};
  if (x->desc.rank != 3) return failed(g, FAIL(ERR_SHAPE, "take row wants x[B,T,D]"));
  struct tensor_desc y = TENSOR_DESC(x->desc.dtype, x->desc.dim[0], x->desc.dim[2]);
  return apply(g, &op, (struct value *[]){x, row}, &y);
}

struct value *graph_take_plane(struct graph *g, struct value *x, struct value *plane) {
  if (!x || !plane) return NULL;
  struct op op = {.kind = OP_TAKE_PLANE, .inputs = 2, .outputs = 1};
  if (x->desc.rank != 4) return failed(g, FAIL(ERR_SHAPE, "take plane wants x[B,H,W,P]"));
  struct tensor_desc y = TENSOR_DESC(x->desc.dtype, x->desc.dim[0], x->desc.dim[1], x->desc.dim[2]);
  return apply(g, &op, (struct value *[]){x, plane}, &y);
}

struct value *graph_join(struct graph *g, struct value *const *part, int parts, int axis) {
  if (parts < 1 || parts > OP_MAX_IN) return failed(g, FAIL(ERR_SHAPE, "concat wants 1 to %d operands", OP_MAX_IN));
  for (int i = 0; i < parts; i++) {
    if (!part[i]) return NULL;
  }
  struct op op = {.kind = OP_CONCAT, .inputs = parts, .outputs = 1, .attr = {.axis = axis}};
  struct tensor_desc y = part[0]->desc;
  if (axis < 0 || axis >= y.rank) return failed(g, FAIL(ERR_SHAPE, "concat: bad axis %d", axis));
  for (int i = 1; i < parts; i++) {
    if (part[i]->desc.rank != y.rank) return failed(g, FAIL(ERR_SHAPE, "concat: operands of several ranks"));
    y.dim[axis] += part[i]->desc.dim[axis];
  }
  return apply(g, &op, part, &y);
}

struct value *graph_concat(struct graph *g, struct value *a, struct value *b, int axis) {
  return graph_join(g, (struct value *[]){a, b}, 2, axis);
}

struct value *graph_slice(struct graph *g, struct value *x, int axis, int64_t start, int64_t length) {
  if (!x) return NULL;
  if (axis < 0 || axis >= x->desc.rank) return failed(g, FAIL(ERR_SHAPE, "slice: bad axis %d", axis));
  struct op op = {.kind = OP_SLICE, .inputs = 1, .outputs = 1, .attr = {.axis = axis, .start = start}};
  struct tensor_desc y = x->desc;
  y.dim[axis] = length;
  return apply(g, &op, &x, &y);
}

struct value *graph_resize(struct graph *g, struct value *x, int64_t height, int64_t width, resize_t how,
                           bool align_corners) {
  if (!x) return NULL;
  if (x->desc.rank != 4) return failed(g, FAIL(ERR_SHAPE, "resize wants x[B,H,W,C]"));
  struct op op = {
      .kind = OP_RESIZE, .inputs = 1, .outputs = 1, .attr = {.resize = how, .align_corners = align_corners}};
  struct tensor_desc y = TENSOR_DESC(x->desc.dtype, x->desc.dim[0], height, width, x->desc.dim[3]);
  return apply(g, &op, &x, &y);
}

struct value *graph_transpose(struct graph *g, struct value *x) {
  if (!x) return NULL;
  if (x->desc.rank != 2) return failed(g, FAIL(ERR_SHAPE, "transpose wants a matrix"));
  struct op op = {.kind = OP_TRANSPOSE, .inputs = 1, .outputs = 1, .attr = {.permutation = {1, 0}}};
  return apply(g, &op, &x, &TENSOR_DESC(x->desc.dtype, x->desc.dim[1], x->desc.dim[0]));
}

struct value *graph_pixels(struct graph *g, struct value *p, const double mean[3], const double std[3]) {
  if (!p) return NULL;
  struct op op = {.kind = OP_PIXELS, .inputs = 1, .outputs = 1};
  memcpy(op.attr.mean, mean, sizeof op.attr.mean);
  memcpy(op.attr.std, std, sizeof op.attr.std);
  struct tensor_desc y = p->desc;
  y.dtype = g->real;
  return apply(g, &op, &p, &y);
}

struct value *graph_reshape(struct graph *g, struct value *x, const struct tensor_desc *to) {
  if (!x || g->status != OK) return NULL;
  char a[DESC_TEXT], b[DESC_TEXT];
  if (desc_check(to, "reshape") != OK || to->dtype != x->desc.dtype || desc_count(to) != desc_count(&x->desc)) {
    return failed(g, FAIL(ERR_SHAPE, "cannot reshape %s to %s", desc_text(&x->desc, a), desc_text(to, b)));
  }
  struct value *v = new_value(g, VALUE_VIEW, NULL, to);
  if (v) v->base = x->base ? x->base : x;
  return v;
}

struct value *graph_segment_loss(struct graph *g, struct value *logits, struct value *target, loss_t loss,
                                 struct value **sums) {
  *sums = NULL;
  if (!logits || !target) return NULL;
  struct op op = {.kind = OP_SEGMENT_LOSS, .inputs = 2, .outputs = 2, .attr = {.loss = loss}};
  int64_t batch = logits->desc.dim[0];
  struct node *n = graph_apply(g, &op, (struct value *[]){logits, target},
                               (struct tensor_desc[]){TENSOR_DESC(g->real, batch), TENSOR_DESC(g->real, batch, 4)});
  if (!n) return NULL;
  *sums = n->out[1];
  return n->out[0];
}

// ---- for the passes ----------------------------------------------------------------------------------------------------

status_t graph_count_readers(const struct graph *g, struct value *const *keep, size_t keeps, int **out) {
  TRY(mem_alloc(out, g->values ? g->values : 1, sizeof **out));
  for (size_t i = 0; i < g->nodes; i++) {
    for (int k = 0; k < g->node[i]->op.inputs; k++) {
      if (g->node[i]->in[k]) (*out)[g->node[i]->in[k]->id]++;
    }
  }
  for (size_t i = 0; i < g->values; i++) {
    if (g->value[i]->base) (*out)[g->value[i]->base->id]++;
    if (g->value[i]->gradient) (*out)[g->value[i]->gradient->id]++;
    if (g->value[i]->update) (*out)[g->value[i]->update->id]++;
  }
  for (size_t i = 0; i < keeps; i++) {
    if (keep[i]) (*out)[keep[i]->id]++;
  }
  return OK;
}

void graph_take_over(struct graph *g, size_t n, size_t into) {
  struct node *old = g->node[n], *product = g->node[into];
  product->out[0] = old->out[0];
  product->op.out[0] = old->out[0]->desc;
  product->out[0]->producer = (int)n;
  mem_free(&g->node[n]);
  g->node[n] = product;
  g->node[into] = NULL;
}

status_t graph_append(struct graph *g, struct node *n) {
  TRY(mem_grow(&g->node, &g->node_capacity, g->nodes + 1, sizeof *g->node));
  for (int k = 0; k < n->op.outputs; k++) {
    if (n->out[k]) n->out[k]->producer = (int)g->nodes;
  }
  g->node[g->nodes++] = n;
  return OK;
}
