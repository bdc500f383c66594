// log.h: logs and progress go to stderr; results go to stdout or to files.
#ifndef GRIDSEG_BASE_LOG_H
#define GRIDSEG_BASE_LOG_H

typedef enum { LOG_QUIET, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG } log_level_t;

// Both are set once in main (and by comm for the rank) before threads start.
void log_set_level(log_level_t level);
void log_set_rank(int rank, int size); // lines then carry "[rank R]"; info lines of ranks other than 0 are left out

// One whole line a call, written with a single write(2), so that lines of several ranks do not mix.
void log_line(log_level_t level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

// A progress line: on a terminal it overwrites itself, elsewhere it is printed at most every ten seconds and at the
// end. `final` ends the line. Rank 0 only.
void log_progress(int final, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
