// test_op_pool.c: POOL on values that a comparison of random numbers does not reach, on a backend (the argument, else
// "reference"): equal ones, infinities and NaN, each as torch.nn.functional.max_pool2d has it. ranks 1, label unit.
#include "op_device.h"

#include "base/mem.h"
#include "testing.h"

#include <math.h>

enum { WINDOWS = 8, PIXELS = 4, MOST = 72 };
static const char *backend_name = "reference";
static struct backend *backend;

// Windows of 2 x 2 side by side, as rows of four.
static const double window[WINDOWS][PIXELS] = {
    {1, 2, 3, 4},
    {4, 3, 2, 1},
    {5, 5, 5, 5},
    {-1, -2, -1, -3},
    {-INFINITY, -INFINITY, -INFINITY, -INFINITY},
    {INFINITY, NAN, INFINITY, 0},
    {1, 2, NAN, NAN},
    {-INFINITY, 0, INFINITY, -1},
};
static const double largest[WINDOWS] = {4, 4, 5, -1, -INFINITY, NAN, NAN, INFINITY};
static const uint8_t tap[WINDOWS] = {3, 0, 0, 0, 0, 1, 2, 2};

static void pool_of(int64_t channels, dtype_t type) {
  struct op op = {.kind = OP_POOL,
                  .inputs = 1,
                  .outputs = 2,
                  .in = {TENSOR_DESC(type, 1, 2, 2 * WINDOWS, channels)},
                  .out = {TENSOR_DESC(type, 1, 1, WINDOWS, channels), TENSOR_DESC(DTYPE_U8, 1, 1, WINDOWS, channels)},
                  .attr = {.pool = POOL_MAX, .kernel = {2, 2}, .stride = {2, 2}}};
  static double x[2 * 2 * WINDOWS * MOST];
  for (int row = 0; row < 2; row++) {
    for (int column = 0; column < 2 * WINDOWS; column++) {
      for (int64_t c = 0; c < channels; c++) { // another window in every channel
        int from = (column / 2 + (int)c) % WINDOWS;
        x[(row * 2 * WINDOWS + column) * channels + c] = window[from][row * 2 + column % 2];
      }
    }
  }
  struct op_values v = {.in = {x}, .out = {NULL}};
  struct op_device d;
  double *y = NULL;
  uint8_t *where = NULL;
  assert_ok(op_device_create(backend, &op, &v, NULL, &d));
  assert_ok(op_device_run(&d));
  assert_ok(op_device_values(&d, 0, &y));
  assert_ok(op_device_fetch(&d, 1, &where));
  for (int64_t i = 0; i < WINDOWS * channels; i++) {
    int from = (int)((i / channels + i % channels) % WINDOWS);
    if (isnan(largest[from])) {
      assert_true(isnan(y[i]));
    } else {
      assert_true(y[i] == largest[from]);
    }
    assert_int_equal(where[i], tap[from]);
  }
  mem_free(&y);
  mem_free(&where);
  op_device_destroy(&d);
}

static void largest_of_special_values(void **state) {
  (void)state;
  static const int64_t channels[] = {1, 5, 16, MOST};
  for (int i = 0; i < 4; i++) {
    pool_of(channels[i], DTYPE_F32);
    pool_of(channels[i], DTYPE_BF16);
  }
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
  const struct CMUnitTest tests[] = {cmocka_unit_test(largest_of_special_values)};
  if (argc > 1) backend_name = argv[1];
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
