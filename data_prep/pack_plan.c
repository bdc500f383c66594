// pack_plan.c: order of the samples, table of texts, content key of the source; and the report of equal pictures.
#include "data_prep/pack.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parallel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void pack_plan_free(struct pack_plan *plan) {
  mem_free(&plan->order);
  mem_free(&plan->first);
  mem_free(&plan->image_index);
  mem_free(&plan->text);
  mem_free(&plan->prompt);
}

struct entry {
  const char *image;
  size_t at, lead; // index in the source, and that of the first sample of the same image
};

static int by_image(const void *a, const void *b) {
  const struct entry *x = a, *y = b;
  int c = strcmp(x->image, y->image);
  return c ? c : (x->at > y->at) - (x->at < y->at);
}

static int by_lead(const void *a, const void *b) {
  const struct entry *x = a, *y = b;
  if (x->lead != y->lead) return x->lead < y->lead ? -1 : 1;
  return (x->at > y->at) - (x->at < y->at);
}

static status_t make_order(struct pack_plan *p) {
  size_t n = p->samples;
  struct entry *entry = NULL;
  TRY(mem_alloc(&p->order, n, sizeof *p->order));
  TRY(mem_alloc(&p->first, n + 1, sizeof *p->first));
  TRY(mem_alloc(&p->image_index, n, sizeof *p->image_index));
  TRY(mem_alloc(&entry, n, sizeof *entry));
  for (size_t i = 0; i < n; i++) entry[i] = (struct entry){p->source->sample[i].image, i, i};
  qsort(entry, n, sizeof *entry, by_image);
  for (size_t i = 1; i < n; i++)
    if (strcmp(entry[i].image, entry[i - 1].image) == 0) entry[i].lead = entry[i - 1].lead;
  qsort(entry, n, sizeof *entry, by_lead);
  for (size_t i = 0; i < n; i++) {
    if (i == 0 || entry[i].lead != entry[i - 1].lead) p->first[p->images++] = i;
    p->order[i] = entry[i].at;
    p->image_index[i] = (int32_t)(p->images - 1);
  }
  p->first[p->images] = n;
  mem_free(&entry);
  return OK;
}

