// compat.h: the one place that knows that oneDNN 2.6 (Debian 12) and 3.x differ: how memory is described, and how the
// description of a primitive is made.
#ifndef GRIDSEG_BACKEND_ONEDNN_COMPAT_H
#define GRIDSEG_BACKEND_ONEDNN_COMPAT_H

#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

#if DNNL_VERSION_MAJOR >= 3

typedef dnnl_memory_desc_t md_t; // owned, NULL when empty
typedef const_dnnl_memory_desc_t md_view_t;

static inline dnnl_status_t md_create_tag(md_t *out, int rank, const dnnl_dims_t dims, dnnl_data_type_t type,
                                          dnnl_format_tag_t tag) {
  return dnnl_memory_desc_create_with_tag(out, rank, dims, type, tag);
}
static inline dnnl_status_t md_create_strides(md_t *out, int rank, const dnnl_dims_t dims, dnnl_data_type_t type,
                                              const dnnl_dims_t strides) {
  return dnnl_memory_desc_create_with_strides(out, rank, dims, type, strides);
}
static inline dnnl_status_t md_copy(md_t *out, md_view_t from) {
  return dnnl_memory_desc_clone(out, from);
}
static inline void md_destroy(md_t *md) {
  if (*md) (void)dnnl_memory_desc_destroy(*md);
  *md = NULL;
}

#else

typedef dnnl_memory_desc_t *md_t;
typedef const dnnl_memory_desc_t *md_view_t;

static inline dnnl_status_t md_create_tag(md_t *out, int rank, const dnnl_dims_t dims, dnnl_data_type_t type,
                                          dnnl_format_tag_t tag) {
  *out = malloc(sizeof **out);
  return *out ? dnnl_memory_desc_init_by_tag(*out, rank, dims, type, tag) : dnnl_out_of_memory;
}
static inline dnnl_status_t md_create_strides(md_t *out, int rank, const dnnl_dims_t dims, dnnl_data_type_t type,
                                              const dnnl_dims_t strides) {
  *out = malloc(sizeof **out);
  return *out ? dnnl_memory_desc_init_by_strides(*out, rank, dims, type, strides) : dnnl_out_of_memory;
}
static inline dnnl_status_t md_copy(md_t *out, md_view_t from) {
  *out = malloc(sizeof **out);
  if (!*out) return dnnl_out_of_memory;
  **out = *from;
  return dnnl_success;
}
static inline void md_destroy(md_t *md) {
  free(*md);
  *md = NULL;
}

#endif

static inline dnnl_status_t compat_append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t kind, float alpha) {
#if DNNL_VERSION_MAJOR >= 3
  return dnnl_post_ops_append_eltwise(ops, kind, alpha, 0.0f);
#else
  return dnnl_post_ops_append_eltwise(ops, 1.0f, kind, alpha, 0.0f);
#endif
}

static inline dnnl_status_t compat_append_sum(dnnl_post_ops_t ops) {
#if DNNL_VERSION_MAJOR >= 3
  return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
#else
  return dnnl_post_ops_append_sum(ops, 1.0f);
#endif
}

static inline dnnl_status_t compat_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, md_view_t src,
                                          md_view_t weights, md_view_t bias, md_view_t dst,
                                          const_dnnl_primitive_attr_t attr) {
#if DNNL_VERSION_MAJOR >= 3
  return dnnl_matmul_primitive_desc_create(out, engine, src, weights, bias, dst, attr);
#else
  dnnl_matmul_desc_t d;
  dnnl_status_t st = dnnl_matmul_desc_init(&d, src, weights, bias, dst);
  return st == dnnl_success ? dnnl_primitive_desc_create(out, &d, attr, engine, NULL) : st;
#endif
}

static inline dnnl_status_t compat_reorder(dnnl_primitive_desc_t *out, dnnl_engine_t engine, md_view_t from,
                                           md_view_t to, const_dnnl_primitive_attr_t attr) {
  return dnnl_reorder_primitive_desc_create(out, from, engine, to, engine, attr);
}

// Geometry of a convolution or its transpose. oneDNN counts dilation from 0.
struct compat_window {
  dnnl_dims_t stride, dilation, before, after;
};

enum compat_conv { COMPAT_FORWARD, COMPAT_BACKWARD_DATA, COMPAT_BACKWARD_WEIGHT };

