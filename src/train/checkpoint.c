// checkpoint.c: the folder of checkpoints: writing one, links, pruning. Reading is in resume.c.
#include "train/checkpoint.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "tensor/safetensors.h"
#include "train/checkpoint_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char frozen_name[] = "model-00001-of-00002.safetensors";
static const char trained_name[] = "model-00002-of-00002.safetensors";
static const char whole_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";
static const char optimizer_name[] = "optimizer.safetensors";
static const char state_name[] = "state.json";

status_t checkpoint_path(const char *out, int64_t step, char **path) {
  return mem_format(path, "%s/checkpoints/step-%08lld", out, (long long)step);
}

status_t checkpoints_open(const char *out, struct checkpoints **folder) {
  status_t st = OK;
  struct checkpoints *f = NULL;
  char **names = NULL;
  size_t count = 0;
  *folder = NULL;
  TRY_GOTO(mem_alloc(&f, 1, sizeof *f), done);
  f->last_step = -1;
  TRY_GOTO(mem_copy_text(&f->out, out), done);
  TRY_GOTO(file_join(&f->path, out, "checkpoints"), done);
  TRY_GOTO(file_make_directories(f->path), done);
  TRY_GOTO(file_list(f->path, &names, &count), done);
  for (size_t i = 0; i < count; i++) {
    if (strncmp(names[i], ".writing-", 9)) continue;
    char *path;
    TRY_GOTO(file_join(&path, f->path, names[i]), done);
    st = file_remove_tree(path);
    mem_free(&path);
    if (st != OK) goto done;
  }
  *folder = f;
  f = NULL;
done:
  file_free_names(&names, count);
  checkpoints_close(&f);
  return st;
}

void checkpoints_close(struct checkpoints **folder) {
  struct checkpoints *f = *folder;
  if (!f) return;
  mem_free(&f->path);
  mem_free(&f->out);
  json_decref(f->files);
  mem_free(folder);
}

// ---- tensors ----------------------------------------------------------------------------------------------------

// Host copies that safetensors_write is given.
struct entries {
  struct safetensors_entry *entry;
  size_t count;
  void **memory; // [count], freed with the names
  char **name;
};

static void entries_free(struct entries *e) {
  for (size_t i = 0; i < e->count; i++) {
    mem_free(&e->memory[i]);
    mem_free(&e->name[i]);
  }
  mem_free(&e->entry);
  mem_free(&e->memory);
  mem_free(&e->name);
}

static status_t entries_begin(struct entries *e, size_t room) {
  *e = (struct entries){0};
  TRY(mem_alloc(&e->entry, room, sizeof *e->entry));
  TRY(mem_alloc(&e->memory, room, sizeof *e->memory));
  return mem_alloc(&e->name, room, sizeof *e->name);
}

// Does the tensor change from step to step?
static bool is_changing(const struct network_parameter *p) {
  return p->trained || p->tracked;
}

// Room for one fp32 tensor called PREFIX + name of the parameter.
static status_t entries_add(struct entries *e, const char *prefix, const struct network_parameter *p, float **data) {
  size_t i = e->count++;
  struct safetensors_entry *entry = &e->entry[i];
  entry->desc = p->desc;
  entry->desc.dtype = DTYPE_F32;
  TRY(mem_alloc(&e->memory[i], (size_t)desc_count(&p->desc), sizeof(float)));
  TRY(mem_format(&e->name[i], "%s%s", prefix, p->name));
  entry->name = e->name[i];
  entry->data = *data = e->memory[i];
  return OK;
}

static status_t write_entries(const struct entries *e, const char *directory, const char *name) {
  static const char *const metadata[1][2] = {{"format", "pt"}}; // without it transformers refuses a file
  char *path;
  TRY(file_join(&path, directory, name));
  status_t st = safetensors_write(path, e->entry, e->count, metadata, 1);
  mem_free(&path);
  return st;
}

// A counter is int64 in files, as torch has it.
static status_t entries_add_counter(struct entries *e, const struct network_parameter *p, float value) {
  float *data;
  TRY(entries_add(e, "", p, &data));
  size_t i = e->count - 1;
  int64_t *counter;
  mem_free(&e->memory[i]);
  TRY(mem_alloc(&counter, 1, sizeof *counter));
  *counter = (int64_t)value;
  e->memory[i] = counter;
  e->entry[i].data = counter;
  e->entry[i].desc.dtype = DTYPE_I64;
  return OK;
}

