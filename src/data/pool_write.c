// pool_write.c: see pool_write.h. One shard file is open at a time: pixels go into it as they come, the small columns
// when it is closed.
#include "data/pool_write.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/h5.h"
#include "data/pool_format.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct columns { // of the open shard, written when it is closed
  char **image_name;
  uint8_t *image_key; // [M, 32]
  uint32_t *image_crc;
  int32_t *original_size; // [M, 2]
  char **name, **class_name, **group;
  uint32_t *mask_crc;
  int32_t *image_index;
  hvl_t *original;
  int32_t *prompt; // [N, P, V]
};

struct pool_writer {
  struct pool_plan plan; // its arrays are copies
  char *parent, *folder, *temporary;
  int shards, shard; // the open shard, -1 before the first
  int32_t *shard_of; // [images]
  struct pool_shard_info *info;
  int64_t image, sample; // next to come, pool-wide
  hid_t file, images, masks;
  char *file_path;
  struct columns c;
  struct key_builder *key;
  bool finished;
};

void pool_plan_shards(const struct pool_plan *plan, int shards, int32_t *shard_of) {
  int64_t sample = 0;
  for (int64_t i = 0; i < plan->images; i++) {
    while (sample < plan->samples && plan->image_index[sample] < i) sample++;
    int64_t shard = sample * shards / plan->samples; // by samples, so that shards take equally long to read
    shard_of[i] = (int32_t)shard;
    if (i > 0 && shard_of[i] > shard_of[i - 1] + 1) shard_of[i] = shard_of[i - 1] + 1; // none stays empty
    if (shards - shard_of[i] > plan->images - i) shard_of[i] = (int32_t)(shards - (plan->images - i));
  }
}

static status_t copy_texts(char ***out, const char *const *from, int64_t count) {
  TRY(mem_alloc(out, (size_t)count, sizeof **out));
  for (int64_t i = 0; i < count; i++) {
    if (!h5_text_is_utf8(from[i])) return FAIL(ERR_FORMAT, "prompt text or kind %lld is not UTF-8", (long long)i);
    TRY(mem_copy_text(&(*out)[i], from[i]));
  }
  return OK;
}

static void free_texts(char ***texts, int64_t count) {
  for (int64_t i = 0; *texts && i < count; i++) mem_free(&(*texts)[i]);
  mem_free(texts);
}

static status_t check_plan(const struct pool_plan *p) {
  if (p->images < 1 || p->samples < p->images || p->samples > INT32_MAX || p->size < 1 || p->size > POOL_SIZE_LIMIT ||
      p->kinds < 1 || p->kinds > POOL_KIND_LIMIT || p->wordings < 1 || p->wordings > POOL_WORDING_LIMIT)
    return FAIL(ERR_ARG, "a pool of %lld images, %lld samples, size %d, %d prompt kinds and %d wordings",
                (long long)p->images, (long long)p->samples, p->size, p->kinds, p->wordings);
  for (int64_t i = 0; i < p->samples; i++) {
    int32_t before = i ? p->image_index[i - 1] : 0;
    if (p->image_index[i] < before || p->image_index[i] > before + (i > 0))
      return FAIL(ERR_ARG, "sample %lld is not in the order of its image", (long long)i);
  }
  if (p->image_index[p->samples - 1] != p->images - 1) return FAIL(ERR_ARG, "the last image has no sample");
  return OK;
}

static status_t copy_plan(struct pool_writer *w, const struct pool_plan *p) {
  int32_t *index = NULL;
  prompt_source_t *source = NULL;
  w->plan = *p;
  w->plan.image_index = NULL, w->plan.kind = NULL, w->plan.text = NULL, w->plan.source = NULL;
  w->plan.root = w->plan.name = w->plan.split = NULL;
  TRY(mem_copy_text((char **)&w->plan.root, p->root));
  TRY(mem_copy_text((char **)&w->plan.name, p->name));
  TRY(mem_copy_text((char **)&w->plan.split, p->split));
  TRY(mem_alloc(&index, (size_t)p->samples, sizeof *index));
  memcpy(index, p->image_index, (size_t)p->samples * sizeof *index);
  w->plan.image_index = index;
  TRY(mem_alloc(&source, (size_t)p->kinds, sizeof *source));
  for (int i = 0; i < p->kinds; i++) source[i] = p->source[i];
  w->plan.source = source;
  TRY(copy_texts((char ***)&w->plan.kind, p->kind, p->kinds));
  return copy_texts((char ***)&w->plan.text, p->text, p->texts);
}

