// tool_tokens.c: ids of length-prefixed texts, for tests/peer/tokens.py: texts may hold newlines and zero bytes.
// usage: tool_tokens MODEL_DIR LIMIT; standard input: uint32 (little endian) length and bytes, repeated; standard output:
// uint32 count and that many int32 ids for each text.
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
  struct tokenizer *t = NULL;
  uint32_t size;
  if (argc != 3) return 2;
  if (tokenizer_load(argv[1], atoi(argv[2]), &t) != OK) {
    (void)fprintf(stderr, "%s\n", status_message());
    return 1;
  }
  int32_t *ids = calloc((size_t)tokenizer_limit(t), sizeof *ids);
  char *text = malloc(1 << 24);
  int rc = ids && text ? 0 : 1;
  while (rc == 0 && fread(&size, sizeof size, 1, stdin) == 1) {
    int count = 0;
    if (size > 1 << 24 || fread(text, 1, size, stdin) != size) {
      rc = 1;
    } else if (tokenizer_encode(t, text, size, ids, &count) != OK) {
      (void)fprintf(stderr, "%s\n", status_message());
      rc = 1;
    } else {
      uint32_t n = (uint32_t)count;
      (void)fwrite(&n, sizeof n, 1, stdout);
      (void)fwrite(ids, sizeof *ids, n, stdout);
    }
  }
  free(text);
  free(ids);
  tokenizer_destroy(&t);
  return fflush(stdout) == 0 ? rc : 1;
}
