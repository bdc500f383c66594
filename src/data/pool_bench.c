// pool_bench.c: see pool_bench.h.
#include "data/pool_bench.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/image.h"
#include "data/pool_write.h"

#include <stdio.h>
#include <stdlib.h>

enum { COUNT = 256, ROUNDS = 4 };

static status_t write_samples(struct pool_writer *w, uint8_t *pixels, size_t area) {
  static const int32_t prompt = 0;
  struct rng r;
  rng_init(&r, 1, rng_stream("pool bench"));
  for (int i = 0; i < COUNT; i++) {
    struct pool_new_image image = {.name = "image", .pixels = pixels, .original_height = 1, .original_width = 1};
    for (size_t k = 0; k < area * 3; k++) pixels[k] = (uint8_t)rng_u32(&r);
    image.crc = key_crc32(pixels, area * 3);
    TRY(key_sha256(pixels, area * 3, &image.key));
    TRY(pool_writer_add_image(w, &image));
    for (size_t k = 0; k < area; k++) pixels[k] &= 1;
    TRY(pool_writer_add_sample(w, &(struct pool_new_sample){.name = "mask",
                                                            .class_name = "",
                                                            .group = "",
                                                            .mask = pixels,
                                                            .crc = key_crc32(pixels, area),
                                                            .original_png = pixels,
                                                            .original_size = 1,
                                                            .prompt = &prompt}));
  }
  return OK;
}

static status_t write_pool(const char *root, int size, uint8_t *pixels) {
  static const char *const kind[] = {"p0"}, *const text[] = {""};
  static const prompt_source_t source[] = {PROMPT_CLASS};
  struct pool_writer *w = NULL;
  int32_t index[COUNT];
  struct key key;
  for (int i = 0; i < COUNT; i++) index[i] = i;
  struct pool_plan plan = {.root = root,
                           .name = "bench",
                           .split = "bench",
                           .size = size,
                           .images = COUNT,
                           .samples = COUNT,
                           .image_index = index,
                           .kinds = 1,
                           .wordings = 1,
                           .kind = kind,
                           .source = source,
                           .texts = 1,
                           .text = text};
  TRY(pool_writer_create(&plan, &w));
  status_t st = write_samples(w, pixels, (size_t)size * (size_t)size);
  if (st == OK) st = pool_writer_finish(w, &key);
  pool_writer_destroy(&w);
  return st;
}

static status_t read_rounds(const struct pool *pool, uint8_t *pixels, size_t area, double *rate) {
  uint64_t order[COUNT];
  struct rng r;
  double best = 0.0;
  rng_init(&r, 2, rng_stream("pool bench"));
  for (int round = 0; round <= ROUNDS; round++) { // the first warms the cache
    double start = clock_seconds();
    rng_permutation(&r, order, COUNT);
    for (int i = 0; i < COUNT; i++) {
      TRY(pool_read_image(pool, (int64_t)order[i], pixels));
      TRY(pool_read_mask(pool, (int64_t)order[i], pixels + area * 3));
    }
    double now = COUNT / (clock_seconds() - start + 1e-9);
    if (round > 0 && now > best) best = now;
  }
  *rate = best;
  return OK;
}

status_t pool_bench_read(int size, double *samples_per_second) {
  const char *temporary = getenv("TMPDIR");
  char *root = NULL;
  uint8_t *pixels = NULL;
  struct pool *pool = NULL;
  status_t st = OK;
  if (size < 1 || size > 4096) return FAIL(ERR_ARG, "a pool of size %d; wanted 1 to 4096", size);
  size_t area = (size_t)size * (size_t)size;
  TRY_GOTO(mem_format(&root, "%s/gridseg-bench-XXXXXX", temporary ? temporary : "/tmp"), done);
  if (!mkdtemp(root)) {
    mem_free(&root);
    FAIL_GOTO(done, ERR_IO, "no temporary folder can be made");
  }
  TRY_GOTO(mem_alloc(&pixels, area, 4), done);
  TRY_GOTO(write_pool(root, size, pixels), done);
  TRY_GOTO(pool_open(root, "bench", "bench", size, 0, &pool), done);
  TRY_GOTO(read_rounds(pool, pixels, area, samples_per_second), done);
done:
  pool_close(&pool);
  mem_free(&pixels);
  if (root) CLEANUP(file_remove_tree(root));
  mem_free(&root);
  return st;
}
