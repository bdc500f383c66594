// test_clipseg_full.c: CLIPSeg of the published size (352 pixels, 150.7 million parameters) against transformers', from weights that both sides
// generate (tests/golden/generated.h): sampled logits, losses of five AdamW steps, every gradient by norm and 16 random projections.
// Needs about 5 GB of memory and some minutes. ranks 1, label slow.
#include "base/file.h"
#include "clipseg_truth.h"
#include "golden/generated.h"
#include "models/model.h"
#include "train/optimizer.h"

#include <math.h>

enum { BATCH = 2, SIZE = 352, PICTURE = SIZE * SIZE * 3, LIMIT = 77 };

static struct safetensors *io;
static struct model *model;
static struct backend *backend;
static char folder[512];
static uint8_t pixels[BATCH * PICTURE], prompts[BATCH * PICTURE], masks[BATCH * SIZE * SIZE];
static int32_t ids[BATCH * LIMIT], lengths[BATCH];

static void same_last_bytes(const char *name, const uint8_t *end) {
  const struct safetensors_entry *e = safetensors_find(io, name);
  assert_non_null(e);
  assert_memory_equal(end - desc_bytes(&e->desc), e->data, desc_bytes(&e->desc));
}

// The model directory: the golden config.json and every tensor by the rule.
static void write_weights(void) {
  char path[1024];
  struct network *n;
  struct network_options o = {.size = SIZE};
  (void)snprintf(path, sizeof path, "%s/clipseg_full", GOLDEN);
  assert_ok(model_open(path, &model));
  assert_ok(network_create(model, backend, &o, &n));
  size_t count = network_parameter_count(n);
  struct safetensors_entry *entry = NULL;
  assert_ok(mem_alloc(&entry, count, sizeof *entry));
  for (size_t i = 0; i < count; i++) {
    const struct network_parameter *p = network_parameter_at(n, i);
    float *data = NULL;
    int64_t elements = desc_count(&p->desc);
    assert_ok(mem_alloc(&data, (size_t)elements, sizeof *data));
    generated_weight(p->name, p->desc.rank ? p->desc.dim[0] : 1, elements, data);
    entry[i] = (struct safetensors_entry){.name = p->name, .desc = p->desc, .data = data};
  }
  (void)snprintf(path, sizeof path, "%s/model.safetensors", folder);
  assert_ok(safetensors_write(path, entry, count, NULL, 0));
  assert_ok(model_copy_files(model, model->preprocess.size, folder));
  for (size_t i = 0; i < count; i++) {
    void *data = (void *)(uintptr_t)entry[i].data;
    mem_free(&data);
  }
  mem_free(&entry);
  network_destroy(&n);
  model_close(&model);
  assert_ok(model_open(folder, &model));
}

static int set_up(void **state) {
  (void)state;
  char path[512];
  (void)snprintf(folder, sizeof folder, "%s", test_folder());
  (void)snprintf(path, sizeof path, "%s/clipseg_full/io.safetensors", GOLDEN);
  assert_ok(safetensors_open(path, &io));
  assert_ok(backend_create("auto", 0, &backend));
  write_weights();
  generated_picture("pixels", BATCH, SIZE, pixels);
  generated_picture("prompt", BATCH, SIZE, prompts);
  generated_masks(BATCH, SIZE, masks);
  same_last_bytes("last/pixels", pixels + sizeof pixels);
  same_last_bytes("last/prompt_pixels", prompts + sizeof prompts);
  same_last_bytes("last/masks", masks + sizeof masks);
  memcpy(ids, safetensors_find(io, "input_ids")->data, sizeof ids);
  memcpy(lengths, safetensors_find(io, "lengths")->data, sizeof lengths);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  model_close(&model);
  backend_destroy(&backend);
  safetensors_close(&io);
  return file_remove_tree(folder) == OK ? 0 : 1;
}

struct running {
  struct network *net;
  struct network_sample sample[BATCH];
  void *feature[BATCH][SOURCES];
};

