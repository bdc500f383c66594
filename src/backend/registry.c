// registry.c: the one place that knows which backends are built in.
#include "backend/backend.h"

#include "backend/reference/reference.h"
#ifdef GRIDSEG_ONEDNN
#include "backend/onednn/onednn.h"
#endif

#include <string.h>

static const struct {
  const char *name;
  status_t (*create)(int threads, struct backend **out);
} backends[] = {
// The fastest first: it is what "cpu" and "auto" give.
#ifdef GRIDSEG_ONEDNN
    {"onednn", onednn_backend_create},
#endif
    {"reference", reference_backend_create},
};

status_t backend_create(const char *name, int threads, struct backend **out) {
  *out = NULL;
  bool fastest = !strcmp(name, "cpu") || !strcmp(name, "auto");
  for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
    if (fastest || !strcmp(name, backends[i].name)) return backends[i].create(threads, out);
  }
  return FAIL(ERR_ARG, "backend '%s' is not built in; there are auto, cpu%s and reference", name,
#ifdef GRIDSEG_ONEDNN
              ", onednn"
#else
              ""
#endif
  );
}

void backend_destroy(struct backend **b) {
  if (*b) (*b)->ops->destroy(b);
}
