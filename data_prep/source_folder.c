// source_folder.c: two folders, images/ and masks/, matched by the stem of the file names.
#include "data_prep/source.h"

#include "base/file.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

struct listing {
  char *path;
  char **name; // in byte order, hidden files left out
  size_t count;
};

static size_t stem_length(const char *name) {
  const char *dot = strrchr(name, '.');
  return dot && dot != name ? (size_t)(dot - name) : strlen(name);
}

static int compare_stems(const char *a, const char *b) {
  size_t n = stem_length(a), m = stem_length(b);
  int c = memcmp(a, b, n < m ? n : m);
  return c ? c : (n > m) - (n < m);
}

static int by_stem(const void *a, const void *b) {
  return compare_stems(*(const char *const *)a, *(const char *const *)b);
}

static status_t list_folder(const char *folder, const char *part, struct listing *out) {
  size_t kept = 0;
  TRY(file_join(&out->path, folder, part));
  if (!file_is_directory(out->path)) return FAIL(ERR_ARG, "%s is not a folder", out->path);
  TRY(file_list(out->path, &out->name, &out->count));
  for (size_t i = 0; i < out->count; i++) {
    char *name = out->name[i];
    out->name[i] = NULL;
    if (name[0] == '.') {
      mem_free(&name);
    } else {
      out->name[kept++] = name;
    }
  }
  out->count = kept;
  qsort(out->name, kept, sizeof *out->name, by_stem);
  for (size_t i = 1; i < kept; i++) {
    if (compare_stems(out->name[i - 1], out->name[i]) == 0)
      return FAIL(ERR_ARG, "%s: %s and %s have the same stem, so their partner can't be told", out->path,
                  out->name[i - 1], out->name[i]);
  }
  return OK;
}

static void listing_free(struct listing *l) {
  file_free_names(&l->name, l->count);
  mem_free(&l->path);
}

static status_t match(const struct listing *images, const struct listing *masks, const char *prompt,
                      struct source *out) {
  size_t i = 0, j = 0;
  while (i < images->count || j < masks->count) {
    int c = i == images->count ? 1 : j == masks->count ? -1 : compare_stems(images->name[i], masks->name[j]);
    if (c != 0) {
      const struct listing *have = c < 0 ? images : masks, *lack = c < 0 ? masks : images;
      return FAIL(ERR_ARG,
                  "%s/%s has no partner of the same stem in %s; nothing is left out in silence, so add it or "
                  "take this file away",
                  have->path, have->name[c < 0 ? i : j], lack->path);
    }
    TRY(source_add(out, images->path, images->name[i], masks->path, masks->name[j]));
    TRY(source_add_prompt(out, "p0", PROMPT_CLASS, ""));
    if (prompt) TRY(source_add_prompt(out, "p1", PROMPT_PERSON, prompt));
    i++;
    j++;
  }
  return OK;
}

status_t source_read_folder(const char *folder, const char *prompt, struct source *out) {
  struct listing images = {0}, masks = {0};
  status_t st = OK;
  *out = (struct source){0};
  TRY_GOTO(list_folder(folder, "images", &images), done);
  TRY_GOTO(list_folder(folder, "masks", &masks), done);
  if (images.count == 0 && masks.count == 0) FAIL_GOTO(done, ERR_ARG, "%s and %s are empty", images.path, masks.path);
  TRY_GOTO(match(&images, &masks, prompt, out), done);
  TRY_GOTO(source_complete(out, folder, file_base_name(folder)), done);
done:
  if (st != OK) source_free(out);
  listing_free(&images);
  listing_free(&masks);
  return st;
}
