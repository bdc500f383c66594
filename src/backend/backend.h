// backend.h: what a backend is, and the contract of every operation.
//
// A backend turns an operation (a plain descriptor) into a plan once, and runs the plan many times:
//   supports(op) -> plan_create(op) -> plan_run(plan, operands, scratch, stream) ... -> plan_destroy
// This is what oneDNN primitives, cuDNN execution plans and cuBLASLt algorithms have in common, and it keeps allocation
// out of the step. The reference backend supports every operation and direction in fp32 and fp64 and is the oracle of
// the others; a refusal is an error when the model is built, never in mid-epoch. No backend knows a model.
#ifndef GRIDSEG_BACKEND_BACKEND_H
#define GRIDSEG_BACKEND_BACKEND_H

#include "tensor/tensor.h"

// The operations. "x?" is an operand that may be left out (DTYPE_NONE, pointer NULL). Shapes as in tensor.h.
// BACKWARD_DATA gives the gradient of the data inputs, BACKWARD_WEIGHT that of the parameters; every output is
// overwritten, never added to. `dy` has the shape of y. Index operands are int32. Operands that are left out count in
// `inputs` and `outputs`. No dimension is 0.
// Types: float operands are f32 or bf16 in any mixture, or all of them f64; "f32" below means "f32, and f64 when the
// data are f64" (so that gradients can be checked in f64). The reference takes all of this; the other backends say in
// `supports` what they take.
//
//  LINEAR
//    FORWARD          x[..,K] w[N,K] b?[N] r?[..,N] -> y[..,N] = act(x w' + b) + r
//    BACKWARD_DATA    dy[..,N] w[N,K] r?[..,K]      -> dx[..,K] = dy w + r
//    BACKWARD_WEIGHT  dy[..,N] x[..,K]              -> dw[N,K], db?[N]
//  CONV
//    FORWARD          x[B,H,W,C] w[O,C/g,kh,kw] b?[O] r?[B,Ho,Wo,O] -> y[B,Ho,Wo,O] = act(conv(x,w) + b) + r,
//                     with attr.residual_first act(conv(x,w) + b + r)
//    BACKWARD_DATA    dy w -> dx
//    BACKWARD_WEIGHT  dy x -> dw, db?
//  CONV_TRANSPOSE
//    FORWARD          x[B,H,W,C] w[C,O,kh,kw] b?[O] -> y[B,Ho,Wo,O] = act(.. + b), Ho = (H-1) stride - 2 pad + kh
//    BACKWARD_DATA    dy w -> dx
//    BACKWARD_WEIGHT  dy x -> dw, db?
//  ACTIVATION
//    FORWARD          x -> y
//    BACKWARD_DATA    dy s -> dx       s is y for relu, sigmoid, tanh and x for quickgelu, gelu_erf
//  ADD, MULTIPLY
//    FORWARD          a b -> y         y has a's shape; b's dims, right-aligned, are equal or 1 (numpy)
//  SUM_TO
//    FORWARD          x -> y           sum over the dims where y (right-aligned) has 1 or none
//  EXPAND
//    FORWARD          x -> y           x repeated over the dims where it (right-aligned) has 1 or none
//  LAYERNORM
//    FORWARD          x[..,D] gamma[D] beta[D]  -> y, mean?[rows] f32, rstd?[rows] f32
//    BACKWARD_DATA    dy x gamma mean rstd r?   -> dx + r
//    BACKWARD_WEIGHT  dy x mean rstd            -> dgamma, dbeta
//  BATCHNORM          over all dims but the last, in parts, so that ranks can exchange sums between them. rows = product of
//                     the other dims, summed over ranks. One value a channel gives var 0 (torch refuses it).
//  BATCHNORM_SUMS
//    FORWARD          x[..,C]                   -> sums[2C+1] f64: sum x, sum x^2, rows
//  BATCHNORM_MOMENTS
//    FORWARD          sums running_mean[C] running_var[C] -> mean[C] f32, var[C] f32 (biased), new_mean?[C], new_var?[C]:
//                     (1-momentum) running + momentum (mean, unbiased var); may be the memory of the running statistics
//  BATCHNORM
//    FORWARD          x[..,C] mean[C] var[C] gamma[C] beta[C] r?[..,C] -> y = act(gamma (x - mean) / sqrt(var+eps) + beta + r)
//    BACKWARD_WEIGHT  dy x mean var             -> dgamma[C], dbeta[C], dsums[2C] f64: sum dy xhat, sum dy (of this rank)
//    BACKWARD_DATA    dy x mean var gamma dsums? sums? -> dx = gamma rstd (dy - (sum dy + xhat sum dy xhat) / rows); without dsums
//                     and sums, mean and var are constants: dx = gamma rstd dy
//  BATCHNORM_FOLD     a convolution that is followed by a BATCHNORM with constant mean and var, as one convolution
//    FORWARD          w[O,..] b?[O] mean[O] var[O] gamma[O] beta[O] -> w gamma rstd, beta + (b - mean) gamma rstd
//  DOUBLED_KERNEL     CONV (3x3, stride 1, pad 1) of a picture at twice its size (RESIZE nearest) is CONV_TRANSPOSE (4x4, stride 2, pad 1)
//                     of the picture itself, with kernels that hold sums: m w m', the rows of m being 001 011 110 100
//    FORWARD          w[O,C,3,3]                -> y[C,O,4,4]
//    BACKWARD_DATA    dy                        -> dw = m' dy m
//  EXCHANGE           the sum over all ranks, in rank order. No backend does it: executable.exchange does
//    FORWARD          x[n] f64                  -> y[n] f64
//  DROPOUT            y = x / (1-p) where the element's word is at least p 2^32, else 0. The word of element e (within its
//                     sample) is rng_block(seed, sample << 32 | step, stream << 32 | e / 4)[e % 4], where noise[b] = seed low,
//                     seed high, step, sample and stream is attr.stream: the same for any split of a batch
//    FORWARD          x[B,..] noise[B,4]        -> y
//    BACKWARD_DATA    dy noise                  -> dx
//  ATTENTION          o = softmax(scale q k') v in each head; causal: key j <= query i; keys j >= length[b] are masked;
//                     a length outside [1,S] is ERR_NUMERIC. With attr.dropout the probabilities go through DROPOUT, element
//                     ((head T + query) << 16) + key; lse and o are those of the same draw
//    FORWARD          q[B,T,N*d] k[B,S,N*d] v[B,S,N*d] length?[B] noise?[B,4] -> o[B,T,N*d], lse?[B,N,T] f32 (log-sum-exp of the scores)
//    BACKWARD_DATA    do q k v o lse length? noise? -> dq, dk, dv
//  EMBED              an id outside [0,V) is ERR_NUMERIC
//    FORWARD          id[B,L] table[V,D]        -> y[B,L,D]
//    BACKWARD_WEIGHT  dy id                     -> dtable[V,D]
//  TAKE_ROW           a row outside [0,T) is ERR_NUMERIC
//    FORWARD          x[B,T,D] row[B]           -> y[B,D] = x[b,row[b],:]
//    BACKWARD_DATA    dy row                    -> dx[B,T,D], zero elsewhere
//  CONCAT
//    FORWARD          x0 .. x(n-1)              -> y, joined along attr.axis
//  SLICE
//    FORWARD          x                         -> y = x[start : start + y.dim[axis]] along attr.axis
//    BACKWARD_DATA    dy                        -> dx, zero elsewhere
//  TRANSPOSE
//    FORWARD          x -> y                    y.dim[i] = x.dim[permutation[i]]
//  CAST
//    FORWARD          x -> y                    f32, f64, bf16 among each other
//  TAKE_PLANE         a plane outside [0,P) is ERR_NUMERIC
//    FORWARD          x[B,H,W,P] plane[B]       -> y[B,H,W] = x[b,:,:,plane[b]]
//    BACKWARD_DATA    dy plane                  -> dx[B,H,W,P], zero elsewhere
//  CONV_EACH          every sample has a kernel of its own, stride 1, one output channel
//    FORWARD          x[B,H,W,C] w[B,C,kh,kw] b?[B] -> y[B,Ho,Wo,1]
//    BACKWARD_DATA    dy w                      -> dx
//    BACKWARD_WEIGHT  dy x                      -> dw, db?
//  POOL               attr.kernel, stride, pad. max: padding never wins, the first of equals does; average: no padding
//    FORWARD          x[B,H,W,C]                -> y[B,Ho,Wo,C], where? u8 [B,Ho,Wo,C] (max: ky * kw + kx of the winner)
//    BACKWARD_DATA    dy where?                 -> dx
//  RESIZE             nearest (floor(i in / out)) | bilinear | bicubic (a = -0.75), half-pixel centres or aligned corners,
//                     no antialiasing, edges clamped: torch.nn.functional.interpolate
//    FORWARD          x[B,H,W,C]                -> y[B,H2,W2,C]
//    BACKWARD_DATA    dy                        -> dx
//  PIXELS
//    FORWARD          p[B,H,W,3] u8             -> y = (p/255 - mean[c]) / std[c]
//  SEGMENT_LOSS       p = sigmoid(logit), t = target, 0 or 1; the loss of one sample is
//                       dice_only  1 - (2 sum pt + 1e-5) / (sum p + sum t + 1e-5)     (MONAI DiceLoss)
//                       dice_ce    dice_only + 0.2 mean BCE(logit, t)
//                       monai14    dice_only + 0.2 mean BCE(logit := p, t)
//    FORWARD          logits[B,H,W] target[B,H,W] u8   -> loss[B] f32, sums[B,4] f32: sum p, sum t, sum pt, sum BCE (dice_only: 0)
//    BACKWARD_DATA    logits target sums scale[1] f32  -> dlogits = scale dloss[b]/dlogits
//  SUM_SQUARES        in a fixed order, the same bits for any number of threads and any backend: each chunk of 4096
//                     elements is summed in double from its first to its last (fma or not: x^2 of f32 is exact in
//                     double), then the sums of the chunks in order, then rounded once
//    FORWARD          x[n]                      -> y[1] f32
//  ADAMW              torch.optim.AdamW: p -= lr wd p (where decay); m, v; p -= lr/bc1 m / (sqrt(v)/sqrt(bc2) + eps)
//    FORWARD          p[n] g[n] m[n] v[n] decay[n] u8 scalars[8] f64 -> p, m, v (out 0..2, in place: the same memory as in 0, 2, 3)
//                     scalars (always f64: 1 - 0.999 from an f32 is wrong by 5e-5) = lr, beta1, beta2, eps, weight decay, bc1 = 1-beta1^t, bc2 = 1-beta2^t, factor on g (clip)
typedef enum {
  OP_LINEAR,
  OP_CONV,
  OP_CONV_TRANSPOSE,
  OP_ACTIVATION,
  OP_ADD,
  OP_MULTIPLY,
  OP_SUM_TO,
  OP_EXPAND,
  OP_LAYERNORM,
  OP_BATCHNORM_SUMS,
  OP_BATCHNORM_MOMENTS,
  OP_BATCHNORM,
  OP_BATCHNORM_FOLD,
  OP_DOUBLED_KERNEL,
  OP_EXCHANGE,
  OP_DROPOUT,
  OP_ATTENTION,
  OP_EMBED,
  OP_TAKE_ROW,
  OP_TAKE_PLANE,
  OP_CONV_EACH,
  OP_POOL,
  OP_CONCAT,
  OP_SLICE,
  OP_TRANSPOSE,
  OP_CAST,
  OP_RESIZE,
  OP_PIXELS,
  OP_SEGMENT_LOSS,
  OP_SUM_SQUARES,
  OP_ADAMW,
  OP_KINDS
} op_kind_t;

