// safetensors.c: reading and writing of .safetensors files; see safetensors.h. Format: https://github.com/huggingface/
// safetensors#format: 8 bytes N (little-endian), N bytes of JSON, then the data that "data_offsets" point into. The data
// of all tensors cover the rest of the file without holes.
#include "tensor/safetensors.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "tensor/half.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_LIMIT = 100000000, SHARD_LIMIT = 10000 }; // the public reader's own limit on a header; ours on shards

// One file of a set.
struct shard {
  char *path;
  const char *name; // as the index has it, borrowed from the index; NULL without one
  const uint8_t *map;
  size_t size;
  json_t *header; // the names of the entries are borrowed from it
};

struct safetensors {
  char *path;
  json_t *index; // NULL for a single file
  struct shard *shard;
  size_t shards;
  struct safetensors_entry *entry;
  size_t entries, capacity;
};

// The names of types in files, in the order in which the public writer sorts them (by falling rank).
static const struct {
  const char *name;
  dtype_t dtype;
} types[] = {
    {"I64", DTYPE_I64},   {"F64", DTYPE_F64}, {"F32", DTYPE_F32}, {"I32", DTYPE_I32},
    {"BF16", DTYPE_BF16}, {"F16", DTYPE_F16}, {"U8", DTYPE_U8},   {"BOOL", DTYPE_U8},
};
enum { TYPES = sizeof types / sizeof *types };

static int type_rank(dtype_t dtype) {
  int i = 0;
  while (i < TYPES && types[i].dtype != dtype) i++;
  return i;
}

static status_t read_type(const char *where, const char *tensor, const char *text, dtype_t *out) {
  for (int i = 0; i < TYPES; i++) {
    if (!strcmp(types[i].name, text)) {
      *out = types[i].dtype;
      return OK;
    }
  }
  return FAIL(ERR_UNSUPPORTED, "%s: tensor '%s' has type '%s'; F32 F64 BF16 F16 I32 I64 U8 BOOL are read", where,
              tensor, text);
}

// One member of the header, with its place in the data, checked.
static status_t read_entry(const struct shard *s, const char *name, const json_t *value, size_t data_bytes,
                           struct safetensors_entry *out) {
  json_t *shape, *offsets;
  const char *type;
  if (!json_is_object(value)) return FAIL(ERR_FORMAT, "%s: tensor '%s' is not an object", s->path, name);
  TRY(json_get_text(value, s->path, "dtype", &type));
  TRY(json_get(value, s->path, "shape", JSON_ARRAY, &shape));
  TRY(json_get(value, s->path, "data_offsets", JSON_ARRAY, &offsets));
  *out = (struct safetensors_entry){.name = name};
  TRY(read_type(s->path, name, type, &out->desc.dtype));
  if (json_array_size(shape) > TENSOR_MAX_RANK) {
    return FAIL(ERR_UNSUPPORTED, "%s: tensor '%s' has %zu dimensions, at most %d are read", s->path, name,
                json_array_size(shape), TENSOR_MAX_RANK);
  }
  out->desc.rank = (int)json_array_size(shape);
  for (int i = 0; i < out->desc.rank; i++) {
    const json_t *d = json_array_get(shape, (size_t)i);
    if (!json_is_integer(d) || json_integer_value(d) < 0) {
      return FAIL(ERR_FORMAT, "%s: tensor '%s': dimension %d is not a size", s->path, name, i);
    }
    out->desc.dim[i] = json_integer_value(d);
  }
  if (desc_check(&out->desc, name) != OK) return FAIL(ERR_FORMAT, "%s: tensor '%s' is too large", s->path, name);
  int64_t place[2];
  for (size_t i = 0; i < 2; i++) {
    const json_t *o = json_array_get(offsets, i);
    place[i] = json_is_integer(o) ? json_integer_value(o) : -1;
  }
  if (json_array_size(offsets) != 2 || place[0] < 0 || place[1] < place[0] || (uint64_t)place[1] > data_bytes) {
    return FAIL(ERR_FORMAT, "%s: tensor '%s': data_offsets are not two places in %zu bytes of data", s->path, name,
                data_bytes);
  }
  if ((size_t)(place[1] - place[0]) != desc_bytes(&out->desc)) {
    char text[DESC_TEXT];
    return FAIL(ERR_FORMAT, "%s: tensor '%s' has %lld bytes, %s wants %zu", s->path, name,
                (long long)(place[1] - place[0]), desc_text(&out->desc, text), desc_bytes(&out->desc));
  }
  out->data = s->map + (s->size - data_bytes) + place[0];
  return OK;
}

