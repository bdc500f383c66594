// test_graph.c: whole small graphs with every operation that a model is made of: gradients against central differences in
// fp64, and what the passes over a graph promise. A backend (the argument, else "reference") runs the same in fp32.
// ranks 1, label unit.
#include "graph_run.h"

#include "base/mem.h"
#include "base/rng.h"
#include "testing.h"

#include <math.h>

static const char *backend_name = "reference";
static const struct executable_options plain;

// ---- two models ----------------------------------------------------------------------------------------------------

// Declares parameters; `training`: they are trained, and BatchNorms go by their batch.
struct maker {
  struct graph *g;
  bool training;
};

static struct value *parameter(struct maker *m, const char *scope, const char *name, int rank, const int64_t *dim,
                               bool trained) {
  char text[64];
  struct tensor_desc d = {.dtype = m->g->real, .rank = rank};
  for (int i = 0; i < rank; i++) d.dim[i] = dim[i];
  (void)snprintf(text, sizeof text, "%s.%s", scope, name);
  struct value *v = graph_parameter(m->g, text, &d, (struct init){0}, m->training && trained, false);
  if (v) v->tracked = m->training && !trained; // statistics
  return v;
}
#define P(m, scope, name, ...)                                                                                         \
  parameter(m, scope, name, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__}, true)

static struct value *batchnorm(struct maker *m, const char *scope, struct value *x, bool batch) {
  int64_t c = desc_columns(&x->desc);
  struct value *gamma = P(m, scope, "gamma", c), *beta = P(m, scope, "beta", c);
  struct value *mean = parameter(m, scope, "mean", 1, &c, false), *var = parameter(m, scope, "var", 1, &c, false);
  if (batch && m->training) return graph_batchnorm(m->g, x, gamma, beta, mean, var, 1e-5, 0.1);
  return graph_batchnorm_fixed(m->g, x, gamma, beta, mean, var, 1e-5);
}

// A convolution without bias and its BatchNorm.
static struct value *conv_norm(struct maker *m, const char *scope, struct value *x, int64_t out, int kernel, int stride,
                               int dilation, int groups) {
  struct value *w = P(m, scope, "w", out, x->desc.dim[3] / groups, kernel, kernel);
  x = graph_conv_grouped(m->g, x, w, NULL, stride, dilation * (kernel - 1) / 2, dilation, groups);
  return batchnorm(m, scope, x, groups == 1); // the depthwise one stays by its running statistics
}

static struct value *noise(struct maker *m) {
  struct value *v = graph_find(m->g, "noise");
  return v ? v : graph_input(m->g, "noise", &TENSOR_DESC(DTYPE_I32, 2, 4));
}

// A stem, one residual block, a dilated depthwise convolution, the average of all pixels beside it, a decoder of three
// planes: what U-Net and DeepLab are made of. -> logits [2,16,16]
static struct value *build_cnn(struct maker *m) {
  struct graph *g = m->g;
  struct value *x = graph_input(g, "x", &TENSOR_DESC(g->real, 2, 16, 16, 3));
  x = graph_activation(g, conv_norm(m, "stem", x, 4, 3, 2, 1, 1), ACT_RELU);
  struct value *skip = x;
  x = graph_pool(g, x, POOL_MAX, 3, 2, 1);
  struct value *y = graph_activation(g, conv_norm(m, "block.0", x, 3, 3, 1, 1, 1), ACT_RELU);
  y = conv_norm(m, "block.1", y, 5, 1, 1, 1, 1);
  x = graph_activation(g, graph_add(g, y, conv_norm(m, "block.2", x, 5, 1, 1, 1, 1)), ACT_RELU);
  struct value *all = graph_conv(g, graph_average(g, x), P(m, "all", "w", 2, 5, 1, 1), P(m, "all", "b", 2), 1, 0);
  x = graph_activation(g, conv_norm(m, "wide", x, 5, 3, 1, 2, 5), ACT_RELU);
  x = graph_concat(g, x, graph_resize(g, all, 4, 4, RESIZE_BILINEAR, false), 3);
  x = graph_concat(g, graph_resize(g, x, 8, 8, RESIZE_NEAREST, false), skip, 3);
  if (m->training) x = graph_dropout(g, x, noise(m), 0.2, 3);
  x = graph_conv(g, x, P(m, "head", "w", 3, 11, 3, 3), P(m, "head", "b", 3), 1, 1);
  x = graph_resize(g, x, 16, 16, RESIZE_BILINEAR, true);
  return graph_take_plane(g, x, graph_input(g, "plane", &TENSOR_DESC(DTYPE_I32, 2)));
}

