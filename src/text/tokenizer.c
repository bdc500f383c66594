// tokenizer.c: see tokenizer.h. BERT's WordPiece is in wordpiece.c. Byte pairs go the steps of transformers' CLIPTokenizerFast
// (convert_slow_tokenizer.py, CLIPConverter) in their order: NFC, runs of white space to one space, lower case; special tokens cut out; words found by
//   's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
// and each word's bytes merged.
#include "text/tokenizer.h"

#include "base/file.h"
#include "base/mem.h"
#include "text/bpe.h"
#include "text/unicode.h"
#include "text/wordpiece.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_LIMIT = 16 << 20, LONGEST_LIMIT = 1 << 20 };

struct tokenizer {
  bool words; // WordPiece, else byte pairs
  struct bpe bpe;
  struct wordpiece wordpiece;
  int limit;
  struct key key;
};

static status_t make_key(struct tokenizer *t) {
  struct key_builder *b = NULL;
  status_t st = OK;
  TRY_GOTO(key_begin(&b, "tokenizer"), done);
  TRY_GOTO(key_add_text(b, "algorithm", t->words ? "wordpiece unicode-14" : "clip-bpe unicode-14"), done);
  TRY_GOTO(key_add_int(b, "limit", t->limit), done);
  TRY_GOTO(t->words ? wordpiece_add_to_key(&t->wordpiece, b) : bpe_add_to_key(&t->bpe, b), done);
  TRY_GOTO(key_finish(&b, &t->key), done);
done:
  if (b) CLEANUP(key_finish(&b, NULL));
  return st;
}

// The vocabulary that the folder holds; two of them would leave open which one the weights were trained with.
static status_t load_vocabulary(struct tokenizer *t, const char *folder) {
  char *vocab = NULL, *merges = NULL, *packed = NULL, *words = NULL, *config = NULL;
  status_t st = OK;
  TRY_GOTO(file_join(&vocab, folder, "vocab.json"), done);
  TRY_GOTO(file_join(&merges, folder, "merges.txt"), done);
  TRY_GOTO(file_join(&packed, folder, "bpe_simple_vocab_16e6.txt.gz"), done);
  TRY_GOTO(file_join(&words, folder, "vocab.txt"), done);
  TRY_GOTO(file_join(&config, folder, "tokenizer_config.json"), done);
  bool pair = file_exists(vocab) && file_exists(merges);
  t->words = file_exists(words);
  if (t->words && (pair || file_exists(packed))) {
    FAIL_GOTO(done, ERR_ARG, "%s holds two tokenizers: vocab.txt (WordPiece) and %s (byte pairs); keep one", folder,
              pair ? "vocab.json" : "bpe_simple_vocab_16e6.txt.gz");
  }
  if (pair) {
    TRY_GOTO(bpe_load_json(vocab, merges, &t->bpe), done);
  } else if (file_exists(packed)) {
    TRY_GOTO(bpe_load_gzip(packed, &t->bpe), done);
  } else if (t->words) {
    TRY_GOTO(wordpiece_load(words, config, &t->wordpiece), done);
  } else {
    FAIL_GOTO(
        done, ERR_ARG,
        "%s holds no tokenizer: looked for vocab.json with merges.txt%s, for bpe_simple_vocab_16e6.txt.gz, and for "
        "vocab.txt",
        folder,
        file_exists(vocab)    ? " (merges.txt is missing)"
        : file_exists(merges) ? " (vocab.json is missing)"
                              : "");
  }
done:
  mem_free(&config);
  mem_free(&words);
  mem_free(&packed);
  mem_free(&merges);
  mem_free(&vocab);
  return st;
}

status_t tokenizer_load(const char *model_directory, int limit, struct tokenizer **out) {
  struct tokenizer *t = NULL;
  status_t st = OK;
  *out = NULL;
  if (limit < 2 || limit > LONGEST_LIMIT) {
    return FAIL(ERR_ARG, "a tokenizer's limit must be between 2 (start and end token) and %d, met %d", LONGEST_LIMIT,
                limit);
  }
  TRY_GOTO(mem_alloc(&t, 1, sizeof *t), done);
  t->limit = limit;
  TRY_GOTO(load_vocabulary(t, model_directory), done);
  TRY_GOTO(make_key(t), done);
  *out = t;
  t = NULL;
done:
  tokenizer_destroy(&t);
  return st;
}

void tokenizer_destroy(struct tokenizer **tokenizer) {
  if (!*tokenizer) return;
  bpe_free(&(*tokenizer)->bpe);
  wordpiece_free(&(*tokenizer)->wordpiece);
  mem_free(tokenizer);
}

int tokenizer_limit(const struct tokenizer *t) {
  return t->limit;
}
int tokenizer_size(const struct tokenizer *t) {
  return t->words ? t->wordpiece.size : t->bpe.size;
}
int tokenizer_start(const struct tokenizer *t) {
  return t->words ? t->wordpiece.special[WORDPIECE_START] : t->bpe.start;
}
int tokenizer_end(const struct tokenizer *t) {
  return t->words ? t->wordpiece.special[WORDPIECE_END] : t->bpe.end;
}
const struct key *tokenizer_key(const struct tokenizer *t) {
  return &t->key;
}

