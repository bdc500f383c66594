// network_feature.c: what the frozen part makes of one picture or text, and the key of how.
#include "base/mem.h"
#include "base/parallel.h"
#include "train/network_state.h"

#include <string.h>

size_t network_feature_bytes(const struct network *n, source_t source) {
  return n->source[source].bytes;
}

struct contents {
  struct network *n;
  struct key *key; // by parameter
  bool *known;
};

static status_t hash_parameter(void *context, size_t i, int worker) {
  (void)worker;
  struct contents *c = context;
  struct network *n = c->n;
  if (!c->known[i]) return OK;
  const struct network_parameter *p = &n->parameter[i];
  const struct safetensors_entry *e = n->weights && !n->memory[i] ? safetensors_find(n->weights, p->name) : NULL;
  if (e && e->desc.dtype == DTYPE_F32) return key_sha256(e->data, desc_bytes(&e->desc), &c->key[i]);
  float *copy = NULL;
  TRY(mem_alloc(&copy, (size_t)desc_count(&p->desc), sizeof *copy));
  status_t st = network_host_copy(n, i, copy);
  if (st == OK) st = key_sha256(copy, (size_t)desc_count(&p->desc) * sizeof *copy, &c->key[i]);
  mem_free(&copy);
  return st;
}

static size_t parameter_index(const struct network *n, const char *name) {
  size_t i = 0;
  while (i < n->parameters && strcmp(n->parameter[i].name, name)) i++;
  return i;
}

// First pass: which parameters a feature depends on. Second pass: their content.
static status_t note_leaf(void *context, const struct value *leaf, struct key *out) {
  struct contents *c = context;
  memset(out, 0, sizeof *out);
  if (leaf->kind == VALUE_PARAMETER) c->known[parameter_index(c->n, leaf->name)] = true;
  return OK;
}

static status_t content_leaf(void *context, const struct value *leaf, struct key *out) {
  struct contents *c = context;
  if (leaf->kind != VALUE_PARAMETER) return key_sha256(leaf->name, strlen(leaf->name), out);
  *out = c->key[parameter_index(c->n, leaf->name)];
  return OK;
}

static status_t make_base_key(struct network *n, source_t s) {
  status_t st = OK;
  struct built b = {0};
  struct contents c = {.n = n};
  struct value **tap = NULL;
  struct key_builder *k = NULL;
  size_t taps;
  struct key each;
  TRY_GOTO(built_create(n, 1, n->text_limit, network_mode(n, network_main_kind(n)), &b), done);
  TRY_GOTO(mem_alloc(&c.key, n->parameters, sizeof *c.key), done);
  TRY_GOTO(mem_alloc(&c.known, n->parameters, sizeof *c.known), done);
  TRY_GOTO(network_taps(n, &b, network_main_kind(n), s, &tap, &taps), done);
  for (size_t i = 0; i < taps; i++) TRY_GOTO(graph_signature(b.graph, tap[i], note_leaf, &c, &each), done);
  TRY_GOTO(parallel_for(n->parameters, n->backend->threads, hash_parameter, &c), done);
  TRY_GOTO(key_begin(&k, "feature"), done);
  TRY_GOTO(key_add_text(k, "numerics", n->backend->ops->numerics(n->backend)), done);
  TRY_GOTO(key_add_int(k, "threads", n->backend->threads), done);
  for (size_t i = 0; i < taps; i++) {
    TRY_GOTO(graph_signature(b.graph, tap[i], content_leaf, &c, &each), done);
    TRY_GOTO(key_add_key(k, "tap", &each), done);
  }
  TRY_GOTO(key_finish(&k, &n->source[s].base), done);
  n->source[s].has_base = true;
done:
  CLEANUP(key_finish(&k, NULL));
  mem_free(&tap);
  mem_free(&c.known);
  mem_free(&c.key);
  built_destroy(&b);
  return st;
}

status_t network_feature_key(struct network *n, source_t source, const struct key *input, struct key *out) {
  if (!n->source[source].has_base) TRY(make_base_key(n, source));
  struct key_builder *k = NULL;
  TRY(key_begin(&k, "feature of an input"));
  status_t st = key_add_key(k, "base", &n->source[source].base);
  if (st == OK) st = key_add_key(k, "input", input);
  CLEANUP(key_finish(&k, out));
  return st;
}

status_t network_compute_feature(struct network *n, source_t source, const void *input, int length, void *feature) {
  const struct source *s = &n->source[source];
  if (s->bytes == 0) return FAIL(ERR_ARG, "this input has no feature: its encoder is trained");
  bool is_text = source == SOURCE_CONDITION && n->options.condition == CONDITION_TEXT;
  struct unit *u;
  if (is_text) TRY(network_check_length(n, length));
  TRY(unit_get(n, source == SOURCE_IMAGE ? UNIT_FEATURE_IMAGE : UNIT_FEATURE_CONDITION, 1, is_text ? length : 0, &u));
  const struct backend_ops *ops = n->backend->ops;
  if (is_text) {
    const struct network_sample one = {.condition = input, .length = length};
    TRY(unit_load_texts(n, u, &one));
  } else {
    void *to = source == SOURCE_IMAGE ? u->pixels : u->condition_pixels;
    TRY(ops->copy_in(n->backend, to, input, network_picture_bytes(n), NULL));
  }
  TRY(network_reserve(n, executable_arena_bytes(u->executable)));
  n->last = NULL;
  TRY(executable_run(u->executable, n->workspace, NULL, NULL, NULL));
  memset(feature, 0, s->bytes);
  for (size_t i = 0; i < s->taps; i++) {
    const struct tap *t = &s->tap[i];
    size_t bytes = is_text && t->token_bytes ? t->token_bytes * (size_t)length : t->bytes;
    TRY(ops->copy_out(n->backend, (char *)feature + t->offset, u->output[i], bytes, NULL));
  }
  return OK;
}
