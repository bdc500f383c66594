// test_dropout.c: the masks of DROPOUT and of ATTENTION's dropout on a backend (the argument, else "reference"): how often
// an element stays, and that this depends on nothing but its place, sample, step, stream and seed. ranks 1, label unit.
#include "op_device.h"

#include "base/mem.h"
#include "testing.h"

#include <math.h>

#define F(...) TENSOR_DESC(DTYPE_F32, __VA_ARGS__)
#define I(...) TENSOR_DESC(DTYPE_I32, __VA_ARGS__)

static const char *backend_name = "reference";
static struct backend *backend;

// y of `op` whose inputs are `in`, as double; freed with mem_free.
static double *run(const struct op *op, void *const *in) {
  struct op_values v = {.in = {NULL}, .out = {NULL}};
  struct op_device d;
  double *y = NULL;
  assert_true(backend->ops->supports(backend, op));
  memcpy(v.in, in, (size_t)op->inputs * sizeof *in);
  assert_ok(op_device_create(backend, op, &v, NULL, &d));
  assert_ok(op_device_run(&d));
  assert_ok(op_device_values(&d, 0, &y));
  op_device_destroy(&d);
  return y;
}

enum { BATCH = 4, EACH = 5000 };

// Dropout of ones: 1 / (1 - p) or 0 for samples [first, first + count) of a batch.
static double *mask(double p, int64_t stream, const int32_t noise[BATCH][4], int first, int count) {
  static double ones[BATCH * EACH];
  struct op op = {.kind = OP_DROPOUT,
                  .inputs = 2,
                  .outputs = 1,
                  .in = {F(count, EACH), I(count, 4)},
                  .out = {F(count, EACH)},
                  .attr = {.dropout = p, .stream = stream}};
  int32_t part[BATCH][4];
  memcpy(part, noise + first, (size_t)count * sizeof *part);
  for (int i = 0; i < BATCH * EACH; i++) ones[i] = 1;
  return run(&op, (void *[]){ones, part});
}

static void make_noise(int32_t noise[BATCH][4], int32_t seed, int32_t step) {
  for (int b = 0; b < BATCH; b++) {
    noise[b][0] = seed;
    noise[b][1] = -seed;
    noise[b][2] = step;
    noise[b][3] = b;
  }
}

// Elements that both masks keep or both drop.
static int agreeing(const double *a, const double *b, int n) {
  int count = 0;
  for (int i = 0; i < n; i++) count += (a[i] > 0) == (b[i] > 0);
  return count;
}

// Two masks with probability p that have nothing to do with each other agree in n (p^2 + (1-p)^2) places, give or take.
static void unrelated(const double *a, const double *b, double p, int n) {
  double q = p * p + (1 - p) * (1 - p);
  assert_true(fabs(agreeing(a, b, n) - n * q) < 5 * sqrt(n * q * (1 - q)));
}

static void an_element_stays_as_often_as_asked(void **state) {
  (void)state;
  static const double p[] = {0.1, 0.2, 0.5};
  int32_t noise[BATCH][4];
  make_noise(noise, 7, 1);
  for (size_t k = 0; k < sizeof p / sizeof *p; k++) {
    double *y = mask(p[k], 0, noise, 0, BATCH), kept = 0;
    for (int i = 0; i < BATCH * EACH; i++) {
      assert_true(y[i] == 0 || fabs(y[i] - 1 / (1 - p[k])) < 1e-6);
      kept += y[i] > 0;
    }
    assert_true(fabs(kept - BATCH * EACH * (1 - p[k])) < 5 * sqrt(BATCH * EACH * p[k] * (1 - p[k])));
    for (int b = 1; b < BATCH; b++) unrelated(y, y + b * EACH, p[k], EACH); // samples
    unrelated(y, y + 1, p[k], EACH - 1);                                    // neighbours
    unrelated(y, y + 4, p[k], EACH - 4);
    mem_free(&y);
  }
}

