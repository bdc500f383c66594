// file.h: whole files, names, and the rule "complete or absent".
#ifndef GRIDSEG_BASE_FILE_H
#define GRIDSEG_BASE_FILE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The whole file in *bytes (freed with mem_free; a 0 byte follows the last, not counted in *size).
// ERR_ARG when it is absent, ERR_FORMAT when larger than `limit` bytes.
status_t file_read(const char *path, size_t limit, uint8_t **bytes, size_t *size);
// Write PATH.tmp-PID, fsync, rename to PATH, fsync the folder: PATH is the old or the new content at any instant.
status_t file_write_atomic(const char *path, const void *bytes, size_t size);
// The same from several pieces, one after the other.
struct file_piece {
  const void *bytes;
  size_t size;
};
status_t file_write_pieces(const char *path, const struct file_piece *pieces, size_t count);

bool file_exists(const char *path);
bool file_is_directory(const char *path);
status_t file_size(const char *path, uint64_t *size);
status_t file_make_directories(const char *path);       // mkdir -p
status_t file_remove_tree(const char *path);            // rm -rf; absent is fine; never follows symbolic links
status_t file_sync_directory(const char *path);         // fsync of a folder, after renames in it
status_t file_rename(const char *from, const char *to); // with fsync of the folder of `to`
// Make LINK a symbolic link to TARGET (relative), replacing an old one by rename.
status_t file_replace_link(const char *target, const char *link);
// "a/b" in *out, freed with mem_free.
status_t file_join(char **out, const char *a, const char *b);
const char *file_base_name(const char *path); // what stands after the last '/'
// The names in a folder in byte order, without "." and "..". Free with file_free_names.
status_t file_list(const char *path, char ***names, size_t *count);
void file_free_names(char ***names, size_t count);

#endif
