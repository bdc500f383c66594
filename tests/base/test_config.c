// test_config.c: YAML reading and the key table. ranks 1, label unit.
#include "base/config.h"
#include "base/mem.h"
#include "base/yaml.h"
#include "testing.h"

static const struct config_key keys[] = {
    {"model", CONFIG_TEXT, NULL, "", 0, 0, NULL, "The model directory.", 0},
    {"pools.root", CONFIG_TEXT, "pools", "", 0, 0, NULL, "Where pools are.", CONFIG_FREE},
    {"pools.train", CONFIG_TEXTS, "", "", 0, 0, NULL, "Pools to train on.", 0},
    {"train.lr", CONFIG_REAL, "the model's", "", 0, 1, NULL, "Learning rate.", CONFIG_RECIPE},
    {"train.epochs", CONFIG_INT, "1000", "epochs", 1, 100000, NULL, "At most so many epochs.", 0},
    {"train.encoders", CONFIG_BOOL, "false", "", 0, 0, NULL, "Train the encoders.", 0},
    {"train.early.patience", CONFIG_INT, "20", "epochs", 0, 0, NULL, "Epochs without gain.", 0},
    {"precision", CONFIG_CHOICE, "fp32", "", 0, 0, "fp32|bf16", "Arithmetic.", 0},
    {"store.memory", CONFIG_BYTES, "8GiB", "", 0, 0, NULL, "Budget | per node.", CONFIG_FREE},
};
static const struct config_table table = {"t.yaml", keys, sizeof keys / sizeof *keys};

static status_t parse(const char *text, struct config **out) {
  return config_parse(&table, "t.yaml", text, strlen(text), NULL, 0, out);
}

static void values_come_from_file_override_and_default(void **state) {
  (void)state;
  struct config *c;
  char *overrides[] = {"train.epochs=3", "store.memory=1.5 MiB", "model='a b'"};
  const char *text =
      "model: weights/x\npools: {train: [a, 'b c', \"\\u00e9\"]}\ntrain:\n  lr: 2e-3\n  encoders: true\n";
  assert_ok(config_parse(&table, "t.yaml", text, strlen(text), overrides, 3, &c));
  assert_string_equal(config_text(c, "model"), "a b");
  assert_true(config_quoted(c, "model"));
  assert_string_equal(config_text(c, "pools.root"), "pools");
  assert_int_equal(config_count(c, "pools.train"), 3);
  assert_string_equal(config_item(c, "pools.train", 2), "\xc3\xa9");
  assert_false(config_item_quoted(c, "pools.train", 0));
  assert_true(config_item_quoted(c, "pools.train", 1));
  assert_true(config_real(c, "train.lr") == 2e-3);
  assert_int_equal(config_int(c, "train.epochs"), 3);
  assert_true(config_bool(c, "train.encoders"));
  assert_int_equal(config_int(c, "train.early.patience"), 20);
  assert_int_equal(config_int(c, "store.memory"), 3 << 19);
  assert_true(config_given(c, "train.lr") && !config_given(c, "precision"));
  assert_string_equal(config_where(c, "train.lr"), "t.yaml:4");
  assert_string_equal(config_where(c, "train.epochs"), "train.epochs=3 (command line)");
  config_destroy(&c);
}

static void recipe_fills_what_is_unset(void **state) {
  (void)state;
  struct config *c;
  assert_ok(parse("model: x\npools.train: solo\n", &c));
  assert_int_equal(config_count(c, "pools.train"), 1);
  assert_ok(config_set_default(c, "train.lr", "0.25"));
  assert_ok(config_set_default(c, "precision", "bf16")); // has a value already
  assert_true(config_real(c, "train.lr") == 0.25);
  assert_string_equal(config_text(c, "precision"), "fp32");
  assert_string_equal(config_where(c, "train.lr"), "recipe");
  config_destroy(&c);
}

