// key.h: the content key: SHA-256 over named, length-prefixed fields. It names pools, features, models, tasks and
// cells; store, resume, journal and the duplicate report all rest on it.
#ifndef GRIDSEG_BASE_KEY_H
#define GRIDSEG_BASE_KEY_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

struct key {
  uint8_t bytes[32];
};

struct key_builder; // opaque

// Start a key of one `kind` ("pool", "feature", ...). Fields are added in a fixed order; each is hashed with its name
// and length, so that no two different field lists give the same bytes.
status_t key_begin(struct key_builder **out, const char *kind);
status_t key_add_bytes(struct key_builder *b, const char *field, const void *bytes, size_t size);
status_t key_add_text(struct key_builder *b, const char *field, const char *text);
status_t key_add_int(struct key_builder *b, const char *field, int64_t value);
status_t key_add_real(struct key_builder *b, const char *field, double value);
status_t key_add_key(struct key_builder *b, const char *field, const struct key *value);
// Finish, free the builder and null it. Also the way to drop a builder: `out` may be NULL.
status_t key_finish(struct key_builder **b, struct key *out);

void key_hex(const struct key *key, char text[65]);
status_t key_parse(const char *text, struct key *out); // 64 hexadecimal digits
int key_equal(const struct key *a, const struct key *b);

// Plain SHA-256 of bytes, and of a file read in pieces.
status_t key_sha256(const void *bytes, size_t size, struct key *out);
status_t key_sha256_file(const char *path, struct key *out);

// CRC-32 (zlib's polynomial) of one image or mask: a check against damage, no identity.
uint32_t key_crc32(const void *bytes, size_t size);

#endif
