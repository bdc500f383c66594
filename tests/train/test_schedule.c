// test_schedule.c: plateau and early stop against sequences of torch and Lightning (golden/make_schedule.py), and their
// state through JSON. ranks 1, label unit.
#include "testing.h"
#include "train/schedule.h"

#include <math.h>

static json_t *golden(void) {
  json_t *truth;
  assert_ok(json_read(TEST_SOURCE_DIR "/tests/train/golden/schedule.json", &truth));
  return truth;
}

static double number(const json_t *list, size_t i) {
  return json_number_value(json_array_get(list, i));
}

// Write and read a schedule in mid-sequence: it must go on as if nothing had happened.
static void pass_plateau_through_json(struct plateau *p) {
  json_t *state = json_object();
  struct plateau back = {.factor = p->factor, .patience = p->patience};
  assert_ok(plateau_save(p, state));
  assert_ok(plateau_load(&back, state, "state"));
  json_decref(state);
  assert_true(back.lr == p->lr && back.best == p->best && back.bad == p->bad);
  *p = back;
}

static void rates_fall_as_torch_s(void **state) {
  (void)state;
  json_t *truth = golden(), *c;
  size_t i, falls = 0;
  json_array_foreach(json_object_get(truth, "plateau"), i, c) {
    struct plateau p;
    const json_t *losses = json_object_get(c, "losses"), *lrs = json_object_get(c, "lrs");
    plateau_init(&p, json_number_value(json_object_get(c, "lr")), json_number_value(json_object_get(c, "factor")),
                 json_integer_value(json_object_get(c, "patience")));
    for (size_t k = 0; k < json_array_size(losses); k++) {
      falls += plateau_update(&p, number(losses, k));
      if (p.lr != number(lrs, k)) fail_msg("case %zu, epoch %zu: %.17g, torch has %.17g", i, k, p.lr, number(lrs, k));
      pass_plateau_through_json(&p);
    }
  }
  assert_true(falls > 20);
  json_decref(truth);
}

static void factor_one_never_falls(void **state) {
  (void)state;
  struct plateau p;
  plateau_init(&p, 0.5, 1.0, 0);
  for (int i = 0; i < 10; i++) assert_false(plateau_update(&p, 1.0));
  assert_true(p.lr == 0.5);
}

static void training_ends_as_lightning_s(void **state) {
  (void)state;
  json_t *truth = golden(), *c;
  size_t i;
  json_array_foreach(json_object_get(truth, "early_stop"), i, c) {
    struct early_stop e;
    const json_t *scores = json_object_get(c, "scores");
    int64_t ended = -1, best_epoch = -1;
    double best = -1;
    early_stop_init(&e, json_integer_value(json_object_get(c, "patience")),
                    json_number_value(json_object_get(c, "delta")),
                    json_integer_value(json_object_get(c, "min_epochs")));
    for (size_t k = 0; k < json_array_size(scores) && ended < 0; k++) {
      bool is_best, stop;
      early_stop_update(&e, number(scores, k), &is_best, &stop);
      assert_int_equal(is_best, number(scores, k) > best);
      if (is_best) {
        best = number(scores, k);
        best_epoch = (int64_t)k;
      }
      if (stop) ended = (int64_t)k;
      json_t *saved = json_object();
      struct early_stop back = {.patience = e.patience, .min_epochs = e.min_epochs, .delta = e.delta};
      assert_ok(early_stop_save(&e, saved));
      assert_ok(early_stop_load(&back, saved, "state"));
      json_decref(saved);
      e = back;
    }
    assert_int_equal(ended, json_integer_value(json_object_get(c, "stop")));
    assert_int_equal(e.best_epoch, best_epoch);
  }
  json_decref(truth);
}

static void exact_numbers_keep_their_bits(void **state) {
  (void)state;
  const double value[] = {0.1, -0.0, 1e-310, INFINITY, -INFINITY, 1.7976931348623157e308};
  json_t *o = json_object();
  for (size_t i = 0; i < sizeof value / sizeof *value; i++) {
    double back;
    assert_ok(exact_put(o, "x", value[i]));
    assert_ok(exact_get(o, "f", "x", &back));
    assert_memory_equal(&back, &value[i], sizeof back);
  }
  double back;
  assert_ok(json_put(o, "x", json_string("nan")));
  assert_fails(ERR_FORMAT, exact_get(o, "f.json", "x", &back), "f.json", "'x'");
  assert_ok(json_put(o, "x", json_string("1.5 ")));
  assert_fails(ERR_FORMAT, exact_get(o, "f.json", "x", &back), "1.5 ");
  json_decref(o);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rates_fall_as_torch_s),
      cmocka_unit_test(factor_one_never_falls),
      cmocka_unit_test(training_ends_as_lightning_s),
      cmocka_unit_test(exact_numbers_keep_their_bits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
