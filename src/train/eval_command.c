// eval_command.c: gridseg eval FILE.yaml [key=value ...]: one model, several pools and prompts, alone or on ranks.
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "train/eval.h"
#include "train/eval_record.h"
#include "train/inference.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

// Part of every cell's key: raised when the same logits would give other numbers.
enum { EVALUATION_VERSION = 1 };

static const char usage[] = "usage: gridseg eval FILE.yaml [key=value ...]   (gridseg eval --help lists the keys)";

struct session {
  struct comm *comm;
  struct config *config;
  struct model *model;
  struct provenance provenance;
  struct eval_options options;
  struct tokenizer *tokenizer;
  struct backend *backend;
  struct network *network;
  struct store *store;
  struct key model_key;
  struct pool **pools;
  char **labels; // [pool_count] of tables and folders
  int pool_count;
  struct eval_cell *cells;    // [pool_count][prompt_count]
  struct eval_record *record; // rank 0
  char device[160];
  int cores;  // of this rank
  bool alone; // in work whose failure the other ranks have not been told of
};

static status_t open_pools(struct session *s) {
  size_t n = config_count(s->config, "pools.test");
  TRY(mem_alloc(&s->pools, n, sizeof *s->pools));
  TRY(mem_alloc(&s->labels, n, sizeof *s->labels));
  for (size_t i = 0; i < n; i++) {
    TRY(pool_open(s->options.root, config_item(s->config, "pools.test", i), s->options.split, s->options.network.size,
                  0, &s->pools[i]));
    bool test = strcmp(s->options.split, "test") == 0;
    s->pool_count++;
    TRY(mem_format(&s->labels[i], "%s%s%s", pool_get_info(s->pools[i])->name, test ? "" : "-",
                   test ? "" : s->options.split));
  }
  for (int p = 0; p < s->options.prompt_count; p++) {
    const struct evaluate_prompt *prompt = &s->options.prompts[p];
    bool found = prompt->type != PROMPT_KIND;
    for (int i = 0; i < s->pool_count; i++) found = found || pool_find_kind(s->pools[i], prompt->text) >= 0;
    if (!found) {
      return CONFIG_FAIL(s->config, "prompts", "no pool has prompts of kind %s; a literal text stands in quotes",
                         prompt->text);
    }
  }
  return OK;
}

static status_t key_of_cell(const struct session *s, struct eval_cell *cell) {
  status_t st = OK;
  struct key_builder *b = NULL;
  const struct eval_options *o = &s->options;
  const struct pool_info *info = pool_get_info(cell->pool);
  TRY_GOTO(key_begin(&b, "cell"), done);
  TRY_GOTO(key_add_int(b, "evaluation", EVALUATION_VERSION), done);
  TRY_GOTO(key_add_key(b, "model", &s->model_key), done);
  TRY_GOTO(key_add_text(b, "name", o->name), done);
  TRY_GOTO(key_add_key(b, "pool", &info->key), done);
  TRY_GOTO(key_add_text(b, "pool name", cell->pool_label), done);
  TRY_GOTO(key_add_int(b, "prompt type", cell->prompt->type), done);
  TRY_GOTO(key_add_text(b, "prompt", cell->prompt->text), done);
  TRY_GOTO(key_add_text(b, "shift", ""), done);
  if (o->network.study && network_planes(s->network) > 1) TRY_GOTO(key_add_text(b, "planes", "study"), done);
  if (o->pad) TRY_GOTO(key_add_text(b, "texts", "padded"), done);
  TRY_GOTO(key_add_text(b, "precision", o->precision_name), done);
  TRY_GOTO(key_add_text(b, "loss", o->loss_name), done);
  TRY_GOTO(key_add_real(b, "threshold", o->threshold), done);
  TRY_GOTO(key_add_int(b, "network", o->resolutions[RESOLUTION_NETWORK]), done);
  TRY_GOTO(key_add_int(b, "original", o->resolutions[RESOLUTION_ORIGINAL]), done);
  TRY_GOTO(key_add_int(b, "seed", (int64_t)o->seed), done);
  TRY_GOTO(key_add_text(b, "numerics", s->backend->ops->numerics(s->backend)), done);
  TRY_GOTO(key_finish(&b, &cell->key), done);
done:
  (void)key_finish(&b, NULL);
  return st;
}

