// test_train_config.c: train.yaml's table: recipe defaults, quirks, the README's reference. ranks 1, label unit.
#include "base/mem.h"
#include "testing.h"
#include "train/train_config.h"

static const struct model_arch arch = {
    .name = "clipseg",
    .recipe = {.size = 352, .lr = 2e-3, .weight_decay = 1e-3, .threshold = 0.5, .batch = 128, .plateau = true}};

#define MINIMUM "model: m\nout: o\npools: {train: [a]}\n"

static status_t resolve(const char *text, struct config **c, struct train_options *o) {
  TRY(config_parse(&train_table, "train.yaml", text, strlen(text), NULL, 0, c));
  return train_config_resolve(*c, &arch, o);
}

static void recipe_is_the_study_s(void **state) {
  (void)state;
  struct config *c;
  struct train_options o;
  assert_ok(resolve(MINIMUM, &c, &o));
  assert_int_equal(o.network.size, 352);
  assert_int_equal(o.batch, 128);
  assert_true(o.lr == 2e-3 && o.optimizer.weight_decay == 1e-3 && o.threshold == 0.5 && o.optimizer.clip == 0.5);
  assert_true(o.plateau_factor == 0.1 && o.plateau_patience == 5);
  assert_true(o.stop_patience == 20 && o.stop_delta == 1e-4 && o.stop_min_epochs == 10 && o.epochs == 1000);
  assert_int_equal(o.network.loss, LOSS_DICE_CE);
  assert_false(o.prompt_literal || o.network.encoders);
  assert_string_equal(o.prompt, "p6");
  // The text beside the run is read back as the same run.
  char *text;
  struct config *again;
  struct train_options p;
  assert_ok(config_to_yaml(c, &text));
  assert_non_null(strstr(text, "lr: 0.002\n"));
  assert_ok(resolve(text, &again, &p));
  assert_null(config_difference(c, again));
  assert_true(p.lr == o.lr && p.threshold == o.threshold);
  free(text);
  config_destroy(&again);
  config_destroy(&c);
}

static void file_wins_over_recipe(void **state) {
  (void)state;
  struct config *c;
  struct train_options o;
  assert_ok(resolve(
      MINIMUM "size: 64\nprompt: 'p6'\nprecision: bf16\ntrain: {lr: 1e-4, batch: 8, encoders: true, loss: monai14}\n"
              "store: {dir: none, memory: 2MiB}\n",
      &c, &o));
  assert_true(o.network.size == 64 && o.lr == 1e-4 && o.batch == 8 && o.network.encoders && o.prompt_literal);
  assert_int_equal(o.network.loss, LOSS_MONAI14);
  assert_int_equal(o.network.precision, PRECISION_BF16);
  assert_int_equal(o.store_memory, 2 << 20);
  config_destroy(&c);
}

static void quirks_mean_dice_only(void **state) {
  (void)state;
  struct config *c;
  struct train_options o;
  assert_ok(resolve(MINIMUM "quirks: study\n", &c, &o));
  assert_int_equal(o.network.loss, LOSS_DICE_ONLY);
  config_destroy(&c);
  assert_fails(ERR_ARG, resolve(MINIMUM "quirks: study\ntrain: {loss: dice_ce}\n", &c, &o), "train.yaml:5",
               "train.loss", "dice_only");
  config_destroy(&c);
}

static void mistakes_are_named(void **state) {
  (void)state;
  struct config *c;
  struct train_options o;
  assert_fails(ERR_ARG, resolve("model: m\nout: o\n", &c, &o), "'pools.train' is wanted");
  assert_fails(ERR_ARG, resolve(MINIMUM "train: {learning_rate: 1}\n", &c, &o), "train.yaml:4", "learning_rate");
  assert_fails(ERR_ARG, resolve(MINIMUM "train: {early_stopping: {patience: 1}}\n", &c, &o),
               "train.early_stop.patience");
  assert_fails(ERR_ARG, resolve(MINIMUM "train: {batch: 0}\n", &c, &o), "train.batch", "between 1", "'0'");
  assert_fails(ERR_ARG, resolve(MINIMUM "arch: unet\n", &c, &o), "train.yaml:4", "wanted unet", "holds clipseg");
  config_destroy(&c);
}

// Which keys make two runs different ones.
static void threads_may_change_and_the_rate_may_not(void **state) {
  (void)state;
  struct config *a, *b, *c;
  struct train_options o;
  assert_ok(resolve(MINIMUM, &a, &o));
  assert_ok(resolve(MINIMUM "threads: 3\nstore: {dir: x}\ntrain: {epochs: 5, lr: 2.0e-3}\n", &b, &o));
  assert_ok(resolve(MINIMUM "train: {lr: 0.001}\n", &c, &o));
  assert_null(config_difference(a, b));
  assert_string_equal(config_difference(a, c), "train.lr");
  config_destroy(&a);
  config_destroy(&b);
  config_destroy(&c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(recipe_is_the_study_s),
      cmocka_unit_test(file_wins_over_recipe),
      cmocka_unit_test(quirks_mean_dice_only),
      cmocka_unit_test(mistakes_are_named),
      cmocka_unit_test(threads_may_change_and_the_rate_may_not),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