static int by_place(const void *a, const void *b) {
  const struct safetensors_entry *x = a, *y = b;
  const uint8_t *p = x->data, *q = y->data;
  if (p != q) return p < q ? -1 : 1;
  size_t m = desc_bytes(&x->desc), n = desc_bytes(&y->desc); // empty tensors stand before the one at the same place
  return m < n ? -1 : m > n;
}

static int by_name(const void *a, const void *b) {
  const struct safetensors_entry *x = a, *y = b;
  return strcmp(x->name, y->name);
}

// The entries cover the data from the first to the last byte, without overlap or hole.
static status_t check_cover(const struct shard *s, struct safetensors_entry *entry, size_t n, size_t data_bytes) {
  const uint8_t *start = s->map + (s->size - data_bytes), *next = start;
  if (n) qsort(entry, n, sizeof *entry, by_place);
  for (size_t i = 0; i < n; i++) {
    const uint8_t *data = entry[i].data;
    if (data != next) {
      return FAIL(ERR_FORMAT, "%s: tensor '%s' begins at byte %td of the data, %s byte %td", s->path, entry[i].name,
                  data - start, data < next ? "but another reaches to" : "leaving a hole from", next - start);
    }
    next = data + desc_bytes(&entry[i].desc);
  }
  if (next != s->map + s->size) {
    return FAIL(ERR_FORMAT, "%s: %td bytes follow the last tensor", s->path, s->map + s->size - next);
  }
  return OK;
}

static status_t check_metadata(const struct shard *s, const json_t *metadata) {
  const char *key;
  json_t *value;
  if (!json_is_object(metadata)) return FAIL(ERR_FORMAT, "%s: __metadata__ is not an object", s->path);
  json_object_foreach((json_t *)(uintptr_t)metadata, key, value) {
    if (!json_is_string(value)) return FAIL(ERR_FORMAT, "%s: __metadata__ '%s' is not a text", s->path, key);
  }
  return OK;
}

static status_t read_header(struct shard *s, size_t *data_bytes) {
  uint64_t header = 0;
  if (s->size < 8) return FAIL(ERR_FORMAT, "%s has %zu bytes: too short for a safetensors file", s->path, s->size);
  for (int i = 0; i < 8; i++) header |= (uint64_t)s->map[i] << 8 * i;
  if (header > HEADER_LIMIT || header > s->size - 8) {
    return FAIL(ERR_FORMAT, "%s: a header of %llu bytes does not fit in %zu (limit %d)", s->path,
                (unsigned long long)header, s->size - 8, HEADER_LIMIT);
  }
  if (!header || s->map[8] != '{') return FAIL(ERR_FORMAT, "%s: the header does not begin with '{'", s->path);
  TRY(json_parse(s->path, (const char *)s->map + 8, (size_t)header, &s->header));
  *data_bytes = s->size - 8 - (size_t)header;
  return OK;
}

