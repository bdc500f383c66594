// bpe_vocabulary.c: read CLIP's vocabulary in either published form, as transformers' CLIPTokenizer and open_clip's
// SimpleTokenizer do: the first line of the merges is a heading, and BPE_MERGE_LIMIT merges follow. In the .gz form the
// ids are implied: 256 bytes, 256 bytes that end a word, the merges in their order, the two special tokens.
#include "text/bpe.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

struct name {
  const char *text;
  uint32_t size;
  int32_t id;
};
struct names {
  struct name *at;
  size_t count, capacity;
  char *pool; // text made here; NULL where the names are borrowed
};
struct line {
  const char *left, *right;
  uint32_t left_size, right_size, number;
};
struct lines {
  struct line *at;
  size_t count, capacity;
};

static const char start_name[] = "<|startoftext|>", end_name[] = "<|endoftext|>";

static int compare_text(const char *a, size_t na, const char *b, size_t nb) {
  int c = memcmp(a, b, na < nb ? na : nb);
  return c ? c : (na > nb) - (na < nb);
}

static int compare_names(const void *a, const void *b) {
  const struct name *x = a, *y = b;
  return compare_text(x->text, x->size, y->text, y->size);
}

static int32_t find_name(const struct names *n, const char *text, size_t size) {
  size_t low = 0, high = n->count;
  while (low < high) {
    size_t mid = (low + high) / 2;
    int c = compare_text(text, size, n->at[mid].text, n->at[mid].size);
    if (c == 0) return n->at[mid].id;
    if (c > 0) {
      low = mid + 1;
    } else {
      high = mid;
    }
  }
  return -1;
}

static status_t add_name(struct names *n, const char *text, size_t size, int32_t id) {
  if (size > UINT32_MAX) return FAIL(ERR_FORMAT, "a token of %zu bytes", size);
  TRY(mem_grow(&n->at, &n->capacity, n->count + 1, sizeof *n->at));
  n->at[n->count++] = (struct name){.text = text, .size = (uint32_t)size, .id = id};
  return OK;
}

// Sort by text; the same text twice is refused.
static status_t sort_names(struct names *n, const char *where) {
  if (n->count) qsort(n->at, n->count, sizeof *n->at, compare_names);
  for (size_t i = 1; i < n->count; i++) {
    if (compare_names(&n->at[i - 1], &n->at[i]) == 0) {
      return FAIL(ERR_FORMAT, "%s: token '%.*s' has two ids, %d and %d", where, (int)n->at[i].size, n->at[i].text,
                  n->at[i - 1].id, n->at[i].id);
    }
  }
  return OK;
}

static int is_printable(int b) {
  return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
}

// GPT-2's printable stand-ins for bytes: Latin-1 letters and signs stand for themselves, the others for U+0100 and up.
// `rank` is the byte's place in the implied order of ids: the printable ones first.
static void byte_symbol(int byte, uint32_t *code, int *rank) {
  int printable = 0;
  for (int b = 0; b < byte; b++) printable += is_printable(b);
  *code = is_printable(byte) ? (uint32_t)byte : 256u + (uint32_t)(byte - printable);
  *rank = is_printable(byte) ? printable : 188 + byte - printable; // 188 bytes are printable
}

static int is_blank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

// Two tokens with blanks around them, as Python's str.split() finds them.
static status_t split_line(const char *where, const char *text, size_t size, uint32_t number, struct line *out) {
  const char *word[3] = {text, text, text}, *end[3] = {text, text, text};
  int words = 0;
  for (size_t i = 0; i < size && words < 3; words++) {
    while (i < size && is_blank(text[i])) i++;
    if (i == size) break;
    word[words] = text + i;
    while (i < size && !is_blank(text[i])) i++;
    end[words] = text + i;
  }
  if (words != 2) {
    return FAIL(ERR_FORMAT, "%s: line %u: wanted two tokens, met %s", where, number,
                words == 0   ? "an empty line"
                : words == 1 ? "one"
                             : "more");
  }
  *out = (struct line){.left = word[0],
                       .right = word[1],
                       .left_size = (uint32_t)(end[0] - word[0]),
                       .right_size = (uint32_t)(end[1] - word[1]),
                       .number = number};
  return OK;
}

// The merges: what follows the first line, BPE_MERGE_LIMIT lines at most. They point into `text`.
static status_t read_lines(const char *where, const char *text, size_t size, struct lines *out) {
  while (size && is_blank(text[size - 1])) size--;
  const char *end = text + size, *p = memchr(text, '\n', size);
  for (uint32_t number = 2; p && out->count < BPE_MERGE_LIMIT; number++) {
    const char *line = p + 1, *stop = memchr(line, '\n', (size_t)(end - line));
    TRY(mem_grow(&out->at, &out->capacity, out->count + 1, sizeof *out->at));
    TRY(split_line(where, line, (size_t)((stop ? stop : end) - line), number, &out->at[out->count]));
    out->count++;
    p = stop;
  }
  if (out->count == 0) return OK;
  const struct line *last = &out->at[out->count - 1];
  struct code_points scratch = {0};
  status_t st = unicode_decode(text, (size_t)(last->right + last->right_size - text), &scratch);
  code_points_free(&scratch);
  return st == OK ? OK : status_prefix(st, "%s", where);
}

