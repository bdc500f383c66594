// test_csv.c: RFC 4180 read and written. ranks 1, label unit.
#include "base/csv.h"
#include "base/mem.h"
#include "testing.h"

static void fields_are_unquoted(void **state) {
  (void)state;
  static const char text[] = "\xEF\xBB\xBFname,prompt,\"a \"\"b\"\"\"\r\n\nx.png,\"one, two\nthree\",\r\n\"\",,y";
  struct csv c;
  assert_ok(csv_parse("t.csv", text, sizeof text - 1, &c));
  assert_int_equal(c.rows, 3);
  assert_int_equal(c.columns, 3);
  assert_string_equal(csv_at(&c, 0, 0), "name");
  assert_string_equal(csv_at(&c, 0, 2), "a \"b\"");
  assert_string_equal(csv_at(&c, 1, 1), "one, two\nthree");
  assert_string_equal(csv_at(&c, 1, 2), "");
  assert_string_equal(csv_at(&c, 2, 0), "");
  assert_string_equal(csv_at(&c, 2, 2), "y");
  assert_int_equal(c.line[1], 3);
  assert_int_equal(c.line[2], 5);
  assert_int_equal(csv_find_column(&c, "prompt"), 1);
  assert_int_equal(csv_find_column(&c, "absent"), 3);
  csv_free(&c);
}

static void what_is_written_is_read_back(void **state) {
  (void)state;
  static const char *const fields[] = {"",           "plain", "a,b",        "say \"x\"",
                                       "two\nlines", " edge", "cr\rlf\r\n", "\xC3\xA9"};
  enum { N = sizeof fields / sizeof *fields };
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  assert_non_null(out);
  for (int row = 0; row < N; row++) {
    for (int i = 0; i < N; i++) csv_write_field(out, fields[(row + i) % N], i == 0);
    (void)fputc('\n', out);
  }
  csv_write_field(out, "", 1); // a row that is one empty field would be an empty line without quotes
  assert_int_equal(fclose(out), 0);
  assert_string_equal(text + size - 2, "\"\"");
  struct csv c;
  assert_ok(csv_parse("t.csv", text, size - 2, &c));
  assert_int_equal(c.rows, N);
  assert_int_equal(c.columns, N);
  for (int row = 0; row < N; row++) {
    for (int i = 0; i < N; i++) assert_string_equal(csv_at(&c, (size_t)row, (size_t)i), fields[(row + i) % N]);
  }
  csv_free(&c);
  free(text);
}

static void damage_is_named(void **state) {
  (void)state;
  struct csv c;
  assert_fails(ERR_FORMAT, csv_parse("t.csv", "a,b\n1\n", 6, &c), "t.csv:2", "1 fields", "has 2");
  assert_fails(ERR_FORMAT, csv_parse("t.csv", "a\n\"b", 4, &c), "t.csv:2", "no end");
  assert_fails(ERR_FORMAT, csv_parse("t.csv", "\"a\"b", 4, &c), "t.csv:1", "0x62");
  assert_fails(ERR_FORMAT, csv_parse("t.csv", "a\0b", 3, &c), "byte 1");
  assert_ok(csv_parse("t.csv", "", 0, &c));
  assert_int_equal(c.rows, 0);
  csv_free(&c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(fields_are_unquoted),
      cmocka_unit_test(what_is_written_is_read_back),
      cmocka_unit_test(damage_is_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
