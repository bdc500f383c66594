// bench.c: the models of published size with drawn weights, timed as the rival scripts in tests/bench time PyTorch: medians over
// steps, from inside one process. Beside them the way of the data: packing, and reading what was packed.
#include "train/bench.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "base/parse.h"
#include "base/rng.h"
#include "data/pool_bench.h"
#include "train/network.h"
#include "train/optimizer.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MAX_BATCH = 256, MAX_STEPS = 1000, WORDS = 16 }; // a p6 prompt has about 16 tokens

// A published configuration, in the keys that differ from the defaults, and the batch that its rival is timed with.
struct published {
  const char *name, *config;
  int batch, size;
  int32_t first, last; // tokens of a text
};

static const struct published published[] = {
    {"clipseg",
     "{\"model_type\": \"clipseg\", \"use_complex_transposed_convolution\": true,\n"
     " \"text_config\": {\"model_type\": \"clipseg_text_model\"},\n"
     " \"vision_config\": {\"model_type\": \"clipseg_vision_model\", \"patch_size\": 16}}\n",
     4, 352, 49406, 49407},
    {"biomedclipseg", "{\"model_type\": \"biomedclipseg\", \"use_complex_transposed_convolution\": true}\n", 8, 224, 2,
     3},
    {"cris", "{\"model_type\": \"cris\"}\n", 2, 416, 49406, 49407},
    {"unet", "{\"_model_class\": \"Unet\", \"encoder_name\": \"resnet50\"}\n", 8, 256, 0, 0},
    {"unetpp", "{\"_model_class\": \"UnetPlusPlus\", \"encoder_name\": \"resnet50\"}\n", 8, 256, 0, 0},
    {"deeplabv3plus", "{\"_model_class\": \"DeepLabV3Plus\", \"encoder_name\": \"resnet50\"}\n", 8, 256, 0, 0},
};

// STORE: a training step whose features are there already; TOWERS: the same with the frozen towers running; TRAIN: everything
// trains; EVAL: towers and the rest, forward.
typedef enum { CASE_STORE, CASE_TOWERS, CASE_TRAIN, CASE_EVAL, CASE_READ, CASE_PACK } case_kind_t;

struct bench_case {
  const char *name, *model;
  case_kind_t kind;
  precision_t precision;
};

#define BOTH(model, how, kind)                                                                                         \
  {model "_" how "_fp32", model, kind, PRECISION_FP32}, {                                                              \
    model "_" how "_bf16", model, kind, PRECISION_BF16                                                                 \
  }
static const struct bench_case cases[] = {
    BOTH("clipseg", "train_towers", CASE_TOWERS),
    BOTH("clipseg", "train_store", CASE_STORE),
    BOTH("clipseg", "eval", CASE_EVAL),
    BOTH("biomedclipseg", "train_towers", CASE_TOWERS),
    BOTH("biomedclipseg", "train_store", CASE_STORE),
    BOTH("biomedclipseg", "eval", CASE_EVAL),
    BOTH("cris", "train", CASE_TRAIN),
    BOTH("cris", "eval", CASE_EVAL),
    BOTH("unet", "train", CASE_TRAIN),
    BOTH("unet", "eval", CASE_EVAL),
    BOTH("unetpp", "train", CASE_TRAIN),
    BOTH("unetpp", "eval", CASE_EVAL),
    BOTH("deeplabv3plus", "train", CASE_TRAIN),
    BOTH("deeplabv3plus", "eval", CASE_EVAL),
    {"read_pool", NULL, CASE_READ, PRECISION_FP32},
    {"pack", NULL, CASE_PACK, PRECISION_FP32},
};

// What was asked for on the command line; 0: as the case has it.
struct bench {
  int threads, batch, steps, size;
  bool profile;
  const char *backend, *source, *split;
  bench_pack *pack;
};

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static long peak_mib(void) {
  struct rusage use;
  (void)getrusage(RUSAGE_SELF, &use);
  return use.ru_maxrss / 1024;
}

// One case of a model under way.
struct run {
  const struct bench *b;
  const struct bench_case *c;
  int batch, size;
  struct model *model;
  struct backend *machine;
  struct network *net;
  struct optimizer *optimizer;
  uint8_t *pixels, *masks; // [batch,S,S,3], [batch,S,S]
  int32_t ids[WORDS];
  struct network_sample sample[MAX_BATCH];
  char *feature[SOURCES]; // of all samples; NULL where the source has none
  float *logits, loss[MAX_BATCH], sums[MAX_BATCH][4];
};

static void report_steps(const struct run *r, double *seconds) {
  int steps = r->b->steps;
  qsort(seconds, (size_t)steps, sizeof *seconds, by_value);
  double median = seconds[steps / 2];
  printf("{\"name\": \"%s\", \"value\": %.4f, \"unit\": \"images/s\", \"seconds\": %.6f, \"least_seconds\": %.6f, "
         "\"steps\": %d, \"batch\": %d, \"threads\": %d, \"peak_mib\": %ld, \"numerics\": \"%s\"}\n",
         r->c->name, r->batch / median, median, seconds[0], steps, r->batch, r->machine->threads, peak_mib(),
         r->machine->ops->numerics(r->machine));
  (void)fflush(stdout);
}

