// stop.h: the wish to stop: a signal (USR1 from a batch script, TERM from a scheduler, INT from a person) or the clock.
#ifndef GRIDSEG_TRAIN_STOP_H
#define GRIDSEG_TRAIN_STOP_H

#include "base/status.h"

#include <stdbool.h>

// From now on SIGUSR1, SIGTERM and SIGINT are remembered instead of ending the process (a second SIGINT ends it): called
// before anything slow, so that a signal that comes early is not lost. One at a time in a process.
status_t stop_begin(void);
// The clock: `before_minutes` before SLURM_JOB_END_TIME (seconds since 1970) where that is set, and `after_minutes` from
// now (0: never).
void stop_set_clock(double before_minutes, double after_minutes);
// Polled at step boundaries.
bool stop_wanted(void);
const char *
stop_reason(void);   // "signal 10 (User defined signal 1)", "SLURM_JOB_END_TIME is near", ...; "" without wish
void stop_end(void); // the old handlers are back

#endif
