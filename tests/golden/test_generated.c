// test_generated.c: generated.h draws the very bits that rule.py drew. ranks 1, label unit. The header is read here by
// hand (JSON and offsets), so that a fault of the program's own reader cannot hide one of the rule.
#include "golden/generated.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "testing.h"

struct golden {
  uint8_t *bytes;
  size_t size;
  json_t *header;
  const uint8_t *data;
};

static void golden_open(const char *file, struct golden *g) {
  char path[512];
  (void)snprintf(path, sizeof path, TEST_SOURCE_DIR "/tests/golden/%s", file);
  assert_ok(file_read(path, (size_t)8 << 20, &g->bytes, &g->size));
  uint64_t length = 0;
  memcpy(&length, g->bytes, sizeof length);
  assert_true(length < g->size - 8);
  assert_ok(json_parse(path, (const char *)g->bytes + 8, length, &g->header));
  g->data = g->bytes + 8 + length;
}

static void golden_close(struct golden *g) {
  json_decref(g->header);
  mem_free(&g->bytes);
}

// The tensor's data, its first dimension (1 for a scalar) and its number of elements.
static const void *golden_tensor(const json_t *entry, const struct golden *g, int64_t *first, int64_t *count) {
  const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
  *count = 1;
  *first = json_array_size(shape) ? (int64_t)json_integer_value(json_array_get(shape, 0)) : 1;
  for (size_t i = 0; i < json_array_size(shape); i++) *count *= (int64_t)json_integer_value(json_array_get(shape, i));
  return g->data + json_integer_value(json_array_get(offsets, 0));
}

static void tiny_weights_are_the_rule(void **state) {
  (void)state;
  for (const char *model = "abc"; *model; model++) {
    char file[64];
    (void)snprintf(file, sizeof file, "clipseg_%c/model.safetensors", *model);
    struct golden g = {0};
    golden_open(file, &g);
    const char *name = NULL;
    json_t *entry = NULL;
    int compared = 0;
    json_object_foreach(g.header, name, entry) {
      const char *type = json_string_value(json_object_get(entry, "dtype"));
      if (!type || strcmp(type, "F32") != 0) continue; // __metadata__ and position_ids
      int64_t first = 0, count = 0;
      const void *data = golden_tensor(entry, &g, &first, &count);
      float *ours = NULL;
      assert_ok(mem_alloc(&ours, (size_t)count, sizeof *ours));
      generated_weight(name, first, count, ours);
      if (memcmp(ours, data, (size_t)count * sizeof *ours) != 0) fail_msg("%s: %s differs", file, name);
      mem_free(&ours);
      compared++;
    }
    assert_true(compared > 100);
    golden_close(&g);
  }
}

static void tiny_inputs_are_the_rule(void **state) {
  (void)state;
  struct golden g = {0};
  golden_open("clipseg_a/io.safetensors", &g);
  enum { B = 2, S = 64 };
  static uint8_t ours[B * S * S * 3];
  static const char *const names[] = {"pixels", "prompt_pixels", "masks"};
  for (int i = 0; i < 3; i++) {
    int64_t first = 0, count = 0;
    const void *data = golden_tensor(json_object_get(g.header, names[i]), &g, &first, &count);
    assert_int_equal(count, i < 2 ? B * S * S * 3 : B * S * S);
    if (i < 2)
      generated_picture(i ? "prompt" : "pixels", B, S, ours);
    else
      generated_masks(B, S, ours);
    if (memcmp(ours, data, (size_t)count) != 0) fail_msg("%s differ", names[i]);
  }
  golden_close(&g);
}

static void published_size_is_the_rule(void **state) {
  (void)state;
  struct golden g = {0};
  golden_open("clipseg_full/io.safetensors", &g);
  static const struct {
    const char *name;
    int64_t first, fan; // dimensions of the published size
  } tensors[] = {
      {"clip.text_model.embeddings.token_embedding.weight", 49408, 512},
      {"clip.vision_model.embeddings.patch_embedding.weight", 768, 3 * 16 * 16},
      {"clip.vision_model.pre_layrnorm.weight", 768, 1},
      {"clip.text_model.encoder.layers.11.mlp.fc2.bias", 512, 1},
      {"decoder.transposed_convolution.2.weight", 64, 32 * 4 * 4},
  };
  for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
    char key[128];
    (void)snprintf(key, sizeof key, "first/%s", tensors[i].name);
    int64_t first = 0, count = 0;
    const void *data = golden_tensor(json_object_get(g.header, key), &g, &first, &count);
    assert_int_equal(count, 8);
    float *ours = NULL;
    const int64_t all = tensors[i].first * tensors[i].fan;
    assert_ok(mem_alloc(&ours, (size_t)all, sizeof *ours));
    generated_weight(tensors[i].name, tensors[i].first, all, ours);
    assert_memory_equal(ours, data, 8 * sizeof *ours);
    mem_free(&ours);
  }
  enum { B = 2, S = 352 };
  uint8_t *bytes = NULL;
  assert_ok(mem_alloc(&bytes, (size_t)B * S * S * 3, 1));
  static const char *const names[] = {"last/pixels", "last/prompt_pixels", "last/masks"};
  for (int i = 0; i < 3; i++) {
    int64_t first = 0, count = 0;
    const void *data = golden_tensor(json_object_get(g.header, names[i]), &g, &first, &count);
    assert_int_equal(count, 64);
    if (i < 2)
      generated_picture(i ? "prompt" : "pixels", B, S, bytes);
    else
      generated_masks(B, S, bytes);
    assert_memory_equal(bytes + (size_t)B * S * S * (i < 2 ? 3 : 1) - 64, data, 64);
  }
  mem_free(&bytes);
  golden_close(&g);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tiny_weights_are_the_rule),
      cmocka_unit_test(tiny_inputs_are_the_rule),
      cmocka_unit_test(published_size_is_the_rule),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
