// pool.c: opening and reading a pool; see pool.h. HDF5 is used when a pool is opened and for source masks, under a
// lock; images and masks are read with pread at the places that HDF5 named once.
#include "data/pool.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/h5.h"
#include "data/image.h"
#include "data/pool_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const source_name[] = {"class", "metadata", "ground_truth", "person"};

const char *prompt_source_name(prompt_source_t source) {
  return source_name[source];
}

static status_t find_source(const char *where, const char *text, prompt_source_t *out) {
  for (size_t i = 0; i < sizeof source_name / sizeof *source_name; i++) {
    *out = (prompt_source_t)i;
    if (strcmp(text, source_name[i]) == 0) return OK;
  }
  return FAIL(ERR_FORMAT, "%s: key 'prompt_source' holds '%s'; wanted class, metadata, ground_truth or person", where,
              text);
}

static status_t read_text_list(const json_t *root, const char *where, const char *key, size_t low, size_t high,
                               char ***out, size_t *count) {
  json_t *list;
  TRY(json_get(root, where, key, JSON_ARRAY, &list));
  size_t n = json_array_size(list);
  if (n < low || n > high)
    return FAIL(ERR_FORMAT, "%s: key '%s' has %zu elements; wanted %zu to %zu", where, key, n, low, high);
  *count = n;
  TRY(mem_alloc(out, n, sizeof **out));
  for (size_t i = 0; i < n; i++) {
    const json_t *one = json_array_get(list, i);
    if (!json_is_string(one) || json_string_length(one) > H5_TEXT_LIMIT)
      return FAIL(ERR_FORMAT, "%s: key '%s', element %zu is not a text of at most %d bytes", where, key, i,
                  H5_TEXT_LIMIT);
    TRY(mem_copy_text(&(*out)[i], json_string_value(one)));
  }
  return OK;
}

static status_t read_prompts(struct pool *pool, const json_t *root, const char *where) {
  size_t kinds = 0, sources = 0, texts = 0;
  int64_t wordings;
  char **source = NULL;
  status_t st = OK;
  TRY(read_text_list(root, where, "prompt_text", 0, POOL_TEXT_LIMIT, &pool->text, &texts));
  pool->texts = (int64_t)texts;
  TRY(json_get_int(root, where, "prompt_wordings", 1, POOL_WORDING_LIMIT, &wordings));
  pool->info.prompt_wordings = (int)wordings;
  st = read_text_list(root, where, "prompt_kinds", 1, POOL_KIND_LIMIT, &pool->kind, &kinds);
  pool->info.prompt_kinds = (int)kinds;
  TRY(st);
  st = read_text_list(root, where, "prompt_source", kinds, kinds, &source, &sources);
  if (st == OK) st = mem_alloc(&pool->source, kinds, sizeof *pool->source);
  for (size_t i = 0; i < kinds && st == OK; i++) st = find_source(where, source[i], &pool->source[i]);
  for (size_t i = 0; i < sources && source; i++) mem_free(&source[i]);
  mem_free(&source);
  return st;
}

