// fuzz_yaml.c: the YAML reader and a key table with a key of every kind, on any bytes. What was accepted must be
// written as text that is read back as the same values.
#include "base/config.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static const struct config_key keys[] = {
    {"model", CONFIG_TEXT, "''", "", 0, 0, NULL, "Text.", 0},
    {"pools.train", CONFIG_TEXTS, "", "", 0, 0, NULL, "Texts.", 0},
    {"prompt", CONFIG_TEXT, "p6", "", 0, 0, NULL, "Text.", 0},
    {"train.lr", CONFIG_REAL, "1", "", 0, 1, NULL, "Real.", CONFIG_RECIPE},
    {"train.epochs", CONFIG_INT, "1000", "", 1, 100000, NULL, "Int.", 0},
    {"train.encoders", CONFIG_BOOL, "false", "", 0, 0, NULL, "Bool.", 0},
    {"train.early_stop.delta", CONFIG_REAL, "1e-4", "", 0, 0, NULL, "Real.", 0},
    {"precision", CONFIG_CHOICE, "fp32", "", 0, 0, "fp32|bf16", "Choice.", 0},
    {"store.memory", CONFIG_BYTES, "8GiB", "", 0, 0, NULL, "Bytes.", CONFIG_FREE},
};
static const struct config_table table = {"fuzz.yaml", keys, sizeof keys / sizeof *keys};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct config *c, *again;
  char *text;
  if (config_parse(&table, "fuzz", data, size, NULL, 0, &c) != OK) return 0;
  if (config_to_yaml(c, &text) != OK) abort();
  if (config_parse(&table, "again", text, strlen(text), NULL, 0, &again) != OK) abort();
  if (config_difference(c, again)) abort();
  mem_free(&text);
  config_destroy(&again);
  config_destroy(&c);
  return 0;
}