// Folders left by packers that were killed on this host are removed: their process is gone.
static status_t remove_left_overs(const char *parent, const char *prefix) {
  char **names = NULL;
  size_t count = 0;
  status_t st = file_list(parent, &names, &count);
  for (size_t i = 0; st == OK && i < count; i++) {
    if (strncmp(names[i], prefix, strlen(prefix)) != 0) continue;
    long pid = strtol(names[i] + strlen(prefix), NULL, 10);
    if (pid <= 0 || pid > INT32_MAX || (kill((pid_t)pid, 0) == 0 || errno != ESRCH)) continue;
    char *path = NULL;
    st = file_join(&path, parent, names[i]);
    if (st == OK) st = file_remove_tree(path);
    mem_free(&path);
  }
  file_free_names(&names, count);
  return st;
}

static status_t make_folder(struct pool_writer *w) {
  char prefix[320], host[128] = "";
  (void)gethostname(host, sizeof host - 1);
  TRY(mem_format(&w->parent, "%s/%s/%s", w->plan.root, w->plan.name, w->plan.split));
  TRY(mem_format(&w->folder, "%s/%d", w->parent, w->plan.size));
  if (!w->plan.replace && file_exists(w->folder)) return FAIL(ERR_ARG, "%s is there already", w->folder);
  TRY(file_make_directories(w->parent));
  (void)snprintf(prefix, sizeof prefix, ".%d.%s.", w->plan.size, host);
  TRY(remove_left_overs(w->parent, prefix));
  TRY(mem_format(&w->temporary, "%s/%s%ld", w->parent, prefix, (long)getpid()));
  TRY(file_remove_tree(w->temporary));
  return file_make_directories(w->temporary);
}

static int choose_shards(const struct pool_plan *p) {
  int64_t area = (int64_t)p->size * p->size, bytes = p->images * area * 3 + p->samples * area;
  int64_t shards = p->shards > 0 ? p->shards : (bytes + (1 << 30) - 1) >> 30;
  if (shards > p->images) shards = p->images;
  return (int)(shards > POOL_SHARD_LIMIT ? POOL_SHARD_LIMIT : shards);
}

static status_t begin_key(struct pool_writer *w) {
  TRY(key_begin(&w->key, "pool"));
  TRY(key_add_int(w->key, "version", POOL_VERSION));
  TRY(key_add_text(w->key, "name", w->plan.name));
  TRY(key_add_text(w->key, "split", w->plan.split));
  TRY(key_add_int(w->key, "size", w->plan.size));
  TRY(key_add_int(w->key, "kinds", w->plan.kinds));
  TRY(key_add_int(w->key, "wordings", w->plan.wordings));
  for (int i = 0; i < w->plan.kinds; i++) {
    TRY(key_add_text(w->key, "kind", w->plan.kind[i]));
    TRY(key_add_text(w->key, "source", prompt_source_name(w->plan.source[i])));
  }
  for (int64_t i = 0; i < w->plan.texts; i++) TRY(key_add_text(w->key, "text", w->plan.text[i]));
  return OK;
}

status_t pool_writer_create(const struct pool_plan *plan, struct pool_writer **out) {
  struct pool_writer *w = NULL;
  status_t st = OK;
  *out = NULL;
  h5_silence();
  TRY(check_plan(plan));
  TRY(mem_alloc(&w, 1, sizeof *w));
  w->file = w->images = w->masks = H5I_INVALID_HID;
  w->shard = -1;
  TRY_GOTO(copy_plan(w, plan), failed);
  w->shards = choose_shards(plan);
  TRY_GOTO(mem_alloc(&w->info, (size_t)w->shards, sizeof *w->info), failed);
  TRY_GOTO(mem_alloc(&w->shard_of, (size_t)plan->images, sizeof *w->shard_of), failed);
  pool_plan_shards(&w->plan, w->shards, w->shard_of);
  for (int64_t i = 0; i < plan->images; i++) w->info[w->shard_of[i]].images++;
  for (int64_t i = 0; i < plan->samples; i++) w->info[w->shard_of[plan->image_index[i]]].samples++;
  TRY_GOTO(begin_key(w), failed);
  TRY_GOTO(make_folder(w), failed);
  *out = w;
  return OK;
failed:
  pool_writer_destroy(&w);
  return st;
}

static void free_columns(struct columns *c, int64_t images, int64_t samples) {
  free_texts(&c->image_name, images);
  free_texts(&c->name, samples);
  free_texts(&c->class_name, samples);
  free_texts(&c->group, samples);
  for (int64_t i = 0; c->original && i < samples; i++) mem_free(&c->original[i].p);
  mem_free(&c->original);
  mem_free(&c->image_key);
  mem_free(&c->image_crc);
  mem_free(&c->original_size);
  mem_free(&c->mask_crc);
  mem_free(&c->image_index);
  mem_free(&c->prompt);
}