static status_t read_shard_list(struct pool *pool, const json_t *root, const char *where, int64_t *images,
                                int64_t *samples) {
  json_t *list;
  TRY(json_get(root, where, "shards", JSON_ARRAY, &list));
  size_t n = json_array_size(list);
  if (n < 1 || n > POOL_SHARD_LIMIT)
    return FAIL(ERR_FORMAT, "%s: %zu shards; wanted 1 to %d", where, n, POOL_SHARD_LIMIT);
  TRY(mem_alloc(&pool->shards, n, sizeof *pool->shards));
  for (size_t i = 0; i < n; i++) pool->shards[i].fd = -1, pool->shards[i].file = pool->shards[i].original = -1;
  pool->info.shards = (int)n;
  int64_t area = (int64_t)pool->info.size * pool->info.size;
  for (size_t i = 0; i < n; i++) {
    struct pool_shard_info *s = &pool->shards[i].info;
    const json_t *one = json_array_get(list, i);
    const char *file, *hex;
    int64_t bytes;
    if (!json_is_object(one)) return FAIL(ERR_FORMAT, "%s: shard %zu is not an object", where, i);
    (void)snprintf(s->file, sizeof s->file, POOL_SHARD_NAME, (int)i);
    TRY(json_get_text(one, where, "file", &file));
    if (strcmp(file, s->file) != 0) // no other file of the machine can be named here
      return FAIL(ERR_FORMAT, "%s: shard %zu is '%s'; wanted '%s'", where, i, file, s->file);
    TRY(json_get_int(one, where, "images", 1, INT32_MAX, &s->images));
    TRY(json_get_int(one, where, "samples", 1, INT32_MAX, &s->samples));
    TRY(json_get_int(one, where, "bytes", 1, INT64_MAX, &bytes));
    TRY(json_get_text(one, where, "sha256", &hex));
    TRY(key_parse(hex, &s->sha256));
    s->bytes = (uint64_t)bytes;
    if (s->images > bytes / (3 * area) || s->samples > bytes / area || s->images > s->samples)
      return FAIL(ERR_FORMAT, "%s: %s can't hold %lld images and %lld masks in %lld bytes", where, s->file,
                  (long long)s->images, (long long)s->samples, (long long)bytes);
    s->first_image = *images;
    s->first_sample = *samples;
    *images += s->images;
    *samples += s->samples;
  }
  return OK;
}

static status_t read_json(struct pool *pool, const json_t *root, const char *where) {
  const char *format, *text, *hex;
  int64_t version, size, images, samples, have_images = 0, have_samples = 0;
  TRY(json_get_text(root, where, "format", &format));
  if (strcmp(format, POOL_FORMAT) != 0)
    return FAIL(ERR_FORMAT, "%s: key 'format' is '%s'; wanted '%s'", where, format, POOL_FORMAT);
  TRY(json_get_int(root, where, "version", 1, INT32_MAX, &version));
  if (version != POOL_VERSION)
    return FAIL(ERR_UNSUPPORTED, "%s: pool format version %lld; this gridseg reads %d", where, (long long)version,
                POOL_VERSION);
  TRY(json_get_text(root, where, "dataset", &text));
  TRY(mem_copy_text(&pool->name, text));
  TRY(json_get_text(root, where, "split", &text));
  TRY(mem_copy_text(&pool->split, text));
  TRY(json_get_int(root, where, "size", 1, POOL_SIZE_LIMIT, &size));
  pool->info.size = (int)size;
  TRY(json_get_text(root, where, "key", &hex));
  TRY(key_parse(hex, &pool->info.key));
  TRY(json_get_text(root, where, "source_key", &hex));
  TRY(key_parse(hex, &pool->info.source_key));
  TRY(read_prompts(pool, root, where));
  TRY(json_get_int(root, where, "images", 1, INT32_MAX, &images));
  TRY(json_get_int(root, where, "samples", 1, INT32_MAX, &samples));
  TRY(read_shard_list(pool, root, where, &have_images, &have_samples));
  if (images != have_images || samples != have_samples)
    return FAIL(ERR_FORMAT, "%s: %lld images and %lld samples, but its shards have %lld and %lld", where,
                (long long)images, (long long)samples, (long long)have_images, (long long)have_samples);
  pool->info.images = images;
  pool->info.samples = samples;
  return OK;
}

