// unicode.h: what the tokenizers need to know of Unicode 14: classes, lower case, NFC and NFD.
#ifndef GRIDSEG_TEXT_UNICODE_H
#define GRIDSEG_TEXT_UNICODE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Code points, growing; code_points_free when done.
struct code_points {
  uint32_t *at;
  size_t count, capacity;
};
void code_points_free(struct code_points *c);

// UTF-8 to code points, replacing what `out` held. Truncated, overlong and surrogate sequences are ERR_FORMAT with the
// offset of their first byte.
status_t unicode_decode(const char *text, size_t size, struct code_points *out);
// The UTF-8 of one code point; returns its length, 1 to 4.
int unicode_encode(uint32_t c, uint8_t bytes[4]);

bool unicode_is_letter(uint32_t c); // general category L
bool unicode_is_number(uint32_t c); // general category N
bool unicode_is_space(uint32_t c);  // White_Space
// As BERT's tokenizer sees them in tokenizers 0.21, whose tables for it are Unicode 8's (see make_unicode_tables.py).
bool unicode_is_bert_dropped(uint32_t c);     // control, format, private use, U+0000, U+FFFD
bool unicode_is_bert_accent(uint32_t c);      // a mark that takes no room
bool unicode_is_bert_punctuation(uint32_t c); // general category P, and every ASCII sign

// Lower case without context or language, as Rust's char::to_lowercase: one code point, but two for U+0130.
int unicode_lower(uint32_t c, uint32_t out[2]);

// Normalisation form C (Unicode Annex 15) with the tables that tokenizers 0.21 uses (see make_unicode_tables.py),
// replacing what `out` held; `out` is not `in`.
status_t unicode_nfc(const struct code_points *in, struct code_points *out);
// Normalisation form D, with the same tables and rules.
status_t unicode_nfd(const struct code_points *in, struct code_points *out);

#endif
