// mem.h: memory whose size was checked.
#ifndef GRIDSEG_BASE_MEM_H
#define GRIDSEG_BASE_MEM_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MEM_ALIGN = 64 }; // cache line and AVX-512 vector

// a*b and a+b; false when the result does not fit.
static inline bool size_mul(size_t a, size_t b, size_t *out) {
  return !__builtin_mul_overflow(a, b, out);
}
static inline bool size_add(size_t a, size_t b, size_t *out) {
  return !__builtin_add_overflow(a, b, out);
}
static inline size_t size_round_up(size_t n, size_t to) {
  return (n + to - 1) / to * to;
}

// Zeroed memory for `count` elements of `size` bytes, aligned to MEM_ALIGN, in *(void **)out; the caller frees it with
// mem_free. A count of 0 gives a valid pointer. ERR_NOMEM names the number of bytes.
status_t mem_alloc(void *out, size_t count, size_t size);
// The same without zeroing: for buffers that are written whole before they are read (pixels).
status_t mem_alloc_raw(void *out, size_t count, size_t size);
// Like realloc for plain (malloc) arrays that grow: doubles *capacity until `need` elements fit. *array may be NULL.
status_t mem_grow(void *array, size_t *capacity, size_t need, size_t size);
// Free *(void **)pointer and null it.
void mem_free(void *pointer);
// A copy of `text` (or its first n bytes), freed with mem_free.
status_t mem_copy_text(char **out, const char *text);
status_t mem_copy_text_n(char **out, const char *text, size_t n);
status_t mem_format(char **out, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
