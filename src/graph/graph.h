// graph.h: a static graph of operations, made once for each model and shape, and the passes over it:
//   build.c          values and operations, shapes inferred and checked
//   simplify.c       less arithmetic for the same results
//   differentiate.c  the backward pass, appended to the same list
//   precision.c      which values are bf16, and the casts between
//   fuse.c           activations and sums that an operation can do on its way out
//   freeze.c         what is constant, what depends on one input only, what must run for every sample
//   plan.c           order, memory by lifetime, plans of a backend
//   run.c            one pass over the list
#ifndef GRIDSEG_GRAPH_GRAPH_H
#define GRIDSEG_GRAPH_GRAPH_H

#include "backend/backend.h"
#include "base/key.h"

#include <stdio.h>

// Where the content of a value comes from.
typedef enum {
  VALUE_INPUT,     // given for every run: pixels, ids, masks
  VALUE_PARAMETER, // a tensor of the public state dict
  VALUE_RESULT,    // of a node
  VALUE_VIEW,      // another value's memory under another shape
  VALUE_CONSTANT,  // a table that the model computed: position codes, coordinates
} value_kind_t;

typedef enum { INIT_ZEROS, INIT_ONES, INIT_NORMAL, INIT_UNIFORM, INIT_CONSTANT } init_kind_t;

// How a parameter without weights starts: normal (mean 0, std `scale`), uniform in [-scale, scale], the constant `scale`.
struct init {
  init_kind_t kind;
  double scale;
};

struct value {
  int id; // index in graph.value; the same in every graph that the same calls built
  value_kind_t kind;
  struct tensor_desc desc;
  char *name;             // inputs and parameters; else NULL
  int producer;           // index of the node, -1 where there is none
  struct value *base;     // of a view: the value whose memory it is (never a view itself)
  struct init init;       // parameters
  bool trained, decay;    // parameters
  bool tracked;           // parameters: statistics that steps change although they have no gradient (BatchNorm)
  double *content;        // constants: desc_count values, the graph's
  struct value *update;   // of a tracked parameter, in a graph that trains: its next content
  struct value *gradient; // after graph_differentiate: of a trained parameter; NULL when the loss does not depend on it
};

struct node {
  struct op op;
  struct value *in[OP_MAX_IN], *out[OP_MAX_OUT]; // NULL where left out
};

// Building functions return NULL after a failure, accept NULL values, and keep the first error in `status`: a model reads
// top to bottom, and whoever called the builder checks once (graph_status).
struct graph {
  struct value **value;
  struct node **node;
  size_t values, nodes, value_capacity, node_capacity;
  dtype_t real; // DTYPE_F32; DTYPE_F64 for graphs that only the reference backend runs
  status_t status;
};

status_t graph_create(dtype_t real, struct graph **out);
void graph_destroy(struct graph **g);
status_t graph_status(const struct graph *g); // the first error of building, OK when there was none

// build.c. Results are new values; shapes as in backend.h.
struct value *graph_input(struct graph *g, const char *name, const struct tensor_desc *desc);
struct value *graph_parameter(struct graph *g, const char *name, const struct tensor_desc *desc, struct init init,
                              bool trained, bool decay);
struct value *graph_linear(struct graph *g, struct value *x, struct value *w, struct value *b);
// A table: `values` are copied (desc_count of them).
struct value *graph_constant(struct graph *g, const struct tensor_desc *desc, const double *values);
struct value *graph_conv(struct graph *g, struct value *x, struct value *w, struct value *b, int stride, int pad);
struct value *graph_conv_grouped(struct graph *g, struct value *x, struct value *w, struct value *b, int stride,
                                 int pad, int dilation, int groups);
struct value *graph_conv_each(struct graph *g, struct value *x, struct value *w, struct value *b, int pad);
struct value *graph_pool(struct graph *g, struct value *x, pool_t pool, int kernel, int stride, int pad);
struct value *graph_average(struct graph *g, struct value *x); // over all pixels: [B,1,1,C]
struct value *graph_conv_transpose(struct graph *g, struct value *x, struct value *w, struct value *b, int stride,
                                   int pad);
