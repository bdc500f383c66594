// test_checkpoint.c: checkpoints of a tiny CLIPSeg: written, read back, linked, pruned, damaged in every way. ranks 1,
// label cpu.
#include "base/file.h"
#include "base/mem.h"
#include "testing.h"
#include "train/checkpoint.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

struct run {
  struct model *model;
  struct backend *backend;
  struct network *network;
  struct optimizer *optimizer;
  struct checkpoints *folder;
  char out[64];
};

static void open_network(struct run *r, const char *directory, bool encoders) {
  const struct network_options o = {.size = 64, .train = true, .encoders = encoders};
  const struct optimizer_options a = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 1e-3, .clip = 0.5};
  assert_ok(model_open(directory, &r->model));
  assert_ok(backend_create("reference", 1, &r->backend));
  assert_ok(network_create(r->model, r->backend, &o, &r->network));
  assert_ok(optimizer_create(r->network, r->backend, &a, &r->optimizer));
}

static void close_network(struct run *r) {
  optimizer_destroy(&r->optimizer);
  network_destroy(&r->network);
  backend_destroy(&r->backend);
  model_close(&r->model);
}

static void start(struct run *r, bool encoders) {
  *r = (struct run){0};
  (void)snprintf(r->out, sizeof r->out, "%s", test_folder());
  open_network(r, TEST_SOURCE_DIR "/tests/golden/clipseg_a", encoders);
  assert_ok(checkpoints_open(r->out, &r->folder));
}

static void stop(struct run *r) {
  checkpoints_close(&r->folder);
  close_network(r);
  assert_ok(file_remove_tree(r->out));
}

// One step with gradients that depend on the step: weights and moments change.
static void take_step(struct run *r, int step) {
  int64_t n = network_arena_count(r->network);
  float *g = network_gradients(r->network);
  for (size_t i = 0; i < network_parameter_count(r->network); i++) {
    const struct network_parameter *p = network_parameter_at(r->network, i);
    if (!p->trained) continue;
    for (int64_t k = 0; k < desc_count(&p->desc); k++) g[p->offset + k] = 1e-3f * (float)((k * 7 + step) % 13 - 6);
  }
  assert_true(n > 0);
  double norm;
  assert_ok(optimizer_norm(r->optimizer, &norm));
  assert_ok(optimizer_step(r->optimizer, norm, 1e-2));
}

static void save(struct run *r, int64_t step, int64_t best, int64_t keep) {
  json_t *state = json_pack("{s:I, s:s}", "epoch", (json_int_t)step * 2, "loss", "0x1.8p+1");
  assert_ok(checkpoints_write(r->folder, r->model, r->network, r->optimizer, state, step, best, keep));
  json_decref(state);
}

