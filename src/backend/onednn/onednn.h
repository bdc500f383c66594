// onednn.h: the CPU backend: oneDNN for products and convolutions, own vector kernels for everything else.
#ifndef GRIDSEG_BACKEND_ONEDNN_ONEDNN_H
#define GRIDSEG_BACKEND_ONEDNN_ONEDNN_H

#include "backend/backend.h"

// A synchronous backend on `threads` OpenMP threads (<= 0: all cores of the process); BACKEND_BF16 where the processor
// multiplies bf16. Denormal numbers are flushed to zero on its threads. One host thread at a time may run its plans.
status_t onednn_backend_create(int threads, struct backend **out);

#endif
