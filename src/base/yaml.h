// yaml.h: a YAML file as the flat list of its values: "train.lr" = 2e-3. What configuration needs and nothing more:
// mappings, scalars, and lists of scalars. Anchors, aliases, tags, merge keys and several documents are refused, as are
// duplicate keys, deep nesting and large files: a configuration is one screen of text, and an alias bomb is none.
// (The names say yaml_values_: libyaml exports yaml_free and others of its own.)
#ifndef GRIDSEG_BASE_YAML_H
#define GRIDSEG_BASE_YAML_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { YAML_LIMIT_BYTES = 1 << 20, YAML_LIMIT_DEPTH = 8, YAML_LIMIT_VALUES = 1 << 12 };

struct yaml_scalar {
  char *text;  // UTF-8 without zero bytes
  bool quoted; // in quotes, or more than one bare word: a text that is no name or number
};

struct yaml_entry {
  char *name; // the keys from the top, joined by dots
  struct yaml_scalar *values;
  size_t count;
  bool list; // [a, b] or lines of "- a": count may be 0
  int line;
};

struct yaml {
  struct yaml_entry *entries; // in the order of the file
  size_t count;
};

// Parse `text`; `name` is the file for messages, which are "NAME:LINE: what". *out is freed with yaml_values_free, also after
// an error.
status_t yaml_values_parse(const char *name, const void *text, size_t size, struct yaml *out);
// The same for one value without its key ("2e-3", "[a, b]", "'a text'"): one entry named `key`.
status_t yaml_values_parse_one(const char *name, const char *key, const char *text, struct yaml *out);
void yaml_values_free(struct yaml *yaml);

#endif
