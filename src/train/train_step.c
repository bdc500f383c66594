// train_step.c: one optimiser step over all ranks.
//
// A rank that fails inside a step still joins the step's collectives: its failure travels in the same reduction as loss,
// Dice and the wish to stop, so that all ranks leave at the same step. Rank 0's gradient norm is everybody's: one clip
// factor, whatever the all-reduce does with the last bit.
#include "base/clock.h"
#include "base/mem.h"
#include "train/stop.h"
#include "train/trainer.h"

#include <math.h>
#include <string.h>

enum { SUM_LOSS, SUM_DICE, SUM_COUNT, SUM_STOP, SUM_FAIL, SUM_NORM, SUM_DUE, SUMS };

static status_t progress(void *context, int64_t ready) {
  return bucket_progress(context, ready);
}

// Put step and sample before the message of a loss that is not a number.
void trainer_name_sample(const struct trainer *t, const struct batches *from, const struct share *b) {
  char *name = NULL;
  int i = 0;
  while (i < b->count && isfinite(t->loss[i])) i++;
  if (i < b->count && batches_name(from, i, &name) != OK) name = NULL;
  (void)status_prefix(ERR_NUMERIC, "step %lld (epoch %lld)%s%s", (long long)t->at.step + 1, (long long)t->at.epoch + 1,
                      name ? ", sample " : "", name ? name : "");
  mem_free(&name);
}

// Forward, backward and the exchange of gradients; the exchange takes place even when this rank's part failed.
static status_t gradients(struct trainer *t, const struct share *b) {
  struct network_hook hook = {.progress = progress, .context = t->buckets};
  status_t st = network_step(t->network, b ? b->sample : NULL, b ? b->count : 0, b ? 1.0 / (double)b->total : 0,
                             t->at.step, &hook, t->loss, t->sums, t->logits);
  if (st == ERR_NUMERIC && b) trainer_name_sample(t, t->train, b);
  if (st == OK) return bucket_finish(t->buckets, NULL);
  char *message; // joining the others may replace it
  if (mem_copy_text(&message, status_message()) != OK) return ERR_NOMEM;
  (void)bucket_finish(t->buckets, NULL);
  status_set_message(message);
  mem_free(&message);
  return st;
}

// The first tensor whose gradient is not a number, by its public name.
static status_t name_bad_gradient(struct trainer *t) {
  float *g;
  int64_t n = network_arena_count(t->network);
  const char *name = "unknown";
  TRY(mem_alloc(&g, (size_t)n, sizeof *g));
  status_t st = t->backend->ops->copy_out(t->backend, g, network_gradients(t->network), (size_t)n * sizeof *g, NULL);
  for (size_t i = 0; st == OK && i < network_parameter_count(t->network); i++) {
    const struct network_parameter *p = network_parameter_at(t->network, i);
    int64_t k = 0, count = p->trained ? desc_count(&p->desc) : 0;
    while (k < count && isfinite(g[p->offset + k])) k++;
    if (k == count) continue;
    name = p->name;
    break;
  }
  mem_free(&g);
  if (st != OK) return st;
  return FAIL(ERR_NUMERIC, "step %lld: the gradient of %s is not a finite number (lower train.lr, or precision: fp32)",
              (long long)t->at.step + 1, name);
}

static void add_samples(const struct trainer *t, const struct share *b, double sum[SUMS]) {
  size_t pixels = (size_t)t->o.network.size * (size_t)t->o.network.size;
  for (int i = 0; i < b->count; i++) {
    sum[SUM_LOSS] += (double)t->loss[i];
    sum[SUM_DICE] += sample_dice(t->logits + (size_t)i * pixels, b->sample[i].mask, pixels, t->cut);
  }
  sum[SUM_COUNT] = b->count;
}

static bool checkpoint_due(const struct trainer *t) {
  return clock_seconds() - t->checkpointed >= 60.0 * t->o.checkpoint_minutes;
}

status_t trainer_step(struct trainer *t, struct step_result *out) {
  const struct share *b = NULL;
  double start = clock_seconds(), norm = 0, sum[SUMS] = {0};
  status_t st = batches_get(t->train, t->at.epoch, t->at.step_in_epoch, &b);
  if (st == OK) {
    st = gradients(t, b);
  } else {
    (void)gradients(t, NULL);
  }
  if (st == OK) st = optimizer_norm(t->optimizer, &norm);
  if (st == OK) add_samples(t, b, sum);
  sum[SUM_FAIL] = st != OK;
  sum[SUM_STOP] = stop_wanted();
  if (comm_rank(t->comm) == 0) {
    sum[SUM_NORM] = norm;
    sum[SUM_DUE] = checkpoint_due(t);
  }
  TRY(comm_sum_f64(t->comm, sum, SUMS));
  if (sum[SUM_FAIL] > 0) return trainer_agree(t, st);
  if (!isfinite(sum[SUM_NORM])) return trainer_agree(t, name_bad_gradient(t));
  if (t->o.dump_dir && t->at.step + 1 == t->o.dump_step) TRY(trainer_dump(t, b->count));
  TRY(optimizer_step(t->optimizer, sum[SUM_NORM], t->plateau.lr));
  *out = (struct step_result){.loss = sum[SUM_LOSS],
                              .dice = sum[SUM_DICE],
                              .samples = sum[SUM_COUNT],
                              .seconds = clock_seconds() - start,
                              .stop = sum[SUM_STOP] > 0,
                              .checkpoint = sum[SUM_DUE] > 0};
  return OK;
}
