// test_backend.c: every case of op_cases.c on a backend (the argument, else "reference") against the reference in fp64 on
// the same inputs: values, guard bytes, the same bits twice, results in place, replaced weights. ranks 1, label cpu.
#include "op_device.h"

#include "base/mem.h"
#include "testing.h"

#include <math.h>

static const char *backend_name = "reference";
static struct backend *backend;

// Sum of squared differences over sum of squares (exact agreement where the latter is 0).
static double nmse(const double *met, const double *want, int64_t n) {
  double top = 0, bottom = 0;
  for (int64_t i = 0; i < n; i++) {
    top += (met[i] - want[i]) * (met[i] - want[i]);
    bottom += want[i] * want[i];
  }
  return bottom > 0 ? top / bottom : top;
}

static double tolerance(dtype_t type) {
  return type == DTYPE_F64 ? 1e-24 : type == DTYPE_F32 ? 1e-9 : 1e-4;
}

static dtype_t loosest(const struct op *op) {
  dtype_t type = DTYPE_F64;
  for (int k = 0; k < op->inputs + op->outputs; k++) {
    dtype_t t = k < op->inputs ? op->in[k].dtype : op->out[k - op->inputs].dtype;
    if (t == DTYPE_BF16 || (t == DTYPE_F32 && type == DTYPE_F64)) type = t;
  }
  return type;
}

static void compare_bytes(const struct op_device *d, const struct op_values *v, int j, const char *what) {
  char text[OP_TEXT];
  uint8_t *met = NULL;
  assert_ok(op_device_fetch(d, j, &met));
  if (memcmp(met, v->out[j], desc_bytes(&d->op.out[j])) != 0) {
    fail_msg("%s: output %d (%s): bytes differ", op_text(&d->op, text), j, what);
  }
  mem_free(&met);
}

static void compare(const struct op_device *d, const struct op_values *v, const char *what) {
  char text[OP_TEXT];
  assert_ok(op_device_check(d, v));
  for (int j = 0; j < d->op.outputs; j++) {
    double *met = NULL;
    if (d->op.out[j].dtype == DTYPE_NONE) continue;
    if (d->op.out[j].dtype == DTYPE_U8) {
      compare_bytes(d, v, j, what);
      continue;
    }
    assert_ok(op_device_values(d, j, &met));
    double e = nmse(met, v->out[j], desc_count(&d->op.out[j])), most = tolerance(loosest(&d->op));
    // Its order of additions is part of the contract: no backend may differ in a bit.
    if (d->op.kind == OP_SUM_SQUARES && most == tolerance(DTYPE_F32)) {
      assert_true((float)met[0] == (float)*(double *)v->out[j]);
    }
    if (!(e <= most)) fail_msg("%s: output %d (%s): NMSE %g, at most %g", op_text(&d->op, text), j, what, e, most);
    mem_free(&met);
  }
}

static void same_bits_again(struct op_device *d) {
  uint8_t *first[OP_MAX_OUT] = {NULL}, *again = NULL;
  for (int j = 0; j < d->op.outputs; j++) {
    if (d->op.out[j].dtype != DTYPE_NONE) assert_ok(op_device_fetch(d, j, &first[j]));
  }
  assert_ok(op_device_run(d));
  for (int j = 0; j < d->op.outputs; j++) {
    if (!first[j]) continue;
    assert_ok(op_device_fetch(d, j, &again));
    assert_memory_equal(first[j], again, desc_bytes(&d->op.out[j]));
    mem_free(&again);
    mem_free(&first[j]);
  }
}

static void run_in_place(const struct op *op, const struct op_values *v) {
  for (int j = 0; j < op->outputs; j++) {
    for (int i = 0; i < op->inputs; i++) {
      int share[OP_MAX_OUT] = {-1, -1, -1, -1};
      struct op_device d;
      bool equal = op->in[i].dtype != DTYPE_NONE && desc_equal(&op->in[i], &op->out[j]);
      if (!equal || !backend->ops->in_place(backend, op, j, i)) continue;
      share[j] = i;
      assert_ok(op_device_create(backend, op, v, share, &d));
      assert_ok(op_device_run(&d));
      compare(&d, v, "in place");
      op_device_destroy(&d);
    }
  }
}

