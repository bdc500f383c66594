// schedule.c: see schedule.h.
#include "train/schedule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void plateau_init(struct plateau *p, double lr, double factor, int64_t patience) {
  *p = (struct plateau){.factor = factor, .patience = patience, .lr = lr, .best = INFINITY};
}

bool plateau_update(struct plateau *p, double loss) {
  if (loss < p->best * (1.0 - 1e-4)) {
    p->best = loss;
    p->bad = 0;
  } else {
    p->bad++;
  }
  if (p->bad <= p->patience) return false;
  p->bad = 0;
  double lr = p->lr * p->factor;
  if (p->factor <= 0 || p->factor >= 1 || !(p->lr - lr > 1e-8)) return false;
  p->lr = lr;
  return true;
}

void early_stop_init(struct early_stop *e, int64_t patience, double delta, int64_t min_epochs) {
  *e = (struct early_stop){.patience = patience,
                           .min_epochs = min_epochs,
                           .delta = delta,
                           .reference = -INFINITY,
                           .best = -INFINITY,
                           .best_epoch = -1};
}

void early_stop_update(struct early_stop *e, double score, bool *best, bool *stop) {
  if (score - e->delta > e->reference) {
    e->reference = score;
    e->waited = 0;
  } else {
    e->waited++;
    e->due = e->due || (e->patience >= 0 && e->waited >= e->patience);
  }
  *best = score > e->best;
  if (*best) {
    e->best = score;
    e->best_epoch = e->epochs;
  }
  e->epochs++;
  *stop = e->due && e->epochs >= e->min_epochs;
}

status_t exact_put(json_t *object, const char *key, double value) {
  char text[40];
  (void)snprintf(text, sizeof text, "%a", value);
  return json_put(object, key, json_string(text));
}

status_t exact_get(const json_t *object, const char *where, const char *key, double *out) {
  const char *text;
  char *end;
  TRY(json_get_text(object, where, key, &text));
  *out = strtod(text, &end);
  if (end == text || *end || isnan(*out)) {
    return FAIL(ERR_FORMAT, "%s: '%s' must be a number such as 0x1.8p+1, met '%s'", where, key, text);
  }
  return OK;
}

status_t plateau_save(const struct plateau *p, json_t *into) {
  TRY(exact_put(into, "lr", p->lr));
  TRY(exact_put(into, "plateau_best", p->best));
  return json_put(into, "plateau_bad", json_integer(p->bad));
}

status_t plateau_load(struct plateau *p, const json_t *from, const char *where) {
  TRY(exact_get(from, where, "lr", &p->lr));
  TRY(exact_get(from, where, "plateau_best", &p->best));
  return json_get_int(from, where, "plateau_bad", 0, INT32_MAX, &p->bad);
}

status_t early_stop_save(const struct early_stop *e, json_t *into) {
  TRY(exact_put(into, "stop_reference", e->reference));
  TRY(json_put(into, "stop_waited", json_integer(e->waited)));
  TRY(json_put(into, "stop_due", json_boolean(e->due)));
  TRY(exact_put(into, "best", e->best));
  TRY(json_put(into, "best_epoch", json_integer(e->best_epoch)));
  return json_put(into, "epochs_scored", json_integer(e->epochs));
}

status_t early_stop_load(struct early_stop *e, const json_t *from, const char *where) {
  TRY(exact_get(from, where, "stop_reference", &e->reference));
  TRY(json_get_int(from, where, "stop_waited", 0, INT32_MAX, &e->waited));
  TRY(json_get_bool_or(from, where, "stop_due", false, &e->due));
  TRY(exact_get(from, where, "best", &e->best));
  TRY(json_get_int(from, where, "best_epoch", -1, INT32_MAX, &e->best_epoch));
  return json_get_int(from, where, "epochs_scored", 0, INT32_MAX, &e->epochs);
}
