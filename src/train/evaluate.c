// evaluate.c: see evaluate.h. The units of a rank (evaluate_plan.c) pass in pieces of `batch`: pixels and masks are read by all
// threads, features found in the store or computed, one decoder pass, then every unit is measured by one thread each. A piece
// may begin within an image; what it shares with the one before stays loaded.
#include "train/evaluate.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "data/image.h"
#include "train/evaluate_plan.h"
#include "train/feature.h"
#include "train/logit.h"
#include "train/mask_file.h"
#include "train/metric.h"
#include "train/planes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct picture { // an image of the piece
  int64_t image;
  uint8_t *pixels;     // NULL where the store had the feature
  void *owned;         // a feature computed here
  const void *feature; // NULL where the network's image side is trained
  bool loaded;
};

struct target { // a sample of the piece
  int64_t sample;
  struct pool_sample info;
  uint8_t *mask, *original;
  bool loaded;
};

struct piece {
  struct picture *pictures; // [batch]
  size_t picture_count;
  struct target *targets; // [batch]
  size_t target_count;
  size_t first, count; // units
};

struct evaluation {
  const struct evaluate_job *job;
  struct evaluate_plan plan;
  struct piece piece, spare;
  size_t batch;  // of the decoder: the same on all ranks, and no more than the whole pool has
  float *logits; // [batch,S,S]
  float *planes; // [batch,S,S,P] where the study's rule for several planes is asked for, else NULL
  float cut;
  size_t image_bytes, text_bytes; // of a feature, 0: none
  char **mask_folders;            // [prompt_count], NULL: not kept
};

static void free_picture(struct picture *p) {
  mem_free(&p->pixels);
  mem_free(&p->owned);
  *p = (struct picture){0};
}

static void free_target(struct target *t) {
  mem_free(&t->mask);
  mem_free(&t->original);
  *t = (struct target){0};
}

static void free_piece(struct piece *p) {
  for (size_t i = 0; i < p->picture_count; i++) free_picture(&p->pictures[i]);
  for (size_t i = 0; i < p->target_count; i++) free_target(&p->targets[i]);
  mem_free(&p->pictures);
  mem_free(&p->targets);
}

// The key under which a feature of `source` is kept.
static status_t find_feature(struct evaluation *e, source_t source, const struct key *input, size_t bytes,
                             struct key *key, const void **out) {
  *out = NULL;
  if (!e->job->store) return OK;
  TRY(network_feature_key(e->job->network, source, input, key));
  return store_find(e->job->store, key, bytes, out);
}

static status_t compute_feature(struct evaluation *e, source_t source, const void *input, int length,
                                const struct key *key, size_t bytes, void **owned, const void **out) {
  TRY(mem_alloc(owned, bytes, 1));
  TRY(network_compute_feature(e->job->network, source, input, length, *owned));
  *out = *owned;
  if (e->job->store && e->job->keep_features) TRY(store_put(e->job->store, key, *owned, bytes));
  return OK;
}

static status_t encode_text(struct evaluation *e, struct plan_text *t) {
  const struct tokenizer *by = e->job->tokenizer;
  if (!by) return OK;
  TRY(mem_alloc(&t->ids, (size_t)tokenizer_limit(by), sizeof *t->ids));
  status_t st = tokenizer_encode(by, t->words, strlen(t->words), t->ids, &t->length);
  if (st != OK) return status_prefix(st, "prompt '%s'", t->words);
  while (e->job->pad && t->length < tokenizer_limit(by)) t->ids[t->length++] = tokenizer_end(by);
  return OK;
}

static status_t prepare_text(struct evaluation *e, struct plan_text *t) {
  struct key input, key;
  TRY(feature_text_key(t->ids, t->length, &input));
  TRY(find_feature(e, SOURCE_CONDITION, &input, e->text_bytes, &key, &t->feature));
  if (t->feature) return OK;
  return compute_feature(e, SOURCE_CONDITION, t->ids, t->length, &key, e->text_bytes, &t->owned, &t->feature);
}