// What writes over its inputs by contract: the input whose memory each output has, -1 for its own; NULL for all others.
static const int *shared_by_contract(const struct op *op) {
  static const int adamw[OP_MAX_OUT] = {0, 2, 3, -1}, moments[OP_MAX_OUT] = {-1, -1, 1, 2};
  if (op->kind == OP_ADAMW) return adamw;
  return op->kind == OP_BATCHNORM_MOMENTS && op->out[2].dtype != DTYPE_NONE ? moments : NULL;
}

static void run_shared(const struct op *op, const struct op_values *v) {
  struct op_device d;
  assert_ok(op_device_create(backend, op, v, shared_by_contract(op), &d));
  assert_ok(op_device_run(&d));
  compare(&d, v, "in place");
  op_device_destroy(&d);
}

// A plan that packs constant weights takes new ones after plan_reset.
static void run_constant(const struct op *op, const struct op_values *v) {
  struct op_device d;
  struct op constant = *op;
  double *halved = NULL;
  int64_t n = desc_count(&op->in[1]);
  constant.constant = 1u << 1;
  assert_ok(mem_alloc(&halved, (size_t)n, sizeof *halved));
  for (int64_t i = 0; i < n; i++) halved[i] = 0.5 * ((const double *)v->in[1])[i];
  struct op_values other = *v;
  other.in[1] = halved;
  assert_ok(op_device_create(backend, &constant, &other, NULL, &d));
  assert_ok(op_device_run(&d));
  assert_ok(op_device_put(&d, 1, v->in[1]));
  backend->ops->plan_reset(d.plan);
  assert_ok(op_device_run(&d));
  compare(&d, v, "constant weights, replaced");
  op_device_destroy(&d);
  mem_free(&halved);
}

static bool run_case(const struct op_case *c, dtype_t type) {
  struct op op = op_of_type(&c->op, type);
  struct op_values v;
  struct op_device d;
  if (!backend->ops->supports(backend, &op)) return false;
  assert_ok(op_values_create(c, false, type, &v));
  assert_ok(op_values_run(&op, &v));
  if (shared_by_contract(&op)) run_shared(&op, &v);
  if (op.kind != OP_ADAMW) {
    assert_ok(op_device_create(backend, &op, &v, NULL, &d));
    assert_ok(op_device_run(&d));
    compare(&d, &v, "plain");
    same_bits_again(&d);
    op_device_destroy(&d);
    run_in_place(&op, &v);
  }
  bool weights = op.kind == OP_LINEAR || op.kind == OP_CONV || op.kind == OP_CONV_TRANSPOSE;
  if (weights && op.direction != BACKWARD_WEIGHT) {
    run_constant(&op, &v);
    op.constant = 1u << 1;
    run_in_place(&op, &v);
  }
  op_values_destroy(&v);
  return true;
}

static void run_all(dtype_t type, case_size_t most) {
  struct op_case *cases;
  size_t count, done = 0, refused = 0;
  char text[OP_TEXT];
  assert_ok(op_cases_create(&cases, &count));
  for (size_t i = 0; i < count; i++) {
    if (cases[i].size > most || (cases[i].op.kind == OP_CAST && type != DTYPE_F32)) continue;
    struct op op = op_of_type(&cases[i].op, type);
    if (run_case(&cases[i], type)) {
      done++;
    } else if (type == DTYPE_F32 || !strcmp(backend_name, "reference")) {
      fail_msg("%s refuses %s", backend_name, op_text(&op, text));
    } else {
      refused++;
    }
  }
  print_message("%s, %s: %zu operations agree, %zu are refused\n", backend_name, dtype_name(type), done, refused);
  mem_free(&cases);
}

static void fp32_agrees(void **state) {
  (void)state;
  run_all(DTYPE_F32, CASE_REAL);
}

static void bf16_agrees(void **state) {
  (void)state;
  run_all(DTYPE_BF16, strcmp(backend_name, "reference") ? CASE_REAL : CASE_SMALL);
}

static void fp64_agrees(void **state) {
  (void)state;
  run_all(DTYPE_F64, CASE_SMALL);
}

static int set_up(void **state) {
  (void)state;
  if (backend_create(backend_name, 2, &backend) == OK) return 0;
  print_message("%s\n", status_message());
  return -1;
}

static int tear_down(void **state) {
  (void)state;
  backend_destroy(&backend);
  return 0;
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(fp32_agrees),
      cmocka_unit_test(bf16_agrees),
      cmocka_unit_test(fp64_agrees),
  };
  if (argc > 1) backend_name = argv[1];
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
