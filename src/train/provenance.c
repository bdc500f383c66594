// provenance.c: see provenance.h.
#include "train/provenance.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A value of the recorded configuration (a flat object: key -> text or list of texts), "" when it is not there.
static const char *config_value(const json_t *config, const char *key) {
  const char *text = json_string_value(json_object_get(config, key));
  return text ? text : "";
}

// Names and recorded keys of the training pools, and their names joined.
static status_t read_pools(const json_t *state, const json_t *config, struct provenance *p) {
  const json_t *list = json_object_get(config, "pools.train"), *keys = json_object_get(state, "pool_keys");
  size_t n = json_array_size(list), bytes = 1;
  TRY(mem_alloc(&p->pools, n, sizeof *p->pools));
  for (size_t i = 0; i < n; i++) {
    const char *name = json_string_value(json_array_get(list, i));
    TRY(mem_copy_text(&p->pools[i], name ? name : ""));
    p->pool_count++;
    bytes += strlen(p->pools[i]) + 1;
  }
  mem_free(&p->trained_on);
  TRY(mem_alloc(&p->trained_on, bytes, 1));
  for (size_t i = 0; i < n; i++) {
    if (i) strcat(p->trained_on, "+");
    strcat(p->trained_on, p->pools[i]);
  }
  if (n == 0 || json_array_size(keys) != n) return OK;
  TRY(mem_alloc(&p->pool_keys, n, sizeof *p->pool_keys));
  for (size_t i = 0; i < n; i++) {
    const char *hex = json_string_value(json_array_get(keys, i));
    TRY(key_parse(hex ? hex : "", &p->pool_keys[i]));
  }
  return OK;
}

status_t provenance_read(const char *directory, struct provenance *p) {
  status_t st = OK;
  char *path = NULL;
  json_t *state = NULL;
  const json_t *config = NULL;
  *p = (struct provenance){0};
  TRY_GOTO(file_join(&path, directory, "state.json"), done);
  if (file_exists(path)) {
    TRY_GOTO(json_read(path, &state), done);
    config = json_object_get(state, "config");
  }
  TRY_GOTO(mem_copy_text(&p->seed, config_value(config, "train.seed")), done);
  TRY_GOTO(mem_copy_text(&p->loss, config_value(config, "train.loss")), done);
  TRY_GOTO(mem_copy_text(&p->quirks, config_value(config, "quirks")), done);
  TRY_GOTO(mem_copy_text(&p->root, config_value(config, "pools.root")), done);
  TRY_GOTO(mem_copy_text(&p->trained_on, ""), done);
  p->size = (int)strtol(config_value(config, "size"), NULL, 10); // 0 where it is not recorded
  if (config) {
    st = read_pools(state, config, p);
    if (st != OK) (void)status_prefix(st, "%s", path);
  }
done:
  json_decref(state);
  mem_free(&path);
  if (st != OK) provenance_free(p);
  return st;
}

void provenance_free(struct provenance *p) {
  for (size_t i = 0; i < p->pool_count; i++) mem_free(&p->pools[i]);
  mem_free(&p->pools);
  mem_free(&p->pool_keys);
  mem_free(&p->trained_on);
  mem_free(&p->seed);
  mem_free(&p->loss);
  mem_free(&p->quirks);
  mem_free(&p->root);
  *p = (struct provenance){0};
}

// Files that make the model what it computes; not what a checkpoint keeps beside it.
static bool belongs_to_model(const char *name) {
  if (strcmp(name, "config.json") == 0 || strcmp(name, "preprocessor_config.json") == 0) return true;
  size_t n = strlen(name);
  return n > 12 && strcmp(name + n - 12, ".safetensors") == 0 && strcmp(name, "optimizer.safetensors") != 0;
}

static status_t add_files(struct key_builder *b, const char *directory, char **names, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (!belongs_to_model(names[i])) continue;
    char *path = NULL;
    struct key file;
    TRY(file_join(&path, directory, names[i]));
    status_t st = key_sha256_file(path, &file);
    mem_free(&path);
    TRY(st);
    TRY(key_add_key(b, names[i], &file));
  }
  return OK;
}

status_t provenance_model_key(const struct model *model, const struct tokenizer *tokenizer, uint64_t seed,
                              struct key *out) {
  status_t st = OK;
  struct key_builder *b = NULL;
  char **names = NULL;
  size_t count = 0;
  TRY_GOTO(file_list(model->directory, &names, &count), done);
  TRY_GOTO(key_begin(&b, "model"), done);
  TRY_GOTO(add_files(b, model->directory, names, count), done);
  if (tokenizer) TRY_GOTO(key_add_key(b, "tokenizer", tokenizer_key(tokenizer)), done);
  if (!model->has_weights) TRY_GOTO(key_add_int(b, "seed", (int64_t)seed), done);
  TRY_GOTO(key_finish(&b, out), done);
done:
  (void)key_finish(&b, NULL);
  file_free_names(&names, count);
  return st;
}

static int compare_keys(const void *a, const void *b) {
  return memcmp(a, b, sizeof(struct key));
}

// The keys of a training pool's images, added to a list. *known turns false where the pool isn't the one that was trained on.
static status_t add_images(const struct provenance *p, size_t i, const char *root, struct key **keys, size_t *count,
                           size_t *room, bool *known) {
  struct pool *pool = NULL;
  status_t st = OK;
  if (pool_open(p->root, p->pools[i], "train", p->size, 0, &pool) != OK &&
      pool_open(root, p->pools[i], "train", p->size, 0, &pool) != OK) {
    *known = false;
    log_warn("leak of test images is not known: training pool %s is not there: %s", p->pools[i], status_message());
    status_clear();
    return OK;
  }
  const struct pool_info *info = pool_get_info(pool);
  if (p->pool_keys && !key_equal(&info->key, &p->pool_keys[i])) {
    *known = false;
    log_warn("leak of test images is not known: training pool %s is not what it was", p->pools[i]);
    goto done;
  }
  TRY_GOTO(mem_grow(keys, room, *count + (size_t)info->images, sizeof **keys), done);
  for (int64_t k = 0; k < info->images; k++) TRY_GOTO(pool_image_key(pool, k, &(*keys)[(*count)++]), done);
done:
  pool_close(&pool);
  return st;
}

status_t provenance_count_leaks(const struct provenance *p, const char *root, const struct pool *pool, int64_t *leak) {
  status_t st = OK;
  struct key *keys = NULL;
  size_t count = 0, room = 0;
  bool known = p->pool_count > 0;
  *leak = -1;
  // Pixels are compared at the size that was trained at: a pool packed at another size tells nothing.
  known = known && p->size == pool_get_info(pool)->size;
  for (size_t i = 0; known && i < p->pool_count; i++) {
    TRY_GOTO(add_images(p, i, root, &keys, &count, &room, &known), done);
  }
  if (!known) goto done;
  if (count) qsort(keys, count, sizeof *keys, compare_keys);
  *leak = 0;
  for (int64_t k = 0; k < pool_get_info(pool)->images; k++) {
    struct key key;
    TRY_GOTO(pool_image_key(pool, k, &key), done);
    *leak += count && bsearch(&key, keys, count, sizeof *keys, compare_keys) != NULL;
  }
done:
  mem_free(&keys);
  return st;
}
