// logit.h: from a network's logits to a mask of any size.
#ifndef GRIDSEG_TRAIN_LOGIT_H
#define GRIDSEG_TRAIN_LOGIT_H

#include "base/status.h"

#include <stdint.h>

// The smallest fp32 logit whose fp32 sigmoid is above `threshold` (in [0,1]): comparing with it is exactly
// sigmoid(logit) > threshold. Infinite when no finite logit is above.
float logit_cut(double threshold);

// Resize [size,size] logits to [height,width] as torch.nn.functional.interpolate(mode="bilinear", align_corners=False) does:
// half-pixel centres, no antialiasing.
status_t logit_resize(const float *logits, int size, int height, int width, float *out);
// The same, then 1 where a logit is at `cut` or above, else 0, without keeping the resized logits.
status_t logit_to_mask(const float *logits, int size, int height, int width, float cut, uint8_t *mask);

#endif
