// source.c: see source.h.
#include "data_prep/source.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static void free_wordings(struct source_sample *x) {
  for (int k = 0; k < x->kinds; k++) {
    for (int i = 0; i < x->wordings[k].count; i++) mem_free(&x->wordings[k].text[i]);
    mem_free(&x->wordings[k].text);
  }
  mem_free(&x->wordings);
}

void source_sample_free(struct source_sample *x) {
  free_wordings(x);
  mem_free(&x->image);
  mem_free(&x->mask);
  mem_free(&x->image_name);
  mem_free(&x->name);
  mem_free(&x->class_name);
  mem_free(&x->group);
}

void source_free(struct source *s) {
  for (size_t i = 0; i < s->samples; i++) source_sample_free(&s->sample[i]);
  for (size_t i = 0; i < s->kinds; i++) mem_free(&s->kind[i]);
  mem_free(&s->sample);
  mem_free(&s->kind);
  mem_free(&s->kind_source);
  *s = (struct source){0};
}

status_t source_check_name(const char *where, const char *name) {
  const char *at = name;
  if (!*name || strlen(name) > 1024) return FAIL(ERR_FORMAT, "%s: a file name of %zu bytes", where, strlen(name));
  if (*name == '/') return FAIL(ERR_FORMAT, "%s: file name '%s' is not relative", where, name);
  while (at) {
    if (strncmp(at, "..", 2) == 0 && (at[2] == '/' || at[2] == '\0'))
      return FAIL(ERR_FORMAT, "%s: file name '%s' leaves the dataset's folder", where, name);
    at = strchr(at, '/');
    if (at) at++;
  }
  return OK;
}

status_t source_add(struct source *s, const char *images, const char *image_name, const char *masks, const char *name) {
  TRY(mem_grow(&s->sample, &s->capacity, s->samples + 1, sizeof *s->sample));
  struct source_sample *x = &s->sample[s->samples];
  *x = (struct source_sample){0};
  s->samples++;
  TRY(file_join(&x->image, images, image_name));
  TRY(file_join(&x->mask, masks, name));
  TRY(mem_copy_text(&x->image_name, image_name));
  return mem_copy_text(&x->name, name);
}

// Kinds stay in the order in which they were met while reading; source_complete sorts them.
static status_t find_kind(struct source *s, const char *kind, prompt_source_t source, size_t *out) {
  for (*out = 0; *out < s->kinds; (*out)++)
    if (strcmp(s->kind[*out], kind) == 0) return OK;
  if (s->kinds >= 64 || strlen(kind) > 64) return FAIL(ERR_FORMAT, "prompt kind '%.80s': too many or too long", kind);
  TRY(mem_grow(&s->kind, &s->kind_capacity, s->kinds + 1, sizeof *s->kind));
  TRY(mem_grow(&s->kind_source, &s->source_capacity, s->kinds + 1, sizeof *s->kind_source));
  TRY(mem_copy_text(&s->kind[s->kinds], kind));
  s->kind_source[s->kinds] = source;
  *out = s->kinds++;
  return OK;
}

status_t source_add_prompt(struct source *s, const char *kind, prompt_source_t source, const char *text) {
  struct source_sample *x = &s->sample[s->samples - 1];
  size_t k;
  if (!*text && strcmp(kind, "p0") != 0) return OK;
  TRY(find_kind(s, kind, source, &k));
  if (k >= (size_t)x->kinds) {
    struct source_wordings *grown = NULL;
    TRY(mem_alloc(&grown, k + 1, sizeof *grown));
    if (x->kinds) memcpy(grown, x->wordings, (size_t)x->kinds * sizeof *grown);
    mem_free(&x->wordings);
    x->wordings = grown;
    x->kinds = (int)k + 1;
  }
  struct source_wordings *w = &x->wordings[k];
  if (w->count >= 256) return FAIL(ERR_FORMAT, "%s: more than 256 wordings of prompt %s", x->name, kind);
  char **text_array = realloc(w->text, ((size_t)w->count + 1) * sizeof *text_array);
  if (!text_array) return FAIL(ERR_NOMEM, "no memory for a prompt");
  w->text = text_array;
  TRY(mem_copy_text(&w->text[w->count], text));
  w->count++;
  return OK;
}

const struct source_wordings *source_wordings_of(const struct source_sample *sample, size_t kind) {
  static const struct source_wordings none = {0};
  return kind < (size_t)sample->kinds ? &sample->wordings[kind] : &none;
}

static size_t stem_length(const char *name) {
  const char *dot = strrchr(name, '.');
  return dot && dot != name ? (size_t)(dot - name) : strlen(name);
}

static status_t make_group(struct source_sample *x) {
  const char *base = file_base_name(x->image_name);
  size_t n = strlen("patient");
  if (strncmp(base, "patient", n) == 0 && isdigit((unsigned char)base[n])) {
    while (isdigit((unsigned char)base[n])) n++;
    return mem_copy_text_n(&x->group, base, n);
  }
  return mem_copy_text(&x->group, x->image_name);
}

