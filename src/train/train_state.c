// train_state.c: state.json of a checkpoint: where the run stands, and under what its bits were made.
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "train/inference.h"
#include "train/trainer.h"

#include <stdlib.h>
#include <string.h>

// What DistributedDataParallel does with buffers (broadcast_buffers): rank 0's count. They are read in evaluation only, so once
// before it is enough.
status_t trainer_share_statistics(struct trainer *t) {
  if (comm_size(t->comm) == 1 || t->o.sync_batchnorm) return OK;
  for (size_t i = 0; i < network_parameter_count(t->network); i++) {
    const struct network_parameter *p = network_parameter_at(t->network, i);
    float *values;
    if (!p->tracked) continue;
    TRY(mem_alloc(&values, (size_t)desc_count(&p->desc), sizeof *values));
    status_t st = network_get_parameter(t->network, i, values);
    if (st == OK) st = comm_broadcast(t->comm, values, (size_t)desc_count(&p->desc) * sizeof *values, 0);
    if (st == OK) st = network_set_parameter(t->network, i, values);
    mem_free(&values);
    TRY(st);
  }
  return OK;
}

status_t trainer_broadcast_text(struct trainer *t, char **text) {
  uint64_t n = comm_rank(t->comm) == 0 ? strlen(*text) : 0;
  TRY(comm_broadcast(t->comm, &n, sizeof n, 0));
  if (comm_rank(t->comm) != 0) {
    mem_free(text);
    TRY(mem_alloc(text, n + 1, 1));
  }
  return comm_broadcast(t->comm, *text, n, 0);
}

// What other bits may come from when it changes: a run that goes on under other values says so.
static status_t put_surroundings(const struct trainer *t, json_t *s) {
  char device[256], key[65];
  inference_name_device(t->backend, device, sizeof device);
  key_hex(&t->data_key, key);
  TRY(json_put(s, "ranks", json_integer(comm_size(t->comm))));
  TRY(json_put(s, "threads", json_integer(t->o.threads)));
  TRY(json_put(s, "numerics", json_string(t->backend->ops->numerics(t->backend))));
  TRY(json_put(s, "device", json_string(device)));
  TRY(json_put(s, "seed", json_integer((json_int_t)t->o.seed)));
  TRY(json_put(s, "batch", json_integer(t->o.batch)));
  return json_put(s, "data", json_string(key));
}

// What evaluation asks of a model: its recipe, and the pools that it has seen.
static status_t put_provenance(const struct trainer *t, json_t *s) {
  json_t *config, *keys = json_array();
  TRY(json_put(s, "pool_keys", keys));
  for (int i = 0; i < t->train_pool_count; i++) {
    char hex[65];
    key_hex(&pool_get_info(t->train_pools[i])->key, hex);
    if (json_array_append_new(keys, json_string(hex)) != 0) return FAIL(ERR_NOMEM, "no memory for state.json");
  }
  TRY(config_to_json(t->config, &config));
  return json_put(s, "config", config);
}

static status_t put_position(const struct trainer *t, json_t *s) {
  const struct position *p = &t->at;
  TRY(json_put(s, "epoch", json_integer(p->epoch)));
  TRY(json_put(s, "step_in_epoch", json_integer(p->step_in_epoch)));
  TRY(json_put(s, "samples", json_integer(p->samples)));
  TRY(exact_put(s, "loss", p->loss));
  TRY(exact_put(s, "dice", p->dice));
  TRY(exact_put(s, "epoch_seconds", p->epoch_seconds));
  TRY(exact_put(s, "seconds", p->seconds));
  return json_put(s, "ended_early", json_boolean(p->ended_early));
}

// What the model was made from, for tables and for the check of test images: the configuration as config_to_json writes it, and
// the content keys of pools.train in its order.
static status_t put_origin(const struct trainer *t, json_t *s) {
  json_t *config = NULL, *keys = json_array();
  status_t st = config_to_json(t->config, &config);
  if (st == OK) st = json_put(s, "config", config);
  for (int i = 0; i < t->train_pool_count; i++) {
    char hex[65];
    key_hex(&pool_get_info(t->train_pools[i])->key, hex);
    (void)json_array_append_new(keys, json_string(hex));
  }
  status_t put = json_put(s, "pool_keys", keys);
  return st == OK ? put : st;
}

