// unroll.h: a CONV or CONV_TRANSPOSE as one product: the windows of the large picture are the rows of a matrix, in the order
// of the weights, which are used as they lie.
#ifndef GRIDSEG_BACKEND_ONEDNN_UNROLL_H
#define GRIDSEG_BACKEND_ONEDNN_UNROLL_H

#include "backend/onednn/inside.h"

// All but CONV forward, which the convolutions of oneDNN do as fast, and CONV_TRANSPOSE's gradient of a bias.
bool unroll_apply(const struct op *op);
status_t unroll_create(struct plan *p);

#endif
