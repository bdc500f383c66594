// op_cases.c: the table itself; see op_cases.h. op_values.c fills it with numbers.
#include "op_cases.h"

#include "base/mem.h"

#include <math.h>

#define F(...)     TENSOR_DESC(DTYPE_F32, __VA_ARGS__)
#define I(...)     TENSOR_DESC(DTYPE_I32, __VA_ARGS__)
#define U(...)     TENSOR_DESC(DTYPE_U8, __VA_ARGS__)
#define W(...)     TENSOR_DESC(DTYPE_F64, __VA_ARGS__)
#define O(on, ...) TENSOR_DESC((on) ? DTYPE_F32 : DTYPE_NONE, __VA_ARGS__)

#define CASE(size_, kind_, ...)                                                                                        \
  {                                                                                                                    \
    .size = CASE_##size_, .amplitude = 1, .forward = {.kind = OP_##kind_, __VA_ARGS__ }                                \
  }
#define LINEAR(size, b, t, k, n, bias, residual, act)                                                                  \
  CASE(size, LINEAR, .inputs = 4, .outputs = 1, .in = {F(b, t, k), F(n, k), O(bias, n), O(residual, b, t, n)},         \
       .out = {F(b, t, n)}, .attr.activation = ACT_##act)
// A 1x1 convolution of a ResNet's block: relu(conv + b + r).
#define CONV_RESIDUAL_FIRST(size, b, h, w, c, o, bias, act)                                                            \
  CASE(size, CONV, .inputs = 4, .outputs = 1, .in = {F(b, h, w, c), F(o, c, 1, 1), O(bias, o), F(b, h, w, o)},         \
       .out = {F(b, h, w, o)}, .attr.activation = ACT_##act, .attr.residual_first = 1, .attr.stride = {1, 1},          \
       .attr.dilation = {1, 1}, .attr.groups = 1)
#define SPAN(n, k, s, p, d) (((n) + 2 * (p) - (d) * ((k)-1) - 1) / (s) + 1)
#define CONV(size, b, h, w, c, o, kh, kw, s, p, d, g, bias, residual, act)                                             \
  CASE(size, CONV, .inputs = 4, .outputs = 1,                                                                          \
       .in = {F(b, h, w, c), F(o, (c) / (g), kh, kw), O(bias, o),                                                      \
              O(residual, b, SPAN(h, kh, s, p, d), SPAN(w, kw, s, p, d), o)},                                          \
       .out = {F(b, SPAN(h, kh, s, p, d), SPAN(w, kw, s, p, d), o)}, .attr.activation = ACT_##act,                     \
       .attr.stride = {s, s}, .attr.pad = {p, p}, .attr.dilation = {d, d}, .attr.groups = g)
#define BACKSPAN(n, k, s, p) (((n)-1) * (s)-2 * (p) + (k))
#define CONV_TRANSPOSE(size, b, h, w, c, o, k, s, p, bias, act)                                                        \
  CASE(size, CONV_TRANSPOSE, .inputs = 3, .outputs = 1, .in = {F(b, h, w, c), F(c, o, k, k), O(bias, o)},              \
       .out = {F(b, BACKSPAN(h, k, s, p), BACKSPAN(w, k, s, p), o)}, .attr.activation = ACT_##act,                     \
       .attr.stride = {s, s}, .attr.pad = {p, p}, .attr.dilation = {1, 1}, .attr.groups = 1)
#define ACTIVATION(size, act, ...)                                                                                     \
  CASE(size, ACTIVATION, .inputs = 1, .outputs = 1, .in = {F(__VA_ARGS__)}, .out = {F(__VA_ARGS__)},                   \
       .attr.activation = ACT_##act)
#define ONE_TO_ONE(size, kind, x, ...) CASE(size, kind, .inputs = 1, .outputs = 1, .in = {x}, .out = {F(__VA_ARGS__)})
#define BINARY(size, kind, b, ...)                                                                                     \
  CASE(size, kind, .inputs = 2, .outputs = 1, .in = {F(__VA_ARGS__), b}, .out = {F(__VA_ARGS__)})
#define LAYERNORM(size, b, t, d, eps, stats)                                                                           \
  CASE(size, LAYERNORM, .inputs = 3, .outputs = 3, .in = {F(b, t, d), F(d), F(d)},                                     \
       .out = {F(b, t, d), O(stats, (b) * (t)), O(stats, (b) * (t))}, .attr.epsilon = eps)
#define ATTENTION(size, b, t, s, n, d, causal_, masked, stats)                                                         \
  CASE(size, ATTENTION, .inputs = 5, .outputs = 2,                                                                     \
       .in = {F(b, t, (n) * (d)), F(b, s, (n) * (d)), F(b, s, (n) * (d)),                                              \
              TENSOR_DESC((masked) ? DTYPE_I32 : DTYPE_NONE, b)},                                                      \
       .out = {F(b, t, (n) * (d)), O(stats, b, n, t)}, .attr.heads = n, .attr.causal = causal_)
#define ATTENTION_DROPOUT(size, b, t, s, n, d, causal_, masked, p)                                                     \
  CASE(size, ATTENTION, .inputs = 5, .outputs = 2,                                                                     \
       .in = {F(b, t, (n) * (d)), F(b, s, (n) * (d)), F(b, s, (n) * (d)),                                              \
              TENSOR_DESC((masked) ? DTYPE_I32 : DTYPE_NONE, b), I(b, 4)},                                             \
       .out = {F(b, t, (n) * (d)), O(1, b, n, t)}, .attr.heads = n, .attr.causal = causal_, .attr.dropout = p,         \
       .attr.stream = 7)
#define BATCHNORM_SUMS(size, c, ...)                                                                                   \
  CASE(size, BATCHNORM_SUMS, .inputs = 1, .outputs = 1, .in = {F(__VA_ARGS__, c)}, .out = {W(2 * (c) + 1)})
#define BATCHNORM_MOMENTS(size, c, update, momentum_)                                                                  \
  CASE(size, BATCHNORM_MOMENTS, .inputs = 3, .outputs = 4, .in = {W(2 * (c) + 1), F(c), F(c)},                         \
       .out = {F(c), F(c), O(update, c), O(update, c)}, .attr.momentum = momentum_)
#define BATCHNORM(size, eps, residual, act, c, ...)                                                                    \
  CASE(size, BATCHNORM, .inputs = 6, .outputs = 1,                                                                     \
       .in = {F(__VA_ARGS__, c), F(c), F(c), F(c), F(c), O(residual, __VA_ARGS__, c)}, .out = {F(__VA_ARGS__, c)},     \
       .attr.epsilon = eps, .attr.activation = ACT_##act)
#define DOUBLED_KERNEL(size, o, c)                                                                                     \
  CASE(size, DOUBLED_KERNEL, .inputs = 1, .outputs = 1, .in = {F(o, c, 3, 3)}, .out = {F(c, o, 4, 4)})
#define BATCHNORM_FOLD(size, bias, o, ...)                                                                             \
  CASE(size, BATCHNORM_FOLD, .inputs = 6, .outputs = 2, .in = {F(o, __VA_ARGS__), O(bias, o), F(o), F(o), F(o), F(o)}, \
       .out = {F(o, __VA_ARGS__), F(o)}, .attr.epsilon = 1e-5)
#define DROPOUT(size, p, b, ...)                                                                                       \
  CASE(size, DROPOUT, .inputs = 2, .outputs = 1, .in = {F(b, __VA_ARGS__), I(b, 4)}, .out = {F(b, __VA_ARGS__)},       \
       .attr.dropout = p, .attr.stream = 3)
#define TAKE_PLANE(size, b, h, w, p)                                                                                   \
  CASE(size, TAKE_PLANE, .inputs = 2, .outputs = 1, .in = {F(b, h, w, p), I(b)}, .out = {F(b, h, w)})
#define CONV_EACH(size, b, h, w, c, kh, kw, p, bias)                                                                   \
  CASE(size, CONV_EACH, .inputs = 3, .outputs = 1, .in = {F(b, h, w, c), F(b, c, kh, kw), O(bias, b)},                 \
       .out = {F(b, SPAN(h, kh, 1, p, 1), SPAN(w, kw, 1, p, 1), 1)}, .attr.pad = {p, p})
#define POOL(size, how, b, h, w, c, kh, kw, s, p, where)                                                               \
  CASE(size, POOL, .inputs = 1, .outputs = 2, .in = {F(b, h, w, c)},                                                   \
       .out = {F(b, SPAN(h, kh, s, p, 1), SPAN(w, kw, s, p, 1), c),                                                    \
               TENSOR_DESC((where) ? DTYPE_U8 : DTYPE_NONE, b, SPAN(h, kh, s, p, 1), SPAN(w, kw, s, p, 1), c)},        \
       .attr.pool = POOL_##how, .attr.kernel = {kh, kw}, .attr.stride = {s, s}, .attr.pad = {p, p})
#define RESIZE(size, mode, aligned, b, h, w, h2, w2, c)                                                                \
  CASE(size, RESIZE, .inputs = 1, .outputs = 1, .in = {F(b, h, w, c)}, .out = {F(b, h2, w2, c)},                       \
       .attr.resize = RESIZE_##mode, .attr.align_corners = aligned)
#define LOSS(size_, loss_, mask_, amplitude_, b, h, w)                                                                 \
  {                                                                                                                    \
    .size = CASE_##size_, .amplitude = amplitude_, .mask = MASK_##mask_, .forward = {                                  \
      .kind = OP_SEGMENT_LOSS,                                                                                         \
      .inputs = 2,                                                                                                     \
      .outputs = 2,                                                                                                    \
      .in = {F(b, h, w), U(b, h, w)},                                                                                  \
      .out = {F(b), F(b, 4)},                                                                                          \
      .attr.loss = LOSS_##loss_                                                                                        \
    }                                                                                                                  \
  }
#define LOSSES(loss)                                                                                                   \
  LOSS(SMALL, loss, RANDOM, 2, 3, 7, 5), LOSS(SMALL, loss, EMPTY, 2, 2, 7, 5), LOSS(SMALL, loss, FULL, 2, 2, 1, 3),    \
      LOSS(REAL, loss, RANDOM, 30, 2, 77, 77), LOSS(REAL, loss, RANDOM, 1e4, 1, 31, 33),                               \
      LOSS(REAL, loss, EMPTY, 3, 1, 352, 352), LOSS(REAL, loss, FULL, 3, 1, 352, 352),                                 \
      LOSS(PERF, loss, RANDOM, 3, 4, 352, 352)
#define ADAMW(size, n)                                                                                                 \
  CASE(size, ADAMW, .inputs = 6, .outputs = 3, .in = {F(n), F(n), F(n), F(n), U(n), W(8)}, .out = {F(n), F(n), F(n)})

static const struct op_case rows[] = {
    LINEAR(SMALL, 1, 1, 1, 1, 0, 0, NONE),
    LINEAR(SMALL, 2, 3, 7, 5, 1, 0, NONE),
    LINEAR(SMALL, 1, 7, 77, 3, 0, 0, NONE),
    LINEAR(SMALL, 3, 5, 8, 16, 1, 1, NONE),
    LINEAR(SMALL, 3, 5, 7, 9, 0, 1, NONE),
    LINEAR(SMALL, 1, 7, 33, 17, 1, 0, RELU),
    LINEAR(SMALL, 1, 7, 33, 17, 1, 1, QUICKGELU),
    LINEAR(SMALL, 1, 7, 33, 17, 0, 0, GELU_ERF),
    LINEAR(SMALL, 1, 7, 33, 17, 1, 0, SIGMOID),
    LINEAR(SMALL, 1, 7, 33, 17, 1, 0, TANH),
    LINEAR(REAL, 1, 485, 768, 64, 1, 0, NONE), // CLIPSeg: reduces
    LINEAR(REAL, 1, 485, 64, 64, 1, 0, NONE),  // decoder q, k, v, out
    LINEAR(REAL, 1, 485, 64, 64, 1, 1, NONE),
    LINEAR(REAL, 1, 77, 64, 2048, 1, 0, RELU), // decoder MLP
    LINEAR(REAL, 1, 77, 64, 2048, 1, 0, NONE),
    LINEAR(REAL, 1, 77, 2048, 64, 1, 1, NONE),
    LINEAR(REAL, 1, 485, 96, 384, 1, 0, QUICKGELU),
    LINEAR(REAL, 1, 77, 512, 512, 1, 0, NONE), // text tower
    LINEAR(REAL, 4, 1, 512, 64, 1, 0, NONE),   // FiLM
    LINEAR(PERF, 4, 485, 768, 768, 1, 0, NONE),
    LINEAR(PERF, 4, 485, 768, 768, 1, 1, NONE),
    LINEAR(PERF, 4, 485, 768, 3072, 1, 0, QUICKGELU),
    LINEAR(PERF, 4, 485, 3072, 768, 1, 1, NONE),
    LINEAR(PERF, 4, 485, 768, 64, 1, 0, NONE),
    LINEAR(PERF, 4, 485, 64, 2048, 1, 0, NONE),
    LINEAR(PERF, 4, 485, 2048, 64, 1, 0, NONE),
    LINEAR(PERF, 4, 77, 512, 2048, 1, 0, QUICKGELU),

    CONV(SMALL, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 0, 0, NONE),
    CONV(SMALL, 2, 7, 5, 3, 4, 3, 3, 1, 1, 1, 1, 1, 0, NONE),
    CONV(SMALL, 1, 9, 8, 6, 4, 3, 3, 2, 1, 1, 2, 1, 0, NONE), // groups
    CONV(SMALL, 1, 9, 9, 5, 5, 3, 3, 1, 1, 1, 5, 0, 0, NONE), // depthwise
    CONV(SMALL, 1, 9, 9, 5, 5, 3, 3, 1, 1, 1, 5, 1, 1, NONE),
    CONV(SMALL, 1, 9, 8, 6, 4, 3, 3, 2, 1, 1, 2, 1, 1, NONE),
    CONV(SMALL, 1, 9, 11, 3, 2, 3, 3, 1, 2, 2, 1, 1, 0, NONE), // dilation
    CONV(SMALL, 1, 9, 11, 3, 2, 3, 3, 1, 2, 2, 1, 1, 1, NONE),
    CONV(SMALL, 1, 8, 7, 4, 6, 3, 1, 2, 1, 1, 2, 0, 0, NONE),
    CONV(SMALL, 2, 7, 5, 3, 4, 3, 3, 1, 1, 1, 1, 1, 1, RELU),
    CONV(SMALL, 1, 7, 5, 3, 4, 1, 1, 1, 0, 1, 1, 1, 0, TANH),
    CONV(SMALL, 1, 7, 5, 3, 4, 1, 1, 1, 0, 1, 1, 0, 1, NONE),
    CONV(REAL, 1, 48, 48, 3, 96, 16, 16, 16, 0, 1, 1, 0, 0, NONE), // patches
    CONV(REAL, 1, 22, 22, 64, 64, 3, 3, 1, 1, 1, 1, 1, 0, RELU),   // CLIPSeg complex head
    CONV(REAL, 1, 22, 22, 64, 64, 3, 3, 1, 1, 1, 1, 1, 0, NONE),
    CONV(PERF, 4, 352, 352, 3, 768, 16, 16, 16, 0, 1, 1, 0, 0, NONE),
    CONV(PERF, 4, 22, 22, 64, 64, 3, 3, 1, 1, 1, 1, 1, 0, NONE),
    CONV_RESIDUAL_FIRST(SMALL, 2, 3, 5, 7, 4, 1, RELU),
    CONV_RESIDUAL_FIRST(SMALL, 1, 3, 5, 7, 4, 0, TANH),
    CONV_RESIDUAL_FIRST(SMALL, 1, 3, 5, 7, 4, 1, NONE),
    CONV_RESIDUAL_FIRST(REAL, 1, 16, 16, 64, 256, 1, RELU),
    CONV(SMALL, 1, 4, 4, 6, 6, 3, 3, 1, 12, 12, 6, 0, 0, NONE), // DeepLab: all but the centre is padding
    CONV(SMALL, 1, 5, 7, 3, 3, 3, 3, 1, 4, 4, 3, 1, 0, NONE),
    CONV(SMALL, 1, 11, 9, 3, 4, 7, 7, 2, 3, 1, 1, 0, 0, NONE), // the first of a ResNet
    CONV(REAL, 1, 64, 64, 3, 64, 7, 7, 2, 3, 1, 1, 0, 0, NONE),
    CONV(REAL, 1, 16, 16, 64, 64, 3, 3, 2, 1, 1, 1, 0, 0, NONE),
    CONV(REAL, 1, 9, 7, 40, 512, 3, 3, 2, 1, 1, 1, 1, 0, NONE), // gradients of weights as unrolled products
    CONV(REAL, 1, 9, 7, 64, 512, 1, 1, 2, 0, 1, 1, 0, 0, NONE),
    CONV(REAL, 1, 8, 9, 96, 40, 3, 3, 1, 1, 1, 1, 1, 1, NONE),            // adds to the residual where it lies
    CONV(REAL, 1, 16, 16, 256, 128, 1, 1, 2, 0, 1, 1, 0, 0, NONE),        // a block's way past
    CONV(REAL, 1, 16, 16, 2048, 2048, 3, 3, 1, 12, 12, 2048, 0, 0, NONE), // DeepLab, rates 12, 24, 36
    CONV(REAL, 1, 16, 16, 2048, 2048, 3, 3, 1, 24, 24, 2048, 0, 0, NONE),
    CONV(REAL, 1, 16, 16, 2048, 2048, 3, 3, 1, 36, 36, 2048, 0, 0, NONE),
    CONV(REAL, 1, 64, 64, 304, 304, 3, 3, 1, 1, 1, 304, 0, 0, NONE),
    CONV(REAL, 1, 16, 16, 2048, 256, 1, 1, 1, 0, 1, 1, 0, 0, NONE),
    CONV(REAL, 1, 32, 32, 64, 32, 3, 3, 1, 1, 1, 1, 0, 0, NONE), // decoders
    CONV(REAL, 1, 64, 64, 16, 1, 3, 3, 1, 1, 1, 1, 1, 0, NONE),
    CONV(PERF, 4, 256, 256, 3, 64, 7, 7, 2, 3, 1, 1, 0, 0, NONE), // ResNet-50 at 256
    CONV(PERF, 4, 64, 64, 64, 64, 3, 3, 1, 1, 1, 1, 0, 0, NONE),
    CONV(PERF, 4, 64, 64, 64, 256, 1, 1, 1, 0, 1, 1, 0, 0, NONE),
    CONV(PERF, 4, 64, 64, 256, 64, 1, 1, 1, 0, 1, 1, 0, 0, NONE),
    CONV(PERF, 4, 64, 64, 128, 128, 3, 3, 2, 1, 1, 1, 0, 0, NONE),
    CONV(PERF, 4, 16, 16, 256, 256, 3, 3, 1, 1, 1, 1, 0, 0, NONE),
    CONV(PERF, 4, 8, 8, 512, 512, 3, 3, 1, 1, 1, 1, 0, 0, NONE),
    CONV(PERF, 4, 8, 8, 512, 2048, 1, 1, 1, 0, 1, 1, 0, 0, NONE),
    CONV_RESIDUAL_FIRST(PERF, 4, 64, 64, 64, 256, 1, RELU),
    CONV(PERF, 4, 16, 16, 3072, 256, 3, 3, 1, 1, 1, 1, 0, 0, NONE), // U-Net's decoder
    CONV(PERF, 4, 128, 128, 128, 32, 3, 3, 1, 1, 1, 1, 0, 0, NONE),
    CONV(PERF, 4, 256, 256, 32, 16, 3, 3, 1, 1, 1, 1, 0, 0, NONE),
    CONV(PERF, 4, 256, 256, 16, 1, 3, 3, 1, 1, 1, 1, 1, 0, NONE),
    CONV(PERF, 4, 16, 16, 2048, 2048, 3, 3, 1, 12, 12, 2048, 0, 0, NONE), // DeepLab
    CONV(PERF, 4, 16, 16, 2048, 2048, 3, 3, 1, 36, 36, 2048, 0, 0, NONE),
    CONV(PERF, 4, 16, 16, 2048, 256, 1, 1, 1, 0, 1, 1, 0, 0, NONE),
    CONV(PERF, 4, 64, 64, 304, 304, 3, 3, 1, 1, 1, 304, 0, 0, NONE),
    CONV(PERF, 2, 52, 52, 512, 512, 3, 3, 1, 1, 1, 1, 0, 0, NONE), // CRIS at 416
    CONV(PERF, 2, 104, 104, 256, 256, 3, 3, 1, 1, 1, 1, 0, 0, NONE),
    CONV_EACH(SMALL, 1, 1, 1, 1, 1, 1, 0, 0),
    CONV_EACH(SMALL, 3, 5, 7, 3, 3, 3, 1, 1),
    CONV_EACH(SMALL, 2, 7, 5, 5, 3, 2, 0, 0),
    CONV_EACH(SMALL, 2, 3, 4, 9, 1, 1, 0, 1),
    CONV_EACH(REAL, 2, 52, 52, 256, 3, 3, 1, 1), // CRIS: the words as a kernel
    CONV_EACH(PERF, 8, 104, 104, 256, 3, 3, 1, 1),

    CONV_TRANSPOSE(SMALL, 1, 1, 1, 1, 1, 1, 1, 0, 0, NONE),
    CONV_TRANSPOSE(SMALL, 2, 3, 5, 4, 3, 4, 4, 0, 1, NONE),
    CONV_TRANSPOSE(SMALL, 1, 5, 4, 3, 2, 3, 2, 1, 1, NONE), // overlapping, cropped
    CONV_TRANSPOSE(SMALL, 2, 3, 5, 4, 3, 4, 4, 0, 1, RELU),
    CONV_TRANSPOSE(SMALL, 2, 3, 5, 4, 1, 2, 2, 0, 0, SIGMOID),
    CONV_TRANSPOSE(SMALL, 2, 3, 4, 5, 3, 4, 2, 1, 1, NONE), // of a doubled picture
    CONV_TRANSPOSE(SMALL, 2, 3, 4, 5, 3, 4, 2, 1, 1, RELU),
    CONV_TRANSPOSE(REAL, 2, 16, 16, 32, 17, 4, 2, 1, 0, RELU),
    CONV_TRANSPOSE(REAL, 2, 3, 4, 512, 17, 4, 2, 1, 1, TANH), // as unrolled products
    CONV_TRANSPOSE(REAL, 2, 8, 8, 96, 40, 4, 2, 1, 0, NONE),
    CONV_TRANSPOSE(PERF, 8, 16, 16, 256, 128, 4, 2, 1, 0, NONE),
    CONV_TRANSPOSE(REAL, 1, 22, 22, 64, 32, 4, 4, 0, 1, RELU), // CLIPSeg complex head
    CONV_TRANSPOSE(REAL, 1, 22, 22, 64, 32, 4, 4, 0, 1, NONE),
    CONV_TRANSPOSE(REAL, 1, 22, 22, 64, 1, 16, 16, 0, 1, NONE), // simple head
    CONV_TRANSPOSE(REAL, 1, 88, 88, 32, 1, 4, 4, 0, 1, NONE),
    CONV_TRANSPOSE(PERF, 4, 22, 22, 64, 32, 4, 4, 0, 1, NONE),
    CONV_TRANSPOSE(PERF, 4, 22, 22, 64, 1, 16, 16, 0, 1, NONE),
    CONV_TRANSPOSE(PERF, 4, 88, 88, 32, 1, 4, 4, 0, 1, NONE),

    ACTIVATION(SMALL, RELU, 3, 7),
    ACTIVATION(SMALL, QUICKGELU, 3, 7),
    ACTIVATION(SMALL, GELU_ERF, 77),
    ACTIVATION(SMALL, SIGMOID, 1, 3, 5),
    ACTIVATION(SMALL, TANH, 1),
    ACTIVATION(REAL, QUICKGELU, 1, 485, 384),
    ACTIVATION(PERF, QUICKGELU, 4, 485, 3072),
    ACTIVATION(PERF, RELU, 4, 485, 2048),

    BINARY(SMALL, ADD, F(2, 3, 5), 2, 3, 5),
    BINARY(SMALL, ADD, F(5), 2, 3, 5),
    BINARY(SMALL, ADD, F(2, 1, 5), 2, 3, 5),
    BINARY(SMALL, ADD, F(3, 1), 2, 3, 5),
    BINARY(SMALL, ADD, F(1), 7),
    BINARY(REAL, ADD, F(485, 96), 2, 485, 96), // position embedding
    BINARY(SMALL, MULTIPLY, F(2, 3, 5), 2, 3, 5),
    BINARY(SMALL, MULTIPLY, F(2, 1, 5), 2, 3, 5),
    BINARY(SMALL, MULTIPLY, F(1, 3, 1), 2, 3, 5),
    BINARY(SMALL, MULTIPLY, F(1), 77),
    BINARY(REAL, MULTIPLY, F(2, 1, 64), 2, 485, 64), // FiLM
    BINARY(PERF, MULTIPLY, F(4, 1, 64), 4, 485, 64),
    BINARY(PERF, ADD, F(485, 768), 4, 485, 768),

    ONE_TO_ONE(SMALL, SUM_TO, F(2, 3, 5), 5),
    ONE_TO_ONE(SMALL, SUM_TO, F(2, 3, 5), 2, 1, 5),
    ONE_TO_ONE(SMALL, SUM_TO, F(2, 3, 5), 3, 1),
    ONE_TO_ONE(SMALL, SUM_TO, F(2, 3, 5), 1),
    ONE_TO_ONE(SMALL, SUM_TO, F(2, 3, 5), 2, 3, 5),
    ONE_TO_ONE(REAL, SUM_TO, F(2, 485, 64), 2, 1, 64),
    ONE_TO_ONE(SMALL, EXPAND, F(5), 2, 3, 5),
    ONE_TO_ONE(SMALL, EXPAND, F(2, 1, 5), 2, 3, 5),
    ONE_TO_ONE(SMALL, EXPAND, F(3, 1), 2, 3, 5),
    ONE_TO_ONE(REAL, EXPAND, F(1, 1, 96), 4, 1, 96), // class embedding

    LAYERNORM(SMALL, 1, 1, 3, 1e-5, 1),
    LAYERNORM(SMALL, 2, 3, 7, 1e-5, 1),
    LAYERNORM(SMALL, 1, 2, 77, 1e-12, 1),
    LAYERNORM(SMALL, 2, 3, 7, 1e-5, 0),
    LAYERNORM(REAL, 1, 485, 64, 1e-5, 1),
    LAYERNORM(REAL, 1, 77, 768, 1e-5, 1),
    LAYERNORM(PERF, 4, 485, 768, 1e-5, 1),

    BATCHNORM_SUMS(SMALL, 1, 1),
    BATCHNORM_SUMS(SMALL, 5, 7),
    BATCHNORM_SUMS(SMALL, 3, 2, 5, 7),
    BATCHNORM_SUMS(SMALL, 17, 3, 1, 1),
    BATCHNORM_SUMS(REAL, 256, 1, 104, 104),
    BATCHNORM_SUMS(REAL, 1024, 2),
    BATCHNORM_SUMS(REAL, 2048, 2, 8, 8),
    BATCHNORM_SUMS(REAL, 16, 1, 128, 128),
    BATCHNORM_SUMS(PERF, 64, 4, 128, 128),
    BATCHNORM_SUMS(PERF, 16, 4, 256, 256),
    BATCHNORM_SUMS(PERF, 256, 8, 104, 104),
    BATCHNORM_SUMS(PERF, 2048, 4, 8, 8),
    BATCHNORM_MOMENTS(SMALL, 1, 1, 0.1),
    BATCHNORM_MOMENTS(SMALL, 5, 1, 0.1),
    BATCHNORM_MOMENTS(SMALL, 17, 0, 0.1),
    BATCHNORM_MOMENTS(REAL, 2048, 1, 0.01),
    BATCHNORM(SMALL, 1e-5, 0, NONE, 1, 1),
    BATCHNORM(SMALL, 1e-5, 0, NONE, 5, 7),
    BATCHNORM(SMALL, 1e-1, 0, NONE, 3, 2, 5, 3),
    BATCHNORM(SMALL, 1e-5, 0, NONE, 17, 3, 1, 1),
    BATCHNORM(SMALL, 1e-5, 1, NONE, 3, 2, 5, 7),
    BATCHNORM(SMALL, 1e-5, 0, RELU, 3, 2, 5, 7),
    BATCHNORM(SMALL, 1e-5, 1, RELU, 19, 2, 3, 5),
    BATCHNORM(REAL, 1e-5, 0, NONE, 256, 1, 104, 104),
    BATCHNORM(REAL, 1e-5, 0, NONE, 1024, 2),
    BATCHNORM(REAL, 1e-5, 0, NONE, 2048, 2, 8, 8),
    BATCHNORM(REAL, 1e-5, 1, RELU, 256, 1, 64, 64),
    BATCHNORM(REAL, 1e-5, 0, RELU, 16, 1, 128, 128),
    BATCHNORM(PERF, 1e-5, 0, NONE, 64, 4, 128, 128),
    BATCHNORM(PERF, 1e-5, 0, NONE, 16, 4, 256, 256),
    BATCHNORM(PERF, 1e-5, 0, NONE, 256, 8, 104, 104),
    BATCHNORM(PERF, 1e-5, 0, NONE, 2048, 4, 8, 8),
    BATCHNORM(PERF, 1e-5, 1, RELU, 256, 4, 64, 64),
    BATCHNORM_FOLD(SMALL, 0, 1, 1),
    BATCHNORM_FOLD(SMALL, 1, 5, 3, 3, 3),
    BATCHNORM_FOLD(SMALL, 0, 4, 7, 1, 1),
    BATCHNORM_FOLD(REAL, 0, 256, 64, 3, 3),
    BATCHNORM_FOLD(PERF, 0, 512, 512, 3, 3),
    DOUBLED_KERNEL(SMALL, 1, 1),
    DOUBLED_KERNEL(SMALL, 3, 5),
    DOUBLED_KERNEL(SMALL, 2, 17),
    DOUBLED_KERNEL(REAL, 40, 96),
    DOUBLED_KERNEL(PERF, 256, 2048),

    DROPOUT(SMALL, 0.5, 1, 1),
    DROPOUT(SMALL, 0.1, 3, 7),
    DROPOUT(SMALL, 0.2, 2, 3, 7, 5),
    DROPOUT(SMALL, 0.5, 2, 33),
    DROPOUT(SMALL, 0, 2, 5),
    DROPOUT(REAL, 0.1, 2, 256, 768), // BERT
    DROPOUT(REAL, 0.2, 2, 676, 512), // CRIS
    DROPOUT(REAL, 0.5, 1, 26, 26, 512),
    DROPOUT(PERF, 0.1, 8, 256, 768),
    DROPOUT(PERF, 0.2, 8, 676, 512),

    ATTENTION(SMALL, 1, 1, 1, 1, 1, 0, 0, 1),
    ATTENTION(SMALL, 2, 3, 5, 2, 4, 0, 0, 1),
    ATTENTION(SMALL, 2, 7, 7, 3, 5, 1, 0, 1), // causal
    ATTENTION(SMALL, 3, 5, 7, 1, 8, 0, 1, 1), // lengths
    ATTENTION(SMALL, 3, 7, 7, 2, 4, 1, 1, 1),
    ATTENTION(SMALL, 2, 3, 7, 2, 4, 1, 0, 1),
    ATTENTION(SMALL, 2, 3, 5, 2, 4, 0, 0, 0),
    ATTENTION(REAL, 1, 485, 485, 4, 16, 0, 0, 1), // decoder
    ATTENTION(REAL, 2, 77, 77, 8, 64, 1, 0, 1),   // text tower
    ATTENTION(REAL, 1, 485, 485, 2, 64, 0, 0, 1), // two heads of the image tower
    ATTENTION(REAL, 2, 33, 77, 2, 64, 0, 1, 1),
    ATTENTION(PERF, 4, 485, 485, 12, 64, 0, 0, 1),
    ATTENTION(PERF, 4, 485, 485, 4, 16, 0, 0, 1),
    ATTENTION(PERF, 4, 77, 77, 8, 64, 1, 0, 1),

    ATTENTION_DROPOUT(SMALL, 1, 1, 1, 1, 1, 0, 0, 0.5),
    ATTENTION_DROPOUT(SMALL, 2, 3, 5, 2, 4, 0, 0, 0.1),
    ATTENTION_DROPOUT(SMALL, 2, 7, 7, 3, 5, 1, 0, 0.2),
    ATTENTION_DROPOUT(SMALL, 3, 5, 7, 1, 8, 0, 1, 0.5),
    ATTENTION_DROPOUT(SMALL, 3, 7, 9, 2, 4, 1, 1, 0.1),
    ATTENTION_DROPOUT(REAL, 1, 169, 169, 8, 64, 0, 0, 0.1),
    ATTENTION_DROPOUT(REAL, 2, 169, 77, 8, 64, 0, 1, 0.1), // CRIS: pixels ask words
    ATTENTION_DROPOUT(REAL, 2, 64, 64, 12, 64, 0, 1, 0.1), // BERT
    ATTENTION_DROPOUT(REAL, 2, 77, 77, 8, 64, 1, 0, 0.2),
    ATTENTION(PERF, 4, 676, 676, 8, 64, 0, 0, 1),
    ATTENTION_DROPOUT(PERF, 4, 676, 676, 8, 64, 0, 0, 0.1),
    ATTENTION_DROPOUT(PERF, 4, 676, 77, 8, 64, 0, 1, 0.1),
    ATTENTION_DROPOUT(PERF, 4, 256, 256, 12, 64, 0, 1, 0.1),

    CASE(SMALL, EMBED, .inputs = 2, .outputs = 1, .in = {I(2, 7), F(5, 3)}, .out = {F(2, 7, 3)}),
    CASE(SMALL, EMBED, .inputs = 2, .outputs = 1, .in = {I(1, 1), F(1, 1)}, .out = {F(1, 1, 1)}),
    CASE(REAL, EMBED, .inputs = 2, .outputs = 1, .in = {I(4, 77), F(1000, 64)}, .out = {F(4, 77, 64)}),
    CASE(SMALL, TAKE_ROW, .inputs = 2, .outputs = 1, .in = {F(3, 7, 5), I(3)}, .out = {F(3, 5)}),
    CASE(REAL, TAKE_ROW, .inputs = 2, .outputs = 1, .in = {F(4, 77, 512), I(4)}, .out = {F(4, 512)}),

    TAKE_PLANE(SMALL, 3, 3, 5, 4),
    TAKE_PLANE(SMALL, 2, 5, 3, 1),
    TAKE_PLANE(REAL, 2, 256, 256, 5),
    TAKE_PLANE(PERF, 8, 256, 256, 5),

    POOL(SMALL, MAX, 1, 1, 1, 1, 1, 1, 1, 0, 1),
    POOL(SMALL, MAX, 2, 7, 5, 3, 3, 3, 2, 1, 1),
    POOL(SMALL, MAX, 1, 8, 6, 5, 2, 2, 2, 0, 1),
    POOL(SMALL, MAX, 1, 5, 7, 2, 3, 2, 1, 1, 1),
    POOL(SMALL, MAX, 2, 7, 5, 3, 3, 3, 2, 1, 0),
    POOL(SMALL, AVERAGE, 2, 8, 6, 3, 2, 2, 2, 0, 0),
    POOL(SMALL, AVERAGE, 1, 7, 5, 3, 3, 2, 2, 0, 0),
    POOL(SMALL, AVERAGE, 2, 3, 5, 7, 3, 5, 1, 0, 0), // over all pixels
    POOL(REAL, MAX, 2, 128, 128, 64, 3, 3, 2, 1, 1),
    POOL(REAL, AVERAGE, 1, 104, 104, 64, 2, 2, 2, 0, 0),
    POOL(REAL, AVERAGE, 1, 26, 26, 512, 2, 2, 2, 0, 0),
    POOL(REAL, AVERAGE, 2, 8, 8, 2048, 8, 8, 1, 0, 0),
    POOL(REAL, AVERAGE, 1, 16, 16, 2048, 16, 16, 1, 0, 0),
    POOL(PERF, MAX, 4, 128, 128, 64, 3, 3, 2, 1, 1),
    POOL(PERF, AVERAGE, 8, 208, 208, 64, 2, 2, 2, 0, 0),
    POOL(PERF, AVERAGE, 4, 16, 16, 2048, 16, 16, 1, 0, 0),

    CASE(SMALL, CONCAT, .inputs = 1, .outputs = 1, .in = {F(3, 5)}, .out = {F(3, 5)}),
    CASE(SMALL, CONCAT, .inputs = 3, .outputs = 1, .in = {F(2, 1, 5), F(2, 7, 5), F(2, 3, 5)}, .out = {F(2, 11, 5)},
         .attr.axis = 1),
    CASE(SMALL, CONCAT, .inputs = 2, .outputs = 1, .in = {F(2, 3), F(1, 3)}, .out = {F(3, 3)}),
    CASE(SMALL, CONCAT, .inputs = 2, .outputs = 1, .in = {F(2, 3, 3), F(2, 3, 1)}, .out = {F(2, 3, 4)}, .attr.axis = 2),
    CASE(REAL, CONCAT, .inputs = 2, .outputs = 1, .in = {F(2, 1, 96), F(2, 484, 96)}, .out = {F(2, 485, 96)},
         .attr.axis = 1),
    CASE(SMALL, SLICE, .inputs = 1, .outputs = 1, .in = {F(2, 7, 5)}, .out = {F(2, 3, 5)}, .attr.axis = 1,
         .attr.start = 2),
    CASE(SMALL, SLICE, .inputs = 1, .outputs = 1, .in = {F(7, 5)}, .out = {F(1, 5)}, .attr.start = 6),
    CASE(SMALL, SLICE, .inputs = 1, .outputs = 1, .in = {F(3, 7)}, .out = {F(3, 7)}, .attr.axis = 1),
    CASE(REAL, SLICE, .inputs = 1, .outputs = 1, .in = {F(2, 485, 96)}, .out = {F(2, 484, 96)}, .attr.axis = 1,
         .attr.start = 1),
    CASE(SMALL, TRANSPOSE, .inputs = 1, .outputs = 1, .in = {F(2, 3, 5)}, .out = {F(5, 2, 3)},
         .attr.permutation = {2, 0, 1}),
    CASE(SMALL, TRANSPOSE, .inputs = 1, .outputs = 1, .in = {F(3, 7)}, .out = {F(7, 3)}, .attr.permutation = {1, 0}),
    CASE(SMALL, TRANSPOSE, .inputs = 1, .outputs = 1, .in = {F(2, 3, 1, 5, 2)}, .out = {F(2, 1, 5, 2, 3)},
         .attr.permutation = {0, 2, 3, 4, 1}),
    CASE(REAL, TRANSPOSE, .inputs = 1, .outputs = 1, .in = {F(2, 22, 22, 64)}, .out = {F(2, 64, 22, 22)},
         .attr.permutation = {0, 3, 1, 2}),

    ONE_TO_ONE(SMALL, CAST, F(3, 7), 3, 7),
    ONE_TO_ONE(SMALL, CAST, TENSOR_DESC(DTYPE_BF16, 3, 7), 3, 7),
    ONE_TO_ONE(SMALL, CAST, TENSOR_DESC(DTYPE_F64, 77), 77),
    CASE(SMALL, CAST, .inputs = 1, .outputs = 1, .in = {F(485)}, .out = {TENSOR_DESC(DTYPE_BF16, 485)}),

    RESIZE(SMALL, BILINEAR, 0, 1, 3, 5, 7, 9, 2),
    RESIZE(SMALL, BILINEAR, 0, 2, 7, 9, 3, 4, 1),
    RESIZE(SMALL, BILINEAR, 1, 1, 3, 5, 7, 9, 2),
    RESIZE(SMALL, BILINEAR, 1, 1, 3, 5, 1, 1, 2),
    RESIZE(SMALL, BILINEAR, 0, 1, 1, 1, 3, 2, 2),
    RESIZE(SMALL, BICUBIC, 0, 1, 3, 5, 7, 9, 2),
    RESIZE(SMALL, BICUBIC, 0, 1, 9, 7, 4, 3, 1),
    RESIZE(SMALL, BICUBIC, 1, 1, 4, 5, 7, 9, 2),
    RESIZE(SMALL, BICUBIC, 0, 1, 1, 2, 3, 5, 1),
    RESIZE(SMALL, BILINEAR, 0, 1, 5, 5, 5, 5, 3),
    RESIZE(SMALL, NEAREST, 0, 1, 3, 5, 6, 10, 2),
    RESIZE(SMALL, NEAREST, 0, 2, 3, 5, 7, 9, 1),
    RESIZE(SMALL, NEAREST, 0, 1, 7, 9, 3, 4, 3),
    RESIZE(SMALL, NEAREST, 0, 1, 1, 1, 3, 2, 2),
    RESIZE(REAL, NEAREST, 0, 1, 64, 64, 128, 128, 64),  // U-Net
    RESIZE(REAL, BILINEAR, 1, 1, 16, 16, 64, 64, 256),  // DeepLab
    RESIZE(REAL, BICUBIC, 1, 1, 104, 104, 416, 416, 1), // CRIS
    RESIZE(PERF, NEAREST, 0, 4, 64, 64, 128, 128, 128),
    RESIZE(PERF, BILINEAR, 1, 4, 16, 16, 64, 64, 256),
    RESIZE(REAL, BICUBIC, 0, 1, 14, 14, 22, 22, 96), // position embedding
    RESIZE(REAL, BILINEAR, 0, 1, 88, 88, 352, 352, 1),

    CASE(SMALL, PIXELS, .inputs = 1, .outputs = 1, .in = {U(2, 3, 5, 3)}, .out = {F(2, 3, 5, 3)},
         .attr.mean = {0.485, 0.456, 0.406}, .attr.std = {0.229, 0.224, 0.225}),
    CASE(REAL, PIXELS, .inputs = 1, .outputs = 1, .in = {U(1, 352, 352, 3)}, .out = {F(1, 352, 352, 3)},
         .attr.mean = {0.485, 0.456, 0.406}, .attr.std = {0.229, 0.224, 0.225}),

    LOSSES(DICE_CE),
    LOSSES(DICE_ONLY),
    LOSSES(MONAI14),

    ONE_TO_ONE(SMALL, SUM_SQUARES, F(1), 1),
    ONE_TO_ONE(SMALL, SUM_SQUARES, F(77), 1),
    ONE_TO_ONE(REAL, SUM_SQUARES, F(4096), 1),
    ONE_TO_ONE(REAL, SUM_SQUARES, F(4097), 1),
    ONE_TO_ONE(REAL, SUM_SQUARES, F(300007), 1),
    ONE_TO_ONE(PERF, SUM_SQUARES, F(1127009), 1), // the decoder of CLIPSeg
    ADAMW(SMALL, 1),
    ADAMW(SMALL, 77),
    ADAMW(REAL, 100003),
    ADAMW(PERF, 1127009),
};

static const struct gradient_rule rules[] = {
    {OP_LINEAR, BACKWARD_DATA, {FROM_DY, FROM_IN + 1, FROM_RANDOM}, {FROM_IN}},
    {OP_LINEAR, BACKWARD_WEIGHT, {FROM_DY, FROM_IN}, {FROM_IN + 1, FROM_IN + 2}},
    {OP_CONV, BACKWARD_DATA, {FROM_DY, FROM_IN + 1}, {FROM_IN}},
    {OP_CONV, BACKWARD_WEIGHT, {FROM_DY, FROM_IN}, {FROM_IN + 1, FROM_IN + 2}},
    {OP_CONV_TRANSPOSE, BACKWARD_DATA, {FROM_DY, FROM_IN + 1}, {FROM_IN}},
    {OP_CONV_TRANSPOSE, BACKWARD_WEIGHT, {FROM_DY, FROM_IN}, {FROM_IN + 1, FROM_IN + 2}},
    {OP_ACTIVATION, BACKWARD_DATA, {FROM_DY, FROM_SLOPE}, {FROM_IN}},
    {OP_LAYERNORM, BACKWARD_DATA, {FROM_DY, FROM_IN, FROM_IN + 1, FROM_OUT + 1, FROM_OUT + 2, FROM_RANDOM}, {FROM_IN}},
    {OP_LAYERNORM, BACKWARD_WEIGHT, {FROM_DY, FROM_IN, FROM_OUT + 1, FROM_OUT + 2}, {FROM_IN + 1, FROM_IN + 2}},
    {OP_BATCHNORM,
     BACKWARD_DATA,
     {FROM_DY, FROM_IN, FROM_IN + 1, FROM_IN + 2, FROM_IN + 3, FROM_DSUMS, FROM_SUMS},
     {FROM_IN}},
    {OP_BATCHNORM,
     BACKWARD_WEIGHT,
     {FROM_DY, FROM_IN, FROM_IN + 1, FROM_IN + 2},
     {FROM_IN + 3, FROM_IN + 4, FROM_DSUMS}},
    {OP_DROPOUT, BACKWARD_DATA, {FROM_DY, FROM_IN + 1}, {FROM_IN}},
    {OP_ATTENTION,
     BACKWARD_DATA,
     {FROM_DY, FROM_IN, FROM_IN + 1, FROM_IN + 2, FROM_OUT, FROM_OUT + 1, FROM_IN + 3, FROM_IN + 4},
     {FROM_IN, FROM_IN + 1, FROM_IN + 2}},
    {OP_EMBED, BACKWARD_WEIGHT, {FROM_DY, FROM_IN}, {FROM_IN + 1}},
    {OP_TAKE_ROW, BACKWARD_DATA, {FROM_DY, FROM_IN + 1}, {FROM_IN}},
    {OP_TAKE_PLANE, BACKWARD_DATA, {FROM_DY, FROM_IN + 1}, {FROM_IN}},
    {OP_CONV_EACH, BACKWARD_DATA, {FROM_DY, FROM_IN + 1}, {FROM_IN}},
    {OP_CONV_EACH, BACKWARD_WEIGHT, {FROM_DY, FROM_IN}, {FROM_IN + 1, FROM_IN + 2}},
    {OP_POOL, BACKWARD_DATA, {FROM_DY, FROM_OUT + 1}, {FROM_IN}},
    {OP_SLICE, BACKWARD_DATA, {FROM_DY}, {FROM_IN}},
    {OP_DOUBLED_KERNEL, BACKWARD_DATA, {FROM_DY}, {FROM_IN}},
    {OP_RESIZE, BACKWARD_DATA, {FROM_DY}, {FROM_IN}},
    {OP_SEGMENT_LOSS, BACKWARD_DATA, {FROM_IN, FROM_IN + 1, FROM_OUT + 1, FROM_SCALE}, {FROM_IN}},
};

const struct gradient_rule *gradient_rule_find(op_kind_t kind, direction_t direction) {
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
    if (rules[i].kind == kind && rules[i].direction == direction) return &rules[i];
  }
  return NULL;
}

static struct tensor_desc place_desc(const struct op *forward, direction_t direction, int place, bool more) {
  int64_t channels = desc_columns(&forward->in[0]);
  switch (place) {
  case FROM_DY: return forward->out[0];
  case FROM_RANDOM: return more ? forward->in[0] : (struct tensor_desc){0};
  case FROM_SCALE: return F(1);
  case FROM_SLOPE: return forward->in[0];
  case FROM_DSUMS: return more || direction == BACKWARD_WEIGHT ? W(2 * channels) : (struct tensor_desc){0};
  case FROM_SUMS: return more ? W(2 * channels + 1) : (struct tensor_desc){0};
  default: return place >= FROM_OUT ? forward->out[place - FROM_OUT] : forward->in[place - FROM_IN];
  }
}

static struct op gradient_of(const struct op *forward, const struct gradient_rule *rule, bool more) {
  struct op op = {.kind = forward->kind, .direction = rule->direction, .attr = forward->attr};
  for (; op.inputs < OP_MAX_IN && rule->in[op.inputs]; op.inputs++) {
    op.in[op.inputs] = place_desc(forward, rule->direction, rule->in[op.inputs], more);
  }
  for (; op.outputs < OP_MAX_OUT && rule->wrt[op.outputs]; op.outputs++) {
    op.out[op.outputs] = place_desc(forward, rule->direction, rule->wrt[op.outputs], more);
  }
  return op;
}

static bool is_plain(const struct op *op) {
  if (op->kind == OP_ACTIVATION) return true;
  bool residual = (op->kind == OP_LINEAR || op->kind == OP_CONV) && op->in[3].dtype != DTYPE_NONE;
  residual = residual || (op->kind == OP_BATCHNORM && op->in[5].dtype != DTYPE_NONE);
  bool saves = op->kind == OP_LAYERNORM || op->kind == OP_ATTENTION;
  saves = saves || (op->kind == OP_POOL && op->attr.pool == POOL_MAX);
  return op->attr.activation == ACT_NONE && !residual && (!saves || op->out[1].dtype != DTYPE_NONE);
}

static bool takes_more(const struct gradient_rule *rule) {
  for (int i = 0; i < OP_MAX_IN; i++) {
    if (rule->in[i] == FROM_RANDOM || rule->in[i] == FROM_SUMS) return true;
  }
  return false;
}

// What no row states: a descriptor that is left out is all zero, as everywhere; attention divides by sqrt(d).
static void complete(struct op *op) {
  if (op->kind == OP_ATTENTION) op->attr.scale = 1 / sqrt((double)op->in[0].dim[2] / op->attr.heads);
  for (int i = 0; i < OP_MAX_IN; i++) {
    if (op->in[i].dtype == DTYPE_NONE) op->in[i] = (struct tensor_desc){0};
  }
  for (int i = 0; i < OP_MAX_OUT; i++) {
    if (op->out[i].dtype == DTYPE_NONE) op->out[i] = (struct tensor_desc){0};
  }
}

status_t op_cases_create(struct op_case **out, size_t *count) {
  enum { ROWS = sizeof rows / sizeof *rows, MOST = 5 };
  size_t n = 0;
  TRY(mem_alloc(out, (size_t)ROWS * MOST, sizeof **out));
  for (size_t i = 0; i < ROWS; i++) {
    struct op_case c = rows[i];
    complete(&c.forward);
    c.op = c.forward;
    (*out)[n++] = c;
    for (direction_t d = BACKWARD_DATA; is_plain(&c.forward) && d <= BACKWARD_WEIGHT; d++) {
      const struct gradient_rule *rule = gradient_rule_find(c.forward.kind, d);
      for (int more = 0; rule && more <= (takes_more(rule) ? 1 : 0); more++) {
        c.op = gradient_of(&c.forward, rule, more != 0);
        (*out)[n++] = c;
      }
    }
  }
  *count = n;
  return OK;
}