static int compare_merges(const void *a, const void *b) {
  const struct bpe_merge *x = a, *y = b;
  if (x->left != y->left) return x->left < y->left ? -1 : 1;
  if (x->right != y->right) return x->right < y->right ? -1 : 1;
  return (x->rank > y->rank) - (x->rank < y->rank);
}

static status_t need_name(const struct names *n, const char *where, uint32_t line, const char *text, size_t size,
                          int32_t *id) {
  if ((*id = find_name(n, text, size)) >= 0) return OK;
  return FAIL(ERR_FORMAT, "%s: line %u: token '%.*s' is not in the vocabulary", where, line, (int)size, text);
}

// Turn names into ids. A pair that stands twice keeps its first rank, as in Python's dict(zip(...)).
static status_t fill_merges(struct bpe *b, const char *where, const struct names *n, const struct lines *lines) {
  char *whole = NULL;
  size_t capacity = 0;
  status_t st = OK;
  TRY_GOTO(mem_alloc(&b->merges, lines->count, sizeof *b->merges), done);
  for (size_t i = 0; i < lines->count; i++) {
    const struct line *l = &lines->at[i];
    struct bpe_merge *m = &b->merges[i];
    size_t size = (size_t)l->left_size + l->right_size;
    m->rank = (uint32_t)i;
    TRY_GOTO(mem_grow(&whole, &capacity, size, 1), done);
    memcpy(whole, l->left, l->left_size);
    memcpy(whole + l->left_size, l->right, l->right_size);
    TRY_GOTO(need_name(n, where, l->number, l->left, l->left_size, &m->left), done);
    TRY_GOTO(need_name(n, where, l->number, l->right, l->right_size, &m->right), done);
    TRY_GOTO(need_name(n, where, l->number, whole, size, &m->whole), done);
  }
  qsort(b->merges, lines->count, sizeof *b->merges, compare_merges);
  for (size_t i = 0; i < lines->count; i++) {
    struct bpe_merge *last = b->merge_count ? &b->merges[b->merge_count - 1] : NULL;
    if (last && last->left == b->merges[i].left && last->right == b->merges[i].right) continue;
    b->merges[b->merge_count++] = b->merges[i];
  }
  TRY_GOTO(mem_alloc(&b->first, (size_t)b->size + 1, sizeof *b->first), done);
  for (size_t i = 0; i < b->merge_count; i++) b->first[b->merges[i].left + 1]++;
  for (int i = 0; i < b->size; i++) b->first[i + 1] += b->first[i];
done:
  free(whole);
  return st;
}

// Sort the names, find the special tokens and the bytes, resolve the merges.
static status_t build(struct bpe *b, const char *where, const char *merges_where, struct names *n,
                      const struct lines *lines) {
  TRY(sort_names(n, where));
  b->start = find_name(n, start_name, sizeof start_name - 1);
  b->end = find_name(n, end_name, sizeof end_name - 1);
  if (b->start < 0 || b->end < 0) {
    return FAIL(ERR_FORMAT, "%s: special token '%s' is missing", where, b->start < 0 ? start_name : end_name);
  }
  for (size_t i = 0; i < n->count; i++)
    if (n->at[i].id >= b->size) b->size = n->at[i].id + 1;
  for (int byte = 0; byte < 256; byte++) {
    uint32_t code;
    int rank;
    char text[8];
    byte_symbol(byte, &code, &rank);
    size_t size = (size_t)unicode_encode(code, (uint8_t *)text);
    b->byte[byte] = find_name(n, text, size);
    memcpy(text + size, "</w>", 4);
    b->byte_last[byte] = find_name(n, text, size + 4);
  }
  return fill_merges(b, merges_where, n, lines);
}

static status_t read_vocab_json(const char *path, json_t *object, struct names *n) {
  const char *key;
  json_t *value;
  uint8_t *seen = NULL;
  status_t st = OK;
  if (!json_is_object(object)) return FAIL(ERR_FORMAT, "%s: wanted an object of tokens and ids", path);
  TRY(mem_alloc(&seen, BPE_ID_LIMIT, 1));
  json_object_foreach(object, key, value) {
    json_int_t id = json_integer_value(value);
    if (!json_is_integer(value) || id < 0 || id >= BPE_ID_LIMIT) {
      FAIL_GOTO(done, ERR_FORMAT, "%s: '%s' must be an id between 0 and %d", path, key, BPE_ID_LIMIT - 1);
    }
    if (seen[id]) FAIL_GOTO(done, ERR_FORMAT, "%s: id %d of '%s' stands there twice", path, (int)id, key);
    seen[id] = 1;
    TRY_GOTO(add_name(n, key, strlen(key), (int32_t)id), done);
  }
done:
  mem_free(&seen);
  return st;
}

