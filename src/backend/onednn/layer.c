// layer.c: see layer.h.
#include "backend/onednn/layer.h"

#include "base/mem.h"

status_t dnnl_check(dnnl_status_t st, const struct plan *p, const char *what) {
  if (st == dnnl_success) return OK;
  char text[OP_TEXT];
  status_t code = st == dnnl_out_of_memory ? ERR_NOMEM : ERR_BACKEND;
  return FAIL(code, "oneDNN: status %d in %s for %s", (int)st, what, op_text(&p->op, text));
}

dnnl_data_type_t layer_type(dtype_t t) {
  return t == DTYPE_BF16 ? dnnl_bf16 : dnnl_f32;
}

status_t primitive_create(struct plan *p, dnnl_primitive_desc_t *description, struct primitive *out) {
  status_t st = OK;
  DNNL_TRY_GOTO(dnnl_primitive_create(&out->handle, *description), done);
  md_view_t pad = dnnl_primitive_desc_query_md(*description, dnnl_query_scratchpad_md, 0);
  size_t bytes = pad ? dnnl_memory_desc_get_size(pad) : 0;
  if (bytes) {
    TRY_GOTO(primitive_bind(p, out, DNNL_ARG_SCRATCHPAD, pad), done);
    out->scratchpad = true;
    out->scratchpad_at = plan_reserve(p, bytes);
  }
done:
  (void)dnnl_primitive_desc_destroy(*description);
  *description = NULL;
  return st;
}

status_t primitive_bind(struct plan *p, struct primitive *out, int arg, md_view_t md) {
  dnnl_memory_t memory;
  DNNL_TRY(dnnl_memory_create(&memory, md, p->b->engine, DNNL_MEMORY_NONE));
  out->arg[out->count++] = (dnnl_exec_arg_t){arg, memory};
  return OK;
}

void primitive_destroy(struct primitive *primitive) {
  for (int i = 0; i < primitive->count; i++) (void)dnnl_memory_destroy(primitive->arg[i].memory);
  if (primitive->handle) (void)dnnl_primitive_destroy(primitive->handle);
  *primitive = (struct primitive){0};
}

void primitive_point(struct primitive *primitive, int arg, void *data) {
  for (int i = 0; i < primitive->count; i++) {
    if (primitive->arg[i].arg == arg) (void)dnnl_memory_set_data_handle(primitive->arg[i].memory, data);
  }
}

status_t primitive_run(struct plan *p, struct primitive *primitive, char *scratch) {
  if (primitive->scratchpad) primitive_point(primitive, DNNL_ARG_SCRATCHPAD, scratch + primitive->scratchpad_at);
  DNNL_TRY(dnnl_primitive_execute(primitive->handle, p->b->stream, primitive->count, primitive->arg));
  return OK;
}

static dnnl_status_t append_activation(dnnl_post_ops_t ops, activation_t a) {
  switch (a) {
  case ACT_RELU: return compat_append_eltwise(ops, dnnl_eltwise_relu, 0);
  case ACT_QUICKGELU: return compat_append_eltwise(ops, dnnl_eltwise_swish, 1.702f);
  case ACT_GELU_ERF: return compat_append_eltwise(ops, dnnl_eltwise_gelu_erf, 0);
  case ACT_SIGMOID: return compat_append_eltwise(ops, dnnl_eltwise_logistic, 0);
  case ACT_TANH: return compat_append_eltwise(ops, dnnl_eltwise_tanh, 0);
  default: return dnnl_success;
  }
}

status_t layer_attributes(struct plan *p, bool sum, activation_t a, md_view_t residual, bool residual_first,
                          dnnl_primitive_attr_t *out) {
  status_t st = OK;
  dnnl_primitive_attr_t attr = NULL;
  dnnl_post_ops_t ops = NULL;
  DNNL_TRY_GOTO(dnnl_primitive_attr_create(&attr), done);
  DNNL_TRY_GOTO(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user), done);
  DNNL_TRY_GOTO(dnnl_post_ops_create(&ops), done);
  if (sum) DNNL_TRY_GOTO(compat_append_sum(ops), done);
  bool first = residual && residual_first;
  if (first) DNNL_TRY_GOTO(dnnl_post_ops_append_binary(ops, dnnl_binary_add, residual), done);
  DNNL_TRY_GOTO(append_activation(ops, a), done);
  if (residual && !first) DNNL_TRY_GOTO(dnnl_post_ops_append_binary(ops, dnnl_binary_add, residual), done);
  DNNL_TRY_GOTO(dnnl_primitive_attr_set_post_ops(attr, ops), done);
  *out = attr;
  attr = NULL;
