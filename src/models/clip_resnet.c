// clip_resnet.c: CLIP's ResNet (Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, section
// 2.4) as CRIS uses it: three convolutions at the start, an average pooling before every stride (Zhang 2019), and at
// the end attention among all positions instead of one pooled query.
//
//   [B,S,S,3] stem 3x3/2, 3x3, 3x3, pool 2 -> [B,S/4,S/4,w]
//   layer1    -> [B,S/4,S/4,4w]
//   layer2    -> [B,S/8,S/8,8w]        level 0
//   layer3    -> [B,S/16,S/16,16w]     level 1
//   layer4    -> [B,S/32,S/32,32w]
//   attnpool  relu(attention(x + positions) + BatchNorm(conv 1x1(x))) -> [B,S/32,S/32,output]     level 2
#include "models/clip_resnet.h"

#include <math.h>

// Convolution without bias, BatchNorm.
static struct value *conv_norm(struct net *n, const char *conv, const char *norm, struct value *x, int64_t out,
                               int kernel, int stride, double gamma) {
  if (!x) return NULL;
  struct conv_spec spec = {.out = out,
                           .kernel = kernel,
                           .stride = stride,
                           .pad = kernel / 2,
                           .init = nn_default_init(desc_columns(&x->desc) * kernel * kernel)};
  return nn_batchnorm(n, norm, nn_conv2d(n, conv, x, &spec), gamma);
}

static struct value *halve(struct net *n, struct value *x) {
  return graph_pool(n->g, x, POOL_AVERAGE, 2, 2, 0);
}

static struct value *stem(struct net *n, struct value *x, int64_t width) {
  x = graph_activation(n->g, conv_norm(n, "conv1", "bn1", x, width / 2, 3, 2, 1), ACT_RELU); // [B,S/2,S/2,w/2]
  x = graph_activation(n->g, conv_norm(n, "conv2", "bn2", x, width / 2, 3, 1, 1), ACT_RELU);
  x = graph_activation(n->g, conv_norm(n, "conv3", "bn3", x, width, 3, 1, 1), ACT_RELU);
  return halve(n, x); // [B,S/4,S/4,w]
}

// relu(x + f(x)): 1x1, 3x3, 1x1. All convolutions have stride 1; a `stride` of 2 is a pooling before the last of them and
// before the shortcut's. CLIP starts the last norm at 0: a new block is the identity.
static struct value *bottleneck(struct net *n, struct value *x, int64_t planes, int stride) {
  if (!x) return NULL;
  struct graph *g = n->g;
  struct value *y = graph_activation(g, conv_norm(n, "conv1", "bn1", x, planes, 1, 1, 1), ACT_RELU);
  y = graph_activation(g, conv_norm(n, "conv2", "bn2", y, planes, 3, 1, 1), ACT_RELU);
  if (stride > 1) y = halve(n, y);
  y = conv_norm(n, "conv3", "bn3", y, 4 * planes, 1, 1, 0);
  if (stride > 1 || desc_columns(&x->desc) != 4 * planes) {
    x = stride > 1 ? halve(n, x) : x;
    x = conv_norm(n, "downsample.0", "downsample.1", x, 4 * planes, 1, 1, 1);
  }
  return graph_activation(g, graph_add(g, y, x), ACT_RELU);
}

static struct value *stage(struct net *n, int index, struct value *x, int blocks, int64_t planes) {
  for (int i = 0; i < blocks; i++) {
    struct net_scope scope = net_enter(n, "layer%d.%d", index, i);
    x = bottleneck(n, x, planes, i == 0 && index > 1 ? 2 : 1);
    net_leave(n, scope);
  }
  return x;
}

// Positions [1,T,E]: the table's patch part resized to the grid. Its first row, the pooled query's, is not used here.
static struct value *positions(struct net *n, const struct clip_resnet_spec *s, int64_t grid, int64_t width) {
  struct graph *g = n->g;
  int64_t side = s->resolution / 32;
  struct value *table = nn_parameter(n, "positional_embedding", &TENSOR_DESC(g->real, side * side + 1, width),
                                     (struct init){INIT_NORMAL, 1.0 / sqrt((double)width)});
  table = graph_slice(g, table, 0, 1, side * side);
  if (grid != side) {
    table = graph_reshape(g, table, &TENSOR_DESC(g->real, 1, side, side, width));
    table = graph_resize(g, table, grid, grid, RESIZE_BICUBIC, false); // [1,grid,grid,E]
  }
  return graph_reshape(g, table, &TENSOR_DESC(g->real, 1, grid * grid, width));
}

static struct value *attention_pool(struct net *n, const struct clip_resnet_spec *s, struct value *x) {
  if (!x) return NULL;
  struct graph *g = n->g;
  int64_t batch = x->desc.dim[0], grid = x->desc.dim[1], width = desc_columns(&x->desc);
  struct init weight = {INIT_NORMAL, 1.0 / sqrt((double)width)}, bias = nn_default_init(width);
  struct net_scope scope = net_enter(n, "attnpool");
  struct value *t = graph_reshape(g, x, &TENSOR_DESC(g->real, batch, grid * grid, width));
  t = graph_add(g, t, positions(n, s, grid, width)); // [B,T,E]
  struct value *q = nn_linear_with(n, "q_proj", t, width, weight, bias);
  struct value *k = nn_linear_with(n, "k_proj", t, width, weight, bias);
  struct value *v = nn_linear_with(n, "v_proj", t, width, weight, bias);
  t = graph_attention(g, q, k, v, s->heads, 1.0 / sqrt((double)(width / s->heads)), false);
  t = nn_linear_with(n, "c_proj", t, s->output, weight, bias); // [B,T,output]
  t = graph_reshape(g, t, &TENSOR_DESC(g->real, batch, grid, grid, s->output));
  struct value *connect = conv_norm(n, "connect.0", "connect.1", x, s->output, 1, 1, 1);
  t = graph_activation(g, graph_add(g, t, connect), ACT_RELU);
  net_leave(n, scope);
  return t;
}

void clip_resnet(struct net *n, const struct clip_resnet_spec *s, struct value *pixels, struct value *level[3]) {
  struct value *x = stem(n, pixels, s->width);
  x = stage(n, 1, x, s->blocks[0], s->width);
  level[0] = stage(n, 2, x, s->blocks[1], 2 * s->width);
  level[1] = stage(n, 3, level[0], s->blocks[2], 4 * s->width);
  x = stage(n, 4, level[1], s->blocks[3], 8 * s->width);
  level[2] = attention_pool(n, s, x);
}
