// op_shapes.c: shapes and attributes of every kind, as backend.h states them. One function a kind; each takes all
// directions, since the same tensors stand in them, only in other places.
#include "backend/op.h"

#include <math.h>

#define WANT(side, i, ...)                                                                                             \
  TRY(op_want(op, (side), (i), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__}))

// The dimensions of `d` with the last one replaced.
static struct tensor_desc with_columns(const struct tensor_desc *d, int64_t columns) {
  struct tensor_desc out = *d;
  out.dim[out.rank - 1] = columns;
  return out;
}

static status_t check_activation(const struct op *op, bool needed) {
  if ((unsigned)op->attr.activation > ACT_TANH) {
    return op_fail(op, "activation %d is unknown", (int)op->attr.activation);
  }
  if (op->kind != OP_ACTIVATION && op->direction != FORWARD && op->attr.activation != ACT_NONE) {
    return op_fail(op, "the gradient of the epilogue is an ACTIVATION operation of its own");
  }
  if (needed && op->attr.activation == ACT_NONE) return op_fail(op, "an activation is wanted");
  return OK;
}

static status_t check_linear(const struct op *op) {
  TRY(check_activation(op, false));
  TRY(op_want_rank(op, IN, 0, 1, TENSOR_MAX_RANK));
  if (op->direction == BACKWARD_WEIGHT) {
    TRY(op_want_rank(op, IN, 1, 1, TENSOR_MAX_RANK));
    int64_t n = desc_columns(&op->in[0]), k = desc_columns(&op->in[1]);
    struct tensor_desc x = with_columns(&op->in[0], k);
    TRY(op_want_like(op, IN, 1, &x));
    WANT(OUT, 0, n, k);
    WANT(OUT, 1, n);
    return OK;
  }
  TRY(op_want_rank(op, IN, 1, 2, 2));
  int64_t n = op->in[1].dim[0], k = op->in[1].dim[1];
  bool forward = op->direction == FORWARD;
  struct tensor_desc from = with_columns(&op->in[0], forward ? k : n), to = with_columns(&op->in[0], forward ? n : k);
  TRY(op_want_like(op, IN, 0, &from));
  TRY(op_want_like(op, OUT, 0, &to));
  if (!forward) return op_want_like(op, IN, 2, &to);
  WANT(IN, 2, n);
  return op_want_like(op, IN, 3, &to);
}

static status_t check_window(const struct op *op, bool transposed) {
  for (int i = 0; i < 2; i++) {
    if (op->attr.stride[i] < 1 || op->attr.dilation[i] < 1 || op->attr.pad[i] < 0) {
      return op_fail(op, "stride %d, dilation %d, pad %d are not a window", op->attr.stride[i], op->attr.dilation[i],
                     op->attr.pad[i]);
    }
    if (transposed && op->attr.dilation[i] != 1) return op_fail(op, "dilation must be 1, met %d", op->attr.dilation[i]);
  }
  if (op->attr.groups < 1) return op_fail(op, "groups must be at least 1, met %d", op->attr.groups);
  if (transposed && op->attr.groups != 1) return op_fail(op, "groups must be 1, met %d", op->attr.groups);
  return check_activation(op, false);
}

// Where the picture with small channels x, the other picture y, and the weights stand in each direction.
struct window_operands {
  const struct tensor_desc *x, *y, *w;
  op_side_t x_side, y_side, w_side;
  int x_at, y_at, w_at;
};

static struct window_operands window_operands(const struct op *op) {
  switch (op->direction) {
  case FORWARD: return (struct window_operands){&op->in[0], &op->out[0], &op->in[1], IN, OUT, IN, 0, 0, 1};
  case BACKWARD_DATA: return (struct window_operands){&op->out[0], &op->in[0], &op->in[1], OUT, IN, IN, 0, 0, 1};
  default: return (struct window_operands){&op->in[1], &op->in[0], &op->out[0], IN, IN, OUT, 1, 0, 0};
  }
}

