// optimizer.h: AdamW over the network's flat arenas, behind the clip of the gradient's norm: two operations of the
// backend (SUM_SQUARES, ADAMW) and three arenas of its memory.
#ifndef GRIDSEG_TRAIN_OPTIMIZER_H
#define GRIDSEG_TRAIN_OPTIMIZER_H

#include "train/network.h"

struct optimizer_options {
  double beta1, beta2, epsilon, weight_decay;
  double clip; // largest norm of the whole gradient; 0: no clip
};

struct optimizer;

// The network and backend are borrowed. First and second moments start at zero.
status_t optimizer_create(struct network *n, struct backend *b, const struct optimizer_options *options,
                          struct optimizer **out);
void optimizer_destroy(struct optimizer **o);
// The 2-norm of the gradient arena, in a fixed order of summation.
status_t optimizer_norm(struct optimizer *o, double *norm);
// torch.nn.utils.clip_grad_norm_ with `norm`, then torch.optim.AdamW at `lr`; counts the step.
status_t optimizer_step(struct optimizer *o, double norm, double lr);
int64_t optimizer_steps(const struct optimizer *o);
void optimizer_set_steps(struct optimizer *o, int64_t steps);

typedef enum { MOMENT_FIRST, MOMENT_SECOND } moment_t;
// A whole moment arena (network_arena_count elements) to and from host memory.
status_t optimizer_get_moment(struct optimizer *o, moment_t which, float *out);
status_t optimizer_set_moment(struct optimizer *o, moment_t which, const float *in);

#endif
