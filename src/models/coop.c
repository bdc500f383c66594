// coop.c: CoOp (Zhou et al., "Learning to Prompt for Vision-Language Models", arXiv 2109.01134, figure 2, unified context, class token
// at the end) on CLIPSeg: M vectors are learned in place of the words before a class name, all else stays as it was.
//
//   [start] [V1] [V2] ... [VM] [words of the prompt] [end]   -> CLIP text transformer -> conditional embedding -> CLIPSeg
//            \------ prompt_learner.ctx [M,D] ------/
//
// config.json: CLIPSeg's, with "model_type": "coop" and "n_ctx" (16). State dict: CLIPSeg's and prompt_learner.ctx.
#include "models/clipseg.h"

#include "base/mem.h"

#include <string.h>

struct coop {
  void *clipseg; // its configuration
  int contexts;  // M
};

static status_t configure(const json_t *config, const char *where, void **out) {
  status_t st = OK;
  struct coop *c = NULL;
  int64_t n;
  int limit, vocabulary;
  TRY_GOTO(mem_alloc(&c, 1, sizeof *c), done);
  TRY_GOTO(clipseg_arch.configure(config, where, &c->clipseg), done);
  TRY_GOTO(json_get_int_or(config, where, "n_ctx", 1, 1 << 10, 16, &n), done);
  clipseg_arch.text(c->clipseg, &limit, &vocabulary);
  if (n > limit - 3) {
    FAIL_GOTO(done, ERR_FORMAT, "%s: 'n_ctx' %lld leaves no room for words among the text tower's %d positions", where,
              (long long)n, limit);
  }
  c->contexts = (int)n;
  *out = c;
  c = NULL;
done:
  if (c && c->clipseg) clipseg_arch.release(&c->clipseg);
  mem_free(&c);
  return st;
}

static void release(void **config) {
  struct coop *c = *config;
  clipseg_arch.release(&c->clipseg);
  mem_free(config);
}

static status_t check_size(const void *config, int64_t size) {
  return clipseg_arch.check_size(((const struct coop *)config)->clipseg, size);
}

static void text(const void *config, int *limit, int *vocabulary) {
  const struct coop *c = config;
  clipseg_arch.text(c->clipseg, limit, vocabulary);
  *limit -= c->contexts;
}

static int pooled_token(const void *config, const int32_t *ids, int length) {
  const struct coop *c = config;
  return clipseg_arch.pooled_token(c->clipseg, ids, length) + c->contexts;
}

// CoOp trains the context alone; train.encoders trains everything.
static bool is_encoder(const char *parameter) {
  return strcmp(parameter, "prompt_learner.ctx") != 0;
}

static struct value *build(struct net *n, const void *config, const struct model_spec *spec,
                           const struct model_preprocess *pre) {
  const struct coop *c = config;
  struct tensor_desc each = TENSOR_DESC(n->g->real, c->contexts, clipseg_text_width(c->clipseg));
  struct value *context = nn_parameter(n, "prompt_learner.ctx", &each, (struct init){INIT_NORMAL, 0.02});
  return clipseg_build(n, c->clipseg, spec, pre, context);
}

const struct model_arch coop_arch = {
    .name = "coop",
    .recipe = CLIPSEG_RECIPE,
    .configure = configure,
    .release = release,
    .check_size = check_size,
    .build = build,
    .text = text,
    .pooled_token = pooled_token,
    .is_encoder = is_encoder,
};
