// precision.c: bf16 where the arithmetic is. Products, convolutions and attention read bf16 and sum in fp32; sums along
// the residual stream of tokens, norms, losses, statistics and gradients of weights stay fp32. Sums of pictures, between the
// convolutions and BatchNorms of a ResNet, are rounded as those round what they write. A result is written as bf16 when all
// who read it take bf16; else it is fp32, and those who want bf16 read one cast of it.
#include "graph/graph.h"

#include "base/mem.h"

#include <stdlib.h>

// TAKES_LIKE: operations that move values take the type of their result.
typedef enum { TAKES_FP32, TAKES_BF16, TAKES_ANY, TAKES_LIKE, TAKES_ITS_OWN } takes_t;

static bool is_product(op_kind_t kind) {
  return kind == OP_LINEAR || kind == OP_CONV || kind == OP_CONV_TRANSPOSE;
}

static bool is_picture_sum(const struct node *n) {
  return n->op.kind == OP_ADD && n->out[0] && n->out[0]->desc.rank == 4;
}

static takes_t takes(const struct node *n, int slot) {
  if (n->in[slot]->desc.dtype != DTYPE_F32) return TAKES_ITS_OWN; // ids, pixels, masks
  if (is_picture_sum(n)) return TAKES_ANY;
  switch (n->op.kind) {
  case OP_LINEAR:
  case OP_CONV:
  case OP_CONV_TRANSPOSE: return slot < 2 ? TAKES_BF16 : TAKES_FP32; // x w | dy w | dy x; bias and residual fp32
  case OP_ATTENTION: return n->op.direction == FORWARD || slot < 5 ? TAKES_BF16 : TAKES_FP32; // lse is fp32
  case OP_ACTIVATION:
  case OP_BATCHNORM_SUMS:
  case OP_CONV_EACH: return TAKES_ANY;
  case OP_DROPOUT:
  case OP_POOL:
  case OP_CONCAT:
  case OP_SLICE:
  case OP_RESIZE: return TAKES_LIKE;
  case OP_BATCHNORM:
    if (n->op.direction == FORWARD) return slot == 0 || slot == 5 ? TAKES_ANY : TAKES_FP32;
    return slot < 2 ? TAKES_ANY : TAKES_FP32;
  case OP_LAYERNORM: return n->op.direction != FORWARD && slot == 0 ? TAKES_ANY : TAKES_FP32;
  default: return TAKES_FP32;
  }
}

// May this result be written as bf16?
static bool may_write_bf16(const struct node *n, int slot) {
  if (n->out[slot]->desc.dtype != DTYPE_F32) return false;
  if (is_product(n->op.kind)) return n->op.direction != BACKWARD_WEIGHT;
  if (is_picture_sum(n)) return true;
  switch (n->op.kind) {
  case OP_ATTENTION: return n->op.direction != FORWARD || slot == 0;
  case OP_ACTIVATION:
  case OP_DROPOUT:
  case OP_POOL:
  case OP_CONCAT:
  case OP_SLICE:
  case OP_RESIZE: return true;
  case OP_BATCHNORM:
  case OP_CONV_EACH: return n->op.direction != BACKWARD_WEIGHT;
  case OP_LAYERNORM: return n->op.direction == FORWARD && slot == 0;
  case OP_DOUBLED_KERNEL: return n->op.direction == FORWARD;
  case OP_PIXELS: return true;
  default: return false;
  }
}

static bool must_write_bf16(const struct node *n, int slot) {
  return n->op.kind == OP_ATTENTION && may_write_bf16(n, slot);
}

static const struct value *root(const struct value *v) {
  return v->base ? v->base : v;
}

