// parallel.h: a loop over independent items on all cores, for work outside the graph (decoding, hashing, metrics).
#ifndef GRIDSEG_BASE_PARALLEL_H
#define GRIDSEG_BASE_PARALLEL_H

#include "base/status.h"

#include <stddef.h>

// Cores that this process may use (its affinity mask), at least 1.
int parallel_cores(void);

// Call body(context, item, worker) once for every item in [0, count), on `threads` threads (0: all cores); items are
// handed out in order, worker is in [0, threads). The first error stops the hand-out, and its status and message are
// those of the call; items already begun are finished.
status_t parallel_for(size_t count, int threads, status_t (*body)(void *context, size_t item, int worker),
                      void *context);

#endif
