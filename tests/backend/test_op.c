// test_op.c: op_check's refusals, names, the text and the work of an operation, the registry. ranks 1, label unit.
#include "op_cases.h"

#include "base/mem.h"
#include "testing.h"

#define F(...) TENSOR_DESC(DTYPE_F32, __VA_ARGS__)
#define W(...) TENSOR_DESC(DTYPE_F64, __VA_ARGS__)

static struct op linear(void) {
  return (struct op){
      .kind = OP_LINEAR, .inputs = 4, .outputs = 1, .in = {F(4, 485, 768), F(3072, 768)}, .out = {F(4, 485, 3072)}};
}

static struct op conv(void) {
  return (struct op){.kind = OP_CONV,
                     .inputs = 4,
                     .outputs = 1,
                     .in = {F(2, 9, 7, 4), F(6, 2, 3, 3), F(6)},
                     .out = {F(2, 9, 7, 6)},
                     .attr = {.stride = {1, 1}, .pad = {1, 1}, .dilation = {1, 1}, .groups = 2}};
}

static struct op attention(void) {
  return (struct op){.kind = OP_ATTENTION,
                     .inputs = 5,
                     .outputs = 2,
                     .in = {F(2, 7, 8), F(2, 5, 8), F(2, 5, 8)},
                     .out = {F(2, 7, 8), F(2, 2, 7)},
                     .attr = {.heads = 2, .causal = 1, .scale = 0.5}};
}

static void text_and_work(void **state) {
  (void)state;
  char text[OP_TEXT];
  struct op op = linear();
  op.attr.activation = ACT_QUICKGELU;
  assert_string_equal(op_text(&op, text),
                      "LINEAR forward fp32 [4,485,768] fp32 [3072,768] - - -> fp32 [4,485,3072] quickgelu");
  assert_true(op_flops(&op) == 2.0 * 4 * 485 * 768 * 3072);
  op = conv();
  assert_string_equal(op_text(&op, text), "CONV forward fp32 [2,9,7,4] fp32 [6,2,3,3] fp32 [6] - -> fp32 [2,9,7,6] "
                                          "stride 1,1 pad 1,1 groups 2");
  assert_true(op_flops(&op) == 2.0 * 2 * 9 * 7 * 6 * 2 * 9);
  op = attention(); // causal: 1 + 2 + 3 + 4 + 5 + 5 + 5 pairs
  assert_true(op_flops(&op) == 4.0 * 2 * 25 * 8);
  op.attr.causal = 0;
  assert_true(op_flops(&op) == 4.0 * 2 * 7 * 5 * 8);
  op = (struct op){.kind = OP_CONCAT, .inputs = 8, .outputs = 1};
  for (int i = 0; i < 8; i++) op.in[i] = F(INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX);
  assert_true(strlen(op_text(&op, text)) < OP_TEXT);
}

// The gradients of an operation cost what the forward pass does, per direction (attention: five products for two).
static void gradients_cost_the_same(void **state) {
  (void)state;
  struct op_case *cases;
  size_t count;
  assert_ok(op_cases_create(&cases, &count));
  for (size_t i = 0; i < count; i++) {
    double factor = cases[i].op.kind == OP_ATTENTION && cases[i].op.direction != FORWARD ? 2.5 : 1;
    assert_true(op_flops(&cases[i].op) == factor * op_flops(&cases[i].forward));
  }
  mem_free(&cases);
}

static void every_case_passes(void **state) {
  (void)state;
  struct op_case *cases;
  size_t count;
  bool seen[OP_KINDS] = {false};
  assert_ok(op_cases_create(&cases, &count));
  for (size_t i = 0; i < count; i++) {
    assert_ok(op_check(&cases[i].op));
    seen[cases[i].op.kind] = true;
    for (dtype_t t = DTYPE_F32; t <= DTYPE_BF16; t++) {
      struct op op = op_of_type(&cases[i].op, t);
      assert_ok(op_check(&op));
    }
  }
  for (int k = 0; k < OP_KINDS; k++) assert_true(seen[k] || k == OP_EXCHANGE); // which no backend does
  mem_free(&cases);
}

