// status.c: the thread-local error record.
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[2048];
static _Thread_local char trail[2048];

static const char *file_base(const char *file) {
  const char *slash = strrchr(file, '/');
  return slash ? slash + 1 : file;
}

status_t status_fail(status_t code, const char *file, int line, const char *format, ...) {
  va_list args;
  char text[sizeof message]; // the arguments may point into the old message
  va_start(args, format);
  (void)vsnprintf(text, sizeof text, format, args);
  va_end(args);
  memcpy(message, text, sizeof message);
  (void)snprintf(trail, sizeof trail, "  at %s:%d (%s)\n", file_base(file), line, status_name(code));
  return code;
}

status_t status_trace(status_t code, const char *file, int line, const char *call) {
  size_t used = strlen(trail);
  if (used < sizeof trail) {
    (void)snprintf(trail + used, sizeof trail - used, "  at %s:%d: %.80s\n", file_base(file), line, call);
  }
  return code;
}

status_t status_prefix(status_t code, const char *format, ...) {
  va_list args;
  char text[sizeof message];
  va_start(args, format);
  int n = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (n < 0) return code;
  size_t used = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
  (void)snprintf(text + used, sizeof text - used, ": %s", message);
  memcpy(message, text, sizeof message);
  return code;
}

const char *status_message(void) {
  return message;
}
const char *status_trail(void) {
  return trail;
}

const char *status_name(status_t code) {
  static const char *const name[] = {"ok",
                                     "bad argument",
                                     "bad format",
                                     "wrong shape",
                                     "unsupported",
                                     "out of memory",
                                     "input/output error",
                                     "backend error",
                                     "communication error",
                                     "time-out",
                                     "not a number",
                                     "preempted"};
  return (size_t)code < sizeof name / sizeof *name ? name[code] : "unknown";
}

int status_exit_code(status_t code) {
  switch (code) {
  case OK: return 0;
  case ERR_ARG:
  case ERR_FORMAT:
  case ERR_SHAPE:
  case ERR_UNSUPPORTED: return 2;
  case ERR_PREEMPTED: return 75;
  case ERR_NOMEM:
  case ERR_IO:
  case ERR_BACKEND:
  case ERR_COMM:
  case ERR_TIMEOUT:
  case ERR_NUMERIC: return 1;
  }
  return 1;
}

void status_clear(void) {
  message[0] = trail[0] = '\0';
}

void status_set_message(const char *text) {
  (void)snprintf(message, sizeof message, "%s", text);
  trail[0] = '\0';
}
