// bootstrap.c: see bootstrap.h.
#include "train/bootstrap.h"

#include "base/mem.h"
#include "base/parallel.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 100 }; // resamples that one call of a worker draws

struct resampling {
  const double *sums, *empty;
  size_t groups, statistics;
  uint64_t seed;
  double *totals; // [BOOTSTRAP_RESAMPLES / BLOCK][statistics][2]
  double *values; // [statistics][BOOTSTRAP_RESAMPLES]
};

static double ratio(const double sums[2], double empty) {
  return sums[1] == 0 ? empty : sums[0] / sums[1];
}

static status_t draw_block(void *context, size_t block, int worker) {
  (void)worker;
  struct resampling *r = context;
  size_t width = 2 * r->statistics;
  double *total = r->totals + block * width;
  for (size_t b = block * BLOCK; b < (block + 1) * BLOCK; b++) {
    struct rng rng;
    rng_init(&rng, r->seed, b);
    for (size_t k = 0; k < width; k++) total[k] = 0;
    for (size_t i = 0; i < r->groups; i++) {
      const double *s = r->sums + rng_below(&rng, r->groups) * width;
      for (size_t k = 0; k < width; k++) total[k] += s[k];
    }
    for (size_t k = 0; k < r->statistics; k++)
      r->values[k * BOOTSTRAP_RESAMPLES + b] = ratio(total + 2 * k, r->empty[k]);
  }
  return OK;
}

static int compare_values(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

// numpy.percentile(values, 100 * q) of sorted values.
static double percentile(const double *sorted, size_t count, double q) {
  double rank = q * (double)(count - 1);
  size_t below = (size_t)rank;
  if (below + 1 >= count) return sorted[count - 1];
  return sorted[below] + (rank - (double)below) * (sorted[below + 1] - sorted[below]);
}

static void summarise(struct resampling *r, size_t k, struct bootstrap_interval *out) {
  double *values = r->values + k * BOOTSTRAP_RESAMPLES, total[2] = {0, 0};
  size_t count = 0;
  for (size_t g = 0; g < r->groups; g++) {
    total[0] += r->sums[2 * (g * r->statistics + k)];
    total[1] += r->sums[2 * (g * r->statistics + k) + 1];
  }
  *out = (struct bootstrap_interval){.value = ratio(total, r->empty[k]), .low = r->empty[k], .high = r->empty[k]};
  for (size_t b = 0; b < BOOTSTRAP_RESAMPLES; b++) {
    if (!isnan(values[b])) values[count++] = values[b];
  }
  if (r->groups == 0 || count == 0) return;
  qsort(values, count, sizeof *values, compare_values);
  out->low = percentile(values, count, 0.025);
  out->high = percentile(values, count, 0.975);
}

status_t bootstrap_ratios(const double *sums, const double *empty, size_t groups, size_t statistics, uint64_t seed,
                          int threads, struct bootstrap_interval *out) {
  status_t st = OK;
  struct resampling r = {.sums = sums, .empty = empty, .groups = groups, .statistics = statistics, .seed = seed};
  _Static_assert(BOOTSTRAP_RESAMPLES % BLOCK == 0, "whole blocks");
  size_t blocks = BOOTSTRAP_RESAMPLES / BLOCK;
  TRY_GOTO(mem_alloc(&r.totals, blocks * 2 * statistics, sizeof *r.totals), done);
  TRY_GOTO(mem_alloc(&r.values, statistics * BOOTSTRAP_RESAMPLES, sizeof *r.values), done);
  if (groups > 0) TRY_GOTO(parallel_for(blocks, threads, draw_block, &r), done);
  for (size_t k = 0; k < statistics; k++) summarise(&r, k, &out[k]);
done:
  mem_free(&r.values);
  mem_free(&r.totals);
  return st;
}
