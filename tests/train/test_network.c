// test_network.c: what a network promises of any model, on two models of a few layers that are made here: ranks that exchange the
// sums of BatchNorms (one of them without samples, one that fails), training and evaluation, dropout under any split, planes, tables,
// features of texts. ranks 1 (threads stand for ranks), label cpu.
#include "base/mem.h"
#include "testing.h"
#include "train/network.h"

#include <math.h>
#include <pthread.h>

enum { SIDE = 16, AREA = SIDE * SIDE, PLANES = 3, BATCH = 4, LIMIT = 6, WORDS = 10, WIDTH = 8, MAX_RANKS = 5 };

static const struct model_preprocess preprocess = {SIDE, {0.5, 0.5, 0.5}, {0.25, 0.25, 0.25}};

static status_t any_size(const void *config, int64_t size) {
  (void)config, (void)size;
  return OK;
}
static bool in_encoder(const char *name) {
  return !strncmp(name, "encoder.", 8);
}
static void no_text(const void *config, int *limit, int *vocabulary) {
  (void)config;
  *limit = *vocabulary = 0;
}

// Two convolutions with BatchNorm and dropout, PLANES planes. `config` is the probability of a zero.
static struct value *build_picture(struct net *n, const void *config, const struct model_spec *s,
                                   const struct model_preprocess *p) {
  struct value *x = graph_input(n->g, "pixels", &TENSOR_DESC(DTYPE_U8, s->batch, s->size, s->size, 3));
  x = graph_pixels(n->g, x, p->mean, p->std);
  for (int i = 0; i < 2; i++) {
    struct net_scope scope = net_enter(n, "encoder.layers.%d", i);
    const struct conv_spec c = {.out = 4 + i, .kernel = 3, .stride = 1, .pad = 1, .init = nn_default_init(27)};
    x = nn_batchnorm(n, "norm", nn_conv2d(n, "conv", x, &c), 1);
    x = nn_dropout(n, graph_activation(n->g, x, ACT_RELU), *(const double *)config);
    net_leave(n, scope);
  }
  return nn_conv(n, "head", x, PLANES, 1, 1, 0);
}

static const struct model_arch picture_arch = {
    .name = "picture", .check_size = any_size, .build = build_picture, .text = no_text, .is_encoder = in_encoder};

static void few_words(const void *config, int *limit, int *vocabulary) {
  (void)config;
  *limit = LIMIT;
  *vocabulary = WORDS;
}
static int last_token(const void *config, const int32_t *ids, int length) {
  (void)config, (void)ids;
  return length - 1;
}

// Every pixel attends to the words; positions are a table; the last word scales.
static struct value *build_words(struct net *n, const void *config, const struct model_spec *s,
                                 const struct model_preprocess *p) {
  (void)config;
  struct graph *g = n->g;
  int64_t b = s->batch, length = s->text_length;
  const struct init init = {INIT_NORMAL, 0.5};
  double *position = NULL;
  if (mem_alloc(&position, (size_t)(length * WIDTH), sizeof *position) != OK) return NULL;
  for (int64_t i = 0; i < length * WIDTH; i++) position[i] = sin((double)i);
  struct value *x = graph_input(g, "pixels", &TENSOR_DESC(DTYPE_U8, b, s->size, s->size, 3));
  x = nn_conv(n, "encoder.conv", graph_pixels(g, x, p->mean, p->std), WIDTH, 3, 1, 1);
  struct value *ids = graph_input(g, "ids", &TENSOR_DESC(DTYPE_I32, b, length));
  struct value *row = graph_input(g, "row", &TENSOR_DESC(DTYPE_I32, b));
  const struct attention_extra extra = {.length = graph_input(g, "length", &TENSOR_DESC(DTYPE_I32, b))};
  struct value *words =
      graph_embed(g, ids, nn_parameter(n, "encoder.words", &TENSOR_DESC(g->real, WORDS, WIDTH), init));
  words = graph_add(g, words, graph_constant(g, &TENSOR_DESC(g->real, 1, length, WIDTH), position));
  mem_free(&position);
  words = nn_linear(n, "encoder.read", words, WIDTH, init);
  struct value *last = graph_take_row(g, words, row);
  struct value *q = graph_reshape(g, x, &TENSOR_DESC(g->real, b, s->size * s->size, WIDTH));
  q = graph_add(g, q, graph_attention_with(g, q, words, words, 2, 0.5, false, &extra));
  q = graph_multiply(g, q, graph_reshape(g, last, &TENSOR_DESC(g->real, b, 1, WIDTH)));
  q = nn_linear(n, "head", q, 1, init);
  return graph_reshape(g, q, &TENSOR_DESC(g->real, b, s->size, s->size));
}

