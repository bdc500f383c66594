// pool_shard.c: one shard's columns, read and checked when a pool is opened. Shards may come from anywhere: counts were
// bounded by the file's size before (pool.c), types, shapes and ranges are checked here.
#include "base/mem.h"
#include "data/h5.h"
#include "data/image.h"
#include "data/pool_inside.h"

#include <string.h>

static status_t read_image_columns(struct pool *pool, struct pool_shard *s, uint64_t *place, char **text) {
  hsize_t m = (hsize_t)s->info.images, side = (hsize_t)pool->info.size;
  struct pool_row_image *row = pool->images + s->info.first_image;
  uint8_t *key = NULL;
  uint32_t *crc = NULL;
  int32_t *original = NULL;
  status_t st = OK;
  TRY_GOTO(h5_read_places(s->file, s->path, "images", 4, (hsize_t[]){m, side, side, 3}, s->info.bytes, place), done);
  TRY_GOTO(mem_alloc(&key, m, 32), done);
  TRY_GOTO(mem_alloc(&crc, m, sizeof *crc), done);
  TRY_GOTO(mem_alloc(&original, m, 2 * sizeof *original), done);
  TRY_GOTO(h5_read_numbers(s->file, s->path, "image_key", H5T_NATIVE_UINT8, 1, 2, (hsize_t[]){m, 32}, key), done);
  TRY_GOTO(h5_read_numbers(s->file, s->path, "image_crc32", H5T_NATIVE_UINT32, 4, 1, &m, crc), done);
  TRY_GOTO(h5_read_numbers(s->file, s->path, "original_size", H5T_NATIVE_INT32, 4, 2, (hsize_t[]){m, 2}, original),
           done);
  TRY_GOTO(h5_read_texts(s->file, s->path, "image_names", m, text), done);
  for (hsize_t i = 0; i < m; i++) {
    int32_t height = original[2 * i], width = original[2 * i + 1];
    row[i] = (struct pool_row_image){.name = text[i], .crc = crc[i], .height = height, .width = width};
    text[i] = NULL;
    memcpy(row[i].key, key + 32 * i, 32);
    row[i].at = place[i];
    row[i].shard = (int)(s - pool->shards);
    if (height < 1 || width < 1 || (int64_t)height * width > IMAGE_LIMIT)
      FAIL_GOTO(done, ERR_FORMAT, "%s: dataset 'original_size': row %llu is %d x %d", s->path, (unsigned long long)i,
                height, width);
  }
done:
  mem_free(&key);
  mem_free(&crc);
  mem_free(&original);
  return st;
}

static status_t check_prompts(const struct pool *pool, const struct pool_shard *s) {
  int kinds = pool->info.prompt_kinds, wordings = pool->info.prompt_wordings;
  for (int64_t i = s->info.first_sample; i < s->info.first_sample + s->info.samples; i++) {
    for (int k = 0; k < kinds; k++) {
      const int32_t *p = pool->prompt + (i * kinds + k) * wordings;
      for (int v = 0; v < wordings; v++) {
        if (p[v] < -1 || p[v] >= pool->texts || (v > 0 && p[v] >= 0 && p[v - 1] < 0))
          return FAIL(ERR_FORMAT, "%s: dataset 'prompt_index': row %lld, kind %d, wording %d is %d (of %lld texts)",
                      s->path, (long long)(i - s->info.first_sample), k, v, p[v], (long long)pool->texts);
      }
    }
  }
  return OK;
}

// One column of texts into the member at `offset` of each sample's row.
static status_t read_sample_texts(struct pool *pool, struct pool_shard *s, const char *name, size_t offset,
                                  char **text) {
  struct pool_row_sample *row = pool->samples + s->info.first_sample;
  TRY(h5_read_texts(s->file, s->path, name, (hsize_t)s->info.samples, text));
  for (int64_t i = 0; i < s->info.samples; i++) {
    memcpy((char *)&row[i] + offset, &text[i], sizeof text[i]);
    text[i] = NULL;
  }
  return OK;
}

