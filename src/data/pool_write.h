// pool_write.h: making a pool (DESIGN, "Pool"). Complete or absent: everything is written into a hidden folder beside
// the pool's, synced, and renamed in by pool_writer_finish.
//
// `prompt_text` is written into pool.h5 for the world, as the format says, and into pool.json, from which we read it:
// pool.h5 is a view of the shards and never read by us.
#ifndef GRIDSEG_DATA_POOL_WRITE_H
#define GRIDSEG_DATA_POOL_WRITE_H

#include "data/pool.h"

#include <stddef.h>

struct pool_writer; // opaque, used from one thread

// All that is known before the first pixel. Borrowed until pool_writer_create returns.
struct pool_plan {
  const char *root, *name, *split;
  int size;
  int shards;                 // 0: so many that none is over 1 GiB of pixels
  int64_t images, samples;    // at least one of each
  const int32_t *image_index; // [samples] ascending: samples come in the order of their images, and every image has one
  int kinds, wordings;
  const char *const *kind;       // [kinds]
  const prompt_source_t *source; // [kinds]
  int64_t texts;
  const char *const *text; // [texts] UTF-8
  int exif_applied;
  struct key source_key; // content of the source files and the recipe
  int replace;           // an old pool of this name may be replaced (at the very end)
};

struct pool_new_image {
  const char *name;
  const uint8_t *pixels; // [S, S, 3]
  int original_height, original_width;
  struct key key; // SHA-256 of pixels
  uint32_t crc;   // CRC-32 of pixels
};

struct pool_new_sample {
  const char *name, *class_name, *group;
  const uint8_t *mask; // [S, S] of 0 and 1
  uint32_t crc;        // CRC-32 of mask
  const uint8_t *original_png;
  size_t original_size;
  const int32_t *prompt; // [kinds, wordings] indices of texts, -1 where absent
};

// ERR_ARG when the pool exists and `replace` is not set.
status_t pool_writer_create(const struct pool_plan *plan, struct pool_writer **out);
// Add the next image and then all its samples, in the plan's order. What is pointed to is copied or written at once.
status_t pool_writer_add_image(struct pool_writer *w, const struct pool_new_image *image);
status_t pool_writer_add_sample(struct pool_writer *w, const struct pool_new_sample *sample);
// Close, sync and rename in. *key gets the pool's content key. The writer is then only good for pool_writer_destroy.
status_t pool_writer_finish(struct pool_writer *w, struct key *key);
// Drops what was not finished.
void pool_writer_destroy(struct pool_writer **w);

// How many samples stand in each of `shards` shards: shard_of[image], ascending; images stay whole.
void pool_plan_shards(const struct pool_plan *plan, int shards, int32_t *shard_of);

#endif