static int by_text(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static status_t make_prompts(struct pack_plan *p) {
  const struct source *s = p->source;
  size_t count = 0, row;
  p->wordings = 1;
  for (size_t i = 0; i < s->samples; i++) {
    for (size_t k = 0; k < s->kinds; k++) {
      int n = source_wordings_of(&s->sample[i], k)->count;
      count += (size_t)n;
      if (n > p->wordings) p->wordings = n;
    }
  }
  TRY(mem_alloc(&p->text, count, sizeof *p->text));
  for (size_t i = 0; i < s->samples; i++)
    for (size_t k = 0; k < s->kinds; k++)
      for (int v = 0; v < source_wordings_of(&s->sample[i], k)->count; v++)
        p->text[p->texts++] = source_wordings_of(&s->sample[i], k)->text[v];
  qsort(p->text, p->texts, sizeof *p->text, by_text);
  size_t kept = 0;
  for (size_t i = 0; i < p->texts; i++)
    if (i == 0 || strcmp(p->text[i], p->text[i - 1]) != 0) p->text[kept++] = p->text[i];
  p->texts = kept;
  row = s->kinds * (size_t)p->wordings;
  TRY(mem_alloc(&p->prompt, p->samples * row, sizeof *p->prompt));
  for (size_t i = 0; i < p->samples; i++) {
    for (size_t k = 0; k < s->kinds; k++) {
      const struct source_wordings *w = source_wordings_of(&s->sample[p->order[i]], k);
      for (int v = 0; v < p->wordings; v++) {
        char **found = v < w->count ? bsearch(&w->text[v], p->text, p->texts, sizeof *p->text, by_text) : NULL;
        p->prompt[i * row + k * (size_t)p->wordings + (size_t)v] = found ? (int32_t)(found - p->text) : -1;
      }
    }
  }
  return OK;
}

struct hashing {
  const struct pack_plan *plan;
  struct key *image, *mask;
};

static status_t hash_item(void *context, size_t item, int worker) {
  struct hashing *h = context;
  const struct pack_plan *p = h->plan;
  (void)worker;
  if (item < p->images) return key_sha256_file(p->source->sample[p->order[p->first[item]]].image, &h->image[item]);
  item -= p->images;
  return key_sha256_file(p->source->sample[p->order[item]].mask, &h->mask[item]);
}

static status_t add_samples(struct key_builder *b, const struct pack_plan *p, const struct hashing *h) {
  size_t row = p->source->kinds * (size_t)p->wordings;
  for (size_t i = 0; i < p->samples; i++) {
    const struct source_sample *x = &p->source->sample[p->order[i]];
    TRY(key_add_text(b, "image", x->image_name));
    TRY(key_add_key(b, "image file", &h->image[p->image_index[i]]));
    TRY(key_add_text(b, "name", x->name));
    TRY(key_add_key(b, "mask file", &h->mask[i]));
    TRY(key_add_text(b, "class", x->class_name));
    TRY(key_add_text(b, "group", x->group));
    TRY(key_add_bytes(b, "prompt", p->prompt + i * row, row * sizeof *p->prompt));
  }
  return OK;
}

// What the pool will be made from: files by content, names, prompts, and the recipe with its version.
static status_t make_key(struct pack_plan *p, const struct pack_options *o) {
  enum { RECIPE = 1 }; // one more when packed pixels change
  struct hashing h = {.plan = p};
  struct key_builder *b = NULL;
  status_t st = OK;
  TRY_GOTO(mem_alloc(&h.image, p->images, sizeof *h.image), done);
  TRY_GOTO(mem_alloc(&h.mask, p->samples, sizeof *h.mask), done);
  TRY_GOTO(parallel_for(p->images + p->samples, o->threads, hash_item, &h), done);
  TRY_GOTO(key_begin(&b, "source"), done);
  TRY_GOTO(key_add_int(b, "recipe", RECIPE), done);
  TRY_GOTO(key_add_int(b, "size", o->size), done);
  TRY_GOTO(key_add_int(b, "exif", o->exif), done);
  for (size_t k = 0; k < p->source->kinds; k++) {
    TRY_GOTO(key_add_text(b, "kind", p->source->kind[k]), done);
    TRY_GOTO(key_add_int(b, "kind source", (int64_t)p->source->kind_source[k]), done);
  }
  for (size_t i = 0; i < p->texts; i++) TRY_GOTO(key_add_text(b, "text", p->text[i]), done);
  TRY_GOTO(add_samples(b, p, &h), done);
  TRY_GOTO(key_finish(&b, &p->source_key), done);
done:
  if (b) (void)key_finish(&b, NULL);
  mem_free(&h.image);
  mem_free(&h.mask);
  return st;
}

status_t pack_plan_create(const struct source *source, const struct pack_options *options, struct pack_plan *out) {
  *out = (struct pack_plan){.source = source, .samples = source->samples};
  if (source->samples < 1 || source->samples > INT32_MAX / 2)
    return FAIL(ERR_ARG, "%zu samples can't be packed", source->samples);
  status_t st = make_order(out);
  if (st == OK) st = make_prompts(out);
  if (st == OK) st = make_key(out, options);
  if (st != OK) pack_plan_free(out);
  return st;
}

struct picture {
  struct key key;
  const char *name;
};

static int by_key(const void *a, const void *b) {
  const struct picture *x = a, *y = b;
  return memcmp(x->key.bytes, y->key.bytes, sizeof x->key.bytes);
}

enum { TWIN_LINES = 20 };

static void warn_twin(size_t *count, const char *a, const char *where, const char *b) {
  if (++*count <= TWIN_LINES) log_warn("same picture twice: %s and %s%s", a, where, b);
}

static status_t compare_split(const struct picture *sorted, size_t n, const char *path, const char *where,
                              size_t *count) {
  struct pool *other = NULL;
  TRY(pool_open_path(path, 0, &other));
  for (int64_t i = 0; i < pool_get_info(other)->samples; i++) {
    struct picture probe = {0};
    struct pool_sample sample;
    status_t st = pool_get_sample(other, i, &sample);
    if (st == OK) st = pool_image_key(other, sample.image, &probe.key);
    if (st != OK) {
      pool_close(&other);
      return st;
    }
    const struct picture *met = bsearch(&probe, sorted, n, sizeof *sorted, by_key);
    struct pool_sample before = {.image = -1};
    if (i > 0) (void)pool_get_sample(other, i - 1, &before); // in range
    if (met && before.image != sample.image) warn_twin(count, met->name, where, sample.image_name);
  }
  pool_close(&other);
  return OK;
}

static status_t compare_splits(const struct pack_options *o, const struct picture *sorted, size_t n, size_t *count) {
  char *folder = NULL, **names = NULL, *path = NULL, *json = NULL;
  size_t splits = 0;
  status_t st = OK;
  TRY_GOTO(file_join(&folder, o->root, o->name), done);
  TRY_GOTO(file_list(folder, &names, &splits), done);
  for (size_t i = 0; i < splits; i++) {
    char where[300];
    if (strcmp(names[i], o->split) == 0) continue;
    mem_free(&path);
    mem_free(&json);
    TRY_GOTO(mem_format(&path, "%s/%s/%d", folder, names[i], o->size), done);
    TRY_GOTO(file_join(&json, path, "pool.json"), done);
    if (!file_exists(json)) continue;
    (void)snprintf(where, sizeof where, "split %.200s: ", names[i]);
    st = compare_split(sorted, n, path, where, count);
    if (st != OK) { // a damaged neighbour is no reason not to have this pool
      log_warn("%s can't be compared: %s", path, status_message());
      st = OK;
    }
  }
done:
  file_free_names(&names, splits);
  mem_free(&path);
  mem_free(&json);
  mem_free(&folder);
  return st;
}

status_t pack_report_twins(const struct pack_plan *plan, const struct pack_options *options, const struct key *keys) {
  struct picture *sorted = NULL;
  size_t count = 0;
  TRY(mem_alloc(&sorted, plan->images, sizeof *sorted));
  for (size_t i = 0; i < plan->images; i++)
    sorted[i] = (struct picture){keys[i], plan->source->sample[plan->order[plan->first[i]]].image_name};
  qsort(sorted, plan->images, sizeof *sorted, by_key);
  for (size_t i = 1; i < plan->images; i++)
    if (key_equal(&sorted[i].key, &sorted[i - 1].key)) warn_twin(&count, sorted[i - 1].name, "", sorted[i].name);
  status_t st = compare_splits(options, sorted, plan->images, &count);
  if (count > TWIN_LINES) log_warn("same picture twice: %zu more", count - TWIN_LINES);
  mem_free(&sorted);
  return st;
}
