// clock.h: seconds.
#ifndef GRIDSEG_BASE_CLOCK_H
#define GRIDSEG_BASE_CLOCK_H

#include <time.h>

// Monotonic seconds since an arbitrary start: for differences only.
static inline double clock_seconds(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Seconds since 1970: for files that the world reads (TensorBoard events, journals).
static inline double clock_wall(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_REALTIME, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
