// status.h: one error code, one error record per thread, and the macros that carry both upward.
//
// The first failing call writes what was wanted and what was met (FAIL); every level that passes it on adds one trace
// line (TRY, TRY_GOTO). main.c alone turns a status into an exit code. Nothing here ends the process.
#ifndef GRIDSEG_BASE_STATUS_H
#define GRIDSEG_BASE_STATUS_H

#include <stddef.h>

typedef enum {
  OK = 0,
  ERR_ARG,         // the user's command, configuration or input is wrong                        exit 2
  ERR_FORMAT,      // a file does not hold what its kind promises                                exit 2
  ERR_SHAPE,       // a tensor has another shape or type than is wanted                          exit 2
  ERR_UNSUPPORTED, // understood, but not something that gridseg does                            exit 2
  ERR_NOMEM,       //                                                                            exit 1
  ERR_IO,          // the operating system refused a file operation                              exit 1
  ERR_BACKEND,     // oneDNN, CUDA and their like failed                                         exit 1
  ERR_COMM,        // MPI or NCCL failed                                                         exit 1
  ERR_TIMEOUT,     //                                                                            exit 1
  ERR_NUMERIC,     // NaN or infinity where a number was needed                                  exit 1
  ERR_PREEMPTED,   // stopped on purpose at a step boundary: run again to go on                  exit 75
} status_t;

// Record an error in this thread's record (replacing an earlier one) and return `code`.
status_t status_fail(status_t code, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5), cold));
// Add "  at FILE:LINE: CALL" to the record. Returns `code` unchanged.
status_t status_trace(status_t code, const char *file, int line, const char *call) __attribute__((cold));
// Put "TEXT: " before the message of the record: the file or key that an inner layer could not know. Returns `code`.
status_t status_prefix(status_t code, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

const char *status_message(void); // the message of this thread's last error, without the trace; never NULL
const char *status_trail(void);   // the trace lines, "" when there are none
const char *status_name(status_t code);
int status_exit_code(status_t code);
void status_clear(void);
// Copy the record of another thread into this one: a worker hands its message to the thread that joins it.
void status_set_message(const char *message);

// The value is the code itself, not what the function returned: a reader, and the static analyser, see that it is no OK.
#define FAIL(code, ...)                                                                                                \
  ({                                                                                                                   \
    const status_t fail_code_ = (code);                                                                                \
    (void)status_fail(fail_code_, __FILE__, __LINE__, __VA_ARGS__);                                                    \
    fail_code_;                                                                                                        \
  })

// Return the status upward, adding one trace line: for functions that own nothing.
#define TRY(call)                                                                                                      \
  do {                                                                                                                 \
    status_t try_status_ = (call);                                                                                     \
    if (try_status_ != OK) {                                                                                           \
      (void)status_trace(try_status_, __FILE__, __LINE__, #call);                                                      \
      return try_status_;                                                                                              \
    }                                                                                                                  \
  } while (0)

// Set `st` and jump: for functions that own something. They have one label, free in reverse order, and one path for
// success and failure.
#define TRY_GOTO(call, label)                                                                                          \
  do {                                                                                                                 \
    if ((st = (call)) != OK) {                                                                                         \
      (void)status_trace(st, __FILE__, __LINE__, #call);                                                               \
      goto label;                                                                                                      \
    }                                                                                                                  \
  } while (0)

#define FAIL_GOTO(label, code, ...)                                                                                    \
  do {                                                                                                                 \
    st = FAIL((code), __VA_ARGS__);                                                                                    \
    goto label;                                                                                                        \
  } while (0)

// After the cleanup label: the first error wins, a later one is only logged.
#define CLEANUP(call)                                                                                                  \
  do {                                                                                                                 \
    status_t cleanup_status_ = (call);                                                                                 \
    if (st == OK) st = cleanup_status_;                                                                                \
  } while (0)

#endif
