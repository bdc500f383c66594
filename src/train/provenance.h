// provenance.h: what a model is and where it comes from: its content key, and what the state.json of a checkpoint tells.
#ifndef GRIDSEG_TRAIN_PROVENANCE_H
#define GRIDSEG_TRAIN_PROVENANCE_H

#include "base/key.h"
#include "data/pool.h"
#include "models/model.h"
#include "text/tokenizer.h"

#include <stdbool.h>

// Texts are owned, "" where nothing is known (a model that gridseg did not train has no state.json).
struct provenance {
  char *trained_on; // pools joined by '+'
  char *seed, *loss, *quirks;
  char *root;            // where the training pools were
  char **pools;          // their names
  struct key *pool_keys; // and what they held; NULL where it isn't recorded
  size_t pool_count;
  int size;
};

// Read DIRECTORY/state.json when it is there.
status_t provenance_read(const char *directory, struct provenance *out);
void provenance_free(struct provenance *p);

// Content key of a model: config.json, preprocessor_config.json, every tensor file, the tokenizer; the seed where the weights are
// drawn. Reads all of the weights.
status_t provenance_model_key(const struct model *model, const struct tokenizer *tokenizer, uint64_t seed,
                              struct key *out);

// How many images of `pool` are, to the pixel, images that the model was trained on. The training pools are looked for where they
// were and under `root`; *leak is -1 when that is not known (no state.json, a pool gone or changed).
status_t provenance_count_leaks(const struct provenance *p, const char *root, const struct pool *pool, int64_t *leak);

#endif
