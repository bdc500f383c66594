// op.c: what an operation is made of. The table of signatures below is the contract of backend.h in a form that the
// program can read; op_check holds every operation against it before a backend sees it.
#include "backend/op.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *op_kind_name(op_kind_t kind) {
  static const char *const name[OP_KINDS] = {
      [OP_LINEAR] = "LINEAR",
      [OP_CONV] = "CONV",
      [OP_CONV_TRANSPOSE] = "CONV_TRANSPOSE",
      [OP_ACTIVATION] = "ACTIVATION",
      [OP_ADD] = "ADD",
      [OP_MULTIPLY] = "MULTIPLY",
      [OP_SUM_TO] = "SUM_TO",
      [OP_EXPAND] = "EXPAND",
      [OP_LAYERNORM] = "LAYERNORM",
      [OP_BATCHNORM_SUMS] = "BATCHNORM_SUMS",
      [OP_BATCHNORM_MOMENTS] = "BATCHNORM_MOMENTS",
      [OP_BATCHNORM] = "BATCHNORM",
      [OP_BATCHNORM_FOLD] = "BATCHNORM_FOLD",
      [OP_DOUBLED_KERNEL] = "DOUBLED_KERNEL",
      [OP_EXCHANGE] = "EXCHANGE",
      [OP_DROPOUT] = "DROPOUT",
      [OP_ATTENTION] = "ATTENTION",
      [OP_EMBED] = "EMBED",
      [OP_TAKE_ROW] = "TAKE_ROW",
      [OP_TAKE_PLANE] = "TAKE_PLANE",
      [OP_CONV_EACH] = "CONV_EACH",
      [OP_POOL] = "POOL",
      [OP_CONCAT] = "CONCAT",
      [OP_SLICE] = "SLICE",
      [OP_TRANSPOSE] = "TRANSPOSE",
      [OP_CAST] = "CAST",
      [OP_RESIZE] = "RESIZE",
      [OP_PIXELS] = "PIXELS",
      [OP_SEGMENT_LOSS] = "SEGMENT_LOSS",
      [OP_SUM_SQUARES] = "SUM_SQUARES",
      [OP_ADAMW] = "ADAMW",
  };
  return (unsigned)kind < OP_KINDS ? name[kind] : "UNKNOWN";
}

const char *direction_name(direction_t direction) {
  static const char *const name[] = {"forward", "backward-data", "backward-weight"};
  return (unsigned)direction < 3 ? name[direction] : "unknown";
}

const char *activation_name(activation_t activation) {
  static const char *const name[] = {"none", "relu", "quickgelu", "gelu_erf", "sigmoid", "tanh"};
  return (unsigned)activation < 6 ? name[activation] : "unknown";
}

// One operand: its name, whether it may be left out, and the types that it may have.
typedef enum {
  DATA,  // f32 or bf16, or f64 when every float operand is f64
  STATS, // f32, or f64 when the data are f64
  REAL,  // f64 always
  INDEX, // i32
  BYTES, // u8
} type_class_t;

struct operand {
  const char *name;
  type_class_t type;
  bool optional;
};

struct signature {
  op_kind_t kind;
  direction_t direction;
  struct operand in[OP_MAX_IN], out[OP_MAX_OUT];
};

#define D(n)                                                                                                           \
  { n, DATA, false }
#define O(n)                                                                                                           \
  { n, DATA, true }
#define S(n)                                                                                                           \
  { n, STATS, false }
#define R(n)                                                                                                           \
  { n, REAL, false }
#define I(n)                                                                                                           \
  { n, INDEX, false }
