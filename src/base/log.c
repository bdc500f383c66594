// log.c: see log.h.
#include "base/log.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static log_level_t level_now = LOG_INFO;
static int rank_now, size_now = 1;
static atomic_int progress_open; // a progress line stands on the terminal without its newline
static double progress_last = -1e9;

void log_set_level(log_level_t level) {
  level_now = level;
}

void log_set_rank(int rank, int size) {
  rank_now = rank;
  size_now = size;
}

static void put(char *text, size_t room, int used) {
  size_t n = used < 0 ? 0 : (size_t)used < room - 1 ? (size_t)used : room - 2;
  text[n++] = '\n';
  ssize_t written = write(STDERR_FILENO, text, n);
  (void)written; // nowhere left to report to
}

void log_line(log_level_t level, const char *format, ...) {
  if (level > level_now) return;
  if (level >= LOG_INFO && rank_now != 0) return;
  char text[4096];
  int used = 0;
  if (atomic_exchange(&progress_open, 0)) used += snprintf(text, sizeof text, "\n");
  if (size_now > 1 && rank_now != 0) used += snprintf(text + used, sizeof text - (size_t)used, "[rank %d] ", rank_now);
  if (level == LOG_ERROR) used += snprintf(text + used, sizeof text - (size_t)used, "error: ");
  if (level == LOG_WARN) used += snprintf(text + used, sizeof text - (size_t)used, "warning: ");
  va_list args;
  va_start(args, format);
  used += vsnprintf(text + used, sizeof text - (size_t)used, format, args);
  va_end(args);
  put(text, sizeof text, used);
}

void log_progress(int final, const char *format, ...) {
  if (level_now < LOG_INFO || rank_now != 0) return;
  static int terminal = -1;
  if (terminal < 0) terminal = isatty(STDERR_FILENO);
  double now = clock_seconds();
  if (!final && now - progress_last < (terminal ? 0.1 : 10.0)) return;
  progress_last = now;
  char text[1024];
  int used = terminal ? snprintf(text, sizeof text, "\r\033[K") : 0;
  va_list args;
  va_start(args, format);
  used += vsnprintf(text + used, sizeof text - (size_t)used, format, args);
  va_end(args);
  if (!terminal || final) {
    put(text, sizeof text, used);
    atomic_store(&progress_open, 0);
    return;
  }
  size_t n = (size_t)used < sizeof text ? (size_t)used : sizeof text - 1;
  ssize_t written = write(STDERR_FILENO, text, n);
  (void)written;
  atomic_store(&progress_open, 1);
}
