// layer.h: a oneDNN primitive with everything around it: types that oneDNN does not mix are cast, layouts that it wants are
// made, constant weights are packed once. LINEAR, CONV and CONV_TRANSPOSE are layers.
#ifndef GRIDSEG_BACKEND_ONEDNN_LAYER_H
#define GRIDSEG_BACKEND_ONEDNN_LAYER_H

#include "backend/onednn/inside.h"

// Translate a oneDNN status into an error that names the operation of plan p.
status_t dnnl_check(dnnl_status_t st, const struct plan *p, const char *what);
#define DNNL_TRY(call)             TRY(dnnl_check((call), p, #call))
#define DNNL_TRY_GOTO(call, label) TRY_GOTO(dnnl_check((call), p, #call), label)

enum { PRIMITIVE_ARGS = 7 };

// A primitive with its memory objects; data pointers are set before each run.
struct primitive {
  dnnl_primitive_t handle;
  int count;
  dnnl_exec_arg_t arg[PRIMITIVE_ARGS];
  bool scratchpad; // argument 0
  size_t scratchpad_at;
};

// From a description, which is destroyed; reserves the scratchpad in the plan.
status_t primitive_create(struct plan *p, dnnl_primitive_desc_t *description, struct primitive *out);
status_t primitive_bind(struct plan *p, struct primitive *out, int arg, md_view_t md);
void primitive_destroy(struct primitive *primitive);
// Set the pointer of argument `arg`.
void primitive_point(struct primitive *primitive, int arg, void *data);
status_t primitive_run(struct plan *p, struct primitive *primitive, char *scratch);

// An attribute set with the scratchpad in the caller's hands; to what is in the output already (`sum`) the product is
// added, then come the activation and the addition of a tensor (NULL: none), or the other way round (residual_first).
status_t layer_attributes(struct plan *p, bool sum, activation_t a, md_view_t residual, bool residual_first,
                          dnnl_primitive_attr_t *out);
// The argument of that tensor, where `sum` is false.
int layer_residual(const struct op *op);
dnnl_data_type_t layer_type(dtype_t t);

// One operand of the plan on its way into or out of the primitive.
struct link {
  int operand, arg;
  bool output, constant;
  dtype_t outer, inner; // the type of the tensor, and the one that oneDNN gets
  int64_t count;
  size_t skip;    // bytes of the tensor before the part that the primitive gets
  size_t cast_at; // scratch, where outer != inner or with `prepare`
  void (*prepare)(const struct plan *p, const void *from, void *to); // in place of the cast of an input; NULL: none
  // In place of the cast of an output; `from` may be `to`. NULL: none.
  void (*finish)(struct plan *p, void *const *operands, char *scratch, const void *from, void *to);
  int start;                // the input that an output holds before the primitive adds to it; 0: none
  struct primitive reorder; // to or from oneDNN's layout; handle NULL: none
  size_t layout_at, layout_bytes;
  void *kept; // a constant in oneDNN's layout
  bool ready;
};

enum { LAYER_LINKS = 5 };

struct layer {
  struct layer *next; // run after this one: the next part of a long sum
  struct primitive main;
  int links;
  struct link link[LAYER_LINKS];
  void (*after)(struct plan *p, void *const *operands, char *scratch); // work beside the primitive; NULL: none
  size_t after_at;
};

// A layer as the state of the plan, or behind those that it has: sets run, reset and release.
status_t layer_begin(struct plan *p, struct layer **out);
// Bind operand `operand` as argument `arg` in type `inner`. `plain` is the tensor's own layout; `wanted`, when not NULL
// and different, is oneDNN's.
status_t layer_link(struct plan *p, struct layer *l, int operand, int arg, dtype_t inner, md_view_t plain,
                    md_view_t wanted);
// As layer_link for an input that `prepare` turns into type `inner` and layout `plain`.
status_t layer_link_prepared(struct plan *p, struct layer *l, int operand, int arg, dtype_t inner, md_view_t plain,
                             md_view_t wanted, void (*prepare)(const struct plan *p, const void *from, void *to));
// As layer_link for a part of an input that begins `skip` bytes into it; its type is `inner` already.
status_t layer_link_part(struct plan *p, struct layer *l, int operand, size_t skip, int arg, dtype_t inner,
                         md_view_t plain, md_view_t wanted);

#endif