// Everything that a rank can do for itself.
static status_t open_session(struct session *s, const char *path, char *const *overrides, size_t count) {
  TRY(config_read(&eval_table, path, overrides, count, &s->config));
  TRY(model_open(config_text(s->config, "model"), &s->model));
  TRY(provenance_read(s->model->directory, &s->provenance));
  TRY(eval_config_resolve(s->config, s->model, &s->provenance, &s->options));
  if (s->options.threads == 0) s->options.threads = s->cores;
  TRY(open_pools(s));
  if (model_has_text(s->model)) TRY(inference_load_tokenizer(s->model, &s->tokenizer));
  TRY(backend_create(s->options.device, s->options.threads, &s->backend));
  inference_name_device(s->backend, s->device, sizeof s->device);
  if (!s->model->has_weights) log_warn("%s has no weights: they are drawn at random", s->model->directory);
  TRY(network_create(s->model, s->backend, &s->options.network, &s->network));
  if (strcmp(s->options.store_dir, "none") != 0) {
    uint64_t share = s->options.store_memory / (uint64_t)comm_local_size(s->comm);
    TRY(store_open(s->options.store_dir, share, comm_rank(s->comm), &s->store));
  }
  if (comm_rank(s->comm) == 0) {
    TRY(provenance_model_key(s->model, s->tokenizer, s->options.seed, &s->model_key));
    TRY(eval_record_open(s->options.out, &s->record));
  }
  return OK;
}

static status_t list_cells(struct session *s) {
  int prompts = s->options.prompt_count;
  TRY(mem_alloc(&s->cells, (size_t)s->pool_count * (size_t)prompts, sizeof *s->cells));
  for (int i = 0; i < s->pool_count * prompts; i++) {
    struct eval_cell *cell = &s->cells[i];
    cell->pool = s->pools[i / prompts];
    cell->pool_label = s->labels[i / prompts];
    cell->prompt = &s->options.prompts[i % prompts];
    TRY(key_of_cell(s, cell));
  }
  return OK;
}

// The prompts that are still to do on pool i: indices in todo[*count], the same on all ranks.
static status_t find_work(struct session *s, int i, int *todo, int *count) {
  int prompts = s->options.prompt_count;
  *count = 0;
  for (int p = 0; s->record && p < prompts; p++) {
    if (!eval_record_has(s->record, &s->cells[i * prompts + p], s->options.masks)) todo[(*count)++] = p;
  }
  status_t st = OK;
  for (int k = 0; st == OK && s->record && s->options.masks && k < *count; k++) {
    st = eval_record_begin_masks(s->record, &s->cells[i * prompts + todo[k]]);
  }
  TRY(comm_agree(s->comm, st));
  TRY(comm_broadcast(s->comm, count, sizeof *count, 0));
  return comm_broadcast(s->comm, todo, (size_t)prompts * sizeof *todo, 0);
}

// Rank 0: rows are sorted by (prompt, sample), prompts as in the job.
static status_t record_pool(struct session *s, int i, const int *todo, int count, const struct evaluate_row *rows,
                            size_t row_count, double seconds) {
  struct eval_context context = {.options = &s->options,
                                 .provenance = &s->provenance,
                                 .device = s->device,
                                 .leak = -1,
                                 .seconds = seconds / count};
  TRY(provenance_count_leaks(&s->provenance, s->options.root, s->pools[i], &context.leak));
  if (context.leak > 0) {
    log_warn("%s: %lld test images are among the images that the model was trained on", s->labels[i],
             (long long)context.leak);
  }
  size_t at = 0;
  for (int k = 0; k < count; k++) {
    const struct eval_cell *cell = &s->cells[i * s->options.prompt_count + todo[k]];
    size_t first = at;
    while (at < row_count && rows[at].prompt == k) at++;
    TRY(eval_record_put(s->record, cell, rows + first, at - first, &context));
    if (s->options.masks && cell->prompt->type != PROMPT_RANDOM) TRY(eval_record_end_masks(s->record, cell));
  }
  return eval_record_save(s->record);
}

