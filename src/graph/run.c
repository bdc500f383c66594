// run.c: bind memory to an executable and run its steps.
#include "graph/executable.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static int root_id(const struct value *v) {
  return v->base ? v->base->id : v->id;
}

size_t executable_arena_bytes(const struct executable *e) {
  return e->arena_bytes;
}
size_t executable_external_count(const struct executable *e) {
  return e->externals;
}
const struct value *executable_external_at(const struct executable *e, size_t i) {
  return &e->copy[e->external[i]];
}
size_t executable_nodes(const struct executable *e) {
  return e->steps;
}
double executable_flops(const struct executable *e) {
  double flops = 0;
  for (size_t s = 0; s < e->steps; s++) flops += op_flops(&e->step[s].op);
  return flops;
}

status_t executable_bind(struct executable *e, const struct value *value, void *memory) {
  int id = root_id(value);
  if ((size_t)id >= e->values || e->storage[id].place == PLACE_NONE) return OK; // nobody here needs it
  if (e->storage[id].place != PLACE_EXTERNAL) {
    return FAIL(ERR_ARG, "value %d (%s) lives in the arena and cannot be bound", id,
                value->name ? value->name : "a result");
  }
  e->storage[id].external = memory;
  return OK;
}

static void *memory_of(const struct executable *e, int id, void *arena) {
  const struct storage *s = &e->storage[id];
  return s->place == PLACE_EXTERNAL ? s->external : (char *)arena + s->offset;
}

void *executable_memory(const struct executable *e, const struct value *value, void *arena) {
  return memory_of(e, root_id(value), arena);
}

int executable_step_of(const struct executable *e, const struct value *value) {
  int id = root_id(value);
  return (size_t)id < e->values ? e->storage[id].first : -1;
}

// EXCHANGE: through the host, since the sums of one layer are few.
static status_t run_exchange(struct executable *e, const struct step *step, void *const *operand,
                             struct stream *stream) {
  const struct backend_ops *ops = e->backend->ops;
  size_t count = (size_t)desc_count(&step->op.in[0]);
  TRY(ops->copy_out(e->backend, e->exchange_buffer, operand[0], count * sizeof(double), stream));
  if (e->exchange) {
    if (ops->stream_wait) TRY(ops->stream_wait(stream));
    TRY(e->exchange(e->exchange_context, e->exchange_buffer, count));
  }
  return ops->copy_in(e->backend, operand[1], e->exchange_buffer, count * sizeof(double), stream);
}

size_t executable_exchange_at(const struct executable *e, size_t step) {
  return e->step[step].op.kind == OP_EXCHANGE ? (size_t)desc_count(&e->step[step].op.in[0]) : 0;
}

status_t executable_run(struct executable *e, void *arena, struct stream *stream, executable_hook_t hook,
                        void *context) {
  for (size_t i = 0; i < e->externals; i++) {
    const struct value *v = &e->copy[e->external[i]];
    if (!e->storage[v->id].external) {
      return FAIL(ERR_ARG, "nothing is bound to %s (value %d)", v->name ? v->name : "a result", v->id);
    }
  }
  e->runs++;
  for (size_t s = 0; s < e->steps; s++) {
    struct step *step = &e->step[s];
    void *operand[OPERANDS] = {NULL};
    int count = step->op.inputs + step->op.outputs;
    for (int k = 0; k < count; k++) {
      operand[k] = step->operand[k] < 0 ? NULL : memory_of(e, step->operand[k], arena);
    }
    double start = e->profile ? clock_seconds() : 0;
    status_t st = step->op.kind == OP_EXCHANGE
                      ? run_exchange(e, step, operand, stream)
                      : e->backend->ops->plan_run(step->plan, operand, (char *)arena + e->scratch_offset, stream);
    if (st != OK) {
      char text[OP_TEXT];
      return status_prefix(st, "step %zu, %s", s, op_text(&step->op, text));
    }
    if (e->profile) step->seconds += clock_seconds() - start;
    if (hook) TRY(hook(context, (int)s));
  }
  return OK;
}

struct line {
  const struct op *op;
  double seconds, flops;
  int count;
};

static int by_seconds(const void *a, const void *b) {
  const struct line *x = a, *y = b;
  return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

status_t executable_print_profile(const struct executable *e, FILE *out) {
  struct line *line = NULL;
  size_t lines = 0;
  double total = 0;
  TRY(mem_alloc(&line, e->steps ? e->steps : 1, sizeof *line));
  for (size_t s = 0; s < e->steps; s++) {
    size_t k = 0;
    while (k < lines && memcmp(line[k].op, &e->step[s].op, sizeof *line[k].op) != 0) k++;
    if (k == lines) line[lines++] = (struct line){.op = &e->step[s].op};
    line[k].seconds += e->step[s].seconds;
    line[k].flops += op_flops(&e->step[s].op);
    line[k].count++;
    total += e->step[s].seconds;
  }
  qsort(line, lines, sizeof *line, by_seconds);
  double runs = e->runs ? e->runs : 1;
  (void)fprintf(out, "%.2f ms a run, %d runs, arena %.1f MiB\n", 1e3 * total / runs, e->runs,
                (double)e->arena_bytes / 0x1p20);
  for (size_t k = 0; k < lines; k++) {
    char text[OP_TEXT];
    (void)fprintf(out, "%8.3f ms %5.1f%% %7.1f GFLOP/s %3d x %s\n", 1e3 * line[k].seconds / runs,
                  total > 0 ? 100 * line[k].seconds / total : 0,
                  line[k].seconds > 0 ? 1e-9 * runs * line[k].flops / line[k].seconds : 0, line[k].count,
                  op_text(line[k].op, text));
  }
  mem_free(&line);
  return OK;
}
