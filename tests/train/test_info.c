// test_info.c: what `gridseg info` says of a model: its parts, what it costs (against the counts of torch.utils.flop_counter on the public
// models at their published sizes), and how weights that are not the model's are refused. ranks 1, label unit.
#include "base/file.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "tensor/safetensors.h"
#include "testing.h"
#include "train/info.h"
#include "train/parameter_tree.h"

#include <math.h>

struct opened {
  struct model *model;
  struct backend *backend;
  struct network *network;
};

static status_t open_model(struct opened *o, const char *directory, bool train) {
  *o = (struct opened){0};
  TRY(model_open(directory, &o->model));
  TRY(backend_create("reference", 1, &o->backend));
  struct network_options options = {.size = o->model->preprocess.size,
                                    .train = train,
                                    .encoders = o->model->arch->recipe.encoders,
                                    .shapes_only = true};
  return network_create(o->model, o->backend, &options, &o->network);
}

static void close_model(struct opened *o) {
  network_destroy(&o->network);
  backend_destroy(&o->backend);
  model_close(&o->model);
}

// ---- costs -----------------------------------------------------------------------------------------------------------------------

// Within two in a hundred: the counter leaves out what is no product or convolution, and a dead layer counts there.
static void assert_giga(double flops, double wanted) {
  if (fabs(1e-9 * flops - wanted) > 0.02 * wanted) fail_msg("%.2f GFLOP, wanted %.2f", 1e-9 * flops, wanted);
}

static void costs_of_the_published_sizes(void **state) {
  (void)state;
  struct opened o;
  struct network_cost one, four;
  assert_ok(open_model(&o, TEST_SOURCE_DIR "/tests/golden/clipseg_full", true));
  assert_ok(network_cost(o.network, 1, &one));
  assert_ok(network_cost(o.network, 4, &four));
  assert_giga(one.feature_flops[SOURCE_IMAGE], 91.6 * 10 / 12); // blocks 11 and 12 are never read
  assert_giga(one.feature_flops[SOURCE_CONDITION], 5.96);
  assert_giga(one.forward_flops, 1.21);
  assert_giga(four.forward_flops, 4 * 1.21);
  assert_true(one.forward_bytes > 0 && four.forward_bytes > 3 * one.forward_bytes &&
              one.step_bytes > one.forward_bytes);
  close_model(&o);

  assert_ok(open_model(&o, TEST_SOURCE_DIR "/tests/golden/cris_full", true));
  assert_ok(network_cost(o.network, 2, &four));
  assert_giga(four.forward_flops, 2 * 137.0);
  assert_giga(four.step_flops, 2 * 409.9);
  assert_true(four.feature_flops[SOURCE_IMAGE] == 0); // everything trains
  close_model(&o);

  const char *folder = test_folder();
  char path[512];
  static const char config[] = "{\"model_type\": \"unet\", \"encoder_name\": \"resnet50\"}";
  (void)snprintf(path, sizeof path, "%s/config.json", folder);
  assert_ok(file_write_atomic(path, config, sizeof config - 1));
  assert_ok(open_model(&o, folder, false));
  assert_ok(network_cost(o.network, 1, &one));
  assert_giga(one.forward_flops, 21.3 - 2.68); // 5 of 9 taps of what the decoder doubles in size
  assert_true(one.step_flops == 0 && one.step_bytes == 0);
  close_model(&o);
  assert_ok(file_remove_tree(folder));
}

// ---- the tree --------------------------------------------------------------------------------------------------------------------

// What the tree prints in so many lines, in a static buffer.
static const char *tree(const char *directory, size_t lines) {
  static char text[1 << 16];
  struct opened o;
  FILE *f = tmpfile();
  assert_non_null(f);
  assert_ok(open_model(&o, directory, true));
  assert_ok(parameter_tree_print(o.network, lines, f));
  close_model(&o);
  rewind(f);
  text[fread(text, 1, sizeof text - 1, f)] = '\0';
  (void)fclose(f);
  return text;
}

static size_t count_lines(const char *text) {
  size_t n = 0;
  for (; (text = strchr(text, '\n')); text++) n++;
  return n;
}

static void tree_of_parts(void **state) {
  (void)state;
  const char *text = tree(TEST_SOURCE_DIR "/tests/golden/clipseg_full", 30);
  assert_true(count_lines(text) <= 30);
  const char *const lines[] = {
      "clip                                              149.62 M  frozen\n",
      "    encoder.layers.0-11                            85.05 M  frozen\n", // twelve equal ones are one line
      "  layers.0-2                                        0.84 M  trains\n",
  };
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    if (!strstr(text, lines[i])) fail_msg("no line '%s' in\n%s", lines[i], text);
  }
  text = tree(TEST_SOURCE_DIR "/tests/golden/clipseg_full", 2); // never deeper than asked, and never nothing
  assert_int_equal(count_lines(text), 2);
  text = tree(TEST_SOURCE_DIR "/tests/golden/cris_full", 12);
  assert_non_null(strstr(text, "trains but for 1\n")); // logit_scale
}

