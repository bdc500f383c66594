// test_cris.c: CRIS against the modules that the study publishes (golden files of tests/golden/make_cris.py, made in float64) at two
// tiny sizes, on every backend that is built in; and an edited prompt, and configurations that are refused. ranks 1, label cpu.
#include "base/file.h"
#include "models/model.h"
#include "parity.h"

#include <math.h>

static const char *const golden[] = {"cris_a", "cris_b"};

static void parity(const char *backend, precision_t precision) {
  for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
    parity_logits(golden[i], backend, precision, 1e-5);
    parity_check(golden[i], backend, precision, true);
  }
}

static void reference_fp64(void **state) {
  (void)state;
  parity("reference", PRECISION_FP64);
}

static void reference_fp32(void **state) {
  (void)state;
  parity("reference", PRECISION_FP32);
}

static void onednn_fp32(void **state) {
  (void)state;
  parity("onednn", PRECISION_FP32);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reference_fp64),
      cmocka_unit_test(reference_fp32),
      cmocka_unit_test(onednn_fp32),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
