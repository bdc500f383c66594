// test_cnn_full.c: UNet, UNet++ and DeepLabV3+ of the published size (ResNet-50, 256 pixels) against segmentation_models_pytorch, from
// weights that both sides generate. Needs some GB of memory and minutes. ranks 1, label long.
//
//   test_cnn_full [PATTERN]      all, or those of a name like "unet_*"
#include "parity.h"

static void parity(void **state) {
  const char *golden = *state;
  parity_check(golden, "auto", PRECISION_FP32, true);
}

int main(int argc, char **argv) {
  static char golden[][24] = {"unet_full", "unetpp_full", "deeplabv3plus_full"};
  enum { COUNT = sizeof golden / sizeof *golden };
  struct CMUnitTest tests[COUNT];
  for (int i = 0; i < COUNT; i++)
    tests[i] = (struct CMUnitTest){.name = golden[i], .test_func = parity, .initial_state = golden[i]};
  if (argc > 1) cmocka_set_test_filter(argv[1]);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
