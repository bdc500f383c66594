// reference.h: the reference backend: every operation, type and direction in plain loops, computed in double and
// rounded once at the end; one thread, fixed order, the same bits always. It is the oracle of the other backends.
#ifndef GRIDSEG_BACKEND_REFERENCE_REFERENCE_H
#define GRIDSEG_BACKEND_REFERENCE_REFERENCE_H

#include "backend/backend.h"

// `threads` is taken for the sake of the common signature; one is used.
status_t reference_backend_create(int threads, struct backend **out);

#endif
