// pool_bench.h: how fast packed samples are read, for `gridseg bench`.
#ifndef GRIDSEG_DATA_POOL_BENCH_H
#define GRIDSEG_DATA_POOL_BENCH_H

#include "base/status.h"

// Samples a second that one thread reads in random order from a warm cache, checksums included: a pool of 256 images and
// masks of `size` pixels a side is written into a temporary folder (TMPDIR) and read whole four times.
status_t pool_bench_read(int size, double *samples_per_second);

#endif
