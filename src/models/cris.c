// cris.c: CRIS (Wang et al., "CRIS: CLIP-Driven Referring Image Segmentation", CVPR 2022, arXiv 2111.15174, figure 2), in the form and
// with the state dict that the study's repository publishes.
//
//   picture [B,S,S,3]                                           text [B,L]
//      | CLIP's ResNet-50                                          | tokens, positions, causal, 12 blocks of 512
//      v3 [S/8] 512   v4 [S/16] 1024   v5 [S/32] 1024 (attnpool)   | ln_final: words [B,L,512]
//      |                |               |                          |    state [B,1024] = end token x text_projection
//      |                |              x state, norm, relu = f5 <--+---- txt_proj
//      |                + <- up 2 ------+
//      + pool 2 ------> f4              |                       neck (FPN): everything at S/16
//      f3               |               |
//      +----------------+--- aggr <-----+   CoordConv
//      |
//   [B,(S/16)^2,512] decoder, 3 layers: self-attention, cross-attention to words (masked at their length), FFN; sine codes
//      | up 2, 3x3, up 2, 3x3, 1x1 = features [B,S/4,S/4,256]
//   projector: a 3x3 kernel and a bias that proj.txt makes of state, for each sample -> [B,S/4,S/4]
//      | bicubic, aligned corners
//   logits [B,S,S]
//
// The public code masks every token whose id is 0 in the cross-attention. Here the text ends at its length, which is the same for texts
// padded with id 0 (CLIP's id 0 is an exclamation mark inside a run of punctuation, which is masked there and not here).
#include "base/mem.h"
#include "models/clip_resnet.h"
#include "models/model.h"

#include <math.h>
#include <string.h>

struct cris {
  struct clip_resnet_spec vision;
  int64_t image_resolution, vision_width, embed; // embed: D of state, and channels of v5
  int64_t context, word_limit, vocabulary;       // rows of the position table, longest text, rows of the token table
  int64_t text_width, text_heads, text_layers;
  int64_t fpn_in[3], fpn_out[3];
  int64_t vis, word; // width of the decoder; what the projector makes its kernel of
  int64_t layers, heads, hidden, img_size;
  double dropout;
};

static const double epsilon = 1e-5; // torch.nn.LayerNorm

// ---- configuration -------------------------------------------------------------------------------------------------------------------

static status_t read_list(const json_t *config, const char *where, const char *key, size_t count, int64_t high,
                          const int64_t *standard, int64_t *out) {
  const json_t *list = json_object_get(config, key);
  memcpy(out, standard, count * sizeof *out);
  if (!list || json_is_null(list)) return OK;
  if (!strcmp(key, "vision_layers") && json_is_integer(list)) {
    return FAIL(ERR_UNSUPPORTED,
                "%s: vision_layers is a number, which is CLIP's ViT: the neck of CRIS wants three levels, and the "
                "public code gets one from a ViT; four numbers say how deep a ResNet is",
                where);
  }
  if (!json_is_array(list) || json_array_size(list) != count)
    return FAIL(ERR_FORMAT, "%s: '%s' must be a list of %zu numbers", where, key, count);
  for (size_t i = 0; i < count; i++) {
    const json_t *v = json_array_get(list, i);
    out[i] = json_is_integer(v) ? json_integer_value(v) : 0;
    if (out[i] < 1 || out[i] > high)
      return FAIL(ERR_FORMAT, "%s: '%s' wants whole numbers from 1 to %lld", where, key, (long long)high);
  }
  return OK;
}