done:
  if (ops) (void)dnnl_post_ops_destroy(ops);
  if (attr) (void)dnnl_primitive_attr_destroy(attr);
  return st;
}

int layer_residual(const struct op *op) {
  bool second = op->attr.activation != ACT_NONE && !op->attr.residual_first;
  return DNNL_ARG_ATTR_MULTIPLE_POST_OP(second ? 1 : 0) | DNNL_ARG_SRC_1;
}

static struct link *layer_end(struct layer *l) {
  return l->link + l->links;
}

static void layer_release(struct plan *p) {
  struct layer *l = p->state;
  while (l) {
    struct layer *next = l->next;
    for (struct link *k = l->link; k < layer_end(l); k++) {
      primitive_destroy(&k->reorder);
      mem_free(&k->kept);
    }
    primitive_destroy(&l->main);
    mem_free(&l);
    l = next;
  }
  p->state = NULL;
}

static void layer_reset(struct plan *p) {
  for (struct layer *l = p->state; l; l = l->next) {
    for (struct link *k = l->link; k < layer_end(l); k++) {
      k->ready = false;
      mem_free(&k->kept);
    }
  }
}

static void link_cast(struct plan *p, const struct link *k, void *from, void *to, bool inward) {
  struct view x = {from, inward ? k->outer : k->inner}, y = {to, inward ? k->inner : k->outer};
  p->b->kernels->pointwise->cast(p->b->base.threads, k->count, x, y);
}

// The memory that the primitive gets for an input.
static status_t link_in(struct plan *p, struct link *k, void *data, char *scratch, void **out) {
  if (k->constant && k->ready) {
    *out = k->kept;
    return OK;
  }
  if (k->outer != k->inner || k->prepare) {
    void *to = scratch + k->cast_at;
    if (k->constant && !k->reorder.handle) {
      TRY(mem_alloc(&k->kept, (size_t)k->count, dtype_bytes(k->inner)));
      to = k->kept;
    }
    if (k->prepare) {
      k->prepare(p, data, to);
    } else {
      link_cast(p, k, data, to, true);
    }
    data = to;
  }
  if (k->reorder.handle) {
    void *to = scratch + k->layout_at;
    if (k->constant) {
      TRY(mem_alloc(&k->kept, k->layout_bytes, 1));
      to = k->kept;
    }
    primitive_point(&k->reorder, DNNL_ARG_FROM, data);
    primitive_point(&k->reorder, DNNL_ARG_TO, to);
    TRY(primitive_run(p, &k->reorder, scratch));
    data = to;
  }
  k->ready = k->kept != NULL;
  *out = data;
  return OK;
}

// After the primitive: from oneDNN's layout and type to the tensor's.
static status_t link_out(struct plan *p, struct link *k, void *const *operands, char *scratch) {
  bool cast = k->outer != k->inner;
  void *data = operands[k->operand];
  if (k->reorder.handle) {
    primitive_point(&k->reorder, DNNL_ARG_FROM, scratch + k->layout_at);
    primitive_point(&k->reorder, DNNL_ARG_TO, cast ? scratch + k->cast_at : data);
    TRY(primitive_run(p, &k->reorder, scratch));
  }
  void *from = cast ? scratch + k->cast_at : data;
  if (k->finish) {
    k->finish(p, operands, scratch, from, data);
  } else if (cast) {
    link_cast(p, k, from, data, false);
  }
  return OK;
}

// What an output holds before the primitive adds to it.
static void start(struct plan *p, const struct link *k, void *const *operands, void *data) {
  struct view from = view_of(&p->op.in[k->start], operands[k->start]), to = {data, k->inner};
  if (from.data != to.data) p->b->kernels->pointwise->cast(p->b->base.threads, k->count, from, to);
}

