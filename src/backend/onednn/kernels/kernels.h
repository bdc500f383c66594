// kernels.h: what oneDNN has not, or does slowly, as tables of functions: one table an instruction set. All loops are
// split over OpenMP threads; every result has the same bits for any number of threads.
// Data is fp32 or bf16 where a type is given; sums are fp32.
#ifndef GRIDSEG_BACKEND_ONEDNN_KERNELS_KERNELS_H
#define GRIDSEG_BACKEND_ONEDNN_KERNELS_KERNELS_H

#include "backend/backend.h"

// A pointer with its element type.
struct view {
  void *data;
  dtype_t type;
};

// y and a are dense over dim[0..rank); the second operand moves by stride[i] (0: repeated). The innermost stride is 0
// or 1. Neighbouring dims are merged.
struct broadcast {
  int rank;
  int64_t dim[TENSOR_MAX_RANK], stride[TENSOR_MAX_RANK];
};

struct pointwise_kernels {
  void (*activate)(int threads, activation_t a, int64_t n, struct view x, struct view y);
  void (*activate_backward)(int threads, activation_t a, int64_t n, struct view dy, struct view s, struct view dx);
  void (*add)(int threads, const struct broadcast *g, struct view a, struct view b, struct view y);
  void (*multiply)(int threads, const struct broadcast *g, struct view a, struct view b, struct view y);
  void (*expand)(int threads, const struct broadcast *g, struct view x, struct view y);
  void (*cast)(int threads, int64_t n, struct view x, struct view y); // fp64 too
};

// Sums over rows are made of at most REDUCE_CHUNKS parts, whose number depends on the shape alone.
enum { REDUCE_CHUNKS = 32 };

struct norm_kernels {
  void (*forward)(int threads, int64_t rows, int64_t d, float epsilon, struct view x, struct view gamma,
                  struct view beta, struct view y, float *mean, float *rstd);
  void (*backward_data)(int threads, int64_t rows, int64_t d, struct view dy, struct view x, struct view gamma,
                        const float *mean, const float *rstd, struct view r, struct view dx);
  // scratch: REDUCE_CHUNKS * 2 * d floats.
  void (*backward_weight)(int threads, int64_t rows, int64_t d, struct view dy, struct view x, const float *mean,
                          const float *rstd, struct view dgamma, struct view dbeta, float *scratch);
};

// x is dense over dim[]; dims with keep[i] remain. Neighbouring dims of one kind are merged.
struct reduction {
  int rank;
  int64_t dim[TENSOR_MAX_RANK];
  bool keep[TENSOR_MAX_RANK];
};

struct reduce_kernels {
  // y[columns] = sum over the rows of x; scratch: REDUCE_CHUNKS * (columns + 16) floats.
  void (*columns)(int threads, int64_t rows, int64_t columns, struct view x, struct view y, float *scratch);
  void (*sum_to)(int threads, const struct reduction *g, struct view x, struct view y, float *scratch);
  float (*sum_squares)(int threads, int64_t n, struct view x); // in the order that backend.h fixes
};

struct product_kernels {
  // out[wide,narrow] = A' B for A[rows,wide], B[rows,narrow]; narrow is a multiple of 16. turned, when given, becomes its
  // transpose [narrow,wide]; sums, when given, the sums of A's columns.
  void (*skinny)(int threads, int64_t rows, int64_t wide, int64_t narrow, const float *a, const float *b, float *out,
                 float *turned, float *sums);
};

// Statistics of a BATCHNORM over the last dimension, where the direction has them. scratch: scratch_bytes(c).
struct batchnorm {
  int threads;
  int64_t rows, c;
  double epsilon;
  const float *mean, *var;
  void *scratch;
};

