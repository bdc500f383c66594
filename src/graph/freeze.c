// freeze.c: what need not be computed again. A value that no trained parameter feeds never changes for the same input: what
// depends on no input is a constant, what depends on one input is a feature of it, the rest is live.
#include "graph/graph.h"

#include "base/mem.h"

#include <string.h>

static const struct value *root(const struct value *v) {
  return v->base ? v->base : v;
}

status_t graph_depend(const struct graph *g, const struct graph_source *sources, size_t count, unsigned **by_value) {
  TRY(mem_alloc(by_value, g->values ? g->values : 1, sizeof **by_value));
  unsigned *d = *by_value;
  for (size_t i = 0; i < g->values; i++) {
    const struct value *v = g->value[i];
    if (v->kind == VALUE_PARAMETER && (v->trained || v->tracked)) d[i] = DEPENDS_LIVE;
    if (v->kind != VALUE_INPUT) continue;
    d[i] = DEPENDS_LIVE;
    for (size_t s = 0; s < count; s++) {
      if (!strcmp(sources[s].input, v->name)) d[i] = 1u << sources[s].bit;
    }
  }
  for (size_t i = 0; i < g->nodes; i++) {
    const struct node *n = g->node[i];
    unsigned all = 0;
    for (int k = 0; k < n->op.inputs; k++) {
      if (n->in[k]) all |= d[root(n->in[k])->id];
    }
    for (int k = 0; k < n->op.outputs; k++) {
      if (n->out[k]) d[n->out[k]->id] = all;
    }
  }
  for (size_t i = 0; i < g->values; i++) {
    if (g->value[i]->base) d[i] = d[g->value[i]->base->id];
  }
  return OK;
}

static bool made_earlier(unsigned depends, part_t part) {
  if (part == PART_CONSTANT || depends & DEPENDS_LIVE) return false;
  if (part == PART_FEATURE) return depends == 0;
  return (depends & (depends - 1)) == 0; // no bit or one
}

status_t graph_frontier(const struct graph *g, struct value *const *wanted, size_t count, const unsigned *depends,
                        part_t part, uint8_t **leaf) {
  status_t st = OK;
  uint8_t *needed = NULL;
  *leaf = NULL;
  TRY_GOTO(mem_alloc(&needed, g->values ? g->values : 1, 1), done);
  TRY_GOTO(mem_alloc(leaf, g->values ? g->values : 1, 1), done);
  for (size_t i = 0; i < count; i++) {
    if (wanted[i]) needed[root(wanted[i])->id] = 1;
  }
  for (size_t i = g->nodes; i-- > 0;) {
    const struct node *n = g->node[i];
    bool go_on = false;
    for (int k = 0; k < n->op.outputs; k++) {
      const struct value *y = n->out[k];
      if (!y || !needed[y->id]) continue;
      if (made_earlier(depends[y->id], part)) {
        (*leaf)[y->id] = 1;
      } else {
        go_on = true;
      }
    }
    for (int k = 0; go_on && k < n->op.inputs; k++) {
      if (n->in[k]) needed[root(n->in[k])->id] = 1;
    }
  }
done:
  mem_free(&needed);
  if (st != OK) mem_free(leaf);
  return st;
}

