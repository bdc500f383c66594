// pack_write.c: decode on all cores, write from one thread. Workers take images in order and leave them in a ring of
// slots; the writer empties the ring in order. A worker that is a whole ring ahead waits, which bounds memory.
#include "data_prep/pack.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "data/mask.h"
#include "data/pool_write.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

struct packed_mask {
  struct image mask; // [S, S]
  uint32_t crc;
  uint8_t *png;
  size_t png_size;
};

struct packed {
  struct image pixels; // [S, S, 3]
  int height, width;   // original
  struct key key;
  uint32_t crc;
  size_t masks;
  struct packed_mask *mask;
  bool ready, failed;
};

struct work {
  const struct pack_plan *plan;
  const struct pack_options *options;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct packed *ring;
  size_t slots;
  size_t next, written; // images handed out, images taken from the ring (under lock)
  bool stop;            // (under lock)
  size_t bad, zero_one, empty;
  const char *zero_one_name;
  status_t first;
  char message[1024]; // of the first error
};

static void packed_free(struct packed *p) {
  for (size_t i = 0; i < p->masks; i++) {
    image_free(&p->mask[i].mask);
    mem_free(&p->mask[i].png);
  }
  mem_free(&p->mask);
  image_free(&p->pixels);
  *p = (struct packed){0};
}

static void note_mask(struct work *w, const struct mask_note *note, const char *name) {
  (void)pthread_mutex_lock(&w->lock);
  w->empty += note->empty != 0;
  if (note->values_0_1 && w->zero_one++ == 0) w->zero_one_name = name;
  (void)pthread_mutex_unlock(&w->lock);
}

static status_t pack_mask(struct work *w, const struct source_sample *x, const struct packed *p,
                          struct packed_mask *out) {
  struct image original = {0};
  struct mask_note note;
  int size = w->options->size;
  status_t st = mask_read(x->mask, w->options->exif, &original, &note);
  if (st == OK && (original.height != p->height || original.width != p->width))
    st = FAIL(ERR_FORMAT, "%s is %d x %d, but its image %s is %d x %d", x->mask, original.width, original.height,
              x->image_name, p->width, p->height);
  if (st == OK) st = image_resize_nearest(&original, size, size, &out->mask);
  if (st == OK) st = image_encode_png(&original, 1, &out->png, &out->png_size);
  if (st == OK) {
    out->crc = key_crc32(out->mask.pixels, (size_t)size * (size_t)size);
    note_mask(w, &note, x->mask);
  }
  image_free(&original);
  return st;
}

static status_t pack_image(struct work *w, size_t image, struct packed *p) {
  const struct pack_plan *plan = w->plan;
  const struct source_sample *lead = &plan->source->sample[plan->order[plan->first[image]]];
  int size = w->options->size;
  struct image original = {0};
  size_t bytes = (size_t)size * (size_t)size * 3;
  p->masks = plan->first[image + 1] - plan->first[image];
  TRY(mem_alloc(&p->mask, p->masks, sizeof *p->mask));
  TRY(image_read(lead->image, 3, w->options->exif, &original));
  p->height = original.height;
  p->width = original.width;
  status_t st = image_resize_bilinear(&original, size, size, &p->pixels);
  image_free(&original);
  TRY(st);
  p->crc = key_crc32(p->pixels.pixels, bytes);
  TRY(key_sha256(p->pixels.pixels, bytes, &p->key));
  for (size_t i = 0; i < p->masks; i++)
    TRY(pack_mask(w, &plan->source->sample[plan->order[plan->first[image] + i]], p, &p->mask[i]));
  return OK;
}

// Called with the lock held.
static void note_error(struct work *w, status_t st) {
  if (w->bad == 0) {
    w->first = st;
    (void)snprintf(w->message, sizeof w->message, "%s", status_message());
  }
  log_error("%s", status_message());
  if (++w->bad >= PACK_ERRORS || (st != ERR_FORMAT && st != ERR_ARG && st != ERR_UNSUPPORTED)) w->stop = true;
}

static void *worker(void *argument) {
  struct work *w = argument;
  (void)pthread_mutex_lock(&w->lock);
  while (!w->stop && w->next < w->plan->images) {
    size_t image = w->next++;
    while (!w->stop && image >= w->written + w->slots) (void)pthread_cond_wait(&w->changed, &w->lock);
    if (w->stop) break;
    struct packed *slot = &w->ring[image % w->slots];
    (void)pthread_mutex_unlock(&w->lock);
    status_t st = pack_image(w, image, slot);
    (void)pthread_mutex_lock(&w->lock);
    if (st != OK) note_error(w, st);
    slot->failed = st != OK;
    slot->ready = true;
    (void)pthread_cond_broadcast(&w->changed);
  }
  (void)pthread_cond_broadcast(&w->changed);
  (void)pthread_mutex_unlock(&w->lock);
  return NULL;
}

