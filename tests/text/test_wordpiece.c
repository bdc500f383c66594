// test_wordpiece.c: BERT's WordPiece tokenizer against ids made by transformers (make_golden.py), and hostile files.
// ranks 1, label unit.
#include "base/file.h"
#include "base/mem.h"
#include "golden_tokens.h"

#include <unistd.h>

static void check_folder(const char *folder, int limit, const char *truth, size_t least) {
  struct tokenizer *t;
  assert_ok(tokenizer_load(folder, limit, &t));
  assert_int_equal(tokenizer_limit(t), limit);
  check_golden(t, truth, least);
  tokenizer_destroy(&t);
  assert_null(t);
}

static void tiny_vocabulary_equals_transformers(void **state) {
  (void)state;
  check_folder(GOLDEN "/words", 256, GOLDEN "/words.json", 130);
  check_folder(GOLDEN "/words", 4, GOLDEN "/words_limit_4.json", 5);
}

static void configuration_is_respected(void **state) {
  (void)state;
  struct tokenizer *t, *u;
  check_folder(GOLDEN "/words_cased", 256, GOLDEN "/words_cased.json", 130);
  assert_ok(tokenizer_load(GOLDEN "/words", 256, &t));
  assert_ok(tokenizer_load(GOLDEN "/words_cased", 256, &u));
  assert_false(key_equal(tokenizer_key(t), tokenizer_key(u)));
  tokenizer_destroy(&u);
  assert_ok(tokenizer_load(GOLDEN "/words", 255, &u));
  assert_false(key_equal(tokenizer_key(t), tokenizer_key(u)));
  tokenizer_destroy(&u);
  tokenizer_destroy(&t);
}

struct files {
  char *folder, *vocabulary, *config;
};

static void open_files(struct files *f) {
  assert_ok(mem_copy_text(&f->folder, test_folder()));
  assert_ok(file_join(&f->vocabulary, f->folder, "vocab.txt"));
  assert_ok(file_join(&f->config, f->folder, "tokenizer_config.json"));
}

static void close_files(struct files *f) {
  assert_ok(file_remove_tree(f->folder));
  mem_free(&f->folder);
  mem_free(&f->vocabulary);
  mem_free(&f->config);
}

static void put(const char *path, const char *text) {
  assert_ok(file_write_atomic(path, text, strlen(text)));
}

static void published_vocabulary_equals_transformers(void **state) {
  (void)state;
  const char *shared = test_shared();
  if (!shared) skip();
  struct files f;
  struct tokenizer *t;
  char *published;
  open_files(&f);
  assert_ok(mem_format(&published, "%s/data/vocab/bert-base-uncased-vocab.txt", shared));
  assert_int_equal(symlink(published, f.vocabulary), 0);
  assert_ok(tokenizer_load(f.folder, 256, &t));
  assert_int_equal(tokenizer_size(t), 30522);
  assert_int_equal(tokenizer_start(t), 101);
  assert_int_equal(tokenizer_end(t), 102);
  check_golden(t, GOLDEN "/bert.json", 130);
  tokenizer_destroy(&t);
  mem_free(&published);
  close_files(&f);
}