static void counts_and_types_are_checked(void **state) {
  (void)state;
  struct op op = linear();
  op.inputs = 2;
  assert_fails(ERR_SHAPE, op_check(&op), "LINEAR forward", "4 inputs", "met 2");
  op = linear();
  op.outputs = 2;
  assert_fails(ERR_SHAPE, op_check(&op), "1 outputs", "met 2");
  op = linear();
  op.in[1].dtype = DTYPE_NONE;
  assert_fails(ERR_SHAPE, op_check(&op), "'w' is left out");
  op = linear();
  op.in[1].dtype = DTYPE_F64;
  assert_fails(ERR_SHAPE, op_check(&op), "'w' has type fp64 beside fp32 or bf16 data");
  op.in[1].dtype = DTYPE_BF16;
  assert_ok(op_check(&op));
  op.in[1].dtype = DTYPE_I32;
  assert_fails(ERR_SHAPE, op_check(&op), "'w' has type int32");
  op = linear();
  op.in[0].dim[1] = 0;
  assert_fails(ERR_SHAPE, op_check(&op), "dimension 1 of operand 'x' is 0");
  op.in[0].dim[1] = -3;
  assert_fails(ERR_SHAPE, op_check(&op), "x: dimension 1 is negative");
  op.in[0].rank = 7;
  assert_fails(ERR_SHAPE, op_check(&op), "rank 7");
  op = (struct op){.kind = OP_KINDS};
  assert_fails(ERR_SHAPE, op_check(&op), "kind");
  op = (struct op){.kind = OP_ADD, .direction = BACKWARD_DATA};
  assert_fails(ERR_SHAPE, op_check(&op), "ADD backward-data", "no such direction");
  op = attention();
  op.out[1].dtype = DTYPE_BF16;
  assert_fails(ERR_SHAPE, op_check(&op), "'lse' has type bf16");
}

// Every operand of every case, made one longer along every dimension in turn, no longer fits (EXPAND, ADD and their like
// would repeat it; sums and moves with a free size take another one).
static void every_dimension_is_checked(void **state) {
  (void)state;
  struct op_case *cases;
  size_t count, tried = 0;
  assert_ok(op_cases_create(&cases, &count));
  for (size_t i = 0; i < count; i++) {
    struct op op = cases[i].op;
    if (op.kind == OP_SLICE || op.kind == OP_RESIZE) continue;
    for (int k = 0; k < op.inputs + op.outputs; k++) {
      struct tensor_desc *d = k < op.inputs ? &op.in[k] : &op.out[k - op.inputs];
      bool free_size =
          (op.kind == OP_EMBED && op.direction == FORWARD && k == 1) ||
          (op.kind == OP_EMBED && op.direction != FORWARD && k == 2) ||
          (op.kind == OP_TAKE_ROW && (op.direction == FORWARD ? k == 0 : k == 2)) ||
          (op.kind == OP_SUM_SQUARES && k == 0) || ((op.kind == OP_ADD || op.kind == OP_MULTIPLY) && k == 1) ||
          (op.kind == OP_TAKE_PLANE && (op.direction == FORWARD ? k == 0 : k == 2)) ||
          (op.kind == OP_BATCHNORM_SUMS && k == 0) ||
          ((op.kind == OP_CONV || op.kind == OP_POOL) && op.attr.stride[0] > 1) ||
          ((op.kind == OP_SUM_TO || op.kind == OP_EXPAND) && desc_count(&op.in[0]) != desc_count(&op.out[0]));
      if (d->dtype == DTYPE_NONE || free_size) continue;
      for (int m = 0; m < d->rank; m++) {
        d->dim[m]++;
        char text[OP_TEXT];
        if (op_check(&op) == OK) fail_msg("%s passes (operand %d, dimension %d)", op_text(&op, text), k, m);
        d->dim[m]--;
        tried++;
      }
    }
  }
  assert_true(tried > 1000);
  mem_free(&cases);
}