// The parts of BATCHNORM as backend.h has them; r, bias: data NULL where left out; dsums and sums NULL: constant statistics.
struct batchnorm_kernels {
  size_t (*scratch_bytes)(int64_t c);
  void (*sums)(const struct batchnorm *b, struct view x, double *sums);
  void (*forward)(const struct batchnorm *b, activation_t a, struct view x, struct view gamma, struct view beta,
                  struct view r, struct view y);
  void (*backward_weight)(const struct batchnorm *b, struct view dy, struct view x, struct view dgamma,
                          struct view dbeta, double *dsums);
  void (*backward_data)(const struct batchnorm *b, struct view dy, struct view x, struct view gamma,
                        const double *dsums, const double *sums, struct view dx);
  // w[c][n]
  void (*fold)(const struct batchnorm *b, int64_t n, struct view w, struct view bias, struct view gamma,
               struct view beta, struct view w_out, struct view bias_out);
};

// A random draw, as backend.h has it at DROPOUT. p is in (0,1).
struct dropout {
  const int32_t *noise; // [batch][4]; NULL: nothing is dropped
  double p;
  int64_t stream;
};

struct dropout_kernels {
  void (*dropout)(int threads, const struct dropout *d, int64_t batch, int64_t n, struct view x, struct view y);
};

struct attention_shape {
  int64_t batch, queries, keys, heads, width; // width of one head
  bool causal;
  float scale;
  struct dropout dropout; // of the probabilities
};

struct attention_kernels {
  size_t (*forward_scratch)(int threads, const struct attention_shape *s);
  void (*forward)(int threads, const struct attention_shape *s, struct view q, struct view k, struct view v,
                  const int32_t *length, struct view o, float *lse, void *scratch);
  size_t (*backward_scratch)(int threads, const struct attention_shape *s);
  void (*backward)(int threads, const struct attention_shape *s, struct view d_o, struct view q, struct view k,
                   struct view v, struct view o, const float *lse, const int32_t *length, struct view dq,
                   struct view dk, struct view dv, void *scratch);
};

// For each place of the output of one axis: weights of places of the input.
struct taps {
  int32_t *first; // [places + 1] into index and weight
  int32_t *index;
  float *weight;
};

// Windows over a picture [batch,h,w,c], a row of a matrix for each place of [batch,h_out,w_out].
struct unrolling {
  int64_t batch, h, w, c, h_out, w_out;
  int kernel[2], stride[2], pad[2], dilation[2];
};

enum { UNROLL_TAPS = 16 }; // of a window, at most

struct picture_kernels {
  // y[b,i,j,c] = sum over rows.., columns.. of weight * x[b,..,..,c]; scratch: threads * (w_in * c + 16) floats.
  void (*resample)(int threads, int64_t batch, int64_t h_in, int64_t w_in, int64_t h_out, int64_t w_out, int64_t c,
                   const struct taps *rows, const struct taps *columns, struct view x, struct view y, float *scratch);
  // DOUBLED_KERNEL between w[o][c][9] and y[c][o][16]; forward writes y, backward w.
  void (*double_kernels)(int threads, bool forward, int64_t o, int64_t c, struct view w, struct view y);
  void (*pixels)(int threads, int64_t n, const float table[3][256], const uint8_t *p, struct view y);
  // Windows of kh x kw that do not overlap, between a picture [B,H*kh,W*kw,C] and a matrix [B*H*W, kh*kw*C].
  void (*gather)(int threads, int64_t batch, int64_t h, int64_t w, int kh, int kw, int64_t c, struct view picture,
                 struct view matrix);
  void (*scatter)(int threads, activation_t a, int64_t batch, int64_t h, int64_t w, int kh, int kw, int64_t c,
                  const float *matrix, const float *bias, struct view picture);
  // matrix[batch*h_out*w_out, c*kh*kw] of elements of 2 or 4 bytes; 0 outside the picture.
  void (*unroll)(int threads, const struct unrolling *u, size_t bytes, const void *picture, void *matrix);
  // The other way: what the windows say of a place is added up, in the order of its rows, then come bias (NULL: none) and
  // activation.
  void (*fold)(int threads, const struct unrolling *u, activation_t a, const float *matrix, const float *bias,
               struct view picture);
};

