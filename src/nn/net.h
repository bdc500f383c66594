// net.h: blocks named as in the papers, and the scope that names their parameters. A block declares its parameters as it goes,
// under the public state-dict name of the scope it stands in; the graph that results is the one list of them, from which
// load, save, optimiser groups and bucket order are derived.
#ifndef GRIDSEG_NN_NET_H
#define GRIDSEG_NN_NET_H

#include "graph/graph.h"

enum { NET_NAME = 256 };

struct net {
  struct graph *g;
  bool (*trained)(const void *context, const char *parameter); // is this parameter trained?
  const void *context;
  bool training;        // dropout is drawn, trained BatchNorms normalise by their batch
  int streams;          // random streams given to dropouts so far
  char scope[NET_NAME]; // "clip.vision_model." : what stands before the names of new parameters
};

// Go into "scope.name." (printf) and come back: scopes nest, and `kept` belongs to the caller.
struct net_scope {
  size_t length;
};
struct net_scope net_enter(struct net *n, const char *format, ...) __attribute__((format(printf, 2, 3)));
void net_leave(struct net *n, struct net_scope kept);

// The parameter scope.name. A second declaration with the same shape is the same parameter: shared weights.
struct value *nn_parameter(struct net *n, const char *name, const struct tensor_desc *desc, struct init init);

// torch.nn.Linear "name": y = x w' + b; nn_linear_plain has no bias. Biases start at 0.
struct value *nn_linear(struct net *n, const char *name, struct value *x, int64_t out, struct init init);
struct value *nn_linear_plain(struct net *n, const char *name, struct value *x, int64_t out, struct init init);
// torch.nn.Linear "name" as torch starts it: weight and bias by nn_default_init; nn_linear_with says how both start.
struct value *nn_linear_default(struct net *n, const char *name, struct value *x, int64_t out);
struct value *nn_linear_with(struct net *n, const char *name, struct value *x, int64_t out, struct init weight,
                             struct init bias);
// torch.nn.LayerNorm "name" over the last dimension.
struct value *nn_layernorm(struct net *n, const char *name, struct value *x, double epsilon);
// torch.nn.Conv2d and ConvTranspose2d "name" on pictures [B,H,W,C], with bias unless `plain`, torch's default initialisation.
struct value *nn_conv(struct net *n, const char *name, struct value *x, int64_t out, int kernel, int stride, int pad);
struct value *nn_conv_transpose(struct net *n, const char *name, struct value *x, int64_t out, int kernel, int stride);
// torch.nn.Conv2d "name" with everything said. dilation and groups 0 stand for 1. `init` is the weight's; a bias
// has torch's default, or starts at 0.
struct conv_spec {
  int64_t out;
  int kernel, stride, pad, dilation, groups;
  bool bias, zero_bias; // zero_bias: the bias starts at 0
  struct init init;
};
struct value *nn_conv2d(struct net *n, const char *name, struct value *x, const struct conv_spec *spec);
// torch's default of Conv2d and Linear: uniform within 1/sqrt(fan_in), fan_in = (channels / groups) * kernel^2.
struct init nn_default_init(int64_t fan_in);

// torch.nn.BatchNorm1d and BatchNorm2d "name" over the last dimension (epsilon 1e-5, momentum 0.1), with the buffers running_mean,
// running_var and num_batches_tracked. In training it normalises by the batch (over all ranks), when its parameters are
// trained; a frozen one, and every one in evaluation, by the running statistics. `gamma`: what the weight starts at.
struct value *nn_batchnorm(struct net *n, const char *name, struct value *x, double gamma);
// torch.nn.Dropout in training, nothing in evaluation.
struct value *nn_dropout(struct net *n, struct value *x, double p);
// Noise and the next random stream for a graph_attention_with; leaves *extra alone in evaluation or when p is 0.
void nn_attention_dropout(struct net *n, int64_t batch, double p, struct attention_extra *extra);

// Multi-head self-attention with projections q_proj, k_proj, v_proj, out_proj (Vaswani et al. 2017; CLIP).
struct value *nn_self_attention(struct net *n, const char *name, struct value *x, int heads, bool causal,
                                struct init in, struct init out);
// torch.nn.MultiheadAttention "name" with its in_proj_weight, in_proj_bias and out_proj. Keys from length[b] on are masked (NULL: none);
// in training the probabilities go through dropout.
struct multihead_spec {
  int heads;
  bool causal;
  double dropout;
  struct value *length;
  struct init in, out; // of both weights; biases start at 0
};
struct value *nn_multihead_attention(struct net *n, const char *name, struct value *query, struct value *key,
                                     struct value *value, const struct multihead_spec *s);
// One of the three projections that are stacked in `w` [3D,D] and `b` [3D]: 0 of queries, 1 of keys, 2 of values.
struct value *nn_project(struct net *n, struct value *x, struct value *w, struct value *b, int part);
// torch's own start of in_proj_weight for a width: Glorot and Bengio's uniform over all three projections.
struct init nn_multihead_init(int64_t width);

// Sine codes (Vaswani et al. 2017): channel 2i of position p is sin(p / 10000^(2i/width)), channel 2i+1 its cosine. Constants:
// [1,length,width], and [1,height*width_of_grid,channels] with the column's code in the first half of channels, the row's in the second.
struct value *nn_sine_code(struct net *n, int64_t length, int64_t width);
struct value *nn_sine_code_2d(struct net *n, int64_t high, int64_t wide, int64_t channels);

// fc1, activation, fc2.
struct value *nn_mlp(struct net *n, const char *name, struct value *x, int64_t hidden, activation_t activation,
                     struct init in, struct init out);

// One transformer layer "layers.i": self_attn, layer_norm1, mlp, layer_norm2. NORM_FIRST: x + f(norm(x)) (CLIP);
// NORM_LAST: norm(x + f(x)) (the CLIPSeg decoder).
typedef enum { NORM_FIRST, NORM_LAST } norm_order_t;
struct transformer_spec {
  int layers, heads;
  int64_t width, hidden;
  activation_t activation;
  double epsilon;
  bool causal;
  norm_order_t order;
  double init_factor; // transformers' initializer_factor
};
struct value *nn_transformer_layer(struct net *n, int index, struct value *x, const struct transformer_spec *s);

// One block "blocks.i" of timm's VisionTransformer (Dosovitskiy et al. 2021): norm1, attn.qkv (stacked), attn.proj, norm2, mlp.fc1,
// gelu, mlp.fc2; x + f(norm(x)). Of the spec: heads, hidden, epsilon.
struct value *nn_vit_block(struct net *n, int index, struct value *x, const struct transformer_spec *s);

// One layer "encoder.layer.i" of transformers' BertModel (Devlin et al. 2019): norm(x + f(x)), gelu. Keys from length[b] on are masked.
struct bert_spec {
  int heads;
  int64_t hidden;
  double epsilon, dropout, attention_dropout; // in training
  double init_range;                          // initializer_range
  struct value *length;
};
struct value *nn_bert_layer(struct net *n, int index, struct value *x, const struct bert_spec *s);

#endif
