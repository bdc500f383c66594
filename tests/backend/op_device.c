// op_device.c: see op_device.h.
#include "op_device.h"

#include "base/mem.h"

#include <string.h>

enum { GUARD = 64, NOISE = 0xA5 };

static void narrow(void *to, const void *values, const struct tensor_desc *d) {
  const double *x = values;
  for (int64_t i = 0, n = desc_count(d); i < n; i++) {
    switch (d->dtype) {
    case DTYPE_F64: ((double *)to)[i] = x[i]; break;
    case DTYPE_F32: ((float *)to)[i] = (float)x[i]; break;
    case DTYPE_BF16: ((uint16_t *)to)[i] = f32_to_bf16((float)x[i]); break;
    case DTYPE_I32: ((int32_t *)to)[i] = ((const int32_t *)values)[i]; break;
    default: ((uint8_t *)to)[i] = ((const uint8_t *)values)[i]; break;
    }
  }
}

static const struct tensor_desc *desc_of(const struct op_device *d, int k) {
  return k < d->op.inputs ? &d->op.in[k] : &d->op.out[k - d->op.inputs];
}

static status_t wait(const struct op_device *d) {
  return d->backend->ops->stream_wait ? d->backend->ops->stream_wait(NULL) : OK;
}

// Bytes of an operand with its guards, as they must be: noise, but for the inputs.
static status_t make_image(const struct op_device *d, int k, const void *values, uint8_t **out) {
  TRY(mem_alloc(out, d->bytes[k] + 2 * (size_t)GUARD, 1));
  memset(*out, NOISE, d->bytes[k] + 2 * (size_t)GUARD);
  if (values) narrow(*out + GUARD, values, desc_of(d, k));
  return OK;
}

static status_t put_image(struct op_device *d, int k, const void *values) {
  uint8_t *image = NULL;
  const struct backend_ops *ops = d->backend->ops;
  TRY(make_image(d, k, values, &image));
  status_t st = ops->copy_in(d->backend, d->memory[k], image, d->bytes[k] + 2 * (size_t)GUARD, NULL);
  if (st == OK) st = wait(d);
  mem_free(&image);
  return st;
}

static status_t get_image(const struct op_device *d, int k, uint8_t **out) {
  TRY(mem_alloc(out, d->bytes[k] + 2 * (size_t)GUARD, 1));
  TRY(d->backend->ops->copy_out(d->backend, *out, d->memory[k], d->bytes[k] + 2 * (size_t)GUARD, NULL));
  return wait(d);
}

status_t op_device_put(struct op_device *d, int input, const void *values) {
  return put_image(d, input, values);
}

status_t op_device_create(struct backend *b, const struct op *op, const struct op_values *v, const int *share,
                          struct op_device *out) {
  status_t st = OK;
  *out = (struct op_device){.backend = b, .op = *op};
  TRY_GOTO(b->ops->plan_create(b, op, &out->plan), done);
  for (int k = 0; k < op->inputs + op->outputs; k++) {
    const struct tensor_desc *desc = desc_of(out, k);
    int twin = k >= op->inputs && share ? share[k - op->inputs] : -1;
    if (desc->dtype == DTYPE_NONE) continue;
    if (twin >= 0) {
      out->operand[k] = out->operand[twin];
      continue;
    }
    out->bytes[k] = desc_bytes(desc);
    TRY_GOTO(b->ops->alloc(b, out->bytes[k] + 2 * (size_t)GUARD, &out->memory[k]), done);
    out->operand[k] = (uint8_t *)out->memory[k] + GUARD;
    TRY_GOTO(put_image(out, k, k < op->inputs ? v->in[k] : NULL), done);
  }
  size_t scratch = b->ops->plan_scratch(out->plan);
  TRY_GOTO(b->ops->alloc(b, scratch + 1, &out->scratch), done);
done:
  if (st != OK) op_device_destroy(out);
  return st;
}

void op_device_destroy(struct op_device *d) {
  const struct backend_ops *ops = d->backend->ops;
  for (int k = 0; k < OP_MAX_IN + OP_MAX_OUT; k++) {
    if (d->memory[k]) ops->free(d->backend, &d->memory[k]);
  }
  if (d->scratch) ops->free(d->backend, &d->scratch);
  if (d->plan) ops->plan_destroy(&d->plan);
}

status_t op_device_run(struct op_device *d) {
  TRY(d->backend->ops->plan_run(d->plan, d->operand, d->scratch, NULL));
  return wait(d);
}

static bool is_shared(const struct op_device *d, int input) {
  for (int j = 0; j < d->op.outputs; j++) {
    if (d->operand[d->op.inputs + j] == d->operand[input]) return true;
  }
  return false;
}

status_t op_device_check(const struct op_device *d, const struct op_values *v) {
  for (int k = 0; k < d->op.inputs + d->op.outputs; k++) {
    uint8_t *met = NULL, *want = NULL;
    if (!d->memory[k]) continue;
    bool input = k < d->op.inputs && !is_shared(d, k);
    size_t all = d->bytes[k] + 2 * (size_t)GUARD;
    status_t st = get_image(d, k, &met);
    if (st == OK) st = make_image(d, k, input ? v->in[k] : NULL, &want);
    bool same = st == OK && (input ? !memcmp(met, want, all)
                                   : !memcmp(met, want, GUARD) && !memcmp(met + all - GUARD, want, GUARD));
    mem_free(&met);
    mem_free(&want);
    if (st != OK) return st;
    if (!same) return FAIL(ERR_BACKEND, "operand %d: %s were written", k, input ? "an input or its guards" : "guards");
  }
  return OK;
}

// Where output j lies: in its own memory or in that of the input which it shares.
static int place_of(const struct op_device *d, int output) {
  int k = 0;
  while (!d->memory[k] || d->operand[k] != d->operand[d->op.inputs + output]) k++;
  return k;
}

status_t op_device_fetch(const struct op_device *d, int output, uint8_t **bytes) {
  int k = place_of(d, output);
  *bytes = NULL;
  status_t st = get_image(d, k, bytes);
  if (st == OK) memmove(*bytes, *bytes + GUARD, d->bytes[k]);
  return st;
}

status_t op_device_values(const struct op_device *d, int output, double **values) {
  uint8_t *bytes = NULL;
  const struct tensor_desc *desc = &d->op.out[output];
  int64_t n = desc_count(desc);
  TRY(op_device_fetch(d, output, &bytes));
  status_t st = mem_alloc(values, (size_t)n, sizeof(double));
  for (int64_t i = 0; st == OK && i < n; i++) {
    const void *raw = bytes;
    (*values)[i] = desc->dtype == DTYPE_F64   ? ((const double *)raw)[i]
                   : desc->dtype == DTYPE_F32 ? (double)((const float *)raw)[i]
                                              : (double)bf16_to_f32(((const uint16_t *)raw)[i]);
  }
  mem_free(&bytes);
  return st;
}
