// planes.c: see planes.h.
#include "train/planes.h"

#include "base/mem.h"
#include "train/logit.h"

#include <string.h>

status_t planes_predicted(const float *logits, int size, int planes, int height, int width, float cut, bool *any) {
  status_t st = OK;
  size_t area = (size_t)size * (size_t)size, pixels = (size_t)height * (size_t)width;
  float *plane = NULL;
  uint8_t *mask = NULL;
  TRY_GOTO(mem_alloc(&plane, area, sizeof *plane), done);
  TRY_GOTO(mem_alloc(&mask, pixels, 1), done);
  for (int p = 0; p < planes; p++) {
    for (size_t i = 0; i < area; i++) plane[i] = logits[i * (size_t)planes + (size_t)p];
    TRY_GOTO(logit_to_mask(plane, size, height, width, cut, mask), done);
    any[p] = memchr(mask, 1, pixels) != NULL;
  }
done:
  mem_free(&mask);
  mem_free(&plane);
  return st;
}

double planes_mean(const bool *any, int planes, int own, double value) {
  double sum = 0;
  for (int p = 1; p < planes; p++) sum += p == own ? value : any[p] ? 0 : 1;
  return sum / (planes - 1);
}
