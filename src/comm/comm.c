// comm.c: see comm.h. What is the same for every way of communicating.
#include "comm/comm_ops.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

static status_t read_timeout(double *seconds) {
  const char *text = getenv("GRIDSEG_COMM_TIMEOUT");
  *seconds = 1800;
  if (!text) return OK;
  char *end;
  errno = 0;
  double value = strtod(text, &end);
  if (end == text || *end || errno || !(value > 0) || value > 1e9) {
    return FAIL(ERR_ARG, "environment variable GRIDSEG_COMM_TIMEOUT: wanted seconds above 0, met '%.64s'", text);
  }
  *seconds = value;
  return OK;
}

status_t comm_create(struct comm **out) {
  struct launch launch;
  double timeout;
  *out = NULL;
  TRY(read_timeout(&timeout));
  TRY(launch_detect(&launch));
  TRY(launch.shared ? mpi_create(&launch, out) : solo_create(out));
  comm_set_deadline(*out, 60, timeout);
  log_set_rank((*out)->rank, (*out)->size);
  return OK;
}

void comm_destroy(struct comm **comm) {
  struct comm *c = *comm;
  if (!c) return;
  *comm = NULL;
  while (c->spare) {
    struct comm_request *r = c->spare;
    c->spare = r->next;
    mem_free(&r);
  }
  c->ops->destroy(c);
}

void comm_abort(struct comm *c, int exit_code) {
  c->ops->abort(c, exit_code);
}

int comm_rank(const struct comm *c) {
  return c->rank;
}
int comm_size(const struct comm *c) {
  return c->size;
}
int comm_local_rank(const struct comm *c) {
  return c->local_rank;
}
int comm_local_size(const struct comm *c) {
  return c->local_size;
}

void comm_set_deadline(struct comm *c, double report_seconds, double timeout_seconds) {
  c->report_seconds = report_seconds;
  c->timeout_seconds = timeout_seconds;
}

// A pause that grows with the wait: other threads and ranks on this core first, sleep once a long wait is likely.
static void pause_after(double waited) {
  if (waited < 1.0) {
    (void)sched_yield();
  } else {
    struct timespec nap = {.tv_nsec = 200000};
    (void)nanosleep(&nap, NULL);
  }
}

status_t comm_poll(struct comm *c, status_t (*test)(void *arg, bool *done), void *arg, const char *what, size_t bytes) {
  double start = clock_seconds(), report = c->report_seconds;
  bool done = false;
  for (;;) {
    TRY(test(arg, &done));
    if (done) return OK;
    double waited = clock_seconds() - start;
    if (waited >= c->timeout_seconds) {
      return FAIL(ERR_TIMEOUT, "rank %d of %d gave up after %.0f s: %s of %zu bytes", c->rank, c->size, waited, what,
                  bytes);
    }
    if (waited >= report) {
      log_warn("rank %d of %d has waited %.0f s for the others: %s of %zu bytes", c->rank, c->size, waited, what,
               bytes);
      report = 2 * waited;
    }
    pause_after(waited);
  }
}

static status_t enter(const struct comm *c) {
  if (c->spoilt)
    return FAIL(ERR_COMM, "rank %d: an earlier collective failed, the ranks have lost each other", c->rank);
  return OK;
}

static status_t check_root(const struct comm *c, int root) {
  if (root < 0 || root >= c->size) return FAIL(ERR_ARG, "root %d is not a rank of %d", root, c->size);
  return OK;
}

// Every collective leaves through here.
static status_t leave(struct comm *c, status_t st) {
  for (struct comm *w = c; w && (st == ERR_COMM || st == ERR_TIMEOUT); w = w->origin) w->spoilt = true;
  return st;
}

status_t comm_duplicate(struct comm *c, struct comm **out) {
  *out = NULL;
  TRY(enter(c));
  TRY(leave(c, c->ops->duplicate(c, out)));
  (*out)->origin = c;
  comm_set_deadline(*out, c->report_seconds, c->timeout_seconds);
  return OK;
}

