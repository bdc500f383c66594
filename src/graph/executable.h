// executable.h: the inside of an executable, shared by plan.c and run.c.
#ifndef GRIDSEG_GRAPH_EXECUTABLE_H
#define GRIDSEG_GRAPH_EXECUTABLE_H

#include "graph/graph.h"

enum { OPERANDS = OP_MAX_IN + OP_MAX_OUT };

// Where a value's bytes are.
typedef enum { PLACE_NONE, PLACE_EXTERNAL, PLACE_ARENA } place_t;

struct storage { // by value id; views use their base's
  place_t place;
  void *external;       // PLACE_EXTERNAL, after executable_bind
  size_t offset, bytes; // PLACE_ARENA
  int first, last;      // steps that write and read it last; `steps` for what is read after the run
  int shares;           // id of the value whose memory it takes over (in place), -1
};

struct step {
  struct op op;
  int operand[OPERANDS]; // value id of the base; inputs then outputs; -1 left out
  struct plan *plan;
  double seconds; // spent here so far, with options.profile
};

struct executable {
  struct backend *backend;
  struct value *copy; // of the graph's values, by id; the graph may go before the executable does
  size_t values;
  struct storage *storage;
  struct step *step;
  size_t steps;
  struct plan **plan; // distinct plans, owned
  size_t plans, plan_capacity;
  int *external; // ids
  size_t externals;
  size_t arena_bytes, scratch_offset;
  status_t (*exchange)(void *context, double *values, size_t count); // NULL: one rank
  void *exchange_context;
  double *exchange_buffer; // host
  size_t exchange_count;
  bool profile;
  int runs;
};

#endif