static void report_samples(const struct bench_case *c, int size, double samples_per_second) {
  printf(
      "{\"name\": \"%s\", \"value\": %.4f, \"unit\": \"samples/s\", \"size\": %d, \"threads\": 1, \"peak_mib\": %ld}\n",
      c->name, samples_per_second, size, peak_mib());
  (void)fflush(stdout);
}

static status_t open_published(struct run *r, const struct published *p) {
  status_t st = OK;
  char folder[] = "/tmp/gridseg-bench-XXXXXX";
  char *path = NULL;
  if (!mkdtemp(folder)) return FAIL(ERR_IO, "cannot make a folder like %s", folder);
  TRY_GOTO(file_join(&path, folder, "config.json"), done);
  TRY_GOTO(file_write_atomic(path, p->config, strlen(p->config)), done);
  TRY_GOTO(model_open(folder, &r->model), done);
done:
  mem_free(&path);
  CLEANUP(file_remove_tree(folder));
  return st;
}

static status_t draw_inputs(struct run *r, const struct published *p) {
  size_t picture = (size_t)r->size * (size_t)r->size * 3;
  struct rng g;
  TRY(mem_alloc(&r->pixels, (size_t)r->batch, picture));
  TRY(mem_alloc(&r->masks, (size_t)r->batch, picture / 3));
  TRY(mem_alloc(&r->logits, (size_t)r->batch, picture / 3 * sizeof *r->logits));
  rng_init(&g, 1, 2);
  for (size_t i = 0; i < (size_t)r->batch * picture; i++) r->pixels[i] = (uint8_t)rng_u32(&g);
  for (size_t i = 0; i < (size_t)r->batch * picture / 3; i++) r->masks[i] = rng_u32(&g) & 1;
  for (int i = 0; i < WORDS; i++)
    r->ids[i] = i == 0 ? p->first : i == WORDS - 1 ? p->last : (int32_t)rng_below(&g, 29000);
  return OK;
}

static status_t run_start(struct run *r, const struct published *p) {
  TRY(open_published(r, p));
  TRY(backend_create(r->b->backend, r->b->threads, &r->machine));
  TRY(draw_inputs(r, p));
  struct network_options o = {.precision = r->c->precision,
                              .size = r->size,
                              .train = r->c->kind != CASE_EVAL,
                              .encoders = r->c->kind == CASE_TRAIN,
                              .loss = LOSS_DICE_CE,
                              .profile = r->b->profile,
                              .seed = 1};
  struct optimizer_options adam = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .clip = 0.5};
  adam.weight_decay = r->model->arch->recipe.weight_decay;
  TRY(network_create(r->model, r->machine, &o, &r->net));
  if (o.train) TRY(optimizer_create(r->net, r->machine, &adam, &r->optimizer));
  for (int s = 0; s < SOURCES; s++) {
    size_t bytes = network_feature_bytes(r->net, (source_t)s);
    if (bytes) TRY(mem_alloc(&r->feature[s], (size_t)r->batch, bytes));
  }
  size_t area = (size_t)r->size * (size_t)r->size;
  for (int i = 0; i < r->batch; i++) {
    size_t at = (size_t)i;
    r->sample[i] = (struct network_sample){.image = r->pixels + at * area * 3,
                                           .condition = r->ids,
                                           .length = WORDS,
                                           .mask = r->masks + at * area,
                                           .number = i};
    if (r->feature[SOURCE_IMAGE])
      r->sample[i].image = r->feature[SOURCE_IMAGE] + at * network_feature_bytes(r->net, SOURCE_IMAGE);
    if (r->feature[SOURCE_CONDITION])
      r->sample[i].condition = r->feature[SOURCE_CONDITION] + at * network_feature_bytes(r->net, SOURCE_CONDITION);
  }
  return OK;
}

static void run_stop(struct run *r) {
  for (int s = 0; s < SOURCES; s++) mem_free(&r->feature[s]);
  optimizer_destroy(&r->optimizer);
  network_destroy(&r->net);
  mem_free(&r->logits);
  mem_free(&r->masks);
  mem_free(&r->pixels);
  backend_destroy(&r->machine);
  model_close(&r->model);
}

static status_t run_towers(struct run *r) {
  size_t picture = (size_t)r->size * (size_t)r->size * 3;
  for (int i = 0; i < r->batch; i++) {
    for (int s = 0; s < SOURCES; s++) {
      size_t bytes = network_feature_bytes(r->net, (source_t)s);
      const void *input = s == SOURCE_IMAGE ? (const void *)(r->pixels + (size_t)i * picture) : r->ids;
      if (!bytes) continue;
      TRY(network_compute_feature(r->net, (source_t)s, input, s == SOURCE_IMAGE ? 0 : WORDS,
                                  r->feature[s] + (size_t)i * bytes));
    }
  }
  return OK;
}

