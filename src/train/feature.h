// feature.h: the keys under which inputs of the frozen part are known to the feature store; train and eval share them.
// The key of a picture is pool_image_key.
#ifndef GRIDSEG_TRAIN_FEATURE_H
#define GRIDSEG_TRAIN_FEATURE_H

#include "base/key.h"

// Of a text as token ids (true length, with start and end token): what words and tokenizer made them does not matter.
status_t feature_text_key(const int32_t *ids, int length, struct key *out);

#endif
