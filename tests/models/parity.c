// parity.c: see parity.h.
#include "parity.h"

#include "base/file.h"
#include "golden/generated.h"
#include "models/model.h"
#include "train/optimizer.h"

#include <math.h>

enum { MAX_BATCH = 4, NAME = 512 };

double *parity_read(const struct safetensors *io, const char *name, int64_t *count) {
  const struct safetensors_entry *e = safetensors_find(io, name);
  if (!e) fail_msg("the golden file lacks %s", name);
  struct tensor_desc d = e->desc;
  d.dtype = DTYPE_F64;
  double *out = NULL;
  assert_ok(mem_alloc(&out, (size_t)desc_count(&d), sizeof *out));
  assert_ok(safetensors_read(io, name, &d, out));
  *count = desc_count(&d);
  return out;
}

double parity_torch_distance(const struct safetensors *io, const char *name) {
  char full[NAME];
  (void)snprintf(full, sizeof full, "%s#torch", name);
  if (!safetensors_find(io, full)) return 0;
  int64_t n;
  double *v = parity_read(io, full, &n), out = v[0];
  mem_free(&v);
  return out;
}

static double read_one(const struct safetensors *io, const char *name) {
  int64_t n;
  double *v = parity_read(io, name, &n), out = v[0];
  mem_free(&v);
  return out;
}

void parity_draw_weights(struct network *n) {
  for (size_t i = 0; i < network_parameter_count(n); i++) {
    const struct network_parameter *p = network_parameter_at(n, i);
    int64_t count = desc_count(&p->desc);
    float *data = NULL;
    assert_ok(mem_alloc(&data, (size_t)count, sizeof *data));
    generated_weight(p->name, p->desc.rank ? p->desc.dim[0] : 1, count, data);
    assert_ok(network_set_parameter(n, i, data));
    mem_free(&data);
  }
}

struct parity {
  const char *golden;
  bool strict; // float64: what torch's float32 does is no excuse
  struct model *model;
  struct safetensors *io;
  struct backend *backend;
  struct network *net;
  int batch, size, text; // text: padded length of the ids, 0 without
  uint8_t *pixels, *masks;
  int32_t *ids;
  struct network_sample sample[MAX_BATCH];
  void *feature[MAX_BATCH][SOURCES];
  float loss[MAX_BATCH], sums[MAX_BATCH][4];
  float *logits; // [B,S,S]
};

// int32 [rows] or [rows,*columns], copied (mem_free); NULL where the file has none.
static int32_t *read_integers(const struct parity *t, const char *name, int rows, int *columns) {
  const struct safetensors_entry *e = safetensors_find(t->io, name);
  int32_t *out = NULL;
  if (!e) return NULL;
  assert_int_equal(e->desc.dtype, DTYPE_I32);
  assert_int_equal(e->desc.dim[0], rows);
  *columns = e->desc.rank > 1 ? (int)e->desc.dim[1] : 1;
  assert_ok(mem_alloc(&out, desc_bytes(&e->desc), 1));
  memcpy(out, e->data, desc_bytes(&e->desc));
  return out;
}

// ---- inputs --------------------------------------------------------------------------------------------------------------------------

static void same_bytes(const struct parity *t, const char *name, const uint8_t *ours, size_t bytes) {
  char last[64];
  (void)snprintf(last, sizeof last, "last/%s", name);
  const struct safetensors_entry *whole = safetensors_find(t->io, name),
                                 *e = whole ? whole : safetensors_find(t->io, last);
  assert_non_null(e);
  size_t held = desc_bytes(&e->desc);
  if (whole) assert_int_equal(held, bytes);
  assert_memory_equal(ours + bytes - held, e->data, held);
}