static status_t run_one(struct plan *p, struct layer *l, void *const *operands, char *scratch) {
  for (struct link *k = l->link; k < layer_end(l); k++) {
    void *data = (char *)operands[k->operand] + k->skip;
    if (!k->output) {
      TRY(link_in(p, k, data, scratch, &data));
    } else if (k->reorder.handle) {
      data = scratch + k->layout_at;
    } else if (k->outer != k->inner) {
      data = scratch + k->cast_at;
    }
    if (k->start) start(p, k, operands, data);
    primitive_point(&l->main, k->arg, data);
  }
  TRY(primitive_run(p, &l->main, scratch));
  for (struct link *k = l->link; k < layer_end(l); k++) {
    if (k->output) TRY(link_out(p, k, operands, scratch));
  }
  if (l->after) l->after(p, operands, scratch);
  return OK;
}

static status_t layer_run(struct plan *p, void *const *operands, char *scratch) {
  for (struct layer *l = p->state; l; l = l->next) TRY(run_one(p, l, operands, scratch));
  return OK;
}

status_t layer_begin(struct plan *p, struct layer **out) {
  TRY(mem_alloc(out, 1, sizeof **out));
  struct layer *last = p->state;
  while (last && last->next) last = last->next;
  if (last)
    last->next = *out;
  else
    p->state = *out;
  p->run = layer_run;
  p->reset = layer_reset;
  p->release = layer_release;
  return OK;
}

status_t layer_link(struct plan *p, struct layer *l, int operand, int arg, dtype_t inner, md_view_t plain,
                    md_view_t wanted) {
  return layer_link_part(p, l, operand, 0, arg, inner, plain, wanted);
}

status_t layer_link_prepared(struct plan *p, struct layer *l, int operand, int arg, dtype_t inner, md_view_t plain,
                             md_view_t wanted, void (*prepare)(const struct plan *p, const void *from, void *to)) {
  struct link *k = l->link + l->links;
  TRY(layer_link(p, l, operand, arg, inner, plain, wanted));
  k->prepare = prepare;
  if (k->outer == k->inner) k->cast_at = plan_reserve(p, (size_t)k->count * dtype_bytes(inner));
  return OK;
}

status_t layer_link_part(struct plan *p, struct layer *l, int operand, size_t skip, int arg, dtype_t inner,
                         md_view_t plain, md_view_t wanted) {
  struct link *k = l->link + l->links++;
  const struct op *op = &p->op;
  bool output = operand >= op->inputs;
  const struct tensor_desc *d = output ? &op->out[operand - op->inputs] : &op->in[operand];
  *k = (struct link){.operand = operand,
                     .arg = arg,
                     .output = output,
                     .outer = d->dtype,
                     .inner = inner,
                     .count = desc_count(d),
                     .skip = skip,
                     .constant = !output && op->constant >> operand & 1};
  if (k->outer != k->inner) k->cast_at = plan_reserve(p, (size_t)k->count * dtype_bytes(inner));
  if (!wanted || dnnl_memory_desc_equal(plain, wanted)) return primitive_bind(p, &l->main, arg, plain);
  k->layout_bytes = dnnl_memory_desc_get_size(wanted);
  k->layout_at = plan_reserve(p, k->layout_bytes);
  status_t st = OK;
  dnnl_primitive_attr_t attr = NULL;
  dnnl_primitive_desc_t description = NULL;
  md_view_t from = output ? wanted : plain, to = output ? plain : wanted;
  TRY_GOTO(layer_attributes(p, false, ACT_NONE, NULL, false, &attr), done);
  DNNL_TRY_GOTO(compat_reorder(&description, p->b->engine, from, to, attr), done);
  TRY_GOTO(primitive_create(p, &description, &k->reorder), done);
  TRY_GOTO(primitive_bind(p, &k->reorder, DNNL_ARG_FROM, from), done);
  TRY_GOTO(primitive_bind(p, &k->reorder, DNNL_ARG_TO, to), done);
  TRY_GOTO(primitive_bind(p, &l->main, arg, wanted), done);
done:
  if (attr) (void)dnnl_primitive_attr_destroy(attr);
  return st;
}
