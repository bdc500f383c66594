// pool.h: a packed pool, ROOT/NAME/SPLIT/SIZE, read by every rank: images and masks at network size, source masks,
// names, groups and prompts. One sample is one mask; several may share an image. Format: DESIGN, "Pool".
#ifndef GRIDSEG_DATA_POOL_H
#define GRIDSEG_DATA_POOL_H

#include "base/key.h"
#include "base/status.h"

#include <stdint.h>
#include <stdio.h>

struct pool; // opaque, immutable once open; reads are thread-safe (pread at addresses taken from HDF5 once)

// Where a prompt's words come from. One made from the mask is oracle knowledge: tables say so.
typedef enum { PROMPT_CLASS, PROMPT_METADATA, PROMPT_GROUND_TRUTH, PROMPT_PERSON } prompt_source_t;
const char *prompt_source_name(prompt_source_t source); // "class" | "metadata" | "ground_truth" | "person"

struct pool_info {
  const char *name, *split;
  int size;                             // S: images are uint8 [S,S,3] RGB, masks uint8 [S,S] of 0 and 1
  int64_t images, samples;              // M, N
  int prompt_kinds;                     // P
  int prompt_wordings;                  // V, the largest number of wordings of any (sample, kind)
  const char *const *prompt_kind;       // [P] "p0".."p9" or others
  const prompt_source_t *prompt_source; // [P]
  struct key key;                       // content key of the pool: pixels, masks, names, classes, groups, prompts
  struct key source_key;                // content key of what it was packed from, and how
  int shards;
};

struct pool_sample {
  const char *name; // the mask's file name (with its sub-folder when it has one): the sample's identity
  const char *class_name, *group, *image_name;
  int64_t image; // index into the images
  int original_height, original_width;
};

// Open ROOT/NAME/SPLIT/SIZE. Everything but pixels is read and checked: pool.json's shards exist with the stated bytes,
// datasets have the stated types and shapes, indices are in range, texts are UTF-8. SHA-256 of the shards is compared
// when `verify`. Errors name the file and dataset. *out is closed with pool_close.
status_t pool_open(const char *root, const char *name, const char *split, int size, int verify, struct pool **out);
// The same for the pool's folder itself, whatever its name and split: for `info` and `score`.
status_t pool_open_path(const char *path, int verify, struct pool **out);
void pool_close(struct pool **pool);
const struct pool_info *pool_get_info(const struct pool *pool);

// Strings are borrowed from the pool. `sample` and `image` out of range are ERR_ARG.
status_t pool_get_sample(const struct pool *pool, int64_t sample, struct pool_sample *out);
// Pixels into the caller's buffer of S*S*3 (S*S) bytes. The stored CRC-32 is checked: ERR_FORMAT names shard and index.
status_t pool_read_image(const struct pool *pool, int64_t image, uint8_t *pixels);
status_t pool_read_mask(const struct pool *pool, int64_t sample, uint8_t *mask);
// The source mask at its original size as bytes 0/1, [height,width] of the sample; *mask freed with mem_free.
status_t pool_read_original_mask(const struct pool *pool, int64_t sample, uint8_t **mask);
// SHA-256 of the image's packed pixels: what feature keys are made from.
status_t pool_image_key(const struct pool *pool, int64_t image, struct key *out);

// What a pool holds, for people; its checksums (shards, images, masks) are verified on the way.
status_t pool_print_info(const char *path, FILE *out);

// Index of a prompt kind ("p6") in the pool, -1 when it has none.
int pool_find_kind(const struct pool *pool, const char *kind);
// Number of wordings that `sample` has for `kind`: 0 when it lacks the prompt.
int pool_count_wordings(const struct pool *pool, int64_t sample, int kind);
const char *pool_get_prompt(const struct pool *pool, int64_t sample, int kind, int wording); // UTF-8; NULL when absent

// "HDF5 1.10.8": for --version; a static buffer.
const char *pool_library(void);

#endif
