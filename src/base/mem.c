// mem.c: see mem.h.
#include "base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static status_t allocate(void *out, size_t count, size_t size, bool zero) {
  size_t bytes;
  *(void **)out = NULL;
  if (!size_mul(count, size, &bytes) || bytes > PTRDIFF_MAX - MEM_ALIGN) {
    return FAIL(ERR_NOMEM, "%zu elements of %zu bytes do not fit in memory", count, size);
  }
  bytes = size_round_up(bytes ? bytes : 1, MEM_ALIGN);
  void *p = aligned_alloc(MEM_ALIGN, bytes);
  if (!p) return FAIL(ERR_NOMEM, "no memory for %zu bytes", bytes);
  if (zero) memset(p, 0, bytes);
  *(void **)out = p;
  return OK;
}

status_t mem_alloc(void *out, size_t count, size_t size) {
  return allocate(out, count, size, true);
}

status_t mem_alloc_raw(void *out, size_t count, size_t size) {
  return allocate(out, count, size, false);
}

status_t mem_grow(void *array, size_t *capacity, size_t need, size_t size) {
  if (need <= *capacity) return OK;
  size_t want = *capacity ? *capacity : 16, bytes;
  while (want < need) {
    if (!size_mul(want, 2, &want)) return FAIL(ERR_NOMEM, "%zu elements do not fit in memory", need);
  }
  if (!size_mul(want, size, &bytes)) return FAIL(ERR_NOMEM, "%zu elements do not fit in memory", need);
  void *p = realloc(*(void **)array, bytes);
  if (!p) return FAIL(ERR_NOMEM, "no memory for %zu bytes", bytes);
  *(void **)array = p;
  *capacity = want;
  return OK;
}

void mem_free(void *pointer) {
  free(*(void **)pointer);
  *(void **)pointer = NULL;
}

status_t mem_copy_text_n(char **out, const char *text, size_t n) {
  TRY(mem_alloc(out, n + 1, 1));
  memcpy(*out, text, n);
  return OK;
}

status_t mem_copy_text(char **out, const char *text) {
  return mem_copy_text_n(out, text, strlen(text));
}

status_t mem_format(char **out, const char *format, ...) {
  va_list args;
  *out = NULL;
  va_start(args, format);
  int n = vsnprintf(NULL, 0, format, args);
  va_end(args);
  if (n < 0) return FAIL(ERR_ARG, "cannot format '%s': %s", format, strerror(errno));
  TRY(mem_alloc(out, (size_t)n + 1, 1));
  va_start(args, format);
  (void)vsnprintf(*out, (size_t)n + 1, format, args);
  va_end(args);
  return OK;
}
