// launch.c: how was this process started? Read from the environment alone, before MPI is touched: Open MPI ends a
// process that srun started without PMIx inside MPI_Init, where no message of ours could be given any more.
#include "comm/comm_ops.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

// *value: the positive number in variable `name`, 0 when it is absent.
static status_t read_count(const char *name, int *value) {
  const char *text = getenv(name);
  *value = 0;
  if (!text) return OK;
  char *end;
  errno = 0;
  long n = strtol(text, &end, 10);
  if (end == text || *end || errno || n < 1 || n > INT_MAX) {
    return FAIL(ERR_ARG, "environment variable %s: wanted a number of ranks, met '%.64s'", name, text);
  }
  *value = (int)n;
  return OK;
}

status_t launch_refuse(int tasks, const char *launcher) {
  return FAIL(ERR_COMM,
              "%s started %d tasks that share no MPI world, so each would do the whole work alone. Inside the "
              "allocation use 'mpirun -np %d gridseg ...', or, where Slurm was built with PMIx, 'srun --mpi=pmix -n %d "
              "gridseg ...'",
              launcher, tasks, tasks, tasks);
}

status_t launch_detect(struct launch *out) {
  int ompi, pmi, step;
  TRY(read_count("OMPI_COMM_WORLD_SIZE", &ompi));
  TRY(read_count("PMI_SIZE", &pmi));
  // SLURM_NTASKS belongs to the allocation and is set in a batch script too; the step's number is set by srun only.
  TRY(read_count("SLURM_STEP_NUM_TASKS", &step));
  *out = (struct launch){.shared = false, .expected = 1};
  if (ompi) { // first: the daemons of mpirun are themselves a step of srun, with as many tasks as nodes
    out->expected = ompi;
  } else if (getenv("PMIX_RANK") || getenv("PMI_RANK")) {
    out->expected = pmi ? pmi : step;
  } else if (step > 1) {
    return launch_refuse(step, "srun");
  }
  out->shared = out->expected != 1;
  return OK;
}