struct value *graph_doubled_kernel(struct graph *g, struct value *w);
struct value *graph_activation(struct graph *g, struct value *x, activation_t activation);
struct value *graph_add(struct graph *g, struct value *a, struct value *b);
struct value *graph_multiply(struct graph *g, struct value *a, struct value *b);
struct value *graph_expand(struct graph *g, struct value *x, const struct tensor_desc *to);
struct value *graph_layernorm(struct graph *g, struct value *x, struct value *gamma, struct value *beta,
                              double epsilon);
// By the statistics of the batch, summed over ranks (EXCHANGE). running_mean and running_var get their `update`.
struct value *graph_batchnorm(struct graph *g, struct value *x, struct value *gamma, struct value *beta,
                              struct value *running_mean, struct value *running_var, double epsilon, double momentum);
// By given statistics, which count as constants.
struct value *graph_batchnorm_fixed(struct graph *g, struct value *x, struct value *gamma, struct value *beta,
                                    struct value *mean, struct value *var, double epsilon);
struct value *graph_dropout(struct graph *g, struct value *x, struct value *noise, double dropout, int64_t stream);
struct value *graph_attention(struct graph *g, struct value *q, struct value *k, struct value *v, int heads,
                              double scale, bool causal);
// With keys masked from length[b] on (NULL: none), and dropout on the probabilities (noise NULL: none).
struct attention_extra {
  struct value *length, *noise;
  double dropout;
  int64_t stream;
};
struct value *graph_attention_with(struct graph *g, struct value *q, struct value *k, struct value *v, int heads,
                                   double scale, bool causal, const struct attention_extra *extra);
struct value *graph_embed(struct graph *g, struct value *id, struct value *table);
struct value *graph_take_row(struct graph *g, struct value *x, struct value *row);
struct value *graph_take_plane(struct graph *g, struct value *x, struct value *plane);
struct value *graph_concat(struct graph *g, struct value *a, struct value *b, int axis);
struct value *graph_join(struct graph *g, struct value *const *part, int parts, int axis); // concat of 1 to OP_MAX_IN
struct value *graph_slice(struct graph *g, struct value *x, int axis, int64_t start, int64_t length);
struct value *graph_resize(struct graph *g, struct value *x, int64_t height, int64_t width, resize_t how,
                           bool align_corners);
struct value *graph_transpose(struct graph *g, struct value *x); // a matrix
struct value *graph_pixels(struct graph *g, struct value *p, const double mean[3], const double std[3]);
struct value *graph_reshape(struct graph *g, struct value *x, const struct tensor_desc *to);
// The loss of each sample [B]; *sums gets the [B,4] sums.
struct value *graph_segment_loss(struct graph *g, struct value *logits, struct value *target, loss_t loss,
                                 struct value **sums);
// Append a node whose operands and attributes are complete but for its output descriptors and values: for the passes.
// Output i has descriptor out[i] (DTYPE_NONE: left out).
struct node *graph_apply(struct graph *g, const struct op *op, struct value *const *in, const struct tensor_desc *out);
// For the passes: how many nodes, views, gradients, updates and values in `keep` read each value; mem_free.
status_t graph_count_readers(const struct graph *g, struct value *const *keep, size_t keeps, int **by_value);
// Let node `into` write what node `n` wrote, and take n's place in the order; its own place is left NULL.
void graph_take_over(struct graph *g, size_t n, size_t into);
// Append `n`, which an earlier list held, and tell its results.
status_t graph_append(struct graph *g, struct node *n);
struct value *graph_find(const struct graph *g, const char *name); // an input or parameter; NULL when there is none

// simplify.c: algebra, before a graph is differentiated. A BatchNorm with constant statistics after a convolution with constant
// weights becomes part of it. A 3x3 convolution of a picture that was doubled in size (nearest; alone, or the first part of a
// CONCAT) becomes a transposed convolution of the small picture, which is 16 products instead of 36, and a convolution of the rest.
// Values in `keep` are read from outside.
status_t graph_simplify(struct graph *g, struct value *const *keep, size_t keeps);

// differentiate.c: append the gradients of scale * sum of `loss` (the result of graph_segment_loss) with regard to every
// trained parameter that it depends on; `scale` is an input [1]. Sets value.gradient.
status_t graph_differentiate(struct graph *g, struct value *loss, struct value *scale);

