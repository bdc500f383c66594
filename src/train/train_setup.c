// train_setup.c: from the command line to a network that is ready for its first step.
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "train/logit.h"
#include "train/stop.h"
#include "train/trainer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// FILE.yaml and overrides in any order of options: --device X is device=X.
static status_t read_config(struct trainer *t, int argc, char **argv) {
  status_t st = OK;
  const char *path = NULL;
  char **overrides = NULL, *device = NULL;
  size_t count = 0;
  TRY(mem_alloc(&overrides, (size_t)argc + 1, sizeof *overrides));
  for (int i = 1; i < argc; i++) {
    if (!strncmp(argv[i], "--device", 8) && (argv[i][8] == '=' || (!argv[i][8] && i + 1 < argc))) {
      mem_free(&device);
      TRY_GOTO(mem_format(&device, "device=%s", argv[i][8] ? argv[i] + 9 : argv[i + 1]), done);
      i += !argv[i][8];
    } else if (argv[i][0] == '-') {
      FAIL_GOTO(done, ERR_ARG, "train: unknown option '%s' (gridseg train --help)", argv[i]);
    } else if (strchr(argv[i], '=')) {
      overrides[count++] = argv[i];
    } else if (path) {
      FAIL_GOTO(done, ERR_ARG, "train: one FILE.yaml is wanted, met '%s' and '%s'", path, argv[i]);
    } else {
      path = argv[i];
    }
  }
  if (device) overrides[count++] = device;
  if (!path) FAIL_GOTO(done, ERR_ARG, "train: FILE.yaml is missing (gridseg train --help)");
  TRY_GOTO(config_read(&train_table, path, overrides, count, &t->config), done);
done:
  mem_free(&device);
  mem_free(&overrides);
  return st;
}

// Every rank has read the file itself: on a machine of its own it may have met another one.
static status_t same_config(struct trainer *t) {
  char *mine, *first = NULL;
  TRY(config_to_yaml(t->config, &mine));
  status_t st = mem_copy_text(&first, mine);
  if (st == OK) st = trainer_broadcast_text(t, &first);
  if (st == OK && strcmp(mine, first)) {
    st = FAIL(ERR_ARG, "rank %d has read another configuration than rank 0", comm_rank(t->comm));
  }
  mem_free(&first);
  free(mine);
  return trainer_agree(t, st);
}

static status_t open_model(struct trainer *t, const char *directory) {
  model_close(&t->model);
  TRY(model_open(directory, &t->model));
  return OK;
}

static status_t open_first_model(struct trainer *t) {
  TRY(open_model(t, config_text(t->config, "model")));
  bool random = !strcmp(config_text(t->config, "init"), "random");
  if (!random && !t->model->has_weights) {
    return CONFIG_FAIL(t->config, "model", "%s holds no weights (model.safetensors); init: random starts without",
                       t->model->directory);
  }
  if (random) t->model->has_weights = false;
  return train_config_resolve(t->config, t->model->arch, &t->o);
}

// A run that goes on reads its weights, and everything else of the model, from its checkpoint.
static status_t open_resumed_model(struct trainer *t) {
  char *path;
  TRY(checkpoint_path(t->o.out, t->resumed, &path));
  status_t st = open_model(t, path);
  mem_free(&path);
  return st;
}

// Buckets: small first, so that communication starts early in the backward pass, then large enough to be bandwidth bound.
enum { BUCKET_FIRST = 1 << 20, BUCKET_REST = 8 << 20 };

static status_t exchange(void *context, double *values, size_t count) {
  return comm_sum_f64(context, values, count);
}

static status_t open_network(struct trainer *t) {
  if (t->statistics && t->o.sync_batchnorm) {
    t->o.network.exchange = exchange;
    t->o.network.exchange_context = t->statistics;
  }
  TRY(backend_create(t->o.device, t->o.threads, &t->backend));
  TRY(network_create(t->model, t->backend, &t->o.network, &t->network));
  TRY(optimizer_create(t->network, t->backend, &t->o.optimizer, &t->optimizer));
  if (t->resumed >= 0) TRY(checkpoint_load_optimizer(t->o.out, t->resumed, t->network, t->optimizer));
  return OK;
}