static void start(struct running *r, const struct network_options *o) {
  memset(r, 0, sizeof *r);
  struct network_options options = *o;
  options.size = SIZE;
  assert_ok(network_create(model, backend, &options, &r->net));
  for (int i = 0; i < BATCH; i++) {
    const void *image = pixels + i * PICTURE;
    const void *prompt =
        o->condition == CONDITION_TEXT ? (const void *)(ids + i * LIMIT) : (const void *)(prompts + i * PICTURE);
    r->sample[i] = (struct network_sample){
        .image = image, .condition = prompt, .length = lengths[i], .mask = masks + i * SIZE * SIZE};
    for (int s = 0; s < SOURCES; s++) {
      size_t bytes = network_feature_bytes(r->net, (source_t)s);
      if (!bytes) continue;
      assert_ok(mem_alloc(&r->feature[i][s], bytes, 1));
      const void *input = s == SOURCE_IMAGE ? image : prompt;
      assert_ok(network_compute_feature(r->net, (source_t)s, input, lengths[i], r->feature[i][s]));
      *(s == SOURCE_IMAGE ? &r->sample[i].image : &r->sample[i].condition) = r->feature[i][s];
    }
  }
}

static void stop(struct running *r) {
  for (int i = 0; i < BATCH; i++) {
    for (int s = 0; s < SOURCES; s++) mem_free(&r->feature[i][s]);
  }
  network_destroy(&r->net);
}

static void logits(precision_t precision, condition_t condition, double bound) {
  struct running r;
  char name[64];
  int64_t count, one;
  const char *c = condition == CONDITION_TEXT ? "text" : "image";
  start(&r, &(struct network_options){.precision = precision, .condition = condition});
  float *met = NULL;
  assert_ok(mem_alloc(&met, BATCH * SIZE * SIZE, sizeof *met));
  assert_ok(network_forward(r.net, r.sample, BATCH, met));
  (void)snprintf(name, sizeof name, "%s/logits_max", c);
  double *largest = parity_read(io, name, &one), worst = 0;
  (void)snprintf(name, sizeof name, "%s/logits", c);
  double *want = parity_read(io, name, &count);
  int32_t at[512];
  const struct safetensors_entry *samples = safetensors_find(io, "samples");
  assert_int_equal(desc_bytes(&samples->desc), sizeof at);
  memcpy(at, samples->data, sizeof at);
  for (int64_t i = 0; i < count; i++) worst = fmax(worst, fabs(want[i] - (double)met[at[i]]));
  double allowed = fmax(bound * largest[0], 2 * parity_torch_distance(io, name));
  print_message("%s: logits within %.2e of the largest\n", c, worst / largest[0]);
  if (!(worst <= allowed)) fail_msg("%s differ by %g, allowed %g", name, worst, allowed);
  mem_free(&want);
  mem_free(&largest);
  mem_free(&met);
  stop(&r);
}

// The L2 distance of a gradient from the truth, estimated from 16 random projections.
static void compare_gradient(struct running *r, const struct network_parameter *p, const char *name, double whole,
                             double *worst) {
  int64_t count;
  double met[1 + GENERATED_PROJECTIONS], apart = 0, *want = parity_read(io, name, &count);
  assert_int_equal(count, 1 + GENERATED_PROJECTIONS);
  generated_project(p->name, (const float *)network_gradients(r->net) + p->offset, desc_count(&p->desc), met);
  for (int k = 1; k <= GENERATED_PROJECTIONS; k++) apart += (met[k] - want[k]) * (met[k] - want[k]);
  apart = sqrt(apart / GENERATED_PROJECTIONS);
  bool tiny = want[0] < 1e-6 * whole;
  double allowed = tiny ? 1e-6 * whole : fmax(1e-5 * want[0], 2 * parity_torch_distance(io, name));
  if (!tiny) *worst = fmax(*worst, apart / want[0]);
  if (!(apart <= allowed)) fail_msg("%s: gradient differs by %g of norm %g, allowed %g", name, apart, want[0], allowed);
  mem_free(&want);
}

