// pack_bench.c: how fast pictures are packed, for `gridseg bench`.
#include "data_prep/pack.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>
#include <time.h>

static double processor_seconds(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

status_t pack_bench(const char *folder, const char *split, int size, double *samples_per_second) {
  const char *temporary = getenv("TMPDIR");
  char *root = NULL;
  struct source source = {0};
  status_t st = OK;
  TRY_GOTO(mem_format(&root, "%s/gridseg-bench-XXXXXX", temporary ? temporary : "/tmp"), done);
  if (!mkdtemp(root)) {
    mem_free(&root);
    FAIL_GOTO(done, ERR_IO, "no temporary folder can be made");
  }
  TRY_GOTO(source_read_study(folder, split, &source), done);
  struct pack_options options = {.root = root, .name = "bench", .split = split, .size = size, .threads = 1};
  double start = processor_seconds();
  TRY_GOTO(pack_source(&source, &options), done);
  *samples_per_second = (double)source.samples / (processor_seconds() - start + 1e-9);
done:
  source_free(&source);
  if (root) CLEANUP(file_remove_tree(root));
  mem_free(&root);
  return st;
}
