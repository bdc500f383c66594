// h5.c: see h5.h.
#include "data/h5.h"

#include "data/pool.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void h5_silence(void) {
  (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

static herr_t keep_text(unsigned n, const H5E_error2_t *e, void *out) {
  (void)n;
  if (e->desc) (void)snprintf(out, 256, "%s", e->desc);
  return 0;
}

status_t h5_fail(status_t code, const char *file, int line, const char *format, ...) {
  char text[1200], inner[256] = "";
  va_list args;
  va_start(args, format);
  (void)vsnprintf(text, sizeof text, format, args);
  va_end(args);
  (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_text, inner);
  (void)H5Eclear2(H5E_DEFAULT);
  return status_fail(code, file, line, inner[0] ? "%s (HDF5: %s)" : "%s%s", text, inner);
}

hid_t h5_text_type(void) {
  hid_t type = H5Tcopy(H5T_C_S1);
  if (type < 0) return type;
  if (H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0) {
    (void)H5Tclose(type);
    return H5I_INVALID_HID;
  }
  return type;
}

int h5_text_is_utf8(const char *text) {
  const unsigned char *p = (const unsigned char *)text;
  while (*p) {
    int more = *p < 0x80                 ? 0
               : *p >= 0xc2 && *p < 0xe0 ? 1
               : *p >= 0xe0 && *p < 0xf0 ? 2
               : *p >= 0xf0 && *p < 0xf5 ? 3
                                         : -1;
    if (more < 0) return 0;
    unsigned lead = *p, next = p[1];
    if (more && ((lead == 0xe0 && next < 0xa0) || (lead == 0xed && next > 0x9f) || (lead == 0xf0 && next < 0x90) ||
                 (lead == 0xf4 && next > 0x8f)))
      return 0;
    for (p++; more > 0; more--, p++)
      if ((*p & 0xc0) != 0x80) return 0;
  }
  return 1;
}

status_t h5_open_file(const char *path, hid_t *file) {
  h5_silence();
  hid_t access = H5Pcreate(H5P_FILE_ACCESS);
#if H5_VERSION_GE(1, 10, 7)
  (void)H5Pset_file_locking(access, 0, 1); // pools never change, and NFS often has no locks
#endif
  *file = H5Fopen(path, H5F_ACC_RDONLY, access);
  (void)H5Pclose(access);
  return *file < 0 ? H5_FAIL(ERR_FORMAT, "%s: cannot be opened as HDF5", path) : OK;
}

static status_t check_type(hid_t dataset, const char *path, const char *name, H5T_class_t kind, size_t element) {
  hid_t type = H5Dget_type(dataset);
  if (type < 0) return H5_FAIL(ERR_FORMAT, "%s: dataset '%s' has no type", path, name);
  H5T_class_t met = H5Tget_class(type);
  size_t size = H5Tget_size(type);
  int variable = kind == H5T_STRING && H5Tis_variable_str(type) > 0;
  (void)H5Tclose(type);
  if (met != kind || (element && size != element))
    return FAIL(ERR_FORMAT, "%s: dataset '%s' has type class %d of %zu bytes; wanted class %d of %zu bytes", path, name,
                (int)met, size, (int)kind, element);
  if (kind == H5T_STRING && !variable)
    return FAIL(ERR_FORMAT, "%s: dataset '%s' holds texts of fixed length; wanted variable length", path, name);
  return OK;
}

static status_t check_shape(hid_t dataset, const char *path, const char *name, int rank, const hsize_t *shape) {
  hsize_t met[H5S_MAX_RANK];
  hid_t space = H5Dget_space(dataset);
  int met_rank = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
  if (met_rank > 0) (void)H5Sget_simple_extent_dims(space, met, NULL);
  if (space >= 0) (void)H5Sclose(space);
  if (met_rank != rank) return FAIL(ERR_FORMAT, "%s: dataset '%s' has rank %d; wanted %d", path, name, met_rank, rank);
  for (int i = 0; i < rank; i++) {
    if (met[i] != shape[i])
      return FAIL(ERR_FORMAT, "%s: dataset '%s' has %llu in dimension %d; wanted %llu", path, name,
                  (unsigned long long)met[i], i, (unsigned long long)shape[i]);
  }
  return OK;
}

// Outside files must not come in: neither by external or virtual storage nor by links.
static status_t check_storage(hid_t dataset, const char *path, const char *name) {
  hid_t create = H5Dget_create_plist(dataset);
  if (create < 0) return H5_FAIL(ERR_FORMAT, "%s: dataset '%s' has no properties", path, name);
  int outside = H5Pget_layout(create) == H5D_VIRTUAL || H5Pget_external_count(create) > 0;
  (void)H5Pclose(create);
  return outside ? FAIL(ERR_FORMAT, "%s: dataset '%s' lies in another file", path, name) : OK;
}

status_t h5_open_dataset(hid_t file, const char *path, const char *name, H5T_class_t kind, size_t element, int rank,
                         const hsize_t *shape, hid_t *dataset) {
  H5L_info_t link;
  H5O_info_t object;
  *dataset = H5I_INVALID_HID;
  if (H5Lget_info(file, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD ||
      H5Oget_info_by_name(file, name, &object, H5P_DEFAULT) < 0 || object.type != H5O_TYPE_DATASET) {
    (void)H5Eclear2(H5E_DEFAULT);
    return FAIL(ERR_FORMAT, "%s: no dataset '%s'", path, name);
  }
  hid_t d = H5Dopen2(file, name, H5P_DEFAULT);
  if (d < 0) return H5_FAIL(ERR_FORMAT, "%s: dataset '%s' cannot be opened", path, name);
  status_t st = check_storage(d, path, name); // first: a virtual dataset may name itself, and HDF5 would go round
  if (st == OK) st = check_type(d, path, name, kind, element);
  if (st == OK) st = check_shape(d, path, name, rank, shape);
  if (st != OK) {
    (void)H5Dclose(d);
    return st;
  }
  *dataset = d;
  return OK;
}

status_t h5_read_numbers(hid_t file, const char *path, const char *name, hid_t type, size_t element, int rank,
                         const hsize_t *shape, void *out) {
  hid_t dataset;
  TRY(h5_open_dataset(file, path, name, H5T_INTEGER, element, rank, shape, &dataset));
  herr_t rc = H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out);
  status_t st = rc < 0 ? H5_FAIL(ERR_FORMAT, "%s: dataset '%s' cannot be read", path, name) : OK;
  (void)H5Dclose(dataset);
  return st;
}

static status_t copy_texts(const char *path, const char *name, hsize_t count, char *const *from, char **texts) {
  for (hsize_t i = 0; i < count; i++) {
    const char *text = from[i] ? from[i] : "";
    if (strnlen(text, H5_TEXT_LIMIT + 1) > H5_TEXT_LIMIT)
      return FAIL(ERR_FORMAT, "%s: dataset '%s': text %llu is longer than %d bytes", path, name, (unsigned long long)i,
                  H5_TEXT_LIMIT);
    if (!h5_text_is_utf8(text))
      return FAIL(ERR_FORMAT, "%s: dataset '%s': text %llu is not UTF-8", path, name, (unsigned long long)i);
    TRY(mem_copy_text(&texts[i], text));
  }
  return OK;
}

status_t h5_read_texts(hid_t file, const char *path, const char *name, hsize_t count, char **texts) {
  hid_t dataset, type = h5_text_type(), space = H5I_INVALID_HID;
  char **met = NULL;
  status_t st = h5_open_dataset(file, path, name, H5T_STRING, 0, 1, &count, &dataset);
  if (st == OK) st = mem_alloc(&met, (size_t)count, sizeof *met);
  if (st == OK && count > 0) {
    hid_t stored = H5Dget_type(dataset); // converting between character sets is refused by HDF5: read what is there
    (void)H5Tset_cset(type, H5Tget_cset(stored) == H5T_CSET_ASCII ? H5T_CSET_ASCII : H5T_CSET_UTF8);
    (void)H5Tclose(stored);
    space = H5Dget_space(dataset);
    if (H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, met) < 0)
      st = H5_FAIL(ERR_FORMAT, "%s: dataset '%s' cannot be read", path, name);
    if (st == OK) st = copy_texts(path, name, count, met, texts);
    (void)H5Dvlen_reclaim(type, space, H5P_DEFAULT, met);
    (void)H5Sclose(space);
  }
  mem_free(&met);
  (void)H5Tclose(type);
  if (dataset >= 0) (void)H5Dclose(dataset);
  return st;
}

