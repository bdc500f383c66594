// unicode.c: see unicode.h.
#include "text/unicode.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct range {
  uint32_t first, last;
};
struct lower_run {
  uint32_t first, last, step;
  int32_t distance;
};
#include "text/unicode_class.inc"

enum { COUNT_LETTER = sizeof letter_range / sizeof *letter_range };
enum { COUNT_NUMBER = sizeof number_range / sizeof *number_range };
enum { COUNT_DROPPED = sizeof dropped_range / sizeof *dropped_range };
enum { COUNT_ACCENT = sizeof accent_range / sizeof *accent_range };
enum { COUNT_PUNCTUATION = sizeof punctuation_range / sizeof *punctuation_range };
enum { COUNT_LOWER = sizeof lower_run / sizeof *lower_run };

void code_points_free(struct code_points *c) {
  free(c->at);
  *c = (struct code_points){0};
}

// Length of the sequence that `lead` opens and its share of the code point; 0 for a byte that opens none.
static int sequence_length(uint8_t lead, uint32_t *value) {
  if (lead < 0x80) {
    *value = lead;
    return 1;
  }
  if (lead >= 0xC2 && lead < 0xE0) { // 0xC0 and 0xC1 would only open overlong forms
    *value = lead & 0x1F;
    return 2;
  }
  if (lead >= 0xE0 && lead < 0xF0) {
    *value = lead & 0x0F;
    return 3;
  }
  if (lead >= 0xF0 && lead < 0xF5) {
    *value = lead & 0x07;
    return 4;
  }
  return 0;
}

status_t unicode_decode(const char *text, size_t size, struct code_points *out) {
  static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
  TRY(mem_grow(&out->at, &out->capacity, size + 1, sizeof *out->at));
  out->count = 0;
  for (size_t i = 0; i < size;) {
    uint32_t c = 0;
    int n = sequence_length((uint8_t)text[i], &c), k = 1;
    if (n == 0 || (size_t)n > size - i) return FAIL(ERR_FORMAT, "invalid UTF-8 at byte %zu", i);
    for (; k < n && ((uint8_t)text[i + (size_t)k] & 0xC0) == 0x80; k++)
      c = c << 6 | ((uint8_t)text[i + (size_t)k] & 0x3F);
    if (k < n || c < least[n] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) {
      return FAIL(ERR_FORMAT, "invalid UTF-8 at byte %zu", i);
    }
    out->at[out->count++] = c;
    i += (size_t)n;
  }
  return OK;
}

int unicode_encode(uint32_t c, uint8_t bytes[4]) {
  if (c < 0x80) {
    bytes[0] = (uint8_t)c;
    return 1;
  }
  int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  for (int k = n - 1; k > 0; k--) {
    bytes[k] = (uint8_t)(0x80 | (c & 0x3F));
    c >>= 6;
  }
  static const uint8_t lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
  bytes[0] = (uint8_t)(lead[n] | c);
  return n;
}

static bool in_ranges(uint32_t c, const struct range *r, size_t count) {
  size_t low = 0, high = count;
  while (low < high) {
    size_t mid = (low + high) / 2;
    if (c > r[mid].last) {
      low = mid + 1;
    } else if (c < r[mid].first) {
      high = mid;
    } else {
      return true;
    }
  }
  return false;
}

bool unicode_is_letter(uint32_t c) {
  if (c < 0x80) return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
  return in_ranges(c, letter_range, COUNT_LETTER);
}

bool unicode_is_number(uint32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  return in_ranges(c, number_range, COUNT_NUMBER);
}

bool unicode_is_space(uint32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

bool unicode_is_bert_dropped(uint32_t c) {
  return in_ranges(c, dropped_range, COUNT_DROPPED);
}

bool unicode_is_bert_accent(uint32_t c) {
  return c >= accent_range[0].first && in_ranges(c, accent_range, COUNT_ACCENT);
}

bool unicode_is_bert_punctuation(uint32_t c) {
  return in_ranges(c, punctuation_range, COUNT_PUNCTUATION);
}

int unicode_lower(uint32_t c, uint32_t out[2]) {
  out[0] = c;
  if (c < 0x80) {
    if (c >= 'A' && c <= 'Z') out[0] = c + 32;
    return 1;
  }
  if (c == 0x130) { // I with dot above: the one lower case of two code points
    out[0] = 'i';
    out[1] = 0x307;
    return 2;
  }
  size_t low = 0, high = COUNT_LOWER;
  while (low < high) { // the first run that ends at c or later
    size_t mid = (low + high) / 2;
    if (c > lower_run[mid].last) {
      low = mid + 1;
    } else {
      high = mid;
    }
  }
  if (low < COUNT_LOWER && c >= lower_run[low].first && (c - lower_run[low].first) % lower_run[low].step == 0) {
    out[0] = (uint32_t)((int64_t)c + lower_run[low].distance);
  }
  return 1;
}
