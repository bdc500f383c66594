// store.h: the feature store: what a frozen part computed, kept by content key, in memory within a budget and in shards
// on disk. A shard has one writer, who writes it under another name and renames it in; it never changes after that.
#ifndef GRIDSEG_TRAIN_STORE_H
#define GRIDSEG_TRAIN_STORE_H

#include "base/key.h"
#include "base/status.h"

#include <stdint.h>

struct store; // one rank's view; find is thread-safe between calls of the others

// `directory` NULL or "none": memory only, and going over `memory_bytes` is ERR_NOMEM that names the key store.memory.
// With a directory memory_bytes bounds what waits to be written; all else is read from mapped shards, whose pages the
// ranks of a node share. `rank` makes shard names unique. Temporary files of dead writers are removed.
status_t store_open(const char *directory, uint64_t memory_bytes, int rank, struct store **out);
void store_close(struct store **store); // commits; where that fails it warns
// *data is borrowed until store_close and never moves; it is aligned to 64 bytes where `bytes` is a multiple of 64. NULL
// when the key is not there. A damaged value (CRC, or another size) counts as absent, with a warning that names the
// shard; the CRC is taken at the first find of a value.
status_t store_find(struct store *store, const struct key *key, size_t bytes, const void **data);
// Keep a copy of `data`. A key that is there already is left as it is; a damaged value is replaced. With a directory, a
// commit happens by itself whenever 64 MiB (or memory_bytes, if less) are waiting.
status_t store_put(struct store *store, const struct key *key, const void *data, size_t bytes);
// Write the waiting values as a shard: it becomes visible to others, and their memory becomes page cache. Without values
// nothing happens. ERR_IO names the file when the disk is full; the values stay in memory then.
status_t store_commit(struct store *store);
// See the shards that other ranks and runs have added. One that cannot be read is left aside with a warning.
status_t store_refresh(struct store *store);
// Print values, bytes and shards, every CRC checked: for `gridseg info`. ERR_FORMAT when something is damaged.
status_t store_print_info(const char *directory);

#endif
