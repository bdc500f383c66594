// key.c: see key.h. SHA-256 is OpenSSL's, CRC-32 is libdeflate's.
#include "base/key.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

struct key_builder {
  EVP_MD_CTX *digest;
};

static status_t update(struct key_builder *b, const void *bytes, size_t size) {
  if (EVP_DigestUpdate(b->digest, bytes, size) != 1) return FAIL(ERR_BACKEND, "SHA-256 update failed");
  return OK;
}

static status_t begin(struct key_builder **out) {
  TRY(mem_alloc(out, 1, sizeof **out));
  (*out)->digest = EVP_MD_CTX_new();
  if (!(*out)->digest || EVP_DigestInit_ex((*out)->digest, EVP_sha256(), NULL) != 1) {
    (void)key_finish(out, NULL);
    return FAIL(ERR_BACKEND, "SHA-256 could not be started");
  }
  return OK;
}

status_t key_begin(struct key_builder **out, const char *kind) {
  TRY(begin(out));
  return key_add_text(*out, "kind", kind);
}

status_t key_add_bytes(struct key_builder *b, const char *field, const void *bytes, size_t size) {
  uint64_t lengths[2] = {strlen(field), size};
  TRY(update(b, lengths, sizeof lengths));
  TRY(update(b, field, strlen(field)));
  return update(b, bytes, size);
}

status_t key_add_text(struct key_builder *b, const char *field, const char *text) {
  return key_add_bytes(b, field, text, strlen(text));
}

status_t key_add_int(struct key_builder *b, const char *field, int64_t value) {
  return key_add_bytes(b, field, &value, sizeof value);
}

status_t key_add_real(struct key_builder *b, const char *field, double value) {
  return key_add_bytes(b, field, &value, sizeof value);
}

status_t key_add_key(struct key_builder *b, const char *field, const struct key *value) {
  return key_add_bytes(b, field, value->bytes, sizeof value->bytes);
}

status_t key_finish(struct key_builder **b, struct key *out) {
  if (!*b) return OK;
  status_t st = OK;
  unsigned n = 0;
  if (out && EVP_DigestFinal_ex((*b)->digest, out->bytes, &n) != 1)
    st = FAIL(ERR_BACKEND, "SHA-256 could not be ended");
  EVP_MD_CTX_free((*b)->digest);
  mem_free(b);
  return st;
}

void key_hex(const struct key *key, char text[65]) {
  static const char digit[] = "0123456789abcdef";
  for (size_t i = 0; i < sizeof key->bytes; i++) {
    text[2 * i] = digit[key->bytes[i] >> 4];
    text[2 * i + 1] = digit[key->bytes[i] & 15];
  }
  text[64] = '\0';
}

static int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

status_t key_parse(const char *text, struct key *out) {
  if (strlen(text) != 64) return FAIL(ERR_FORMAT, "a key has 64 hexadecimal digits, met %zu characters", strlen(text));
  for (size_t i = 0; i < 32; i++) {
    int high = digit_value(text[2 * i]), low = digit_value(text[2 * i + 1]);
    if (high < 0 || low < 0) return FAIL(ERR_FORMAT, "a key has hexadecimal digits only, met '%.2s'", text + 2 * i);
    out->bytes[i] = (uint8_t)(high << 4 | low);
  }
  return OK;
}

int key_equal(const struct key *a, const struct key *b) {
  return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

status_t key_sha256(const void *bytes, size_t size, struct key *out) {
  struct key_builder *b = NULL;
  TRY(begin(&b));
  status_t st = update(b, bytes, size);
  CLEANUP(key_finish(&b, out));
  return st;
}

status_t key_sha256_file(const char *path, struct key *out) {
  status_t st = OK;
  struct key_builder *b = NULL;
  uint8_t *piece = NULL;
  enum { PIECE_BYTES = 1 << 20 };
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FAIL(errno == ENOENT ? ERR_ARG : ERR_IO, "cannot open %s: %s", path, strerror(errno));
  TRY_GOTO(begin(&b), done);
  TRY_GOTO(mem_alloc(&piece, PIECE_BYTES, 1), done);
  for (;;) {
    ssize_t n = read(fd, piece, PIECE_BYTES);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) FAIL_GOTO(done, ERR_IO, "cannot read %s: %s", path, strerror(errno));
    if (n == 0) break;
    TRY_GOTO(update(b, piece, (size_t)n), done);
  }
  TRY_GOTO(key_finish(&b, out), done);
done:
  CLEANUP(key_finish(&b, NULL));
  mem_free(&piece);
  (void)close(fd);
  return st;
}

uint32_t key_crc32(const void *bytes, size_t size) {
  return libdeflate_crc32(0, bytes, size); // carry-less multiplication: several times as fast as zlib's tables
}