static status_t make_columns(struct columns *c, size_t m, size_t n, size_t prompts) {
  TRY(mem_alloc(&c->image_name, m, sizeof *c->image_name));
  TRY(mem_alloc(&c->image_key, m, 32));
  TRY(mem_alloc(&c->image_crc, m, sizeof *c->image_crc));
  TRY(mem_alloc(&c->original_size, m, 2 * sizeof *c->original_size));
  TRY(mem_alloc(&c->name, n, sizeof *c->name));
  TRY(mem_alloc(&c->class_name, n, sizeof *c->class_name));
  TRY(mem_alloc(&c->group, n, sizeof *c->group));
  TRY(mem_alloc(&c->mask_crc, n, sizeof *c->mask_crc));
  TRY(mem_alloc(&c->image_index, n, sizeof *c->image_index));
  TRY(mem_alloc(&c->original, n, sizeof *c->original));
  return mem_alloc(&c->prompt, n * prompts, sizeof *c->prompt);
}

static void close_handles(struct pool_writer *w) {
  if (w->images >= 0) (void)H5Dclose(w->images);
  if (w->masks >= 0) (void)H5Dclose(w->masks);
  if (w->file >= 0) (void)H5Fclose(w->file);
  w->file = w->images = w->masks = H5I_INVALID_HID;
}

static status_t open_shard(struct pool_writer *w, int shard) {
  struct pool_shard_info *s = &w->info[shard];
  hsize_t side = (hsize_t)w->plan.size;
  hsize_t image_shape[4] = {(hsize_t)s->images, side, side, 3}, mask_shape[3] = {(hsize_t)s->samples, side, side};
  s->first_image = w->image;
  s->first_sample = w->sample;
  w->shard = shard;
  (void)snprintf(s->file, sizeof s->file, POOL_SHARD_NAME, shard);
  TRY(file_join(&w->file_path, w->temporary, s->file));
  TRY(make_columns(&w->c, (size_t)s->images, (size_t)s->samples, (size_t)w->plan.kinds * (size_t)w->plan.wordings));
  w->file = H5Fcreate(w->file_path, H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT);
  if (w->file < 0) return H5_FAIL(ERR_IO, "%s: cannot be made", w->file_path);
  TRY(h5_create_dataset(w->file, w->file_path, "images", H5T_STD_U8LE, 4, image_shape, 1, &w->images));
  return h5_create_dataset(w->file, w->file_path, "masks", H5T_STD_U8LE, 3, mask_shape, 1, &w->masks);
}

static status_t write_prompts(struct pool_writer *w, hsize_t n) {
  const struct pool_plan *p = &w->plan;
  hsize_t shape[3] = {n, (hsize_t)p->kinds, (hsize_t)p->wordings};
  const char *source[POOL_KIND_LIMIT];
  for (int i = 0; i < p->kinds; i++) source[i] = prompt_source_name(p->source[i]);
  hid_t dataset;
  TRY(h5_create_dataset(w->file, w->file_path, "prompt_index", H5T_STD_I32LE, 3, shape, 0, &dataset));
  status_t st = OK;
  if (H5Dwrite(dataset, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, w->c.prompt) < 0)
    st = H5_FAIL(ERR_IO, "%s: dataset 'prompt_index' cannot be written", w->file_path);
  if (st == OK) st = h5_write_text_attribute(dataset, w->file_path, "prompt_kinds", (hsize_t)p->kinds, p->kind);
  if (st == OK) st = h5_write_text_attribute(dataset, w->file_path, "prompt_source", (hsize_t)p->kinds, source);
  (void)H5Dclose(dataset);
  return st;
}

