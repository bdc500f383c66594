// batches.c: see batches.h.
#include "train/batches.h"

#include "base/log.h"
#include "base/mem.h"
#include "data/prefetch.h"

#include <string.h>

enum { READ_AHEAD = 3 }; // batches

struct batches {
  struct batches_options o;
  struct features *features;
  int *feature_pool; // [pool_count] numbers in features
  struct sampler *sampler;
  struct prefetch *prefetch;
  int64_t next_epoch, next_step; // what prefetch hands out next
  const struct batch *batch;     // the last one
  struct share share;
};

static struct sampler_options sampler_options(const struct batches *b) {
  return (struct sampler_options){.pools = (const struct pool *const *)b->o.pools,
                                  .count = b->o.pool_count,
                                  .prompt = b->o.literal ? NULL : b->o.prompt,
                                  .seed = b->o.seed,
                                  .batch = b->o.batch,
                                  .shuffle = !b->o.scoring};
}

static bool is_augmented(const struct batches *b) {
  return augment_is_on(b->o.augment);
}

// A text as every pose of a picture words it.
static status_t add_text(struct batches *b, const char *text) {
  struct augment_view pose[16];
  int index, poses = 0;
  if (is_augmented(b)) poses = augment_poses(b->o.augment, pose);
  if (!poses) return features_add_prompt(b->features, text, &index);
  for (int i = 0; i < poses; i++) {
    char *turned;
    TRY(augment_text(&pose[i], text, &turned));
    status_t st = features_add_prompt(b->features, turned, &index);
    mem_free(&turned);
    TRY(st);
  }
  return OK;
}

// Every text that the sampler may draw for a sample.
static status_t add_prompts(struct batches *b, int p, int64_t sample) {
  const struct pool *pool = b->o.pools[p];
  const struct pool_info *info = pool_get_info(pool);
  bool random = !strcmp(b->o.prompt, "random");
  for (int k = 0; k < info->prompt_kinds; k++) {
    if (random ? !strcmp(info->prompt_kind[k], "p0") : strcmp(info->prompt_kind[k], b->o.prompt) != 0) continue;
    int wordings = pool_count_wordings(pool, sample, k);
    for (int w = 0; w < wordings; w++) {
      const char *text = pool_get_prompt(pool, sample, k, w);
      if (text) TRY(add_text(b, text));
    }
  }
  return OK;
}

static status_t find_plane(const struct batches *b, int p, int64_t sample, int *plane) {
  struct pool_sample s;
  TRY(pool_get_sample(b->o.pools[p], sample, &s));
  *plane = model_find_plane(b->o.model, b->o.planes, s.class_name);
  if (*plane >= 0) return OK;
  const struct pool_info *info = pool_get_info(b->o.pools[p]);
  return FAIL(ERR_ARG,
              "sample %s/%s/%s is of class '%s', which none of the %d planes of %s is about (id2label in config.json)",
              info->name, info->split, s.name, s.class_name, b->o.planes, b->o.model->directory);
}

static status_t check_planes(const struct batches *b) {
  int plane;
  for (int p = 0; p < b->o.pool_count; p++) {
    for (int64_t i = 0; i < pool_get_info(b->o.pools[p])->samples; i++) TRY(find_plane(b, p, i, &plane));
  }
  return OK;
}

static status_t add_all(struct batches *b) {
  for (int p = 0; p < b->o.pool_count; p++) {
    TRY(features_add_pool(b->features, b->o.pools[p], is_augmented(b) ? b->o.augment : NULL, &b->feature_pool[p]));
    for (int64_t i = 0; i < pool_get_info(b->o.pools[p])->samples && !b->o.literal; i++) TRY(add_prompts(b, p, i));
  }
  return b->o.literal ? add_text(b, b->o.prompt) : OK;
}

// Which samples lack the prompt: each by name for who wants to know, the count and the first for everybody.
static status_t warn_of_missing(const struct batches *b) {
  const int64_t *whole;
  int64_t n = sampler_missing(b->sampler, &whole), sample;
  int p;
  struct pool_sample s;
  for (int64_t i = 0; i < n; i++) {
    sampler_locate(b->sampler, whole[i], &p, &sample);
    TRY(pool_get_sample(b->o.pools[p], sample, &s));
    const struct pool_info *info = pool_get_info(b->o.pools[p]);
    log_debug("left out: %s/%s/%s lacks the prompt '%s'", info->name, info->split, s.name, b->o.prompt);
    if (i) continue;
    log_info("%lld of %lld samples lack the prompt '%s' and are left out; the first is %s/%s/%s (--verbose names all)",
             (long long)n, (long long)(n + batches_samples(b)), b->o.prompt, info->name, info->split, s.name);
  }
  return OK;
}

status_t batches_create(const struct batches_options *options, struct features *features, struct batches **out) {
  status_t st = OK;
  struct batches *b = NULL;
  *out = NULL;
  TRY_GOTO(mem_alloc(&b, 1, sizeof *b), done);
  b->o = *options;
  b->features = features;
  TRY_GOTO(mem_alloc(&b->feature_pool, (size_t)options->pool_count, sizeof *b->feature_pool), done);
  const struct sampler_options so = sampler_options(b);
  TRY_GOTO(sampler_create(&so, &b->sampler), done);
  TRY_GOTO(warn_of_missing(b), done);
  TRY_GOTO(check_planes(b), done);
  TRY_GOTO(add_all(b), done);
  TRY_GOTO(mem_alloc(&b->share.sample, (size_t)batches_largest(b), sizeof *b->share.sample), done);
  *out = b;
  b = NULL;
done:
  batches_destroy(&b);
  return st;
}

