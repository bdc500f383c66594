// biomedclipseg.c: BiomedCLIPSeg of the study: the two towers of BiomedCLIP (Zhang et al., "BiomedCLIP", arXiv 2303.00915, figure 1)
// under open_clip's names, and CLIPSeg's decoder (Lueddecke and Ecker 2022, figure 2) under transformers'.
//
//   picture [B,S,S,3]                                  prompt [B,L], true length
//      | patches of 16, class token, positions            | words + positions + type, norm
//   timm ViT-B/16, 12 blocks of 768                     PubMedBERT, 12 layers of 768, keys masked at the length
//      |block 11   |block 8    |block 5 (taps)            | [CLS]; 768 -> 640, gelu, -> 512
//      |           |           |                        conditional embedding [B,512]
//      +---- CLIPSeg's decoder (clipseg_decoder.h) ------+
//                      |
//                   logits [B,S,S]
//
// The plain model and the one called -D differ in where the decoder's weights come from. The study runs both towers without gradient, and
// its frozen text tower with dropout, which is a quirk (quirks: study).
#include "base/mem.h"
#include "models/clipseg_decoder.h"
#include "models/model.h"

#include <math.h>
#include <string.h>

enum { MAX_TAPS = 16 };

struct biomedclipseg {
  struct transformer_spec vision; // a block of timm's VisionTransformer
  int64_t image_size, patch;
  struct bert_spec text;
  int64_t text_width, text_layers, vocabulary, positions, types, context;
  int tap[MAX_TAPS]; // the output of the tap-th block, from 1
  struct clipseg_decoder decoder;
};

// ---- configuration -------------------------------------------------------------------------------------------------------------------

struct number {
  const char *key;
  int64_t low, high, standard, *out;
};

static status_t read_numbers(const json_t *object, const char *where, const struct number *number, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const struct number *k = &number[i];
    TRY(json_get_int_or(object, where, k->key, k->low, k->high, k->standard, k->out));
  }
  return OK;
}

// "vision_config" or "text_config"; an empty one stands for a missing one.
static status_t find_part(const json_t *config, const char *where, const char *key, const json_t **out) {
  *out = json_object_get(config, key);
  if (*out && !json_is_object(*out)) return FAIL(ERR_FORMAT, "%s: '%s' must be an object", where, key);
  return OK;
}

static status_t heads_divide(const char *where, const char *width_key, int64_t width, const char *heads_key,
                             int64_t heads) {
  if (width % heads == 0) return OK;
  return FAIL(ERR_FORMAT, "%s: %s %lld is not a multiple of %s %lld", where, width_key, (long long)width, heads_key,
              (long long)heads);
}

// timm's names.
static status_t read_vision(const json_t *config, const char *where, struct biomedclipseg *c) {
  const json_t *part;
  int64_t depth, heads;
  double ratio;
  TRY(find_part(config, where, "vision_config", &part));
  const struct number number[] = {{"img_size", 1, 1 << 14, 224, &c->image_size},
                                  {"patch_size", 1, 1 << 10, 16, &c->patch},
                                  {"embed_dim", 1, 1 << 14, 768, &c->vision.width},
                                  {"depth", 1, 256, 12, &depth},
                                  {"num_heads", 1, 256, 12, &heads}};
  TRY(read_numbers(part, where, number, sizeof number / sizeof *number));
  TRY(json_get_real_or(part, where, "mlp_ratio", 4.0, &ratio));
  if (!(ratio > 0 && ratio <= 64))
    return FAIL(ERR_FORMAT, "%s: vision_config.mlp_ratio must be above 0 and at most 64, met %g", where, ratio);
  if (c->image_size % c->patch) {
    return FAIL(ERR_FORMAT, "%s: vision_config.img_size %lld is not a multiple of patch_size %lld", where,
                (long long)c->image_size, (long long)c->patch);
  }
  TRY(heads_divide(where, "vision_config.embed_dim", c->vision.width, "num_heads", heads));
  c->vision.layers = (int)depth;
  c->vision.heads = (int)heads;
  c->vision.hidden = (int64_t)((double)c->vision.width * ratio);
  if (c->vision.hidden < 1) return FAIL(ERR_FORMAT, "%s: vision_config.mlp_ratio %g leaves no MLP", where, ratio);
  c->vision.epsilon = 1e-6;
  return OK;
}

