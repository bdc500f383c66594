// net.c: scopes and the smallest blocks.
#include "nn/net.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct net_scope net_enter(struct net *n, const char *format, ...) {
  struct net_scope kept = {strlen(n->scope)};
  va_list args;
  va_start(args, format);
  size_t room = sizeof n->scope - kept.length;
  int used = vsnprintf(n->scope + kept.length, room, format, args);
  va_end(args);
  if (used < 0 || (size_t)used + 2 > room) {
    if (n->g->status == OK) n->g->status = FAIL(ERR_ARG, "the parameter scope '%s' is too long", n->scope);
    return kept;
  }
  n->scope[kept.length + (size_t)used] = '.';
  n->scope[kept.length + (size_t)used + 1] = '\0';
  return kept;
}

void net_leave(struct net *n, struct net_scope kept) {
  n->scope[kept.length] = '\0';
}

struct value *nn_parameter(struct net *n, const char *name, const struct tensor_desc *desc, struct init init) {
  char full[2 * NET_NAME];
  (void)snprintf(full, sizeof full, "%s%s", n->scope, name);
  struct value *known = graph_find(n->g, full);
  if (known && desc_equal(&known->desc, desc)) return known;
  // torch.optim.AdamW decays every parameter that it is given, norms and biases too, and so did the study.
  return graph_parameter(n->g, full, desc, init, n->trained(n->context, full), true);
}

static struct tensor_desc vector(const struct net *n, int64_t length) {
  return TENSOR_DESC(n->g->real, length);
}

// `bias` NULL: none.
static struct value *linear(struct net *n, const char *name, struct value *x, int64_t out, struct init init,
                            const struct init *bias) {
  if (!x) return NULL;
  struct net_scope s = net_enter(n, "%s", name);
  struct value *w = nn_parameter(n, "weight", &TENSOR_DESC(n->g->real, out, desc_columns(&x->desc)), init);
  struct tensor_desc each = vector(n, out);
  struct value *y = graph_linear(n->g, x, w, bias ? nn_parameter(n, "bias", &each, *bias) : NULL);
  net_leave(n, s);
  return y;
}

struct value *nn_linear(struct net *n, const char *name, struct value *x, int64_t out, struct init init) {
  return linear(n, name, x, out, init, &(struct init){INIT_ZEROS, 0});
}

struct value *nn_linear_plain(struct net *n, const char *name, struct value *x, int64_t out, struct init init) {
  return linear(n, name, x, out, init, NULL);
}

struct value *nn_linear_with(struct net *n, const char *name, struct value *x, int64_t out, struct init weight,
                             struct init bias) {
  return linear(n, name, x, out, weight, &bias);
}

struct value *nn_linear_default(struct net *n, const char *name, struct value *x, int64_t out) {
  if (!x) return NULL;
  struct init init = nn_default_init(desc_columns(&x->desc));
  return linear(n, name, x, out, init, &init);
}

struct value *nn_layernorm(struct net *n, const char *name, struct value *x, double epsilon) {
  if (!x) return NULL;
  struct net_scope s = net_enter(n, "%s", name);
  struct tensor_desc d = vector(n, desc_columns(&x->desc));
  struct value *gamma = nn_parameter(n, "weight", &d, (struct init){INIT_ONES, 1});
  struct value *beta = nn_parameter(n, "bias", &d, (struct init){INIT_ZEROS, 0});
  struct value *y = graph_layernorm(n->g, x, gamma, beta, epsilon);
  net_leave(n, s);
  return y;
}

struct init nn_default_init(int64_t fan_in) {
  return (struct init){INIT_UNIFORM, 1.0 / sqrt((double)fan_in)};
}

struct value *nn_conv(struct net *n, const char *name, struct value *x, int64_t out, int kernel, int stride, int pad) {
  if (!x) return NULL;
  struct net_scope s = net_enter(n, "%s", name);
  int64_t in = desc_columns(&x->desc);
  struct init init = nn_default_init(in * kernel * kernel);
  struct tensor_desc b = vector(n, out);
  struct value *w = nn_parameter(n, "weight", &TENSOR_DESC(n->g->real, out, in, kernel, kernel), init);
  struct value *y = graph_conv(n->g, x, w, nn_parameter(n, "bias", &b, init), stride, pad);
  net_leave(n, s);
  return y;
}