static const struct signature signatures[] = {
    {OP_LINEAR, FORWARD, {D("x"), D("w"), O("b"), O("r")}, {D("y")}},
    {OP_LINEAR, BACKWARD_DATA, {D("dy"), D("w"), O("r")}, {D("dx")}},
    {OP_LINEAR, BACKWARD_WEIGHT, {D("dy"), D("x")}, {D("dw"), O("db")}},
    {OP_CONV, FORWARD, {D("x"), D("w"), O("b"), O("r")}, {D("y")}},
    {OP_CONV, BACKWARD_DATA, {D("dy"), D("w")}, {D("dx")}},
    {OP_CONV, BACKWARD_WEIGHT, {D("dy"), D("x")}, {D("dw"), O("db")}},
    {OP_CONV_TRANSPOSE, FORWARD, {D("x"), D("w"), O("b")}, {D("y")}},
    {OP_CONV_TRANSPOSE, BACKWARD_DATA, {D("dy"), D("w")}, {D("dx")}},
    {OP_CONV_TRANSPOSE, BACKWARD_WEIGHT, {D("dy"), D("x")}, {D("dw"), O("db")}},
    {OP_ACTIVATION, FORWARD, {D("x")}, {D("y")}},
    {OP_ACTIVATION, BACKWARD_DATA, {D("dy"), D("s")}, {D("dx")}},
    {OP_ADD, FORWARD, {D("a"), D("b")}, {D("y")}},
    {OP_MULTIPLY, FORWARD, {D("a"), D("b")}, {D("y")}},
    {OP_SUM_TO, FORWARD, {D("x")}, {D("y")}},
    {OP_EXPAND, FORWARD, {D("x")}, {D("y")}},
    {OP_LAYERNORM, FORWARD, {D("x"), D("gamma"), D("beta")}, {D("y"), {"mean", STATS, true}, {"rstd", STATS, true}}},
    {OP_LAYERNORM, BACKWARD_DATA, {D("dy"), D("x"), D("gamma"), S("mean"), S("rstd"), O("r")}, {D("dx")}},
    {OP_LAYERNORM, BACKWARD_WEIGHT, {D("dy"), D("x"), S("mean"), S("rstd")}, {D("dgamma"), D("dbeta")}},
    {OP_BATCHNORM_SUMS, FORWARD, {D("x")}, {R("sums")}},
    {OP_BATCHNORM_MOMENTS,
     FORWARD,
     {R("sums"), S("running_mean"), S("running_var")},
     {S("mean"), S("var"), {"new_mean", STATS, true}, {"new_var", STATS, true}}},
    {OP_BATCHNORM, FORWARD, {D("x"), S("mean"), S("var"), D("gamma"), D("beta"), O("r")}, {D("y")}},
    {OP_BATCHNORM,
     BACKWARD_DATA,
     {D("dy"), D("x"), S("mean"), S("var"), D("gamma"), {"dsums", REAL, true}, {"sums", REAL, true}},
     {D("dx")}},
    {OP_BATCHNORM, BACKWARD_WEIGHT, {D("dy"), D("x"), S("mean"), S("var")}, {D("dgamma"), D("dbeta"), R("dsums")}},
    {OP_BATCHNORM_FOLD, FORWARD, {D("w"), O("b"), S("mean"), S("var"), D("gamma"), D("beta")}, {D("w"), D("b")}},
    {OP_DOUBLED_KERNEL, FORWARD, {D("w")}, {D("y")}},
    {OP_DOUBLED_KERNEL, BACKWARD_DATA, {D("dy")}, {D("dw")}},
    {OP_EXCHANGE, FORWARD, {R("x")}, {R("y")}},
    {OP_DROPOUT, FORWARD, {D("x"), I("noise")}, {D("y")}},
    {OP_DROPOUT, BACKWARD_DATA, {D("dy"), I("noise")}, {D("dx")}},
    {OP_ATTENTION,
     FORWARD,
     {D("q"), D("k"), D("v"), {"length", INDEX, true}, {"noise", INDEX, true}},
     {D("o"), {"lse", STATS, true}}},
    {OP_ATTENTION,
     BACKWARD_DATA,
     {D("do"), D("q"), D("k"), D("v"), D("o"), S("lse"), {"length", INDEX, true}, {"noise", INDEX, true}},
     {D("dq"), D("dk"), D("dv")}},
    {OP_EMBED, FORWARD, {{"id", INDEX, false}, D("table")}, {D("y")}},
    {OP_EMBED, BACKWARD_WEIGHT, {D("dy"), {"id", INDEX, false}}, {D("dtable")}},
    {OP_TAKE_ROW, FORWARD, {D("x"), {"row", INDEX, false}}, {D("y")}},
    {OP_TAKE_ROW, BACKWARD_DATA, {D("dy"), {"row", INDEX, false}}, {D("dx")}},
    {OP_TAKE_PLANE, FORWARD, {D("x"), I("plane")}, {D("y")}},
    {OP_TAKE_PLANE, BACKWARD_DATA, {D("dy"), I("plane")}, {D("dx")}},
    {OP_CONV_EACH, FORWARD, {D("x"), D("w"), O("b")}, {D("y")}},
    {OP_CONV_EACH, BACKWARD_DATA, {D("dy"), D("w")}, {D("dx")}},
    {OP_CONV_EACH, BACKWARD_WEIGHT, {D("dy"), D("x")}, {D("dw"), O("db")}},
    {OP_POOL, FORWARD, {D("x")}, {D("y"), {"where", BYTES, true}}},
    {OP_POOL, BACKWARD_DATA, {D("dy"), {"where", BYTES, true}}, {D("dx")}},
    {OP_CONCAT, FORWARD, {D("x0"), O("x1"), O("x2"), O("x3"), O("x4"), O("x5"), O("x6"), O("x7")}, {D("y")}},
    {OP_SLICE, FORWARD, {D("x")}, {D("y")}},
    {OP_SLICE, BACKWARD_DATA, {D("dy")}, {D("dx")}},
    {OP_TRANSPOSE, FORWARD, {D("x")}, {D("y")}},
    {OP_CAST, FORWARD, {D("x")}, {D("y")}},
    {OP_RESIZE, FORWARD, {D("x")}, {D("y")}},
    {OP_RESIZE, BACKWARD_DATA, {D("dy")}, {D("dx")}},
    {OP_PIXELS, FORWARD, {{"p", BYTES, false}}, {D("y")}},
    {OP_SEGMENT_LOSS, FORWARD, {D("logits"), {"target", BYTES, false}}, {S("loss"), S("sums")}},
    {OP_SEGMENT_LOSS, BACKWARD_DATA, {D("logits"), {"target", BYTES, false}, S("sums"), S("scale")}, {D("dlogits")}},
    {OP_SUM_SQUARES, FORWARD, {D("x")}, {S("y")}},
    {OP_ADAMW,
     FORWARD,
     {D("p"), D("g"), D("m"), D("v"), {"decay", BYTES, false}, {"scalars", REAL, false}},
     {D("p"), D("m"), D("v")}},
};
#undef D
#undef O
#undef S
#undef R
#undef I

