// info.c: tells a thing by what stands in its folder, checks it, and prints what it holds.
#include "train/info.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/parse.h"
#include "data/pool.h"
#include "text/tokenizer.h"
#include "train/checkpoint.h"
#include "train/parameter_tree.h"
#include "train/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool holds(const char *path, const char *name) {
  char *full = NULL;
  if (file_join(&full, path, name) != OK) return false;
  bool there = file_exists(full);
  mem_free(&full);
  return there;
}

static double millions(int64_t n) {
  return 1e-6 * (double)n;
}

enum { TREE_LINES = 28 };

// What the sum of all parameters is, and what of it trains.
static void print_counts(const struct network *net, const struct model *m) {
  int64_t count = 0, trained = 0;
  size_t tensors = 0, buffers = 0;
  for (size_t i = 0; i < network_parameter_count(net); i++) {
    const struct network_parameter *p = network_parameter_at(net, i);
    if (parameter_is_buffer(p->name)) {
      buffers++;
      continue;
    }
    tensors++;
    count += desc_count(&p->desc);
    if (p->trained) trained += desc_count(&p->desc);
  }
  printf("parameters  %.2f million in %zu tensors", millions(count), tensors);
  printf(buffers ? ", and %zu buffers of BatchNorms\n" : "\n", buffers);
  printf("recipe      trains %.2f million (%s), %.2f million frozen or unused\n", millions(trained),
         m->arch->recipe.encoders ? "encoders too" : "the decoder", millions(count - trained));
}

// "3.58 GFLOP", "42.1 MiB": a number below `step` with its prefix and unit, in the caller's buffer.
enum { AMOUNT_TEXT = 32 };
static const char *amount(double x, double step, const char *const unit[4], char text[AMOUNT_TEXT]) {
  int i = 0;
  for (; x >= step && i < 3; i++) x /= step;
  (void)snprintf(text, AMOUNT_TEXT, "%.*f %s", x < 10 ? 2 : x < 100 ? 1 : 0, x, unit[i]);
  return text;
}

static const char *operations(double flops, char text[AMOUNT_TEXT]) {
  static const char *const unit[4] = {"FLOP", "kFLOP", "MFLOP", "GFLOP"};
  return amount(flops, 1000, unit, text);
}

static const char *memory(double bytes, char text[AMOUNT_TEXT]) {
  static const char *const unit[4] = {"bytes", "KiB", "MiB", "GiB"};
  return amount(bytes, 1024, unit, text);
}

// Floating-point operations and memory of a batch under the recipe, as the reference backend plans it.
static status_t print_cost(struct network *net, const struct model *m, int batch) {
  static const char *const what[SOURCES] = {"picture", "prompt"};
  struct network_cost c;
  char text[3][AMOUNT_TEXT];
  TRY(network_cost(net, batch, &c));
  double arena = (double)network_arena_count(net) * sizeof(float);
  printf("step        batch %d at %d pixels: %s an image; %s of activations, %s of weights that train, their gradients "
         "and moments\n",
         batch, m->preprocess.size, operations(c.step_flops / batch, text[0]), memory((double)c.step_bytes, text[1]),
         memory(4 * arena, text[2]));
  printf("evaluation  batch %d: %s an image; %s of activations\n", batch, operations(c.forward_flops / batch, text[0]),
         memory((double)c.forward_bytes, text[1]));
  for (int s = 0; s < SOURCES; s++) {
    size_t bytes = network_feature_bytes(net, (source_t)s);
    if (!bytes) continue;
    printf("feature     of each distinct %s, once: %s, %s\n", what[s], operations(c.feature_flops[s], text[0]),
           memory((double)bytes, text[1]));
  }
  return OK;
}

// Building the network checks the weights' names and shapes against config.json.
static status_t print_network(const struct model *m, int batch) {
  status_t st = OK;
  struct backend *backend = NULL;
  struct network *net = NULL;
  TRY_GOTO(backend_create("reference", 1, &backend), done);
  struct network_options o = {
      .size = m->preprocess.size, .train = true, .encoders = m->arch->recipe.encoders, .shapes_only = true};
  TRY_GOTO(network_create(m, backend, &o, &net), done);
  print_counts(net, m);
  TRY_GOTO(parameter_tree_print(net, TREE_LINES, stdout), done);
  TRY_GOTO(print_cost(net, m, batch ? batch : m->arch->recipe.batch), done);
done:
  network_destroy(&net);
  backend_destroy(&backend);
  return st;
}

static status_t print_model(const char *path, int batch) {
  status_t st = OK;
  struct model *m = NULL;
  struct tokenizer *t = NULL;
  int limit, vocabulary;
  TRY_GOTO(model_open(path, &m), done);
  m->arch->text(m->config, &limit, &vocabulary);
  printf("model       %s\n", path);
  printf("arch        %s\n", m->arch->name);
  printf("size        %d pixels\n", m->preprocess.size);
  printf("weights     %s\n", m->has_weights ? "in the directory" : "none: drawn from a seed (init: random)");
  TRY_GOTO(print_network(m, batch), done);
  if (limit == 0) {
    printf("tokenizer   none: the model takes no prompts\n");
  } else if (tokenizer_load(path, limit, &t) == OK) {
    printf("tokenizer   %d tokens, texts of up to %d\n", tokenizer_size(t), limit);
    if (tokenizer_size(t) > vocabulary) {
      FAIL_GOTO(done, ERR_FORMAT, "%s: the tokenizer has %d tokens, the model's table %d rows", path, tokenizer_size(t),
                vocabulary);
    }
  } else {
    printf("tokenizer   none (%s)\n", status_message());
  }
done:
  tokenizer_destroy(&t);
  model_close(&m);
  return st;
}

