// pool_info.c: what `gridseg info` says of a pool.
#include "base/key.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "data/pool.h"

#include <stdlib.h>
#include <string.h>

struct check {
  const struct pool *pool;
  int64_t images, empty; // masks without a pixel
};

// Every image against its key, every mask against its CRC and its source mask's size: one item is one of both.
static status_t check_item(void *context, size_t item, int worker) {
  struct check *c = context;
  const struct pool_info *info = pool_get_info(c->pool);
  size_t area = (size_t)info->size * (size_t)info->size, set = 0;
  uint8_t *pixels = NULL, *original = NULL;
  struct key stored, met;
  (void)worker;
  TRY(mem_alloc_raw(&pixels, area, 3));
  status_t st = OK;
  if ((int64_t)item < info->images) {
    TRY_GOTO(pool_read_image(c->pool, (int64_t)item, pixels), done);
    TRY_GOTO(pool_image_key(c->pool, (int64_t)item, &stored), done);
    TRY_GOTO(key_sha256(pixels, area * 3, &met), done);
    if (!key_equal(&stored, &met))
      FAIL_GOTO(done, ERR_FORMAT, "%s/%s: image %zu does not have the key that is stored", info->name, info->split,
                item);
  } else {
    int64_t sample = (int64_t)item - info->images;
    TRY_GOTO(pool_read_mask(c->pool, sample, pixels), done);
    for (size_t i = 0; i < area; i++) set += pixels[i];
    if (set == 0) (void)__atomic_add_fetch(&c->empty, 1, __ATOMIC_RELAXED);
    TRY_GOTO(pool_read_original_mask(c->pool, sample, &original), done);
  }
done:
  mem_free(&pixels);
  mem_free(&original);
  return st;
}

static void print_prompts(const struct pool *pool, FILE *out) {
  const struct pool_info *info = pool_get_info(pool);
  (void)fprintf(out, "prompts       %d kinds, up to %d wordings\n", info->prompt_kinds, info->prompt_wordings);
  for (int k = 0; k < info->prompt_kinds; k++) {
    int64_t have = 0;
    const char *example = NULL;
    for (int64_t i = 0; i < info->samples; i++) {
      have += pool_count_wordings(pool, i, k) > 0;
      if (!example) example = pool_get_prompt(pool, i, k, 0);
    }
    (void)fprintf(out, "  %-11s %-12s %lld of %lld samples, e.g. \"%s\"\n", info->prompt_kind[k],
                  prompt_source_name(info->prompt_source[k]), (long long)have, (long long)info->samples,
                  example ? example : "");
  }
}

static int compare(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static status_t count_groups(const struct pool *pool, int64_t *count) {
  int64_t n = pool_get_info(pool)->samples;
  const char **group = NULL;
  TRY(mem_alloc(&group, (size_t)n, sizeof *group));
  for (int64_t i = 0; i < n; i++) {
    struct pool_sample s = {0};
    (void)pool_get_sample(pool, i, &s); // i is in range
    group[i] = s.group;
  }
  qsort(group, (size_t)n, sizeof *group, compare);
  *count = 1;
  for (int64_t i = 1; i < n; i++) *count += strcmp(group[i], group[i - 1]) != 0;
  mem_free(&group);
  return OK;
}

status_t pool_print_info(const char *path, FILE *out) {
  struct pool *pool = NULL;
  char hex[65];
  TRY(pool_open_path(path, 1, &pool));
  const struct pool_info *info = pool_get_info(pool);
  struct check c = {.pool = pool, .images = info->images};
  int64_t groups = 0;
  status_t st = count_groups(pool, &groups);
  if (st == OK) st = parallel_for((size_t)(info->images + info->samples), 0, check_item, &c);
  if (st == OK) {
    key_hex(&info->key, hex);
    (void)fprintf(out, "pool          %s\ndataset       %s\nsplit         %s\nsize          %d\n", path, info->name,
                  info->split, info->size);
    (void)fprintf(out, "images        %lld\nsamples       %lld (%lld with an empty mask)\ngroups        %lld\n",
                  (long long)info->images, (long long)info->samples, (long long)c.empty, (long long)groups);
    (void)fprintf(out, "shards        %d\nkey           %s\n", info->shards, hex);
    print_prompts(pool, out);
    (void)fprintf(out,
                  "checksums     all right: %d shards (SHA-256), %lld images (CRC-32 and key), %lld masks "
                  "(CRC-32; source masks decoded)\n",
                  info->shards, (long long)info->images, (long long)info->samples);
  }
  pool_close(&pool);
  return st;
}
