// yaml.c: see yaml.h. One pass over libyaml's events with a path that grows and shrinks: no tree is built.
#include "base/yaml.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct reader {
  const char *name;
  yaml_parser_t parser;
  struct yaml *out;
  size_t capacity, values;
  char *path[YAML_LIMIT_DEPTH];
  int depth;
};

static int line_of(const yaml_event_t *e) {
  return (int)e->start_mark.line + 1;
}

static status_t next(struct reader *r, yaml_event_t *e) {
  if (yaml_parser_parse(&r->parser, e)) return OK;
  const yaml_parser_t *p = &r->parser;
  memset(e, 0, sizeof *e);
  if (p->error == YAML_MEMORY_ERROR) return FAIL(ERR_NOMEM, "%s: no memory to parse", r->name);
  size_t line = p->problem_mark.line + 1;
  return FAIL(ERR_FORMAT, "%s:%zu: %s%s%s", r->name, line, p->problem ? p->problem : "not YAML", p->context ? " " : "",
              p->context ? p->context : "");
}

// Anchors are what aliases need, tags what types outside the key table need: both have no use here.
static status_t refuse_marks(const struct reader *r, const yaml_event_t *e, const yaml_char_t *anchor,
                             const yaml_char_t *tag) {
  if (anchor) return FAIL(ERR_FORMAT, "%s:%d: anchors and aliases (&%s) are not read", r->name, line_of(e), anchor);
  if (tag) return FAIL(ERR_FORMAT, "%s:%d: tags (%s) are not read", r->name, line_of(e), tag);
  return OK;
}

// What could stand in any YAML without quotes. Everything else counts as quoted, so that a value keeps its nature when
// it is written and read again.
static bool is_word(const char *text) {
  static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-";
  return text[0] && strspn(text, allowed) == strlen(text) && (text[0] != '-' || (text[1] && text[1] != '-'));
}

static status_t copy_scalar(struct reader *r, const yaml_event_t *e, struct yaml_scalar *out) {
  const char *text = (const char *)e->data.scalar.value;
  size_t n = e->data.scalar.length;
  TRY(refuse_marks(r, e, e->data.scalar.anchor, e->data.scalar.tag));
  if (memchr(text, 0, n)) return FAIL(ERR_FORMAT, "%s:%d: a value holds a zero byte", r->name, line_of(e));
  if (++r->values > YAML_LIMIT_VALUES) {
    return FAIL(ERR_FORMAT, "%s:%d: more than %d values", r->name, line_of(e), YAML_LIMIT_VALUES);
  }
  TRY(mem_copy_text_n(&out->text, text, n));
  out->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE || !is_word(text);
  return OK;
}

static status_t join_path(const struct reader *r, char **out) {
  size_t n = 1;
  for (int i = 0; i < r->depth; i++) n += strlen(r->path[i]) + 1;
  TRY(mem_alloc(out, n, 1));
  for (int i = 0; i < r->depth; i++) {
    if (i) strcat(*out, ".");
    strcat(*out, r->path[i]);
  }
  return OK;
}

static status_t new_entry(struct reader *r, const yaml_event_t *e, struct yaml_entry **out) {
  TRY(mem_grow(&r->out->entries, &r->capacity, r->out->count + 1, sizeof **out));
  struct yaml_entry *entry = &r->out->entries[r->out->count];
  *entry = (struct yaml_entry){.line = line_of(e)};
  TRY(join_path(r, &entry->name));
  r->out->count++;
  for (size_t i = 0; i + 1 < r->out->count; i++) {
    if (!strcmp(r->out->entries[i].name, entry->name)) {
      return FAIL(ERR_FORMAT, "%s:%d: '%s' stands here and in line %d", r->name, entry->line, entry->name,
                  r->out->entries[i].line);
    }
  }
  *out = entry;
  return OK;
}

static status_t read_list(struct reader *r, const yaml_event_t *start) {
  struct yaml_entry *entry;
  size_t capacity = 0;
  yaml_event_t e;
  TRY(refuse_marks(r, start, start->data.sequence_start.anchor, start->data.sequence_start.tag));
  TRY(new_entry(r, start, &entry));
  entry->list = true;
  for (;;) {
    TRY(next(r, &e));
    status_t st = OK;
    bool end = e.type == YAML_SEQUENCE_END_EVENT;
    if (e.type == YAML_SCALAR_EVENT) {
      st = mem_grow(&entry->values, &capacity, entry->count + 1, sizeof *entry->values);
      if (st == OK) {
        entry->values[entry->count] = (struct yaml_scalar){0};
        st = copy_scalar(r, &e, &entry->values[entry->count]);
        if (entry->values[entry->count].text) entry->count++;
      }
    } else if (!end) {
      st = FAIL(ERR_FORMAT, "%s:%d: '%s' is a list of plain values; lists, sections and aliases in it are not read",
                r->name, line_of(&e), entry->name);
    }
    yaml_event_delete(&e);
    if (end || st != OK) return st;
  }
}

static status_t read_scalar(struct reader *r, const yaml_event_t *e) {
  struct yaml_entry *entry;
  TRY(new_entry(r, e, &entry));
  TRY(mem_alloc(&entry->values, 1, sizeof *entry->values));
  TRY(copy_scalar(r, e, entry->values));
  entry->count = 1;
  if (e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !entry->values->text[0]) {
    return FAIL(ERR_FORMAT, "%s:%d: '%s' has no value (an empty text is written as '')", r->name, entry->line,
                entry->name);
  }
  return OK;
}

