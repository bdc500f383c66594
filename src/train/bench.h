// bench.h: gridseg bench: the main paths timed on this machine.
#ifndef GRIDSEG_TRAIN_BENCH_H
#define GRIDSEG_TRAIN_BENCH_H

#include "base/status.h"

// Samples of a split of the dataset `folder` packed at `size` pixels, per second of one core.
typedef status_t bench_pack(const char *folder, const char *split, int size, double *samples_per_second);

// gridseg bench [NAME ...]: one JSON line {"name","value","unit","threads","peak_mib",...} a case on standard output; NAME
// picks cases by their beginning. `pack` is timed for the case of that name, which wants --source: left out without it,
// unless it was named.
status_t bench_command(int argc, char **argv, bench_pack *pack);

#endif
