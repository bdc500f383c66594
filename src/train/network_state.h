// network_state.h: the inside of a network, shared by network*.c.
#ifndef GRIDSEG_TRAIN_NETWORK_STATE_H
#define GRIDSEG_TRAIN_NETWORK_STATE_H

#include "tensor/safetensors.h"
#include "train/network.h"

enum { MAX_UNITS = 8 }; // executables kept ready; the least recently used one goes

// A graph of the model for one batch, text length and mode, with every pass done. Training graphs have the backward part.
// Values come in the same order for every shape, but not for both modes.
struct built {
  struct graph *graph;
  bool training;
  struct value *planes; // what the model returned: [B,S,S] or [B,S,S,P]
  struct value *logits, *loss, *sums;
  struct value **parameter; // by index of the network's parameters
  unsigned *depends;        // bits: SOURCE_IMAGE, SOURCE_CONDITION
};

// A value that a frozen part hands on, as it stands in the feature of one sample.
struct tap {
  size_t offset, bytes; // for a text of full length
  size_t token_bytes;   // of each token, when there is one row a token (a shorter text: the rest is zero); else 0
  struct key signature; // how it is made
};

typedef enum { UNIT_FORWARD, UNIT_LOSS, UNIT_STEP, UNIT_FEATURE_IMAGE, UNIT_FEATURE_CONDITION } unit_kind_t;
enum { LIVE_KINDS = 3 }; // the first three

struct source {
  struct tap *tap;
  size_t taps, bytes; // bytes 0: no feature
  bool by_token;      // of any tap
  // What a live unit reads: its k-th leaf of this source is tap[order[kind][k]].
  size_t *order[LIVE_KINDS], leaves[LIVE_KINDS];
  struct key base; // key of how the feature is made, without the input
  bool has_base;
};

struct unit {
  unit_kind_t kind;
  int batch, length;
  uint64_t used; // tick of the last use
  struct built built;
  struct executable *executable;
  // device memory of the inputs that it reads
  void *pixels, *condition_pixels, *ids, *row, *lengths, *noise, *plane, *target, *scale;
  void **leaf; // device memory of each feature leaf, first those of SOURCE_IMAGE
  size_t leaves;
  void **output; // device memory of feature outputs
  size_t outputs;
  int64_t *ready; // by step: how much of the gradient arena is final after it
};

struct constant {
  struct key key;
  void *memory;
};

struct network {
  const struct model *model;
  struct backend *backend;
  struct network_options options;
  dtype_t real;
  int text_limit, planes;
  struct safetensors *weights; // of the directory; NULL when drawn
  struct network_parameter *parameter;
  void **memory; // device copy of a parameter, made when first needed; trained ones point into the arena
  bool *given;   // by network_set_parameter: its value is nowhere else
  size_t parameters;
  int64_t arena_count;
  void *arena, *gradients; // fp32 (fp64)
  uint8_t *decay;
  struct source source[SOURCES];
  bool live[SOURCES];          // the source's input is read by the live part
  size_t *exchange;            // sizes of the exchanges of a step, in order
  size_t exchanges, exchanged; // exchanged: so many of this step are done
  bool absent, lost;           // this rank has no sample in this step; the ranks have lost each other
  int64_t batches;             // steps taken: to be added to the counters (num_batches_tracked)
  struct unit *unit[MAX_UNITS];
  const struct unit *last; // that evaluated, while its results stand in the workspace
  uint64_t tick;
  struct constant *constant;
  size_t constants, constant_capacity;
  void *workspace; // arena of activations, shared by all units
  size_t workspace_bytes;
};

// network_graph.c: the graph of a shape, and memory of parameters and constants.
status_t built_create(struct network *n, int64_t batch, int64_t length, bool training, struct built *out);
void built_destroy(struct built *b);
status_t network_memory(struct network *n, size_t parameter, void **out); // device memory, loaded
// The parameter's values as fp32 in host memory, wherever they are now.
status_t network_host_copy(struct network *n, size_t parameter, float *out);
// Bind parameters and constants of an executable; constants that are not there yet are computed.
status_t network_bind_frozen(struct network *n, struct built *b, struct executable *e, const uint8_t *leaf);
// The feature leaves of the live part, in order of value ids: bit `source`.
status_t network_find_taps(const struct built *b, const uint8_t *leaf, source_t source, struct value ***out,
                           size_t *count);
// The same for what a kind of unit computes.
status_t network_taps(const struct network *n, const struct built *b, unit_kind_t kind, source_t source,
                      struct value ***out, size_t *count);
status_t network_name_key(void *context, const struct value *leaf, struct key *out); // for graph_signature
// The mode that a kind of unit runs in. Features are part of the graph that uses them most.
bool network_mode(const struct network *n, unit_kind_t kind);
// The kind of live unit that decides what features are.
unit_kind_t network_main_kind(const struct network *n);
// What the live part computes: logits, for UNIT_LOSS and UNIT_STEP loss and sums, for UNIT_STEP gradients and new statistics: those
// from NETWORK_RESULTS on. *out is freed with mem_free.
enum { NETWORK_RESULTS = 3 };
status_t network_wanted(const struct network *n, const struct built *b, unit_kind_t kind, struct value ***out,
                        size_t *count);
status_t network_reserve(struct network *n, size_t bytes);

// network_weights.c: open the directory's weights, if it has any, and check them: every tensor that is missing, surplus or of another
// shape is counted, the first of each named.
status_t network_open_weights(struct network *n);

// network_plan.c: from the graph of batch 1 and full length in the main kind's mode.
status_t network_plan(struct network *n, const struct built *b);
void network_plan_destroy(struct network *n);

// network_run.c
void unit_destroy(struct network *n, struct unit **u);
// The unit for a kind and shape, made when it is not there. length 0: of a full text.
status_t unit_get(struct network *n, unit_kind_t kind, int batch, int length, struct unit **out);
status_t unit_load_texts(struct network *n, struct unit *u,
                         const struct network_sample *samples); // what it reads of texts
size_t network_picture_bytes(const struct network *n);
status_t network_check_length(const struct network *n, int length);

#endif