// Windows over a picture [batch,h,w,c], one a place of [batch,h_out,w_out,c]. Padding: largest values only.
struct pooling {
  int64_t batch, h, w, h_out, w_out, c;
  int kernel[2], stride[2], pad[2];
};

struct pool_kernels {
  void (*max_forward)(int threads, const struct pooling *g, struct view x, struct view y,
                      uint8_t *where); // where: or NULL
  void (*max_backward)(int threads, const struct pooling *g, struct view dy, const uint8_t *where, struct view dx);
  void (*mean_forward)(int threads, const struct pooling *g, struct view x, struct view y);
  void (*mean_backward)(int threads, const struct pooling *g, struct view dy, struct view dx);
};

enum { DEPTHWISE_TAPS = 64 }; // at most, of a window

// From a picture [batch,h,w,c] to one [batch,h_out,w_out,c]. pad may be below 0; pixels beyond the picture are 0.
struct depthwise_shape {
  int64_t batch, h, w, h_out, w_out, c;
  int kernel[2];
  int64_t stride[2], pad[2], dilation[2];
  activation_t activation;
  bool residual_first;
};

struct depthwise_kernels {
  // y = act(conv(x) + bias) + r, or act(conv(x) + bias + r); weights[kh * kw][c]; bias and r may be NULL.
  void (*run)(int threads, const struct depthwise_shape *s, struct view x, const float *weights, const float *bias,
              struct view r, struct view y);
  // dw[c][kh * kw], db[c] (may be NULL); scratch: REDUCE_CHUNKS * (kh * kw + 1) * (c + 16) floats.
  void (*weight)(int threads, const struct depthwise_shape *s, struct view dy, struct view x, struct view dw,
                 struct view db, float *scratch);
};

enum { EACH_TAPS = 256 }; // at most, of a kernel

struct each_shape {
  int64_t batch, h, w, h_out, w_out, c, groups; // groups: of 16 taps
  int kernel[2];
  int64_t pad[2];
  bool shared; // all samples have the first one's kernel; not in backward_data
};

struct each_kernels {
  size_t (*forward_scratch)(int threads, const struct each_shape *s);
  void (*forward)(int threads, const struct each_shape *s, struct view x, struct view w, struct view bias,
                  struct view y, float *scratch);
  size_t (*data_scratch)(const struct each_shape *s);
  void (*backward_data)(int threads, const struct each_shape *s, struct view dy, struct view w, struct view dx,
                        float *scratch);
  size_t (*weight_scratch)(const struct each_shape *s);
  void (*backward_weight)(int threads, const struct each_shape *s, struct view dy, struct view x, struct view dw,
                          struct view db, float *scratch);
};

struct loss_kernels {
  void (*forward)(int threads, loss_t kind, int64_t batch, int64_t n, const float *logits, const uint8_t *target,
                  float *loss, float *sums);
  void (*backward)(int threads, loss_t kind, int64_t batch, int64_t n, const float *logits, const uint8_t *target,
                   const float *sums, float scale, float *dlogits);
  void (*adamw)(int threads, int64_t n, float *p, const float *g, float *m, float *v, const uint8_t *decay,
                const double scalars[8]);
};

struct kernels {
  const char *isa;
  const struct pointwise_kernels *pointwise;
  const struct norm_kernels *norm;
  const struct batchnorm_kernels *batchnorm;
  const struct dropout_kernels *dropout;
  const struct reduce_kernels *reduce;
  const struct product_kernels *product;
  const struct attention_kernels *attention;
  const struct picture_kernels *picture;
  const struct pool_kernels *pool;
  const struct depthwise_kernels *depthwise;
  const struct each_kernels *each;
  const struct loss_kernels *loss;
};

// The tables of the instruction sets that this build holds, and the best that this machine runs.
extern const struct kernels kernels_generic;
#ifdef GRIDSEG_KERNELS_X86
extern const struct kernels kernels_avx2, kernels_avx512, kernels_avx512bf16;
#endif
const struct kernels *kernels_choose(void);

#endif