static status_t map_shard(struct shard *s) {
  status_t st = OK;
  struct stat info;
  int fd = open(s->path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FAIL(errno == ENOENT ? ERR_ARG : ERR_IO, "cannot open %s: %s", s->path, strerror(errno));
  if (fstat(fd, &info) != 0) FAIL_GOTO(done, ERR_IO, "cannot stat %s: %s", s->path, strerror(errno));
  if (!S_ISREG(info.st_mode)) FAIL_GOTO(done, ERR_ARG, "%s is not a regular file", s->path);
  if (info.st_size == 0) FAIL_GOTO(done, ERR_FORMAT, "%s is empty", s->path);
  void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (map == MAP_FAILED) FAIL_GOTO(done, ERR_IO, "cannot map %s: %s", s->path, strerror(errno));
  s->map = map;
  s->size = (size_t)info.st_size;
done:
  (void)close(fd);
  return st;
}

static status_t open_shard(struct safetensors *set, struct shard *s) {
  size_t data_bytes = 0, first = set->entries;
  const char *name;
  json_t *value;
  TRY(map_shard(s));
  TRY(read_header(s, &data_bytes));
  TRY(mem_grow(&set->entry, &set->capacity, set->entries + 1, sizeof *set->entry)); // no null pointer for an empty file
  json_object_foreach(s->header, name, value) {
    if (!strcmp(name, "__metadata__")) {
      TRY(check_metadata(s, value));
      continue;
    }
    TRY(mem_grow(&set->entry, &set->capacity, set->entries + 1, sizeof *set->entry));
    TRY(read_entry(s, name, value, data_bytes, &set->entry[set->entries]));
    set->entries++;
  }
  return check_cover(s, set->entry + first, set->entries - first, data_bytes);
}

// The shard of this name, made when it is new. `shards` has room for all.
static status_t add_shard(struct safetensors *set, const char *name) {
  for (size_t i = 0; i < set->shards; i++) {
    if (!strcmp(set->shard[i].name, name)) return OK;
  }
  if (!*name || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, "..")) {
    return FAIL(ERR_FORMAT, "%s: shard '%s' is not the name of a file beside the index", set->path, name);
  }
  if (set->shards == SHARD_LIMIT) return FAIL(ERR_FORMAT, "%s: more than %d shards", set->path, SHARD_LIMIT);
  struct shard *s = &set->shard[set->shards++];
  s->name = name;
  int folder = (int)(file_base_name(set->path) - set->path);
  return mem_format(&s->path, "%.*s%s", folder, set->path, name);
}

static status_t open_index(struct safetensors *set) {
  json_t *map, *value;
  const char *tensor, *name;
  TRY(json_read(set->path, &set->index));
  TRY(json_get(set->index, set->path, "weight_map", JSON_OBJECT, &map));
  size_t most = json_object_size(map) < SHARD_LIMIT ? json_object_size(map) : SHARD_LIMIT;
  TRY(mem_alloc(&set->shard, most, sizeof *set->shard));
  json_object_foreach(map, tensor, value) {
    TRY(json_get_text(map, set->path, tensor, &name));
    TRY(add_shard(set, name));
  }
  for (size_t i = 0; i < set->shards; i++) TRY(open_shard(set, &set->shard[i]));
  return OK;
}

// Every tensor of the index is in the shard that the index names.
static status_t check_index(const struct safetensors *set) {
  json_t *value;
  const char *tensor;
  json_object_foreach(json_object_get(set->index, "weight_map"), tensor, value) {
    const struct shard *s = set->shard;
    while (strcmp(s->name, json_string_value(value))) s++;
    if (!strcmp(tensor, "__metadata__") || !json_object_get(s->header, tensor)) {
      return FAIL(ERR_FORMAT, "%s: tensor '%s' is not in shard %s", set->path, tensor, s->name);
    }
  }
  return OK;
}

static status_t check_names(const struct safetensors *set) {
  for (size_t i = 1; i < set->entries; i++) {
    if (!strcmp(set->entry[i - 1].name, set->entry[i].name)) {
      return FAIL(ERR_FORMAT, "%s: tensor '%s' is in two shards", set->path, set->entry[i].name);
    }
  }
  return OK;
}

status_t safetensors_open(const char *path, struct safetensors **out) {
  status_t st = OK;
  struct safetensors *set = NULL;
  size_t n = strlen(path);
  *out = NULL;
  TRY_GOTO(mem_alloc(&set, 1, sizeof *set), done);
  TRY_GOTO(mem_copy_text(&set->path, path), done);
  if (n >= 11 && !strcmp(path + n - 11, ".index.json")) {
    TRY_GOTO(open_index(set), done);
  } else {
    TRY_GOTO(mem_alloc(&set->shard, 1, sizeof *set->shard), done);
    set->shards = 1;
    TRY_GOTO(mem_copy_text(&set->shard->path, path), done);
    TRY_GOTO(open_shard(set, set->shard), done);
  }
  if (set->entries) qsort(set->entry, set->entries, sizeof *set->entry, by_name);
  TRY_GOTO(check_names(set), done);
  if (set->index) TRY_GOTO(check_index(set), done);
  *out = set;
  set = NULL;
done:
  safetensors_close(&set);
  return st;
}

