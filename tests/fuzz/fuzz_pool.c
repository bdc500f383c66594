// fuzz_pool.c: well-formed HDF5 files that lie. Random bytes would only find libhdf5's own faults (SHA-256 guards against
// damage), so the input is a list of changes to a good small pool: other types, shapes, names, links, values and texts in
// the shard, other numbers in pool.json. What can be opened is then read whole. Seeds: lists of changes.
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/h5.h"
#include "data/image.h"
#include "data/pool.h"
#include "data/pool_write.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { SIDE = 6, AREA = SIDE * SIDE, IMAGES = 2, SAMPLES = 3 };

static char folder[64], shard_path[128], json_path[128];
static uint8_t *shard;
static char *json; // with the shard's size as %llu
static size_t shard_size;

struct input {
  const uint8_t *at, *end;
};

static unsigned next(struct input *in) {
  return in->at < in->end ? *in->at++ : 0;
}

static const char *const dataset[] = {"images", "image_names", "image_key",     "image_crc32", "original_size",
                                      "masks",  "mask_crc32",  "mask_original", "image_index", "names",
                                      "class",  "group",       "prompt_index"};
enum { DATASETS = sizeof dataset / sizeof *dataset };

static void add_sample(struct pool_writer *w, const char *name) {
  uint8_t mask[AREA] = {1, 0, 1}, original[20] = {1, 1}, *png = NULL;
  size_t png_size = 0;
  int32_t prompt[4] = {0, -1, 1, 2};
  struct image m = {.height = 4, .width = 5, .channels = 1, .pixels = original};
  if (image_encode_png(&m, 1, &png, &png_size) != OK) abort();
  if (pool_writer_add_sample(w, &(struct pool_new_sample){.name = name,
                                                          .class_name = "c",
                                                          .group = "g",
                                                          .mask = mask,
                                                          .crc = key_crc32(mask, AREA),
                                                          .original_png = png,
                                                          .original_size = png_size,
                                                          .prompt = prompt}) != OK)
    abort();
  mem_free(&png);
}

// The good pool, once.
static void prepare(void) {
  static const char *const kind[] = {"p0", "p1"}, *const text[] = {"", "polyp", "a polyp"};
  static const prompt_source_t source[] = {PROMPT_CLASS, PROMPT_PERSON};
  static const int32_t index[] = {0, 0, 1};
  uint8_t pixels[AREA * 3] = {3, 1, 4}, *text_json = NULL;
  size_t size = 0;
  struct key key;
  struct pool_writer *w = NULL;
  (void)snprintf(folder, sizeof folder, "/dev/shm/gridseg-fuzz-XXXXXX");
  if (!mkdtemp(folder)) {
    (void)snprintf(folder, sizeof folder, "/tmp/gridseg-fuzz-XXXXXX");
    if (!mkdtemp(folder)) abort();
  }
  struct pool_plan plan = {.root = folder,
                           .name = "n",
                           .split = "s",
                           .size = SIDE,
                           .images = IMAGES,
                           .samples = SAMPLES,
                           .image_index = index,
                           .kinds = 2,
                           .wordings = 2,
                           .kind = kind,
                           .source = source,
                           .texts = 3,
                           .text = text};
  struct pool_new_image image = {.name = "i",
                                 .pixels = pixels,
                                 .original_height = 4,
                                 .original_width = 5,
                                 .crc = key_crc32(pixels, sizeof pixels)};
  if (pool_writer_create(&plan, &w) != OK || pool_writer_add_image(w, &image) != OK) abort();
  add_sample(w, "a");
  add_sample(w, "b");
  if (pool_writer_add_image(w, &image) != OK) abort();
  add_sample(w, "c");
  if (pool_writer_finish(w, &key) != OK) abort();
  pool_writer_destroy(&w);
  (void)snprintf(shard_path, sizeof shard_path, "%s/n/s/%d/shard-00000.h5", folder, SIDE);
  (void)snprintf(json_path, sizeof json_path, "%s/n/s/%d/pool.json", folder, SIDE);
  if (file_read(shard_path, 1 << 20, &shard, &shard_size) != OK) abort();
  if (file_read(json_path, 1 << 20, &text_json, &size) != OK) abort();
  json = (char *)text_json;
}

static void remove_all(void) {
  (void)file_remove_tree(folder);
}