static status_t add_parameter(struct entries *e, struct network *n, size_t i) {
  const struct network_parameter *p = network_parameter_at(n, i);
  float *data, counter;
  if (p->stored == DTYPE_I64) {
    TRY(network_get_parameter(n, i, &counter));
    return entries_add_counter(e, p, counter);
  }
  TRY(entries_add(e, "", p, &data));
  return network_get_parameter(n, i, data);
}

// The tensors that change, or the others.
static status_t write_parameters(struct network *n, bool changing, const char *directory, const char *name) {
  struct entries e;
  status_t st;
  TRY_GOTO(entries_begin(&e, network_parameter_count(n)), done);
  for (size_t i = 0; i < network_parameter_count(n); i++) {
    if (is_changing(network_parameter_at(n, i)) == changing) TRY_GOTO(add_parameter(&e, n, i), done);
  }
  TRY_GOTO(write_entries(&e, directory, name), done);
done:
  entries_free(&e);
  return st;
}

static status_t write_optimizer(struct network *n, struct optimizer *o, const char *directory) {
  static const char *const prefix[] = {"exp_avg.", "exp_avg_sq."};
  struct entries e;
  float *arena = NULL;
  status_t st;
  TRY_GOTO(entries_begin(&e, 2 * network_parameter_count(n)), done);
  TRY_GOTO(mem_alloc(&arena, (size_t)network_arena_count(n), sizeof *arena), done);
  for (int m = 0; m < 2; m++) {
    TRY_GOTO(optimizer_get_moment(o, (moment_t)m, arena), done);
    for (size_t i = 0; i < network_parameter_count(n); i++) {
      const struct network_parameter *p = network_parameter_at(n, i);
      float *data;
      if (!p->trained) continue;
      TRY_GOTO(entries_add(&e, prefix[m], p, &data), done);
      memcpy(data, arena + p->offset, (size_t)desc_count(&p->desc) * sizeof *data);
    }
  }
  TRY_GOTO(write_entries(&e, directory, optimizer_name), done);
done:
  mem_free(&arena);
  entries_free(&e);
  return st;
}

static bool has_frozen(const struct network *n) {
  for (size_t i = 0; i < network_parameter_count(n); i++) {
    if (!is_changing(network_parameter_at(n, i))) return true;
  }
  return false;
}

// model.safetensors.index.json as transformers writes it: total_size and which shard holds which tensor.
static status_t write_index(const struct network *n, const char *directory) {
  status_t st = OK;
  char *path = NULL;
  json_int_t total = 0;
  json_t *index = json_object(), *metadata = json_object(), *map = json_object();
  TRY_GOTO(json_put(index, "metadata", json_incref(metadata)), done);
  TRY_GOTO(json_put(index, "weight_map", json_incref(map)), done);
  for (size_t i = 0; i < network_parameter_count(n); i++) {
    const struct network_parameter *p = network_parameter_at(n, i);
    total += (json_int_t)desc_count(&p->desc) * (json_int_t)dtype_bytes(p->stored);
    TRY_GOTO(json_put(map, p->name, json_string(is_changing(p) ? trained_name : frozen_name)), done);
  }
  TRY_GOTO(json_put(metadata, "total_size", json_integer(total)), done);
  TRY_GOTO(file_join(&path, directory, index_name), done);
  TRY_GOTO(json_write(path, index), done);
done:
  mem_free(&path);
  json_decref(map);
  json_decref(metadata);
  json_decref(index);
  return st;
}

// ---- files that stay the same -------------------------------------------------------------------------------------

static bool changes(const char *name) {
  return !strcmp(name, trained_name) || !strcmp(name, whole_name) || !strcmp(name, optimizer_name) ||
         !strcmp(name, state_name);
}

static status_t copy_whole(const char *from, const char *to) {
  status_t st = OK;
  char *buffer = NULL;
  int in = open(from, O_RDONLY | O_CLOEXEC), out = -1;
  enum { PIECE = 1 << 20 };
  if (in < 0) return FAIL(ERR_IO, "cannot open %s: %s", from, strerror(errno));
  out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (out < 0) FAIL_GOTO(done, ERR_IO, "cannot create %s: %s", to, strerror(errno));
  TRY_GOTO(mem_alloc(&buffer, PIECE, 1), done);
  for (;;) {
    ssize_t n = read(in, buffer, PIECE);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) FAIL_GOTO(done, ERR_IO, "cannot read %s: %s", from, strerror(errno));
    if (n == 0) break;
    for (ssize_t at = 0; at < n;) {
      ssize_t w = write(out, buffer + at, (size_t)(n - at));
      if (w < 0 && errno != EINTR) FAIL_GOTO(done, ERR_IO, "cannot write %s: %s", to, strerror(errno));
      if (w > 0) at += w;
    }
  }
