// test_cris_full.c: CRIS of the published size (416 pixels, 146.8 million parameters) against the study's modules, from weights that both
// sides generate (tests/golden/rule.py): logits, every gradient and statistic by projections, losses of five AdamW steps. Needs about
// 8 GB of memory and some minutes. ranks 1, label long.
#include "parity.h"

static void training(void **state) {
  (void)state;
  parity_check("cris_full", "auto", PRECISION_FP32, true);
}

static void logits(void **state) {
  (void)state;
  parity_logits("cris_full", "auto", PRECISION_FP32, 1e-5);
  parity_logits("cris_full", "auto", PRECISION_BF16, 2e-2);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(logits), cmocka_unit_test(training)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
