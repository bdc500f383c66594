// clipseg_decoder.c: see clipseg_decoder.h.
#include "models/clipseg_decoder.h"

#include <math.h>

status_t clipseg_decoder_configure(const json_t *config, const char *where, struct clipseg_decoder *d) {
  int64_t heads, layer;
  TRY(json_get_int_or(config, where, "projection_dim", 1, 1 << 14, 512, &d->condition));
  TRY(json_get_int_or(config, where, "reduce_dim", 2, 1 << 14, 64, &d->layer.width));
  TRY(json_get_int_or(config, where, "decoder_num_attention_heads", 1, 256, 4, &heads));
  TRY(json_get_int_or(config, where, "decoder_intermediate_size", 1, 1 << 16, 2048, &d->layer.hidden));
  TRY(json_get_int_or(config, where, "conditional_layer", -1, 255, 0, &layer));
  TRY(json_get_bool_or(config, where, "use_complex_transposed_convolution", false, &d->complex_head));
  d->layer.heads = (int)heads;
  d->layer.activation = ACT_RELU;
  d->layer.order = NORM_LAST;
  d->layer.causal = false;
  d->conditional_layer = (int)layer;
  if (d->layer.width % heads) {
    return FAIL(ERR_FORMAT, "%s: reduce_dim %lld is not a multiple of decoder_num_attention_heads %lld", where,
                (long long)d->layer.width, (long long)heads);
  }
  if (d->complex_head && d->patch != 16) {
    return FAIL(ERR_UNSUPPORTED,
                "%s: use_complex_transposed_convolution wants patch_size 16 (its two strides are patch_size / 4 each, "
                "so that the public code gives logits of another size than the picture), met %d",
                where, d->patch);
  }
  return OK;
}

// Decoder tokens [B,T,R] to logits [B,S,S].
static struct value *head(struct net *n, const struct clipseg_decoder *d, struct value *x, int64_t batch,
                          int64_t size) {
  struct graph *g = n->g;
  int64_t grid = size / d->patch, width = d->layer.width;
  x = graph_slice(g, x, 1, 1, grid * grid); // the class token has done its work
  x = graph_reshape(g, x, &TENSOR_DESC(g->real, batch, grid, grid, width));
  struct net_scope scope;
  if (d->complex_head) {
    int stride = d->patch / 4;
    scope = net_enter(n, "transposed_convolution");
    x = graph_activation(g, nn_conv(n, "0", x, width, 3, 1, 1), ACT_RELU);                      // [B,S/16,S/16,R]
    x = graph_activation(g, nn_conv_transpose(n, "2", x, width / 2, stride, stride), ACT_RELU); // [B,S/4,S/4,R/2]
    x = nn_conv_transpose(n, "4", x, 1, stride, stride);                                        // [B,S,S,1]
    net_leave(n, scope);
  } else {
    x = nn_conv_transpose(n, "transposed_convolution", x, 1, d->patch, d->patch); // [B,S,S,1]
  }
  return graph_reshape(g, x, &TENSOR_DESC(g->real, batch, size, size));
}

struct value *clipseg_decoder(struct net *n, const struct clipseg_decoder *d, struct value *const *tap,
                              struct value *condition, int64_t batch, int64_t size) {
  struct graph *g = n->g;
  int64_t width = d->layer.width;
  struct init reduce = nn_default_init(d->vision), film = nn_default_init(d->condition);
  struct net_scope scope = net_enter(n, "decoder");
  struct tensor_desc each = TENSOR_DESC(g->real, batch, 1, width);
  struct value *mul = graph_reshape(g, nn_linear(n, "film_mul", condition, width, film), &each); // [B,1,R]
  struct value *add = graph_reshape(g, nn_linear(n, "film_add", condition, width, film), &each);
  struct value *x = NULL;
  for (int i = 0; i < d->taps; i++) { // the deepest tap first
    char name[32];
    (void)snprintf(name, sizeof name, "reduces.%d", i);
    struct value *a = nn_linear(n, name, tap[d->taps - 1 - i], width, reduce); // [B,T,R]
    x = i == 0 ? a : graph_add(g, x, a);
    if (i == d->conditional_layer) x = graph_add(g, graph_multiply(g, x, mul), add);
    x = nn_transformer_layer(n, i, x, &d->layer);
  }
  x = head(n, d, x, batch, size);
  net_leave(n, scope);
  return x;
}
