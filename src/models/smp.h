// smp.h: what UNet, UNet++ and DeepLabV3+ share: the config.json of segmentation_models_pytorch (0.3.3 to 0.6), its ResNet encoders, its
// convolution block and its segmentation head, under its names and with its initialisation.
#ifndef GRIDSEG_MODELS_SMP_H
#define GRIDSEG_MODELS_SMP_H

#include "models/model.h"
#include "nn/resnet.h"

// The study's recipe of its image-only models. AdamW without weight decay is Adam.
#define SMP_RECIPE                                                                                                     \
  {                                                                                                                    \
    .size = 256, .mean = {0.485, 0.456, 0.406}, .std = {0.229, 0.224, 0.225}, .lr = 1e-3, .weight_decay = 0,           \
    .threshold = 0.5, .batch = 16, .plateau = false, .encoders = true                                                  \
  }

enum { SMP_DEPTH = 5 };

// The keys that all three have. What is not built here (other encoders, depths, attention, norms, an auxiliary head) is refused.
struct smp {
  const struct resnet_spec *encoder;
  int64_t planes;
};
status_t smp_configure(const json_t *config, const char *where, struct smp *out);
// The two U-Nets, for `configure` of their model_arch.
struct smp_unet {
  struct smp smp;
  int64_t channels[SMP_DEPTH]; // "decoder_channels": of each block, of UNet++'s first row
};
status_t smp_unet_configure(const json_t *config, const char *where, void **out);
void smp_release(void **config);
// A list of `count` integers in [low, high]; left alone where the key is missing.
status_t smp_integers(const json_t *config, const char *where, const char *key, int count, int64_t low, int64_t high,
                      int64_t *out);
// ERR_ARG for a size that is no multiple of `stride`.
status_t smp_check_size(const char *model, int64_t size, int64_t stride);
void smp_text(const void *config, int *limit, int *vocabulary); // there is none
bool smp_is_encoder(const char *parameter);

// The input "pixels" through "encoder." : features as nn_resnet has them.
void smp_encode(struct net *n, const struct smp *c, const struct model_spec *spec, const struct model_preprocess *pre,
                int output_stride, struct value *feature[RESNET_FEATURES]);
// The decoder block of both U-Nets: x to twice its size (nearest), joined with the `skips` (may be 0), then conv1 and conv2, each 3x3,
// BatchNorm, ReLU: [B,H,W,..] -> [B,2H,2W,out]. The net stands in the block's scope.
struct value *smp_unet_block(struct net *n, struct value *x, struct value *const *skip, int skips, int64_t out);
// "segmentation_head": a convolution to planes [B,H,W,P], then bilinearly (aligned corners) to the size of the picture.
// Logits [B,S,S], or [B,S,S,P] when P > 1. `xavier`: as smp initialises the U-Nets' heads; DeepLabV3+'s has torch's default.
struct value *smp_head(struct net *n, const struct smp *c, struct value *x, int kernel, int64_t size, bool xavier);

#endif
