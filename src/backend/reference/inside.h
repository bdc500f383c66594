// inside.h: what the files of the reference backend share.
#ifndef GRIDSEG_BACKEND_REFERENCE_INSIDE_H
#define GRIDSEG_BACKEND_REFERENCE_INSIDE_H

#include "backend/backend.h"

// One run: float operands widened to double, index and byte operands as they are; NULL where left out. Outputs are
// rounded to their types, and written, after the run.
struct run {
  const struct op *op;
  const double *in[OP_MAX_IN];
  const void *raw[OP_MAX_IN];
  double *out[OP_MAX_OUT];
  void *raw_out[OP_MAX_OUT]; // byte outputs, which a run writes itself
  double *work;              // reference_work(op) doubles, any content
};

// Doubles of working memory that an operation wants beside its operands.
size_t reference_work(const struct op *op);

status_t run_linear(const struct run *r);
status_t run_conv(const struct run *r); // CONV and CONV_TRANSPOSE
status_t run_conv_each(const struct run *r);
status_t run_activation(const struct run *r);
status_t run_binary(const struct run *r); // ADD, MULTIPLY
status_t run_sum_to(const struct run *r);
status_t run_expand(const struct run *r);
status_t run_cast(const struct run *r);
status_t run_pixels(const struct run *r);
status_t run_layernorm(const struct run *r);
status_t run_batchnorm_sums(const struct run *r);
status_t run_batchnorm_moments(const struct run *r);
status_t run_batchnorm(const struct run *r);
status_t run_batchnorm_fold(const struct run *r);
status_t run_doubled_kernel(const struct run *r);
status_t run_dropout(const struct run *r);
status_t run_attention(const struct run *r);
status_t run_embed(const struct run *r);
status_t run_take_row(const struct run *r);
status_t run_take_plane(const struct run *r);
status_t run_pool(const struct run *r);
status_t run_concat(const struct run *r);
status_t run_slice(const struct run *r);
status_t run_transpose(const struct run *r);
status_t run_resize(const struct run *r);
status_t run_segment_loss(const struct run *r);
status_t run_sum_squares(const struct run *r);
status_t run_adamw(const struct run *r);

// act(x), and act'(x) from s as the contract has it.
double activation_value(activation_t activation, double x);
double activation_slope(activation_t activation, double s);
double sigmoid(double x);

// What dropout multiplies an element of one sample with: 1 / (1 - p), or 0.
double dropout_factor(const struct op *op, const int32_t noise[4], int64_t element);

double dot(const double *a, const double *b, int64_t n);    // in eight interleaved sums
void axpy(double *y, double a, const double *x, int64_t n); // y += a x
void fill(double *y, double value, int64_t n);              // y = value
void column_sums(double *y, const double *x, int64_t rows, int64_t columns);
// y = act(y + b) + r, or act(y + b + r) where the operation says so, in place; b and r may be NULL.
void epilogue(const struct op *op, double *y, const double *b, const double *r);

#endif
