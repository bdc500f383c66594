// network.h: a model on a backend: what train, eval and predict run.
//
// The engine splits the graph by itself: a value that no trained parameter feeds and that depends on one input only ("pixels",
// "ids" or "condition_pixels") is computed once for each distinct picture or text, as that input's *feature*; what is left runs for every
// sample. With trained encoders a source has no feature and the sample carries the input itself.
#ifndef GRIDSEG_TRAIN_NETWORK_H
#define GRIDSEG_TRAIN_NETWORK_H

#include "backend/backend.h"
#include "base/key.h"
#include "models/model.h"

typedef enum { PRECISION_FP32, PRECISION_BF16, PRECISION_FP64 } precision_t; // fp64: reference backend, for tests

struct network_options {
  precision_t precision;
  int size; // S; network_create refuses one that the model cannot run at
  condition_t condition;
  bool train;    // build the backward pass
  bool encoders; // train the encoders too
  loss_t loss;
  bool profile;     // time every operation, for network_print_profile
  bool shapes_only; // for network_parameter_at, network_feature_bytes and network_cost alone: no memory for weights
  bool study; // quirks: study; network_forward and network_loss then keep every plane's logits for network_get_planes
  uint64_t seed; // of the random initialisation, where the directory has no weights, and of dropout
  // The sum of `values` over all ranks, in rank order: for BatchNorms that normalise by the batch of all ranks. NULL: by what
  // this rank has.
  status_t (*exchange)(void *context, double *values, size_t count);
  void *exchange_context;
};

typedef enum {
  SOURCE_IMAGE,
  SOURCE_CONDITION
} source_t; // the picture; the prompt (text, or picture when CONDITION_IMAGE)
enum { SOURCES = 2 };

struct network; // opaque; not thread-safe

// The model is borrowed for the network's life, as is the backend. Weights are read from the directory, or drawn when it has none
// (public initialisation of the architecture, Philox by parameter name).
status_t network_create(const struct model *model, struct backend *backend, const struct network_options *options,
                        struct network **out);
void network_destroy(struct network **network);

// One parameter or buffer of the public state dict, in the order of declaration.
struct network_parameter {
  const char *name;
  struct tensor_desc desc;
  dtype_t stored; // in files: F32, or I64 of a counter (num_batches_tracked)
  struct init init;
  bool trained, decay;
  bool tracked; // not trained, but changed by every network_step: running statistics and counters of trained BatchNorms
  int64_t offset; // of a trained parameter in the flat arenas, in elements; -1 when frozen
};
size_t network_parameter_count(const struct network *n);
const struct network_parameter *network_parameter_at(const struct network *n, size_t i);
// Copy parameters to or from host memory (fp32, the parameter's count of elements).
status_t network_get_parameter(struct network *n, size_t i, float *out);
status_t network_set_parameter(struct network *n, size_t i, const float *in);

// Flat arenas over all trained parameters in the order in which backward finishes their gradients (each 64-byte aligned,
// gaps are zero). Device memory of the backend, fp32 (f64 for PRECISION_FP64).
int64_t network_arena_count(const struct network *n); // elements
void *network_weights(struct network *n);
void *network_gradients(struct network *n);
const uint8_t *network_decay(const struct network *n); // [arena count] device memory: 1 where weight decay applies

// Bytes of one feature of a source; 0 when the source has none (its encoder is trained).
size_t network_feature_bytes(const struct network *n, source_t source);
// The content key of a feature: frozen tensors, graph, size, normalisation, precision, backend numerics, and the input's own key.
status_t network_feature_key(struct network *n, source_t source, const struct key *input, struct key *out);
// Compute features on this rank, one at a time (so that the bits depend on the input alone). Image: uint8 [S,S,3] in `input`.
// Condition: int32 ids[length], or a picture with CONDITION_IMAGE. `feature`: host memory of network_feature_bytes.
status_t network_compute_feature(struct network *n, source_t source, const void *input, int length, void *feature);
// Give back the memory that only features need: encoders on the device and their packed copies. They come again when they are
// asked for.
void network_drop_features(struct network *n);

int network_size(const struct network *n); // S
// Planes of the model's output; each sample has one of them.
int network_planes(const struct network *n);

// One sample of a step. A source with a feature is given by its feature, one without by its input.
struct network_sample {
  const void *image;     // feature, or uint8 [S,S,3]
  const void *condition; // feature, or int32 ids[length], or uint8 [S,S,3]; unused by a model without prompts
  int length;            // true length of ids, with a feature too
  const uint8_t *mask;   // [S,S] 0/1; unused by network_forward
  int plane;             // of the output that this sample is about
  int64_t number;        // position in the batch of all ranks: what dropout draws for it does not depend on the rank
};

// Called between operations of a step, so that communication progresses. `ready`: all gradients in [0, ready) of the arena are final.
struct network_hook {
  status_t (*progress)(void *context, int64_t ready);
  void *context;
};

// What a batch of full texts costs. Floating-point operations and bytes of activations of the whole batch, as planned for the
// network's backend; the store's features are not counted in what reads them.
struct network_cost {
  double step_flops, forward_flops; // forward: logits alone. step: 0 without options.train
  size_t step_bytes, forward_bytes; // activations and scratch
  double feature_flops[SOURCES];    // of one picture, of one prompt
};
status_t network_cost(struct network *n, int batch, struct network_cost *out);

// With options.profile: what every operation took, for each executable that is still kept.
status_t network_print_profile(const struct network *n, FILE *out);

// network_forward and network_loss evaluate: running statistics, no dropout, in a network that trains too. network_step trains.

// Logits [count,S,S] fp32 into host memory. count >= 1.
status_t network_forward(struct network *n, const struct network_sample *samples, int count, float *logits);
// Per-sample losses and sums (sum p, sum t, sum pt, sum BCE; p = sigmoid) without gradients; logits may be NULL.
status_t network_loss(struct network *n, const struct network_sample *samples, int count, float *loss, float (*sums)[4],
                      float *logits);
// With options.study and several planes, after network_forward or network_loss: the logits of every plane, [count,S,S,planes].
status_t network_get_planes(struct network *n, float *out);
// As network_loss in training mode, and the gradients of scale * (sum of losses) into the arena (overwritten). `step` numbers the
// draws of dropout. count == 0 zeroes the arena and calls the hook once with everything ready. With options.exchange every rank takes
// part in every exchange of the step, whatever its count and even when its own part fails; running statistics are then the same
// everywhere. A NaN or infinite loss is ERR_NUMERIC naming the sample's position.
status_t network_step(struct network *n, const struct network_sample *samples, int count, double scale, int64_t step,
                      const struct network_hook *hook, float *loss, float (*sums)[4], float *logits);

#endif
