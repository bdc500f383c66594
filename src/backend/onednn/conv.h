// conv.h: the ways in which a CONV or CONV_TRANSPOSE can be computed. The best one differs with shape, direction and type.
#ifndef GRIDSEG_BACKEND_ONEDNN_CONV_H
#define GRIDSEG_BACKEND_ONEDNN_CONV_H

#include "backend/onednn/inside.h"

typedef enum {
  CONV_PLAIN,   // oneDNN's convolution on pictures as they lie, NHWC
  CONV_BLOCKED, // in the layout that oneDNN likes best, made before and unmade after
  CONV_PRODUCT, // a kernel of one pixel: LINEAR
  CONV_TURNED,  // the gradient of the picture as a convolution forward, with kernels turned round
  CONV_OWN,     // own kernels
  CONV_WAYS
} conv_way_t;

// conv.c: plan `p` by way PLAIN, BLOCKED or TURNED.
status_t conv_create_layer(struct plan *p, conv_way_t way);

#endif
