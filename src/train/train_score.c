// train_score.c: the validation at the end of an epoch: every sample once, shared by the ranks.
#include "base/mem.h"
#include "train/planes.h"
#include "train/stop.h"
#include "train/trainer.h"

enum { SUM_LOSS, SUM_DICE, SUM_COUNT, SUM_STOP, SUM_FAIL, SUMS };

double sample_dice(const float *logits, const uint8_t *mask, size_t pixels, float cut) {
  int64_t predicted = 0, truth = 0, both = 0;
  for (size_t i = 0; i < pixels; i++) {
    int p = logits[i] >= cut, m = mask[i];
    predicted += p;
    truth += m;
    both += p & m;
  }
  return predicted + truth ? 2.0 * (double)both / (double)(predicted + truth) : 1.0;
}

// The study's Dice of the i-th sample of a batch, whose own plane has `dice`.
static status_t study_dice(struct trainer *t, const struct share *b, int i, double *dice) {
  int planes = network_planes(t->network), size = t->o.network.size;
  bool *any;
  TRY(mem_alloc(&any, (size_t)planes, sizeof *any));
  const float *logits = t->planes + (size_t)i * (size_t)size * (size_t)size * (size_t)planes;
  status_t st = planes_predicted(logits, size, planes, size, size, t->cut, any);
  if (st == OK) *dice = planes_mean(any, planes, b->sample[i].plane, *dice);
  mem_free(&any);
  return st;
}

static status_t score_batch(struct trainer *t, int64_t step, double sum[SUMS]) {
  const struct share *b;
  size_t pixels = (size_t)t->o.network.size * (size_t)t->o.network.size;
  TRY(batches_get(t->val, 0, step, &b));
  if (!b->count) return OK;
  status_t st = network_loss(t->network, b->sample, b->count, t->loss, t->sums, t->logits);
  if (st == ERR_NUMERIC) trainer_name_sample(t, t->val, b);
  TRY(st);
  if (t->planes) TRY(network_get_planes(t->network, t->planes));
  for (int i = 0; i < b->count; i++) {
    double dice = sample_dice(t->logits + (size_t)i * pixels, b->sample[i].mask, pixels, t->cut);
    if (t->planes) TRY(study_dice(t, b, i, &dice));
    sum[SUM_LOSS] += (double)t->loss[i];
    sum[SUM_DICE] += dice;
  }
  sum[SUM_COUNT] = b->count;
  return OK;
}

status_t trainer_validate(struct trainer *t, struct score *out) {
  double loss = 0, dice = 0, count = 0;
  *out = (struct score){0};
  TRY(trainer_share_statistics(t));
  for (int64_t step = 0; step < batches_steps(t->val); step++) {
    double sum[SUMS] = {0};
    status_t st = score_batch(t, step, sum);
    sum[SUM_FAIL] = st != OK;
    sum[SUM_STOP] = stop_wanted();
    TRY(comm_sum_f64(t->comm, sum, SUMS));
    if (sum[SUM_FAIL] > 0) return trainer_agree(t, st);
    loss += sum[SUM_LOSS];
    dice += sum[SUM_DICE];
    count += sum[SUM_COUNT];
    if (sum[SUM_STOP] > 0) {
      out->stop = true;
      return OK;
    }
  }
  out->loss = loss / count;
  out->dice = dice / count;
  return OK;
}