static status_t read_sample_columns(struct pool *pool, struct pool_shard *s, uint64_t *place, char **text) {
  hsize_t n = (hsize_t)s->info.samples, side = (hsize_t)pool->info.size;
  hsize_t kinds = (hsize_t)pool->info.prompt_kinds, wordings = (hsize_t)pool->info.prompt_wordings;
  struct pool_row_sample *row = pool->samples + s->info.first_sample;
  uint32_t *crc = NULL;
  int32_t *index = NULL, *prompt = pool->prompt + (hsize_t)s->info.first_sample * kinds * wordings;
  status_t st = OK;
  TRY_GOTO(h5_read_places(s->file, s->path, "masks", 3, (hsize_t[]){n, side, side}, s->info.bytes, place), done);
  TRY_GOTO(mem_alloc(&crc, n, sizeof *crc), done);
  TRY_GOTO(mem_alloc(&index, n, sizeof *index), done);
  TRY_GOTO(h5_read_numbers(s->file, s->path, "mask_crc32", H5T_NATIVE_UINT32, 4, 1, &n, crc), done);
  TRY_GOTO(h5_read_numbers(s->file, s->path, "image_index", H5T_NATIVE_INT32, 4, 1, &n, index), done);
  TRY_GOTO(h5_read_numbers(s->file, s->path, "prompt_index", H5T_NATIVE_INT32, 4, 3, (hsize_t[]){n, kinds, wordings},
                           prompt),
           done);
  TRY_GOTO(check_prompts(pool, s), done);
  for (hsize_t i = 0; i < n; i++) {
    row[i].crc = crc[i];
    row[i].image = index[i];
    row[i].at = place[i];
    row[i].shard = (int)(s - pool->shards);
    if (index[i] < s->info.first_image || index[i] >= s->info.first_image + s->info.images)
      FAIL_GOTO(done, ERR_FORMAT, "%s: dataset 'image_index': row %llu is %d, not an image of this shard", s->path,
                (unsigned long long)i, index[i]);
  }
  TRY_GOTO(read_sample_texts(pool, s, "names", offsetof(struct pool_row_sample, name), text), done);
  TRY_GOTO(read_sample_texts(pool, s, "class", offsetof(struct pool_row_sample, class_name), text), done);
  TRY_GOTO(read_sample_texts(pool, s, "group", offsetof(struct pool_row_sample, group), text), done);
done:
  mem_free(&crc);
  mem_free(&index);
  return st;
}

// mask_original stays open: its variable-length rows have no place of their own and are read through HDF5.
static status_t open_original(struct pool_shard *s) {
  hsize_t n = (hsize_t)s->info.samples;
  TRY(h5_open_dataset(s->file, s->path, "mask_original", H5T_VLEN, 0, 1, &n, &s->original));
  hid_t type = H5Dget_type(s->original), element = H5Tget_super(type);
  int ok = element >= 0 && H5Tget_class(element) == H5T_INTEGER && H5Tget_size(element) == 1;
  if (element >= 0) (void)H5Tclose(element);
  if (type >= 0) (void)H5Tclose(type);
  return ok ? OK : FAIL(ERR_FORMAT, "%s: dataset 'mask_original' does not hold bytes", s->path);
}

status_t pool_read_shard(struct pool *pool, int shard) {
  struct pool_shard *s = &pool->shards[shard];
  size_t most = (size_t)(s->info.images > s->info.samples ? s->info.images : s->info.samples);
  uint64_t *place = NULL;
  char **text = NULL;
  status_t st = OK;
  TRY_GOTO(mem_alloc(&place, most, sizeof *place), done);
  TRY_GOTO(mem_alloc(&text, most, sizeof *text), done);
  TRY_GOTO(h5_open_file(s->path, &s->file), done);
  TRY_GOTO(read_image_columns(pool, s, place, text), done);
  TRY_GOTO(read_sample_columns(pool, s, place, text), done);
  TRY_GOTO(open_original(s), done);
done:
  for (size_t i = 0; text && i < most; i++) mem_free(&text[i]);
  mem_free(&text);
  mem_free(&place);
  return st;
}