// Pictures and masks by the rule; what the file holds of them must be the same.
static void draw_inputs(struct parity *t) {
  size_t plane = (size_t)t->batch * (size_t)t->size * (size_t)t->size;
  assert_ok(mem_alloc(&t->pixels, plane, 3));
  assert_ok(mem_alloc(&t->masks, plane, 1));
  generated_picture("pixels", t->batch, t->size, t->pixels);
  generated_masks(t->batch, t->size, t->masks);
  int one;
  int32_t *last = read_integers(t, "last_mask", 1, &one);
  if (last) {
    assert_int_equal(t->batch, 3);
    memset(t->masks + plane / 3 * 2, *last, plane / 3);
    mem_free(&last);
  }
  same_bytes(t, "pixels", t->pixels, 3 * plane);
  same_bytes(t, "masks", t->masks, plane);
  for (int i = 0; i < t->batch; i++) {
    struct network_sample *s = &t->sample[i];
    s->image = t->pixels + plane / (size_t)t->batch * 3 * (size_t)i;
    s->mask = t->masks + plane / (size_t)t->batch * (size_t)i;
    s->number = i;
  }
}

static void give_text_and_planes(struct parity *t) {
  int one;
  t->ids = read_integers(t, "input_ids", t->batch, &t->text);
  int32_t *lengths = read_integers(t, "lengths", t->batch, &one), *planes = read_integers(t, "plane", t->batch, &one);
  assert_true(!t->ids == !lengths);
  for (int i = 0; i < t->batch; i++) {
    if (t->ids) t->sample[i].condition = t->ids + i * t->text;
    if (lengths) t->sample[i].length = lengths[i];
    if (planes) t->sample[i].plane = planes[i];
  }
  mem_free(&planes);
  mem_free(&lengths);
}

// What does not train is computed once, as in a run.
static void give_features(struct parity *t) {
  for (int i = 0; i < t->batch; i++) {
    struct network_sample *s = &t->sample[i];
    for (int k = 0; k < SOURCES; k++) {
      size_t bytes = network_feature_bytes(t->net, (source_t)k);
      if (!bytes) continue;
      const void **input = k == SOURCE_IMAGE ? &s->image : &s->condition;
      assert_ok(mem_alloc(&t->feature[i][k], bytes, 1));
      assert_ok(network_compute_feature(t->net, (source_t)k, *input, s->length, t->feature[i][k]));
      *input = t->feature[i][k];
    }
  }
}

static void start(struct parity *t, const char *golden, const char *backend, const struct network_options *o) {
  char path[NAME];
  int one;
  memset(t, 0, sizeof *t);
  t->golden = golden;
  t->strict = o->precision == PRECISION_FP64;
  (void)snprintf(path, sizeof path, "%s/%s", GOLDEN, golden);
  assert_ok(model_open(path, &t->model));
  (void)snprintf(path, sizeof path, "%s/%s/io.safetensors", GOLDEN, golden);
  assert_ok(safetensors_open(path, &t->io));
  int32_t *shape = read_integers(t, "batch_size", 2, &one);
  assert_non_null(shape);
  t->batch = shape[0];
  t->size = shape[1];
  mem_free(&shape);
  assert_true(t->batch >= 1 && t->batch <= MAX_BATCH);
  struct network_options options = *o;
  options.size = t->size;
  assert_ok(backend_create(backend, 2, &t->backend));
  assert_ok(network_create(t->model, t->backend, &options, &t->net));
  if (!t->model->has_weights) parity_draw_weights(t->net);
  assert_ok(mem_alloc(&t->logits, (size_t)t->batch * (size_t)t->size * (size_t)t->size, sizeof *t->logits));
  draw_inputs(t);
  give_text_and_planes(t);
  give_features(t);
}

static void stop(struct parity *t) {
  for (int i = 0; i < MAX_BATCH; i++) {
    for (int k = 0; k < SOURCES; k++) mem_free(&t->feature[i][k]);
  }
  mem_free(&t->logits);
  mem_free(&t->ids);
  mem_free(&t->masks);
  mem_free(&t->pixels);
  network_destroy(&t->net);
  backend_destroy(&t->backend);
  safetensors_close(&t->io);
  model_close(&t->model);
}

