// test_safetensors.c: files of the public package are read, ours have its bytes, hostile headers are refused. ranks 1,
// label unit. The golden files come from tests/golden/make_safetensors.py.
#include "tensor/safetensors.h"

#include "base/file.h"
#include "base/mem.h"
#include "testing.h"

#include <math.h>

#define GOLDEN TEST_SOURCE_DIR "/tests/golden/safetensors/"

static void public_file_is_read(void **state) {
  (void)state;
  struct safetensors *set;
  assert_ok(safetensors_open(GOLDEN "all_types.safetensors", &set));
  assert_int_equal(safetensors_count(set), 13);
  for (size_t i = 1; i < 13; i++) {
    assert_true(strcmp(safetensors_at(set, i - 1)->name, safetensors_at(set, i)->name) < 0);
  }
  assert_string_equal(safetensors_metadata(set, "format"), "pt");
  assert_null(safetensors_metadata(set, "other"));
  assert_null(safetensors_find(set, "layer"));
  float weight[15];
  assert_ok(safetensors_read(set, "layer.weight", &TENSOR_DESC(DTYPE_F32, 3, 5), weight));
  for (int i = 0; i < 15; i++) assert_true(weight[i] == (float)i / 4);
  float bias[3];
  assert_ok(safetensors_read(set, "layer.bias", &TENSOR_DESC(DTYPE_F32, 3), bias));
  assert_true(bias[0] == -1 && bias[1] == 0 && bias[2] == 1);
  int32_t ids[4];
  assert_ok(safetensors_read(set, "ids", &TENSOR_DESC(DTYPE_I32, 2, 2), ids));
  assert_true(ids[0] == 0 && ids[1] == 1 && ids[2] == INT32_MAX && ids[3] == INT32_MIN);
  assert_fails(ERR_FORMAT, safetensors_read(set, "big", &TENSOR_DESC(DTYPE_I32, 1), ids), "big", "2147483648");
  uint8_t bytes[5];
  assert_ok(safetensors_read(set, "bytes", &TENSOR_DESC(DTYPE_U8, 5), bytes));
  assert_int_equal(bytes[4], 4);
  assert_ok(safetensors_read(set, "mask", &TENSOR_DESC(DTYPE_U8, 2), bytes)); // BOOL
  assert_true(bytes[0] == 1 && bytes[1] == 0);
  double scalar;
  struct tensor_desc rank0 = {.dtype = DTYPE_F64};
  assert_ok(safetensors_read(set, "scalar", &rank0, &scalar));
  assert_true(scalar == 2.5);
  assert_ok(safetensors_read(set, "empty", &TENSOR_DESC(DTYPE_F32, 0, 4), weight));
  assert_non_null(safetensors_find(set, "n\xc3\xa4me \"quoted\"\n"));
  safetensors_close(&set);
  assert_null(set);
}

// numpy's conversions between fp64 and fp16, on values that are hard to round.
static void halves_convert_as_numpy_does(void **state) {
  (void)state;
  struct safetensors *set;
  enum { N = 18 };
  double hard[N], back[N], widened[N];
  uint16_t half[N], ours[N];
  const struct tensor_desc f64 = TENSOR_DESC(DTYPE_F64, N), f16 = TENSOR_DESC(DTYPE_F16, N);
  assert_ok(safetensors_open(GOLDEN "all_types.safetensors", &set));
  assert_ok(safetensors_read(set, "hard.f64", &f64, hard));
  assert_ok(safetensors_read(set, "hard.f16", &f16, half));
  assert_ok(safetensors_read(set, "hard.f64", &f16, ours));
  assert_ok(safetensors_read(set, "hard.back", &f64, back));
  assert_ok(safetensors_read(set, "hard.f16", &f64, widened));
  for (int i = 0; i < N; i++) {
    if (half[i] != ours[i]) fail_msg("%.17g: numpy %04x, ours %04x", hard[i], half[i], ours[i]);
    assert_true(back[i] == widened[i] && signbit(back[i]) == signbit(widened[i]));
  }
  safetensors_close(&set);
}

