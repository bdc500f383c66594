// mpi.c: ranks over MPI. Every wait polls a non-blocking call, so that a rank that is missing is reported and in the
// end given up, where the blocking calls of MPI would hang for ever.
//
// Order of addition: doubles are gathered and added by rank 0 in rank order. Gradients use MPI_Iallreduce, whose
// schedule depends on world size and count only, so that it repeats bit for bit with one MPI library (measured on
// Open MPI 4.1.4, 2 to 4 ranks).
#include "comm/comm_ops.h"

#include "base/log.h"
#include "base/mem.h"

#include <limits.h>
#include <math.h>
#include <mpi.h>
#include <string.h>

enum {
  FOLD_COUNT = 8192,     // doubles that rank 0 takes from each rank at a time
  PIECE_BYTES = 1 << 30, // counts are int in MPI 3
  GATHER_TAG = 1,
};

struct mpi_comm {
  struct comm base;
  MPI_Comm world;
  uint8_t *scratch; // size * FOLD_COUNT doubles on rank 0, size + 1 of them elsewhere; never on the stack, see comm.h
  bool copy;        // of another one, which finalises MPI
  struct mpi_comm *lost_before;
};

struct mpi_request {
  struct comm_request base;
  MPI_Request handle;
};

static status_t mpi_failed(int rc, int rank, int line, const char *call) {
  char text[MPI_MAX_ERROR_STRING + 1] = "unknown error";
  int n = 0;
  (void)MPI_Error_string(rc, text, &n);
  return status_fail(ERR_COMM, __FILE__, line, "rank %d: %.*s: %s", rank, (int)strcspn(call, "("), call, text);
}

