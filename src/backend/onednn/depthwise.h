// depthwise.h: CONV with a kernel for every channel (groups = channels in = channels out), on an own kernel.
#ifndef GRIDSEG_BACKEND_ONEDNN_DEPTHWISE_H
#define GRIDSEG_BACKEND_ONEDNN_DEPTHWISE_H

#include "backend/onednn/inside.h"

bool depthwise_apply(const struct op *op);
status_t depthwise_create(struct plan *p);

#endif