static status_t check_conv(const struct op *op) {
  bool transposed = op->kind == OP_CONV_TRANSPOSE;
  struct window_operands o = window_operands(op);
  TRY(check_window(op, transposed));
  TRY(op_want_rank(op, o.x_side, o.x_at, 4, 4));
  TRY(op_want_rank(op, o.w_side, o.w_at, 4, 4));
  for (int i = 0; i < 4; i++) { // so that no product below overflows
    if (o.x->dim[i] > INT32_MAX || o.w->dim[i] > INT32_MAX) return op_fail(op, "dimension %d is too large", i);
  }
  int64_t c = o.x->dim[3], out = o.w->dim[transposed ? 1 : 0], size[2];
  for (int i = 0; i < 2; i++) {
    int64_t in = o.x->dim[1 + i], kernel = o.w->dim[2 + i], stride = op->attr.stride[i], pad = op->attr.pad[i];
    if (transposed) {
      size[i] = (in - 1) * stride - 2 * pad + kernel;
    } else {
      int64_t room = in + 2 * pad - op->attr.dilation[i] * (kernel - 1) - 1;
      size[i] = room < 0 ? 0 : room / stride + 1;
    }
    if (size[i] < 1) return op_fail(op, "the window is larger than the picture: output size %lld", (long long)size[i]);
  }
  if (transposed) {
    WANT(o.w_side, o.w_at, c, out, o.w->dim[2], o.w->dim[3]);
  } else {
    if (c % op->attr.groups || out % op->attr.groups) {
      return op_fail(op, "%lld and %lld channels do not divide into %d groups", (long long)c, (long long)out,
                     op->attr.groups);
    }
    WANT(o.w_side, o.w_at, out, c / op->attr.groups, o.w->dim[2], o.w->dim[3]);
  }
  WANT(o.y_side, o.y_at, o.x->dim[0], size[0], size[1], out);
  if (op->direction == FORWARD) {
    WANT(IN, 2, out);
    if (!transposed) TRY(op_want_like(op, IN, 3, o.y));
  }
  if (op->direction == BACKWARD_WEIGHT) WANT(OUT, 1, out);
  return OK;
}

static status_t check_pointwise(const struct op *op) {
  if (op->kind == OP_ACTIVATION) TRY(check_activation(op, true));
  if (op->kind == OP_ACTIVATION && op->direction == BACKWARD_DATA) TRY(op_want_like(op, IN, 1, &op->in[0]));
  return op_want_like(op, OUT, 0, &op->in[0]);
}

// `small`, right-aligned under `large`, has equal dimensions or 1.
static status_t check_broadcast(const struct op *op, const struct tensor_desc *small, const struct tensor_desc *large) {
  bool fits = small->rank <= large->rank;
  for (int i = 1; fits && i <= small->rank; i++) {
    int64_t a = small->dim[small->rank - i];
    fits = a == 1 || a == large->dim[large->rank - i];
  }
  char a[DESC_TEXT], b[DESC_TEXT];
  return fits ? OK : op_fail(op, "%s does not repeat into %s", desc_text(small, a), desc_text(large, b));
}

static status_t check_epsilon(const struct op *op) {
  if (op->attr.epsilon >= 0 && isfinite(op->attr.epsilon)) return OK;
  return op_fail(op, "epsilon is %g", op->attr.epsilon);
}

static status_t check_layernorm(const struct op *op) {
  int x_at = op->direction == FORWARD ? 0 : 1;
  const struct tensor_desc *x = &op->in[x_at];
  TRY(op_want_rank(op, IN, x_at, 1, TENSOR_MAX_RANK));
  int64_t rows = desc_rows(x), width = desc_columns(x);
  TRY(check_epsilon(op));
  switch (op->direction) {
  case FORWARD:
    WANT(IN, 1, width);
    WANT(IN, 2, width);
    TRY(op_want_like(op, OUT, 0, x));
    WANT(OUT, 1, rows);
    WANT(OUT, 2, rows);
    return OK;
  case BACKWARD_DATA:
    TRY(op_want_like(op, IN, 0, x));
    WANT(IN, 2, width);
    WANT(IN, 3, rows);
    WANT(IN, 4, rows);
    TRY(op_want_like(op, IN, 5, x));
    return op_want_like(op, OUT, 0, x);
  default:
    TRY(op_want_like(op, IN, 0, x));
    WANT(IN, 2, rows);
    WANT(IN, 3, rows);
    WANT(OUT, 0, width);
    WANT(OUT, 1, width);
    return OK;
  }
}

static status_t check_batchnorm_sums(const struct op *op) {
  TRY(op_want_rank(op, IN, 0, 1, TENSOR_MAX_RANK));
  WANT(OUT, 0, 2 * desc_columns(&op->in[0]) + 1);
  return OK;
}