static status_t read_numbers(const json_t *config, const char *where, struct cris *c) {
  const struct {
    const char *key;
    int64_t low, high, standard, *out;
  } number[] = {
      {"image_resolution", 32, 1 << 14, 224, &c->image_resolution},
      {"vision_width", 2, 1 << 10, 64, &c->vision_width},
      {"embed_dim", 1, 1 << 14, 1024, &c->embed},
      {"context_length", 2, 1 << 14, 77, &c->context},
      {"word_len", 2, 1 << 14, 77, &c->word_limit},
      {"vocab_size", 2, 1 << 24, 49408, &c->vocabulary},
      {"transformer_width", 1, 1 << 14, 512, &c->text_width},
      {"transformer_heads", 1, 256, 8, &c->text_heads},
      {"transformer_layers", 1, 256, 12, &c->text_layers},
      {"vis_dim", 4, 1 << 14, 512, &c->vis},
      {"word_dim", 1, 1 << 14, 1024, &c->word},
      {"num_layers", 1, 256, 3, &c->layers},
      {"num_head", 1, 256, 8, &c->heads},
      {"dim_ffn", 1, 1 << 16, 2048, &c->hidden},
      {"img_size", 32, 1 << 14, 416, &c->img_size},
  };
  for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
    TRY(json_get_int_or(config, where, number[i].key, number[i].low, number[i].high, number[i].standard,
                        number[i].out));
  }
  TRY(json_get_real_or(config, where, "dropout", 0.2, &c->dropout));
  if (!(c->dropout >= 0 && c->dropout < 1))
    return FAIL(ERR_FORMAT, "%s: 'dropout' must be at least 0 and below 1, met %g", where, c->dropout);
  return OK;
}

static status_t multiple(const char *where, const char *what, int64_t n, const char *of, int64_t by) {
  if (by < 1 || n % by)
    return FAIL(ERR_FORMAT, "%s: %s %lld is not a multiple of %s %lld", where, what, (long long)n, of, (long long)by);
  return OK;
}

// What the public modules hand to each other, and so must agree.
static status_t check_widths(const char *where, const struct cris *c) {
  const struct {
    const char *key;
    int64_t met, wanted;
    const char *reason;
  } pair[] = {
      {"fpn_in[0]", c->fpn_in[0], 8 * c->vision_width, "layer2 gives 8 x vision_width channels"},
      {"fpn_in[1]", c->fpn_in[1], 16 * c->vision_width, "layer3 gives 16 x vision_width channels"},
      {"fpn_in[2]", c->fpn_in[2], c->embed, "attnpool gives embed_dim channels"},
      {"word_dim", c->word, c->embed, "the text's state has embed_dim channels"},
      {"vis_dim", c->vis, c->fpn_out[1], "the neck gives fpn_out[1] channels"},
      {"transformer_width", c->text_width, c->vis, "the decoder attends to words of width vis_dim"},
  };
  for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
    if (pair[i].met != pair[i].wanted) {
      return FAIL(ERR_FORMAT, "%s: %s must be %lld (%s), met %lld", where, pair[i].key, (long long)pair[i].wanted,
                  pair[i].reason, (long long)pair[i].met);
    }
  }
  if (c->word_limit > c->context) {
    return FAIL(ERR_FORMAT, "%s: word_len %lld is over context_length %lld", where, (long long)c->word_limit,
                (long long)c->context);
  }
  TRY(multiple(where, "vis_dim", c->vis, "4 (sine codes)", 4));
  TRY(multiple(where, "vis_dim", c->vis, "num_head", c->heads));
  TRY(multiple(where, "transformer_width", c->text_width, "transformer_heads", c->text_heads));
  return multiple(where, "32 x vision_width", 32 * c->vision_width, "the heads of attnpool, vision_width / 2,",
                  c->vision.heads);
}

