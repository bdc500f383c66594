// tally.c: see tally.h.
#include "train/tally.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *tally_name(tally_t tally) {
  static const char *const name[TALLIES] = {"dice", "iou", "hd95", "surface_dice", "dice_dataset", "iou_dataset"};
  return name[tally];
}

static int compare_names(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// Numerator and denominator of one sample in each statistic; a value that it doesn't have gives 0 and 0.
static void weigh(const struct sample_measure *m, double out[TALLIES][2]) {
  const double mean[] = {
      [TALLY_DICE] = m->dice, [TALLY_IOU] = m->iou, [TALLY_HD95] = m->hd95, [TALLY_SURFACE_DICE] = m->surface_dice};
  for (int k = TALLY_DICE; k <= TALLY_SURFACE_DICE; k++) {
    out[k][0] = isnan(mean[k]) ? 0 : mean[k];
    out[k][1] = !isnan(mean[k]);
  }
  out[TALLY_DICE_DATASET][0] = 2 * m->both;
  out[TALLY_DICE_DATASET][1] = m->predicted + m->truth;
  out[TALLY_IOU_DATASET][0] = m->both;
  out[TALLY_IOU_DATASET][1] = m->predicted + m->truth - m->both;
}

// Of means: what has a value. Of dataset-level numbers every sample is part, empty against empty too.
static bool has_value(const double weight[2], int k) {
  return k >= TALLY_DICE_DATASET || weight[1] > 0;
}

status_t tally_samples(const struct sample_measure *const *at, const char *const *group, size_t count, uint64_t seed,
                       int threads, struct tally out[TALLIES]) {
  status_t st = OK;
  const char **names = NULL;
  double(*sums)[TALLIES][2] = NULL, one[TALLIES][2];
  bool(*seen)[TALLIES] = NULL;
  size_t groups = 0;
  const double empty[TALLIES] = {NAN, NAN, NAN, NAN, count ? 1.0 : NAN, count ? 1.0 : NAN};
  struct bootstrap_interval interval[TALLIES];
  TRY_GOTO(mem_alloc(&names, count, sizeof *names), done);
  if (count) memcpy(names, group, count * sizeof *names);
  if (count) qsort(names, count, sizeof *names, compare_names);
  for (size_t i = 0; i < count; i++) {
    if (groups == 0 || strcmp(names[groups - 1], names[i]) != 0) names[groups++] = names[i];
  }
  TRY_GOTO(mem_alloc(&sums, groups, sizeof *sums), done);
  TRY_GOTO(mem_alloc(&seen, groups, sizeof *seen), done);
  for (int k = 0; k < TALLIES; k++) out[k].n = out[k].groups = 0;
  for (size_t i = 0; i < count; i++) {
    const char **found = bsearch(&group[i], names, groups, sizeof *names, compare_names);
    size_t g = (size_t)(found - names);
    weigh(at[i], one);
    for (int k = 0; k < TALLIES; k++) {
      sums[g][k][0] += one[k][0];
      sums[g][k][1] += one[k][1];
      if (!has_value(one[k], k)) continue;
      out[k].n++;
      out[k].groups += !seen[g][k];
      seen[g][k] = true;
    }
  }
  TRY_GOTO(bootstrap_ratios((const double *)sums, empty, groups, TALLIES, seed, threads, interval), done);
  for (int k = 0; k < TALLIES; k++) out[k].interval = interval[k];
done:
  mem_free(&seen);
  mem_free(&sums);
  mem_free(&names);
  return st;
}
