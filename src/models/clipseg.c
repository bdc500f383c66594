// clipseg.c: CLIPSeg (Lueddecke and Ecker, "Image Segmentation Using Text and Image Prompts", CVPR 2022, figure 2), with the state
// dict of transformers' CLIPSegForImageSegmentation.
//
//   picture [B,S,S,3]                               prompt: text [B,L]  (or a picture)
//      | patches of 16, class token, positions          | tokens, positions, causal
//   CLIP ViT-B/16, 12 blocks of 768                   CLIP text transformer, 12 blocks of 512
//      |block 10   |block 7    |block 4 (taps)          | row of the end token, text_projection
//      |reduce     |reduce     |reduce  768 -> 64       | conditional embedding [B,512]
//      x FiLM <----|-----------|------------------------+  mul and add
//   [layer 0] --> +[layer 1] --> +[layer 2]           decoder: post-norm transformer layers of 64, 4 heads, MLP 2048, relu
//                                    | without the class token, as a grid [B,S/16,S/16,64]
//                                 transposed convolution 16 x 16 -> logits [B,S,S]
//
// The public code runs both towers without gradient: only the decoder learns, unless train.encoders asks for more.
#include "models/clipseg.h"
#include "base/mem.h"
#include "models/clipseg_decoder.h"

#include <math.h>
#include <string.h>

enum { MAX_TAPS = 16 };

struct clipseg {
  struct transformer_spec text, vision;
  int vocabulary, positions, eos; // text
  int image_size, patch;          // vision
  double vision_range;            // initializer_range
  int taps, tap[MAX_TAPS];        // extract_layers: the output of block tap + 1
  struct clipseg_decoder decoder;
  double logit_scale;
};

// ---- configuration -------------------------------------------------------------------------------------------------------------------

// A member of text_config or vision_config; the older "<part>_config_dict" wins where it is given, as in transformers.
static status_t part_int(const json_t *config, const char *where, const char *part, const char *key, int64_t low,
                         int64_t high, int64_t fallback, int64_t *out) {
  static const char *const suffix[] = {"_config", "_config_dict"};
  *out = fallback;
  for (int i = 0; i < 2; i++) {
    char name[64];
    (void)snprintf(name, sizeof name, "%s%s", part, suffix[i]);
    const json_t *object = json_object_get(config, name);
    if (json_is_object(object)) TRY(json_get_int_or(object, where, key, low, high, *out, out));
  }
  return OK;
}

static status_t part_real(const json_t *config, const char *where, const char *part, const char *key, double fallback,
                          double *out) {
  char name[64];
  *out = fallback;
  (void)snprintf(name, sizeof name, "%s_config", part);
  const json_t *object = json_object_get(config, name);
  return json_is_object(object) ? json_get_real_or(object, where, key, fallback, out) : OK;
}

static status_t part_activation(const json_t *config, const char *where, const char *part, activation_t *out) {
  char name[64];
  const char *text = "quick_gelu";
  (void)snprintf(name, sizeof name, "%s_config", part);
  const json_t *object = json_object_get(config, name);
  if (json_is_object(object)) TRY(json_get_text_or(object, where, "hidden_act", text, &text));
  if (!strcmp(text, "quick_gelu"))
    *out = ACT_QUICKGELU;
  else if (!strcmp(text, "gelu"))
    *out = ACT_GELU_ERF;
  else if (!strcmp(text, "relu"))
    *out = ACT_RELU;
  else
    return FAIL(ERR_UNSUPPORTED, "%s: %s.hidden_act must be quick_gelu, gelu or relu, met '%s'", where, name, text);
  return OK;
}

static status_t read_tower(const json_t *config, const char *where, const char *part, int64_t width, int64_t hidden,
                           int64_t heads, struct transformer_spec *s) {
  int64_t layers;
  TRY(part_int(config, where, part, "hidden_size", 1, 1 << 14, width, &s->width));
  TRY(part_int(config, where, part, "intermediate_size", 1, 1 << 16, hidden, &s->hidden));
  TRY(part_int(config, where, part, "num_hidden_layers", 1, 256, 12, &layers));
  TRY(part_int(config, where, part, "num_attention_heads", 1, 256, heads, &heads));
  TRY(part_real(config, where, part, "layer_norm_eps", 1e-5, &s->epsilon));
  TRY(part_real(config, where, part, "initializer_factor", 1.0, &s->init_factor));
  TRY(part_activation(config, where, part, &s->activation));
  if (s->width % heads) {
    return FAIL(ERR_FORMAT, "%s: %s_config.hidden_size %lld is not a multiple of num_attention_heads %lld", where, part,
                (long long)s->width, (long long)heads);
  }
  s->layers = (int)layers;
  s->heads = (int)heads;
  s->order = NORM_FIRST;
  return OK;
}

