// fuzz_safetensors.c: any bytes as a .safetensors file: it is refused, or every tensor in it can be read.
#include "base/mem.h"
#include "tensor/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const struct safetensors *set) {
  for (size_t i = 0; i < safetensors_count(set); i++) {
    const struct safetensors_entry *e = safetensors_at(set, i);
    struct tensor_desc as = e->desc;
    void *out = NULL;
    // What is converted must be converted within its bounds too; only an id that is too large may be refused.
    if (as.dtype == DTYPE_I64) as.dtype = DTYPE_I32;
    if (as.dtype == DTYPE_BF16 || as.dtype == DTYPE_F16 || as.dtype == DTYPE_F64) as.dtype = DTYPE_F32;
    if (safetensors_find(set, e->name) != e) abort();
    if (mem_alloc(&out, (size_t)desc_count(&as), dtype_bytes(as.dtype)) != OK) abort();
    status_t st = safetensors_read(set, e->name, &as, out);
    if (st != OK && !(st == ERR_FORMAT && as.dtype == DTYPE_I32)) abort();
    mem_free(&out);
  }
  (void)safetensors_metadata(set, "format");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct safetensors *set;
  char path[64];
  int fd = memfd_create("fuzz", MFD_CLOEXEC);
  if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
  (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  if (safetensors_open(path, &set) == OK) read_all(set);
  safetensors_close(&set);
  (void)close(fd);
  return 0;
}