// Words with a table of positions, masked attention with dropout, and a kernel for each picture made from one word: what
// CRIS is made of. -> logits [2,8,8]
static struct value *build_words(struct maker *m) {
  enum { WORDS = 5, WIDTH = 8 };
  double table[WORDS * WIDTH];
  struct graph *g = m->g;
  for (int i = 0; i < WORDS * WIDTH; i++) table[i] = sin(i);
  struct value *ids = graph_input(g, "ids", &TENSOR_DESC(DTYPE_I32, 2, WORDS));
  struct value *t = graph_embed(g, ids, P(m, "words", "table", 7, WIDTH));
  t = graph_add(g, t, graph_constant(g, &TENSOR_DESC(g->real, 1, WORDS, WIDTH), table));
  t = graph_layernorm(g, t, P(m, "norm", "gamma", WIDTH), P(m, "norm", "beta", WIDTH), 1e-5);
  struct attention_extra extra = {.length = graph_input(g, "length", &TENSOR_DESC(DTYPE_I32, 2))};
  if (m->training) {
    t = graph_dropout(g, t, noise(m), 0.1, 0);
    extra = (struct attention_extra){.length = extra.length, .noise = noise(m), .dropout = 0.2, .stream = 1};
  }
  struct value *q = graph_linear(g, t, P(m, "q", "w", WIDTH, WIDTH), P(m, "q", "b", WIDTH));
  t = graph_add(g, t, graph_attention_with(g, q, t, t, 2, 0.5, false, &extra));
  t = graph_take_row(g, t, graph_input(g, "row", &TENSOR_DESC(DTYPE_I32, 2)));
  struct value *kernel = graph_linear(g, t, P(m, "kernel", "w", 36, WIDTH), P(m, "kernel", "b", 36));
  struct value *bias = graph_linear(g, t, P(m, "bias", "w", 1, WIDTH), NULL);
  struct value *scale = graph_linear(g, t, P(m, "scale", "w", 4, WIDTH), P(m, "scale", "b", 4));
  struct value *x = graph_input(g, "x", &TENSOR_DESC(g->real, 2, 8, 8, 3));
  x = graph_conv(g, x, P(m, "conv", "w", 4, 3, 3, 3), P(m, "conv", "b", 4), 1, 1);
  x = graph_multiply(g, x, graph_reshape(g, scale, &TENSOR_DESC(g->real, 2, 1, 1, 4)));
  x = graph_pool(g, graph_activation(g, x, ACT_GELU_ERF), POOL_AVERAGE, 2, 2, 0);
  x = graph_conv_each(g, x, graph_reshape(g, kernel, &TENSOR_DESC(g->real, 2, 4, 3, 3)),
                      graph_reshape(g, bias, &TENSOR_DESC(g->real, 2)), 1);
  x = graph_resize(g, x, 8, 8, RESIZE_BICUBIC, true);
  return graph_reshape(g, x, &TENSOR_DESC(g->real, 2, 8, 8));
}