status_t bpe_load_json(const char *vocab_path, const char *merges_path, struct bpe *out) {
  json_t *object = NULL;
  uint8_t *text = NULL;
  size_t size;
  struct names names = {0};
  struct lines lines = {0};
  status_t st = OK;
  *out = (struct bpe){0};
  TRY_GOTO(file_read(vocab_path, BPE_FILE_LIMIT, &text, &size), done);
  TRY_GOTO(json_parse(vocab_path, (const char *)text, size, &object), done);
  mem_free(&text);
  TRY_GOTO(read_vocab_json(vocab_path, object, &names), done);
  TRY_GOTO(file_read(merges_path, BPE_FILE_LIMIT, &text, &size), done);
  TRY_GOTO(read_lines(merges_path, (const char *)text, size, &lines), done);
  TRY_GOTO(build(out, vocab_path, merges_path, &names, &lines), done);
done:
  free(lines.at);
  free(names.at);
  mem_free(&text);
  json_decref(object);
  return st;
}

// Unpack a whole gzip file into *text (freed with mem_free). Its check sum is zlib's business; its size is bounded here.
static status_t unpack(const char *path, uint8_t **text, size_t *size) {
  uint8_t *packed = NULL;
  size_t packed_size, capacity = 0;
  z_stream z = {0};
  int rc = Z_OK;
  status_t st = OK;
  *text = NULL;
  *size = 0;
  TRY(file_read(path, BPE_FILE_LIMIT, &packed, &packed_size));
  if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) FAIL_GOTO(done, ERR_NOMEM, "%s: zlib has no memory", path);
  z.next_in = packed;
  z.avail_in = (uInt)packed_size; // at most BPE_FILE_LIMIT
  while (rc == Z_OK) {
    if (*size > BPE_UNPACKED_LIMIT) {
      FAIL_GOTO(done, ERR_FORMAT, "%s: unpacks to more than the limit of %d bytes", path, BPE_UNPACKED_LIMIT);
    }
    TRY_GOTO(mem_grow(text, &capacity, *size + (1 << 20), 1), done);
    z.next_out = *text + *size;
    z.avail_out = 1 << 20;
    rc = inflate(&z, Z_NO_FLUSH);
    *size += (1 << 20) - z.avail_out;
  }
  if (rc != Z_STREAM_END) {
    FAIL_GOTO(done, ERR_FORMAT, "%s: damaged gzip data near byte %lu: %s", path, z.total_in,
              z.msg               ? z.msg
              : rc == Z_BUF_ERROR ? "the file is cut off"
                                  : "not understood");
  }
done:
  (void)inflateEnd(&z);
  mem_free(&packed);
  return st;
}

// Ids 0..511 for the bytes, then the merges, then the special tokens. The texts of the names go to one pool.
static status_t imply_names(const struct lines *lines, struct names *n) {
  size_t bytes = (size_t)512 * 8, used = 0;
  for (size_t i = 0; i < lines->count; i++) bytes += (size_t)lines->at[i].left_size + lines->at[i].right_size;
  TRY(mem_alloc(&n->pool, bytes, 1));
  for (int byte = 0; byte < 256; byte++) {
    uint32_t code;
    int rank;
    byte_symbol(byte, &code, &rank);
    char *text = n->pool + used;
    size_t size = (size_t)unicode_encode(code, (uint8_t *)text);
    memcpy(text + size, "</w>", 4);
    TRY(add_name(n, text, size, rank));
    TRY(add_name(n, text, size + 4, 256 + rank));
    used += size + 4;
  }
  int32_t id = 512;
  for (size_t i = 0; i < lines->count; i++) {
    const struct line *l = &lines->at[i];
    char *text = n->pool + used;
    memcpy(text, l->left, l->left_size);
    memcpy(text + l->left_size, l->right, l->right_size);
    used += (size_t)l->left_size + l->right_size;
    TRY(add_name(n, text, (size_t)l->left_size + l->right_size, id++));
  }
  TRY(add_name(n, start_name, sizeof start_name - 1, id));
  return add_name(n, end_name, sizeof end_name - 1, id + 1);
}

status_t bpe_load_gzip(const char *path, struct bpe *out) {
  uint8_t *text = NULL;
  size_t size;
  struct names names = {0};
  struct lines lines = {0};
  status_t st = OK;
  *out = (struct bpe){0};
  TRY_GOTO(unpack(path, &text, &size), done);
  TRY_GOTO(read_lines(path, (const char *)text, size, &lines), done);
  TRY_GOTO(imply_names(&lines, &names), done);
  TRY_GOTO(build(out, path, path, &names, &lines), done);
done:
  free(lines.at);
  free(names.at);
  mem_free(&names.pool);
  mem_free(&text);
  return st;
}
