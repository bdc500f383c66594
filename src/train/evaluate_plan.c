// evaluate_plan.c: see evaluate_plan.h.
#include "train/evaluate_plan.h"

#include "base/file.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// A text that a sample is asked with, before equal texts are joined.
struct question {
  const char *words;
  size_t row;
  double weight;
};

struct questions {
  struct question *list;
  size_t count, room;
};

static bool drawn_at_random(const struct pool_info *info, int kind) {
  return strcmp(info->prompt_kind[kind], "p0") != 0;
}

static status_t ask(struct questions *q, const char *words, size_t row, double weight) {
  TRY(mem_grow(&q->list, &q->room, q->count + 1, sizeof *q->list));
  q->list[q->count++] = (struct question){words, row, weight};
  return OK;
}

// Every text of PROMPT_RANDOM: kinds count alike, and wordings alike within their kind.
static status_t ask_random(const struct pool *pool, int64_t sample, size_t row, struct questions *q) {
  const struct pool_info *info = pool_get_info(pool);
  int kinds = 0;
  for (int k = 0; k < info->prompt_kinds; k++) {
    kinds += drawn_at_random(info, k) && pool_count_wordings(pool, sample, k) > 0;
  }
  for (int k = 0; k < info->prompt_kinds; k++) {
    int wordings = drawn_at_random(info, k) ? pool_count_wordings(pool, sample, k) : 0;
    for (int v = 0; v < wordings; v++) {
      TRY(ask(q, pool_get_prompt(pool, sample, k, v), row, 1.0 / kinds / wordings));
    }
  }
  return OK;
}

bool evaluate_has_prompt(const struct pool *pool, int64_t sample, const struct evaluate_prompt *prompt) {
  const struct pool_info *info = pool_get_info(pool);
  if (prompt->type == PROMPT_LITERAL || prompt->type == PROMPT_NONE) return true;
  if (prompt->type == PROMPT_KIND) {
    int kind = pool_find_kind(pool, prompt->text);
    return kind >= 0 && pool_count_wordings(pool, sample, kind) > 0;
  }
  for (int k = 0; k < info->prompt_kinds; k++) {
    if (drawn_at_random(info, k) && pool_count_wordings(pool, sample, k) > 0) return true;
  }
  return false;
}

// The rows of one sample, and its units: one a distinct text.
static status_t plan_sample(const struct evaluate_job *job, int64_t sample, int64_t image, struct questions *q,
                            struct evaluate_plan *plan) {
  q->count = 0;
  for (int p = 0; p < job->prompt_count; p++) {
    const struct evaluate_prompt *prompt = &job->prompts[p];
    if (!evaluate_has_prompt(job->pool, sample, prompt)) continue;
    size_t row = plan->row_count;
    TRY(mem_grow(&plan->rows, &plan->row_room, row + 1, sizeof *plan->rows));
    plan->rows[plan->row_count++] =
        (struct evaluate_row){.sample = sample, .prompt = p, .wording = prompt->type == PROMPT_RANDOM ? -1 : 0};
    if (prompt->type == PROMPT_RANDOM) {
      TRY(ask_random(job->pool, sample, row, q));
    } else if (prompt->type == PROMPT_KIND) {
      TRY(ask(q, pool_get_prompt(job->pool, sample, pool_find_kind(job->pool, prompt->text), 0), row, 1.0));
    } else {
      TRY(ask(q, prompt->text, row, 1.0));
    }
  }
  for (size_t i = 0; i < q->count; i++) {
    const char *words = q->list[i].words;
    if (!words) continue; // joined to an earlier one
    TRY(mem_grow(&plan->units, &plan->unit_room, plan->unit_count + 1, sizeof *plan->units));
    struct unit *u = &plan->units[plan->unit_count++];
    *u = (struct unit){.sample = sample, .image = image, .first_use = plan->use_count};
    for (size_t j = i; j < q->count; j++) {
      if (!q->list[j].words || strcmp(q->list[j].words, words) != 0) continue;
      TRY(mem_grow(&plan->uses, &plan->use_room, plan->use_count + 1, sizeof *plan->uses));
      plan->uses[plan->use_count++] = (struct use){q->list[j].row, q->list[j].weight};
      u->uses++;
      q->list[j].words = NULL;
    }
    // Until the texts are sorted the unit's text is its own place in them.
    u->text = plan->text_count;
    TRY(mem_grow(&plan->texts, &plan->text_room, plan->text_count + 1, sizeof *plan->texts));
    plan->texts[plan->text_count++] = (struct plan_text){.words = words, .unit = plan->unit_count - 1};
  }
  return OK;
}

