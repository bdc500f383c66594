// wordpiece.h: BERT's WordPiece: the vocabulary and the steps of its tokenizer. Used by tokenizer.c only.
#ifndef GRIDSEG_TEXT_WORDPIECE_H
#define GRIDSEG_TEXT_WORDPIECE_H

#include "base/key.h"
#include "base/status.h"
#include "text/unicode.h"

#include <stdbool.h>

struct wordpiece_name {
  const char *text; // in `file`
  uint32_t size;
  int32_t id;
};

enum { WORDPIECE_PAD, WORDPIECE_UNKNOWN, WORDPIECE_START, WORDPIECE_END, WORDPIECE_MASK, WORDPIECE_SPECIALS };

struct wordpiece {
  int size; // ids are in [0, size): one a line
  int32_t special[WORDPIECE_SPECIALS];
  bool lower, strip, chinese;   // lower case; accents go; a CJK ideograph is a word by itself
  size_t count, longest;        // names; bytes of the longest
  struct wordpiece_name *names; // ordered by text
  uint8_t *file;
};

// Real files have 30,522 lines and 0.23 MB.
enum { WORDPIECE_FILE_LIMIT = 16 << 20, WORDPIECE_ID_LIMIT = 1 << 20 };

// Read vocab.txt, one token a line, and what tokenizer_config.json (may be absent) says of lower case, accents and ideographs.
// ERR_FORMAT names the file with the line, byte, token or key. Release with wordpiece_free, after a failure too.
status_t wordpiece_load(const char *vocabulary_path, const char *config_path, struct wordpiece *out);
void wordpiece_free(struct wordpiece *w);
// Add everything that ids depend on to a key.
status_t wordpiece_add_to_key(const struct wordpiece *w, struct key_builder *key);
const char *wordpiece_special_name(int special); // "[PAD]" ...
// The id of a token, -1 where the vocabulary lacks it.
int32_t wordpiece_find(const struct wordpiece *w, const char *text, size_t size);

// Ids of one text without [CLS] and [SEP], at most `room` of them to `ids`; *count is how many were written. What does not fit
// is dropped.
status_t wordpiece_encode(const struct wordpiece *w, const struct code_points *text, int32_t *ids, int room,
                          int *count);

#endif
