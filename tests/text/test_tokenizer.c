// test_tokenizer.c: CLIP's byte-pair tokenizer against ids made by transformers (make_golden.py), and hostile files.
// ranks 1, label unit.
#include "base/file.h"
#include "base/mem.h"
#include "golden_tokens.h"

#include <unistd.h>
#include <zlib.h>

static void tiny_vocabulary_equals_transformers(void **state) {
  (void)state;
  struct tokenizer *t;
  assert_ok(tokenizer_load(GOLDEN "/tiny", 77, &t));
  check_golden(t, GOLDEN "/tiny.json", 300);
  tokenizer_destroy(&t);
  assert_null(t);
  assert_ok(tokenizer_load(GOLDEN "/tiny", 4, &t));
  assert_int_equal(tokenizer_limit(t), 4);
  check_golden(t, GOLDEN "/tiny_limit_4.json", 5);
  tokenizer_destroy(&t);
}

static void published_vocabulary_equals_transformers(void **state) {
  (void)state;
  const char *shared = test_shared();
  if (!shared) skip();
  char *folder;
  struct tokenizer *t;
  assert_ok(mem_format(&folder, "%s/data/vocab", shared));
  assert_ok(tokenizer_load(folder, 77, &t));
  assert_int_equal(tokenizer_size(t), 49408);
  assert_int_equal(tokenizer_start(t), 49406);
  assert_int_equal(tokenizer_end(t), 49407);
  check_golden(t, GOLDEN "/clip.json", 300);
  tokenizer_destroy(&t);
  mem_free(&folder);
}

