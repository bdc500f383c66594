// unetpp.c: UNet++ (Zhou et al., "UNet++: A Nested U-Net Architecture for Medical Image Segmentation", DLMIA 2018, figure 1) on a
// ResNet encoder, with the state dict of segmentation_models_pytorch's UnetPlusPlus. E0 is the deepest feature:
//
//   E0 S/32    E1 S/16      E2 S/8       E3 S/4       E4 S/2
//     '------> x_0_0 -----> x_0_1 -----> x_0_2 -----> x_0_3 -----> x_0_4 -----> segmentation head, 3x3 -> logits [B,S,S]
//                E1 ------> x_1_1 -----> x_1_2 -----> x_1_3
//                             E2 ------> x_2_2 -----> x_2_3
//                                          E3 ------> x_3_3
//
//   x_d_l: what stands left of it at twice its size (nearest), joined with what stands below it in its column (x_(d+1)_l ... x_l_l, all
//   of its size) and with E(l+1), then two times 3x3 convolution, BatchNorm, ReLU. x_0_4 has nothing to join.
#include "models/smp.h"

static status_t check_size(const void *config, int64_t size) {
  (void)config;
  return smp_check_size("UNet++", size, 32);
}

static struct value *node(struct net *n, int row, int column, struct value *left, struct value *const *skip, int skips,
                          int64_t out) {
  struct net_scope scope = net_enter(n, "decoder.blocks.x_%d_%d", row, column);
  struct value *x = smp_unet_block(n, left, skip, skips, out);
  net_leave(n, scope);
  return x;
}

static struct value *build(struct net *n, const void *config, const struct model_spec *spec,
                           const struct model_preprocess *pre) {
  const struct smp_unet *c = config;
  enum { LAST = SMP_DEPTH - 1 };
  struct value *feature[RESNET_FEATURES], *x[SMP_DEPTH][SMP_DEPTH] = {{NULL}};
  smp_encode(n, &c->smp, spec, pre, 32, feature);
  for (int column = 0; column < LAST; column++) {
    struct value *encoded = feature[4 - column]; // E(column+1)
    for (int row = column; row >= 0; row--) {
      struct value *skip[SMP_DEPTH], *left = row == column ? feature[5 - row] : x[row][column - 1];
      int skips = 0;
      for (int below = row + 1; below <= column; below++) skip[skips++] = x[below][column];
      skip[skips++] = encoded;
      int64_t out = row == 0 || !encoded ? c->channels[column] : desc_columns(&encoded->desc);
      x[row][column] = node(n, row, column, left, skip, skips, out); // [B,S/2^(4-column),S/2^(4-column),out]
    }
  }
  x[0][LAST] = node(n, 0, LAST, x[0][LAST - 1], NULL, 0, c->channels[LAST]); // [B,S,S,16]
  return smp_head(n, &c->smp, x[0][LAST], 3, spec->size, true);              // [B,S,S]
}

const struct model_arch unetpp_arch = {
    .name = "unetpp",
    .recipe = SMP_RECIPE,
    .configure = smp_unet_configure,
    .release = smp_release,
    .check_size = check_size,
    .build = build,
    .text = smp_text,
    .is_encoder = smp_is_encoder,
};
