// checkpoint_inside.h: what checkpoint.c and resume.c share.
#ifndef GRIDSEG_TRAIN_CHECKPOINT_INSIDE_H
#define GRIDSEG_TRAIN_CHECKPOINT_INSIDE_H

#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct checkpoints {
  char *out, *path;  // OUT, OUT/checkpoints
  int64_t last_step; // the checkpoint that unchanged files are taken over from; -1: none
  json_t *files;     // its "files"
};

// SHA-256 of a state without its "check", keys sorted.
status_t checkpoint_hash_state(const json_t *state, char hex[65]);
// "step-00000012" -> 12
bool checkpoint_step_of(const char *name, int64_t *step);
// All step folders, newest first; *steps freed with mem_free.
status_t checkpoints_steps(const struct checkpoints *f, int64_t **steps, size_t *count);
status_t checkpoints_link(struct checkpoints *f, const char *link, int64_t step);

#endif
