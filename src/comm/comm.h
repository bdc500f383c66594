// comm.h: the ranks of one job. MPI now, NCCL later; a world of one needs neither and never initialises MPI.
// "Collective" functions are called by all ranks in the same order.
#ifndef GRIDSEG_COMM_COMM_H
#define GRIDSEG_COMM_COMM_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct comm;

// Join the job that a launcher started, or be a world of one. The launcher is told by its environment (OMPI_COMM_WORLD_SIZE,
// PMIX_RANK, PMI_RANK, SLURM_NTASKS). Started several times without a shared world (srun without PMIx): ERR_COMM, saying how to launch.
// Sets log_set_rank. Collective.
status_t comm_create(struct comm **out);
void comm_destroy(struct comm **comm);      // collective; MPI_Finalize
void comm_abort(struct comm *comm, int exit_code); // ends all ranks; only main calls it
int comm_rank(const struct comm *c);
int comm_size(const struct comm *c);
int comm_local_rank(const struct comm *c); // on this node
int comm_local_size(const struct comm *c);

// Blocking collectives on host memory. Sums are taken in a fixed order: the same bits on all ranks and in every run.
status_t comm_sum_f64(struct comm *c, double *values, size_t count);
status_t comm_max_f64(struct comm *c, double *values, size_t count);
status_t comm_broadcast(struct comm *c, void *bytes, size_t size, int root);
status_t comm_gather(struct comm *c, const void *bytes, size_t size, void **all, size_t *sizes, int root); // *all: mem_free, root only; sizes[size of world]
status_t comm_barrier(struct comm *c);
// All ranks learn the worst status: a rank that failed makes the others stop at the same place with ERR_COMM and its message.
status_t comm_agree(struct comm *c, status_t mine);

// An all-reduce (sum, fp32, in place) in flight.
struct comm_request;
status_t comm_sum_begin(struct comm *c, float *values, size_t count, struct comm_request **out); // collective
status_t comm_test(struct comm_request *r, bool *done); // makes progress
status_t comm_wait(struct comm_request **r);            // frees it; a stall over a minute is reported with rank and bytes

// buckets: a flat gradient arena that leaves in slices while backward runs.
struct bucket_set;
// Slices of [0,count): the first of first_bytes, then of rest_bytes (multiples of 64 bytes).
status_t bucket_create(struct comm *c, float *arena, int64_t count, size_t first_bytes, size_t rest_bytes, struct bucket_set **out);
void bucket_destroy(struct bucket_set **b);
// [0, ready) is final: start every slice that is complete, in order, and progress those in flight. Cheap when there is nothing to do.
status_t bucket_progress(struct bucket_set *b, int64_t ready);
// Start what is left, wait for all, make ready for the next step. *exposed_seconds (may be NULL): time spent waiting here.
status_t bucket_finish(struct bucket_set *b, double *exposed_seconds);

#endif