status_t comm_sum_f64(struct comm *c, double *values, size_t count) {
  TRY(enter(c));
  return leave(c, c->ops->fold_f64(c, values, count, FOLD_SUM));
}

status_t comm_max_f64(struct comm *c, double *values, size_t count) {
  TRY(enter(c));
  return leave(c, c->ops->fold_f64(c, values, count, FOLD_MAX));
}

status_t comm_broadcast(struct comm *c, void *bytes, size_t size, int root) {
  TRY(enter(c));
  TRY(check_root(c, root));
  return leave(c, c->ops->broadcast(c, bytes, size, root));
}

status_t comm_gather(struct comm *c, const void *bytes, size_t size, void **all, size_t *sizes, int root) {
  *all = NULL;
  TRY(enter(c));
  TRY(check_root(c, root));
  return leave(c, c->ops->gather(c, bytes, size, all, sizes, root));
}

status_t comm_barrier(struct comm *c) {
  TRY(enter(c));
  return leave(c, c->ops->barrier(c));
}

// The worst status of all ranks, the rank that has it (the first of several) and, in c->agreed_text, its message.
static status_t find_worst(struct comm *c, status_t mine, status_t *worst, int *who) {
  enum { CODES = 32 }; // status_t with severity and rank in one number that is exact in a double
  if (mine != OK) (void)snprintf(c->agreed_text, sizeof c->agreed_text, "%s", status_message());
  int severity = mine == OK ? 0 : mine == ERR_PREEMPTED ? 1 : 2;
  c->agreed = ((double)severity * c->size + (c->size - 1 - c->rank)) * CODES + (double)mine;
  TRY(c->ops->fold_f64(c, &c->agreed, 1, FOLD_MAX));
  int64_t most = (int64_t)c->agreed;
  *worst = (status_t)(most % CODES);
  *who = c->size - 1 - (int)(most / CODES % c->size);
  if (*worst != OK) TRY(c->ops->broadcast(c, c->agreed_text, sizeof c->agreed_text, *who));
  return OK;
}

status_t comm_agree(struct comm *c, status_t mine) {
  if (c->size == 1) return mine;
  if (c->spoilt) return mine != OK ? mine : enter(c);
  status_t worst = OK;
  int who = 0;
  status_t st = find_worst(c, mine, &worst, &who);
  if (st != OK) c->spoilt = true;
  if (mine != OK) return mine; // its message stands in this thread's record, unless agreeing failed too
  if (st != OK || worst == OK) return st;
  // Not a failure of the world: all ranks are at the same place.
  return FAIL(worst == ERR_PREEMPTED ? ERR_PREEMPTED : ERR_COMM, "rank %d: %s", who, c->agreed_text);
}

status_t comm_sum_begin(struct comm *c, float *values, size_t count, struct comm_request **out) {
  *out = NULL;
  TRY(enter(c));
  struct comm_request *r = c->spare;
  if (r) {
    c->spare = r->next;
  } else {
    TRY(mem_alloc(&r, 1, c->ops->request_size));
  }
  *r = (struct comm_request){.comm = c, .bytes = count * sizeof *values};
  status_t st = leave(c, c->ops->sum_begin(c, values, count, r));
  if (st != OK) {
    r->next = c->spare;
    c->spare = r;
    return st;
  }
  *out = r;
  return OK;
}

status_t comm_test(struct comm_request *r, bool *done) {
  status_t st = r->done ? OK : leave(r->comm, r->comm->ops->test(r));
  *done = r->done;
  return st;
}

static status_t test_request(void *arg, bool *done) {
  return comm_test(arg, done);
}

status_t comm_wait(struct comm_request **request) {
  struct comm_request *r = *request;
  *request = NULL;
  if (!r) return OK;
  struct comm *c = r->comm;
  status_t st = leave(c, comm_poll(c, test_request, r, "an all-reduce", r->bytes));
  r->next = c->spare;
  c->spare = r;
  return st;
}