static const struct signature *find_signature(const struct op *op) {
  for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
    if (signatures[i].kind == op->kind && signatures[i].direction == op->direction) return &signatures[i];
  }
  return NULL;
}

static int operand_count(const struct operand *list, int most) {
  int n = 0;
  while (n < most && list[n].name) n++;
  return n;
}

static const struct operand *find_operand(const struct op *op, op_side_t side, int i) {
  const struct signature *s = find_signature(op);
  return side == IN ? &s->in[i] : &s->out[i];
}

status_t op_fail(const struct op *op, const char *format, ...) {
  char text[384];
  va_list list;
  va_start(list, format);
  (void)vsnprintf(text, sizeof text, format, list);
  va_end(list);
  return FAIL(ERR_SHAPE, "%s %s: %s", op_kind_name(op->kind), direction_name(op->direction), text);
}

const struct tensor_desc *op_operand(const struct op *op, op_side_t side, int i) {
  return side == IN ? &op->in[i] : &op->out[i];
}

const char *op_operand_name(const struct op *op, op_side_t side, int i) {
  return find_operand(op, side, i)->name;
}

status_t op_want(const struct op *op, op_side_t side, int i, int rank, const int64_t *dim) {
  const struct tensor_desc *met = op_operand(op, side, i);
  if (met->dtype == DTYPE_NONE) return OK;
  struct tensor_desc want = {.dtype = met->dtype, .rank = rank};
  for (int k = 0; k < rank; k++) want.dim[k] = dim[k];
  if (desc_same_shape(met, &want)) return OK;
  char a[DESC_TEXT], b[DESC_TEXT];
  return op_fail(op, "operand '%s' must be %s, met %s", op_operand_name(op, side, i), desc_text(&want, a),
                 desc_text(met, b));
}

status_t op_want_like(const struct op *op, op_side_t side, int i, const struct tensor_desc *like) {
  return op_want(op, side, i, like->rank, like->dim);
}

status_t op_want_rank(const struct op *op, op_side_t side, int i, int low, int high) {
  const struct tensor_desc *met = op_operand(op, side, i);
  if (met->rank >= low && met->rank <= high) return OK;
  char a[DESC_TEXT];
  return op_fail(op, "operand '%s' must have %d..%d dimensions, met %s", op_operand_name(op, side, i), low, high,
                 desc_text(met, a));
}

static bool is_float(dtype_t t) {
  return t == DTYPE_F32 || t == DTYPE_F64 || t == DTYPE_BF16;
}