typedef enum { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHT } direction_t;
typedef enum { ACT_NONE, ACT_RELU, ACT_QUICKGELU, ACT_GELU_ERF, ACT_SIGMOID, ACT_TANH } activation_t;
typedef enum { RESIZE_BILINEAR, RESIZE_BICUBIC, RESIZE_NEAREST } resize_t;
typedef enum { POOL_MAX, POOL_AVERAGE } pool_t;
typedef enum { LOSS_DICE_CE, LOSS_DICE_ONLY, LOSS_MONAI14 } loss_t;

const char *op_kind_name(op_kind_t kind);
const char *direction_name(direction_t direction);
const char *activation_name(activation_t activation);

enum { OP_MAX_IN = 8, OP_MAX_OUT = 4 };

// One operation: kind, direction, the types and shapes of its operands, and the attributes of its kind. Attributes that
// a kind does not use stay zero, so that two equal operations have equal bytes (plans are cached by them).
struct op {
  op_kind_t kind;
  direction_t direction;
  int inputs, outputs;
  struct tensor_desc in[OP_MAX_IN], out[OP_MAX_OUT];
  unsigned constant; // bit i: in[i] never changes during the life of the plan (frozen weights): it may be packed once
  struct {
    activation_t activation;                    // LINEAR, CONV, CONV_TRANSPOSE, BATCHNORM (epilogue), ACTIVATION
    int residual_first;                         // CONV
    int stride[2], pad[2], dilation[2], groups; // CONV, CONV_TRANSPOSE, POOL, CONV_EACH (pad) (height, width)
    pool_t pool;                                // POOL
    int kernel[2];                              // POOL
    int heads, causal;                          // ATTENTION
    double scale;                               // ATTENTION
    double epsilon;                             // LAYERNORM, BATCHNORM, BATCHNORM_FOLD
    double momentum;                            // BATCHNORM_MOMENTS
    double dropout;                             // DROPOUT, ATTENTION: the probability of a zero
    int64_t stream;                             // DROPOUT, ATTENTION: number of the random stream, below 2^32
    int axis;                                   // CONCAT, SLICE
    int64_t start;                              // SLICE
    int permutation[TENSOR_MAX_RANK];           // TRANSPOSE
    resize_t resize;                            // RESIZE
    int align_corners;                          // RESIZE
    double mean[3], std[3];                     // PIXELS
    loss_t loss;                                // SEGMENT_LOSS
  } attr;
};

