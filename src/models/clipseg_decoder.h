// clipseg_decoder.h: CLIPSeg's decoder (Lueddecke and Ecker 2022, figure 2) under transformers' names, which CLIPSeg and
// BiomedCLIPSeg share.
//
//      tap[2]      tap[1]      tap[0]                   conditional embedding [B,P]
//      |reduce     |reduce     |reduce  768 -> 64          |
//      x FiLM <----|-----------|---------------------------+  mul and add
//   [layer 0] --> +[layer 1] --> +[layer 2]           post-norm transformer layers of 64, 4 heads, MLP 2048, relu
//                                    | without the class token, as a grid [B,S/16,S/16,64]
//                                 transposed convolution 16 x 16 -> logits [B,S,S]
#ifndef GRIDSEG_MODELS_CLIPSEG_DECODER_H
#define GRIDSEG_MODELS_CLIPSEG_DECODER_H

#include "base/json.h"
#include "nn/net.h"

struct clipseg_decoder {
  // The caller says what it goes by: layer.epsilon, layer.layers and layer.init_factor (transformers copies the vision
  // configuration), the width of the taps, the side of a patch, and how many taps there are.
  struct transformer_spec layer;
  int64_t vision;
  int patch, taps;
  // From config.json:
  int64_t condition; // D of the conditional embedding
  int conditional_layer;
  bool complex_head;
};

// Read the decoder's keys; errors name `where` and key.
status_t clipseg_decoder_configure(const json_t *config, const char *where, struct clipseg_decoder *d);

// "decoder": taps [B,T,D] (the class token first), the shallowest first, to logits [B,S,S].
struct value *clipseg_decoder(struct net *n, const struct clipseg_decoder *d, struct value *const *tap,
                              struct value *condition, int64_t batch, int64_t size);

#endif
