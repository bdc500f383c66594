// bench.h: gridseg bench: the main paths timed on this machine.
#ifndef GRIDSEG_TRAIN_BENCH_H
#define GRIDSEG_TRAIN_BENCH_H

#include "base/status.h"

// gridseg bench [NAME ...]: one JSON line {"name","value","unit",...} a case on standard output; NAME picks cases by their beginning.
status_t bench_command(int argc, char **argv);

#endif