static status_t write_one(struct work *w, struct pool_writer *writer, size_t image, const struct packed *p) {
  const struct pack_plan *plan = w->plan;
  size_t row = plan->source->kinds * (size_t)plan->wordings, first = plan->first[image];
  const struct source_sample *lead = &plan->source->sample[plan->order[first]];
  TRY(pool_writer_add_image(writer, &(struct pool_new_image){.name = lead->image_name,
                                                             .pixels = p->pixels.pixels,
                                                             .original_height = p->height,
                                                             .original_width = p->width,
                                                             .key = p->key,
                                                             .crc = p->crc}));
  for (size_t i = 0; i < p->masks; i++) {
    const struct source_sample *x = &plan->source->sample[plan->order[first + i]];
    TRY(pool_writer_add_sample(writer, &(struct pool_new_sample){.name = x->name,
                                                                 .class_name = x->class_name,
                                                                 .group = x->group,
                                                                 .mask = p->mask[i].mask.pixels,
                                                                 .crc = p->mask[i].crc,
                                                                 .original_png = p->mask[i].png,
                                                                 .original_size = p->mask[i].png_size,
                                                                 .prompt = plan->prompt + (first + i) * row}));
  }
  return OK;
}

// Empty the ring in order. After the first bad picture nothing more is written, but the others are still tried, so that
// one run names them all.
static status_t write_all(struct work *w, struct pool_writer *writer, struct key *keys) {
  double start = clock_seconds();
  status_t st = OK;
  for (size_t image = 0; image < w->plan->images && st == OK; image++) {
    struct packed *slot = &w->ring[image % w->slots];
    (void)pthread_mutex_lock(&w->lock);
    while (!w->stop && !slot->ready) (void)pthread_cond_wait(&w->changed, &w->lock);
    bool stop = w->stop, bad = w->bad > 0;
    (void)pthread_mutex_unlock(&w->lock);
    if (stop) break;
    if (!bad) st = write_one(w, writer, image, slot);
    keys[image] = slot->key;
    (void)pthread_mutex_lock(&w->lock);
    packed_free(slot);
    w->written = image + 1;
    if (st != OK) w->stop = true;
    (void)pthread_cond_broadcast(&w->changed);
    (void)pthread_mutex_unlock(&w->lock);
    log_progress(image + 1 == w->plan->images, "pack %s/%s/%d: %zu of %zu images, %.0f images/s", w->options->name,
                 w->options->split, w->options->size, image + 1, w->plan->images,
                 (double)(image + 1) / (clock_seconds() - start + 1e-9));
  }
  return st;
}

static status_t report(const struct work *w) {
  if (w->bad > 0) {
    status_set_message(w->message);
    return status_prefix(w->first, "%zu of %zu images can't be packed%s; no pool was written. The first", w->bad,
                         w->plan->images, w->bad >= PACK_ERRORS ? " (and the rest was not tried)" : "");
  }
  if (w->zero_one)
    log_info("%zu masks hold 0 and 1 instead of 0 and 255, understood as masks; the first is %s", w->zero_one,
             w->zero_one_name);
  if (w->empty) log_info("%zu of %zu masks are empty", w->empty, w->plan->samples);
  return OK;
}

static status_t run(struct work *w, int threads, struct pool_writer *writer, struct key *keys) {
  pthread_t *thread = NULL;
  int started = 0;
  TRY(mem_alloc(&thread, (size_t)threads, sizeof *thread));
  for (; started < threads; started++)
    if (pthread_create(&thread[started], NULL, worker, w) != 0) break;
  status_t st = started ? write_all(w, writer, keys) : FAIL(ERR_NOMEM, "no thread can be started");
  (void)pthread_mutex_lock(&w->lock);
  w->stop = true;
  (void)pthread_cond_broadcast(&w->changed);
  (void)pthread_mutex_unlock(&w->lock);
  for (int i = 0; i < started; i++) (void)pthread_join(thread[i], NULL);
  mem_free(&thread);
  return st == OK ? report(w) : st;
}

static struct pool_plan pool_plan_of(const struct pack_plan *plan, const struct pack_options *o) {
  return (struct pool_plan){.root = o->root,
                            .name = o->name,
                            .split = o->split,
                            .size = o->size,
                            .shards = o->shards,
                            .images = (int64_t)plan->images,
                            .samples = (int64_t)plan->samples,
                            .image_index = plan->image_index,
                            .kinds = (int)plan->source->kinds,
                            .wordings = plan->wordings,
                            .kind = (const char *const *)plan->source->kind,
                            .source = plan->source->kind_source,
                            .texts = (int64_t)plan->texts,
                            .text = (const char *const *)plan->text,
                            .exif_applied = o->exif,
                            .source_key = plan->source_key,
                            .replace = o->force};
}

status_t pack_write(const struct pack_plan *plan, const struct pack_options *options, struct key *keys) {
  struct work w = {
      .plan = plan, .options = options, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
  struct pool_plan pool = pool_plan_of(plan, options);
  struct pool_writer *writer = NULL;
  struct key key;
  int threads = options->threads > 0 ? options->threads : parallel_cores();
  status_t st = OK;
  w.slots = 2 * (size_t)threads + 2;
  TRY_GOTO(mem_alloc(&w.ring, w.slots, sizeof *w.ring), done);
  TRY_GOTO(pool_writer_create(&pool, &writer), done);
  TRY_GOTO(run(&w, threads, writer, keys), done);
  TRY_GOTO(pool_writer_finish(writer, &key), done);
done:
  pool_writer_destroy(&writer);
  for (size_t i = 0; w.ring && i < w.slots; i++) packed_free(&w.ring[i]);
  mem_free(&w.ring);
  (void)pthread_mutex_destroy(&w.lock);
  (void)pthread_cond_destroy(&w.changed);
  return st;
}
