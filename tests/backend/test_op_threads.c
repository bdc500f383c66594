// test_op_threads.c: operations whose bits may not depend on the number of threads, on a backend (the argument, else "reference")
// with 1, 2, 3 and 5 threads. Products are left out: their libraries cut a long sum by the threads. ranks 1, label cpu.
#include "op_device.h"

#include "base/mem.h"
#include "testing.h"

enum { BACKENDS = 4 };
static const int threads[BACKENDS] = {1, 2, 3, 5};
static const char *backend_name = "reference";
static struct backend *backend[BACKENDS];

static bool is_fixed(op_kind_t kind) {
  switch (kind) {
  case OP_BATCHNORM_SUMS:
  case OP_BATCHNORM_MOMENTS:
  case OP_BATCHNORM:
  case OP_BATCHNORM_FOLD:
  case OP_LAYERNORM:
  case OP_DROPOUT:
  case OP_ATTENTION:
  case OP_POOL:
  case OP_TAKE_PLANE:
  case OP_CONV_EACH:
  case OP_DOUBLED_KERNEL:
  case OP_RESIZE:
  case OP_SUM_SQUARES: return true;
  default: return false;
  }
}

static void same_bits(const struct op_case *c, dtype_t type) {
  struct op op = op_of_type(&c->op, type);
  struct op_values v;
  char text[OP_TEXT];
  uint8_t *first[OP_MAX_OUT] = {NULL};
  assert_ok(op_values_create(c, false, type, &v));
  for (int b = 0; b < BACKENDS; b++) {
    struct op_device d;
    assert_ok(op_device_create(backend[b], &op, &v, NULL, &d));
    assert_ok(op_device_run(&d));
    for (int j = 0; j < op.outputs; j++) {
      uint8_t *met = NULL;
      if (op.out[j].dtype == DTYPE_NONE) continue;
      assert_ok(op_device_fetch(&d, j, &met));
      if (!first[j]) {
        first[j] = met;
        continue;
      }
      if (memcmp(met, first[j], desc_bytes(&op.out[j])) != 0) {
        fail_msg("%s: output %d differs with %d threads", op_text(&op, text), j, threads[b]);
      }
      mem_free(&met);
    }
    op_device_destroy(&d);
  }
  for (int j = 0; j < op.outputs; j++) mem_free(&first[j]);
  op_values_destroy(&v);
}

static void bits_do_not_depend_on_threads(void **state) {
  (void)state;
  struct op_case *cases;
  size_t count;
  int done = 0;
  assert_ok(op_cases_create(&cases, &count));
  case_size_t most = strcmp(backend_name, "reference") != 0 ? CASE_REAL : CASE_SMALL;
  for (size_t i = 0; i < count; i++) {
    for (dtype_t type = DTYPE_F32; cases[i].size <= most && is_fixed(cases[i].op.kind);) {
      struct op op = op_of_type(&cases[i].op, type);
      if (backend[0]->ops->supports(backend[0], &op)) {
        same_bits(&cases[i], type);
        done++;
      }
      if (type == DTYPE_BF16) break;
      type = DTYPE_BF16;
    }
  }
  print_message("%s: %d operations give the same bits\n", backend_name, done);
  assert_true(done > 100);
  mem_free(&cases);
}

static int set_up(void **state) {
  (void)state;
  for (int b = 0; b < BACKENDS; b++) {
    if (backend_create(backend_name, threads[b], &backend[b]) != OK) {
      print_message("%s\n", status_message());
      return -1;
    }
  }
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  for (int b = 0; b < BACKENDS; b++) backend_destroy(&backend[b]);
  return 0;
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(bits_do_not_depend_on_threads)};
  if (argc > 1) backend_name = argv[1];
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
