// parameter_tree.h: the parts of a model, by the dotted names of its parameters, for people.
#ifndef GRIDSEG_TRAIN_PARAMETER_TREE_H
#define GRIDSEG_TRAIN_PARAMETER_TREE_H

#include "train/network.h"

#include <stdio.h>

// Is this tensor a buffer of a BatchNorm: no parameter, though the state dict holds it?
bool parameter_is_buffer(const char *name);

// One line a part: name, parameters, whether it trains. As deep as `lines` lines allow; equal neighbours with numbers for names
// ("layers.0" to "layers.11") are one line.
status_t parameter_tree_print(const struct network *n, size_t lines, FILE *out);

#endif