static status_t evaluate_one(struct session *s, int i) {
  status_t st = OK;
  const struct eval_options *o = &s->options;
  struct evaluate_row *rows = NULL;
  struct evaluate_prompt *prompts = NULL;
  char *masks = NULL;
  int *todo = NULL, count = 0;
  size_t row_count = 0;
  double start = clock_seconds();
  TRY_GOTO(mem_alloc(&todo, (size_t)o->prompt_count, sizeof *todo), done);
  TRY_GOTO(mem_alloc(&prompts, (size_t)o->prompt_count, sizeof *prompts), done);
  TRY_GOTO(mem_format(&masks, "%s/masks/%s", o->out, s->labels[i]), done);
  TRY_GOTO(find_work(s, i, todo, &count), done);
  if (count < o->prompt_count)
    log_info("%s: %d of %d cells are there already", s->labels[i], o->prompt_count - count, o->prompt_count);
  if (count == 0) goto done;
  for (int k = 0; k < count; k++) prompts[k] = o->prompts[todo[k]];
  const struct evaluate_job job = {.model = s->model,
                                   .study = o->network.study,
                                   .pad = o->pad,
                                   .network = s->network,
                                   .tokenizer = s->tokenizer,
                                   .store = s->store,
                                   .keep_features = s->store != NULL,
                                   .comm = s->comm,
                                   .pool = s->pools[i],
                                   .prompts = prompts,
                                   .prompt_count = count,
                                   .size = o->network.size,
                                   .threshold = o->threshold,
                                   .batch = o->batch,
                                   .threads = o->threads,
                                   .resolutions = {o->resolutions[0], o->resolutions[1]},
                                   .mask_directory = o->masks ? masks : NULL};
  s->alone = true; // until the ranks have agreed
  TRY_GOTO(evaluate_pool(&job, &rows, &row_count), done);
  if (s->record) st = record_pool(s, i, todo, count, rows, row_count, clock_seconds() - start);
  st = comm_agree(s->comm, st);
  s->alone = false;
done:
  mem_free(&rows);
  mem_free(&masks);
  mem_free(&prompts);
  mem_free(&todo);
  return st;
}

static status_t run(struct session *s, const char *path, char *const *overrides, size_t count) {
  TRY(comm_share_cores(s->comm, &s->cores));
  TRY(comm_agree(s->comm, open_session(s, path, overrides, count)));
  TRY(comm_broadcast(s->comm, &s->model_key, sizeof s->model_key, 0));
  TRY(comm_agree(s->comm, list_cells(s)));
  for (int i = 0; i < s->pool_count; i++) TRY(evaluate_one(s, i));
  if (s->record) {
    resolution_t shown = s->options.resolutions[RESOLUTION_ORIGINAL] ? RESOLUTION_ORIGINAL : RESOLUTION_NETWORK;
    eval_record_print(s->record, s->cells, s->pool_count, s->options.prompt_count, shown, stdout);
    if (fflush(stdout) != 0) return FAIL(ERR_IO, "cannot write the table to standard output");
  }
  return OK;
}

static void close_session(struct session *s) {
  eval_record_close(&s->record);
  mem_free(&s->cells);
  store_close(&s->store);
  network_destroy(&s->network);
  backend_destroy(&s->backend);
  tokenizer_destroy(&s->tokenizer);
  for (int i = 0; i < s->pool_count; i++) {
    pool_close(&s->pools[i]);
    mem_free(&s->labels[i]);
  }
  mem_free(&s->labels);
  mem_free(&s->pools);
  mem_free(&s->options.prompts);
  provenance_free(&s->provenance);
  model_close(&s->model);
  config_destroy(&s->config);
  // A rank that failed alone leaves without finalising: that is how the launcher learns that it must end the others.
  if (!s->alone) comm_destroy(&s->comm);
}

status_t eval_command(int argc, char **argv) {
  static const struct option options[] = {
      {"device", required_argument, NULL, 'd'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
  struct session s = {0};
  char *device = NULL, **overrides = NULL;
  optind = 0;
  opterr = 0;
  status_t st = OK;
  for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
    switch (c) {
    case 'd':
      mem_free(&device);
      TRY_GOTO(mem_format(&device, "device=%s", optarg), done);
      break;
    case 'h':
      (void)puts(usage);
      config_print_help(stdout, &eval_table);
      goto done;
    case ':': FAIL_GOTO(done, ERR_ARG, "%s wants a value\n%s", argv[optind - 1], usage);
    default: FAIL_GOTO(done, ERR_ARG, "unknown option %s\n%s", argv[optind - 1], usage);
    }
  }
  if (optind == argc) FAIL_GOTO(done, ERR_ARG, "FILE.yaml is missing\n%s", usage);
  size_t count = (size_t)(argc - optind) - 1;
  TRY_GOTO(mem_alloc(&overrides, count + 1, sizeof *overrides), done);
  for (size_t i = 0; i < count; i++) overrides[i] = argv[optind + 1 + (int)i];
  if (device) overrides[count++] = device;
  TRY_GOTO(comm_create(&s.comm), done);
  TRY_GOTO(run(&s, argv[optind], overrides, count), done);
done:
  close_session(&s);
  mem_free(&overrides);
  mem_free(&device);
  return st;
}
