// store_shard.c: see store_shard.h.
//
// The file is built in memory (HDF5's core driver) and written with write(2): HDF5 1.10 crashes when the disk fills up
// while it closes a file (measured with 1.10.8 and RLIMIT_FSIZE). It is read by mmap, so that the ranks of a node share
// the page cache; HDF5 tells only where things lie.
#include "train/store_shard.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEY_BYTES = 32, DATA_ALIGN = 4096, MAX_PARTS = 1 << 16, FORMAT_VERSION = 1, CORE_GROWTH = 1 << 20 };
static const char version_name[] = "gridseg_store", prefix[] = "shard-", suffix[] = ".h5", temporary[] = ".h5.tmp-";

// HDF5 prints its errors on stderr unless told not to; ours name the file.
struct quiet {
  H5E_auto2_t print;
  void *data;
};
static struct quiet quiet_begin(void) {
  struct quiet q = {NULL, NULL};
  (void)H5Eget_auto2(H5E_DEFAULT, &q.print, &q.data);
  (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  return q;
}
static void quiet_end(struct quiet q) {
  (void)H5Eset_auto2(H5E_DEFAULT, q.print, q.data);
}

uint32_t shard_crc(const struct shard_part *part, size_t i) {
  uint32_t v;
  memcpy(&v, part->crcs + i * sizeof v, sizeof v);
  return le32toh(v);
}

bool shard_is_name(const char *name) {
  size_t n = strlen(name), s = sizeof suffix - 1;
  return n > s && !strncmp(name, prefix, sizeof prefix - 1) && !strcmp(name + n - s, suffix);
}

// ---- reading

// Where dataset `name` of `group` lies: uint8 or (crc) uint32, contiguous, of `rank` dimensions, whole inside the file.
static status_t find_data(const struct shard *s, hid_t group, const char *name, hid_t type, int rank, hsize_t dims[2],
                          uint64_t *offset) {
  status_t st = OK;
  hid_t set = H5I_INVALID_HID, space = H5I_INVALID_HID, met = H5I_INVALID_HID, plist = H5I_INVALID_HID;
  H5L_info_t link;
  // Soft and external links could lead into other files.
  if (H5Lexists(group, name, H5P_DEFAULT) <= 0 || H5Lget_info(group, name, &link, H5P_DEFAULT) < 0 ||
      link.type != H5L_TYPE_HARD)
    FAIL_GOTO(done, ERR_FORMAT, "%s: no dataset '%s'", s->path, name);
  set = H5Dopen2(group, name, H5P_DEFAULT);
  if (set < 0) FAIL_GOTO(done, ERR_FORMAT, "%s: cannot open dataset '%s'", s->path, name);
  space = H5Dget_space(set);
  met = H5Dget_type(set);
  plist = H5Dget_create_plist(set);
  if (H5Tequal(met, type) <= 0) FAIL_GOTO(done, ERR_FORMAT, "%s: dataset '%s' has another type", s->path, name);
  dims[1] = 1;
  if (H5Sget_simple_extent_ndims(space) != rank || H5Sget_simple_extent_dims(space, dims, NULL) != rank)
    FAIL_GOTO(done, ERR_FORMAT, "%s: dataset '%s' has not %d dimensions", s->path, name, rank);
  if (H5Pget_layout(plist) != H5D_CONTIGUOUS || H5Pget_external_count(plist) != 0)
    FAIL_GOTO(done, ERR_FORMAT, "%s: dataset '%s' is not contiguous", s->path, name);
  haddr_t at = H5Dget_offset(set);
  size_t bytes;
  if (!size_mul(dims[0], dims[1], &bytes) || !size_mul(bytes, H5Tget_size(type), &bytes) || !bytes ||
      at == HADDR_UNDEF || at > s->size || bytes > s->size - at) {
    FAIL_GOTO(done, ERR_FORMAT, "%s: dataset '%s' [%ju,%ju] does not lie inside the file of %zu bytes", s->path, name,
              (uintmax_t)dims[0], (uintmax_t)dims[1], s->size);
  }
  *offset = at;
done:
  if (plist >= 0) (void)H5Pclose(plist);
  if (met >= 0) (void)H5Tclose(met);
  if (space >= 0) (void)H5Sclose(space);
  if (set >= 0) (void)H5Dclose(set);
  return st;
}

static status_t read_part(const struct shard *s, hid_t group, struct shard_part *part) {
  hsize_t key[2], crc[2], data[2];
  uint64_t key_at, crc_at, data_at;
  TRY(find_data(s, group, "key", H5T_STD_U8LE, 2, key, &key_at));
  TRY(find_data(s, group, "crc32", H5T_STD_U32LE, 1, crc, &crc_at));
  TRY(find_data(s, group, "data", H5T_STD_U8LE, 2, data, &data_at));
  if (key[1] != KEY_BYTES || key[0] != data[0] || crc[0] != data[0]) {
    return FAIL(ERR_FORMAT, "%s: key [%ju,%ju], crc32 [%ju] and data [%ju,%ju] do not fit together", s->path,
                (uintmax_t)key[0], (uintmax_t)key[1], (uintmax_t)crc[0], (uintmax_t)data[0], (uintmax_t)data[1]);
  }
  if (data_at % MEM_ALIGN)
    return FAIL(ERR_FORMAT, "%s: data at byte %ju, wanted a multiple of %d", s->path, (uintmax_t)data_at, MEM_ALIGN);
  *part = (struct shard_part){.count = data[0],
                              .bytes = data[1],
                              .keys = s->map + key_at,
                              .crcs = s->map + crc_at,
                              .data = s->map + data_at,
                              .data_offset = data_at};
  return OK;
}

static status_t check_version(const struct shard *s, hid_t file) {
  int version = 0;
  hid_t attribute = H5Aopen(file, version_name, H5P_DEFAULT);
  if (attribute < 0)
    return FAIL(ERR_FORMAT, "%s is not a shard of a feature store: no attribute %s", s->path, version_name);
  hid_t space = H5Aget_space(attribute);
  bool read = H5Sget_simple_extent_npoints(space) == 1 && H5Aread(attribute, H5T_NATIVE_INT, &version) >= 0;
  (void)H5Sclose(space);
  (void)H5Aclose(attribute);
  if (!read || version != FORMAT_VERSION) {
    return FAIL(ERR_FORMAT, "%s: store format %d, wanted %d", s->path, version, FORMAT_VERSION);
  }
  return OK;
}

static status_t read_parts(struct shard *s, hid_t file) {
  size_t capacity = 0;
  TRY(check_version(s, file));
  for (;;) {
    char name[32];
    H5L_info_t link;
    (void)snprintf(name, sizeof name, "part_%zu", s->part_count);
    if (H5Lexists(file, name, H5P_DEFAULT) <= 0) break;
    if (s->part_count == MAX_PARTS) return FAIL(ERR_FORMAT, "%s: more than %d parts", s->path, MAX_PARTS);
    if (H5Lget_info(file, name, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD) {
      return FAIL(ERR_FORMAT, "%s: '%s' is not a group of its own", s->path, name);
    }
    hid_t group = H5Gopen2(file, name, H5P_DEFAULT);
    if (group < 0) return FAIL(ERR_FORMAT, "%s: cannot open group '%s'", s->path, name);
    status_t st = mem_grow(&s->parts, &capacity, s->part_count + 1, sizeof *s->parts);
    if (st == OK) st = read_part(s, group, &s->parts[s->part_count]);
    (void)H5Gclose(group);
    if (st != OK) return status_prefix(st, "part %zu", s->part_count);
    s->part_count++;
  }
  return s->part_count ? OK : FAIL(ERR_FORMAT, "%s holds no values", s->path);
}

static status_t map_file(struct shard *s) {
  status_t st = OK;
  struct stat info;
  int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return FAIL(ERR_IO, "cannot open %s: %s", s->path, strerror(errno));
  if (fstat(fd, &info) != 0) FAIL_GOTO(done, ERR_IO, "cannot stat %s: %s", s->path, strerror(errno));
  if (!S_ISREG(info.st_mode) || info.st_size <= 0) FAIL_GOTO(done, ERR_FORMAT, "%s is empty or no file", s->path);
  void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) FAIL_GOTO(done, ERR_IO, "cannot map %s: %s", s->path, strerror(errno));
  s->map = map;
  s->size = (size_t)info.st_size;
done:
  (void)close(fd);
  return st;
}

// Not locked: a shard never changes, and many network file systems have no locks.
static hid_t unlocked_access(void) {
  hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  if (access >= 0) (void)H5Pset_file_locking(access, false, true);
  return access;
}

status_t shard_open(const char *path, struct shard **out) {
  status_t st = OK;
  struct shard *s = NULL;
  hid_t access = H5I_INVALID_HID, file = H5I_INVALID_HID;
  struct quiet quiet = quiet_begin();
  *out = NULL;
  TRY_GOTO(mem_alloc(&s, 1, sizeof *s), done);
  TRY_GOTO(mem_copy_text(&s->path, path), done);
  TRY_GOTO(map_file(s), done);
  access = unlocked_access();
  file = H5Fopen(path, H5F_ACC_RDONLY, access);
  if (file < 0) FAIL_GOTO(done, ERR_FORMAT, "%s is not a whole HDF5 file", path);
  TRY_GOTO(read_parts(s, file), done);
  *out = s;
  s = NULL;
done:
  if (file >= 0) (void)H5Fclose(file);
  if (access >= 0) (void)H5Pclose(access);
  shard_close(&s);
  quiet_end(quiet);
  return st;
}

void shard_close(struct shard **shard) {
  struct shard *s = *shard;
  if (!s) return;
  if (s->map) (void)munmap(s->map, s->size);
  free(s->parts);
  mem_free(&s->path);
  mem_free(shard);
}

// ---- writing

static bool write_data(hid_t group, const char *name, hid_t file_type, hid_t memory_type, int rank, const hsize_t *dims,
                       const void *bytes, uint64_t *offset) {
  hid_t space = H5Screate_simple(rank, dims, NULL), plist = H5Pcreate(H5P_DATASET_CREATE);
  (void)H5Pset_obj_track_times(plist, false);
  (void)H5Pset_alloc_time(plist, H5D_ALLOC_TIME_EARLY);
  (void)H5Pset_fill_time(plist, H5D_FILL_TIME_NEVER);
  hid_t set = H5Dcreate2(group, name, file_type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
  bool good = set >= 0 && H5Dwrite(set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes) >= 0;
  if (good) *offset = H5Dget_offset(set);
  if (set >= 0) good = H5Dclose(set) >= 0 && good;
  (void)H5Pclose(plist);
  (void)H5Sclose(space);
  return good;
}

static bool write_part(hid_t file, size_t index, struct shard_part *part) {
  char name[32];
  uint64_t offset;
  (void)snprintf(name, sizeof name, "part_%zu", index);
  hid_t group = H5Gcreate2(file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  if (group < 0) return false;
  const hsize_t key[2] = {part->count, KEY_BYTES}, data[2] = {part->count, part->bytes};
  bool good = write_data(group, "key", H5T_STD_U8LE, H5T_NATIVE_UINT8, 2, key, part->keys, &offset) &&
              write_data(group, "crc32", H5T_STD_U32LE, H5T_STD_U32LE, 1, key, part->crcs, &offset) &&
              write_data(group, "data", H5T_STD_U8LE, H5T_NATIVE_UINT8, 2, data, part->data, &part->data_offset);
  return H5Gclose(group) >= 0 && good;
}

static bool write_version(hid_t file) {
  int version = FORMAT_VERSION;
  hid_t space = H5Screate(H5S_SCALAR);
  hid_t attribute = H5Acreate2(file, version_name, H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT);
  bool good = attribute >= 0 && H5Awrite(attribute, H5T_NATIVE_INT, &version) >= 0;
  if (attribute >= 0) (void)H5Aclose(attribute);
  (void)H5Sclose(space);
  return good;
}

// The bytes of the file in *image.
static status_t build_image(struct shard_part *parts, size_t count, uint8_t **image, size_t *size) {
  status_t st = OK;
  hid_t file = H5I_INVALID_HID, access = unlocked_access();
  struct quiet quiet = quiet_begin();
  (void)H5Pset_fapl_core(access, CORE_GROWTH, false);
  (void)H5Pset_alignment(access, 1, DATA_ALIGN);
  file = H5Fcreate("store", H5F_ACC_TRUNC, H5P_DEFAULT, access);
  bool good = file >= 0 && write_version(file);
  for (size_t i = 0; good && i < count; i++) good = write_part(file, i, &parts[i]);
  good = good && H5Fflush(file, H5F_SCOPE_LOCAL) >= 0;
  ssize_t bytes = good ? H5Fget_file_image(file, NULL, 0) : -1;
  if (bytes <= 0) FAIL_GOTO(done, ERR_NOMEM, "HDF5 cannot build a shard of %zu parts in memory", count);
  TRY_GOTO(mem_alloc(image, (size_t)bytes, 1), done);
  if (H5Fget_file_image(file, *image, (size_t)bytes) != bytes) {
    mem_free(image);
    FAIL_GOTO(done, ERR_NOMEM, "HDF5 cannot give %zd bytes of a shard", bytes);
  }
  *size = (size_t)bytes;
done:
  if (file >= 0) (void)H5Fclose(file);
  if (access >= 0) (void)H5Pclose(access);
  quiet_end(quiet);
  return st;
}

// Eight digits for this boot of this machine and this space of process numbers: only there does kill(pid, 0) tell
// whether a writer lives.
static status_t host_tag(char tag[9]) {
  char host[256] = "", boot[64] = "", space[64] = "", all[512], hex[65];
  (void)gethostname(host, sizeof host - 1);
  FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
  if (f) {
    if (!fgets(boot, sizeof boot, f)) boot[0] = '\0';
    (void)fclose(f);
  }
  ssize_t n = readlink("/proc/self/ns/pid", space, sizeof space - 1);
  space[n > 0 ? n : 0] = '\0';
  int size = snprintf(all, sizeof all, "%s\n%s\n%s", host, boot, space);
  struct key key;
  TRY(key_sha256(all, (size_t)size, &key));
  key_hex(&key, hex);
  memcpy(tag, hex, 8);
  tag[8] = '\0';
  return OK;
}

status_t shard_write(const char *directory, int rank, struct shard_part *parts, size_t count, char **name) {
  static _Atomic unsigned sequence; // two stores of one process
  status_t st = OK;
  uint8_t *image = NULL;
  size_t size = 0;
  char tag[9], *path = NULL;
  *name = NULL;
  TRY_GOTO(host_tag(tag), done);
  TRY_GOTO(mem_format(name, "%s%013jx-%s-%ld-r%d-%u%s", prefix, (uintmax_t)(clock_wall() * 1e6), tag, (long)getpid(),
                      rank, sequence++, suffix),
           done);
  TRY_GOTO(file_join(&path, directory, *name), done);
  TRY_GOTO(build_image(parts, count, &image, &size), done);
  TRY_GOTO(file_write_atomic(path, image, size), done);
done:
  mem_free(&image);
  mem_free(&path);
  if (st != OK) mem_free(name);
  return st;
}

// Is the temporary file `name` one that nobody will finish?
static bool is_stale(const char *path, const char *name, const char *tag) {
  enum { DAY = 24 * 3600 };
  struct stat info;
  if (lstat(path, &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != geteuid()) return false;
  if (clock_wall() - (double)info.st_mtime > DAY) return true;
  const char *at = strstr(name, temporary) + sizeof temporary - 1, *mark = strchr(name + sizeof prefix - 1, '-');
  char *end;
  long pid = strtol(at, &end, 10);
  if (*end || pid <= 0 || !mark || strncmp(mark + 1, tag, 8) != 0) return false;
  return kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

status_t shard_remove_stale(const char *directory, size_t *left) {
  status_t st = OK;
  char **names = NULL, tag[9];
  size_t count = 0, remain = 0;
  TRY_GOTO(host_tag(tag), done);
  TRY_GOTO(file_list(directory, &names, &count), done);
  for (size_t i = 0; i < count; i++) {
    if (strncmp(names[i], prefix, sizeof prefix - 1) != 0 || !strstr(names[i], temporary)) continue;
    char *path = NULL;
    TRY_GOTO(file_join(&path, directory, names[i]), done);
    if (!is_stale(path, names[i], tag) || (unlink(path) != 0 && errno != ENOENT)) remain++;
    mem_free(&path);
  }
  if (left) *left = remain;
done:
  file_free_names(&names, count);
  return st;
}
