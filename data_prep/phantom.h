// phantom.h: synthetic datasets: pictures of three modalities with masks and prompts that truly describe them. They are for
// tests and demonstrations; no clinical claim can rest on them.
#ifndef GRIDSEG_DATA_PREP_PHANTOM_H
#define GRIDSEG_DATA_PREP_PHANTOM_H

#include "base/json.h"
#include "base/status.h"
#include "data/image.h"

#include <stdint.h>

struct phantom {
  struct image picture; // [height, width, 3]
  struct image mask;    // [height, width, 1], 0 and 1
  json_t *prompts;      // {"p0": "", ...}: a text, or a list of wordings of the same meaning
  int box[4];           // first column, first row, last column, last row of the mask
};

// Draw sample `index` of a domain ("endoscopy" | "ultrasound" | "dermoscopy"): a pure function of its arguments, to the
// bit and on any machine. p0 to p6 follow the study's wording for polyps, breast ultrasound and skin lesions; each word is
// measured from the finished mask and picture (describe.h), and a draw whose words could be disputed is thrown away.
// ERR_ARG for an unknown domain. Release with phantom_free.
status_t phantom_draw(const char *domain, uint64_t seed, uint64_t index, struct phantom *out);
void phantom_free(struct phantom *p);

// Write `count` samples in the study layout: DIR/images, DIR/masks, DIR/anns/{train,val,test}.json, split 80/10/10. DIR is
// complete or absent. When DIR already holds this very dataset (same domain, count, seed and version) nothing is done;
// anything else there is ERR_ARG.
status_t phantom_write(const char *domain, int count, uint64_t seed, const char *dir);

// gridseg phantom --domain NAME --count N --seed S --out DIR
status_t phantom_command(int argc, char **argv);

#endif
