// op_device.h: one operation set up on a backend with operands in its memory, each between guard bytes.
#ifndef GRIDSEG_TESTS_BACKEND_OP_DEVICE_H
#define GRIDSEG_TESTS_BACKEND_OP_DEVICE_H

#include "op_cases.h"

struct op_device {
  struct backend *backend;
  struct op op;
  struct plan *plan;
  void *memory[OP_MAX_IN + OP_MAX_OUT]; // with guards; NULL where left out or shared
  size_t bytes[OP_MAX_IN + OP_MAX_OUT];
  void *operand[OP_MAX_IN + OP_MAX_OUT]; // inputs first
  void *scratch;
};

// Make the plan, put the inputs there (narrowed to their types), fill outputs and scratch with noise.
// share[j] >= 0: output j uses the memory of that input. `share` may be NULL.
status_t op_device_create(struct backend *b, const struct op *op, const struct op_values *v, const int *share,
                          struct op_device *out);
void op_device_destroy(struct op_device *d);
status_t op_device_put(struct op_device *d, int input, const void *values);
status_t op_device_run(struct op_device *d); // waits for the end
// The raw bytes of output j, freed with mem_free; ERR_BACKEND when bytes beside an operand have changed, or those of an
// input that no output shares (v: as at creation).
status_t op_device_fetch(const struct op_device *d, int output, uint8_t **bytes);
status_t op_device_check(const struct op_device *d, const struct op_values *v);
// Widened to double.
status_t op_device_values(const struct op_device *d, int output, double **values);

#endif
