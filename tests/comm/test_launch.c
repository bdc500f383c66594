// test_launch.c: how a process learns whether it has company, and what happens to a job that loses a rank. ranks: it
// starts its own, label mpi. `test_launch ROLE` is one rank of such a job.
#include "base/clock.h"
#include "base/mem.h"
#include "comm/comm.h"
#include "testing.h"

#include <mpi.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *self; // this executable

static const char *const launch_variables[] = {
    "OMPI_COMM_WORLD_SIZE", "PMIX_RANK",           "PMI_RANK", "PMI_SIZE", "SLURM_NTASKS",
    "SLURM_STEP_NUM_TASKS", "GRIDSEG_COMM_TIMEOUT"};

static int clean_environment(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof launch_variables / sizeof *launch_variables; i++) (void)unsetenv(launch_variables[i]);
  return 0;
}

static bool mpi_was_initialised(void) {
  int flag = -1;
  (void)MPI_Initialized(&flag);
  return flag != 0;
}

static void assert_world_of_one(void) {
  struct comm *c;
  assert_ok(comm_create(&c));
  assert_int_equal(comm_size(c), 1);
  assert_int_equal(comm_rank(c), 0);
  double v = 3;
  assert_ok(comm_sum_f64(c, &v, 1));
  assert_true(v == 3);
  comm_abort(c, 1); // of a world of one: returns
  comm_destroy(&c);
  assert_null(c);
  assert_false(mpi_was_initialised());
}

static void alone_mpi_is_never_initialised(void **state) {
  (void)state;
  assert_world_of_one();
  (void)setenv("OMPI_COMM_WORLD_SIZE", "1", 1); // mpirun -np 1
  assert_world_of_one();
  (void)clean_environment(NULL);
  (void)setenv("SLURM_NTASKS", "4", 1); // a batch script: the tasks belong to steps that it may start
  assert_world_of_one();
  (void)setenv("SLURM_STEP_NUM_TASKS", "1", 1); // srun -n 1 of four
  assert_world_of_one();
  (void)setenv("PMIX_RANK", "0", 1);
  assert_world_of_one();
}

static void srun_without_pmix_is_refused(void **state) {
  (void)state;
  struct comm *c;
  (void)setenv("SLURM_NTASKS", "4", 1);
  (void)setenv("SLURM_STEP_NUM_TASKS", "4", 1);
  assert_fails(ERR_COMM, comm_create(&c), "srun started 4 tasks", "mpirun -np 4", "srun --mpi=pmix -n 4");
  assert_null(c);
  assert_false(mpi_was_initialised());
}

static void nonsense_in_the_environment_is_named(void **state) {
  (void)state;
  struct comm *c;
  static const char *const bad[] = {"", "0", "-3", "4x", "99999999999999999999"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    (void)setenv("SLURM_STEP_NUM_TASKS", bad[i], 1);
    assert_fails(ERR_ARG, comm_create(&c), "SLURM_STEP_NUM_TASKS", bad[i]);
    (void)clean_environment(NULL);
    (void)setenv("GRIDSEG_COMM_TIMEOUT", bad[i], 1);
    if (i < 4) assert_fails(ERR_ARG, comm_create(&c), "GRIDSEG_COMM_TIMEOUT", bad[i]);
    (void)clean_environment(NULL);
  }
}

// The exit code of `command`, whose stdout and stderr are put into `text`.
static int run(const char *command, char *text, size_t room) {
  FILE *f = popen(command, "r");
  assert_non_null(f);
  size_t n = fread(text, 1, room - 1, f);
  text[n] = '\0';
  int status = pclose(f);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run_job(const char *role, int ranks, char *text, size_t room) {
  char command[4096];
  (void)snprintf(command, sizeof command,
                 MPIEXEC " --allow-run-as-root --oversubscribe --bind-to none -np %d '%s' %s 2>&1", ranks, self, role);
  return run(command, text, room);
}

// Two processes of another MPI's launcher: our MPI starts them as singletons, each a world of its own.
static void singletons_are_refused_after_mpi_starts(void **state) {
  (void)state;
  char command[4096], text[16384];
  (void)snprintf(command, sizeof command, "PMI_RANK=1 PMI_SIZE=2 '%s' join 2>&1", self);
  assert_int_equal(run(command, text, sizeof text), 1);
  assert_non_null(strstr(text, "the launcher started 2 tasks"));
  assert_non_null(strstr(text, "mpirun -np 2"));
}

static void a_killed_rank_ends_the_job(void **state) {
  (void)state;
  char text[16384];
  int code = run_job("killed", 2, text, sizeof text);
  assert_int_not_equal(code, 0);
  assert_null(strstr(text, "passed the barrier"));
}

static void a_stalled_rank_is_reported_and_given_up(void **state) {
  (void)state;
  char text[16384];
  int code = run_job("stalled", 3, text, sizeof text);
  if (code != 7) print_error("%s\n", text);
  assert_int_equal(code, 7);
  assert_non_null(strstr(text, "warning: rank 0 of 3 has waited"));
  assert_non_null(strstr(text, "an all-reduce of 4000 bytes"));
  assert_non_null(strstr(text, "rank 0 of 3 gave up after"));
  assert_non_null(strstr(text, "an earlier collective failed"));
}

static int rank_killed(struct comm *c) {
  if (comm_rank(c) == 1) (void)raise(SIGKILL);
  if (comm_barrier(c) == OK) (void)fprintf(stderr, "passed the barrier\n");
  return 0;
}

static int rank_stalled(struct comm *c) {
  static float values[1000];
  struct comm_request *r;
  if (comm_rank(c) == 2) (void)sleep(60);
  if (comm_rank(c) == 1)
    comm_set_deadline(c, 60, 60);
  else
    comm_set_deadline(c, 0.2, 0.6);
  if (comm_sum_begin(c, values, 1000, &r) != OK) return 1;
  status_t st = comm_wait(&r);
  (void)fprintf(stderr, "%s\n", status_message());
  if (st != ERR_TIMEOUT) return 1;
  if (comm_barrier(c) != ERR_COMM) return 1;
  (void)fprintf(stderr, "%s\n", status_message());
  comm_abort(c, 7);
  return 1;
}

static int play(const char *role) {
  struct comm *c;
  if (comm_create(&c) != OK) {
    (void)fprintf(stderr, "%s\n", status_message());
    return 1;
  }
  int code = !strcmp(role, "killed") ? rank_killed(c) : !strcmp(role, "stalled") ? rank_stalled(c) : 0;
  comm_destroy(&c);
  return code;
}

int main(int argc, char **argv) {
  if (argc > 1) return play(argv[1]);
  self = argv[0];
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(alone_mpi_is_never_initialised, clean_environment),
      cmocka_unit_test_setup(srun_without_pmix_is_refused, clean_environment),
      cmocka_unit_test_setup(nonsense_in_the_environment_is_named, clean_environment),
      cmocka_unit_test_setup(singletons_are_refused_after_mpi_starts, clean_environment),
      cmocka_unit_test_setup(a_killed_rank_ends_the_job, clean_environment),
      cmocka_unit_test_setup(a_stalled_rank_is_reported_and_given_up, clean_environment),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
