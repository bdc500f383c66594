// predict_run.c: pictures in groups: decoded and resized by all threads, run through the network, then resized back,
// thresholded and written by all threads.
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "data/overlay.h"
#include "tensor/safetensors.h"
#include "train/inference.h"
#include "train/logit.h"
#include "train/mask_file.h"
#include "train/predict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { GROUP = 16, BATCH = 16 }; // pictures held at once; decoder passes at once

struct condition {   // a prompt, ready for the network; or a plane of a model without prompts
  const char *words; // NULL: a picture, or a model with one plane
  int plane;
  char *suffix; // of file names
  int32_t *ids;
  uint8_t *pixels;
  void *feature;
  int length;
};

struct picture {
  const char *path;
  char *stem;            // of the output's name
  struct image original; // RGB
  struct image pixels;   // [S,S,3]
  status_t status;       // of reading it
  char message[512];
};

struct prediction {
  const struct predict_options *options;
  struct model *model;
  struct tokenizer *tokenizer;
  struct backend *backend;
  struct network *network;
  int size;
  float cut;
  bool one_file; // --out is a file
  struct condition *conditions;
  size_t condition_count;
  struct picture *pictures;
  size_t first, count; // the group
  float *logits;       // [GROUP][conditions][S,S]; of every picture where they are kept
  bool keep_logits;
  size_t failed;
};

static size_t area(const struct prediction *p) {
  return (size_t)p->size * (size_t)p->size;
}

static status_t open_model(struct prediction *p) {
  const struct predict_options *o = p->options;
  TRY(model_open(o->model, &p->model));
  if (!p->model->has_weights) log_warn("%s has no weights: they are drawn at random", o->model);
  p->size = o->size ? o->size : p->model->preprocess.size;
  p->cut = logit_cut(isnan(o->threshold) ? p->model->arch->recipe.threshold : o->threshold);
  bool text = model_has_text(p->model);
  if (text && !o->prompt_image && !o->prompt_count)
    return FAIL(ERR_ARG, "--prompt or --prompt-image is missing (gridseg predict --help)");
  if (!text && o->prompt_image) return FAIL(ERR_ARG, "--prompt-image: %s takes no prompts", p->model->arch->name);
  if (text && !o->prompt_image) TRY(inference_load_tokenizer(p->model, &p->tokenizer));
  TRY(backend_create(o->device, o->threads, &p->backend));
  struct network_options n = {
      .precision = o->precision, .size = p->size, .condition = o->prompt_image ? CONDITION_IMAGE : CONDITION_TEXT};
  return network_create(p->model, p->backend, &n, &p->network);
}

static status_t read_resized(const char *path, bool exif, int size, struct image *original, struct image *pixels) {
  TRY(image_read(path, 3, exif, original));
  return image_resize_bilinear(original, size, size, pixels);
}

static status_t prepare_condition(struct prediction *p, struct condition *c) {
  size_t bytes = network_feature_bytes(p->network, SOURCE_CONDITION);
  const void *input = NULL;
  if (c->words) {
    TRY(mask_readable_name(c->words, &c->suffix));
    TRY(mem_alloc(&c->ids, (size_t)tokenizer_limit(p->tokenizer), sizeof *c->ids));
    status_t st = tokenizer_encode(p->tokenizer, c->words, strlen(c->words), c->ids, &c->length);
    if (st != OK) return status_prefix(st, "--prompt '%s'", c->words);
    input = c->ids;
  } else {
    struct image original = {0}, pixels = {0};
    status_t st = read_resized(p->options->prompt_image, p->options->exif, p->size, &original, &pixels);
    image_free(&original);
    c->pixels = pixels.pixels; // the condition's from here on
    TRY(st);
    input = c->pixels;
  }
  if (bytes == 0) return OK;
  TRY(mem_alloc(&c->feature, bytes, 1));
  return network_compute_feature(p->network, SOURCE_CONDITION, input, c->length, c->feature);
}