static bool type_fits(type_class_t class, dtype_t t, bool wide) {
  switch (class) {
  case DATA: return wide ? t == DTYPE_F64 : t == DTYPE_F32 || t == DTYPE_BF16;
  case STATS: return t == (wide ? DTYPE_F64 : DTYPE_F32);
  case REAL: return t == DTYPE_F64;
  case INDEX: return t == DTYPE_I32;
  case BYTES: return t == DTYPE_U8;
  }
  return false;
}

static status_t check_operand(const struct op *op, op_side_t side, int i, bool wide) {
  const struct operand *want = find_operand(op, side, i);
  const struct tensor_desc *met = op_operand(op, side, i);
  if (met->dtype == DTYPE_NONE) {
    return want->optional ? OK : op_fail(op, "operand '%s' is left out", want->name);
  }
  if (op->kind == OP_CAST) wide = met->dtype == DTYPE_F64; // each side has its own type
  if (!type_fits(want->type, met->dtype, wide)) {
    return op_fail(op, "operand '%s' has type %s beside %s data", want->name, dtype_name(met->dtype),
                   wide ? "fp64" : "fp32 or bf16");
  }
  if (desc_check(met, want->name) != OK) return op_fail(op, "%s", status_message());
  for (int k = 0; k < met->rank; k++) {
    if (met->dim[k] < 1) return op_fail(op, "dimension %d of operand '%s' is 0", k, want->name);
  }
  return OK;
}

// Types follow the first DATA operand: a PIXELS operation has its only one on the side of the outputs.
static bool is_wide(const struct op *op, const struct signature *s) {
  for (int i = 0; i < op->inputs; i++) {
    if (s->in[i].type == DATA && is_float(op->in[i].dtype)) return op->in[i].dtype == DTYPE_F64;
  }
  return op->out[0].dtype == DTYPE_F64;
}

status_t op_check(const struct op *op) {
  if ((unsigned)op->kind >= OP_KINDS) return FAIL(ERR_SHAPE, "operation kind %d is unknown", (int)op->kind);
  const struct signature *s = find_signature(op);
  if (!s) return op_fail(op, "this kind has no such direction");
  int inputs = operand_count(s->in, OP_MAX_IN), outputs = operand_count(s->out, OP_MAX_OUT);
  bool fits = op->kind == OP_CONCAT ? op->inputs >= 1 && op->inputs <= OP_MAX_IN : op->inputs == inputs;
  if (!fits) return op_fail(op, "wanted %d inputs (those left out count), met %d", inputs, op->inputs);
  if (op->outputs != outputs) {
    return op_fail(op, "wanted %d outputs (those left out count), met %d", outputs, op->outputs);
  }
  bool wide = is_wide(op, s);
  for (int i = 0; i < op->inputs; i++) TRY(check_operand(op, IN, i, wide));
  for (int i = 0; i < op->outputs; i++) TRY(check_operand(op, OUT, i, wide));
  return op_check_shapes(op);
}

