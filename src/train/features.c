// features.c: see features.h.
#include "train/features.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "train/feature.h"

#include <stdlib.h>
#include <string.h>

struct prompt {
  char *text;
  int32_t *ids;
  int length, next; // next of its hash chain
  const void *feature;
};

struct picture_pool {
  const struct pool *pool;
  const struct augment *augment; // NULL: one view, the picture itself
  int64_t views;
  const void **feature; // [images, views]
  const char **name;    // [images], with augment
};

// One value that the store lacks.
struct wanted {
  source_t source;
  int pool, prompt;
  int64_t image, view;
  struct key key;
};

enum { CHAINS = 4096, ROUND = 8 };

struct features {
  struct features_options o;
  struct prompt *prompt;
  size_t prompts, prompt_room;
  int chain[CHAINS]; // 1 + first prompt, 0: none
  struct picture_pool *pool;
  size_t pools, pool_room;
  uint8_t *pixels; // two pictures
  size_t pixels_size;
};

status_t features_create(const struct features_options *options, struct features **out) {
  struct features *f;
  TRY(mem_alloc(&f, 1, sizeof *f));
  f->o = *options;
  *out = f;
  return OK;
}

void features_destroy(struct features **features) {
  struct features *f = *features;
  if (!f) return;
  for (size_t i = 0; i < f->prompts; i++) {
    mem_free(&f->prompt[i].text);
    mem_free(&f->prompt[i].ids);
  }
  for (size_t i = 0; i < f->pools; i++) {
    mem_free(&f->pool[i].feature);
    mem_free(&f->pool[i].name);
  }
  mem_free(&f->prompt);
  mem_free(&f->pool);
  mem_free(&f->pixels);
  mem_free(features);
}

// Pictures are drawn by name.
static status_t name_pictures(struct picture_pool *p) {
  const struct pool_info *info = pool_get_info(p->pool);
  TRY(mem_alloc(&p->name, (size_t)info->images, sizeof(char *)));
  for (int64_t i = 0; i < info->samples; i++) {
    struct pool_sample s;
    TRY(pool_get_sample(p->pool, i, &s));
    p->name[s.image] = s.image_name;
  }
  return OK;
}

status_t features_add_pool(struct features *f, const struct pool *pool, const struct augment *augment, int *index) {
  TRY(mem_grow(&f->pool, &f->pool_room, f->pools + 1, sizeof *f->pool));
  struct picture_pool *p = &f->pool[f->pools];
  *p = (struct picture_pool){.pool = pool, .augment = augment, .views = augment ? augment->views : 1};
  *index = (int)f->pools++;
  TRY(mem_alloc(&p->feature, (size_t)pool_get_info(pool)->images, (size_t)p->views * sizeof *p->feature));
  return augment ? name_pictures(p) : OK;
}

static unsigned chain_of(const char *text) {
  return key_crc32(text, strlen(text)) % CHAINS;
}

int features_find_prompt(const struct features *f, const char *text) {
  int i = f->chain[chain_of(text)] - 1;
  while (i >= 0 && strcmp(f->prompt[i].text, text)) i = f->prompt[i].next;
  return i;
}

static status_t encode(const struct features *f, const char *text, struct prompt *p) {
  const struct tokenizer *t = f->o.tokenizer;
  if (!t) return OK;
  TRY(mem_alloc(&p->ids, (size_t)tokenizer_limit(t), sizeof *p->ids));
  TRY(tokenizer_encode(t, text, strlen(text), p->ids, &p->length));
  while (f->o.pad && p->length < tokenizer_limit(t)) p->ids[p->length++] = tokenizer_end(t);
  return OK;
}

status_t features_add_prompt(struct features *f, const char *text, int *index) {
  *index = features_find_prompt(f, text);
  if (*index >= 0) return OK;
  status_t st = OK;
  struct prompt p = {0};
  TRY_GOTO(mem_grow(&f->prompt, &f->prompt_room, f->prompts + 1, sizeof *f->prompt), done);
  TRY_GOTO(mem_copy_text(&p.text, text), done);
  TRY_GOTO(encode(f, text, &p), done);
  unsigned c = chain_of(text);
  p.next = f->chain[c] - 1;
  f->prompt[f->prompts] = p;
  p = (struct prompt){0};
  *index = (int)f->prompts++;
  f->chain[c] = *index + 1;
done:
  mem_free(&p.ids);
  mem_free(&p.text);
  return st;
}

// ---- what is wanted -------------------------------------------------------------------------------------------------

// The view of a picture: its pixels before, and what is done to them.
static status_t view_of(const struct features *f, const struct wanted *w, struct augment_view *out) {
  const struct picture_pool *p = &f->pool[w->pool];
  const struct pool_info *info = pool_get_info(p->pool);
  if (!p->name[w->image]) return FAIL(ERR_FORMAT, "pool %s: image %lld has no sample", info->name, (long long)w->image);
  augment_draw(p->augment, info->name, p->name[w->image], info->size, (uint64_t)w->view, out);
  return OK;
}

