// unicode_nfc.c: decompose and order the marks (NFD), compose (NFC): Unicode Annex 15 and chapter 3.11 and 3.12 of the standard.
#include "text/unicode.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct class_run {
  uint32_t first, last;
  uint8_t value;
};
struct pair {
  uint32_t code, first, second;
};
#include "text/unicode_nfc.inc"

enum { COUNT_CLASS = sizeof class_run / sizeof *class_run };
enum { COUNT_PAIR = sizeof pair_of / sizeof *pair_of };
enum { COUNT_COMPOSE = sizeof compose_order / sizeof *compose_order };

// Hangul syllables (3.12): S = base + (L * 21 + V) * 28 + T.
enum { S_BASE = 0xAC00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11A7, L_COUNT = 19, V_COUNT = 21, T_COUNT = 28 };
enum { S_COUNT = L_COUNT * V_COUNT * T_COUNT };

static uint8_t combining_class(uint32_t c) {
  if (c < class_run[0].first) return 0;
  size_t low = 0, high = COUNT_CLASS;
  while (low < high) {
    size_t mid = (low + high) / 2;
    if (c > class_run[mid].last) {
      low = mid + 1;
    } else if (c < class_run[mid].first) {
      high = mid;
    } else {
      return class_run[mid].value;
    }
  }
  return 0;
}

static const struct pair *find_pair(uint32_t c) {
  if (c < pair_of[0].code) return NULL;
  size_t low = 0, high = COUNT_PAIR;
  while (low < high) {
    size_t mid = (low + high) / 2;
    if (c > pair_of[mid].code) {
      low = mid + 1;
    } else if (c < pair_of[mid].code) {
      high = mid;
    } else {
      return &pair_of[mid];
    }
  }
  return NULL;
}

// The primary composite of two code points, 0 when they have none.
static uint32_t compose(uint32_t first, uint32_t second) {
  uint32_t l = first - L_BASE, v = second - V_BASE, s = first - S_BASE, t = second - T_BASE;
  if (l < L_COUNT && v < V_COUNT) return S_BASE + (l * V_COUNT + v) * T_COUNT;
  if (s < S_COUNT && s % T_COUNT == 0 && t > 0 && t < T_COUNT) return first + t;
  size_t low = 0, high = COUNT_COMPOSE;
  while (low < high) {
    size_t mid = (low + high) / 2;
    const struct pair *p = &pair_of[compose_order[mid]];
    if (first > p->first || (first == p->first && second > p->second)) {
      low = mid + 1;
    } else if (first < p->first || second < p->second) {
      high = mid;
    } else {
      return p->code;
    }
  }
  return 0;
}

// Append the full decomposition of c: at most 4 code points. Only the first of a pair decomposes further: the generator
// checks that.
static void decompose(uint32_t c, struct code_points *out) {
  if (c >= S_BASE && c < S_BASE + S_COUNT) {
    uint32_t s = c - S_BASE;
    out->at[out->count++] = L_BASE + s / (V_COUNT * T_COUNT);
    out->at[out->count++] = V_BASE + s % (V_COUNT * T_COUNT) / T_COUNT;
    if (s % T_COUNT) out->at[out->count++] = T_BASE + s % T_COUNT;
    return;
  }
  uint32_t tail[3];
  int tails = 0;
  for (const struct pair *p; tails < 3 && (p = find_pair(c)); c = p->first) {
    if (p->second) tail[tails++] = p->second;
  }
  out->at[out->count++] = c;
  while (tails) out->at[out->count++] = tail[--tails];
}

// Stable order by class of one run of marks, by counting: a text of a million marks stays linear.
static status_t order_run(uint32_t *at, size_t count, struct code_points *scratch) {
  size_t start[257] = {0};
  TRY(mem_grow(&scratch->at, &scratch->capacity, count, sizeof *scratch->at));
  memcpy(scratch->at, at, count * sizeof *at);
  for (size_t i = 0; i < count; i++) start[combining_class(at[i]) + 1]++;
  for (int k = 0; k < 256; k++) start[k + 1] += start[k];
  for (size_t i = 0; i < count; i++) at[start[combining_class(scratch->at[i])]++] = scratch->at[i];
  return OK;
}

static status_t order_marks(struct code_points *text, struct code_points *scratch) {
  for (size_t i = 0; i < text->count;) {
    size_t first = i;
    bool sorted = true;
    for (uint8_t last = 0, k; i < text->count && (k = combining_class(text->at[i])) != 0; i++, last = k)
      if (k < last) sorted = false;
    if (!sorted) TRY(order_run(text->at + first, i - first, scratch));
    if (i == first) i++;
  }
  return OK;
}

static void compose_text(struct code_points *text) {
  size_t kept = 0, starter = SIZE_MAX;
  uint8_t last = 0; // class of the code point kept last since the starter
  for (size_t i = 0; i < text->count; i++) {
    uint32_t c = text->at[i], whole;
    uint8_t k = combining_class(c);
    bool adjacent = starter != SIZE_MAX && kept == starter + 1;
    // Blocked (D115): something of class 0, or of the same or a higher class, stands between.
    if (starter != SIZE_MAX && (adjacent || (last != 0 && last < k)) && (whole = compose(text->at[starter], c)) != 0) {
      text->at[starter] = whole;
      continue;
    }
    if (k == 0) starter = kept;
    last = k;
    text->at[kept++] = c;
  }
  text->count = kept;
}

// NFD, or where nothing below changes (*plain) the text itself.
static status_t decompose_text(const struct code_points *in, struct code_points *out, bool *plain) {
  size_t most;
  if (!size_mul(in->count, 4, &most) || !size_add(most, 4, &most)) return FAIL(ERR_NOMEM, "text is too long");
  *plain = true;
  for (size_t i = 0; i < in->count && *plain; i++) *plain = in->at[i] < 0xC0;
  TRY(mem_grow(&out->at, &out->capacity, most, sizeof *out->at));
  out->count = 0;
  if (*plain) { // nothing below U+00C0 decomposes, combines or composes with its like
    if (in->count) memcpy(out->at, in->at, in->count * sizeof *in->at);
    out->count = in->count;
    return OK;
  }
  for (size_t i = 0; i < in->count; i++) decompose(in->at[i], out);
  struct code_points scratch = {0};
  status_t st = order_marks(out, &scratch);
  code_points_free(&scratch);
  return st;
}

status_t unicode_nfd(const struct code_points *in, struct code_points *out) {
  bool plain;
  return decompose_text(in, out, &plain);
}

status_t unicode_nfc(const struct code_points *in, struct code_points *out) {
  bool plain;
  TRY(decompose_text(in, out, &plain));
  if (!plain) compose_text(out);
  return OK;
}