static void attributes_are_checked(void **state) {
  (void)state;
  struct op op = conv();
  assert_ok(op_check(&op));
  op.attr.groups = 4;
  assert_fails(ERR_SHAPE, op_check(&op), "4 and 6 channels", "4 groups");
  op = conv();
  op.attr.stride[1] = 0;
  assert_fails(ERR_SHAPE, op_check(&op), "stride 0");
  op = conv();
  op.attr.dilation[0] = 20;
  assert_fails(ERR_SHAPE, op_check(&op), "larger than the picture");
  op = conv();
  op.attr.activation = (activation_t)9;
  assert_fails(ERR_SHAPE, op_check(&op), "activation 9");
  op = attention();
  op.attr.heads = 3;
  assert_fails(ERR_SHAPE, op_check(&op), "width 8", "3 heads");
  op = attention();
  op.attr.scale = 0;
  assert_fails(ERR_SHAPE, op_check(&op), "scale is 0");
  op = (struct op){.kind = OP_LINEAR,
                   .direction = BACKWARD_DATA,
                   .inputs = 3,
                   .outputs = 1,
                   .in = {F(3, 5), F(5, 7)},
                   .out = {F(3, 7)}};
  assert_ok(op_check(&op));
  op.attr.activation = ACT_RELU;
  assert_fails(ERR_SHAPE, op_check(&op), "ACTIVATION operation of its own");
  op = (struct op){.kind = OP_SLICE, .inputs = 1, .outputs = 1, .in = {F(7, 5)}, .out = {F(3, 5)}, .attr.start = 5};
  assert_fails(ERR_SHAPE, op_check(&op), "3 elements from 5", "7 of axis 0");
  op.attr.start = INT64_MAX;
  assert_fails(ERR_SHAPE, op_check(&op), "SLICE");
  op = (struct op){.kind = OP_MULTIPLY, .inputs = 2, .outputs = 1, .in = {F(2, 3), F(2)}, .out = {F(2, 3)}};
  assert_fails(ERR_SHAPE, op_check(&op), "[2] does not repeat into fp32 [2,3]");
  op.in[1] = F(1, 2, 3);
  assert_fails(ERR_SHAPE, op_check(&op), "[1,2,3] does not repeat");
  op = (struct op){.kind = OP_TRANSPOSE, .inputs = 1, .outputs = 1, .in = {F(7, 5)}, .out = {F(7, 5)}};
  assert_fails(ERR_SHAPE, op_check(&op), "entry 1 of the permutation is 0");
  op = (struct op){.kind = OP_CONCAT, .inputs = 2, .outputs = 1, .in = {F(7, 5), F(7, 4)}, .out = {F(14, 5)}};
  assert_fails(ERR_SHAPE, op_check(&op), "'x1' must be fp32 [7,5], met fp32 [7,4]");
}

static struct op batchnorm(direction_t direction) {
  struct op op = {.kind = OP_BATCHNORM, .direction = direction, .attr.epsilon = 1e-5};
  const struct tensor_desc x = F(2, 3, 5), c = F(5);
  if (direction == FORWARD) {
    op.inputs = 6, op.outputs = 1;
    memcpy(op.in, (struct tensor_desc[]){x, c, c, c, c}, 5 * sizeof x);
  } else {
    op.inputs = direction == BACKWARD_DATA ? 7 : 4, op.outputs = direction == BACKWARD_DATA ? 1 : 3;
    memcpy(op.in, (struct tensor_desc[]){x, x, c, c}, 4 * sizeof x);
    if (direction == BACKWARD_DATA) op.in[4] = c;
  }
  op.out[0] = x;
  if (direction == BACKWARD_WEIGHT) memcpy(op.out, (struct tensor_desc[]){c, c, W(10)}, 3 * sizeof x);
  return op;
}

