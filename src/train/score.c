// score.c: gridseg score: masks that anyone's program made, with our metrics.
#include "base/csv.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "base/parse.h"
#include "data/mask.h"
#include "data/pool.h"
#include "train/eval.h"
#include "train/metric.h"
#include "train/tally.h"

#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: gridseg score --pred DIR --pool ROOT/NAME/SPLIT/SIZE [--csv FILE] [--seed N] [--threads N]\n"
    "  --pred DIR   masks at the pictures' original size; a sample's file is NAME, NAME.png, or has NAME's stem\n"
    "  --pool P     the pool whose source masks are the truth\n"
    "  --csv FILE   metrics of every sample\n"
    "  --seed N     of the bootstrap (default 42)\n"
    "  --threads N  default: all cores";

enum { NAMES_SHOWN = 20 };

// One file under --pred.
struct file {
  char *path; // below --pred
  size_t stem;
  bool used;
};

struct files {
  struct file *list;
  size_t count, room;
};

static void free_files(struct files *f) {
  for (size_t i = 0; i < f->count; i++) mem_free(&f->list[i].path);
  mem_free(&f->list);
}

// Bytes of a path before the extension of its last name.
static size_t stem_length(const char *path) {
  const char *name = strrchr(path, '/'), *dot = strrchr(path, '.');
  name = name ? name + 1 : path;
  return dot && dot > name ? (size_t)(dot - path) : strlen(path);
}

// Files below ROOT/FOLDER ("" for ROOT itself), folders in folders included. Depth is bounded: links may form rings.
static status_t list_files(const char *root, const char *folder, int depth, struct files *out) {
  status_t st = OK;
  char *path = NULL, **names = NULL;
  size_t count = 0;
  if (depth > 16) return FAIL(ERR_ARG, "%s/%s: folders are nested too deeply", root, folder);
  TRY_GOTO(file_join(&path, root, folder), done);
  TRY_GOTO(file_list(path, &names, &count), done);
  for (size_t i = 0; i < count; i++) {
    char *below = NULL, *full = NULL;
    if (names[i][0] == '.') continue; // hidden, such as the file in which eval names the cell
    TRY_GOTO(mem_format(&below, "%s%s%s", folder, *folder ? "/" : "", names[i]), done);
    st = file_join(&full, root, below);
    if (st == OK && file_is_directory(full)) {
      st = list_files(root, below, depth + 1, out);
    } else if (st == OK) {
      st = mem_grow(&out->list, &out->room, out->count + 1, sizeof *out->list);
      if (st == OK) {
        out->list[out->count++] = (struct file){.path = below, .stem = stem_length(below)};
        below = NULL;
      }
    }
    mem_free(&full);
    mem_free(&below);
    if (st != OK) goto done;
  }
done:
  file_free_names(&names, count);
  mem_free(&path);
  return st;
}