// Convolutions of doubled pictures: alone with a bias, before one and two skips; and some that only look like it: the doubled
// picture has another reader, it is bilinear, it is small, it comes second. -> logits [2,16,16]
static struct value *build_doubled(struct maker *m) {
  struct graph *g = m->g;
  struct value *x = graph_input(g, "x", &TENSOR_DESC(g->real, 2, 8, 8, 3));
  struct value *a =
      graph_activation(g, graph_conv(g, x, P(m, "a", "w", 5, 3, 3, 3), P(m, "a", "b", 5), 1, 1), ACT_RELU);
  struct value *big = graph_conv(g, graph_input(g, "big", &TENSOR_DESC(g->real, 2, 16, 16, 3)),
                                 P(m, "big", "w", 2, 3, 1, 1), NULL, 1, 0);
  struct value *alone = graph_resize(g, a, 16, 16, RESIZE_NEAREST, false);
  alone = graph_conv(g, alone, P(m, "alone", "w", 4, 5, 3, 3), P(m, "alone", "b", 4), 1, 1);
  struct value *one = graph_concat(g, graph_resize(g, a, 16, 16, RESIZE_NEAREST, false), big, 3);
  one = graph_activation(g, conv_norm(m, "one", one, 3, 3, 1, 1, 1), ACT_RELU);
  struct value *two[] = {graph_resize(g, x, 16, 16, RESIZE_NEAREST, false), one, alone};
  struct value *y = graph_conv(g, graph_join(g, two, 3, 3), P(m, "two", "w", 2, 10, 3, 3), P(m, "two", "b", 2), 1, 1);
  struct value *shared = graph_concat(g, graph_resize(g, a, 16, 16, RESIZE_NEAREST, false), y, 3);
  struct value *z = graph_conv(g, shared, P(m, "shared.0", "w", 2, 7, 3, 3), NULL, 1, 1);
  z = graph_add(g, z, graph_conv(g, shared, P(m, "shared.1", "w", 2, 7, 1, 1), NULL, 1, 0));
  struct value *smooth = graph_concat(g, graph_resize(g, a, 16, 16, RESIZE_BILINEAR, false), z, 3);
  z = graph_add(g, z, graph_conv(g, smooth, P(m, "smooth", "w", 2, 7, 3, 3), NULL, 1, 1));
  struct value *small = graph_resize(g, graph_average(g, a), 2, 2, RESIZE_NEAREST, false);
  small = graph_conv(g, small, P(m, "small", "w", 2, 5, 3, 3), NULL, 1, 1);
  z = graph_add(g, z, graph_resize(g, small, 16, 16, RESIZE_BILINEAR, false));
  z = graph_concat(g, z, graph_resize(g, a, 16, 16, RESIZE_NEAREST, false), 3);
  z = graph_conv(g, z, P(m, "second", "w", 1, 7, 3, 3), P(m, "second", "b", 1), 1, 1);
  return graph_reshape(g, z, &TENSOR_DESC(g->real, 2, 16, 16));
}
enum { DIVIDED = 3, JOINED = 2 }; // convolutions of it that are divided, and that have skips

typedef struct value *(*build_t)(struct maker *m);
static const build_t builds[] = {build_cnn, build_words, build_doubled};
enum { BUILDS = sizeof builds / sizeof *builds };

struct built {
  struct graph *g;
  struct value *logits, *loss;
  struct value *output[MOST_OUTPUTS]; // loss, and in training gradients and updates, in the order of the parameters
  size_t outputs;
};

static void collect(struct built *b) {
  b->outputs = 0;
  b->output[b->outputs++] = b->loss;
  for (size_t i = 0; i < b->g->values; i++) {
    const struct value *v = b->g->value[i];
    if (v->gradient) b->output[b->outputs++] = v->gradient;
    if (v->update) b->output[b->outputs++] = v->update;
  }
}

static struct built make_graph(build_t build, dtype_t real, bool training, bool simple) {
  struct built b = {0};
  struct value *sums = NULL;
  assert_ok(graph_create(real, &b.g));
  struct maker m = {b.g, training};
  b.logits = build(&m);
  assert_ok(graph_status(b.g));
  struct tensor_desc target = b.logits->desc;
  target.dtype = DTYPE_U8;
  b.loss = graph_segment_loss(b.g, b.logits, graph_input(b.g, "target", &target), LOSS_DICE_CE, &sums);
  if (simple) assert_ok(graph_simplify(b.g, &b.loss, 1));
  if (training) assert_ok(graph_differentiate(b.g, b.loss, graph_input(b.g, "scale", &TENSOR_DESC(real, 1))));
  collect(&b);
  return b;
}

static struct built make(build_t build, dtype_t real, bool training) {
  return make_graph(build, real, training, false);
}

static int count_kind(const struct graph *g, op_kind_t kind, direction_t direction) {
  int n = 0;
  for (size_t i = 0; i < g->nodes; i++) n += g->node[i]->op.kind == kind && g->node[i]->op.direction == direction;
  return n;
}

// Sum of squared differences over sum of squares.
static double nmse(const struct graph_run *met, const struct value *a, const struct graph_run *want,
                   const struct value *b) {
  double top = 0, bottom = 0;
  assert_int_equal(desc_count(&a->desc), desc_count(&b->desc));
  for (int64_t i = 0, n = desc_count(&a->desc); i < n; i++) {
    double x = graph_run_value(met, a, i), y = graph_run_value(want, b, i);
    top += (x - y) * (x - y);
    bottom += y * y;
  }
  return bottom > 0 ? top / bottom : top;
}

