// network_plan.c: which values are the feature of a picture or a prompt, and which of them each kind of unit reads.
#include "base/mem.h"
#include "train/network_state.h"

#include <string.h>

bool network_mode(const struct network *n, unit_kind_t kind) {
  return kind == UNIT_STEP || ((int)kind >= LIVE_KINDS && n->options.train);
}

unit_kind_t network_main_kind(const struct network *n) {
  return n->options.train ? UNIT_STEP : UNIT_LOSS;
}

status_t network_taps(const struct network *n, const struct built *b, unit_kind_t kind, source_t source,
                      struct value ***out, size_t *count) {
  status_t st = OK;
  struct value **wanted = NULL;
  uint8_t *leaf = NULL;
  size_t results;
  *out = NULL;
  TRY_GOTO(network_wanted(n, b, kind, &wanted, &results), done);
  TRY_GOTO(graph_frontier(b->graph, wanted, results, b->depends, PART_LIVE, &leaf), done);
  st = network_find_taps(b, leaf, source, out, count);
done:
  mem_free(&leaf);
  mem_free(&wanted);
  return st;
}

static double source_flops(const struct built *b, source_t s) {
  double flops = 0;
  for (size_t i = 0; i < b->graph->nodes; i++) { // the nodes of this source alone
    const struct value *y = b->graph->node[i]->out[0];
    if (y && b->depends[y->id] == 1u << s) flops += op_flops(&b->graph->node[i]->op);
  }
  return flops;
}

// What the feature of one source is made of. The source is live from its input on where the frozen part does no arithmetic worth
// keeping (normalised pixels), and where it is the whole model: a store of logits would be one of results.
static status_t plan_source(struct network *n, const struct built *b, source_t s) {
  status_t st = OK;
  struct value **tap = NULL;
  size_t count;
  struct source *source = &n->source[s];
  const struct value *planes = b->planes->base ? b->planes->base : b->planes;
  TRY_GOTO(network_taps(n, b, network_main_kind(n), s, &tap, &count), done);
  if (count == 0 || source_flops(b, s) == 0 || b->depends[planes->id] == 1u << s) {
    n->live[s] = true;
    goto done;
  }
  TRY_GOTO(mem_alloc(&source->tap, count, sizeof *source->tap), done);
  source->taps = count;
  for (size_t i = 0; i < count; i++) {
    struct tap *t = &source->tap[i];
    *t = (struct tap){.offset = source->bytes, .bytes = desc_bytes(&tap[i]->desc)};
    source->bytes += size_round_up(t->bytes, MEM_ALIGN);
    TRY_GOTO(graph_signature(b->graph, tap[i], network_name_key, NULL, &t->signature), done);
  }
done:
  mem_free(&tap);
  return st;
}

// `shorter` is the same graph for a text with one token less: a tap that is smaller there has one row a token.
static status_t plan_tokens(struct network *n, const struct built *b, const struct built *shorter) {
  status_t st = OK;
  struct value **full = NULL, **less = NULL;
  size_t count, others;
  struct source *source = &n->source[SOURCE_CONDITION];
  TRY_GOTO(network_taps(n, b, network_main_kind(n), SOURCE_CONDITION, &full, &count), done);
  TRY_GOTO(network_taps(n, shorter, network_main_kind(n), SOURCE_CONDITION, &less, &others), done);
  if (count != others) n->live[SOURCE_CONDITION] = true;
  for (size_t i = 0; i < count && !n->live[SOURCE_CONDITION]; i++) {
    struct tensor_desc row = full[i]->desc;
    if (desc_equal(&full[i]->desc, &less[i]->desc)) continue;
    row.dim[1] = less[i]->desc.dim[1];
    if (row.rank < 2 || full[i]->desc.dim[1] != n->text_limit || row.dim[1] != n->text_limit - 1 ||
        !desc_equal(&row, &less[i]->desc)) {
      n->live[SOURCE_CONDITION] = true; // of a shape that cannot be cut to the text
    }
    source->tap[i].token_bytes = source->tap[i].bytes / (size_t)n->text_limit;
    source->by_token = true;
  }
done:
  mem_free(&less);
  mem_free(&full);
  return st;
}

// Which taps a kind of unit reads. One that wants a value which the feature lacks makes the source live.
static status_t plan_order(struct network *n, const struct built *b, unit_kind_t kind, source_t s) {
  status_t st = OK;
  struct value **tap = NULL;
  size_t count;
  struct source *source = &n->source[s];
  TRY_GOTO(network_taps(n, b, kind, s, &tap, &count), done);
  TRY_GOTO(mem_alloc(&source->order[kind], count ? count : 1, sizeof *source->order[kind]), done);
  source->leaves[kind] = count;
  for (size_t i = 0; i < count; i++) {
    struct key key;
    size_t k = 0;
    TRY_GOTO(graph_signature(b->graph, tap[i], network_name_key, NULL, &key), done);
    while (k < source->taps && !key_equal(&source->tap[k].signature, &key)) k++;
    if (k == source->taps) n->live[s] = true;
    source->order[kind][i] = k;
  }
done:
  mem_free(&tap);
  return st;
}

static void forget_source(struct source *s) {
  mem_free(&s->tap);
  for (int kind = 0; kind < LIVE_KINDS; kind++) mem_free(&s->order[kind]);
  *s = (struct source){0};
}

void network_plan_destroy(struct network *n) {
  for (int s = 0; s < SOURCES; s++) forget_source(&n->source[s]);
  mem_free(&n->exchange);
}

// How much every step exchanges, in order: a step runs all of them.
static status_t plan_exchanges(struct network *n, const struct graph *g) {
  TRY(mem_alloc(&n->exchange, g->nodes ? g->nodes : 1, sizeof *n->exchange));
  for (size_t i = 0; i < g->nodes; i++) {
    const struct op *op = &g->node[i]->op;
    if (op->kind == OP_EXCHANGE) n->exchange[n->exchanges++] = (size_t)desc_count(&op->in[0]);
  }
  return OK;
}

status_t network_plan(struct network *n, const struct built *b) {
  status_t st = OK;
  struct built evaluation = {0}, shorter = {0};
  if (b->training) TRY_GOTO(plan_exchanges(n, b->graph), done);
  for (int s = 0; s < SOURCES; s++) TRY_GOTO(plan_source(n, b, (source_t)s), done);
  bool text = n->options.condition == CONDITION_TEXT && n->text_limit > 1;
  if (text && n->source[SOURCE_CONDITION].taps) {
    TRY_GOTO(built_create(n, 1, n->text_limit - 1, b->training, &shorter), done);
    TRY_GOTO(plan_tokens(n, b, &shorter), done);
  }
  if (b->training) TRY_GOTO(built_create(n, 1, n->text_limit, false, &evaluation), done);
  for (int kind = 0; kind < LIVE_KINDS; kind++) {
    if (kind == UNIT_STEP && !n->options.train) continue;
    const struct built *of = b->training && kind != UNIT_STEP ? &evaluation : b;
    for (int s = 0; s < SOURCES; s++) {
      if (!n->live[s]) TRY_GOTO(plan_order(n, of, (unit_kind_t)kind, (source_t)s), done);
    }
  }
  for (int s = 0; s < SOURCES; s++) {
    if (n->live[s]) forget_source(&n->source[s]);
  }
done:
  built_destroy(&shorter);
  built_destroy(&evaluation);
  return st;
}
