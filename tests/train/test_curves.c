// test_curves.c: curves.csv that is cut back on resume, and event files. TensorBoard's own reader reads the latter in
// tests/peer/events.py. ranks 1, label unit.
#include "base/file.h"
#include "base/mem.h"
#include "testing.h"
#include "train/curves.h"
#include "train/events.h"

static void read_text(const char *folder, const char *name, char **text) {
  char *path;
  size_t size;
  assert_ok(file_join(&path, folder, name));
  assert_ok(file_read(path, 1 << 20, (uint8_t **)text, &size));
  mem_free(&path);
}

static void write_rows(struct curves *c, int from, int to) {
  for (int i = from; i < to; i++) {
    struct curves_row row = {.epoch_end = i % 3 == 2,
                             .epoch = i / 3,
                             .step = i,
                             .loss = 1.0 / (i + 1),
                             .lr = 2e-3,
                             .validated = i % 3 == 2,
                             .val_loss = 0.25,
                             .val_dice = 0.5};
    assert_ok(curves_write(c, &row));
  }
}

static void resumed_rows_equal_undisturbed_ones(void **state) {
  (void)state;
  const char *folder = test_folder();
  struct curves *c;
  char *whole, *resumed;
  int64_t bytes, all;
  assert_ok(curves_open(folder, 0, &c));
  write_rows(c, 0, 9);
  assert_ok(curves_sync(c, &all));
  curves_close(&c);
  read_text(folder, "curves.csv", &whole);
  assert_int_equal(strlen(whole), all);
  assert_non_null(strstr(whole, "kind,epoch,step,loss,dice,lr,val_loss,val_dice,images_per_s,seconds\n"
                                "step,0,0,1,0,0.002,,,0,0.000\n"));
  assert_non_null(strstr(whole, "epoch,0,2,0.333333333,0,0.002,0.25,0.5,"));
  // A run that was killed at row 7 while its last checkpoint knew of 4.
  assert_ok(curves_open(folder, 0, &c));
  write_rows(c, 0, 4);
  assert_ok(curves_sync(c, &bytes));
  write_rows(c, 4, 7);
  curves_close(&c);
  assert_ok(curves_open(folder, bytes, &c));
  write_rows(c, 4, 9);
  curves_close(&c);
  read_text(folder, "curves.csv", &resumed);
  assert_string_equal(whole, resumed);
  // A file that someone cut: what is left stays, and rows are added.
  assert_ok(curves_open(folder, all + 100, &c));
  write_rows(c, 9, 10);
  curves_close(&c);
  mem_free(&resumed);
  read_text(folder, "curves.csv", &resumed);
  assert_int_equal(strncmp(whole, resumed, strlen(whole)), 0);
  assert_true(strlen(resumed) > strlen(whole));
  mem_free(&resumed);
  mem_free(&whole);
  assert_ok(file_remove_tree(folder));
}

static void checksum_is_castagnoli_s(void **state) {
  (void)state;
  assert_int_equal(events_crc32c("123456789", 9), 0xE3069283u); // the check value of CRC-32C (RFC 3720, B.4)
  uint8_t zero[32] = {0};
  assert_int_equal(events_crc32c(zero, 32), 0x8A9136AAu); // RFC 3720, B.4
}

static void events_are_whole_records(void **state) {
  (void)state;
  const char *folder = test_folder();
  struct events *e;
  assert_ok(events_open(folder, 17, &e));
  assert_ok(events_scalar(e, "train/loss", 17, 0.5));
  assert_ok(events_scalar(e, "train/loss", 1LL << 40, -2));
  char tag[200];
  memset(tag, 'x', sizeof tag);
  tag[199] = '\0';
  assert_fails(ERR_ARG, events_scalar(e, tag, 0, 0), "199");
  events_close(&e);
  char **names;
  size_t count, size, records = 0;
  uint8_t *bytes;
  assert_ok(file_list(folder, &names, &count));
  assert_int_equal(count, 1);
  assert_int_equal(strncmp(names[0], "events.out.tfevents.", 20), 0);
  char *path;
  assert_ok(file_join(&path, folder, names[0]));
  assert_ok(file_read(path, 1 << 20, &bytes, &size));
  for (size_t at = 0; at < size; records++) {
    uint64_t n;
    uint32_t crc;
    memcpy(&n, bytes + at, 8);
    assert_true(at + 16 + n <= size);
    memcpy(&crc, bytes + at + 12 + n, 4);
    crc -= 0xa282ead8u;
    assert_int_equal(crc << 15 | crc >> 17, events_crc32c(bytes + at + 12, n));
    at += 16 + n;
  }
  assert_int_equal(records, 4); // version, session start, two scalars
  mem_free(&bytes);
  mem_free(&path);
  file_free_names(&names, count);
  assert_ok(file_remove_tree(folder));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(resumed_rows_equal_undisturbed_ones),
      cmocka_unit_test(checksum_is_castagnoli_s),
      cmocka_unit_test(events_are_whole_records),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