// A model without prompts: each plane that is asked for by its class, or all of them.
static status_t prepare_planes(struct prediction *p) {
  const struct predict_options *o = p->options;
  int planes = network_planes(p->network);
  size_t asked = planes > 1 ? o->prompt_count : 0;
  if (planes == 1 && o->prompt_count) log_info("%s takes no prompts: --prompt is ignored", p->model->arch->name);
  p->condition_count = asked ? asked : (size_t)planes;
  TRY(mem_alloc(&p->conditions, p->condition_count, sizeof *p->conditions));
  for (size_t i = 0; i < p->condition_count; i++) {
    struct condition *c = &p->conditions[i];
    char number[16];
    (void)snprintf(number, sizeof number, "%zu", i);
    c->plane = asked ? model_find_plane(p->model, planes, o->prompts[i]) : (int)i;
    if (c->plane < 0) {
      return FAIL(ERR_ARG, "--prompt '%s' is none of the %d classes of %s (id2label in config.json)", o->prompts[i],
                  planes, o->model);
    }
    if (planes > 1) c->words = model_plane_label(p->model, c->plane);
    TRY(mask_readable_name(c->words ? c->words : number, &c->suffix));
  }
  return OK;
}

static status_t prepare_prompts(struct prediction *p) {
  const struct predict_options *o = p->options;
  p->condition_count = o->prompt_image ? 1 : o->prompt_count;
  TRY(mem_alloc(&p->conditions, p->condition_count, sizeof *p->conditions));
  for (size_t i = 0; i < p->condition_count; i++) {
    struct condition *c = &p->conditions[i];
    if (!o->prompt_image) c->words = o->prompts[i];
    TRY(prepare_condition(p, c));
    for (size_t j = 0; c->words && j < i; j++) {
      if (strcmp(c->words, p->conditions[j].words) == 0) return FAIL(ERR_ARG, "--prompt '%s' is there twice", c->words);
    }
  }
  return OK;
}

static status_t prepare_conditions(struct prediction *p) {
  return model_has_text(p->model) ? prepare_prompts(p) : prepare_planes(p);
}

// What a mask is of, for captions and tables.
static const char *name_condition(const struct prediction *p, const struct condition *c) {
  if (c->words) return c->words;
  return p->options->prompt_image ? p->options->prompt_image : "";
}

static bool ends_in_png(const char *path) {
  size_t n = strlen(path);
  return n > 4 && strcasecmp(path + n - 4, ".png") == 0;
}

static int compare_stems(const void *a, const void *b) {
  return strcmp((*(const struct picture *const *)a)->stem, (*(const struct picture *const *)b)->stem);
}

// Two pictures whose masks would go into one file are refused before anything is computed.
static status_t check_stems(const struct prediction *p) {
  const struct picture **sorted = NULL;
  size_t n = p->options->image_count;
  TRY(mem_alloc(&sorted, n, sizeof *sorted));
  for (size_t i = 0; i < n; i++) sorted[i] = &p->pictures[i];
  qsort(sorted, n, sizeof *sorted, compare_stems);
  status_t st = OK;
  for (size_t i = 1; st == OK && i < n; i++) {
    if (strcmp(sorted[i - 1]->stem, sorted[i]->stem) == 0) {
      st = FAIL(ERR_ARG, "%s and %s would both be written as %s.png", sorted[i - 1]->path, sorted[i]->path,
                sorted[i]->stem);
    }
  }
  mem_free(&sorted);
  return st;
}

static status_t list_pictures(struct prediction *p) {
  const struct predict_options *o = p->options;
  TRY(mem_alloc(&p->pictures, o->image_count, sizeof *p->pictures));
  for (size_t i = 0; i < o->image_count; i++) {
    const char *name = file_base_name(o->images[i]), *dot = strrchr(name, '.');
    p->pictures[i].path = o->images[i];
    TRY(mem_copy_text_n(&p->pictures[i].stem, name, dot && dot > name ? (size_t)(dot - name) : strlen(name)));
  }
  p->one_file = ends_in_png(o->out) && !file_is_directory(o->out);
  if (p->one_file && (o->image_count > 1 || p->condition_count > 1)) {
    return FAIL(ERR_ARG, "--out %s is one file, wanted a folder for %zu pictures with %zu prompts", o->out,
                o->image_count, p->condition_count);
  }
  if (p->one_file) return OK;
  TRY(check_stems(p));
  return file_make_directories(o->out);
}

