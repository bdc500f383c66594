// onednn.h: the CPU backend: oneDNN for products and convolutions, own vector kernels for everything else.
#ifndef GRIDSEG_BACKEND_ONEDNN_ONEDNN_H
#define GRIDSEG_BACKEND_ONEDNN_ONEDNN_H

#include "backend/backend.h"

// A synchronous backend on `threads` OpenMP threads (<= 0: all cores of the process); BACKEND_BF16 where the processor
// multiplies bf16. Denormal numbers are flushed to zero on its threads. One host thread at a time may run its plans.
status_t onednn_backend_create(int threads, struct backend **out);

// Convolutions can be computed in several ways (layouts, products, own kernels). Each plan takes the one that a fixed rule
// gives: the same bits in every run. With measuring on, the ways of an operation are timed when its first plan is made,
// and the fastest is kept in a table of the process; other ways give other bits, so a run that may be continued saves the
// table beside it and loads it before it goes on. What a loaded table does not hold follows the rule, or is measured.
void onednn_choices_measure(bool on);
status_t onednn_choices_load(const char *path); // replaces the table
status_t onednn_choices_save(const char *path);
void onednn_choices_clear(void);
// For tests: the way of this name wherever an operation has it ("plain", "blocked", "product", "turned", "own"); NULL: as
// above. The text must stay.
void onednn_choices_force(const char *way);

#endif
