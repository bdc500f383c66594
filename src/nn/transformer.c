// transformer.c: self-attention, the two-layer perceptron, and the layer made of both.
#include "nn/net.h"

#include <math.h>

struct value *nn_self_attention(struct net *n, const char *name, struct value *x, int heads, bool causal,
                                struct init in, struct init out) {
  if (!x) return NULL;
  struct net_scope s = net_enter(n, "%s", name);
  int64_t width = desc_columns(&x->desc);
  struct value *q = nn_linear(n, "q_proj", x, width, in); // [B,T,D]
  struct value *k = nn_linear(n, "k_proj", x, width, in);
  struct value *v = nn_linear(n, "v_proj", x, width, in);
  struct value *o = graph_attention(n->g, q, k, v, heads, 1.0 / sqrt((double)(width / heads)), causal);
  struct value *y = nn_linear(n, "out_proj", o, width, out);
  net_leave(n, s);
  return y;
}

struct value *nn_mlp(struct net *n, const char *name, struct value *x, int64_t hidden, activation_t activation,
                     struct init in, struct init out) {
  if (!x) return NULL;
  struct net_scope s = net_enter(n, "%s", name);
  struct value *h = graph_activation(n->g, nn_linear(n, "fc1", x, hidden, in), activation); // [B,T,hidden]
  struct value *y = nn_linear(n, "fc2", h, desc_columns(&x->desc), out);
  net_leave(n, s);
  return y;
}

struct value *nn_transformer_layer(struct net *n, int index, struct value *x, const struct transformer_spec *t) {
  // transformers, modeling_clip.py, _init_weights.
  double width = sqrt(1.0 / (double)t->width), depth = sqrt(1.0 / (2.0 * t->layers));
  struct init in = {INIT_NORMAL, width * depth * t->init_factor}, out = {INIT_NORMAL, width * t->init_factor};
  struct init fc1 = {INIT_NORMAL, sqrt(1.0 / (2.0 * (double)t->width)) * t->init_factor};
  struct net_scope s = net_enter(n, "layers.%d", index);
  if (t->order == NORM_FIRST) {
    struct value *h = nn_layernorm(n, "layer_norm1", x, t->epsilon);
    x = graph_add(n->g, x, nn_self_attention(n, "self_attn", h, t->heads, t->causal, in, out));
    h = nn_layernorm(n, "layer_norm2", x, t->epsilon);
    x = graph_add(n->g, x, nn_mlp(n, "mlp", h, t->hidden, t->activation, fc1, in));
  } else {
    x = graph_add(n->g, x, nn_self_attention(n, "self_attn", x, t->heads, t->causal, in, out));
    x = nn_layernorm(n, "layer_norm1", x, t->epsilon);
    x = graph_add(n->g, x, nn_mlp(n, "mlp", x, t->hidden, t->activation, fc1, in));
    x = nn_layernorm(n, "layer_norm2", x, t->epsilon);
  }
  net_leave(n, s);
  return x; // [B,T,D]
}
