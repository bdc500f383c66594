// test_onednn_ways.c: every way in which the onednn backend computes a convolution gives what the reference gives, in fp32,
// bf16 and mixtures. ranks 1, label cpu.
#include "op_device.h"

#include "backend/onednn/onednn.h"
#include "base/mem.h"
#include "testing.h"

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
        onednn_force_way(ways[w]);
        agrees(&op, &v, ways[w] ? ways[w] : "rule", mixture ? 1e-4 : 1e-9);
      }
      onednn_force_way(NULL);
      op_values_destroy(&v);
    }
  }
  mem_free(&cases);
}

static void small_cases(void **state) {
  static const char *const ways[] = {"plain", "blocked", "product", "turned", "unrolled", "own"};
  (void)state;
  every_way(CASE_SMALL, ways, 6);
}

static void real_cases(void **state) {
  static const char *const ways[] = {"blocked", "product", "turned", "unrolled"};
  (void)state;
  every_way(CASE_REAL, ways, 4);
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
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
