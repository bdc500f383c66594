// batches.c: see batches.h.
#include "train/batches.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"

#include <string.h>

struct choice {
  int32_t prompt, kind; // number in features; ordinal among the sample's kinds
};

struct item { // one sample in use
  int64_t sample, image;
  size_t choice; // its first choice
  int32_t pool, choices, kinds;
};

struct entry { // when scoring: one pass
  size_t item;
  size_t choice;
  double weight;
};

struct batches {
  struct batches_options o;
  struct features *features;
  int *feature_pool; // [pool_count] numbers in features
  struct item *item;
  size_t items, item_room;
  struct choice *choice;
  size_t choices, choice_room;
  struct entry *entry;
  size_t entries, entry_room;
  int64_t left_out;
  uint64_t *order; // the permutation of order_epoch
  int64_t order_epoch;
  int64_t *plan_item; // scratch of one slice
  int *plan_prompt;
  struct batch batch;
  uint8_t *masks, *pixels; // of one slice
  size_t side;
};

// ---- listing --------------------------------------------------------------------------------------------------------

static status_t add_choice(struct batches *b, const char *text, int kind) {
  int prompt;
  TRY(features_add_prompt(b->features, text, &prompt));
  TRY(mem_grow(&b->choice, &b->choice_room, b->choices + 1, sizeof *b->choice));
  b->choice[b->choices++] = (struct choice){prompt, kind};
  return OK;
}

// The wordings of `kind` that the sample has (only the first when scoring one kind).
static status_t add_kind(struct batches *b, struct item *it, int kind, bool all) {
  const struct pool *pool = b->o.pools[it->pool];
  int n = pool_count_wordings(pool, it->sample, kind), taken = 0;
  for (int w = 0; w < n && (all || !taken); w++) {
    const char *text = pool_get_prompt(pool, it->sample, kind, w);
    if (!text) continue;
    TRY(add_choice(b, text, it->kinds));
    taken++;
  }
  it->choices += taken;
  it->kinds += taken > 0;
  return OK;
}

static status_t add_choices(struct batches *b, struct item *it, int kind) {
  const struct pool_info *info = pool_get_info(b->o.pools[it->pool]);
  it->choice = b->choices;
  if (b->o.literal) {
    TRY(add_choice(b, b->o.prompt, 0));
    it->choices = it->kinds = 1;
    return OK;
  }
  if (kind >= 0) return add_kind(b, it, kind, !b->o.scoring);
  for (int k = 0; k < info->prompt_kinds; k++) {
    if (strcmp(info->prompt_kind[k], "p0")) TRY(add_kind(b, it, k, true));
  }
  return OK;
}

static status_t add_entries(struct batches *b, size_t i) {
  const struct item *it = &b->item[i];
  for (int c = 0; c < it->choices; c++) {
    int same = 0; // wordings of the choice's kind
    for (int k = 0; k < it->choices; k++) {
      same += b->choice[it->choice + (size_t)k].kind == b->choice[it->choice + (size_t)c].kind;
    }
    TRY(mem_grow(&b->entry, &b->entry_room, b->entries + 1, sizeof *b->entry));
    b->entry[b->entries++] = (struct entry){i, it->choice + (size_t)c, 1.0 / ((double)it->kinds * same)};
  }
  return OK;
}

static status_t list_pool(struct batches *b, int p) {
  const struct pool *pool = b->o.pools[p];
  const struct pool_info *info = pool_get_info(pool);
  bool named = !b->o.literal && strcmp(b->o.prompt, "random");
  int kind = named ? pool_find_kind(pool, b->o.prompt) : -1;
  int64_t left_out = 0;
  struct pool_sample s = {0};
  const char *first = NULL;
  if (named && kind < 0) {
    return FAIL(ERR_ARG, "prompt: pool %s/%s has no prompt '%s' (a literal text stands in quotes)", info->name,
                info->split, b->o.prompt);
  }
  TRY(features_add_pool(b->features, pool, &b->feature_pool[p]));
  for (int64_t i = 0; i < info->samples; i++) {
    TRY(pool_get_sample(pool, i, &s));
    struct item it = {.sample = i, .image = s.image, .pool = p};
    TRY(add_choices(b, &it, kind));
    if (!it.choices) {
      if (!left_out++) first = s.name;
      continue;
    }
    TRY(mem_grow(&b->item, &b->item_room, b->items + 1, sizeof *b->item));
    b->item[b->items++] = it;
    if (b->o.scoring) TRY(add_entries(b, b->items - 1));
  }
  if (left_out) {
    log_warn("pool %s/%s: %lld of %lld samples lack the prompt '%s' and are left out (the first is %s)", info->name,
             info->split, (long long)left_out, (long long)info->samples, b->o.prompt, first);
    b->left_out += left_out;
  }
  return OK;
}