static void info_prints_a_model(void **state) {
  (void)state;
  char *good[] = {"info", TEST_SOURCE_DIR "/tests/golden/clipseg_a", "--batch", "3"};
  char *twice[] = {"info", "a", "b"}, *none[] = {"info"}, *zero[] = {"info", "a", "--batch", "0"};
  assert_ok(info_command(4, good));
  assert_fails(ERR_ARG, info_command(3, twice), "usage: gridseg info");
  assert_fails(ERR_ARG, info_command(1, none), "usage: gridseg info");
  assert_fails(ERR_ARG, info_command(4, zero), "--batch");
}

// ---- weights that are not the model's --------------------------------------------------------------------------------------------

enum { MANY = 512 };

struct weights {
  struct safetensors *file;
  struct safetensors_entry entry[MANY];
  size_t count;
};

static void read_weights(struct weights *w) {
  assert_ok(safetensors_open(TEST_SOURCE_DIR "/tests/golden/clipseg_a/model.safetensors", &w->file));
  w->count = safetensors_count(w->file);
  assert_true(w->count < MANY);
  for (size_t i = 0; i < w->count; i++) w->entry[i] = *safetensors_at(w->file, i);
}

static struct safetensors_entry *entry(struct weights *w, const char *name) {
  for (size_t i = 0; i < w->count; i++) {
    if (!strcmp(w->entry[i].name, name)) return &w->entry[i];
  }
  fail_msg("no %s", name);
  return NULL;
}

static void opened_with(struct weights *w, status_t wanted, const char *const words[], size_t count) {
  const char *folder = test_folder();
  char path[512];
  struct opened o;
  struct model *model;
  assert_ok(model_open(TEST_SOURCE_DIR "/tests/golden/clipseg_a", &model));
  assert_ok(model_copy_files(model, model->preprocess.size, folder));
  model_close(&model);
  (void)snprintf(path, sizeof path, "%s/model.safetensors", folder);
  assert_ok(safetensors_write(path, w->entry, w->count, NULL, 0));
  status_t met = open_model(&o, folder, false);
  close_model(&o);
  assert_int_equal(met, wanted);
  for (size_t i = 0; i < count; i++) {
    if (!strstr(status_message(), words[i])) fail_msg("no '%s' in '%s'", words[i], status_message());
  }
  safetensors_close(&w->file);
  assert_ok(file_remove_tree(folder));
}

static void names_every_mismatch(void **state) {
  (void)state;
  struct weights w;
  read_weights(&w);
  opened_with(&w, OK, NULL, 0);

  read_weights(&w); // one misspelt, one of another shape, one too many, of a name longer than any message
  char endless[4000];
  memset(endless, 'a', sizeof endless);
  endless[sizeof endless - 1] = '\0';
  entry(&w, "decoder.film_mul.weight")->name = "decoder.film_mull.weight";
  entry(&w, "decoder.film_add.bias")->desc = TENSOR_DESC(DTYPE_F32, 1);
  w.entry[w.count] = *entry(&w, "decoder.film_add.bias");
  w.entry[w.count++].name = endless;
  const char *const told[] = {
      "1 missing, 2 surplus, 1 misshapen of 174 tensors", "missing   decoder.film_mul.weight fp32 [",
      "the nearest surplus is decoder.film_mull.weight",  "surplus   decoder.film_mull.weight fp32 [",
      "the nearest missing is decoder.film_mul.weight",   "misshapen decoder.film_add.bias is fp32 [1], wanted fp32 ["};
  opened_with(&w, ERR_FORMAT, told, sizeof told / sizeof *told);

  read_weights(&w);
  entry(&w, "decoder.film_add.bias")->desc = TENSOR_DESC(DTYPE_F32, 1);
  const char *const shape[] = {"0 missing, 0 surplus, 1 misshapen"};
  opened_with(&w, ERR_SHAPE, shape, 1);

  read_weights(&w); // one tensor of all
  w.entry[0] = *entry(&w, "decoder.film_add.bias");
  w.count = 1;
  const char *const most[] = {"173 missing, 0 surplus, 0 misshapen", "... and 170 more"};
  opened_with(&w, ERR_FORMAT, most, 2);
}

static void distance_of_names(void **state) {
  (void)state;
  static const struct {
    const char *a, *b;
    int distance;
  } cases[] = {{"", "", 0},     {"abc", "abc", 0},  {"abc", "", 3}, {"kitten", "sitting", 3},
               {"ab", "ba", 1}, {"bias", "bais", 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_int_equal(nearest_distance(cases[i].a, cases[i].b), cases[i].distance);
    assert_int_equal(nearest_distance(cases[i].b, cases[i].a), cases[i].distance);
  }
  char a[NEAREST_ROOM + 100], b[NEAREST_ROOM + 100]; // longer than the room: the rest does not count
  memset(a, 'x', sizeof a);
  memset(b, 'x', sizeof b);
  a[sizeof a - 1] = b[sizeof b - 1] = '\0';
  b[sizeof b - 2] = 'y';
  assert_int_equal(nearest_distance(a, b), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(costs_of_the_published_sizes),
      cmocka_unit_test(tree_of_parts),
      cmocka_unit_test(info_prints_a_model),
      cmocka_unit_test(names_every_mismatch),
      cmocka_unit_test(distance_of_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
