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
  graph_take_over(g, i, from);
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
    graph_take_over(g, i, (size_t)branch->producer);
    return true;
  }
  return false;
}

status_t graph_fuse(struct graph *g, struct value *const *keep, size_t keeps, const unsigned *depends) {
  TRY(graph_status(g));
  int *readers = NULL;
  TRY(graph_count_readers(g, keep, keeps, &readers));
  for (size_t i = 0; i < g->nodes; i++) {
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
  return OK;
}
