// metric.h: segmentation metrics of one binary mask against another, equal to MONAI's (DiceMetric, MeanIoU,
// HausdorffDistanceMetric with percentile 95, SurfaceDiceMetric), empty cases as DESIGN says.
#ifndef GRIDSEG_TRAIN_METRIC_H
#define GRIDSEG_TRAIN_METRIC_H

#include "base/status.h"

#include <stdint.h>

struct metric_counts { // pixels; sums of these give the dataset-level Dice and IoU
  int64_t predicted, truth, both;
};

struct metrics {
  struct metric_counts counts;
  double dice, iou;    // empty against empty is 1
  double hd95;         // pixels; NaN when either mask is empty (left out and counted)
  double surface_dice; // within `tolerance` pixels; NaN when either mask is empty
};

#define METRIC_TOLERANCE 2.0 // pixels: the surface Dice of DESIGN, "Numbers"

// 2|A n B| / (|A| + |B|) and |A n B| / |A u B|, of one picture or of sums over many; empty against empty is 1.
double metric_dice(const struct metric_counts *counts);
double metric_iou(const struct metric_counts *counts);

// Masks are uint8 0/1 [height,width], height and width at least 1. ERR_NOMEM only.
status_t metric_compute(const uint8_t *predicted, const uint8_t *truth, int height, int width, double tolerance,
                        struct metrics *out);

#endif