static status_t configure(const json_t *config, const char *where, void **out) {
  static const int64_t blocks[] = {3, 4, 6, 3}, in[] = {512, 1024, 1024}, made[] = {256, 512, 1024};
  status_t st = OK;
  struct cris *c = NULL;
  int64_t depth[4];
  TRY_GOTO(mem_alloc(&c, 1, sizeof *c), done);
  TRY_GOTO(read_numbers(config, where, c), done);
  TRY_GOTO(read_list(config, where, "vision_layers", 4, 256, blocks, depth), done);
  TRY_GOTO(read_list(config, where, "fpn_in", 3, 1 << 15, in, c->fpn_in), done);
  TRY_GOTO(read_list(config, where, "fpn_out", 3, 1 << 15, made, c->fpn_out), done);
  for (int i = 0; i < 4; i++) c->vision.blocks[i] = (int)depth[i];
  c->vision.width = c->vision_width;
  c->vision.output = c->embed;
  c->vision.resolution = c->image_resolution;
  c->vision.heads = (int)(c->vision_width * 32 / 64);
  TRY_GOTO(check_widths(where, c), done);
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
  (void)config;
  if (size < 32 || size % 32)
    return FAIL(ERR_ARG, "CRIS halves the picture five times: it wants a size that 32 divides, met %lld",
                (long long)size);
  return OK;
}

static void text(const void *config, int *limit, int *vocabulary) {
  const struct cris *c = config;
  *limit = (int)c->word_limit;
  *vocabulary = (int)c->vocabulary;
}

// The end token has the highest id; the first of them.
static int pooled_token(const void *config, const int32_t *ids, int length) {
  (void)config;
  int best = 0;
  for (int i = 1; i < length; i++) {
    if (ids[i] > ids[best]) best = i;
  }
  return best;
}

static bool is_encoder(const char *parameter) {
  return !strncmp(parameter, "backbone.", 9);
}

// ---- text tower ----------------------------------------------------------------------------------------------------------------------

// x + attention(ln_1(x)), x + mlp(ln_2(x)); starts as CLIP.initialize_parameters says.
static struct value *text_block(struct net *n, const struct cris *c, int index, struct value *x) {
  if (!x) return NULL;
  struct graph *g = n->g;
  int64_t width = c->text_width;
  double each = 1.0 / sqrt((double)width);
  struct init attn = {INIT_NORMAL, each}, proj = {INIT_NORMAL, each / sqrt(2.0 * (double)c->text_layers)};
  struct init fc = {INIT_NORMAL, 1.0 / sqrt(2.0 * (double)width)};
  struct multihead_spec spec = {.heads = (int)c->text_heads, .causal = true, .in = attn, .out = proj};
  struct net_scope scope = net_enter(n, "transformer.resblocks.%d", index);
  struct value *h = nn_layernorm(n, "ln_1", x, epsilon);
  x = graph_add(g, x, nn_multihead_attention(n, "attn", h, h, h, &spec));
  h = nn_layernorm(n, "ln_2", x, epsilon);
  h = nn_linear_with(n, "mlp.c_fc", h, 4 * width, fc, nn_default_init(width));
  h = graph_activation(g, h, ACT_QUICKGELU); // [B,L,4D]
  x = graph_add(g, x, nn_linear_with(n, "mlp.c_proj", h, width, proj, nn_default_init(4 * width)));
  net_leave(n, scope);
  return x;
}

// ids [B,L] to words [B,L,D]; *state [B,E] is the end token's.
static struct value *text_tower(struct net *n, const struct cris *c, struct value *ids, struct value *row,
                                struct value **state) {
  *state = NULL;
  if (!ids) return NULL;
  struct graph *g = n->g;
  int64_t length = ids->desc.dim[1], width = c->text_width;
  struct value *tokens = nn_parameter(n, "token_embedding.weight", &TENSOR_DESC(g->real, c->vocabulary, width),
                                      (struct init){INIT_NORMAL, 0.02});
  struct value *place = nn_parameter(n, "positional_embedding", &TENSOR_DESC(g->real, c->context, width),
                                     (struct init){INIT_NORMAL, 0.01});
  place = graph_reshape(g, graph_slice(g, place, 0, 0, length), &TENSOR_DESC(g->real, 1, length, width));
  struct value *x = graph_add(g, graph_embed(g, ids, tokens), place); // [B,L,D]
  for (int i = 0; i < c->text_layers; i++) x = text_block(n, c, i, x);
  x = nn_layernorm(n, "ln_final", x, epsilon);
  struct value *project = nn_parameter(n, "text_projection", &TENSOR_DESC(g->real, width, c->embed),
                                       (struct init){INIT_NORMAL, 1.0 / sqrt((double)width)});
  *state = graph_linear(g, graph_take_row(g, x, row), graph_transpose(g, project), NULL); // [B,E]
  return x;
}

