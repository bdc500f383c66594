// test_samples.c: samples.h5 survives a round trip and refuses damage. (tests/peer reads it with h5py.) ranks 1, label unit.
#include "base/file.h"
#include "base/mem.h"
#include "testing.h"
#include "train/samples.h"

#include <hdf5.h>
#include <math.h>

static struct key key_of(const char *text) {
  struct key k;
  assert_ok(key_sha256(text, strlen(text), &k));
  return k;
}

static void fill(struct samples *s, const char *cell, int rows) {
  struct key key = key_of(cell);
  char hex[65], name[32];
  key_hex(&key, hex);
  for (int i = 0; i < rows; i++) {
    (void)snprintf(name, sizeof name, "%s/%d.png", cell, i);
    struct sample_row row = {.cell_key = hex,
                             .pool = "busi",
                             .prompt = "p1",
                             .name = name,
                             .group = "patient \xC3\xA9",
                             .class_name = "benign",
                             .text = "",
                             .wording = i - 1,
                             .loss = 0.25 * i};
    row.at[RESOLUTION_NETWORK].dice = i / 8.0;
    row.at[RESOLUTION_ORIGINAL].hd95 = i ? 3.5 : NAN;
    row.at[RESOLUTION_ORIGINAL].both = 1e9 + i;
    assert_ok(samples_add(s, &row));
  }
  struct sample_excluded e = {.cell_key = hex, .pool = "busi", .prompt = "p9", .name = "lacks it"};
  assert_ok(samples_exclude(s, &e));
}

static void rows_survive_a_round_trip(void **state) {
  (void)state;
  char *path = NULL;
  const char *folder = test_folder();
  assert_ok(file_join(&path, folder, "samples.h5"));
  struct samples *s = NULL;
  assert_ok(samples_open(path, &s));
  assert_int_equal(samples_count(s), 0);
  assert_ok(samples_save(s, path)); // also without rows
  samples_close(&s);
  assert_ok(samples_open(path, &s));
  fill(s, "a", 3000); // several blocks of text
  fill(s, "b", 5);
  assert_ok(samples_save(s, path));
  samples_close(&s);
  assert_ok(samples_open(path, &s));
  assert_int_equal(samples_count(s), 3005);
  assert_int_equal(samples_excluded_count(s), 2);
  assert_string_equal(samples_at(s, 2999)->name, "a/2999.png");
  assert_string_equal(samples_at(s, 7)->group, "patient \xC3\xA9");
  assert_string_equal(samples_at(s, 7)->text, "");
  assert_int_equal(samples_at(s, 0)->wording, -1);
  assert_true(samples_at(s, 9)->loss == 2.25 && samples_at(s, 9)->at[RESOLUTION_NETWORK].dice == 1.125);
  assert_true(isnan(samples_at(s, 0)->at[RESOLUTION_ORIGINAL].hd95));
  assert_true(samples_at(s, 3004)->at[RESOLUTION_ORIGINAL].both == 1e9 + 4);
  assert_string_equal(samples_excluded_at(s, 1)->name, "lacks it");
  struct key a = key_of("a"), b = key_of("b");
  assert_true(samples_has(s, &a) && samples_has(s, &b));
  samples_remove(s, &a);
  assert_false(samples_has(s, &a));
  assert_int_equal(samples_count(s), 5);
  assert_string_equal(samples_at(s, 0)->name, "b/0.png");
  samples_close(&s);
  mem_free(&path);
  assert_ok(file_remove_tree(folder));
}

static void damage_is_named(void **state) {
  (void)state;
  char *path = NULL;
  const char *folder = test_folder();
  assert_ok(file_join(&path, folder, "samples.h5"));
  struct samples *s = NULL;
  assert_ok(file_write_atomic(path, "not hdf5", 8));
  assert_fails(ERR_FORMAT, samples_open(path, &s), path);
  assert_ok(file_remove_tree(path));
  assert_ok(samples_open(path, &s));
  fill(s, "a", 4);
  assert_ok(samples_save(s, path));
  samples_close(&s);
  hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
  hsize_t dim = 3;
  hid_t space = H5Screate_simple(1, &dim, NULL);
  assert_true(H5Ldelete(file, "loss", H5P_DEFAULT) >= 0);
  hid_t set = H5Dcreate2(file, "loss", H5T_NATIVE_FLOAT, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  assert_true(H5Dclose(set) >= 0 && H5Sclose(space) >= 0 && H5Fclose(file) >= 0);
  assert_fails(ERR_FORMAT, samples_open(path, &s), path, "loss", "3 rows");
  file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
  assert_true(H5Ldelete(file, "loss", H5P_DEFAULT) >= 0 && H5Fclose(file) >= 0);
  assert_fails(ERR_FORMAT, samples_open(path, &s), path, "loss", "missing");
  file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
  assert_true(H5Lcreate_hard(file, "pool", file, "loss", H5P_DEFAULT, H5P_DEFAULT) >= 0 && H5Fclose(file) >= 0);
  assert_fails(ERR_FORMAT, samples_open(path, &s), path, "loss", "numbers");
  assert_null(s);
  mem_free(&path);
  assert_ok(file_remove_tree(folder));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rows_survive_a_round_trip),
      cmocka_unit_test(damage_is_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
