// tool_safetensors.c: reads a file and writes it again, for tests/peer/peer_safetensors.py.
#include "base/mem.h"
#include "tensor/safetensors.h"

#include <stdio.h>

static status_t copy(const char *from, const char *to) {
  status_t st = OK;
  struct safetensors *set = NULL;
  struct safetensors_entry *entries = NULL;
  const char *const metadata[][2] = {{"format", "pt"}};
  TRY_GOTO(safetensors_open(from, &set), done);
  size_t n = safetensors_count(set);
  TRY_GOTO(mem_alloc(&entries, n, sizeof *entries), done);
  for (size_t i = 0; i < n; i++) entries[i] = *safetensors_at(set, i);
  TRY_GOTO(safetensors_write(to, entries, n, metadata, 1), done);
done:
  mem_free(&entries);
  safetensors_close(&set);
  return st;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  status_t st = copy(argv[1], argv[2]);
  if (st != OK) (void)fprintf(stderr, "%s\n", status_message());
  return status_exit_code(st);
}
