// train_config.c: see train_config.h. The defaults are the study's recipe (its configs and scripts; DESIGN,
// "Configuration"); what depends on the architecture comes from model_recipe.
#include "train/train_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL "the model's"

static const struct config_key keys[] = {
    {"model", CONFIG_TEXT, NULL, "", 0, 0, NULL,
     "Model directory to start from: config.json, tokenizer files, weights (a checkpoint is one too).", 0},
    {"arch", CONFIG_TEXT, "", "", 0, 0, NULL,
     "Architecture that the model directory must hold, such as clipseg; empty: whatever its config.json says.", 0},
    {"init", CONFIG_CHOICE, "weights", "", 0, 0, "weights|random",
     "Where the first weights come from: the directory, or drawn at random by train.seed.", 0},
    {"pools.root", CONFIG_TEXT, "pools", "", 0, 0, NULL, "Folder in which packed pools are: ROOT/NAME/SPLIT/SIZE.",
     CONFIG_FREE},
    {"pools.train", CONFIG_TEXTS, NULL, "", 0, 0, NULL, "Pools whose train split is learnt from, as one set.", 0},
    {"pools.val", CONFIG_TEXTS, "same", "", 0, 0, NULL,
     "Pools whose val split is scored after every epoch; same: those of pools.train; none: no validation.", 0},
    {"pools.test", CONFIG_TEXTS, "", "", 0, 0, NULL, "Pools to evaluate on later; training leaves them alone.",
     CONFIG_FREE},
    {"size", CONFIG_INT, MODEL, "pixels", 16, 4096, NULL, "Side of the square pictures: the pool's SIZE.",
     CONFIG_RECIPE},
    {"prompt", CONFIG_TEXT, "p6", "", 0, 0, NULL,
     "Prompt kind of the pool (p0..p9), random (every kind but p0), or one literal text in quotes for all samples.", 0},
    {"train.encoders", CONFIG_BOOL, MODEL, "", 0, 0, NULL,
     "Train the encoders too; without, their outputs are computed once.", CONFIG_RECIPE},
    {"train.sync_batchnorm", CONFIG_BOOL, "true", "", 0, 0, NULL,
     "BatchNorm normalises by the batch of all ranks; false: each rank by its share, and rank 0's statistics are kept.",
     0},
    {"train.loss", CONFIG_CHOICE, "dice_ce (dice_only with quirks: study)", "", 0, 0, "dice_ce|dice_only|monai14",
     "Loss of one sample: soft Dice + 0.2 BCE on logits, soft Dice alone, or soft Dice + 0.2 BCE of the squashed map.",
     CONFIG_RECIPE},
    {"train.epochs", CONFIG_INT, "1000", "epochs", 1, 1e9, NULL, "At most so many passes over the training set.",
     CONFIG_FREE},
    {"train.batch", CONFIG_INT, MODEL, "samples", 1, 1 << 20, NULL, "Samples of one step, over all ranks together.",
     CONFIG_RECIPE},
    {"train.lr", CONFIG_REAL, MODEL, "", 0, 1e3, NULL, "Learning rate; it never scales with the number of ranks.",
     CONFIG_RECIPE},
    {"train.weight_decay", CONFIG_REAL, MODEL, "", 0, 1e3, NULL, "AdamW's decoupled weight decay.", CONFIG_RECIPE},
    {"train.beta1", CONFIG_REAL, "0.9", "", 0, 0.999999, NULL, "AdamW's decay of the first moment.", 0},
    {"train.beta2", CONFIG_REAL, "0.999", "", 0, 0.99999999, NULL, "AdamW's decay of the second moment.", 0},
    {"train.eps", CONFIG_REAL, "1e-8", "", 1e-30, 1, NULL, "Added to AdamW's denominator.", 0},
    {"train.clip", CONFIG_REAL, "0.5", "", 0, 1e9, NULL, "Largest 2-norm of the whole gradient; 0: no clip.", 0},
    {"train.plateau.factor", CONFIG_REAL, "0.1 for vision-language models, else 1", "", 1e-6, 1, NULL,
     "The learning rate is multiplied by this when the validation loss stands still; 1: never.", CONFIG_RECIPE},
    {"train.plateau.patience", CONFIG_INT, "5", "epochs", 0, 1e9, NULL,
     "Epochs without a lower validation loss before that.", 0},
    {"train.early_stop.patience", CONFIG_INT, "20", "epochs", -1, 1e9, NULL,
     "Training ends after so many epochs without a higher validation Dice; -1: never.", 0},
    {"train.early_stop.delta", CONFIG_REAL, "1e-4", "", 0, 1, NULL, "A gain of no more than this counts as none.", 0},
    {"train.early_stop.min_epochs", CONFIG_INT, "10", "epochs", 0, 1e9, NULL, "No early stop before so many epochs.",
     0},
    {"train.threshold", CONFIG_REAL, MODEL, "", 0, 1, NULL, "A pixel whose probability is above this is foreground.",
     CONFIG_RECIPE},
    {"train.seed", CONFIG_INT, "42", "", 0, 1e15, NULL, "Seed of order, prompts and random initial weights.", 0},
    {"augment.mirror", CONFIG_BOOL, "false", "", 0, 0, NULL,
     "Half of the training pictures are mirrored; left and right change places in the words of a place too.", 0},
    {"augment.flip", CONFIG_BOOL, "false", "", 0, 0, NULL, "The same with top and bottom.", 0},
    {"augment.turns", CONFIG_BOOL, "false", "", 0, 0, NULL, "Training pictures are turned by 0 to 3 quarter turns.", 0},
    {"augment.scale", CONFIG_REAL, "0", "", 0, 4, NULL,
     "Zoom between 1 / (1 + scale) and 1 + scale, at a random place; what lies outside is black.", 0},
    {"augment.brightness", CONFIG_REAL, "0", "", 0, 1, NULL, "Up to this share of full white is added or taken away.",
     0},
    {"augment.contrast", CONFIG_REAL, "0", "", 0, 1, NULL,
     "Distances from the mean grey are multiplied by 1 - contrast to 1 + contrast.", 0},
    {"augment.views", CONFIG_INT, "8", "", 1, 4096, NULL,
     "With a frozen image encoder every picture has so many fixed views, computed once; else each epoch draws anew.",
     0},
    {"precision", CONFIG_CHOICE, "fp32", "", 0, 0, "fp32|bf16",
     "Arithmetic of the large operations; sums, losses, weights and moments stay fp32.", 0},
    {"quirks", CONFIG_CHOICE, "none", "", 0, 0, "none|study",
     "study: what the study's code does where it differs from its paper: dice_only, dropout in a frozen text tower, "
     "attended "
     "pads (CRIS), a Dice over all planes but the first (image-only models of several).",
     0},
    {"store.dir", CONFIG_TEXT, "store", "", 0, 0, NULL,
     "Folder of computed features, shared by ranks and runs; none: memory only.", CONFIG_FREE},
    {"store.memory", CONFIG_BYTES, "8GiB", "", 1 << 20, 0x1p50, NULL,
     "Features held in memory at most, by all ranks of one machine together.", CONFIG_FREE},
    {"threads", CONFIG_INT, "0", "", 0, 4096, NULL, "Threads of each rank; 0: the rank's share of the machine's cores.",
     CONFIG_FREE},
    {"device", CONFIG_CHOICE, "auto", "", 0, 0, "auto|cpu|reference",
     "Backend; reference is the plain-loop oracle, slow.", CONFIG_FREE},
    {"checkpoint.every_minutes", CONFIG_REAL, "10", "minutes", 0, 1e6, NULL,
     "A checkpoint is written at least this often, besides the one of every epoch; 0: after every step.", CONFIG_FREE},
    {"checkpoint.keep", CONFIG_INT, "2", "", 1, 1e6, NULL, "Newest checkpoints kept, besides the best.", CONFIG_FREE},
    {"checkpoint.stop_before", CONFIG_REAL, "5", "minutes", 0, 1e6, NULL,
     "Stop with a checkpoint this long before SLURM_JOB_END_TIME, where that is set.", CONFIG_FREE},
    {"checkpoint.stop_after", CONFIG_REAL, "0", "minutes", 0, 1e9, NULL,
     "Stop with a checkpoint after this long; 0: no limit.", CONFIG_FREE},
    {"debug.dump", CONFIG_TEXT, "", "", 0, 0, NULL,
     "Folder for logits, losses and every gradient of one step as safetensors; empty: none.", CONFIG_FREE},
    {"debug.step", CONFIG_INT, "1", "", 1, 1e15, NULL, "Which step that is, counted from 1.", CONFIG_FREE},
    {"out", CONFIG_TEXT, NULL, "", 0, 0, NULL,
     "Folder of the run: checkpoints, curves, events. Run again with the same file, it goes on from there.",
     CONFIG_FREE},
};

