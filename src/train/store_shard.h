// store_shard.h: one shard file of the feature store. Private to store.c.
//
// DIR/shard-<unique>.h5: root attribute gridseg_store = 1; groups part_0, part_1, ..., each of values of one size:
//   key   uint8 [N,32]       content keys
//   crc32 uint32 [N]         of each value
//   data  uint8 [N,bytes]    contiguous, from a multiple of 4096 bytes on, so that it can be mapped
#ifndef GRIDSEG_TRAIN_STORE_SHARD_H
#define GRIDSEG_TRAIN_STORE_SHARD_H

#include "base/key.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shard_part {
  size_t count, bytes;  // values, and bytes of each; both above 0
  const uint8_t *keys;  // [count,32]
  const uint8_t *crcs;  // [count] of uint32, little-endian, not aligned when mapped
  const uint8_t *data;  // [count,bytes]
  uint64_t data_offset; // in the file
};

// A mapped shard; all pointers of its parts lead into the map.
struct shard {
  char *path;
  uint8_t *map;
  size_t size;
  struct shard_part *parts;
  size_t part_count;
};

// Map a shard. Types, shapes, places and the length of the file are checked; CRCs are not. ERR_FORMAT or ERR_IO, naming
// the file.
status_t shard_open(const char *path, struct shard **out);
void shard_close(struct shard **shard);
uint32_t shard_crc(const struct shard_part *part, size_t i);
bool shard_is_name(const char *name); // of a complete shard

// Write a shard of `count` parts: complete or absent. *name (mem_free) is its name in `directory`; data_offset of each
// part is set. ERR_IO names the file when the disk is full.
status_t shard_write(const char *directory, int rank, struct shard_part *parts, size_t count, char **name);
// Remove what writers that died left behind: temporary files of this user whose process is gone, or older than a day.
// *left: how many remain (may be NULL).
status_t shard_remove_stale(const char *directory, size_t *left);

#endif
