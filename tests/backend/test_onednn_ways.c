// test_onednn_ways.c: every way in which the onednn backend computes a convolution gives what the reference gives, in fp32,
// bf16 and mixtures; the choice between them is kept, saved and loaded. ranks 1, label cpu.
#include "op_device.h"

#include "backend/onednn/onednn.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "testing.h"

#include <string.h>
#include <unistd.h>

static struct backend *backend;

static double nmse(const double *met, const double *want, int64_t n) {
  double top = 0, bottom = 0;
  for (int64_t i = 0; i < n; i++) {
    top += (met[i] - want[i]) * (met[i] - want[i]);
    bottom += want[i] * want[i];
  }
  return bottom > 0 ? top / bottom : top;
}

static void agrees(const struct op *op, const struct op_values *v, const char *way, double most) {
  struct op_device d;
  char text[OP_TEXT];
  assert_ok(op_device_create(backend, op, v, NULL, &d));
  assert_ok(op_device_run(&d));
  assert_ok(op_device_check(&d, v));
  for (int j = 0; j < op->outputs; j++) {
    double *met;
    if (op->out[j].dtype == DTYPE_NONE) continue;
    assert_ok(op_device_values(&d, j, &met));
    double e = nmse(met, v->out[j], desc_count(&op->out[j]));
    if (!(e <= most)) fail_msg("%s, %s: output %d: NMSE %g, at most %g", way, op_text(op, text), j, e, most);
    mem_free(&met);
  }
  op_device_destroy(&d);
}

// fp32; bf16; inputs bf16 and results fp32; the first input bf16 and all else fp32.
enum { MIXTURES = 4 };

static struct op mixture_of(const struct op *op, int mixture) {
  struct op m = op_of_type(op, mixture == 0 || mixture == 3 ? DTYPE_F32 : DTYPE_BF16);
  for (int j = 0; mixture == 2 && j < m.outputs; j++) {
    if (m.out[j].dtype != DTYPE_NONE) m.out[j].dtype = DTYPE_F32;
  }
  if (mixture == 3) m.in[0].dtype = DTYPE_BF16;
  return m;
}

static void every_way(case_size_t size, const char *const *ways, int count) {
  struct op_case *cases;
  size_t n;
  assert_ok(op_cases_create(&cases, &n));
  for (size_t i = 0; i < n; i++) {
    bool conv =
        cases[i].op.kind == OP_CONV || cases[i].op.kind == OP_CONV_TRANSPOSE || cases[i].op.kind == OP_CONV_EACH;
    if (cases[i].size != size || !conv) continue;
    for (int mixture = 0; mixture < (size == CASE_REAL ? 2 : MIXTURES); mixture++) {
      struct op op = mixture_of(&cases[i].op, mixture);
      struct op_values v;
      assert_true(backend->ops->supports(backend, &op));
      assert_ok(op_values_create(&cases[i], false, mixture ? DTYPE_BF16 : DTYPE_F32, &v));
      assert_ok(op_values_run(&op, &v));
      for (int w = 0; w < count; w++) {
        onednn_choices_force(ways[w]);
        agrees(&op, &v, ways[w] ? ways[w] : "rule", mixture ? 1e-4 : 1e-9);
      }
      onednn_choices_force(NULL);
      op_values_destroy(&v);
    }
  }
  mem_free(&cases);
}

static void small_cases(void **state) {
  static const char *const ways[] = {"plain", "blocked", "product", "turned", "own"};
  (void)state;
  every_way(CASE_SMALL, ways, 5);
}

static void real_cases(void **state) {
  static const char *const ways[] = {"blocked", "product", "turned"};
  (void)state;
  every_way(CASE_REAL, ways, 3);
}

static const struct op pointwise = {.kind = OP_CONV,
                                    .direction = BACKWARD_WEIGHT,
                                    .inputs = 2,
                                    .outputs = 2,
                                    .in = {TENSOR_DESC(DTYPE_F32, 2, 8, 8, 32), TENSOR_DESC(DTYPE_F32, 2, 8, 8, 64)},
                                    .out = {TENSOR_DESC(DTYPE_F32, 32, 64, 1, 1)},
                                    .attr = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1}};

static void make_plan(void) {
  struct plan *plan;
  assert_ok(backend->ops->plan_create(backend, &pointwise, &plan));
  backend->ops->plan_destroy(&plan);
}

static json_t *saved(const char *path) {
  json_t *table;
  assert_ok(onednn_choices_save(path));
  assert_ok(json_read(path, &table));
  return table;
}

static void choices_are_kept(void **state) {
  (void)state;
  char path[] = "choices-XXXXXX";
  int file = mkstemp(path);
  assert_true(file >= 0);
  (void)close(file);
  onednn_choices_clear();
  make_plan();
  json_t *table = saved(path);
  assert_int_equal(json_object_size(table), 0); // by rule
  json_decref(table);
  onednn_choices_measure(true);
  make_plan();
  table = saved(path);
  assert_int_equal(json_object_size(table), 1);
  const char *key = json_object_iter_key(json_object_iter(table)), *way = NULL;
  assert_ok(json_get_text(table, path, key, &way));
  assert_non_null(strstr(key, "CONV backward-weight"));
  // A table that says otherwise is believed, and stays as it is.
  const char *other = strcmp(way, "plain") ? "plain" : "product";
  assert_ok(json_put(table, key, json_string(other)));
  assert_ok(json_write(path, table));
  json_decref(table);
  onednn_choices_clear();
  assert_ok(onednn_choices_load(path));
  make_plan();
  table = saved(path);
  assert_int_equal(json_object_size(table), 1);
  assert_string_equal(json_string_value(json_object_iter_value(json_object_iter(table))), other);
  json_decref(table);
  onednn_choices_measure(false);
  onednn_choices_clear();
  (void)unlink(path);
}

static void bad_tables(void **state) {
  static const char *const text[] = {"[1]", "{\"CONV\": 1}", "{"};
  (void)state;
  char path[] = "choices-XXXXXX";
  int file = mkstemp(path);
  assert_true(file >= 0);
  (void)close(file);
  for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
    assert_ok(file_write_atomic(path, text[i], strlen(text[i])));
    assert_int_equal(onednn_choices_load(path), ERR_FORMAT);
    assert_non_null(strstr(status_message(), path));
    status_clear();
  }
  (void)unlink(path);
}

static int set_up(void **state) {
  (void)state;
  return backend_create("onednn", 2, &backend) == OK ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  backend_destroy(&backend);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small_cases),
      cmocka_unit_test(real_cases),
      cmocka_unit_test(choices_are_kept),
      cmocka_unit_test(bad_tables),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