// All outputs of two graphs that the same calls built.
static void same_outputs(const struct graph_run *met, const struct built *a, const struct graph_run *want,
                         const struct built *b, double most) {
  assert_int_equal(a->outputs, b->outputs);
  for (size_t i = 0; i < a->outputs; i++) {
    double e = nmse(met, a->output[i], want, b->output[i]);
    if (!(e <= most)) fail_msg("output %zu (value %d): NMSE %g, at most %g", i, a->output[i]->id, e, most);
  }
}

// ---- differentiation -------------------------------------------------------------------------------------------------

static double loss_of(struct graph_run *r, const struct value *loss) {
  assert_ok(graph_run_again(r));
  return 0.5 * (graph_run_value(r, loss, 0) + graph_run_value(r, loss, 1));
}

static void check_parameter(struct graph_run *r, const struct built *b, const struct value *p) {
  enum { MOST = 5 };
  int64_t n = desc_count(&p->desc);
  double gradient[MOST], size = 0;
  struct rng random;
  rng_init(&random, 3, rng_stream(p->name));
  int64_t at[MOST];
  assert_non_null(p->gradient);
  (void)loss_of(r, b->loss);
  for (int64_t i = 0; i < n; i++) size = fmax(size, fabs(graph_run_value(r, p->gradient, i)));
  for (int k = 0; k < MOST; k++) {
    at[k] = (int64_t)rng_below(&random, (uint64_t)n);
    gradient[k] = graph_run_value(r, p->gradient, at[k]);
  }
  for (int k = 0; k < MOST; k++) {
    double *x = &r->given[p->id][at[k]], kept = *x, h = 1e-5;
    *x = kept + h;
    double high = loss_of(r, b->loss);
    *x = kept - h;
    double slope = (high - loss_of(r, b->loss)) / (2 * h);
    *x = kept;
    if (fabs(slope - gradient[k]) > 1e-6 * size + 1e-10) {
      fail_msg("%s[%lld]: gradient %.12g, by differences %.12g", p->name, (long long)at[k], gradient[k], slope);
    }
  }
}

static void gradients_agree_with_differences(void **state) {
  (void)state;
  for (int k = 0; k < BUILDS; k++) {
    struct built b = make(builds[k], DTYPE_F64, true);
    struct graph_run r;
    int checked = 0;
    graph_run_create(b.g, "reference", b.output, b.outputs, &plain, &r);
    for (size_t i = 0; i < b.g->values; i++) {
      if (b.g->value[i]->kind != VALUE_PARAMETER || !b.g->value[i]->trained) continue;
      check_parameter(&r, &b, b.g->value[i]);
      checked++;
    }
    assert_true(checked > 10);
    graph_run_destroy(&r);
    graph_destroy(&b.g);
  }
}

// ---- algebra ---------------------------------------------------------------------------------------------------------------

static void simplified_graphs_give_the_same(void **state) {
  (void)state;
  for (int k = 0; k < 2 * BUILDS; k++) {
    bool training = k % 2;
    struct built b = make(builds[k / 2], DTYPE_F64, training), s = make_graph(builds[k / 2], DTYPE_F64, training, true);
    struct graph_run r, t;
    graph_run_create(b.g, "reference", b.output, b.outputs, &plain, &r);
    graph_run_create(s.g, "reference", s.output, s.outputs, &plain, &t);
    assert_ok(graph_run_again(&r));
    assert_ok(graph_run_again(&t));
    same_outputs(&t, &s, &r, &b, 1e-24);
    for (size_t i = 0; i < s.g->nodes; i++) assert_ptr_equal(s.g->node[s.g->node[i]->out[0]->producer], s.g->node[i]);
    graph_run_destroy(&r);
    graph_run_destroy(&t);
    graph_destroy(&b.g);
    graph_destroy(&s.g);
  }
}

