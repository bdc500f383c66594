// test_pool.c: what is written is read back; damage, lies and unfinished pools are refused with a name. Label: unit.
#include "pools.h"

#include "base/file.h"
#include "base/log.h"
#include "data/pool_bench.h"

#include <fcntl.h>
#include <unistd.h>

#include <hdf5.h>

enum { SIDE = 16, AREA = SIDE * SIDE };

static void check_pool(const struct pool *pool, int seed, int64_t images, int64_t samples) {
  uint8_t pixels[AREA * 3], *original = NULL;
  assert_int_equal(pool_get_info(pool)->images, images);
  assert_int_equal(pool_get_info(pool)->samples, samples);
  for (int64_t i = 0; i < images; i++) {
    struct key stored, met;
    assert_ok(pool_read_image(pool, i, pixels));
    for (size_t k = 0; k < sizeof pixels; k++) assert_int_equal(pixels[k], pools_pixel(seed, i, k));
    assert_ok(pool_image_key(pool, i, &stored));
    assert_ok(key_sha256(pixels, sizeof pixels, &met));
    assert_true(key_equal(&stored, &met));
  }
  for (int64_t i = 0; i < samples; i++) {
    struct pool_sample s;
    char name[64];
    assert_ok(pool_read_mask(pool, i, pixels));
    for (size_t k = 0; k < AREA; k++) assert_int_equal(pixels[k], pools_mask(i, k));
    assert_ok(pool_read_original_mask(pool, i, &original));
    for (size_t k = 0; k < 45; k++) assert_int_equal(original[k], pools_mask(i, k));
    mem_free(&original);
    assert_ok(pool_get_sample(pool, i, &s));
    (void)snprintf(name, sizeof name, "mask-%lld.png", (long long)i);
    assert_string_equal(s.name, name);
    assert_string_equal(s.class_name, "polyp");
    assert_string_equal(s.group, s.image % 2 ? "odd" : "even");
    (void)snprintf(name, sizeof name, "image-%d-%lld.png", seed, (long long)s.image);
    assert_string_equal(s.image_name, name);
    assert_int_equal(s.original_height, 5);
    assert_int_equal(s.original_width, 9);
    assert_string_equal(pool_get_prompt(pool, i, 0, 0), "");
    assert_string_equal(pool_get_prompt(pool, i, 1, 0), "polyp");
    assert_null(pool_get_prompt(pool, i, 1, 1));
    assert_int_equal(pool_count_wordings(pool, i, 2), i % 5 ? 2 : 0);
    if (i % 5) assert_string_equal(pool_get_prompt(pool, i, 2, 1), "\xc3\xa9in Polyp");
  }
}

static void test_round(void **state) {
  (void)state;
  const char *root = test_folder();
  struct key key, other;
  struct pool *pool = NULL;
  for (int shards = 1; shards <= 7; shards += 3) {
    char name[16];
    (void)snprintf(name, sizeof name, "s%d", shards);
    int64_t samples = pools_write(root, name, SIDE, 7, shards, 1, &key);
    assert_int_equal(samples, 13);
    assert_ok(pool_open(root, name, "train", SIDE, 1, &pool));
    assert_int_equal(pool_get_info(pool)->shards, shards);
    assert_true(key_equal(&pool_get_info(pool)->key, &key));
    assert_int_equal(pool_find_kind(pool, "p6"), 2);
    assert_int_equal(pool_find_kind(pool, "p7"), -1);
    assert_int_equal(pool_get_info(pool)->prompt_source[2], PROMPT_GROUND_TRUTH);
    check_pool(pool, 1, 7, samples);
    uint8_t pixels[AREA * 3];
    assert_fails(ERR_ARG, pool_read_image(pool, 7, pixels), "image 7 of 7");
    assert_fails(ERR_ARG, pool_read_mask(pool, -1, pixels), "sample -1");
    pool_close(&pool);
  }
  pools_write(root, "twice", SIDE, 7, 1, 1, &key); // the number of shards is no part of the content
  pools_write(root, "once", SIDE, 7, 1, 2, &other);
  assert_false(key_equal(&key, &other));
  assert_fails(ERR_ARG, pool_open(root, "none", "train", SIDE, 0, &pool), "none/train/16", "no pool.json");
  assert_ok(file_remove_tree(root));
}