// How far from the golden tensor `name` we may be because torch's float32 is.
static double excuse(const struct parity *t, const char *name) {
  return t->strict ? 0 : 2 * parity_torch_distance(t->io, name);
}

// ---- comparisons ---------------------------------------------------------------------------------------------------------------------

// `met` of `count` elements against the golden tensor, whole or sampled: the largest difference.
static void compare_logits(const struct parity *t, const char *name, const float *met, int64_t count, double bound) {
  char max[NAME];
  int64_t held;
  double *want = parity_read(t->io, name, &held), largest = 0, worst = 0;
  (void)snprintf(max, sizeof max, "%s_max", name);
  bool sampled = safetensors_find(t->io, max) != NULL;
  if (!sampled) assert_int_equal(held, count);
  for (int64_t i = 0; i < held; i++) {
    int64_t at = sampled ? generated_word(rng_stream("samples"), i) % count : i;
    largest = fmax(largest, fabs(want[i]));
    worst = fmax(worst, fabs(want[i] - (double)met[at]));
  }
  if (sampled) largest = read_one(t->io, max);
  double allowed = fmax(bound * largest, excuse(t, name));
  print_message("%s %s: %.2e of the largest, allowed %.2e\n", t->golden, name, worst / largest, allowed / largest);
  if (!(worst <= allowed)) fail_msg("%s %s differ by %g, allowed %g", t->golden, name, worst, allowed);
  mem_free(&want);
}

// Evaluation, each sample asked for each plane.
static void check_evaluation(struct parity *t, double bound) {
  int planes = network_planes(t->net), kept[MAX_BATCH];
  int64_t pixels = (int64_t)t->batch * t->size * t->size;
  float *all = NULL;
  assert_ok(mem_alloc(&all, (size_t)(pixels * planes), sizeof *all));
  for (int i = 0; i < t->batch; i++) kept[i] = t->sample[i].plane;
  for (int p = 0; p < planes; p++) {
    for (int i = 0; i < t->batch; i++) t->sample[i].plane = p;
    assert_ok(network_forward(t->net, t->sample, t->batch, t->logits));
    for (int64_t i = 0; i < pixels; i++) all[i * planes + p] = t->logits[i];
  }
  for (int i = 0; i < t->batch; i++) t->sample[i].plane = kept[i];
  compare_logits(t, "eval/logits", all, pixels * planes, bound);
  mem_free(&all);
}

// What sixteen projections say of a distance has a standard deviation of 18%, of ours as of torch's: of a hundred tensors some would be
// out by that alone.
#define PROJECTION_SLACK 1.25

// The L2 distance of `met` from a golden tensor that is whole, or norm and projections; *size gets the truth's norm.
static double distance(const struct parity *t, const char *golden, const char *name, const float *met, int64_t count,
                       double *size) {
  int64_t held;
  double *want = parity_read(t->io, golden, &held), apart = 0;
  *size = 0;
  if (held == 1 + GENERATED_PROJECTIONS && held != count) {
    double projected[1 + GENERATED_PROJECTIONS];
    generated_project(name, met, count, projected);
    for (int k = 1; k < held; k++) apart += (projected[k] - want[k]) * (projected[k] - want[k]);
    apart = sqrt(apart / GENERATED_PROJECTIONS) / PROJECTION_SLACK;
    *size = want[0];
  } else {
    assert_int_equal(held, count);
    for (int64_t i = 0; i < count; i++) {
      apart += ((double)met[i] - want[i]) * ((double)met[i] - want[i]);
      *size += want[i] * want[i];
    }
    apart = sqrt(apart);
    *size = sqrt(*size);
  }
  mem_free(&want);
  return apart;
}