static status_t key_of_view(struct features *f, const struct wanted *w, struct key *key) {
  struct augment_view v;
  struct key_builder *b = NULL;
  TRY(view_of(f, w, &v));
  TRY(key_begin(&b, "view of a picture"));
  status_t st = key_add_key(b, "picture", key);
  if (st == OK) st = key_add_int(b, "mirror", v.mirror);
  if (st == OK) st = key_add_int(b, "flip", v.flip);
  if (st == OK) st = key_add_int(b, "turns", v.turns);
  if (st == OK) st = key_add_real(b, "zoom", v.zoom);
  if (st == OK) st = key_add_real(b, "left", v.left);
  if (st == OK) st = key_add_real(b, "top", v.top);
  if (st == OK) st = key_add_real(b, "contrast", v.contrast);
  if (st == OK) st = key_add_real(b, "brightness", v.brightness);
  if (st == OK) return key_finish(&b, key);
  CLEANUP(key_finish(&b, NULL));
  return st;
}

static status_t key_of(struct features *f, struct wanted *w) {
  struct key input;
  if (w->source == SOURCE_IMAGE) {
    TRY(pool_image_key(f->pool[w->pool].pool, w->image, &input));
    if (f->pool[w->pool].augment) TRY(key_of_view(f, w, &input));
  } else {
    const struct prompt *p = &f->prompt[w->prompt];
    TRY(feature_text_key(p->ids, p->length, &input));
  }
  return network_feature_key(f->o.network, w->source, &input, &w->key);
}

static const void **place_of(struct features *f, const struct wanted *w) {
  if (w->source == SOURCE_CONDITION) return &f->prompt[w->prompt].feature;
  const struct picture_pool *p = &f->pool[w->pool];
  return &p->feature[w->image * p->views + w->view];
}

// Look `w` up; a value that is not there joins the list.
static status_t look_up(struct features *f, struct wanted w, struct wanted **list, size_t *room, size_t *count) {
  const void **place = place_of(f, &w);
  if (*place) return OK;
  TRY(key_of(f, &w));
  TRY(store_find(f->o.store, &w.key, network_feature_bytes(f->o.network, w.source), place));
  if (*place) return OK;
  TRY(mem_grow(list, room, *count + 1, sizeof **list));
  (*list)[(*count)++] = w;
  return OK;
}

static status_t list_missing(struct features *f, struct wanted **list, size_t *count) {
  size_t room = 0;
  *list = NULL;
  *count = 0;
  if (network_feature_bytes(f->o.network, SOURCE_CONDITION)) {
    for (size_t i = 0; i < f->prompts; i++) {
      struct wanted w = {.source = SOURCE_CONDITION, .prompt = (int)i};
      TRY(look_up(f, w, list, &room, count));
    }
  }
  if (network_feature_bytes(f->o.network, SOURCE_IMAGE)) {
    for (size_t p = 0; p < f->pools; p++) {
      int64_t views = f->pool[p].views;
      for (int64_t i = 0; i < pool_get_info(f->pool[p].pool)->images * views; i++) {
        struct wanted w = {.source = SOURCE_IMAGE, .pool = (int)p, .image = i / views, .view = i % views};
        TRY(look_up(f, w, list, &room, count));
      }
    }
  }
  return OK;
}

// Ranks may see different shards when other runs write at the same time: rank 0's list is everybody's.
static status_t share_list(struct features *f, struct wanted **list, size_t *count) {
  uint64_t n = *count;
  TRY(comm_broadcast(f->o.comm, &n, sizeof n, 0));
  if (n != *count) {
    size_t room = *count;
    if (n > *count) TRY(mem_grow(list, &room, n, sizeof **list));
    *count = n;
  }
  return n ? comm_broadcast(f->o.comm, *list, n * sizeof **list, 0) : OK;
}

// ---- computing ------------------------------------------------------------------------------------------------------

static status_t compute(struct features *f, const struct wanted *w, void *value) {
  if (w->source == SOURCE_CONDITION) {
    const struct prompt *p = &f->prompt[w->prompt];
    return network_compute_feature(f->o.network, w->source, p->ids, p->length, value);
  }
  const struct pool *pool = f->pool[w->pool].pool;
  size_t side = (size_t)pool_get_info(pool)->size, bytes = side * side * 3;
  if (bytes > f->pixels_size) {
    mem_free(&f->pixels);
    TRY(mem_alloc(&f->pixels, bytes, 2));
    f->pixels_size = bytes;
  }
  TRY(pool_read_image(pool, w->image, f->pixels));
  if (f->pool[w->pool].augment) {
    struct augment_view v;
    TRY(view_of(f, w, &v));
    augment_apply(&v, (int)side, 3, f->pixels, f->pixels + bytes);
  }
  return network_compute_feature(f->o.network, w->source, f->pixels, 0, value);
}