// src, weights, dst are the gradients where the direction makes gradients. `hint` is the forward description.
static inline dnnl_status_t compat_convolution(dnnl_primitive_desc_t *out, dnnl_engine_t engine, enum compat_conv kind,
                                               md_view_t src, md_view_t weights, md_view_t bias, md_view_t dst,
                                               const struct compat_window *w, dnnl_primitive_desc_t hint,
                                               const_dnnl_primitive_attr_t attr) {
  const dnnl_alg_kind_t direct = dnnl_convolution_direct;
#if DNNL_VERSION_MAJOR >= 3
  switch (kind) {
  case COMPAT_FORWARD:
    return dnnl_convolution_forward_primitive_desc_create(out, engine, dnnl_forward_training, direct, src, weights,
                                                          bias, dst, w->stride, w->dilation, w->before, w->after, attr);
  case COMPAT_BACKWARD_DATA:
    return dnnl_convolution_backward_data_primitive_desc_create(out, engine, direct, src, weights, dst, w->stride,
                                                                w->dilation, w->before, w->after, hint, attr);
  default:
    return dnnl_convolution_backward_weights_primitive_desc_create(
        out, engine, direct, src, weights, bias, dst, w->stride, w->dilation, w->before, w->after, hint, attr);
  }
#else
  dnnl_convolution_desc_t d;
  dnnl_status_t st;
  if (kind == COMPAT_FORWARD) {
    st = dnnl_dilated_convolution_forward_desc_init(&d, dnnl_forward_training, direct, src, weights, bias, dst,
                                                    w->stride, w->dilation, w->before, w->after);
  } else if (kind == COMPAT_BACKWARD_DATA) {
    st = dnnl_dilated_convolution_backward_data_desc_init(&d, direct, src, weights, dst, w->stride, w->dilation,
                                                          w->before, w->after);
  } else {
    st = dnnl_dilated_convolution_backward_weights_desc_init(&d, direct, src, weights, bias, dst, w->stride,
                                                             w->dilation, w->before, w->after);
  }
  return st == dnnl_success ? dnnl_primitive_desc_create(out, &d, attr, engine, hint) : st;
#endif
}

static inline dnnl_status_t compat_deconvolution(dnnl_primitive_desc_t *out, dnnl_engine_t engine,
                                                 enum compat_conv kind, md_view_t src, md_view_t weights,
                                                 md_view_t bias, md_view_t dst, const struct compat_window *w,
                                                 dnnl_primitive_desc_t hint, const_dnnl_primitive_attr_t attr) {
  const dnnl_alg_kind_t direct = dnnl_deconvolution_direct;
#if DNNL_VERSION_MAJOR >= 3
  switch (kind) {
  case COMPAT_FORWARD:
    return dnnl_deconvolution_forward_primitive_desc_create(out, engine, dnnl_forward_training, direct, src, weights,
                                                            bias, dst, w->stride, w->dilation, w->before, w->after,
                                                            attr);
  case COMPAT_BACKWARD_DATA:
    return dnnl_deconvolution_backward_data_primitive_desc_create(out, engine, direct, src, weights, dst, w->stride,
                                                                  w->dilation, w->before, w->after, hint, attr);
  default:
    return dnnl_deconvolution_backward_weights_primitive_desc_create(
        out, engine, direct, src, weights, bias, dst, w->stride, w->dilation, w->before, w->after, hint, attr);
  }
#else
  dnnl_deconvolution_desc_t d;
  dnnl_status_t st;
  if (kind == COMPAT_FORWARD) {
    st = dnnl_dilated_deconvolution_forward_desc_init(&d, dnnl_forward_training, direct, src, weights, bias, dst,
                                                      w->stride, w->dilation, w->before, w->after);
  } else if (kind == COMPAT_BACKWARD_DATA) {
    st = dnnl_dilated_deconvolution_backward_data_desc_init(&d, direct, src, weights, dst, w->stride, w->dilation,
                                                            w->before, w->after);
  } else {
    st = dnnl_dilated_deconvolution_backward_weights_desc_init(&d, direct, src, weights, bias, dst, w->stride,
                                                               w->dilation, w->before, w->after);
  }
  return st == dnnl_success ? dnnl_primitive_desc_create(out, &d, attr, engine, hint) : st;
#endif
}

#endif
