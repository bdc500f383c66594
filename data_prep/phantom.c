// phantom.c: see phantom.h.
#include "data_prep/phantom.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "data_prep/describe.h"
#include "data_prep/phantom_prompt.h"
#include "data_prep/phantom_scene.h"

#include <errno.h>
#include <getopt.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { VERSION = 1, ATTEMPTS = 400, COUNT_LIMIT = 1000000 };

static const struct {
  const char *name, *class_name;
  status_t (*paint)(const struct scene *s, struct image *out);
} domain_table[DOMAIN_COUNT] = {{"endoscopy", "polyp", paint_endoscopy},
                                {"ultrasound", "tumor", paint_ultrasound},
                                {"dermoscopy", "skin melanoma", paint_dermoscopy}};

static status_t find_domain(const char *name, domain_t *out) {
  for (int k = 0; k < DOMAIN_COUNT; k++) {
    if (strcmp(name, domain_table[k].name) != 0) continue;
    *out = (domain_t)k;
    return OK;
  }
  return FAIL(ERR_ARG, "no domain '%s': there are endoscopy, ultrasound and dermoscopy", name);
}

void phantom_free(struct phantom *p) {
  image_free(&p->picture);
  image_free(&p->mask);
  json_decref(p->prompts);
  *p = (struct phantom){0};
}

// Whether all parts can share the words of the first, and the border is as regular or ragged as the scene wants it.
static bool parts_agree(const struct scene *s, const struct description *d) {
  for (int k = 0; k < d->count; k++) {
    const struct part *p = &d->part[k], *first = &d->part[0];
    if (strcmp(describe_size(p->fraction), describe_size(first->fraction)) != 0) return false;
    if (!s->irregular && strcmp(describe_shape(p->ratio), describe_shape(first->ratio)) != 0) return false;
    if (s->domain == DOMAIN_ULTRASOUND && (s->irregular ? p->fill > 0.86 : p->fill < 0.93)) return false;
  }
  return true;
}

// One attempt: true in *good when the picture can be described without doubt.
static status_t attempt(domain_t domain, struct rng *r, struct phantom *out, bool *good) {
  struct scene s;
  struct description d;
  *good = false;
  scene_plan(&s, domain, r);
  TRY(image_create("phantom", s.height, s.width, 3, &out->picture));
  TRY(image_create("phantom", s.height, s.width, 1, &out->mask));
  scene_mask(&s, out->mask.pixels);
  TRY(describe_mask(out->mask.pixels, s.height, s.width, NULL, &d));
  if (d.count == 0 || d.count != s.count || !parts_agree(&s, &d)) return OK;
  bool clear = describe_is_clear(&d, false);
  if (!clear) return OK;
  TRY(domain_table[domain].paint(&s, &out->picture));
  TRY(describe_mask(out->mask.pixels, s.height, s.width, &out->picture, &d));
  if (domain != DOMAIN_ULTRASOUND && !describe_is_clear(&d, true)) return OK;
  if (!(out->prompts = json_object())) return FAIL(ERR_NOMEM, "no memory for prompts");
  memcpy(out->box, d.box, sizeof d.box);
  if (domain == DOMAIN_ULTRASOUND) {
    TRY(prompt_ultrasound_scheme(&d, s.irregular, out->prompts));
  } else {
    TRY(prompt_polyp_scheme(&d, domain_table[domain].class_name, out->prompts));
  }
  *good = true;
  return OK;
}

status_t phantom_draw(const char *domain, uint64_t seed, uint64_t index, struct phantom *out) {
  domain_t which;
  struct rng r;
  *out = (struct phantom){0};
  TRY(find_domain(domain, &which));
  rng_init(&r, seed, rng_stream(domain) + index);
  for (int k = 0; k < ATTEMPTS; k++) {
    bool good;
    status_t st = attempt(which, &r, out, &good);
    if (st == OK && good) return OK;
    phantom_free(out);
    TRY(st);
  }
  return FAIL(ERR_UNSUPPORTED, "%s %llu of seed %llu: no describable picture in %d attempts", domain,
              (unsigned long long)index, (unsigned long long)seed, ATTEMPTS);
}

// What the workers share.
struct job {
  const char *domain, *dir;
  uint64_t seed;
  size_t count;
  json_t **rows; // [count], owned
  atomic_size_t done;
};

static status_t make_row(const char *name, size_t index, struct phantom *p, json_t **out) {
  json_t *row = json_pack("{s:[i,i,i,i], s:i, s:s, s:s+, s:s+, s:[{s:i, s:I, s:s}], s:O, s:i}", "bbox", p->box[0],
                          p->box[1], p->box[2], p->box[3], "cat", 0, "segment_id", name, "img_name", name, ".png",
                          "mask_name", name, ".png", "sentences", "idx", 0, "sent_id", (json_int_t)index, "sent", "",
                          "prompts", p->prompts, "sentences_num", 1);
  if (!row) return FAIL(ERR_NOMEM, "no memory for the annotation of %s", name);
  *out = row;
  return OK;
}

