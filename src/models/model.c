// model.c: a model directory as Hugging Face lays it out.
#include "models/model.h"

#include "base/file.h"
#include "base/mem.h"

#include <limits.h>
#include <string.h>

extern const struct model_arch clipseg_arch;
extern const struct model_arch biomedclipseg_arch;
extern const struct model_arch coop_arch;
extern const struct model_arch cris_arch;
extern const struct model_arch unet_arch;
extern const struct model_arch unetpp_arch;
extern const struct model_arch deeplabv3plus_arch;

static const struct model_arch *const arches[] = {
    &clipseg_arch, &coop_arch, &biomedclipseg_arch, &cris_arch, &unet_arch, &unetpp_arch, &deeplabv3plus_arch,
};

// The classes of segmentation_models_pytorch, whose config.json has no model_type.
static const struct {
  const char *class, *arch;
} classes[] = {{"Unet", "unet"}, {"UnetPlusPlus", "unetpp"}, {"DeepLabV3Plus", "deeplabv3plus"}};

const struct model_arch *model_arch_find(const char *name) {
  for (size_t i = 0; i < sizeof arches / sizeof *arches; i++) {
    if (!strcmp(arches[i]->name, name)) return arches[i];
  }
  return NULL;
}

// Everything beside the weights that makes a directory a model; what is absent is left out.
static const char *const files[] = {"vocab.json",
                                    "merges.txt",
                                    "bpe_simple_vocab_16e6.txt.gz",
                                    "vocab.txt",
                                    "tokenizer_config.json",
                                    "tokenizer.json",
                                    "special_tokens_map.json"};

static status_t read_triple(const json_t *config, const char *where, const char *key, double out[3]) {
  const json_t *list = json_object_get(config, key);
  if (!list || json_is_null(list)) return OK;
  if (!json_is_array(list) || json_array_size(list) != 3)
    return FAIL(ERR_FORMAT, "%s: '%s' must be three numbers", where, key);
  for (size_t i = 0; i < 3; i++) {
    const json_t *v = json_array_get(list, i);
    if (!json_is_number(v)) return FAIL(ERR_FORMAT, "%s: '%s' must be three numbers", where, key);
    out[i] = json_number_value(v);
  }
  return OK;
}

// "size" is a number, {"height","width"} or {"shortest_edge"}; the study resizes to a square whatever it says.
static status_t read_size(const json_t *config, const char *where, int *out) {
  const json_t *v = json_object_get(config, "size");
  int64_t n = *out, other;
  if (json_is_integer(v)) {
    TRY(json_get_int(config, where, "size", 1, 1 << 14, &n));
  } else if (json_is_object(v)) {
    TRY(json_get_int_or(v, where, "shortest_edge", 1, 1 << 14, n, &n));
    TRY(json_get_int_or(v, where, "height", 1, 1 << 14, n, &n));
    TRY(json_get_int_or(v, where, "width", 1, 1 << 14, n, &other));
    if (other != n)
      return FAIL(ERR_UNSUPPORTED, "%s: size must be square, met %lld x %lld", where, (long long)n, (long long)other);
  }
  *out = (int)n;
  return OK;
}

static status_t read_preprocess(struct model *m) {
  memcpy(m->preprocess.mean, m->arch->recipe.mean, sizeof m->preprocess.mean);
  memcpy(m->preprocess.std, m->arch->recipe.std, sizeof m->preprocess.std);
  m->preprocess.size = m->arch->recipe.size;
  status_t st = OK;
  char *path = NULL;
  json_t *config = NULL;
  TRY_GOTO(file_join(&path, m->directory, "preprocessor_config.json"), done);
  if (!file_exists(path)) goto done;
  TRY_GOTO(json_read(path, &config), done);
  if (!json_is_object(config)) FAIL_GOTO(done, ERR_FORMAT, "%s must be an object", path);
  TRY_GOTO(read_size(config, path, &m->preprocess.size), done);
  TRY_GOTO(read_triple(config, path, "image_mean", m->preprocess.mean), done);
  TRY_GOTO(read_triple(config, path, "image_std", m->preprocess.std), done);
  for (int i = 0; i < 3; i++) {
    if (!(m->preprocess.std[i] > 0)) FAIL_GOTO(done, ERR_FORMAT, "%s: 'image_std' must be positive", path);
  }
done:
  json_decref(config);
  mem_free(&path);
  return st;
}

static bool has_file(const char *directory, const char *name) {
  char path[PATH_MAX];
  return snprintf(path, sizeof path, "%s/%s", directory, name) < (int)sizeof path && file_exists(path);
}

// By "model_type", else by smp's "_model_class".
static status_t find_arch(const json_t *config, const char *where, const struct model_arch **out) {
  const char *type = NULL, *class = NULL;
  TRY(json_get_text_or(config, where, "model_type", NULL, &type));
  TRY(json_get_text_or(config, where, "_model_class", NULL, &class));
  for (size_t i = 0; !type && class && i < sizeof classes / sizeof *classes; i++) {
    if (!strcmp(classes[i].class, class)) type = classes[i].arch;
  }
  *out = type ? model_arch_find(type) : NULL;
  if (*out) return OK;
  char known[256] = "";
  for (size_t i = 0, used = 0; i < sizeof arches / sizeof *arches && used < sizeof known; i++)
    used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", arches[i]->name);
  if (!type && !class) return FAIL(ERR_FORMAT, "%s: 'model_type' is missing (gridseg knows %s)", where, known);
  return FAIL(ERR_UNSUPPORTED, "%s: %s '%s' is not one that gridseg knows (%s)", where,
              type ? "model_type" : "_model_class", type ? type : class, known);
}

