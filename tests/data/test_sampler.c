// test_sampler.c: every sample once per epoch for any number of ranks; the ring hands out what the sampler says and
// what the pools hold; errors and shutdown. Label: unit.
#include "pools.h"

#include "base/file.h"
#include "base/log.h"
#include "data/prefetch.h"

#include <fcntl.h>
#include <unistd.h>

enum { SIDE = 8, AREA = SIDE * SIDE };

struct fixture {
  const char *root;
  struct pool *pool[2];
  const struct pool *pools[2];
  int64_t samples[2];
};

static int set_up(void **state) {
  static struct fixture f;
  struct key key;
  f.root = test_folder();
  f.samples[0] = pools_write(f.root, "a", SIDE, 10, 2, 1, &key);
  f.samples[1] = pools_write(f.root, "b", SIDE, 7, 1, 2, &key);
  assert_ok(pool_open(f.root, "a", "train", SIDE, 0, &f.pool[0]));
  assert_ok(pool_open(f.root, "b", "train", SIDE, 0, &f.pool[1]));
  f.pools[0] = f.pool[0];
  f.pools[1] = f.pool[1];
  *state = &f;
  return 0;
}

static int tear_down(void **state) {
  struct fixture *f = *state;
  pool_close(&f->pool[0]);
  pool_close(&f->pool[1]);
  assert_ok(file_remove_tree(f->root));
  return 0;
}

static struct sampler_options options(const struct fixture *f, const char *prompt, int64_t batch) {
  return (struct sampler_options){
      .pools = f->pools, .count = 2, .prompt = prompt, .seed = 42, .batch = batch, .shuffle = 1};
}

static void test_once(void **state) {
  struct fixture *f = *state;
  int64_t all = f->samples[0] + f->samples[1];
  struct sampler_options o = options(f, "p1", 8);
  struct sampler *s = NULL;
  assert_ok(sampler_create(&o, &s));
  assert_int_equal(sampler_samples(s), all);
  assert_int_equal(sampler_batches(s), (all + 7) / 8);
  for (int world = 1; world <= 13; world++) {
    int seen[64] = {0};
    assert_ok(sampler_set_epoch(s, (uint64_t)world));
    for (int64_t b = 0; b < sampler_batches(s); b++) {
      int64_t in_batch = 0, low = 8, high = 0;
      for (int rank = 0; rank < world; rank++) {
        int64_t first, count;
        sampler_slice(s, b, rank, world, &first, &count);
        assert_int_equal(first, b * 8 + in_batch); // contiguous
        for (int64_t i = 0; i < count; i++) {
          struct sample_ref ref;
          assert_ok(sampler_get(s, first + i, &ref));
          seen[ref.whole]++;
        }
        in_batch += count;
        if (count < low) low = count;
        if (count > high) high = count;
      }
      assert_true(high - low <= 1);
      assert_int_equal(in_batch, b + 1 < sampler_batches(s) ? 8 : all - 8 * b);
    }
    for (int64_t i = 0; i < all; i++) assert_int_equal(seen[i], 1);
  }
  sampler_destroy(&s);
}

// The order and the words depend on seed, epoch and sample, and on nothing else.
static void test_function_of_epoch(void **state) {
  struct fixture *f = *state;
  struct sampler_options o = options(f, "random", 8), p = options(f, "random", 5);
  struct sampler *s = NULL, *t = NULL;
  int moved = 0, kinds[3] = {0}, wordings[2] = {0};
  assert_ok(sampler_create(&o, &s));
  assert_ok(sampler_create(&p, &t));
  for (uint64_t epoch = 0; epoch < 40; epoch++) {
    assert_ok(sampler_set_epoch(s, epoch));
    assert_ok(sampler_set_epoch(t, epoch ? 0 : 3)); // whatever it did before
    assert_ok(sampler_set_epoch(t, epoch));
    for (int64_t i = 0; i < sampler_samples(s); i++) {
      struct sample_ref a, b;
      assert_ok(sampler_get(s, i, &a));
      assert_ok(sampler_get(t, i, &b));
      assert_true(a.whole == b.whole && a.pool == b.pool && a.sample == b.sample);
      assert_true(a.kind == b.kind && a.wording == b.wording);
      assert_non_null(pool_get_prompt(f->pools[a.pool], a.sample, a.kind, a.wording));
      moved += a.whole != i;
      kinds[a.kind]++;
      if (a.kind == 2) wordings[a.wording]++;
      if (a.sample % 5 == 0) assert_int_equal(a.kind, 1); // the only one that it has but p0
    }
  }
  assert_true(moved > 0);
  assert_int_equal(kinds[0], 0); // never p0
  assert_true(kinds[1] > 300 && kinds[2] > 300 && wordings[0] > 150 && wordings[1] > 150);
  sampler_destroy(&s);
  sampler_destroy(&t);
}

static void test_missing(void **state) {
  struct fixture *f = *state;
  struct sampler_options o = options(f, "p6", 8);
  struct sampler *s = NULL;
  const int64_t *whole;
  assert_ok(sampler_create(&o, &s));
  int64_t lacking = sampler_missing(s, &whole);
  assert_int_equal(lacking, (f->samples[0] + 4) / 5 + (f->samples[1] + 4) / 5);
  assert_int_equal(sampler_samples(s) + lacking, f->samples[0] + f->samples[1]);
  for (int64_t i = 0; i < lacking; i++) {
    int pool;
    int64_t sample;
    sampler_locate(s, whole[i], &pool, &sample);
    assert_int_equal(sample % 5, 0);
  }
  sampler_destroy(&s);
  o.prompt = "p9";
  assert_fails(ERR_ARG, sampler_create(&o, &s), "p9");
}

