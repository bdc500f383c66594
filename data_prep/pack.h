// pack.h: a dataset on disk becomes a pool.
#ifndef GRIDSEG_DATA_PREP_PACK_H
#define GRIDSEG_DATA_PREP_PACK_H

#include "data_prep/source.h"

struct pack_options {
  const char *root, *name, *split;
  int size;
  int shards;  // 0: by size
  int exif;    // apply EXIF orientation
  int threads; // 0: all cores
  int force;   // replace a pool that was packed from something else
};

// Decode, resize, check and write `source` as pool ROOT/NAME/SPLIT/SIZE, complete or absent. Samples are put in the
// order in which their images first appear. If the pool is there and was packed from the same bytes in the same way,
// that is said and nothing is done; another pool in its place is ERR_ARG unless `force`. Every picture that can't be
// packed is named in an error line (at most PACK_ERRORS) before the call fails. Pictures that are there twice, in the
// split or in another split of the same name and size, are named in warnings: both by content.
status_t pack_source(const struct source *source, const struct pack_options *options);
enum { PACK_ERRORS = 20 };

// Samples packed per second of processor time (one core), of a folder in the study layout, into a temporary folder
// (TMPDIR) that is removed again: everything that `pack` does, hashing, writing and syncing included.
status_t pack_bench(const char *folder, const char *split, int size, double *samples_per_second);

// gridseg pack --dataset study|folder|csv --source DIR --split S --size N --out ROOT [...]
status_t pack_command(int argc, char **argv);

// The source's samples grouped by image, and its texts as a table: what pack_source works on. Exposed for tests.
struct pack_plan {
  const struct source *source;
  size_t images, samples;
  size_t *order;        // [samples] index into the source
  size_t *first;        // [images + 1] where an image's samples begin in `order`
  int32_t *image_index; // [samples] ascending
  int wordings;
  char **text; // [texts] sorted, borrowed from the source
  size_t texts;
  int32_t *prompt; // [samples, kinds, wordings]
  struct key source_key;
};
// `options` gives the recipe that goes into the key; all files are read and hashed.
status_t pack_plan_create(const struct source *source, const struct pack_options *options, struct pack_plan *out);
void pack_plan_free(struct pack_plan *plan);

// Warn of equal pictures in the plan and in other splits under ROOT/NAME. `keys` [images]: content of each image.
status_t pack_report_twins(const struct pack_plan *plan, const struct pack_options *options, const struct key *keys);

// Decode and write everything. `keys` [images] is filled.
status_t pack_write(const struct pack_plan *plan, const struct pack_options *options, struct key *keys);

#endif
