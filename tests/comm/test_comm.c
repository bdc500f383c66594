// test_comm.c: collectives, agreement and buckets. ranks 1 to 4, label mpi: mpirun -np N test_comm_N.
// All ranks run the same tests in the same order; every check on one rank is made on all of them.
#include "base/clock.h"
#include "base/key.h"
#include "base/mem.h"
#include "base/rng.h"
#include "comm/comm.h"
#include "testing.h"

#include <math.h>

static struct comm *world;

static struct rng stream_of(int rank, const char *name) {
  struct rng r;
  rng_init(&r, 7, rng_stream(name) + (uint64_t)rank);
  return r;
}

// The same bytes on every rank.
static void assert_same_everywhere(const void *bytes, size_t size) {
  struct key mine, first;
  assert_ok(key_sha256(bytes, size, &mine));
  first = mine;
  assert_ok(comm_broadcast(world, &first, sizeof first, 0));
  assert_true(key_equal(&mine, &first));
}

static void ranks_know_their_place(void **state) {
  (void)state;
  int size = comm_size(world), rank = comm_rank(world);
  assert_in_range(rank, 0, size - 1);
  assert_int_equal(comm_local_size(world), size); // the test runs on one node
  assert_int_equal(comm_local_rank(world), rank);
  double seen[8] = {0};
  seen[rank] = rank + 1;
  assert_ok(comm_sum_f64(world, seen, 8));
  for (int i = 0; i < 8; i++) assert_true(seen[i] == (i < size ? i + 1 : 0));
}

// Values of very different size: any other order of addition gives other bits.
static void doubles_are_added_in_rank_order(void **state) {
  (void)state;
  enum { COUNT = 20000 }; // more than one piece
  double *got, *want;
  assert_ok(mem_alloc(&got, COUNT, sizeof *got));
  assert_ok(mem_alloc(&want, COUNT, sizeof *want));
  for (int r = 0; r < comm_size(world); r++) {
    struct rng rng = stream_of(r, "doubles");
    for (size_t i = 0; i < COUNT; i++) {
      double v = rng_normal(&rng) * pow(10, (double)rng_below(&rng, 17));
      want[i] = r ? want[i] + v : v;
      if (r == comm_rank(world)) got[i] = v;
    }
  }
  assert_ok(comm_sum_f64(world, got, COUNT));
  assert_memory_equal(got, want, COUNT * sizeof *got);
  mem_free(&got);
  mem_free(&want);
}

static void maximum_keeps_nan(void **state) {
  (void)state;
  int rank = comm_rank(world), size = comm_size(world);
  for (int who = 0; who < size; who++) {
    double v[3] = {rank, -rank - 1.0, rank == who ? (double)NAN : 1e300};
    assert_ok(comm_max_f64(world, v, 3));
    assert_true(v[0] == size - 1 && v[1] == -1);
    assert_true(isnan(v[2]));
  }
}

static void broadcast_reaches_all(void **state) {
  (void)state;
  for (int root = 0; root < comm_size(world); root++) {
    uint8_t bytes[1001];
    memset(bytes, comm_rank(world) == root ? root + 1 : 0xee, sizeof bytes);
    assert_ok(comm_broadcast(world, bytes, sizeof bytes, root));
    for (size_t i = 0; i < sizeof bytes; i++) assert_int_equal(bytes[i], root + 1);
    assert_ok(comm_barrier(world));
  }
  assert_fails(ERR_ARG, comm_broadcast(world, NULL, 0, comm_size(world)), "root");
  assert_ok(comm_broadcast(world, NULL, 0, 0));
}

// Rank r gives 1000 * r bytes of value r: rank 0 nothing.
static void gather_takes_any_sizes(void **state) {
  (void)state;
  int rank = comm_rank(world), size = comm_size(world);
  uint8_t mine[4000];
  memset(mine, rank, sizeof mine);
  for (int root = 0; root < size; root++) {
    void *all = mine;
    size_t sizes[8] = {0}, at = 0;
    assert_ok(comm_gather(world, rank ? mine : NULL, (size_t)rank * 1000, &all, rank == root ? sizes : NULL, root));
    if (rank != root) {
      assert_null(all);
      continue;
    }
    for (int r = 0; r < size; r++) {
      assert_int_equal(sizes[r], r * 1000);
      for (size_t i = 0; i < sizes[r]; i++) assert_int_equal(((uint8_t *)all)[at++], r);
    }
    mem_free(&all);
  }
}

