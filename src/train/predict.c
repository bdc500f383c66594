// predict.c: gridseg predict: its options. predict_run.c does the work.
#include "train/predict.h"

#include "base/file.h"
#include "base/mem.h"
#include "base/parse.h"
#include "train/eval.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: gridseg predict --model DIR (--image F ... | --images DIR) (--prompt TEXT ... | --prompt-image F) --out "
    "DIR_OR_PNG\n"
    "                       [--overlay] [--logits L.safetensors] [--threshold X] [--precision fp32|bf16] [--size S]\n"
    "                       [--exif ignore|apply] [--device auto|cpu|reference] [--threads N]\n"
    "  --model DIR        model directory or checkpoint\n"
    "  --image F          a picture; --images DIR: every file of a folder\n"
    "  --prompt TEXT      what to find; given several times, one mask each. A model without prompts: none, or of "
    "several "
    "planes the class (default: every class)\n"
    "  --prompt-image F   find what this picture shows\n"
    "  --out P            P.png for one mask, else a folder: NAME.png, or NAME-PROMPT.png for several prompts; at each "
    "picture's size\n"
    "  --overlay          also NAME-overlay.png, the mask drawn over the picture\n"
    "  --logits L         the network's output before the threshold: tensor logits [pictures, prompts, S, S]\n"
    "  --threshold X      foreground is where the sigmoid is above X (default: the model's)\n"
    "  --size S           side of the network's pictures (default: the model's)\n"
    "  --exif apply       turn pictures as their EXIF orientation says (default: ignore, as training does)";

static status_t add_image(struct predict_options *o, const char *folder, const char *name) {
  TRY(mem_grow(&o->images, &o->image_room, o->image_count + 1, sizeof *o->images));
  TRY(folder ? file_join(&o->images[o->image_count], folder, name) : mem_copy_text(&o->images[o->image_count], name));
  o->image_count++;
  return OK;
}

// Every file of a folder; folders in it are left alone.
static status_t add_folder(struct predict_options *o, const char *folder) {
  char **names = NULL;
  size_t count = 0;
  TRY(file_list(folder, &names, &count));
  status_t st = OK;
  for (size_t i = 0; st == OK && i < count; i++) {
    st = add_image(o, folder, names[i]);
    if (st == OK && file_is_directory(o->images[o->image_count - 1])) mem_free(&o->images[--o->image_count]);
  }
  file_free_names(&names, count);
  o->folder = true;
  if (st == OK && o->image_count == 0) st = FAIL(ERR_ARG, "--images: there is no file in %s", folder);
  return st;
}

// Which of two words; `second` says which.
static status_t read_choice(const char *option, const char *text, const char *a, const char *b, bool *second) {
  *second = strcmp(text, b) == 0;
  if (*second || strcmp(text, a) == 0) return OK;
  return FAIL(ERR_ARG, "%s: wanted %s or %s, met '%s'", option, a, b, text);
}

static status_t read_option(struct predict_options *o, int c) {
  bool second = false;
  switch (c) {
  case 'm': o->model = optarg; return OK;
  case 'i': return add_image(o, NULL, optarg);
  case 'I': return add_folder(o, optarg);
  case 'p':
    TRY(mem_grow(&o->prompts, &o->prompt_room, o->prompt_count + 1, sizeof *o->prompts));
    o->prompts[o->prompt_count++] = optarg;
    return OK;
  case 'P': o->prompt_image = optarg; return OK;
  case 'o': o->out = optarg; return OK;
  case 'v': o->overlay = true; return OK;
  case 'l': o->logits = optarg; return OK;
  case 't': return parse_real("--threshold", optarg, 0, 1, &o->threshold);
  case 'r':
    TRY(read_choice("--precision", optarg, "fp32", "bf16", &second));
    o->precision = second ? PRECISION_BF16 : PRECISION_FP32;
    return OK;
  case 's': return parse_small("--size", optarg, 16, 4096, &o->size);
  case 'e': return read_choice("--exif", optarg, "ignore", "apply", &o->exif);
  case 'd': o->device = optarg; return OK;
  default: return parse_small("--threads", optarg, 0, 4096, &o->threads);
  }
}

static status_t check_options(const struct predict_options *o) {
  if (!o->model) return FAIL(ERR_ARG, "--model is missing\n%s", usage);
  if (!o->out) return FAIL(ERR_ARG, "--out is missing\n%s", usage);
  if (o->image_count == 0) return FAIL(ERR_ARG, "--image or --images is missing\n%s", usage);
  if (o->prompt_image && o->prompt_count > 0)
    return FAIL(ERR_ARG, "--prompt and --prompt-image exclude each other\n%s", usage);
  return OK;
}

status_t predict_command(int argc, char **argv) {
  static const struct option options[] = {{"model", required_argument, NULL, 'm'},
                                          {"image", required_argument, NULL, 'i'},
                                          {"images", required_argument, NULL, 'I'},
                                          {"prompt", required_argument, NULL, 'p'},
                                          {"prompt-image", required_argument, NULL, 'P'},
                                          {"out", required_argument, NULL, 'o'},
                                          {"overlay", no_argument, NULL, 'v'},
                                          {"logits", required_argument, NULL, 'l'},
                                          {"threshold", required_argument, NULL, 't'},
                                          {"precision", required_argument, NULL, 'r'},
                                          {"size", required_argument, NULL, 's'},
                                          {"exif", required_argument, NULL, 'e'},
                                          {"device", required_argument, NULL, 'd'},
                                          {"threads", required_argument, NULL, 'n'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  status_t st = OK;
  struct predict_options o = {.device = "auto", .threshold = NAN};
  optind = 0;
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
    if (c == 'h') {
      (void)puts(usage);
      goto done;
    }
    if (c == ':') FAIL_GOTO(done, ERR_ARG, "%s wants a value\n%s", argv[optind - 1], usage);
    if (c == '?') FAIL_GOTO(done, ERR_ARG, "unknown option %s\n%s", argv[optind - 1], usage);
    TRY_GOTO(read_option(&o, c), done);
  }
  if (optind < argc) FAIL_GOTO(done, ERR_ARG, "unexpected argument %s\n%s", argv[optind], usage);
  TRY_GOTO(check_options(&o), done);
  TRY_GOTO(predict_run(&o), done);
done:
  for (size_t i = 0; i < o.image_count; i++) mem_free(&o.images[i]);
  mem_free(&o.images);
  mem_free(&o.prompts);
  return st;
}