static void what_we_write_has_the_public_bytes(void **state) {
  (void)state;
  struct safetensors *set;
  char *path = NULL;
  const char *folder = test_folder();
  const char *const metadata[][2] = {{"format", "pt"}};
  assert_ok(file_join(&path, folder, "x.safetensors"));
  assert_ok(safetensors_open(GOLDEN "written.safetensors", &set));
  size_t n = safetensors_count(set), want_size, met_size;
  assert_int_equal(n, 12);
  struct safetensors_entry entries[12];
  for (size_t i = 0; i < n; i++) entries[n - 1 - i] = *safetensors_at(set, i); // any order is fine
  assert_ok(safetensors_write(path, entries, n, metadata, 1));
  safetensors_close(&set);
  uint8_t *want, *met;
  assert_ok(file_read(GOLDEN "written.safetensors", 1 << 20, &want, &want_size));
  assert_ok(file_read(path, 1 << 20, &met, &met_size));
  assert_int_equal(met_size, want_size);
  assert_memory_equal(met, want, want_size);
  mem_free(&want);
  mem_free(&met);
  mem_free(&path);
  assert_ok(file_remove_tree(folder));
}

static void writing_refuses_what_cannot_be_read(void **state) {
  (void)state;
  char *path = NULL;
  const char *folder = test_folder();
  float x = 1;
  assert_ok(file_join(&path, folder, "x.safetensors"));
  struct safetensors_entry two[2] = {{"a", TENSOR_DESC(DTYPE_F32, 1), &x}, {"a", TENSOR_DESC(DTYPE_F64, 0), &x}};
  assert_fails(ERR_ARG, safetensors_write(path, two, 2, NULL, 0), "'a'", "taken");
  two[0].name = "__metadata__";
  assert_fails(ERR_ARG, safetensors_write(path, two, 1, NULL, 0), "__metadata__");
  two[0].name = "\xff";
  assert_fails(ERR_ARG, safetensors_write(path, two, 1, NULL, 0), "not UTF-8");
  two[0] = (struct safetensors_entry){"b", {.dtype = DTYPE_NONE}, &x};
  assert_fails(ERR_ARG, safetensors_write(path, two, 1, NULL, 0), "'b'");
  assert_false(file_exists(path));
  assert_ok(safetensors_write(path, NULL, 0, NULL, 0)); // an empty set is a file too
  struct safetensors *set;
  assert_ok(safetensors_open(path, &set));
  assert_int_equal(safetensors_count(set), 0);
  assert_null(safetensors_find(set, "a"));
  safetensors_close(&set);
  mem_free(&path);
  assert_ok(file_remove_tree(folder));
}

static void shards_read_as_one_set(void **state) {
  (void)state;
  struct safetensors *set;
  assert_ok(safetensors_open(GOLDEN "model.safetensors.index.json", &set));
  assert_int_equal(safetensors_count(set), 4);
  for (int i = 0; i < 4; i++) {
    char name[32];
    float x[8];
    (void)snprintf(name, sizeof name, "block.%d.weight", i);
    assert_ok(safetensors_read(set, name, &TENSOR_DESC(DTYPE_F32, 8), x));
    assert_true(x[0] == (float)i && x[7] == (float)i);
  }
  assert_string_equal(safetensors_metadata(set, "format"), "pt");
  assert_string_equal(safetensors_path(set), GOLDEN "model.safetensors.index.json");
  safetensors_close(&set);
}

static void shapes_that_differ_are_named(void **state) {
  (void)state;
  struct safetensors *set;
  float x[15];
  int32_t ids[15];
  assert_ok(safetensors_open(GOLDEN "written.safetensors", &set));
  assert_fails(ERR_SHAPE, safetensors_read(set, "layer.weight", &TENSOR_DESC(DTYPE_F32, 5, 3), x),
               "written.safetensors", "layer.weight", "[5,3]", "[3,5]");
  assert_fails(ERR_SHAPE, safetensors_read(set, "layer.weight", &TENSOR_DESC(DTYPE_I32, 3, 5), ids), "int32", "fp32");
  assert_fails(ERR_FORMAT, safetensors_read(set, "none", &TENSOR_DESC(DTYPE_F32, 1), x), "none", "missing");
  safetensors_close(&set);
}

