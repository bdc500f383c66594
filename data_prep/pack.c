// pack.c: `gridseg pack`.
#include "data_prep/pack.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parse.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: gridseg pack --dataset study|folder|csv --source DIR --split S --size N --out ROOT\n"
    "                    [--name NAME] [--class NAME] [--shards N] [--prompt TEXT] [--exif apply] [--threads N] "
    "[--force]\n"
    "Decode, resize and check a dataset and write it as pool ROOT/NAME/SPLIT/SIZE.\n"
    "  --dataset study   DIR/images, DIR/masks, DIR/anns/SPLIT.json (img_name, mask_name, prompts p0..p9)\n"
    "  --dataset folder  DIR/images and DIR/masks, matched by the stem of the file names\n"
    "  --dataset csv     DIR/SPLIT.csv (or DIR is the file): columns image, mask [, prompt, class, group]\n"
    "  --split S         name of the split; for study and csv also the file that lists it\n"
    "  --size N          side of the packed pictures in pixels (CLIPSeg 352, CRIS 416)\n"
    "  --name NAME       name of the dataset in ROOT (default: the name of the source folder)\n"
    "  --class NAME      what all masks are about: the plane of a model with several (default: a csv's column; the\n"
    "                    study's name for its own data sets; the masks' sub-folder; else the source folder's name)\n"
    "  --shards N        number of files (default: one for each GiB)\n"
    "  --prompt TEXT     prompt p1 for samples that bring none (folder, csv)\n"
    "  --exif apply      turn pictures by their EXIF orientation (default: ignored, as the study's loader does)\n"
    "  --threads N       decoding threads (default: all cores)\n"
    "  --force           replace a pool that was packed from other files or in another way\n";

struct arguments {
  const char *dataset, *source, *prompt, *class_name;
  struct pack_options options;
  char *name; // owned, when it was derived
  int help;
};

static status_t set_option(struct arguments *a, int option, const char *value) {
  struct pack_options *o = &a->options;
  switch (option) {
  case 'd': a->dataset = value; break;
  case 's': a->source = value; break;
  case 'p': o->split = value; break;
  case 'o': o->root = value; break;
  case 'n': o->name = value; break;
  case 't': a->prompt = value; break;
  case 'l':
    if (!*value) return FAIL(ERR_ARG, "--class is empty; wanted what the masks are about");
    a->class_name = value;
    break;
  case 'f': o->force = 1; break;
  case 'h': a->help = 1; break;
  case 'z': return parse_small("--size", value, 1, 4096, &o->size);
  case 'c': return parse_small("--shards", value, 1, 4096, &o->shards);
  case 'j': return parse_small("--threads", value, 1, 1024, &o->threads);
  case 'x':
    if (strcmp(value, "apply") != 0 && strcmp(value, "ignore") != 0)
      return FAIL(ERR_ARG, "--exif is '%s'; wanted apply or ignore", value);
    o->exif = strcmp(value, "apply") == 0;
    break;
  default: return FAIL(ERR_ARG, "wrong usage of pack; gridseg pack --help says more");
  }
  return OK;
}

