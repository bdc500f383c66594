// checkpoint.h: OUT/checkpoints/step-NNNNNNNN/: a model directory that transformers loads too, with optimizer.safetensors
// (exp_avg.<name>, exp_avg_sq.<name>) and state.json. Complete or absent; `best` and `last` are links replaced by rename.
//
// Frozen tensors never change: they stand in a shard of their own (model-00001-of-00002.safetensors), which a new
// checkpoint takes over from the one before as a hard link, as it does with every other file that stays the same. A
// checkpoint of a frozen CLIPSeg then writes 14 MB, not 600.
#ifndef GRIDSEG_TRAIN_CHECKPOINT_H
#define GRIDSEG_TRAIN_CHECKPOINT_H

#include "train/network.h"
#include "train/optimizer.h"

struct checkpoints; // the checkpoints folder of one run; rank 0 only

// OUT/checkpoints, made when it is not there; left-overs of an interrupted write are removed.
status_t checkpoints_open(const char *out, struct checkpoints **folder);
void checkpoints_close(struct checkpoints **folder);

// The newest checkpoint that is whole: every file has the bytes and SHA-256 that its state.json names, which carries a
// hash of itself. Others are named in a warning and passed over. *step is -1 when there is none; *state is owned by the
// caller. `best` and `last` are set right, newer damaged ones moved aside (damaged-step-...): the run goes on from here.
status_t checkpoints_find(struct checkpoints *folder, int64_t *step, json_t **state);
// The folder of a step: OUT/checkpoints/step-00000012; freed with mem_free.
status_t checkpoint_path(const char *out, int64_t step, char **path);

// Write the checkpoint of `step`, taking `state` (an object; "format", "step", "best_step", "files" and "check" are
// added, the reference stays with the caller), and make it `last`, and `best` where best_step == step (best_step -1:
// best = last). Then drop all but the `keep` newest and the best.
status_t checkpoints_write(struct checkpoints *folder, const struct model *model, struct network *n,
                           struct optimizer *o, json_t *state, int64_t step, int64_t best_step, int64_t keep);

// Every rank: moments and step count of a checkpoint that checkpoints_find has checked. (Weights are read by opening its
// folder as a model.) Shapes that are not the network's are refused by name.
status_t checkpoint_load_optimizer(const char *out, int64_t step, struct network *n, struct optimizer *o);
// Read a state.json and check it against its own hash.
status_t checkpoint_read_state(const char *path, json_t **state);

#endif
