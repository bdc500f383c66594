// inference.h: what eval and predict share.
#ifndef GRIDSEG_TRAIN_INFERENCE_H
#define GRIDSEG_TRAIN_INFERENCE_H

#include "backend/backend.h"
#include "models/model.h"
#include "text/tokenizer.h"

// "onednn, AMD EPYC 9R14": backend and kind of processor.
void inference_name_device(const struct backend *backend, char *out, size_t size);
// The tokenizer of a model directory, checked against the model's vocabulary.
status_t inference_load_tokenizer(const struct model *model, struct tokenizer **out);

#endif
