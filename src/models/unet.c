// unet.c: UNet (Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
// figure 1) on a ResNet encoder, with the state dict of segmentation_models_pytorch's Unet.
//
//   picture [B,S,S,3]                                                     logits [B,S,S] (or a plane a class)
//      | stem, S/2, 64 ---------------------------------.                    | segmentation head, 3x3
//      | layer1, S/4 ------------------------.          |                 [block 4] -> S,   16, without a skip
//      | layer2, S/8 ---------------.        |          '---------------> [block 3] -> S/2, 32
//      | layer3, S/16 -----.        |        '--------------------------> [block 2] -> S/4, 64
//      | layer4, S/32      |        '-----------------------------------> [block 1] -> S/8, 128
//      '-------------------|--------------------------------------------> [block 0] -> S/16, 256
//                          '------------------------------------------------^
//   block: twice the size (nearest), joined with the skip, two times 3x3 convolution, BatchNorm, ReLU
#include "models/smp.h"

static status_t check_size(const void *config, int64_t size) {
  (void)config;
  return smp_check_size("UNet", size, 32);
}

static struct value *build(struct net *n, const void *config, const struct model_spec *spec,
                           const struct model_preprocess *pre) {
  const struct smp_unet *c = config;
  struct value *feature[RESNET_FEATURES];
  smp_encode(n, &c->smp, spec, pre, 32, feature);
  struct value *x = feature[5]; // [B,S/32,S/32,..]
  for (int i = 0; i < SMP_DEPTH; i++) {
    struct net_scope scope = net_enter(n, "decoder.blocks.%d", i);
    x = smp_unet_block(n, x, &feature[4 - i], i < 4 ? 1 : 0, c->channels[i]); // [B,S/2^(4-i),S/2^(4-i),channels]
    net_leave(n, scope);
  }
  return smp_head(n, &c->smp, x, 3, spec->size, true); // [B,S,S]
}

const struct model_arch unet_arch = {
    .name = "unet",
    .recipe = SMP_RECIPE,
    .configure = smp_unet_configure,
    .release = smp_release,
    .check_size = check_size,
    .build = build,
    .text = smp_text,
    .is_encoder = smp_is_encoder,
};
