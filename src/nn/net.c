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

static struct value *linear(struct net *n, const char *name, struct value *x, int64_t out, struct init init,
                            bool bias) {
  if (!x) return NULL;
  struct net_scope s = net_enter(n, "%s", name);
  struct value *w = nn_parameter(n, "weight", &TENSOR_DESC(n->g->real, out, desc_columns(&x->desc)), init);
  struct tensor_desc b = vector(n, out);
  struct value *y = graph_linear(n->g, x, w, bias ? nn_parameter(n, "bias", &b, (struct init){INIT_ZEROS, 0}) : NULL);
  net_leave(n, s);
  return y;
}

struct value *nn_linear(struct net *n, const char *name, struct value *x, int64_t out, struct init init) {
  return linear(n, name, x, out, init, true);
}

struct value *nn_linear_plain(struct net *n, const char *name, struct value *x, int64_t out, struct init init) {
  return linear(n, name, x, out, init, false);
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

// torch's default for convolutions: uniform within 1/sqrt(fan_in), where fan_in = w.size(1) * kh * kw, for w and b.
static struct init torch_default(int64_t fan_in) {
  return (struct init){INIT_UNIFORM, 1.0 / sqrt((double)fan_in)};
}

struct value *nn_conv(struct net *n, const char *name, struct value *x, int64_t out, int kernel, int stride, int pad) {
  if (!x) return NULL;
  struct net_scope s = net_enter(n, "%s", name);
  int64_t in = desc_columns(&x->desc);
  struct init init = torch_default(in * kernel * kernel);
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
  struct init init = torch_default(out * kernel * kernel);
  struct tensor_desc b = vector(n, out);
  struct value *w = nn_parameter(n, "weight", &TENSOR_DESC(n->g->real, in, out, kernel, kernel), init);
  struct value *y = graph_conv_transpose(n->g, x, w, nn_parameter(n, "bias", &b, init), stride, 0);
  net_leave(n, s);
  return y;
}
