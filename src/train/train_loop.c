// train_loop.c: epochs: steps, validation, schedule, checkpoints, curves, and the ways to end.
#include "base/clock.h"
#include "base/log.h"
#include "train/stop.h"
#include "train/trainer.h"

#include <stdio.h>

static status_t write_row(struct trainer *t, const struct curves_row *row) {
  const char *kind = row->epoch_end ? "epoch" : "train";
  char tag[32];
  if (comm_rank(t->comm) != 0) return OK;
  TRY(curves_write(t->curves, row));
  const struct {
    const char *name;
    double value;
    bool there;
  } scalar[] = {{"loss", row->loss, true},
                {"dice", row->dice, true},
                {"lr", row->lr, !row->epoch_end},
                {"images_per_s", row->images_per_s, true},
                {"val_loss", row->val_loss, row->validated},
                {"val_dice", row->val_dice, row->validated}};
  for (size_t i = 0; i < sizeof scalar / sizeof *scalar; i++) {
    if (!scalar[i].there) continue;
    (void)snprintf(tag, sizeof tag, "%s/%s", kind, scalar[i].name);
    TRY(events_scalar(t->events, tag, row->step, scalar[i].value));
  }
  return row->epoch_end ? events_flush(t->events) : OK;
}

// "2h05m", "3m20s", "12s"
static const char *duration(double seconds, char text[32]) {
  long s = seconds < 0 ? 0 : seconds > 1e9 ? 1000000000L : (long)seconds;
  if (s >= 3600) {
    (void)snprintf(text, 32, "%ldh%02ldm", s / 3600, s / 60 % 60);
  } else if (s >= 60) {
    (void)snprintf(text, 32, "%ldm%02lds", s / 60, s % 60);
  } else {
    (void)snprintf(text, 32, "%lds", s);
  }
  return text;
}

// The time left is that of all epochs: when an early stop comes nobody knows.
static void show_progress(const struct trainer *t, const struct step_result *r) {
  char left[32];
  int64_t steps = batches_steps(t->train), todo = (t->o.epochs - t->at.epoch) * steps - t->at.step_in_epoch;
  double per_step = t->at.seconds / (double)(t->at.step ? t->at.step : 1);
  log_progress(0, "epoch %lld/%lld step %lld/%lld loss %.4f Dice %.4f %.1f images/s %s left",
               (long long)t->at.epoch + 1, (long long)t->o.epochs, (long long)t->at.step_in_epoch, (long long)steps,
               r->loss / r->samples, r->dice / r->samples, t->rate, duration(per_step * (double)todo, left));
}

static status_t account(struct trainer *t, const struct step_result *r) {
  struct position *p = &t->at;
  p->step++;
  p->step_in_epoch++;
  p->loss += r->loss;
  p->dice += r->dice;
  p->samples += (int64_t)r->samples;
  p->epoch_seconds += r->seconds;
  p->seconds += r->seconds;
  double rate = r->samples / r->seconds;
  t->rate = t->rate > 0 ? 0.9 * t->rate + 0.1 * rate : rate;
  struct curves_row row = {.epoch = p->epoch + 1,
                           .step = p->step,
                           .loss = r->loss / r->samples,
                           .dice = r->dice / r->samples,
                           .lr = t->plateau.lr,
                           .images_per_s = rate,
                           .seconds = p->seconds};
  show_progress(t, r);
  return write_row(t, &row);
}

static status_t preempted(struct trainer *t) {
  TRY(trainer_save(t));
  if (comm_rank(t->comm) == 0) TRY(trainer_write_status(t, "preempted"));
  t->together = true;
  const char *why = stop_reason();
  return FAIL(ERR_PREEMPTED, "stopped after step %lld (epoch %lld)%s%s; run again to go on", (long long)t->at.step,
              (long long)t->at.epoch + 1, *why ? ": " : "", why);
}

static status_t run_steps(struct trainer *t) {
  struct step_result r;
  while (t->at.step_in_epoch < batches_steps(t->train)) {
    TRY(trainer_step(t, &r));
    TRY(account(t, &r));
    if (r.stop) return preempted(t);
    if (r.checkpoint) TRY(trainer_save(t));
  }
  return OK;
}

// The epoch is over: its row, the schedule's and the early stop's decisions, and the checkpoint that knows of them.
static status_t end_epoch(struct trainer *t, const struct score *score) {
  struct position *p = &t->at;
  bool best = false, stop = false, fell = false;
  struct curves_row row = {.epoch_end = true,
                           .epoch = p->epoch + 1,
                           .step = p->step,
                           .loss = p->loss / (double)p->samples,
                           .dice = p->dice / (double)p->samples,
                           .lr = t->plateau.lr,
                           .validated = score != NULL,
                           .images_per_s = (double)p->samples / p->epoch_seconds,
                           .seconds = p->seconds};
  if (score) {
    row.val_loss = score->loss;
    row.val_dice = score->dice;
    fell = plateau_update(&t->plateau, score->loss);
    early_stop_update(&t->early_stop, score->dice, &best, &stop);
    if (best) p->best_step = p->step;
  }
  TRY(write_row(t, &row));
  if (score) {
    log_progress(1, "epoch %lld: loss %.4f Dice %.4f, validation loss %.4f Dice %.4f%s, %.1f images/s",
                 (long long)p->epoch + 1, row.loss, row.dice, row.val_loss, row.val_dice, best ? " (best)" : "",
                 row.images_per_s);
  } else {
    log_progress(1, "epoch %lld: loss %.4f Dice %.4f, %.1f images/s", (long long)p->epoch + 1, row.loss, row.dice,
                 row.images_per_s);
  }
  if (fell) log_info("learning rate now %g", t->plateau.lr);
  p->epoch++;
  p->step_in_epoch = p->samples = 0;
  p->loss = p->dice = p->epoch_seconds = 0;
  p->ended_early = stop;
  return trainer_save(t);
}

static status_t finish(struct trainer *t) {
  const struct position *p = &t->at;
  if (comm_rank(t->comm) == 0) TRY(trainer_write_status(t, "done"));
  t->together = true;
  if (p->best_step >= 0) {
    log_info("%s after %lld epochs; best validation Dice %.4f in epoch %lld: %s/checkpoints/best",
             p->ended_early ? "early stop" : "done", (long long)p->epoch, t->early_stop.best,
             (long long)t->early_stop.best_epoch + 1, t->o.out);
  } else {
    log_info("done after %lld epochs: %s/checkpoints/last", (long long)p->epoch, t->o.out);
  }
  return OK;
}

status_t trainer_run(struct trainer *t) {
  if (comm_rank(t->comm) == 0) TRY(trainer_write_status(t, "running"));
  while (!t->at.ended_early && t->at.epoch < t->o.epochs) {
    struct score score;
    TRY(run_steps(t));
    if (t->val) {
      double start = clock_seconds();
      TRY(trainer_validate(t, &score));
      t->at.seconds += clock_seconds() - start;
      if (score.stop) return preempted(t);
    }
    TRY(end_epoch(t, t->val ? &score : NULL));
  }
  return finish(t);
}