static const struct model_arch words_arch = {.name = "words",
                                             .check_size = any_size,
                                             .build = build_words,
                                             .pooled_token = last_token,
                                             .text = few_words,
                                             .is_encoder = in_encoder};

static const char *backend_name; // that the tests run on

// ---- samples -------------------------------------------------------------------------------------------------------

static uint8_t pictures[BATCH][AREA * 3], masks[BATCH][AREA];
static const int32_t texts[BATCH][LIMIT] = {{1, 2}, {1, 3, 4, 5}, {6, 7, 8}, {1, 2, 3, 4, 5, 6}};
static const int lengths[BATCH] = {2, 4, 3, 6};

static int make_samples(void **state) {
  (void)state;
  for (int i = 0; i < BATCH; i++) {
    for (int k = 0; k < AREA * 3; k++) pictures[i][k] = (uint8_t)((k * (7 + i) + i * 31 + k * k / 17) % 251);
    for (int k = 0; k < AREA; k++) masks[i][k] = (k / SIDE + k % (3 + i)) % 2 == 0;
  }
  return 0;
}

static void fill(struct network_sample out[BATCH]) {
  for (int i = 0; i < BATCH; i++) {
    out[i] = (struct network_sample){.image = pictures[i],
                                     .condition = texts[i],
                                     .length = lengths[i],
                                     .mask = masks[i],
                                     .plane = i % PLANES,
                                     .number = i};
  }
}

// ---- ranks: threads that add up what they exchange --------------------------------------------------------------------

struct world {
  int size;
  pthread_barrier_t barrier;
  double *given[MAX_RANKS];
};

struct rank {
  struct world *world;
  int index, first, count; // of the batch
  bool fails;
  double dropout;
  status_t status;
  double loss;
  int64_t elements;
  float *gradients, *parameters[16];
};

static status_t sum_ranks(void *context, double *values, size_t count) {
  struct rank *r = context;
  struct world *w = r->world;
  double sum[64] = {0};
  assert_true(count <= 64);
  w->given[r->index] = values;
  (void)pthread_barrier_wait(&w->barrier);
  for (int k = 0; k < w->size; k++) {
    for (size_t i = 0; i < count; i++) sum[i] += w->given[k][i];
  }
  (void)pthread_barrier_wait(&w->barrier);
  memcpy(values, sum, count * sizeof *values);
  return OK;
}

static void keep_results(struct rank *r, struct network *n) {
  r->elements = network_arena_count(n);
  assert_ok(mem_alloc(&r->gradients, (size_t)r->elements, sizeof(float)));
  memcpy(r->gradients, network_gradients(n), (size_t)r->elements * sizeof(float));
  assert_true(network_parameter_count(n) <= 16);
  for (size_t i = 0; i < network_parameter_count(n); i++) {
    const struct network_parameter *p = network_parameter_at(n, i);
    if (!p->tracked) continue;
    assert_ok(mem_alloc(&r->parameters[i], (size_t)desc_count(&p->desc), sizeof(float)));
    assert_ok(network_get_parameter(n, i, r->parameters[i]));
  }
}

static void *run_rank(void *arg) {
  struct rank *r = arg;
  struct backend *backend;
  struct network *n;
  const struct model model = {.arch = &picture_arch, .config = &r->dropout, .preprocess = preprocess};
  const struct network_options o = {.size = SIDE,
                                    .train = true,
                                    .encoders = true,
                                    .seed = 5,
                                    .exchange = r->world->size > 1 ? sum_ranks : NULL,
                                    .exchange_context = r};
  struct network_sample sample[BATCH];
  float loss[BATCH], sums[BATCH][4];
  fill(sample);
  assert_ok(backend_create(backend_name, 1, &backend));
  assert_ok(network_create(&model, backend, &o, &n));
  if (r->fails) sample[r->first].plane = PLANES;
  r->status = network_step(n, sample + r->first, r->count, 1.0 / BATCH, 3, NULL, loss, sums, NULL);
  for (int i = 0; i < r->count && r->status == OK; i++) r->loss += (double)loss[i];
  keep_results(r, n);
  network_destroy(&n);
  backend_destroy(&backend);
  return NULL;
}

