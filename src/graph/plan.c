// plan.c: from a graph to something that runs: which nodes are needed, one plan of the backend for each distinct
// operation, and memory by lifetime: values share the arena when they do not live at the same time.
#include "graph/executable.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static int root_id(const struct value *v) {
  return v->base ? v->base->id : v->id;
}

struct planning {
  const struct graph *g;
  const struct executable_options *options;
  struct executable *e;
  uint8_t *needed; // by value id (base)
  uint8_t *is_output;
};

static bool is_leaf(const struct planning *p, int id) {
  return p->options->leaf && p->options->leaf[id];
}

// Results that an operation may leave out when nobody reads them.
static bool optional_result(const struct op *op, int slot) {
  if (op->kind == OP_LAYERNORM && op->direction == FORWARD) return slot > 0;
  if (op->kind == OP_ATTENTION && op->direction == FORWARD) return slot > 0;
  if (op->kind == OP_POOL && op->direction == FORWARD) return slot > 0;
  if (op->kind == OP_BATCHNORM_MOMENTS) return slot > 1;
  return false;
}

static status_t mark_needed(struct planning *p, struct value *const *outputs, size_t count) {
  for (size_t i = 0; i < count; i++) {
    int id = root_id(outputs[i]);
    p->needed[id] = p->is_output[id] = 1;
  }
  size_t steps = 0;
  uint8_t *use = NULL;
  TRY(mem_alloc(&use, p->g->nodes ? p->g->nodes : 1, 1));
  for (size_t i = p->g->nodes; i-- > 0;) {
    const struct node *n = p->g->node[i];
    for (int k = 0; k < n->op.outputs; k++) {
      if (n->out[k] && p->needed[n->out[k]->id] && !is_leaf(p, n->out[k]->id)) use[i] = 1;
    }
    if (!use[i]) continue;
    steps++;
    for (int k = 0; k < n->op.inputs; k++) {
      if (n->in[k]) p->needed[root_id(n->in[k])] = 1;
    }
  }
  status_t st = mem_alloc(&p->e->step, steps ? steps : 1, sizeof *p->e->step);
  for (size_t i = 0; st == OK && i < p->g->nodes; i++) {
    if (!use[i]) continue;
    const struct node *n = p->g->node[i];
    struct step *s = &p->e->step[p->e->steps++];
    s->op = n->op;
    for (int k = 0; k < OPERANDS; k++) s->operand[k] = -1;
    for (int k = 0; k < n->op.inputs; k++) {
      if (n->in[k]) s->operand[k] = root_id(n->in[k]);
    }
    for (int k = 0; k < n->op.outputs; k++) {
      if (!n->out[k]) continue;
      if (!p->needed[n->out[k]->id] && optional_result(&n->op, k)) {
        s->op.out[k] = (struct tensor_desc){0};
      } else {
        s->operand[n->op.inputs + k] = n->out[k]->id;
        p->needed[n->out[k]->id] = 1;
      }
    }
  }
  mem_free(&use);
  return st;
}

static status_t place_values(struct planning *p) {
  struct executable *e = p->e;
  int end = (int)e->steps;
  for (size_t i = 0; i < e->values; i++) {
    e->storage[i] = (struct storage){.first = -1, .last = -1, .shares = -1, .bytes = desc_bytes(&e->copy[i].desc)};
  }
  for (int s = 0; s < end; s++) {
    const struct step *step = &e->step[s];
    for (int k = 0; k < step->op.inputs + step->op.outputs; k++) {
      if (step->operand[k] < 0) continue;
      struct storage *at = &e->storage[step->operand[k]];
      if (k >= step->op.inputs && at->first < 0) at->first = s;
      at->last = s;
    }
  }
  TRY(mem_alloc(&e->external, e->values ? e->values : 1, sizeof *e->external));
  for (size_t i = 0; i < e->values; i++) {
    if (!p->needed[i]) continue;
    struct storage *at = &e->storage[i];
    value_kind_t kind = e->copy[i].kind;
    bool given = kind == VALUE_INPUT || kind == VALUE_PARAMETER || kind == VALUE_CONSTANT || is_leaf(p, (int)i);
    for (size_t b = 0; b < p->options->bounds; b++) {
      if (p->options->bound[b] && root_id(p->options->bound[b]) == (int)i) given = true;
    }
    at->place = given ? PLACE_EXTERNAL : PLACE_ARENA;
    if (given) e->external[e->externals++] = (int)i;
    if (p->is_output[i]) at->last = end;
  }
  return OK;
}

