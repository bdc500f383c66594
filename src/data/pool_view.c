// pool_view.c: the two small files of a pool: pool.json, from which we read, and pool.h5, a virtual view over the
// shards for h5py and h5dump.
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/h5.h"
#include "data/pool_format.h"

#include <stdio.h>
#include <string.h>

static json_t *text_list(const char *const *texts, int64_t count) {
  json_t *list = json_array();
  for (int64_t i = 0; list && i < count; i++) {
    if (json_array_append_new(list, json_string(texts[i])) != 0) {
      json_decref(list);
      return NULL;
    }
  }
  return list;
}

static json_t *shard_list(int shards, const struct pool_shard_info *info) {
  json_t *list = json_array();
  for (int i = 0; list && i < shards; i++) {
    char hex[65];
    key_hex(&info[i].sha256, hex);
    json_t *one = json_pack("{s:s, s:I, s:I, s:I, s:s}", "file", info[i].file, "images", (json_int_t)info[i].images,
                            "samples", (json_int_t)info[i].samples, "bytes", (json_int_t)info[i].bytes, "sha256", hex);
    if (json_array_append_new(list, one) != 0) {
      json_decref(list);
      return NULL;
    }
  }
  return list;
}

static status_t fill_json(json_t *root, const struct pool_plan *p, int shards, const struct pool_shard_info *info,
                          const struct key *key) {
  char hex[65], source[65];
  const char *sources[POOL_KIND_LIMIT];
  for (int i = 0; i < p->kinds; i++) sources[i] = prompt_source_name(p->source[i]);
  key_hex(key, hex);
  key_hex(&p->source_key, source);
  TRY(json_put(root, "format", json_string(POOL_FORMAT)));
  TRY(json_put(root, "version", json_integer(POOL_VERSION)));
  TRY(json_put(root, "dataset", json_string(p->name)));
  TRY(json_put(root, "split", json_string(p->split)));
  TRY(json_put(root, "size", json_integer(p->size)));
  TRY(json_put(root, "rules",
               json_pack("{s:s, s:s, s:s}", "image", "RGB, bilinear with antialiasing as Pillow 13 resizes", "mask",
                         "luminance above 127, nearest", "exif", p->exif_applied ? "applied" : "ignored")));
  TRY(json_put(root, "source_key", json_string(source)));
  TRY(json_put(root, "key", json_string(hex)));
  TRY(json_put(root, "images", json_integer(p->images)));
  TRY(json_put(root, "samples", json_integer(p->samples)));
  TRY(json_put(root, "prompt_kinds", text_list(p->kind, p->kinds)));
  TRY(json_put(root, "prompt_source", text_list(sources, p->kinds)));
  TRY(json_put(root, "prompt_wordings", json_integer(p->wordings)));
  TRY(json_put(root, "prompt_text", text_list(p->text, p->texts)));
  return json_put(root, "shards", shard_list(shards, info));
}

status_t pool_write_json(const char *folder, const struct pool_plan *plan, int shards,
                         const struct pool_shard_info *info, const struct key *key) {
  char *path = NULL;
  json_t *root = json_object();
  status_t st = OK;
  if (!root) return FAIL(ERR_NOMEM, "no memory for %s", POOL_JSON);
  TRY_GOTO(fill_json(root, plan, shards, info, key), done);
  TRY_GOTO(file_join(&path, folder, POOL_JSON), done);
  TRY_GOTO(json_write(path, root), done);
done:
  mem_free(&path);
  json_decref(root);
  return st;
}