static char *inside(const struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static char *inside(const struct run *r, const char *format, ...) {
  static char path[512];
  int n = snprintf(path, sizeof path, "%s/checkpoints/", r->out);
  va_list args;
  va_start(args, format);
  (void)vsnprintf(path + n, sizeof path - (size_t)n, format, args);
  va_end(args);
  return path;
}

static void assert_link(const struct run *r, const char *name, const char *target) {
  char met[64] = "";
  assert_true(readlink(inside(r, "%s", name), met, sizeof met - 1) > 0);
  assert_string_equal(met, target);
}

static void change_byte(const char *path, long at) {
  FILE *f = fopen(path, "r+b");
  assert_non_null(f);
  assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
  int c = fgetc(f);
  assert_int_equal(fseek(f, -1, SEEK_CUR), 0);
  (void)fputc(c ^ 1, f);
  assert_int_equal(fclose(f), 0);
}

static int64_t find(struct run *r) {
  int64_t step;
  json_t *state;
  checkpoints_close(&r->folder);
  assert_ok(checkpoints_open(r->out, &r->folder));
  assert_ok(checkpoints_find(r->folder, &step, &state));
  json_decref(state);
  return step;
}

static void round_trip(bool encoders) {
  struct run r, back = {0};
  start(&r, encoders);
  for (int i = 0; i < 3; i++) take_step(&r, i);
  save(&r, 3, 3, 2);
  assert_int_equal(find(&r), 3);
  char *path;
  assert_ok(checkpoint_path(r.out, 3, &path));
  open_network(&back, path, encoders);
  mem_free(&path);
  assert_ok(checkpoint_load_optimizer(r.out, 3, back.network, back.optimizer));
  assert_int_equal(optimizer_steps(back.optimizer), 3);
  // Both take another step: weights and moments must have the same bits.
  take_step(&r, 3);
  take_step(&back, 3);
  size_t bytes = (size_t)network_arena_count(r.network) * sizeof(float);
  assert_memory_equal(network_weights(r.network), network_weights(back.network), bytes);
  float *a, *b;
  assert_ok(mem_alloc(&a, bytes, 1));
  assert_ok(mem_alloc(&b, bytes, 1));
  for (int m = 0; m < 2; m++) {
    assert_ok(optimizer_get_moment(r.optimizer, (moment_t)m, a));
    assert_ok(optimizer_get_moment(back.optimizer, (moment_t)m, b));
    assert_memory_equal(a, b, bytes);
  }
  mem_free(&a);
  mem_free(&b);
  close_network(&back);
  stop(&r);
}

static void what_is_written_is_read(void **state) {
  (void)state;
  round_trip(false);
  round_trip(true);
}

static void frozen_tensors_are_written_once(void **state) {
  (void)state;
  struct run r;
  struct stat one, two, trained;
  start(&r, false);
  save(&r, 1, 1, 5);
  take_step(&r, 0);
  save(&r, 2, 2, 5);
  assert_int_equal(stat(inside(&r, "step-00000001/model-00001-of-00002.safetensors"), &one), 0);
  assert_int_equal(stat(inside(&r, "step-00000002/model-00001-of-00002.safetensors"), &two), 0);
  assert_int_equal(one.st_ino, two.st_ino);
  assert_int_equal(stat(inside(&r, "step-00000001/model-00002-of-00002.safetensors"), &trained), 0);
  assert_int_equal(stat(inside(&r, "step-00000002/model-00002-of-00002.safetensors"), &two), 0);
  assert_int_not_equal(trained.st_ino, two.st_ino);
  // Gone on from: the shard is still taken over, and outlives the folder that it was written in.
  assert_int_equal(find(&r), 2);
  save(&r, 3, 3, 1);
  assert_false(file_exists(inside(&r, "step-00000001")));
  assert_int_equal(stat(inside(&r, "step-00000003/model-00001-of-00002.safetensors"), &two), 0);
  assert_int_equal(one.st_ino, two.st_ino);
  stop(&r);
}

static void best_and_newest_stay(void **state) {
  (void)state;
  struct run r;
  start(&r, false);
  save(&r, 10, 10, 2);
  save(&r, 20, 20, 2);
  save(&r, 30, 20, 2);
  save(&r, 40, 20, 2);
  save(&r, 50, 20, 2);
  assert_link(&r, "best", "step-00000020");
  assert_link(&r, "last", "step-00000050");
  char **names;
  size_t count;
  assert_ok(file_list(inside(&r, "."), &names, &count));
  assert_int_equal(count, 5); // best last step-20 step-40 step-50
  file_free_names(&names, count);
  save(&r, 50, 20, 2); // the same step again (a run that was gone on from step 40) takes the old one's place
  assert_int_equal(find(&r), 50);
  assert_link(&r, "best", "step-00000020");
  stop(&r);
}

static void damaged_checkpoints_are_passed_over(void **state) {
  (void)state;
  struct run r;
  start(&r, false);
  for (int64_t s = 1; s <= 7; s++) {
    take_step(&r, (int)s);
    save(&r, s, 1, 100);
  }
  assert_ok(file_make_directories(inside(&r, ".writing-123"))); // a kill while writing
  change_byte(inside(&r, "step-00000007/optimizer.safetensors"), -5);
  assert_int_equal(unlink(inside(&r, "step-00000006/state.json")), 0);
  assert_int_equal(truncate(inside(&r, "step-00000005/model-00002-of-00002.safetensors"), 100), 0);
  change_byte(inside(&r, "step-00000004/state.json"), 30);
  assert_int_equal(unlink(inside(&r, "step-00000003/config.json")), 0);
  assert_int_equal(find(&r), 2);
  assert_link(&r, "last", "step-00000002");
  assert_link(&r, "best", "step-00000001");
  assert_true(file_exists(inside(&r, "damaged-step-00000007")));
  assert_false(file_exists(inside(&r, ".writing-123")));
  // A folder that calls itself another step.
  char from[512];
  (void)snprintf(from, sizeof from, "%s", inside(&r, "step-00000002"));
  assert_int_equal(rename(from, inside(&r, "step-00000009")), 0);
  assert_int_equal(find(&r), 1);
  change_byte(inside(&r, "step-00000001/model-00001-of-00002.safetensors"), -1); // the frozen shard counts too
  assert_int_equal(find(&r), -1);
  stop(&r);
}

static void state_carries_its_own_hash(void **state) {
  (void)state;
  struct run r;
  json_t *s;
  int64_t epoch;
  start(&r, false);
  save(&r, 4, 4, 2);
  assert_ok(checkpoint_read_state(inside(&r, "last/state.json"), &s));
  assert_ok(json_get_int(s, "state.json", "epoch", 0, 100, &epoch));
  assert_int_equal(epoch, 8);
  assert_ok(json_put(s, "epoch", json_integer(9)));
  assert_ok(json_write(inside(&r, "last/state.json"), s));
  json_decref(s);
  assert_fails(ERR_FORMAT, checkpoint_read_state(inside(&r, "last/state.json"), &s), "state.json", "hash");
  stop(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_written_is_read),    cmocka_unit_test(frozen_tensors_are_written_once),
      cmocka_unit_test(best_and_newest_stay),       cmocka_unit_test(damaged_checkpoints_are_passed_over),
      cmocka_unit_test(state_carries_its_own_hash),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
