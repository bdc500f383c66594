// multihead.c: torch.nn.MultiheadAttention, and the sine codes of positions.
#include "base/mem.h"
#include "nn/net.h"

#include <math.h>

struct value *nn_project(struct net *n, struct value *x, struct value *w, struct value *b, int part) {
  if (!x || !w || !b) return NULL;
  int64_t width = w->desc.dim[1];
  return graph_linear(n->g, x, graph_slice(n->g, w, 0, part * width, width),
                      graph_slice(n->g, b, 0, part * width, width));
}

struct value *nn_multihead_attention(struct net *n, const char *name, struct value *query, struct value *key,
                                     struct value *value, const struct multihead_spec *s) {
  if (!query || !key || !value) return NULL;
  struct net_scope scope = net_enter(n, "%s", name);
  int64_t width = desc_columns(&query->desc);
  struct value *w = nn_parameter(n, "in_proj_weight", &TENSOR_DESC(n->g->real, 3 * width, width), s->in);
  struct value *b = nn_parameter(n, "in_proj_bias", &TENSOR_DESC(n->g->real, 3 * width), (struct init){INIT_ZEROS, 0});
  struct value *q = nn_project(n, query, w, b, 0); // [B,T,D]
  struct value *k = nn_project(n, key, w, b, 1);   // [B,S,D]
  struct value *v = nn_project(n, value, w, b, 2);
  struct attention_extra extra = {.length = s->length};
  nn_attention_dropout(n, query->desc.dim[0], s->dropout, &extra);
  double scale = 1.0 / sqrt((double)(width / s->heads));
  struct value *y = graph_attention_with(n->g, q, k, v, s->heads, scale, s->causal, &extra);
  y = nn_linear(n, "out_proj", y, width, s->out);
  net_leave(n, scope);
  return y;
}

struct init nn_multihead_init(int64_t width) {
  return (struct init){INIT_UNIFORM, sqrt(6.0 / (4.0 * (double)width))};
}

static double sine_code(int64_t position, int64_t channel, int64_t width) {
  double angle = (double)position * pow(10000.0, -(double)(channel - channel % 2) / (double)width);
  return channel % 2 ? cos(angle) : sin(angle);
}

// A constant [1,rows,columns] that takes over nothing: `table` is freed.
static struct value *constant(struct net *n, int64_t rows, int64_t columns, double **table) {
  struct value *v = graph_constant(n->g, &TENSOR_DESC(n->g->real, 1, rows, columns), *table);
  mem_free(table);
  return v;
}

static double *new_table(struct net *n, int64_t rows, int64_t columns) {
  double *table = NULL;
  status_t st = n->g->status;
  if (st == OK) st = mem_alloc(&table, (size_t)(rows * columns), sizeof *table);
  if (n->g->status == OK) n->g->status = st;
  return table;
}

struct value *nn_sine_code(struct net *n, int64_t length, int64_t width) {
  double *table = new_table(n, length, width);
  if (!table) return NULL;
  for (int64_t p = 0; p < length; p++) {
    for (int64_t c = 0; c < width; c++) table[p * width + c] = sine_code(p, c, width);
  }
  return constant(n, length, width, &table);
}

struct value *nn_sine_code_2d(struct net *n, int64_t high, int64_t wide, int64_t channels) {
  double *table = new_table(n, high * wide, channels);
  if (!table) return NULL;
  int64_t half = channels / 2;
  for (int64_t p = 0; p < high * wide; p++) {
    for (int64_t c = 0; c < channels; c++) {
      table[p * channels + c] = c < half ? sine_code(p % wide, c, half) : sine_code(p / wide, c - half, half);
    }
  }
  return constant(n, high * wide, channels, &table);
}
