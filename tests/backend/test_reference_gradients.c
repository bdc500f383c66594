// test_reference_gradients.c: every gradient of the reference against central differences of its forward operation, in
// fp64, along single elements and along one direction through all of them. ranks 1, label unit.
#include "op_cases.h"

#include "base/mem.h"
#include "base/rng.h"
#include "testing.h"

#include <math.h>

// The outputs that a gradient flows from: y, o, and the losses; not statistics.
static double scalar_of(const struct op_case *c, const struct op_values *forward, const double *dy) {
  double sum = 0;
  assert_ok(op_values_run(&c->forward, forward));
  for (int64_t i = 0, n = desc_count(&c->forward.out[0]); i < n; i++) {
    sum += dy[i] * ((const double *)forward->out[0])[i];
  }
  return sum;
}

// The slope of the scalar at t = 0 where x moves by t along `u`: Richardson's rule on two central differences, error h^4.
static double slope_along(const struct op_case *c, const struct op_values *forward, const double *dy, double *x,
                          const double *u, int64_t n) {
  static const double step[2] = {2e-4, 1e-4};
  double slope[2];
  double *kept = NULL;
  assert_ok(mem_alloc(&kept, (size_t)n, sizeof *kept));
  memcpy(kept, x, (size_t)n * sizeof *x);
  for (int k = 0; k < 2; k++) {
    double value[2];
    for (int side = 0; side < 2; side++) {
      for (int64_t i = 0; i < n; i++) x[i] = kept[i] + (side ? -step[k] : step[k]) * u[i];
      value[side] = scalar_of(c, forward, dy);
    }
    slope[k] = (value[0] - value[1]) / (2 * step[k]);
  }
  memcpy(x, kept, (size_t)n * sizeof *x);
  mem_free(&kept);
  return (4 * slope[1] - slope[0]) / 3;
}

static void agree(const struct op_case *c, int output, double met, double want, double scale) {
  char text[OP_TEXT];
  if (fabs(met - want) <= 1e-8 * scale + 1e-11) return;
  fail_msg("%s: output %d: %.12g, by differences %.12g", op_text(&c->op, text), output, met, want);
}

static void check_output(const struct op_case *c, int output, const double *gradient, const struct op_values *forward,
                         const double *dy) {
  enum { MOST = 24 };
  int64_t n = desc_count(&c->op.out[output]);
  double *x = forward->in[gradient_rule_find(c->op.kind, c->op.direction)->wrt[output] - FROM_IN], *u, scale = 0,
         sum = 0;
  struct rng r;
  rng_init(&r, 7, (uint64_t)output);
  assert_ok(mem_alloc(&u, (size_t)n, sizeof *u));
  for (int64_t i = 0; i < n; i++) scale = fmax(scale, fabs(gradient[i]));
  for (int k = 0; k < MOST && k < n; k++) {
    int64_t i = n <= MOST ? k : (int64_t)rng_below(&r, (uint64_t)n);
    u[i] = 1;
    agree(c, output, gradient[i], slope_along(c, forward, dy, x, u, n), scale);
    u[i] = 0;
  }
  for (int64_t i = 0; i < n; i++) {
    u[i] = (rng_uniform(&r) - 0.5) / sqrt((double)n);
    sum += u[i] * gradient[i];
  }
  agree(c, output, sum, slope_along(c, forward, dy, x, u, n), scale);
  mem_free(&u);
}

// What flows into the forward outputs: dy, or the factor of the loss for every sample.
static double *make_dy(const struct op_case *c, const struct op_values *v) {
  int64_t n = desc_count(&c->forward.out[0]);
  double *dy;
  assert_ok(mem_alloc(&dy, (size_t)n, sizeof *dy));
  for (int64_t i = 0; i < n; i++) {
    dy[i] = c->op.kind == OP_SEGMENT_LOSS ? *(const double *)v->in[3] : ((const double *)v->in[0])[i];
  }
  return dy;
}

// The sums that ranks exchange are the gradients of the parameters again.
static void check_sums(const struct op_case *c, const struct op_values *v) {
  int64_t n = desc_count(&c->op.out[0]);
  const double *sums = v->out[2];
  for (int64_t i = 0; i < n; i++) {
    agree(c, 2, sums[i], ((const double *)v->out[0])[i], 1);
    agree(c, 2, sums[n + i], ((const double *)v->out[1])[i], 1);
  }
}

