// wordpiece.c: see wordpiece.h. The steps of transformers' BertTokenizerFast (tokenizers: BertNormalizer, BertPreTokenizer, WordPiece)
// in their order: special tokens cut out of the raw text; what is no text dropped, white space to a space, spaces around CJK
// ideographs; NFD without accents; lower case; words between spaces, punctuation by itself; and of each word the longest
// piece that the vocabulary holds, from the left, or [UNK].
#include "text/wordpiece.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { WORD_LIMIT = 100 }; // code points; a longer word is [UNK]

// What one call works with; nothing of it outlives the call.
struct work {
  const struct wordpiece *w;
  struct code_points clean, text; // after cleaning; normalised
  int32_t *ids;
  int count, room;
};

// What cleaning leaves of White_Space: \v, \f and U+0085 are dropped as controls.
static bool is_clean_space(uint32_t c) {
  return unicode_is_space(c) && c != '\v' && c != '\f' && c != 0x85;
}

// The blocks of ideographs that tokenizers names; its U+2B920 is a slip for U+2B820.
static bool is_ideograph(uint32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static status_t clean(struct work *k, const uint32_t *at, size_t count) {
  size_t room = count;
  for (size_t i = 0; k->w->chinese && i < count; i++) room += is_ideograph(at[i]) ? 2 : 0;
  TRY(mem_grow(&k->clean.at, &k->clean.capacity, room, sizeof *k->clean.at));
  k->clean.count = 0;
  for (size_t i = 0; i < count; i++) {
    uint32_t c = at[i];
    if (is_clean_space(c)) {
      k->clean.at[k->clean.count++] = ' ';
    } else if (k->w->chinese && is_ideograph(c)) {
      const uint32_t alone[3] = {' ', c, ' '};
      memcpy(k->clean.at + k->clean.count, alone, sizeof alone);
      k->clean.count += 3;
    } else if (!unicode_is_bert_dropped(c)) {
      k->clean.at[k->clean.count++] = c;
    }
  }
  return OK;
}

// k->clean to k->text: accents and case go.
static status_t normalise(struct work *k) {
  if (k->w->strip) {
    TRY(unicode_nfd(&k->clean, &k->text));
    size_t kept = 0;
    for (size_t i = 0; i < k->text.count; i++) {
      if (!unicode_is_bert_accent(k->text.at[i])) k->text.at[kept++] = k->text.at[i];
    }
    k->text.count = kept;
    const struct code_points swap = k->clean;
    k->clean = k->text;
    k->text = swap;
  }
  TRY(mem_grow(&k->text.at, &k->text.capacity, 2 * k->clean.count + 1, sizeof *k->text.at));
  k->text.count = 0;
  for (size_t i = 0; i < k->clean.count; i++) {
    uint32_t low[2] = {k->clean.at[i], 0};
    int n = k->w->lower ? unicode_lower(low[0], low) : 1;
    for (int j = 0; j < n; j++) k->text.at[k->text.count++] = low[j];
  }
  return OK;
}

// The pieces of one word. Two bytes before it are room for the "##" of a piece that does not begin it.
static void add_word(struct work *k, const uint32_t *at, size_t count) {
  char room[2 + 4 * WORD_LIMIT], *word = room + 2;
  size_t size = 0;
  int first = k->count;
  if (count <= WORD_LIMIT) {
    for (size_t i = 0; i < count; i++) size += (size_t)unicode_encode(at[i], (uint8_t *)word + size);
  }
  for (size_t start = 0, end; start < size; start = end) {
    size_t marks = start ? 2 : 0;
    int32_t id = -1;
    memset(word + start - marks, '#', marks); // over bytes that are done with
    for (end = size; end > start; end--) {
      bool whole = end == size || ((unsigned char)word[end] & 0xC0) != 0x80;
      if (!whole || end - start + marks > k->w->longest) continue;
      if ((id = wordpiece_find(k->w, word + start - marks, end - start + marks)) >= 0) break;
    }
    if (id < 0) {
      size = 0; // the whole word is unknown
    } else if (k->count < k->room) {
      k->ids[k->count++] = id;
    } else {
      k->count++; // counted, dropped: a later piece may still make the word unknown
    }
  }
  if (size == 0) {
    k->count = first;
    k->ids[k->count++] = k->w->special[WORDPIECE_UNKNOWN];
  }
  if (k->count > k->room) k->count = k->room;
}

static void add_words(struct work *k) {
  const uint32_t *at = k->text.at;
  for (size_t i = 0, n; i < k->text.count && k->count < k->room; i += n) {
    n = 1;
    if (unicode_is_space(at[i])) continue;
    if (!unicode_is_bert_punctuation(at[i])) {
      while (i + n < k->text.count && !unicode_is_space(at[i + n]) && !unicode_is_bert_punctuation(at[i + n])) n++;
    }
    add_word(k, at + i, n);
  }
}

// Which special token stands at at[0], -1 when there is none; its length in *length.
static int find_special(const uint32_t *at, size_t left, size_t *length) {
  for (int s = 0; at[0] == '[' && s < WORDPIECE_SPECIALS; s++) {
    const char *name = wordpiece_special_name(s);
    size_t n = 0;
    while (name[n] && n < left && at[n] == (uint32_t)name[n]) n++;
    if (name[n]) continue;
    *length = n;
    return s;
  }
  return -1;
}

status_t wordpiece_encode(const struct wordpiece *w, const struct code_points *text, int32_t *ids, int room,
                          int *count) {
  struct work k = {.w = w, .ids = ids, .room = room};
  status_t st = OK;
  for (size_t i = 0; i < text->count && k.count < room;) {
    size_t end = i, length = 0;
    int special = -1;
    while (end < text->count && (special = find_special(text->at + end, text->count - end, &length)) < 0) end++;
    TRY_GOTO(clean(&k, text->at + i, end - i), done);
    TRY_GOTO(normalise(&k), done);
    add_words(&k);
    if (special >= 0 && k.count < room) ids[k.count++] = w->special[special];
    i = end + length;
  }
done:
  *count = k.count;
  code_points_free(&k.clean);
  code_points_free(&k.text);
  return st;
}
