// mask_file.c: see mask_file.h.
#include "train/mask_file.h"

#include "base/file.h"
#include "base/key.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

enum { READABLE_BYTES = 40 };

static bool stays(unsigned char c) {
  return isalnum(c) || c == '-' || c == '_' || c == '.' || c >= 0x80;
}

status_t mask_readable_name(const char *words, char **out) {
  char name[READABLE_BYTES + 1];
  size_t n = 0;
  bool dashed = strchr(words, '-') != NULL, lost = dashed; // a '-' then always is a blank, or a hash follows
  for (const char *p = words; *p; p++) {
    bool keep = stays((unsigned char)*p) && !(n == 0 && *p == '.'); // no hidden name, no ".."
    bool blank = *p == ' ' && n > 0 && name[n - 1] != '-' && p[1];
    if (!keep && !blank) lost = true;
    if (!keep && (n == 0 || name[n - 1] == '-')) continue;
    if (n == READABLE_BYTES) {
      lost = true;
      break;
    }
    name[n++] = keep ? *p : '-';
  }
  if (lost) { // not in the middle of a UTF-8 character
    while (n > 0 && ((unsigned char)name[n - 1] & 0xC0) == 0x80) n--;
    if (n > 0 && (unsigned char)name[n - 1] >= 0xC0) n--;
  }
  name[n] = '\0';
  if (!lost && n > 0) return mem_copy_text(out, name);
  struct key key;
  char hex[65];
  TRY(key_sha256(words, strlen(words), &key));
  key_hex(&key, hex);
  return mem_format(out, "%s%s%.8s", *words ? name : "empty", n > 0 && name[n - 1] == '-' ? "" : "-", hex);
}

static bool leaves(const char *name) {
  if (name[0] == '/' || name[0] == '\0') return true;
  for (const char *p = name; p; p = strchr(p, '/')) {
    if (*p == '/') p++;
    if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || p[2] == '\0')) return true;
  }
  return false;
}

status_t mask_path(const char *directory, const char *name, char **out) {
  *out = NULL;
  if (leaves(name)) return FAIL(ERR_FORMAT, "the name '%s' leads out of the folder %s", name, directory);
  char *path = NULL;
  size_t n = strlen(name);
  bool png = n > 4 && strcasecmp(name + n - 4, ".png") == 0;
  TRY(mem_format(&path, "%s/%s%s", directory, name, png ? "" : ".png"));
  char *slash = strrchr(path, '/');
  *slash = '\0';
  status_t st = file_make_directories(path);
  *slash = '/';
  if (st != OK) {
    mem_free(&path);
    return st;
  }
  *out = path;
  return OK;
}