static status_t write_one(void *context, size_t item, int worker) {
  (void)worker;
  struct job *job = context;
  struct phantom p = {0};
  char *name = NULL, *picture = NULL, *mask = NULL;
  status_t st = OK;
  TRY_GOTO(mem_format(&name, "%s_%06zu", job->domain, item), done);
  TRY_GOTO(mem_format(&picture, "%s/images/%s.png", job->dir, name), done);
  TRY_GOTO(mem_format(&mask, "%s/masks/%s.png", job->dir, name), done);
  TRY_GOTO(phantom_draw(job->domain, job->seed, item, &p), done);
  TRY_GOTO(image_write_png(picture, &p.picture, 8), done);
  TRY_GOTO(image_write_png(mask, &p.mask, 1), done);
  TRY_GOTO(make_row(name, item, &p, &job->rows[item]), done);
  log_progress(0, "phantom: %zu of %zu", atomic_fetch_add(&job->done, 1) + 1, job->count);
done:
  phantom_free(&p);
  mem_free(&mask);
  mem_free(&picture);
  mem_free(&name);
  return st;
}

// One permutation of the samples; the first tenth is test, the second val, each at least one sample when there are three.
static status_t write_splits(const struct job *job) {
  static const char *const split_name[3] = {"test", "val", "train"};
  size_t tenth = job->count >= 10 ? job->count / 10 : job->count >= 3;
  size_t last[3] = {tenth, 2 * tenth, job->count};
  uint64_t *order = NULL;
  uint8_t *split = NULL;
  struct rng r;
  status_t st = OK;
  TRY_GOTO(mem_alloc(&order, job->count, sizeof *order), done);
  TRY_GOTO(mem_alloc(&split, job->count, 1), done);
  rng_init(&r, job->seed, rng_stream("split"));
  rng_permutation(&r, order, job->count);
  for (size_t i = 0; i < job->count; i++) split[order[i]] = (uint8_t)(i < last[0] ? 0 : i < last[1] ? 1 : 2);
  for (int k = 0; k < 3; k++) {
    char *path = NULL;
    json_t *rows = json_array();
    st =
        rows ? mem_format(&path, "%s/anns/%s.json", job->dir, split_name[k]) : FAIL(ERR_NOMEM, "no memory for a split");
    for (size_t i = 0; st == OK && i < job->count; i++) {
      if (split[i] == k && json_array_append(rows, job->rows[i]) != 0) st = FAIL(ERR_NOMEM, "no memory for a split");
    }
    if (st == OK) st = json_write(path, rows);
    json_decref(rows);
    mem_free(&path);
    if (st != OK) goto done;
  }
done:
  mem_free(&split);
  mem_free(&order);
  return st;
}

// The settings of the dataset in DIR/phantom.json.
static json_t *make_settings(const char *domain, int count, uint64_t seed) {
  return json_pack("{s:i, s:s, s:i, s:I}", "version", VERSION, "domain", domain, "count", count, "seed",
                   (json_int_t)seed);
}

// ERR_ARG unless DIR is absent or holds the very same dataset (*present).
static status_t check_place(const char *dir, const json_t *settings, bool *present) {
  char *path = NULL;
  json_t *found = NULL;
  *present = false;
  if (!file_exists(dir)) return OK;
  TRY(file_join(&path, dir, "phantom.json"));
  if (file_exists(path) && json_read(path, &found) == OK) *present = json_equal(found, settings);
  json_decref(found);
  mem_free(&path);
  if (*present) return OK;
  return FAIL(ERR_ARG, "%s exists and is not this phantom dataset: remove it or choose another folder", dir);
}

static status_t write_all(struct job *job, const json_t *settings) {
  static const char *const folder[3] = {"images", "masks", "anns"};
  char *path = NULL;
  status_t st = OK;
  for (int k = 0; k < 3; k++) {
    TRY_GOTO(mem_format(&path, "%s/%s", job->dir, folder[k]), done);
    TRY_GOTO(file_make_directories(path), done);
    mem_free(&path);
  }
  TRY_GOTO(parallel_for(job->count, 0, write_one, job), done);
  log_progress(1, "phantom: %zu of %zu", job->count, job->count);
  TRY_GOTO(write_splits(job), done);
  TRY_GOTO(mem_format(&path, "%s/phantom.json", job->dir), done);
  TRY_GOTO(json_write(path, settings), done);
done:
  mem_free(&path);
  return st;
}

status_t phantom_write(const char *domain, int count, uint64_t seed, const char *dir) {
  char *temporary = NULL;
  json_t *settings = NULL;
  struct job job = {.domain = domain, .seed = seed, .count = (size_t)count};
  domain_t which;
  bool present, made = false;
  status_t st = OK;
  TRY(find_domain(domain, &which));
  if (count < 1 || count > COUNT_LIMIT || seed > INT64_MAX) {
    return FAIL(ERR_ARG, "wanted between 1 and %d pictures and a seed below 2^63, met %d and %llu", COUNT_LIMIT, count,
                (unsigned long long)seed);
  }
  if (!(settings = make_settings(domain, count, seed))) return FAIL(ERR_NOMEM, "no memory for the settings");
  TRY_GOTO(check_place(dir, settings, &present), done);
  if (present) goto done;
  TRY_GOTO(mem_format(&temporary, "%s.tmp-%ld", dir, (long)getpid()), done);
  TRY_GOTO(mem_alloc(&job.rows, job.count, sizeof(json_t *)), done);
  job.dir = temporary;
  made = true;
  TRY_GOTO(write_all(&job, settings), done);
  TRY_GOTO(file_rename(temporary, dir), done);
done:
  for (size_t i = 0; job.rows && i < job.count; i++) json_decref(job.rows[i]);
  if (made && st != OK) (void)file_remove_tree(temporary);
  mem_free(&job.rows);
  mem_free(&temporary);
  json_decref(settings);
  return st;
}
