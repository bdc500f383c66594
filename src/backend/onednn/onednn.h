// onednn.h: the CPU backend: oneDNN for products and convolutions, own vector kernels for everything else.
#ifndef GRIDSEG_BACKEND_ONEDNN_ONEDNN_H
#define GRIDSEG_BACKEND_ONEDNN_ONEDNN_H

#include "backend/backend.h"

// A synchronous backend on `threads` OpenMP threads (<= 0: all cores of the process); BACKEND_BF16 where the processor
// multiplies bf16. Denormal numbers are flushed to zero on its threads. One host thread at a time may run its plans.
status_t onednn_backend_create(int threads, struct backend **out);

// For tests: convolutions are computed in the way of this name wherever they have it ("plain", "blocked", "product", "turned", "own");
// NULL: by the fixed rule of ways.c, which gives the same bits in every run. The text must stay.
void onednn_force_way(const char *way);

#endif
