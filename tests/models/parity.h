// parity.h: a model of ours against the public implementation, from a folder of tests/golden that rule.make_case made (README.md there
// lists the tensors): config.json, io.safetensors, weights by the rule of generated.h unless model.safetensors is there.
#ifndef GRIDSEG_TESTS_PARITY_H
#define GRIDSEG_TESTS_PARITY_H

#include "base/mem.h"
#include "tensor/safetensors.h"
#include "testing.h"
#include "train/network.h"

#define GOLDEN TEST_SOURCE_DIR "/tests/golden"

// Evaluation logits of every plane; training logits, losses of five optimiser steps, every gradient and BatchNorm's statistics after the
// first step: each within 1e-5 or twice torch's own float32 of the float64 truth (DESIGN, "Numbers"), at PRECISION_FP64 within 1e-5. `encoders`: everything
// trains ("trained" in the file), else all but the encoders ("frozen").
void parity_check(const char *golden, const char *backend, precision_t precision, bool encoders);
// Evaluation logits alone, within `bound` of the largest.
void parity_logits(const char *golden, const char *backend, precision_t precision, double bound);

// Writes FOLDER/config.json: that of the folder `from` with one value changed. `text` is JSON; `part` NULL is the top level.
void parity_edit_config(const char *from, const char *folder, const char *part, const char *key, const char *text);
// model_open refuses each of the edits, naming config.json and what is said here.
struct parity_refusal {
  const char *part, *key, *text, *says;
};
void parity_refuses(const char *from, const struct parity_refusal *bad, size_t count);

// Fill all parameters of a network by the rule.
void parity_draw_weights(struct network *n);

// A golden tensor as f64 (mem_free), its count of elements in *count; the test fails where it is missing.
double *parity_read(const struct safetensors *io, const char *name, int64_t *count);
// torch's own distance from the float64 truth where the file states it, else 0.
double parity_torch_distance(const struct safetensors *io, const char *name);

#endif
