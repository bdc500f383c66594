// config.c: see config.h. The table's defaults, the file and the overrides all pass through one function, assign: a
// value is checked the same way wherever it comes from.
#include "base/config.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/yaml.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct value {
  struct yaml_scalar *item;
  size_t count;
  bool set, given;
  char *where;
  int64_t integer;
  double real;
};

struct config {
  const struct config_table *table;
  struct value *value; // [table->count]
};

static const struct config_key *key_at(const struct config *c, size_t i) {
  return &c->table->keys[i];
}

static size_t find(const struct config_table *table, const char *name) {
  for (size_t i = 0; i < table->count; i++) {
    if (!strcmp(table->keys[i].name, name)) return i;
  }
  return table->count;
}

// ---- the nearest key --------------------------------------------------------------------------------------------

static const char *last_part(const char *name) {
  const char *dot = strrchr(name, '.');
  return dot ? dot + 1 : name;
}

// The key that was probably meant: nearest by its full name, or by its last part when the section is missing or wrong.
static const char *nearest(const struct config_table *table, const char *name) {
  const char *best = table->count ? table->keys[0].name : "";
  int best_distance = INT_MAX;
  for (size_t i = 0; i < table->count; i++) {
    int whole = nearest_distance(name, table->keys[i].name);
    int part = nearest_distance(last_part(name), last_part(table->keys[i].name)) * 2 + (strchr(name, '.') ? 5 : 1);
    int d = whole < part ? whole : part;
    if (d < best_distance) {
      best_distance = d;
      best = table->keys[i].name;
    }
  }
  return best;
}

static status_t unknown_key(const struct config_table *table, const char *where, const char *name, bool scalar) {
  size_t n = strlen(name);
  for (size_t i = 0; i < table->count && scalar; i++) {
    if (!strncmp(table->keys[i].name, name, n) && table->keys[i].name[n] == '.') {
      return FAIL(ERR_ARG, "%s: '%s' is a section with keys such as '%s', not a value", where, name,
                  table->keys[i].name);
    }
  }
  for (size_t i = 0; i < table->count; i++) {
    size_t k = strlen(table->keys[i].name);
    if (!strncmp(table->keys[i].name, name, k) && name[k] == '.') {
      return FAIL(ERR_ARG, "%s: '%s' is a value, not a section: there is no '%s'", where, table->keys[i].name, name);
    }
  }
  return FAIL(ERR_ARG, "%s: unknown key '%s'; the nearest is '%s'", where, name, nearest(table, name));
}

// ---- values -----------------------------------------------------------------------------------------------------

// The message of a value that does not fit: WHERE: KEY: wanted WHAT, met 'TEXT'.
static status_t unfit(const char *where, const struct config_key *key, const char *wanted, const char *met) {
  return FAIL(ERR_ARG, "%s: %s: wanted %s, met '%s'", where, key->name, wanted, met);
}

static status_t check_range(const char *where, const struct config_key *key, double x, const char *text) {
  if (key->low == 0 && key->high == 0) return OK;
  if (x >= key->low && x <= key->high) return OK;
  const char *space = key->unit && key->unit[0] ? " " : "";
  return FAIL(ERR_ARG, "%s: %s: wanted %s between %.15g and %.15g%s%s, met '%s'", where, key->name,
              key->type == CONFIG_INT ? "an integer" : "a number", key->low, key->high, space,
              key->unit ? key->unit : "", text);
}

static bool read_int(const char *text, int64_t *out) {
  char *end;
  if (!isdigit((unsigned char)text[text[0] == '-' || text[0] == '+'])) return false;
  errno = 0;
  long long x = strtoll(text, &end, 10);
  *out = x;
  return !errno && !*end;
}

static bool read_real(const char *text, double *out) {
  char *end;
  if (!text[0] || strspn(text, "+-.0123456789eE") != strlen(text)) return false; // no nan, inf, hexadecimal
  *out = strtod(text, &end);
  return end != text && !*end && isfinite(*out);
}

static bool read_bytes(const char *text, int64_t *out) {
  static const struct {
    const char *name;
    double factor;
  } unit[] = {{"", 1},     {"B", 1},    {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40},
              {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12}};
  char *end;
  if (!isdigit((unsigned char)text[0]) || text[1] == 'x' || text[1] == 'X') return false;
  double x = strtod(text, &end);
  while (*end == ' ') end++;
  for (size_t i = 0; i < sizeof unit / sizeof *unit; i++) {
    if (strcmp(end, unit[i].name)) continue;
    x = rint(x * unit[i].factor);
    if (!(x <= 0x1p62)) return false;
    *out = (int64_t)x;
    return true;
  }
  return false;
}

