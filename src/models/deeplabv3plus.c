// deeplabv3plus.c: DeepLabV3+ (Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation",
// ECCV 2018, figure 2) on a ResNet encoder, with the state dict of segmentation_models_pytorch's DeepLabV3Plus.
//
//   picture [B,S,S,3]
//      | ResNet, layer4 dilated: S/16
//      |--> 1x1 -------------------------.
//      |--> 3x3 separable, rate 12 ------|
//      |--> 3x3 separable, rate 24 ------+-- concat --> 1x1, dropout --> 3x3 separable --> x4 ---.
//      |--> 3x3 separable, rate 36 ------|   (ASPP)                       [B,S/16,S/16,256]       |
//      |--> image mean, 1x1 -------------'                                                        |
//      '- layer1: S/4 --> 1x1, 48 --------------------------------------------------- concat <----'
//                                                                                       | 3x3 separable [B,S/4,S/4,256]
//   each convolution has BatchNorm and ReLU behind it;                                  | head 1x1, x4
//   upsampling is bilinear with aligned corners                                     logits [B,S,S]
#include "models/smp.h"

#include "base/mem.h"

enum { RATES = 3, LOW_LEVEL = 48 };

struct deeplab {
  struct smp smp;
  int64_t stride, width, rate[RATES]; // encoder_output_stride, decoder_channels, decoder_atrous_rates
  double dropout;
};

static status_t read_decoder(const json_t *config, const char *where, struct deeplab *c) {
  bool separable;
  int64_t upsampling;
  c->rate[0] = 12, c->rate[1] = 24, c->rate[2] = 36;
  TRY(smp_configure(config, where, &c->smp));
  TRY(json_get_int_or(config, where, "encoder_output_stride", 8, 16, 16, &c->stride));
  TRY(json_get_int_or(config, where, "decoder_channels", 1, 1 << 14, 256, &c->width));
  TRY(smp_integers(config, where, "decoder_atrous_rates", RATES, 1, 1 << 10, c->rate));
  TRY(json_get_bool_or(config, where, "decoder_aspp_separable", true, &separable));
  TRY(json_get_real_or(config, where, "decoder_aspp_dropout", 0.5, &c->dropout));
  TRY(json_get_int_or(config, where, "upsampling", 1, 64, 4, &upsampling));
  if (c->stride != 8 && c->stride != 16)
    return FAIL(ERR_UNSUPPORTED, "%s: encoder_output_stride must be 8 or 16, met %lld", where, (long long)c->stride);
  if (!separable) return FAIL(ERR_UNSUPPORTED, "%s: decoder_aspp_separable must be true", where);
  if (!(c->dropout >= 0 && c->dropout < 1))
    return FAIL(ERR_FORMAT, "%s: decoder_aspp_dropout must be in [0, 1), met %g", where, c->dropout);
  if (upsampling != 4) {
    return FAIL(ERR_UNSUPPORTED, "%s: upsampling must be 4, so that logits have the picture's size, met %lld", where,
                (long long)upsampling);
  }
  return OK;
}

static status_t configure(const json_t *config, const char *where, void **out) {
  status_t st = OK;
  struct deeplab *c = NULL;
  TRY_GOTO(mem_alloc(&c, 1, sizeof *c), done);
  TRY_GOTO(read_decoder(config, where, c), done);
  *out = c;
  c = NULL;
done:
  mem_free(&c);
  return st;
}

static status_t check_size(const void *config, int64_t size) {
  const struct deeplab *c = config;
  return smp_check_size("DeepLabV3+", size, c->stride);
}

// smp does not initialise this decoder itself: convolutions keep torch's default.
static struct value *conv(struct net *n, const char *name, struct value *x, int64_t out, int kernel, int64_t rate,
                          int64_t groups) {
  if (!x) return NULL;
  int64_t fan_in = desc_columns(&x->desc) / groups * kernel * kernel;
  struct conv_spec c = {.out = out,
                        .kernel = kernel,
                        .stride = 1,
                        .pad = kernel / 2 * (int)rate,
                        .dilation = (int)rate,
                        .groups = (int)groups,
                        .init = nn_default_init(fan_in)};
  return nn_conv2d(n, name, x, &c);
}

