// events.c: see events.h. Formats: tensorflow/core/lib/io/record_writer.h (TFRecord), tensorflow/core/util/event.proto
// and framework/summary.proto (field numbers below).
#include "train/events.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct events {
  FILE *file;
  char *path;
  double last_time;
};

uint32_t events_crc32c(const void *bytes, size_t size) {
  const uint8_t *p = bytes;
  uint32_t crc = ~0u;
  for (size_t i = 0; i < size; i++) {
    crc ^= p[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0x82F63B78u & -(crc & 1));
  }
  return ~crc;
}

// TFRecord stores checksums rotated and offset, so that a checksum of data that holds checksums stays a good one.
static uint32_t masked(const void *bytes, size_t size) {
  uint32_t crc = events_crc32c(bytes, size);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

// A protocol buffer being built; messages here are short.
enum { MESSAGE_ROOM = 512 };
struct message {
  uint8_t byte[MESSAGE_ROOM];
  size_t size;
};

static void put_varint(struct message *m, uint64_t x) {
  for (; x >= 0x80; x >>= 7) m->byte[m->size++] = (uint8_t)(x | 0x80);
  m->byte[m->size++] = (uint8_t)x;
}
static void put_field(struct message *m, unsigned field, unsigned wire) {
  put_varint(m, field << 3 | wire);
}
static void put_bytes(struct message *m, unsigned field, const void *bytes, size_t size) {
  put_field(m, field, 2);
  put_varint(m, size);
  memcpy(m->byte + m->size, bytes, size);
  m->size += size;
}
static void put_little(struct message *m, uint64_t x, int bytes) {
  for (int i = 0; i < bytes; i++) m->byte[m->size++] = (uint8_t)(x >> 8 * i);
}
static void put_double(struct message *m, unsigned field, double x) {
  uint64_t bits;
  memcpy(&bits, &x, 8);
  put_field(m, field, 1);
  put_little(m, bits, 8);
}
static void put_float(struct message *m, unsigned field, float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  put_field(m, field, 5);
  put_little(m, bits, 4);
}

// Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; SessionLog session_log = 7 }
static void begin_event(struct events *e, struct message *m, int64_t step) {
  double now = clock_wall();
  if (now < e->last_time) now = e->last_time; // readers sort by it
  e->last_time = now;
  m->size = 0;
  put_double(m, 1, now);
  put_field(m, 2, 0);
  put_varint(m, (uint64_t)step);
}

static status_t write_record(struct events *e, const struct message *m) {
  struct message head = {.size = 0}, tail = {.size = 0};
  put_little(&head, m->size, 8);
  put_little(&head, masked(head.byte, 8), 4);
  put_little(&tail, masked(m->byte, m->size), 4);
  if (fwrite(head.byte, 1, head.size, e->file) != head.size || fwrite(m->byte, 1, m->size, e->file) != m->size ||
      fwrite(tail.byte, 1, tail.size, e->file) != tail.size) {
    return FAIL(ERR_IO, "cannot write %s: %s", e->path, strerror(errno));
  }
  return OK;
}

static status_t write_start(struct events *e, int64_t from_step) {
  struct message m, log = {.size = 0};
  begin_event(e, &m, 0);
  put_bytes(&m, 3, "brain.Event:2", 13);
  TRY(write_record(e, &m));
  if (from_step <= 0) return OK;
  begin_event(e, &m, from_step); // SessionLog { SessionStatus status = 1 }, START = 1: the reader drops orphaned steps
  put_field(&log, 1, 0);
  put_varint(&log, 1);
  put_bytes(&m, 7, log.byte, log.size);
  return write_record(e, &m);
}

status_t events_open(const char *folder, int64_t from_step, struct events **out) {
  status_t st = OK;
  struct events *e = NULL;
  char host[64] = "";
  *out = NULL;
  if (gethostname(host, sizeof host - 1) != 0 || !host[0]) (void)snprintf(host, sizeof host, "host");
  TRY_GOTO(mem_alloc(&e, 1, sizeof *e), done);
  TRY_GOTO(mem_format(&e->path, "%s/events.out.tfevents.%010lld.%s.%ld.0", folder, (long long)clock_wall(), host,
                      (long)getpid()),
           done);
  e->file = fopen(e->path, "wbe");
  if (!e->file) FAIL_GOTO(done, ERR_IO, "cannot create %s: %s", e->path, strerror(errno));
  TRY_GOTO(write_start(e, from_step), done);
  TRY_GOTO(events_flush(e), done);
  *out = e;
  e = NULL;
done:
  events_close(&e);
  return st;
}

status_t events_scalar(struct events *e, const char *tag, int64_t step, double value) {
  struct message m, v = {.size = 0}, summary = {.size = 0};
  size_t n = strlen(tag);
  if (n > 128) return FAIL(ERR_ARG, "TensorBoard tag of %zu bytes, at most 128 fit", n);
  put_bytes(&v, 1, tag, n); // Value { string tag = 1; float simple_value = 2 }
  put_float(&v, 2, (float)value);
  put_bytes(&summary, 1, v.byte, v.size); // Summary { repeated Value value = 1 }
  begin_event(e, &m, step);
  put_bytes(&m, 5, summary.byte, summary.size);
  return write_record(e, &m);
}

status_t events_flush(struct events *e) {
  if (fflush(e->file) != 0) return FAIL(ERR_IO, "cannot write %s: %s", e->path, strerror(errno));
  return OK;
}

void events_close(struct events **events) {
  struct events *e = *events;
  if (!e) return;
  if (e->file) (void)fclose(e->file);
  mem_free(&e->path);
  mem_free(events);
}
