// test_readme.c: the README's reference of configuration keys is the key tables themselves. `test_readme --print` writes what it must
// hold. ranks 1, label unit.
#include "base/file.h"
#include "base/mem.h"
#include "testing.h"
#include "train/eval_config.h"
#include "train/train_config.h"

static void holds_table(const struct config_table *table) {
  char *want = NULL;
  size_t size, wanted;
  uint8_t *readme = NULL;
  FILE *memory = open_memstream(&want, &wanted);
  assert_non_null(memory);
  config_print_markdown(memory, table);
  assert_int_equal(fclose(memory), 0);
  assert_ok(file_read(TEST_SOURCE_DIR "/README.md", 1 << 22, &readme, &size));
  if (!strstr((const char *)readme, want))
    fail_msg("README.md lacks this table (test_readme --print writes it):\n%s", want);
  mem_free(&readme);
  free(want);
}

static void keys_of_train(void **state) {
  (void)state;
  holds_table(&train_table);
}

static void keys_of_eval(void **state) {
  (void)state;
  holds_table(&eval_table);
}

int main(int argc, char **argv) {
  if (argc == 2 && !strcmp(argv[1], "--print")) {
    config_print_markdown(stdout, &train_table);
    printf("\n");
    config_print_markdown(stdout, &eval_table);
    return 0;
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(keys_of_train), cmocka_unit_test(keys_of_eval)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