static int compare_texts(const void *a, const void *b) {
  return strcmp(((const struct plan_text *)a)->words, ((const struct plan_text *)b)->words);
}

// Sort the texts and keep one of each; units then point at the one kept.
static void join_texts(struct evaluate_plan *plan) {
  size_t kept = 0;
  if (plan->text_count) qsort(plan->texts, plan->text_count, sizeof *plan->texts, compare_texts);
  for (size_t i = 0; i < plan->text_count; i++) {
    if (kept == 0 || strcmp(plan->texts[kept - 1].words, plan->texts[i].words) != 0)
      plan->texts[kept++] = plan->texts[i];
    plan->units[plan->texts[i].unit].text = kept - 1;
  }
  plan->text_count = kept;
}

struct place { // of a sample: samples of one image are brought together
  int64_t image, sample;
};

static int compare_places(const void *a, const void *b) {
  const struct place *x = a, *y = b;
  if (x->image != y->image) return x->image < y->image ? -1 : 1;
  return (x->sample > y->sample) - (x->sample < y->sample);
}

status_t evaluate_plan_make(const struct evaluate_job *job, int rank, int size, struct evaluate_plan *out) {
  status_t st = OK;
  struct place *places = NULL;
  struct questions q = {0};
  const struct pool_info *info = pool_get_info(job->pool);
  size_t count = 0;
  *out = (struct evaluate_plan){0};
  TRY_GOTO(mem_alloc(&places, (size_t)info->samples, sizeof *places), done);
  for (int64_t i = 0; i < info->samples; i++) {
    struct pool_sample sample;
    TRY_GOTO(pool_get_sample(job->pool, i, &sample), done);
    if (sample.image % size == rank) places[count++] = (struct place){sample.image, i};
  }
  qsort(places, count, sizeof *places, compare_places);
  for (size_t i = 0; i < count; i++) {
    out->images += i == 0 || places[i].image != places[i - 1].image;
    TRY_GOTO(plan_sample(job, places[i].sample, places[i].image, &q, out), done);
  }
  join_texts(out);
done:
  mem_free(&q.list);
  mem_free(&places);
  if (st != OK) evaluate_plan_free(out);
  return st;
}

void evaluate_plan_free(struct evaluate_plan *plan) {
  for (size_t i = 0; i < plan->text_count; i++) {
    mem_free(&plan->texts[i].ids);
    mem_free(&plan->texts[i].owned);
  }
  mem_free(&plan->texts);
  mem_free(&plan->rows);
  mem_free(&plan->uses);
  mem_free(&plan->units);
  *plan = (struct evaluate_plan){0};
}

// Weighted sums; a value that is NaN takes its weight out of the mean.
struct mean {
  double sum, weight;
};

static void add_value(struct mean *m, double value, double weight) {
  if (isnan(value)) return;
  m->sum += weight * value;
  m->weight += weight;
}

enum { MEASURES = sizeof(struct sample_measure) / sizeof(double), VALUES = 1 + RESOLUTIONS * MEASURES };

static void list_values(double values[VALUES], double loss, const struct sample_measure at[RESOLUTIONS]) {
  values[0] = loss;
  memcpy(values + 1, at, RESOLUTIONS * sizeof *at);
}

status_t evaluate_plan_reduce(struct evaluate_plan *plan) {
  struct mean(*means)[VALUES] = NULL;
  TRY(mem_alloc(&means, plan->row_count, sizeof *means));
  for (size_t i = 0; i < plan->unit_count; i++) {
    const struct unit *u = &plan->units[i];
    double values[VALUES];
    list_values(values, u->loss, u->at);
    for (size_t k = 0; k < u->uses; k++) {
      const struct use *use = &plan->uses[u->first_use + k];
      for (int v = 0; v < VALUES; v++) add_value(&means[use->row][v], values[v], use->weight);
    }
  }
  for (size_t r = 0; r < plan->row_count; r++) {
    double values[VALUES];
    for (int v = 0; v < VALUES; v++) {
      const struct mean *m = &means[r][v];
      values[v] = m->weight == 0 ? NAN : m->sum / m->weight;
    }
    plan->rows[r].loss = values[0];
    memcpy(plan->rows[r].at, values + 1, sizeof plan->rows[r].at);
  }
  mem_free(&means);
  return OK;
}
