// network_cost.c: what a batch costs: executables are planned as a run would plan them, and never run.
#include "base/mem.h"
#include "train/network_state.h"

static status_t plan_live(struct network *n, unit_kind_t kind, int batch, double *flops, size_t *bytes) {
  status_t st = OK;
  struct built b = {0};
  struct executable *e = NULL;
  struct value **wanted = NULL;
  uint8_t *leaf = NULL;
  size_t count;
  TRY_GOTO(built_create(n, batch, n->text_limit, network_mode(n, kind), &b), done);
  TRY_GOTO(network_wanted(n, &b, kind, &wanted, &count), done);
  TRY_GOTO(graph_frontier(b.graph, wanted, count, b.depends, PART_LIVE, &leaf), done);
  struct executable_options o = {.leaf = leaf, .depends = b.depends};
  if (kind == UNIT_STEP) {
    o.bound = wanted + NETWORK_RESULTS;
    o.bounds = count - NETWORK_RESULTS;
  }
  TRY_GOTO(executable_create(b.graph, n->backend, wanted, count, &o, &e), done);
  *flops = executable_flops(e);
  *bytes = executable_arena_bytes(e);
done:
  executable_destroy(&e);
  mem_free(&leaf);
  mem_free(&wanted);
  built_destroy(&b);
  return st;
}

static status_t plan_feature(struct network *n, source_t s, double *flops) {
  status_t st = OK;
  struct built b = {0};
  struct executable *e = NULL;
  struct value **tap = NULL;
  uint8_t *leaf = NULL;
  size_t taps;
  if (n->source[s].bytes == 0) return OK; // it has no feature
  TRY_GOTO(built_create(n, 1, n->text_limit, n->options.train, &b), done);
  TRY_GOTO(network_taps(n, &b, network_main_kind(n), s, &tap, &taps), done);
  TRY_GOTO(graph_frontier(b.graph, tap, taps, b.depends, PART_FEATURE, &leaf), done);
  struct executable_options o = {.leaf = leaf, .depends = b.depends, .bound = tap, .bounds = taps};
  TRY_GOTO(executable_create(b.graph, n->backend, tap, taps, &o, &e), done);
  *flops = executable_flops(e);
done:
  executable_destroy(&e);
  mem_free(&leaf);
  mem_free(&tap);
  built_destroy(&b);
  return st;
}

status_t network_cost(struct network *n, int batch, struct network_cost *out) {
  *out = (struct network_cost){0};
  if (n->options.train) TRY(plan_live(n, UNIT_STEP, batch, &out->step_flops, &out->step_bytes));
  TRY(plan_live(n, UNIT_FORWARD, batch, &out->forward_flops, &out->forward_bytes));
  for (int s = 0; s < SOURCES; s++) TRY(plan_feature(n, (source_t)s, &out->feature_flops[s]));
  return OK;
}