// Operand counts, ranks, dims and attributes agree with the contract above: ERR_SHAPE names kind, direction and
// operand. Every backend calls this first.
status_t op_check(const struct op *op);
// "LINEAR forward fp32 [4,485,768] fp32 [3072,768] -> fp32 [4,485,3072]".
enum { OP_TEXT = 512 };
const char *op_text(const struct op *op, char text[OP_TEXT]);
// Floating-point operations of one run (multiply and add count as two): LINEAR, CONV, CONV_TRANSPOSE, ATTENTION; else
// 0.
double op_flops(const struct op *op);

struct backend;
struct plan;   // one operation made ready by one backend
struct stream; // an ordered queue of work; NULL is the default stream of the backend
struct event;

// Capabilities of a backend.
enum {
  BACKEND_ASYNC = 1,  // plan_run may return before the work is done: wait with stream_wait or events
  BACKEND_GRAPHS = 2, // graph_begin, graph_end, graph_launch are there
  BACKEND_BF16 = 4,   // bf16 operands for LINEAR, CONV, ATTENTION and their neighbours are faster than fp32
};

struct backend_ops {
  const char *name; // "reference", "onednn"
  // Numerics version: part of feature keys and state.json. It changes whenever the same inputs may give other bits.
  const char *(*numerics)(const struct backend *b);
  void (*destroy)(struct backend **b);