static status_t run_step(struct run *r, int step) {
  double norm;
  if (r->c->kind == CASE_EVAL) return network_forward(r->net, r->sample, r->batch, r->logits);
  TRY(network_step(r->net, r->sample, r->batch, 1.0 / r->batch, step, NULL, r->loss, r->sums, NULL));
  TRY(optimizer_norm(r->optimizer, &norm));
  return optimizer_step(r->optimizer, norm, r->model->arch->recipe.lr);
}

static status_t time_model(const struct bench *b, const struct bench_case *c) {
  status_t st = OK;
  const struct published *p = published;
  double seconds[MAX_STEPS];
  while (strcmp(p->name, c->model)) p++;
  struct run r = {.b = b, .c = c, .batch = b->batch ? b->batch : p->batch, .size = b->size ? b->size : p->size};
  TRY_GOTO(run_start(&r, p), done);
  if (c->kind == CASE_STORE) TRY_GOTO(run_towers(&r), done);
  for (int i = -2; i < b->steps; i++) { // two steps to warm up
    double start = clock_seconds();
    if (c->kind != CASE_STORE) TRY_GOTO(run_towers(&r), done);
    TRY_GOTO(run_step(&r, i + 2), done);
    if (i >= 0) seconds[i] = clock_seconds() - start;
  }
  report_steps(&r, seconds);
  if (b->profile) TRY_GOTO(network_print_profile(r.net, stdout), done);
done:
  run_stop(&r);
  return st;
}

static status_t time_case(const struct bench *b, const struct bench_case *c) {
  double rate;
  int size = b->size ? b->size : published[0].size;
  if (c->model) return time_model(b, c);
  if (c->kind == CASE_PACK && !b->source)
    return FAIL(ERR_ARG, "pack wants --source DIR, a dataset in the study's layout");
  if (c->kind == CASE_PACK) {
    TRY(b->pack(b->source, b->split, size, &rate));
  } else {
    TRY(pool_bench_read(size, &rate));
  }
  report_samples(c, size, rate);
  return OK;
}

static const char usage[] =
    "usage: gridseg bench [--threads N] [--batch N] [--steps N] [--size N] [--backend NAME] [--profile]\n"
    "                     [--source DIR] [--split S] [NAME ...]\n"
    "Times the main paths on this machine: a JSON line each. NAME: cases by the beginning of their name (clipseg, "
    "cris_train,\n"
    "unet_eval_bf16 ...). Batch and size: those of the published model, where not given.\n"
    "pack packs split S (train) of DIR, a dataset in the study's layout; without --source it is left out.\n";

static status_t parse(struct bench *b, int argc, char **argv, bool *help) {
  static const struct option options[] = {
      {"threads", required_argument, NULL, 't'}, {"batch", required_argument, NULL, 'b'},
      {"steps", required_argument, NULL, 's'},   {"size", required_argument, NULL, 'z'},
      {"backend", required_argument, NULL, 'k'}, {"profile", no_argument, NULL, 'p'},
      {"source", required_argument, NULL, 'd'},  {"split", required_argument, NULL, 'l'},
      {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
  *help = false;
  optind = 1;
  for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
    switch (c) {
    case 't': TRY(parse_small("--threads", optarg, 0, 4096, &b->threads)); break;
    case 'b': TRY(parse_small("--batch", optarg, 1, MAX_BATCH, &b->batch)); break;
    case 's': TRY(parse_small("--steps", optarg, 1, MAX_STEPS, &b->steps)); break;
    case 'z': TRY(parse_small("--size", optarg, 16, 4096, &b->size)); break;
    case 'k': b->backend = optarg; break;
    case 'd': b->source = optarg; break;
    case 'l': b->split = optarg; break;
    case 'p': b->profile = true; break;
    case 'h': *help = true; return OK;
    default: return FAIL(ERR_ARG, "%s", usage);
    }
  }
  return OK;
}

static bool is_wanted(const struct bench *b, const struct bench_case *c, int names, char **name) {
  if (names == 0) return c->kind != CASE_PACK || b->source;
  for (int k = 0; k < names; k++) {
    if (!strncmp(c->name, name[k], strlen(name[k]))) return true;
  }
  return false;
}

status_t bench_command(int argc, char **argv, bench_pack *how_to_pack) {
  struct bench b = {.steps = 11, .backend = "auto", .split = "train", .pack = how_to_pack};
  bool help, any = false;
  TRY(parse(&b, argc, argv, &help));
  if (help) {
    (void)fputs(usage, stdout);
    return OK;
  }
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    if (!is_wanted(&b, &cases[i], argc - optind, argv + optind)) continue;
    any = true;
    TRY(time_case(&b, &cases[i]));
  }
  return any ? OK : FAIL(ERR_ARG, "no case begins with '%s'", argv[optind]);
}