static void doubled_pictures_are_divided(void **state) {
  (void)state;
  for (int training = 0; training < 2; training++) {
    struct built before = make(build_doubled, DTYPE_F32, training),
                 b = make_graph(build_doubled, DTYPE_F32, training, true);
    const struct graph *g = b.g;
    assert_int_equal(count_kind(g, OP_CONV_TRANSPOSE, FORWARD), DIVIDED);
    assert_int_equal(count_kind(g, OP_DOUBLED_KERNEL, FORWARD), DIVIDED);
    assert_int_equal(count_kind(g, OP_RESIZE, FORWARD), count_kind(before.g, OP_RESIZE, FORWARD) - DIVIDED);
    assert_int_equal(count_kind(g, OP_CONV_TRANSPOSE, BACKWARD_WEIGHT), training * DIVIDED);
    assert_int_equal(count_kind(g, OP_DOUBLED_KERNEL, BACKWARD_DATA), training * DIVIDED);
    // The two parts of a kernel's gradient are laid side by side, without zeros and sums.
    assert_int_equal(count_kind(g, OP_SLICE, BACKWARD_DATA), 0);
    int joined = 0;
    for (size_t i = 0; i < g->nodes; i++) joined += g->node[i]->op.kind == OP_CONCAT && g->node[i]->op.attr.axis == 1;
    assert_int_equal(joined, training * JOINED);
    graph_destroy(&before.g);
    graph_destroy(&b.g);
  }
}

// ---- fusion ----------------------------------------------------------------------------------------------------------

static void fused_graphs_give_the_same(void **state) {
  (void)state;
  for (int k = 0; k < 2 * BUILDS; k++) {
    bool training = k % 2;
    struct built b = make(builds[k / 2], DTYPE_F64, training),
                 fused = make_graph(builds[k / 2], DTYPE_F64, training, true);
    struct graph_run r, f;
    size_t nodes = fused.g->nodes;
    assert_ok(graph_fuse(fused.g, &fused.loss, 1, NULL));
    assert_true(builds[k / 2] == build_words ? fused.g->nodes <= nodes : fused.g->nodes < nodes);
    collect(&fused);
    graph_run_create(b.g, "reference", b.output, b.outputs, &plain, &r);
    graph_run_create(fused.g, "reference", fused.output, fused.outputs, &plain, &f);
    assert_ok(graph_run_again(&r));
    assert_ok(graph_run_again(&f));
    same_outputs(&f, &fused, &r, &b, 1e-24);
    graph_run_destroy(&r);
    graph_run_destroy(&f);
    graph_destroy(&b.g);
    graph_destroy(&fused.g);
  }
}

// relu(norm + branch) of a block is the epilogue of a BATCHNORM that goes by its batch.
static void batchnorm_takes_sum_and_activation(void **state) {
  (void)state;
  struct built b = make(build_cnn, DTYPE_F32, true);
  assert_ok(graph_fuse(b.g, &b.loss, 1, NULL));
  int both = 0;
  for (size_t i = 0; i < b.g->nodes; i++) {
    const struct node *n = b.g->node[i];
    if (n->op.kind != OP_BATCHNORM || n->op.direction != FORWARD) continue;
    both += n->in[5] && n->op.attr.activation == ACT_RELU;
    assert_true(n->op.attr.activation == ACT_RELU || !n->in[5]);
  }
  assert_int_equal(both, 1);
  assert_int_equal(count_kind(b.g, OP_BATCHNORM_FOLD, FORWARD), 0); // its parameters are trained
  graph_destroy(&b.g);
}

// In evaluation a BATCHNORM is part of its convolution, and what it makes of the weights need not be made again.
static void constant_batchnorms_fold(void **state) {
  (void)state;
  for (int half = 0; half < 2; half++) {
    struct built b = make(build_cnn, DTYPE_F32, false);
    assert_ok(graph_simplify(b.g, &b.loss, 1));
    unsigned *depends = NULL;
    uint8_t *leaf = NULL;
    const struct graph_source source = {"x", 0};
    int norms = 5, sums_first = 0, leaves = 0;
    if (half) assert_ok(graph_lower_bf16(b.g));
    assert_ok(graph_fuse(b.g, &b.loss, 1, NULL));
    assert_int_equal(count_kind(b.g, OP_BATCHNORM, FORWARD), 0);
    assert_int_equal(count_kind(b.g, OP_BATCHNORM_FOLD, FORWARD), norms);
    assert_ok(graph_depend(b.g, &source, 1, &depends));
    assert_ok(graph_frontier(b.g, &b.loss, 1, depends, PART_CONSTANT, &leaf));
    mem_free(&leaf);
    assert_ok(graph_frontier(b.g, &b.loss, 1, depends, PART_FEATURE, &leaf));
    for (size_t i = 0; i < b.g->nodes; i++) {
      const struct node *n = b.g->node[i];
      if (n->op.kind == OP_CONV) sums_first += n->op.attr.residual_first;
      if (n->op.kind != OP_BATCHNORM_FOLD) continue;
      assert_int_equal(depends[n->out[0]->id], 0);
      // Read as bf16, the weights are kept so.
      struct value *kept = n->out[0];
      for (size_t j = i; half && j < b.g->nodes; j++) {
        if (b.g->node[j]->op.kind == OP_CAST && b.g->node[j]->in[0] == n->out[0]) kept = b.g->node[j]->out[0];
      }
      assert_int_equal(kept->desc.dtype, half ? DTYPE_BF16 : DTYPE_F32);
      leaves += leaf[kept->id] && leaf[n->out[1]->id];
    }
    assert_int_equal(sums_first, 1);
    assert_int_equal(leaves, norms);
    mem_free(&leaf);
    mem_free(&depends);
    graph_destroy(&b.g);
  }
}

