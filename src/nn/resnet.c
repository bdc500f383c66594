// resnet.c: the encoder of resnet.h.
#include "nn/resnet.h"

#include <math.h>
#include <string.h>

static const struct resnet_spec resnets[] = {
    {"resnet18", false, {2, 2, 2, 2}},  {"resnet34", false, {3, 4, 6, 3}},  {"resnet50", true, {3, 4, 6, 3}},
    {"resnet101", true, {3, 4, 23, 3}}, {"resnet152", true, {3, 8, 36, 3}},
};

const struct resnet_spec *resnet_find(const char *name) {
  for (size_t i = 0; i < sizeof resnets / sizeof *resnets; i++) {
    if (!strcmp(resnets[i].name, name)) return &resnets[i];
  }
  return NULL;
}

// A convolution without bias and the BatchNorm behind it. torchvision: kaiming_normal_ by fan_out.
static struct value *conv_norm(struct net *n, const char *conv, const char *norm, struct value *x, int64_t out,
                               int kernel, int stride, int dilation) {
  struct conv_spec c = {.out = out,
                        .kernel = kernel,
                        .stride = stride,
                        .pad = kernel / 2 * dilation,
                        .dilation = dilation,
                        .init = {INIT_NORMAL, sqrt(2.0 / (double)(out * kernel * kernel))}};
  return nn_batchnorm(n, norm, nn_conv2d(n, conv, x, &c), 1.0);
}

struct stage {
  int64_t width; // of the 3x3 convolutions
  bool bottleneck;
  int dilation;
};

static struct value *block(struct net *n, int index, struct value *x, const struct stage *s, int stride) {
  if (!x) return NULL;
  struct graph *g = n->g;
  const int64_t out = s->bottleneck ? 4 * s->width : s->width;
  struct net_scope scope = net_enter(n, "%d", index);
  struct value *y = x, *identity = x;
  if (s->bottleneck) {
    y = graph_activation(g, conv_norm(n, "conv1", "bn1", y, s->width, 1, 1, 1), ACT_RELU);
    y = graph_activation(g, conv_norm(n, "conv2", "bn2", y, s->width, 3, stride, s->dilation), ACT_RELU);
    y = conv_norm(n, "conv3", "bn3", y, out, 1, 1, 1);
  } else {
    y = graph_activation(g, conv_norm(n, "conv1", "bn1", y, s->width, 3, stride, s->dilation), ACT_RELU);
    y = conv_norm(n, "conv2", "bn2", y, out, 3, 1, s->dilation);
  }
  if (desc_columns(&x->desc) != out) // the first block of a stage; not of layer1 in the shallow ones
    identity = conv_norm(n, "downsample.0", "downsample.1", x, out, 1, stride, 1);
  y = graph_activation(g, graph_add(g, y, identity), ACT_RELU);
  net_leave(n, scope);
  return y;
}

void nn_resnet(struct net *n, const struct resnet_spec *spec, struct value *pixels, int output_stride,
               struct value *feature[RESNET_FEATURES]) {
  struct graph *g = n->g;
  feature[0] = pixels;                                                                           // [B,S,S,3]
  feature[1] = graph_activation(g, conv_norm(n, "conv1", "bn1", pixels, 64, 7, 2, 1), ACT_RELU); // [B,S/2,S/2,64]
  struct value *x = graph_pool(g, feature[1], POOL_MAX, 3, 2, 1);                                // [B,S/4,S/4,64]
  for (int i = 0; i < RESNET_STAGES; i++) {
    int natural = 4 << i; // the stride of this stage's output
    int stride = i > 0 && natural <= output_stride ? 2 : 1;
    int dilation = natural > output_stride ? natural / output_stride : 1;
    struct stage s = {.width = 64 << i, .bottleneck = spec->bottleneck, .dilation = dilation};
    struct net_scope scope = net_enter(n, "layer%d", i + 1);
    for (int k = 0; k < spec->blocks[i]; k++) x = block(n, k, x, &s, k == 0 ? stride : 1);
    net_leave(n, scope);
    feature[2 + i] = x;
  }
}
