// eval_config.h: the key table of eval.yaml, and its values with the model's recipe filled in.
#ifndef GRIDSEG_TRAIN_EVAL_CONFIG_H
#define GRIDSEG_TRAIN_EVAL_CONFIG_H

#include "base/config.h"
#include "train/evaluate.h"
#include "train/provenance.h"

extern const struct config_table eval_table;

// The resolved configuration; texts are borrowed from it.
struct eval_options {
  struct network_options network;
  bool pad; // texts as quirks: study of the model's training has them
  double threshold;
  struct evaluate_prompt *prompts; // freed with mem_free
  int prompt_count;
  const char *name, *root, *split, *out, *store_dir, *device, *precision_name, *loss_name;
  uint64_t store_memory, seed;
  int batch, threads;
  bool masks, resolutions[RESOLUTIONS];
};

// Fill the keys that the file left to the model (size, threshold) and to its training (loss), then read all of them.
status_t eval_config_resolve(struct config *c, const struct model *model, const struct provenance *provenance,
                             struct eval_options *out);

loss_t eval_config_loss(const char *name); // "dice_ce" | "dice_only" | "monai14"

#endif