// Two readers of the convolution, a bias, statistics that steps change: which of them folds.
static void what_does_not_fold(void **state) {
  (void)state;
  for (int what = 0; what < 4; what++) {
    struct graph *g;
    assert_ok(graph_create(DTYPE_F64, &g));
    struct maker m = {g, false};
    struct value *x = graph_input(g, "x", &TENSOR_DESC(DTYPE_F64, 1, 3, 3, 2)), *w = P(&m, "conv", "w", 4, 2, 1, 1);
    struct value *y = graph_conv(g, x, w, what == 1 ? P(&m, "conv", "b", 4) : NULL, 1, 0);
    struct value *z = batchnorm(&m, "norm", y, false);
    if (what == 2) z = graph_multiply(g, z, y);
    if (what == 3) graph_find(g, "norm.mean")->tracked = true;
    assert_ok(graph_simplify(g, &z, 1));
    assert_int_equal(count_kind(g, OP_BATCHNORM_FOLD, FORWARD), what < 2);
    graph_destroy(&g);
  }
}

// ---- precision -------------------------------------------------------------------------------------------------------

static void check_types(const struct node *n) {
  bool forward = n->op.direction == FORWARD, weight = n->op.direction == BACKWARD_WEIGHT;
  char text[OP_TEXT];
  bool right = true;
  switch (n->op.kind) {
  case OP_LINEAR:
  case OP_CONV: right = n->op.in[0].dtype == DTYPE_BF16 && n->op.in[1].dtype == DTYPE_BF16; break;
  case OP_BATCHNORM_SUMS: right = n->op.out[0].dtype == DTYPE_F64; break;
  case OP_BATCHNORM_MOMENTS: right = n->op.in[0].dtype == DTYPE_F64 && n->op.out[0].dtype == DTYPE_F32; break;
  case OP_BATCHNORM: right = n->op.in[forward ? 1 : 2].dtype == DTYPE_F32; break;
  case OP_SEGMENT_LOSS:
  case OP_TAKE_PLANE:
  case OP_LAYERNORM: right = forward ? n->op.in[0].dtype == DTYPE_F32 : true; break;
  default: break;
  }
  for (int k = 0; k < n->op.outputs && weight; k++) right = right && n->op.out[k].dtype != DTYPE_BF16;
  for (int k = 0; k < n->op.inputs; k++) right = right && (!n->in[k] || desc_equal(&n->in[k]->desc, &n->op.in[k]));
  for (int k = 0; k < n->op.outputs; k++) right = right && (!n->out[k] || desc_equal(&n->out[k]->desc, &n->op.out[k]));
  if (!right) fail_msg("%s", op_text(&n->op, text));
}

// The gradient as one vector: what a BatchNorm behind a parameter cancels is small, and rounding is most of it. Statistics
// one by one. (Equals under a window of a pool are many in bf16: whose gradient it is, is chance.)
static void near_gradients(const struct graph_run *met, const struct graph *a, const struct graph_run *want,
                           const struct graph *b) {
  double top = 0, bottom = 0;
  for (size_t k = 0; k < b->values; k++) {
    const struct value *v = b->value[k];
    if (v->update) assert_true(nmse(met, a->value[k]->update, want, v->update) < 1e-4);
    for (int64_t i = 0, n = v->gradient ? desc_count(&v->desc) : 0; i < n; i++) {
      double x = graph_run_value(met, a->value[k]->gradient, i), y = graph_run_value(want, v->gradient, i);
      top += (x - y) * (x - y);
      bottom += y * y;
    }
  }
  if (!(top <= 5e-3 * bottom)) fail_msg("gradients: NMSE %g", top / bottom);
}