static status_t read_taps(const json_t *config, const char *where, struct clipseg *c) {
  static const int standard[] = {3, 6, 9};
  const json_t *list = json_object_get(config, "extract_layers");
  c->taps = 3;
  memcpy(c->tap, standard, sizeof standard);
  if (list && !json_is_null(list)) {
    if (!json_is_array(list) || json_array_size(list) < 1 || json_array_size(list) > MAX_TAPS) {
      return FAIL(ERR_FORMAT, "%s: 'extract_layers' must be a list of 1 to %d block numbers", where, MAX_TAPS);
    }
    c->taps = (int)json_array_size(list);
    for (int i = 0; i < c->taps; i++) {
      const json_t *v = json_array_get(list, (size_t)i);
      json_int_t block = json_is_integer(v) ? json_integer_value(v) : -1;
      if (block < 0 || block >= c->vision.layers) {
        return FAIL(ERR_FORMAT, "%s: 'extract_layers' wants block numbers below num_hidden_layers (%d)", where,
                    c->vision.layers);
      }
      c->tap[i] = (int)block;
    }
  }
  for (int i = 0; i < c->taps; i++) {
    if (c->tap[i] >= c->vision.layers) {
      return FAIL(ERR_FORMAT, "%s: extract_layers names block %d, the vision tower has %d", where, c->tap[i],
                  c->vision.layers);
    }
  }
  return OK;
}

static status_t read_decoder(const json_t *config, const char *where, struct clipseg *c) {
  TRY(json_get_real_or(config, where, "logit_scale_init_value", 2.6592, &c->logit_scale));
  c->decoder.layer.epsilon = c->vision.epsilon;
  c->decoder.layer.layers = c->vision.layers;
  c->decoder.layer.init_factor = c->vision.init_factor;
  c->decoder.vision = c->vision.width;
  c->decoder.patch = c->patch;
  c->decoder.taps = c->taps;
  return clipseg_decoder_configure(config, where, &c->decoder);
}

static status_t configure(const json_t *config, const char *where, void **out) {
  status_t st = OK;
  struct clipseg *c = NULL;
  int64_t n;
  TRY_GOTO(mem_alloc(&c, 1, sizeof *c), done);
  TRY_GOTO(read_tower(config, where, "text", 512, 2048, 8, &c->text), done);
  TRY_GOTO(read_tower(config, where, "vision", 768, 3072, 12, &c->vision), done);
  c->text.causal = true;
  TRY_GOTO(part_int(config, where, "text", "vocab_size", 1, 1 << 24, 49408, &n), done);
  c->vocabulary = (int)n;
  TRY_GOTO(part_int(config, where, "text", "max_position_embeddings", 2, 1 << 14, 77, &n), done);
  c->positions = (int)n;
  TRY_GOTO(part_int(config, where, "text", "eos_token_id", 0, 1 << 24, 49407, &n), done);
  c->eos = (int)n;
  TRY_GOTO(part_int(config, where, "vision", "image_size", 1, 1 << 14, 224, &n), done);
  c->image_size = (int)n;
  TRY_GOTO(part_int(config, where, "vision", "patch_size", 1, 1 << 10, 32, &n), done);
  c->patch = (int)n;
  TRY_GOTO(part_real(config, where, "vision", "initializer_range", 0.02, &c->vision_range), done);
  TRY_GOTO(part_int(config, where, "vision", "num_channels", 1, 64, 3, &n), done);
  if (n != 3)
    FAIL_GOTO(done, ERR_UNSUPPORTED, "%s: vision_config.num_channels must be 3, met %lld", where, (long long)n);
  if (c->image_size < c->patch) {
    FAIL_GOTO(done, ERR_FORMAT, "%s: image_size %d is smaller than patch_size %d", where, c->image_size, c->patch);
  }
  TRY_GOTO(read_taps(config, where, c), done);
  TRY_GOTO(read_decoder(config, where, c), done);
  *out = c;
  c = NULL;
done:
  mem_free(&c);
  return st;
}

static void release(void **config) {
  mem_free(config);
}

static status_t check_size(const void *config, int64_t size) {
  const struct clipseg *c = config;
  if (size < c->patch || size % c->patch) {
    return FAIL(ERR_ARG, "CLIPSeg with patches of %d pixels wants a size that %d divides, met %lld", c->patch, c->patch,
                (long long)size);
  }
  return OK;
}

