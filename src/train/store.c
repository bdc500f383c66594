// store.c: see store.h. Index of all shards, values not yet in a shard, and the way from one to the other.
//
// A value is handed out by pointer, so it may never move. New values go to segments of anonymous memory; when their shard
// is written, the same bytes of the file are mapped over them: the pointers stay, the memory becomes page cache.
#include "train/store.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "train/store_shard.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// A shard is written when so much is waiting: also what a kill costs, and twice that is used while it is written.
enum { SHARD_BYTES = 64 << 20, SEGMENT_BYTES = 16 << 20, SEGMENT_ROWS = 1024 };

typedef enum { UNCHECKED, GOOD, DAMAGED } check_t;

struct value {
  struct key key;
  const uint8_t *data;
  size_t bytes;
  uint32_t crc;
  _Atomic uint8_t check; // check_t; set by find, from any thread, always to the same answer
  const char *where;     // path of the shard, NULL for a value of our own
};

// New values of one size, in the layout of a shard's part.
struct segment {
  size_t bytes, count, capacity;
  uint8_t *base; // [capacity,bytes]
  size_t mapped; // bytes of address space at base
  uint8_t *keys; // [capacity,32], freed when written
  uint32_t *crcs;
  bool written;
};

struct store {
  char *directory; // NULL: memory only
  uint64_t memory_bytes;
  int rank;
  struct value *value; // a key may stand here several times: found in several shards, or put again after damage
  size_t values, value_capacity;
  uint32_t *slot; // hash table with linear probing: index of a value + 1, 0 where empty; [slots], a power of two
  size_t slots;
  struct segment *segment;
  size_t segments, segment_capacity;
  uint64_t held; // bytes of values in segments that are not written
  struct shard **shard;
  size_t shards, shard_capacity;
  char **seen; // names of shards that were opened, written or refused
  size_t seen_count, seen_capacity;
};

// ---- index

static size_t first_slot(const struct store *s, const struct key *key) {
  uint64_t h; // a SHA-256 is its own hash
  memcpy(&h, key->bytes, sizeof h);
  return (size_t)h & (s->slots - 1);
}

static void index_value(struct store *s, size_t i) {
  size_t at = first_slot(s, &s->value[i].key);
  while (s->slot[at]) at = (at + 1) & (s->slots - 1);
  s->slot[at] = (uint32_t)(i + 1);
}

// Room for `more` values, with the table at most half full.
static status_t reserve_values(struct store *s, size_t more) {
  size_t need, slots = s->slots ? s->slots : 1024;
  if (!size_add(s->values, more, &need) || need > UINT32_MAX / 2) {
    return FAIL(ERR_NOMEM, "a store of %zu and %zu more values is too large", s->values, more);
  }
  TRY(mem_grow(&s->value, &s->value_capacity, need, sizeof *s->value));
  while (slots < 2 * need) slots *= 2;
  if (slots == s->slots) return OK;
  uint32_t *slot;
  TRY(mem_alloc(&slot, slots, sizeof *slot));
  mem_free(&s->slot);
  s->slot = slot;
  s->slots = slots;
  for (size_t i = 0; i < s->values; i++) index_value(s, i);
  return OK;
}

static void add_value(struct store *s, const struct key *key, const uint8_t *data, size_t bytes, uint32_t crc,
                      check_t check, const char *where) {
  struct value *v = &s->value[s->values];
  *v = (struct value){.key = *key, .data = data, .bytes = bytes, .crc = crc, .where = where};
  atomic_init(&v->check, (uint8_t)check);
  index_value(s, s->values++);
}