// A result that may be written over an operand that dies at this step takes over its memory.
static void share_in_place(struct executable *e) {
  const struct backend_ops *ops = e->backend->ops;
  for (size_t s = 0; s < e->steps; s++) {
    const struct step *step = &e->step[s];
    if (step->op.kind == OP_EXCHANGE) continue; // no backend's
    for (int o = 0; o < step->op.outputs; o++) {
      int y = step->operand[step->op.inputs + o];
      if (y < 0 || e->storage[y].place != PLACE_ARENA || e->storage[y].first != (int)s) continue;
      for (int i = 0; i < step->op.inputs && e->storage[y].shares < 0; i++) {
        int x = step->operand[i];
        if (x < 0 || e->storage[x].place != PLACE_ARENA || e->storage[x].last != (int)s) continue;
        if (e->storage[x].bytes != e->storage[y].bytes || !ops->in_place(e->backend, &step->op, o, i)) continue;
        bool twice = false; // an operand given twice, or taken over by another result of this step, must survive
        for (int k = 0; k < step->op.inputs; k++) twice = twice || (k != i && step->operand[k] == x);
        for (int k = 0; k < o; k++) {
          int other = step->operand[step->op.inputs + k];
          twice = twice || (other >= 0 && e->storage[other].shares == x);
        }
        if (!twice) e->storage[y].shares = x;
      }
    }
  }
}

struct block {
  size_t bytes, offset;
  int first, last, id;
};

static int by_size(const void *a, const void *b) {
  const struct block *x = a, *y = b;
  if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
  return x->id - y->id;
}

static int owner(const struct executable *e, int id) {
  while (e->storage[id].shares >= 0) id = e->storage[id].shares;
  return id;
}

// Offsets by "largest first, lowest gap that is free for the whole lifetime" (Pisarchyk and Lee, "Efficient memory
// management for deep neural net inference", 2020, greedy by size).
static status_t assign_offsets(struct executable *e) {
  struct block *block = NULL;
  size_t blocks = 0;
  TRY(mem_alloc(&block, e->values ? e->values : 1, sizeof *block));
  for (size_t i = 0; i < e->values; i++) { // lifetimes of what shares memory are joined
    struct storage *at = &e->storage[i];
    if (at->place != PLACE_ARENA || at->shares < 0) continue;
    struct storage *base = &e->storage[owner(e, (int)i)];
    if (at->last > base->last) base->last = at->last;
  }
  for (size_t i = 0; i < e->values; i++) {
    struct storage *at = &e->storage[i];
    if (at->place != PLACE_ARENA || at->shares >= 0) continue;
    size_t bytes = size_round_up(at->bytes ? at->bytes : 1, MEM_ALIGN);
    block[blocks++] = (struct block){.bytes = bytes, .first = at->first, .last = at->last, .id = (int)i};
  }
  if (blocks) qsort(block, blocks, sizeof *block, by_size);
  for (size_t i = 0; i < blocks; i++) {
    size_t offset = 0;
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t k = 0; k < i; k++) {
        if (block[k].last < block[i].first || block[k].first > block[i].last) continue;
        if (block[k].offset + block[k].bytes <= offset || block[k].offset >= offset + block[i].bytes) continue;
        offset = block[k].offset + block[k].bytes;
        moved = true;
      }
    }
    block[i].offset = offset;
    e->storage[block[i].id].offset = offset;
    if (offset + block[i].bytes > e->arena_bytes) e->arena_bytes = offset + block[i].bytes;
  }
  for (size_t i = 0; i < e->values; i++) {
    if (e->storage[i].place == PLACE_ARENA) e->storage[i].offset = e->storage[owner(e, (int)i)].offset;
  }
  mem_free(&block);
  return OK;
}

// Which operands of a step never change.
static unsigned constant_mask(const struct planning *p, const struct step *s) {
  unsigned mask = 0;
  if (!p->options->depends) return 0;
  for (int k = 0; k < s->op.inputs; k++) {
    if (s->operand[k] < 0) continue;
    const struct value *v = &p->e->copy[s->operand[k]];
    bool given = (v->kind == VALUE_PARAMETER && !v->trained) || v->kind == VALUE_CONSTANT || is_leaf(p, v->id);
    if (given && p->options->depends[v->id] == 0) mask |= 1u << k;
  }
  return mask;
}