struct value *nn_conv_transpose(struct net *n, const char *name, struct value *x, int64_t out, int kernel, int stride) {
  if (!x) return NULL;
  struct net_scope s = net_enter(n, "%s", name);
  int64_t in = desc_columns(&x->desc);
  struct init init = nn_default_init(out * kernel * kernel);
  struct tensor_desc b = vector(n, out);
  struct value *w = nn_parameter(n, "weight", &TENSOR_DESC(n->g->real, in, out, kernel, kernel), init);
  struct value *y = graph_conv_transpose(n->g, x, w, nn_parameter(n, "bias", &b, init), stride, 0);
  net_leave(n, s);
  return y;
}

struct value *nn_conv2d(struct net *n, const char *name, struct value *x, const struct conv_spec *c) {
  if (!x) return NULL;
  struct net_scope s = net_enter(n, "%s", name);
  int groups = c->groups ? c->groups : 1, dilation = c->dilation ? c->dilation : 1;
  int64_t in = desc_columns(&x->desc) / groups;
  struct value *w = nn_parameter(n, "weight", &TENSOR_DESC(n->g->real, c->out, in, c->kernel, c->kernel), c->init);
  struct tensor_desc each = vector(n, c->out);
  struct init bias = c->zero_bias ? (struct init){INIT_ZEROS, 0} : nn_default_init(in * c->kernel * c->kernel);
  struct value *b = c->bias ? nn_parameter(n, "bias", &each, bias) : NULL;
  struct value *y = graph_conv_grouped(n->g, x, w, b, c->stride, c->pad, dilation, groups);
  net_leave(n, s);
  return y;
}

// A buffer of the state dict: no gradient, no decay; tracked when the layer trains.
static struct value *buffer(struct net *n, const char *name, const struct tensor_desc *desc, struct init init) {
  struct value *v = nn_parameter(n, name, desc, init);
  if (!v) return NULL;
  v->tracked = v->tracked || v->trained;
  v->trained = v->decay = false;
  return v;
}

struct value *nn_batchnorm(struct net *n, const char *name, struct value *x, double gamma) {
  if (!x) return NULL;
  const double epsilon = 1e-5, momentum = 0.1;
  struct net_scope s = net_enter(n, "%s", name);
  struct tensor_desc d = vector(n, desc_columns(&x->desc));
  struct value *weight = nn_parameter(n, "weight", &d, (struct init){INIT_CONSTANT, gamma});
  struct value *bias = nn_parameter(n, "bias", &d, (struct init){INIT_ZEROS, 0});
  struct value *mean = buffer(n, "running_mean", &d, (struct init){INIT_ZEROS, 0});
  struct value *var = buffer(n, "running_var", &d, (struct init){INIT_ONES, 1});
  (void)buffer(n, "num_batches_tracked", &(struct tensor_desc){.dtype = n->g->real}, (struct init){INIT_ZEROS, 0});
  bool batch = n->training && mean && mean->tracked;
  struct value *y = batch ? graph_batchnorm(n->g, x, weight, bias, mean, var, epsilon, momentum)
                          : graph_batchnorm_fixed(n->g, x, weight, bias, mean, var, epsilon);
  net_leave(n, s);
  return y;
}

// The input that says which draw this is: int32 [B,4] = seed low, seed high, step, sample.
static struct value *noise(struct net *n, int64_t batch) {
  struct value *known = graph_find(n->g, "noise");
  return known ? known : graph_input(n->g, "noise", &TENSOR_DESC(DTYPE_I32, batch, 4));
}

struct value *nn_dropout(struct net *n, struct value *x, double p) {
  if (!x) return NULL;
  int stream = n->streams++;
  if (!n->training || p <= 0) return x;
  return graph_dropout(n->g, x, noise(n, x->desc.dim[0]), p, stream);
}

void nn_attention_dropout(struct net *n, int64_t batch, double p, struct attention_extra *extra) {
  int stream = n->streams++;
  if (!n->training || p <= 0) return;
  extra->noise = noise(n, batch);
  extra->dropout = p;
  extra->stream = stream;
}