static hid_t pick_type(unsigned n) {
  const hid_t types[] = {H5T_STD_U8LE,  H5T_STD_I8LE,  H5T_STD_U16BE,  H5T_STD_I32LE, H5T_STD_I32BE,
                         H5T_STD_U32LE, H5T_STD_I64LE, H5T_IEEE_F32LE, H5T_C_S1,      H5T_STD_REF_OBJ};
  enum { PLAIN = sizeof types / sizeof *types };
  n %= PLAIN + 4;
  if (n < PLAIN) return H5Tcopy(types[n]);
  if (n == PLAIN) return h5_text_type();
  if (n == PLAIN + 1) return H5Tvlen_create(H5T_STD_U8LE);
  if (n == PLAIN + 2) return H5Tarray_create2(H5T_STD_U8LE, 1, (hsize_t[]){3});
  return H5Tenum_create(H5T_STD_U8LE);
}

// Replace a dataset by a fresh one of another type, rank, shape and storage.
static void change_dataset(hid_t file, const char *name, struct input *in) {
  hsize_t shape[5], chunk[5], most[5];
  int rank = (int)(next(in) % 6);
  unsigned storage = next(in);
  hid_t type = pick_type(next(in)), create = H5Pcreate(H5P_DATASET_CREATE);
  for (int i = 0; i < rank; i++) {
    shape[i] = next(in) % 9;
    chunk[i] = shape[i] ? 1 + next(in) % shape[i] : 1;
    most[i] = storage & 8 ? H5S_UNLIMITED : shape[i];
  }
  hid_t space = H5Screate_simple(rank, shape, storage & 1 ? most : NULL);
  if (storage & 1 && rank) (void)H5Pset_chunk(create, rank, chunk);
  if (storage & 2) (void)H5Pset_deflate(create, 1);
  if (storage & 4) (void)H5Pset_external(create, "/dev/zero", 0, 64);
  if (storage & 16) (void)H5Pset_virtual(create, space, ".", "masks", space);
  (void)H5Ldelete(file, name, H5P_DEFAULT);
  hid_t made = H5Dcreate2(file, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
  if (made >= 0 && storage & 16) { // writing one that names itself would end in HDF5
    (void)H5Dclose(made);
  } else if (made >= 0) {
    uint8_t values[4096];
    for (size_t i = 0; i < sizeof values; i++) values[i] = (uint8_t)next(in);
    hssize_t points = H5Sget_simple_extent_npoints(space);
    H5T_class_t class = H5Tget_class(type);
    if ((class == H5T_INTEGER || class == H5T_FLOAT) && points > 0 &&
        (size_t)points * H5Tget_size(type) < sizeof values)
      (void)H5Dwrite(made, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    (void)H5Dclose(made);
  }
  (void)H5Pclose(create);
  (void)H5Sclose(space);
  (void)H5Tclose(type);
}

static bool is_virtual(hid_t made) {
  hid_t create = H5Dget_create_plist(made);
  bool found = create >= 0 && H5Pget_layout(create) == H5D_VIRTUAL;
  (void)H5Pclose(create);
  return found;
}

// Overwrite values in place: numbers by bytes, texts and variable-length bytes by pieces of the input.
static void change_values(hid_t file, const char *name, struct input *in) {
  hid_t made = H5Dopen2(file, name, H5P_DEFAULT);
  if (made < 0) return;
  if (is_virtual(made)) { // an earlier change made it; to read one that names itself ends in HDF5
    (void)H5Dclose(made);
    return;
  }
  hid_t type = H5Dget_type(made), space = H5Dget_space(made);
  hssize_t points = H5Sget_simple_extent_npoints(space);
  H5T_class_t class = H5Tget_class(type);
  uint8_t values[4096] = {0};
  static char text[16][32];
  for (size_t i = 0; i < 16; i++) {
    size_t n = next(in) % 31;
    for (size_t k = 0; k < 31; k++) text[i][k] = (char)(k < n ? next(in) : 0);
  }
  if (points > 0 && points <= 16 && class == H5T_STRING && H5Tis_variable_str(type) > 0) {
    const char *texts[16];
    for (size_t i = 0; i < 16; i++) texts[i] = text[i][0] == 'N' ? NULL : text[i];
    (void)H5Dwrite(made, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts);
  } else if (points > 0 && points <= 16 && class == H5T_VLEN) {
    hvl_t pieces[16];
    for (size_t i = 0; i < 16; i++) pieces[i] = (hvl_t){.len = strnlen(text[i], 31), .p = text[i]};
    (void)H5Dwrite(made, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, pieces);
  } else if (points > 0 && class == H5T_INTEGER && (size_t)points * H5Tget_size(type) < sizeof values) {
    (void)H5Dread(made, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    for (unsigned n = next(in) % 8; n > 0; n--) {
      size_t at = next(in) % ((size_t)points * H5Tget_size(type));
      values[at] = (uint8_t)next(in);
    }
    (void)H5Dwrite(made, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
  }
  (void)H5Tclose(type);
  (void)H5Sclose(space);
  (void)H5Dclose(made);
}

static void change_shard(hid_t file, struct input *in) {
  const char *name = dataset[next(in) % DATASETS], *other = dataset[next(in) % DATASETS];
  switch (next(in) % 8) {
  case 0: (void)H5Ldelete(file, name, H5P_DEFAULT); break;
  case 1:
  case 2: change_dataset(file, name, in); break;
  case 3:
    (void)H5Ldelete(file, name, H5P_DEFAULT);
    (void)H5Lcreate_soft(other, file, name, H5P_DEFAULT, H5P_DEFAULT);
    break;
  case 4:
    (void)H5Ldelete(file, name, H5P_DEFAULT);
    (void)H5Lcreate_external(shard_path, other, file, name, H5P_DEFAULT, H5P_DEFAULT);
    break;
  case 5:
    (void)H5Ldelete(file, name, H5P_DEFAULT);
    (void)H5Gclose(H5Gcreate2(file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    break;
  case 6:
    (void)H5Ldelete(file, name, H5P_DEFAULT);
    (void)H5Lmove(file, other, file, name, H5P_DEFAULT, H5P_DEFAULT);
    break;
  default: change_values(file, name, in);
  }
}

// Change digits and letters of pool.json, then set the shard's true size, else nothing behind it would be reached.
static void write_json(struct input *in, uint64_t bytes) {
  char *text = NULL, *made = NULL;
  if (mem_copy_text(&text, json) != OK) return;
  for (unsigned n = next(in) % 5; n > 0; n--) {
    size_t at = (next(in) << 8 | next(in)) % strlen(text);
    if (text[at] != '"' && text[at] != '\n') text[at] = (char)next(in);
    if (text[at] == '\0') text[at] = '0';
  }
  char *size = strstr(text, "\"bytes\": ");
  if (size && strchr(size, ',')) {
    const char *rest = strchr(size, ',');
    *size = '\0';
    if (mem_format(&made, "%s\"bytes\": %llu%s", text, (unsigned long long)bytes, rest) != OK) made = NULL;
  }
  const char *use = made ? made : text;
  FILE *f = fopen(json_path, "w");
  if (f) {
    (void)fwrite(use, 1, strlen(use), f);
    (void)fclose(f);
  }
  mem_free(&made);
  mem_free(&text);
}

static void read_whole(const struct pool *pool) {
  const struct pool_info *info = pool_get_info(pool);
  uint8_t *pixels = NULL, *original = NULL;
  struct key key;
  size_t side = (size_t)info->size;
  if (mem_alloc(&pixels, side * side, 3) != OK) return;
  for (int64_t i = 0; i < info->images && i < 16; i++) {
    (void)pool_read_image(pool, i, pixels);
    (void)pool_image_key(pool, i, &key);
  }
  for (int64_t i = 0; i < info->samples && i < 16; i++) {
    struct pool_sample s;
    (void)pool_read_mask(pool, i, pixels);
    if (pool_read_original_mask(pool, i, &original) == OK) mem_free(&original);
    if (pool_get_sample(pool, i, &s) == OK && strlen(s.name) + strlen(s.group) + strlen(s.class_name) > 1u << 20)
      abort();
    for (int k = 0; k < info->prompt_kinds; k++)
      for (int v = 0; v < pool_count_wordings(pool, i, k); v++)
        if (!pool_get_prompt(pool, i, k, v)) abort();
  }
  mem_free(&pixels);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  struct input in = {bytes, bytes + size};
  struct pool *pool = NULL;
  uint64_t now = shard_size;
  char path[128];
  if (!shard) {
    log_set_level(LOG_QUIET);
    prepare();
    (void)atexit(remove_all);
  }
  h5_silence();
  FILE *f = fopen(shard_path, "w");
  if (!f) return 0;
  (void)fwrite(shard, 1, shard_size, f);
  (void)fclose(f);
  hid_t file = H5Fopen(shard_path, H5F_ACC_RDWR, H5P_DEFAULT);
  for (unsigned n = next(&in) % 4; n > 0 && file >= 0; n--) change_shard(file, &in);
  if (file >= 0) (void)H5Fclose(file);
  if (file_size(shard_path, &now) != OK) return 0;
  write_json(&in, now);
  (void)snprintf(path, sizeof path, "%s/n/s/%d", folder, SIDE);
  if (pool_open_path(path, 0, &pool) == OK) read_whole(pool);
  pool_close(&pool);
  return 0;
}
