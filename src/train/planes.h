// planes.h: how the study scores a model with several planes (quirks: study): all planes but the first count alike, and one without truth
// scores 1 when nothing is predicted in it, else 0 (MONAI's compute_dice and compute_iou with include_background=False and
// ignore_empty=False, on masks of which each has one plane).
#ifndef GRIDSEG_TRAIN_PLANES_H
#define GRIDSEG_TRAIN_PLANES_H

#include "base/status.h"

#include <stdbool.h>

// any[p]: has plane p of the logits [size,size,planes], resized to [height,width] as logit.h does, a value at `cut` or above?
status_t planes_predicted(const float *logits, int size, int planes, int height, int width, float cut, bool *any);
// The mean over the planes, where the sample's `own` plane scores `value`.
double planes_mean(const bool *any, int planes, int own, double value);

#endif