// Appends to text, never past its end.
static int append(char text[OP_TEXT], int n, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int append(char text[OP_TEXT], int n, const char *format, ...) {
  if (n >= OP_TEXT - 1) return n;
  va_list list;
  va_start(list, format);
  int more = vsnprintf(text + n, (size_t)(OP_TEXT - n), format, list);
  va_end(list);
  return more < 0 ? n : n + more < OP_TEXT ? n + more : OP_TEXT - 1;
}

static int append_conv(const struct op *op, char text[OP_TEXT], int n) {
  n = append(text, n, " stride %d,%d pad %d,%d", op->attr.stride[0], op->attr.stride[1], op->attr.pad[0],
             op->attr.pad[1]);
  if (op->attr.dilation[0] > 1 || op->attr.dilation[1] > 1) {
    n = append(text, n, " dilation %d,%d", op->attr.dilation[0], op->attr.dilation[1]);
  }
  if (op->attr.groups > 1) n = append(text, n, " groups %d", op->attr.groups);
  return n;
}

static int append_attributes(const struct op *op, char text[OP_TEXT], int n) {
  static const char *const loss[] = {"dice_ce", "dice_only", "monai14"};
  static const char *const resize[] = {"bilinear", "bicubic", "nearest"};
  if (op->attr.activation != ACT_NONE) n = append(text, n, " %s", activation_name(op->attr.activation));
  switch (op->kind) {
  case OP_CONV:
  case OP_CONV_TRANSPOSE: return append_conv(op, text, n);
  case OP_ATTENTION:
    n = append(text, n, " heads %d%s", op->attr.heads, op->attr.causal ? " causal" : "");
    return op->attr.dropout > 0 ? append(text, n, " dropout %g", op->attr.dropout) : n;
  case OP_CONV_EACH: return append(text, n, " pad %d,%d", op->attr.pad[0], op->attr.pad[1]);
  case OP_POOL:
    return append(text, n, " %s %d,%d stride %d,%d pad %d,%d", op->attr.pool == POOL_MAX ? "max" : "average",
                  op->attr.kernel[0], op->attr.kernel[1], op->attr.stride[0], op->attr.stride[1], op->attr.pad[0],
                  op->attr.pad[1]);
  case OP_DROPOUT: return append(text, n, " p %g stream %lld", op->attr.dropout, (long long)op->attr.stream);
  case OP_CONCAT: return append(text, n, " axis %d", op->attr.axis);
  case OP_SLICE: return append(text, n, " axis %d start %lld", op->attr.axis, (long long)op->attr.start);
  case OP_RESIZE:
    return append(text, n, " %s%s", resize[(unsigned)op->attr.resize % 3], op->attr.align_corners ? " aligned" : "");
  case OP_SEGMENT_LOSS: return append(text, n, " %s", (unsigned)op->attr.loss < 3 ? loss[op->attr.loss] : "unknown");
  default: return n;
  }
}

const char *op_text(const struct op *op, char text[OP_TEXT]) {
  char desc[DESC_TEXT];
  int n = append(text, 0, "%s %s", op_kind_name(op->kind), direction_name(op->direction));
  for (int i = 0; i < op->inputs && i < OP_MAX_IN; i++) {
    n = append(text, n, " %s", op->in[i].dtype == DTYPE_NONE ? "-" : desc_text(&op->in[i], desc));
  }
  n = append(text, n, " ->");
  for (int i = 0; i < op->outputs && i < OP_MAX_OUT; i++) {
    n = append(text, n, " %s", op->out[i].dtype == DTYPE_NONE ? "-" : desc_text(&op->out[i], desc));
  }
  (void)append_attributes(op, text, n);
  return text;
}

// Query-key pairs that take part, lengths unknown: all, or those with key <= query.
static double attention_pairs(int64_t queries, int64_t keys, int causal) {
  if (!causal) return (double)queries * (double)keys;
  double pairs = 0;
  for (int64_t i = 0; i < queries; i++) pairs += (double)(i + 1 < keys ? i + 1 : keys);
  return pairs;
}

double op_flops(const struct op *op) {
  bool forward = op->direction == FORWARD, to_data = op->direction == BACKWARD_DATA;
  switch (op->kind) {
  case OP_LINEAR: {
    const struct tensor_desc *w = to_data || forward ? &op->in[1] : &op->out[0];
    return 2.0 * (double)desc_rows(&op->in[0]) * (double)desc_count(w);
  }
  case OP_CONV: { // every output pixel meets the whole kernel of its group: O C/g kh kw
    const struct tensor_desc *y = forward ? &op->out[0] : &op->in[0];
    const struct tensor_desc *w = to_data || forward ? &op->in[1] : &op->out[0];
    return 2.0 * (double)desc_rows(y) * (double)desc_count(w);
  }
  case OP_CONV_EACH: {
    const struct tensor_desc *y = forward ? &op->out[0] : &op->in[0];
    const struct tensor_desc *w = to_data || forward ? &op->in[1] : &op->out[0];
    return 2.0 * (double)(y->dim[1] * y->dim[2]) * (double)desc_count(w);
  }
  case OP_CONV_TRANSPOSE: {
    const struct tensor_desc *x = forward ? &op->in[0] : to_data ? &op->out[0] : &op->in[1];
    const struct tensor_desc *w = to_data || forward ? &op->in[1] : &op->out[0];
    return 2.0 * (double)desc_rows(x) * (double)desc_count(w);
  }
  case OP_ATTENTION: { // forward: q k' and p v; backward: q k', do v', p' do, ds k, ds' q
    const struct tensor_desc *q = forward ? &op->in[0] : &op->in[1], *k = forward ? &op->in[1] : &op->in[2];
    double pairs = attention_pairs(q->dim[1], k->dim[1], op->attr.causal);
    return (forward ? 4.0 : 10.0) * (double)q->dim[0] * pairs * (double)q->dim[2];
  }
  default: return 0;
  }
}
