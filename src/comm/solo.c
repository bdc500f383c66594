// solo.c: the world of one. Every collective is already done.
#include "comm/comm_ops.h"

#include "base/mem.h"

#include <string.h>

static status_t solo_duplicate(struct comm *c, struct comm **out) {
  (void)c;
  return solo_create(out);
}

static status_t solo_fold(struct comm *c, double *values, size_t count, fold_t fold) {
  (void)c, (void)values, (void)count, (void)fold;
  return OK;
}

static status_t solo_broadcast(struct comm *c, void *bytes, size_t size, int root) {
  (void)c, (void)bytes, (void)size, (void)root;
  return OK;
}

static status_t solo_gather(struct comm *c, const void *bytes, size_t size, void **all, size_t *sizes, int root) {
  (void)c, (void)root;
  TRY(mem_alloc(all, size, 1));
  if (size) memcpy(*all, bytes, size);
  sizes[0] = size;
  return OK;
}

static status_t solo_barrier(struct comm *c) {
  (void)c;
  return OK;
}

static status_t solo_sum_begin(struct comm *c, float *values, size_t count, struct comm_request *r) {
  (void)c, (void)values, (void)count;
  r->done = true;
  return OK;
}

static status_t solo_test(struct comm_request *r) {
  r->done = true;
  return OK;
}

static void solo_abort(struct comm *c, int exit_code) {
  (void)c, (void)exit_code; // main returns the code
}

static void solo_destroy(struct comm *c) {
  mem_free(&c);
}

static const struct comm_ops solo_ops = {
    .name = "one rank",
    .request_size = sizeof(struct comm_request),
    .duplicate = solo_duplicate,
    .fold_f64 = solo_fold,
    .broadcast = solo_broadcast,
    .gather = solo_gather,
    .barrier = solo_barrier,
    .sum_begin = solo_sum_begin,
    .test = solo_test,
    .abort = solo_abort,
    .destroy = solo_destroy,
};

status_t solo_create(struct comm **out) {
  TRY(mem_alloc(out, 1, sizeof **out));
  **out = (struct comm){.ops = &solo_ops, .size = 1, .local_size = 1};
  return OK;
}
