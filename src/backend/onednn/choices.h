// choices.h: which of several ways a plan takes: by rule, by what a file says, or by timing them once on this machine.
#ifndef GRIDSEG_BACKEND_ONEDNN_CHOICES_H
#define GRIDSEG_BACKEND_ONEDNN_CHOICES_H

#include "backend/onednn/inside.h"

struct choice {
  unsigned ways; // bit by bit
  int rule;      // the way when nothing is known
  int count;     // of names
  const char *(*name)(int way);
  status_t (*create)(struct plan *p, int way); // may change p->op
};

status_t choice_make(const struct plan *p, const struct choice *c, int *way);

#endif
