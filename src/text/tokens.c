// tokens.c: gridseg tokens.
#include "text/tokenizer.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/parse.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: gridseg tokens --model DIR [--limit N] [TEXT]\n"
    "Print the token ids of TEXT, or of each line of standard input, one text a line.\n"
    "  --model DIR   a model directory, or any folder with a tokenizer's files\n"
    "  --limit N     longest sequence with its special tokens (default: config.json's context_length,\n"
    "                else its text_config.max_position_embeddings, else 77)\n";

// What the model's text tower takes; 77 where config.json does not say.
static status_t model_limit(const char *folder, int64_t *limit) {
  char *path = NULL;
  json_t *config = NULL, *text;
  status_t st = OK;
  *limit = 77;
  TRY_GOTO(file_join(&path, folder, "config.json"), done);
  if (!file_exists(path)) goto done;
  TRY_GOTO(json_read(path, &config), done);
  text = json_object_get(config, "text_config");
  if (text) TRY_GOTO(json_get_int_or(text, path, "max_position_embeddings", 2, 1 << 20, 77, limit), done);
  TRY_GOTO(json_get_int_or(config, path, "context_length", 2, 1 << 20, *limit, limit), done);
done:
  json_decref(config);
  mem_free(&path);
  return st;
}

static status_t print_ids(const struct tokenizer *t, const char *text, size_t size, int32_t *ids) {
  int count;
  TRY(tokenizer_encode(t, text, size, ids, &count));
  for (int i = 0; i < count; i++) (void)printf("%s%d", i ? " " : "", ids[i]);
  (void)putchar('\n');
  return OK;
}

static status_t print_lines(const struct tokenizer *t, int32_t *ids) {
  char *line = NULL;
  size_t capacity = 0, number = 1;
  ssize_t n;
  status_t st = OK;
  for (; (n = getline(&line, &capacity, stdin)) >= 0; number++) {
    size_t size = (size_t)n;
    if (size && line[size - 1] == '\n') size--;
    if ((st = print_ids(t, line, size, ids)) != OK) {
      (void)status_prefix(st, "standard input, line %zu", number);
      goto done;
    }
  }
  if (ferror(stdin)) st = FAIL(ERR_IO, "cannot read standard input: %s", strerror(errno));
done:
  free(line);
  return st;
}

static status_t run(const char *model, const char *limit_text, const char *text) {
  struct tokenizer *t = NULL;
  int32_t *ids = NULL;
  int64_t limit;
  status_t st = OK;
  if (limit_text) {
    TRY(parse_int("--limit", limit_text, 2, 1 << 20, &limit));
  } else {
    TRY(model_limit(model, &limit));
  }
  TRY_GOTO(tokenizer_load(model, (int)limit, &t), done);
  TRY_GOTO(mem_alloc(&ids, (size_t)limit, sizeof *ids), done);
  if (text) {
    TRY_GOTO(print_ids(t, text, strlen(text), ids), done);
  } else {
    TRY_GOTO(print_lines(t, ids), done);
  }
  if (fflush(stdout) != 0) FAIL_GOTO(done, ERR_IO, "cannot write to standard output: %s", strerror(errno));
done:
  mem_free(&ids);
  tokenizer_destroy(&t);
  return st;
}

status_t tokens_command(int argc, char **argv) {
  static const struct option options[] = {{"model", required_argument, NULL, 'm'},
                                          {"limit", required_argument, NULL, 'l'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
  const char *model = NULL, *limit = NULL;
  optind = 0;
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
    switch (c) {
    case 'm': model = optarg; break;
    case 'l': limit = optarg; break;
    case 'h': (void)fputs(usage, stdout); return OK;
    case ':': return FAIL(ERR_ARG, "%s wants a value\n%s", argv[optind - 1], usage);
    default: return FAIL(ERR_ARG, "unknown option %s\n%s", argv[optind - 1], usage);
    }
  }
  if (!model) return FAIL(ERR_ARG, "--model is missing\n%s", usage);
  if (argc - optind > 1) return FAIL(ERR_ARG, "wanted one TEXT, met %d: put it in quotes\n%s", argc - optind, usage);
  return run(model, limit, optind < argc ? argv[optind] : NULL);
}
