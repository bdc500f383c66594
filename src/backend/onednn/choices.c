// choices.c: see choices.h and onednn.h. The table belongs to the process: two backends, or two models, choose alike.
#include "backend/onednn/choices.h"

#include "backend/onednn/onednn.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static json_t *table; // text of the operation -> name of the way
static bool measuring;
static const char *forced;

void onednn_choices_measure(bool on) {
  (void)pthread_mutex_lock(&lock);
  measuring = on;
  (void)pthread_mutex_unlock(&lock);
}

void onednn_choices_force(const char *way) {
  (void)pthread_mutex_lock(&lock);
  forced = way;
  (void)pthread_mutex_unlock(&lock);
}

void onednn_choices_clear(void) {
  (void)pthread_mutex_lock(&lock);
  json_decref(table);
  table = NULL;
  (void)pthread_mutex_unlock(&lock);
}

status_t onednn_choices_load(const char *path) {
  json_t *read, *value;
  const char *key;
  TRY(json_read(path, &read));
  status_t st = json_is_object(read) ? OK : FAIL(ERR_FORMAT, "%s: an object is wanted", path);
  json_object_foreach(read, key, value) {
    if (st == OK && !json_is_string(value)) st = FAIL(ERR_FORMAT, "%s: '%s': the name of a way is wanted", path, key);
  }
  if (st != OK) {
    json_decref(read);
    return st;
  }
  (void)pthread_mutex_lock(&lock);
  json_decref(table);
  table = read;
  (void)pthread_mutex_unlock(&lock);
  return OK;
}

status_t onednn_choices_save(const char *path) {
  (void)pthread_mutex_lock(&lock);
  json_t *all = table ? json_incref(table) : json_object();
  status_t st = all ? json_write(path, all) : FAIL(ERR_NOMEM, "no memory for choices");
  json_decref(all);
  (void)pthread_mutex_unlock(&lock);
  return st;
}

// The operation on as many samples as keep every thread busy for some milliseconds, so that the choice takes little time
// and memory and is the same for any larger batch.
static void set_batch(struct op *op, int threads) {
  const double enough = 2e9;
  int64_t batch = op->in[0].dim[0];
  double each = op_flops(op) / (double)batch;
  int64_t wanted = (int64_t)(enough * threads / (each + 1)) + 1;
  wanted = wanted < threads ? threads : wanted;
  if (wanted >= batch) return;
  for (int i = 0; i < op->inputs + op->outputs; i++) {
    struct tensor_desc *d = i < op->inputs ? &op->in[i] : &op->out[i - op->inputs];
    bool weights = i == (op->direction == BACKWARD_WEIGHT ? op->inputs : 1);
    if (d->rank == 4 && !weights) d->dim[0] = wanted;
  }
}

struct trial {
  struct plan plan;
  void *operand[OP_MAX_IN + OP_MAX_OUT];
  void *scratch;
};

static status_t trial_memory(struct trial *t, const struct op *op) {
  for (int i = 0; i < op->inputs + op->outputs; i++) {
    const struct tensor_desc *d = i < op->inputs ? &op->in[i] : &op->out[i - op->inputs];
    if (d->dtype == DTYPE_NONE) continue;
    TRY(mem_alloc_raw(&t->operand[i], desc_bytes(d), 1));
    memset(t->operand[i], 0x3c, desc_bytes(d)); // 0.0115 as fp32 and as bf16
  }
  return mem_alloc(&t->scratch, t->plan.scratch + 1, 1);
}

// Least seconds of a few runs after the first.
static status_t trial_time(struct plan model, const struct choice *c, int way, double *seconds) {
  enum { RUNS = 4 };
  struct trial t = {.plan = model};
  struct op op = model.op;
  status_t st = OK;
  *seconds = 0;
  TRY_GOTO(c->create(&t.plan, way), done);
  TRY_GOTO(trial_memory(&t, &op), done);
  for (int i = 0; i < RUNS; i++) {
    double start = clock_seconds();
    TRY_GOTO(t.plan.run(&t.plan, t.operand, t.scratch), done);
    double spent = clock_seconds() - start;
    if (i == 1 || (i > 1 && spent < *seconds)) *seconds = spent;
  }
done:
  if (t.plan.release) t.plan.release(&t.plan);
  for (int i = 0; i < OP_MAX_IN + OP_MAX_OUT; i++) mem_free(&t.operand[i]);
  mem_free(&t.scratch);
  return st;
}

// The fastest way; the rule's keeps its place unless another is 3 % faster, so that noise changes little.
static status_t measure(struct plan model, const struct choice *c, int *way) {
  double best, seconds;
  *way = c->rule;
  TRY(trial_time(model, c, c->rule, &best));
  best *= 0.97;
  for (int i = 0; i < c->count; i++) {
    if (!(c->ways >> i & 1) || i == c->rule) continue;
    TRY(trial_time(model, c, i, &seconds));
    if (seconds < best) {
      best = seconds;
      *way = i;
    }
  }
  return OK;
}

static int named(const struct choice *c, const char *name) {
  for (int i = 0; name && i < c->count; i++) {
    if (c->ways >> i & 1 && !strcmp(c->name(i), name)) return i;
  }
  return -1;
}

static status_t choose(struct plan model, const struct choice *c, int *way) {
  char text[OP_TEXT], key[OP_TEXT + 48];
  *way = named(c, forced);
  if (*way >= 0) return OK;
  *way = c->rule;
  if (!measuring && !table) return OK;
  set_batch(&model.op, model.b->base.threads);
  (void)snprintf(key, sizeof key, "%s threads %d constant %u", op_text(&model.op, text), model.b->base.threads,
                 model.op.constant);
  int known = named(c, json_string_value(json_object_get(table, key)));
  if (known >= 0) *way = known;
  if (known >= 0 || !measuring) return OK;
  if (!table) table = json_object();
  TRY(measure(model, c, way));
  return json_put(table, key, json_string(c->name(*way)));
}

status_t choice_make(const struct plan *p, const struct choice *c, int *way) {
  *way = c->rule;
  if (!(c->ways & (c->ways - 1))) return OK; // one way only
  (void)pthread_mutex_lock(&lock);
  status_t st = choose(*p, c, way);
  (void)pthread_mutex_unlock(&lock);
  return st;
}
