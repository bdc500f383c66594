// sampler.c: see sampler.h.
#include "data/sampler.h"

#include "base/mem.h"
#include "base/rng.h"

#include <string.h>

struct sampler {
  struct sampler_options options;
  const struct pool **pools;
  int64_t *start; // [count + 1] where each pool begins in the union
  int *kind;      // [count] the wanted kind in each pool, -1 where it has none
  char *prompt;
  int64_t *whole; // [samples] those that take part, ascending
  int64_t *missing;
  int64_t samples, lacking;
  uint64_t *order; // [samples] the permutation of the current epoch
  uint64_t epoch;
};

static int is_random(const struct sampler *s) {
  return s->prompt && strcmp(s->prompt, "random") == 0;
}

void sampler_locate(const struct sampler *s, int64_t whole, int *pool, int64_t *sample) {
  *pool = 0;
  while (whole >= s->start[*pool + 1]) (*pool)++; // a handful of pools
  *sample = whole - s->start[*pool];
}

// Kinds of a sample that "random" may draw. `pick` < 0 only counts; else *kind is the pick-th.
static int random_kinds(const struct pool *pool, int64_t sample, int pick, int *kind) {
  int zero = pool_find_kind(pool, "p0"), n = 0;
  for (int k = 0; k < pool_get_info(pool)->prompt_kinds; k++) {
    if (k == zero || pool_count_wordings(pool, sample, k) == 0) continue;
    if (n == pick) *kind = k;
    n++;
  }
  return n;
}

static int has_prompt(const struct sampler *s, int pool, int64_t sample) {
  if (!s->prompt) return 1;
  if (is_random(s)) return random_kinds(s->pools[pool], sample, -1, NULL) > 0;
  return pool_count_wordings(s->pools[pool], sample, s->kind[pool]) > 0;
}

static status_t find_kinds(struct sampler *s) {
  int found = !s->prompt || is_random(s);
  for (int i = 0; i < s->options.count; i++) {
    s->kind[i] = s->prompt ? pool_find_kind(s->pools[i], s->prompt) : -1;
    found = found || s->kind[i] >= 0;
  }
  if (!found)
    return FAIL(ERR_ARG, "prompt '%s' is a kind of none of the pools (%s/%s has %s to %s)", s->prompt,
                pool_get_info(s->pools[0])->name, pool_get_info(s->pools[0])->split,
                pool_get_info(s->pools[0])->prompt_kind[0],
                pool_get_info(s->pools[0])->prompt_kind[pool_get_info(s->pools[0])->prompt_kinds - 1]);
  return OK;
}

static status_t fill(struct sampler *s) {
  const struct sampler_options *o = &s->options;
  TRY(mem_alloc(&s->pools, (size_t)o->count, sizeof *s->pools));
  TRY(mem_alloc(&s->start, (size_t)o->count + 1, sizeof *s->start));
  TRY(mem_alloc(&s->kind, (size_t)o->count, sizeof *s->kind));
  if (o->prompt) TRY(mem_copy_text(&s->prompt, o->prompt));
  for (int i = 0; i < o->count; i++) {
    const struct pool_info *info = pool_get_info(o->pools[i]);
    if (info->size != pool_get_info(o->pools[0])->size)
      return FAIL(ERR_ARG, "pool %s/%s has size %d, but %s/%s has %d", info->name, info->split, info->size,
                  pool_get_info(o->pools[0])->name, pool_get_info(o->pools[0])->split,
                  pool_get_info(o->pools[0])->size);
    s->pools[i] = o->pools[i];
    s->start[i + 1] = s->start[i] + info->samples;
  }
  TRY(find_kinds(s));
  size_t all = (size_t)s->start[o->count];
  TRY(mem_alloc(&s->whole, all, sizeof *s->whole));
  TRY(mem_alloc(&s->missing, all, sizeof *s->missing));
  for (int64_t i = 0; i < s->start[o->count]; i++) {
    int pool;
    int64_t sample;
    sampler_locate(s, i, &pool, &sample);
    if (has_prompt(s, pool, sample)) {
      s->whole[s->samples++] = i;
    } else {
      s->missing[s->lacking++] = i;
    }
  }
  if (s->samples == 0) return FAIL(ERR_ARG, "no sample of the pools has prompt '%s'", s->prompt ? s->prompt : "");
  TRY(mem_alloc(&s->order, (size_t)s->samples, sizeof *s->order));
  return sampler_set_epoch(s, 0);
}