// ---- neck ----------------------------------------------------------------------------------------------------------------------------

// "name": convolution without bias, BatchNorm, relu.
static struct value *conv_layer(struct net *n, const char *name, struct value *x, int64_t out, int kernel) {
  if (!x) return NULL;
  struct conv_spec spec = {.out = out,
                           .kernel = kernel,
                           .stride = 1,
                           .pad = kernel / 2,
                           .init = nn_default_init(desc_columns(&x->desc) * kernel * kernel)};
  struct net_scope scope = net_enter(n, "%s", name);
  x = graph_activation(n->g, nn_batchnorm(n, "1", nn_conv2d(n, "0", x, &spec), 1), ACT_RELU);
  net_leave(n, scope);
  return x;
}

static struct value *twice(struct net *n, struct value *x) {
  return x ? graph_resize(n->g, x, 2 * x->desc.dim[1], 2 * x->desc.dim[2], RESIZE_BILINEAR, false) : NULL;
}

// x [B,H,W,C] and the column and row of every pixel, from -1 to 1: [B,H,W,C+2].
static struct value *with_coordinates(struct net *n, struct value *x) {
  if (!x) return NULL;
  struct graph *g = n->g;
  int64_t batch = x->desc.dim[0], high = x->desc.dim[1], wide = x->desc.dim[2];
  double *table = NULL;
  status_t st = mem_alloc(&table, (size_t)(high * wide * 2), sizeof *table);
  if (st != OK) {
    g->status = st;
    return NULL;
  }
  for (int64_t p = 0; p < high * wide; p++) { // torch.linspace(-1, 1, 1) is -1
    table[2 * p] = wide > 1 ? 2.0 * (double)(p % wide) / (double)(wide - 1) - 1.0 : -1.0;
    table[2 * p + 1] = high > 1 ? 2.0 * (double)(p / wide) / (double)(high - 1) - 1.0 : -1.0;
  }
  struct value *at = graph_constant(g, &TENSOR_DESC(g->real, 1, high, wide, 2), table);
  mem_free(&table);
  return graph_concat(g, x, graph_expand(g, at, &TENSOR_DESC(g->real, batch, high, wide, 2)), 3);
}

// The three levels and the text's state to one map [B,S/16,S/16,fpn_out[1]].
static struct value *neck(struct net *n, const struct cris *c, struct value *const level[3], struct value *state) {
  struct graph *g = n->g;
  const int64_t *out = c->fpn_out;
  struct net_scope scope = net_enter(n, "neck");
  state = nn_linear_plain(n, "txt_proj.0", state, out[2], nn_default_init(c->fpn_in[2]));
  state = graph_activation(g, nn_batchnorm(n, "txt_proj.1", state, 1), ACT_RELU); // [B,out2]
  if (state) state = graph_reshape(g, state, &TENSOR_DESC(g->real, state->desc.dim[0], 1, 1, out[2]));

  struct value *f5 = graph_multiply(g, conv_layer(n, "f1_v_proj", level[2], out[2], 1), state);
  f5 = graph_activation(g, nn_batchnorm(n, "norm_layer.0", f5, 1), ACT_RELU); // [B,S/32,S/32,out2]

  struct value *f4 = conv_layer(n, "f2_v_proj", level[1], out[1], 3);
  f4 = conv_layer(n, "f2_cat", graph_concat(g, f4, twice(n, f5), 3), out[1], 1); // [B,S/16,S/16,out1]

