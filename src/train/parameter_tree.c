// parameter_tree.c: see parameter_tree.h.
#include "train/parameter_tree.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct part {
  const char *name; // up to the next dot of a parameter's name
  size_t length;
  int child, next; // first child, next sibling; -1: none
  int64_t parameters, trained;
  size_t own; // tensors right here, in no child
};

struct tree {
  struct part *part; // part[0] is the model
  size_t count, capacity;
};

bool parameter_is_buffer(const char *name) {
  static const char *const end[] = {"running_mean", "running_var", "num_batches_tracked"};
  const char *dot = strrchr(name, '.');
  for (size_t i = 0; i < sizeof end / sizeof *end; i++) {
    if (!strcmp(dot ? dot + 1 : name, end[i])) return true;
  }
  return false;
}

// ---- building --------------------------------------------------------------------------------------------------------------------

static status_t child_of(struct tree *t, int parent, const char *name, size_t length, int *out) {
  int last = -1;
  for (int i = t->part[parent].child; i >= 0; i = t->part[i].next) {
    last = i;
    if (t->part[i].length == length && !strncmp(t->part[i].name, name, length)) {
      *out = i;
      return OK;
    }
  }
  TRY(mem_grow(&t->part, &t->capacity, t->count + 1, sizeof *t->part));
  *out = (int)t->count++;
  t->part[*out] = (struct part){.name = name, .length = length, .child = -1, .next = -1};
  *(last < 0 ? &t->part[parent].child : &t->part[last].next) = *out;
  return OK;
}

static void count_in(struct part *p, const struct network_parameter *of) {
  p->parameters += desc_count(&of->desc);
  if (of->trained) p->trained += desc_count(&of->desc);
}

static status_t add(struct tree *t, const struct network_parameter *p) {
  int at = 0;
  count_in(&t->part[0], p);
  for (const char *name = p->name, *dot; (dot = strchr(name, '.')); name = dot + 1) {
    TRY(child_of(t, at, name, (size_t)(dot - name), &at));
    count_in(&t->part[at], p);
  }
  t->part[at].own++;
  return OK;
}

// ---- printing --------------------------------------------------------------------------------------------------------------------

// Two parts that hold the same, whatever their own names.
static bool same(const struct tree *t, int a, int b) {
  const struct part *x = &t->part[a], *y = &t->part[b];
  if (x->parameters != y->parameters || x->trained != y->trained || x->own != y->own) return false;
  int i = x->child, k = y->child;
  for (; i >= 0 && k >= 0; i = t->part[i].next, k = t->part[k].next) {
    if (t->part[i].length != t->part[k].length || strncmp(t->part[i].name, t->part[k].name, t->part[i].length) != 0 ||
        !same(t, i, k)) {
      return false;
    }
  }
  return i < 0 && k < 0;
}

static bool is_number(const struct part *p) {
  return strspn(p->name, "0123456789") >= p->length;
}

// The last of the equal neighbours that begin with `first`.
static int last_alike(const struct tree *t, int first) {
  int last = first;
  if (!is_number(&t->part[first])) return first;
  for (int i = t->part[first].next; i >= 0 && is_number(&t->part[i]) && same(t, first, i); i = t->part[i].next)
    last = i;
  return last;
}

enum { PATH_ROOM = 256 };

static void append(char path[PATH_ROOM], const struct tree *t, int first, int last) {
  size_t used = strlen(path);
  const struct part *a = &t->part[first], *b = &t->part[last];
  (void)snprintf(path + used, PATH_ROOM - used, "%s%.*s", used ? "." : "", (int)a->length, a->name);
  used = strlen(path);
  if (first != last) (void)snprintf(path + used, PATH_ROOM - used, "-%.*s", (int)b->length, b->name);
}

static void print_line(const char *path, int depth, int64_t parameters, int64_t trained, FILE *out) {
  (void)fprintf(out, "%*s%-*s ", 2 * depth, "", 46 - 2 * depth, path);
  if (parameters >= 10000)
    (void)fprintf(out, "%9.2f M  ", 1e-6 * (double)parameters);
  else
    (void)fprintf(out, "%11lld  ", (long long)parameters);
  if (trained == 0)
    (void)fprintf(out, "frozen\n");
  else if (trained == parameters)
    (void)fprintf(out, "trains\n");
  else
    (void)fprintf(out, "trains but for %lld\n", (long long)(parameters - trained));
}

// One line: equal neighbours, and what a part that holds nothing but them shares the line with.
struct line {
  char path[PATH_ROOM];
  int at, next;   // whose children come below; the part after the line
  int64_t copies; // of the first part: equal neighbours
};

static int64_t copies_of(const struct tree *t, int first, int last) {
  int64_t n = 1;
  for (int i = first; i != last; i = t->part[i].next) n++;
  return n;
}

static struct line line_from(const struct tree *t, int first) {
  int last = last_alike(t, first);
  struct line line = {.at = first, .next = t->part[last].next, .copies = copies_of(t, first, last)};
  append(line.path, t, first, last);
  while (t->part[line.at].own == 0 && t->part[line.at].child >= 0) {
    first = t->part[line.at].child;
    last = last_alike(t, first);
    if (t->part[last].next >= 0) break;
    append(line.path, t, first, last);
    line.at = first;
  }
  return line;
}

// The lines of the children of `parent` down to `limit` levels; without `out` they are only counted.
static size_t walk(const struct tree *t, int parent, int depth, int limit, FILE *out) {
  size_t lines = 0;
  for (int i = t->part[parent].child; i >= 0;) {
    struct line line = line_from(t, i);
    const struct part *p = &t->part[i];
    if (out) print_line(line.path, depth, p->parameters * line.copies, p->trained * line.copies, out);
    lines++;
    if (depth + 1 < limit) lines += walk(t, line.at, depth + 1, limit, out);
    i = line.next;
  }
  return lines;
}

status_t parameter_tree_print(const struct network *n, size_t lines, FILE *out) {
  status_t st = OK;
  struct tree t = {0};
  int limit = 1;
  TRY_GOTO(mem_grow(&t.part, &t.capacity, 1, sizeof *t.part), done);
  t.part[t.count++] = (struct part){.name = "", .child = -1, .next = -1};
  for (size_t i = 0; i < network_parameter_count(n); i++) {
    const struct network_parameter *p = network_parameter_at(n, i);
    if (!parameter_is_buffer(p->name)) TRY_GOTO(add(&t, p), done);
  }
  while (limit < 8 && walk(&t, 0, 0, limit + 1, NULL) <= lines) limit++;
  (void)walk(&t, 0, 0, limit, out);
done:
  mem_free(&t.part);
  return st;
}
