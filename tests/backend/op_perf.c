// op_perf.c: how fast a backend is on the cases of op_cases.c. One JSON line a case, on stdout; nothing is asserted.
//   op_perf --backend NAME [--filter TEXT] [--dtype fp32|bf16|fp64] [--threads N] [--repeats N] [--all]
// TEXT: part of the text of an operation ("LINEAR forward"). Without --all: the shapes of a step of the models.
// Weights are constant for the plan, as in a frozen tower. seconds: least and middle of the repeats, after two to warm up.
#include "op_device.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
  const char *backend, *filter;
  dtype_t type;
  int threads, repeats;
  bool all;
};

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double bytes_moved(const struct op *op) {
  size_t bytes = 0;
  for (int i = 0; i < op->inputs; i++) bytes += op->in[i].dtype ? desc_bytes(&op->in[i]) : 0;
  for (int i = 0; i < op->outputs; i++) bytes += op->out[i].dtype ? desc_bytes(&op->out[i]) : 0;
  return (double)bytes;
}

static status_t print_line(const struct options *o, const struct backend *b, const struct op *op, double *seconds) {
  char text[OP_TEXT];
  qsort(seconds, (size_t)o->repeats, sizeof *seconds, by_value);
  json_t *line = json_object();
  TRY(json_put(line, "op", json_string(op_text(op, text))));
  TRY(json_put(line, "backend", json_string(b->ops->name)));
  TRY(json_put(line, "threads", json_integer(b->threads)));
  TRY(json_put(line, "repeats", json_integer(o->repeats)));
  TRY(json_put(line, "seconds_least", json_real(seconds[0])));
  TRY(json_put(line, "seconds_middle", json_real(seconds[o->repeats / 2])));
  TRY(json_put(line, "gflops", json_real(1e-9 * op_flops(op) / seconds[0])));
  TRY(json_put(line, "gbytes", json_real(1e-9 * bytes_moved(op) / seconds[0])));
  char *dump = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(5));
  json_decref(line);
  if (!dump) return FAIL(ERR_NOMEM, "no memory for a line");
  (void)printf("%s\n", dump);
  (void)fflush(stdout);
  free(dump);
  return OK;
}

// Positive numbers below 1: zeros would draw less power and so run faster than real data. Ids are 1,
// lengths full, and the winner of a window is its middle.
static void fill_values(const struct op *op, const struct op_values *v) {
  struct rng r;
  rng_init(&r, 1, 0);
  for (int i = 0; i < op->inputs; i++) {
    int64_t n = op->in[i].dtype == DTYPE_NONE ? 0 : desc_count(&op->in[i]);
    for (int64_t k = 0; k < n; k++) {
      if (op->in[i].dtype == DTYPE_I32) {
        bool length = op->kind == OP_ATTENTION && op->in[i].rank == 1;
        ((int32_t *)v->in[i])[k] = length ? (int32_t)op->in[op->direction == FORWARD ? 1 : 2].dim[1] : 1;
      } else if (op->in[i].dtype == DTYPE_U8) {
        int middle = op->attr.pad[0] * op->attr.kernel[1] + op->attr.pad[1];
        ((uint8_t *)v->in[i])[k] = (uint8_t)(op->kind == OP_POOL ? middle : k & 1);
      } else {
        ((double *)v->in[i])[k] = rng_uniform(&r);
      }
    }
  }
}

static status_t time_case(const struct options *o, struct backend *b, const struct op *op) {
  enum { WARM = 2 };
  static const int adamw[OP_MAX_OUT] = {0, 2, 3, -1};
  status_t st = OK;
  struct op_values v = {0};
  struct op_device d = {.backend = b};
  double *seconds = NULL;
  TRY_GOTO(op_values_allocate(op, &v), done);
  fill_values(op, &v);
  TRY_GOTO(mem_alloc(&seconds, (size_t)o->repeats, sizeof *seconds), done);
  TRY_GOTO(op_device_create(b, op, &v, op->kind == OP_ADAMW ? adamw : NULL, &d), done);
  for (int i = -WARM; i < o->repeats; i++) {
    double start = clock_seconds();
    TRY_GOTO(op_device_run(&d), done);
    if (i >= 0) seconds[i] = clock_seconds() - start;
  }
  TRY_GOTO(print_line(o, b, op, seconds), done);
done:
  op_device_destroy(&d);
  mem_free(&seconds);
  op_values_destroy(&v);
  return st;
}

static status_t time_all(const struct options *o) {
  status_t st = OK;
  struct backend *b = NULL;
  struct op_case *cases = NULL;
  size_t count;
  char text[OP_TEXT];
  TRY_GOTO(backend_create(o->backend, o->threads, &b), done);
  TRY_GOTO(op_cases_create(&cases, &count), done);
  for (size_t i = 0; i < count; i++) {
    struct op op = op_of_type(&cases[i].op, o->type);
    bool weights = op.kind == OP_LINEAR || op.kind == OP_CONV || op.kind == OP_CONV_TRANSPOSE;
    if (weights && op.direction != BACKWARD_WEIGHT) op.constant = 1u << 1;
    if ((!o->all && cases[i].size != CASE_PERF) || !strstr(op_text(&op, text), o->filter)) continue;
    if (b->ops->supports(b, &op)) {
      TRY_GOTO(time_case(o, b, &op), done);
    } else {
      (void)fprintf(stderr, "%s refuses %s\n", o->backend, text);
    }
  }
done:
  mem_free(&cases);
  backend_destroy(&b);
  return st;
}

static status_t read_options(int argc, char **argv, struct options *o) {
  static const struct option known[] = {{"backend", required_argument, NULL, 'b'},
                                        {"filter", required_argument, NULL, 'f'},
                                        {"dtype", required_argument, NULL, 'd'},
                                        {"threads", required_argument, NULL, 't'},
                                        {"repeats", required_argument, NULL, 'r'},
                                        {"all", no_argument, NULL, 'a'},
                                        {NULL, 0, NULL, 0}};
  int c;
  *o = (struct options){.backend = "auto", .filter = "", .type = DTYPE_F32, .threads = 0, .repeats = 10};
  while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
    switch (c) {
    case 'b': o->backend = optarg; break;
    case 'f': o->filter = optarg; break;
    case 'd':
      o->type = DTYPE_F32;
      while (o->type <= DTYPE_BF16 && strcmp(optarg, dtype_name(o->type))) o->type++;
      if (o->type > DTYPE_BF16) return FAIL(ERR_ARG, "--dtype must be fp32, fp64 or bf16, met '%s'", optarg);
      break;
    case 't': o->threads = atoi(optarg); break;
    case 'r': o->repeats = atoi(optarg); break;
    case 'a': o->all = true; break;
    default: return FAIL(ERR_ARG, "see the head of op_perf.c for the options");
    }
  }
  if (o->repeats < 1) return FAIL(ERR_ARG, "--repeats must be at least 1");
  return OK;
}

int main(int argc, char **argv) {
  struct options o;
  status_t st = read_options(argc, argv, &o);
  if (st == OK) st = time_all(&o);
  if (st != OK) (void)fprintf(stderr, "%s\n%s", status_message(), status_trail());
  return status_exit_code(st);
}
