// bpe.h: CLIP's byte-pair encoding: the vocabulary and the merging of one word. Used by tokenizer.c only.
#ifndef GRIDSEG_TEXT_BPE_H
#define GRIDSEG_TEXT_BPE_H

#include "base/key.h"
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

struct bpe_merge {
  int32_t left, right; // the pair
  uint32_t rank;       // lower goes first
  int32_t whole;       // what it becomes
};

struct bpe {
  int size;               // ids are in [0, size)
  int32_t start, end;     // <|startoftext|>, <|endoftext|>; the latter also stands for what the vocabulary lacks
  int32_t byte[256];      // id of a byte inside a word; -1 where the vocabulary lacks it
  int32_t byte_last[256]; // id of a byte that ends a word ("x</w>")
  size_t merge_count;
  struct bpe_merge *merges; // ordered by (left, right)
  uint32_t *first;          // [size + 1]: merges of `left` are merges[first[left]] .. merges[first[left + 1] - 1]
};

// The files are bounded: real ones have 1.1 MB, 0.5 MB and 1.4 MB (3.2 MB unpacked), and 49,408 ids.
enum { BPE_FILE_LIMIT = 16 << 20, BPE_UNPACKED_LIMIT = 32 << 20, BPE_ID_LIMIT = 1 << 20 };
// transformers and open_clip read this many merges and no more: ids 512 to 49,405.
enum { BPE_MERGE_LIMIT = 49152 - 256 - 2 };

// The two forms in which the same vocabulary is published. ERR_FORMAT names file, line or key.
// Release with bpe_free, after a failure too.
status_t bpe_load_json(const char *vocab_path, const char *merges_path, struct bpe *out);
status_t bpe_load_gzip(const char *path, struct bpe *out);
void bpe_free(struct bpe *bpe);
// Add everything that ids depend on to a key: equal for both published forms.
status_t bpe_add_to_key(const struct bpe *bpe, struct key_builder *key);

// Buffers that one thread reuses from word to word.
struct bpe_scratch {
  struct bpe_symbol *symbols;
  struct bpe_candidate *heap;
  size_t symbol_capacity, heap_capacity, heap_count;
};
void bpe_scratch_free(struct bpe_scratch *s);

// Ids of one word of `size` bytes, at most `room` of them to `ids`; *count is how many were written. What does not fit is
// dropped: the texts are truncated anyway. Takes O(size log size).
status_t bpe_encode_word(const struct bpe *bpe, struct bpe_scratch *s, const uint8_t *word, size_t size, int32_t *ids,
                         int room, int *count);

#endif