static void run_world(struct rank *ranks, int size, const int *counts, double dropout, int failing) {
  struct world w = {.size = size};
  pthread_t thread[MAX_RANKS];
  int first = 0;
  assert_int_equal(pthread_barrier_init(&w.barrier, NULL, (unsigned)size), 0);
  for (int i = 0; i < size; i++) {
    ranks[i] = (struct rank){
        .world = &w, .index = i, .first = first, .count = counts[i], .fails = i == failing, .dropout = dropout};
    first += counts[i];
    assert_int_equal(pthread_create(&thread[i], NULL, run_rank, &ranks[i]), 0);
  }
  for (int i = 0; i < size; i++) assert_int_equal(pthread_join(thread[i], NULL), 0);
  assert_int_equal(pthread_barrier_destroy(&w.barrier), 0);
}

static void free_world(struct rank *ranks, int size) {
  for (int i = 0; i < size; i++) {
    mem_free(&ranks[i].gradients);
    for (int k = 0; k < 16; k++) mem_free(&ranks[i].parameters[k]);
  }
}

// Losses and gradients of all ranks together are those of one, running statistics are the same bits on all of them.
static void compare_worlds(double dropout, int size, const int *counts) {
  struct rank alone[1], many[MAX_RANKS];
  run_world(alone, 1, (int[]){BATCH}, dropout, -1);
  run_world(many, size, counts, dropout, -1);
  double loss = 0;
  for (int r = 0; r < size; r++) {
    assert_int_equal(many[r].status, OK);
    loss += many[r].loss;
  }
  assert_true(fabs(loss - alone->loss) <= 1e-6 * alone->loss);
  double apart = 0, whole = 0;
  for (int64_t k = 0; k < alone->elements; k++) {
    double sum = 0;
    for (int r = 0; r < size; r++) sum += (double)many[r].gradients[k];
    apart += pow(sum - (double)alone->gradients[k], 2);
    whole += pow((double)alone->gradients[k], 2);
  }
  if (!(sqrt(apart) <= 1e-5 * sqrt(whole))) fail_msg("gradients differ by %g of %g", sqrt(apart), sqrt(whole));
  int statistics = 0;
  for (int i = 0; i < 16; i++) {
    if (!alone->parameters[i]) continue;
    statistics++;
    assert_true(fabsf(many[0].parameters[i][0] - alone->parameters[i][0]) <= 1e-6f);
    for (int r = 1; r < size; r++) assert_true(many[r].parameters[i][0] == many[0].parameters[i][0]);
  }
  assert_int_equal(statistics, 6);
  free_world(many, size);
  free_world(alone, 1);
}

static void ranks_are_one(void **state) {
  (void)state;
  compare_worlds(0, 2, (int[]){3, 1});
  compare_worlds(0.3, 2, (int[]){2, 2});
}

static void a_rank_without_samples_takes_part(void **state) {
  (void)state;
  compare_worlds(0.3, 5, (int[]){1, 1, 0, 1, 1});
}

static void a_rank_that_fails_lets_the_others_go_on(void **state) {
  (void)state;
  struct rank many[MAX_RANKS];
  run_world(many, 3, (int[]){2, 1, 1}, 0, 1);
  assert_int_equal(many[0].status, OK);
  assert_int_equal(many[1].status, ERR_ARG);
  assert_int_equal(many[2].status, OK);
  free_world(many, 3);
}

// ---- modes, planes, counters -----------------------------------------------------------------------------------------

