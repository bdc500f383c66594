// pool_format.h: what the writer and the reader of pools agree on. Private to src/data.
#ifndef GRIDSEG_DATA_POOL_FORMAT_H
#define GRIDSEG_DATA_POOL_FORMAT_H

#include "data/pool_write.h"

enum {
  POOL_VERSION = 1,
  POOL_SIZE_LIMIT = 4096,
  POOL_KIND_LIMIT = 64,
  POOL_WORDING_LIMIT = 256,
  POOL_SHARD_LIMIT = 4096,
  POOL_TEXT_LIMIT = 1 << 24, // prompts
};
#define POOL_FORMAT     "gridseg pool"
#define POOL_SHARD_NAME "shard-%05d.h5"
#define POOL_JSON       "pool.json"
#define POOL_VIEW       "pool.h5"

struct pool_shard_info {
  char file[32];
  int64_t first_image, images, first_sample, samples; // pool-wide
  uint64_t bytes;
  struct key sha256;
};

// pool.json and pool.h5 in `folder`.
status_t pool_write_json(const char *folder, const struct pool_plan *plan, int shards,
                         const struct pool_shard_info *info, const struct key *key);
status_t pool_write_view(const char *folder, const struct pool_plan *plan, int shards,
                         const struct pool_shard_info *info);
// fsync of a closed file.
status_t pool_sync_file(const char *path);

#endif
