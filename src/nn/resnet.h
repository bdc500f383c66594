// resnet.h: ResNet (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1) as an encoder, with torchvision's names
// and numerics: the stride of a bottleneck stands at its 3x3 convolution.
#ifndef GRIDSEG_NN_RESNET_H
#define GRIDSEG_NN_RESNET_H

#include "nn/net.h"

enum { RESNET_STAGES = 4, RESNET_FEATURES = 6 };

struct resnet_spec {
  const char *name; // "resnet50"
  bool bottleneck;  // 1x1, 3x3, 1x1 with four times the channels; else 3x3, 3x3
  int blocks[RESNET_STAGES];
};

const struct resnet_spec *resnet_find(const char *name); // resnet18, 34, 50, 101, 152; NULL when it is none of them

// Pixels [B,S,S,3] to features: feature[0] the pixels, [1] the stem [B,S/2,S/2,64], [2]..[5] the stages layer1..layer4 at strides
// 4, 8, 16, 32. Parameters stand in the net's scope: conv1, bn1, layer1.0.conv1, ... `output_stride` 32, or 16 or 8: stages that
// would go beyond it keep their size and dilate instead.
void nn_resnet(struct net *n, const struct resnet_spec *spec, struct value *pixels, int output_stride,
               struct value *feature[RESNET_FEATURES]);

#endif