static bool by_broadcast(const struct features *f) {
  const char *d = f->o.store_dir;
  return comm_size(f->o.comm) > 1 && (!d || !strcmp(d, "none"));
}

// Items [from, to) of the list: item i is computed by rank i % size; without a common folder its owner sends it round.
static status_t run_round(struct features *f, const struct wanted *list, size_t from, size_t to, void *value) {
  int rank = comm_rank(f->o.comm), size = comm_size(f->o.comm);
  status_t st = OK;
  for (size_t i = from; i < to && st == OK; i++) {
    size_t bytes = network_feature_bytes(f->o.network, list[i].source);
    if ((int)(i % (size_t)size) != rank) continue;
    st = compute(f, &list[i], value);
    if (st == OK) st = store_put(f->o.store, &list[i].key, value, bytes);
  }
  TRY(comm_agree(f->o.comm, st));
  for (size_t i = from; i < to && by_broadcast(f); i++) {
    size_t bytes = network_feature_bytes(f->o.network, list[i].source);
    const void *mine = NULL;
    int owner = (int)(i % (size_t)size);
    if (owner == rank) {
      TRY(store_find(f->o.store, &list[i].key, bytes, &mine));
      if (!mine) return FAIL(ERR_IO, "the feature store lost a value that was just put in");
      memcpy(value, mine, bytes);
    }
    TRY(comm_broadcast(f->o.comm, value, bytes, owner));
    if (owner != rank) TRY(store_put(f->o.store, &list[i].key, value, bytes));
  }
  return OK;
}

static status_t should_stop(struct features *f) {
  double flag = f->o.stop && f->o.stop(f->o.context);
  TRY(comm_max_f64(f->o.comm, &flag, 1));
  return flag > 0 ? FAIL(ERR_PREEMPTED, "stopped while features were computed; what is done is in the store") : OK;
}

enum { COMMIT_SECONDS = 60 };

static status_t run_rounds(struct features *f, const struct wanted *list, size_t count) {
  status_t st = OK;
  void *value = NULL;
  size_t image = network_feature_bytes(f->o.network, SOURCE_IMAGE);
  size_t text = network_feature_bytes(f->o.network, SOURCE_CONDITION);
  size_t round = ROUND * (size_t)comm_size(f->o.comm);
  double start = clock_seconds(), committed = start;
  TRY(mem_alloc(&value, image > text ? image : text, 1));
  for (size_t from = 0; from < count && st == OK; from += round) {
    size_t to = from + round < count ? from + round : count;
    TRY_GOTO(run_round(f, list, from, to, value), done);
    double now = clock_seconds();
    log_progress(to == count, "features %zu of %zu, %.1f/s, %.0f s left", to, count, (double)to / (now - start + 1e-9),
                 (now - start) / (double)to * (double)(count - to));
    if (now - committed > COMMIT_SECONDS) {
      TRY_GOTO(store_commit(f->o.store), done);
      committed = now;
    }
    if (to < count) st = should_stop(f);
  }
done:
  mem_free(&value);
  CLEANUP(store_commit(f->o.store));
  return st;
}

static status_t collect(struct features *f, const struct wanted *list, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const void **place = place_of(f, &list[i]);
    if (*place) continue;
    TRY(store_find(f->o.store, &list[i].key, network_feature_bytes(f->o.network, list[i].source), place));
    if (!*place) {
      return FAIL(ERR_ARG,
                  "store.dir: rank %d does not find in %s what another rank wrote there; the folder must be one that "
                  "all ranks share (or store.dir: none, to keep everything in memory)",
                  comm_rank(f->o.comm), f->o.store_dir ? f->o.store_dir : "memory");
    }
  }
  return OK;
}

status_t features_fill(struct features *f) {
  struct wanted *list = NULL;
  size_t count = 0;
  status_t st = list_missing(f, &list, &count);
  TRY_GOTO(comm_agree(f->o.comm, st), done);
  TRY_GOTO(share_list(f, &list, &count), done);
  if (count) {
    TRY_GOTO(run_rounds(f, list, count), done);
    network_drop_features(f->o.network);
    TRY_GOTO(comm_barrier(f->o.comm), done);
    TRY_GOTO(store_refresh(f->o.store), done);
  }
  st = collect(f, list, count);
  TRY_GOTO(comm_agree(f->o.comm, st), done);
  // What rank 0 found and another rank did not: a folder that is not shared.
  size_t left = 0;
  mem_free(&list);
  st = list_missing(f, &list, &left);
  if (st == OK && left) st = collect(f, list, left);
  TRY_GOTO(comm_agree(f->o.comm, st), done);
done:
  mem_free(&list);
  return st;
}

const void *features_image(const struct features *f, int pool, int64_t image, int64_t view) {
  const struct picture_pool *p = &f->pool[pool];
  return p->feature[image * p->views + view];
}

const void *features_prompt(const struct features *f, int prompt, int *length) {
  const struct prompt *p = &f->prompt[prompt];
  *length = p->length;
  return p->feature ? p->feature : p->ids;
}