void safetensors_close(struct safetensors **set) {
  struct safetensors *s = *set;
  if (!s) return;
  for (size_t i = 0; i < s->shards; i++) {
    if (s->shard[i].map) (void)munmap((void *)(uintptr_t)s->shard[i].map, s->shard[i].size);
    json_decref(s->shard[i].header);
    mem_free(&s->shard[i].path);
  }
  json_decref(s->index);
  mem_free(&s->shard);
  mem_free(&s->entry);
  mem_free(&s->path);
  mem_free(set);
}

size_t safetensors_count(const struct safetensors *set) {
  return set->entries;
}

const struct safetensors_entry *safetensors_at(const struct safetensors *set, size_t i) {
  return &set->entry[i];
}

const struct safetensors_entry *safetensors_find(const struct safetensors *set, const char *name) {
  struct safetensors_entry wanted = {.name = name};
  if (!set->entries) return NULL;
  return bsearch(&wanted, set->entry, set->entries, sizeof wanted, by_name);
}

const char *safetensors_path(const struct safetensors *set) {
  return set->path;
}

const char *safetensors_metadata(const struct safetensors *set, const char *key) {
  for (size_t i = 0; i < set->shards; i++) {
    const json_t *value = json_object_get(json_object_get(set->shard[i].header, "__metadata__"), key);
    if (value) return json_string_value(value);
  }
  return NULL;
}

static bool is_float(dtype_t t) {
  return t == DTYPE_F32 || t == DTYPE_F64 || t == DTYPE_BF16 || t == DTYPE_F16;
}

// Element i of a float tensor at any alignment, and back with one rounding (BF16 from F64: two).
static double load(const uint8_t *data, dtype_t type, size_t i) {
  double d;
  float f;
  uint16_t h;
  switch (type) {
  case DTYPE_F64: memcpy(&d, data + i * 8, 8); return d;
  case DTYPE_F32: memcpy(&f, data + i * 4, 4); return (double)f;
  default: memcpy(&h, data + i * 2, 2); return type == DTYPE_F16 ? f16_to_double(h) : (double)bf16_to_f32(h);
  }
}

static void store(void *data, dtype_t type, size_t i, double value) {
  switch (type) {
  case DTYPE_F64: ((double *)data)[i] = value; break;
  case DTYPE_F32: ((float *)data)[i] = (float)value; break;
  case DTYPE_F16: ((uint16_t *)data)[i] = double_to_f16(value); break;
  default: ((uint16_t *)data)[i] = f32_to_bf16((float)value); break;
  }
}

static status_t copy_integers(const struct safetensors *set, const struct safetensors_entry *e, int32_t *out) {
  size_t n = (size_t)desc_count(&e->desc);
  for (size_t i = 0; i < n; i++) {
    int64_t value;
    memcpy(&value, (const uint8_t *)e->data + i * 8, 8);
    if (value < INT32_MIN || value > INT32_MAX) {
      return FAIL(ERR_FORMAT, "%s: tensor '%s': %lld does not fit in 32 bits", set->path, e->name, (long long)value);
    }
    out[i] = (int32_t)value;
  }
  return OK;
}

status_t safetensors_read(const struct safetensors *set, const char *name, const struct tensor_desc *desc, void *out) {
  const struct safetensors_entry *e = safetensors_find(set, name);
  char want[DESC_TEXT], met[DESC_TEXT];
  if (!e) return FAIL(ERR_FORMAT, "%s: tensor '%s' is missing", set->path, name);
  if (!desc_same_shape(&e->desc, desc)) {
    return FAIL(ERR_SHAPE, "%s: tensor '%s' must be %s, met %s", set->path, name, desc_text(desc, want),
                desc_text(&e->desc, met));
  }
  if (e->desc.dtype == desc->dtype) {
    if (desc_bytes(desc)) memcpy(out, e->data, desc_bytes(desc));
    return OK;
  }
  if (e->desc.dtype == DTYPE_I64 && desc->dtype == DTYPE_I32) return copy_integers(set, e, out);
  if (!is_float(e->desc.dtype) || !is_float(desc->dtype)) {
    return FAIL(ERR_SHAPE, "%s: tensor '%s' cannot be read as %s, it is %s", set->path, name, dtype_name(desc->dtype),
                desc_text(&e->desc, met));
  }
  size_t n = (size_t)desc_count(desc);
  for (size_t i = 0; i < n; i++) store(out, desc->dtype, i, load(e->data, e->desc.dtype, i));
  return OK;
}