static void every_part_of_the_number_counts(void **state) {
  (void)state;
  int32_t noise[BATCH][4], other[BATCH][4];
  make_noise(noise, 7, 1);
  double *y = mask(0.5, 0, noise, 0, BATCH);
  for (int what = 0; what < 5; what++) {
    memcpy(other, noise, sizeof other);
    for (int b = 0; b < BATCH && what < 4; b++) other[b][what] += BATCH; // low, high, step, sample
    double *z = mask(0.5, what == 4, other, 0, BATCH);
    unrelated(y, z, 0.5, BATCH * EACH);
    mem_free(&z);
  }
  mem_free(&y);
}

static void a_split_batch_draws_the_same(void **state) {
  (void)state;
  int32_t noise[BATCH][4];
  make_noise(noise, 3, 5);
  double *whole = mask(0.2, 4, noise, 0, BATCH);
  for (int b = 0; b < BATCH; b++) {
    double *one = mask(0.2, 4, noise, b, 1);
    assert_memory_equal(one, whole + b * EACH, EACH * sizeof *one);
    mem_free(&one);
  }
  double *rest = mask(0.2, 4, noise, 1, BATCH - 1);
  assert_memory_equal(rest, whole + EACH, (BATCH - 1) * EACH * sizeof *rest);
  mem_free(&rest);
  mem_free(&whole);
}

// With q = 0 all probabilities are 1 / KEYS, and v = one-hot rows show each of them: o[query, head KEYS + key].
enum { QUERIES = 37, KEYS = 16, HEADS = 2, WIDTH = HEADS * KEYS };
static double *attention_mask(const int32_t noise[BATCH][4], int first, int count) {
  static double q[BATCH * QUERIES * WIDTH], v[BATCH * KEYS * WIDTH];
  struct op op = {.kind = OP_ATTENTION,
                  .inputs = 5,
                  .outputs = 2,
                  .in = {F(count, QUERIES, WIDTH), F(count, KEYS, WIDTH), F(count, KEYS, WIDTH), {0}, I(count, 4)},
                  .out = {F(count, QUERIES, WIDTH)},
                  .attr = {.heads = HEADS, .scale = 1, .dropout = 0.2, .stream = 6}};
  int32_t part[BATCH][4];
  memcpy(part, noise + first, (size_t)count * sizeof *part);
  for (int i = 0; i < BATCH * KEYS; i++) {
    for (int c = 0; c < WIDTH; c++) v[i * WIDTH + c] = c % KEYS == i % KEYS;
  }
  return run(&op, (void *[]){q, v, v, NULL, part});
}

static void attention_draws_by_place(void **state) {
  (void)state;
  int32_t noise[BATCH][4];
  double kept = 0, n = BATCH * QUERIES * WIDTH;
  make_noise(noise, 9, 2);
  double *whole = attention_mask(noise, 0, BATCH);
  for (int i = 0; i < BATCH * QUERIES * WIDTH; i++) {
    assert_true(whole[i] == 0 || fabs(whole[i] - 1 / 0.8 / KEYS) < 1e-6);
    kept += whole[i] > 0;
  }
  assert_true(fabs(kept - 0.8 * n) < 5 * sqrt(n * 0.2 * 0.8));
  for (int b = 1; b < BATCH; b++) unrelated(whole, whole + b * QUERIES * WIDTH, 0.2, QUERIES * WIDTH);
  unrelated(whole, whole + KEYS, 0.2, QUERIES * WIDTH - KEYS); // the other head
  for (int b = 0; b < BATCH; b++) {
    double *one = attention_mask(noise, b, 1);
    assert_memory_equal(one, whole + b * QUERIES * WIDTH, QUERIES * WIDTH * sizeof *one);
    mem_free(&one);
  }
  mem_free(&whole);
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
      cmocka_unit_test(an_element_stays_as_often_as_asked),
      cmocka_unit_test(every_part_of_the_number_counts),
      cmocka_unit_test(a_split_batch_draws_the_same),
      cmocka_unit_test(attention_draws_by_place),
  };
  if (argc > 1) backend_name = argv[1];
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