static void check_batch(const struct fixture *f, const struct batch *b) {
  for (int64_t i = 0; i < b->count; i++) {
    struct pool_sample sample;
    assert_ok(pool_get_sample(f->pools[b->ref[i].pool], b->ref[i].sample, &sample));
    for (size_t k = 0; b->images && k < AREA * 3; k++)
      assert_int_equal(b->images[(size_t)i * AREA * 3 + k], pools_pixel(b->ref[i].pool + 1, sample.image, k));
    for (size_t k = 0; k < AREA; k++) assert_int_equal(b->masks[(size_t)i * AREA + k], pools_mask(b->ref[i].sample, k));
  }
}

static void test_prefetch(void **state) {
  struct fixture *f = *state;
  for (int depth = 2; depth <= 5; depth++) {
    struct prefetch_options o = {.sampler = options(f, "p1", 8),
                                 .rank = 1,
                                 .world = 3,
                                 .images = depth != 3,
                                 .depth = depth,
                                 .first_epoch = 2,
                                 .first_batch = 1,
                                 .epochs = 3};
    struct prefetch *p = NULL;
    struct sampler *s = NULL;
    const struct batch *b;
    assert_ok(sampler_create(&o.sampler, &s));
    assert_ok(prefetch_create(&o, &p));
    for (uint64_t epoch = 2; epoch < 5; epoch++) {
      assert_ok(sampler_set_epoch(s, epoch));
      for (int64_t index = epoch == 2; index < sampler_batches(s); index++) {
        int64_t first, count;
        assert_ok(prefetch_next(p, &b));
        assert_non_null(b);
        assert_int_equal(b->epoch, epoch);
        assert_int_equal(b->index, index);
        sampler_slice(s, index, 1, 3, &first, &count);
        assert_int_equal(b->first, first);
        assert_int_equal(b->count, count);
        assert_int_equal(b->global, index + 1 < sampler_batches(s) ? 8 : sampler_samples(s) - 8 * index);
        assert_true((b->images != NULL) == (depth != 3));
        check_batch(f, b);
      }
    }
    assert_ok(prefetch_next(p, &b));
    assert_null(b);
    assert_ok(prefetch_next(p, &b)); // and stays at its end
    assert_null(b);
    prefetch_destroy(&p);
    sampler_destroy(&s);
  }
}

static void test_stop_early(void **state) {
  struct fixture *f = *state;
  for (int taken = 0; taken < 4; taken++) { // the reader is full, waiting, or reading
    struct prefetch_options o = {.sampler = options(f, "p1", 4), .world = 1, .images = 1, .depth = 2};
    struct prefetch *p = NULL;
    const struct batch *b;
    assert_ok(prefetch_create(&o, &p));
    for (int i = 0; i < taken; i++) assert_ok(prefetch_next(p, &b));
    prefetch_destroy(&p);
  }
}

static void test_reader_error(void **state) {
  struct fixture *f = *state;
  char shard[256];
  uint8_t *bytes = NULL, pixels[AREA * 3];
  size_t size = 0;
  struct pool *pool = NULL;
  struct key key;
  (void)pools_write(f->root, "bad", SIDE, 6, 1, 3, &key);
  (void)snprintf(shard, sizeof shard, "%s/bad/train/%d/shard-00000.h5", f->root, SIDE);
  assert_ok(file_read(shard, 1 << 20, &bytes, &size));
  for (size_t k = 0; k < sizeof pixels; k++) pixels[k] = pools_pixel(3, 4, k);
  uint8_t *found = memmem(bytes, size, pixels, sizeof pixels);
  assert_non_null(found);
  found[9] ^= 4;
  assert_ok(file_write_atomic(shard, bytes, size));
  mem_free(&bytes);
  assert_ok(pool_open(f->root, "bad", "train", SIDE, 0, &pool));
  const struct pool *pools[] = {pool};
  struct prefetch_options o = {.sampler = {.pools = pools, .count = 1, .prompt = "p1", .batch = 2},
                               .world = 1,
                               .images = 1,
                               .depth = 3,
                               .epochs = 1};
  struct prefetch *p = NULL;
  const struct batch *b;
  int good = 0;
  assert_ok(prefetch_create(&o, &p));
  status_t st;
  while ((st = prefetch_next(p, &b)) == OK && b) good++;
  assert_int_equal(st, ERR_FORMAT);
  assert_int_equal(good, 3); // in order: samples 0..5 come first, image 4 begins with sample 7
  assert_fails(ERR_FORMAT, prefetch_next(p, &b), "image 4", "CRC-32"); // it stays
  prefetch_destroy(&p);
  pool_close(&pool);
}

int main(void) {
  log_set_level(LOG_ERROR);
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_once),       cmocka_unit_test(test_function_of_epoch),
                                     cmocka_unit_test(test_missing),    cmocka_unit_test(test_prefetch),
                                     cmocka_unit_test(test_stop_early), cmocka_unit_test(test_reader_error)};
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
