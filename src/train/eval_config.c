// eval_config.c: see eval_config.h.
#include "train/eval_config.h"

#include "base/log.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const struct config_key keys[] = {
    {"model", CONFIG_TEXT, NULL, "", 0, 0, NULL,
     "Model directory: config.json, tokenizer files, weights; a checkpoint of a run is one.", 0},
    {"name", CONFIG_TEXT, "", "", 0, 0, NULL, "The model's name in tables; empty: its architecture.", 0},
    {"pools.root", CONFIG_TEXT, "pools", "", 0, 0, NULL, "Folder in which packed pools are: ROOT/NAME/SPLIT/SIZE.",
     CONFIG_FREE},
    {"pools.test", CONFIG_TEXTS, NULL, "", 0, 0, NULL, "Pools to score the model on, each for itself.", CONFIG_FREE},
    {"pools.split", CONFIG_TEXT, "test", "", 0, 0, NULL, "Split of those pools.", CONFIG_FREE},
    {"size", CONFIG_INT, "the model's", "pixels", 16, 4096, NULL, "Side of the square pictures: the pool's SIZE.",
     CONFIG_RECIPE},
    {"prompts", CONFIG_TEXTS, "p6", "", 0, 0, NULL,
     "Prompt kinds of the pools (p0..p9, wording 0 of each), random (the mean over every kind but p0, and over the "
     "wordings "
     "of a kind), or literal texts in quotes.",
     CONFIG_FREE},
    {"precision", CONFIG_CHOICE, "fp32", "", 0, 0, "fp32|bf16", "Arithmetic of the large operations.", 0},
    {"threshold", CONFIG_REAL, "the model's", "", 0, 1, NULL,
     "A pixel is foreground where the sigmoid of its logit is above this.", CONFIG_RECIPE},
    {"loss", CONFIG_CHOICE, "that of the model's training, else dice_ce", "", 0, 0, "dice_ce|dice_only|monai14",
     "Loss that samples.h5 tells of each sample.", CONFIG_RECIPE},
    {"resolution", CONFIG_CHOICE, "both", "", 0, 0, "both|network|original",
     "Where masks are compared: at the network's size, and at the picture's (logits resized bilinearly, then the "
     "threshold).",
     0},
    {"batch", CONFIG_INT, "16", "predictions", 1, 4096, NULL,
     "Decoder passes at once; the results do not depend on it.", CONFIG_FREE},
    {"masks", CONFIG_BOOL, "false", "", 0, 0, NULL,
     "Keep the predicted masks as OUT/masks/POOL/PROMPT/NAME.png, at the picture's size.", CONFIG_FREE},
    {"store.dir", CONFIG_TEXT, "store", "", 0, 0, NULL,
     "Folder of computed features, shared by ranks and runs; none: features are computed and dropped.", CONFIG_FREE},
    {"store.memory", CONFIG_BYTES, "8GiB", "", 1 << 20, 0x1p50, NULL,
     "Features held in memory at most, by all ranks of one machine together.", CONFIG_FREE},
    {"threads", CONFIG_INT, "0", "", 0, 4096, NULL, "Threads of each rank; 0: the rank's share of the machine's cores.",
     CONFIG_FREE},
    {"device", CONFIG_CHOICE, "auto", "", 0, 0, "auto|cpu|reference",
     "Backend; reference is the plain-loop oracle, slow.", CONFIG_FREE},
    {"seed", CONFIG_INT, "42", "", 0, 1e15, NULL,
     "Seed of the bootstrap, and of the weights of a model directory that has none.", 0},
    {"out", CONFIG_TEXT, NULL, "", 0, 0, NULL,
     "Folder of the results: cells.csv, samples.h5, masks. Cells that are there already are not computed again.",
     CONFIG_FREE},
};

const struct config_table eval_table = {"eval.yaml", keys, sizeof keys / sizeof *keys};

loss_t eval_config_loss(const char *name) {
  return !strcmp(name, "dice_only") ? LOSS_DICE_ONLY : !strcmp(name, "monai14") ? LOSS_MONAI14 : LOSS_DICE_CE;
}

static bool is_one_word(const char *text) {
  if (!*text) return false;
  for (; *text; text++) {
    if (!isalnum((unsigned char)*text) && *text != '_' && *text != '-') return false;
  }
  return true;
}