// Texts of one length follow each other, so that the network is built for each length once.
static status_t prepare_texts(struct evaluation *e) {
  int limit = 0;
  for (size_t i = 0; i < e->plan.text_count; i++) {
    TRY(encode_text(e, &e->plan.texts[i]));
    if (e->plan.texts[i].length > limit) limit = e->plan.texts[i].length;
  }
  size_t done = 0;
  for (int length = 0; e->text_bytes > 0 && length <= limit; length++) {
    for (size_t i = 0; i < e->plan.text_count; i++) {
      if (e->plan.texts[i].length != length) continue;
      TRY(prepare_text(e, &e->plan.texts[i]));
      if (++done % 16 == 0)
        log_progress(0, "%s: text %zu of %zu", pool_get_info(e->job->pool)->name, done, e->plan.text_count);
    }
  }
  return OK;
}

// Move what the old piece has of `image` into the new one, or open a place for it. Returns nothing: lists are small.
static void place_picture(struct piece *old, struct piece *now, int64_t image) {
  for (size_t i = 0; i < now->picture_count; i++) {
    if (now->pictures[i].image == image) return;
  }
  struct picture *p = &now->pictures[now->picture_count++];
  *p = (struct picture){.image = image};
  for (size_t i = 0; i < old->picture_count; i++) {
    if (!old->pictures[i].loaded || old->pictures[i].image != image) continue;
    *p = old->pictures[i];
    old->pictures[i] = (struct picture){0};
  }
}

static void place_target(struct piece *old, struct piece *now, int64_t sample) {
  for (size_t i = 0; i < now->target_count; i++) {
    if (now->targets[i].sample == sample) return;
  }
  struct target *t = &now->targets[now->target_count++];
  *t = (struct target){.sample = sample};
  for (size_t i = 0; i < old->target_count; i++) {
    if (!old->targets[i].loaded || old->targets[i].sample != sample) continue;
    *t = old->targets[i];
    old->targets[i] = (struct target){0};
  }
}

static struct picture *picture_of(struct piece *p, int64_t image) {
  size_t i = 0;
  while (p->pictures[i].image != image) i++; // placed by next_piece
  return &p->pictures[i];
}

static struct target *target_of(struct piece *p, int64_t sample) {
  size_t i = 0;
  while (p->targets[i].sample != sample) i++;
  return &p->targets[i];
}

// The next `batch` units become e->piece.
static void next_piece(struct evaluation *e, size_t first) {
  struct piece *old = &e->piece, *now = &e->spare;
  size_t left = e->plan.unit_count - first, batch = e->batch;
  now->picture_count = now->target_count = 0;
  now->first = first;
  now->count = left < batch ? left : batch;
  for (size_t i = first; i < first + now->count; i++) {
    place_picture(old, now, e->plan.units[i].image);
    place_target(old, now, e->plan.units[i].sample);
  }
  for (size_t i = 0; i < old->picture_count; i++) free_picture(&old->pictures[i]);
  for (size_t i = 0; i < old->target_count; i++) free_target(&old->targets[i]);
  old->picture_count = old->target_count = 0;
  struct piece kept = e->piece;
  e->piece = e->spare;
  e->spare = kept;
}

// One picture's pixels or one sample's masks, on any thread.
static status_t load_item(void *context, size_t item, int worker) {
  (void)worker;
  struct evaluation *e = context;
  size_t area = (size_t)e->job->size * (size_t)e->job->size;
  if (item < e->piece.picture_count) {
    struct picture *p = &e->piece.pictures[item];
    if (p->loaded || p->feature) return OK;
    TRY(mem_alloc(&p->pixels, area * 3, 1));
    return pool_read_image(e->job->pool, p->image, p->pixels);
  }
  struct target *t = &e->piece.targets[item - e->piece.picture_count];
  if (t->loaded) return OK;
  TRY(pool_get_sample(e->job->pool, t->sample, &t->info));
  TRY(mem_alloc(&t->mask, area, 1));
  TRY(pool_read_mask(e->job->pool, t->sample, t->mask));
  if (e->job->resolutions[RESOLUTION_ORIGINAL]) TRY(pool_read_original_mask(e->job->pool, t->sample, &t->original));
  t->loaded = true;
  return OK;
}