static bool is_choice(const char *choices, const char *text) {
  size_t n = strlen(text);
  for (const char *p = choices;; p++) {
    size_t k = strcspn(p, "|");
    if (k == n && n && !memcmp(p, text, n)) return true;
    p += k;
    if (!*p) return false;
  }
}

static status_t check_scalar(const char *where, const struct config_key *key, const char *text, struct value *v) {
  switch (key->type) {
  case CONFIG_INT:
    if (!read_int(text, &v->integer)) return unfit(where, key, "an integer", text);
    return check_range(where, key, (double)v->integer, text);
  case CONFIG_REAL:
    if (!read_real(text, &v->real)) return unfit(where, key, "a number", text);
    return check_range(where, key, v->real, text);
  case CONFIG_BYTES:
    if (!read_bytes(text, &v->integer)) return unfit(where, key, "a size such as 8GiB, 500MB or 4096", text);
    return check_range(where, key, (double)v->integer, text);
  case CONFIG_BOOL:
    if (strcmp(text, "true") && strcmp(text, "false")) return unfit(where, key, "true or false", text);
    v->integer = text[0] == 't';
    return OK;
  case CONFIG_CHOICE:
    if (!is_choice(key->choices, text)) return unfit(where, key, key->choices, text);
    return OK;
  case CONFIG_TEXT:
  case CONFIG_TEXTS: break;
  }
  return OK;
}

static void clear(struct value *v) {
  for (size_t i = 0; i < v->count; i++) mem_free(&v->item[i].text);
  mem_free(&v->item);
  mem_free(&v->where);
  *v = (struct value){0};
}

// Give key i the entry's value; the old one goes.
static status_t assign(struct config *c, size_t i, const char *where, const struct yaml_entry *entry, bool given) {
  const struct config_key *key = key_at(c, i);
  struct value v = {.set = true, .given = given};
  status_t st = OK;
  if (entry->list && key->type != CONFIG_TEXTS) {
    return FAIL(ERR_ARG, "%s: %s: wanted one value, met a list", where, key->name);
  }
  TRY_GOTO(mem_alloc(&v.item, entry->count, sizeof *v.item), done);
  for (size_t k = 0; k < entry->count; k++) {
    TRY_GOTO(mem_copy_text(&v.item[k].text, entry->values[k].text), done);
    v.item[k].quoted = entry->values[k].quoted;
    v.count++;
    TRY_GOTO(check_scalar(where, key, v.item[k].text, &v), done);
  }
  TRY_GOTO(mem_copy_text(&v.where, where), done);
  clear(&c->value[i]);
  c->value[i] = v;
  v = (struct value){0};
done:
  clear(&v);
  return st;
}

static status_t assign_text(struct config *c, size_t i, const char *where, const char *text, bool given) {
  struct yaml y;
  const struct config_key *key = key_at(c, i);
  if (!text[0]) text = key->type == CONFIG_TEXTS ? "[]" : "''";
  status_t st = yaml_values_parse_one(where, key->name, text, &y);
  if (st == OK && y.count != 1) st = FAIL(ERR_ARG, "%s: %s: wanted a value, met a section", where, key->name);
  if (st == OK && strcmp(y.entries[0].name, key->name)) {
    st = FAIL(ERR_ARG, "%s: %s: wanted a value, met a section", where, key->name);
  }
  if (st == OK) st = assign(c, i, where, &y.entries[0], given);
  yaml_values_free(&y);
  return st;
}

static status_t apply_override(struct config *c, const char *override) {
  const char *equal = strchr(override, '=');
  char *name = NULL, *where = NULL;
  status_t st = OK;
  if (!equal || equal == override) {
    return FAIL(ERR_ARG, "command line: wanted key=value, met '%s'", override);
  }
  TRY_GOTO(mem_format(&where, "%s (command line)", override), done);
  TRY_GOTO(mem_copy_text_n(&name, override, (size_t)(equal - override)), done);
  size_t i = find(c->table, name);
  if (i == c->table->count) {
    st = unknown_key(c->table, where, name, true);
    goto done;
  }
  TRY_GOTO(assign_text(c, i, where, equal + 1, true), done);
done:
  mem_free(&name);
  mem_free(&where);
  return st;
}

static status_t apply_file(struct config *c, const char *name, const struct yaml *y) {
  for (size_t k = 0; k < y->count; k++) {
    const struct yaml_entry *entry = &y->entries[k];
    char *where = NULL;
    TRY(mem_format(&where, "%s:%d", name, entry->line));
    size_t i = find(c->table, entry->name);
    status_t st = i < c->table->count ? assign(c, i, where, entry, true)
                                      : unknown_key(c->table, where, entry->name, !entry->list);
    mem_free(&where);
    TRY(st);
  }
  return OK;
}

