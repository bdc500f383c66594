// train.h: the subcommand `gridseg train`.
#ifndef GRIDSEG_TRAIN_TRAIN_H
#define GRIDSEG_TRAIN_TRAIN_H

#include "base/status.h"

#include <stdio.h>

// gridseg train FILE.yaml [key=value ...]: finetune one model, alone or as one rank of a job. argv[0] is "train".
// ERR_PREEMPTED when it stopped on purpose: run again to go on.
//
// After an error that the ranks did not meet together the MPI world is left open: the process ends without finalising
// it, which is how the launcher learns that it must end the others.
status_t train_command(int argc, char **argv);

#endif
