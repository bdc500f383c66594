// prefetch.c: see prefetch.h.
#include "data/prefetch.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

struct slot {
  struct batch batch; // its pointers are set to the slot's buffers, or NULL
  struct sample_ref *ref;
  uint8_t *images, *masks;
};

struct prefetch {
  struct prefetch_options options;
  const struct pool **pools;
  struct sampler *sampler; // the reader's
  struct slot *ring;
  uint8_t *scratch; // a picture, where views are drawn
  size_t room;      // samples in a slot
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  uint64_t filled, taken; // batches, ever (under lock); the consumer holds batch taken - 1
  status_t status;        // of the reader, once it ended (under lock)
  char message[2048];
  bool ended; // (under lock)
  atomic_bool stop;
  atomic_int images;
};

status_t prefetch_view(const struct prefetch_options *o, const struct sample_ref *ref, uint64_t epoch,
                       struct augment_view *out) {
  const struct pool *pool = o->sampler.pools[ref->pool];
  const struct pool_info *info = pool_get_info(pool);
  struct pool_sample s;
  TRY(pool_get_sample(pool, ref->sample, &s));
  uint64_t number = o->bank ? (uint64_t)augment_pick(o->augment, info->name, s.image_name, epoch) : epoch;
  augment_draw(o->augment, info->name, s.image_name, info->size, number, out);
  return OK;
}

// Sample i of a slot as the epoch shows it.
static status_t augment_sample(struct prefetch *p, struct slot *s, int64_t i, uint64_t epoch, bool image) {
  struct augment_view view;
  size_t side = (size_t)pool_get_info(p->pools[0])->size, area = side * side;
  TRY(prefetch_view(&p->options, &s->ref[i], epoch, &view));
  if (image) augment_apply(&view, (int)side, 3, s->images + (size_t)i * area * 3, p->scratch);
  augment_apply(&view, (int)side, 1, s->masks + (size_t)i * area, p->scratch);
  return OK;
}

static status_t read_batch(struct prefetch *p, struct slot *s, uint64_t epoch, int64_t index) {
  int64_t first, count, last_first, last_count;
  int images = atomic_load(&p->images);
  size_t side = (size_t)pool_get_info(p->pools[0])->size, area = side * side;
  sampler_slice(p->sampler, index, p->options.rank, p->options.world, &first, &count);
  sampler_slice(p->sampler, index, p->options.world - 1, p->options.world, &last_first, &last_count);
  if (images && !s->images) TRY(mem_alloc_raw(&s->images, p->room, area * 3));
  for (int64_t i = 0; i < count && !atomic_load(&p->stop); i++) {
    TRY(sampler_get(p->sampler, first + i, &s->ref[i]));
    const struct pool *pool = p->pools[s->ref[i].pool];
    struct pool_sample sample;
    TRY(pool_get_sample(pool, s->ref[i].sample, &sample));
    if (images) TRY(pool_read_image(pool, sample.image, s->images + (size_t)i * area * 3));
    TRY(pool_read_mask(pool, s->ref[i].sample, s->masks + (size_t)i * area));
    if (p->scratch) TRY(augment_sample(p, s, i, epoch, images));
  }
  s->batch = (struct batch){.epoch = epoch,
                            .index = index,
                            .first = first,
                            .count = count,
                            .global = last_first + last_count - index * p->options.sampler.batch,
                            .ref = s->ref,
                            .images = images ? s->images : NULL,
                            .masks = s->masks};
  return OK;
}

// Wait for a slot that the consumer does not hold. False: stop.
static bool wait_for_room(struct prefetch *p) {
  (void)pthread_mutex_lock(&p->lock);
  // The slot of the batch in the consumer's hands (taken - 1) is not free.
  while (!atomic_load(&p->stop) && p->filled + 1 >= p->taken + (uint64_t)p->options.depth + (p->taken == 0))
    (void)pthread_cond_wait(&p->changed, &p->lock);
  (void)pthread_mutex_unlock(&p->lock);
  return !atomic_load(&p->stop);
}

static status_t read_all(struct prefetch *p) {
  const struct prefetch_options *o = &p->options;
  int64_t batch = o->first_batch, batches = sampler_batches(p->sampler);
  for (uint64_t epoch = o->first_epoch; o->epochs == 0 || epoch < o->first_epoch + o->epochs; epoch++, batch = 0) {
    TRY(sampler_set_epoch(p->sampler, epoch));
    for (; batch < batches; batch++) {
      if (!wait_for_room(p)) return OK;
      TRY(read_batch(p, &p->ring[p->filled % (uint64_t)o->depth], epoch, batch)); // only this thread changes filled
      (void)pthread_mutex_lock(&p->lock);
      p->filled++;
      (void)pthread_cond_broadcast(&p->changed);
      (void)pthread_mutex_unlock(&p->lock);
    }
  }
  return OK;
}