static status_t write_columns(struct pool_writer *w) {
  struct columns *c = &w->c;
  hsize_t m = (hsize_t)w->info[w->shard].images, n = (hsize_t)w->info[w->shard].samples;
  const char *path = w->file_path;
  hid_t f = w->file, bytes = H5Tvlen_create(H5T_STD_U8LE);
  TRY(h5_write_texts(f, path, "image_names", m, (const char *const *)c->image_name));
  TRY(h5_write(f, path, "image_key", H5T_STD_U8LE, H5T_NATIVE_UINT8, 2, (hsize_t[]){m, 32}, c->image_key));
  TRY(h5_write(f, path, "image_crc32", H5T_STD_U32LE, H5T_NATIVE_UINT32, 1, &m, c->image_crc));
  TRY(h5_write(f, path, "original_size", H5T_STD_I32LE, H5T_NATIVE_INT32, 2, (hsize_t[]){m, 2}, c->original_size));
  TRY(h5_write_texts(f, path, "names", n, (const char *const *)c->name));
  TRY(h5_write_texts(f, path, "class", n, (const char *const *)c->class_name));
  TRY(h5_write_texts(f, path, "group", n, (const char *const *)c->group));
  TRY(h5_write(f, path, "mask_crc32", H5T_STD_U32LE, H5T_NATIVE_UINT32, 1, &n, c->mask_crc));
  TRY(h5_write(f, path, "image_index", H5T_STD_I32LE, H5T_NATIVE_INT32, 1, &n, c->image_index));
  status_t st = h5_write(f, path, "mask_original", bytes, bytes, 1, &n, c->original);
  (void)H5Tclose(bytes);
  return st == OK ? write_prompts(w, n) : st;
}

status_t pool_sync_file(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FAIL(ERR_IO, "cannot open %s: %s", path, strerror(errno));
  int rc = fsync(fd), why = errno;
  (void)close(fd);
  return rc == 0 ? OK : FAIL(ERR_IO, "cannot sync %s: %s", path, strerror(why));
}

static status_t close_shard(struct pool_writer *w) {
  if (w->shard < 0) return OK;
  struct pool_shard_info *s = &w->info[w->shard];
  if (w->image - s->first_image != s->images || w->sample - s->first_sample != s->samples)
    return FAIL(ERR_ARG, "shard %d got %lld images and %lld samples; its plan says %lld and %lld", w->shard,
                (long long)(w->image - s->first_image), (long long)(w->sample - s->first_sample), (long long)s->images,
                (long long)s->samples);
  TRY(write_columns(w));
  (void)H5Dclose(w->images);
  (void)H5Dclose(w->masks);
  w->images = w->masks = H5I_INVALID_HID;
  herr_t rc = H5Fclose(w->file);
  w->file = H5I_INVALID_HID;
  if (rc < 0) return H5_FAIL(ERR_IO, "%s: cannot be closed", w->file_path);
  TRY(pool_sync_file(w->file_path));
  TRY(file_size(w->file_path, &s->bytes));
  TRY(key_sha256_file(w->file_path, &s->sha256));
  free_columns(&w->c, s->images, s->samples);
  mem_free(&w->file_path);
  return OK;
}

static status_t write_row(hid_t dataset, const char *path, const char *what, int64_t row, size_t bytes,
                          const uint8_t *values) {
  hsize_t at[4] = {(hsize_t)row, 0, 0, 0};
  if (H5Dwrite_chunk(dataset, H5P_DEFAULT, 0, at, bytes, values) < 0)
    return H5_FAIL(ERR_IO, "%s: row %lld of '%s' cannot be written", path, (long long)row, what);
  return OK;
}

static status_t check_text(const char *what, const char *text) {
  if (strlen(text) > H5_TEXT_LIMIT) return FAIL(ERR_FORMAT, "%s of %zu bytes", what, strlen(text));
  if (!h5_text_is_utf8(text)) return FAIL(ERR_FORMAT, "%s '%s' is not UTF-8", what, text);
  return OK;
}

status_t pool_writer_add_image(struct pool_writer *w, const struct pool_new_image *image) {
  if (w->image >= w->plan.images) return FAIL(ERR_ARG, "more images than the plan's %lld", (long long)w->plan.images);
  if (w->shard_of[w->image] != w->shard) {
    TRY(close_shard(w));
    TRY(open_shard(w, w->shard_of[w->image]));
  }
  size_t bytes = (size_t)w->plan.size * (size_t)w->plan.size * 3;
  int64_t i = w->image - w->info[w->shard].first_image;
  TRY(check_text("image name", image->name));
  TRY(write_row(w->images, w->file_path, "images", i, bytes, image->pixels));
  TRY(mem_copy_text(&w->c.image_name[i], image->name));
  memcpy(w->c.image_key + 32 * i, image->key.bytes, 32);
  w->c.image_crc[i] = image->crc;
  w->c.original_size[2 * i] = image->original_height;
  w->c.original_size[2 * i + 1] = image->original_width;
  TRY(key_add_text(w->key, "image", image->name));
  TRY(key_add_key(w->key, "pixels", &image->key));
  w->image++;
  return OK;
}