status_t model_open(const char *directory, struct model **out) {
  status_t st = OK;
  struct model *m = NULL;
  char *path = NULL;
  *out = NULL;
  TRY_GOTO(mem_alloc(&m, 1, sizeof *m), done);
  TRY_GOTO(mem_copy_text(&m->directory, directory), done);
  TRY_GOTO(file_join(&path, directory, "config.json"), done);
  if (!file_exists(path)) FAIL_GOTO(done, ERR_ARG, "%s is no model directory: it has no config.json", directory);
  TRY_GOTO(json_read(path, &m->config_json), done);
  if (!json_is_object(m->config_json)) FAIL_GOTO(done, ERR_FORMAT, "%s must be an object", path);
  TRY_GOTO(find_arch(m->config_json, path, &m->arch), done);
  TRY_GOTO(m->arch->configure(m->config_json, path, &m->config), done);
  TRY_GOTO(read_preprocess(m), done);
  m->has_weights = has_file(directory, "model.safetensors") || has_file(directory, "model.safetensors.index.json");
  *out = m;
  m = NULL;
done:
  mem_free(&path);
  model_close(&m);
  return st;
}

void model_close(struct model **m) {
  if (!*m) return;
  if ((*m)->arch && (*m)->config) (*m)->arch->release(&(*m)->config);
  json_decref((*m)->config_json);
  mem_free(&(*m)->directory);
  mem_free(m);
}

static status_t copy_file(const char *from, const char *to) {
  uint8_t *bytes = NULL;
  size_t size;
  TRY(file_read(from, JSON_LIMIT_BYTES, &bytes, &size));
  status_t st = file_write_atomic(to, bytes, size);
  mem_free(&bytes);
  return st;
}

static json_t *triple(const double v[3]) {
  return json_pack("[f,f,f]", v[0], v[1], v[2]);
}

// As the directory has it, with the size that masks were learnt at; where it has none, what transformers' AutoImageProcessor reads.
static status_t write_preprocess(const struct model *m, int size, const char *directory) {
  status_t st = OK;
  char *from = NULL, *to = NULL;
  json_t *config = NULL;
  TRY_GOTO(file_join(&from, m->directory, "preprocessor_config.json"), done);
  TRY_GOTO(file_join(&to, directory, "preprocessor_config.json"), done);
  if (file_exists(from)) {
    TRY_GOTO(json_read(from, &config), done);
  } else {
    config = json_pack("{s:s,s:b,s:b,s:f,s:b,s:i}", "image_processor_type", "ViTImageProcessor", "do_resize", true,
                       "do_rescale", true, "rescale_factor", 1 / 255.0, "do_normalize", true, "resample", 2);
  }
  if (m->preprocess.size != size || !file_exists(from))
    TRY_GOTO(json_put(config, "size", json_pack("{s:i,s:i}", "height", size, "width", size)), done);
  TRY_GOTO(json_put(config, "image_mean", triple(m->preprocess.mean)), done);
  TRY_GOTO(json_put(config, "image_std", triple(m->preprocess.std)), done);
  TRY_GOTO(json_write(to, config), done);
done:
  json_decref(config);
  mem_free(&to);
  mem_free(&from);
  return st;
}

status_t model_copy_files(const struct model *model, int size, const char *directory) {
  status_t st = OK;
  char *from = NULL, *to = NULL;
  TRY_GOTO(file_join(&to, directory, "config.json"), done);
  TRY_GOTO(json_write(to, model->config_json), done);
  TRY_GOTO(write_preprocess(model, size, directory), done);
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    mem_free(&from);
    mem_free(&to);
    TRY_GOTO(file_join(&from, model->directory, files[i]), done);
    if (!file_exists(from)) continue;
    TRY_GOTO(file_join(&to, directory, files[i]), done);
    TRY_GOTO(copy_file(from, to), done);
  }
done:
  mem_free(&to);
  mem_free(&from);
  return st;
}

bool model_has_text(const struct model *model) {
  int limit = 0, vocabulary = 0;
  model->arch->text(model->config, &limit, &vocabulary);
  return limit > 0;
}

const char *model_plane_label(const struct model *model, int plane) {
  char number[16];
  (void)snprintf(number, sizeof number, "%d", plane);
  return json_string_value(json_object_get(json_object_get(model->config_json, "id2label"), number));
}

int model_find_plane(const struct model *model, int planes, const char *class_name) {
  if (planes == 1) return 0;
  for (int i = 0; i < planes; i++) {
    const char *label = model_plane_label(model, i);
    if (label && !strcmp(label, class_name)) return i;
  }
  return -1;
}