static status_t open_scratch(struct trainer *t) {
  size_t n = (size_t)batches_largest(t->train), v = t->val ? (size_t)batches_largest(t->val) : 0;
  size_t most = n > v ? n : v, side = (size_t)t->o.network.size;
  TRY(mem_alloc(&t->loss, most, sizeof *t->loss));
  TRY(mem_alloc(&t->sums, most, sizeof *t->sums));
  TRY(mem_alloc(&t->logits, most, side * side * sizeof *t->logits));
  size_t planes = (size_t)network_planes(t->network);
  if (t->o.quirks_study && planes > 1) TRY(mem_alloc(&t->planes, v * side * side * planes, sizeof *t->planes));
  t->cut = logit_cut(t->o.threshold);
  plateau_init(&t->plateau, t->o.lr, t->o.plateau_factor, t->o.plateau_patience);
  early_stop_init(&t->early_stop, t->o.stop_patience, t->o.stop_delta, t->o.stop_min_epochs);
  t->at = (struct position){.best_step = -1};
  return OK;
}

static void say_what(const struct trainer *t) {
  int64_t trained = 0, all = 0;
  for (size_t i = 0; i < network_parameter_count(t->network); i++) {
    const struct network_parameter *p = network_parameter_at(t->network, i);
    all += desc_count(&p->desc);
    if (p->trained) trained += desc_count(&p->desc);
  }
  log_info("%s: %.2f of %.2f million parameters trained, %s, %d rank%s of %d thread%s", t->model->arch->name,
           1e-6 * (double)trained, 1e-6 * (double)all, t->o.precision_name, comm_size(t->comm),
           comm_size(t->comm) > 1 ? "s" : "", t->o.threads, t->o.threads > 1 ? "s" : "");
  log_info("%lld training samples, batch %lld, %lld steps an epoch; %lld validation samples; out: %s",
           (long long)batches_samples(t->train), (long long)t->o.batch, (long long)batches_steps(t->train),
           (long long)(t->val ? batches_samples(t->val) : 0), t->o.out);
}

static status_t configure(struct trainer *t, int argc, char **argv) {
  TRY(read_config(t, argc, argv));
  return open_first_model(t);
}

status_t trainer_open(struct trainer *t, int argc, char **argv) {
  TRY(trainer_agree(t, configure(t, argc, argv)));
  TRY(same_config(t));
  stop_set_clock(t->o.stop_before_minutes, t->o.stop_after_minutes);
  if (!t->o.threads) TRY(comm_share_cores(t->comm, &t->o.threads));
  TRY(trainer_open_out(t));
  if (t->resumed >= 0) TRY(trainer_agree(t, open_resumed_model(t)));
  if (comm_size(t->comm) > 1) TRY(comm_duplicate(t->comm, &t->statistics));
  TRY(trainer_agree(t, open_network(t)));
  TRY(trainer_open_data(t));
  TRY(trainer_agree(t, open_scratch(t)));
  TRY(trainer_agree(t, trainer_load_state(t)));
  TRY(trainer_agree(t, trainer_open_curves(t)));
  TRY(bucket_create(t->comm, network_gradients(t->network), network_arena_count(t->network), BUCKET_FIRST, BUCKET_REST,
                    &t->buckets));
  say_what(t);
  t->started = t->checkpointed = clock_seconds();
  return OK;
}

void trainer_close(struct trainer *t) {
  mem_free(&t->planes);
  mem_free(&t->logits);
  mem_free(&t->sums);
  mem_free(&t->loss);
  bucket_destroy(&t->buckets);
  events_close(&t->events);
  curves_close(&t->curves);
  trainer_close_data(t);
  optimizer_destroy(&t->optimizer);
  network_destroy(&t->network);
  backend_destroy(&t->backend);
  model_close(&t->model);
  checkpoints_close(&t->checkpoints);
  json_decref(t->resumed_state);
  t->resumed_state = NULL;
  if (t->lock >= 0) (void)close(t->lock);
  config_destroy(&t->config);
}
