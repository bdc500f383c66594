// train_out.c: the run's folder: whose it is, what it was started with, where it stands.
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "train/stop.h"
#include "train/trainer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

// Two jobs in one folder would write each other's checkpoints. A file system without locks has none to give.
static status_t lock_out(struct trainer *t) {
  char *path;
  TRY(file_join(&path, t->o.out, ".lock"));
  status_t st = OK;
  t->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (t->lock < 0) {
    st = FAIL(ERR_IO, "cannot create %s: %s", path, strerror(errno));
  } else if (flock(t->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    st = FAIL(ERR_ARG, "out: another run is at work in %s", t->o.out);
  }
  mem_free(&path);
  return st;
}

// The configuration of earlier starts in this folder; a checkpoint of another recipe is not gone on from.
static status_t compare_config(struct trainer *t, const char *path) {
  struct config *before = NULL;
  status_t st = config_read(&train_table, path, NULL, 0, &before);
  if (st != OK) return status_prefix(st, "the configuration of the run in %s", t->o.out);
  const char *key = config_difference(t->config, before);
  if (key) {
    st = FAIL(
        ERR_ARG,
        "out: %s holds checkpoints of a run with another '%s' (its configuration is %s); choose another folder, or "
        "remove that one",
        t->o.out, key, path);
  }
  config_destroy(&before);
  return st;
}

static status_t settle_config(struct trainer *t) {
  status_t st = OK;
  char *path = NULL, *text = NULL;
  TRY_GOTO(file_join(&path, t->o.out, "config.yaml"), done);
  if (t->resumed >= 0) {
    if (!file_exists(path)) FAIL_GOTO(done, ERR_ARG, "out: %s has checkpoints but no config.yaml", t->o.out);
    TRY_GOTO(compare_config(t, path), done);
  }
  TRY_GOTO(config_to_yaml(t->config, &text), done);
  TRY_GOTO(file_write_atomic(path, text, strlen(text)), done);
done:
  free(text);
  mem_free(&path);
  return st;
}

static status_t open_out(struct trainer *t) {
  TRY(file_make_directories(t->o.out));
  TRY(lock_out(t));
  TRY(checkpoints_open(t->o.out, &t->checkpoints));
  TRY(checkpoints_find(t->checkpoints, &t->resumed, &t->resumed_state));
  return settle_config(t);
}

// Rank 0 has looked; all ranks learn the step and its state.
static status_t share_resumed(struct trainer *t) {
  char *text = NULL;
  status_t st = comm_broadcast(t->comm, &t->resumed, sizeof t->resumed, 0);
  if (st != OK || t->resumed < 0) return st;
  if (comm_rank(t->comm) == 0) {
    char *dump = json_dumps(t->resumed_state, JSON_COMPACT);
    if (!dump) return FAIL(ERR_NOMEM, "no memory for the state of the run");
    st = mem_copy_text(&text, dump);
    free(dump);
    TRY(st);
  }
  TRY_GOTO(trainer_broadcast_text(t, &text), done);
  if (comm_rank(t->comm) != 0) TRY_GOTO(json_parse("state.json", text, strlen(text), &t->resumed_state), done);
done:
  mem_free(&text);
  return st;
}

status_t trainer_open_out(struct trainer *t) {
  TRY(trainer_agree(t, comm_rank(t->comm) == 0 ? open_out(t) : OK));
  return share_resumed(t);
}

status_t trainer_open_curves(struct trainer *t) {
  int64_t keep = 0;
  if (comm_rank(t->comm) != 0) return OK;
  if (t->resumed_state) {
    TRY(json_get_int_or(t->resumed_state, "state.json", "curves_bytes", 0, INT64_MAX, 0, &keep));
  }
  TRY(curves_open(t->o.out, keep, &t->curves));
  return events_open(t->o.out, t->resumed >= 0 ? t->resumed + 1 : 0, &t->events);
}

// OUT/status.json: what a script asks: running, preempted, done.
status_t trainer_write_status(const struct trainer *t, const char *status) {
  char *path;
  json_t *state = json_pack("{s:s, s:I, s:I, s:I, s:s}", "status", status, "epoch", (json_int_t)t->at.epoch, "step",
                            (json_int_t)t->at.step, "best_step", (json_int_t)t->at.best_step, "reason", stop_reason());
  if (!state) return FAIL(ERR_NOMEM, "no memory for status.json");
  status_t st = file_join(&path, t->o.out, "status.json");
  if (st == OK) {
    st = json_write(path, state);
    mem_free(&path);
  }
  json_decref(state);
  return st;
}
