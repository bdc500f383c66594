// main.c: the table of subcommands. Here alone a status becomes an exit code.
#include "backend/backend.h"
#include "base/log.h"
#include "base/status.h"
#include "comm/comm.h"
#include "data/image.h"
#include "data/pool.h"
#include "data_prep/pack.h"
#include "data_prep/phantom.h"
#include "text/tokenizer.h"
#include "train/bench.h"
#include "train/eval.h"
#include "train/info.h"
#include "train/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <zlib.h>

struct subcommand {
  const char *name, *does;
  status_t (*run)(int argc, char **argv);
};

// The benchmark of packing stands in a folder that src/train may not call.
static status_t bench_all(int argc, char **argv) {
  return bench_command(argc, argv, pack_bench);
}

static const struct subcommand subcommands[] = {
    {"pack", "pictures, masks and prompts into a pool", pack_command},
    {"phantom", "draw a synthetic dataset of one modality, with masks and prompts", phantom_command},
    {"tokens", "token ids, one text a line", tokens_command},
    {"train", "finetune one model; alone or under mpirun or srun", train_command},
    {"eval", "score a model on pools and prompts", eval_command},
    {"predict", "masks for pictures without truth", predict_command},
    {"score", "score masks that any program made", score_command},
    {"info", "what a pool, model, checkpoint, store or run holds, verified", info_command},
    {"bench", "the main paths timed on this machine", bench_all},
};

static void print_help(FILE *out) {
  (void)fprintf(out,
                "gridseg %s: finetune and evaluate vision-language segmentation models on medical images\n\n"
                "usage: gridseg [--quiet | --verbose] SUBCOMMAND ...\n\n",
                GRIDSEG_VERSION);
  for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++) {
    (void)fprintf(out, "  %-10s %s\n", subcommands[i].name, subcommands[i].does);
  }
  (void)fprintf(out, "\ngridseg SUBCOMMAND --help says more. Exit codes: 0 done, 1 failed, 2 wrong usage or input,\n"
                     "75 stopped on purpose: run the same again to go on.\n");
}

// Everything whose version may change a result or a format.
static void print_version(void) {
  struct backend *b = NULL;
  printf("gridseg %s\n", GRIDSEG_VERSION);
  if (backend_create("auto", 1, &b) == OK) printf("%s\n", b->ops->numerics(b));
  backend_destroy(&b);
  printf("%s\n%s\n%s\njansson %s, zlib %s\n", comm_library(), pool_library(), image_libraries(), jansson_version_str(),
         zlibVersion());
}

static const struct subcommand *find(const char *name) {
  for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++) {
    if (!strcmp(subcommands[i].name, name)) return &subcommands[i];
  }
  return NULL;
}

int main(int argc, char **argv) {
  int at = 1;
  for (; at < argc && argv[at][0] == '-'; at++) {
    if (!strcmp(argv[at], "--help") || !strcmp(argv[at], "-h")) {
      print_help(stdout);
      return 0;
    }
    if (!strcmp(argv[at], "--version")) {
      print_version();
      return 0;
    }
    if (!strcmp(argv[at], "--quiet"))
      log_set_level(LOG_WARN);
    else if (!strcmp(argv[at], "--verbose"))
      log_set_level(LOG_DEBUG);
    else {
      log_error("unknown option %s; gridseg --help lists what there is", argv[at]);
      return 2;
    }
  }
  if (at == argc) {
    print_help(stderr);
    return 2;
  }
  const struct subcommand *s = find(argv[at]);
  if (!s) {
    log_error("unknown subcommand '%s'; gridseg --help lists what there is", argv[at]);
    return 2;
  }
  status_t st = s->run(argc - at, argv + at);
  if (st == ERR_PREEMPTED) {
    log_warn("%s", status_message());
  } else if (st != OK) {
    log_error("%s", status_message());
    log_debug("%s", status_trail());
  }
  return status_exit_code(st);
}
