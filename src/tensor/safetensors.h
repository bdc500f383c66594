// safetensors.h: read and write .safetensors files (8-byte header length, JSON header, raw little-endian data), as the
// `safetensors` package does; a model.safetensors.index.json with its shards reads as one set.
#ifndef GRIDSEG_TENSOR_SAFETENSORS_H
#define GRIDSEG_TENSOR_SAFETENSORS_H

#include "tensor/tensor.h"

struct safetensors; // an open file or sharded set: header parsed and checked, data mapped read-only

struct safetensors_entry {
  const char *name;        // borrowed from the set
  struct tensor_desc desc; // F32 F64 BF16 F16 I32 I64 U8 (and BOOL read as U8); rank 0..6
  const void *data;        // borrowed, mapped; aligned to its element size or not: copy with memcpy
};

// Open PATH: a .safetensors file, or a .index.json that lists shards beside it. Hostile input: header length, offsets,
// overlaps, holes, dtype/shape/size disagreement, duplicate names and shard names that leave the folder are refused
// with file and tensor named.
status_t safetensors_open(const char *path, struct safetensors **out);
void safetensors_close(struct safetensors **set);
size_t safetensors_count(const struct safetensors *set);
const struct safetensors_entry *safetensors_at(const struct safetensors *set, size_t i);           // in order of names
const struct safetensors_entry *safetensors_find(const struct safetensors *set, const char *name); // NULL when absent
const char *safetensors_path(const struct safetensors *set);
const char *safetensors_metadata(const struct safetensors *set, const char *key); // of __metadata__, NULL when absent
// Copy one tensor into `out` of `desc` (same shape, else ERR_SHAPE with file, name, wanted and met), converting F32 F64
// F16 BF16 among each other, I32 from I64 when it fits.
status_t safetensors_read(const struct safetensors *set, const char *name, const struct tensor_desc *desc, void *out);

// Write entries (any order; stored sorted by dtype size then name, as the public writer does) with metadata pairs (may
// be NULL), complete or absent.
status_t safetensors_write(const char *path, const struct safetensors_entry *entries, size_t count,
                           const char *const (*metadata)[2], size_t metadata_count);

#endif