static void training_and_evaluation(void **state) {
  (void)state;
  const double dropout = 0.5;
  struct backend *backend;
  struct network *n, *plain;
  const struct model model = {.arch = &picture_arch, .config = (void *)(uintptr_t)&dropout, .preprocess = preprocess};
  const struct network_options o = {.size = SIDE, .train = true, .encoders = true, .seed = 5};
  const struct network_options evaluation = {.size = SIDE, .seed = 5};
  struct network_sample sample[BATCH];
  float loss[BATCH], sums[BATCH][4], first[BATCH], *before, *after, *other;
  fill(sample);
  assert_ok(mem_alloc(&before, BATCH * AREA, sizeof *before));
  assert_ok(mem_alloc(&after, BATCH * AREA, sizeof *after));
  assert_ok(mem_alloc(&other, BATCH * AREA, sizeof *other));
  assert_ok(backend_create(backend_name, 1, &backend));
  assert_ok(network_create(&model, backend, &o, &n));
  assert_ok(network_create(&model, backend, &evaluation, &plain));
  assert_int_equal(network_planes(n), PLANES);
  // The picture alone decides the logits: no source has a feature.
  assert_int_equal(network_feature_bytes(plain, SOURCE_IMAGE), 0);
  assert_int_equal(network_feature_bytes(plain, SOURCE_CONDITION), 0);
  assert_ok(network_forward(n, sample, BATCH, before));
  assert_ok(network_forward(plain, sample, BATCH, other));
  for (int i = 0; i < BATCH * AREA; i++) assert_true(fabsf(before[i] - other[i]) <= 1e-5f);
  // Step 0 and step 1 draw differently, step 0 again the same; running statistics move.
  assert_ok(network_step(n, sample, BATCH, 1, 0, NULL, first, sums, NULL));
  assert_ok(network_step(n, sample, BATCH, 1, 1, NULL, loss, sums, NULL));
  assert_true(first[0] != loss[0]);
  assert_ok(network_step(n, sample, BATCH, 1, 0, NULL, loss, sums, NULL));
  assert_memory_equal(first, loss, sizeof loss);
  assert_ok(network_forward(n, sample, BATCH, after));
  assert_memory_not_equal(before, after, BATCH * AREA * sizeof *before);
  // The statistics of the training network make the evaluation network its equal.
  for (size_t i = 0; i < network_parameter_count(n); i++) {
    const struct network_parameter *p = network_parameter_at(n, i);
    float values[200];
    assert_true(desc_count(&p->desc) <= 200);
    assert_ok(network_get_parameter(n, i, values));
    if (p->stored == DTYPE_I64) assert_true(values[0] == 3);
    assert_ok(network_set_parameter(plain, i, values));
    assert_int_equal(network_parameter_at(plain, i)->tracked, false);
  }
  assert_ok(network_forward(plain, sample, BATCH, other));
  for (int i = 0; i < BATCH * AREA; i++) assert_true(fabsf(after[i] - other[i]) <= 1e-5f);
  // Planes: another one gives other logits, one that is not there is refused.
  sample[0].plane = 1;
  assert_ok(network_forward(n, sample, BATCH, before));
  assert_memory_not_equal(before, after, AREA * sizeof *before);
  assert_memory_equal(before + AREA, after + AREA, (BATCH - 1) * AREA * sizeof *before);
  sample[0].plane = -1;
  assert_fails(ERR_ARG, network_forward(n, sample, BATCH, before), "plane -1", "3");
  network_destroy(&plain);
  network_destroy(&n);
  backend_destroy(&backend);
  mem_free(&other);
  mem_free(&after);
  mem_free(&before);
}

// Under the study's quirks every plane's logits are there after an evaluation: those that each plane has when it is asked for.
static void every_plane(void **state) {
  (void)state;
  const double dropout = 0;
  struct backend *backend;
  struct network *n;
  const struct model model = {.arch = &picture_arch, .config = (void *)(uintptr_t)&dropout, .preprocess = preprocess};
  const struct network_options o = {.size = SIDE, .train = true, .encoders = true, .study = true, .seed = 5};
  struct network_sample sample[BATCH];
  float loss[BATCH], sums[BATCH][4], *planes, *one;
  fill(sample);
  assert_ok(mem_alloc(&planes, BATCH * AREA * PLANES, sizeof *planes));
  assert_ok(mem_alloc(&one, BATCH * AREA, sizeof *one));
  assert_ok(backend_create(backend_name, 1, &backend));
  assert_ok(network_create(&model, backend, &o, &n));
  assert_fails(ERR_ARG, network_get_planes(n, planes), "planes");
  assert_ok(network_loss(n, sample, BATCH, loss, sums, NULL));
  assert_ok(network_get_planes(n, planes));
  for (int p = 0; p < PLANES; p++) {
    for (int i = 0; i < BATCH; i++) sample[i].plane = p;
    assert_ok(network_forward(n, sample, BATCH, one));
    for (int i = 0; i < BATCH * AREA; i++) assert_true(one[i] == planes[i * PLANES + p]);
  }
  assert_ok(network_step(n, sample, BATCH, 1, 0, NULL, loss, sums, NULL));
  assert_fails(ERR_ARG, network_get_planes(n, planes), "planes"); // a step keeps none
  network_destroy(&n);
  backend_destroy(&backend);
  mem_free(&one);
  mem_free(&planes);
}