// A model without prompts is asked once.
static status_t no_prompts(const struct config *c, const struct model *model, struct eval_options *o) {
  if (config_given(c, "prompts")) log_info("%s takes no prompts: 'prompts' is ignored", model->arch->name);
  TRY(mem_alloc(&o->prompts, 1, sizeof *o->prompts));
  o->prompts[0] = (struct evaluate_prompt){PROMPT_NONE, "none"};
  o->prompt_count = 1;
  return OK;
}

static status_t read_prompts(const struct config *c, struct eval_options *o) {
  size_t n = config_count(c, "prompts");
  if (n == 0) return CONFIG_FAIL(c, "prompts", "wanted at least one prompt");
  TRY(mem_alloc(&o->prompts, n, sizeof *o->prompts));
  o->prompt_count = (int)n;
  for (size_t i = 0; i < n; i++) {
    const char *text = config_item(c, "prompts", i);
    prompt_type_t type = config_item_quoted(c, "prompts", i) ? PROMPT_LITERAL
                         : !strcmp(text, "random")           ? PROMPT_RANDOM
                                                             : PROMPT_KIND;
    if (type == PROMPT_KIND && !is_one_word(text)) {
      return CONFIG_FAIL(c, "prompts",
                         "wanted p0..p9, random or a text in quotes, met %s: a literal text stands in quotes", text);
    }
    for (size_t j = 0; j < i; j++) {
      if (o->prompts[j].type == type && !strcmp(o->prompts[j].text, text)) {
        return CONFIG_FAIL(c, "prompts", "%s is there twice", text);
      }
    }
    o->prompts[i] = (struct evaluate_prompt){type, text};
  }
  return OK;
}

static status_t fill_defaults(struct config *c, const struct model *model, const struct provenance *provenance) {
  char text[32];
  (void)snprintf(text, sizeof text, "%d", model->preprocess.size);
  TRY(config_set_default(c, "size", text));
  (void)snprintf(text, sizeof text, "%.9g", model->arch->recipe.threshold);
  TRY(config_set_default(c, "threshold", text));
  return config_set_default(c, "loss", provenance->loss[0] ? provenance->loss : "dice_ce");
}

status_t eval_config_resolve(struct config *c, const struct model *model, const struct provenance *provenance,
                             struct eval_options *o) {
  *o = (struct eval_options){0};
  TRY(fill_defaults(c, model, provenance));
  o->threshold = config_real(c, "threshold");
  o->name = config_text(c, "name")[0] ? config_text(c, "name") : model->arch->name;
  o->root = config_text(c, "pools.root");
  o->split = config_text(c, "pools.split");
  o->out = config_text(c, "out");
  o->store_dir = config_text(c, "store.dir");
  o->device = config_text(c, "device");
  o->precision_name = config_text(c, "precision");
  o->loss_name = config_text(c, "loss");
  o->store_memory = (uint64_t)config_int(c, "store.memory");
  o->seed = (uint64_t)config_int(c, "seed");
  o->batch = (int)config_int(c, "batch");
  o->threads = (int)config_int(c, "threads");
  o->masks = config_bool(c, "masks");
  const char *resolution = config_text(c, "resolution");
  o->resolutions[RESOLUTION_NETWORK] = strcmp(resolution, "original") != 0;
  o->resolutions[RESOLUTION_ORIGINAL] = strcmp(resolution, "network") != 0;
  o->network = (struct network_options){
      .precision = !strcmp(o->precision_name, "bf16") ? PRECISION_BF16 : PRECISION_FP32,
      .size = (int)config_int(c, "size"),
      .condition = CONDITION_TEXT,
      .loss = eval_config_loss(o->loss_name),
      .study = !strcmp(provenance->quirks, "study"),
      .seed = o->seed,
  };
  if (!o->out[0]) return CONFIG_FAIL(c, "out", "wanted a folder, met nothing");
  if (config_count(c, "pools.test") == 0) return CONFIG_FAIL(c, "pools.test", "wanted at least one pool");
  o->pad = o->network.study && model->arch->attends_pads;
  return model_has_text(model) ? read_prompts(c, o) : no_prompts(c, model, o);
}
