// bpe.c: merge the bytes of one word by rank (Sennrich, Haddow, Birch, "Neural machine translation of rare words with
// subword units", 2016), with the order and tie rules of Hugging Face's tokenizers (models/bpe/word.rs): lowest rank
// first, then the leftmost. A heap of candidates over a linked list, so that a word of 10 kB takes milliseconds.
#include "text/bpe.h"

#include "base/mem.h"

#include <stdbool.h>
#include <stdlib.h>

struct bpe_symbol {
  int32_t id;         // -1: swallowed by its left neighbour
  int32_t prev, next; // -1: none
};
struct bpe_candidate {
  uint32_t rank;
  int32_t position, whole;
};

void bpe_free(struct bpe *bpe) {
  free(bpe->merges);
  free(bpe->first);
  *bpe = (struct bpe){0};
}

void bpe_scratch_free(struct bpe_scratch *s) {
  free(s->symbols);
  free(s->heap);
  *s = (struct bpe_scratch){0};
}

status_t bpe_add_to_key(const struct bpe *bpe, struct key_builder *key) {
  TRY(key_add_int(key, "start", bpe->start));
  TRY(key_add_int(key, "end", bpe->end));
  TRY(key_add_bytes(key, "byte", bpe->byte, sizeof bpe->byte));
  TRY(key_add_bytes(key, "byte_last", bpe->byte_last, sizeof bpe->byte_last));
  return key_add_bytes(key, "merges", bpe->merges, bpe->merge_count * sizeof *bpe->merges);
}

static const struct bpe_merge *find_merge(const struct bpe *bpe, int32_t left, int32_t right) {
  size_t low = bpe->first[left], high = bpe->first[left + 1];
  while (low < high) {
    size_t mid = (low + high) / 2;
    if (right > bpe->merges[mid].right) {
      low = mid + 1;
    } else if (right < bpe->merges[mid].right) {
      high = mid;
    } else {
      return &bpe->merges[mid];
    }
  }
  return NULL;
}

static bool before(const struct bpe_candidate *a, const struct bpe_candidate *b) {
  return a->rank < b->rank || (a->rank == b->rank && a->position < b->position);
}

static status_t heap_push(struct bpe_scratch *s, struct bpe_candidate c) {
  TRY(mem_grow(&s->heap, &s->heap_capacity, s->heap_count + 1, sizeof *s->heap));
  size_t i = s->heap_count++;
  for (; i > 0 && before(&c, &s->heap[(i - 1) / 2]); i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
  s->heap[i] = c;
  return OK;
}

static struct bpe_candidate heap_pop(struct bpe_scratch *s) {
  struct bpe_candidate top = s->heap[0], moved = s->heap[--s->heap_count];
  size_t i = 0;
  for (size_t child; (child = 2 * i + 1) < s->heap_count; i = child) {
    if (child + 1 < s->heap_count && before(&s->heap[child + 1], &s->heap[child])) child++;
    if (!before(&s->heap[child], &moved)) break;
    s->heap[i] = s->heap[child];
  }
  s->heap[i] = moved;
  return top;
}

// Offer the pair that begins at `position` to the heap, when the table has it.
static status_t offer(const struct bpe *bpe, struct bpe_scratch *s, int32_t position) {
  int32_t next = s->symbols[position].next;
  if (next < 0) return OK;
  const struct bpe_merge *m = find_merge(bpe, s->symbols[position].id, s->symbols[next].id);
  if (!m) return OK;
  return heap_push(s, (struct bpe_candidate){.rank = m->rank, .position = position, .whole = m->whole});
}

static status_t merge_all(const struct bpe *bpe, struct bpe_scratch *s, int32_t count) {
  s->heap_count = 0;
  for (int32_t i = 0; i + 1 < count; i++) TRY(offer(bpe, s, i));
  while (s->heap_count) {
    struct bpe_candidate top = heap_pop(s);
    struct bpe_symbol *here = &s->symbols[top.position];
    if (here->id < 0 || here->next < 0) continue;
    struct bpe_symbol *right = &s->symbols[here->next];
    const struct bpe_merge *m = find_merge(bpe, here->id, right->id);
    if (!m || m->whole != top.whole) continue; // a neighbour has changed since it was offered
    here->id = top.whole;
    here->next = right->next;
    right->id = -1;
    if (here->next >= 0) s->symbols[here->next].prev = top.position;
    if (here->prev >= 0) TRY(offer(bpe, s, here->prev));
    TRY(offer(bpe, s, top.position));
  }
  return OK;
}

status_t bpe_encode_word(const struct bpe *bpe, struct bpe_scratch *s, const uint8_t *word, size_t size, int32_t *ids,
                         int room, int *count) {
  *count = 0;
  if (size == 0) return OK;
  if (size > INT32_MAX) return FAIL(ERR_ARG, "a word of %zu bytes is too long", size);
  TRY(mem_grow(&s->symbols, &s->symbol_capacity, size, sizeof *s->symbols));
  for (size_t i = 0; i < size; i++) {
    bool last = i + 1 == size;
    int32_t id = last ? bpe->byte_last[word[i]] : bpe->byte[word[i]];
    s->symbols[i] =
        (struct bpe_symbol){.id = id < 0 ? bpe->end : id, .prev = (int32_t)i - 1, .next = last ? -1 : (int32_t)i + 1};
  }
  TRY(merge_all(bpe, s, (int32_t)size));
  for (int32_t i = 0; i >= 0 && *count < room; i = s->symbols[i].next) ids[(*count)++] = s->symbols[i].id;
  return OK;
}