status_t pool_writer_add_sample(struct pool_writer *w, const struct pool_new_sample *sample) {
  if (w->sample >= w->plan.samples || w->plan.image_index[w->sample] != w->image - 1)
    return FAIL(ERR_ARG, "sample %lld does not follow its image", (long long)w->sample);
  size_t area = (size_t)w->plan.size * (size_t)w->plan.size;
  size_t prompts = (size_t)w->plan.kinds * (size_t)w->plan.wordings;
  int64_t i = w->sample - w->info[w->shard].first_sample;
  TRY(check_text("name", sample->name));
  TRY(check_text("class", sample->class_name));
  TRY(check_text("group", sample->group));
  for (size_t k = 0; k < prompts; k++) {
    if (sample->prompt[k] < -1 || sample->prompt[k] >= w->plan.texts)
      return FAIL(ERR_ARG, "%s: prompt index %d of %lld texts", sample->name, sample->prompt[k],
                  (long long)w->plan.texts);
  }
  TRY(write_row(w->masks, w->file_path, "masks", i, area, sample->mask));
  TRY(mem_copy_text(&w->c.name[i], sample->name));
  TRY(mem_copy_text(&w->c.class_name[i], sample->class_name));
  TRY(mem_copy_text(&w->c.group[i], sample->group));
  w->c.mask_crc[i] = sample->crc;
  w->c.image_index[i] = (int32_t)(w->image - 1);
  TRY(mem_alloc(&w->c.original[i].p, sample->original_size, 1));
  memcpy(w->c.original[i].p, sample->original_png, sample->original_size);
  w->c.original[i].len = sample->original_size;
  if (prompts) memcpy(w->c.prompt + (size_t)i * prompts, sample->prompt, prompts * sizeof *sample->prompt);
  TRY(key_add_text(w->key, "sample", sample->name));
  TRY(key_add_text(w->key, "class", sample->class_name));
  TRY(key_add_text(w->key, "group", sample->group));
  TRY(key_add_int(w->key, "image", w->image - 1));
  TRY(key_add_bytes(w->key, "mask", sample->mask, area));
  TRY(key_add_bytes(w->key, "original", sample->original_png, sample->original_size));
  TRY(key_add_bytes(w->key, "prompt", sample->prompt, prompts * sizeof *sample->prompt));
  w->sample++;
  return OK;
}

// Rename in. An old pool is first renamed away and removed last, so that a reader meets one or the other, or none for
// the instant between two renames.
static status_t move_in(struct pool_writer *w) {
  char *old = NULL;
  status_t st = OK;
  TRY(file_sync_directory(w->temporary));
  if (file_exists(w->folder)) {
    if (!w->plan.replace) return FAIL(ERR_ARG, "%s is there already", w->folder);
    TRY(mem_format(&old, "%s.old", w->temporary));
    TRY_GOTO(file_remove_tree(old), done);
    TRY_GOTO(file_rename(w->folder, old), done);
  }
  TRY_GOTO(file_rename(w->temporary, w->folder), done);
  w->finished = true;
  if (old) TRY_GOTO(file_remove_tree(old), done);
done:
  mem_free(&old);
  return st;
}

status_t pool_writer_finish(struct pool_writer *w, struct key *key) {
  if (w->image != w->plan.images || w->sample != w->plan.samples)
    return FAIL(ERR_ARG, "%lld of %lld images and %lld of %lld samples were written", (long long)w->image,
                (long long)w->plan.images, (long long)w->sample, (long long)w->plan.samples);
  TRY(close_shard(w));
  w->shard = -1;
  TRY(key_finish(&w->key, key));
  TRY(pool_write_view(w->temporary, &w->plan, w->shards, w->info));
  TRY(pool_write_json(w->temporary, &w->plan, w->shards, w->info, key));
  return move_in(w);
}

void pool_writer_destroy(struct pool_writer **writer) {
  struct pool_writer *w = *writer;
  if (!w) return;
  close_handles(w);
  if (w->shard >= 0) free_columns(&w->c, w->info[w->shard].images, w->info[w->shard].samples);
  if (w->temporary && !w->finished) (void)file_remove_tree(w->temporary);
  (void)key_finish(&w->key, NULL);
  free_texts((char ***)&w->plan.kind, w->plan.kinds);
  free_texts((char ***)&w->plan.text, w->plan.texts);
  mem_free(&w->plan.image_index);
  mem_free(&w->plan.source);
  mem_free(&w->plan.root);
  mem_free(&w->plan.name);
  mem_free(&w->plan.split);
  mem_free(&w->parent);
  mem_free(&w->folder);
  mem_free(&w->temporary);
  mem_free(&w->file_path);
  mem_free(&w->shard_of);
  mem_free(&w->info);
  mem_free(writer);
}