static status_t make_class(struct source_sample *x, int several, const char *name) {
  const char *slash = strrchr(x->name, '/'), *base = file_base_name(x->name), *image = file_base_name(x->image_name);
  size_t stem = stem_length(image), length = stem_length(base);
  if (slash) return mem_copy_text_n(&x->class_name, x->name, (size_t)(slash - x->name));
  if (several && length > stem + 1 && strncmp(base, image, stem) == 0 && base[stem] == '_')
    return mem_copy_text_n(&x->class_name, base + stem + 1, length - stem - 1);
  return mem_copy_text(&x->class_name, name);
}

static int by_image(const void *a, const void *b) {
  const struct source_sample *x = *(const struct source_sample *const *)a, *y = *(const struct source_sample *const *)b;
  return strcmp(x->image, y->image);
}

static int several_masks(struct source_sample **sorted, size_t n) {
  for (size_t i = 1; i < n; i++)
    if (by_image(&sorted[i - 1], &sorted[i]) == 0) return 1;
  return 0;
}

// Sort the kinds by name, and every sample's wordings with them (they become as long as the list of kinds).
static status_t sort_kinds(struct source *s) {
  size_t order[64];
  for (size_t i = 0; i < s->kinds; i++) {
    size_t at = i;
    for (; at > 0 && strcmp(s->kind[order[at - 1]], s->kind[i]) > 0; at--) order[at] = order[at - 1];
    order[at] = i;
  }
  char *kind[64];
  prompt_source_t source[64];
  for (size_t i = 0; i < s->kinds; i++) kind[i] = s->kind[order[i]], source[i] = s->kind_source[order[i]];
  for (size_t i = 0; i < s->kinds; i++) s->kind[i] = kind[i], s->kind_source[i] = source[i];
  for (size_t j = 0; j < s->samples; j++) {
    struct source_sample *x = &s->sample[j];
    struct source_wordings *made = NULL;
    TRY(mem_alloc(&made, s->kinds, sizeof *made));
    for (size_t i = 0; i < s->kinds; i++) made[i] = *source_wordings_of(x, order[i]);
    mem_free(&x->wordings);
    x->wordings = made;
    x->kinds = (int)s->kinds;
  }
  return OK;
}

static int by_pair(const void *a, const void *b) {
  const struct source_sample *x = *(const struct source_sample *const *)a, *y = *(const struct source_sample *const *)b;
  int c = strcmp(x->image, y->image);
  if (c == 0) c = strcmp(x->mask, y->mask);
  return c ? c : (x > y) - (x < y);
}

// The first of equal pairs stays. The rest is named and dropped: a sample counts once.
static status_t drop_twins(struct source *s, const char *where) {
  struct source_sample **sorted = NULL;
  bool *twin = NULL;
  status_t st = OK;
  TRY_GOTO(mem_alloc(&sorted, s->samples, sizeof *sorted), done);
  TRY_GOTO(mem_alloc(&twin, s->samples, sizeof *twin), done);
  for (size_t i = 0; i < s->samples; i++) sorted[i] = &s->sample[i];
  qsort(sorted, s->samples, sizeof *sorted, by_pair);
  for (size_t i = 1; i < s->samples; i++) {
    if (strcmp(sorted[i]->image, sorted[i - 1]->image) != 0 || strcmp(sorted[i]->mask, sorted[i - 1]->mask) != 0)
      continue;
    twin[sorted[i] - s->sample] = true;
    log_warn("%s: image %s with mask %s is listed twice; it is packed once", where, sorted[i]->image_name,
             sorted[i]->name);
  }
  size_t kept = 0;
  for (size_t i = 0; i < s->samples; i++) {
    if (twin[i]) {
      source_sample_free(&s->sample[i]);
    } else {
      s->sample[kept++] = s->sample[i];
    }
  }
  s->samples = kept;
done:
  mem_free(&sorted);
  mem_free(&twin);
  return st;
}

status_t source_complete(struct source *s, const char *where, const char *name) {
  struct source_sample **sorted = NULL;
  TRY(drop_twins(s, where));
  TRY(mem_alloc(&sorted, s->samples, sizeof *sorted));
  for (size_t i = 0; i < s->samples; i++) sorted[i] = &s->sample[i];
  qsort(sorted, s->samples, sizeof *sorted, by_image);
  int several = several_masks(sorted, s->samples);
  mem_free(&sorted);
  for (size_t i = 0; i < s->samples; i++) {
    struct source_sample *x = &s->sample[i];
    if (!x->group) TRY(make_group(x));
    if (!x->class_name) TRY(make_class(x, several, name));
  }
  return sort_kinds(s);
}

status_t source_set_class(struct source *s, const char *class_name) {
  for (size_t i = 0; i < s->samples; i++) {
    mem_free(&s->sample[i].class_name);
    TRY(mem_copy_text(&s->sample[i].class_name, class_name));
  }
  return OK;
}
