// pools.h: small pools for tests, written by the pool writer.
#ifndef GRIDSEG_TESTS_DATA_POOLS_H
#define GRIDSEG_TESTS_DATA_POOLS_H

#include "testing.h"

#include "base/mem.h"
#include "data/image.h"
#include "data/pool.h"
#include "data/pool_write.h"

// Pixel `k` of image `image` of pool `seed`, and of a mask.
static inline uint8_t pools_pixel(int seed, int64_t image, size_t k) {
  return (uint8_t)((size_t)seed * 31 + (size_t)image * 7 + k * k % 251);
}
static inline uint8_t pools_mask(int64_t sample, size_t k) {
  return (uint8_t)((k + (size_t)sample) % 3 == 0);
}

// ROOT/NAME/train/SIDE of `images` images; image i has 1 + i % 3 samples. Kinds p0 (empty), p1 (one wording, all
// samples), p6 (2 wordings, samples whose number is not a multiple of 5). Returns the number of samples.
static inline int64_t pools_write(const char *root, const char *name, int side, int64_t images, int shards, int seed,
                                  struct key *key) {
  static const char *const kind[] = {"p0", "p1", "p6"};
  static const prompt_source_t source[] = {PROMPT_CLASS, PROMPT_CLASS, PROMPT_GROUND_TRUTH};
  static const char *const text[] = {"", "polyp", "one small polyp", "\xc3\xa9in Polyp"};
  int32_t *index = NULL;
  int64_t samples = 0, sample = 0;
  size_t area = (size_t)side * (size_t)side;
  uint8_t *pixels = NULL;
  struct pool_writer *w = NULL;
  assert_ok(mem_alloc(&index, (size_t)images * 3, sizeof *index));
  assert_ok(mem_alloc(&pixels, area, 3));
  for (int64_t i = 0; i < images; i++)
    for (int64_t j = 0; j <= i % 3; j++) index[samples++] = (int32_t)i;
  struct pool_plan plan = {.root = root,
                           .name = name,
                           .split = "train",
                           .size = side,
                           .shards = shards,
                           .images = images,
                           .samples = samples,
                           .image_index = index,
                           .kinds = 3,
                           .wordings = 2,
                           .kind = kind,
                           .source = source,
                           .texts = 4,
                           .text = text};
  assert_ok(pool_writer_create(&plan, &w));
  for (int64_t i = 0; i < images; i++) {
    char file[64];
    (void)snprintf(file, sizeof file, "image-%d-%lld.png", seed, (long long)i);
    for (size_t k = 0; k < area * 3; k++) pixels[k] = pools_pixel(seed, i, k);
    struct pool_new_image image = {
        .name = file, .pixels = pixels, .original_height = 5, .original_width = 9, .crc = key_crc32(pixels, area * 3)};
    assert_ok(key_sha256(pixels, area * 3, &image.key));
    assert_ok(pool_writer_add_image(w, &image));
    for (; sample < samples && index[sample] == i; sample++) {
      uint8_t original[45], *png = NULL;
      size_t png_size = 0;
      int32_t prompt[6] = {0, -1, 1, -1, sample % 5 ? 2 : -1, sample % 5 ? 3 : -1};
      for (size_t k = 0; k < area; k++) pixels[k] = pools_mask(sample, k);
      for (size_t k = 0; k < 45; k++) original[k] = pools_mask(sample, k);
      struct image m = {.height = 5, .width = 9, .channels = 1, .pixels = original};
      assert_ok(image_encode_png(&m, 1, &png, &png_size));
      (void)snprintf(file, sizeof file, "mask-%lld.png", (long long)sample);
      assert_ok(pool_writer_add_sample(w, &(struct pool_new_sample){.name = file,
                                                                    .class_name = "polyp",
                                                                    .group = i % 2 ? "odd" : "even",
                                                                    .mask = pixels,
                                                                    .crc = key_crc32(pixels, area),
                                                                    .original_png = png,
                                                                    .original_size = png_size,
                                                                    .prompt = prompt}));
      mem_free(&png);
    }
  }
  assert_ok(pool_writer_finish(w, key));
  pool_writer_destroy(&w);
  mem_free(&index);
  mem_free(&pixels);
  return samples;
}

#endif