static status_t open_shard(struct pool *pool, int shard, int verify) {
  struct pool_shard *s = &pool->shards[shard];
  struct stat st;
  TRY(file_join(&s->path, pool->path, s->info.file));
  s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
  if (s->fd < 0)
    return FAIL(errno == ENOENT ? ERR_FORMAT : ERR_IO, "%s: cannot be opened: %s", s->path, strerror(errno));
  if (fstat(s->fd, &st) != 0) return FAIL(ERR_IO, "%s: cannot be looked at: %s", s->path, strerror(errno));
  if ((uint64_t)st.st_size != s->info.bytes)
    return FAIL(ERR_FORMAT, "%s: %lld bytes; %s says %llu", s->path, (long long)st.st_size, POOL_JSON,
                (unsigned long long)s->info.bytes);
  if (verify) {
    struct key met;
    char a[65], b[65];
    TRY(key_sha256_file(s->path, &met));
    key_hex(&met, a);
    key_hex(&s->info.sha256, b);
    if (!key_equal(&met, &s->info.sha256))
      return FAIL(ERR_FORMAT, "%s: damaged: SHA-256 %.16s..., %s says %.16s...", s->path, a, POOL_JSON, b);
  }
  return pool_read_shard(pool, shard);
}

static status_t open_all(struct pool *pool, int verify) {
  char *where = NULL;
  json_t *root = NULL;
  status_t st = OK;
  TRY_GOTO(file_join(&where, pool->path, POOL_JSON), done);
  if (!file_exists(where)) FAIL_GOTO(done, ERR_ARG, "%s is not a pool: it has no %s", pool->path, POOL_JSON);
  TRY_GOTO(json_read(where, &root), done);
  TRY_GOTO(read_json(pool, root, where), done);
  size_t images = (size_t)pool->info.images, samples = (size_t)pool->info.samples;
  size_t prompts = (size_t)pool->info.prompt_kinds * (size_t)pool->info.prompt_wordings; // both bounded
  TRY_GOTO(mem_alloc(&pool->images, images, sizeof *pool->images), done);
  TRY_GOTO(mem_alloc(&pool->samples, samples, sizeof *pool->samples), done);
  if (!size_mul(samples, prompts, &prompts)) FAIL_GOTO(done, ERR_FORMAT, "%s: too many prompts", where);
  TRY_GOTO(mem_alloc(&pool->prompt, prompts, sizeof *pool->prompt), done);
  for (int i = 0; i < pool->info.shards; i++) TRY_GOTO(open_shard(pool, i, verify), done);
  pool->info.name = pool->name;
  pool->info.split = pool->split;
  pool->info.prompt_kind = (const char *const *)pool->kind;
  pool->info.prompt_source = pool->source;
done:
  mem_free(&where);
  json_decref(root);
  return st;
}

status_t pool_open_path(const char *path, int verify, struct pool **out) {
  struct pool *pool = NULL;
  *out = NULL;
  TRY(mem_alloc(&pool, 1, sizeof *pool));
  (void)pthread_mutex_init(&pool->lock, NULL);
  status_t st = mem_copy_text(&pool->path, path);
  if (st == OK) st = open_all(pool, verify);
  if (st != OK) {
    pool_close(&pool);
    return st;
  }
  *out = pool;
  return OK;
}

status_t pool_open(const char *root, const char *name, const char *split, int size, int verify, struct pool **out) {
  char *path = NULL;
  *out = NULL;
  TRY(mem_format(&path, "%s/%s/%s/%d", root, name, split, size));
  status_t st = pool_open_path(path, verify, out);
  if (st == OK && (strcmp((*out)->name, name) != 0 || strcmp((*out)->split, split) != 0 || (*out)->info.size != size)) {
    st = FAIL(ERR_FORMAT, "%s/%s: this is %s, split %s, size %d; its folder was renamed or moved", path, POOL_JSON,
              (*out)->name, (*out)->split, (*out)->info.size);
    pool_close(out);
  }
  mem_free(&path);
  return st;
}