static void text(const void *config, int *limit, int *vocabulary) {
  const struct clipseg *c = config;
  *limit = c->positions;
  *vocabulary = c->vocabulary;
}

// transformers: eos_token_id 2 marks the configurations from before its PR 24773, which pool at the highest id; later ones pool at the
// first end token.
static int pooled_token(const void *config, const int32_t *ids, int length) {
  const struct clipseg *c = config;
  int best = 0;
  for (int i = 0; i < length; i++) {
    if (c->eos != 2 && ids[i] == c->eos) return i;
    if (c->eos == 2 && ids[i] > ids[best]) best = i;
  }
  return best;
}

static bool is_encoder(const char *parameter) {
  return !strncmp(parameter, "clip.", 5);
}

// ---- the figure ----------------------------------------------------------------------------------------------------------------------

// Positions [1,T,D]: the table as it is, or its patch part resized to another grid.
static struct value *positions(struct net *n, const struct clipseg *c, int64_t grid) {
  struct graph *g = n->g;
  int64_t side = c->image_size / c->patch, width = c->vision.width;
  struct value *table = nn_parameter(n, "position_embedding.weight", &TENSOR_DESC(g->real, side * side + 1, width),
                                     (struct init){INIT_NORMAL, c->vision_range * c->vision.init_factor});
  if (grid != side) {
    struct value *patches = graph_slice(g, table, 0, 1, side * side);
    patches = graph_reshape(g, patches, &TENSOR_DESC(g->real, 1, side, side, width));
    patches = graph_resize(g, patches, grid, grid, RESIZE_BICUBIC, false); // [1,grid,grid,D]
    patches = graph_reshape(g, patches, &TENSOR_DESC(g->real, grid * grid, width));
    table = graph_concat(g, graph_slice(g, table, 0, 0, 1), patches, 0);
  }
  return graph_reshape(g, table, &TENSOR_DESC(g->real, 1, grid * grid + 1, width));
}

// Pixels [B,S,S,3] to tokens [B,T,D], T = (S/patch)^2 + 1, the class token first.
static struct value *vision_embeddings(struct net *n, const struct clipseg *c, struct value *pixels) {
  if (!pixels) return NULL;
  struct graph *g = n->g;
  const struct transformer_spec *s = &c->vision;
  int64_t batch = pixels->desc.dim[0], grid = pixels->desc.dim[1] / c->patch;
  struct net_scope scope = net_enter(n, "embeddings");
  struct value *class = nn_parameter(n, "class_embedding", &TENSOR_DESC(g->real, s->width),
                                     (struct init){INIT_NORMAL, s->init_factor / sqrt((double)s->width)});
  class = graph_expand(g, class, &TENSOR_DESC(g->real, batch, 1, s->width));
  struct value *w = nn_parameter(n, "patch_embedding.weight", &TENSOR_DESC(g->real, s->width, 3, c->patch, c->patch),
                                 (struct init){INIT_NORMAL, c->vision_range * s->init_factor});
  struct value *x = graph_conv(g, pixels, w, NULL, c->patch, 0);                // [B,grid,grid,D]
  x = graph_reshape(g, x, &TENSOR_DESC(g->real, batch, grid * grid, s->width)); // [B,grid^2,D]
  x = graph_add(g, graph_concat(g, class, x, 1), positions(n, c, grid));        // [B,T,D]
  net_leave(n, scope);
  return x;
}

// The ViT. tap[i] (may be NULL) gets the output of block c->tap[i]; returns the pooled class token [B,D].
static struct value *vision_tower(struct net *n, const struct clipseg *c, struct value *pixels, struct value **tap) {
  struct net_scope scope = net_enter(n, "clip.vision_model");
  struct value *x = nn_layernorm(n, "pre_layrnorm", vision_embeddings(n, c, pixels), c->vision.epsilon);
  struct net_scope blocks = net_enter(n, "encoder");
  for (int i = 0; i < c->vision.layers; i++) {
    x = nn_transformer_layer(n, i, x, &c->vision); // [B,T,D]
    for (int k = 0; tap && k < c->taps; k++) {
      if (c->tap[k] == i) tap[k] = x;
    }
  }
  net_leave(n, blocks);
  x = graph_slice(n->g, x, 1, 0, 1);
  if (x) x = graph_reshape(n->g, x, &TENSOR_DESC(n->g->real, x->desc.dim[0], c->vision.width));
  x = nn_layernorm(n, "post_layernorm", x, c->vision.epsilon);
  net_leave(n, scope);
  return x;
}