  // Device memory, aligned to at least 64 bytes. copy_in and copy_out are ordered on `stream`.
  status_t (*alloc)(struct backend *b, size_t bytes, void **out);
  void (*free)(struct backend *b, void **memory);
  status_t (*copy_in)(struct backend *b, void *device, const void *host, size_t bytes, struct stream *stream);
  status_t (*copy_out)(struct backend *b, void *host, const void *device, size_t bytes, struct stream *stream);
  status_t (*fill_zero)(struct backend *b, void *device, size_t bytes, struct stream *stream);

  // Planning. `supports` says yes or no without building; plan_create names the operation when it fails.
  // plan_scratch: bytes of scratch that plan_run wants (any content, 64-byte aligned).
  // in_place(op, out, in): out[out] may share memory with in[in] when shapes and types agree; `op` as plan_create gets it.
  bool (*supports)(const struct backend *b, const struct op *op);
  status_t (*plan_create)(struct backend *b, const struct op *op, struct plan **out);
  void (*plan_destroy)(struct plan **plan);
  size_t (*plan_scratch)(const struct plan *plan);
  bool (*in_place)(const struct backend *b, const struct op *op, int out, int in);
  // Operands: inputs first (NULL where left out), then outputs. A constant input (op.constant) must hold its value at
  // the first run; call plan_reset after it was changed all the same (new weights loaded).
  status_t (*plan_run)(struct plan *plan, void *const *operands, void *scratch, struct stream *stream);
  void (*plan_reset)(struct plan *plan);

  // Order. NULL entries: the backend is synchronous and everything is done when a call returns.
  status_t (*stream_create)(struct backend *b, struct stream **out);
  void (*stream_destroy)(struct stream **stream);
  status_t (*stream_wait)(struct stream *stream);
  status_t (*event_create)(struct backend *b, struct event **out);
  void (*event_destroy)(struct event **event);
  status_t (*event_record)(struct event *event, struct stream *stream);
  status_t (*event_wait)(struct event *event, struct stream *stream); // the stream waits, not the host
  status_t (*event_query)(struct event *event, bool *done);

  // Optional: recorded graphs of a whole step, registered communication buffers.
  status_t (*graph_begin)(struct backend *b, struct stream *stream);
  status_t (*graph_end)(struct backend *b, struct stream *stream, void **graph);
  status_t (*graph_launch)(struct backend *b, void *graph, struct stream *stream);
  status_t (*register_buffer)(struct backend *b, void *memory, size_t bytes);
};

// A backend embeds this as its first member.
struct backend {
  const struct backend_ops *ops;
  unsigned capabilities;
  int threads; // of this rank
};

// The one place that knows which backends are built in. `name`: "reference", "onednn" ("cpu", "auto": the fastest there
// is). `threads` <= 0: all cores of the process.
status_t backend_create(const char *name, int threads, struct backend **out);
void backend_destroy(struct backend **b);

#endif