static status_t check_batchnorm_moments(const struct op *op) {
  TRY(op_want_rank(op, OUT, 0, 1, 1));
  int64_t c = op->out[0].dim[0];
  if (!(op->attr.momentum >= 0 && op->attr.momentum <= 1)) return op_fail(op, "momentum is %g", op->attr.momentum);
  WANT(IN, 0, 2 * c + 1);
  WANT(IN, 1, c);
  WANT(IN, 2, c);
  for (int i = 1; i < 4; i++) WANT(OUT, i, c);
  return OK;
}

static status_t check_batchnorm(const struct op *op) {
  bool forward = op->direction == FORWARD;
  int x_at = forward ? 0 : 1;
  const struct tensor_desc *x = &op->in[x_at];
  TRY(check_activation(op, false));
  TRY(check_epsilon(op));
  TRY(op_want_rank(op, IN, x_at, 1, TENSOR_MAX_RANK));
  int64_t c = desc_columns(x);
  WANT(IN, x_at + 1, c);
  WANT(IN, x_at + 2, c);
  if (!forward) TRY(op_want_like(op, IN, 0, x));
  if (op->direction == BACKWARD_WEIGHT) {
    WANT(OUT, 0, c);
    WANT(OUT, 1, c);
    WANT(OUT, 2, 2 * c);
    return OK;
  }
  WANT(IN, x_at + 3, c);
  if (forward) {
    WANT(IN, 4, c);
    TRY(op_want_like(op, IN, 5, x));
  } else {
    WANT(IN, 5, 2 * c);
    WANT(IN, 6, 2 * c + 1);
    if ((op->in[5].dtype == DTYPE_NONE) != (op->in[6].dtype == DTYPE_NONE)) {
      return op_fail(op, "operands 'dsums' and 'sums' go together");
    }
  }
  return op_want_like(op, OUT, 0, x);
}

static status_t check_batchnorm_fold(const struct op *op) {
  TRY(check_epsilon(op));
  TRY(op_want_rank(op, IN, 0, 1, TENSOR_MAX_RANK));
  int64_t o = op->in[0].dim[0];
  for (int i = 1; i < 6; i++) WANT(IN, i, o);
  TRY(op_want_like(op, OUT, 0, &op->in[0]));
  WANT(OUT, 1, o);
  return OK;
}

static status_t check_doubled_kernel(const struct op *op) {
  op_side_t small = op->direction == FORWARD ? IN : OUT, large = op->direction == FORWARD ? OUT : IN;
  TRY(op_want_rank(op, small, 0, 4, 4));
  const struct tensor_desc *w = small == IN ? &op->in[0] : &op->out[0];
  WANT(small, 0, w->dim[0], w->dim[1], 3, 3);
  WANT(large, 0, w->dim[1], w->dim[0], 4, 4);
  return OK;
}

static status_t check_noise(const struct op *op, int at, int64_t batch) {
  if (!(op->attr.dropout >= 0 && op->attr.dropout < 1)) return op_fail(op, "dropout is %g", op->attr.dropout);
  if (op->attr.stream < 0 || op->attr.stream > UINT32_MAX) {
    return op_fail(op, "stream is %lld", (long long)op->attr.stream);
  }
  WANT(IN, at, batch, 4);
  return OK;
}

static status_t check_dropout(const struct op *op) {
  TRY(op_want_rank(op, IN, 0, 1, TENSOR_MAX_RANK));
  TRY(check_noise(op, 1, op->in[0].dim[0]));
  return op_want_like(op, OUT, 0, &op->in[0]);
}

