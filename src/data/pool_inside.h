// pool_inside.h: struct pool, shared by the files that fill and read it. Private to src/data.
#ifndef GRIDSEG_DATA_POOL_INSIDE_H
#define GRIDSEG_DATA_POOL_INSIDE_H

#include "data/pool_format.h"

#include <pthread.h>

#include <hdf5.h>

struct pool_row_image {
  char *name;
  uint8_t key[32];
  uint32_t crc;
  int32_t height, width; // original
  int shard;
  uint64_t at; // byte in the shard file
};

struct pool_row_sample {
  char *name, *class_name, *group;
  uint32_t crc;
  int32_t image;
  int shard;
  uint64_t at;
};

struct pool_shard {
  struct pool_shard_info info;
  char *path;
  int fd;               // pixels are read here, by any thread
  hid_t file, original; // HDF5 handles, under `lock`; original: dataset mask_original
};

struct pool {
  struct pool_info info;
  char *path, *name, *split;
  char **kind;
  prompt_source_t *source;
  char **text; // [texts]
  int64_t texts;
  struct pool_row_image *images;
  struct pool_row_sample *samples;
  int32_t *prompt; // [samples, kinds, wordings]
  struct pool_shard *shards;
  pthread_mutex_t lock;
};

// Read and check everything but pixels of one shard into the pool's rows. The shard's fd is open.
status_t pool_read_shard(struct pool *pool, int shard);

#endif
