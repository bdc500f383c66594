// config_text.c: a key table for people: --help and the Markdown reference of README.md.
#include "base/config.h"

#include <string.h>

static const char *type_words(const struct config_key *key) {
  switch (key->type) {
  case CONFIG_INT: return "integer";
  case CONFIG_REAL: return "number";
  case CONFIG_BOOL: return "true or false";
  case CONFIG_TEXT: return "text";
  case CONFIG_TEXTS: return "list of texts";
  case CONFIG_BYTES: return "size";
  case CONFIG_CHOICE: return key->choices;
  }
  return "";
}

static const char *default_words(const struct config_key *key) {
  if (!key->fallback) return "wanted";
  return key->fallback[0] ? key->fallback : "none";
}

void config_print_help(FILE *out, const struct config_table *table) {
  (void)fprintf(out, "Keys of %s (also on the command line, as key=value):\n", table->title);
  for (size_t i = 0; i < table->count; i++) {
    const struct config_key *key = &table->keys[i];
    bool unit = key->unit && key->unit[0];
    (void)fprintf(out, "  %s (%s%s%s; default: %s)\n      %s\n", key->name, type_words(key), unit ? ", " : "",
                  unit ? key->unit : "", default_words(key), key->sentence);
  }
}

// In a Markdown table a bar ends the cell.
static void put_cell(FILE *out, const char *text) {
  for (; *text; text++) {
    if (*text == '|') (void)fputc('\\', out);
    (void)fputc(*text, out);
  }
}

void config_print_markdown(FILE *out, const struct config_table *table) {
  (void)fprintf(out, "| key of %s | kind | default | what it does |\n|---|---|---|---|\n", table->title);
  for (size_t i = 0; i < table->count; i++) {
    const struct config_key *key = &table->keys[i];
    (void)fprintf(out, "| `%s` | ", key->name);
    put_cell(out, type_words(key));
    if (key->unit && key->unit[0]) (void)fprintf(out, ", %s", key->unit);
    (void)fprintf(out, " | %s | ", default_words(key));
    put_cell(out, key->sentence);
    (void)fputs(" |\n", out);
  }
}