// Products read bf16; norms, losses, statistics and what the optimiser reads stay fp32; the results are near.
static void bf16_graphs_are_near(void **state) {
  (void)state;
  bool half[OP_KINDS] = {false};
  for (int k = 0; k < BUILDS; k++) {
    struct built b = make(builds[k], DTYPE_F64, true), low = make_graph(builds[k], DTYPE_F32, true, true);
    struct graph_run r, l;
    assert_ok(graph_lower_bf16(low.g));
    assert_ok(graph_fuse(low.g, &low.loss, 1, NULL));
    collect(&low);
    for (size_t i = 0; i < low.g->nodes; i++) {
      check_types(low.g->node[i]);
      half[low.g->node[i]->op.kind] |= low.g->node[i]->op.out[0].dtype == DTYPE_BF16;
    }
    for (size_t i = 0; i < low.outputs; i++) assert_int_equal(low.output[i]->desc.dtype, DTYPE_F32);
    graph_run_create(b.g, "reference", b.output, b.outputs, &plain, &r);
    graph_run_create(low.g, backend_name, low.output, low.outputs, &plain, &l);
    assert_ok(graph_run_again(&r));
    assert_ok(graph_run_again(&l));
    assert_true(nmse(&l, low.output[0], &r, b.output[0]) < 1e-4);
    near_gradients(&l, low.g, &r, b.g);
    graph_run_destroy(&r);
    graph_run_destroy(&l);
    graph_destroy(&b.g);
    graph_destroy(&low.g);
  }
  static const op_kind_t kinds[] = {OP_CONV, OP_BATCHNORM, OP_POOL, OP_CONCAT, OP_DROPOUT, OP_ATTENTION};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    if (!half[kinds[i]]) fail_msg("no %s writes bf16", op_kind_name(kinds[i]));
  }
}

static void fp32_graphs_agree(void **state) {
  (void)state;
  for (int k = 0; k < 2 * BUILDS; k++) {
    bool training = k % 2;
    struct built b = make(builds[k / 2], DTYPE_F64, training), f = make_graph(builds[k / 2], DTYPE_F32, training, true);
    struct graph_run r, s;
    assert_ok(graph_fuse(f.g, &f.loss, 1, NULL));
    collect(&f);
    graph_run_create(b.g, "reference", b.output, b.outputs, &plain, &r);
    graph_run_create(f.g, backend_name, f.output, f.outputs, &plain, &s);
    assert_ok(graph_run_again(&r));
    assert_ok(graph_run_again(&s));
    same_outputs(&s, &f, &r, &b, 1e-8);
    graph_run_destroy(&r);
    graph_run_destroy(&s);
    graph_destroy(&b.g);
    graph_destroy(&f.g);
  }
}

// ---- EXCHANGE --------------------------------------------------------------------------------------------------------

struct twin {
  int calls, fails_at;
};

// As if another rank had the same pictures.
static status_t add_twin(void *context, double *values, size_t count) {
  struct twin *t = context;
  if (++t->calls == t->fails_at) return FAIL(ERR_COMM, "the twin is gone");
  for (size_t i = 0; i < count; i++) values[i] *= 2;
  return OK;
}

