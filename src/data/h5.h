// h5.h: the little of HDF5 that pools need, with sizes and types checked. Private to src/data. HDF5's C library is used
// from one thread at a time (callers hold their own lock where threads meet); pixels are read without it.
#ifndef GRIDSEG_DATA_H5_H
#define GRIDSEG_DATA_H5_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#include <hdf5.h>

// HDF5 prints to stderr unless it is told not to, per thread.
void h5_silence(void);
// Record `what` with HDF5's own innermost text.
#define H5_FAIL(code, ...) h5_fail((code), __FILE__, __LINE__, __VA_ARGS__)
status_t h5_fail(status_t code, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

// Text of any length, UTF-8, as a fresh datatype.
hid_t h5_text_type(void);

status_t h5_open_file(const char *path, hid_t *file);
// Open a dataset that the file itself holds (no soft, external or virtual link) and check type class, size of an
// element (0: any), and shape. Messages name `path` and `name`.
status_t h5_open_dataset(hid_t file, const char *path, const char *name, H5T_class_t kind, size_t element, int rank,
                         const hsize_t *shape, hid_t *dataset);
// A whole dataset of integers into `out`. `type` is the native type wanted.
status_t h5_read_numbers(hid_t file, const char *path, const char *name, hid_t type, size_t element, int rank,
                         const hsize_t *shape, void *out);
// A one-dimensional dataset of variable-length texts as copies in texts[count]; each is checked to be UTF-8 and at most
// H5_TEXT_LIMIT bytes long. On failure those already made are left in `texts` for the caller to free.
enum { H5_TEXT_LIMIT = 1 << 16 };
status_t h5_read_texts(hid_t file, const char *path, const char *name, hsize_t count, char **texts);
// The place in the file of each chunk of a dataset whose first dimension has one row a chunk, unfiltered:
// offset[shape[0]]; each chunk lies inside the file's `bytes`.
status_t h5_read_places(hid_t file, const char *path, const char *name, int rank, const hsize_t *shape, uint64_t bytes,
                        uint64_t *offset);

// A new dataset without times and fill values, one row a chunk when `chunked`.
status_t h5_create_dataset(hid_t file, const char *path, const char *name, hid_t type, int rank, const hsize_t *shape,
                           int chunked, hid_t *dataset);
status_t h5_write(hid_t file, const char *path, const char *name, hid_t file_type, hid_t memory_type, int rank,
                  const hsize_t *shape, const void *values);
status_t h5_write_texts(hid_t file, const char *path, const char *name, hsize_t count, const char *const *texts);
// The attribute `name` of texts on a dataset or virtual dataset.
status_t h5_write_text_attribute(hid_t object, const char *path, const char *name, hsize_t count,
                                 const char *const *texts);

int h5_text_is_utf8(const char *text);

#endif