const struct config_table train_table = {"train.yaml", keys, sizeof keys / sizeof *keys};

static status_t set_int(struct config *c, const char *name, int64_t value) {
  char text[32];
  (void)snprintf(text, sizeof text, "%lld", (long long)value);
  return config_set_default(c, name, text);
}

static status_t set_real(struct config *c, const char *name, double value) {
  char text[32];
  (void)snprintf(text, sizeof text, "%.17g", value);
  for (int digits = 1; digits < 17; digits++) { // the shortest that reads back the same
    char shorter[32];
    (void)snprintf(shorter, sizeof shorter, "%.*g", digits, value);
    if (strtod(shorter, NULL) == value) return config_set_default(c, name, shorter);
  }
  return config_set_default(c, name, text);
}

static status_t fill_recipe(struct config *c, const struct model_recipe *r) {
  bool study = !strcmp(config_text(c, "quirks"), "study");
  TRY(set_int(c, "size", r->size));
  TRY(config_set_default(c, "train.encoders", r->encoders ? "true" : "false"));
  TRY(set_int(c, "train.batch", r->batch));
  TRY(set_real(c, "train.lr", r->lr));
  TRY(set_real(c, "train.weight_decay", r->weight_decay));
  TRY(set_real(c, "train.threshold", r->threshold));
  TRY(set_real(c, "train.plateau.factor", r->plateau ? 0.1 : 1.0));
  return config_set_default(c, "train.loss", study ? "dice_only" : "dice_ce");
}