// The same content gives the same file, byte by byte.
static void test_same_bytes(void **state) {
  (void)state;
  const char *root = test_folder();
  char a[256], b[256];
  struct key key, hash_a, hash_b;
  (void)pools_write(root, "x", SIDE, 4, 1, 1, &key);
  (void)snprintf(a, sizeof a, "%s/x/train/%d/shard-00000.h5", root, SIDE);
  assert_ok(key_sha256_file(a, &hash_a));
  (void)snprintf(b, sizeof b, "%s/x", root);
  assert_ok(file_remove_tree(b));
  sleep(1); // a time stamp would differ now
  (void)pools_write(root, "x", SIDE, 4, 1, 1, &key);
  assert_ok(key_sha256_file(a, &hash_b));
  assert_true(key_equal(&hash_a, &hash_b));
  assert_ok(file_remove_tree(root));
}

static void flip_byte(const char *path, off_t at) {
  uint8_t byte;
  int fd = open(path, O_RDWR);
  assert_true(fd >= 0);
  assert_int_equal(pread(fd, &byte, 1, at), 1);
  byte ^= 1;
  assert_int_equal(pwrite(fd, &byte, 1, at), 1);
  (void)close(fd);
}

static void test_damage(void **state) {
  (void)state;
  const char *root = test_folder();
  char shard[256], json[256];
  struct key key;
  struct pool *pool = NULL;
  uint8_t pixels[AREA * 3], *bytes = NULL;
  size_t size = 0;
  (void)pools_write(root, "x", SIDE, 4, 1, 1, &key);
  (void)snprintf(shard, sizeof shard, "%s/x/train/%d/shard-00000.h5", root, SIDE);
  (void)snprintf(json, sizeof json, "%s/x/train/%d/pool.json", root, SIDE);
  // Find a pixel of image 2 by its content and turn one bit of it.
  assert_ok(file_read(shard, 1 << 20, &bytes, &size));
  for (size_t k = 0; k < sizeof pixels; k++) pixels[k] = pools_pixel(1, 2, k);
  uint8_t *found = memmem(bytes, size, pixels, sizeof pixels);
  assert_non_null(found);
  flip_byte(shard, found - bytes + 100);
  assert_fails(ERR_FORMAT, pool_open(root, "x", "train", SIDE, 1, &pool), "shard-00000.h5", "SHA-256");
  assert_ok(pool_open(root, "x", "train", SIDE, 0, &pool)); // not asked to verify: the CRC finds it when it is read
  assert_ok(pool_read_image(pool, 1, pixels));
  assert_fails(ERR_FORMAT, pool_read_image(pool, 2, pixels), "shard-00000.h5", "image 2", "CRC-32");
  pool_close(&pool);
  char folder[256];
  (void)snprintf(folder, sizeof folder, "%s/x/train/%d", root, SIDE);
  assert_fails(ERR_FORMAT, pool_print_info(folder, stdout), "shard-00000.h5", "SHA-256");
  mem_free(&bytes);
  assert_int_equal(truncate(shard, (off_t)size - 1), 0);
  assert_fails(ERR_FORMAT, pool_open(root, "x", "train", SIDE, 0, &pool), "shard-00000.h5", "bytes");
  assert_int_equal(unlink(shard), 0);
  assert_fails(ERR_FORMAT, pool_open(root, "x", "train", SIDE, 0, &pool), "shard-00000.h5", "cannot be opened");
  assert_ok(file_write_atomic(json, "{\"format\": \"gridseg pool\", \"version\": 2}", 40));
  assert_fails(ERR_UNSUPPORTED, pool_open(root, "x", "train", SIDE, 0, &pool), "pool.json", "version 2");
  assert_ok(file_remove_tree(root));
}