static status_t load_piece(struct evaluation *e) {
  struct key input, *keys = NULL;
  status_t st = OK;
  TRY_GOTO(mem_alloc(&keys, e->piece.picture_count, sizeof *keys), done);
  for (size_t i = 0; i < e->piece.picture_count; i++) {
    struct picture *p = &e->piece.pictures[i];
    if (p->loaded || e->image_bytes == 0) continue;
    TRY_GOTO(pool_image_key(e->job->pool, p->image, &input), done);
    TRY_GOTO(find_feature(e, SOURCE_IMAGE, &input, e->image_bytes, &keys[i], &p->feature), done);
  }
  TRY_GOTO(parallel_for(e->piece.picture_count + e->piece.target_count, e->job->threads, load_item, e), done);
  for (size_t i = 0; i < e->piece.picture_count; i++) {
    struct picture *p = &e->piece.pictures[i];
    if (!p->loaded && e->image_bytes > 0 && !p->feature) {
      TRY_GOTO(compute_feature(e, SOURCE_IMAGE, p->pixels, 0, &keys[i], e->image_bytes, &p->owned, &p->feature), done);
      mem_free(&p->pixels);
    }
    p->loaded = true;
  }
done:
  mem_free(&keys);
  return st;
}

static status_t fill_sample(struct evaluation *e, const struct unit *u, struct network_sample *out) {
  const struct picture *p = picture_of(&e->piece, u->image);
  const struct target *target = target_of(&e->piece, u->sample);
  const struct plan_text *t = &e->plan.texts[u->text];
  int planes = network_planes(e->job->network);
  *out = (struct network_sample){.image = p->feature ? p->feature : p->pixels,
                                 .condition = t->feature ? t->feature : t->ids,
                                 .length = t->length,
                                 .mask = target->mask,
                                 .plane = model_find_plane(e->job->model, planes, target->info.class_name)};
  if (out->plane >= 0) return OK;
  return FAIL(
      ERR_ARG,
      "pool %s, sample %s is of class '%s', which none of the %d planes of %s is about (id2label in config.json)",
      pool_get_info(e->job->pool)->name, target->info.name, target->info.class_name, planes, e->job->model->directory);
}

// A last piece is filled up with repeats of its first unit: all passes then have one shape, for which the network is built once
// and gives the same bits whichever rank and piece a unit falls into.
static status_t run_decoder(struct evaluation *e) {
  status_t st = OK;
  size_t count = e->piece.count;
  struct network_sample *samples = NULL;
  float *loss = NULL, (*sums)[4] = NULL;
  TRY_GOTO(mem_alloc(&samples, e->batch, sizeof *samples), done);
  TRY_GOTO(mem_alloc(&loss, e->batch, sizeof *loss), done);
  TRY_GOTO(mem_alloc(&sums, e->batch, sizeof *sums), done);
  for (size_t i = 0; i < count; i++) {
    TRY_GOTO(fill_sample(e, &e->plan.units[e->piece.first + i], &samples[i]), done);
  }
  for (size_t i = count; i < e->batch; i++) samples[i] = samples[0];
  TRY_GOTO(network_loss(e->job->network, samples, (int)e->batch, loss, sums, e->logits), done);
  if (e->planes) TRY_GOTO(network_get_planes(e->job->network, e->planes), done);
  for (size_t i = 0; i < count; i++) {
    struct unit *u = &e->plan.units[e->piece.first + i];
    u->loss = (double)loss[i];
    if (isfinite(loss[i])) continue;
    FAIL_GOTO(done, ERR_NUMERIC, "pool %s, sample %s, prompt '%s': the loss is %g", pool_get_info(e->job->pool)->name,
              target_of(&e->piece, u->sample)->info.name, e->plan.texts[u->text].words, (double)loss[i]);
  }
done:
  mem_free(&sums);
  mem_free(&loss);
  mem_free(&samples);
  return st;
}

static status_t measure(const struct evaluation *e, const float *logits, const uint8_t *truth, int height, int width,
                        uint8_t **mask, struct sample_measure *out) {
  struct metrics m;
  TRY(mem_alloc(mask, (size_t)height * (size_t)width, 1));
  TRY(logit_to_mask(logits, e->job->size, height, width, e->cut, *mask));
  TRY(metric_compute(*mask, truth, height, width, METRIC_TOLERANCE, &m));
  *out = (struct sample_measure){.predicted = (double)m.counts.predicted,
                                 .truth = (double)m.counts.truth,
                                 .both = (double)m.counts.both,
                                 .dice = m.dice,
                                 .iou = m.iou,
                                 .hd95 = m.hd95,
                                 .surface_dice = m.surface_dice};
  return OK;
}