static status_t check_attention(const struct op *op) {
  int first = op->direction == FORWARD ? 0 : 1;
  const struct tensor_desc *q = &op->in[first], *k = &op->in[first + 1];
  TRY(op_want_rank(op, IN, first, 3, 3));
  TRY(op_want_rank(op, IN, first + 1, 3, 3));
  int64_t b = q->dim[0], t = q->dim[1], width = q->dim[2], s = k->dim[1];
  if (op->attr.heads < 1 || width % op->attr.heads) {
    return op_fail(op, "width %lld does not divide into %d heads", (long long)width, op->attr.heads);
  }
  if (!isfinite(op->attr.scale) || op->attr.scale == 0) return op_fail(op, "scale is %g", op->attr.scale);
  WANT(IN, first + 1, b, s, width);
  WANT(IN, first + 2, b, s, width);
  int noise = op->direction == FORWARD ? 4 : 7;
  TRY(check_noise(op, noise, b));
  if ((op->attr.dropout > 0) != (op->in[noise].dtype != DTYPE_NONE)) {
    return op_fail(op, "dropout %g and operand 'noise' go together", op->attr.dropout);
  }
  if (op->attr.dropout > 0 && s > 1 << 16) return op_fail(op, "dropout takes 65536 keys, met %lld", (long long)s);
  if (op->direction == FORWARD) {
    WANT(IN, 3, b);
    TRY(op_want_like(op, OUT, 0, q));
    WANT(OUT, 1, b, op->attr.heads, t);
    return OK;
  }
  TRY(op_want_like(op, IN, 0, q));
  TRY(op_want_like(op, IN, 4, q));
  WANT(IN, 5, b, op->attr.heads, t);
  WANT(IN, 6, b);
  TRY(op_want_like(op, OUT, 0, q));
  TRY(op_want_like(op, OUT, 1, k));
  return op_want_like(op, OUT, 2, k);
}

static status_t check_embed(const struct op *op) {
  bool forward = op->direction == FORWARD;
  const struct tensor_desc *id = &op->in[forward ? 0 : 1], *table = forward ? &op->in[1] : &op->out[0];
  TRY(op_want_rank(op, IN, forward ? 0 : 1, 2, 2));
  TRY(op_want_rank(op, forward ? IN : OUT, forward ? 1 : 0, 2, 2));
  WANT(forward ? OUT : IN, 0, id->dim[0], id->dim[1], table->dim[1]);
  return OK;
}

static status_t check_take_row(const struct op *op) {
  op_side_t side = op->direction == FORWARD ? IN : OUT;
  const struct tensor_desc *x = op_operand(op, side, 0);
  TRY(op_want_rank(op, side, 0, 3, 3));
  WANT(IN, 1, x->dim[0]);
  WANT(side == IN ? OUT : IN, 0, x->dim[0], x->dim[2]);
  return OK;
}

static status_t check_take_plane(const struct op *op) {
  op_side_t side = op->direction == FORWARD ? IN : OUT;
  const struct tensor_desc *x = op_operand(op, side, 0);
  TRY(op_want_rank(op, side, 0, 4, 4));
  WANT(IN, 1, x->dim[0]);
  WANT(side == IN ? OUT : IN, 0, x->dim[0], x->dim[1], x->dim[2]);
  return OK;
}

static status_t check_conv_each(const struct op *op) {
  struct window_operands o = window_operands(op);
  TRY(op_want_rank(op, o.x_side, o.x_at, 4, 4));
  TRY(op_want_rank(op, o.w_side, o.w_at, 4, 4));
  int64_t b = o.x->dim[0], size[2];
  for (int i = 0; i < 2; i++) {
    int64_t in = o.x->dim[1 + i], kernel = o.w->dim[2 + i];
    if (in > INT32_MAX || kernel > INT32_MAX || op->attr.pad[i] < 0) return op_fail(op, "dimension %d is too large", i);
    size[i] = in + 2 * op->attr.pad[i] - kernel + 1;
    if (size[i] < 1) return op_fail(op, "the window is larger than the picture: output size %lld", (long long)size[i]);
  }
  WANT(o.w_side, o.w_at, b, o.x->dim[3], o.w->dim[2], o.w->dim[3]);
  WANT(o.y_side, o.y_at, b, size[0], size[1], 1);
  if (op->direction == FORWARD) WANT(IN, 2, b);
  if (op->direction == BACKWARD_WEIGHT) WANT(OUT, 1, b);
  return OK;
}

