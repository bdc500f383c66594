// op.h: inside of the backend folder: how op.c and op_shapes.c name an operand that does not fit.
#ifndef GRIDSEG_BACKEND_OP_H
#define GRIDSEG_BACKEND_OP_H

#include "backend/backend.h"

typedef enum { IN, OUT } op_side_t;

// ERR_SHAPE with kind and direction before the text.
status_t op_fail(const struct op *op, const char *format, ...) __attribute__((format(printf, 2, 3), cold));
const struct tensor_desc *op_operand(const struct op *op, op_side_t side, int i);
const char *op_operand_name(const struct op *op, op_side_t side, int i);
// The operand, unless left out, has exactly these dimensions, or those of `like`, or a rank in [low, high].
status_t op_want(const struct op *op, op_side_t side, int i, int rank, const int64_t *dim);
status_t op_want_like(const struct op *op, op_side_t side, int i, const struct tensor_desc *like);
status_t op_want_rank(const struct op *op, op_side_t side, int i, int low, int high);

// The second half of op_check: shapes and attributes, once counts and types are known to agree.
status_t op_check_shapes(const struct op *op);

#endif