// The first touch of a value reads it whole; afterwards the answer is known.
static bool value_is_good(struct value *v, size_t bytes) {
  check_t check = atomic_load_explicit(&v->check, memory_order_acquire);
  if (check == UNCHECKED) {
    check = v->bytes == bytes && key_crc32(v->data, v->bytes) == v->crc ? GOOD : DAMAGED;
    if (check == DAMAGED) {
      char hex[65];
      key_hex(&v->key, hex);
      log_warn("store: value %.16s of %zu bytes (wanted %zu) in %s is damaged, it is computed again", hex, v->bytes,
               bytes, v->where);
    }
    atomic_store_explicit(&v->check, (uint8_t)check, memory_order_release);
  }
  return check == GOOD && v->bytes == bytes;
}

status_t store_find(struct store *s, const struct key *key, size_t bytes, const void **data) {
  *data = NULL;
  for (size_t at = first_slot(s, key); s->slot[at]; at = (at + 1) & (s->slots - 1)) {
    struct value *v = &s->value[s->slot[at] - 1];
    if (!key_equal(&v->key, key) || !value_is_good(v, bytes)) continue;
    *data = v->data;
    break;
  }
  return OK;
}

// ---- shards of others

static status_t mark_seen(struct store *s, const char *name) {
  TRY(mem_grow(&s->seen, &s->seen_capacity, s->seen_count + 1, sizeof *s->seen));
  TRY(mem_copy_text(&s->seen[s->seen_count], name));
  s->seen_count++;
  return OK;
}

static bool was_seen(const struct store *s, const char *name) {
  for (size_t i = 0; i < s->seen_count; i++) {
    if (!strcmp(s->seen[i], name)) return true;
  }
  return false;
}

static status_t index_shard(struct store *s, const struct shard *shard) {
  for (size_t p = 0; p < shard->part_count; p++) {
    const struct shard_part *part = &shard->parts[p];
    TRY(reserve_values(s, part->count));
    for (size_t i = 0; i < part->count; i++) {
      struct key key;
      memcpy(key.bytes, part->keys + i * sizeof key.bytes, sizeof key.bytes);
      add_value(s, &key, part->data + i * part->bytes, part->bytes, shard_crc(part, i), UNCHECKED, shard->path);
    }
  }
  return OK;
}

// A shard that cannot be read is left aside with a warning: its values are computed again.
static status_t add_shard(struct store *s, const char *name) {
  char *path = NULL;
  struct shard *shard = NULL;
  TRY(mark_seen(s, name));
  TRY(mem_grow(&s->shard, &s->shard_capacity, s->shards + 1, sizeof *s->shard));
  TRY(file_join(&path, s->directory, name));
  status_t st = shard_open(path, &shard);
  mem_free(&path);
  if (st == ERR_NOMEM) return st;
  if (st != OK) {
    log_warn("store: shard left aside: %s", status_message());
    status_clear();
    return OK;
  }
  s->shard[s->shards++] = shard;
  return index_shard(s, shard);
}

status_t store_refresh(struct store *s) {
  status_t st = OK;
  char **names = NULL;
  size_t count = 0;
  if (!s->directory) return OK;
  TRY(file_list(s->directory, &names, &count));
  for (size_t i = 0; i < count; i++) {
    if (!shard_is_name(names[i]) || was_seen(s, names[i])) continue;
    TRY_GOTO(add_shard(s, names[i]), done);
  }
done:
  file_free_names(&names, count);
  return st;
}

// ---- our own values

// Address space for values of `bytes`; pages cost memory only once they are written to.
static status_t open_segment(struct store *s, size_t bytes, struct segment **out) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), rows = bytes < SEGMENT_BYTES ? SEGMENT_BYTES / bytes : 1, total;
  if (rows > SEGMENT_ROWS) rows = SEGMENT_ROWS;
  if (!size_mul(rows, bytes, &total) || total > PTRDIFF_MAX - page) {
    return FAIL(ERR_NOMEM, "a value of %zu bytes does not fit in memory", bytes);
  }
  TRY(mem_grow(&s->segment, &s->segment_capacity, s->segments + 1, sizeof *s->segment));
  struct segment g = {.bytes = bytes, .capacity = rows, .mapped = size_round_up(total, page)};
  TRY(mem_alloc(&g.keys, rows, sizeof(struct key)));
  status_t st = mem_alloc(&g.crcs, rows, sizeof *g.crcs);
  if (st == OK) {
    void *p = mmap(NULL, g.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
      st = FAIL(ERR_NOMEM, "no memory for %zu bytes of store values", g.mapped);
    else
      g.base = p;
  }
  if (st != OK) {
    mem_free(&g.keys);
    mem_free(&g.crcs);
    return st;
  }
  s->segment[s->segments] = g;
  *out = &s->segment[s->segments++];
  return OK;
}

