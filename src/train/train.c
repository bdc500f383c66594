// train.c: see train.h.
#include "train/train.h"

#include "base/log.h"
#include "train/stop.h"
#include "train/trainer.h"

#include <string.h>

static void print_help(void) {
  (void)fputs("gridseg train FILE.yaml [key=value ...]\n"
              "  finetune one model on pooled datasets, alone or under mpirun or srun; run again to go on\n"
              "  --device auto|cpu|reference   the same as device=...\n\n",
              stdout);
  config_print_help(stdout, &train_table);
}

status_t trainer_agree(struct trainer *t, status_t mine) {
  status_t st = comm_agree(t->comm, mine);
  if (st != OK) t->together = true;
  return st;
}

static status_t run(struct trainer *t, int argc, char **argv) {
  TRY(stop_begin());
  TRY(comm_create(&t->comm));
  TRY(trainer_open(t, argc, argv));
  return trainer_run(t);
}

status_t train_command(int argc, char **argv) {
  struct trainer t = {.lock = -1, .resumed = -1};
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--help") && strcmp(argv[i], "-h")) continue;
    print_help();
    return OK;
  }
  status_t st = run(&t, argc, argv);
  stop_end();
  trainer_close(&t);
  if (st == OK || t.together) {
    comm_destroy(&t.statistics);
    comm_destroy(&t.comm);
  }
  return st;
}
