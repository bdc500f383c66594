// transformer.c: self-attention, the two-layer perceptron, and the layer made of both, as CLIP, timm and BERT name and order them.
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

// ---- timm ----------------------------------------------------------------------------------------------------------------------------

static const struct init timm_init = {INIT_NORMAL, 0.02}; // init_weights_vit_timm: cut off at 100 deviations

static struct value *vit_attention(struct net *n, struct value *x, int heads) {
  if (!x) return NULL;
  int64_t width = desc_columns(&x->desc);
  struct net_scope s = net_enter(n, "attn");
  struct value *w = nn_parameter(n, "qkv.weight", &TENSOR_DESC(n->g->real, 3 * width, width), timm_init);
  struct value *b = nn_parameter(n, "qkv.bias", &TENSOR_DESC(n->g->real, 3 * width), (struct init){INIT_ZEROS, 0});
  struct value *q = nn_project(n, x, w, b, 0), *k = nn_project(n, x, w, b, 1), *v = nn_project(n, x, w, b, 2);
  struct value *o = graph_attention(n->g, q, k, v, heads, 1.0 / sqrt((double)(width / heads)), false);
  struct value *y = nn_linear(n, "proj", o, width, timm_init);
  net_leave(n, s);
  return y;
}

struct value *nn_vit_block(struct net *n, int index, struct value *x, const struct transformer_spec *t) {
  struct net_scope s = net_enter(n, "blocks.%d", index);
  struct value *h = nn_layernorm(n, "norm1", x, t->epsilon);
  x = graph_add(n->g, x, vit_attention(n, h, t->heads));
  h = nn_layernorm(n, "norm2", x, t->epsilon);
  x = graph_add(n->g, x, nn_mlp(n, "mlp", h, t->hidden, ACT_GELU_ERF, timm_init, timm_init));
  net_leave(n, s);
  return x; // [B,T,D]
}

// ---- BERT ----------------------------------------------------------------------------------------------------------------------------

// "name": dense to the width of x, dropout, and LayerNorm of the sum with x.
static struct value *bert_output(struct net *n, const char *name, struct value *h, struct value *x,
                                 const struct bert_spec *t) {
  if (!h || !x) return NULL;
  struct net_scope s = net_enter(n, "%s", name);
  h = nn_linear(n, "dense", h, desc_columns(&x->desc), (struct init){INIT_NORMAL, t->init_range});
  x = nn_layernorm(n, "LayerNorm", graph_add(n->g, nn_dropout(n, h, t->dropout), x), t->epsilon);
  net_leave(n, s);
  return x;
}

static struct value *bert_attention(struct net *n, struct value *x, const struct bert_spec *t) {
  if (!x) return NULL;
  int64_t width = desc_columns(&x->desc);
  struct init init = {INIT_NORMAL, t->init_range};
  struct net_scope s = net_enter(n, "self");
  struct value *q = nn_linear(n, "query", x, width, init);
  struct value *k = nn_linear(n, "key", x, width, init);
  struct value *v = nn_linear(n, "value", x, width, init);
  struct attention_extra extra = {.length = t->length};
  nn_attention_dropout(n, x->desc.dim[0], t->attention_dropout, &extra);
  x = graph_attention_with(n->g, q, k, v, t->heads, 1.0 / sqrt((double)(width / t->heads)), false, &extra);
  net_leave(n, s);
  return x;
}

struct value *nn_bert_layer(struct net *n, int index, struct value *x, const struct bert_spec *t) {
  struct net_scope layer = net_enter(n, "encoder.layer.%d", index), s = net_enter(n, "attention");
  x = bert_output(n, "output", bert_attention(n, x, t), x, t);
  net_leave(n, s);
  struct value *h = nn_linear(n, "intermediate.dense", x, t->hidden, (struct init){INIT_NORMAL, t->init_range});
  x = bert_output(n, "output", graph_activation(n->g, h, ACT_GELU_ERF), x, t);
  net_leave(n, layer);
  return x; // [B,L,D]
}