static void agreement_stops_all_ranks(void **state) {
  (void)state;
  int rank = comm_rank(world), size = comm_size(world), last = size - 1;
  assert_ok(comm_agree(world, OK));
  for (int who = 0; who < size; who++) { // one rank fails, the others learn why
    if (rank == who) {
      assert_fails(ERR_FORMAT, comm_agree(world, FAIL(ERR_FORMAT, "shard-%d is torn", who)), "shard-", "is torn");
    } else {
      char want[64];
      (void)snprintf(want, sizeof want, "rank %d: shard-%d is torn", who, who);
      assert_fails(ERR_COMM, comm_agree(world, OK), want);
    }
  }
  // A stop on purpose is no failure, but a failure outweighs it.
  assert_fails(ERR_PREEMPTED, comm_agree(world, rank == last ? FAIL(ERR_PREEMPTED, "asked to stop") : OK),
               "asked to stop");
  if (size > 1) {
    status_t mine = rank == 0 ? FAIL(ERR_PREEMPTED, "asked to stop") : rank == last ? FAIL(ERR_IO, "disk full") : OK;
    status_t want = rank == 0 ? ERR_PREEMPTED : rank == last ? ERR_IO : ERR_COMM;
    assert_int_equal(comm_agree(world, mine), want);
  }
  assert_ok(comm_agree(world, OK)); // the world is whole after an agreed failure
}

static void requests_overtake_nothing(void **state) {
  (void)state;
  enum { REQUESTS = 5, COUNT = 3000 };
  static float values[REQUESTS][COUNT];
  struct comm_request *r[REQUESTS];
  int size = comm_size(world);
  for (int round = 0; round < 3; round++) {
    for (int k = 0; k < REQUESTS; k++) {
      for (int i = 0; i < COUNT; i++) values[k][i] = (float)(comm_rank(world) + k * i);
      assert_ok(comm_sum_begin(world, values[k], COUNT, &r[k]));
    }
    for (int k = REQUESTS; k-- > 0;) { // waited for in another order
      assert_ok(comm_wait(&r[k]));
      assert_null(r[k]);
      for (int i = 0; i < COUNT; i++) assert_true(values[k][i] == (float)(size * (size - 1) / 2 + size * k * i));
    }
  }
  struct comm_request *none = NULL;
  assert_ok(comm_wait(&none));
}

static void fill_gradient(float *g, size_t count, int rank, int step) {
  struct rng rng = stream_of(rank, "gradient");
  rng.counter = (uint64_t)step << 32;
  for (size_t i = 0; i < count; i++) g[i] = (float)rng_normal(&rng);
}

// What all ranks' gradients add to, in double.
static void assert_is_sum(const float *got, size_t count, int step) {
  float *part;
  double *sum, *room;
  assert_ok(mem_alloc(&part, count, sizeof *part));
  assert_ok(mem_alloc(&sum, count, sizeof *sum));
  assert_ok(mem_alloc(&room, count, sizeof *room));
  for (int r = 0; r < comm_size(world); r++) {
    fill_gradient(part, count, r, step);
    for (size_t i = 0; i < count; i++) {
      sum[i] += part[i];
      room[i] += fabs((double)part[i]);
    }
  }
  for (size_t i = 0; i < count; i++) assert_true(fabs(got[i] - sum[i]) <= 4 * 1.2e-7 * room[i]);
  mem_free(&part);
  mem_free(&sum);
  mem_free(&room);
}

// One step whose gradients become ready in pieces that differ between ranks, as the cores happen to run.
static void run_step(struct bucket_set *b, float *arena, size_t count, int step, struct rng *when) {
  fill_gradient(arena, count, comm_rank(world), step);
  for (int64_t ready = 0; ready < (int64_t)count;) {
    ready += (int64_t)rng_below(when, 4000);
    if (ready > (int64_t)count || rng_below(when, 20) == 0) ready = (int64_t)count;
    assert_ok(bucket_progress(b, ready));
    if (rng_below(when, 4) == 0) assert_ok(bucket_progress(b, ready / 2)); // going back changes nothing
  }
  double exposed = -1;
  assert_ok(bucket_finish(b, &exposed));
  assert_true(exposed >= 0);
  assert_int_equal(bucket_in_flight(b), 0);
}

