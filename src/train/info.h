// info.h: gridseg info PATH: what a pool, model directory, checkpoint, store or run holds, with its checksums verified.
#ifndef GRIDSEG_TRAIN_INFO_H
#define GRIDSEG_TRAIN_INFO_H

#include "base/status.h"

status_t info_command(int argc, char **argv);

#endif