static void batchnorm_is_checked(void **state) {
  (void)state;
  struct op op = batchnorm(FORWARD);
  assert_ok(op_check(&op));
  op.in[5] = F(2, 3, 4);
  assert_fails(ERR_SHAPE, op_check(&op), "BATCHNORM forward", "'r' must be fp32 [2,3,5], met fp32 [2,3,4]");
  op = batchnorm(FORWARD);
  op.in[1].dtype = DTYPE_BF16;
  assert_fails(ERR_SHAPE, op_check(&op), "'mean' has type bf16");
  op = batchnorm(FORWARD);
  op.attr.epsilon = -1;
  assert_fails(ERR_SHAPE, op_check(&op), "epsilon is -1");
  op = batchnorm(BACKWARD_WEIGHT);
  assert_ok(op_check(&op));
  op.out[2] = F(10);
  assert_fails(ERR_SHAPE, op_check(&op), "BATCHNORM backward-weight", "'dsums' has type fp32");
  op.out[2] = W(5);
  assert_fails(ERR_SHAPE, op_check(&op), "'dsums' must be fp64 [10], met fp64 [5]");
  op = batchnorm(BACKWARD_DATA);
  assert_ok(op_check(&op));
  op.in[5] = W(10);
  assert_fails(ERR_SHAPE, op_check(&op), "'dsums' and 'sums' go together");
  op.in[6] = W(10);
  assert_fails(ERR_SHAPE, op_check(&op), "'sums' must be fp64 [11], met fp64 [10]");
  op.in[6] = W(11);
  assert_ok(op_check(&op));
  op.attr.activation = ACT_RELU;
  assert_fails(ERR_SHAPE, op_check(&op), "ACTIVATION operation of its own");
  op = (struct op){.kind = OP_BATCHNORM_SUMS, .inputs = 1, .outputs = 1, .in = {F(7, 5)}, .out = {W(10)}};
  assert_fails(ERR_SHAPE, op_check(&op), "BATCHNORM_SUMS", "'sums' must be fp64 [11], met fp64 [10]");
  op = (struct op){.kind = OP_BATCHNORM_MOMENTS,
                   .inputs = 3,
                   .outputs = 4,
                   .in = {W(11), F(5), F(5)},
                   .out = {F(5), F(5), F(5), F(5)},
                   .attr.momentum = 0.1};
  assert_ok(op_check(&op));
  op.out[3] = F(6);
  assert_fails(ERR_SHAPE, op_check(&op), "BATCHNORM_MOMENTS", "'new_var' must be fp32 [5], met fp32 [6]");
  op.attr.momentum = 2;
  assert_fails(ERR_SHAPE, op_check(&op), "momentum is 2");
  op = (struct op){.kind = OP_BATCHNORM_FOLD,
                   .inputs = 6,
                   .outputs = 2,
                   .in = {F(4, 3, 1, 1), F(4), F(4), F(4), F(4), F(3)},
                   .out = {F(4, 3, 1, 1), F(4)}};
  assert_fails(ERR_SHAPE, op_check(&op), "BATCHNORM_FOLD", "'beta' must be fp32 [4], met fp32 [3]");
  op.in[5] = F(4);
  assert_ok(op_check(&op));
  op.out[1] = F(3);
  assert_fails(ERR_SHAPE, op_check(&op), "'b' must be fp32 [4], met fp32 [3]");
}

static void dropout_is_checked(void **state) {
  (void)state;
  struct op op = {.kind = OP_DROPOUT,
                  .inputs = 2,
                  .outputs = 1,
                  .in = {F(2, 7), TENSOR_DESC(DTYPE_I32, 2, 4)},
                  .out = {F(2, 7)},
                  .attr = {.dropout = 0.5, .stream = UINT32_MAX}};
  assert_ok(op_check(&op));
  op.attr.dropout = 1;
  assert_fails(ERR_SHAPE, op_check(&op), "DROPOUT forward", "dropout is 1");
  op.attr.dropout = -0.5;
  assert_fails(ERR_SHAPE, op_check(&op), "dropout is -0.5");
  op.attr.dropout = 0.5;
  op.attr.stream++;
  assert_fails(ERR_SHAPE, op_check(&op), "stream is 4294967296");
  op.attr.stream = 0;
  op.in[1].dim[1] = 3;
  assert_fails(ERR_SHAPE, op_check(&op), "'noise' must be int32 [2,4], met int32 [2,3]");
  op = attention();
  op.attr.dropout = 0.1;
  assert_fails(ERR_SHAPE, op_check(&op), "dropout 0.1 and operand 'noise' go together");
  op.in[4] = TENSOR_DESC(DTYPE_I32, 2, 4);
  assert_ok(op_check(&op));
  op.attr.dropout = 0;
  assert_fails(ERR_SHAPE, op_check(&op), "dropout 0 and operand 'noise'");
  op.attr.dropout = 0.1;
  op.in[1] = op.in[2] = F(2, 65537, 8);
  assert_fails(ERR_SHAPE, op_check(&op), "65536 keys, met 65537");
}

