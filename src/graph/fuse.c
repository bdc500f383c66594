// fuse.c: epilogues. An ACTIVATION or ADD whose operand comes from a product and is read by nobody else is done by the
// product while its result is still in registers (oneDNN post-ops, cuBLASLt and cuDNN epilogues).
#include "graph/graph.h"

#include "base/mem.h"

static bool is_product(op_kind_t kind) {
  return kind == OP_LINEAR || kind == OP_CONV || kind == OP_CONV_TRANSPOSE;
}

// The slot of the residual operand `r`, -1 where the operation has none.
static int residual_slot(const struct op *op) {
  if (op->direction == FORWARD && (op->kind == OP_LINEAR || op->kind == OP_CONV)) return 3;
  if (op->direction == FORWARD && op->kind == OP_BATCHNORM) return 5;
  if (op->direction == BACKWARD_DATA && op->kind == OP_LINEAR) return 2;
  if (op->direction == BACKWARD_DATA && op->kind == OP_LAYERNORM) return 5;
  return -1;
}

// Number of readers of each value: nodes, views and the outside.
static status_t count_readers(const struct graph *g, struct value *const *keep, size_t keeps, int **out) {
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

// Let node `into` write what node `n` wrote, and take n's place in the order.
static void take_over(struct graph *g, size_t n, size_t into) {
  struct node *old = g->node[n], *product = g->node[into];
  product->out[0] = old->out[0];
  product->op.out[0] = old->out[0]->desc;
  product->out[0]->producer = (int)n;
  mem_free(&g->node[n]);
  g->node[n] = product;
  g->node[into] = NULL;
}

static bool fuse_activation(struct graph *g, size_t i, const int *readers) {
  struct node *n = g->node[i];
  if (n->op.kind != OP_ACTIVATION || n->op.direction != FORWARD || n->in[0]->producer < 0 || n->in[0]->base)
    return false;
  if (readers[n->in[0]->id] != 1) return false;
  size_t from = (size_t)n->in[0]->producer;
  struct node *product = g->node[from];
  op_kind_t kind = product->op.kind;
  if (!(is_product(kind) || kind == OP_BATCHNORM) || product->op.direction != FORWARD) return false;
  if (product->op.attr.activation != ACT_NONE) return false;
  int slot = residual_slot(&product->op);
  if (slot >= 0 && product->in[slot] && kind != OP_BATCHNORM) { // relu(conv + residual) of a ResNet
    if (kind != OP_CONV) return false;
    product->op.attr.residual_first = 1;
  }
  product->op.attr.activation = n->op.attr.activation;
  take_over(g, i, from);
  return true;
}

// Would the sum draw a product that is computed once into what is computed for every sample?
static bool crosses(const unsigned *depends, const struct value *product, const struct value *sum) {
  if (!depends) return false;
  unsigned before = depends[product->id], after = depends[sum->id];
  return before != after && !(before & DEPENDS_LIVE) && (before & (before - 1)) == 0;
}

static bool fuse_sum(struct graph *g, size_t i, const int *readers, const unsigned *depends) {
  struct node *n = g->node[i];
  if (n->op.kind != OP_ADD || !desc_equal(&n->op.in[0], &n->op.in[1])) return false;
  for (int k = 1; k >= 0; k--) { // the second operand is the branch, the first the stream
    struct value *branch = n->in[k], *stream = n->in[1 - k];
    if (branch->base || branch->producer < 0 || readers[branch->id] != 1 || branch == stream) continue;
    if (crosses(depends, branch, n->out[0])) continue;
    struct node *product = g->node[branch->producer];
    int slot = residual_slot(&product->op);
    if (slot < 0 || product->in[slot] || product->op.attr.activation != ACT_NONE) continue;
    product->in[slot] = stream;
    product->op.in[slot] = stream->desc;
    take_over(g, i, (size_t)branch->producer);
    return true;
  }
  return false;
}

static bool is_constant(const struct value *v) {
  return v->kind == VALUE_PARAMETER && !v->trained && !v->tracked;
}

// What a CAST was made from (a weight that is read as bf16), else the value itself.
static struct value *before_cast(const struct graph *g, struct value *v) {
  if (!v || v->base || v->producer < 0 || g->node[v->producer]->op.kind != OP_CAST) return v;
  return g->node[v->producer]->in[0];
}

// conv, BATCHNORM -> BATCHNORM_FOLD of the weights, conv. The fold takes the place of the convolution's node, which moves
// to that of the BATCHNORM. It writes the weights in the type that the convolution reads.
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
  struct value *w = before_cast(g, conv->in[1]), *b = conv->in[2];
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
  take_over(g, i, from);
  g->node[from] = fold;
  return OK;
}

status_t graph_fuse(struct graph *g, struct value *const *keep, size_t keeps, const unsigned *depends) {
  TRY(graph_status(g));
  int *readers = NULL;
  TRY(count_readers(g, keep, keeps, &readers));
  status_t st = OK;
  for (size_t i = 0; st == OK && i < g->nodes; i++) {
    if (g->node[i]) st = fold_batchnorm(g, i, readers);
  }
  for (size_t i = 0; st == OK && i < g->nodes; i++) {
    if (g->node[i] && !fuse_activation(g, i, readers)) (void)fuse_sum(g, i, readers, depends);
  }
  size_t kept = 0;
  for (size_t i = 0; i < g->nodes; i++) {
    if (!g->node[i]) continue;
    g->node[kept] = g->node[i];
    for (int k = 0; k < g->node[kept]->op.outputs; k++) {
      if (g->node[kept]->out[k]) g->node[kept]->out[k]->producer = (int)kept;
    }
    kept++;
  }
  g->nodes = kept;
  mem_free(&readers);
  return st;
}