static status_t make_state(struct trainer *t, json_t **out) {
  int64_t bytes;
  json_t *s = *out = json_object();
  TRY(curves_sync(t->curves, &bytes));
  TRY(events_flush(t->events));
  TRY(put_position(t, s));
  TRY(plateau_save(&t->plateau, s));
  TRY(early_stop_save(&t->early_stop, s));
  TRY(json_put(s, "curves_bytes", json_integer(bytes)));
  TRY(put_provenance(t, s));
  TRY(put_origin(t, s));
  return put_surroundings(t, s);
}

static status_t save(struct trainer *t) {
  json_t *state = NULL;
  status_t st = make_state(t, &state);
  if (st == OK) {
    st = checkpoints_write(t->checkpoints, t->model, t->network, t->optimizer, state, t->at.step, t->at.best_step,
                           t->o.checkpoint_keep);
  }
  json_decref(state);
  return st;
}

status_t trainer_save(struct trainer *t) {
  double now = clock_seconds();
  status_t st = trainer_agree(t, comm_rank(t->comm) == 0 ? save(t) : OK);
  t->checkpointed = clock_seconds();
  log_debug("checkpoint of step %lld in %.3f s", (long long)t->at.step, t->checkpointed - now);
  return st;
}

static status_t get_position(const json_t *s, struct position *p) {
  static const char where[] = "state.json";
  TRY(json_get_int(s, where, "step", 0, INT64_MAX, &p->step));
  TRY(json_get_int(s, where, "best_step", -1, INT64_MAX, &p->best_step));
  TRY(json_get_int(s, where, "epoch", 0, INT64_MAX, &p->epoch));
  TRY(json_get_int(s, where, "step_in_epoch", 0, INT64_MAX, &p->step_in_epoch));
  TRY(json_get_int(s, where, "samples", 0, INT64_MAX, &p->samples));
  TRY(exact_get(s, where, "loss", &p->loss));
  TRY(exact_get(s, where, "dice", &p->dice));
  TRY(exact_get(s, where, "epoch_seconds", &p->epoch_seconds));
  TRY(exact_get(s, where, "seconds", &p->seconds));
  return json_get_bool_or(s, where, "ended_early", false, &p->ended_early);
}

static void warn_of_changes(const struct trainer *t, const json_t *now) {
  static const char *const names[] = {"ranks", "threads", "device", "numerics"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    json_t *a = json_object_get(t->resumed_state, names[i]), *b = json_object_get(now, names[i]);
    if (json_equal(a, b)) continue;
    char *was = a ? json_dumps(a, JSON_ENCODE_ANY) : NULL, *is = json_dumps(b, JSON_ENCODE_ANY);
    log_warn("this run was started with %s %s, now it is %s: its results agree to rounding, not to the bit", names[i],
             was ? was : "unknown", is ? is : "unknown");
    free(was);
    free(is);
  }
}

static status_t check_surroundings(struct trainer *t) {
  json_t *now = json_object();
  status_t st = put_surroundings(t, now);
  const char *was, *is;
  if (st == OK) st = json_get_text(t->resumed_state, "state.json", "data", &was);
  if (st == OK) st = json_get_text(now, "this run", "data", &is);
  if (st == OK && strcmp(was, is)) {
    st = FAIL(ERR_ARG, "pools: %s was trained on pools with other content (data key %.12s, now %.12s)", t->o.out, was,
              is);
  }
  if (st == OK) warn_of_changes(t, now);
  json_decref(now);
  return st;
}

status_t trainer_load_state(struct trainer *t) {
  const json_t *s = t->resumed_state;
  if (t->resumed < 0) return OK;
  TRY(check_surroundings(t));
  TRY(get_position(s, &t->at));
  TRY(plateau_load(&t->plateau, s, "state.json"));
  TRY(early_stop_load(&t->early_stop, s, "state.json"));
  if (t->at.step != t->resumed || t->at.step_in_epoch > batches_steps(t->train)) {
    return FAIL(ERR_FORMAT, "state.json: step %lld of %lld in an epoch does not fit the pools",
                (long long)t->at.step_in_epoch, (long long)batches_steps(t->train));
  }
  log_info("going on from the checkpoint of step %lld (epoch %lld, step %lld of %lld)", (long long)t->at.step,
           (long long)t->at.epoch + 1, (long long)t->at.step_in_epoch, (long long)batches_steps(t->train));
  return OK;
}