static void buckets_equal_a_plain_sum(void **state) {
  (void)state;
  static const size_t counts[] = {0, 1, 15, 16, 17, 1024, 1025, 1024 + 4096, 30011};
  for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
    size_t count = counts[k];
    float *arena, *again;
    struct bucket_set *b;
    assert_ok(mem_alloc(&arena, count, sizeof *arena));
    assert_ok(mem_alloc(&again, count, sizeof *again));
    assert_ok(bucket_create(world, arena, (int64_t)count, 4096, 16384, &b));
    struct rng when = stream_of(comm_rank(world), "when");
    for (int step = 0; step < 3; step++) {
      run_step(b, arena, count, step, &when);
      assert_is_sum(arena, count, step);
      assert_same_everywhere(arena, count * sizeof *arena);
      memcpy(again, arena, count * sizeof *arena);
      run_step(b, arena, count, step, &when); // other moments, same bits
      assert_memory_equal(again, arena, count * sizeof *arena);
    }
    bucket_destroy(&b);
    mem_free(&arena);
    mem_free(&again);
  }
}

// The first half is reduced, on all ranks, while the second half is still being computed.
static void buckets_leave_before_the_end(void **state) {
  (void)state;
  enum { COUNT = 1 << 18, HALF = COUNT / 2 };
  float *arena;
  struct bucket_set *b;
  int size = comm_size(world);
  assert_ok(mem_alloc(&arena, COUNT, sizeof *arena));
  assert_ok(bucket_create(world, arena, COUNT, 64 * 1024, 128 * 1024, &b));
  for (int i = 0; i < HALF; i++) arena[i] = 1;
  assert_ok(bucket_progress(b, HALF));
  double give_up = clock_seconds() + 60;
  while (bucket_in_flight(b) && clock_seconds() < give_up) assert_ok(bucket_progress(b, HALF));
  assert_int_equal(bucket_in_flight(b), 0);
  // Slices end at 16384 + 32768 i values: three fit in the half, of which the last 16384 values stay behind.
  for (int i = 0; i < HALF; i++) assert_true(arena[i] == (float)(i < HALF - 16384 ? size : 1));
  for (int i = HALF; i < COUNT; i++) arena[i] = 2;
  assert_ok(bucket_finish(b, NULL));
  for (int i = 0; i < COUNT; i++) assert_true(arena[i] == (float)(i < HALF ? size : 2 * size));
  bucket_destroy(&b);
  mem_free(&arena);
}

static void buckets_refuse_nonsense(void **state) {
  (void)state;
  float arena[64];
  struct bucket_set *b;
  assert_fails(ERR_ARG, bucket_create(world, arena, 64, 100, 64, &b), "100", "64");
  assert_fails(ERR_ARG, bucket_create(world, arena, 64, 64, 0, &b), "multiples");
  assert_fails(ERR_ARG, bucket_create(world, arena, -1, 64, 64, &b), "-1");
  assert_ok(bucket_create(world, arena, 64, 64, 64, &b));
  assert_fails(ERR_ARG, bucket_progress(b, 65), "65");
  assert_fails(ERR_ARG, bucket_progress(b, -1), "-1");
  bucket_destroy(&b);
}

int main(void) {
  if (comm_create(&world) != OK) {
    (void)fprintf(stderr, "%s\n", status_message());
    return 1;
  }
  comm_set_deadline(world, 10, 100);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ranks_know_their_place),
      cmocka_unit_test(doubles_are_added_in_rank_order),
      cmocka_unit_test(maximum_keeps_nan),
      cmocka_unit_test(broadcast_reaches_all),
      cmocka_unit_test(gather_takes_any_sizes),
      cmocka_unit_test(agreement_stops_all_ranks),
      cmocka_unit_test(requests_overtake_nothing),
      cmocka_unit_test(buckets_equal_a_plain_sum),
      cmocka_unit_test(buckets_leave_before_the_end),
      cmocka_unit_test(buckets_refuse_nonsense),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  if (failed) comm_abort(world, 1); // the other ranks may be waiting for this one
  comm_destroy(&world);
  return failed;
}