static status_t check_pool(const struct op *op) {
  bool forward = op->direction == FORWARD, max = op->attr.pool == POOL_MAX;
  if ((unsigned)op->attr.pool > POOL_AVERAGE) return op_fail(op, "pool mode %d", (int)op->attr.pool);
  const struct tensor_desc *x = forward ? &op->in[0] : &op->out[0], *y = forward ? &op->out[0] : &op->in[0];
  TRY(op_want_rank(op, forward ? IN : OUT, 0, 4, 4));
  TRY(op_want_rank(op, forward ? OUT : IN, 0, 4, 4));
  int64_t size[2];
  for (int i = 0; i < 2; i++) {
    int k = op->attr.kernel[i], stride = op->attr.stride[i], pad = op->attr.pad[i];
    if (k < 1 || stride < 1 || pad < 0 || 2 * (int64_t)pad > k || (!max && pad) || x->dim[1 + i] > INT32_MAX) {
      return op_fail(op, "kernel %d, stride %d, pad %d are not a window", k, stride, pad);
    }
    int64_t room = x->dim[1 + i] + 2 * pad - k;
    if (room < 0) return op_fail(op, "the window is larger than the picture");
    size[i] = room / stride + 1;
  }
  if (max && (int64_t)op->attr.kernel[0] * op->attr.kernel[1] > 256) return op_fail(op, "a window of over 256 pixels");
  WANT(forward ? OUT : IN, 0, x->dim[0], size[0], size[1], x->dim[3]);
  if (!max && op_operand(op, forward ? OUT : IN, 1)->dtype != DTYPE_NONE) {
    return op_fail(op, "operand 'where' belongs to max");
  }
  if (!forward && max && op->in[1].dtype == DTYPE_NONE) return op_fail(op, "operand 'where' is left out");
  return op_want_like(op, forward ? OUT : IN, 1, y);
}

static status_t check_axis(const struct op *op, int rank) {
  if (op->attr.axis >= 0 && op->attr.axis < rank) return OK;
  return op_fail(op, "axis %d is outside 0..%d", op->attr.axis, rank - 1);
}

static status_t check_concat(const struct op *op) {
  struct tensor_desc whole = op->in[0];
  TRY(check_axis(op, whole.rank));
  int axis = op->attr.axis;
  whole.dim[axis] = 0;
  for (int i = 0; i < op->inputs; i++) {
    if (op->in[i].dtype == DTYPE_NONE) return op_fail(op, "operand '%s' is left out", op_operand_name(op, IN, i));
    TRY(op_want_rank(op, IN, i, whole.rank, whole.rank));
    struct tensor_desc want = op->in[0];
    want.dim[axis] = op->in[i].dim[axis];
    TRY(op_want_like(op, IN, i, &want));
    if (__builtin_add_overflow(whole.dim[axis], want.dim[axis], &whole.dim[axis])) return op_fail(op, "size overflow");
  }
  return op_want_like(op, OUT, 0, &whole);
}

static status_t check_slice(const struct op *op) {
  bool forward = op->direction == FORWARD;
  const struct tensor_desc *whole = forward ? &op->in[0] : &op->out[0], *part = forward ? &op->out[0] : &op->in[0];
  op_side_t side = forward ? OUT : IN;
  TRY(op_want_rank(op, side, 0, whole->rank, whole->rank));
  TRY(check_axis(op, whole->rank));
  int axis = op->attr.axis;
  if (op->attr.start < 0 || op->attr.start > whole->dim[axis] - part->dim[axis]) {
    return op_fail(op, "%lld elements from %lld on are not within the %lld of axis %d", (long long)part->dim[axis],
                   (long long)op->attr.start, (long long)whole->dim[axis], axis);
  }
  struct tensor_desc want = *whole;
  want.dim[axis] = part->dim[axis];
  return op_want_like(op, side, 0, &want);
}

static status_t check_transpose(const struct op *op) {
  struct tensor_desc want = op->in[0];
  unsigned seen = 0;
  for (int i = 0; i < want.rank; i++) {
    int from = op->attr.permutation[i];
    if (from < 0 || from >= want.rank || seen >> from & 1u) {
      return op_fail(op, "entry %d of the permutation is %d", i, from);
    }
    seen |= 1u << from;
    want.dim[i] = op->in[0].dim[from];
  }
  return op_want_like(op, OUT, 0, &want);
}

static status_t check_resize(const struct op *op) {
  if ((unsigned)op->attr.resize > RESIZE_NEAREST) return op_fail(op, "resize mode %d", (int)op->attr.resize);
  TRY(op_want_rank(op, IN, 0, 4, 4));
  TRY(op_want_rank(op, OUT, 0, 4, 4));
  const struct tensor_desc *x = &op->in[0], *y = &op->out[0];
  WANT(OUT, 0, x->dim[0], y->dim[1], y->dim[2], x->dim[3]);
  return OK;
}

