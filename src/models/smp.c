// smp.c: what the models of segmentation_models_pytorch share.
#include "models/smp.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

// ---- configuration -------------------------------------------------------------------------------------------------------------------

static bool absent(const json_t *config, const char *key) {
  const json_t *v = json_object_get(config, key);
  return !v || json_is_null(v);
}

static status_t want_absent(const json_t *config, const char *where, const char *key, const char *what) {
  if (absent(config, key)) return OK;
  return FAIL(ERR_UNSUPPORTED, "%s: '%s' must be null: gridseg builds no %s", where, key, what);
}

static status_t want_int(const json_t *config, const char *where, const char *key, int64_t only) {
  int64_t met;
  TRY(json_get_int_or(config, where, key, 0, 1 << 20, only, &met));
  if (met == only) return OK;
  return FAIL(ERR_UNSUPPORTED, "%s: '%s' must be %lld, met %lld", where, key, (long long)only, (long long)met);
}

status_t smp_integers(const json_t *config, const char *where, const char *key, int count, int64_t low, int64_t high,
                      int64_t *out) {
  const json_t *list = json_object_get(config, key);
  if (!list) return OK;
  bool fits = json_is_array(list) && json_array_size(list) == (size_t)count;
  for (int i = 0; fits && i < count; i++) {
    const json_t *v = json_array_get(list, (size_t)i);
    fits = json_is_integer(v) && json_integer_value(v) >= low && json_integer_value(v) <= high;
    if (fits) out[i] = json_integer_value(v);
  }
  if (fits) return OK;
  return FAIL(ERR_FORMAT, "%s: '%s' must be a list of %d integers from %lld to %lld", where, key, count, (long long)low,
              (long long)high);
}

// "id2label": {"0": "polyp", ...} may name the planes.
static status_t check_labels(const json_t *config, const char *where, int64_t planes) {
  const json_t *labels = json_object_get(config, "id2label");
  if (!labels || json_is_null(labels)) return OK;
  bool fits = json_is_object(labels) && json_object_size(labels) == (size_t)planes;
  for (int64_t i = 0; fits && i < planes; i++) {
    char number[32];
    (void)snprintf(number, sizeof number, "%lld", (long long)i);
    fits = json_is_string(json_object_get(labels, number));
  }
  if (fits) return OK;
  return FAIL(ERR_FORMAT, "%s: 'id2label' must name each of the %lld classes, \"0\" first", where, (long long)planes);
}

status_t smp_configure(const json_t *config, const char *where, struct smp *out) {
  const char *name;
  TRY(json_get_text_or(config, where, "encoder_name", "resnet34", &name));
  out->encoder = resnet_find(name);
  if (!out->encoder) {
    return FAIL(ERR_UNSUPPORTED,
                "%s: encoder_name must be resnet18, resnet34, resnet50, resnet101 or resnet152, met '%s'", where, name);
  }
  TRY(want_int(config, where, "encoder_depth", SMP_DEPTH));
  TRY(want_int(config, where, "in_channels", 3));
  TRY(json_get_int_or(config, where, "classes", 1, 1 << 12, 1, &out->planes));
  TRY(want_absent(config, where, "activation", "activation behind the logits (the loss has its own)"));
  TRY(want_absent(config, where, "aux_params", "classification head"));
  return check_labels(config, where, out->planes);
}

// decoder_use_norm: "batchnorm", true or {"type": "batchnorm"}; before smp 0.4 decoder_use_batchnorm: true.
static status_t check_norm(const json_t *config, const char *where, const char *key) {
  const json_t *v = json_object_get(config, key);
  if (json_is_object(v) && json_object_size(v) == 1) v = json_object_get(v, "type");
  if (!v || json_is_null(v) || json_is_true(v)) return OK;
  if (json_is_string(v) && !strcmp(json_string_value(v), "batchnorm")) return OK;
  return FAIL(ERR_UNSUPPORTED, "%s: '%s' must be \"batchnorm\" or true, without settings of its own", where, key);
}

static status_t read_unet(const json_t *config, const char *where, struct smp_unet *c) {
  static const int64_t standard[SMP_DEPTH] = {256, 128, 64, 32, 16};
  const char *how;
  memcpy(c->channels, standard, sizeof standard);
  TRY(smp_configure(config, where, &c->smp));
  TRY(smp_integers(config, where, "decoder_channels", SMP_DEPTH, 1, 1 << 14, c->channels));
  TRY(check_norm(config, where, "decoder_use_norm"));
  TRY(check_norm(config, where, "decoder_use_batchnorm"));
  TRY(want_absent(config, where, "decoder_attention_type", "attention in this decoder"));
  TRY(json_get_text_or(config, where, "decoder_interpolation", "nearest", &how));
  if (strcmp(how, "nearest") != 0)
    return FAIL(ERR_UNSUPPORTED, "%s: decoder_interpolation must be nearest, met '%s'", where, how);
  return OK;
}