// A twin changes no mean, variance or gradient; the running variance sees twice the rows.
static void ranks_exchange_sums(void **state) {
  (void)state;
  struct built b = make(build_cnn, DTYPE_F64, true);
  struct twin twin = {0};
  const struct executable_options options = {.exchange = add_twin, .exchange_context = &twin};
  struct graph_run alone, both;
  int norms = count_kind(b.g, OP_BATCHNORM_SUMS, FORWARD), exchanges = 0;
  assert_int_equal(norms, 4);
  graph_run_create(b.g, "reference", b.output, b.outputs, &plain, &alone);
  graph_run_create(b.g, "reference", b.output, b.outputs, &options, &both);
  for (size_t i = 0; i < executable_nodes(both.executable); i++)
    exchanges += executable_exchange_at(both.executable, i) > 0;
  assert_int_equal(exchanges, 2 * norms);
  assert_ok(graph_run_again(&alone));
  assert_ok(graph_run_again(&both));
  assert_int_equal(twin.calls, exchanges);
  for (size_t i = 0; i < b.g->values; i++) {
    const struct value *v = b.g->value[i], *old = v;
    if (v->gradient) assert_true(nmse(&both, v->gradient, &alone, v->gradient) < 1e-24);
    if (!v->update) continue;
    double rows = strncmp(v->name, "stem", 4) ? 2 * 4 * 4 : 2 * 8 * 8;
    for (int64_t c = 0; c < desc_count(&v->desc); c++) {
      double kept = 0.9 * alone.given[old->id][c], one = graph_run_value(&alone, v->update, c) - kept;
      double factor = strstr(v->name, "var") ? (rows - 1) / rows * (2 * rows / (2 * rows - 1)) : 1;
      assert_true(fabs(graph_run_value(&both, v->update, c) - kept - one * factor) < 1e-13);
    }
  }
  twin = (struct twin){.fails_at = 3};
  assert_fails(ERR_COMM, graph_run_again(&both), "EXCHANGE forward", "the twin is gone");
  assert_int_equal(twin.calls, 3);
  graph_run_destroy(&alone);
  graph_run_destroy(&both);
  graph_destroy(&b.g);
}

// ---- constants -------------------------------------------------------------------------------------------------------

static status_t name_key(void *context, const struct value *leaf, struct key *out) {
  (void)context;
  return key_sha256(leaf->name, strlen(leaf->name), out);
}

// x + table, as a key.
static struct key table_key(double *table, double after) {
  struct graph *g;
  struct key key;
  assert_ok(graph_create(DTYPE_F32, &g));
  struct value *x = graph_input(g, "x", &TENSOR_DESC(DTYPE_F32, 2, 3));
  struct value *t = graph_constant(g, &TENSOR_DESC(DTYPE_F32, 3), table);
  double before = table[1];
  table[1] = after; // the graph has its own copy
  struct value *y = graph_add(g, x, t);
  assert_ok(graph_status(g));
  assert_true(t->content[1] == before);
  assert_int_equal(t->kind, VALUE_CONSTANT);
  assert_ok(graph_signature(g, y, name_key, NULL, &key));
  graph_destroy(&g);
  return key;
}

static void tables_are_part_of_a_signature(void **state) {
  (void)state;
  double table[3] = {1, 2, 3};
  struct key a = table_key(table, 2), b = table_key(table, 5), c = table_key(table, 2);
  assert_memory_equal(&a, &b, sizeof a);
  assert_memory_not_equal(&a, &c, sizeof a);
}

static void wrong_windows_are_refused(void **state) {
  (void)state;
  for (int what = 0; what < 4; what++) {
    struct graph *g;
    assert_ok(graph_create(DTYPE_F32, &g));
    struct maker m = {g, false};
    struct value *x = graph_input(g, "x", &TENSOR_DESC(DTYPE_F32, 1, 3, 3, 2)), *w = P(&m, "conv", "w", 4, 2, 1, 1);
    struct value *y = what == 0   ? graph_conv(g, x, w, NULL, 0, 0)
                      : what == 1 ? graph_pool(g, x, POOL_MAX, 2, 0, 0)
                      : what == 2 ? graph_pool(g, x, POOL_AVERAGE, 5, 1, 0)
                                  : graph_conv_each(g, x, w, NULL, 0);
    assert_null(y);
    assert_int_equal(graph_status(g), ERR_SHAPE);
    graph_destroy(&g);
  }
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gradients_agree_with_differences),
      cmocka_unit_test(simplified_graphs_give_the_same),
      cmocka_unit_test(doubled_pictures_are_divided),
      cmocka_unit_test(fused_graphs_give_the_same),
      cmocka_unit_test(batchnorm_takes_sum_and_activation),
      cmocka_unit_test(constant_batchnorms_fold),
      cmocka_unit_test(what_does_not_fold),
      cmocka_unit_test(bf16_graphs_are_near),
      cmocka_unit_test(fp32_graphs_agree),
      cmocka_unit_test(ranks_exchange_sums),
      cmocka_unit_test(tables_are_part_of_a_signature),
      cmocka_unit_test(wrong_windows_are_refused),
  };
  if (argc > 1) backend_name = argv[1];
  return cmocka_run_group_tests(tests, NULL, NULL);
}
