// fuzz_tokenizer.c: vocabulary files and texts. The first byte of the input chooses: 0 vocab.json and merges.txt (divided
// by the first zero byte), 1 a gzip file as it is, 2 its unpacked text (packed here), 4 a text for a small WordPiece vocabulary,
// 5 vocab.txt and tokenizer_config.json (divided by the first zero byte), else one for a vocabulary with a few merges. Whatever
// loads also encodes the input's own bytes.
#include "base/file.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64], vocab[96], merges[96], packed[96], words[96], config[96];
static struct tokenizer *fixed, *fixed_words;

static void put(const char *path, const void *bytes, size_t size) {
  FILE *f = fopen(path, "wb");
  if (!f) abort();
  if (size && fwrite(bytes, 1, size, f) != size) abort();
  (void)fclose(f);
}

static void put_packed(const void *bytes, size_t size) {
  gzFile f = gzopen(packed, "wb1");
  if (!f) abort();
  if (size && gzwrite(f, bytes, (unsigned)size) != (int)size) abort();
  (void)gzclose(f);
}

static void remove_folder(void) {
  tokenizer_destroy(&fixed);
  tokenizer_destroy(&fixed_words);
  (void)file_remove_tree(folder);
}

static void prepare(void) {
  static const char text[] = "heading\np o\npo l\ny p</w>\npol yp</w>\na a\naa aa\n\xc3\x83 \xc2\xa9</w>\n";
  (void)snprintf(folder, sizeof folder, "/tmp/gridseg-fuzz-XXXXXX");
  if (!mkdtemp(folder)) abort();
  (void)snprintf(vocab, sizeof vocab, "%s/vocab.json", folder);
  (void)snprintf(merges, sizeof merges, "%s/merges.txt", folder);
  (void)snprintf(packed, sizeof packed, "%s/bpe_simple_vocab_16e6.txt.gz", folder);
  (void)snprintf(words, sizeof words, "%s/vocab.txt", folder);
  (void)snprintf(config, sizeof config, "%s/tokenizer_config.json", folder);
  put_packed(text, sizeof text - 1);
  if (tokenizer_load(folder, 77, &fixed) != OK) abort();
  (void)unlink(packed);
  static const char few[] =
      "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\npol\n##yp\na\n##a\n##aa\n\xc3\xa9\n##\xc3\xa9\n.\n\xe4\xbd\xa0\n";
  put(words, few, sizeof few - 1);
  if (tokenizer_load(folder, 77, &fixed_words) != OK) abort();
  (void)atexit(remove_folder);
}

static void encode(const struct tokenizer *t, const uint8_t *data, size_t size) {
  int32_t ids[77];
  int count;
  if (tokenizer_encode(t, (const char *)data, size, ids, &count) != OK) return;
  if (count < 2 || count > 77 || ids[0] != tokenizer_start(t) || ids[count - 1] != tokenizer_end(t)) abort();
  for (int i = 0; i < count; i++)
    if (ids[i] < 0 || ids[i] >= tokenizer_size(t)) abort();
}

// The bytes before the first zero to one file, those behind it to the other; without a zero the
// other is empty.
static void put_two(const char *first, const char *second, const uint8_t *data, size_t size) {
  const uint8_t *zero = memchr(data, 0, size);
  size_t end = zero ? (size_t)(zero - data) : size;
  put(first, data, end);
  put(second, zero ? zero + 1 : data, zero ? size - end - 1 : 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct tokenizer *t = NULL;
  if (!fixed) prepare();
  if (size == 0) return 0;
  uint8_t kind = data[0];
  data++;
  size--;
  if (kind > 2 && kind != 5) {
    encode(kind == 4 ? fixed_words : fixed, data, size);
    return 0;
  }
  (void)unlink(vocab);
  (void)unlink(merges);
  (void)unlink(packed);
  (void)unlink(words);
  (void)unlink(config);
  if (kind == 0) {
    put_two(vocab, merges, data, size);
  } else if (kind == 1) {
    put(packed, data, size);
  } else if (kind == 2) {
    put_packed(data, size);
  } else {
    put_two(words, config, data, size);
    if (!memchr(data, 0, size)) (void)unlink(config);
  }
  if (tokenizer_load(folder, 77, &t) == OK) encode(t, data, size);
  tokenizer_destroy(&t);
  return 0;
}