done:
  mem_free(&buffer);
  if (out >= 0 && close(out) != 0 && st == OK) st = FAIL(ERR_IO, "cannot close %s: %s", to, strerror(errno));
  (void)close(in);
  return st;
}

// Take over what does not change from the checkpoint of last_step: hard links, or copies where there are none.
static status_t take_over(const struct checkpoints *f, const char *directory) {
  status_t st = OK;
  char *before = NULL, *from = NULL, *to = NULL;
  char **names = NULL;
  size_t count = 0;
  TRY_GOTO(checkpoint_path(f->out, f->last_step, &before), done);
  TRY_GOTO(file_list(before, &names, &count), done);
  for (size_t i = 0; i < count; i++) {
    if (changes(names[i])) continue;
    mem_free(&from);
    mem_free(&to);
    TRY_GOTO(file_join(&from, before, names[i]), done);
    TRY_GOTO(file_join(&to, directory, names[i]), done);
    if (link(from, to) != 0) TRY_GOTO(copy_whole(from, to), done);
  }
done:
  file_free_names(&names, count);
  mem_free(&to);
  mem_free(&from);
  mem_free(&before);
  return st;
}

static status_t write_model(struct checkpoints *f, const struct model *model, struct network *n,
                            const char *directory) {
  bool frozen = has_frozen(n);
  if (f->last_step >= 0) {
    TRY(take_over(f, directory));
  } else {
    TRY(model_copy_files(model, network_size(n), directory));
    if (frozen) {
      TRY(write_parameters(n, false, directory, frozen_name));
      TRY(write_index(n, directory));
    }
  }
  return write_parameters(n, true, directory, frozen ? trained_name : whole_name);
}

// ---- state.json -----------------------------------------------------------------------------------------------------

static status_t sync_file(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FAIL(ERR_IO, "cannot open %s: %s", path, strerror(errno));
  int rc = fsync(fd), why = errno;
  (void)close(fd);
  return rc ? FAIL(ERR_IO, "cannot sync %s: %s", path, strerror(why)) : OK;
}

// {"bytes": n, "sha256": "..."} of one file; a file that did not change since the last checkpoint keeps its entry.
static status_t describe(struct checkpoints *f, const char *path, const char *name, json_t *files) {
  json_t *known = json_object_get(f->files, name);
  if (known && !changes(name)) return json_put(files, name, json_incref(known));
  struct key sum;
  char hex[65];
  uint64_t bytes;
  if (!changes(name)) TRY(sync_file(path)); // what changes was synced by its writer
  TRY(file_size(path, &bytes));
  TRY(key_sha256_file(path, &sum));
  key_hex(&sum, hex);
  return json_put(files, name, json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "sha256", hex));
}

static status_t describe_all(struct checkpoints *f, const char *directory, json_t **out) {
  status_t st = OK;
  char *path = NULL;
  char **names = NULL;
  size_t count = 0;
  json_t *files = json_object();
  *out = NULL;
  TRY_GOTO(file_list(directory, &names, &count), done);
  for (size_t i = 0; i < count; i++) {
    mem_free(&path);
    TRY_GOTO(file_join(&path, directory, names[i]), done);
    TRY_GOTO(describe(f, path, names[i], files), done);
  }
  *out = json_incref(files);
done:
  json_decref(files);
  mem_free(&path);
  file_free_names(&names, count);
  return st;
}

