// testing.h: cmocka with the headers that it wants before it, and what many tests share.
#ifndef GRIDSEG_TESTS_TESTING_H
#define GRIDSEG_TESTS_TESTING_H

#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// The call succeeds; else its message is shown.
#define assert_ok(call)                                                                                                \
  do {                                                                                                                 \
    status_t assert_status_ = (call);                                                                                  \
    if (assert_status_ != OK)                                                                                          \
      fail_msg("%s: %s: %s\n%s", #call, status_name(assert_status_), status_message(), status_trail());                \
  } while (0)

// The call fails with `code`, and its message holds every text given (each names a file, key or number).
#define assert_fails(code, call, ...)                                                                                  \
  do {                                                                                                                 \
    status_clear();                                                                                                    \
    status_t assert_status_ = (call);                                                                                  \
    if (assert_status_ != (code))                                                                                      \
      fail_msg("%s: wanted '%s', met '%s': %s", #call, status_name(code), status_name(assert_status_),                 \
               status_message());                                                                                      \
    const char *assert_texts_[] = {__VA_ARGS__};                                                                       \
    for (size_t assert_i_ = 0; assert_i_ < sizeof assert_texts_ / sizeof *assert_texts_; assert_i_++)                  \
      if (!strstr(status_message(), assert_texts_[assert_i_]))                                                         \
        fail_msg("%s: message lacks '%s': %s", #call, assert_texts_[assert_i_], status_message());                     \
  } while (0)

// A fresh temporary folder, left behind only when the test fails.
static inline const char *test_folder(void) {
  static char path[64];
  (void)snprintf(path, sizeof path, "/tmp/gridseg-test-XXXXXX");
  if (!mkdtemp(path)) fail_msg("mkdtemp failed");
  return path;
}

// The folder of shared real data ($GRIDSEG_SHARED, else ../shared beside the source tree), or NULL where there is none:
// the test then calls skip().
static inline const char *test_shared(void) {
  static char path[1024];
  const char *given = getenv("GRIDSEG_SHARED");
  (void)snprintf(path, sizeof path, "%s", given ? given : TEST_SOURCE_DIR "/../shared");
  FILE *f = NULL;
  char probe[1100];
  (void)snprintf(probe, sizeof probe, "%s/data/SOURCES.md", path);
  f = fopen(probe, "r");
  if (!f) return NULL;
  (void)fclose(f);
  return path;
}

#endif