static int64_t length(const struct batches *b) {
  return (int64_t)(b->o.scoring ? b->entries : b->items);
}

static status_t alloc_slice(struct batches *b) {
  size_t n = (size_t)batches_largest(b), plane = b->side * b->side, bytes;
  TRY(mem_alloc(&b->order, b->items, sizeof *b->order));
  TRY(mem_alloc(&b->plan_item, n, sizeof *b->plan_item));
  TRY(mem_alloc(&b->plan_prompt, n, sizeof *b->plan_prompt));
  TRY(mem_alloc(&b->batch.sample, n, sizeof *b->batch.sample));
  TRY(mem_alloc(&b->batch.weight, n, sizeof *b->batch.weight));
  TRY(mem_alloc(&b->batch.name, n, sizeof *b->batch.name));
  if (!size_mul(n, plane * 3, &bytes)) return FAIL(ERR_NOMEM, "a batch of %zu pictures does not fit in memory", n);
  TRY(mem_alloc(&b->masks, n, plane));
  return mem_alloc(&b->pixels, n, plane * 3); // untouched pages cost nothing where features stand in for pixels
}

status_t batches_create(const struct batches_options *options, struct features *features, struct batches **out) {
  status_t st = OK;
  struct batches *b = NULL;
  *out = NULL;
  TRY_GOTO(mem_alloc(&b, 1, sizeof *b), done);
  b->o = *options;
  b->features = features;
  b->order_epoch = -1;
  TRY_GOTO(mem_alloc(&b->feature_pool, (size_t)options->pool_count, sizeof *b->feature_pool), done);
  for (int p = 0; p < options->pool_count; p++) {
    b->side = (size_t)pool_get_info(options->pools[p])->size;
    TRY_GOTO(list_pool(b, p), done);
  }
  if (!b->items) FAIL_GOTO(done, ERR_ARG, "no sample of the pools has the prompt '%s'", options->prompt);
  TRY_GOTO(alloc_slice(b), done);
  *out = b;
  b = NULL;
done:
  batches_destroy(&b);
  return st;
}

void batches_destroy(struct batches **batches) {
  struct batches *b = *batches;
  if (!b) return;
  mem_free(&b->pixels);
  mem_free(&b->masks);
  mem_free(&b->batch.name);
  mem_free(&b->batch.weight);
  mem_free(&b->batch.sample);
  mem_free(&b->plan_prompt);
  mem_free(&b->plan_item);
  mem_free(&b->order);
  mem_free(&b->entry);
  mem_free(&b->choice);
  mem_free(&b->item);
  mem_free(&b->feature_pool);
  mem_free(batches);
}

int64_t batches_samples(const struct batches *b) {
  return (int64_t)b->items;
}
int64_t batches_left_out(const struct batches *b) {
  return b->left_out;
}
int64_t batches_steps(const struct batches *b) {
  return (length(b) + b->o.batch - 1) / b->o.batch;
}
int batches_largest(const struct batches *b) {
  int64_t n = b->o.batch < length(b) ? b->o.batch : length(b);
  return (int)(n / b->o.ranks + (n % b->o.ranks != 0));
}

// ---- one step -------------------------------------------------------------------------------------------------------