#define MPI_TRY(rank, call)                                                                                            \
  do {                                                                                                                 \
    int mpi_rc_ = (call);                                                                                              \
    if (mpi_rc_ != MPI_SUCCESS) return mpi_failed(mpi_rc_, (rank), __LINE__, #call);                                   \
  } while (0)

struct handle_test {
  const struct mpi_comm *m;
  MPI_Request *handle;
};

static status_t test_handle(void *arg, bool *done) {
  struct handle_test *t = arg;
  int flag = 0;
  MPI_TRY(t->m->base.rank, MPI_Test(t->handle, &flag, MPI_STATUS_IGNORE));
  *done = flag != 0;
  return OK;
}

static status_t finish(struct mpi_comm *m, MPI_Request *handle, const char *what, size_t bytes) {
  struct handle_test t = {m, handle};
  return comm_poll(&m->base, test_handle, &t, what, bytes);
}

static void fold_ranks(double *values, const double *all, size_t count, int size, fold_t fold) {
  for (size_t i = 0; i < count; i++) {
    double v = all[i];
    for (size_t r = 1; r < (size_t)size; r++) {
      double x = all[r * count + i];
      if (fold == FOLD_SUM) {
        v += x;
      } else if (isnan(x) || x > v) { // a NaN in v stays: no x is above it
        v = x;
      }
    }
    values[i] = v;
  }
}

static status_t mpi_fold(struct comm *c, double *values, size_t count, fold_t fold) {
  struct mpi_comm *m = (struct mpi_comm *)c;
  for (size_t at = 0; at < count; at += FOLD_COUNT) {
    size_t n = count - at < FOLD_COUNT ? count - at : FOLD_COUNT, bytes = n * sizeof *values;
    MPI_Request handle;
    MPI_TRY(c->rank,
            MPI_Igather(values + at, (int)n, MPI_DOUBLE, m->scratch, (int)n, MPI_DOUBLE, 0, m->world, &handle));
    TRY(finish(m, &handle, "a sum or maximum", bytes));
    if (c->rank == 0) fold_ranks(values + at, (const double *)(const void *)m->scratch, n, c->size, fold);
    MPI_TRY(c->rank, MPI_Ibcast(values + at, (int)n, MPI_DOUBLE, 0, m->world, &handle));
    TRY(finish(m, &handle, "a sum or maximum", bytes));
  }
  return OK;
}

static status_t mpi_broadcast(struct comm *c, void *bytes, size_t size, int root) {
  struct mpi_comm *m = (struct mpi_comm *)c;
  for (size_t at = 0; at < size; at += PIECE_BYTES) {
    size_t n = size - at < PIECE_BYTES ? size - at : PIECE_BYTES;
    MPI_Request handle;
    MPI_TRY(c->rank, MPI_Ibcast((uint8_t *)bytes + at, (int)n, MPI_BYTE, root, m->world, &handle));
    TRY(finish(m, &handle, "a broadcast", n));
  }
  return OK;
}

// Move `size` bytes between this rank and `peer` in pieces.
static status_t move(struct mpi_comm *m, void *bytes, size_t size, int peer, bool send) {
  for (size_t at = 0; at < size; at += PIECE_BYTES) {
    int n = (int)(size - at < PIECE_BYTES ? size - at : PIECE_BYTES);
    uint8_t *p = (uint8_t *)bytes + at;
    MPI_Request handle;
    if (send) {
      MPI_TRY(m->base.rank, MPI_Isend(p, n, MPI_BYTE, peer, GATHER_TAG, m->world, &handle));
    } else {
      MPI_TRY(m->base.rank, MPI_Irecv(p, n, MPI_BYTE, peer, GATHER_TAG, m->world, &handle));
    }
    TRY(finish(m, &handle, "a gather", (size_t)n));
  }
  return OK;
}

// On the root: memory for all, and where each rank's bytes go.
static status_t gather_prepare(const struct comm *c, const uint64_t *got, void **all, size_t *sizes) {
  size_t total = 0;
  for (int r = 0; r < c->size; r++) {
    sizes[r] = got[r];
    if (!size_add(total, got[r], &total)) return FAIL(ERR_NOMEM, "the bytes of %d ranks do not fit in memory", c->size);
  }
  return mem_alloc(all, total, 1);
}

static status_t mpi_gather(struct comm *c, const void *bytes, size_t size, void **all, size_t *sizes, int root) {
  struct mpi_comm *m = (struct mpi_comm *)c;
  bool is_root = c->rank == root;
  uint64_t *got = (uint64_t *)(void *)m->scratch, *mine = got + c->size;
  *mine = size;
  MPI_Request handle;
  MPI_TRY(c->rank, MPI_Igather(mine, 1, MPI_UINT64_T, got, 1, MPI_UINT64_T, root, m->world, &handle));
  TRY(finish(m, &handle, "a gather", sizeof *mine));
  // The root alone allocates: the others learn whether it could before they send.
  status_t st = is_root ? gather_prepare(c, got, all, sizes) : OK;
  *mine = (uint64_t)st;
  TRY(mpi_broadcast(c, mine, sizeof *mine, root));
  if (is_root && st != OK) return st;
  if (*mine != OK) return FAIL(ERR_NOMEM, "rank %d had no memory to gather in", root);
  if (!is_root) return move(m, (void *)(uintptr_t)bytes, size, root, true);
  uint8_t *p = *all;
  for (int r = 0; st == OK && r < c->size; r++) {
    if (r == root) {
      if (size) memcpy(p, bytes, size);
    } else {
      st = move(m, p, sizes[r], r, false);
    }
    p += sizes[r];
  }
  if (st != OK) *all = NULL; // MPI may still write there
  return st;
}

static size_t scratch_doubles(const struct comm *c) {
  return c->rank == 0 ? (size_t)c->size * FOLD_COUNT : (size_t)c->size + 1;
}

static status_t mpi_barrier(struct comm *c) {
  struct mpi_comm *m = (struct mpi_comm *)c;
  MPI_Request handle;
  MPI_TRY(c->rank, MPI_Ibarrier(m->world, &handle));
  return finish(m, &handle, "a barrier", 0);
}

static status_t mpi_sum_begin(struct comm *c, float *values, size_t count, struct comm_request *r) {
  struct mpi_comm *m = (struct mpi_comm *)c;
  if (count > INT_MAX) return FAIL(ERR_ARG, "an all-reduce of %zu values: at most %d at a time", count, INT_MAX);
  MPI_TRY(c->rank, MPI_Iallreduce(MPI_IN_PLACE, values, (int)count, MPI_FLOAT, MPI_SUM, m->world,
                                  &((struct mpi_request *)r)->handle));
  return OK;
}

static status_t mpi_test(struct comm_request *r) {
  struct handle_test t = {(struct mpi_comm *)r->comm, &((struct mpi_request *)r)->handle};
  return test_handle(&t, &r->done);
}

static void mpi_abort(struct comm *c, int exit_code) {
  (void)c;
  (void)MPI_Abort(MPI_COMM_WORLD, exit_code);
}

static void mpi_destroy(struct comm *c) {
  static struct mpi_comm *lost; // kept: MPI may still write into it
  struct mpi_comm *m = (struct mpi_comm *)c;
  if (c->spoilt) { // MPI_Finalize waits for the others, who may never come; the launcher ends the job when we leave
    log_warn("rank %d leaves without MPI_Finalize after a failed collective", c->rank);
    m->lost_before = lost;
    lost = m;
  } else {
    if (m->world != MPI_COMM_NULL) (void)MPI_Comm_free(&m->world);
    if (!m->copy) (void)MPI_Finalize();
    mem_free(&m->scratch);
    mem_free(&m);
  }
}

static status_t copy_world(const struct mpi_comm *m, struct mpi_comm *copy) {
  int rank = m->base.rank;
  MPI_TRY(rank, MPI_Comm_dup(m->world, &copy->world));
  MPI_TRY(rank, MPI_Comm_set_errhandler(copy->world, MPI_ERRORS_RETURN));
  return OK;
}

static status_t mpi_duplicate(struct comm *c, struct comm **out) {
  const struct mpi_comm *m = (const struct mpi_comm *)c;
  struct mpi_comm *copy = NULL;
  status_t st = mem_alloc(&copy, 1, sizeof *copy);
  if (st == OK) {
    copy->base = (struct comm){
        .ops = c->ops, .rank = c->rank, .size = c->size, .local_rank = c->local_rank, .local_size = c->local_size};
    copy->world = MPI_COMM_NULL;
    copy->copy = true;
    st = mem_alloc(&copy->scratch, scratch_doubles(c), sizeof(double));
  }
  st = comm_agree(c, st); // before MPI_Comm_dup, which waits for all
  if (st == OK) st = copy_world(m, copy);
  if (st == OK) {
    *out = &copy->base;
    return OK;
  }
  if (copy) mem_free(&copy->scratch);
  mem_free(&copy);
  return st;
}

static const struct comm_ops mpi_ops = {
    .name = "MPI",
    .request_size = sizeof(struct mpi_request),
    .duplicate = mpi_duplicate,
    .fold_f64 = mpi_fold,
    .broadcast = mpi_broadcast,
    .gather = mpi_gather,
    .barrier = mpi_barrier,
    .sum_begin = mpi_sum_begin,
    .test = mpi_test,
    .abort = mpi_abort,
    .destroy = mpi_destroy,
};

static status_t start_mpi(void) {
  int before = 0, provided = 0;
  (void)MPI_Initialized(&before);
  if (before) return FAIL(ERR_COMM, "MPI was initialised before in this process");
  MPI_TRY(0, MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided));
  // From here on errors come back to us.
  MPI_TRY(0, MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  if (provided < MPI_THREAD_FUNNELED) return FAIL(ERR_COMM, "this MPI library does not allow threads beside it");
  return OK;
}

static status_t join(struct mpi_comm *m, const struct launch *launch) {
  struct comm *c = &m->base;
  MPI_TRY(0, MPI_Comm_rank(MPI_COMM_WORLD, &c->rank));
  MPI_TRY(c->rank, MPI_Comm_size(MPI_COMM_WORLD, &c->size));
  if (launch->expected > 1 && c->size == 1) return launch_refuse(launch->expected, "the launcher");
  MPI_TRY(c->rank, MPI_Comm_dup(MPI_COMM_WORLD, &m->world));
  MPI_Comm node;
  MPI_TRY(c->rank, MPI_Comm_split_type(m->world, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &node));
  MPI_TRY(c->rank, MPI_Comm_rank(node, &c->local_rank));
  MPI_TRY(c->rank, MPI_Comm_size(node, &c->local_size));
  MPI_TRY(c->rank, MPI_Comm_free(&node));
  return mem_alloc(&m->scratch, scratch_doubles(c), sizeof(double));
}

status_t mpi_create(const struct launch *launch, struct comm **out) {
  struct mpi_comm *m = NULL;
  TRY(mem_alloc(&m, 1, sizeof *m));
  m->base.ops = &mpi_ops;
  m->world = MPI_COMM_NULL;
  status_t st = start_mpi();
  if (st != OK) {
    mem_free(&m);
    return st;
  }
  st = join(m, launch);
  if (st != OK) {
    mpi_destroy(&m->base);
    return st;
  }
  *out = &m->base;
  return OK;
}

const char *comm_library(void) {
  static char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "MPI";
  text[strcspn(text, ",\n")] = '\0'; // the rest is who built it where
  return text;
}
