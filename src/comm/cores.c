// cores.c: which cores are this rank's own.
#include "base/mem.h"
#include "base/parallel.h"
#include "comm/comm.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

struct seat {
  char host[64];
  cpu_set_t cores;
};

status_t comm_share_cores(struct comm *c, int *threads) {
  status_t st = OK;
  struct seat mine, *all = NULL;
  size_t size = (size_t)comm_size(c), *sizes = NULL;
  int neighbours = 0;
  memset(&mine, 0, sizeof mine);
  (void)gethostname(mine.host, sizeof mine.host - 1);
  if (sched_getaffinity(0, sizeof mine.cores, &mine.cores) != 0) CPU_SET(0, &mine.cores);
  TRY_GOTO(mem_alloc(&sizes, size, sizeof *sizes), done);
  TRY_GOTO(comm_gather(c, &mine, sizeof mine, (void **)&all, sizes, 0), done);
  if (comm_rank(c) != 0) TRY_GOTO(mem_alloc(&all, size, sizeof *all), done);
  TRY_GOTO(comm_broadcast(c, all, size * sizeof *all, 0), done);
  for (size_t r = 0; r < size; r++) {
    cpu_set_t common;
    CPU_AND(&common, &mine.cores, &all[r].cores);
    neighbours += !strcmp(mine.host, all[r].host) && CPU_COUNT(&common) > 0;
  }
  *threads = parallel_cores() / (neighbours ? neighbours : 1);
  if (*threads < 1) *threads = 1;
done:
  mem_free(&all);
  mem_free(&sizes);
  return st;
}
