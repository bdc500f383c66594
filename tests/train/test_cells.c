// test_cells.c: cells.csv keeps DESIGN's columns, survives a round trip and refuses foreign tables. ranks 1, label unit.
#include "base/file.h"
#include "base/mem.h"
#include "testing.h"
#include "train/cells.h"

#include <math.h>

static struct key key_of(const char *text) {
  struct key k;
  assert_ok(key_sha256(text, strlen(text), &k));
  return k;
}

static void rows_are_added_found_removed_and_kept(void **state) {
  (void)state;
  char *path = NULL;
  const char *folder = test_folder();
  assert_ok(file_join(&path, folder, "cells.csv"));
  struct cells *c = NULL;
  assert_ok(cells_open(path, &c));
  assert_int_equal(cells_count(c), 0);
  struct key a = key_of("a"), b = key_of("b");
  struct cell row = {.key = a,
                     .model = "dir, with comma",
                     .tested_on = "kvasir_polyp",
                     .prompt = "one \"round\" polyp",
                     .resolution = "original",
                     .metric = "dice",
                     .threshold = 0.35,
                     .value = 0.8125,
                     .lo = NAN,
                     .hi = 1,
                     .seconds = 2.5,
                     .n = 12,
                     .n_groups = 9,
                     .n_excluded = 1};
  assert_ok(cells_add(c, &row));
  row.metric = "iou";
  assert_ok(cells_add(c, &row));
  row.key = b;
  assert_ok(cells_add(c, &row));
  assert_ok(cells_save(c, path));
  cells_close(&c);
  assert_ok(cells_open(path, &c));
  assert_int_equal(cells_count(c), 3);
  assert_true(cells_has(c, &a) && cells_has(c, &b));
  assert_string_equal(cells_at(c, 0, CELL_MODEL), "dir, with comma");
  assert_string_equal(cells_at(c, 0, CELL_PROMPT), "one \"round\" polyp");
  assert_string_equal(cells_at(c, 0, CELL_VALUE), "0.8125");
  assert_string_equal(cells_at(c, 0, CELL_LO), "");
  assert_string_equal(cells_at(c, 0, CELL_HI), "1");
  assert_string_equal(cells_at(c, 0, CELL_THRESHOLD), "0.35");
  assert_string_equal(cells_at(c, 0, CELL_SECONDS), "2.500");
  assert_string_equal(cells_at(c, 1, CELL_METRIC), "iou");
  assert_string_equal(cells_at(c, 2, CELL_N_EXCLUDED), "1");
  cells_remove(c, &a);
  assert_int_equal(cells_count(c), 1);
  assert_false(cells_has(c, &a));
  assert_true(cells_has(c, &b));
  cells_close(&c);
  mem_free(&path);
  assert_ok(file_remove_tree(folder));
}

static void the_header_is_the_published_one(void **state) {
  (void)state;
  char *path = NULL;
  const char *folder = test_folder();
  assert_ok(file_join(&path, folder, "cells.csv"));
  struct cells *c = NULL;
  assert_ok(cells_open(path, &c));
  assert_ok(cells_save(c, path));
  uint8_t *bytes = NULL;
  size_t size = 0;
  assert_ok(file_read(path, 4096, &bytes, &size));
  assert_string_equal(
      (char *)bytes,
      "cell_key,model,trained_on,tested_on,prompt,prompt_source,shift,severity,seed,loss,quirks,precision,"
      "resolution,threshold,metric,value,lo,hi,n,n_groups,n_excluded,leak,seconds,device,version\n");
  mem_free(&bytes);
  cells_close(&c);
  assert_ok(file_write_atomic(path, "a,b\n1,2\n", 8));
  assert_fails(ERR_FORMAT, cells_open(path, &c), path, "cell_key");
  assert_null(c);
  mem_free(&path);
  assert_ok(file_remove_tree(folder));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rows_are_added_found_removed_and_kept),
      cmocka_unit_test(the_header_is_the_published_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