static void check_case(const struct op_case *c) {
  struct op_values v, forward;
  assert_ok(op_values_create(c, false, DTYPE_F64, &v));
  assert_ok(op_values_create(c, true, DTYPE_F64, &forward));
  assert_ok(op_values_run(&c->op, &v));
  double *dy = make_dy(c, &v);
  const struct gradient_rule *rule = gradient_rule_find(c->op.kind, c->op.direction);
  for (int j = 0; j < c->op.outputs; j++) {
    double *gradient = v.out[j];
    if (c->op.out[j].dtype == DTYPE_NONE) continue;
    if (rule->wrt[j] == FROM_DSUMS) {
      check_sums(c, &v);
      continue;
    }
    for (int i = 0; i < c->op.inputs; i++) { // the residual of another path is added to the gradient
      if (rule->in[i] != FROM_RANDOM || !v.in[i]) continue;
      for (int64_t k = 0; k < desc_count(&c->op.out[j]); k++) gradient[k] -= ((const double *)v.in[i])[k];
    }
    check_output(c, j, gradient, &forward, dy);
  }
  mem_free(&dy);
  op_values_destroy(&v);
  op_values_destroy(&forward);
}

static void gradients_agree_with_differences(void **state) {
  (void)state;
  struct op_case *cases;
  size_t count, done = 0;
  bool seen[OP_KINDS][3] = {{false}};
  assert_ok(op_cases_create(&cases, &count));
  for (size_t i = 0; i < count; i++) {
    if (cases[i].size != CASE_SMALL || cases[i].op.direction == FORWARD) continue;
    if (cases[i].op.kind == OP_BATCHNORM && cases[i].op.in[6].dtype != DTYPE_NONE) continue; // see below
    check_case(&cases[i]);
    seen[cases[i].op.kind][cases[i].op.direction] = true;
    done++;
  }
  for (int kind = 0; kind < OP_KINDS; kind++) { // none is left out by the table
    for (int d = BACKWARD_DATA; d <= BACKWARD_WEIGHT; d++) {
      assert_int_equal(seen[kind][d], gradient_rule_find((op_kind_t)kind, (direction_t)d) != NULL);
    }
  }
  print_message("%zu gradients\n", done);
  mem_free(&cases);
}

// A BatchNorm over the batches of up to two ranks, as its parts do it.
enum { ROWS = 7, CHANNELS = 3, RANKS = 2 };
#define W(...) TENSOR_DESC(DTYPE_F64, __VA_ARGS__)
struct batchnorm {
  int ranks;
  double x[RANKS][ROWS * CHANNELS], dy[RANKS][ROWS * CHANNELS], gamma[CHANNELS], beta[CHANNELS];
  double sums[2 * CHANNELS + 1], mean[CHANNELS], var[CHANNELS];
};

static void run_part(const struct op *op, void *const *in, void *const *out) {
  struct op_values v = {.in = {NULL}, .out = {NULL}};
  memcpy(v.in, in, (size_t)op->inputs * sizeof *in);
  memcpy(v.out, out, (size_t)op->outputs * sizeof *out);
  assert_ok(op_values_run(op, &v));
}

// The sum over all ranks of dy . y; fills sums (all ranks'), mean and var.
static double batchnorm_scalar(struct batchnorm *n) {
  struct op sums = {
      .kind = OP_BATCHNORM_SUMS, .inputs = 1, .outputs = 1, .in = {W(ROWS, CHANNELS)}, .out = {W(2 * CHANNELS + 1)}};
  struct op moments = {.kind = OP_BATCHNORM_MOMENTS,
                       .inputs = 3,
                       .outputs = 4,
                       .in = {W(2 * CHANNELS + 1), W(CHANNELS), W(CHANNELS)},
                       .out = {W(CHANNELS), W(CHANNELS)}};
  struct op forward = {.kind = OP_BATCHNORM,
                       .inputs = 6,
                       .outputs = 1,
                       .in = {W(ROWS, CHANNELS), W(CHANNELS), W(CHANNELS), W(CHANNELS), W(CHANNELS)},
                       .out = {W(ROWS, CHANNELS)},
                       .attr.epsilon = 1e-3};
  double part[2 * CHANNELS + 1], running[CHANNELS] = {0}, y[ROWS * CHANNELS], total = 0;
  memset(n->sums, 0, sizeof n->sums);
  for (int rank = 0; rank < n->ranks; rank++) {
    run_part(&sums, (void *[]){n->x[rank]}, (void *[]){part});
    for (int i = 0; i < 2 * CHANNELS + 1; i++) n->sums[i] += part[i];
  }
  run_part(&moments, (void *[]){n->sums, running, running}, (void *[]){n->mean, n->var, NULL, NULL});
  for (int rank = 0; rank < n->ranks; rank++) {
    run_part(&forward, (void *[]){n->x[rank], n->mean, n->var, n->gamma, n->beta, NULL}, (void *[]){y});
    for (int i = 0; i < ROWS * CHANNELS; i++) total += n->dy[rank][i] * y[i];
  }
  return total;
}