static float *gradient_of(const struct parity *t, const struct network_parameter *p) {
  int64_t count = desc_count(&p->desc);
  size_t real = dtype_bytes(p->desc.dtype);
  const char *met = (const char *)network_gradients(t->net) + (size_t)p->offset * real;
  float *out = NULL;
  assert_ok(mem_alloc(&out, (size_t)count, sizeof *out));
  for (int64_t i = 0; i < count; i++) {
    if (real == 8)
      out[i] = (float)((const double *)met)[i];
    else
      out[i] = ((const float *)met)[i];
  }
  return out;
}

static size_t count_golden(const struct parity *t, const char *prefix) {
  size_t found = 0;
  for (size_t i = 0; i < safetensors_count(t->io); i++) {
    const char *name = safetensors_at(t->io, i)->name;
    if (!strncmp(name, prefix, strlen(prefix)) && !strchr(name, '#')) found++;
  }
  return found;
}

static void check_gradients(const struct parity *t, const char *mode) {
  char name[NAME];
  size_t compared = 0, failed = 0;
  double worst = 0, sum = 0;
  (void)snprintf(name, sizeof name, "%s/grad_norm", mode);
  double whole = read_one(t->io, name);
  for (size_t i = 0; i < network_parameter_count(t->net); i++) {
    const struct network_parameter *p = network_parameter_at(t->net, i);
    (void)snprintf(name, sizeof name, "%s/grad/%s", mode, p->name);
    bool there = safetensors_find(t->io, name) != NULL;
    if (there != p->trained) fail_msg("%s: %s has %s gradient here", t->golden, p->name, p->trained ? "a" : "no");
    if (!there) continue;
    float *met = gradient_of(t, p);
    double size, apart = distance(t, name, p->name, met, desc_count(&p->desc), &size);
    double allowed = size < 1e-6 * whole ? 1e-6 * whole : fmax(1e-5 * size, excuse(t, name));
    worst = fmax(worst, apart / allowed);
    sum += apart / allowed;
    if (!(apart <= allowed)) {
      print_message("%s %s differs by %g of norm %g, allowed %g\n", t->golden, name, apart, size, allowed);
      failed++;
    }
    mem_free(&met);
    compared++;
  }
  (void)snprintf(name, sizeof name, "%s/grad/", mode);
  assert_int_equal(compared, count_golden(t, name));
  assert_true(compared > 0);
  print_message("%s %s: %zu gradients, on average at %.0f%% of their bounds, the worst at %.0f%%\n", t->golden, mode,
                compared, 100 * sum / (double)compared, 100 * worst);
  if (failed) fail_msg("%s %s: %zu of %zu gradients differ", t->golden, mode, failed, compared);
}

// BatchNorm's running statistics, and the counters.
static void check_statistics(const struct parity *t, const char *mode) {
  char name[NAME];
  size_t compared = 0;
  for (size_t i = 0; i < network_parameter_count(t->net); i++) {
    const struct network_parameter *p = network_parameter_at(t->net, i);
    if (!p->tracked) continue;
    int64_t count = desc_count(&p->desc);
    float *met = NULL;
    assert_ok(mem_alloc(&met, (size_t)count, sizeof *met));
    assert_ok(network_get_parameter(t->net, i, met));
    if (generated_ends(p->name, "num_batches_tracked")) {
      assert_true(count == 1 && met[0] == 1.0f);
    } else {
      (void)snprintf(name, sizeof name, "%s/state/%s", mode, p->name);
      double size, apart = distance(t, name, p->name, met, count, &size);
      // torch's distance is of the largest element here.
      double allowed = fmax(1e-5 * size, sqrt((double)count) * excuse(t, name));
      if (!(apart <= allowed))
        fail_msg("%s %s differs by %g of norm %g, allowed %g", t->golden, name, apart, size, allowed);
      compared++;
    }
    mem_free(&met);
  }
  (void)snprintf(name, sizeof name, "%s/state/", mode);
  assert_int_equal(compared, count_golden(t, name));
}

