// phantom_prompt.h: measured words put into the study's prompts p0 to p6.
#ifndef GRIDSEG_DATA_PREP_PHANTOM_PROMPT_H
#define GRIDSEG_DATA_PREP_PHANTOM_PROMPT_H

#include "base/json.h"
#include "base/status.h"
#include "data_prep/describe.h"

#include <stdbool.h>

// "one small yellow oval polyp, located in right of the image" and its shorter forms, into the object `prompts`. All
// parts of `d` have the shape and size of the first.
status_t prompt_polyp_scheme(const struct description *d, const char *class_name, json_t *prompts);

// "One small circle-shaped benign tumor at the top left in the breast ultrasound image." and its shorter forms.
status_t prompt_ultrasound_scheme(const struct description *d, bool irregular, json_t *prompts);

#endif