// Dice and IoU as the study has them for several planes.
static status_t measure_planes(const struct evaluation *e, size_t item, const struct target *t, int height, int width,
                               struct sample_measure *at) {
  int planes = network_planes(e->job->network), size = e->job->size;
  int own = model_find_plane(e->job->model, planes, t->info.class_name);
  bool *any = NULL;
  if (!e->planes) return OK;
  TRY(mem_alloc(&any, (size_t)planes, sizeof *any));
  const float *logits = e->planes + item * (size_t)size * (size_t)size * (size_t)planes;
  status_t st = planes_predicted(logits, size, planes, height, width, e->cut, any);
  if (st == OK) {
    at->dice = planes_mean(any, planes, own, at->dice);
    at->iou = planes_mean(any, planes, own, at->iou);
  }
  mem_free(&any);
  return st;
}

// The mask of a unit for every row that it stands for alone.
static status_t keep_mask(const struct evaluation *e, const struct unit *u, const struct target *t, uint8_t *mask) {
  struct image image = {
      .height = t->info.original_height, .width = t->info.original_width, .channels = 1, .pixels = mask};
  for (size_t k = 0; k < u->uses; k++) {
    const struct evaluate_row *row = &e->plan.rows[e->plan.uses[u->first_use + k].row];
    if (e->job->prompts[row->prompt].type == PROMPT_RANDOM) continue; // a mean of metrics has no mask
    char *path = NULL;
    status_t st = mask_path(e->mask_folders[row->prompt], t->info.name, &path);
    if (st == OK) st = image_write_png(path, &image, 1);
    mem_free(&path);
    TRY(st);
  }
  return OK;
}

static status_t measure_unit(void *context, size_t item, int worker) {
  (void)worker;
  status_t st = OK;
  struct evaluation *e = context;
  struct unit *u = &e->plan.units[e->piece.first + item];
  struct target *t = target_of(&e->piece, u->sample);
  int size = e->job->size, height = t->info.original_height, width = t->info.original_width;
  const float *logits = e->logits + item * (size_t)size * (size_t)size;
  uint8_t *mask = NULL, *original = NULL;
  static const struct sample_measure none = {NAN, NAN, NAN, NAN, NAN, NAN, NAN};
  for (int r = 0; r < RESOLUTIONS; r++) u->at[r] = none;
  if (e->job->resolutions[RESOLUTION_NETWORK]) {
    TRY_GOTO(measure(e, logits, t->mask, size, size, &mask, &u->at[RESOLUTION_NETWORK]), done);
    TRY_GOTO(measure_planes(e, item, t, size, size, &u->at[RESOLUTION_NETWORK]), done);
  }
  if (e->job->resolutions[RESOLUTION_ORIGINAL]) {
    TRY_GOTO(measure(e, logits, t->original, height, width, &original, &u->at[RESOLUTION_ORIGINAL]), done);
    TRY_GOTO(measure_planes(e, item, t, height, width, &u->at[RESOLUTION_ORIGINAL]), done);
  }
  if (!e->mask_folders) goto done;
  if (!original) {
    TRY_GOTO(mem_alloc(&original, (size_t)height * (size_t)width, 1), done);
    TRY_GOTO(logit_to_mask(logits, size, height, width, e->cut, original), done);
  }
  TRY_GOTO(keep_mask(e, u, t, original), done);
done:
  mem_free(&original);
  mem_free(&mask);
  return st;
}

static status_t open_folders(struct evaluation *e) {
  if (!e->job->mask_directory) return OK;
  TRY(mem_alloc(&e->mask_folders, (size_t)e->job->prompt_count, sizeof *e->mask_folders));
  for (int p = 0; p < e->job->prompt_count; p++) {
    char *name = NULL;
    TRY(mask_readable_name(e->job->prompts[p].text, &name));
    status_t st = file_join(&e->mask_folders[p], e->job->mask_directory, name);
    mem_free(&name);
    TRY(st);
  }
  return OK;
}

