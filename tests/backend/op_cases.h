// op_cases.h: the one table of operations that every test of a backend, and op_perf, goes through. Rows are forward
// operations; the gradients follow from them by rule.
#ifndef GRIDSEG_TESTS_BACKEND_OP_CASES_H
#define GRIDSEG_TESTS_BACKEND_OP_CASES_H

#include "backend/backend.h"

typedef enum {
  CASE_SMALL, // any shape, few elements: gradients are checked against differences too
  CASE_REAL,  // a shape of a model that the reference gets through in well under a second
  CASE_PERF,  // a shape of a model that only op_perf runs
} case_size_t;

typedef enum { MASK_RANDOM, MASK_EMPTY, MASK_FULL } case_mask_t;

struct op_case {
  case_size_t size;
  double amplitude;  // standard deviation of the data
  case_mask_t mask;  // SEGMENT_LOSS
  struct op forward; // what `op` is, or is the gradient of; float operands are f32
  struct op op;
};

// All cases: each row forward, and each plain row (no epilogue) in every other direction, with and without what a
// gradient may leave out (the residual of LINEAR and LAYERNORM, the sums of BATCHNORM).
// Freed with mem_free.
status_t op_cases_create(struct op_case **out, size_t *count);

// The operation with float operands of `type` (statistics f32, or f64 when type is f64; sums and scalars stay f64).
struct op op_of_type(const struct op *op, dtype_t type);
bool op_is_statistic(const struct op *op, bool out, int i);
bool op_is_sum(const struct op *op, bool out, int i); // always f64

// Where the operands of a gradient come from. A place is one of these, or FROM_IN + i, FROM_OUT + i of the forward
// operation.
// FROM_DSUMS, as an output: what BATCHNORM's parameters get, again, in f64.
enum { FROM_DY = 1, FROM_RANDOM, FROM_SCALE, FROM_SLOPE, FROM_DSUMS, FROM_SUMS, FROM_IN = 16, FROM_OUT = 32 };
struct gradient_rule {
  op_kind_t kind;
  direction_t direction;
  int in[OP_MAX_IN];   // 0 ends
  int wrt[OP_MAX_OUT]; // inputs of the forward operation that the outputs belong to, FROM_IN + i; 0 ends
};
const struct gradient_rule *gradient_rule_find(op_kind_t kind, direction_t direction);

// Values of an operation as the tests hold them: float operands as double, others in their own type, NULL where left
// out. `type`: every float value is one that this type can hold.
struct op_values {
  void *in[OP_MAX_IN], *out[OP_MAX_OUT];
};
// Inputs of a case, the same in every run, for `op` or (forward = true) for its forward operation; outputs allocated.
status_t op_values_create(const struct op_case *c, bool forward, dtype_t type, struct op_values *out);
void op_values_destroy(struct op_values *v);
// Zeroed memory for all operands of an operation.
status_t op_values_allocate(const struct op *op, struct op_values *out);
// Run the f64 form of `op` on the reference.
status_t op_values_run(const struct op *op, const struct op_values *v);

#endif