static status_t read_picture(void *context, size_t item, int worker) {
  (void)worker;
  struct prediction *p = context;
  struct picture *one = &p->pictures[p->first + item];
  one->status = read_resized(one->path, p->options->exif, p->size, &one->original, &one->pixels);
  if (one->status == OK) return OK;
  if (!p->options->folder) return one->status;
  (void)snprintf(one->message, sizeof one->message, "%s", status_message());
  status_clear();
  return OK;
}

static float *logits_of(const struct prediction *p, size_t picture) {
  size_t at = p->keep_logits ? picture : picture - p->first;
  return p->logits + at * p->condition_count * area(p);
}

// One picture with every prompt.
static status_t run_picture(struct prediction *p, size_t picture) {
  status_t st = OK;
  const struct picture *one = &p->pictures[picture];
  size_t bytes = network_feature_bytes(p->network, SOURCE_IMAGE), batch = 0;
  void *feature = NULL;
  struct network_sample samples[BATCH];
  if (bytes > 0) {
    TRY_GOTO(mem_alloc(&feature, bytes, 1), done);
    TRY_GOTO(network_compute_feature(p->network, SOURCE_IMAGE, one->pixels.pixels, 0, feature), done);
  }
  for (size_t at = 0; at < p->condition_count; at += batch) {
    size_t left = p->condition_count - at;
    batch = left < BATCH ? left : BATCH;
    for (size_t i = 0; i < batch; i++) {
      const struct condition *c = &p->conditions[at + i];
      const void *input = c->pixels ? (const void *)c->pixels : (const void *)c->ids;
      samples[i] = (struct network_sample){.image = feature ? feature : one->pixels.pixels,
                                           .condition = c->feature ? c->feature : input,
                                           .length = c->length,
                                           .plane = c->plane};
    }
    TRY_GOTO(network_forward(p->network, samples, (int)batch, logits_of(p, picture) + at * area(p)), done);
  }
done:
  mem_free(&feature);
  return st;
}

static status_t name_output(const struct prediction *p, const struct picture *one, const struct condition *c,
                            const char *what, char **out) {
  const char *dash = p->condition_count > 1 ? "-" : "", *suffix = p->condition_count > 1 ? c->suffix : "";
  if (!p->one_file) return mem_format(out, "%s/%s%s%s%s.png", p->options->out, one->stem, dash, suffix, what);
  return mem_format(out, "%.*s%s.png", (int)(strlen(p->options->out) - 4), p->options->out, what);
}

// The mask over the picture, with the words below it.
static status_t write_overlay(const struct prediction *p, const struct picture *one, const struct condition *c,
                              const struct image *mask) {
  status_t st = OK;
  char *path = NULL;
  struct image drawn = {0};
  struct overlay what = overlay_default;
  what.mask = mask->pixels;
  what.caption = c->words ? c->words : file_base_name(name_condition(p, c));
  TRY_GOTO(name_output(p, one, c, "-overlay", &path), done);
  TRY_GOTO(image_overlay(&one->original, &what, &drawn), done);
  TRY_GOTO(image_write_png(path, &drawn, 8), done);
done:
  image_free(&drawn);
  mem_free(&path);
  return st;
}

static status_t write_mask(void *context, size_t item, int worker) {
  (void)worker;
  status_t st = OK;
  struct prediction *p = context;
  size_t picture = p->first + item / p->condition_count, which = item % p->condition_count;
  const struct picture *one = &p->pictures[picture];
  char *path = NULL;
  struct image mask = {.height = one->original.height, .width = one->original.width, .channels = 1};
  if (one->status != OK) return OK;
  const float *logits = logits_of(p, picture) + which * area(p);
  for (size_t i = 0; i < area(p); i++) {
    if (!isfinite(logits[i])) return FAIL(ERR_NUMERIC, "%s: logit %zu is %g", one->path, i, (double)logits[i]);
  }
  TRY_GOTO(mem_alloc(&mask.pixels, (size_t)mask.height * (size_t)mask.width, 1), done);
  TRY_GOTO(logit_to_mask(logits, p->size, mask.height, mask.width, p->cut, mask.pixels), done);
  TRY_GOTO(name_output(p, one, &p->conditions[which], "", &path), done);
  TRY_GOTO(image_write_png(path, &mask, 1), done);
  if (p->options->overlay) TRY_GOTO(write_overlay(p, one, &p->conditions[which], &mask), done);
done:
  mem_free(&path);
  mem_free(&mask.pixels);
  return st;
}