static status_t find_segment(struct store *s, size_t bytes, struct segment **out) {
  for (size_t i = s->segments; i-- > 0;) {
    struct segment *g = &s->segment[i];
    if (!g->written && g->bytes == bytes && g->count < g->capacity) {
      *out = g;
      return OK;
    }
  }
  return open_segment(s, bytes, out);
}

status_t store_put(struct store *s, const struct key *key, const void *data, size_t bytes) {
  const void *there;
  if (!bytes) return FAIL(ERR_ARG, "the store keeps no empty values");
  TRY(store_find(s, key, bytes, &there));
  if (there) return OK;
  uint64_t limit = s->memory_bytes;
  if (s->directory) {
    if (limit > SHARD_BYTES) limit = SHARD_BYTES;
    if (s->held && (bytes > limit || s->held > limit - bytes)) TRY(store_commit(s));
  } else if (bytes > limit || s->held > limit - bytes) {
    return FAIL(ERR_NOMEM,
                "store.memory: %ju bytes are held, %zu more exceed the budget of %ju; raise it or set store.dir",
                (uintmax_t)s->held, bytes, (uintmax_t)limit);
  }
  struct segment *g = NULL;
  TRY(reserve_values(s, 1));
  TRY(find_segment(s, bytes, &g));
  uint8_t *place = g->base + g->count * bytes;
  memcpy(place, data, bytes);
  uint32_t crc = key_crc32(place, bytes);
  memcpy(g->keys + g->count * sizeof key->bytes, key->bytes, sizeof key->bytes);
  g->crcs[g->count] = htole32(crc);
  g->count++;
  s->held += bytes;
  add_value(s, key, place, bytes, crc, GOOD, NULL);
  return OK;
}

// Map the file's bytes over the segment's own. Where that cannot be done the memory stays as it is: it is right, only
// not shared.
static void swap_for_file(struct segment *g, int fd, uint64_t offset) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), used = size_round_up(g->count * g->bytes, page);
  if (offset % page == 0) {
    void *p = mmap(NULL, used, PROT_READ, MAP_SHARED, fd, (off_t)offset);
    if (p != MAP_FAILED && mremap(p, used, used, MREMAP_MAYMOVE | MREMAP_FIXED, g->base) == MAP_FAILED) {
      (void)munmap(p, used);
    }
  }
  if (used < g->mapped) (void)munmap(g->base + used, g->mapped - used);
  g->mapped = used;
}

static void mark_written(struct store *s, const struct shard_part *parts, const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  size_t p = 0;
  for (size_t i = 0; i < s->segments; i++) {
    struct segment *g = &s->segment[i];
    if (g->written) continue;
    if (fd >= 0) swap_for_file(g, fd, parts[p].data_offset);
    p++;
    mem_free(&g->keys);
    mem_free(&g->crcs);
    g->written = true;
  }
  if (fd >= 0) (void)close(fd);
  s->held = 0;
}