static status_t check_chunks(hid_t dataset, const char *path, const char *name, int rank, const hsize_t *shape) {
  hsize_t chunk[H5S_MAX_RANK];
  hid_t create = H5Dget_create_plist(dataset);
  int chunked = create >= 0 && H5Pget_layout(create) == H5D_CHUNKED;
  int ok = chunked && H5Pget_chunk(create, rank, chunk) == rank && chunk[0] == 1;
  for (int i = 1; ok && i < rank; i++) ok = chunk[i] == shape[i];
  int filters = create >= 0 ? H5Pget_nfilters(create) : -1;
  if (create >= 0) (void)H5Pclose(create);
  if (!ok) return FAIL(ERR_FORMAT, "%s: dataset '%s' is not stored one row a chunk", path, name);
  if (filters != 0)
    return FAIL(ERR_UNSUPPORTED, "%s: dataset '%s' is compressed or filtered; pools are read uncompressed", path, name);
  return OK;
}

status_t h5_read_places(hid_t file, const char *path, const char *name, int rank, const hsize_t *shape, uint64_t bytes,
                        uint64_t *offset) {
  hid_t dataset;
  hsize_t row = 1, start[H5S_MAX_RANK] = {0};
  TRY(h5_open_dataset(file, path, name, H5T_INTEGER, 1, rank, shape, &dataset));
  status_t st = check_chunks(dataset, path, name, rank, shape);
  for (int i = 1; i < rank; i++) row *= shape[i];
  for (hsize_t i = 0; st == OK && i < shape[0]; i++) {
    unsigned mask = 0;
    haddr_t at = HADDR_UNDEF;
    hsize_t size = 0;
    start[0] = i;
    if (H5Dget_chunk_info_by_coord(dataset, start, &mask, &at, &size) < 0) {
      st = H5_FAIL(ERR_FORMAT, "%s: dataset '%s': row %llu has no place", path, name, (unsigned long long)i);
    } else if (at == HADDR_UNDEF || size != row || at > bytes || bytes - at < row) {
      st = FAIL(ERR_FORMAT, "%s: dataset '%s': row %llu is missing or lies outside of the file", path, name,
                (unsigned long long)i);
    }
    offset[i] = at;
  }
  (void)H5Dclose(dataset);
  return st;
}