// d scalar / d *x
static double batchnorm_slope(struct batchnorm *n, double *x) {
  double slope[2], kept = *x;
  for (int k = 0; k < 2; k++) {
    double h = k ? 1e-3 : 2e-3;
    *x = kept + h;
    double high = batchnorm_scalar(n);
    *x = kept - h;
    slope[k] = (high - batchnorm_scalar(n)) / (2 * h);
    *x = kept;
  }
  return (4 * slope[1] - slope[0]) / 3;
}

static void check_batchnorm(int ranks) {
  struct batchnorm n = {.ranks = ranks};
  struct op weight = {.kind = OP_BATCHNORM,
                      .direction = BACKWARD_WEIGHT,
                      .inputs = 4,
                      .outputs = 3,
                      .in = {W(ROWS, CHANNELS), W(ROWS, CHANNELS), W(CHANNELS), W(CHANNELS)},
                      .out = {W(CHANNELS), W(CHANNELS), W(2 * CHANNELS)},
                      .attr.epsilon = 1e-3};
  struct op data = {.kind = OP_BATCHNORM,
                    .direction = BACKWARD_DATA,
                    .inputs = 7,
                    .outputs = 1,
                    .in = {W(ROWS, CHANNELS), W(ROWS, CHANNELS), W(CHANNELS), W(CHANNELS), W(CHANNELS), W(2 * CHANNELS),
                           W(2 * CHANNELS + 1)},
                    .out = {W(ROWS, CHANNELS)},
                    .attr.epsilon = 1e-3};
  double dgamma[CHANNELS], dbeta[CHANNELS], dsums[2 * CHANNELS], all[2 * CHANNELS] = {0}, dx[ROWS * CHANNELS];
  struct rng r;
  rng_init(&r, 11, (uint64_t)ranks);
  for (int i = 0; i < RANKS * ROWS * CHANNELS; i++) {
    n.x[i / (ROWS * CHANNELS)][i % (ROWS * CHANNELS)] = 0.3 + rng_normal(&r);
    n.dy[i / (ROWS * CHANNELS)][i % (ROWS * CHANNELS)] = rng_normal(&r);
  }
  for (int c = 0; c < CHANNELS; c++) n.gamma[c] = rng_normal(&r), n.beta[c] = rng_normal(&r);
  (void)batchnorm_scalar(&n);
  for (int rank = 0; rank < ranks; rank++) { // what EXCHANGE adds up
    run_part(&weight, (void *[]){n.dy[rank], n.x[rank], n.mean, n.var}, (void *[]){dgamma, dbeta, dsums});
    for (int i = 0; i < 2 * CHANNELS; i++) all[i] += dsums[i];
  }
  for (int rank = 0; rank < ranks; rank++) {
    (void)batchnorm_scalar(&n); // the differences below left their own statistics
    void *in[] = {n.dy[rank], n.x[rank], n.mean, n.var, n.gamma, all, n.sums};
    run_part(&data, in, (void *[]){dx});
    for (int i = 0; i < ROWS * CHANNELS; i++) {
      assert_true(fabs(dx[i] - batchnorm_slope(&n, &n.x[rank][i])) < 1e-8);
    }
  }
  for (int c = 0; c < CHANNELS; c++) {
    assert_true(fabs(all[c] - batchnorm_slope(&n, &n.gamma[c])) < 1e-8);
    assert_true(fabs(all[CHANNELS + c] - batchnorm_slope(&n, &n.beta[c])) < 1e-8);
  }
}

// x -> SUMS -> MOMENTS -> BATCHNORM has the gradient that BACKWARD_WEIGHT, the exchange and BACKWARD_DATA give.
static void batchnorm_through_its_statistics(void **state) {
  (void)state;
  check_batchnorm(1);
  check_batchnorm(2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gradients_agree_with_differences),
      cmocka_unit_test(batchnorm_through_its_statistics),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
