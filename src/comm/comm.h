// comm.h: the ranks of one job. MPI now, NCCL later; a world of one needs neither and never initialises MPI.
//
// "Collective" functions are called by all ranks in the same order, and by one thread of each rank. Every wait polls:
// after report_seconds a stall is reported with its rank and bytes, after timeout_seconds the call gives ERR_TIMEOUT.
// A collective that failed (ERR_COMM, ERR_TIMEOUT) leaves the world unusable and its buffers in MPI's hands: every later
// collective fails at once. A rank that fails alone, outside comm_agree, must not call comm_destroy, where it would wait
// for ranks that wait for it: it calls comm_abort or exits without. mpirun and srun end the others when a rank dies or
// exits so.
#ifndef GRIDSEG_COMM_COMM_H
#define GRIDSEG_COMM_COMM_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct comm;

// Join the job that a launcher started, or be a world of one. The launcher is known by its environment:
// OMPI_COMM_WORLD_SIZE, PMIX_RANK, PMI_RANK (with PMI_SIZE), SLURM_STEP_NUM_TASKS. Started several times without a
// shared world (srun without PMIx): ERR_COMM, saying how to launch. GRIDSEG_COMM_TIMEOUT (seconds) sets the deadline.
// Sets log_set_rank. Collective. Once a process.
status_t comm_create(struct comm **out);
void comm_destroy(struct comm **comm); // collective; MPI_Finalize
// The same ranks once more: collectives of the one and of the other may pass each other, so that each needs its own order only.
// Collective; destroyed (collective too) before the world that it was made from.
status_t comm_duplicate(struct comm *comm, struct comm **out);
void comm_abort(struct comm *comm, int exit_code); // ends all ranks; only main calls it. Returns in a world of one
// "Open MPI v4.1.4": for --version, without joining anything; a static buffer.
const char *comm_library(void);
int comm_rank(const struct comm *c);
int comm_size(const struct comm *c);
int comm_local_rank(const struct comm *c); // on this node
int comm_local_size(const struct comm *c);
// When a wait is reported (default 60 s) and when it is given up (default 1800 s). Not collective.
void comm_set_deadline(struct comm *c, double report_seconds, double timeout_seconds);

// Threads that this rank should run: its cores (affinity mask), shared among the ranks of this machine that may run on
// them too; at least 1. Collective.
status_t comm_share_cores(struct comm *c, int *threads);

// Blocking collectives on host memory. Sums are taken in rank order: the same bits on all ranks and in every run.
status_t comm_sum_f64(struct comm *c, double *values, size_t count);
status_t comm_max_f64(struct comm *c, double *values, size_t count); // NaN wins
status_t comm_broadcast(struct comm *c, void *bytes, size_t size, int root);
// Each rank gives `size` bytes, any number of them. On the root *all holds them in rank order (freed with mem_free) and
// sizes[r] how many came from rank r; elsewhere *all is NULL, and `sizes` may be.
status_t comm_gather(struct comm *c, const void *bytes, size_t size, void **all, size_t *sizes, int root);
status_t comm_barrier(struct comm *c);
// All ranks learn the worst status: a rank that failed keeps its status and message and makes the others stop at the
// same place with ERR_COMM and its message (ERR_PREEMPTED stays ERR_PREEMPTED everywhere; a failure outweighs it).
status_t comm_agree(struct comm *c, status_t mine);

// An all-reduce (sum, fp32, in place) in flight. The same world and count give the same bits on all ranks and in every
// run. `values` is not to be touched until comm_test or comm_wait says done.
struct comm_request;
status_t comm_sum_begin(struct comm *c, float *values, size_t count, struct comm_request **out); // collective
status_t comm_test(struct comm_request *r, bool *done);                                          // makes progress
status_t comm_wait(struct comm_request **r); // frees it; a NULL request is done

// buckets: a flat gradient arena that leaves in slices while backward runs.
struct bucket_set;
// Slices of [0,count): the first of first_bytes, then of rest_bytes (multiples of 64 bytes), the last one shorter.
status_t bucket_create(struct comm *c, float *arena, int64_t count, size_t first_bytes, size_t rest_bytes,
                       struct bucket_set **out);
void bucket_destroy(struct bucket_set **b); // not while slices are in flight, unless the world is lost
// [0, ready) is final: start every slice that is complete, in order, and progress those in flight. Cheap when there is
// nothing to do. All ranks start the same slices in the same order, whatever `ready` each of them passes and when.
status_t bucket_progress(struct bucket_set *b, int64_t ready);
// Start what is left, wait for all, make ready for the next step. *exposed_seconds (may be NULL): time spent waiting.
status_t bucket_finish(struct bucket_set *b, double *exposed_seconds);
int bucket_in_flight(const struct bucket_set *b); // slices that were started and are not known to be done

#endif
