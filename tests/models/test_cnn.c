// test_cnn.c: UNet, UNet++ and DeepLabV3+ against segmentation_models_pytorch (golden files of tests/golden/make_cnn.py, made in float64) at
// two tiny sizes each, on every backend that is built in; the plain loops of the reference take minutes for the larger ones ("_b"), which
// it does when they are named. ranks 1, labels cpu, nosan (real ResNets; test_model_config builds their graphs there).
//
//   test_cnn [PATTERN]      those of a name like "onednn_fp32 unet_*"; without: all but the reference's "_b"
#include "parity.h"

enum { KINDS = 3, CASES = 6 };

static const struct kind {
  const char *backend;
  precision_t precision;
  const char *name;
} kinds[KINDS] = {{"reference", PRECISION_FP64, "reference_fp64"},
                  {"reference", PRECISION_FP32, "reference_fp32"},
                  {"onednn", PRECISION_FP32, "onednn_fp32"}};

static const char *const golden[CASES] = {"unet_a",   "unet_b",          "unetpp_a",
                                          "unetpp_b", "deeplabv3plus_a", "deeplabv3plus_b"};

struct parity_case {
  const struct kind *kind;
  const char *golden;
  char name[64];
};

static void parity(void **state) {
  const struct parity_case *c = *state;
  parity_logits(c->golden, c->kind->backend, c->kind->precision, 1e-5);
  parity_check(c->golden, c->kind->backend, c->kind->precision, true);
  if (strstr(c->golden, "_a")) parity_check(c->golden, c->kind->backend, c->kind->precision, false); // a frozen encoder
}

int main(int argc, char **argv) {
  static struct parity_case cases[KINDS * CASES];
  struct CMUnitTest tests[KINDS * CASES];
  size_t count = 0;
  for (int i = 0; i < KINDS * CASES; i++) {
    struct parity_case *c = &cases[i];
    c->kind = &kinds[i / CASES];
    c->golden = golden[i % CASES];
    if (argc == 1 && !strcmp(c->kind->backend, "reference") && strstr(c->golden, "_b")) continue;
    (void)snprintf(c->name, sizeof c->name, "%s %s", c->kind->name, c->golden);
    tests[count++] = (struct CMUnitTest){.name = c->name, .test_func = parity, .initial_state = c};
  }
  if (argc > 1) cmocka_set_test_filter(argv[1]);
  return _cmocka_run_group_tests("cnn", tests, count, NULL, NULL);
}
