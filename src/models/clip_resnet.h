// clip_resnet.h: CLIP's image tower in its convolutional form, as dense prediction uses it.
#ifndef GRIDSEG_MODELS_CLIP_RESNET_H
#define GRIDSEG_MODELS_CLIP_RESNET_H

#include "nn/net.h"

struct clip_resnet_spec {
  int blocks[4];      // bottlenecks of layer1 .. layer4
  int64_t width;      // of the stem; layer4 gives 32 times as many channels
  int64_t output;     // channels after the attention pooling
  int64_t resolution; // pixels a side that the position table was made for
  int heads;          // of the attention pooling
};

// Pixels [B,S,S,3], S a multiple of 32, to level[0] [B,S/8,S/8,8w], level[1] [B,S/16,S/16,16w] and level[2] [B,S/32,S/32,output].
// Parameters are named from the scope on: conv1, bn1, layer1.0.conv1, attnpool.
void clip_resnet(struct net *n, const struct clip_resnet_spec *s, struct value *pixels, struct value *level[3]);

#endif