static struct value *norm_relu(struct net *n, const char *name, struct value *x) {
  return graph_activation(n->g, nn_batchnorm(n, name, x, 1.0), ACT_RELU);
}

// "name.conv" 1x1, "name.norm", ReLU.
static struct value *pointwise(struct net *n, const char *name, int at, struct value *x, int64_t out) {
  char convolution[16], norm[16];
  (void)snprintf(convolution, sizeof convolution, "%d", at);
  (void)snprintf(norm, sizeof norm, "%d", at + 1);
  struct net_scope scope = net_enter(n, "%s", name);
  x = norm_relu(n, norm, conv(n, convolution, x, out, 1, 1, 1));
  net_leave(n, scope);
  return x;
}

// A 3x3 for each channel alone ("name.0") and a 1x1 across channels ("name.1"), neither with a norm between.
static struct value *separable(struct net *n, const char *name, struct value *x, int64_t out, int64_t rate) {
  if (!x) return NULL;
  int64_t in = desc_columns(&x->desc);
  struct net_scope scope = net_enter(n, "%s", name);
  x = conv(n, "1", conv(n, "0", x, in, 3, rate, in), out, 1, 1, 1);
  net_leave(n, scope);
  return x;
}

// Atrous spatial pyramid pooling: [B,H,W,..] -> [B,H,W,width].
static struct value *aspp(struct net *n, const struct deeplab *c, struct value *x) {
  if (!x) return NULL;
  struct graph *g = n->g;
  struct value *branch[2 + RATES];
  struct net_scope scope = net_enter(n, "0");
  branch[0] = pointwise(n, "convs.0", 0, x, c->width);
  for (int i = 0; i < RATES; i++) {
    struct net_scope each = net_enter(n, "convs.%d", 1 + i);
    branch[1 + i] = norm_relu(n, "1", separable(n, "0", x, c->width, c->rate[i]));
    net_leave(n, each);
  }
  struct value *image = pointwise(n, "convs.4", 1, graph_average(g, x), c->width); // [B,1,1,width]
  branch[1 + RATES] =
      graph_expand(g, image, &TENSOR_DESC(g->real, x->desc.dim[0], x->desc.dim[1], x->desc.dim[2], c->width));
  x = pointwise(n, "project", 0, graph_join(g, branch, 2 + RATES, 3), c->width);
  net_leave(n, scope);
  return nn_dropout(n, x, c->dropout);
}

static struct value *build(struct net *n, const void *config, const struct model_spec *spec,
                           const struct model_preprocess *pre) {
  const struct deeplab *c = config;
  struct graph *g = n->g;
  struct value *feature[RESNET_FEATURES];
  smp_encode(n, &c->smp, spec, pre, (int)c->stride, feature);

  struct net_scope decoder = net_enter(n, "decoder");
  struct net_scope deep = net_enter(n, "aspp");
  struct value *x = aspp(n, c, feature[5]);                 // [B,S/16,S/16,256]
  x = norm_relu(n, "2", separable(n, "1", x, c->width, 1)); //
  net_leave(n, deep);
  x = graph_resize(g, x, spec->size / 4, spec->size / 4, RESIZE_BILINEAR, true); // [B,S/4,S/4,256]
  struct value *shallow = pointwise(n, "block1", 0, feature[2], LOW_LEVEL);      // [B,S/4,S/4,48]
  struct net_scope fused = net_enter(n, "block2");
  x = norm_relu(n, "1", separable(n, "0", graph_concat(g, x, shallow, 3), c->width, 1)); // [B,S/4,S/4,256]
  net_leave(n, fused);
  net_leave(n, decoder);
  return smp_head(n, &c->smp, x, 1, spec->size, false); // [B,S,S]
}

const struct model_arch deeplabv3plus_arch = {
    .name = "deeplabv3plus",
    .recipe = SMP_RECIPE,
    .configure = configure,
    .release = smp_release,
    .check_size = check_size,
    .build = build,
    .text = smp_text,
    .is_encoder = smp_is_encoder,
};
