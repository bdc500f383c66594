// bootstrap.h: intervals over groups (patients, videos), whose samples are not independent of each other.
#ifndef GRIDSEG_TRAIN_BOOTSTRAP_H
#define GRIDSEG_TRAIN_BOOTSTRAP_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

enum { BOOTSTRAP_RESAMPLES = 2000 };

// A statistic that is a ratio of sums over groups: a mean (sum of values / number of values), dataset-level Dice (2 sum of
// overlaps / sum of sizes). All statistics are taken from the same resamples of the groups.
struct bootstrap_interval {
  double value, low, high; // of all groups; 2.5 and 97.5 percent of the resamples (numpy.percentile, linear)
};

// `sums`: [groups][statistics][2], numerator then denominator. `empty`: [statistics], the statistic's value where its denominator
// is 0; NaN: such a resample is left out. A resample draws `groups` groups with replacement: Philox of (seed, resample), the
// same on any machine and for any number of threads (0: all cores). Without groups, or where nothing is left, all three
// are `empty`.
status_t bootstrap_ratios(const double *sums, const double *empty, size_t groups, size_t statistics, uint64_t seed,
                          int threads, struct bootstrap_interval *out);

#endif