void pool_close(struct pool **p) {
  struct pool *pool = *p;
  if (!pool) return;
  for (int i = 0; pool->shards && i < pool->info.shards; i++) {
    struct pool_shard *s = &pool->shards[i];
    if (s->original >= 0) (void)H5Dclose(s->original);
    if (s->file >= 0) (void)H5Fclose(s->file);
    if (s->fd >= 0) (void)close(s->fd);
    mem_free(&s->path);
  }
  for (int64_t i = 0; pool->images && i < pool->info.images; i++) mem_free(&pool->images[i].name);
  for (int64_t i = 0; pool->samples && i < pool->info.samples; i++) {
    mem_free(&pool->samples[i].name);
    mem_free(&pool->samples[i].class_name);
    mem_free(&pool->samples[i].group);
  }
  for (int64_t i = 0; pool->text && i < pool->texts; i++) mem_free(&pool->text[i]);
  for (int i = 0; pool->kind && i < pool->info.prompt_kinds; i++) mem_free(&pool->kind[i]);
  mem_free(&pool->shards);
  mem_free(&pool->images);
  mem_free(&pool->samples);
  mem_free(&pool->prompt);
  mem_free(&pool->text);
  mem_free(&pool->kind);
  mem_free(&pool->source);
  mem_free(&pool->path);
  mem_free(&pool->name);
  mem_free(&pool->split);
  (void)pthread_mutex_destroy(&pool->lock);
  mem_free(p);
}

const struct pool_info *pool_get_info(const struct pool *pool) {
  return &pool->info;
}

static status_t check_index(const struct pool *pool, const char *what, int64_t index, int64_t count) {
  if (index >= 0 && index < count) return OK;
  return FAIL(ERR_ARG, "%s: %s %lld of %lld", pool->path, what, (long long)index, (long long)count);
}

status_t pool_get_sample(const struct pool *pool, int64_t sample, struct pool_sample *out) {
  TRY(check_index(pool, "sample", sample, pool->info.samples));
  const struct pool_row_sample *row = &pool->samples[sample];
  const struct pool_row_image *image = &pool->images[row->image];
  *out = (struct pool_sample){.name = row->name,
                              .class_name = row->class_name,
                              .group = row->group,
                              .image_name = image->name,
                              .image = row->image,
                              .original_height = image->height,
                              .original_width = image->width};
  return OK;
}

static status_t read_pixels(const struct pool *pool, int shard, uint64_t at, size_t size, uint32_t crc,
                            const char *what, int64_t index, uint8_t *out) {
  const struct pool_shard *s = &pool->shards[shard];
  size_t have = 0;
  while (have < size) {
    ssize_t n = pread(s->fd, out + have, size - have, (off_t)(at + have));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FAIL(ERR_IO, "%s: cannot read %s %lld: %s", s->path, what, (long long)index, strerror(errno));
    if (n == 0) return FAIL(ERR_FORMAT, "%s: ends within %s %lld", s->path, what, (long long)index);
    have += (size_t)n;
  }
  if (key_crc32(out, size) != crc)
    return FAIL(ERR_FORMAT, "%s: %s %lld is damaged (CRC-32 differs)", s->path, what, (long long)index);
  return OK;
}

status_t pool_read_image(const struct pool *pool, int64_t image, uint8_t *pixels) {
  TRY(check_index(pool, "image", image, pool->info.images));
  const struct pool_row_image *row = &pool->images[image];
  size_t side = (size_t)pool->info.size;
  return read_pixels(pool, row->shard, row->at, side * side * 3, row->crc, "image", image, pixels);
}

status_t pool_read_mask(const struct pool *pool, int64_t sample, uint8_t *mask) {
  TRY(check_index(pool, "sample", sample, pool->info.samples));
  const struct pool_row_sample *row = &pool->samples[sample];
  size_t area = (size_t)pool->info.size * (size_t)pool->info.size;
  TRY(read_pixels(pool, row->shard, row->at, area, row->crc, "mask", sample, mask));
  uint8_t all = 0;
  for (size_t i = 0; i < area; i++) all |= mask[i];
  if (all > 1) return FAIL(ERR_FORMAT, "%s: mask %lld holds values other than 0 and 1", pool->path, (long long)sample);
  return OK;
}