static int by_writing_order(const void *a, const void *b) {
  const struct safetensors_entry *x = *(const struct safetensors_entry *const *)a;
  const struct safetensors_entry *y = *(const struct safetensors_entry *const *)b;
  int m = type_rank(x->desc.dtype), n = type_rank(y->desc.dtype);
  return m != n ? m - n : strcmp(x->name, y->name);
}

static status_t check_utf8(const char *path, const char *text) {
  json_t *probe = json_string(text);
  json_decref(probe);
  return probe ? OK : FAIL(ERR_ARG, "%s: '%s' is not UTF-8 (or memory is short)", path, text);
}

// The header member of one tensor whose data begin at *offset, which moves on.
static status_t put_entry(json_t *header, const char *path, const struct safetensors_entry *e, size_t *offset) {
  size_t begin = *offset;
  int rank = type_rank(e->desc.dtype);
  if (rank == TYPES) return FAIL(ERR_ARG, "%s: tensor '%s' has no type", path, e->name);
  TRY(desc_check(&e->desc, e->name));
  TRY(check_utf8(path, e->name));
  if (!size_add(begin, desc_bytes(&e->desc), offset)) return FAIL(ERR_ARG, "%s: the size overflows", path);
  if (json_object_get(header, e->name) || !strcmp(e->name, "__metadata__")) {
    return FAIL(ERR_ARG, "%s: tensor name '%s' is taken", path, e->name);
  }
  json_t *shape = json_array();
  for (int i = 0; i < e->desc.rank; i++) (void)json_array_append_new(shape, json_integer(e->desc.dim[i]));
  return json_put(header, e->name,
                  json_pack("{s:s, s:o, s:[I, I]}", "dtype", types[rank].name, "shape", shape, "data_offsets",
                            (json_int_t)begin, (json_int_t)*offset));
}

static status_t put_metadata(json_t *header, const char *path, const char *const (*metadata)[2], size_t count) {
  if (!count) return OK;
  json_t *object = json_object();
  TRY(json_put(header, "__metadata__", object));
  for (size_t i = 0; i < count; i++) {
    TRY(check_utf8(path, metadata[i][0]));
    TRY(check_utf8(path, metadata[i][1]));
    TRY(json_put(object, metadata[i][0], json_string(metadata[i][1])));
  }
  return OK;
}

status_t safetensors_write(const char *path, const struct safetensors_entry *entries, size_t count,
                           const char *const (*metadata)[2], size_t metadata_count) {
  status_t st = OK;
  const struct safetensors_entry **order = NULL;
  struct file_piece *piece = NULL;
  json_t *header = json_object();
  char *text = NULL, spaces[8];
  uint8_t length[8];
  size_t offset = 0;
  TRY_GOTO(mem_alloc(&order, count, sizeof *order), done);
  TRY_GOTO(mem_alloc(&piece, count + 3, sizeof *piece), done);
  for (size_t i = 0; i < count; i++) order[i] = &entries[i];
  if (count) qsort(order, count, sizeof *order, by_writing_order);
  TRY_GOTO(put_metadata(header, path, metadata, metadata_count), done);
  for (size_t i = 0; i < count; i++) {
    TRY_GOTO(put_entry(header, path, order[i], &offset), done);
    piece[3 + i] = (struct file_piece){order[i]->data, desc_bytes(&order[i]->desc)};
  }
  text = json_dumps(header, JSON_COMPACT);
  if (!text) FAIL_GOTO(done, ERR_NOMEM, "%s: no memory for the header", path);
  size_t n = strlen(text), padded = size_round_up(n, 8); // the data then begin at a multiple of 8 bytes
  if (padded > HEADER_LIMIT) FAIL_GOTO(done, ERR_ARG, "%s: a header of %zu bytes is over the limit", path, padded);
  memset(spaces, ' ', sizeof spaces);
  for (int i = 0; i < 8; i++) length[i] = (uint8_t)(padded >> 8 * i);
  piece[0] = (struct file_piece){length, 8};
  piece[1] = (struct file_piece){text, n};
  piece[2] = (struct file_piece){spaces, padded - n};
  TRY_GOTO(file_write_pieces(path, piece, count + 3), done);
done:
  free(text);
  json_decref(header);
  mem_free(&piece);
  mem_free(&order);
  return st;
}
