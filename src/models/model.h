// model.h: a model directory (config.json, preprocessor_config.json, weights, tokenizer files) and what every architecture
// tells the engine: how to read its configuration, how to build its graph, and the recipe that the study trained it with.
#ifndef GRIDSEG_MODELS_MODEL_H
#define GRIDSEG_MODELS_MODEL_H

#include "base/json.h"
#include "nn/net.h"

typedef enum { CONDITION_TEXT, CONDITION_IMAGE } condition_t;

// The recipe of the study, by architecture: the defaults of train.yaml (DESIGN, "Configuration").
struct model_recipe {
  int size;
  double mean[3], std[3]; // of pixels / 255, where preprocessor_config.json does not say
  double lr, weight_decay, threshold;
  int batch;
  bool plateau;
  bool encoders; // they are trained too
};

// What one graph is built for.
struct model_spec {
  int64_t batch, size;   // B; pictures are [B,size,size,3]
  int64_t text_length;   // L: ids are int32 [B,L]
  condition_t condition; // CONDITION_IMAGE: the prompt is a picture, input "condition_pixels"
  bool study;            // quirks: study; net.training tells training from evaluation
};

// mean and std of preprocessor_config.json; pixels / 255 are normalised with them.
struct model_preprocess {
  int size;
  double mean[3], std[3];
};

struct model_arch {
  const char *name; // "clipseg": config.json's model_type
  struct model_recipe recipe;
  // Parse config.json; errors name `where` (the file) and key, and say why the public code could not run it either.
  status_t (*configure)(const json_t *config, const char *where, void **out);
  void (*release)(void **config);
  // Refuse a size that the model cannot run at (ERR_ARG with the reason).
  status_t (*check_size)(const void *config, int64_t size);
  // Add the forward graph: inputs "pixels" uint8 [B,S,S,3] and "ids" int32 [B,L], "row" int32 [B] (index of the pooled token),
  // "length" int32 [B] (true length of the text), or "condition_pixels"; a model without text declares only "pixels". Returns
  // the logits [B,S,S], or [B,S,S,P] for P planes, of which each sample has its own. Declares every parameter of the public
  // state dict, used or not, and in the same order whether it trains or not.
  struct value *(*build)(struct net *net, const void *config, const struct model_spec *spec,
                         const struct model_preprocess *preprocess);
  // Which token of `ids` (true length `length`) is the pooled one. NULL: a model without text.
  int (*pooled_token)(const void *config, const int32_t *ids, int length);
  // Longest text with its special tokens, and the number of token ids; 0 for a model without text.
  void (*text)(const void *config, int *limit, int *vocabulary);
  // Is this parameter part of an encoder (frozen unless train.encoders)?
  bool (*is_encoder)(const char *parameter);
  // quirks: study: the public pipeline gives texts padded to the limit with the end token, and the model attends to the pads.
  bool attends_pads;
};

struct model {
  const struct model_arch *arch;
  char *directory;     // as given
  json_t *config_json; // as read; written back unchanged by model_save
  void *config;        // of arch
  struct model_preprocess preprocess;
  bool has_weights; // model.safetensors or its sharded index is there
};

// Open a directory. Needs config.json; preprocessor_config.json falls back on the recipe's size, mean and std.
// Symbolic links (the hub cache) are followed.
status_t model_open(const char *directory, struct model **out);
void model_close(struct model **model);
// Copy what makes the directory a model besides weights (config, preprocessor, tokenizer files) into `directory`; its
// preprocessor_config.json says `size`, the side of the pictures that the model runs at from now on.
status_t model_copy_files(const struct model *model, int size, const char *directory);
// Does the model take prompts?
bool model_has_text(const struct model *model);
// Which of `planes` of the output is about a class: 0 where there is one, else by config.json's "id2label"; -1 when it is none.
int model_find_plane(const struct model *model, int planes, const char *class_name);
const char *model_plane_label(const struct model *model, int plane); // of "id2label"; NULL where it has none
const struct model_arch *model_arch_find(const char *name);          // NULL when unknown

#endif
