// parallel.c: see parallel.h.
#include "base/parallel.h"

#include "base/mem.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

int parallel_cores(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  int n = CPU_COUNT(&set);
  return n > 0 ? n : 1;
}

struct loop {
  size_t count;
  status_t (*body)(void *, size_t, int);
  void *context;
  atomic_size_t next;
  atomic_bool stop;
  pthread_mutex_t lock;
  status_t first;     // under lock
  char message[2048]; // under lock
};

struct worker {
  struct loop *loop;
  int index;
  pthread_t thread;
  bool started;
};

static void *work(void *argument) {
  struct worker *w = argument;
  struct loop *l = w->loop;
  while (!atomic_load(&l->stop)) {
    size_t item = atomic_fetch_add(&l->next, 1);
    if (item >= l->count) break;
    status_t st = l->body(l->context, item, w->index);
    if (st == OK) continue;
    (void)pthread_mutex_lock(&l->lock);
    if (l->first == OK) {
      l->first = st;
      (void)snprintf(l->message, sizeof l->message, "%s", status_message());
    }
    (void)pthread_mutex_unlock(&l->lock);
    atomic_store(&l->stop, true);
  }
  return NULL;
}

status_t parallel_for(size_t count, int threads, status_t (*body)(void *, size_t, int), void *context) {
  if (threads <= 0) threads = parallel_cores();
  if ((size_t)threads > count) threads = count ? (int)count : 1;
  struct loop loop = {.count = count, .body = body, .context = context, .lock = PTHREAD_MUTEX_INITIALIZER};
  struct worker *workers = NULL;
  TRY(mem_alloc(&workers, (size_t)threads, sizeof *workers));
  for (int i = 0; i < threads; i++) workers[i] = (struct worker){.loop = &loop, .index = i};
  for (int i = 1; i < threads; i++) { // a thread that cannot be had only makes the loop slower
    workers[i].started = pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0;
  }
  (void)work(&workers[0]);
  for (int i = 1; i < threads; i++) {
    if (workers[i].started) (void)pthread_join(workers[i].thread, NULL);
  }
  mem_free(&workers);
  (void)pthread_mutex_destroy(&loop.lock);
  if (loop.first != OK) {
    status_set_message(loop.message);
    return loop.first;
  }
  return OK;
}