static void mistakes_name_place_key_and_want(void **state) {
  (void)state;
  struct config *c;
  assert_fails(ERR_ARG, parse("model: x\ntrain: {lrr: 1}\n", &c), "t.yaml:2", "'train.lrr'", "nearest is 'train.lr'");
  assert_fails(ERR_ARG, parse("model: x\nepochs: 1\n", &c), "'epochs'", "nearest is 'train.epochs'");
  assert_fails(ERR_ARG, parse("model: x\nprecison: bf16\n", &c), "nearest is 'precision'");
  assert_fails(ERR_ARG, parse("model: x\ntrain: {lr: fast}\n", &c), "t.yaml:2: train.lr", "a number", "'fast'");
  assert_fails(ERR_ARG, parse("model: x\ntrain: {lr: nan}\n", &c), "a number", "'nan'");
  assert_fails(ERR_ARG, parse("model: x\ntrain: {lr: 2}\n", &c), "between 0 and 1");
  assert_fails(ERR_ARG, parse("model: x\ntrain: {epochs: 1.5}\n", &c), "an integer", "'1.5'");
  assert_fails(ERR_ARG, parse("model: x\ntrain: {epochs: 99999999999999999999}\n", &c), "an integer");
  assert_fails(ERR_ARG, parse("model: x\nprecision: fp8\n", &c), "fp32|bf16", "'fp8'");
  assert_fails(ERR_ARG, parse("model: x\nprecision: fp\n", &c), "fp32|bf16", "'fp'");
  assert_fails(ERR_ARG, parse("model: x\nstore: {memory: lots}\n", &c), "8GiB", "'lots'");
  assert_fails(ERR_ARG, parse("model: x\ntrain: 5\n", &c), "'train' is a section", "train.lr");
  assert_fails(ERR_ARG, parse("model: {x: 1}\n", &c), "'model' is a value, not a section");
  assert_fails(ERR_ARG, parse("model: [x]\n", &c), "one value, met a list");
  assert_fails(ERR_ARG, parse("precision: bf16\n", &c), "'model' is wanted", "The model directory");
  assert_fails(ERR_ARG, parse("", &c), "'model' is wanted");
  char *override = "train.epoch=4", *bare = "train.epochs", *section = "model={a: b}";
  assert_fails(ERR_ARG, config_parse(&table, "t.yaml", "model: x", 8, &override, 1, &c), "train.epoch=4",
               "nearest is 'train.epochs'");
  assert_fails(ERR_ARG, config_parse(&table, "t.yaml", "model: x", 8, &bare, 1, &c), "key=value", "train.epochs");
  assert_fails(ERR_ARG, config_parse(&table, "t.yaml", "model: x", 8, &section, 1, &c), "met a section");
  assert_fails(ERR_ARG, config_read(&table, "/nonexistent.yaml", NULL, 0, &c), "/nonexistent.yaml");
}

static void hostile_yaml_is_refused(void **state) {
  (void)state;
  struct config *c;
  assert_fails(ERR_FORMAT, parse("model: x\nmodel: y\n", &c), "t.yaml:2", "'model'", "line 1");
  assert_fails(ERR_FORMAT, parse("model: x\ntrain: {lr: 1}\ntrain.lr: 2\n", &c), "t.yaml:3", "train.lr");
  assert_fails(ERR_FORMAT, parse("model: &a x\n", &c), "t.yaml:1", "anchors");
  assert_fails(ERR_FORMAT, parse("model: *a\n", &c), "t.yaml:1", "aliases");
  assert_fails(ERR_FORMAT, parse("train: {<<: *a}\n", &c), "t.yaml:1");
  assert_fails(ERR_FORMAT, parse("model: !!str x\n", &c), "tags");
  assert_fails(ERR_FORMAT, parse("model: x\n---\nmodel: y\n", &c), "t.yaml:2", "second document");
  assert_fails(ERR_FORMAT, parse("model: \"a\\0b\"\n", &c), "zero byte");
  assert_fails(ERR_FORMAT, parse("model:\n", &c), "'model' has no value");
  assert_fails(ERR_FORMAT, parse("model: [a, [b]]\n", &c), "list of plain values");
  assert_fails(ERR_FORMAT, parse("- a\n", &c), "key: value");
  assert_fails(ERR_FORMAT, parse("a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}\n", &c), "deeper than 8");
  assert_fails(ERR_FORMAT, parse("model: x\n  bad: [\n", &c), "t.yaml:");
  assert_fails(ERR_FORMAT, parse("model: \xff\n", &c), "t.yaml:");
  static char big[YAML_LIMIT_BYTES + 1];
  memset(big, ' ', sizeof big);
  assert_fails(ERR_FORMAT, config_parse(&table, "t.yaml", big, sizeof big, NULL, 0, &c), "limit");
  static char many[3 * YAML_LIMIT_VALUES + 32] = "pools.train: [";
  for (int i = 0; i <= YAML_LIMIT_VALUES; i++) strcpy(many + 14 + 2 * i, "a,");
  assert_fails(ERR_FORMAT, parse(many, &c), "values");
}

