// eval.h: the subcommands that use a trained model.
#ifndef GRIDSEG_TRAIN_EVAL_H
#define GRIDSEG_TRAIN_EVAL_H

#include "base/status.h"

// gridseg eval FILE.yaml [key=value ...]: score a model on pools x prompts (eval_config.c has the keys).
status_t eval_command(int argc, char **argv);
// gridseg score --pred DIR --pool ROOT/NAME/SPLIT/SIZE: anyone's masks with our metrics.
status_t score_command(int argc, char **argv);
// gridseg predict --model DIR (--image F | --images DIR) (--prompt TEXT ... | --prompt-image F) --out DIR_OR_PNG: masks of pictures.
status_t predict_command(int argc, char **argv);

#endif
