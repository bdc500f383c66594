// trainer.h: one training run in memory; what the train_*.c files share.
#ifndef GRIDSEG_TRAIN_TRAINER_H
#define GRIDSEG_TRAIN_TRAINER_H

#include "comm/comm.h"
#include "train/batches.h"
#include "train/checkpoint.h"
#include "train/curves.h"
#include "train/events.h"
#include "train/features.h"
#include "train/schedule.h"
#include "train/train_config.h"

// Where the run stands; all of it is in state.json.
struct position {
  int64_t epoch, step_in_epoch, step; // counted from 0; `step` steps are done
  double loss, dice;                  // sums over the epoch's samples so far
  int64_t samples;
  double epoch_seconds, seconds; // spent in this epoch and in all, by earlier starts too
  int64_t best_step;             // -1: no validation yet
  bool ended_early;
};

struct trainer {
  struct comm *comm;
  struct comm
      *statistics; // the same ranks, for what BatchNorms exchange while gradients are on their way; NULL: one rank
  bool together;   // the ranks know of the error: the world may be finalised
  struct config *config;
  struct train_options o;
  struct model *model;
  struct backend *backend;
  struct network *network;
  struct optimizer *optimizer;
  struct bucket_set *buckets;
  struct store *store;
  struct tokenizer *tokenizer;
  struct pool **train_pools, **val_pools;
  int train_pool_count, val_pool_count;
  struct features *features;
  struct batches *train, *val; // val NULL: no validation
  struct key data_key;         // of the pools and what was drawn from them

  int lock;                        // of OUT, rank 0
  struct checkpoints *checkpoints; // rank 0
  struct curves *curves;           // rank 0
  struct events *events;           // rank 0
  int64_t resumed;                 // the step that this start goes on from, -1: a fresh run
  json_t *resumed_state;

  struct plateau plateau;
  struct early_stop early_stop;
  struct position at;
  float cut; // logits at or above are foreground
  float *loss, *logits;
  float *planes; // logits of every plane, for the study's validation Dice; NULL: the sample's own plane counts
  float (*sums)[4];
  double started, checkpointed; // clock_seconds
  double rate;                  // images/s, smoothed
};

// All ranks learn the worst status; an error that comes out of here is one that all ranks have met.
status_t trainer_agree(struct trainer *t, status_t mine);

// train_setup.c: everything from the configuration to the first step.
status_t trainer_open(struct trainer *t, int argc, char **argv);
void trainer_close(struct trainer *t);
// train_data.c
status_t trainer_open_data(struct trainer *t);
void trainer_close_data(struct trainer *t);
// train_out.c: the run's folder: lock, config.yaml, the checkpoint to go on from.
status_t trainer_open_out(struct trainer *t);
status_t trainer_open_curves(struct trainer *t);
status_t trainer_write_status(const struct trainer *t, const char *status);
// train_state.c: state.json
status_t trainer_save(struct trainer *t); // collective
status_t trainer_load_state(struct trainer *t);
status_t trainer_broadcast_text(struct trainer *t, char **text); // rank 0's text to all; freed with mem_free
// Ranks that keep BatchNorm statistics of their own take rank 0's.
status_t trainer_share_statistics(struct trainer *t); // collective
// train_step.c
struct step_result {
  double loss, dice, samples, seconds;
  bool stop, checkpoint;
};
status_t trainer_step(struct trainer *t, struct step_result *out);
void trainer_name_sample(const struct trainer *t, const struct batches *from, const struct share *b);
// train_score.c
struct score {
  double loss, dice;
  bool stop;
};
status_t trainer_validate(struct trainer *t, struct score *out);
double sample_dice(const float *logits, const uint8_t *mask, size_t pixels, float cut);
// train_dump.c
status_t trainer_dump(struct trainer *t, int count);
// train_loop.c
status_t trainer_run(struct trainer *t);

#endif
