// inference.c: see inference.h.
#include "train/inference.h"

#include <stdio.h>
#include <string.h>

// "onednn, AMD EPYC 9R14": backend and kind of processor.
void inference_name_device(const struct backend *b, char *out, size_t size) {
  char line[256];
  FILE *f = fopen("/proc/cpuinfo", "r");
  (void)snprintf(out, size, "%s", b->ops->name);
  while (f && fgets(line, sizeof line, f)) {
    const char *colon = strchr(line, ':');
    if (strncmp(line, "model name", 10) != 0 || !colon) continue;
    line[strcspn(line, "\n")] = '\0';
    (void)snprintf(out, size, "%s,%s", b->ops->name, colon + 1);
    break;
  }
  if (f) (void)fclose(f);
}

status_t inference_load_tokenizer(const struct model *model, struct tokenizer **out) {
  int limit = 0, vocabulary = 0;
  *out = NULL;
  model->arch->text(model->config, &limit, &vocabulary);
  if (limit == 0) return FAIL(ERR_UNSUPPORTED, "%s: %s takes no text", model->directory, model->arch->name);
  TRY(tokenizer_load(model->directory, limit, out));
  int size = tokenizer_size(*out);
  if (size <= vocabulary) return OK;
  tokenizer_destroy(out);
  return FAIL(ERR_FORMAT, "%s: the tokenizer has %d ids, the model's vocabulary %d", model->directory, size,
              vocabulary);
}
