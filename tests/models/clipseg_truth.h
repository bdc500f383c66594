// clipseg_truth.h: reading the golden files of make_clipseg.py, shared by the tests of the tiny sizes and the published one.
#ifndef GRIDSEG_TESTS_CLIPSEG_TRUTH_H
#define GRIDSEG_TESTS_CLIPSEG_TRUTH_H

#include "parity.h"

// The truth of a parameter's gradient: decoder gradients of a trained run are those of the frozen run.
static inline bool gradient_name(const struct safetensors *io, const char *prefix, bool encoders, const char *condition,
                                 const char *loss, const char *parameter, char out[512]) {
  (void)snprintf(out, 512, "%s/grad/%s", prefix, parameter);
  if (safetensors_find(io, out)) return true;
  if (!encoders) return false;
  (void)snprintf(out, 512, "%s/frozen/%s/grad/%s", condition, loss, parameter);
  return safetensors_find(io, out) != NULL;
}

static inline const char *loss_name(loss_t loss) {
  return loss == LOSS_DICE_CE ? "dice_ce" : loss == LOSS_DICE_ONLY ? "dice_only" : "monai14";
}

#endif