status_t h5_create_dataset(hid_t file, const char *path, const char *name, hid_t type, int rank, const hsize_t *shape,
                           int chunked, hid_t *dataset) {
  hsize_t chunk[H5S_MAX_RANK];
  for (int i = 0; i < rank; i++) chunk[i] = i == 0 ? 1 : shape[i];
  hid_t space = H5Screate_simple(rank, shape, NULL), create = H5Pcreate(H5P_DATASET_CREATE);
  herr_t rc = H5Pset_obj_track_times(create, 0); // the same input gives the same bytes
  if (rc >= 0) rc = H5Pset_fill_time(create, H5D_FILL_TIME_NEVER);
  if (rc >= 0 && chunked && shape[0] > 0) rc = H5Pset_chunk(create, rank, chunk);
  if (rc >= 0 && H5Tget_class(type) != H5T_INTEGER) rc = H5Pset_fill_time(create, H5D_FILL_TIME_IFSET);
  *dataset = rc < 0 ? H5I_INVALID_HID : H5Dcreate2(file, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
  status_t st = *dataset < 0 ? H5_FAIL(ERR_IO, "%s: dataset '%s' cannot be made", path, name) : OK;
  (void)H5Pclose(create);
  (void)H5Sclose(space);
  return st;
}

status_t h5_write(hid_t file, const char *path, const char *name, hid_t file_type, hid_t memory_type, int rank,
                  const hsize_t *shape, const void *values) {
  hid_t dataset;
  TRY(h5_create_dataset(file, path, name, file_type, rank, shape, 0, &dataset));
  herr_t rc = shape[0] ? H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) : 0;
  status_t st = rc < 0 ? H5_FAIL(ERR_IO, "%s: dataset '%s' cannot be written", path, name) : OK;
  if (H5Dclose(dataset) < 0 && st == OK) st = H5_FAIL(ERR_IO, "%s: dataset '%s' cannot be closed", path, name);
  return st;
}

status_t h5_write_texts(hid_t file, const char *path, const char *name, hsize_t count, const char *const *texts) {
  hid_t type = h5_text_type();
  status_t st = h5_write(file, path, name, type, type, 1, &count, texts);
  (void)H5Tclose(type);
  return st;
}

status_t h5_write_text_attribute(hid_t object, const char *path, const char *name, hsize_t count,
                                 const char *const *texts) {
  hid_t type = h5_text_type(), space = H5Screate_simple(1, &count, NULL);
  hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  herr_t rc = attribute < 0 ? -1 : count ? H5Awrite(attribute, type, texts) : 0;
  status_t st = rc < 0 ? H5_FAIL(ERR_IO, "%s: attribute '%s' cannot be written", path, name) : OK;
  if (attribute >= 0) (void)H5Aclose(attribute);
  (void)H5Sclose(space);
  (void)H5Tclose(type);
  return st;
}

const char *pool_library(void) {
  static char text[32];
  unsigned major = 0, minor = 0, release = 0;
  (void)H5get_libversion(&major, &minor, &release);
  (void)snprintf(text, sizeof text, "HDF5 %u.%u.%u", major, minor, release);
  return text;
}