static status_t apply_defaults(struct config *c, const char *name) {
  for (size_t i = 0; i < c->table->count; i++) {
    const struct config_key *key = key_at(c, i);
    if (c->value[i].set || key->flags & CONFIG_RECIPE) continue;
    if (!key->fallback) return FAIL(ERR_ARG, "%s: the key '%s' is wanted: %s", name, key->name, key->sentence);
    TRY(assign_text(c, i, "default", key->fallback, false));
  }
  return OK;
}

status_t config_parse(const struct config_table *table, const char *name, const void *text, size_t size,
                      char *const *overrides, size_t override_count, struct config **out) {
  status_t st = OK;
  struct config *c = NULL;
  struct yaml y = {0};
  *out = NULL;
  TRY_GOTO(mem_alloc(&c, 1, sizeof *c), done);
  c->table = table;
  TRY_GOTO(mem_alloc(&c->value, table->count, sizeof *c->value), done);
  TRY_GOTO(yaml_values_parse(name, text, size, &y), done);
  TRY_GOTO(apply_file(c, name, &y), done);
  for (size_t i = 0; i < override_count; i++) TRY_GOTO(apply_override(c, overrides[i]), done);
  TRY_GOTO(apply_defaults(c, name), done);
  *out = c;
  c = NULL;
done:
  yaml_values_free(&y);
  config_destroy(&c);
  return st;
}

status_t config_read(const struct config_table *table, const char *path, char *const *overrides, size_t override_count,
                     struct config **out) {
  uint8_t *bytes;
  size_t size;
  *out = NULL;
  TRY(file_read(path, YAML_LIMIT_BYTES, &bytes, &size));
  status_t st = config_parse(table, path, bytes, size, overrides, override_count, out);
  mem_free(&bytes);
  return st;
}

void config_destroy(struct config **config) {
  struct config *c = *config;
  if (!c) return;
  for (size_t i = 0; c->value && i < c->table->count; i++) clear(&c->value[i]);
  mem_free(&c->value);
  mem_free(config);
}

// ---- reading ----------------------------------------------------------------------------------------------------

static size_t index_of(const struct config *c, const char *name) {
  size_t i = find(c->table, name);
  assert(i < c->table->count);
  return i;
}

static const struct value *get(const struct config *c, const char *name, unsigned types) {
  size_t i = index_of(c, name);
  assert(c->value[i].set && (1u << key_at(c, i)->type & types));
  (void)types;
  return &c->value[i];
}

bool config_given(const struct config *c, const char *name) {
  return c->value[index_of(c, name)].given;
}
int64_t config_int(const struct config *c, const char *name) {
  return get(c, name, 1u << CONFIG_INT | 1u << CONFIG_BYTES)->integer;
}
double config_real(const struct config *c, const char *name) {
  return get(c, name, 1u << CONFIG_REAL)->real;
}
bool config_bool(const struct config *c, const char *name) {
  return get(c, name, 1u << CONFIG_BOOL)->integer != 0;
}
const char *config_text(const struct config *c, const char *name) {
  return get(c, name, 1u << CONFIG_TEXT | 1u << CONFIG_CHOICE)->item[0].text;
}
bool config_quoted(const struct config *c, const char *name) {
  return get(c, name, 1u << CONFIG_TEXT)->item[0].quoted;
}
size_t config_count(const struct config *c, const char *name) {
  return get(c, name, 1u << CONFIG_TEXTS)->count;
}
const char *config_item(const struct config *c, const char *name, size_t i) {
  return get(c, name, 1u << CONFIG_TEXTS)->item[i].text;
}
bool config_item_quoted(const struct config *c, const char *name, size_t i) {
  return get(c, name, 1u << CONFIG_TEXTS)->item[i].quoted;
}
const char *config_where(const struct config *c, const char *name) {
  const struct value *v = &c->value[index_of(c, name)];
  return v->set ? v->where : "default";
}

status_t config_set_default(struct config *c, const char *name, const char *text) {
  size_t i = index_of(c, name);
  return c->value[i].set ? OK : assign_text(c, i, "recipe", text, false);
}

// ---- writing ----------------------------------------------------------------------------------------------------

static bool same_value(const struct config_key *key, const struct value *a, const struct value *b) {
  if (a->set != b->set || a->count != b->count) return false;
  if (key->type == CONFIG_INT || key->type == CONFIG_BYTES || key->type == CONFIG_BOOL) return a->integer == b->integer;
  if (key->type == CONFIG_REAL) return a->real == b->real;
  for (size_t k = 0; k < a->count; k++) {
    if (strcmp(a->item[k].text, b->item[k].text) || a->item[k].quoted != b->item[k].quoted) return false;
  }
  return true;
}