// A dataset of the view whose rows are the shards' rows, one after the other.
static status_t add_virtual(hid_t file, const char *path, const char *name, hid_t type, int rank, const hsize_t *shape,
                            int by_image, int shards, const struct pool_shard_info *info, hid_t *dataset) {
  hid_t space = H5Screate_simple(rank, shape, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
  herr_t rc = H5Pset_obj_track_times(create, 0);
  hsize_t start[4] = {0}, count[4];
  for (int i = 0; i < rank; i++) count[i] = shape[i];
  for (int i = 0; i < shards && rc >= 0; i++) {
    count[0] = (hsize_t)(by_image ? info[i].images : info[i].samples);
    hid_t source = H5Screate_simple(rank, count, NULL);
    rc = H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
    if (rc >= 0) rc = H5Pset_virtual(create, space, info[i].file, name, source);
    (void)H5Sclose(source);
    start[0] += count[0];
  }
  if (rc >= 0) rc = H5Sselect_all(space);
  *dataset = rc < 0 ? H5I_INVALID_HID : H5Dcreate2(file, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
  status_t st = *dataset < 0 ? H5_FAIL(ERR_IO, "%s: virtual dataset '%s' cannot be made", path, name) : OK;
  (void)H5Pclose(create);
  (void)H5Sclose(space);
  return st;
}

static status_t add_all(hid_t file, const char *path, const struct pool_plan *p, int shards,
                        const struct pool_shard_info *info, hid_t text, hid_t bytes) {
  hsize_t m = (hsize_t)p->images, n = (hsize_t)p->samples, s = (hsize_t)p->size;
  hsize_t kinds = (hsize_t)p->kinds, wordings = (hsize_t)p->wordings;
  const struct {
    const char *name;
    hid_t type;
    int rank, by_image;
    hsize_t shape[4];
  } column[] = {
      {"images", H5T_STD_U8LE, 4, 1, {m, s, s, 3}},
      {"image_names", text, 1, 1, {m}},
      {"image_key", H5T_STD_U8LE, 2, 1, {m, 32}},
      {"image_crc32", H5T_STD_U32LE, 1, 1, {m}},
      {"original_size", H5T_STD_I32LE, 2, 1, {m, 2}},
      {"masks", H5T_STD_U8LE, 3, 0, {n, s, s}},
      {"mask_crc32", H5T_STD_U32LE, 1, 0, {n}},
      {"mask_original", bytes, 1, 0, {n}},
      {"image_index", H5T_STD_I32LE, 1, 0, {n}},
      {"names", text, 1, 0, {n}},
      {"class", text, 1, 0, {n}},
      {"group", text, 1, 0, {n}},
      {"prompt_index", H5T_STD_I32LE, 3, 0, {n, kinds, wordings}}, // last: it carries the attributes
  };
  const char *source[POOL_KIND_LIMIT];
  for (int i = 0; i < p->kinds; i++) source[i] = prompt_source_name(p->source[i]);
  for (size_t i = 0; i < sizeof column / sizeof *column; i++) {
    hid_t dataset;
    TRY(add_virtual(file, path, column[i].name, column[i].type, column[i].rank, column[i].shape, column[i].by_image,
                    shards, info, &dataset));
    status_t st = OK;
    if (i + 1 == sizeof column / sizeof *column) {
      st = h5_write_text_attribute(dataset, path, "prompt_kinds", kinds, p->kind);
      if (st == OK) st = h5_write_text_attribute(dataset, path, "prompt_source", kinds, source);
    }
    (void)H5Dclose(dataset);
    if (st != OK) return st;
  }
  return h5_write_texts(file, path, "prompt_text", (hsize_t)p->texts, p->text);
}

status_t pool_write_view(const char *folder, const struct pool_plan *plan, int shards,
                         const struct pool_shard_info *info) {
  char *path = NULL;
  hid_t text = h5_text_type(), bytes = H5Tvlen_create(H5T_STD_U8LE), access = H5Pcreate(H5P_FILE_ACCESS);
  status_t st = OK;
  TRY_GOTO(file_join(&path, folder, POOL_VIEW), done);
  (void)H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110); // virtual datasets came with 1.10
  hid_t file = H5Fcreate(path, H5F_ACC_EXCL, H5P_DEFAULT, access);
  if (file < 0) {
    st = H5_FAIL(ERR_IO, "%s: cannot be made", path);
  } else {
    st = add_all(file, path, plan, shards, info, text, bytes);
    if (H5Fclose(file) < 0 && st == OK) st = H5_FAIL(ERR_IO, "%s: cannot be closed", path);
    if (st == OK) st = pool_sync_file(path);
  }
done:
  (void)H5Pclose(access);
  (void)H5Tclose(bytes);
  (void)H5Tclose(text);
  mem_free(&path);
  return st;
}