// The sample's PNG bytes, copied out of HDF5's hands.
static status_t read_original_bytes(const struct pool *pool, int64_t sample, uint8_t **bytes, size_t *size) {
  const struct pool_shard *s = &pool->shards[pool->samples[sample].shard];
  hsize_t start = (hsize_t)(sample - s->info.first_sample), one = 1;
  hvl_t value = {0};
  hid_t type = H5Tvlen_create(H5T_NATIVE_UINT8), space = H5Dget_space(s->original), memory = H5Screate(H5S_SCALAR);
  status_t st = OK;
  h5_silence();
  if (H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &one, NULL) < 0 ||
      H5Dread(s->original, type, memory, space, H5P_DEFAULT, &value) < 0)
    st =
        H5_FAIL(ERR_FORMAT, "%s: dataset 'mask_original': row %llu cannot be read", s->path, (unsigned long long)start);
  if (st == OK) st = mem_alloc_raw(bytes, value.len, 1);
  if (st == OK && value.len) memcpy(*bytes, value.p, value.len);
  *size = value.len;
  if (value.p) (void)H5Dvlen_reclaim(type, memory, H5P_DEFAULT, &value);
  (void)H5Sclose(memory);
  (void)H5Sclose(space);
  (void)H5Tclose(type);
  return st;
}

status_t pool_read_original_mask(const struct pool *pool, int64_t sample, uint8_t **mask) {
  uint8_t *bytes = NULL;
  size_t size = 0;
  char name[64];
  struct image image = {0};
  *mask = NULL;
  TRY(check_index(pool, "sample", sample, pool->info.samples));
  const struct pool_row_image *row = &pool->images[pool->samples[sample].image];
  (void)pthread_mutex_lock((pthread_mutex_t *)&pool->lock); // the pool is const to its readers, its lock is not
  status_t st = read_original_bytes(pool, sample, &bytes, &size);
  (void)pthread_mutex_unlock((pthread_mutex_t *)&pool->lock);
  (void)snprintf(name, sizeof name, "source mask of sample %lld", (long long)sample);
  if (st == OK) st = image_decode(name, bytes, size, 1, 0, &image);
  mem_free(&bytes);
  if (st == OK && (image.height != row->height || image.width != row->width))
    st = FAIL(ERR_FORMAT, "%s is %d x %d; wanted %d x %d", name, image.width, image.height, row->width, row->height);
  if (st != OK) {
    image_free(&image);
    return status_prefix(st, "%s", pool->path);
  }
  for (size_t i = 0; i < (size_t)image.height * (size_t)image.width; i++) image.pixels[i] = image.pixels[i] > 127;
  *mask = image.pixels;
  return OK;
}

status_t pool_image_key(const struct pool *pool, int64_t image, struct key *out) {
  TRY(check_index(pool, "image", image, pool->info.images));
  memcpy(out->bytes, pool->images[image].key, 32);
  return OK;
}

int pool_find_kind(const struct pool *pool, const char *kind) {
  for (int i = 0; i < pool->info.prompt_kinds; i++)
    if (strcmp(pool->kind[i], kind) == 0) return i;
  return -1;
}

int pool_count_wordings(const struct pool *pool, int64_t sample, int kind) {
  if (sample < 0 || sample >= pool->info.samples || kind < 0 || kind >= pool->info.prompt_kinds) return 0;
  const int32_t *p = pool->prompt + (sample * pool->info.prompt_kinds + kind) * pool->info.prompt_wordings;
  int n = 0;
  while (n < pool->info.prompt_wordings && p[n] >= 0) n++;
  return n;
}

const char *pool_get_prompt(const struct pool *pool, int64_t sample, int kind, int wording) {
  if (wording < 0 || wording >= pool_count_wordings(pool, sample, kind)) return NULL;
  const int32_t *p = pool->prompt + (sample * pool->info.prompt_kinds + kind) * pool->info.prompt_wordings;
  return pool->text[p[wording]];
}
