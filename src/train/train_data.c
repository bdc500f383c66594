// train_data.c: pools, prompts, features: what the steps of a run take their samples from.
#include "base/log.h"
#include "base/mem.h"
#include "train/inference.h"
#include "train/stop.h"
#include "train/trainer.h"

#include <string.h>
#include <strings.h>

static status_t open_pools(struct trainer *t, const char *key, const char *split, struct pool ***pools, int *count) {
  const struct config *c = t->config;
  size_t n = config_count(c, key);
  if (!n) return CONFIG_FAIL(c, key, "wanted at least one pool, met none");
  TRY(mem_alloc(pools, n, sizeof **pools));
  for (size_t i = 0; i < n; i++) {
    for (size_t k = 0; k < i; k++) {
      if (!strcmp(config_item(c, key, i), config_item(c, key, k))) {
        return CONFIG_FAIL(c, key, "pool '%s' is named twice", config_item(c, key, i));
      }
    }
    status_t st =
        pool_open(config_text(c, "pools.root"), config_item(c, key, i), split, t->o.network.size, 0, &(*pools)[i]);
    if (st != OK) return status_prefix(st, "%s", key);
    *count = (int)i + 1;
  }
  return OK;
}

// The study reads its masks from JPEG files as grey values; a pool keeps every mask as 0 and 1.
static status_t refuse_soft_masks(struct pool *const *pools, int count) {
  for (int p = 0; p < count; p++) {
    const struct pool_info *info = pool_get_info(pools[p]);
    for (int64_t i = 0; i < info->samples; i++) {
      struct pool_sample s;
      TRY(pool_get_sample(pools[p], i, &s));
      const char *dot = strrchr(s.name, '.');
      if (!dot || (strcasecmp(dot, ".jpg") && strcasecmp(dot, ".jpeg"))) continue;
      return FAIL(
          ERR_UNSUPPORTED,
          "quirks: study: mask %s of pool %s is a JPEG file; the study takes the grey values of its compression "
          "as soft truth, a pool holds 0 and 1 only, so its numbers cannot be reached. Use quirks: none with "
          "train.loss: dice_only",
          s.name, info->name);
    }
  }
  return OK;
}

static status_t open_all(struct trainer *t) {
  const struct config *c = t->config;
  TRY(open_pools(t, "pools.train", "train", &t->train_pools, &t->train_pool_count));
  const char *first = config_count(c, "pools.val") == 1 ? config_item(c, "pools.val", 0) : "";
  if (!strcmp(first, "same")) {
    TRY(open_pools(t, "pools.train", "val", &t->val_pools, &t->val_pool_count));
  } else if (strcmp(first, "none")) {
    TRY(open_pools(t, "pools.val", "val", &t->val_pools, &t->val_pool_count));
  }
  if (t->o.quirks_study) {
    TRY(refuse_soft_masks(t->train_pools, t->train_pool_count));
    TRY(refuse_soft_masks(t->val_pools, t->val_pool_count));
  }
  return model_has_text(t->model) ? inference_load_tokenizer(t->model, &t->tokenizer) : OK;
}

static bool wants_stop(void *context) {
  (void)context;
  return stop_wanted();
}

static status_t list_samples(struct trainer *t) {
  const struct features_options fo = {.network = t->network,
                                      .store = t->store,
                                      .comm = t->comm,
                                      .tokenizer = t->tokenizer,
                                      .pad = t->o.quirks_study && t->model->arch->attends_pads,
                                      .store_dir = t->o.store_dir,
                                      .stop = wants_stop};
  bool text = model_has_text(t->model);
  struct batches_options bo = {.model = t->model,
                               .planes = network_planes(t->network),
                               .pools = t->train_pools,
                               .pool_count = t->train_pool_count,
                               .prompt = text ? t->o.prompt : "none",
                               .literal = t->o.prompt_literal || !text,
                               .pixels = !network_feature_bytes(t->network, SOURCE_IMAGE),
                               .batch = t->o.batch,
                               .seed = t->o.seed,
                               .augment = &t->o.augment,
                               .rank = comm_rank(t->comm),
                               .ranks = comm_size(t->comm)};
  if (!text && config_given(t->config, "prompt"))
    log_info("%s takes no prompts: 'prompt' is ignored", t->model->arch->name);
  TRY(features_create(&fo, &t->features));
  TRY(batches_create(&bo, t->features, &t->train));
  if (!t->val_pool_count) return OK;
  bo.pools = t->val_pools;
  bo.pool_count = t->val_pool_count;
  bo.scoring = true;
  bo.augment = NULL;
  return batches_create(&bo, t->features, &t->val);
}

// What a run has learnt from: a run that goes on must find the same.
static status_t make_data_key(struct trainer *t) {
  struct key_builder *b = NULL;
  status_t st = key_begin(&b, "training data");
  for (int i = 0; i < t->train_pool_count && st == OK; i++) {
    st = key_add_key(b, "train", &pool_get_info(t->train_pools[i])->key);
  }
  for (int i = 0; i < t->val_pool_count && st == OK; i++) {
    st = key_add_key(b, "val", &pool_get_info(t->val_pools[i])->key);
  }
  if (st == OK) return key_finish(&b, &t->data_key);
  if (b) (void)key_finish(&b, NULL);
  return st;
}

static status_t open_store(struct trainer *t) {
  bool none = !t->o.store_dir[0] || !strcmp(t->o.store_dir, "none");
  uint64_t share = t->o.store_memory / (uint64_t)comm_local_size(t->comm);
  return store_open(none ? NULL : t->o.store_dir, share, comm_rank(t->comm), &t->store);
}

status_t trainer_open_data(struct trainer *t) {
  TRY(trainer_agree(t, open_all(t)));
  TRY(trainer_agree(t, open_store(t)));
  TRY(trainer_agree(t, list_samples(t)));
  TRY(trainer_agree(t, make_data_key(t)));
  status_t st = features_fill(t->features);
  if (st == ERR_PREEMPTED) {
    t->together = true;
    if (stop_reason()[0]) log_info("stopped by %s", stop_reason());
    if (comm_rank(t->comm) == 0) (void)trainer_write_status(t, "preempted");
  }
  return st;
}

static void close_pools(struct pool ***pools, int count) {
  for (int i = 0; i < count; i++) pool_close(&(*pools)[i]);
  mem_free(pools);
}

void trainer_close_data(struct trainer *t) {
  batches_destroy(&t->val);
  batches_destroy(&t->train);
  features_destroy(&t->features);
  store_close(&t->store);
  tokenizer_destroy(&t->tokenizer);
  close_pools(&t->val_pools, t->val_pool_count);
  close_pools(&t->train_pools, t->train_pool_count);
}
