// generated.h: the rule of generated weights and inputs that rule.py states in its head, in C. The published-size
// goldens commit none of them: both sides draw them from Philox by tensor name. test_generated.c holds the two together.
#ifndef GRIDSEG_TESTS_GENERATED_H
#define GRIDSEG_TESTS_GENERATED_H

#include "base/rng.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { GENERATED_SEED = 42, GENERATED_PROJECTIONS = 16 };

// word(name, i) for i = first .. first+3, `first` a multiple of 4; `stream` is rng_stream(name).
static inline void generated_words(uint64_t stream, int64_t first, uint32_t out[4]) {
  rng_block(GENERATED_SEED, stream, (uint64_t)first / 4, out);
}

static inline uint32_t generated_word(uint64_t stream, int64_t i) {
  uint32_t block[4];
  generated_words(stream, i - i % 4, block);
  return block[i % 4];
}

static inline int generated_ends(const char *name, const char *end) {
  size_t n = strlen(name), m = strlen(end);
  return n >= m && strcmp(name + n - m, end) == 0;
}

struct generated_rule {
  double centre, amplitude;
};

// The first clause of the rule that fits a tensor of `count` elements whose first dimension is `first_dim` (1 for a scalar).
static inline struct generated_rule generated_rule_of(const char *name, int64_t first_dim, int64_t count) {
  static const struct {
    const char *end;
    struct generated_rule rule;
  } by_end[] = {{"logit_scale", {2.6592, 0}},
                {"num_batches_tracked", {0, 0}},
                {"running_var", {1, 0.3}},
                {"running_mean", {0, 0.1}},
                {"bn3.weight", {0.25, 0.1}},
                {".weight", {1, 0.1}}, // norms, see below
                {"bias", {0, 0.1}},
                {"token_embedding.weight", {0, 0.5}},
                {"position_embedding.weight", {0, 0.5}},
                {"_embeddings.weight", {0, 0.5}},
                {"class_embedding", {0, 0.5}},
                {"positional_embedding", {0, 0.5}},
                {"cls_token", {0, 0.5}},
                {"pos_embed", {0, 0.5}}};
  const int64_t fan = count / first_dim;
  for (size_t i = 0; i < sizeof by_end / sizeof *by_end; i++) {
    if (!generated_ends(name, by_end[i].end)) continue;
    if (!strcmp(by_end[i].end, ".weight") && !strstr(name, "norm") && fan != 1) continue;
    return by_end[i].rule;
  }
  if (strncmp(name, "decoder.transposed_convolution.", 31) == 0 && !generated_ends(name, ".0.weight"))
    return (struct generated_rule){0, 2.0 * sqrt(3.0 / (double)first_dim)};
  if (!strcmp(name, "proj.txt.weight")) return (struct generated_rule){0, 0.1 * sqrt(3.0 / (double)fan)};
  return (struct generated_rule){0, sqrt(3.0 / (double)fan)};
}

// Fill a parameter by its public name.
static inline void generated_weight(const char *name, int64_t first_dim, int64_t count, float *out) {
  const struct generated_rule rule = generated_rule_of(name, first_dim, count);
  const float centre = (float)rule.centre, a = (float)rule.amplitude;
  const uint64_t stream = rng_stream(name);
  for (int64_t i = 0; i < count; i += 4) {
    uint32_t word[4];
    generated_words(stream, i, word);
    for (int64_t j = 0; j < 4 && i + j < count; j++) {
      const float unit = (float)(word[j] >> 8) * 0x1p-23f - 1.0f;
      const float scaled = a * unit;
      out[i + j] = centre + scaled;
    }
  }
}

// Norm and projections of a gradient as the golden files hold them: out[0] the L2 norm, out[1..16] the projections.
static inline void generated_project(const char *name, const float *g, int64_t count,
                                     double out[1 + GENERATED_PROJECTIONS]) {
  char stream_name[512];
  (void)snprintf(stream_name, sizeof stream_name, "%s#projections", name);
  const uint64_t stream = rng_stream(stream_name);
  double squares = 0.0, sum[GENERATED_PROJECTIONS] = {0};
  for (int64_t i = 0; i < count; i += 4) {
    uint32_t word[4];
    generated_words(stream, i, word);
    for (int64_t j = 0; j < 4 && i + j < count; j++) {
      const double v = (double)g[i + j];
      squares += v * v;
      for (int k = 0; k < GENERATED_PROJECTIONS; k++) sum[k] += (word[j] >> k & 1) ? -v : v;
    }
  }
  out[0] = sqrt(squares);
  for (int k = 0; k < GENERATED_PROJECTIONS; k++) out[1 + k] = sum[k];
}

// Pictures uint8 [batch,size,size,3]: `name` is "pixels" or "prompt".
static inline void generated_picture(const char *name, int batch, int size, uint8_t *out) {
  char text[64];
  (void)snprintf(text, sizeof text, "%s.coarse", name);
  const uint64_t coarse = rng_stream(text);
  (void)snprintf(text, sizeof text, "%s.fine", name);
  const uint64_t fine = rng_stream(text);
  const int64_t grid = (size + 15) / 16;
  int64_t i = 0;
  for (int b = 0; b < batch; b++)
    for (int y = 0; y < size; y++)
      for (int x = 0; x < size; x++)
        for (int c = 0; c < 3; c++, i++) {
          const int64_t cell = ((b * grid + y / 16) * grid + x / 16) * 3 + c;
          out[i] = (uint8_t)((generated_word(coarse, cell) >> 25) + (generated_word(fine, i) >> 25));
        }
}

// Masks uint8 0/1 [batch,size,size] of the published-size case: discs.
static inline void generated_masks(int batch, int size, uint8_t *out) {
  for (int b = 0; b < batch; b++) {
    const int cx = size * (3 + 2 * b) / 10, cy = size * (6 - 2 * b) / 10, r = size * (2 + b) / 10;
    for (int y = 0; y < size; y++)
      for (int x = 0; x < size; x++) *out++ = (x - cx) * (x - cx) + (y - cy) * (y - cy) < r * r;
  }
}

#endif