// A counter that is set goes on from there.
static void counters_go_on(void **state) {
  (void)state;
  const double dropout = 0;
  struct backend *backend;
  struct network *n;
  const struct model model = {.arch = &picture_arch, .config = (void *)(uintptr_t)&dropout, .preprocess = preprocess};
  const struct network_options o = {.size = SIDE, .train = true, .encoders = true, .seed = 5};
  struct network_sample sample[BATCH];
  float loss[BATCH], sums[BATCH][4], value = 0;
  size_t counter = 0;
  fill(sample);
  assert_ok(backend_create(backend_name, 1, &backend));
  assert_ok(network_create(&model, backend, &o, &n));
  while (network_parameter_at(n, counter)->stored != DTYPE_I64) counter++;
  assert_ok(network_step(n, sample, BATCH, 1, 0, NULL, loss, sums, NULL));
  value = 40;
  assert_ok(network_set_parameter(n, counter, &value));
  assert_ok(network_step(n, sample, BATCH, 1, 1, NULL, loss, sums, NULL));
  network_drop_features(n);
  assert_ok(network_get_parameter(n, counter, &value));
  assert_true(value == 41);
  network_destroy(&n);
  backend_destroy(&backend);
}

// ---- texts -------------------------------------------------------------------------------------------------------------

// Features of texts that have a row for each token, kept at full length, give what the texts themselves give, padded to the longest.
static void texts_as_features(void **state) {
  (void)state;
  struct backend *backend;
  struct network *frozen, *live;
  const struct model model = {.arch = &words_arch, .preprocess = preprocess};
  const struct network_options o = {.size = SIDE, .seed = 5};
  const struct network_options all = {.size = SIDE, .train = true, .encoders = true, .seed = 5};
  struct network_sample sample[BATCH], featured[BATCH];
  void *feature[SOURCES][BATCH];
  float *want, *met;
  fill(sample);
  assert_ok(mem_alloc(&want, BATCH * AREA, sizeof *want));
  assert_ok(mem_alloc(&met, BATCH * AREA, sizeof *met));
  assert_ok(backend_create(backend_name, 1, &backend));
  assert_ok(network_create(&model, backend, &o, &frozen));
  assert_ok(network_create(&model, backend, &all, &live));
  for (int i = 0; i < BATCH; i++) {
    sample[i].plane = 0;
    featured[i] = sample[i];
    for (int s = 0; s < SOURCES; s++) {
      size_t bytes = network_feature_bytes(frozen, (source_t)s);
      assert_true(bytes > 0 && network_feature_bytes(live, (source_t)s) == 0);
      assert_ok(mem_alloc(&feature[s][i], bytes, 1));
      const void *input = s == SOURCE_IMAGE ? sample[i].image : sample[i].condition;
      assert_ok(network_compute_feature(frozen, (source_t)s, input, lengths[i], feature[s][i]));
    }
    featured[i].image = feature[SOURCE_IMAGE][i];
    featured[i].condition = feature[SOURCE_CONDITION][i];
  }
  assert_ok(network_forward(live, sample, BATCH, want));
  assert_ok(network_forward(frozen, featured, BATCH, met));
  double largest = 0;
  for (int i = 0; i < BATCH * AREA; i++) {
    largest = fmax(largest, fabs((double)want[i]));
    assert_true(fabsf(want[i] - met[i]) <= 1e-5f);
  }
  assert_true(largest > 0.1);
  featured[1].length = LIMIT + 1;
  assert_fails(ERR_SHAPE, network_forward(frozen, featured, BATCH, met), "7 tokens", "1 to 6");
  for (int i = 0; i < BATCH; i++) {
    for (int s = 0; s < SOURCES; s++) mem_free(&feature[s][i]);
  }
  network_destroy(&live);
  network_destroy(&frozen);
  backend_destroy(&backend);
  mem_free(&met);
  mem_free(&want);
}

int main(void) {
  static const char *const backends[] = {"reference", "onednn"};
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ranks_are_one),
      cmocka_unit_test(a_rank_without_samples_takes_part),
      cmocka_unit_test(a_rank_that_fails_lets_the_others_go_on),
      cmocka_unit_test(training_and_evaluation),
      cmocka_unit_test(every_plane),
      cmocka_unit_test(counters_go_on),
      cmocka_unit_test(texts_as_features),
  };
  int failed = 0;
  for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
    backend_name = backends[i];
    failed += cmocka_run_group_tests_name(backend_name, tests, make_samples, NULL);
  }
  return failed;
}