static void gradients(struct running *r, const char *prefix, bool encoders, const char *condition, loss_t loss) {
  char name[512];
  int64_t one;
  size_t compared = 0;
  (void)snprintf(name, sizeof name, "%s/grad_norm", prefix);
  double *norm = parity_read(io, name, &one), worst = 0;
  for (size_t i = 0; i < network_parameter_count(r->net); i++) {
    const struct network_parameter *p = network_parameter_at(r->net, i);
    bool there = gradient_name(io, prefix, encoders, condition, loss_name(loss), p->name, name);
    if (there != p->trained) fail_msg("%s: %s has %s gradient here", prefix, p->name, p->trained ? "a" : "no");
    if (!there) continue;
    compare_gradient(r, p, name, norm[0], &worst);
    compared++;
  }
  print_message("%s: %zu gradients, worst relative distance %.2e\n", prefix, compared, worst);
  assert_true(compared > 40);
  mem_free(&norm);
}

static void train_case(condition_t condition, bool encoders, loss_t loss) {
  struct running r;
  char prefix[128], name[256];
  const char *c = condition == CONDITION_TEXT ? "text" : "image";
  int64_t count;
  start(&r, &(struct network_options){.condition = condition, .train = true, .encoders = encoders, .loss = loss});
  (void)snprintf(prefix, sizeof prefix, "%s/%s/%s", c, encoders ? "trained" : "frozen", loss_name(loss));
  (void)snprintf(name, sizeof name, "%s/losses", prefix);
  double *want = parity_read(io, name, &count);
  struct optimizer *o;
  struct optimizer_options adam = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 1e-3, .clip = 0.5};
  assert_ok(optimizer_create(r.net, backend, &adam, &o));
  for (int64_t step = 0; step < count; step++) {
    float losses[BATCH], sums[BATCH][4];
    assert_ok(network_step(r.net, r.sample, BATCH, 1.0 / BATCH, step, NULL, losses, sums, NULL));
    double met = ((double)losses[0] + (double)losses[1]) / BATCH, norm;
    double allowed = fmax(1e-5 * fabs(want[step]), 2 * parity_torch_distance(io, name));
    if (!(fabs(met - want[step]) <= allowed)) {
      fail_msg("%s: loss %.9g before step %d, wanted %.9g, allowed %g apart", prefix, met, (int)step, want[step],
               allowed);
    }
    if (step == 0) gradients(&r, prefix, encoders, c, loss);
    assert_ok(optimizer_norm(o, &norm));
    assert_ok(optimizer_step(o, norm, 2e-3));
  }
  optimizer_destroy(&o);
  mem_free(&want);
  stop(&r);
}

static void logits_fp32(void **state) {
  (void)state;
  logits(PRECISION_FP32, CONDITION_TEXT, 1e-5);
  logits(PRECISION_FP32, CONDITION_IMAGE, 1e-5);
}

static void logits_bf16(void **state) {
  (void)state;
  logits(PRECISION_BF16, CONDITION_TEXT, 2e-2);
  logits(PRECISION_BF16, CONDITION_IMAGE, 2e-2);
}

static void frozen_towers(void **state) {
  (void)state;
  train_case(CONDITION_TEXT, false, LOSS_DICE_CE);
  train_case(CONDITION_TEXT, false, LOSS_DICE_ONLY);
  train_case(CONDITION_TEXT, false, LOSS_MONAI14);
  train_case(CONDITION_IMAGE, false, LOSS_DICE_CE);
}

static void trained_towers(void **state) {
  (void)state;
  train_case(CONDITION_TEXT, true, LOSS_DICE_CE);
  train_case(CONDITION_IMAGE, true, LOSS_DICE_CE);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(logits_fp32), cmocka_unit_test(logits_bf16),
                                     cmocka_unit_test(frozen_towers), cmocka_unit_test(trained_towers)};
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
