// stop.c: see stop.h.
#include "train/stop.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int signals[] = {SIGUSR1, SIGTERM, SIGINT};
enum { SIGNALS = sizeof signals / sizeof *signals };

// A handler reaches nothing but objects like these: the one global state that signals force on a program.
static volatile sig_atomic_t met;
static struct sigaction before[SIGNALS];
static double wall_end, clock_end;

static void remember(int number) {
  if (number == SIGINT && met == SIGINT) {
    (void)signal(SIGINT, SIG_DFL);
    (void)raise(SIGINT);
  }
  met = number;
}

static double read_end_time(void) {
  const char *text = getenv("SLURM_JOB_END_TIME");
  char *end;
  if (!text || !*text) return 0;
  errno = 0;
  double at = strtod(text, &end);
  if (!*end && !errno && at > 0) return at;
  log_warn("SLURM_JOB_END_TIME is '%s', wanted seconds since 1970: not used", text);
  return 0;
}

void stop_set_clock(double before_minutes, double after_minutes) {
  double end = read_end_time();
  wall_end = end > 0 ? end - 60.0 * before_minutes : 0;
  clock_end = after_minutes > 0 ? clock_seconds() + 60.0 * after_minutes : 0;
}

status_t stop_begin(void) {
  struct sigaction action = {.sa_handler = remember, .sa_flags = SA_RESTART};
  met = 0;
  wall_end = clock_end = 0;
  (void)sigemptyset(&action.sa_mask);
  for (int i = 0; i < SIGNALS; i++) {
    if (sigaction(signals[i], &action, &before[i]) != 0) {
      return FAIL(ERR_IO, "cannot handle signal %d: %s", signals[i], strerror(errno));
    }
  }
  return OK;
}

bool stop_wanted(void) {
  return met || (clock_end > 0 && clock_seconds() >= clock_end) || (wall_end > 0 && clock_wall() >= wall_end);
}

const char *stop_reason(void) {
  static char text[64];
  if (met) {
    (void)snprintf(text, sizeof text, "signal %d (%s)", (int)met, strsignal(met));
    return text;
  }
  if (clock_end > 0 && clock_seconds() >= clock_end) return "checkpoint.stop_after is over";
  if (wall_end > 0 && clock_wall() >= wall_end) return "SLURM_JOB_END_TIME is near";
  return "";
}

void stop_end(void) {
  for (int i = 0; i < SIGNALS; i++) {
    if (signals[i] == SIGUSR1 && before[i].sa_handler == SIG_DFL) before[i].sa_handler = SIG_IGN;
    (void)sigaction(signals[i], &before[i], NULL);
  }
  met = 0;
}