static status_t check_pixels(const struct op *op) {
  TRY(op_want_rank(op, IN, 0, 4, 4));
  WANT(IN, 0, op->in[0].dim[0], op->in[0].dim[1], op->in[0].dim[2], 3);
  for (int c = 0; c < 3; c++) {
    if (!isfinite(op->attr.mean[c]) || !isfinite(op->attr.std[c]) || !(op->attr.std[c] > 0)) {
      return op_fail(op, "mean %g and std %g of channel %d", op->attr.mean[c], op->attr.std[c], c);
    }
  }
  return op_want_like(op, OUT, 0, &op->in[0]);
}

static status_t check_segment_loss(const struct op *op) {
  if ((unsigned)op->attr.loss > LOSS_MONAI14) return op_fail(op, "loss %d is unknown", (int)op->attr.loss);
  TRY(op_want_rank(op, IN, 0, 3, 3));
  TRY(op_want_like(op, IN, 1, &op->in[0]));
  int64_t b = op->in[0].dim[0];
  if (op->direction == FORWARD) {
    WANT(OUT, 0, b);
    WANT(OUT, 1, b, 4);
    return OK;
  }
  WANT(IN, 2, b, 4);
  WANT(IN, 3, 1);
  return op_want_like(op, OUT, 0, &op->in[0]);
}

static status_t check_adamw(const struct op *op) {
  TRY(op_want_rank(op, IN, 0, 1, 1));
  for (int i = 1; i < 5; i++) TRY(op_want_like(op, IN, i, &op->in[0]));
  WANT(IN, 5, 8);
  static const int twin[3] = {0, 2, 3};
  for (int i = 0; i < 3; i++) {
    TRY(op_want_like(op, OUT, i, &op->in[0]));
    if (op->out[i].dtype != op->in[twin[i]].dtype) {
      return op_fail(op, "output '%s' must have the type of the input, since it is the same memory",
                     op_operand_name(op, OUT, i));
    }
  }
  return OK;
}

status_t op_check_shapes(const struct op *op) {
  switch (op->kind) {
  case OP_LINEAR: return check_linear(op);
  case OP_CONV:
  case OP_CONV_TRANSPOSE: return check_conv(op);
  case OP_ACTIVATION:
  case OP_CAST: return check_pointwise(op);
  case OP_ADD:
  case OP_MULTIPLY: TRY(check_broadcast(op, &op->in[1], &op->in[0])); return op_want_like(op, OUT, 0, &op->in[0]);
  case OP_SUM_TO: return check_broadcast(op, &op->out[0], &op->in[0]);
  case OP_EXPAND: return check_broadcast(op, &op->in[0], &op->out[0]);
  case OP_LAYERNORM: return check_layernorm(op);
  case OP_BATCHNORM_SUMS: return check_batchnorm_sums(op);
  case OP_BATCHNORM_MOMENTS: return check_batchnorm_moments(op);
  case OP_BATCHNORM: return check_batchnorm(op);
  case OP_BATCHNORM_FOLD: return check_batchnorm_fold(op);
  case OP_DOUBLED_KERNEL: return check_doubled_kernel(op);
  case OP_EXCHANGE: TRY(op_want_rank(op, IN, 0, 1, 1)); return op_want_like(op, OUT, 0, &op->in[0]);
  case OP_DROPOUT: return check_dropout(op);
  case OP_ATTENTION: return check_attention(op);
  case OP_EMBED: return check_embed(op);
  case OP_TAKE_ROW: return check_take_row(op);
  case OP_TAKE_PLANE: return check_take_plane(op);
  case OP_CONV_EACH: return check_conv_each(op);
  case OP_POOL: return check_pool(op);
  case OP_CONCAT: return check_concat(op);
  case OP_SLICE: return check_slice(op);
  case OP_TRANSPOSE: return check_transpose(op);
  case OP_RESIZE: return check_resize(op);
  case OP_PIXELS: return check_pixels(op);
  case OP_SEGMENT_LOSS: return check_segment_loss(op);
  case OP_SUM_SQUARES: TRY(op_want_rank(op, IN, 0, 1, 1)); return op_want(op, OUT, 0, 1, (int64_t[]){1});
  case OP_ADAMW: return check_adamw(op);
  case OP_KINDS: break;
  }
  return op_fail(op, "this kind is unknown");
}