static status_t run_group(struct prediction *p) {
  TRY(parallel_for(p->count, p->options->threads, read_picture, p));
  for (size_t i = p->first; i < p->first + p->count; i++) {
    if (p->pictures[i].status != OK) {
      log_error("%s", p->pictures[i].message);
      p->failed++;
      continue;
    }
    TRY(run_picture(p, i));
  }
  TRY(parallel_for(p->count * p->condition_count, p->options->threads, write_mask, p));
  for (size_t i = p->first; i < p->first + p->count; i++) {
    image_free(&p->pictures[i].original);
    image_free(&p->pictures[i].pixels);
  }
  return OK;
}

// Logits of pictures that could not be read are zero.
static status_t write_logits(const struct prediction *p) {
  json_t *images = json_array(), *prompts = json_array();
  char *text[2] = {NULL, NULL};
  status_t st = OK;
  for (size_t i = 0; i < p->options->image_count; i++)
    (void)json_array_append_new(images, json_string(p->pictures[i].path));
  for (size_t i = 0; i < p->condition_count; i++) {
    (void)json_array_append_new(prompts, json_string(name_condition(p, &p->conditions[i])));
  }
  text[0] = json_dumps(images, JSON_COMPACT);
  text[1] = json_dumps(prompts, JSON_COMPACT);
  if (!text[0] || !text[1]) FAIL_GOTO(done, ERR_NOMEM, "no memory to write %s", p->options->logits);
  const char *const metadata[2][2] = {{"images", text[0]}, {"prompts", text[1]}};
  struct safetensors_entry entry = {
      .name = "logits",
      .desc = TENSOR_DESC(DTYPE_F32, (int64_t)p->options->image_count, (int64_t)p->condition_count, p->size, p->size),
      .data = p->logits};
  TRY_GOTO(safetensors_write(p->options->logits, &entry, 1, metadata, 2), done);
done:
  free(text[1]);
  free(text[0]);
  json_decref(prompts);
  json_decref(images);
  return st;
}

static status_t run_all(struct prediction *p) {
  size_t total = p->options->image_count, held = 0;
  double start = clock_seconds();
  p->keep_logits = p->options->logits != NULL;
  if (!size_mul((p->keep_logits || total < GROUP) ? total : GROUP, p->condition_count, &held) ||
      !size_mul(held, area(p), &held)) {
    return FAIL(ERR_NOMEM, "the logits of %zu pictures do not fit in memory", total);
  }
  TRY(mem_alloc(&p->logits, held, sizeof *p->logits));
  for (p->first = 0; p->first < total; p->first += p->count) {
    p->count = total - p->first < GROUP ? total - p->first : GROUP;
    TRY(run_group(p));
    size_t done = p->first + p->count;
    log_progress(done == total, "%zu of %zu pictures, %.1f/s", done, total,
                 (double)done / (clock_seconds() - start + 1e-9));
  }
  if (p->keep_logits) TRY(write_logits(p));
  if (p->failed == 0) return OK;
  return FAIL(ERR_FORMAT, "%zu of %zu pictures could not be read, each named above; the others are done", p->failed,
              total);
}

static void close_prediction(struct prediction *p) {
  mem_free(&p->logits);
  for (size_t i = 0; p->pictures && i < p->options->image_count; i++) {
    image_free(&p->pictures[i].original);
    image_free(&p->pictures[i].pixels);
    mem_free(&p->pictures[i].stem);
  }
  mem_free(&p->pictures);
  for (size_t i = 0; p->conditions && i < p->condition_count; i++) {
    mem_free(&p->conditions[i].suffix);
    mem_free(&p->conditions[i].ids);
    mem_free(&p->conditions[i].pixels);
    mem_free(&p->conditions[i].feature);
  }
  mem_free(&p->conditions);
  network_destroy(&p->network);
  backend_destroy(&p->backend);
  tokenizer_destroy(&p->tokenizer);
  model_close(&p->model);
}

status_t predict_run(const struct predict_options *options) {
  struct prediction p = {.options = options};
  status_t st = open_model(&p);
  if (st == OK) st = prepare_conditions(&p);
  if (st == OK) st = list_pictures(&p);
  if (st == OK) st = run_all(&p);
  close_prediction(&p);
  return st;
}