// Every file that state.json names: its bytes and SHA-256.
static status_t check_files(const char *path, const json_t *state) {
  const char *name;
  json_t *entry;
  size_t count = 0;
  json_object_foreach(json_object_get(state, "files"), name, entry) {
    char *full = NULL;
    const char *hex;
    struct key want, met;
    uint64_t bytes;
    int64_t stated;
    TRY(json_get_int(entry, name, "bytes", 0, INT64_MAX, &stated));
    TRY(json_get_text(entry, name, "sha256", &hex));
    TRY(key_parse(hex, &want));
    TRY(file_join(&full, path, name));
    status_t st = file_size(full, &bytes);
    if (st == OK && (uint64_t)stated != bytes) {
      st = FAIL(ERR_FORMAT, "%s has %llu bytes, state.json says %lld", full, (unsigned long long)bytes,
                (long long)stated);
    }
    if (st == OK) st = key_sha256_file(full, &met);
    if (st == OK && !key_equal(&want, &met))
      st = FAIL(ERR_FORMAT, "%s does not have the SHA-256 that state.json names", full);
    mem_free(&full);
    TRY(st);
    count++;
  }
  printf("files       %zu, checksums verified\n", count);
  return OK;
}

static status_t print_checkpoint(const char *path, int batch) {
  char *file = NULL;
  json_t *state = NULL;
  TRY(file_join(&file, path, "state.json"));
  status_t st = checkpoint_read_state(file, &state);
  if (st == OK) {
    const char *best = json_string_value(json_object_get(state, "best")); // exact, as hexadecimal floating point
    printf("checkpoint  step %lld, epoch %lld", (long long)json_integer_value(json_object_get(state, "step")),
           (long long)json_integer_value(json_object_get(state, "epoch")));
    printf(best ? ", best validation Dice %.4f\n" : "\n", best ? strtod(best, NULL) : 0.0);
    const char *const keys[] = {"numerics", "cpu"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
      const char *text = json_string_value(json_object_get(state, keys[i]));
      if (text) printf("%-11s %s\n", keys[i], text);
    }
    st = check_files(path, state);
  }
  if (st == OK) st = print_model(path, batch);
  json_decref(state);
  mem_free(&file);
  return st;
}

static status_t print_run(const char *path, int batch) {
  status_t st = OK;
  char *file = NULL;
  json_t *status = NULL;
  printf("run         %s\n", path);
  if (holds(path, "status.json")) {
    TRY_GOTO(file_join(&file, path, "status.json"), done);
    TRY_GOTO(json_read(file, &status), done);
    const char *text = json_string_value(json_object_get(status, "status"));
    printf("status      %s, epoch %lld, step %lld\n", text ? text : "unknown",
           (long long)json_integer_value(json_object_get(status, "epoch")),
           (long long)json_integer_value(json_object_get(status, "step")));
  }
  const char *const parts[] = {"config.yaml", "curves.csv", "cells.csv", "samples.h5", "masks"};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    if (holds(path, parts[i])) printf("holds       %s\n", parts[i]);
  }
  const char *const links[] = {"checkpoints/best", "checkpoints/last"};
  for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
    if (!holds(path, links[i])) continue;
    mem_free(&file);
    TRY_GOTO(file_join(&file, path, links[i]), done);
    printf("-- %s\n", links[i]);
    TRY_GOTO(print_checkpoint(file, batch), done);
  }
done:
  json_decref(status);
  mem_free(&file);
  return st;
}

static bool is_store(const char *path) {
  char **names = NULL;
  size_t count;
  bool found = false;
  if (file_list(path, &names, &count) != OK) return false;
  for (size_t i = 0; i < count; i++) {
    size_t n = strlen(names[i]);
    found = found || (!strncmp(names[i], "shard-", 6) && n > 3 && !strcmp(names[i] + n - 3, ".h5"));
  }
  file_free_names(&names, count);
  return found;
}

static const char usage[] =
    "usage: gridseg info PATH [--batch N]\n"
    "What a pool, model directory, checkpoint, feature store or run holds; verifies its checksums.\n"
    "  --batch N   of a model: operations and memory at this batch (default: the recipe's)\n";

static status_t read_arguments(int argc, char **argv, const char **path, int *batch) {
  *path = NULL;
  *batch = 0;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--batch") && i + 1 < argc) {
      TRY(parse_small("--batch", argv[++i], 1, 1 << 14, batch));
    } else if (argv[i][0] == '-' || *path) {
      return FAIL(ERR_ARG, "%s", usage);
    } else {
      *path = argv[i];
    }
  }
  return *path ? OK : FAIL(ERR_ARG, "%s", usage);
}

status_t info_command(int argc, char **argv) {
  const char *path;
  int batch;
  if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
    (void)fputs(usage, stdout);
    return OK;
  }
  TRY(read_arguments(argc, argv, &path, &batch));
  if (!file_is_directory(path)) return FAIL(ERR_ARG, "%s is not a folder", path);
  if (holds(path, "pool.json")) return pool_print_info(path, stdout);
  if (holds(path, "state.json")) return print_checkpoint(path, batch);
  if (holds(path, "config.json")) return print_model(path, batch);
  if (holds(path, "checkpoints") || holds(path, "cells.csv")) return print_run(path, batch);
  if (is_store(path)) return store_print_info(path);
  return FAIL(
      ERR_ARG,
      "%s holds no pool (pool.json), model (config.json), checkpoint (state.json), run (checkpoints or cells.csv) "
      "or store (shard-*.h5)",
      path);
}