void batches_destroy(struct batches **batches) {
  struct batches *b = *batches;
  if (!b) return;
  prefetch_destroy(&b->prefetch);
  sampler_destroy(&b->sampler);
  mem_free(&b->share.sample);
  mem_free(&b->feature_pool);
  mem_free(batches);
}

int64_t batches_samples(const struct batches *b) {
  return sampler_samples(b->sampler);
}
int64_t batches_steps(const struct batches *b) {
  return sampler_batches(b->sampler);
}
int batches_largest(const struct batches *b) {
  int64_t n = b->o.batch < batches_samples(b) ? b->o.batch : batches_samples(b);
  return (int)(n / b->o.ranks + (n % b->o.ranks != 0));
}

// What is read from a step on; one pass when scoring, so that nothing is read ahead for nobody.
static struct prefetch_options prefetch_options(const struct batches *b, int64_t epoch, int64_t step) {
  return (struct prefetch_options){.sampler = sampler_options(b),
                                   .rank = b->o.rank,
                                   .world = b->o.ranks,
                                   .images = b->o.pixels,
                                   .depth = READ_AHEAD,
                                   .first_epoch = (uint64_t)epoch,
                                   .first_batch = step,
                                   .epochs = b->o.scoring ? 1 : 0,
                                   .augment = is_augmented(b) ? b->o.augment : NULL,
                                   .bank = !b->o.pixels};
}

static status_t begin_at(struct batches *b, int64_t epoch, int64_t step) {
  prefetch_destroy(&b->prefetch);
  const struct prefetch_options po = prefetch_options(b, epoch, step);
  TRY(prefetch_create(&po, &b->prefetch));
  b->next_epoch = epoch;
  b->next_step = step;
  return OK;
}

// The view that a sample shows, as a number of the bank, and the words that go with it.
static status_t find_view(const struct batches *b, const struct sample_ref *ref, const struct pool_sample *sample,
                          const char *text, int64_t *number, char **turned) {
  const struct prefetch_options po = prefetch_options(b, 0, 0);
  struct augment_view view;
  TRY(prefetch_view(&po, ref, b->batch->epoch, &view));
  if (po.bank) {
    const char *pool = pool_get_info(b->o.pools[ref->pool])->name;
    *number = augment_pick(b->o.augment, pool, sample->image_name, b->batch->epoch);
  }
  return text ? augment_text(&view, text, turned) : OK;
}

static status_t fill(struct batches *b, int64_t i) {
  const struct sample_ref *ref = &b->batch->ref[i];
  const struct pool *pool = b->o.pools[ref->pool];
  struct network_sample *s = &b->share.sample[i];
  size_t side = (size_t)pool_get_info(pool)->size, area = side * side;
  struct pool_sample info;
  TRY(pool_get_sample(pool, ref->sample, &info));
  const char *text = ref->kind < 0 ? b->o.prompt : pool_get_prompt(pool, ref->sample, ref->kind, ref->wording);
  char *turned = NULL;
  int64_t view = 0;
  if (is_augmented(b)) TRY(find_view(b, ref, &info, text, &view, &turned));
  int prompt = text ? features_find_prompt(b->features, turned ? turned : text) : -1;
  mem_free(&turned);
  if (prompt < 0) return FAIL(ERR_FORMAT, "sample %s: its prompt was not listed", info.name);
  s->mask = b->batch->masks + (size_t)i * area;
  s->image = features_image(b->features, b->feature_pool[ref->pool], info.image, view);
  if (!s->image) s->image = b->batch->images + (size_t)i * area * 3;
  s->condition = features_prompt(b->features, prompt, &s->length);
  s->number = b->batch->first + i - b->batch->index * sampler_batch(b->sampler);
  return find_plane(b, ref->pool, ref->sample, &s->plane);
}

status_t batches_get(struct batches *b, int64_t epoch, int64_t step, const struct share **out) {
  if (step < 0 || step >= batches_steps(b)) {
    return FAIL(ERR_ARG, "step %lld of an epoch of %lld", (long long)step, (long long)batches_steps(b));
  }
  if (!b->prefetch || epoch != b->next_epoch || step != b->next_step) TRY(begin_at(b, epoch, step));
  TRY(prefetch_next(b->prefetch, &b->batch));
  if (!b->batch) return FAIL(ERR_FORMAT, "the pools ended at step %lld", (long long)step);
  for (int64_t i = 0; i < b->batch->count; i++) TRY(fill(b, i));
  b->share.count = (int)b->batch->count;
  b->share.total = b->batch->global;
  b->next_step = step + 1;
  if (b->next_step == batches_steps(b)) {
    b->next_step = 0;
    b->next_epoch = b->o.scoring ? -1 : epoch + 1; // a pass of scoring begins anew
  }
  *out = &b->share;
  return OK;
}

status_t batches_name(const struct batches *b, int i, char **name) {
  const struct sample_ref *ref = &b->batch->ref[i];
  struct pool_sample s;
  TRY(pool_get_sample(b->o.pools[ref->pool], ref->sample, &s));
  return mem_format(name, "%s/%s", pool_get_info(b->o.pools[ref->pool])->name, s.name);
}
