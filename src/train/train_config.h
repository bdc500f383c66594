// train_config.h: the key table of train.yaml, and its values with the model's recipe filled in.
#ifndef GRIDSEG_TRAIN_TRAIN_CONFIG_H
#define GRIDSEG_TRAIN_TRAIN_CONFIG_H

#include "base/config.h"
#include "data/augment.h"
#include "train/network.h"
#include "train/optimizer.h"

extern const struct config_table train_table;

// The resolved configuration; texts are borrowed from it.
struct train_options {
  struct network_options network;
  struct optimizer_options optimizer;
  struct augment augment;
  double lr, threshold;
  int64_t epochs, batch;
  uint64_t seed;
  double plateau_factor; // 1: no schedule
  int64_t plateau_patience, stop_patience, stop_min_epochs;
  double stop_delta;
  const char *out, *store_dir, *prompt, *device;
  bool prompt_literal;
  uint64_t store_memory;
  int threads;
  double checkpoint_minutes, stop_before_minutes, stop_after_minutes;
  int64_t checkpoint_keep;
  const char *dump_dir; // NULL: no dump
  int64_t dump_step;
  bool quirks_study, sync_batchnorm;
  const char *precision_name, *loss_name;
};

// Fill the keys that the file left to the model's recipe, then read all of them. Checks that the table cannot express
// (dice_only with quirks, threads) name the key.
status_t train_config_resolve(struct config *c, const struct model_arch *arch, struct train_options *out);

#endif
