// test_biomedclipseg_full.c: BiomedCLIPSeg of the published size (224 pixels, 196 million parameters, texts of 256 tokens) against open_clip's
// and transformers', from weights that both sides generate (tests/golden/make_biomed.py): sampled logits, losses of five AdamW steps,
// every gradient by norm and 16 random projections, with frozen towers as the study has them, and training all of it. Needs about 5 GB
// of memory and a minute. ranks 1, label slow.
#include "parity.h"

static void towers_frozen(void **state) {
  (void)state;
  parity_check("biomed_full", "onednn", PRECISION_FP32, false);
}

static void towers_trained(void **state) {
  (void)state;
  parity_check("biomed_full", "onednn", PRECISION_FP32, true);
}

static void bf16_logits(void **state) {
  (void)state;
  parity_logits("biomed_full", "onednn", PRECISION_BF16, 2e-2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(towers_frozen),
      cmocka_unit_test(towers_trained),
      cmocka_unit_test(bf16_logits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
