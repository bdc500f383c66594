// test_clipseg.c: our CLIPSeg against transformers' CLIPSegForImageSegmentation (golden files of tests/golden/make_clipseg.py, made in
// float64): logits, loss, every gradient and the losses of five AdamW steps, at three tiny sizes, text and image conditional,
// towers frozen and trained, on every backend that is built in. ranks 1, label cpu.
#include "clipseg_truth.h"
#include "models/model.h"
#include "train/optimizer.h"

#include <math.h>

enum { MAX_BATCH = 4 };

static const char *const golden[] = {"clipseg_a", "clipseg_b", "clipseg_c"};

struct truth {
  struct model *model;
  struct safetensors *io;
  int batch, size, width; // width: padded text length
  const uint8_t *pixels, *prompts, *masks;
  int32_t *ids, *lengths;
};

static void open_truth(const char *name, struct truth *t) {
  char path[512];
  (void)snprintf(path, sizeof path, "%s/%s", GOLDEN, name);
  assert_ok(model_open(path, &t->model));
  (void)snprintf(path, sizeof path, "%s/%s/io.safetensors", GOLDEN, name);
  assert_ok(safetensors_open(path, &t->io));
  const struct safetensors_entry *e = safetensors_find(t->io, "pixels");
  t->batch = (int)e->desc.dim[0];
  t->size = (int)e->desc.dim[1];
  t->pixels = e->data;
  t->prompts = safetensors_find(t->io, "prompt_pixels")->data;
  t->masks = safetensors_find(t->io, "masks")->data;
  e = safetensors_find(t->io, "input_ids");
  t->width = (int)e->desc.dim[1];
  assert_ok(mem_alloc(&t->ids, (size_t)(t->batch * t->width), sizeof *t->ids));
  assert_ok(mem_alloc(&t->lengths, (size_t)t->batch, sizeof *t->lengths));
  memcpy(t->ids, e->data, desc_bytes(&e->desc));
  memcpy(t->lengths, safetensors_find(t->io, "lengths")->data, (size_t)t->batch * sizeof(int32_t));
  assert_true(t->batch <= MAX_BATCH);
}

static void close_truth(struct truth *t) {
  mem_free(&t->ids);
  mem_free(&t->lengths);
  safetensors_close(&t->io);
  model_close(&t->model);
}

struct running {
  struct truth truth;
  struct network *net;
  struct backend *backend;
  struct network_sample sample[MAX_BATCH];
  void *feature[2 * MAX_BATCH];
  float loss[MAX_BATCH], sums[MAX_BATCH][4];
};

static void give_sources(struct running *r, condition_t condition) {
  const struct truth *t = &r->truth;
  size_t picture = (size_t)t->size * (size_t)t->size * 3;
  for (int i = 0; i < t->batch; i++) {
    const void *image = t->pixels + (size_t)i * picture;
    const void *prompt = condition == CONDITION_TEXT ? (const void *)(t->ids + i * t->width)
                                                     : (const void *)(t->prompts + (size_t)i * picture);
    r->sample[i] = (struct network_sample){
        .image = image, .condition = prompt, .length = t->lengths[i], .mask = t->masks + (size_t)i * picture / 3};
    for (int s = 0; s < SOURCES; s++) {
      size_t bytes = network_feature_bytes(r->net, (source_t)s);
      if (!bytes) continue;
      void **feature = &r->feature[2 * i + s];
      assert_ok(mem_alloc(feature, bytes, 1));
      assert_ok(
          network_compute_feature(r->net, (source_t)s, s == SOURCE_IMAGE ? image : prompt, t->lengths[i], *feature));
      if (s == SOURCE_IMAGE)
        r->sample[i].image = *feature;
      else
        r->sample[i].condition = *feature;
    }
  }
}

static void start(struct running *r, const char *name, const char *backend, const struct network_options *o) {
  memset(r, 0, sizeof *r);
  open_truth(name, &r->truth);
  assert_ok(backend_create(backend, 2, &r->backend));
  struct network_options options = *o;
  options.size = r->truth.size;
  assert_ok(network_create(r->truth.model, r->backend, &options, &r->net));
  give_sources(r, o->condition);
}

static void stop(struct running *r) {
  for (int i = 0; i < 2 * MAX_BATCH; i++) mem_free(&r->feature[i]);
  network_destroy(&r->net);
  backend_destroy(&r->backend);
  close_truth(&r->truth);
}

static void compare_logits(struct running *r, condition_t condition, double bound) {
  char name[64];
  int64_t count;
  (void)snprintf(name, sizeof name, "%s/logits", condition == CONDITION_TEXT ? "text" : "image");
  double *want = parity_read(r->truth.io, name, &count), largest = 0, worst = 0;
  float *met = NULL;
  assert_ok(mem_alloc(&met, (size_t)count, sizeof *met));
  assert_ok(network_forward(r->net, r->sample, r->truth.batch, met));
  for (int64_t i = 0; i < count; i++) {
    if (fabs(want[i]) > largest) largest = fabs(want[i]);
    if (fabs(want[i] - (double)met[i]) > worst) worst = fabs(want[i] - (double)met[i]);
  }
  double allowed = fmax(bound * largest, 2 * parity_torch_distance(r->truth.io, name));
  if (!(worst <= allowed)) fail_msg("%s: logits differ by %g, allowed %g (largest %g)", name, worst, allowed, largest);
  mem_free(&met);
  mem_free(&want);
}

