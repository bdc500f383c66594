// simplify.c: see graph.h. The search goes by what nodes are, not by what a model says.
#include "graph/graph.h"

#include "base/mem.h"

#include <stdlib.h>

// ---- BatchNorm in a convolution's weights ------------------------------------------------------------------------------------

static bool is_constant(const struct value *v) {
  return v->kind == VALUE_PARAMETER && !v->trained && !v->tracked;
}

// conv, BATCHNORM -> BATCHNORM_FOLD of the weights, conv. The fold takes the place of the convolution's node, which moves
// to that of the BATCHNORM.
static status_t fold_batchnorm(struct graph *g, size_t i, const int *readers) {
  struct node *n = g->node[i];
  if (n->op.kind != OP_BATCHNORM || n->op.direction != FORWARD || n->in[0]->producer < 0 || n->in[0]->base) return OK;
  if (readers[n->in[0]->id] != 1 || n->in[5] || n->op.attr.activation != ACT_NONE) return OK;
  for (int k = 1; k < 5; k++) {
    if (!is_constant(n->in[k])) return OK;
  }
  size_t from = (size_t)n->in[0]->producer;
  struct node *conv = g->node[from];
  if (conv->op.kind != OP_CONV || conv->op.attr.activation != ACT_NONE || conv->in[3]) return OK;
  struct value *w = conv->in[1], *b = conv->in[2];
  if (!is_constant(w) || (b && !is_constant(b))) return OK;
  struct op op = {.kind = OP_BATCHNORM_FOLD, .inputs = 6, .outputs = 2, .attr = {.epsilon = n->op.attr.epsilon}};
  struct node *fold = graph_apply(g, &op, (struct value *[]){w, b, n->in[1], n->in[2], n->in[3], n->in[4]},
                                  (struct tensor_desc[]){conv->in[1]->desc, n->in[4]->desc});
  if (!fold) return graph_status(g);
  g->nodes--; // it stands where the convolution stood; every operand is a parameter
  conv->in[1] = fold->out[0];
  conv->in[2] = fold->out[1];
  conv->op.in[1] = fold->out[0]->desc;
  conv->op.in[2] = fold->out[1]->desc;
  graph_take_over(g, i, from);
  g->node[from] = fold;
  for (int k = 0; k < 2; k++) fold->out[k]->producer = (int)from;
  return OK;
}

// ---- convolutions of a doubled picture -----------------------------------------------------------------------------------------

enum { LEAST_PIXELS = 256 }; // of the result of one sample: below, making the kernels costs more than it saves

static struct node *maker(struct node *const *node, const struct value *v) {
  return v->base || v->producer < 0 ? NULL : node[v->producer];
}

// The RESIZE that made `v`, where it doubles (nearest) and nobody else reads it; else NULL.
static struct node *doubling(struct node *const *node, const struct value *v, const int *readers) {
  struct node *n = maker(node, v);
  if (!n || n->op.kind != OP_RESIZE || n->op.direction != FORWARD || readers[v->id] != 1) return NULL;
  const struct tensor_desc *x = &n->op.in[0], *y = &n->op.out[0];
  bool twice = y->dim[1] == 2 * x->dim[1] && y->dim[2] == 2 * x->dim[2];
  return twice && n->op.attr.resize == RESIZE_NEAREST && !n->op.attr.align_corners ? n : NULL;
}

// A convolution that can be divided: the RESIZE that it sees, and the CONCAT between, or NULL.
struct division {
  struct node *resize, *join;
};

static struct division find_division(struct node *const *node, const struct node *n, const int *readers) {
  struct division none = {0}, d = {0};
  if (n->op.kind != OP_CONV || n->op.direction != FORWARD || n->in[3] || n->op.attr.activation != ACT_NONE) return none;
  for (int i = 0; i < 2; i++) {
    bool same = n->op.attr.stride[i] == 1 && n->op.attr.pad[i] == 1 && n->op.attr.dilation[i] == 1;
    if (!same || n->op.in[1].dim[2 + i] != 3) return none;
  }
  if (n->op.attr.groups != 1 || n->op.out[0].dim[1] * n->op.out[0].dim[2] < LEAST_PIXELS) return none;
  struct node *made = maker(node, n->in[0]);
  if (made && made->op.kind == OP_CONCAT && made->op.attr.axis == 3 && readers[n->in[0]->id] == 1) {
    d.join = made;
    if (made->op.inputs > 1) d.resize = doubling(node, made->in[0], readers);
  } else {
    d.resize = doubling(node, n->in[0], readers);
  }
  return d.resize ? d : none;
}

// The nodes that stand for convolution `n`; the last one writes what it wrote.
static status_t divide(struct graph *g, const struct node *n, const struct division *d) {
  struct value *x = d->resize->in[0], *w = n->in[1], *b = n->in[2], *y;
  if (!d->join) {
    y = graph_conv_transpose(g, x, graph_doubled_kernel(g, w), b, 2, 1);
  } else {
    int64_t c = desc_columns(&x->desc), rest = w->desc.dim[1] - c;
    struct value *first = graph_doubled_kernel(g, graph_slice(g, w, 1, 0, c)), *second = graph_slice(g, w, 1, c, rest);
    struct value *part = d->join->in[1];
    if (d->join->op.inputs > 2) part = graph_join(g, d->join->in + 1, d->join->op.inputs - 1, 3);
    first = graph_conv_transpose(g, x, first, NULL, 2, 1);
    y = graph_add(g, first, graph_conv(g, part, second, b, 1, 1));
  }
  TRY(graph_status(g));
  struct node *last = g->node[g->nodes - 1];
  last->out[0] = n->out[0];
  n->out[0]->producer = y->producer;
  y->producer = -1; // nobody reads it
  return OK;
}

static status_t divide_all(struct graph *g, const int *readers) {
  status_t st = OK;
  struct division *division = NULL;
  struct node **old = NULL;
  bool *gone = NULL;
  size_t count = g->nodes, i = 0, found = 0;
  TRY_GOTO(mem_alloc(&division, count + 1, sizeof *division), done);
  TRY_GOTO(mem_alloc(&gone, count + 1, sizeof *gone), done);
  for (i = 0; i < count; i++) {
    division[i] = find_division(g->node, g->node[i], readers);
    if (!division[i].resize) continue;
    found++;
    gone[i] = gone[division[i].resize->out[0]->producer] = true;
    if (division[i].join) gone[division[i].join->out[0]->producer] = true;
  }
  if (!found) goto done;
  old = g->node;
  g->node = NULL;
  g->nodes = g->node_capacity = 0;
  for (i = 0; i < count && st == OK; i++) {
    if (division[i].resize) st = divide(g, old[i], &division[i]);
    if (st == OK && !gone[i]) st = graph_append(g, old[i]);
    if (st != OK) gone[i] = true; // in no list
  }
  for (size_t k = 0; k < count; k++) {
    if (gone[k] && !division[k].resize) old[k]->out[0]->producer = -1; // nobody reads it
    if (gone[k] || k >= i) mem_free(&old[k]);
  }
  if (st != OK) g->status = st;
done:
  free(old);
  mem_free(&gone);
  mem_free(&division);
  return st;
}

status_t graph_simplify(struct graph *g, struct value *const *keep, size_t keeps) {
  TRY(graph_status(g));
  int *readers = NULL;
  TRY(graph_count_readers(g, keep, keeps, &readers));
  status_t st = OK;
  for (size_t i = 0; st == OK && i < g->nodes; i++) st = fold_batchnorm(g, i, readers);
  if (st == OK) st = divide_all(g, readers);
  mem_free(&readers);
  return st;
}