static status_t read_probability(const json_t *part, const char *where, const char *key, double *out) {
  TRY(json_get_real_or(part, where, key, 0.1, out));
  if (*out >= 0 && *out < 1) return OK;
  return FAIL(ERR_FORMAT, "%s: text_config.%s must be at least 0 and below 1, met %g", where, key, *out);
}

// BertConfig's names and defaults.
static status_t read_text(const json_t *config, const char *where, struct biomedclipseg *c) {
  const json_t *part;
  const char *activation = "gelu", *kind = "absolute";
  int64_t heads;
  TRY(find_part(config, where, "text_config", &part));
  const struct number number[] = {{"vocab_size", 2, 1 << 24, 30522, &c->vocabulary},
                                  {"hidden_size", 1, 1 << 14, 768, &c->text_width},
                                  {"num_hidden_layers", 1, 256, 12, &c->text_layers},
                                  {"num_attention_heads", 1, 256, 12, &heads},
                                  {"intermediate_size", 1, 1 << 16, 3072, &c->text.hidden},
                                  {"max_position_embeddings", 2, 1 << 14, 512, &c->positions},
                                  {"type_vocab_size", 1, 1 << 10, 2, &c->types}};
  TRY(read_numbers(part, where, number, sizeof number / sizeof *number));
  TRY(json_get_real_or(part, where, "layer_norm_eps", 1e-12, &c->text.epsilon));
  TRY(json_get_real_or(part, where, "initializer_range", 0.02, &c->text.init_range));
  TRY(read_probability(part, where, "hidden_dropout_prob", &c->text.dropout));
  TRY(read_probability(part, where, "attention_probs_dropout_prob", &c->text.attention_dropout));
  TRY(json_get_text_or(part, where, "hidden_act", activation, &activation));
  TRY(json_get_text_or(part, where, "position_embedding_type", kind, &kind));
  if (strcmp(activation, "gelu") != 0 || strcmp(kind, "absolute") != 0) {
    return FAIL(ERR_UNSUPPORTED,
                "%s: text_config wants hidden_act 'gelu' and position_embedding_type 'absolute', met '%s' and '%s'",
                where, activation, kind);
  }
  TRY(heads_divide(where, "text_config.hidden_size", c->text_width, "num_attention_heads", heads));
  c->text.heads = (int)heads;
  TRY(json_get_int_or(config, where, "context_length", 2, 1 << 14, 256, &c->context));
  if (c->context > c->positions) {
    return FAIL(ERR_FORMAT, "%s: context_length %lld is over text_config.max_position_embeddings %lld", where,
                (long long)c->context, (long long)c->positions);
  }
  return OK;
}

static status_t read_taps(const json_t *config, const char *where, struct biomedclipseg *c) {
  static const int standard[] = {5, 8, 11};
  const json_t *list = json_object_get(config, "taps");
  c->decoder.taps = 3;
  memcpy(c->tap, standard, sizeof standard);
  if (list && !json_is_null(list)) {
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count < 1 || count > MAX_TAPS)
      return FAIL(ERR_FORMAT, "%s: 'taps' must be a list of 1 to %d block numbers", where, MAX_TAPS);
    c->decoder.taps = (int)count;
    for (size_t i = 0; i < count; i++) {
      const json_t *v = json_array_get(list, i);
      json_int_t block = json_is_integer(v) ? json_integer_value(v) : 0;
      c->tap[i] = block < 1 || block > c->vision.layers ? 0 : (int)block;
    }
  }
  for (int i = 0; i < c->decoder.taps; i++) {
    if (c->tap[i] < 1 || c->tap[i] > c->vision.layers) {
      return FAIL(ERR_FORMAT, "%s: 'taps' (default 5, 8, 11) wants block numbers from 1 to vision_config.depth (%d)",
                  where, c->vision.layers);
    }
  }
  return OK;
}