status_t smp_unet_configure(const json_t *config, const char *where, void **out) {
  struct smp_unet *c = NULL;
  TRY(mem_alloc(&c, 1, sizeof *c));
  status_t st = read_unet(config, where, c);
  if (st == OK) {
    *out = c;
  } else {
    mem_free(&c);
  }
  return st;
}

void smp_release(void **config) {
  mem_free(config);
}

status_t smp_check_size(const char *model, int64_t size, int64_t stride) {
  if (size >= stride && size % stride == 0) return OK;
  return FAIL(ERR_ARG, "%s wants a size that %lld divides, met %lld", model, (long long)stride, (long long)size);
}

void smp_text(const void *config, int *limit, int *vocabulary) {
  (void)config;
  *limit = *vocabulary = 0;
}

bool smp_is_encoder(const char *parameter) {
  return !strncmp(parameter, "encoder.", 8);
}

// ---- parts of the figures ------------------------------------------------------------------------------------------------------------

void smp_encode(struct net *n, const struct smp *c, const struct model_spec *spec, const struct model_preprocess *pre,
                int output_stride, struct value *feature[RESNET_FEATURES]) {
  struct tensor_desc picture = TENSOR_DESC(DTYPE_U8, spec->batch, spec->size, spec->size, 3);
  struct value *pixels = graph_pixels(n->g, graph_input(n->g, "pixels", &picture), pre->mean, pre->std);
  struct net_scope scope = net_enter(n, "encoder");
  nn_resnet(n, c->encoder, pixels, output_stride, feature);
  net_leave(n, scope);
}

// smp's Conv2dReLU: a Sequential of convolution, BatchNorm, ReLU. initialize_decoder: kaiming_uniform_ by fan_in.
static struct value *conv_norm_relu(struct net *n, const char *name, struct value *x, int64_t out) {
  if (!x) return NULL;
  double fan_in = 9.0 * (double)desc_columns(&x->desc);
  struct conv_spec c = {.out = out, .kernel = 3, .stride = 1, .pad = 1, .init = {INIT_UNIFORM, sqrt(6.0 / fan_in)}};
  struct net_scope scope = net_enter(n, "%s", name);
  x = graph_activation(n->g, nn_batchnorm(n, "1", nn_conv2d(n, "0", x, &c), 1.0), ACT_RELU);
  net_leave(n, scope);
  return x;
}

struct value *smp_unet_block(struct net *n, struct value *x, struct value *const *skip, int skips, int64_t out) {
  if (!x) return NULL;
  struct value *joined[OP_MAX_IN];
  joined[0] = graph_resize(n->g, x, 2 * x->desc.dim[1], 2 * x->desc.dim[2], RESIZE_NEAREST, false);
  for (int i = 0; i < skips; i++) joined[1 + i] = skip[i];
  x = skips ? graph_join(n->g, joined, 1 + skips, 3) : joined[0]; // [B,2H,2W,..]
  x = conv_norm_relu(n, "conv1", x, out);                         // [B,2H,2W,out]
  return conv_norm_relu(n, "conv2", x, out);
}

struct value *smp_head(struct net *n, const struct smp *c, struct value *x, int kernel, int64_t size, bool xavier) {
  if (!x) return NULL;
  struct graph *g = n->g;
  int64_t in = desc_columns(&x->desc), taps = (int64_t)kernel * kernel;
  struct init init =
      xavier ? (struct init){INIT_UNIFORM, sqrt(6.0 / (double)(taps * (in + c->planes)))} : nn_default_init(in * taps);
  struct conv_spec conv = {.out = c->planes,
                           .kernel = kernel,
                           .stride = 1,
                           .pad = kernel / 2,
                           .bias = true,
                           .zero_bias = xavier,
                           .init = init};
  struct net_scope scope = net_enter(n, "segmentation_head");
  x = nn_conv2d(n, "0", x, &conv); // [B,H,W,P]
  net_leave(n, scope);
  if (x && x->desc.dim[1] != size) x = graph_resize(g, x, size, size, RESIZE_BILINEAR, true); // [B,S,S,P]
  if (!x || c->planes > 1) return x;
  return graph_reshape(g, x, &TENSOR_DESC(g->real, x->desc.dim[0], size, size));
}
