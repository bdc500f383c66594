// parse.h: numbers from command lines and other short texts.
#ifndef GRIDSEG_BASE_PARSE_H
#define GRIDSEG_BASE_PARSE_H

#include "base/status.h"

#include <stdint.h>

// The whole text as a decimal number in [low, high]; ERR_ARG names `what` (an option, say), the range and what was met.
status_t parse_int(const char *what, const char *text, int64_t low, int64_t high, int64_t *out);
status_t parse_small(const char *what, const char *text, int low, int high, int *out);
status_t parse_real(const char *what, const char *text, double low, double high, double *out);

#endif