// Before anything is asked of the backend: what it answers may depend on it.
static void mark_constants(const struct planning *p) {
  for (size_t s = 0; s < p->e->steps; s++) {
    struct step *step = &p->e->step[s];
    if (step->op.kind != OP_EXCHANGE) step->op.constant = constant_mask(p, step);
  }
}

static status_t make_plans(struct planning *p) {
  struct executable *e = p->e;
  const struct backend_ops *ops = e->backend->ops;
  size_t scratch = 0;
  for (size_t s = 0; s < e->steps; s++) {
    struct step *step = &e->step[s];
    if (step->op.kind == OP_EXCHANGE) { // run.c does it
      size_t count = (size_t)desc_count(&step->op.in[0]);
      if (count > e->exchange_count) e->exchange_count = count;
      continue;
    }
    for (size_t k = 0; k < s && !step->op.constant && !step->plan; k++) { // packed constants belong to one step
      if (!memcmp(&e->step[k].op, &step->op, sizeof step->op)) step->plan = e->step[k].plan;
    }
    if (step->plan) continue;
    TRY(mem_grow(&e->plan, &e->plan_capacity, e->plans + 1, sizeof *e->plan));
    TRY(ops->plan_create(e->backend, &step->op, &step->plan));
    e->plan[e->plans++] = step->plan;
    size_t bytes = ops->plan_scratch(step->plan);
    if (bytes > scratch) scratch = bytes;
  }
  if (e->exchange_count) TRY(mem_alloc(&e->exchange_buffer, e->exchange_count, sizeof *e->exchange_buffer));
  e->scratch_offset = e->arena_bytes;
  e->arena_bytes += size_round_up(scratch, MEM_ALIGN);
  return OK;
}

static status_t copy_values(struct planning *p) {
  struct executable *e = p->e;
  TRY(mem_alloc(&e->copy, p->g->values ? p->g->values : 1, sizeof *e->copy));
  e->values = p->g->values;
  for (size_t i = 0; i < e->values; i++) {
    e->copy[i] = *p->g->value[i];
    e->copy[i].name = NULL;
    e->copy[i].base = NULL;
    e->copy[i].gradient = e->copy[i].update = NULL;
    e->copy[i].content = NULL;
    if (p->g->value[i]->name) TRY(mem_copy_text(&e->copy[i].name, p->g->value[i]->name));
  }
  return OK;
}

status_t executable_create(const struct graph *g, struct backend *backend, struct value *const *outputs, size_t count,
                           const struct executable_options *options, struct executable **out) {
  TRY(graph_status(g));
  status_t st = OK;
  struct executable *e = NULL;
  struct planning p = {.g = g, .options = options};
  TRY_GOTO(mem_alloc(&e, 1, sizeof *e), done);
  e->backend = backend;
  e->profile = options->profile;
  e->exchange = options->exchange;
  e->exchange_context = options->exchange_context;
  p.e = e;
  TRY_GOTO(copy_values(&p), done);
  TRY_GOTO(mem_alloc(&p.needed, e->values ? e->values : 1, 1), done);
  TRY_GOTO(mem_alloc(&p.is_output, e->values ? e->values : 1, 1), done);
  TRY_GOTO(mem_alloc(&e->storage, e->values ? e->values : 1, sizeof *e->storage), done);
  TRY_GOTO(mark_needed(&p, outputs, count), done);
  TRY_GOTO(place_values(&p), done);
  mark_constants(&p);
  share_in_place(e);
  TRY_GOTO(assign_offsets(e), done);
  TRY_GOTO(make_plans(&p), done);
  *out = e;
  e = NULL;
done:
  executable_destroy(&e);
  mem_free(&p.is_output);
  mem_free(&p.needed);
  return st;
}

void executable_destroy(struct executable **e) {
  if (!*e) return;
  for (size_t i = 0; i < (*e)->plans; i++) (*e)->backend->ops->plan_destroy(&(*e)->plan[i]);
  free((*e)->plan);
  for (size_t i = 0; (*e)->copy && i < (*e)->values; i++) mem_free(&(*e)->copy[i].name);
  mem_free(&(*e)->copy);
  mem_free(&(*e)->exchange_buffer);
  mem_free(&(*e)->external);
  mem_free(&(*e)->storage);
  mem_free(&(*e)->step);
  mem_free(e);
}
