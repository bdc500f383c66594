// bench.c: CLIPSeg of published size with drawn weights, timed as the rival scripts in tests/bench time PyTorch: batch 4 at 352, medians
// over steps, from inside one process. Beside it the way of the data: packing, and reading what was packed.
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

struct bench {
  int threads, batch, steps, size;
  bool profile;
  const char *backend, *source, *split;
  bench_pack *pack;
  struct model *model; // with what follows made for the first case that wants it
  struct backend *machine;
  uint8_t *pixels, *masks; // [batch,S,S,3], [batch,S,S]
  int32_t ids[WORDS];
};

struct bench_case {
  const char *name;
  status_t (*run)(struct bench *b, const struct bench_case *c);
  bool model; // wants the model, its backend and a batch of pictures
  precision_t precision;
};

// The published configuration (CIDAS/clipseg-rd64-refined) in the few keys that differ from the defaults.
static const char published[] = "{\"model_type\": \"clipseg\", \"use_complex_transposed_convolution\": true,\n"
                                " \"text_config\": {\"model_type\": \"clipseg_text_model\"},\n"
                                " \"vision_config\": {\"model_type\": \"clipseg_vision_model\", \"patch_size\": 16}}\n";

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static long peak_mib(void) {
  struct rusage use;
  (void)getrusage(RUSAGE_SELF, &use);
  return use.ru_maxrss / 1024;
}

static void report_steps(const struct bench *b, const struct bench_case *c, double *seconds) {
  qsort(seconds, (size_t)b->steps, sizeof *seconds, by_value);
  double median = seconds[b->steps / 2];
  printf("{\"name\": \"%s\", \"value\": %.4f, \"unit\": \"images/s\", \"seconds\": %.6f, \"least_seconds\": %.6f, "
         "\"steps\": %d, \"batch\": %d, \"threads\": %d, \"peak_mib\": %ld, \"numerics\": \"%s\"}\n",
         c->name, b->batch / median, median, seconds[0], b->steps, b->batch, b->machine->threads, peak_mib(),
         b->machine->ops->numerics(b->machine));
  (void)fflush(stdout);
}

static void report_samples(const struct bench *b, const struct bench_case *c, double samples_per_second) {
  printf(
      "{\"name\": \"%s\", \"value\": %.4f, \"unit\": \"samples/s\", \"size\": %d, \"threads\": 1, \"peak_mib\": %ld}\n",
      c->name, samples_per_second, b->size, peak_mib());
  (void)fflush(stdout);
}

struct run {
  struct network *net;
  struct optimizer *optimizer;
  struct network_sample sample[MAX_BATCH];
  char *feature[SOURCES]; // of all samples
  float loss[MAX_BATCH], sums[MAX_BATCH][4];
};

static status_t run_start(struct bench *b, const struct bench_case *c, struct run *r) {
  memset(r, 0, sizeof *r);
  struct network_options o = {.precision = c->precision,
                              .size = b->size,
                              .train = true,
                              .loss = LOSS_DICE_CE,
                              .profile = b->profile,
                              .seed = 1};
  struct optimizer_options adam = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 1e-3, .clip = 0.5};
  TRY(network_create(b->model, b->machine, &o, &r->net));
  TRY(optimizer_create(r->net, b->machine, &adam, &r->optimizer));
  for (int s = 0; s < SOURCES; s++) {
    TRY(mem_alloc(&r->feature[s], (size_t)b->batch * network_feature_bytes(r->net, (source_t)s), 1));
  }
  size_t mask = (size_t)b->size * (size_t)b->size;
  for (int i = 0; i < b->batch; i++) {
    r->sample[i] = (struct network_sample){
        .image = r->feature[SOURCE_IMAGE] + (size_t)i * network_feature_bytes(r->net, SOURCE_IMAGE),
        .condition = r->feature[SOURCE_CONDITION] + (size_t)i * network_feature_bytes(r->net, SOURCE_CONDITION),
        .length = WORDS,
        .mask = b->masks + (size_t)i * mask};
  }
  return OK;
}

static void run_stop(struct run *r) {
  for (int s = 0; s < SOURCES; s++) mem_free(&r->feature[s]);
  optimizer_destroy(&r->optimizer);
  network_destroy(&r->net);
}

static status_t run_towers(struct bench *b, struct run *r) {
  size_t picture = (size_t)b->size * (size_t)b->size * 3;
  for (int i = 0; i < b->batch; i++) {
    TRY(network_compute_feature(r->net, SOURCE_IMAGE, b->pixels + (size_t)i * picture, 0,
                                (void *)(uintptr_t)r->sample[i].image));
    TRY(network_compute_feature(r->net, SOURCE_CONDITION, b->ids, WORDS, (void *)(uintptr_t)r->sample[i].condition));
  }
  return OK;
}

static status_t run_step(struct bench *b, struct run *r) {
  double norm;
  TRY(network_step(r->net, r->sample, b->batch, 1.0 / b->batch, 0, NULL, r->loss, r->sums, NULL));
  TRY(optimizer_norm(r->optimizer, &norm));
  return optimizer_step(r->optimizer, norm, 2e-3);
}