const char *config_difference(const struct config *a, const struct config *b) {
  assert(a->table == b->table);
  for (size_t i = 0; i < a->table->count; i++) {
    if (key_at(a, i)->flags & CONFIG_FREE) continue;
    if (!same_value(key_at(a, i), &a->value[i], &b->value[i])) return key_at(a, i)->name;
  }
  return NULL;
}

// Bytes of a code point at s that YAML does not take as it is (control characters, line separators, byte order mark,
// the non-characters), 0 where it does. The text is valid UTF-8: libyaml has seen to that.
static int special_bytes(const unsigned char *s) {
  if (s[0] < 0x20 || s[0] == 0x7f || s[0] == '"' || s[0] == '\\') return 1;
  if (s[0] == 0xC2 && s[1] < 0xA0) return 2;
  if (s[0] == 0xE2 && s[1] == 0x80 && (s[2] == 0xA8 || s[2] == 0xA9)) return 3;
  if (s[0] == 0xEF && s[1] == 0xBB && s[2] == 0xBF) return 3;
  return s[0] == 0xEF && s[1] == 0xBF && s[2] >= 0xBE ? 3 : 0;
}

static void put_item(FILE *f, const struct yaml_scalar *item) {
  const unsigned char *s = (const unsigned char *)item->text;
  if (!item->quoted) { // a bare word
    (void)fputs(item->text, f);
    return;
  }
  (void)fputc('"', f);
  while (*s) {
    int n = special_bytes(s);
    if (n == 1) (void)fprintf(f, "\\x%02X", s[0]);
    if (n == 2) (void)fprintf(f, "\\x%02X", s[1]);
    if (n == 3) (void)fprintf(f, "\\u%04X", (s[0] & 15u) << 12 | (s[1] & 63u) << 6 | (s[2] & 63u));
    if (n == 0) (void)fputc(*s, f);
    s += n ? n : 1;
  }
  (void)fputc('"', f);
}

static void put_value(FILE *f, const struct config_key *key, const struct value *v) {
  bool text = key->type == CONFIG_TEXT || key->type == CONFIG_TEXTS;
  if (key->type == CONFIG_TEXTS) (void)fputc('[', f);
  for (size_t k = 0; k < v->count; k++) {
    if (k) (void)fputs(", ", f);
    if (text) {
      put_item(f, &v->item[k]);
    } else {
      (void)fputs(v->item[k].text, f); // checked: a number, size, word
    }
  }
  if (key->type == CONFIG_TEXTS) (void)fputc(']', f);
  (void)fputc('\n', f);
}

// Open the sections of `name` that were not open after `before`; returns the part behind the last dot.
static const char *open_sections(FILE *f, const char *before, const char *name, int *depth) {
  const char *part = name, *dot;
  bool same = true;
  *depth = 0;
  while ((dot = strchr(part, '.'))) {
    size_t n = (size_t)(dot - name) + 1;
    same = same && !strncmp(before, name, n);
    if (!same) (void)fprintf(f, "%*s%.*s:\n", *depth * 2, "", (int)(dot - part), part);
    part = dot + 1;
    (*depth)++;
  }
  return part;
}

status_t config_to_yaml(const struct config *c, char **text) {
  char *buffer = NULL;
  size_t size = 0;
  *text = NULL;
  FILE *f = open_memstream(&buffer, &size);
  if (!f) return FAIL(ERR_NOMEM, "no memory for the text of a configuration");
  const char *before = "";
  for (size_t i = 0; i < c->table->count; i++) {
    int depth;
    if (!c->value[i].set) continue;
    const char *part = open_sections(f, before, key_at(c, i)->name, &depth);
    (void)fprintf(f, "%*s%s: ", depth * 2, "", part);
    put_value(f, key_at(c, i), &c->value[i]);
    before = key_at(c, i)->name;
  }
  bool bad = ferror(f) != 0;
  if (fclose(f) != 0 || bad) {
    free(buffer);
    return FAIL(ERR_NOMEM, "no memory for the text of a configuration");
  }
  *text = buffer;
  return OK;
}

static json_t *json_of(const struct config_key *key, const struct value *v) {
  if (key->type != CONFIG_TEXTS) return json_string(v->item[0].text);
  json_t *list = json_array();
  for (size_t k = 0; list && k < v->count; k++) {
    if (json_array_append_new(list, json_string(v->item[k].text)) == 0) continue;
    json_decref(list);
    list = NULL;
  }
  return list;
}

status_t config_to_json(const struct config *c, json_t **out) {
  json_t *object = json_object();
  *out = NULL;
  for (size_t i = 0; i < c->table->count; i++) {
    if (!c->value[i].set) continue;
    status_t st = json_put(object, key_at(c, i)->name, json_of(key_at(c, i), &c->value[i]));
    if (st == OK) continue;
    json_decref(object);
    return st;
  }
  *out = object;
  return OK;
}
