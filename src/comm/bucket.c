// bucket.c: gradients leave while backward still runs (Li et al., "PyTorch Distributed", VLDB 2020, section 3.2.3, with
// the copies left out: the arena lies in backward order, so that a bucket is a slice of it). The first slice is small,
// so that the network has work early; slices start strictly in order, which is all that MPI and NCCL ask for.
#include "comm/comm.h"

#include "base/clock.h"
#include "base/mem.h"

enum { SLICE_ALIGN = 64 };

struct bucket_set {
  struct comm *comm;
  float *arena;
  int64_t count, ready;
  int64_t first, rest;           // elements of a slice
  size_t slices, started, done;  // done <= started <= slices
  struct comm_request **request; // [slices]
};

status_t bucket_create(struct comm *c, float *arena, int64_t count, size_t first_bytes, size_t rest_bytes,
                       struct bucket_set **out) {
  *out = NULL;
  if (count < 0 || (count > 0 && !arena)) return FAIL(ERR_ARG, "a gradient arena of %jd values", (intmax_t)count);
  if (!first_bytes || !rest_bytes || first_bytes % SLICE_ALIGN || rest_bytes % SLICE_ALIGN) {
    return FAIL(ERR_ARG, "buckets of %zu and %zu bytes: wanted multiples of %d", first_bytes, rest_bytes, SLICE_ALIGN);
  }
  if (first_bytes / sizeof *arena > INT32_MAX || rest_bytes / sizeof *arena > INT32_MAX) {
    return FAIL(ERR_ARG, "buckets of %zu and %zu bytes: at most %d values each", first_bytes, rest_bytes, INT32_MAX);
  }
  status_t st = OK;
  struct bucket_set *b = NULL;
  TRY_GOTO(mem_alloc(&b, 1, sizeof *b), done);
  *b = (struct bucket_set){.comm = c, .arena = arena, .count = count};
  b->first = (int64_t)(first_bytes / sizeof *arena);
  b->rest = (int64_t)(rest_bytes / sizeof *arena);
  int64_t after = count > b->first ? count - b->first : 0;
  b->slices = count ? 1 + (size_t)(after / b->rest) + (after % b->rest != 0) : 0;
  TRY_GOTO(mem_alloc(&b->request, b->slices, sizeof(struct comm_request *)), done);
  *out = b;
  b = NULL;
done:
  bucket_destroy(&b);
  return st;
}

void bucket_destroy(struct bucket_set **b) {
  if (!*b) return;
  mem_free(&(*b)->request);
  mem_free(b);
}

// Where slice i ends.
static int64_t slice_end(const struct bucket_set *b, size_t i) {
  int64_t end = b->first + (int64_t)i * b->rest;
  return end < b->count ? end : b->count;
}

static status_t start_ready(struct bucket_set *b) {
  while (b->started < b->slices && slice_end(b, b->started) <= b->ready) {
    int64_t begin = b->started ? slice_end(b, b->started - 1) : 0;
    size_t n = (size_t)(slice_end(b, b->started) - begin);
    TRY(comm_sum_begin(b->comm, b->arena + begin, n, &b->request[b->started]));
    b->started++;
  }
  return OK;
}

status_t bucket_progress(struct bucket_set *b, int64_t ready) {
  if (ready < 0 || ready > b->count) {
    return FAIL(ERR_ARG, "%jd gradients ready of %jd", (intmax_t)ready, (intmax_t)b->count);
  }
  if (ready > b->ready) b->ready = ready;
  if (comm_size(b->comm) == 1) return OK;
  TRY(start_ready(b));
  while (b->done < b->started) { // one test makes progress with all, so the first unfinished one is enough
    bool done;
    TRY(comm_test(b->request[b->done], &done));
    if (!done) break;
    TRY(comm_wait(&b->request[b->done]));
    b->done++;
  }
  return OK;
}

status_t bucket_finish(struct bucket_set *b, double *exposed_seconds) {
  double start = clock_seconds();
  TRY(bucket_progress(b, b->count));
  while (b->done < b->started) {
    TRY(comm_wait(&b->request[b->done]));
    b->done++;
  }
  b->started = b->done = 0;
  b->ready = 0;
  if (exposed_seconds) *exposed_seconds = clock_seconds() - start;
  return OK;
}

int bucket_in_flight(const struct bucket_set *b) {
  return (int)(b->started - b->done);
}