static void invalid_utf8_names_the_byte(void **state) {
  (void)state;
  struct tokenizer *t;
  int32_t ids[77];
  int count;
  assert_ok(tokenizer_load(GOLDEN "/tiny", 77, &t));
  static const struct {
    const char *text, *where;
  } bad[] = {{"ab\xff", "byte 2"},
             {"\x80", "byte 0"},
             {"a\xc3", "byte 1"},
             {"\xc0\x80", "byte 0"},
             {"x\xe0\x80\x80", "byte 1"},
             {"\xed\xa0\x80", "byte 0"},
             {"\xf4\x90\x80\x80", "byte 0"},
             {"\xe4\xbd\xa0\xe4\xbd", "byte 3"},
             {"\xc3(", "byte 0"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_fails(ERR_FORMAT, tokenizer_encode(t, bad[i].text, strlen(bad[i].text), ids, &count), bad[i].where);
  }
  // After the last id that fits, too: a text is valid or it is not.
  char text[400];
  memset(text, '!', sizeof text);
  for (size_t i = 0; i < sizeof text; i += 2) text[i] = '1';
  text[399] = '\xfe';
  assert_fails(ERR_FORMAT, tokenizer_encode(t, text, sizeof text, ids, &count), "byte 399");
  tokenizer_destroy(&t);
}

struct files {
  char *folder, *vocab, *merges, *packed;
};

static void open_files(struct files *f) {
  assert_ok(mem_copy_text(&f->folder, test_folder()));
  assert_ok(file_join(&f->vocab, f->folder, "vocab.json"));
  assert_ok(file_join(&f->merges, f->folder, "merges.txt"));
  assert_ok(file_join(&f->packed, f->folder, "bpe_simple_vocab_16e6.txt.gz"));
}

static void close_files(struct files *f) {
  assert_ok(file_remove_tree(f->folder));
  mem_free(&f->folder);
  mem_free(&f->vocab);
  mem_free(&f->merges);
  mem_free(&f->packed);
}

static void put(const char *path, const char *text) {
  assert_ok(file_write_atomic(path, text, strlen(text)));
}

static void put_packed(const char *path, const char *text, size_t size) {
  gzFile f = gzopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(gzwrite(f, text, (unsigned)size), size);
  assert_int_equal(gzclose(f), Z_OK);
}

static void hostile_json_is_refused(void **state) {
  (void)state;
  struct files f;
  struct tokenizer *t;
  open_files(&f);
  assert_fails(ERR_ARG, tokenizer_load(f.folder, 77, &t), f.folder, "vocab.json", "bpe_simple_vocab_16e6.txt.gz");
  put(f.vocab, "{\"a\":0,\"a</w>\":1,\"<|startoftext|>\":2,\"<|endoftext|>\":3,\"aa\":4}");
  assert_fails(ERR_ARG, tokenizer_load(f.folder, 77, &t), "merges.txt is missing");
  put(f.merges, "#version: 0.2\na a\n");
  assert_ok(tokenizer_load(f.folder, 77, &t));
  assert_int_equal(tokenizer_size(t), 5);
  tokenizer_destroy(&t);
  assert_fails(ERR_ARG, tokenizer_load(f.folder, 1, &t), "between 2");
  put(f.merges, "#version: 0.2\na b\n");
  assert_fails(ERR_FORMAT, tokenizer_load(f.folder, 77, &t), f.merges, "line 2", "'b'");
  put(f.merges, "#version: 0.2\na a\n\na a");
  assert_fails(ERR_FORMAT, tokenizer_load(f.folder, 77, &t), f.merges, "line 3", "empty");
  put(f.merges, "#version: 0.2\na a a\n");
  assert_fails(ERR_FORMAT, tokenizer_load(f.folder, 77, &t), f.merges, "line 2", "more");
  put(f.merges, "#version: 0.2\n\xff \xff\n");
  assert_fails(ERR_FORMAT, tokenizer_load(f.folder, 77, &t), f.merges, "UTF-8 at byte 14");
  put(f.merges, "");
  static const struct {
    const char *text, *says;
  } bad[] = {{"{\"a\":0,\"<|startoftext|>\":2}", "<|endoftext|>"},
             {"{\"a\":0,\"<|startoftext|>\":2,\"<|endoftext|>\":2}", "id 2"},
             {"{\"a\":0,\"a\":1,\"<|startoftext|>\":2,\"<|endoftext|>\":3}", "duplicate"},
             {"{\"a\":-1,\"<|startoftext|>\":2,\"<|endoftext|>\":3}", "'a'"},
             {"{\"a\":99999999999,\"<|startoftext|>\":2,\"<|endoftext|>\":3}", "'a'"},
             {"{\"a\":1.5,\"<|startoftext|>\":2,\"<|endoftext|>\":3}", "'a'"},
             {"[1]", "object"},
             {"{\"a\":", "line 1"},
             {"{\"\xff\":1}", "0xff"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    put(f.vocab, bad[i].text);
    assert_fails(ERR_FORMAT, tokenizer_load(f.folder, 77, &t), f.vocab, bad[i].says);
    assert_null(t);
  }
  close_files(&f);
}

static void packed_vocabulary_is_bounded(void **state) {
  (void)state;
  struct files f;
  struct tokenizer *t, *u;
  static const char text[] = "heading\na a\naa a</w>\np o\n";
  open_files(&f);
  put_packed(f.packed, text, sizeof text - 1);
  assert_ok(tokenizer_load(f.folder, 77, &t));
  assert_int_equal(tokenizer_size(t), 517);
  int32_t ids[77];
  int count;
  assert_ok(tokenizer_encode(t, "aaa po", 6, ids, &count));
  // aa a</w> -> 513; p is the 80th printable byte (79), o</w> 256 + 78: "p o" is no merge at the end of a word.
  const int32_t want[] = {515, 513, 79, 256 + 78, 516};
  assert_int_equal(count, 5);
  assert_memory_equal(ids, want, sizeof want);
  // The same merges give the same key, another merge or limit another one.
  assert_ok(tokenizer_load(f.folder, 76, &u));
  assert_false(key_equal(tokenizer_key(t), tokenizer_key(u)));
  tokenizer_destroy(&u);
  put_packed(f.packed, text, sizeof text - 5);
  assert_ok(tokenizer_load(f.folder, 77, &u));
  assert_false(key_equal(tokenizer_key(t), tokenizer_key(u)));
  tokenizer_destroy(&u);
  tokenizer_destroy(&t);
  put_packed(f.packed, "heading\na a\naa a\na aa\n", 22);
  assert_fails(ERR_FORMAT, tokenizer_load(f.folder, 77, &t), f.packed, "'aaa' has two ids");
  uint8_t *bytes;
  size_t size;
  put_packed(f.packed, text, sizeof text - 1);
  assert_ok(file_read(f.packed, 1000, &bytes, &size));
  assert_ok(file_write_atomic(f.packed, bytes, size - 4));
  assert_fails(ERR_FORMAT, tokenizer_load(f.folder, 77, &t), f.packed, "cut off");
  bytes[size - 6] ^= 1; // the check sum
  assert_ok(file_write_atomic(f.packed, bytes, size));
  assert_fails(ERR_FORMAT, tokenizer_load(f.folder, 77, &t), f.packed, "damaged");
  mem_free(&bytes);
  size_t bomb = 40 << 20; // packs to 40 kB
  char *zeros = calloc(bomb, 1);
  put_packed(f.packed, zeros, bomb);
  free(zeros);
  assert_fails(ERR_FORMAT, tokenizer_load(f.folder, 77, &t), f.packed, "limit");
  close_files(&f);
}

static void both_published_forms_have_one_key(void **state) {
  (void)state;
  struct files f;
  struct tokenizer *t, *u;
  open_files(&f);
  put_packed(f.packed, "heading\na a\naa a</w>\n", 21);
  assert_ok(tokenizer_load(f.folder, 77, &t));
  FILE *v = fopen(f.vocab, "w");
  assert_non_null(v);
  (void)fputs("{", v);
  for (int i = 0, printable = 0, other = 0; i < 256; i++) {
    bool is = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
    unsigned code = is ? (unsigned)i : 256u + (unsigned)other;
    int id = is ? printable++ : 188 + other++;
    (void)fprintf(v, "\"\\u%04x\":%d,\"\\u%04x</w>\":%d,", code, id, code, 256 + id);
  }
  (void)fputs("\"aa\":512,\"aaa</w>\":513,\"<|startoftext|>\":514,\"<|endoftext|>\":515}", v);
  assert_int_equal(fclose(v), 0);
  put(f.merges, "#version: 0.2\r\na a\r\naa a</w>");
  assert_ok(tokenizer_load(f.folder, 77, &u)); // vocab.json goes first
  assert_int_equal(unlink(f.packed), 0);
  assert_true(key_equal(tokenizer_key(t), tokenizer_key(u)));
  tokenizer_destroy(&t);
  tokenizer_destroy(&u);
  close_files(&f);
}

static status_t run_tokens(int argc, const char *const *words) {
  char *argv[8] = {NULL};
  for (int i = 0; i < argc; i++) argv[i] = strdup(words[i]);
  status_t st = tokens_command(argc, argv);
  for (int i = 0; i < argc; i++) free(argv[i]);
  return st;
}

static void command_refuses_wrong_usage(void **state) {
  (void)state;
  assert_fails(ERR_ARG, run_tokens(1, (const char *const[]){"tokens"}), "--model is missing", "usage");
  assert_fails(ERR_ARG, run_tokens(2, (const char *const[]){"tokens", "--model"}), "wants a value");
  assert_fails(ERR_ARG, run_tokens(2, (const char *const[]){"tokens", "--wrong"}), "--wrong");
  assert_fails(ERR_ARG, run_tokens(5, (const char *const[]){"tokens", "--model", "/nonexistent", "a", "b"}), "quotes");
  assert_fails(ERR_ARG, run_tokens(4, (const char *const[]){"tokens", "--model", "/nonexistent", "a"}), "/nonexistent");
  assert_fails(ERR_ARG, run_tokens(6, (const char *const[]){"tokens", "--model", "x", "--limit", "1", "a"}), "--limit");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tiny_vocabulary_equals_transformers), cmocka_unit_test(published_vocabulary_equals_transformers),
      cmocka_unit_test(invalid_utf8_names_the_byte),         cmocka_unit_test(hostile_json_is_refused),
      cmocka_unit_test(packed_vocabulary_is_bounded),        cmocka_unit_test(both_published_forms_have_one_key),
      cmocka_unit_test(command_refuses_wrong_usage),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