// precision.c: make matmul-like operations read bf16, keep sums, norms, losses and weight gradients in fp32. `outputs` keep their type.
status_t graph_lower_bf16(struct graph *g);

// fuse.c: a sum or activation whose operand nobody else reads becomes the epilogue of the operation that makes it. Values in
// `keep` are read from outside. `depends` (graph_depend; NULL: one part): a product that is computed once does not become part of a sum
// that is not.
status_t graph_fuse(struct graph *g, struct value *const *keep, size_t keeps, const unsigned *depends);

// freeze.c: what a value depends on. Bits 0 and up: inputs in the order of `sources` (an input may share its bit with others: "ids" and
// "row" both belong to the prompt); DEPENDS_LIVE: a trained or tracked parameter, or an input that is in no source.
enum { DEPENDS_LIVE = 1 << 30 };
struct graph_source {
  const char *input;
  int bit;
};
status_t graph_depend(const struct graph *g, const struct graph_source *sources, size_t count,
                      unsigned **by_value); // mem_free
// Where the part that makes `wanted` begins: leaf[id] = 1 for results that another, earlier part has already made.
//   PART_LIVE       runs for every sample: begins at constants and at what depends on one source bit only
//   PART_FEATURE    depends on one source bit: begins at constants
//   PART_CONSTANT   made from parameters alone: begins at parameters
// *leaf is freed with mem_free. Views are never leaves, their base is.
typedef enum { PART_CONSTANT, PART_FEATURE, PART_LIVE } part_t;
status_t graph_frontier(const struct graph *g, struct value *const *wanted, size_t count, const unsigned *depends,
                        part_t part, uint8_t **leaf);
// A key of how `value` is computed: operations, attributes, shapes; leaves by name through `leaf_key` (parameters: their
// content or name; inputs: their name).
status_t graph_signature(const struct graph *g, const struct value *value,
                         status_t (*leaf_key)(void *context, const struct value *leaf, struct key *out), void *context,
                         struct key *out);

// plan.c, run.c: the nodes that `outputs` need, made ready on a backend.
struct executable;
struct executable_options {
  const uint8_t *leaf;     // by value id: taken as given and bound like an input; may be NULL
  const unsigned *depends; // from graph_depend; with it, parameters and leaves that depend on nothing are constant to
                           // the plans, which may pack them; NULL: nothing is constant
  struct value *const *bound; // results that will be bound to the caller's memory (gradients in their arena)
  size_t bounds;
  bool profile; // time every operation (only sensible on a synchronous backend)
  // EXCHANGE: sum host values over all ranks; NULL: there is one rank.
  status_t (*exchange)(void *context, double *values, size_t count);
  void *exchange_context;
};
status_t executable_create(const struct graph *g, struct backend *backend, struct value *const *outputs, size_t count,
                           const struct executable_options *options, struct executable **out);
void executable_destroy(struct executable **e);
size_t executable_arena_bytes(
    const struct executable *e); // activations and scratch: the caller's, 64-byte aligned, may be shared by
                                 // executables that do not run at the same time
// External values: inputs, parameters, leaves. Each must be bound before the first run. An output may be bound (it is then written there); else it
// is found with executable_memory after a run, until the arena is used again.
size_t executable_external_count(const struct executable *e);
const struct value *executable_external_at(const struct executable *e, size_t i);
status_t executable_bind(struct executable *e, const struct value *value, void *memory);
void *executable_memory(const struct executable *e, const struct value *value, void *arena);
size_t executable_nodes(const struct executable *e);
double executable_flops(const struct executable *e); // of one run
// How many values step `step` exchanges with the other ranks; 0: none. A rank without samples joins in with zeros.
size_t executable_exchange_at(const struct executable *e, size_t step);
// Which step (0..nodes-1) produces a value; -1 when none does.
int executable_step_of(const struct executable *e, const struct value *value);
// Called after every operation with its step.
typedef status_t (*executable_hook_t)(void *context, int step);
status_t executable_run(struct executable *e, void *arena, struct stream *stream, executable_hook_t hook,
                        void *context);
// With options.profile: milliseconds a run, share and GFLOP/s of every distinct operation, the slowest first.
status_t executable_print_profile(const struct executable *e, FILE *out);

#endif