static status_t train_case(struct bench *b, const struct bench_case *c, bool towers) {
  status_t st = OK;
  struct run r;
  double seconds[MAX_STEPS];
  TRY_GOTO(run_start(b, c, &r), done);
  TRY_GOTO(run_towers(b, &r), done);
  for (int i = -2; i < b->steps; i++) { // two steps to warm up
    double start = clock_seconds();
    if (towers) TRY_GOTO(run_towers(b, &r), done);
    TRY_GOTO(run_step(b, &r), done);
    if (i >= 0) seconds[i] = clock_seconds() - start;
  }
  report_steps(b, c, seconds);
  if (b->profile) TRY_GOTO(network_print_profile(r.net, stdout), done);
done:
  run_stop(&r);
  return st;
}

static status_t train_towers(struct bench *b, const struct bench_case *c) {
  return train_case(b, c, true);
}
static status_t train_store(struct bench *b, const struct bench_case *c) {
  return train_case(b, c, false);
}

static status_t read_pool(struct bench *b, const struct bench_case *c) {
  double rate;
  TRY(pool_bench_read(b->size, &rate));
  report_samples(b, c, rate);
  return OK;
}

static status_t pack(struct bench *b, const struct bench_case *c) {
  double rate;
  if (!b->source) return FAIL(ERR_ARG, "pack wants --source DIR, a dataset in the study's layout");
  TRY(b->pack(b->source, b->split, b->size, &rate));
  report_samples(b, c, rate);
  return OK;
}

static const struct bench_case cases[] = {
    {"clipseg_train_towers_fp32", train_towers, true, PRECISION_FP32},
    {"clipseg_train_towers_bf16", train_towers, true, PRECISION_BF16},
    {"clipseg_train_store_fp32", train_store, true, PRECISION_FP32},
    {"clipseg_train_store_bf16", train_store, true, PRECISION_BF16},
    {"read_pool", read_pool, false, PRECISION_FP32},
    {"pack", pack, false, PRECISION_FP32},
};

static status_t prepare(struct bench *b) {
  status_t st = OK;
  char folder[] = "/tmp/gridseg-bench-XXXXXX";
  char *path = NULL;
  size_t picture = (size_t)b->size * (size_t)b->size * 3;
  struct rng r;
  if (!mkdtemp(folder)) return FAIL(ERR_IO, "cannot make a folder like %s", folder);
  TRY_GOTO(file_join(&path, folder, "config.json"), done);
  TRY_GOTO(file_write_atomic(path, published, sizeof published - 1), done);
  TRY_GOTO(model_open(folder, &b->model), done);
  TRY_GOTO(backend_create(b->backend, b->threads, &b->machine), done);
  TRY_GOTO(mem_alloc(&b->pixels, (size_t)b->batch, picture), done);
  TRY_GOTO(mem_alloc(&b->masks, (size_t)b->batch, picture / 3), done);
  rng_init(&r, 1, 2);
  for (size_t i = 0; i < (size_t)b->batch * picture; i++) b->pixels[i] = (uint8_t)rng_u32(&r);
  for (size_t i = 0; i < (size_t)b->batch * picture / 3; i++) b->masks[i] = rng_u32(&r) & 1;
  for (int i = 0; i < WORDS; i++) b->ids[i] = i == 0 ? 49406 : i == WORDS - 1 ? 49407 : (int32_t)rng_below(&r, 49000);
done:
  mem_free(&path);
  CLEANUP(file_remove_tree(folder));
  return st;
}

static const char usage[] =
    "usage: gridseg bench [--threads N] [--batch N] [--steps N] [--size N] [--backend NAME] [--profile]\n"
    "                     [--source DIR] [--split S] [NAME ...]\n"
    "Times the main paths on this machine: a JSON line each. NAME: cases by the beginning of their name.\n"
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
  if (names == 0) return c->run != pack || b->source;
  for (int k = 0; k < names; k++) {
    if (!strncmp(c->name, name[k], strlen(name[k]))) return true;
  }
  return false;
}

status_t bench_command(int argc, char **argv, bench_pack *how_to_pack) {
  struct bench b = {.batch = 4, .steps = 11, .size = 352, .backend = "auto", .split = "train", .pack = how_to_pack};
  bool help, any = false;
  TRY(parse(&b, argc, argv, &help));
  if (help) {
    (void)fputs(usage, stdout);
    return OK;
  }
  status_t st = OK;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    if (!is_wanted(&b, &cases[i], argc - optind, argv + optind)) continue;
    any = true;
    if (cases[i].model && !b.model) TRY_GOTO(prepare(&b), done);
    TRY_GOTO(cases[i].run(&b, &cases[i]), done);
  }
  if (!any) FAIL_GOTO(done, ERR_ARG, "no case begins with '%s'", argv[optind]);
done:
  mem_free(&b.masks);
  mem_free(&b.pixels);
  backend_destroy(&b.machine);
  model_close(&b.model);
  return st;
}