status_t sampler_create(const struct sampler_options *options, struct sampler **out) {
  struct sampler *s = NULL;
  *out = NULL;
  if (options->count < 1 || options->batch < 1)
    return FAIL(ERR_ARG, "%d pools and a batch of %lld; wanted at least 1 of each", options->count,
                (long long)options->batch);
  TRY(mem_alloc(&s, 1, sizeof *s));
  s->options = *options;
  status_t st = fill(s);
  if (st != OK) {
    sampler_destroy(&s);
    return st;
  }
  *out = s;
  return OK;
}

void sampler_destroy(struct sampler **sampler) {
  struct sampler *s = *sampler;
  if (!s) return;
  mem_free(&s->pools);
  mem_free(&s->start);
  mem_free(&s->kind);
  mem_free(&s->prompt);
  mem_free(&s->whole);
  mem_free(&s->missing);
  mem_free(&s->order);
  mem_free(sampler);
}

int64_t sampler_samples(const struct sampler *s) {
  return s->samples;
}

int64_t sampler_batches(const struct sampler *s) {
  return (s->samples + s->options.batch - 1) / s->options.batch;
}

int64_t sampler_batch(const struct sampler *s) {
  return s->options.batch;
}

int64_t sampler_missing(const struct sampler *s, const int64_t **whole) {
  *whole = s->missing;
  return s->lacking;
}

status_t sampler_set_epoch(struct sampler *s, uint64_t epoch) {
  struct rng r;
  s->epoch = epoch;
  if (s->options.shuffle) {
    rng_init(&r, s->options.seed, rng_stream("sampler order") + epoch);
    rng_permutation(&r, s->order, (uint64_t)s->samples);
  } else {
    for (int64_t i = 0; i < s->samples; i++) s->order[i] = (uint64_t)i;
  }
  return OK;
}

// A number below n from 32 random bits.
static int scale_below(uint32_t word, int n) {
  return (int)((uint64_t)word * (uint64_t)n >> 32);
}

status_t sampler_get(const struct sampler *s, int64_t position, struct sample_ref *out) {
  uint32_t word[4];
  if (position < 0 || position >= s->samples)
    return FAIL(ERR_ARG, "position %lld of %lld samples", (long long)position, (long long)s->samples);
  out->whole = s->whole[s->order[position]];
  sampler_locate(s, out->whole, &out->pool, &out->sample);
  out->kind = -1;
  out->wording = 0;
  if (!s->prompt) return OK;
  const struct pool *pool = s->pools[out->pool];
  rng_block(s->options.seed, rng_stream("sampler prompt") + s->epoch, (uint64_t)out->whole, word);
  if (is_random(s)) {
    int kinds = random_kinds(pool, out->sample, -1, NULL);
    (void)random_kinds(pool, out->sample, scale_below(word[0], kinds), &out->kind);
  } else {
    out->kind = s->kind[out->pool];
  }
  if (s->options.shuffle) out->wording = scale_below(word[1], pool_count_wordings(pool, out->sample, out->kind));
  return OK;
}

void sampler_slice(const struct sampler *s, int64_t batch, int rank, int world, int64_t *first, int64_t *count) {
  int64_t begin = batch * s->options.batch, left = s->samples - begin;
  int64_t n = left < s->options.batch ? left : s->options.batch;
  if (n < 0) n = 0;
  int64_t low = n * rank / world, high = n * (rank + 1) / world;
  *first = begin + low;
  *count = high - low;
}