static void compare_gradients(struct running *r, const char *prefix, bool encoders, const char *condition,
                              const char *loss) {
  char name[512];
  int64_t one, count;
  (void)snprintf(name, sizeof name, "%s/grad_norm", prefix);
  double *norm = parity_read(r->truth.io, name, &one);
  size_t compared = 0, real = 0;
  for (size_t i = 0; i < network_parameter_count(r->net); i++) {
    const struct network_parameter *p = network_parameter_at(r->net, i);
    bool there = gradient_name(r->truth.io, prefix, encoders, condition, loss, p->name, name);
    if (there != p->trained) fail_msg("%s: %s has %s gradient here", prefix, p->name, p->trained ? "a" : "no");
    if (!there) continue;
    double *want = parity_read(r->truth.io, name, &count), apart = 0, size = 0;
    real = dtype_bytes(p->desc.dtype);
    const char *met = (const char *)network_gradients(r->net) + (size_t)p->offset * real;
    for (int64_t k = 0; k < count; k++) {
      double g = real == 8 ? ((const double *)met)[k] : (double)((const float *)met)[k];
      apart += (g - want[k]) * (g - want[k]);
      size += want[k] * want[k];
    }
    apart = sqrt(apart);
    size = sqrt(size);
    double allowed =
        size < 1e-6 * norm[0] ? 1e-6 * norm[0] : fmax(1e-5 * size, 2 * parity_torch_distance(r->truth.io, name));
    if (!(apart <= allowed)) fail_msg("%s: gradient differs by %g of norm %g, allowed %g", name, apart, size, allowed);
    compared++;
    mem_free(&want);
  }
  assert_true(compared > 10);
  mem_free(&norm);
}

static double mean_loss(const struct running *r) {
  double sum = 0;
  for (int i = 0; i < r->truth.batch; i++) sum += (double)r->loss[i];
  return sum / r->truth.batch;
}

// Loss, gradients, and the losses of five AdamW steps. With trained towers the features of the samples do not exist.
static void train_case(const char *directory, const char *backend, precision_t precision, condition_t condition,
                       bool encoders, loss_t loss) {
  struct running r;
  char prefix[128], name[256];
  const char *c = condition == CONDITION_TEXT ? "text" : "image";
  start(&r, directory, backend,
        &(struct network_options){
            .precision = precision, .condition = condition, .train = true, .encoders = encoders, .loss = loss});
  (void)snprintf(prefix, sizeof prefix, "%s/%s/%s", c, encoders ? "trained" : "frozen", loss_name(loss));
  (void)snprintf(name, sizeof name, "%s/losses", prefix);
  int64_t count;
  double *want = parity_read(r.truth.io, name, &count);
  struct optimizer *o;
  struct optimizer_options adam = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 1e-3, .clip = 0.5};
  assert_ok(optimizer_create(r.net, r.backend, &adam, &o));
  for (int64_t step = 0; step < count; step++) {
    assert_ok(network_step(r.net, r.sample, r.truth.batch, 1.0 / r.truth.batch, step, NULL, r.loss, r.sums, NULL));
    double met = mean_loss(&r), allowed = fmax(1e-5 * fabs(want[step]), 2 * parity_torch_distance(r.truth.io, name));
    if (!(fabs(met - want[step]) <= allowed)) {
      fail_msg("%s %s: loss %.9g before step %d, wanted %.9g", directory, prefix, met, (int)step, want[step]);
    }
    if (step == 0) compare_gradients(&r, prefix, encoders, c, loss_name(loss));
    double norm;
    assert_ok(optimizer_norm(o, &norm));
    assert_ok(optimizer_step(o, norm, 2e-3));
  }
  optimizer_destroy(&o);
  mem_free(&want);
  stop(&r);
}

static void parity(const char *backend, precision_t precision) {
  for (size_t g = 0; g < sizeof golden / sizeof *golden; g++) {
    for (int condition = 0; condition < 2; condition++) {
      for (int encoders = 0; encoders < 2; encoders++) {
        train_case(golden[g], backend, precision, (condition_t)condition, encoders != 0, LOSS_DICE_CE);
      }
      struct running r;
      start(&r, golden[g], backend,
            &(struct network_options){.precision = precision, .condition = (condition_t)condition});
      compare_logits(&r, (condition_t)condition, 1e-5);
      stop(&r);
    }
    train_case(golden[g], backend, precision, CONDITION_TEXT, false, LOSS_DICE_ONLY);
    train_case(golden[g], backend, precision, CONDITION_TEXT, false, LOSS_MONAI14);
  }
}

static void reference_fp64(void **state) {
  (void)state;
  parity("reference", PRECISION_FP64);
}

static void reference_fp32(void **state) {
  (void)state;
  parity("reference", PRECISION_FP32);
}

static void onednn_fp32(void **state) {
  (void)state;
  parity("onednn", PRECISION_FP32);
}

// bf16 rounds widths of 8 to 18 more coarsely than one of 768, where 2e-2 of the largest is asked: here torch's own bf16 autocast is
// 2.96e-2, 5.00e-2 and 1.87e-2 of the largest away from the float64 truth (torch 2.6.0 on CPU, measured once), and we may be as far.
static void onednn_bf16_logits(void **state) {
  (void)state;
  static const double torch_bf16[] = {2.96e-2, 5.00e-2, 1.87e-2};
  for (size_t g = 0; g < sizeof golden / sizeof *golden; g++) {
    struct running r;
    start(&r, golden[g], "onednn", &(struct network_options){.precision = PRECISION_BF16});
    compare_logits(&r, CONDITION_TEXT, 1.5 * torch_bf16[g]);
    stop(&r);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reference_fp64),
      cmocka_unit_test(reference_fp32),
      cmocka_unit_test(onednn_fp32),
      cmocka_unit_test(onednn_bf16_logits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
