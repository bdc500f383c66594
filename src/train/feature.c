// feature.c: see feature.h.
#include "train/feature.h"

status_t feature_text_key(const int32_t *ids, int length, struct key *out) {
  struct key_builder *b = NULL;
  status_t st = key_begin(&b, "text");
  if (st == OK) st = key_add_bytes(b, "ids", ids, (size_t)length * sizeof *ids);
  if (st == OK) return key_finish(&b, out);
  (void)key_finish(&b, NULL);
  return st;
}