// A file of this header and so many bytes of data; `length` < 0: the true length of the header.
static void write_file(const char *path, const char *header, int64_t length, size_t data) {
  uint8_t bytes[2048] = {0};
  size_t n = strlen(header);
  uint64_t stated = length < 0 ? n : (uint64_t)length;
  assert_true(8 + n + data <= sizeof bytes);
  for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(stated >> 8 * i);
  memcpy(bytes + 8, header, n);
  assert_ok(file_write_atomic(path, bytes, 8 + n + data));
}

#define TENSOR(name, type, shape, from, to)                                                                            \
  "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}"

static void hostile_headers_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *header;
    int64_t length;
    size_t data;
    status_t code;
    const char *text;
  } cases[] = {
      {"", 0, 0, ERR_FORMAT, "does not begin"},
      {"{}", INT64_MAX, 0, ERR_FORMAT, "does not fit"},
      {"{}", 3, 0, ERR_FORMAT, "does not fit"},
      {"[]", -1, 0, ERR_FORMAT, "does not begin"},
      {"{", -1, 0, ERR_FORMAT, "line 1"},
      {"{}", -1, 1, ERR_FORMAT, "1 bytes follow"},
      {"{\"a\":3}", -1, 0, ERR_FORMAT, "'a' is not an object"},
      {"{\"a\":{}}", -1, 0, ERR_FORMAT, "'dtype' is missing"},
      {"{\"__metadata__\":{\"k\":1}}", -1, 0, ERR_FORMAT, "'k' is not a text"},
      {"{\"__metadata__\":[]}", -1, 0, ERR_FORMAT, "not an object"},
      {"{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("a", "F32", "[1]", "4", "8") "}", -1, 8, ERR_FORMAT,
       "duplicate"},
      {"{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("b", "F32", "[1]", "0", "4") "}", -1, 4, ERR_FORMAT,
       "another"},
      {"{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("b", "F32", "[1]", "2", "6") "}", -1, 6, ERR_FORMAT, "'b'"},
      {"{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("b", "F32", "[1]", "8", "12") "}", -1, 12, ERR_FORMAT,
       "hole"},
      {"{" TENSOR("a", "F32", "[1]", "4", "8") "}", -1, 8, ERR_FORMAT, "hole"},
      {"{" TENSOR("a", "F32", "[2]", "0", "4") "}", -1, 4, ERR_FORMAT, "wants 8"},
      {"{" TENSOR("a", "F32", "[2]", "0", "8") "}", -1, 4, ERR_FORMAT, "data_offsets"},
      {"{" TENSOR("a", "F32", "[1]", "4", "0") "}", -1, 4, ERR_FORMAT, "data_offsets"},
      {"{" TENSOR("a", "F32", "[1]", "-4", "0") "}", -1, 4, ERR_FORMAT, "data_offsets"},
      {"{" TENSOR("a", "F32", "[1]", "0", "4.0") "}", -1, 4, ERR_FORMAT, "data_offsets"},
      {"{" TENSOR("a", "F32", "[1]", "0", "4,4") "}", -1, 4, ERR_FORMAT, "data_offsets"},
      {"{" TENSOR("a", "F32", "[-1]", "0", "4") "}", -1, 4, ERR_FORMAT, "dimension 0"},
      {"{" TENSOR("a", "F32", "[1.5]", "0", "4") "}", -1, 4, ERR_FORMAT, "dimension 0"},
      {"{" TENSOR("a", "F32", "[4294967296,4294967296]", "0", "0") "}", -1, 0, ERR_FORMAT, "too large"},
      {"{" TENSOR("a", "F32", "[0,9223372036854775807,9223372036854775807]", "0", "0") "}", -1, 0, OK, NULL},
      {"{" TENSOR("a", "F32", "[99999999999999999999]", "0", "0") "}", -1, 0, ERR_FORMAT, "too big"},
      {"{" TENSOR("a", "F32", "[1,1,1,1,1,1,1]", "0", "4") "}", -1, 4, ERR_UNSUPPORTED, "7 dimensions"},
      {"{" TENSOR("a", "F8_E4M3", "[1]", "0", "1") "}", -1, 1, ERR_UNSUPPORTED, "F8_E4M3"},
      {"{" TENSOR("a", "F32", "3", "0", "4") "}", -1, 4, ERR_FORMAT, "'shape' must be an array"},
      {"{" TENSOR("a", "F32", "[0]", "0", "0") "," TENSOR("b", "U8", "[1]", "0", "1") "}", -1, 1, OK, NULL},
  };
  char *path = NULL;
  const char *folder = test_folder();
  assert_ok(file_join(&path, folder, "bad.safetensors"));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct safetensors *set;
    write_file(path, cases[i].header, cases[i].length, cases[i].data);
    if (cases[i].code == OK) {
      assert_ok(safetensors_open(path, &set));
      safetensors_close(&set);
    } else {
      assert_fails(cases[i].code, safetensors_open(path, &set), path, cases[i].text);
      assert_null(set);
    }
  }
  struct safetensors *set;
  assert_ok(file_write_atomic(path, "1234567", 7));
  assert_fails(ERR_FORMAT, safetensors_open(path, &set), path, "7 bytes");
  assert_ok(file_write_atomic(path, "", 0));
  assert_fails(ERR_FORMAT, safetensors_open(path, &set), path, "empty");
  assert_fails(ERR_ARG, safetensors_open(folder, &set), folder, "regular file");
  mem_free(&path);
  assert_ok(file_remove_tree(folder));
  assert_fails(ERR_ARG, safetensors_open("/nonexistent/x.safetensors", &set), "/nonexistent/x.safetensors");
}

