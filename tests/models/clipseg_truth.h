// clipseg_truth.h: reading the golden files of make_clipseg.py, shared by the tests of the tiny sizes and the published one.
#ifndef GRIDSEG_TESTS_CLIPSEG_TRUTH_H
#define GRIDSEG_TESTS_CLIPSEG_TRUTH_H

#include "base/mem.h"
#include "tensor/safetensors.h"
#include "testing.h"
#include "train/network.h"

#define GOLDEN TEST_SOURCE_DIR "/tests/golden"

static inline double *read_f64(const struct safetensors *io, const char *name, int64_t *count) {
  const struct safetensors_entry *e = safetensors_find(io, name);
  if (!e) fail_msg("the golden file lacks %s", name);
  struct tensor_desc d = e->desc;
  d.dtype = DTYPE_F64;
  double *out = NULL;
  assert_ok(mem_alloc(&out, (size_t)desc_count(&d), sizeof *out));
  assert_ok(safetensors_read(io, name, &d, out));
  *count = desc_count(&d);
  return out;
}

// torch's own distance from the float64 truth where the file states it, else 0.
static inline double torch_distance(const struct safetensors *io, const char *name) {
  char full[512];
  (void)snprintf(full, sizeof full, "%s#torch", name);
  if (!safetensors_find(io, full)) return 0;
  int64_t n;
  double *v = read_f64(io, full, &n), out = v[0];
  mem_free(&v);
  return out;
}

// The truth of a parameter's gradient: decoder gradients of a trained run are those of the frozen run.
static inline bool gradient_name(const struct safetensors *io, const char *prefix, bool encoders, const char *condition,
                                 const char *loss, const char *parameter, char out[512]) {
  (void)snprintf(out, 512, "%s/grad/%s", prefix, parameter);
  if (safetensors_find(io, out)) return true;
  if (!encoders) return false;
  (void)snprintf(out, 512, "%s/frozen/%s/grad/%s", condition, loss, parameter);
  return safetensors_find(io, out) != NULL;
}

static inline const char *loss_name(loss_t loss) {
  return loss == LOSS_DICE_CE ? "dice_ce" : loss == LOSS_DICE_ONLY ? "dice_only" : "monai14";
}

#endif
