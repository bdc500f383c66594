// test_store.c: the feature store: cold and warm, several writers, budget, damage, full disk, kill. ranks 1, label unit.
// Shards are read back, and damaged ones are made, with HDF5 itself.
#include "base/file.h"
#include "base/key.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "testing.h"
#include "train/store.h"

#include <fcntl.h>
#include <hdf5.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

enum { MEMORY = 1 << 30 };

// In memory where there is such a place: hundreds of fsync calls would wait for the disk otherwise.
static const char *fresh_folder(void) {
  static char path[64];
  (void)snprintf(path, sizeof path, "/dev/shm/gridseg-test-XXXXXX");
  return mkdtemp(path) ? path : test_folder();
}

static struct key key_of(uint64_t i) {
  struct key key;
  assert_ok(key_sha256(&i, sizeof i, &key));
  return key;
}

// What value i holds: sizes differ from value to value, so that a shard has several parts.
static size_t size_of(uint64_t i) {
  static const size_t sizes[] = {2048, 3001, 1 << 17, 64, 1};
  return sizes[i % 5];
}
static void fill(uint64_t i, uint8_t *bytes) {
  struct rng rng;
  rng_init(&rng, 3, i);
  for (size_t k = 0; k < size_of(i); k++) bytes[k] = (uint8_t)rng_u32(&rng);
}

static void put(struct store *s, uint64_t i) {
  static uint8_t bytes[1 << 17];
  struct key key = key_of(i);
  fill(i, bytes);
  assert_ok(store_put(s, &key, bytes, size_of(i)));
}

static const void *find(struct store *s, uint64_t i) {
  struct key key = key_of(i);
  const void *data;
  assert_ok(store_find(s, &key, size_of(i), &data));
  return data;
}

// Is value i there? If it is, its bytes are right.
static bool holds(struct store *s, uint64_t i) {
  static uint8_t want[1 << 17];
  const void *data = find(s, i);
  if (!data) return false;
  fill(i, want);
  assert_memory_equal(data, want, size_of(i));
  if (size_of(i) % 64 == 0) assert_int_equal((uintptr_t)data % 64, 0);
  return true;
}

static size_t count_files(const char *folder, const char *containing) {
  char **names;
  size_t count, n = 0;
  assert_ok(file_list(folder, &names, &count));
  for (size_t i = 0; i < count; i++) n += strstr(names[i], containing) != NULL;
  file_free_names(&names, count);
  return n;
}

static const char *first_shard(const char *folder) {
  static char path[512];
  char **names;
  size_t count;
  assert_ok(file_list(folder, &names, &count));
  assert_true(count > 0);
  (void)snprintf(path, sizeof path, "%s/%s", folder, names[0]);
  file_free_names(&names, count);
  return path;
}

static struct store *open_store(const char *folder) {
  struct store *s;
  assert_ok(store_open(folder, MEMORY, 0, &s));
  return s;
}

static void cold_then_warm(void **state) {
  (void)state;
  const char *folder = fresh_folder();
  struct store *s = open_store(folder);
  const void *early[40];
  for (uint64_t i = 0; i < 40; i++) {
    assert_null(find(s, i));
    put(s, i);
    early[i] = find(s, i);
  }
  assert_int_equal(count_files(folder, "shard-"), 0);
  assert_ok(store_commit(s));
  assert_ok(store_commit(s)); // nothing is waiting
  assert_int_equal(count_files(folder, "shard-"), 1);
  for (uint64_t i = 40; i < 50; i++) put(s, i);
  put(s, 3); // is there already
  for (uint64_t i = 0; i < 50; i++) assert_true(holds(s, i));
  for (uint64_t i = 0; i < 40; i++) assert_ptr_equal(find(s, i), early[i]); // borrowed: never moved
  assert_ok(store_refresh(s));                                              // its own shard is not news
  store_close(&s);                                                          // commits
  assert_null(s);
  assert_int_equal(count_files(folder, "shard-"), 2);
  assert_int_equal(count_files(folder, "tmp"), 0);
  s = open_store(folder);
  for (uint64_t i = 0; i < 50; i++) assert_true(holds(s, i));
  assert_false(holds(s, 50));
  put(s, 7);
  store_close(&s);
  assert_int_equal(count_files(folder, "shard-"), 2); // nothing was new
  assert_ok(store_print_info(folder));
  assert_ok(file_remove_tree(folder));
}