// Words [B,L,D] with `context` [M,D] behind the start token: [B,M+L,D].
static struct value *with_context(struct net *n, struct value *words, struct value *context) {
  if (!context || !words) return words;
  struct graph *g = n->g;
  int64_t batch = words->desc.dim[0], length = words->desc.dim[1], m = context->desc.dim[0],
          width = context->desc.dim[1];
  struct value *start = graph_slice(g, words, 1, 0, 1), *rest = graph_slice(g, words, 1, 1, length - 1);
  context = graph_expand(g, context, &TENSOR_DESC(g->real, batch, m, width));
  return graph_concat(g, graph_concat(g, start, context, 1), rest, 1);
}

// The text transformer: ids [B,L] to the row of the pooled token [B,D].
static struct value *text_tower(struct net *n, const struct clipseg *c, struct value *ids, struct value *row,
                                struct value *context) {
  if (!ids) return NULL;
  struct graph *g = n->g;
  const struct transformer_spec *s = &c->text;
  int64_t length = ids->desc.dim[1] + (context ? context->desc.dim[0] : 0);
  struct net_scope scope = net_enter(n, "clip.text_model");
  struct init init = {INIT_NORMAL, 0.02 * s->init_factor};
  struct value *tokens =
      nn_parameter(n, "embeddings.token_embedding.weight", &TENSOR_DESC(g->real, c->vocabulary, s->width), init);
  struct value *place =
      nn_parameter(n, "embeddings.position_embedding.weight", &TENSOR_DESC(g->real, c->positions, s->width), init);
  place = graph_reshape(g, graph_slice(g, place, 0, 0, length), &TENSOR_DESC(g->real, 1, length, s->width));
  struct value *x = graph_add(g, with_context(n, graph_embed(g, ids, tokens), context), place); // [B,L,D]
  struct net_scope blocks = net_enter(n, "encoder");
  for (int i = 0; i < s->layers; i++) x = nn_transformer_layer(n, i, x, s);
  net_leave(n, blocks);
  x = graph_take_row(g, nn_layernorm(n, "final_layer_norm", x, s->epsilon), row); // [B,D]
  net_leave(n, scope);
  return x;
}

static struct init projection_init(const struct transformer_spec *t) {
  return (struct init){INIT_NORMAL, t->init_factor / sqrt((double)t->width)};
}

struct value *clipseg_build(struct net *n, const void *config, const struct model_spec *spec,
                            const struct model_preprocess *pre, struct value *context) {
  const struct clipseg *c = config;
  struct graph *g = n->g;
  struct tensor_desc picture = TENSOR_DESC(DTYPE_U8, spec->batch, spec->size, spec->size, 3);
  struct value *tap[MAX_TAPS] = {NULL};
  struct value *pixels = graph_pixels(g, graph_input(g, "pixels", &picture), pre->mean, pre->std);
  struct value *ids = graph_input(g, "ids", &TENSOR_DESC(DTYPE_I32, spec->batch, spec->text_length));
  struct value *row = graph_input(g, "row", &TENSOR_DESC(DTYPE_I32, spec->batch));

  struct value *pooled = vision_tower(n, c, pixels, tap);
  struct value *words = text_tower(n, c, ids, row, context);
  if (spec->condition == CONDITION_IMAGE) {
    struct value *shown = graph_pixels(g, graph_input(g, "condition_pixels", &picture), pre->mean, pre->std);
    pooled = vision_tower(n, c, shown, NULL);
  }
  struct net_scope clip = net_enter(n, "clip");
  pooled = nn_linear_plain(n, "visual_projection", pooled, c->decoder.condition, projection_init(&c->vision)); // [B,P]
  words = nn_linear_plain(n, "text_projection", words, c->decoder.condition, projection_init(&c->text));       // [B,P]
  (void)nn_parameter(n, "logit_scale", &(struct tensor_desc){.dtype = g->real},
                     (struct init){INIT_CONSTANT, c->logit_scale});
  net_leave(n, clip);
  return clipseg_decoder(n, &c->decoder, tap, spec->condition == CONDITION_IMAGE ? pooled : words, spec->batch,
                         spec->size);
}

static struct value *build(struct net *n, const void *config, const struct model_spec *spec,
                           const struct model_preprocess *pre) {
  return clipseg_build(n, config, spec, pre, NULL);
}

int64_t clipseg_text_width(const void *config) {
  return ((const struct clipseg *)config)->text.width;
}

const struct model_arch clipseg_arch = {
    .name = "clipseg",
    .recipe = CLIPSEG_RECIPE,
    .configure = configure,
    .release = release,
    .check_size = check_size,
    .build = build,
    .text = text,
    .pooled_token = pooled_token,
    .is_encoder = is_encoder,
};
