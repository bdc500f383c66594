// test_op_golden.c: a backend (the argument, else "reference") against operations that PyTorch and MONAI computed in fp64:
// in fp64 where it takes that, and in fp32. ranks 1, label unit. Golden file: tests/golden/make_ops.py.
#include "op_device.h"

#include "base/json.h"
#include "base/mem.h"
#include "tensor/safetensors.h"
#include "testing.h"

#include <math.h>

#define GOLDEN TEST_SOURCE_DIR "/tests/golden/ops.safetensors"

static const char *backend_name = "reference";

// Which of `count` names, as `name_of` gives them, `text` is.
static int find_name(const char *text, int count, const char *(*name_of)(int)) {
  for (int i = 0; i < count; i++) {
    if (!strcmp(text, name_of(i))) return i;
  }
  fail_msg("'%s' is no name that is known", text);
  return -1;
}

static const char *kind_name(int i) {
  return op_kind_name((op_kind_t)i);
}
static const char *direction_text(int i) {
  return direction_name((direction_t)i);
}
static const char *activation_text(int i) {
  return activation_name((activation_t)i);
}
static const char *loss_text(int i) {
  static const char *const name[] = {"dice_ce", "dice_only", "monai14"};
  return name[i];
}
static const char *resize_text(int i) {
  static const char *const name[] = {"bilinear", "bicubic", "nearest"};
  return name[i];
}
static const char *pool_text(int i) {
  return i == POOL_MAX ? "max" : "average";
}

static const char *text_of(const json_t *c, const char *key, const char *fallback) {
  const char *text = json_string_value(json_object_get(c, key));
  return text ? text : fallback;
}

static int number_at(const json_t *c, const char *key, size_t i) {
  return (int)json_integer_value(json_array_get(json_object_get(c, key), i));
}

static void read_attributes(const json_t *c, struct op *op) {
  op->attr.activation = (activation_t)find_name(text_of(c, "activation", "none"), 6, activation_text);
  op->attr.loss = (loss_t)find_name(text_of(c, "loss", "dice_ce"), 3, loss_text);
  op->attr.resize = (resize_t)find_name(text_of(c, "resize", "bilinear"), 3, resize_text);
  op->attr.pool = (pool_t)find_name(text_of(c, "pool", "max"), 2, pool_text);
  for (size_t i = 0; i < 2; i++) {
    op->attr.stride[i] = number_at(c, "stride", i);
    op->attr.pad[i] = number_at(c, "pad", i);
    op->attr.dilation[i] = number_at(c, "dilation", i);
    op->attr.kernel[i] = number_at(c, "kernel", i);
  }
  op->attr.groups = (int)json_integer_value(json_object_get(c, "groups"));
  op->attr.heads = (int)json_integer_value(json_object_get(c, "heads"));
  op->attr.causal = (int)json_integer_value(json_object_get(c, "causal"));
  op->attr.align_corners = (int)json_integer_value(json_object_get(c, "align_corners"));
  op->attr.residual_first = (int)json_integer_value(json_object_get(c, "residual_first"));
  op->attr.stream = json_integer_value(json_object_get(c, "stream"));
  op->attr.dropout = json_number_value(json_object_get(c, "dropout"));
  op->attr.momentum = json_number_value(json_object_get(c, "momentum"));
  op->attr.axis = (int)json_integer_value(json_object_get(c, "axis"));
  op->attr.start = json_integer_value(json_object_get(c, "start"));
  op->attr.scale = json_number_value(json_object_get(c, "scale"));
  op->attr.epsilon = json_number_value(json_object_get(c, "epsilon"));
  for (size_t i = 0; i < TENSOR_MAX_RANK; i++) op->attr.permutation[i] = number_at(c, "permutation", i);
  for (size_t i = 0; i < 3; i++) {
    op->attr.mean[i] = json_real_value(json_array_get(json_object_get(c, "mean"), i));
    op->attr.std[i] = json_real_value(json_array_get(json_object_get(c, "std"), i));
  }
}

