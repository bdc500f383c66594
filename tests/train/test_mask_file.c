// test_mask_file.c: names that others chose become paths that stay in their folder. ranks 1, label unit.
#include "base/file.h"
#include "base/mem.h"
#include "testing.h"
#include "train/mask_file.h"

static void words_become_readable_names(void **state) {
  (void)state;
  static const char *const same[] = {"p6", "one_polyp.2.5", "polyp", "\xC3\xA9pith\xC3\xA9lium"};
  char *a = NULL, *b = NULL;
  for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
    assert_ok(mask_readable_name(same[i], &a));
    assert_string_equal(a, same[i]);
    mem_free(&a);
  }
  assert_ok(mask_readable_name("one pink polyp", &a));
  assert_string_equal(a, "one-pink-polyp");
  assert_ok(mask_readable_name("one-pink-polyp", &b));
  assert_string_not_equal(a, b);
  mem_free(&a);
  mem_free(&b);
  assert_ok(mask_readable_name("one pink, round polyp", &a));
  assert_int_equal(strncmp(a, "one-pink-round-polyp-", 21), 0);
  assert_ok(mask_readable_name("one pink round polyp", &b));
  assert_string_not_equal(a, b); // what was lost is told apart
  mem_free(&a);
  mem_free(&b);
  assert_ok(mask_readable_name("../../etc/passwd", &a));
  assert_null(strchr(a, '/'));
  assert_int_not_equal(a[0], '.');
  mem_free(&a);
  assert_ok(mask_readable_name("", &a)); // prompt p0 is no words at all
  assert_string_equal(a, "empty-e3b0c442");
  mem_free(&a);
  assert_ok(mask_readable_name("a very long description that says where the polyp is and what it is like", &a));
  assert_true(strlen(a) <= 40 + 9);
  mem_free(&a);
}

static void paths_stay_in_their_folder(void **state) {
  (void)state;
  const char *folder = test_folder();
  char *path = NULL, *wanted = NULL;
  assert_ok(mask_path(folder, "mask_1/patient.png", &path));
  assert_ok(file_join(&wanted, folder, "mask_1/patient.png"));
  assert_string_equal(path, wanted);
  *strrchr(path, '/') = '\0';
  assert_true(file_is_directory(path));
  mem_free(&path);
  mem_free(&wanted);
  assert_ok(mask_path(folder, "a.jpg", &path));
  assert_non_null(strstr(path, "/a.jpg.png"));
  mem_free(&path);
  static const char *const bad[] = {"/etc/x", "../x", "a/../../x", "a/..", ""};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_fails(ERR_FORMAT, mask_path(folder, bad[i], &path), "leads out");
    assert_null(path);
  }
  assert_ok(mask_path(folder, "..a/b..png", &path));
  mem_free(&path);
  assert_ok(file_remove_tree(folder));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(words_become_readable_names),
      cmocka_unit_test(paths_stay_in_their_folder),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