// The layout that store_shard.h promises, by HDF5's own reading.
static void hdf5_reads_a_shard(void **state) {
  (void)state;
  const char *folder = fresh_folder();
  struct store *s = open_store(folder);
  for (uint64_t i = 0; i < 15; i++) put(s, i);
  store_close(&s);
  hid_t file = H5Fopen(first_shard(folder), H5F_ACC_RDONLY, H5P_DEFAULT);
  assert_true(file >= 0);
  size_t values = 0;
  for (int part = 0; part < 5; part++) {
    char name[64];
    (void)snprintf(name, sizeof name, "part_%d/data", part);
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT), space = H5Dget_space(set);
    hsize_t dims[2];
    assert_int_equal(H5Sget_simple_extent_dims(space, dims, NULL), 2);
    assert_int_equal(dims[1], size_of((uint64_t)part));
    assert_int_equal(H5Dget_offset(set) % 4096, 0);
    static uint8_t data[3 << 17], want[1 << 17];
    struct key keys[3];
    uint32_t crcs[3];
    assert_int_equal(dims[0], 3);
    assert_true(H5Dread(set, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    (void)H5Sclose(space), (void)H5Dclose(set);
    (void)snprintf(name, sizeof name, "part_%d/key", part);
    set = H5Dopen2(file, name, H5P_DEFAULT);
    assert_true(H5Dread(set, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, keys) >= 0);
    (void)H5Dclose(set);
    (void)snprintf(name, sizeof name, "part_%d/crc32", part);
    set = H5Dopen2(file, name, H5P_DEFAULT);
    assert_true(H5Dread(set, H5T_NATIVE_UINT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, crcs) >= 0);
    (void)H5Dclose(set);
    for (uint64_t k = 0; k < 3; k++, values++) {
      uint64_t i = (uint64_t)part + 5 * k;
      struct key key = key_of(i);
      fill(i, want);
      assert_true(key_equal(&keys[k], &key));
      assert_memory_equal(data + k * dims[1], want, dims[1]);
      assert_int_equal(crcs[k], key_crc32(want, dims[1]));
    }
  }
  assert_int_equal(values, 15);
  (void)H5Fclose(file);
  assert_ok(file_remove_tree(folder));
}

static void writers_share_a_folder(void **state) {
  (void)state;
  const char *folder = fresh_folder();
  struct store *a, *b;
  assert_ok(store_open(folder, MEMORY, 0, &a));
  assert_ok(store_open(folder, MEMORY, 1, &b));
  for (uint64_t i = 0; i < 20; i++) put(i % 2 ? a : b, i);
  put(a, 100), put(b, 100); // both computed it
  assert_ok(store_commit(a));
  assert_ok(store_commit(b));
  assert_false(holds(a, 0));
  assert_ok(store_refresh(a));
  assert_ok(store_refresh(b));
  for (uint64_t i = 0; i < 20; i++) assert_true(holds(a, i) && holds(b, i));
  store_close(&a);
  assert_true(holds(b, 1) && holds(b, 100));
  store_close(&b);
  assert_int_equal(count_files(folder, "shard-"), 2);
  assert_ok(file_remove_tree(folder));
}

static status_t find_many(void *context, size_t item, int worker) {
  (void)worker;
  struct key key;
  const void *data;
  uint64_t i = item % 50;
  TRY(key_sha256(&i, sizeof i, &key));
  TRY(store_find(context, &key, size_of(i), &data));
  return data ? OK : FAIL(ERR_FORMAT, "value %ju is not there", (uintmax_t)i);
}

static void threads_find_together(void **state) {
  (void)state;
  const char *folder = fresh_folder();
  struct store *s = open_store(folder);
  for (uint64_t i = 0; i < 50; i++) put(s, i);
  store_close(&s);
  s = open_store(folder);
  assert_ok(parallel_for(2000, 4, find_many, s));
  store_close(&s);
  assert_ok(file_remove_tree(folder));
}

static void budget_is_kept(void **state) {
  (void)state;
  struct store *s;
  uint8_t bytes[1000] = {1};
  for (int named = 0; named < 2; named++) {
    assert_ok(store_open(named ? "none" : NULL, 10500, 0, &s));
    for (uint64_t i = 0; i < 10; i++) {
      struct key key = key_of(i);
      assert_ok(store_put(s, &key, bytes, sizeof bytes));
    }
    struct key key = key_of(10);
    assert_fails(ERR_NOMEM, store_put(s, &key, bytes, sizeof bytes), "store.memory", "10000", "10500", "store.dir");
    assert_ok(store_put(s, &key, bytes, 500)); // fits exactly
    assert_fails(ERR_ARG, store_put(s, &key, bytes, 0), "empty");
    assert_ok(store_commit(s));
    assert_ok(store_refresh(s));
    store_close(&s);
  }
  const char *folder = fresh_folder(); // with a folder the budget is what may wait
  assert_ok(store_open(folder, 10500, 0, &s));
  for (uint64_t i = 0; i < 35; i++) {
    struct key key = key_of(i);
    assert_ok(store_put(s, &key, bytes, sizeof bytes));
    assert_int_equal(count_files(folder, ".h5"), i / 10);
  }
  struct key key = key_of(99);
  static uint8_t large[20000]; // larger than the budget, alone
  assert_ok(store_put(s, &key, large, sizeof large));
  assert_ok(store_put(s, &key, large, sizeof large));
  store_close(&s);
  assert_int_equal(count_files(folder, ".h5"), 5);
  assert_ok(file_remove_tree(folder));
}

// One byte of a value changes on disk.
static void damaged_value_is_computed_again(void **state) {
  (void)state;
  const char *folder = fresh_folder();
  struct store *s = open_store(folder);
  put(s, 2), put(s, 7), put(s, 12); // of the same size
  store_close(&s);
  const char *path = first_shard(folder);
  static uint8_t want[1 << 17];
  uint8_t *bytes;
  size_t size;
  fill(7, want);
  assert_ok(file_read(path, SIZE_MAX, &bytes, &size));
  uint8_t *at = memmem(bytes, size, want, sizeof want);
  assert_non_null(at);
  at[1000] ^= 4;
  assert_ok(file_write_atomic(path, bytes, size));
  mem_free(&bytes);
  assert_fails(ERR_FORMAT, store_print_info(folder), "1 damaged values");
  s = open_store(folder);
  assert_true(holds(s, 2) && !holds(s, 7) && !holds(s, 7) && holds(s, 12));
  put(s, 7);
  assert_true(holds(s, 7));
  store_close(&s);
  s = open_store(folder);
  assert_true(holds(s, 7)); // the damaged copy does not hide the whole one
  struct key key = key_of(2);
  const void *data;
  assert_ok(store_find(s, &key, 5, &data)); // another size is no value
  assert_null(data);
  store_close(&s);
  assert_ok(file_remove_tree(folder));
}

static void torn_shards_are_left_aside(void **state) {
  (void)state;
  const char *folder = fresh_folder();
  struct store *s = open_store(folder);
  for (uint64_t i = 0; i < 5; i++) put(s, i);
  store_close(&s);
  const char *path = first_shard(folder);
  uint8_t *bytes;
  size_t size;
  assert_ok(file_read(path, SIZE_MAX, &bytes, &size));
  for (size_t k = 0; k < 16; k++) {
    assert_ok(file_write_atomic(path, bytes, k == 15 ? size - 1 : size * k / 16));
    s = open_store(folder);
    for (uint64_t i = 0; i < 5; i++) assert_false(holds(s, i));
    store_close(&s);
    assert_fails(ERR_FORMAT, store_print_info(folder), "1 shards that cannot be read");
  }
  mem_free(&bytes);
  assert_ok(file_remove_tree(folder));
}

struct made { // a shard with one thing wrong
  const char *what;
  int version; // 0: no attribute
  hsize_t keys, key_bytes, crcs;
  bool wide_data, chunked, absent, soft, empty_space;
};

static void make_data(hid_t group, const char *name, hid_t type, int rank, hsize_t a, hsize_t b, bool chunked,
                      bool late) {
  const hsize_t dims[2] = {a, b};
  hid_t space = H5Screate_simple(rank, dims, NULL), plist = H5Pcreate(H5P_DATASET_CREATE);
  if (chunked) assert_true(H5Pset_chunk(plist, rank, dims) >= 0);
  (void)H5Pset_alloc_time(plist, late ? H5D_ALLOC_TIME_LATE : H5D_ALLOC_TIME_EARLY);
  hid_t set = H5Dcreate2(group, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
  assert_true(set >= 0);
  (void)H5Dclose(set), (void)H5Pclose(plist), (void)H5Sclose(space);
}

static void make_shard(const char *path, const struct made *m) {
  hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  (void)H5Pset_alignment(access, 1, 4096);
  hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
  assert_true(file >= 0);
  if (m->version) {
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t a = H5Acreate2(file, "gridseg_store", H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(a, H5T_NATIVE_INT, &m->version) >= 0);
    (void)H5Aclose(a), (void)H5Sclose(space);
  }
  hid_t group = H5Gcreate2(file, m->soft ? "elsewhere" : "part_0", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  if (m->soft) assert_true(H5Lcreate_soft("/elsewhere", file, "part_0", H5P_DEFAULT, H5P_DEFAULT) >= 0);
  make_data(group, "key", H5T_STD_U8LE, 2, m->keys, m->key_bytes, false, false);
  if (!m->absent) make_data(group, "crc32", H5T_STD_U32LE, 1, m->crcs, 1, false, false);
  make_data(group, "data", m->wide_data ? H5T_STD_U16LE : H5T_STD_U8LE, 2, 4, 100, m->chunked, m->empty_space);
  (void)H5Gclose(group), (void)H5Fclose(file), (void)H5Pclose(access);
}

static void foreign_files_are_left_aside(void **state) {
  (void)state;
  static const struct made cases[] = {
      {"", 1, 4, 32, 4, 0, 0, 0, 0, 0}, // nothing is wrong: the others fail for their own reason
      {"no attribute gridseg_store", 0, 4, 32, 4, 0, 0, 0, 0, 0},
      {"store format 2, wanted 1", 2, 4, 32, 4, 0, 0, 0, 0, 0},
      {"do not fit together", 1, 4, 31, 4, 0, 0, 0, 0, 0},
      {"do not fit together", 1, 5, 32, 4, 0, 0, 0, 0, 0},
      {"do not fit together", 1, 4, 32, 3, 0, 0, 0, 0, 0},
      {"'data' has another type", 1, 4, 32, 4, true, 0, 0, 0, 0},
      {"'data' is not contiguous", 1, 4, 32, 4, 0, true, 0, 0, 0},
      {"no dataset 'crc32'", 1, 4, 32, 4, 0, 0, true, 0, 0},
      {"not a group of its own", 1, 4, 32, 4, 0, 0, 0, true, 0},
      {"does not lie inside the file", 1, 4, 32, 4, 0, 0, 0, 0, true},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const char *folder = fresh_folder();
    char path[256], text[4096];
    (void)snprintf(path, sizeof path, "%s/shard-made.h5", folder);
    make_shard(path, &cases[i]);
    struct store *s = open_store(folder); // never a failure
    store_close(&s);
    // store_print_info says why, on stdout
    (void)fflush(stdout);
    int kept = dup(STDOUT_FILENO);
    char out_path[256];
    (void)snprintf(out_path, sizeof out_path, "%s/out", folder);
    int out = open(out_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    (void)dup2(out, STDOUT_FILENO);
    status_t st = store_print_info(folder);
    (void)fflush(stdout);
    (void)dup2(kept, STDOUT_FILENO);
    ssize_t n = pread(out, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    (void)close(out), (void)close(kept);
    assert_int_equal(st, ERR_FORMAT); // zeroed CRCs are wrong even in the first case
    if (i == 0)
      assert_non_null(strstr(text, "damaged: 4 values"));
    else if (!strstr(text, cases[i].what) || !strstr(text, path))
      fail_msg("case %zu: %s", i, text);
    assert_ok(file_remove_tree(folder));
  }
}

// The file may not grow over 1 MiB: what a full disk or a quota does to write(2).
static void full_disk_is_an_error(void **state) {
  (void)state;
  const char *folder = fresh_folder();
  struct store *s = open_store(folder);
  for (uint64_t i = 0; i < 80; i++) put(s, i); // 2 MiB
  struct rlimit before, small;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  small = before;
  void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
  static const rlim_t limits[] = {0, 100, 1 << 20};
  for (size_t k = 0; k < 3; k++) {
    small.rlim_cur = limits[k];
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    status_t st = store_commit(s);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(st, ERR_IO);
    assert_non_null(strstr(status_message(), folder));
    assert_non_null(strstr(status_message(), "shard-"));
    assert_int_equal(count_files(folder, ""), 0);
  }
  (void)signal(SIGXFSZ, handler);
  for (uint64_t i = 0; i < 80; i++) assert_true(holds(s, i)); // still in memory
  assert_ok(store_commit(s));                                 // there is room again
  store_close(&s);
  s = open_store(folder);
  for (uint64_t i = 0; i < 80; i++) assert_true(holds(s, i));
  store_close(&s);
  assert_ok(file_remove_tree(folder));
}

// Writes shards without end, three values each.
static void write_for_ever(const char *folder) {
  struct store *s;
  if (store_open(folder, MEMORY, 1, &s) != OK) _exit(1);
  for (uint64_t i = 0;; i++) {
    static uint8_t bytes[1 << 17];
    struct key key;
    fill(i, bytes);
    if (key_sha256(&i, sizeof i, &key) != OK || store_put(s, &key, bytes, size_of(i)) != OK) _exit(1);
    if (i % 3 == 2 && store_commit(s) != OK) _exit(1);
  }
}

static void killed_writer_leaves_a_usable_store(void **state) {
  (void)state;
  const char *folder = fresh_folder();
  struct rng rng;
  rng_init(&rng, (uint64_t)time(NULL), 1);
  uint64_t most = 0;
  for (int round = 0; round < 10; round++) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) write_for_ever(folder);
    (void)usleep((useconds_t)rng_below(&rng, 60000));
    (void)kill(child, SIGKILL);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    struct store *s = open_store(folder);
    assert_int_equal(count_files(folder, "tmp"), 0); // its process is gone
    uint64_t n = 0;
    while (holds(s, n)) n++;
    assert_int_equal(n % 3, 0); // whole shards only
    assert_true(n >= most);     // and none is lost
    for (uint64_t i = n; i < n + 20; i++) assert_false(holds(s, i));
    most = n;
    store_close(&s);
    assert_true(count_files(folder, "") == 0 || store_print_info(folder) == OK);
  }
  assert_ok(file_remove_tree(folder));
}

static void only_dead_writers_lose_their_files(void **state) {
  (void)state;
  const char *folder = fresh_folder();
  char mine[256], foreign[256], old[256];
  // A file of a live process (this one), of another machine, and an old one; each as file_write_atomic names them.
  struct store *s = open_store(folder);
  put(s, 1);
  store_close(&s);
  (void)snprintf(mine, sizeof mine, "%s.tmp-%ld", first_shard(folder), (long)getpid());
  (void)snprintf(foreign, sizeof foreign, "%s/shard-0-zzzzzzzz-99999999-r0-0.h5.tmp-99999999", folder);
  (void)snprintf(old, sizeof old, "%s/shard-1-zzzzzzzz-99999999-r0-0.h5.tmp-99999999", folder);
  assert_ok(file_write_atomic(mine, "x", 1));
  assert_ok(file_write_atomic(foreign, "x", 1));
  assert_ok(file_write_atomic(old, "x", 1));
  time_t then = time(NULL) - 25 * 3600;
  assert_int_equal(utime(old, &(struct utimbuf){then, then}), 0);
  s = open_store(folder);
  store_close(&s);
  assert_true(file_exists(mine));
  assert_true(file_exists(foreign));
  assert_false(file_exists(old));
  assert_ok(file_remove_tree(folder));
}

int main(void) {
  log_set_level(LOG_ERROR); // damage is what is tested here
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(cold_then_warm),
      cmocka_unit_test(hdf5_reads_a_shard),
      cmocka_unit_test(writers_share_a_folder),
      cmocka_unit_test(threads_find_together),
      cmocka_unit_test(budget_is_kept),
      cmocka_unit_test(damaged_value_is_computed_again),
      cmocka_unit_test(torn_shards_are_left_aside),
      cmocka_unit_test(foreign_files_are_left_aside),
      cmocka_unit_test(full_disk_is_an_error),
      cmocka_unit_test(killed_writer_leaves_a_usable_store),
      cmocka_unit_test(only_dead_writers_lose_their_files),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
