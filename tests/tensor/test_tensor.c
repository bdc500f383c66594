// test_tensor.c: descriptors, bf16, binary16. ranks 1, label unit.
#include "tensor/tensor.h"

#include "tensor/half.h"
#include "testing.h"

static void descriptors_check_their_sizes(void **state) {
  (void)state;
  struct tensor_desc d = TENSOR_DESC(DTYPE_F32, 4, 485, 768);
  char text[DESC_TEXT];
  assert_string_equal(desc_text(&d, text), "fp32 [4,485,768]");
  assert_int_equal(desc_rows(&d), 4 * 485);
  assert_int_equal(desc_columns(&d), 768);
  assert_int_equal(desc_bytes(&d), 4u * 485 * 768 * 4);
  struct tensor_desc scalar = {.dtype = DTYPE_F64};
  assert_int_equal(desc_count(&scalar), 1);
  assert_string_equal(desc_text(&scalar, text), "fp64 []");
  d.dim[1] = -1;
  assert_fails(ERR_SHAPE, desc_check(&d, "thing"), "thing", "dimension 1", "-1");
  d.dim[1] = INT64_MAX / 4;
  assert_fails(ERR_SHAPE, desc_check(&d, "thing"), "thing", "overflows");
  d.rank = 7;
  assert_fails(ERR_SHAPE, desc_check(&d, "thing"), "rank 7");
  d.rank = 6;
  for (int i = 0; i < 6; i++) d.dim[i] = INT64_MAX;
  assert_true(strlen(desc_text(&d, text)) < DESC_TEXT);
}

static void bf16_rounds_to_nearest_even(void **state) {
  (void)state;
  for (uint32_t u = 0; u < 65536; u++) { // every bf16 comes back
    float f = bf16_to_f32((uint16_t)u);
    if (!isnan(f)) assert_int_equal(f32_to_bf16(f), u);
  }
  assert_int_equal(f32_to_bf16(0x1.01p0f), 0x3f80);   // a tie goes to the even neighbour: down
  assert_int_equal(f32_to_bf16(0x1.03p0f), 0x3f82);   // and up
  assert_int_equal(f32_to_bf16(0x1.0101p0f), 0x3f81); // just over the tie
  assert_true(isnan(bf16_to_f32(f32_to_bf16(NAN))));
  assert_int_equal(f32_to_bf16(0x1.fffffep127f), 0x7f80);
}

static void every_half_comes_back(void **state) {
  (void)state;
  for (uint32_t u = 0; u < 65536; u++) {
    double d = f16_to_double((uint16_t)u);
    if (isnan(d)) {
      assert_true(isnan(f16_to_double(double_to_f16(d))));
    } else {
      assert_int_equal(double_to_f16(d), u);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(descriptors_check_their_sizes),
      cmocka_unit_test(bf16_rounds_to_nearest_even),
      cmocka_unit_test(every_half_comes_back),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
