// conv.h: the ways in which a CONV or CONV_TRANSPOSE can be computed. The best one differs with shape, direction and type.
#ifndef GRIDSEG_BACKEND_ONEDNN_CONV_H
#define GRIDSEG_BACKEND_ONEDNN_CONV_H

#include "backend/onednn/inside.h"

typedef enum {
  CONV_PLAIN,    // oneDNN's convolution on pictures as they lie, NHWC
  CONV_BLOCKED,  // in the layout that oneDNN likes best, made before and unmade after
  CONV_PRODUCT,  // a kernel of one pixel: LINEAR
  CONV_TURNED,   // the gradient of the picture as a convolution forward, with kernels turned round
  CONV_UNROLLED, // windows as rows of a matrix: LINEAR
  CONV_OWN,      // own kernels
  CONV_WAYS
} conv_way_t;

// conv.c: does way PLAIN of a CONV with a residual add to it where it lies, in the memory of the result? Twice as fast in
// fp32 as oneDNN's addition of another tensor where there are 1024 channels, and faster everywhere. Where the memory is
// not shared, the residual is copied first.
bool conv_sums(const struct op *op);

// conv.c: plan `p` by way PLAIN, BLOCKED or TURNED.
status_t conv_create_layer(struct plan *p, conv_way_t way);

#endif