static void hostile_vocabulary_is_refused(void **state) {
  (void)state;
  struct files f;
  struct tokenizer *t;
  open_files(&f);
  static const struct {
    const char *text, *says;
  } bad[] = {{"", "'[PAD]' is missing"},
             {"[PAD]\n[UNK]\n[CLS]\n[SEP]\n", "'[MASK]' is missing"},
             {"[PAD]\n[UNK] \n[CLS]\n[SEP]\n[MASK]\n", "'[UNK]' is missing"},
             {"\xef\xbb\xbf[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", "'[PAD]' is missing"},
             {"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nx\xff\n", "UTF-8 at byte 32"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    put(f.vocabulary, bad[i].text);
    assert_fails(ERR_FORMAT, tokenizer_load(f.folder, 256, &t), f.vocabulary, bad[i].says);
    assert_null(t);
  }
  size_t lines = (1 << 20) + 1;
  char *many = malloc(lines);
  assert_non_null(many);
  memset(many, '\n', lines);
  assert_ok(file_write_atomic(f.vocabulary, many, lines));
  assert_fails(ERR_FORMAT, tokenizer_load(f.folder, 256, &t), f.vocabulary, "1048576 lines");
  free(many);
  close_files(&f);
}

static void hostile_configuration_is_refused(void **state) {
  (void)state;
  struct files f;
  struct tokenizer *t;
  open_files(&f);
  put(f.vocabulary, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nA");
  static const struct {
    const char *text, *says;
    status_t status;
  } bad[] = {{"[]", "object", ERR_FORMAT},
             {"{\"do_lower_case\":1}", "do_lower_case", ERR_FORMAT},
             {"{\"strip_accents\":\"no\"}", "strip_accents", ERR_FORMAT},
             {"{\"unk_token\":\"<unk>\"}", "met '<unk>'", ERR_UNSUPPORTED},
             {"{\"sep_token\":{\"content\":5}}", "sep_token", ERR_UNSUPPORTED},
             {"{\"do_lower_case\":", "line 1", ERR_FORMAT}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    put(f.config, bad[i].text);
    assert_fails(bad[i].status, tokenizer_load(f.folder, 256, &t), f.config, bad[i].says);
    assert_null(t);
  }
  // A null follows do_lower_case: with case, A is in the vocabulary; without, a is not.
  int32_t ids[8];
  int count;
  put(f.config, "{\"do_lower_case\":false,\"strip_accents\":null}");
  assert_ok(tokenizer_load(f.folder, 8, &t));
  assert_ok(tokenizer_encode(t, "A \xc3\x80", 4, ids, &count));
  const int32_t cased[] = {2, 5, 1, 3};
  assert_int_equal(count, 4);
  assert_memory_equal(ids, cased, sizeof cased);
  tokenizer_destroy(&t);
  close_files(&f);
}

static void two_tokenizers_are_refused(void **state) {
  (void)state;
  struct files f;
  struct tokenizer *t;
  char *packed, *vocab, *merges;
  open_files(&f);
  assert_ok(file_join(&packed, f.folder, "bpe_simple_vocab_16e6.txt.gz"));
  assert_ok(file_join(&vocab, f.folder, "vocab.json"));
  assert_ok(file_join(&merges, f.folder, "merges.txt"));
  put(f.vocabulary, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n");
  put(vocab, "{}"); // no tokenizer by itself
  assert_ok(tokenizer_load(f.folder, 256, &t));
  tokenizer_destroy(&t);
  put(merges, "");
  assert_fails(ERR_ARG, tokenizer_load(f.folder, 256, &t), f.folder, "two tokenizers", "vocab.txt", "vocab.json");
  assert_int_equal(unlink(vocab), 0);
  put(packed, "");
  assert_fails(ERR_ARG, tokenizer_load(f.folder, 256, &t), "two tokenizers", "bpe_simple_vocab_16e6.txt.gz");
  mem_free(&merges);
  mem_free(&vocab);
  mem_free(&packed);
  close_files(&f);
}

static void invalid_utf8_names_the_byte(void **state) {
  (void)state;
  struct tokenizer *t;
  int32_t ids[256];
  int count;
  assert_ok(tokenizer_load(GOLDEN "/words", 256, &t));
  assert_fails(ERR_FORMAT, tokenizer_encode(t, "polyp \xff", 7, ids, &count), "byte 6");
  tokenizer_destroy(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tiny_vocabulary_equals_transformers),
      cmocka_unit_test(configuration_is_respected),
      cmocka_unit_test(published_vocabulary_equals_transformers),
      cmocka_unit_test(hostile_vocabulary_is_refused),
      cmocka_unit_test(hostile_configuration_is_refused),
      cmocka_unit_test(two_tokenizers_are_refused),
      cmocka_unit_test(invalid_utf8_names_the_byte),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