status_t store_commit(struct store *s) {
  status_t st = OK;
  struct shard_part *parts = NULL;
  size_t count = 0;
  char *name = NULL, *path = NULL;
  if (!s->directory || !s->held) return OK;
  TRY_GOTO(mem_alloc(&parts, s->segments, sizeof *parts), done);
  for (size_t i = 0; i < s->segments; i++) {
    const struct segment *g = &s->segment[i];
    if (g->written) continue;
    parts[count++] = (struct shard_part){
        .count = g->count, .bytes = g->bytes, .keys = g->keys, .crcs = (const uint8_t *)g->crcs, .data = g->base};
  }
  TRY_GOTO(shard_write(s->directory, s->rank, parts, count, &name), done);
  TRY_GOTO(file_join(&path, s->directory, name), done);
  mark_written(s, parts, path);
  TRY_GOTO(mark_seen(s, name), done);
done:
  mem_free(&path);
  mem_free(&name);
  mem_free(&parts);
  return st;
}

// ---- life

status_t store_open(const char *directory, uint64_t memory_bytes, int rank, struct store **out) {
  status_t st = OK;
  struct store *s = NULL;
  *out = NULL;
  TRY_GOTO(mem_alloc(&s, 1, sizeof *s), done);
  s->memory_bytes = memory_bytes;
  s->rank = rank;
  TRY_GOTO(reserve_values(s, 1), done); // find needs a table
  if (directory && strcmp(directory, "none") != 0) {
    TRY_GOTO(mem_copy_text(&s->directory, directory), done);
    TRY_GOTO(file_make_directories(directory), done);
    TRY_GOTO(shard_remove_stale(directory, NULL), done);
    TRY_GOTO(store_refresh(s), done);
  }
  *out = s;
  s = NULL;
done:
  store_close(&s);
  return st;
}

void store_close(struct store **store) {
  struct store *s = *store;
  if (!s) return;
  if (store_commit(s) != OK) log_warn("store: %ju bytes are lost: %s", (uintmax_t)s->held, status_message());
  for (size_t i = 0; i < s->segments; i++) {
    (void)munmap(s->segment[i].base, s->segment[i].mapped);
    mem_free(&s->segment[i].keys);
    mem_free(&s->segment[i].crcs);
  }
  for (size_t i = 0; i < s->shards; i++) shard_close(&s->shard[i]);
  file_free_names(&s->seen, s->seen_count);
  free(s->segment);
  free(s->shard);
  free(s->value);
  mem_free(&s->slot);
  mem_free(&s->directory);
  mem_free(store);
}

// ---- info

struct totals {
  size_t shards, refused, values, damaged;
  uint64_t bytes;
};

static void count_shard(const struct shard *shard, struct totals *t) {
  size_t before = t->damaged;
  for (size_t p = 0; p < shard->part_count; p++) {
    const struct shard_part *part = &shard->parts[p];
    for (size_t i = 0; i < part->count; i++) {
      if (key_crc32(part->data + i * part->bytes, part->bytes) != shard_crc(part, i)) t->damaged++;
    }
    t->values += part->count;
    t->bytes += (uint64_t)part->count * part->bytes;
  }
  t->shards++;
  if (t->damaged > before) (void)printf("damaged: %zu values of %s\n", t->damaged - before, shard->path);
}

status_t store_print_info(const char *directory) {
  status_t st = OK;
  char **names = NULL, *path = NULL;
  size_t count = 0;
  struct totals t = {0};
  TRY(file_list(directory, &names, &count));
  for (size_t i = 0; i < count; i++) {
    struct shard *shard;
    if (!shard_is_name(names[i])) continue;
    TRY_GOTO(file_join(&path, directory, names[i]), done);
    if (shard_open(path, &shard) == OK) {
      count_shard(shard, &t);
    } else {
      (void)printf("refused: %s\n", status_message());
      t.refused++;
    }
    shard_close(&shard);
    mem_free(&path);
  }
  (void)printf("feature store %s: %zu values, %ju bytes, %zu shards\n", directory, t.values, (uintmax_t)t.bytes,
               t.shards);
  if (t.damaged || t.refused) {
    st = FAIL(ERR_FORMAT, "%s: %zu damaged values, %zu shards that cannot be read", directory, t.damaged, t.refused);
  }
done:
  mem_free(&path);
  file_free_names(&names, count);
  return st;
}