static status_t configure(const json_t *config, const char *where, void **out) {
  status_t st = OK;
  struct biomedclipseg *c = NULL;
  TRY_GOTO(mem_alloc(&c, 1, sizeof *c), done);
  TRY_GOTO(read_vision(config, where, c), done);
  TRY_GOTO(read_text(config, where, c), done);
  TRY_GOTO(read_taps(config, where, c), done);
  c->decoder.layer.epsilon = 1e-5; // CLIPSeg's, whatever the tower has
  c->decoder.layer.layers = c->vision.layers;
  c->decoder.layer.init_factor = 1;
  c->decoder.vision = c->vision.width;
  c->decoder.patch = (int)c->patch;
  TRY_GOTO(clipseg_decoder_configure(config, where, &c->decoder), done);
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
  const struct biomedclipseg *c = config;
  if (size == c->image_size) return OK;
  return FAIL(ERR_ARG,
              "BiomedCLIPSeg's positions are those of pictures of %lld pixels, and the public code takes no other: met "
              "%lld",
              (long long)c->image_size, (long long)size);
}

static void text(const void *config, int *limit, int *vocabulary) {
  const struct biomedclipseg *c = config;
  *limit = (int)c->context;
  *vocabulary = (int)c->vocabulary;
}

// [CLS]
static int pooled_token(const void *config, const int32_t *ids, int length) {
  (void)config;
  (void)ids;
  (void)length;
  return 0;
}

static bool is_encoder(const char *parameter) {
  return !strncmp(parameter, "biomedclip.", 11);
}

// ---- the figure ----------------------------------------------------------------------------------------------------------------------

// The first token of each sample: [B,T,D] to [B,D].
static struct value *first_token(struct net *n, struct value *x) {
  if (!x) return NULL;
  struct tensor_desc row = TENSOR_DESC(n->g->real, x->desc.dim[0], desc_columns(&x->desc));
  return graph_reshape(n->g, graph_slice(n->g, x, 1, 0, 1), &row);
}

// Pixels [B,S,S,3] to tokens [B,T,D], T = (S/patch)^2 + 1, the class token first.
static struct value *vision_embeddings(struct net *n, const struct biomedclipseg *c, struct value *pixels) {
  if (!pixels) return NULL;
  struct graph *g = n->g;
  int64_t batch = pixels->desc.dim[0], grid = c->image_size / c->patch, width = c->vision.width;
  struct value *class =
      nn_parameter(n, "cls_token", &TENSOR_DESC(g->real, 1, 1, width), (struct init){INIT_NORMAL, 1e-6});
  struct value *place =
      nn_parameter(n, "pos_embed", &TENSOR_DESC(g->real, 1, grid * grid + 1, width), (struct init){INIT_NORMAL, 0.02});
  struct value *x = nn_conv(n, "patch_embed.proj", pixels, width, (int)c->patch, (int)c->patch, 0); // [B,grid,grid,D]
  x = graph_reshape(g, x, &TENSOR_DESC(g->real, batch, grid * grid, width));
  class = graph_expand(g, class, &TENSOR_DESC(g->real, batch, 1, width));
  return graph_add(g, graph_concat(g, class, x, 1), place);
}

// The ViT: tap[i] gets the output of block c->tap[i]. Its own end, which CLIP is trained with and the decoder does not ask for, is declared.
static void vision_tower(struct net *n, const struct biomedclipseg *c, struct value *pixels, struct value **tap) {
  struct net_scope visual = net_enter(n, "visual"), trunk = net_enter(n, "trunk");
  struct value *x = vision_embeddings(n, c, pixels);
  for (int i = 0; i < c->vision.layers; i++) {
    x = nn_vit_block(n, i, x, &c->vision); // [B,T,D]
    for (int k = 0; k < c->decoder.taps; k++) {
      if (c->tap[k] == i + 1) tap[k] = x;
    }
  }
  x = first_token(n, nn_layernorm(n, "norm", x, c->vision.epsilon));
  net_leave(n, trunk);
  (void)nn_linear_plain(n, "head.proj", x, c->decoder.condition, nn_default_init(c->vision.width));
  net_leave(n, visual);
}