// Steps amplify rounding. The sanitizers' build has the plain kernels, which sum in another order than those that the bounds are held
// with elsewhere: there, losses after the first step may be twice as far.
#ifdef __SANITIZE_ADDRESS__
enum { DRIFT = 2 };
#else
enum { DRIFT = 1 };
#endif

static void check_training(struct parity *t, const char *mode) {
  char name[NAME];
  int64_t count, two;
  double *recipe = parity_read(t->io, "recipe", &two);
  (void)snprintf(name, sizeof name, "%s/losses", mode);
  double *want = parity_read(t->io, name, &count), excused = excuse(t, name);
  assert_int_equal(count, 6); // before each of five steps, and after the fifth
  struct optimizer *o;
  struct optimizer_options adam = {
      .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = recipe[1], .clip = 0.5};
  assert_ok(optimizer_create(t->net, t->backend, &adam, &o));
  for (int64_t step = 0; step < count; step++) {
    assert_ok(network_step(t->net, t->sample, t->batch, 1.0 / t->batch, step, NULL, t->loss, t->sums, t->logits));
    double met = 0, norm, allowed = fmax(1e-5 * fabs(want[step]), excused) * (step ? DRIFT : 1);
    for (int i = 0; i < t->batch; i++) met += (double)t->loss[i] / t->batch;
    if (!(fabs(met - want[step]) <= allowed)) {
      fail_msg("%s %s: loss %.9g before step %d, wanted %.9g, allowed %g apart", t->golden, mode, met, (int)step,
               want[step], allowed);
    }
    if (step == 0) {
      (void)snprintf(name, sizeof name, "%s/logits", mode);
      compare_logits(t, name, t->logits, (int64_t)t->batch * t->size * t->size, 1e-5);
      check_gradients(t, mode);
      check_statistics(t, mode);
    }
    assert_ok(optimizer_norm(o, &norm));
    assert_ok(optimizer_step(o, norm, recipe[0]));
  }
  optimizer_destroy(&o);
  mem_free(&want);
  mem_free(&recipe);
}

void parity_check(const char *golden, const char *backend, precision_t precision, bool encoders) {
  struct parity t;
  start(&t, golden, backend,
        &(struct network_options){.precision = precision, .train = true, .encoders = encoders, .loss = LOSS_DICE_CE});
  check_evaluation(&t, 1e-5); // of a network that trains, before it does
  check_training(&t, encoders ? "trained" : "frozen");
  stop(&t);
}

void parity_logits(const char *golden, const char *backend, precision_t precision, double bound) {
  struct parity t;
  start(&t, golden, backend, &(struct network_options){.precision = precision});
  check_evaluation(&t, bound);
  stop(&t);
}

void parity_edit_config(const char *from, const char *folder, const char *part, const char *key, const char *text) {
  char path[600];
  json_t *config, *value;
  (void)snprintf(path, sizeof path, "%s/config.json", from);
  assert_ok(json_read(path, &config));
  value = json_loads(text, JSON_DECODE_ANY, NULL);
  assert_non_null(value);
  assert_int_equal(json_object_set_new(part ? json_object_get(config, part) : config, key, value), 0);
  (void)snprintf(path, sizeof path, "%s/config.json", folder);
  assert_ok(json_write(path, config));
  json_decref(config);
}

void parity_refuses(const char *from, const struct parity_refusal *bad, size_t count) {
  char folder[512];
  (void)snprintf(folder, sizeof folder, "%s", test_folder());
  for (size_t i = 0; i < count; i++) {
    struct model *model = NULL;
    parity_edit_config(from, folder, bad[i].part, bad[i].key, bad[i].text);
    status_clear();
    status_t st = model_open(folder, &model);
    if (st == OK || !strstr(status_message(), bad[i].says) || !strstr(status_message(), "config.json"))
      fail_msg("%s = %s: wanted '%s', met '%s'", bad[i].key, bad[i].text, bad[i].says, status_message());
    model_close(&model);
  }
  assert_ok(file_remove_tree(folder));
}