static status_t read_mapping(struct reader *r, const yaml_event_t *start);

static status_t read_value(struct reader *r, const yaml_event_t *e) {
  switch (e->type) {
  case YAML_SCALAR_EVENT: return read_scalar(r, e);
  case YAML_SEQUENCE_START_EVENT: return read_list(r, e);
  case YAML_MAPPING_START_EVENT: return read_mapping(r, e);
  case YAML_ALIAS_EVENT:
    return FAIL(ERR_FORMAT, "%s:%d: anchors and aliases (*%s) are not read", r->name, line_of(e), e->data.alias.anchor);
  default: return FAIL(ERR_FORMAT, "%s:%d: a value was wanted", r->name, line_of(e));
  }
}

static status_t read_key(struct reader *r, const yaml_event_t *e) {
  struct yaml_scalar key = {0};
  if (e->type != YAML_SCALAR_EVENT) {
    return FAIL(ERR_FORMAT, "%s:%d: a key must be a plain word", r->name, line_of(e));
  }
  if (r->depth == YAML_LIMIT_DEPTH) {
    return FAIL(ERR_FORMAT, "%s:%d: sections are nested deeper than %d", r->name, line_of(e), YAML_LIMIT_DEPTH);
  }
  status_t st = copy_scalar(r, e, &key);
  if (st == OK && (!key.text[0] || !strcmp(key.text, "<<"))) {
    st = FAIL(ERR_FORMAT, "%s:%d: '%s' is no key", r->name, line_of(e), key.text);
  }
  if (st == OK) {
    r->path[r->depth++] = key.text;
  } else {
    mem_free(&key.text);
  }
  return st;
}

// Depth is bounded by read_key, so is this recursion.
static status_t read_mapping(struct reader *r, const yaml_event_t *start) {
  yaml_event_t e;
  TRY(refuse_marks(r, start, start->data.mapping_start.anchor, start->data.mapping_start.tag));
  for (;;) {
    TRY(next(r, &e));
    bool end = e.type == YAML_MAPPING_END_EVENT;
    status_t st = end ? OK : read_key(r, &e);
    yaml_event_delete(&e);
    if (end || st != OK) return st;
    st = next(r, &e);
    if (st == OK) st = read_value(r, &e);
    yaml_event_delete(&e);
    mem_free(&r->path[--r->depth]);
    if (st != OK) return st;
  }
}

static status_t expect(struct reader *r, yaml_event_type_t type, const char *what) {
  yaml_event_t e;
  TRY(next(r, &e));
  status_t st = OK;
  if (e.type != type) st = FAIL(ERR_FORMAT, "%s:%d: %s", r->name, line_of(&e), what);
  yaml_event_delete(&e);
  return st;
}

// `key`: NULL for a file, whose top is a mapping; else the name of the one value.
static status_t parse(const char *name, const char *key, const void *text, size_t size, struct yaml *out) {
  status_t st = OK;
  struct reader r = {.name = name, .out = out};
  yaml_event_t e = {0};
  *out = (struct yaml){0};
  if (size > YAML_LIMIT_BYTES) {
    return FAIL(ERR_FORMAT, "%s has %zu bytes, more than the limit of %d", name, size, YAML_LIMIT_BYTES);
  }
  if (!yaml_parser_initialize(&r.parser)) return FAIL(ERR_NOMEM, "no memory for a YAML parser");
  yaml_parser_set_input_string(&r.parser, text, size);
  yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
  TRY_GOTO(expect(&r, YAML_STREAM_START_EVENT, "not YAML"), done);
  TRY_GOTO(next(&r, &e), done);
  if (e.type == YAML_STREAM_END_EVENT) {
    if (key) FAIL_GOTO(done, ERR_FORMAT, "%s: '%s' has no value", name, key);
    goto done; // an empty file: everything at its default
  }
  yaml_event_delete(&e);
  TRY_GOTO(next(&r, &e), done);
  if (key) {
    TRY_GOTO(mem_copy_text(&r.path[r.depth++], key), done);
    TRY_GOTO(read_value(&r, &e), done);
  } else if (e.type == YAML_MAPPING_START_EVENT) {
    TRY_GOTO(read_mapping(&r, &e), done);
  } else if (e.type != YAML_SCALAR_EVENT || e.data.scalar.length) {
    FAIL_GOTO(done, ERR_FORMAT, "%s:%d: wanted lines of 'key: value'", name, line_of(&e));
  }
  TRY_GOTO(expect(&r, YAML_DOCUMENT_END_EVENT, "not YAML"), done);
  TRY_GOTO(expect(&r, YAML_STREAM_END_EVENT, "a second document; one is wanted"), done);
done:
  yaml_event_delete(&e);
  while (r.depth > 0) mem_free(&r.path[--r.depth]);
  yaml_parser_delete(&r.parser);
  return st;
}

status_t yaml_values_parse(const char *name, const void *text, size_t size, struct yaml *out) {
  return parse(name, NULL, text, size, out);
}

status_t yaml_values_parse_one(const char *name, const char *key, const char *text, struct yaml *out) {
  return parse(name, key, text, strlen(text), out);
}

void yaml_values_free(struct yaml *yaml) {
  for (size_t i = 0; i < yaml->count; i++) {
    for (size_t k = 0; k < yaml->entries[i].count; k++) mem_free(&yaml->entries[i].values[k].text);
    free(yaml->entries[i].values);
    mem_free(&yaml->entries[i].name);
  }
  free(yaml->entries);
  *yaml = (struct yaml){0};
}
