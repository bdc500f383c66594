// clipseg.h: CLIPSeg for the methods that stand on it.
#ifndef GRIDSEG_MODELS_CLIPSEG_H
#define GRIDSEG_MODELS_CLIPSEG_H

#include "models/model.h"

extern const struct model_arch clipseg_arch;

// The study's recipe. Mean and deviation: the published preprocessor_config.json's, which are ImageNet's, not CLIP's.
#define CLIPSEG_RECIPE                                                                                                 \
  {                                                                                                                    \
    .size = 352, .mean = {0.485, 0.456, 0.406}, .std = {0.229, 0.224, 0.225}, .lr = 2e-3, .weight_decay = 1e-3,        \
    .threshold = 0.5, .batch = 128, .plateau = true                                                                    \
  }

// The graph of `clipseg_arch.build`, with learned vectors `context` [M,D] (NULL: none) between the start token and the words of
// every text; "row" counts them. D is clipseg_text_width of the configuration.
struct value *clipseg_build(struct net *n, const void *config, const struct model_spec *spec,
                            const struct model_preprocess *pre, struct value *context);
int64_t clipseg_text_width(const void *config);

#endif
