// parse.c: see parse.h.
#include "base/parse.h"

#include <errno.h>
#include <stdlib.h>

status_t parse_int(const char *what, const char *text, int64_t low, int64_t high, int64_t *out) {
  char *end;
  errno = 0;
  long long value = strtoll(text, &end, 10);
  if (errno || end == text || *end || value < low || value > high) {
    return FAIL(ERR_ARG, "%s: wanted a whole number from %lld to %lld, met '%s'", what, (long long)low, (long long)high,
                text);
  }
  *out = value;
  return OK;
}

status_t parse_small(const char *what, const char *text, int low, int high, int *out) {
  int64_t value;
  TRY(parse_int(what, text, low, high, &value));
  *out = (int)value;
  return OK;
}

status_t parse_real(const char *what, const char *text, double low, double high, double *out) {
  char *end;
  double value = strtod(text, &end);
  if (end == text || *end || !(value >= low && value <= high)) {
    return FAIL(ERR_ARG, "%s: wanted a number from %g to %g, met '%s'", what, low, high, text);
  }
  *out = value;
  return OK;
}
