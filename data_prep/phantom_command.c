// phantom_command.c: gridseg phantom.
#include "data_prep/phantom.h"

#include "base/parse.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static const char usage[] =
    "usage: gridseg phantom --domain NAME --count N --seed S --out DIR\n"
    "Draw a synthetic dataset with masks and prompts, in the study layout (images/ masks/ anns/).\n"
    "  --domain NAME   endoscopy | ultrasound | dermoscopy\n"
    "  --count N       number of pictures; 80 % train, 10 % val, 10 % test\n"
    "  --seed S        the same seed gives the same bytes\n"
    "  --out DIR       the folder to make\n";

status_t phantom_command(int argc, char **argv) {
  static const struct option options[] = {
      {"domain", required_argument, NULL, 'd'}, {"count", required_argument, NULL, 'c'},
      {"seed", required_argument, NULL, 's'},   {"out", required_argument, NULL, 'o'},
      {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
  const char *domain = NULL, *out = NULL;
  int64_t count = -1, seed = -1;
  optind = 0;
  opterr = 0;
  for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
    switch (c) {
    case 'd': domain = optarg; break;
    case 'c': TRY(parse_int("--count", optarg, 0, 1000000, &count)); break;
    case 's': TRY(parse_int("--seed", optarg, 0, INT64_MAX, &seed)); break;
    case 'o': out = optarg; break;
    case 'h': (void)fputs(usage, stdout); return OK;
    case ':': return FAIL(ERR_ARG, "%s wants a value\n%s", argv[optind - 1], usage);
    default: return FAIL(ERR_ARG, "unknown option %s\n%s", argv[optind - 1], usage);
    }
  }
  if (optind < argc) return FAIL(ERR_ARG, "'%s' is no option\n%s", argv[optind], usage);
  const char *missing = !domain ? "domain" : count < 0 ? "count" : seed < 0 ? "seed" : !out ? "out" : NULL;
  if (missing) return FAIL(ERR_ARG, "--%s is missing\n%s", missing, usage);
  return phantom_write(domain, (int)count, (uint64_t)seed, out);
}