static void windows_are_checked(void **state) {
  (void)state;
  struct op op = {.kind = OP_POOL,
                  .inputs = 1,
                  .outputs = 2,
                  .in = {F(2, 9, 7, 4)},
                  .out = {F(2, 5, 4, 4), TENSOR_DESC(DTYPE_U8, 2, 5, 4, 4)},
                  .attr = {.kernel = {3, 3}, .stride = {2, 2}, .pad = {1, 1}}};
  assert_ok(op_check(&op));
  op.out[1].dim[3] = 3;
  assert_fails(ERR_SHAPE, op_check(&op), "POOL forward", "'where' must be uint8 [2,5,4,4], met uint8 [2,5,4,3]");
  op.out[1] = (struct tensor_desc){0};
  assert_ok(op_check(&op));
  op.attr.pad[1] = 2;
  assert_fails(ERR_SHAPE, op_check(&op), "pad 2", "not a window");
  op.attr.pad[1] = 1;
  op.attr.pool = POOL_AVERAGE;
  assert_fails(ERR_SHAPE, op_check(&op), "pad 1", "not a window");
  op.attr.pad[0] = op.attr.pad[1] = 0;
  op.out[0] = F(2, 4, 3, 4);
  assert_ok(op_check(&op));
  op.out[1] = TENSOR_DESC(DTYPE_U8, 2, 4, 3, 4);
  assert_fails(ERR_SHAPE, op_check(&op), "'where' belongs to max");
  op.out[1] = (struct tensor_desc){0};
  op.attr.kernel[0] = 10;
  assert_fails(ERR_SHAPE, op_check(&op), "larger than the picture");
  op = (struct op){.kind = OP_POOL,
                   .inputs = 1,
                   .outputs = 2,
                   .in = {F(1, 17, 17, 1)},
                   .out = {F(1, 1, 1, 1)},
                   .attr = {.kernel = {17, 17}, .stride = {1, 1}}};
  assert_fails(ERR_SHAPE, op_check(&op), "over 256 pixels");
  op = (struct op){.kind = OP_POOL,
                   .direction = BACKWARD_DATA,
                   .inputs = 2,
                   .outputs = 1,
                   .in = {F(1, 4, 4, 3)},
                   .out = {F(1, 8, 8, 3)},
                   .attr = {.kernel = {2, 2}, .stride = {2, 2}}};
  assert_fails(ERR_SHAPE, op_check(&op), "POOL backward-data", "'where'");
  op = (struct op){.kind = OP_CONV_EACH,
                   .inputs = 3,
                   .outputs = 1,
                   .in = {F(2, 5, 7, 3), F(2, 3, 3, 3), F(2)},
                   .out = {F(2, 5, 7, 1)},
                   .attr.pad = {1, 1}};
  assert_ok(op_check(&op));
  op.in[1].dim[0] = 1;
  assert_fails(ERR_SHAPE, op_check(&op), "CONV_EACH forward", "'w' must be fp32 [2,3,3,3], met fp32 [1,3,3,3]");
  op.in[1] = F(2, 3, 8, 3);
  assert_fails(ERR_SHAPE, op_check(&op), "larger than the picture");
  op.attr.pad[0] = -1;
  assert_fails(ERR_SHAPE, op_check(&op), "dimension 0");
}

