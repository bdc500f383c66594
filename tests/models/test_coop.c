// test_coop.c: CoOp on CLIPSeg against transformers with the context put in by hand (golden files of tests/golden/make_coop.py); and
// what the engine finds by itself: the image side is a feature, the text side is not. Label: cpu.
#include "models/model.h"
#include "parity.h"

static void check(const char *backend, precision_t precision) {
  parity_logits("coop_a", backend, precision, 1e-5);
  parity_check("coop_a", backend, precision, false);
  parity_check("coop_a", backend, precision, true);
}

static void reference_fp64(void **state) {
  (void)state;
  check("reference", PRECISION_FP64);
}

static void reference_fp32(void **state) {
  (void)state;
  check("reference", PRECISION_FP32);
}

static void onednn_fp32(void **state) {
  (void)state;
  check("onednn", PRECISION_FP32);
}

static void frozen_part(void **state) {
  (void)state;
  struct model *model = NULL;
  struct backend *backend = NULL;
  struct network *n = NULL;
  assert_ok(model_open(GOLDEN "/coop_a", &model));
  assert_ok(backend_create("reference", 1, &backend));
  assert_ok(network_create(model, backend, &(struct network_options){.size = 64, .train = true}, &n));
  // Three taps of 17 tokens, already reduced to the decoder's 12 channels: what stands before the first trained value.
  assert_int_equal(network_feature_bytes(n, SOURCE_IMAGE), 3 * (17 * 12 * sizeof(float) + 16));
  assert_int_equal(network_feature_bytes(n, SOURCE_CONDITION), 0);
  size_t trained = 0;
  for (size_t i = 0; i < network_parameter_count(n); i++) {
    const struct network_parameter *p = network_parameter_at(n, i);
    if (!p->trained) continue;
    assert_string_equal(p->name, "prompt_learner.ctx");
    trained++;
  }
  assert_int_equal(trained, 1);
  network_destroy(&n);
  backend_destroy(&backend);
  model_close(&model);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(reference_fp64), cmocka_unit_test(reference_fp32),
                                     cmocka_unit_test(onednn_fp32), cmocka_unit_test(frozen_part)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
