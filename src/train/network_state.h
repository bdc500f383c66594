// network_state.h: the inside of a network, shared by network*.c.
#ifndef GRIDSEG_TRAIN_NETWORK_STATE_H
#define GRIDSEG_TRAIN_NETWORK_STATE_H

#include "tensor/safetensors.h"
#include "train/network.h"

enum { MAX_UNITS = 8 }; // executables kept ready; the least recently used one goes

// A graph of the model for one batch and text length, with every pass done. The backward part is there whenever the
// network trains, so that values come in the same order for every shape.
struct built {
  struct graph *graph;
  struct value *logits, *loss, *sums;
  struct value **parameter; // by index of the network's parameters
  unsigned *depends;        // bits: SOURCE_IMAGE, SOURCE_CONDITION
};

// A value that a frozen part hands on, as it stands in the feature of one sample.
struct tap {
  struct tensor_desc desc; // batch 1
  size_t offset, bytes;
};

struct source {
  struct tap *tap;
  size_t taps, bytes; // bytes 0: no feature
  struct key base;    // key of how the feature is made, without the input
  bool has_base;
};

typedef enum { UNIT_FORWARD, UNIT_LOSS, UNIT_STEP, UNIT_FEATURE_IMAGE, UNIT_FEATURE_CONDITION } unit_kind_t;

struct unit {
  unit_kind_t kind;
  int batch, length;
  uint64_t used; // tick of the last use
  struct built built;
  struct executable *executable;
  void *pixels, *condition_pixels, *ids, *row, *target, *scale; // device memory of the inputs that it reads
  void **leaf; // device memory of each feature leaf, in the order of the taps of both sources
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
  int text_limit;
  struct safetensors *weights; // of the directory; NULL when drawn
  struct network_parameter *parameter;
  void **memory; // device copy of a parameter, made when first needed; trained ones point into the arena
  bool *given;   // by network_set_parameter: its value is nowhere else
  size_t parameters;
  int64_t arena_count;
  void *arena, *gradients; // fp32 (fp64)
  uint8_t *decay;
  struct source source[SOURCES];
  bool live[SOURCES]; // the source's input is read by the live part
  struct unit *unit[MAX_UNITS];
  uint64_t tick;
  struct constant *constant;
  size_t constants, constant_capacity;
  void *workspace; // arena of activations, shared by all units
  size_t workspace_bytes;
};

// network_graph.c: the graph of a shape, and memory of parameters and constants.
status_t built_create(struct network *n, int64_t batch, int64_t length, struct built *out);
void built_destroy(struct built *b);
status_t network_memory(struct network *n, size_t parameter, void **out); // device memory, loaded
// The parameter's values as fp32 in host memory, wherever they are now.
status_t network_host_copy(struct network *n, size_t parameter, float *out);
// Bind parameters and constants of an executable; constants that are not there yet are computed.
status_t network_bind_frozen(struct network *n, struct built *b, struct executable *e, const uint8_t *leaf);
// The feature leaves of the live part, in order of value ids: bit `source`.
status_t network_find_taps(const struct network *n, const struct built *b, const uint8_t *leaf, source_t source,
                           struct value ***out, size_t *count);
// What the live part computes: logits, and with `train` loss, sums and gradients. *out is freed with mem_free.
status_t network_wanted(const struct network *n, const struct built *b, unit_kind_t kind, struct value ***out,
                        size_t *count);
status_t network_reserve(struct network *n, size_t bytes);

// network_run.c
void unit_destroy(struct network *n, struct unit **u);

#endif