static void make_order(struct batches *b, int64_t epoch) {
  struct rng r;
  if (b->order_epoch == epoch) return;
  rng_init(&r, b->o.seed, rng_stream("order") + (uint64_t)epoch);
  rng_permutation(&r, b->order, b->items);
  b->order_epoch = epoch;
}

// The kind first, then its wording: a kind with many wordings is not drawn more often.
static size_t draw_choice(const struct batches *b, int64_t epoch, size_t i) {
  const struct item *it = &b->item[i];
  struct rng r;
  if (it->choices == 1) return it->choice;
  rng_init(&r, b->o.seed, (rng_stream("prompt") + (uint64_t)epoch) * 0x9E3779B97F4A7C15u + i);
  int kind = (int)rng_below(&r, (uint64_t)it->kinds), first = 0, n = 0;
  while (b->choice[it->choice + (size_t)first].kind != kind) first++;
  while (first + n < it->choices && b->choice[it->choice + (size_t)(first + n)].kind == kind) n++;
  return it->choice + (size_t)first + rng_below(&r, (uint64_t)n);
}

// This rank's stretch of the step's global batch.
static void slice(const struct batches *b, int64_t step, int64_t *from, int64_t *to, int64_t *total) {
  int64_t low = step * b->o.batch, left = length(b) - low;
  *total = left < b->o.batch ? left : b->o.batch;
  *from = low + *total * b->o.rank / b->o.ranks;
  *to = low + *total * (b->o.rank + 1) / b->o.ranks;
}

static size_t pick(const struct batches *b, int64_t epoch, int64_t at, size_t *i, double *weight) {
  *weight = 1.0;
  if (b->o.scoring) {
    const struct entry *e = &b->entry[at];
    *i = e->item;
    *weight = e->weight;
    return e->choice;
  }
  *i = (size_t)b->order[at];
  return draw_choice(b, epoch, *i);
}

static status_t check_step(const struct batches *b, int64_t step) {
  if (step >= 0 && step < batches_steps(b)) return OK;
  return FAIL(ERR_ARG, "step %lld of an epoch of %lld", (long long)step, (long long)batches_steps(b));
}

status_t batches_plan(struct batches *b, int64_t epoch, int64_t step, int64_t *sample, int *prompt, int *count) {
  int64_t from, to, total;
  TRY(check_step(b, step));
  make_order(b, epoch);
  slice(b, step, &from, &to, &total);
  for (int64_t at = from; at < to; at++) {
    size_t i;
    double weight;
    prompt[at - from] = b->choice[pick(b, epoch, at, &i, &weight)].prompt;
    sample[at - from] = (int64_t)i;
  }
  *count = (int)(to - from);
  return OK;
}

static status_t fill(struct batches *b, int k, size_t i, size_t choice) {
  const struct item *it = &b->item[i];
  const struct pool *pool = b->o.pools[it->pool];
  struct network_sample *s = &b->batch.sample[k];
  struct pool_sample info;
  uint8_t *mask = b->masks + (size_t)k * b->side * b->side, *pixels = b->pixels + (size_t)k * b->side * b->side * 3;
  TRY(pool_get_sample(pool, it->sample, &info));
  b->batch.name[k] = info.name;
  TRY(pool_read_mask(pool, it->sample, mask));
  s->mask = mask;
  s->image = features_image(b->features, b->feature_pool[it->pool], it->image);
  if (!s->image) {
    TRY(pool_read_image(pool, it->image, pixels));
    s->image = pixels;
  }
  s->condition = features_prompt(b->features, b->choice[choice].prompt, &s->length);
  return OK;
}

status_t batches_get(struct batches *b, int64_t epoch, int64_t step, const struct batch **out) {
  int64_t from, to;
  TRY(check_step(b, step));
  make_order(b, epoch);
  slice(b, step, &from, &to, &b->batch.total);
  b->batch.count = (int)(to - from);
  for (int64_t at = from; at < to; at++) {
    size_t i;
    int k = (int)(at - from);
    size_t choice = pick(b, epoch, at, &i, &b->batch.weight[k]);
    TRY(fill(b, k, i, choice));
  }
  *out = &b->batch;
  return OK;
}