static status_t parse(int argc, char **argv, struct arguments *a) {
  static const struct option options[] = {
      {"dataset", required_argument, NULL, 'd'}, {"source", required_argument, NULL, 's'},
      {"split", required_argument, NULL, 'p'},   {"size", required_argument, NULL, 'z'},
      {"out", required_argument, NULL, 'o'},     {"name", required_argument, NULL, 'n'},
      {"class", required_argument, NULL, 'l'},   {"shards", required_argument, NULL, 'c'},
      {"prompt", required_argument, NULL, 't'},  {"exif", required_argument, NULL, 'x'},
      {"threads", required_argument, NULL, 'j'}, {"force", no_argument, NULL, 'f'},
      {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
  int option;
  optind = 0; // glibc: start anew, whatever was parsed before
  while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) TRY(set_option(a, option, optarg));
  if (a->help) return OK;
  if (optind < argc) return FAIL(ERR_ARG, "'%s' is no option of pack", argv[optind]);
  const struct {
    const char *name;
    int there;
  } needed[] = {{"dataset", a->dataset != NULL},
                {"source", a->source != NULL},
                {"split", a->options.split != NULL},
                {"size", a->options.size > 0},
                {"out", a->options.root != NULL}};
  for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
    if (!needed[i].there) return FAIL(ERR_ARG, "--%s is missing", needed[i].name);
  return OK;
}

static status_t check_part(const char *what, const char *text) {
  if (!*text || *text == '.' || strchr(text, '/') || strlen(text) > 200)
    return FAIL(ERR_ARG, "%s '%s' can't name a folder: it must not be empty, begin with '.', or hold '/'", what, text);
  return OK;
}

// NAME: given, else the last part of the source's path (for a csv file: of its folder's).
static status_t choose_name(struct arguments *a) {
  char *path = NULL;
  if (!a->options.name) {
    path = realpath(a->source, NULL);
    if (!path) return FAIL(ERR_ARG, "--source %s: %s", a->source, strerror(errno));
    if (!file_is_directory(path)) *strrchr(path, '/') = '\0';
    status_t st = mem_copy_text(&a->name, file_base_name(path));
    free(path);
    TRY(st);
    a->options.name = a->name;
  }
  TRY(check_part("name", a->options.name));
  return check_part("split", a->options.split);
}

static status_t read_source(const struct arguments *a, struct source *out) {
  char *path = realpath(a->source, NULL); // so that "DIR/" and "." have a last part, which names the dataset
  status_t st;
  *out = (struct source){0};
  if (!path) return FAIL(ERR_ARG, "--source %s: %s", a->source, strerror(errno));
  if (strcmp(a->dataset, "study") == 0) {
    st = a->prompt ? FAIL(ERR_ARG, "--prompt goes with folder and csv; study brings its own prompts")
                   : source_read_study(path, a->options.split, out);
  } else if (strcmp(a->dataset, "folder") == 0) {
    st = source_read_folder(path, a->prompt, out);
  } else if (strcmp(a->dataset, "csv") == 0) {
    st = source_read_csv(path, a->options.split, a->prompt, out);
  } else {
    st = FAIL(ERR_ARG, "--dataset is '%s'; wanted study, folder or csv", a->dataset);
  }
  free(path);
  return st == OK && a->class_name ? source_set_class(out, a->class_name) : st;
}

// *same: the pool is there and was packed from the same. Something else in its place is refused.
static status_t check_present(const struct pack_options *o, const struct pack_plan *plan, int *same) {
  char *path = NULL;
  struct pool *pool = NULL;
  status_t st = OK;
  *same = 0;
  TRY(mem_format(&path, "%s/%s/%s/%d", o->root, o->name, o->split, o->size));
  if (file_exists(path)) {
    status_t opened = pool_open(o->root, o->name, o->split, o->size, 0, &pool);
    *same = opened == OK && key_equal(&pool_get_info(pool)->source_key, &plan->source_key);
    if (*same && o->shards && pool_get_info(pool)->shards != o->shards && o->force) *same = 0;
    if (!*same && !o->force)
      st = opened == OK
               ? FAIL(ERR_ARG, "%s is there, packed from other files or in another way; --force replaces it", path)
               : status_prefix(opened, "%s is there, but is no whole pool (--force replaces it)", path);
    if (*same) log_info("%s is there already, packed from the same files: nothing to do", path);
  }
  pool_close(&pool);
  mem_free(&path);
  return st;
}

status_t pack_source(const struct source *source, const struct pack_options *options) {
  struct pack_plan plan = {0};
  struct key *keys = NULL;
  int same = 0;
  status_t st = OK;
  TRY(pack_plan_create(source, options, &plan));
  TRY_GOTO(check_present(options, &plan, &same), done);
  if (same) goto done;
  TRY_GOTO(mem_alloc(&keys, plan.images, sizeof *keys), done);
  TRY_GOTO(pack_write(&plan, options, keys), done);
  log_info("packed %s/%s/%s/%d: %zu images, %zu samples", options->root, options->name, options->split, options->size,
           plan.images, plan.samples);
  TRY_GOTO(pack_report_twins(&plan, options, keys), done);
done:
  mem_free(&keys);
  pack_plan_free(&plan);
  return st;
}

status_t pack_command(int argc, char **argv) {
  struct arguments a = {0};
  struct source source = {0};
  status_t st = parse(argc, argv, &a);
  if (st != OK) {
    (void)fputs(usage, stderr);
    return st;
  }
  if (a.help) return fputs(usage, stdout) < 0 ? FAIL(ERR_IO, "cannot write to standard output") : OK;
  TRY_GOTO(choose_name(&a), done);
  TRY_GOTO(read_source(&a, &source), done);
  TRY_GOTO(pack_source(&source, &a.options), done);
done:
  source_free(&source);
  mem_free(&a.name);
  return st;
}