static void planes_and_sums_are_checked(void **state) {
  (void)state;
  struct op op = {.kind = OP_TAKE_PLANE,
                  .inputs = 2,
                  .outputs = 1,
                  .in = {F(2, 5, 7, 3), TENSOR_DESC(DTYPE_I32, 2)},
                  .out = {F(2, 5, 7)}};
  assert_ok(op_check(&op));
  op.in[1].dim[0] = 3;
  assert_fails(ERR_SHAPE, op_check(&op), "TAKE_PLANE forward", "'plane' must be int32 [2], met int32 [3]");
  op.in[1] = F(2);
  assert_fails(ERR_SHAPE, op_check(&op), "'plane' has type fp32");
  op = (struct op){.kind = OP_RESIZE, .inputs = 1, .outputs = 1, .in = {F(1, 2, 2, 3)}, .out = {F(1, 4, 4, 3)}};
  op.attr.resize = RESIZE_NEAREST;
  assert_ok(op_check(&op));
  op.attr.resize = (resize_t)3;
  assert_fails(ERR_SHAPE, op_check(&op), "resize mode 3");
  op = (struct op){.kind = OP_EXCHANGE, .inputs = 1, .outputs = 1, .in = {W(7)}, .out = {W(7)}};
  assert_ok(op_check(&op));
  struct backend *b;
  struct plan *plan;
  assert_ok(backend_create("reference", 1, &b));
  assert_false(b->ops->supports(b, &op));
  assert_fails(ERR_UNSUPPORTED, b->ops->plan_create(b, &op, &plan), "EXCHANGE");
  backend_destroy(&b);
  op.out[0] = W(8);
  assert_fails(ERR_SHAPE, op_check(&op), "EXCHANGE forward", "'y' must be fp64 [7], met fp64 [8]");
  op.out[0] = F(7);
  assert_fails(ERR_SHAPE, op_check(&op), "'y' has type fp32");
}

static void registry_names_what_there_is(void **state) {
  (void)state;
  struct backend *b;
  assert_ok(backend_create("reference", 0, &b));
  assert_string_equal(b->ops->name, "reference");
  backend_destroy(&b);
  assert_null(b);
  backend_destroy(&b);
  assert_ok(backend_create("auto", 1, &b));
  backend_destroy(&b);
  assert_fails(ERR_ARG, backend_create("abacus", 0, &b), "'abacus'", "reference");
}

// Index operands are data: a run refuses them, naming place and range.
static void wrong_indices_are_refused(void **state) {
  (void)state;
  struct op embed = {
      .kind = OP_EMBED, .inputs = 2, .outputs = 1, .in = {TENSOR_DESC(DTYPE_I32, 1, 2), F(3, 1)}, .out = {F(1, 2, 1)}};
  struct op take = {
      .kind = OP_TAKE_ROW, .inputs = 2, .outputs = 1, .in = {F(2, 3, 1), TENSOR_DESC(DTYPE_I32, 2)}, .out = {F(2, 1)}};
  struct op plane = {.kind = OP_TAKE_PLANE,
                     .inputs = 2,
                     .outputs = 1,
                     .in = {F(2, 1, 1, 3), TENSOR_DESC(DTYPE_I32, 2)},
                     .out = {F(2, 1, 1)}};
  struct op masked = attention();
  masked.in[3] = TENSOR_DESC(DTYPE_I32, 2);
  struct op_values v;
  assert_ok(op_values_allocate(&embed, &v));
  ((int32_t *)v.in[0])[1] = 3;
  assert_fails(ERR_NUMERIC, op_values_run(&embed, &v), "3", "place 1", "0..2");
  ((int32_t *)v.in[0])[1] = -1;
  assert_fails(ERR_NUMERIC, op_values_run(&embed, &v), "-1");
  op_values_destroy(&v);
  assert_ok(op_values_allocate(&take, &v));
  ((int32_t *)v.in[1])[0] = 3;
  assert_fails(ERR_NUMERIC, op_values_run(&take, &v), "3", "place 0");
  op_values_destroy(&v);
  assert_ok(op_values_allocate(&plane, &v));
  ((int32_t *)v.in[1])[1] = -2;
  assert_fails(ERR_NUMERIC, op_values_run(&plane, &v), "plane -2", "place 1", "0..2");
  op_values_destroy(&v);
  assert_ok(op_values_allocate(&masked, &v)); // lengths 0
  assert_fails(ERR_NUMERIC, op_values_run(&masked, &v), "length 0", "1..5");
  op_values_destroy(&v);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(text_and_work),
      cmocka_unit_test(gradients_cost_the_same),
      cmocka_unit_test(every_case_passes),
      cmocka_unit_test(counts_and_types_are_checked),
      cmocka_unit_test(every_dimension_is_checked),
      cmocka_unit_test(attributes_are_checked),
      cmocka_unit_test(batchnorm_is_checked),
      cmocka_unit_test(dropout_is_checked),
      cmocka_unit_test(windows_are_checked),
      cmocka_unit_test(planes_and_sums_are_checked),
      cmocka_unit_test(registry_names_what_there_is),
      cmocka_unit_test(wrong_indices_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