// The operation of one case, and its operands as the file holds them.
static void read_case(const struct safetensors *set, const json_t *c, struct op *op, struct op_values *v) {
  const json_t *in = json_object_get(c, "in"), *out = json_object_get(c, "out");
  *op = (struct op){.kind = (op_kind_t)find_name(text_of(c, "kind", ""), OP_KINDS, kind_name),
                    .direction = (direction_t)find_name(text_of(c, "direction", ""), 3, direction_text),
                    .inputs = (int)json_array_size(in),
                    .outputs = (int)json_array_size(out)};
  read_attributes(c, op);
  for (int k = 0; k < op->inputs + op->outputs; k++) {
    bool input = k < op->inputs;
    const json_t *name = input ? json_array_get(in, (size_t)k) : json_array_get(out, (size_t)(k - op->inputs));
    if (!json_is_null(name)) {
      const struct safetensors_entry *e = safetensors_find(set, json_string_value(name));
      assert_non_null(e);
      *(input ? &op->in[k] : &op->out[k - op->inputs]) = e->desc;
    }
  }
  assert_ok(op_values_allocate(op, v));
  for (int k = 0; k < op->inputs + op->outputs; k++) {
    bool input = k < op->inputs;
    const json_t *name = input ? json_array_get(in, (size_t)k) : json_array_get(out, (size_t)(k - op->inputs));
    void *to = input ? v->in[k] : v->out[k - op->inputs];
    const struct tensor_desc *d = input ? &op->in[k] : &op->out[k - op->inputs];
    if (to) assert_ok(safetensors_read(set, json_string_value(name), d, to));
  }
}

static void check_bytes(const struct op_device *d, const json_t *c, int j, const void *want) {
  uint8_t *met = NULL;
  assert_ok(op_device_fetch(d, j, &met));
  if (memcmp(met, want, desc_bytes(&d->op.out[j])) != 0) fail_msg("%s, output %d differs", text_of(c, "name", ""), j);
  mem_free(&met);
}

static void check_case(struct backend *b, const json_t *c, const struct op *op, const struct op_values *v,
                       double tolerance) {
  static const int adamw[OP_MAX_OUT] = {0, 2, 3, -1};
  struct op_device d;
  assert_ok(op_device_create(b, op, v, op->kind == OP_ADAMW ? adamw : NULL, &d));
  assert_ok(op_device_run(&d));
  for (int j = 0; j < op->outputs; j++) {
    double *met = NULL, top = 0, bottom = 0;
    const double *want = v->out[j];
    if (!want) continue;
    if (op->out[j].dtype == DTYPE_U8) {
      check_bytes(&d, c, j, v->out[j]);
      continue;
    }
    assert_ok(op_device_values(&d, j, &met));
    for (int64_t i = 0; i < desc_count(&op->out[j]); i++) {
      top += (met[i] - want[i]) * (met[i] - want[i]);
      bottom += want[i] * want[i];
    }
    if (!(top <= tolerance * bottom)) {
      fail_msg("%s, output %d: NMSE %g, at most %g", text_of(c, "name", ""), j, top / bottom, tolerance);
    }
    mem_free(&met);
  }
  op_device_destroy(&d);
}

static void run_all(dtype_t type, double tolerance, bool all) {
  struct safetensors *set;
  struct backend *b;
  json_t *cases, *c;
  size_t i, done = 0;
  assert_ok(backend_create(backend_name, 2, &b));
  assert_ok(safetensors_open(GOLDEN, &set));
  const char *text = safetensors_metadata(set, "cases");
  assert_non_null(text);
  assert_ok(json_parse(GOLDEN, text, strlen(text), &cases));
  assert_true(json_array_size(cases) > 100);
  json_array_foreach(cases, i, c) {
    struct op wide, op;
    struct op_values v;
    read_case(set, c, &wide, &v);
    op = op_of_type(&wide, type);
    assert_ok(op_check(&op));
    bool must = all || type == DTYPE_F32;
    if (must || b->ops->supports(b, &op)) {
      check_case(b, c, &op, &v, tolerance);
      done++;
    }
    op_values_destroy(&v);
  }
  print_message("%s, %s: %zu of %zu\n", backend_name, dtype_name(type), done, json_array_size(cases));
  if (type == DTYPE_F32) assert_true(done > 0);
  json_decref(cases);
  safetensors_close(&set);
  backend_destroy(&b);
}

static void fp64_agrees_with_torch(void **state) {
  (void)state;
  run_all(DTYPE_F64, 1e-26, !strcmp(backend_name, "reference"));
}

static void fp32_agrees_with_torch(void **state) {
  (void)state;
  run_all(DTYPE_F32, 1e-10, !strcmp(backend_name, "reference"));
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(fp64_agrees_with_torch),
      cmocka_unit_test(fp32_agrees_with_torch),
  };
  if (argc > 1) backend_name = argv[1];
  return cmocka_run_group_tests(tests, NULL, NULL);
}