// Everything that decides the bits of one run of `op`.
static status_t add_op(struct key_builder *b, const struct op *op) {
  TRY(key_add_text(b, "kind", op_kind_name(op->kind)));
  TRY(key_add_text(b, "direction", direction_name(op->direction)));
  char text[DESC_TEXT];
  for (int i = 0; i < op->inputs; i++) TRY(key_add_text(b, "in", desc_text(&op->in[i], text)));
  for (int i = 0; i < op->outputs; i++) TRY(key_add_text(b, "out", desc_text(&op->out[i], text)));
  TRY(key_add_text(b, "activation", activation_name(op->attr.activation)));
  for (int i = 0; i < 2; i++) {
    TRY(key_add_int(b, "stride", op->attr.stride[i]));
    TRY(key_add_int(b, "pad", op->attr.pad[i]));
    TRY(key_add_int(b, "dilation", op->attr.dilation[i]));
  }
  TRY(key_add_int(b, "groups", op->attr.groups));
  TRY(key_add_int(b, "heads", op->attr.heads));
  TRY(key_add_int(b, "causal", op->attr.causal));
  TRY(key_add_real(b, "scale", op->attr.scale));
  TRY(key_add_real(b, "epsilon", op->attr.epsilon));
  TRY(key_add_real(b, "momentum", op->attr.momentum));
  TRY(key_add_real(b, "dropout", op->attr.dropout));
  TRY(key_add_int(b, "stream", op->attr.stream));
  TRY(key_add_int(b, "residual first", op->attr.residual_first));
  TRY(key_add_int(b, "pool", op->attr.pool));
  for (int i = 0; i < 2; i++) TRY(key_add_int(b, "kernel", op->attr.kernel[i]));
  TRY(key_add_int(b, "axis", op->attr.axis));
  TRY(key_add_int(b, "start", op->attr.start));
  for (int i = 0; i < TENSOR_MAX_RANK; i++) TRY(key_add_int(b, "permutation", op->attr.permutation[i]));
  TRY(key_add_int(b, "resize", op->attr.resize));
  TRY(key_add_int(b, "align", op->attr.align_corners));
  for (int i = 0; i < 3; i++) {
    TRY(key_add_real(b, "mean", op->attr.mean[i]));
    TRY(key_add_real(b, "std", op->attr.std[i]));
  }
  return key_add_int(b, "loss", op->attr.loss);
}

struct signing {
  const struct graph *g;
  status_t (*leaf_key)(void *, const struct value *, struct key *);
  void *context;
  struct key *key; // by value id
};

static status_t sign_node(struct signing *s, const struct node *n) {
  struct key_builder *b = NULL;
  struct key all;
  TRY(key_begin(&b, "node"));
  status_t st = add_op(b, &n->op);
  for (int k = 0; st == OK && k < n->op.inputs; k++) {
    if (n->in[k]) st = key_add_key(b, "operand", &s->key[root(n->in[k])->id]);
  }
  CLEANUP(key_finish(&b, &all));
  for (int k = 0; st == OK && k < n->op.outputs; k++) {
    if (!n->out[k]) continue;
    st = key_begin(&b, "result");
    if (st == OK) st = key_add_key(b, "node", &all);
    if (st == OK) st = key_add_int(b, "output", k);
    CLEANUP(key_finish(&b, &s->key[n->out[k]->id]));
  }
  return st;
}

status_t graph_signature(const struct graph *g, const struct value *value,
                         status_t (*leaf_key)(void *context, const struct value *leaf, struct key *out), void *context,
                         struct key *out) {
  status_t st = OK;
  struct signing s = {.g = g, .leaf_key = leaf_key, .context = context};
  uint8_t *needed = NULL;
  TRY_GOTO(mem_alloc(&s.key, g->values, sizeof *s.key), done);
  TRY_GOTO(mem_alloc(&needed, g->values, 1), done);
  needed[root(value)->id] = 1;
  for (size_t i = g->nodes; i-- > 0;) {
    const struct node *n = g->node[i];
    bool any = false;
    for (int k = 0; k < n->op.outputs; k++) any = any || (n->out[k] && needed[n->out[k]->id]);
    for (int k = 0; any && k < n->op.inputs; k++) {
      if (n->in[k]) needed[root(n->in[k])->id] = 1;
    }
  }
  for (size_t i = 0; i < g->values; i++) {
    const struct value *v = g->value[i];
    if (needed[i] && v->kind == VALUE_CONSTANT) {
      TRY_GOTO(key_sha256(v->content, (size_t)desc_count(&v->desc) * sizeof *v->content, &s.key[i]), done);
    }
    if (needed[i] && v->kind <= VALUE_PARAMETER) TRY_GOTO(leaf_key(context, v, &s.key[i]), done);
  }
  for (size_t i = 0; i < g->nodes; i++) {
    const struct node *n = g->node[i];
    bool any = false;
    for (int k = 0; k < n->op.outputs; k++) any = any || (n->out[k] && needed[n->out[k]->id]);
    if (any) TRY_GOTO(sign_node(&s, n), done);
  }
  *out = s.key[root(value)->id];
done:
  mem_free(&needed);
  mem_free(&s.key);
  return st;
}