// What one call works with; nothing of it outlives the call.
struct work {
  const struct bpe *bpe;
  struct code_points raw, text; // as given; normalised
  struct bpe_scratch scratch;
  uint8_t *word; // UTF-8 of one word
  size_t word_capacity;
  int32_t *ids;
  int count, room;
};

// w->raw to w->text: NFC, runs of white space to one space, lower case.
static status_t normalise(struct work *w) {
  struct code_points composed = {0};
  status_t st = OK;
  TRY_GOTO(unicode_nfc(&w->raw, &composed), done);
  TRY_GOTO(mem_grow(&w->text.at, &w->text.capacity, 2 * composed.count + 1, sizeof *w->text.at), done);
  bool space = false;
  for (size_t i = 0; i < composed.count; i++) {
    uint32_t c = composed.at[i], low[2];
    bool is = unicode_is_space(c);
    if (is && !space) w->text.at[w->text.count++] = ' ';
    space = is;
    if (is) continue;
    int n = unicode_lower(c, low);
    for (int k = 0; k < n; k++) w->text.at[w->text.count++] = low[k];
  }
done:
  code_points_free(&composed);
  return st;
}

static size_t contraction_length(const uint32_t *at, size_t left) {
  if (at[0] != '\'' || left < 2) return 0;
  uint32_t a = at[1], b = left > 2 ? at[2] : 0;
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

// Length of the word that begins at at[0], 0 for white space.
static size_t word_length(const uint32_t *at, size_t left) {
  size_t n = contraction_length(at, left);
  if (n || unicode_is_space(at[0])) return n;
  if (unicode_is_number(at[0])) return 1;
  bool letters = unicode_is_letter(at[0]);
  for (n = 1; n < left; n++) {
    uint32_t c = at[n];
    bool is = unicode_is_letter(c);
    if (letters ? !is : (is || unicode_is_number(c) || unicode_is_space(c))) break;
  }
  return n;
}

static status_t add_word(struct work *w, const uint32_t *at, size_t count) {
  TRY(mem_grow(&w->word, &w->word_capacity, 4 * count, 1));
  size_t size = 0;
  for (size_t i = 0; i < count; i++) size += (size_t)unicode_encode(at[i], w->word + size);
  int n;
  TRY(bpe_encode_word(w->bpe, &w->scratch, w->word, size, w->ids + w->count, w->room - w->count, &n));
  w->count += n;
  return OK;
}

// Length of the special token at at[0], 0 when there is none; its id in *id.
static size_t special_length(const struct bpe *bpe, const uint32_t *at, size_t left, int32_t *id) {
  static const char *const name[2] = {"<|startoftext|>", "<|endoftext|>"};
  for (int k = 0; k < 2; k++) {
    size_t n = 0;
    while (name[k][n] && n < left && at[n] == (uint32_t)name[k][n]) n++;
    if (name[k][n]) continue;
    *id = k ? bpe->end : bpe->start;
    return n;
  }
  return 0;
}

// Special tokens are cut out before words are looked for, so that a word never reaches into one.
static status_t encode_text(struct work *w) {
  const uint32_t *at = w->text.at;
  for (size_t i = 0; i < w->text.count && w->count < w->room;) {
    size_t end = i, special = 0;
    int32_t id = 0;
    while (end < w->text.count && (special = special_length(w->bpe, at + end, w->text.count - end, &id)) == 0) end++;
    while (i < end && w->count < w->room) {
      size_t n = word_length(at + i, end - i);
      if (n) TRY(add_word(w, at + i, n));
      i += n ? n : 1;
    }
    if (special && w->count < w->room) w->ids[w->count++] = id;
    i = end + special;
  }
  return OK;
}

status_t tokenizer_encode(const struct tokenizer *t, const char *text, size_t size, int32_t *ids, int *count) {
  struct work w = {.bpe = &t->bpe, .ids = ids, .count = 1, .room = t->limit - 1};
  status_t st = OK;
  *count = 0;
  if (size > TEXT_LIMIT) return FAIL(ERR_ARG, "a text of %zu bytes is longer than the limit of %d", size, TEXT_LIMIT);
  TRY_GOTO(unicode_decode(text, size, &w.raw), done);
  ids[0] = tokenizer_start(t);
  if (t->words) {
    int n;
    TRY_GOTO(wordpiece_encode(&t->wordpiece, &w.raw, ids + 1, w.room - 1, &n), done);
    w.count += n;
  } else {
    TRY_GOTO(normalise(&w), done);
    TRY_GOTO(encode_text(&w), done);
  }
  ids[w.count++] = tokenizer_end(t);
  *count = w.count;
done:
  code_points_free(&w.raw);
  code_points_free(&w.text);
  bpe_scratch_free(&w.scratch);
  free(w.word);
  return st;
}
