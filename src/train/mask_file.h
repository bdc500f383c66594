// mask_file.h: where predicted masks are kept, by names and words that others chose.
#ifndef GRIDSEG_TRAIN_MASK_FILE_H
#define GRIDSEG_TRAIN_MASK_FILE_H

#include "base/status.h"

// A folder or file name from words: letters, digits, '_', '.' and bytes of UTF-8 stay, blanks become '-', every other run becomes
// one '-', at most 40 bytes; where that lost something, 8 hexadecimal digits of the words' hash follow. Freed with mem_free.
status_t mask_readable_name(const char *words, char **out);
// DIRECTORY/NAME, ending in ".png" (added unless it is there), its folder made. A name that would leave DIRECTORY is ERR_FORMAT.
status_t mask_path(const char *directory, const char *name, char **out);

#endif
