// test_base.c: status, memory, files, keys, random numbers, the parallel loop, JSON. ranks 1, label unit.
#include "base/file.h"
#include "base/json.h"
#include "base/key.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "testing.h"

#include <stdatomic.h>
#include <unistd.h>

static status_t inner(void) {
  return FAIL(ERR_FORMAT, "byte %d is wrong", 7);
}
static status_t outer(void) {
  TRY(inner());
  return OK;
}

static void status_names_place_and_level(void **state) {
  (void)state;
  assert_fails(ERR_FORMAT, outer(), "byte 7 is wrong");
  assert_non_null(strstr(status_trail(), "inner()"));
  assert_int_equal(status_prefix(ERR_FORMAT, "file %s", "x.bin"), ERR_FORMAT);
  assert_string_equal(status_message(), "file x.bin: byte 7 is wrong");
  assert_int_equal(status_exit_code(ERR_FORMAT), 2);
  assert_int_equal(status_exit_code(ERR_PREEMPTED), 75);
}

static void memory_refuses_overflow(void **state) {
  (void)state;
  void *p;
  assert_fails(ERR_NOMEM, mem_alloc(&p, SIZE_MAX / 2, 4), "do not fit");
  assert_null(p);
  assert_ok(mem_alloc(&p, 3, 5));
  assert_int_equal((uintptr_t)p % MEM_ALIGN, 0);
  mem_free(&p);
  assert_null(p);
}

static void files_are_complete_or_absent(void **state) {
  (void)state;
  char *path = NULL;
  const char *folder = test_folder();
  assert_ok(file_join(&path, folder, "a"));
  assert_ok(file_write_atomic(path, "one", 3));
  assert_ok(file_write_atomic(path, "three", 5));
  uint8_t *bytes;
  size_t size;
  assert_ok(file_read(path, 100, &bytes, &size));
  assert_int_equal(size, 5);
  assert_memory_equal(bytes, "three", 6);
  mem_free(&bytes);
  assert_fails(ERR_FORMAT, file_read(path, 4, &bytes, &size), path, "limit of 4");
  char **names;
  size_t count;
  assert_ok(file_list(folder, &names, &count));
  assert_int_equal(count, 1); // no temporary file is left
  file_free_names(&names, count);
  mem_free(&path);
  assert_ok(file_remove_tree(folder));
  assert_false(file_exists(folder));
  assert_fails(ERR_ARG, file_read("/nonexistent/x", 4, &bytes, &size), "/nonexistent/x");
}

static void keys_are_sha256(void **state) {
  (void)state;
  struct key k;
  char hex[65];
  assert_ok(key_sha256("abc", 3, &k)); // FIPS 180-2, appendix B.1
  key_hex(&k, hex);
  assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  struct key back;
  assert_ok(key_parse(hex, &back));
  assert_true(key_equal(&k, &back));
  assert_fails(ERR_FORMAT, key_parse("12", &back), "64");
  assert_int_equal(key_crc32("123456789", 9), 0xCBF43926u); // the check value of CRC-32/ISO-HDLC
  struct key_builder *b;
  struct key one, two;
  assert_ok(key_begin(&b, "t"));
  assert_ok(key_add_text(b, "a", "bc"));
  assert_ok(key_finish(&b, &one));
  assert_ok(key_begin(&b, "t"));
  assert_ok(key_add_text(b, "ab", "c"));
  assert_ok(key_finish(&b, &two));
  assert_false(key_equal(&one, &two));
}

static void random_numbers_are_philox(void **state) {
  (void)state;
  uint32_t w[4]; // known answers of the Random123 distribution, kat_vectors: philox 4x32 10
  rng_block(0, 0, 0, w);
  assert_int_equal(w[0], 0x6627e8d5u);
  assert_int_equal(w[1], 0xe169c58du);
  assert_int_equal(w[2], 0xbc57ac4cu);
  assert_int_equal(w[3], 0x9b00dbd8u);
  rng_block(UINT64_MAX, UINT64_MAX, UINT64_MAX, w);
  assert_int_equal(w[0], 0x408f276du);
  assert_int_equal(w[1], 0x41c83b0eu);
  assert_int_equal(w[2], 0xa20bc7c6u);
  assert_int_equal(w[3], 0x6d5451fdu);
  struct rng r;
  uint64_t order[100], seen[100] = {0};
  rng_init(&r, 42, 1);
  rng_permutation(&r, order, 100);
  for (int i = 0; i < 100; i++) seen[order[i]]++;
  for (int i = 0; i < 100; i++) assert_int_equal(seen[i], 1);
  double sum = 0, squares = 0;
  for (int i = 0; i < 100000; i++) {
    double x = rng_normal(&r);
    sum += x;
    squares += x * x;
  }
  assert_true(sum / 1e5 < 0.02 && sum / 1e5 > -0.02);
  assert_true(squares / 1e5 < 1.02 && squares / 1e5 > 0.98);
}

struct counted {
  atomic_int hits[1000];
};
static status_t hit(void *context, size_t item, int worker) {
  (void)worker;
  atomic_fetch_add(&((struct counted *)context)->hits[item], 1);
  return item == 5000 ? FAIL(ERR_ARG, "never") : OK;
}
static status_t fail_at_seven(void *context, size_t item, int worker) {
  (void)context, (void)worker;
  return item == 7 ? FAIL(ERR_NUMERIC, "item seven") : OK;
}

static void parallel_loop_runs_each_item_once(void **state) {
  (void)state;
  static struct counted c;
  assert_ok(parallel_for(1000, 4, hit, &c));
  for (int i = 0; i < 1000; i++) assert_int_equal(atomic_load(&c.hits[i]), 1);
  assert_ok(parallel_for(0, 4, hit, &c));
  assert_fails(ERR_NUMERIC, parallel_for(100, 3, fail_at_seven, NULL), "item seven");
}

static void json_names_file_and_key(void **state) {
  (void)state;
  json_t *v;
  const char *text = "{\"a\": 3, \"b\": \"x\", \"c\": null}";
  assert_ok(json_parse("t.json", text, strlen(text), &v));
  int64_t n;
  const char *s;
  assert_ok(json_get_int(v, "t.json", "a", 0, 5, &n));
  assert_int_equal(n, 3);
  assert_fails(ERR_FORMAT, json_get_int(v, "t.json", "a", 0, 2, &n), "t.json", "'a'", "between 0 and 2");
  assert_fails(ERR_FORMAT, json_get_int(v, "t.json", "b", 0, 2, &n), "'b'", "an integer", "a string");
  assert_fails(ERR_FORMAT, json_get_text(v, "t.json", "zz", &s), "'zz' is missing");
  assert_ok(json_get_int_or(v, "t.json", "c", 0, 9, 4, &n));
  assert_int_equal(n, 4);
  json_decref(v);
  assert_fails(ERR_FORMAT, json_parse("t.json", "{\"a\":1,\"a\":2}", 13, &v), "t.json: line 1");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(status_names_place_and_level), cmocka_unit_test(memory_refuses_overflow),
      cmocka_unit_test(files_are_complete_or_absent), cmocka_unit_test(keys_are_sha256),
      cmocka_unit_test(random_numbers_are_philox),    cmocka_unit_test(parallel_loop_runs_each_item_once),
      cmocka_unit_test(json_names_file_and_key),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