static int compare_files(const void *a, const void *b) {
  return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

static struct file *find_path(struct files *f, const char *path) {
  struct file wanted = {.path = (char *)(uintptr_t)path};
  return f->count ? bsearch(&wanted, f->list, f->count, sizeof *f->list, compare_files) : NULL;
}

// The first file at or after `stem` in sorted order.
static size_t lower_bound(const struct files *f, const char *stem, size_t n) {
  size_t low = 0, high = f->count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (strncmp(f->list[middle].path, stem, n) < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// The file of a sample, NULL where there is none. Two files with its stem are ERR_ARG.
static status_t find_file(struct files *f, const char *name, struct file **out) {
  char *png = NULL;
  *out = find_path(f, name);
  if (*out) return OK;
  TRY(mem_format(&png, "%s.png", name));
  *out = find_path(f, png);
  mem_free(&png);
  if (*out) return OK;
  size_t n = stem_length(name);
  for (size_t i = lower_bound(f, name, n); i < f->count && strncmp(f->list[i].path, name, n) == 0; i++) {
    if (f->list[i].stem != n) continue;
    if (*out) {
      return FAIL(ERR_ARG, "sample %s: both %s and %s have its stem: keep one", name, (*out)->path, f->list[i].path);
    }
    *out = &f->list[i];
  }
  return OK;
}

struct scoring {
  const char *directory;
  struct pool *pool;
  struct file **file;        // [samples]
  struct sample_measure *at; // [samples]
};

static status_t score_sample(void *context, size_t item, int worker) {
  (void)worker;
  status_t st = OK;
  struct scoring *s = context;
  struct pool_sample sample;
  struct image mask = {0};
  struct mask_note note;
  struct metrics m;
  uint8_t *truth = NULL;
  char *path = NULL;
  TRY_GOTO(pool_get_sample(s->pool, (int64_t)item, &sample), done);
  TRY_GOTO(file_join(&path, s->directory, s->file[item]->path), done);
  TRY_GOTO(mask_read(path, 0, &mask, &note), done);
  if (mask.height != sample.original_height || mask.width != sample.original_width) {
    FAIL_GOTO(done, ERR_SHAPE, "%s is %dx%d (width x height), the source mask of sample %s is %dx%d", path, mask.width,
              mask.height, sample.name, sample.original_width, sample.original_height);
  }
  TRY_GOTO(pool_read_original_mask(s->pool, (int64_t)item, &truth), done);
  TRY_GOTO(metric_compute(mask.pixels, truth, mask.height, mask.width, METRIC_TOLERANCE, &m), done);
  s->at[item] = (struct sample_measure){.predicted = (double)m.counts.predicted,
                                        .truth = (double)m.counts.truth,
                                        .both = (double)m.counts.both,
                                        .dice = m.dice,
                                        .iou = m.iou,
                                        .hd95 = m.hd95,
                                        .surface_dice = m.surface_dice};
done:
  mem_free(&truth);
  image_free(&mask);
  mem_free(&path);
  return st;
}

// The file of every sample. All that lack one are named at once; files of no sample are named in a warning.
static status_t match_files(struct scoring *s, struct files *files) {
  status_t st = OK;
  const struct pool_info *info = pool_get_info(s->pool);
  char *text = NULL;
  size_t size = 0;
  int64_t missing = 0, extra = 0;
  FILE *names = open_memstream(&text, &size);
  if (!names) return FAIL(ERR_NOMEM, "no memory for the names of samples");
  for (int64_t i = 0; i < info->samples; i++) {
    struct pool_sample sample;
    TRY_GOTO(pool_get_sample(s->pool, i, &sample), done);
    TRY_GOTO(find_file(files, sample.name, &s->file[i]), done);
    if (s->file[i]) {
      s->file[i]->used = true;
    } else if (missing++ < NAMES_SHOWN) {
      (void)fprintf(names, "%s%s", missing > 1 ? ", " : "", sample.name);
    }
  }
  (void)fflush(names);
  if (missing > 0) {
    FAIL_GOTO(done, ERR_ARG, "%s lacks the masks of %lld of %lld samples: %s%s", s->directory, (long long)missing,
              (long long)info->samples, text, missing > NAMES_SHOWN ? ", ..." : "");
  }
  const char *first = NULL;
  for (size_t i = 0; i < files->count; i++) {
    if (files->list[i].used) continue;
    first = first ? first : files->list[i].path;
    extra++;
  }
  if (extra) log_warn("%s: %lld files belong to no sample, %s first", s->directory, (long long)extra, first);
done:
  (void)fclose(names);
  free(text);
  return st;
}

static void write_number(FILE *out, double value) {
  char text[32] = "";
  if (!isnan(value)) (void)snprintf(text, sizeof text, "%.9g", value);
  csv_write_field(out, text, 0);
}

static status_t write_csv(const struct scoring *s, const char *path) {
  char *text = NULL;
  size_t size = 0;
  status_t st = OK;
  FILE *out = open_memstream(&text, &size);
  if (!out) return FAIL(ERR_NOMEM, "no memory to write %s", path);
  (void)fputs("name,group,file,predicted,truth,both,dice,iou,hd95,surface_dice\n", out);
  for (int64_t i = 0; i < pool_get_info(s->pool)->samples; i++) {
    struct pool_sample sample;
    TRY_GOTO(pool_get_sample(s->pool, i, &sample), done);
    csv_write_field(out, sample.name, 1);
    csv_write_field(out, sample.group, 0);
    csv_write_field(out, s->file[i]->path, 0);
    const double value[] = {s->at[i].predicted, s->at[i].truth, s->at[i].both,        s->at[i].dice,
                            s->at[i].iou,       s->at[i].hd95,  s->at[i].surface_dice};
    for (size_t k = 0; k < sizeof value / sizeof *value; k++) write_number(out, value[k]);
    (void)fputc('\n', out);
  }
done:
  if (fclose(out) != 0 && st == OK) st = FAIL(ERR_NOMEM, "no memory to write %s", path);
  if (st == OK) st = file_write_atomic(path, text, size);
  free(text);
  return st;
}

static status_t print_table(const struct scoring *s, uint64_t seed, int threads) {
  status_t st = OK;
  const struct pool_info *info = pool_get_info(s->pool);
  size_t count = (size_t)info->samples;
  const struct sample_measure **at = NULL;
  const char **group = NULL;
  struct tally tally[TALLIES];
  TRY_GOTO(mem_alloc(&at, count, sizeof *at), done);
  TRY_GOTO(mem_alloc(&group, count, sizeof *group), done);
  for (size_t i = 0; i < count; i++) {
    struct pool_sample sample;
    TRY_GOTO(pool_get_sample(s->pool, (int64_t)i, &sample), done);
    at[i] = &s->at[i];
    group[i] = sample.group;
  }
  TRY_GOTO(tally_samples(at, group, count, seed, threads, tally), done);
  printf("metric,value,lo,hi,n,n_groups,n_excluded\n");
  for (int k = 0; k < TALLIES; k++) {
    csv_write_field(stdout, tally_name((tally_t)k), 1);
    write_number(stdout, tally[k].interval.value);
    write_number(stdout, tally[k].interval.low);
    write_number(stdout, tally[k].interval.high);
    printf(",%lld,%lld,%lld\n", (long long)tally[k].n, (long long)tally[k].groups,
           (long long)count - (long long)tally[k].n);
  }
  if (fflush(stdout) != 0) FAIL_GOTO(done, ERR_IO, "cannot write to standard output");
done:
  mem_free(&group);
  mem_free(&at);
  return st;
}

// Cut the last name off a path; NULL where it has no '/'.
static char *cut_name(char *path) {
  char *slash = strrchr(path, '/');
  if (!slash) return NULL;
  *slash = '\0';
  return slash + 1;
}

// "ROOT/NAME/SPLIT/SIZE" taken apart from its end; slashes at the end don't count.
static status_t open_pool(const char *path, struct pool **out) {
  status_t st = OK;
  char *copy = NULL, *end = NULL;
  TRY(mem_copy_text(&copy, path));
  for (size_t n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--) copy[n - 1] = '\0';
  const char *size = cut_name(copy), *split = size ? cut_name(copy) : NULL, *name = split ? cut_name(copy) : NULL;
  const char *root = !name ? "." : *copy ? copy : "/";
  if (split && !name) name = copy;
  long side = size ? strtol(size, &end, 10) : 0;
  if (!name || !*name || !*split || end == size || *end || side < 1 || side > INT_MAX) {
    FAIL_GOTO(done, ERR_ARG, "--pool: wanted ROOT/NAME/SPLIT/SIZE, met %s", path);
  }
  TRY_GOTO(pool_open(root, name, split, (int)side, 0, out), done);
done:
  mem_free(&copy);
  return st;
}

struct score_options {
  const char *directory, *pool, *csv;
  int64_t seed, threads;
};

static status_t run(const struct score_options *o) {
  status_t st = OK;
  struct files files = {0};
  struct scoring s = {.directory = o->directory};
  TRY_GOTO(open_pool(o->pool, &s.pool), done);
  if (!file_is_directory(o->directory)) FAIL_GOTO(done, ERR_ARG, "--pred: %s is not a folder", o->directory);
  TRY_GOTO(list_files(o->directory, "", 0, &files), done);
  if (files.count) qsort(files.list, files.count, sizeof *files.list, compare_files);
  size_t count = (size_t)pool_get_info(s.pool)->samples;
  TRY_GOTO(mem_alloc(&s.file, count, sizeof(struct file *)), done);
  TRY_GOTO(mem_alloc(&s.at, count, sizeof *s.at), done);
  TRY_GOTO(match_files(&s, &files), done);
  TRY_GOTO(parallel_for(count, (int)o->threads, score_sample, &s), done);
  if (o->csv) TRY_GOTO(write_csv(&s, o->csv), done);
  TRY_GOTO(print_table(&s, (uint64_t)o->seed, (int)o->threads), done);
done:
  mem_free(&s.at);
  mem_free(&s.file);
  free_files(&files);
  pool_close(&s.pool);
  return st;
}

status_t score_command(int argc, char **argv) {
  static const struct option options[] = {{"pred", required_argument, NULL, 'p'},
                                          {"pool", required_argument, NULL, 'o'},
                                          {"csv", required_argument, NULL, 'c'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  struct score_options o = {.seed = 42};
  optind = 0;
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
    switch (c) {
    case 'p': o.directory = optarg; break;
    case 'o': o.pool = optarg; break;
    case 'c': o.csv = optarg; break;
    case 's': TRY(parse_int("--seed", optarg, 0, INT64_MAX, &o.seed)); break;
    case 't': TRY(parse_int("--threads", optarg, 0, 4096, &o.threads)); break;
    case 'h': (void)puts(usage); return OK;
    case ':': return FAIL(ERR_ARG, "%s wants a value\n%s", argv[optind - 1], usage);
    default: return FAIL(ERR_ARG, "unknown option %s\n%s", argv[optind - 1], usage);
    }
  }
  if (!o.directory || !o.pool) return FAIL(ERR_ARG, "%s is missing\n%s", o.directory ? "--pool" : "--pred", usage);
  if (optind < argc) return FAIL(ERR_ARG, "unexpected argument %s\n%s", argv[optind], usage);
  return run(&o);
}