static void yaml_round_trip_and_difference(void **state) {
  (void)state;
  struct config *a, *b;
  char *text, *again;
  assert_ok(parse("model: \"tab\\t quote\\\" \\u2028 \\x85 \\xe9 \\\\\"\npools: {train: ['p6', p6, 'a, b', x y]}\n"
                  "train: {lr: 2e-3, early: {patience: 3}}\n",
                  &a));
  assert_ok(config_to_yaml(a, &text));
  assert_ok(parse(text, &b));
  assert_null(config_difference(a, b));
  assert_ok(config_to_yaml(b, &again));
  assert_string_equal(text, again);
  assert_non_null(strstr(text, "train:\n  lr: 2e-3\n  epochs: 1000\n  encoders: false\n  early:\n    patience: 3\n"));
  assert_string_equal(config_text(b, "model"), "tab\t quote\" \xe2\x80\xa8 \xc2\x85 \xc3\xa9 \\");
  assert_true(config_item_quoted(b, "pools.train", 0) && !config_item_quoted(b, "pools.train", 1));
  json_t *flat;
  assert_ok(config_to_json(b, &flat));
  assert_string_equal(json_string_value(json_object_get(flat, "train.early.patience")), "3");
  assert_int_equal(json_array_size(json_object_get(flat, "pools.train")), 4);
  json_decref(flat);
  config_destroy(&b);
  mem_free(&again);
  mem_free(&text);
  // A free key may differ, another may not; 0.002 is 2e-3; p6 in quotes is not p6.
  assert_ok(parse("model: m\npools: {root: x}\ntrain: {lr: 2e-3}\n", &b));
  config_destroy(&a);
  assert_ok(parse("model: m\nstore: {memory: 1}\ntrain: {lr: 0.002}\n", &a));
  assert_null(config_difference(a, b));
  config_destroy(&a);
  assert_ok(parse("model: 'm'\ntrain: {lr: 2e-3}\n", &a));
  assert_string_equal(config_difference(a, b), "model");
  config_destroy(&a);
  config_destroy(&b);
}

static void table_prints_as_help_and_markdown(void **state) {
  (void)state;
  char *text = NULL;
  size_t size;
  FILE *f = open_memstream(&text, &size);
  config_print_help(f, &table);
  config_print_markdown(f, &table);
  assert_int_equal(fclose(f), 0);
  for (size_t i = 0; i < table.count; i++) {
    const char *first = strstr(text, keys[i].name);
    assert_non_null(first);
    assert_non_null(strstr(first + 1, keys[i].name));
  }
  assert_non_null(strstr(text, "| `store.memory` | size | 8GiB | Budget \\| per node. |\n"));
  assert_non_null(strstr(text, "| `model` | text | wanted |"));
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values_come_from_file_override_and_default),
      cmocka_unit_test(recipe_fills_what_is_unset),
      cmocka_unit_test(mistakes_name_place_key_and_want),
      cmocka_unit_test(hostile_yaml_is_refused),
      cmocka_unit_test(yaml_round_trip_and_difference),
      cmocka_unit_test(table_prints_as_help_and_markdown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