static loss_t loss_of(const char *name) {
  return !strcmp(name, "dice_only") ? LOSS_DICE_ONLY : !strcmp(name, "monai14") ? LOSS_MONAI14 : LOSS_DICE_CE;
}

static void read_schedule(const struct config *c, struct train_options *o) {
  o->epochs = config_int(c, "train.epochs");
  o->batch = config_int(c, "train.batch");
  o->lr = config_real(c, "train.lr");
  o->seed = (uint64_t)config_int(c, "train.seed");
  o->threshold = config_real(c, "train.threshold");
  o->plateau_factor = config_real(c, "train.plateau.factor");
  o->plateau_patience = config_int(c, "train.plateau.patience");
  o->stop_patience = config_int(c, "train.early_stop.patience");
  o->stop_delta = config_real(c, "train.early_stop.delta");
  o->stop_min_epochs = config_int(c, "train.early_stop.min_epochs");
  o->optimizer = (struct optimizer_options){.beta1 = config_real(c, "train.beta1"),
                                            .beta2 = config_real(c, "train.beta2"),
                                            .epsilon = config_real(c, "train.eps"),
                                            .weight_decay = config_real(c, "train.weight_decay"),
                                            .clip = config_real(c, "train.clip")};
}

static void read_augment(const struct config *c, struct train_options *o) {
  o->augment = (struct augment){.mirror = config_bool(c, "augment.mirror"),
                                .flip = config_bool(c, "augment.flip"),
                                .turns = config_bool(c, "augment.turns"),
                                .scale = config_real(c, "augment.scale"),
                                .brightness = config_real(c, "augment.brightness"),
                                .contrast = config_real(c, "augment.contrast"),
                                .views = config_int(c, "augment.views"),
                                .seed = o->seed};
}

static void read_rest(const struct config *c, struct train_options *o) {
  o->out = config_text(c, "out");
  o->store_dir = config_text(c, "store.dir");
  o->store_memory = (uint64_t)config_int(c, "store.memory");
  o->threads = (int)config_int(c, "threads");
  o->device = config_text(c, "device");
  o->checkpoint_minutes = config_real(c, "checkpoint.every_minutes");
  o->checkpoint_keep = config_int(c, "checkpoint.keep");
  o->stop_before_minutes = config_real(c, "checkpoint.stop_before");
  o->stop_after_minutes = config_real(c, "checkpoint.stop_after");
  o->dump_dir = config_text(c, "debug.dump")[0] ? config_text(c, "debug.dump") : NULL;
  o->dump_step = config_int(c, "debug.step");
}

status_t train_config_resolve(struct config *c, const struct model_arch *arch, struct train_options *o) {
  const char *wanted = config_text(c, "arch");
  memset(o, 0, sizeof *o);
  if (wanted[0] && strcmp(wanted, arch->name)) {
    return CONFIG_FAIL(c, "arch", "wanted %s, the model directory holds %s", wanted, arch->name);
  }
  TRY(fill_recipe(c, &arch->recipe));
  read_schedule(c, o);
  read_augment(c, o);
  read_rest(c, o);
  o->prompt = config_text(c, "prompt");
  o->prompt_literal = config_quoted(c, "prompt");
  o->quirks_study = !strcmp(config_text(c, "quirks"), "study");
  o->sync_batchnorm = config_bool(c, "train.sync_batchnorm");
  o->precision_name = config_text(c, "precision");
  o->loss_name = config_text(c, "train.loss");
  if (o->quirks_study && strcmp(o->loss_name, "dice_only")) {
    return CONFIG_FAIL(c, "train.loss", "quirks: study means dice_only, met '%s'", o->loss_name);
  }
  if (!o->out[0]) return CONFIG_FAIL(c, "out", "wanted a folder, met nothing");
  o->network = (struct network_options){
      .precision = !strcmp(o->precision_name, "bf16") ? PRECISION_BF16 : PRECISION_FP32,
      .size = (int)config_int(c, "size"),
      .condition = CONDITION_TEXT,
      .train = true,
      .encoders = config_bool(c, "train.encoders"),
      .loss = loss_of(o->loss_name),
      .study = o->quirks_study,
      .seed = o->seed,
  };
  return OK;
}