// Decide the type of every result, the last first: a result's readers have decided theirs; views follow their base.
static status_t choose(struct graph *g) {
  uint8_t *fp32_reader = NULL, *reader = NULL;
  TRY(mem_alloc(&fp32_reader, g->values, 1));
  status_t st = mem_alloc(&reader, g->values, 1);
  for (size_t i = 0; st == OK && i < g->values; i++) {
    if (g->value[i]->gradient) fp32_reader[root(g->value[i]->gradient)->id] = 1; // the optimiser
  }
  for (size_t i = g->nodes; st == OK && i-- > 0;) {
    struct node *n = g->node[i];
    for (int k = 0; k < n->op.outputs; k++) {
      struct value *y = n->out[k];
      if (!y || !may_write_bf16(n, k)) continue;
      if (must_write_bf16(n, k) || (reader[y->id] && !fp32_reader[y->id])) y->desc.dtype = DTYPE_BF16;
    }
    for (int k = 0; k < n->op.inputs; k++) {
      if (!n->in[k]) continue;
      takes_t what = takes(n, k); // its operands are still fp32
      reader[root(n->in[k])->id] = 1;
      bool wide = what == TAKES_FP32 || (what == TAKES_LIKE && n->out[0]->desc.dtype == DTYPE_F32);
      if (wide) fp32_reader[root(n->in[k])->id] = 1;
    }
  }
  for (size_t i = 0; st == OK && i < g->values; i++) {
    if (g->value[i]->base) g->value[i]->desc.dtype = g->value[i]->base->desc.dtype;
  }
  mem_free(&reader);
  mem_free(&fp32_reader);
  return st;
}

struct rewrite {
  struct graph *g;
  struct value **cast; // by value id: its copy of the other type
  size_t casts;
};

static struct value *converted(struct rewrite *r, struct value *v, dtype_t want) {
  if (v->desc.dtype == want) return v;
  if (!r->cast[v->id]) {
    struct op op = {.kind = OP_CAST, .inputs = 1, .outputs = 1};
    struct tensor_desc y = v->desc;
    y.dtype = want;
    struct node *n = graph_apply(r->g, &op, &v, &y);
    r->cast[v->id] = n ? n->out[0] : NULL;
  }
  return r->cast[v->id];
}

status_t graph_lower_bf16(struct graph *g) {
  TRY(graph_status(g));
  status_t st = OK;
  struct rewrite r = {.g = g};
  struct node **old = NULL;
  size_t count = g->nodes, values = g->values;
  // takes() looks at the original fp32 types: ask it before they change.
  uint8_t(*wish)[OP_MAX_IN] = NULL;
  TRY_GOTO(mem_alloc(&wish, count, sizeof *wish), done);
  for (size_t i = 0; i < count; i++) {
    for (int k = 0; k < g->node[i]->op.inputs; k++) {
      if (g->node[i]->in[k]) wish[i][k] = (uint8_t)takes(g->node[i], k);
    }
  }
  TRY_GOTO(choose(g), done);
  TRY_GOTO(mem_alloc(&r.cast, values, sizeof *r.cast), done);
  old = g->node;
  g->node = NULL;
  g->nodes = g->node_capacity = 0;
  size_t i = 0;
  for (; i < count; i++) {
    struct node *n = old[i];
    for (int k = 0; k < n->op.inputs; k++) {
      if (!n->in[k]) continue;
      if (wish[i][k] == TAKES_BF16) n->in[k] = converted(&r, n->in[k], DTYPE_BF16);
      if (wish[i][k] == TAKES_LIKE) n->in[k] = converted(&r, n->in[k], n->out[0]->desc.dtype);
      if (wish[i][k] == TAKES_FP32) n->in[k] = converted(&r, n->in[k], DTYPE_F32);
      if ((st = graph_status(g)) != OK) break;
      n->op.in[k] = n->in[k]->desc;
    }
    for (int k = 0; st == OK && k < n->op.outputs; k++) {
      if (!n->out[k]) continue;
      n->op.out[k] = n->out[k]->desc;
      n->out[k]->producer = (int)g->nodes;
    }
    if (st == OK) st = mem_grow(&g->node, &g->node_capacity, g->nodes + 1, sizeof *g->node);
    if (st == OK) st = op_check(&n->op);
    if (st != OK) break;
    g->node[g->nodes++] = n;
  }
  for (; i < count; i++) mem_free(&old[i]); // only after a failure
  if (st != OK) g->status = st;
done:
  free(old);
  mem_free(&r.cast);
  mem_free(&wish);
  return st;
}
