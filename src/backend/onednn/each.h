// each.h: CONV_EACH, and CONV with one output channel, on own kernels.
#ifndef GRIDSEG_BACKEND_ONEDNN_EACH_H
#define GRIDSEG_BACKEND_ONEDNN_EACH_H

#include "backend/onednn/inside.h"

bool each_apply(const struct op *op); // of a CONV
status_t each_create(struct plan *p);

#endif
