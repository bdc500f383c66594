// graph_run.h: a graph made ready with numbers for everything that it is given, and its results as double.
#ifndef GRIDSEG_TESTS_GRAPH_GRAPH_RUN_H
#define GRIDSEG_TESTS_GRAPH_GRAPH_RUN_H

#include "graph/graph.h"

enum { MOST_OUTPUTS = 96 };

struct graph_run {
  const struct graph *g;
  struct backend *backend;
  struct executable *executable;
  void *arena;
  double **given; // by value id: what is given, as double (integers too); NULL: a result
  void **memory;  // the same in the type of its value
};

// `outputs`: those that are NULL do not count. Numbers follow from the names of values: the same in every graph.
void graph_run_create(const struct graph *g, const char *backend, struct value *const *outputs, size_t count,
                      const struct executable_options *options, struct graph_run *out);
void graph_run_destroy(struct graph_run *r);
status_t graph_run_again(struct graph_run *r); // with `given` as it is now
// One element of a result of the last run.
double graph_run_value(const struct graph_run *r, const struct value *v, int64_t i);

#endif