  struct value *f3 = conv_layer(n, "f3_v_proj", level[0], out[0], 3);
  f3 = graph_pool(g, f3, POOL_AVERAGE, 2, 2, 0);
  f3 = conv_layer(n, "f3_cat", graph_concat(g, f3, f4, 3), out[1], 1); // [B,S/16,S/16,out1]

  f5 = twice(n, conv_layer(n, "f4_proj5", f5, out[1], 3));
  f4 = conv_layer(n, "f4_proj4", f4, out[1], 3);
  f3 = conv_layer(n, "f4_proj3", f3, out[1], 3);
  struct value *x = conv_layer(n, "aggr", graph_concat(g, graph_concat(g, f3, f4, 3), f5, 3), out[1], 1);
  x = conv_layer(n, "coordconv.0.conv1", with_coordinates(n, x), out[1], 3);
  x = conv_layer(n, "coordconv.1", x, out[1], 3);
  net_leave(n, scope);
  return x;
}

// ---- decoder and projector -----------------------------------------------------------------------------------------------------------

// What every layer of the decoder attends to.
struct decoder_words {
  struct value *key, *value; // words with and without their places [B,L,D]
  struct value *place;       // of the picture's positions [1,T,D]
  struct value *length;
};

static struct value *decoder_layer(struct net *n, const struct cris *c, struct value *x,
                                   const struct decoder_words *w) {
  struct graph *g = n->g;
  struct multihead_spec spec = {
      .heads = (int)c->heads, .dropout = c->dropout, .in = nn_multihead_init(c->vis), .out = nn_default_init(c->vis)};
  struct value *h = nn_layernorm(n, "norm1", x, epsilon), *q = graph_add(g, h, w->place);
  h = nn_layernorm(n, "self_attn_norm", nn_multihead_attention(n, "self_attn", q, q, h, &spec), epsilon);
  x = graph_add(g, x, nn_dropout(n, h, c->dropout));

  spec.length = w->length;
  q = graph_add(g, nn_layernorm(n, "norm2", x, epsilon), w->place);
  h = nn_multihead_attention(n, "multihead_attn", q, w->key, w->value, &spec);
  h = nn_layernorm(n, "cross_attn_norm", h, epsilon);
  x = graph_add(g, x, nn_dropout(n, h, c->dropout));

  h = nn_linear_default(n, "ffn.0", nn_layernorm(n, "norm3", x, epsilon), c->hidden);
  h = nn_dropout(n, graph_activation(g, h, ACT_RELU), c->dropout); // [B,T,F]
  h = nn_linear_default(n, "ffn.4", nn_layernorm(n, "ffn.3", h, epsilon), c->vis);
  return graph_add(g, x, nn_dropout(n, h, c->dropout));
}

// The map [B,H,W,D] through the layers, attending to words [B,L,D].
static struct value *decoder(struct net *n, const struct cris *c, struct value *x, struct value *words,
                             struct value *length) {
  if (!x || !words) return NULL;
  struct graph *g = n->g;
  struct tensor_desc map = x->desc;
  const int64_t *dim = map.dim;
  struct net_scope scope = net_enter(n, "decoder");
  struct decoder_words w = {.key = graph_add(g, words, nn_sine_code(n, words->desc.dim[1], c->vis)),
                            .value = words,
                            .place = nn_sine_code_2d(n, dim[1], dim[2], c->vis),
                            .length = length};
  x = graph_reshape(g, x, &TENSOR_DESC(g->real, dim[0], dim[1] * dim[2], c->vis));
  for (int i = 0; i < c->layers; i++) {
    struct net_scope layer = net_enter(n, "layers.%d", i);
    x = decoder_layer(n, c, x, &w);
    net_leave(n, layer);
  }
  x = graph_reshape(g, nn_layernorm(n, "norm", x, epsilon), &map);
  net_leave(n, scope);
  return x;
}

