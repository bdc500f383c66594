// network_weights.c: the weights of a model directory, and whether they are the model's.
#include "base/file.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "train/network_state.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool ends_in(const char *name, const char *end) {
  size_t n = strlen(name), m = strlen(end);
  return n >= m && !strcmp(name + n - m, end);
}

// The names of one side: of the model's tensors or of the file's.
struct names {
  const char **name;
  size_t count;
};

struct mismatch {
  const struct network *n;
  struct names missing, surplus, misshapen;
};

// A tensor of the file that is no parameter: buffers that older versions of the public code saved are known and passed over.
static bool is_known(const struct network *n, const char *name) {
  if (ends_in(name, "position_ids")) return true;
  for (size_t i = 0; i < n->parameters; i++) {
    if (!strcmp(name, n->parameter[i].name)) return true;
  }
  return false;
}

static const struct network_parameter *find(const struct network *n, const char *name) {
  size_t i = 0;
  while (strcmp(n->parameter[i].name, name) != 0) i++;
  return &n->parameter[i];
}

static void compare(struct mismatch *m) {
  const struct network *n = m->n;
  for (size_t i = 0; i < n->parameters; i++) {
    const struct network_parameter *p = &n->parameter[i];
    const struct safetensors_entry *e = safetensors_find(n->weights, p->name);
    if (!e && p->stored == DTYPE_I64) continue; // BatchNorm's count of steps: files of torch before 0.4.1 lack it
    struct names *to = !e ? &m->missing : &m->misshapen;
    if (!e || !desc_same_shape(&e->desc, &p->desc)) to->name[to->count++] = p->name;
  }
  for (size_t i = 0; i < safetensors_count(n->weights); i++) {
    const char *name = safetensors_at(n->weights, i)->name;
    if (!is_known(n, name)) m->surplus.name[m->surplus.count++] = name;
  }
}

// ---- the message -----------------------------------------------------------------------------------------------------------------

enum { SHOWN = 3, NAME_SHOWN = 100, MESSAGE_ROOM = 1900 };

struct message {
  char text[MESSAGE_ROOM];
  size_t used;
};

static void add(struct message *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct message *s, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(s->text + s->used, sizeof s->text - s->used, format, arguments);
  va_end(arguments);
  if (n > 0) s->used += (size_t)n;
  if (s->used >= sizeof s->text) s->used = sizeof s->text - 1;
}

// The name that was probably meant: at most half of it differs.
static const char *nearest(const char *name, const struct names *of) {
  const char *best = NULL;
  int least = (int)strnlen(name, NEAREST_ROOM) / 2 + 1;
  for (size_t i = 0; i < of->count; i++) {
    int d = nearest_distance(name, of->name[i]);
    if (d < least) {
      least = d;
      best = of->name[i];
    }
  }
  return best;
}

static void add_shape(struct message *s, const struct mismatch *m, const char *name, char kind) {
  char text[DESC_TEXT];
  const struct safetensors_entry *e = kind == 'm' ? NULL : safetensors_find(m->n->weights, name);
  add(s, kind == 'x' ? " is %s" : " %s", desc_text(e ? &e->desc : &find(m->n, name)->desc, text));
  if (kind == 'x') add(s, ", wanted %s", desc_text(&find(m->n, name)->desc, text));
}

static void add_names(struct message *s, const struct mismatch *m, const char *what, char kind,
                      const struct names *names, const struct names *other) {
  for (size_t i = 0; i < names->count && i < SHOWN; i++) {
    const char *near = other ? nearest(names->name[i], other) : NULL;
    add(s, "\n  %-9s %.*s", what, NAME_SHOWN, names->name[i]);
    add_shape(s, m, names->name[i], kind);
    if (near) add(s, "; the nearest %s is %.*s", kind == 'm' ? "surplus" : "missing", NAME_SHOWN, near);
  }
  if (names->count > SHOWN) add(s, "\n  %-9s ... and %zu more", what, names->count - SHOWN);
}

static status_t tell(const struct mismatch *m) {
  struct message s = {.used = 0};
  add_names(&s, m, "missing", 'm', &m->missing, &m->surplus);
  add_names(&s, m, "surplus", 's', &m->surplus, &m->missing);
  add_names(&s, m, "misshapen", 'x', &m->misshapen, NULL);
  bool shapes = m->missing.count + m->surplus.count == 0;
  return FAIL(shapes ? ERR_SHAPE : ERR_FORMAT,
              "%.*s does not fit config.json: %zu missing, %zu surplus, %zu misshapen of %zu tensors%s", NAME_SHOWN,
              safetensors_path(m->n->weights), m->missing.count, m->surplus.count, m->misshapen.count, m->n->parameters,
              s.text);
}

static status_t check(const struct network *n) {
  status_t st = OK;
  struct mismatch m = {.n = n};
  TRY_GOTO(mem_alloc(&m.missing.name, n->parameters + 1, sizeof *m.missing.name), done);
  TRY_GOTO(mem_alloc(&m.misshapen.name, n->parameters + 1, sizeof *m.misshapen.name), done);
  TRY_GOTO(mem_alloc(&m.surplus.name, safetensors_count(n->weights) + 1, sizeof *m.surplus.name), done);
  compare(&m);
  if (m.missing.count + m.surplus.count + m.misshapen.count) st = tell(&m);
done:
  mem_free(&m.missing.name);
  mem_free(&m.surplus.name);
  mem_free(&m.misshapen.name);
  return st;
}

status_t network_open_weights(struct network *n) {
  if (!n->model->has_weights) return OK;
  char *path = NULL;
  TRY(file_join(&path, n->model->directory, "model.safetensors"));
  if (!file_exists(path)) {
    mem_free(&path);
    TRY(file_join(&path, n->model->directory, "model.safetensors.index.json"));
  }
  status_t st = safetensors_open(path, &n->weights);
  mem_free(&path);
  return st == OK ? check(n) : st;
}