// ids [B,L] to the hidden states of their tokens [B,L,D].
static struct value *bert(struct net *n, const struct biomedclipseg *c, const struct bert_spec *layer,
                          struct value *ids) {
  if (!ids) return NULL;
  struct graph *g = n->g;
  int64_t length = ids->desc.dim[1], width = c->text_width;
  struct init init = {INIT_NORMAL, layer->init_range};
  struct net_scope transformer = net_enter(n, "transformer"), embeddings = net_enter(n, "embeddings");
  struct value *words = nn_parameter(n, "word_embeddings.weight", &TENSOR_DESC(g->real, c->vocabulary, width), init);
  struct value *place = nn_parameter(n, "position_embeddings.weight", &TENSOR_DESC(g->real, c->positions, width), init);
  struct value *type = nn_parameter(n, "token_type_embeddings.weight", &TENSOR_DESC(g->real, c->types, width), init);
  place = graph_reshape(g, graph_slice(g, place, 0, 0, length), &TENSOR_DESC(g->real, 1, length, width));
  type = graph_reshape(g, graph_slice(g, type, 0, 0, 1), &TENSOR_DESC(g->real, 1, 1, width)); // one sentence: type 0
  struct value *x = graph_add(g, graph_add(g, graph_embed(g, ids, words), type), place);      // [B,L,D]
  x = nn_dropout(n, nn_layernorm(n, "LayerNorm", x, layer->epsilon), layer->dropout);
  net_leave(n, embeddings);
  for (int i = 0; i < c->text_layers; i++) x = nn_bert_layer(n, i, x, layer);
  net_leave(n, transformer);
  return x;
}

// ids [B,L] and their true lengths to the conditional embedding [B,P].
static struct value *text_tower(struct net *n, const struct biomedclipseg *c, struct value *ids, struct value *length,
                                bool study) {
  struct bert_spec layer = c->text;
  int64_t hidden = (c->text_width + c->decoder.condition) / 2;
  layer.length = length;
  struct net_scope scope = net_enter(n, "text");
  // A frozen tower is one that does not change: without dropout, unless as the study has it.
  if (!study && !n->trained(n->context, "biomedclip.text.transformer.embeddings.word_embeddings.weight"))
    layer.dropout = layer.attention_dropout = 0;
  struct value *x = first_token(n, bert(n, c, &layer, ids)); // [B,D]
  x = nn_linear_plain(n, "proj.0", x, hidden, nn_default_init(c->text_width));
  x = nn_linear_plain(n, "proj.2", graph_activation(n->g, x, ACT_GELU_ERF), c->decoder.condition,
                      nn_default_init(hidden));
  net_leave(n, scope);
  return x;
}

static struct value *build(struct net *n, const void *config, const struct model_spec *spec,
                           const struct model_preprocess *pre) {
  const struct biomedclipseg *c = config;
  struct graph *g = n->g;
  if (spec->condition != CONDITION_TEXT) {
    g->status = FAIL(ERR_UNSUPPORTED, "BiomedCLIPSeg is told what to segment by a text: a picture as prompt wants "
                                      "clipseg");
    return NULL;
  }
  struct tensor_desc picture = TENSOR_DESC(DTYPE_U8, spec->batch, spec->size, spec->size, 3);
  struct value *pixels = graph_pixels(g, graph_input(g, "pixels", &picture), pre->mean, pre->std);
  struct value *ids = graph_input(g, "ids", &TENSOR_DESC(DTYPE_I32, spec->batch, spec->text_length));
  struct value *length = graph_input(g, "length", &TENSOR_DESC(DTYPE_I32, spec->batch));
  struct value *tap[MAX_TAPS] = {NULL};

  struct net_scope clip = net_enter(n, "biomedclip");
  vision_tower(n, c, pixels, tap);
  struct value *condition = text_tower(n, c, ids, length, spec->study);
  (void)nn_parameter(n, "logit_scale", &(struct tensor_desc){.dtype = g->real},
                     (struct init){INIT_CONSTANT, log(1 / 0.07)});
  net_leave(n, clip);
  return clipseg_decoder(n, &c->decoder, tap, condition, spec->batch, spec->size);
}

const struct model_arch biomedclipseg_arch = {
    .name = "biomedclipseg",
    .recipe = {.size = 224,
               .mean = {0.48145466, 0.4578275, 0.40821073}, // CLIP's
               .std = {0.26862954, 0.26130258, 0.27577711},
               .lr = 2e-3,
               .weight_decay = 1e-3,
               .threshold = 0.5,
               .batch = 128,
               .plateau = true},
    .configure = configure,
    .release = release,
    .check_size = check_size,
    .build = build,
    .text = text,
    .pooled_token = pooled_token,
    .is_encoder = is_encoder,
};