// Each sample's own 3x3 kernel and bias, made of its text, on the picture's features: [B,S/4,S/4,1].
static struct value *projector(struct net *n, const struct cris *c, struct value *x, struct value *state) {
  struct graph *g = n->g;
  int64_t width = c->vis / 2, taps = width * 9;
  struct conv_spec last = {.out = width, .kernel = 1, .stride = 1, .bias = true, .init = nn_default_init(width)};
  struct net_scope scope = net_enter(n, "proj");
  x = conv_layer(n, "vis.1", twice(n, x), 2 * width, 3); // [B,S/8,S/8,D]
  x = conv_layer(n, "vis.3", twice(n, x), width, 3);     // [B,S/4,S/4,D/2]
  x = nn_conv2d(n, "vis.4", x, &last);                   // [B,S/4,S/4,D/2]
  state = nn_linear_default(n, "txt", state, taps + 1);  // [B,D/2*9+1]
  net_leave(n, scope);
  if (!x || !state) return NULL;
  int64_t batch = x->desc.dim[0];
  struct value *w = graph_reshape(g, graph_slice(g, state, 1, 0, taps), &TENSOR_DESC(g->real, batch, width, 3, 3));
  struct value *b = graph_reshape(g, graph_slice(g, state, 1, taps, 1), &TENSOR_DESC(g->real, batch));
  return graph_conv_each(g, x, w, b, 1);
}

static struct value *build(struct net *n, const void *config, const struct model_spec *spec,
                           const struct model_preprocess *pre) {
  const struct cris *c = config;
  struct graph *g = n->g;
  if (spec->condition != CONDITION_TEXT) {
    g->status = FAIL(ERR_UNSUPPORTED, "CRIS is told what to segment by a text: a picture as prompt wants clipseg");
    return NULL;
  }
  struct tensor_desc picture = TENSOR_DESC(DTYPE_U8, spec->batch, spec->size, spec->size, 3), each;
  each = TENSOR_DESC(DTYPE_I32, spec->batch);
  struct value *pixels = graph_pixels(g, graph_input(g, "pixels", &picture), pre->mean, pre->std);
  struct value *ids = graph_input(g, "ids", &TENSOR_DESC(DTYPE_I32, spec->batch, spec->text_length));
  struct value *row = graph_input(g, "row", &each), *length = graph_input(g, "length", &each);

  struct value *level[3] = {NULL}, *state;
  struct net_scope backbone = net_enter(n, "backbone"), visual = net_enter(n, "visual");
  clip_resnet(n, &c->vision, pixels, level);
  net_leave(n, visual);
  struct value *words = text_tower(n, c, ids, row, &state);
  (void)nn_parameter(n, "logit_scale", &(struct tensor_desc){.dtype = g->real},
                     (struct init){INIT_CONSTANT, log(1 / 0.07)});
  net_leave(n, backbone);

  struct value *x = neck(n, c, level, state); // [B,S/16,S/16,D]
  x = decoder(n, c, x, words, length);
  x = projector(n, c, x, state); // [B,S/4,S/4,1]
  if (!x) return NULL;
  x = graph_resize(g, x, spec->size, spec->size, RESIZE_BICUBIC, true);
  return graph_reshape(g, x, &TENSOR_DESC(g->real, spec->batch, spec->size, spec->size));
}

const struct model_arch cris_arch = {
    .name = "cris",
    .recipe = {.size = 416,
               .mean = {0.48145466, 0.4578275, 0.40821073}, // CLIP's
               .std = {0.26862954, 0.26130258, 0.27577711},
               .lr = 2e-5,
               .weight_decay = 1e-3,
               .threshold = 0.35,
               .batch = 32,
               .plateau = true,
               .encoders = true},
    .configure = configure,
    .release = release,
    .check_size = check_size,
    .build = build,
    .text = text,
    .pooled_token = pooled_token,
    .is_encoder = is_encoder,
    .attends_pads = true,
};
