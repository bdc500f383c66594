// resume.c: finding the checkpoint to go on from, and reading it. See checkpoint.h.
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "tensor/safetensors.h"
#include "train/checkpoint.h"
#include "train/checkpoint_inside.h"

#include <string.h>

status_t checkpoint_read_state(const char *path, json_t **state) {
  const char *text;
  char hex[65];
  TRY(json_read(path, state));
  status_t st = OK;
  if (!json_is_object(*state)) FAIL_GOTO(done, ERR_FORMAT, "%s: wanted an object", path);
  TRY_GOTO(json_get_text(*state, path, "format", &text), done);
  if (strcmp(text, "gridseg checkpoint 1")) {
    FAIL_GOTO(done, ERR_FORMAT, "%s: format '%s', wanted 'gridseg checkpoint 1'", path, text);
  }
  TRY_GOTO(json_get_text(*state, path, "check", &text), done);
  TRY_GOTO(checkpoint_hash_state(*state, hex), done);
  if (strcmp(text, hex)) FAIL_GOTO(done, ERR_FORMAT, "%s: its content does not have the hash that it names", path);
done:
  if (st != OK) {
    json_decref(*state);
    *state = NULL;
  }
  return st;
}

static status_t check_file(const char *directory, const char *name, const json_t *wanted) {
  status_t st = OK;
  char *path = NULL;
  const char *sum;
  char hex[65];
  int64_t bytes;
  uint64_t met;
  struct key key;
  if (strchr(name, '/')) return FAIL(ERR_FORMAT, "%s: file name '%s' leaves the folder", directory, name);
  TRY_GOTO(file_join(&path, directory, name), done);
  if (!json_is_object(wanted)) FAIL_GOTO(done, ERR_FORMAT, "%s: no description in state.json", path);
  TRY_GOTO(json_get_int(wanted, path, "bytes", 0, INT64_MAX, &bytes), done);
  TRY_GOTO(json_get_text(wanted, path, "sha256", &sum), done);
  TRY_GOTO(file_size(path, &met), done);
  if ((int64_t)met != bytes) {
    FAIL_GOTO(done, ERR_FORMAT, "%s has %lld bytes, wanted %lld", path, (long long)met, (long long)bytes);
  }
  TRY_GOTO(key_sha256_file(path, &key), done);
  key_hex(&key, hex);
  if (strcmp(hex, sum)) FAIL_GOTO(done, ERR_FORMAT, "%s does not have the SHA-256 that state.json names", path);
done:
  mem_free(&path);
  return st;
}

// One step folder, whole or not.
static status_t check_folder(const char *out, int64_t step, json_t **state) {
  status_t st = OK;
  char *directory = NULL, *path = NULL;
  json_t *files, *wanted;
  const char *name;
  int64_t said;
  *state = NULL;
  TRY_GOTO(checkpoint_path(out, step, &directory), done);
  TRY_GOTO(file_join(&path, directory, "state.json"), done);
  TRY_GOTO(checkpoint_read_state(path, state), done);
  TRY_GOTO(json_get_int(*state, path, "step", 0, INT64_MAX, &said), done);
  if (said != step) FAIL_GOTO(done, ERR_FORMAT, "%s is the state of step %lld", path, (long long)said);
  TRY_GOTO(json_get(*state, path, "files", JSON_OBJECT, &files), done);
  json_object_foreach(files, name, wanted) TRY_GOTO(check_file(directory, name, wanted), done);
done:
  if (st != OK) {
    json_decref(*state);
    *state = NULL;
  }
  mem_free(&path);
  mem_free(&directory);
  return st;
}

static status_t set_aside(struct checkpoints *f, int64_t step) {
  status_t st = OK;
  char *path = NULL, *aside = NULL;
  TRY_GOTO(checkpoint_path(f->out, step, &path), done);
  TRY_GOTO(mem_format(&aside, "%s/damaged-step-%08lld", f->path, (long long)step), done);
  TRY_GOTO(file_remove_tree(aside), done);
  TRY_GOTO(file_rename(path, aside), done);
done:
  mem_free(&aside);
  mem_free(&path);
  return st;
}

// Links as they would be had nothing happened between this checkpoint and now.
static status_t settle(struct checkpoints *f, int64_t step, const json_t *state) {
  char *path;
  int64_t best;
  TRY(json_get_int_or(state, "state.json", "best_step", -1, INT64_MAX, -1, &best));
  TRY(checkpoints_link(f, "last", step));
  TRY(checkpoint_path(f->out, best < 0 ? step : best, &path));
  bool there = file_is_directory(path);
  mem_free(&path);
  if (!there) log_warn("%s/best: the checkpoint of step %lld is gone", f->path, (long long)best);
  return there ? checkpoints_link(f, "best", best < 0 ? step : best) : OK;
}

status_t checkpoints_find(struct checkpoints *f, int64_t *step, json_t **state) {
  int64_t *steps;
  size_t count;
  *step = -1;
  *state = NULL;
  TRY(checkpoints_steps(f, &steps, &count));
  status_t st = OK;
  for (size_t i = 0; i < count && *step < 0; i++) {
    if (check_folder(f->out, steps[i], state) == OK) {
      *step = steps[i];
      break;
    }
    log_warn("checkpoint of step %lld passed over: %s", (long long)steps[i], status_message());
    status_clear();
    TRY_GOTO(set_aside(f, steps[i]), done);
  }
  if (*step < 0) goto done;
  f->last_step = *step;
  json_decref(f->files);
  f->files = json_incref(json_object_get(*state, "files"));
  TRY_GOTO(settle(f, *step, *state), done);
done:
  mem_free(&steps);
  if (st != OK) {
    json_decref(*state);
    *state = NULL;
  }
  return st;
}

static status_t read_moments(const struct safetensors *set, const char *prefix, const struct network *n, float *arena) {
  for (size_t i = 0; i < network_parameter_count(n); i++) {
    const struct network_parameter *p = network_parameter_at(n, i);
    if (!p->trained) continue;
    struct tensor_desc desc = p->desc;
    desc.dtype = DTYPE_F32;
    char *name;
    TRY(mem_format(&name, "%s%s", prefix, p->name));
    status_t st = safetensors_read(set, name, &desc, arena + p->offset);
    mem_free(&name);
    TRY(st);
  }
  return OK;
}

status_t checkpoint_load_optimizer(const char *out, int64_t step, struct network *n, struct optimizer *o) {
  static const char *const prefix[] = {"exp_avg.", "exp_avg_sq."};
  status_t st = OK;
  char *directory = NULL, *path = NULL;
  struct safetensors *set = NULL;
  float *arena = NULL;
  TRY_GOTO(checkpoint_path(out, step, &directory), done);
  TRY_GOTO(file_join(&path, directory, "optimizer.safetensors"), done);
  TRY_GOTO(safetensors_open(path, &set), done);
  for (int m = 0; m < 2; m++) {
    mem_free(&arena);
    TRY_GOTO(mem_alloc(&arena, (size_t)network_arena_count(n), sizeof *arena), done); // gaps are zero
    TRY_GOTO(read_moments(set, prefix[m], n, arena), done);
    TRY_GOTO(optimizer_set_moment(o, (moment_t)m, arena), done);
  }
  optimizer_set_steps(o, step);
done:
  mem_free(&arena);
  safetensors_close(&set);
  mem_free(&path);
  mem_free(&directory);
  return st;
}