static void hostile_indices_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *want;
  } cases[] = {
      {"{}", "weight_map"},
      {"{\"weight_map\":{\"a\":3}}", "'a' must be a string"},
      {"{\"weight_map\":{\"a\":\"../one.safetensors\"}}", "'../one.safetensors' is not the name"},
      {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "not the name"},
      {"{\"weight_map\":{\"a\":\"..\"}}", "not the name"},
      {"{\"weight_map\":{\"a\":\"\"}}", "not the name"},
      {"{\"weight_map\":{\"b\":\"one.safetensors\"}}", "'b' is not in shard one.safetensors"},
      {"{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}", "'a' is in two shards"},
  };
  char *one = NULL, *two = NULL, *index = NULL;
  const char *folder = test_folder();
  struct safetensors *set;
  assert_ok(file_join(&one, folder, "one.safetensors"));
  assert_ok(file_join(&two, folder, "two.safetensors"));
  assert_ok(file_join(&index, folder, "m.safetensors.index.json"));
  write_file(one, "{" TENSOR("a", "F32", "[1]", "0", "4") "}", -1, 4);
  write_file(two, "{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("b", "F32", "[1]", "4", "8") "}", -1, 8);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_ok(file_write_atomic(index, cases[i].text, strlen(cases[i].text)));
    assert_fails(ERR_FORMAT, safetensors_open(index, &set), cases[i].want);
    assert_null(set);
  }
  static const char gone[] = "{\"weight_map\":{\"a\":\"gone.safetensors\"}}";
  assert_ok(file_write_atomic(index, gone, sizeof gone - 1));
  assert_fails(ERR_ARG, safetensors_open(index, &set), "gone.safetensors");
  mem_free(&one);
  mem_free(&two);
  mem_free(&index);
  assert_ok(file_remove_tree(folder));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(public_file_is_read),
      cmocka_unit_test(halves_convert_as_numpy_does),
      cmocka_unit_test(what_we_write_has_the_public_bytes),
      cmocka_unit_test(writing_refuses_what_cannot_be_read),
      cmocka_unit_test(shards_read_as_one_set),
      cmocka_unit_test(shapes_that_differ_are_named),
      cmocka_unit_test(hostile_headers_are_refused),
      cmocka_unit_test(hostile_indices_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
