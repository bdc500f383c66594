// file.c: see file.h.
#include "base/file.h"

#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

status_t file_read(const char *path, size_t limit, uint8_t **bytes, size_t *size) {
  status_t st = OK;
  struct stat info;
  uint8_t *data = NULL;
  *bytes = NULL;
  *size = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return FAIL(errno == ENOENT || errno == ENOTDIR ? ERR_ARG : ERR_IO, "cannot open %s: %s", path, strerror(errno));
  }
  if (fstat(fd, &info) != 0) FAIL_GOTO(done, ERR_IO, "cannot stat %s: %s", path, strerror(errno));
  if (!S_ISREG(info.st_mode)) FAIL_GOTO(done, ERR_ARG, "%s is not a regular file", path);
  if ((uintmax_t)info.st_size > limit) {
    FAIL_GOTO(done, ERR_FORMAT, "%s has %jd bytes, more than the limit of %zu", path, (intmax_t)info.st_size, limit);
  }
  size_t want = (size_t)info.st_size, have = 0;
  TRY_GOTO(mem_alloc(&data, want + 1, 1), done);
  while (have < want) {
    ssize_t n = read(fd, data + have, want - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) FAIL_GOTO(done, ERR_IO, "cannot read %s at byte %zu: %s", path, have, strerror(errno));
    if (n == 0) FAIL_GOTO(done, ERR_FORMAT, "%s ends at byte %zu, wanted %zu", path, have, want);
    have += (size_t)n;
  }
  *bytes = data;
  *size = want;
  data = NULL;
done:
  mem_free(&data);
  (void)close(fd);
  return st;
}

static status_t write_all(int fd, const char *path, const uint8_t *bytes, size_t size) {
  size_t done = 0;
  while (done < size) {
    ssize_t n = write(fd, bytes + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FAIL(ERR_IO, "cannot write %s at byte %zu: %s", path, done, strerror(errno));
    done += (size_t)n;
  }
  return OK;
}

status_t file_sync_directory(const char *path) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FAIL(ERR_IO, "cannot open folder %s: %s", path, strerror(errno));
  int rc = fsync(fd), why = errno;
  (void)close(fd);
  // Some network file systems have no fsync for folders and say EINVAL: nothing more can be done there.
  if (rc != 0 && why != EINVAL) return FAIL(ERR_IO, "cannot sync folder %s: %s", path, strerror(why));
  return OK;
}

static status_t sync_parent(const char *path) {
  char *copy = NULL;
  TRY(mem_copy_text(&copy, path));
  char *slash = strrchr(copy, '/');
  status_t st;
  if (!slash) {
    st = file_sync_directory(".");
  } else {
    slash[slash == copy ? 1 : 0] = '\0';
    st = file_sync_directory(copy);
  }
  mem_free(&copy);
  return st;
}

status_t file_rename(const char *from, const char *to) {
  if (rename(from, to) != 0) return FAIL(ERR_IO, "cannot rename %s to %s: %s", from, to, strerror(errno));
  return sync_parent(to);
}

status_t file_write_atomic(const char *path, const void *bytes, size_t size) {
  struct file_piece piece = {bytes, size};
  return file_write_pieces(path, &piece, 1);
}

status_t file_write_pieces(const char *path, const struct file_piece *pieces, size_t count) {
  status_t st = OK;
  char *temp = NULL;
  int fd = -1;
  TRY_GOTO(mem_format(&temp, "%s.tmp-%ld", path, (long)getpid()), done);
  fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) FAIL_GOTO(done, ERR_IO, "cannot create %s: %s", temp, strerror(errno));
  for (size_t i = 0; i < count; i++) TRY_GOTO(write_all(fd, temp, pieces[i].bytes, pieces[i].size), done);
  if (fsync(fd) != 0) FAIL_GOTO(done, ERR_IO, "cannot sync %s: %s", temp, strerror(errno));
  int rc = close(fd);
  fd = -1;
  if (rc != 0) FAIL_GOTO(done, ERR_IO, "cannot close %s: %s", temp, strerror(errno));
  TRY_GOTO(file_rename(temp, path), done);
done:
  if (fd >= 0) (void)close(fd);
  if (st != OK && temp) (void)unlink(temp);
  mem_free(&temp);
  return st;
}

bool file_exists(const char *path) {
  struct stat info;
  return stat(path, &info) == 0;
}

bool file_is_directory(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

status_t file_size(const char *path, uint64_t *size) {
  struct stat info;
  if (stat(path, &info) != 0) return FAIL(ERR_ARG, "cannot stat %s: %s", path, strerror(errno));
  *size = (uint64_t)info.st_size;
  return OK;
}

status_t file_make_directories(const char *path) {
  char *copy = NULL;
  TRY(mem_copy_text(&copy, path));
  status_t st = OK;
  for (char *p = copy + 1; st == OK; p++) {
    if (*p != '/' && *p != '\0') continue;
    char kept = *p;
    *p = '\0';
    if (mkdir(copy, 0777) != 0 && errno != EEXIST)
      st = FAIL(ERR_IO, "cannot make folder %s: %s", copy, strerror(errno));
    *p = kept;
    if (kept == '\0') break;
  }
  if (st == OK && !file_is_directory(path)) st = FAIL(ERR_IO, "%s exists and is not a folder", path);
  mem_free(&copy);
  return st;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *walk) {
  (void)info, (void)kind, (void)walk;
  return remove(path);
}

status_t file_remove_tree(const char *path) {
  if (nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT) {
    return FAIL(ERR_IO, "cannot remove %s: %s", path, strerror(errno));
  }
  return OK;
}

status_t file_replace_link(const char *target, const char *link) {
  status_t st = OK;
  char *temp = NULL;
  TRY(mem_format(&temp, "%s.tmp-%ld", link, (long)getpid()));
  (void)unlink(temp);
  if (symlink(target, temp) != 0) {
    st = FAIL(ERR_IO, "cannot link %s to %s: %s", temp, target, strerror(errno));
  } else {
    st = file_rename(temp, link);
  }
  mem_free(&temp);
  return st;
}

status_t file_join(char **out, const char *a, const char *b) {
  size_t n = strlen(a);
  return mem_format(out, "%s%s%s", a, n && a[n - 1] == '/' ? "" : "/", b);
}

const char *file_base_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static int by_bytes(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

status_t file_list(const char *path, char ***names, size_t *count) {
  status_t st = OK;
  size_t capacity = 0;
  *names = NULL;
  *count = 0;
  DIR *folder = opendir(path);
  if (!folder) return FAIL(ERR_ARG, "cannot open folder %s: %s", path, strerror(errno));
  struct dirent *entry;
  while (errno = 0, (entry = readdir(folder))) {
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
    TRY_GOTO(mem_grow(names, &capacity, *count + 1, sizeof **names), done);
    TRY_GOTO(mem_copy_text(&(*names)[*count], entry->d_name), done);
    (*count)++;
  }
  if (errno) FAIL_GOTO(done, ERR_IO, "cannot read folder %s: %s", path, strerror(errno));
  if (*count) qsort(*names, *count, sizeof **names, by_bytes);
done:
  (void)closedir(folder);
  if (st != OK) file_free_names(names, *count);
  return st;
}

void file_free_names(char ***names, size_t count) {
  if (!*names) return;
  for (size_t i = 0; i < count; i++) mem_free(&(*names)[i]);
  free(*names);
  *names = NULL;
}
