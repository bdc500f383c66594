// comm_ops.h: what one way of communicating offers. Private to src/comm; comm.c owns everything that does not depend on
// the way: arguments, the spoilt world, the polling wait, requests, agreement.
#ifndef GRIDSEG_COMM_COMM_OPS_H
#define GRIDSEG_COMM_COMM_OPS_H

#include "comm/comm.h"

typedef enum { FOLD_SUM, FOLD_MAX } fold_t;

// Begins every request of every way.
struct comm_request {
  struct comm *comm;
  struct comm_request *next; // in comm->spare
  size_t bytes;
  bool done;
};

struct comm_ops {
  const char *name;
  size_t request_size; // of the way's own request, which begins with struct comm_request
  status_t (*duplicate)(struct comm *c, struct comm **out);
  status_t (*fold_f64)(struct comm *c, double *values, size_t count, fold_t fold);
  status_t (*broadcast)(struct comm *c, void *bytes, size_t size, int root);
  status_t (*gather)(struct comm *c, const void *bytes, size_t size, void **all, size_t *sizes, int root);
  status_t (*barrier)(struct comm *c);
  status_t (*sum_begin)(struct comm *c, float *values, size_t count, struct comm_request *r); // may set r->done
  status_t (*test)(struct comm_request *r);                                                   // sets r->done
  void (*abort)(struct comm *c, int exit_code);
  void (*destroy)(struct comm *c); // frees what the way added and `c` itself
};

// Begins the object of every way.
struct comm {
  const struct comm_ops *ops;
  int rank, size, local_rank, local_size;
  double report_seconds, timeout_seconds;
  struct comm *origin;        // of a duplicate: what it was made from
  bool spoilt;                // a collective failed: ranks may be at different places
  double agreed;              // comm_agree's two messages: here and not on its stack, because MPI keeps them when
  char agreed_text[1024];     // it gives up
  struct comm_request *spare; // requests to be used again, so that a step allocates nothing
};

// What the environment says about how this process was started.
struct launch {
  bool shared;  // by a launcher of MPI ranks: MPI is to be initialised
  int expected; // ranks that the launcher started, 0 when it does not say
};
// ERR_COMM when several tasks were started that cannot find each other.
status_t launch_detect(struct launch *out);
status_t launch_refuse(int tasks, const char *launcher); // always fails, with advice

status_t solo_create(struct comm **out);
status_t mpi_create(const struct launch *launch, struct comm **out);

// Poll test(arg) until it says done, with c's stall report and deadline; `what` and `bytes` name the wait.
status_t comm_poll(struct comm *c, status_t (*test)(void *arg, bool *done), void *arg, const char *what, size_t bytes);

#endif