// Change one thing of a well-formed shard through HDF5, keeping pool.json true to the file's size.
static void rewrite(const char *shard, const char *dataset, hid_t type, int rank, const hsize_t *shape) {
  hid_t file = H5Fopen(shard, H5F_ACC_RDWR, H5P_DEFAULT);
  assert_true(file >= 0);
  assert_true(H5Ldelete(file, dataset, H5P_DEFAULT) >= 0);
  hid_t space = H5Screate_simple(rank, shape, NULL);
  if (rank > 0) (void)H5Dclose(H5Dcreate2(file, dataset, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  (void)H5Sclose(space);
  (void)H5Fclose(file);
}

static void fix_size(const char *json, uint64_t bytes) {
  uint8_t *text = NULL;
  size_t size = 0;
  char *made = NULL;
  assert_ok(file_read(json, 1 << 20, &text, &size));
  char *at = strstr((char *)text, "\"bytes\": ");
  assert_non_null(at);
  char *end = strchr(at, ',');
  *at = '\0';
  assert_ok(mem_format(&made, "%s\"bytes\": %llu%s", (char *)text, (unsigned long long)bytes, end));
  assert_ok(file_write_atomic(json, made, strlen(made)));
  mem_free(&made);
  mem_free(&text);
}

static void test_lies(void **state) {
  (void)state;
  const char *root = test_folder();
  char shard[256], json[256];
  const struct {
    const char *dataset;
    hid_t type;
    int rank;
    hsize_t shape[4];
    const char *says;
  } lie[] = {{"images", H5T_STD_U8LE, 4, {4, SIDE, SIDE, 3}, "one row a chunk"},
             {"images", H5T_STD_U16LE, 4, {4, SIDE, SIDE, 3}, "type"},
             {"images", H5T_STD_U8LE, 4, {5, SIDE, SIDE, 3}, "dimension 0"},
             {"masks", H5T_STD_U8LE, 2, {7, SIDE}, "rank 2"},
             {"image_index", H5T_IEEE_F32LE, 1, {7}, "type"},
             {"names", H5T_STD_I32LE, 1, {7}, "type"},
             {"mask_original", H5T_STD_U8LE, 1, {7}, "type"},
             {"prompt_index", H5T_STD_I32LE, 3, {7, 3, 1}, "dimension 2"},
             {"original_size", H5T_STD_I32LE, 2, {4, 2}, "0 x 0"},
             {"group", H5T_STD_I32LE, 0, {0}, "no dataset"}};
  for (size_t i = 0; i < sizeof lie / sizeof *lie; i++) {
    struct key key;
    struct pool *pool = NULL;
    char name[16];
    uint64_t bytes;
    (void)snprintf(name, sizeof name, "l%zu", i);
    assert_int_equal(pools_write(root, name, SIDE, 4, 1, 1, &key), 7);
    (void)snprintf(shard, sizeof shard, "%s/%s/train/%d/shard-00000.h5", root, name, SIDE);
    (void)snprintf(json, sizeof json, "%s/%s/train/%d/pool.json", root, name, SIDE);
    rewrite(shard, lie[i].dataset, lie[i].type, lie[i].rank, lie[i].shape);
    assert_ok(file_size(shard, &bytes));
    fix_size(json, bytes);
    assert_fails(ERR_FORMAT, pool_open(root, name, "train", SIDE, 0, &pool), "shard-00000.h5", lie[i].dataset,
                 lie[i].says);
  }
  assert_ok(file_remove_tree(root));
}

static int count_names(const char *path) {
  char **names = NULL;
  size_t count = 0;
  if (!file_exists(path)) return 0;
  assert_ok(file_list(path, &names, &count));
  file_free_names(&names, count);
  return (int)count;
}

// Complete or absent, and in the plan's order.
static void test_unfinished(void **state) {
  (void)state;
  const char *root = test_folder();
  char parent[256];
  static const char *const kind[] = {"p0"}, *const text[] = {""};
  static const prompt_source_t source[] = {PROMPT_CLASS};
  static const int32_t index[] = {0, 1};
  struct pool_plan plan = {.root = root,
                           .name = "x",
                           .split = "train",
                           .size = SIDE,
                           .images = 2,
                           .samples = 2,
                           .image_index = index,
                           .kinds = 1,
                           .wordings = 1,
                           .kind = kind,
                           .source = source,
                           .texts = 1,
                           .text = text};
  struct pool_writer *w = NULL;
  struct key key;
  uint8_t pixels[AREA * 3] = {0};
  (void)snprintf(parent, sizeof parent, "%s/x/train", root);
  assert_ok(pool_writer_create(&plan, &w));
  assert_ok(pool_writer_add_image(
      w, &(struct pool_new_image){.name = "a", .pixels = pixels, .original_height = 1, .original_width = 1}));
  assert_int_equal(count_names(parent), 1); // the hidden folder
  assert_fails(ERR_ARG, pool_writer_finish(w, &key), "1 of 2 images");
  pool_writer_destroy(&w);
  assert_int_equal(count_names(parent), 0);
  (void)pools_write(root, "x", SIDE, 2, 1, 1, &key);
  assert_fails(ERR_ARG, pool_writer_create(&plan, &w), "is there already");
  assert_int_equal(count_names(parent), 1);
  plan.replace = 1;
  assert_ok(pool_writer_create(&plan, &w));
  pool_writer_destroy(&w);
  static const int32_t gap[] = {0, 2};
  plan.image_index = gap;
  assert_fails(ERR_ARG, pool_writer_create(&plan, &w), "sample 1");
  assert_ok(file_remove_tree(root));
}

static void test_bench(void **state) {
  (void)state;
  double rate = 0.0;
  assert_ok(pool_bench_read(SIDE, &rate));
  assert_true(rate > 0.0);
}

int main(void) {
  log_set_level(LOG_ERROR);
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_round),      cmocka_unit_test(test_same_bytes),
                                     cmocka_unit_test(test_damage),     cmocka_unit_test(test_lies),
                                     cmocka_unit_test(test_unfinished), cmocka_unit_test(test_bench)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