static status_t run_units(struct evaluation *e) {
  const struct evaluate_job *job = e->job;
  size_t batch = e->batch, area = (size_t)job->size * (size_t)job->size, logits = 0;
  double start = clock_seconds();
  if (!size_mul(batch, area, &logits)) return FAIL(ERR_NOMEM, "a batch of %zu does not fit in memory", batch);
  TRY(mem_alloc(&e->logits, logits, sizeof *e->logits));
  size_t planes = (size_t)network_planes(job->network), all = 0;
  if (!size_mul(logits, planes, &all)) return FAIL(ERR_NOMEM, "a batch of %zu does not fit in memory", batch);
  if (job->study && planes > 1) TRY(mem_alloc(&e->planes, all, sizeof *e->planes));
  for (int i = 0; i < 2; i++) {
    struct piece *p = i ? &e->spare : &e->piece;
    TRY(mem_alloc(&p->pictures, batch, sizeof *p->pictures));
    TRY(mem_alloc(&p->targets, batch, sizeof *p->targets));
  }
  TRY(open_folders(e));
  TRY(prepare_texts(e));
  for (size_t done = 0; done < e->plan.unit_count; done += e->piece.count) {
    next_piece(e, done);
    TRY(load_piece(e));
    TRY(run_decoder(e));
    TRY(parallel_for(e->piece.count, job->threads, measure_unit, e));
    size_t now = done + e->piece.count;
    log_progress(now == e->plan.unit_count, "%s: %zu of %zu predictions, %.1f/s", pool_get_info(job->pool)->name, now,
                 e->plan.unit_count, (double)now / (clock_seconds() - start + 1e-9));
  }
  return evaluate_plan_reduce(&e->plan);
}

static int compare_rows(const void *a, const void *b) {
  const struct evaluate_row *x = a, *y = b;
  if (x->prompt != y->prompt) return x->prompt < y->prompt ? -1 : 1;
  return (x->sample > y->sample) - (x->sample < y->sample);
}

// Every (prompt, sample) of the pool that can be asked is there once.
static status_t check_rows(const struct evaluate_job *job, const struct evaluate_row *rows, size_t count) {
  const struct pool_info *info = pool_get_info(job->pool);
  size_t at = 0;
  for (int p = 0; p < job->prompt_count; p++) {
    for (int64_t i = 0; i < info->samples; i++) {
      if (!evaluate_has_prompt(job->pool, i, &job->prompts[p])) continue;
      if (at >= count || rows[at].prompt != p || rows[at].sample != i) {
        return FAIL(ERR_COMM, "pool %s: prompt %s was not measured exactly once on sample %lld: the ranks disagree",
                    info->name, job->prompts[p].text, (long long)i);
      }
      at++;
    }
  }
  if (at != count) return FAIL(ERR_COMM, "pool %s: %zu measurements, wanted %zu", info->name, count, at);
  return OK;
}

static status_t run_all(struct evaluation *e) {
  const struct evaluate_job *job = e->job;
  double units = 0;
  TRY(comm_agree(job->comm, evaluate_plan_make(job, comm_rank(job->comm), comm_size(job->comm), &e->plan)));
  units = (double)e->plan.unit_count;
  TRY(comm_sum_f64(job->comm, &units, 1));
  e->batch = units < job->batch ? (size_t)units : (size_t)job->batch;
  status_t st = e->plan.unit_count > 0 ? run_units(e) : OK;
  if (st == OK && job->store && job->keep_features) st = store_commit(job->store);
  return comm_agree(job->comm, st);
}

status_t evaluate_pool(const struct evaluate_job *job, struct evaluate_row **rows, size_t *count) {
  status_t st = OK;
  struct evaluation e = {.job = job, .cut = logit_cut(job->threshold)};
  size_t *sizes = NULL;
  int world = comm_size(job->comm), root = comm_rank(job->comm) == 0;
  *rows = NULL;
  *count = 0;
  e.image_bytes = network_feature_bytes(job->network, SOURCE_IMAGE);
  e.text_bytes = network_feature_bytes(job->network, SOURCE_CONDITION);
  TRY_GOTO(comm_agree(job->comm, mem_alloc(&sizes, (size_t)world, sizeof *sizes)), done);
  TRY_GOTO(run_all(&e), done);
  TRY_GOTO(comm_gather(job->comm, e.plan.rows, e.plan.row_count * sizeof *e.plan.rows, (void **)rows, sizes, 0), done);
  if (root) {
    for (int r = 0; r < world; r++) *count += sizes[r] / sizeof **rows;
    if (*count) qsort(*rows, *count, sizeof **rows, compare_rows);
    st = check_rows(job, *rows, *count);
  }
  st = comm_agree(job->comm, st);
done:
  if (st != OK) {
    mem_free(rows);
    *count = 0;
  }
  for (int p = 0; e.mask_folders && p < job->prompt_count; p++) mem_free(&e.mask_folders[p]);
  mem_free(&e.mask_folders);
  free_piece(&e.spare);
  free_piece(&e.piece);
  mem_free(&e.planes);
  mem_free(&e.logits);
  evaluate_plan_free(&e.plan);
  mem_free(&sizes);
  return st;
}
