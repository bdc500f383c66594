// schedule.h: when the learning rate falls and when training ends. Plain state and arithmetic: two runs that see the
// same losses take the same decisions, and the state is written to and read from state.json.
#ifndef GRIDSEG_TRAIN_SCHEDULE_H
#define GRIDSEG_TRAIN_SCHEDULE_H

#include "base/json.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

// torch.optim.lr_scheduler.ReduceLROnPlateau(mode="min", threshold=1e-4, threshold_mode="rel", cooldown=0, min_lr=0,
// eps=1e-8), as Lightning drives it: once an epoch, on the validation loss.
struct plateau {
  double factor;    // <= 0 or >= 1: the rate never falls
  int64_t patience; // epochs without gain before it falls
  double lr, best;
  int64_t bad;
};

void plateau_init(struct plateau *p, double lr, double factor, int64_t patience);
// One epoch's loss; true when the rate has just fallen.
bool plateau_update(struct plateau *p, double loss);

// Lightning's EarlyStopping(mode="max", min_delta, patience) with Trainer(min_epochs), and ModelCheckpoint(mode="max",
// save_top_k=1): on the validation Dice.
struct early_stop {
  int64_t patience, min_epochs; // patience < 0: never
  double delta;
  double reference; // the score that must be beaten by more than delta
  int64_t waited;   // epochs since
  bool due;         // patience was at its end once: training ends as soon as min_epochs are there, as in Lightning
  double best;      // the highest score of all
  int64_t best_epoch, epochs;
};

void early_stop_init(struct early_stop *e, int64_t patience, double delta, int64_t min_epochs);
// One epoch's score. *best: it is the highest so far; *stop: training ends here.
void early_stop_update(struct early_stop *e, double score, bool *best, bool *stop);

// The moving parts as a JSON object and back; numbers keep their bits. ERR_FORMAT names `where` and the key.
status_t plateau_save(const struct plateau *p, json_t *into);
status_t plateau_load(struct plateau *p, const json_t *from, const char *where);
status_t early_stop_save(const struct early_stop *e, json_t *into);
status_t early_stop_load(struct early_stop *e, const json_t *from, const char *where);

// A double as text with all its bits ("0x1.8p+1", "inf"), for JSON, which has neither infinity nor a sure last digit.
status_t exact_put(json_t *object, const char *key, double value);
status_t exact_get(const json_t *object, const char *where, const char *key, double *out);

#endif
