// train_dump.c: debug.dump: what one step computed, for comparison with the public implementation.
#include "base/file.h"
#include "base/mem.h"
#include "tensor/safetensors.h"
#include "train/trainer.h"

#include <string.h>

// The ranks' parts one behind the other: the global batch in its order.
static status_t gather(struct trainer *t, const float *part, size_t count, float **all, size_t *total) {
  size_t *sizes;
  TRY(mem_alloc(&sizes, (size_t)comm_size(t->comm), sizeof *sizes));
  status_t st = comm_gather(t->comm, part, count * sizeof *part, (void **)all, sizes, 0);
  *total = 0;
  for (int r = 0; r < comm_size(t->comm); r++) *total += sizes[r] / sizeof *part;
  mem_free(&sizes);
  return st;
}

// "logits" [B,S,S], "loss" [B], and "grad.NAME" of every trained parameter, before the clip.
static status_t write_dump(struct trainer *t, const float *logits, const float *loss, size_t count) {
  status_t st = OK;
  size_t n = 0;
  float *g = NULL;
  char *path = NULL, **names = NULL;
  struct safetensors_entry *e = NULL;
  int64_t side = t->o.network.size, arena = network_arena_count(t->network);
  size_t parameters = network_parameter_count(t->network);
  TRY_GOTO(mem_alloc(&e, parameters + 2, sizeof *e), done);
  TRY_GOTO(mem_alloc(&names, parameters, sizeof *names), done);
  TRY_GOTO(mem_alloc(&g, (size_t)arena, sizeof *g), done);
  TRY_GOTO(t->backend->ops->copy_out(t->backend, g, network_gradients(t->network), (size_t)arena * sizeof *g, NULL),
           done);
  e[n++] = (struct safetensors_entry){"logits", TENSOR_DESC(DTYPE_F32, (int64_t)count, side, side), logits};
  e[n++] = (struct safetensors_entry){"loss", TENSOR_DESC(DTYPE_F32, (int64_t)count), loss};
  for (size_t i = 0; i < parameters; i++) {
    const struct network_parameter *p = network_parameter_at(t->network, i);
    if (!p->trained) continue;
    TRY_GOTO(mem_format(&names[i], "grad.%s", p->name), done);
    e[n] = (struct safetensors_entry){names[i], p->desc, g + p->offset};
    e[n++].desc.dtype = DTYPE_F32;
  }
  TRY_GOTO(file_make_directories(t->o.dump_dir), done);
  TRY_GOTO(mem_format(&path, "%s/step-%08lld.safetensors", t->o.dump_dir, (long long)t->at.step + 1), done);
  TRY_GOTO(safetensors_write(path, e, n, NULL, 0), done);
done:
  for (size_t i = 0; names && i < parameters; i++) mem_free(&names[i]);
  mem_free(&path);
  mem_free(&g);
  mem_free(&names);
  mem_free(&e);
  return st;
}

status_t trainer_dump(struct trainer *t, int count) {
  float *logits = NULL, *loss = NULL;
  size_t pixels = (size_t)t->o.network.size * (size_t)t->o.network.size, total;
  status_t st = OK;
  TRY_GOTO(gather(t, t->logits, (size_t)count * pixels, &logits, &total), done);
  TRY_GOTO(gather(t, t->loss, (size_t)count, &loss, &total), done);
  st = trainer_agree(t, comm_rank(t->comm) == 0 ? write_dump(t, logits, loss, total) : OK);
done:
  mem_free(&loss);
  mem_free(&logits);
  return st;
}