static void *reader(void *argument) {
  struct prefetch *p = argument;
  status_t st = read_all(p);
  (void)pthread_mutex_lock(&p->lock);
  p->status = st;
  if (st != OK) (void)snprintf(p->message, sizeof p->message, "%s", status_message());
  p->ended = true;
  (void)pthread_cond_broadcast(&p->changed);
  (void)pthread_mutex_unlock(&p->lock);
  return NULL;
}

static status_t fill(struct prefetch *p) {
  struct prefetch_options *o = &p->options;
  size_t side, area;
  if (o->depth < 2 || o->world < 1 || o->rank < 0 || o->rank >= o->world || o->first_batch < 0)
    return FAIL(ERR_ARG, "prefetch of depth %d for rank %d of %d from batch %lld", o->depth, o->rank, o->world,
                (long long)o->first_batch);
  TRY(sampler_create(&o->sampler, &p->sampler));
  TRY(mem_alloc(&p->pools, (size_t)o->sampler.count, sizeof *p->pools));
  for (int i = 0; i < o->sampler.count; i++) p->pools[i] = o->sampler.pools[i];
  side = (size_t)pool_get_info(p->pools[0])->size;
  area = side * side;
  int64_t most = sampler_batch(p->sampler);
  if (most > sampler_samples(p->sampler)) most = sampler_samples(p->sampler);
  p->room = (size_t)((most + o->world - 1) / o->world);
  if (augment_is_on(o->augment)) TRY(mem_alloc_raw(&p->scratch, area, 3));
  p->options.sampler.pools = p->pools;
  TRY(mem_alloc(&p->ring, (size_t)o->depth, sizeof *p->ring));
  for (int i = 0; i < o->depth; i++) {
    TRY(mem_alloc(&p->ring[i].ref, p->room, sizeof *p->ring[i].ref));
    TRY(mem_alloc_raw(&p->ring[i].masks, p->room, area));
  }
  return OK;
}

static void release(struct prefetch **prefetch) {
  struct prefetch *p = *prefetch;
  for (int i = 0; p->ring && i < p->options.depth; i++) {
    mem_free(&p->ring[i].ref);
    mem_free(&p->ring[i].images);
    mem_free(&p->ring[i].masks);
  }
  mem_free(&p->ring);
  mem_free(&p->scratch);
  mem_free(&p->pools);
  sampler_destroy(&p->sampler);
  (void)pthread_mutex_destroy(&p->lock);
  (void)pthread_cond_destroy(&p->changed);
  mem_free(prefetch);
}

status_t prefetch_create(const struct prefetch_options *options, struct prefetch **out) {
  struct prefetch *p = NULL;
  *out = NULL;
  TRY(mem_alloc(&p, 1, sizeof *p));
  p->options = *options;
  atomic_init(&p->images, options->images);
  (void)pthread_mutex_init(&p->lock, NULL);
  (void)pthread_cond_init(&p->changed, NULL);
  status_t st = fill(p);
  if (st == OK && pthread_create(&p->thread, NULL, reader, p) != 0)
    st = FAIL(ERR_NOMEM, "the reader's thread can't be started");
  if (st != OK) {
    release(&p);
    return st;
  }
  *out = p;
  return OK;
}

status_t prefetch_next(struct prefetch *p, const struct batch **out) {
  status_t st = OK;
  *out = NULL;
  (void)pthread_mutex_lock(&p->lock);
  while (p->filled == p->taken && !p->ended) (void)pthread_cond_wait(&p->changed, &p->lock);
  if (p->filled > p->taken) {
    *out = &p->ring[p->taken % (uint64_t)p->options.depth].batch;
    p->taken++; // gives the slot of the batch before back
    (void)pthread_cond_broadcast(&p->changed);
  } else if (p->status != OK) {
    status_set_message(p->message);
    st = p->status;
  }
  (void)pthread_mutex_unlock(&p->lock);
  return st;
}

void prefetch_want_images(struct prefetch *p, int images) {
  atomic_store(&p->images, images);
}

void prefetch_destroy(struct prefetch **prefetch) {
  struct prefetch *p = *prefetch;
  if (!p) return;
  (void)pthread_mutex_lock(&p->lock);
  atomic_store(&p->stop, true);
  (void)pthread_cond_broadcast(&p->changed);
  (void)pthread_mutex_unlock(&p->lock);
  (void)pthread_join(p->thread, NULL);
  release(prefetch);
}