status_t checkpoint_hash_state(const json_t *state, char hex[65]) {
  struct key sum;
  json_t *bare = json_copy((json_t *)(uintptr_t)state); // shallow: json_copy only reads
  if (!bare) return FAIL(ERR_NOMEM, "no memory for the hash of state.json");
  (void)json_object_del(bare, "check");
  char *text = json_dumps(bare, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
  json_decref(bare);
  if (!text) return FAIL(ERR_NOMEM, "no memory for the hash of state.json");
  status_t st = key_sha256(text, strlen(text), &sum);
  free(text);
  if (st == OK) key_hex(&sum, hex);
  return st;
}

static status_t write_state(struct checkpoints *f, const char *directory, json_t *state, int64_t step,
                            int64_t best_step) {
  char hex[65];
  char *path = NULL;
  json_t *files;
  TRY(describe_all(f, directory, &files));
  json_decref(f->files);
  f->files = json_incref(files);
  TRY(json_put(state, "files", files));
  TRY(json_put(state, "format", json_string("gridseg checkpoint 1")));
  TRY(json_put(state, "step", json_integer(step)));
  TRY(json_put(state, "best_step", json_integer(best_step)));
  TRY(checkpoint_hash_state(state, hex));
  TRY(json_put(state, "check", json_string(hex)));
  TRY(file_join(&path, directory, state_name));
  status_t st = json_write(path, state);
  mem_free(&path);
  return st;
}

// ---- the folder -------------------------------------------------------------------------------------------------------

status_t checkpoints_link(struct checkpoints *f, const char *link, int64_t step) {
  char *path, target[32];
  (void)snprintf(target, sizeof target, "step-%08lld", (long long)step);
  TRY(file_join(&path, f->path, link));
  status_t st = file_replace_link(target, path);
  mem_free(&path);
  return st;
}

bool checkpoint_step_of(const char *name, int64_t *step) {
  if (strncmp(name, "step-", 5) || strlen(name) < 13 || strlen(name) > 20) return false;
  if (strspn(name + 5, "0123456789") != strlen(name + 5)) return false;
  *step = strtoll(name + 5, NULL, 10);
  return true;
}

static int newest_first(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x < y) - (x > y);
}

status_t checkpoints_steps(const struct checkpoints *f, int64_t **steps, size_t *count) {
  char **names = NULL;
  size_t n = 0;
  *steps = NULL;
  *count = 0;
  TRY(file_list(f->path, &names, &n));
  status_t st = mem_alloc(steps, n, sizeof **steps);
  for (size_t i = 0; i < n && st == OK; i++) *count += checkpoint_step_of(names[i], &(*steps)[*count]);
  if (st == OK) qsort(*steps, *count, sizeof **steps, newest_first);
  file_free_names(&names, n);
  return st;
}

static status_t prune(struct checkpoints *f, int64_t best_step, int64_t keep) {
  int64_t *steps;
  size_t count;
  status_t st = checkpoints_steps(f, &steps, &count);
  for (size_t i = 0; st == OK && i < count; i++) {
    if ((int64_t)i < keep || steps[i] == best_step) continue;
    char *path;
    TRY_GOTO(checkpoint_path(f->out, steps[i], &path), done);
    st = file_remove_tree(path);
    mem_free(&path);
  }
done:
  mem_free(&steps);
  return st;
}

// Put the finished folder in its place; what stood there (a checkpoint of the same step) gives way.
static status_t move_in(struct checkpoints *f, const char *written, int64_t step) {
  status_t st = OK;
  char *path = NULL, *old = NULL;
  TRY_GOTO(file_sync_directory(written), done);
  TRY_GOTO(checkpoint_path(f->out, step, &path), done);
  if (file_exists(path)) {
    TRY_GOTO(mem_format(&old, "%s/.writing-old-%ld", f->path, (long)getpid()), done);
    TRY_GOTO(file_remove_tree(old), done);
    TRY_GOTO(file_rename(path, old), done);
  }
  TRY_GOTO(file_rename(written, path), done);
  if (old) TRY_GOTO(file_remove_tree(old), done);
done:
  mem_free(&old);
  mem_free(&path);
  return st;
}

status_t checkpoints_write(struct checkpoints *f, const struct model *model, struct network *n, struct optimizer *o,
                           json_t *state, int64_t step, int64_t best_step, int64_t keep) {
  status_t st = OK;
  char *temp = NULL;
  TRY_GOTO(mem_format(&temp, "%s/.writing-%ld", f->path, (long)getpid()), done);
  TRY_GOTO(file_remove_tree(temp), done);
  TRY_GOTO(file_make_directories(temp), done);
  TRY_GOTO(write_model(f, model, n, temp), done);
  TRY_GOTO(write_optimizer(n, o, temp), done);
  TRY_GOTO(write_state(f, temp, state, step, best_step), done);
  TRY_GOTO(move_in(f, temp, step), done);
  f->last_step = step;
  TRY_GOTO(checkpoints_link(f, "last", step), done);
  if (best_step == step || best_step < 0) TRY_GOTO(checkpoints_link(f, "best", step), done);
  TRY_GOTO(prune(f, best_step, keep), done);
done:
  if (st != OK && temp) (void)file_remove_tree(temp);
  mem_free(&temp);
  return st;
}
