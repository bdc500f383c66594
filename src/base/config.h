// config.h: the key table. Each subcommand that reads a YAML file has one table; from it come the check of the file,
// the nearest-key error, --help, the README's reference and the resolved configuration beside a run.
#ifndef GRIDSEG_BASE_CONFIG_H
#define GRIDSEG_BASE_CONFIG_H

#include "base/json.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum {
  CONFIG_INT,
  CONFIG_REAL,
  CONFIG_BOOL,
  CONFIG_TEXT,
  CONFIG_TEXTS,  // a list of texts; one text stands for a list of one
  CONFIG_BYTES,  // 8GiB, 500MB, 4096
  CONFIG_CHOICE, // one of `choices`
} config_type_t;

enum {
  CONFIG_FREE = 1,   // may differ between two runs that go on in the same folder (threads, paths of caches, ...)
  CONFIG_RECIPE = 2, // without a value in the file it is unset until config_set_default gives the one of the model
};

struct config_key {
  const char *name; // "train.lr": sections joined by dots
  config_type_t type;
  const char *fallback; // the default as it would stand in the file; NULL: the key must be given. With CONFIG_RECIPE it
                        // is only shown ("the model's")
  const char *unit;     // "" for a bare number
  double low, high;     // inclusive range of INT, REAL, BYTES and of each INT or REAL; 0 0: any
  const char *choices;  // "fp32|bf16" of CHOICE
  const char *sentence; // what it does, one sentence
  unsigned flags;
};

struct config_table {
  const char *title; // "train.yaml"
  const struct config_key *keys;
  size_t count;
};

struct config; // every key with its value and where it came from

// Read a file and then `overrides` ("a.b=value", the value written as in YAML), later ones winning. An error names
// FILE:LINE (or the override), the key, what was wanted and what was met; an unknown key is answered with the nearest
// one. *out is freed with config_destroy. The table is borrowed.
status_t config_read(const struct config_table *table, const char *path, char *const *overrides, size_t override_count,
                     struct config **out);
// The same from memory; `name` stands for the file.
status_t config_parse(const struct config_table *table, const char *name, const void *text, size_t size,
                      char *const *overrides, size_t override_count, struct config **out);
void config_destroy(struct config **config);

// Was the key given in the file or on the command line? A name that is not in the table is a mistake of the program
// (assert), as is reading a key as another type or before its recipe was set.
bool config_given(const struct config *c, const char *name);
int64_t config_int(const struct config *c, const char *name); // INT and BYTES
double config_real(const struct config *c, const char *name);
bool config_bool(const struct config *c, const char *name);
const char *config_text(const struct config *c, const char *name); // TEXT and CHOICE
bool config_quoted(const struct config *c, const char *name);      // TEXT: it stood in quotes
size_t config_count(const struct config *c, const char *name);     // TEXTS
const char *config_item(const struct config *c, const char *name, size_t i);
bool config_item_quoted(const struct config *c, const char *name, size_t i);
// "train.yaml:7", "train.lr=1 (command line)", "default" or "recipe": for messages about a value.
const char *config_where(const struct config *c, const char *name);
// Give a key without a value the value of a recipe, checked as if it stood in the file.
status_t config_set_default(struct config *c, const char *name, const char *text);
// ERR_ARG "WHERE: KEY: ..." for checks that the table cannot express.
#define CONFIG_FAIL(c, name, format, ...)                                                                              \
  FAIL(ERR_ARG, "%s: %s: " format, config_where((c), (name)), (name)__VA_OPT__(, ) __VA_ARGS__)

// Every resolved value as a YAML text that config_parse reads back as the same values. *text is freed with mem_free.
status_t config_to_yaml(const struct config *c, char **text);
// The same for records that programs read: a flat object, key -> text or list of texts. *out is the caller's.
status_t config_to_json(const struct config *c, json_t **out);
// The first key without CONFIG_FREE whose value differs between two configurations of one table, or NULL.
const char *config_difference(const struct config *a, const struct config *b);

// For --help, and the reference in README.md (a Markdown table).
void config_print_help(FILE *out, const struct config_table *table);
void config_print_markdown(FILE *out, const struct config_table *table);

#endif
