// test_pack.c: `pack` on the three layouts: what stands in the pool, what is refused and how, what is said on stderr.
// Label: unit.
#include "testing.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/image.h"
#include "data_prep/pack.h"

#include <fcntl.h>
#include <unistd.h>

enum { SIZE = 24 };
static char root[64];

static const char *at(const char *format, ...) {
  static char path[4][512];
  static int turn;
  char *out = path[turn++ % 4];
  va_list args;
  int n = snprintf(out, sizeof path[0], "%s/", root);
  va_start(args, format);
  (void)vsnprintf(out + n, sizeof path[0] - (size_t)n, format, args);
  va_end(args);
  return out;
}

static void write_text(const char *path, const char *text) {
  assert_ok(file_write_atomic(path, text, strlen(text)));
}

// A picture of its own for every seed; a mask with a square whose place depends on the seed.
static void write_image(const char *path, int seed, int height, int width) {
  struct image m = {0};
  assert_ok(image_create("", height, width, 3, &m));
  for (int i = 0; i < height * width * 3; i++) m.pixels[i] = (uint8_t)(i * (seed + 3) % 253);
  assert_ok(image_write_png(path, &m, 8));
  image_free(&m);
}

static void write_mask(const char *path, int seed, int height, int width) {
  struct image m = {0};
  assert_ok(image_create("", height, width, 1, &m));
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++) m.pixels[y * width + x] = y > 2 + seed % 5 && y < 20 && x > 3 && x < 30 ? 255 : 0;
  assert_ok(image_write_png(path, &m, 8));
  image_free(&m);
}

static status_t pack(const char *dataset, const char *source, const char *split, char *extra, char *value) {
  char size[16];
  (void)snprintf(size, sizeof size, "%d", SIZE);
  char *argv[] = {"pack",   "--dataset", (char *)dataset, "--source", (char *)source, "--split", (char *)split,
                  "--size", size,        "--out",         root,       extra,          value,     NULL};
  int argc = 11 + (extra != NULL) + (value != NULL);
  char out[128];
  (void)snprintf(out, sizeof out, "%s/pools", root);
  argv[10] = out;
  return pack_command(argc, argv);
}

// What a call writes to stderr.
static char *caught(int begin) {
  static int saved, fd;
  static char text[1 << 16];
  if (begin) {
    (void)fflush(stderr);
    saved = dup(2);
    fd = open(at("stderr"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(dup2(fd, 2) >= 0);
    return NULL;
  }
  (void)fflush(stderr);
  assert_true(dup2(saved, 2) >= 0);
  (void)close(saved);
  ssize_t n = pread(fd, text, sizeof text - 1, 0);
  text[n < 0 ? 0 : n] = '\0';
  (void)close(fd);
  return text;
}

static const char study_json[] =
    "[{\"img_name\": \"b.png\", \"mask_name\": \"m1/b.png\", \"prompts\": {\"p0\": \"\", \"p1\": [\"polyp\", \"a "
    "polyp\"],"
    " \"p6\": \"polyp at left\"}},"
    " {\"img_name\": \"patient07_a.png\", \"mask_name\": \"p.png\", \"prompts\": {\"p0\": \"\", \"p1\": \"polyp\"}},"
    " {\"img_name\": \"b.png\", \"mask_name\": \"m2/b.png\", \"prompts\": {\"p0\": \"\", \"p1\": \"polyp\"}},"
    " {\"img_name\": \"b.png\", \"mask_name\": \"m1/b.png\", \"prompts\": {\"p0\": \"\", \"p1\": \"polyp\"}}]";

static void make_study(void) {
  assert_ok(file_make_directories(at("study/images")));
  assert_ok(file_make_directories(at("study/masks/m1")));
  assert_ok(file_make_directories(at("study/masks/m2")));
  assert_ok(file_make_directories(at("study/anns")));
  write_image(at("study/images/b.png"), 1, 40, 50);
  write_image(at("study/images/patient07_a.png"), 2, 33, 31);
  write_mask(at("study/masks/m1/b.png"), 1, 40, 50);
  write_mask(at("study/masks/m2/b.png"), 2, 40, 50);
  write_mask(at("study/masks/p.png"), 3, 33, 31);
  write_text(at("study/anns/train.json"), study_json);
  write_text(at("study/anns/val.json"), "[]");
}

static void check_pixels(const struct pool *pool, const char *image_path, const char *mask_path, int64_t sample) {
  struct image a = {0}, b = {0};
  struct pool_sample s;
  uint8_t pixels[SIZE * SIZE * 3], *original = NULL;
  assert_ok(pool_get_sample(pool, sample, &s));
  assert_ok(image_read(image_path, 3, 0, &a));
  assert_ok(image_resize_bilinear(&a, SIZE, SIZE, &b));
  assert_ok(pool_read_image(pool, s.image, pixels));
  assert_memory_equal(pixels, b.pixels, sizeof pixels);
  assert_int_equal(s.original_height, a.height);
  assert_int_equal(s.original_width, a.width);
  image_free(&a);
  image_free(&b);
  assert_ok(image_read(mask_path, 1, 0, &a));
  assert_ok(pool_read_original_mask(pool, sample, &original));
  for (int i = 0; i < a.height * a.width; i++) assert_int_equal(original[i], a.pixels[i] > 127);
  assert_ok(image_resize_nearest(&a, SIZE, SIZE, &b));
  assert_ok(pool_read_mask(pool, sample, pixels));
  for (int i = 0; i < SIZE * SIZE; i++) assert_int_equal(pixels[i], b.pixels[i] > 127);
  mem_free(&original);
  image_free(&a);
  image_free(&b);
}

static void test_study(void **state) {
  (void)state;
  struct pool *pool = NULL;
  struct pool_sample s;
  caught(1);
  status_t st = pack("study", at("study"), "train", "--shards", "2");
  const char *text = caught(0);
  assert_ok(st);
  assert_non_null(strstr(text, "b.png with mask m1/b.png is listed twice"));
  assert_ok(pool_open(at("pools"), "study", "train", SIZE, 1, &pool));
  const struct pool_info *info = pool_get_info(pool);
  assert_int_equal(info->images, 2);
  assert_int_equal(info->samples, 3);
  assert_int_equal(info->shards, 2);
  assert_int_equal(info->prompt_kinds, 3);
  assert_int_equal(info->prompt_source[pool_find_kind(pool, "p1")], PROMPT_CLASS);
  assert_int_equal(info->prompt_source[pool_find_kind(pool, "p6")], PROMPT_GROUND_TRUTH);
  check_pixels(pool, at("study/images/b.png"), at("study/masks/m1/b.png"), 0);
  check_pixels(pool, at("study/images/b.png"), at("study/masks/m2/b.png"), 1);
  check_pixels(pool, at("study/images/patient07_a.png"), at("study/masks/p.png"), 2);
  assert_ok(pool_get_sample(pool, 1, &s)); // samples stand in the order of their images
  assert_string_equal(s.name, "m2/b.png");
  assert_string_equal(s.class_name, "m2");
  assert_string_equal(s.group, "b.png");
  assert_int_equal(s.image, 0);
  assert_ok(pool_get_sample(pool, 2, &s));
  assert_string_equal(s.group, "patient07");
  assert_string_equal(s.class_name, "study");
  assert_int_equal(pool_count_wordings(pool, 0, pool_find_kind(pool, "p1")), 2);
  assert_string_equal(pool_get_prompt(pool, 0, pool_find_kind(pool, "p1"), 1), "a polyp");
  assert_string_equal(pool_get_prompt(pool, 0, pool_find_kind(pool, "p6"), 0), "polyp at left");
  assert_int_equal(pool_count_wordings(pool, 1, pool_find_kind(pool, "p6")), 0);
  assert_string_equal(pool_get_prompt(pool, 1, pool_find_kind(pool, "p0"), 0), "");
  pool_close(&pool);
}

// Run again: nothing is done. Something changed: refused, and replaced by --force.
static void test_again(void **state) {
  (void)state;
  struct pool *pool = NULL;
  log_set_level(LOG_INFO);
  caught(1);
  status_t st = pack("study", at("study"), "train", NULL, NULL);
  const char *text = caught(0);
  log_set_level(LOG_WARN);
  assert_ok(st);
  assert_non_null(strstr(text, "nothing to do"));
  write_mask(at("study/masks/p.png"), 4, 33, 31);
  assert_fails(ERR_ARG, pack("study", at("study"), "train", NULL, NULL), "pools/study/train/24", "--force");
  assert_ok(pack("study", at("study"), "train", "--force", NULL));
  assert_ok(pool_open(at("pools"), "study", "train", SIZE, 1, &pool));
  check_pixels(pool, at("study/images/patient07_a.png"), at("study/masks/p.png"), 2);
  pool_close(&pool);
}

static void test_refusals(void **state) {
  (void)state;
  struct pool *pool = NULL;
  assert_fails(ERR_ARG, pack("study", at("study"), "val", NULL, NULL), "anns/val.json", "empty list");
  assert_fails(ERR_ARG, pack("study", at("study"), "other", NULL, NULL), "anns/other.json");
  write_text(at("study/anns/out.json"), "[{\"img_name\": \"../../x.png\", \"mask_name\": \"b\", \"prompts\": {}}]");
  assert_fails(ERR_FORMAT, pack("study", at("study"), "out", NULL, NULL), "out.json", "../../x.png", "leaves");
  write_text(at("study/anns/out.json"), "[{\"img_name\": \"b.png\", \"prompts\": {}}]");
  assert_fails(ERR_FORMAT, pack("study", at("study"), "out", NULL, NULL), "out.json", "mask_name");
  write_text(at("study/anns/out.json"),
             "[{\"img_name\": \"b.png\", \"mask_name\": \"p.png\", \"prompts\": {\"p1\": 3}}]");
  assert_fails(ERR_FORMAT, pack("study", at("study"), "out", NULL, NULL), "out.json", "entry 0", "p1");
  // Two bad pictures: both are named, no pool and nothing half made is left.
  write_text(at("study/images/broken.png"), "\x89PNG\r\n\x1a\nnothing more");
  write_text(at("study/anns/bad.json"),
             "[{\"img_name\": \"broken.png\", \"mask_name\": \"p.png\", \"prompts\": {\"p0\": \"\"}},"
             " {\"img_name\": \"b.png\", \"mask_name\": \"m1/b.png\", \"prompts\": {\"p0\": \"\"}},"
             " {\"img_name\": \"patient07_a.png\", \"mask_name\": \"m2/b.png\", \"prompts\": {\"p0\": \"\"}}]");
  caught(1);
  status_t st = pack("study", at("study"), "bad", NULL, NULL);
  const char *text = caught(0);
  assert_int_equal(st, ERR_FORMAT);
  assert_non_null(strstr(status_message(), "2 of 3 images"));
  assert_non_null(strstr(text, "images/broken.png: damaged PNG"));
  assert_non_null(strstr(text, "masks/m2/b.png is 50 x 40, but its image patient07_a.png is 31 x 33"));
  assert_fails(ERR_ARG, pool_open(at("pools"), "study", "bad", SIZE, 0, &pool), "study/bad/24");
  char **names = NULL;
  size_t count = 0;
  assert_ok(file_list(at("pools/study/bad"), &names, &count));
  assert_int_equal(count, 0);
  file_free_names(&names, count);
}

static void test_usage(void **state) {
  (void)state;
  char *unknown[] = {"pack", "--colour", "red", NULL}, *missing[] = {"pack", "--dataset", "study", NULL};
  char *size[] = {"pack", "--size", "12x", NULL};
  caught(1);
  status_t a = pack_command(3, unknown), b = pack_command(3, missing), c = pack_command(3, size);
  const char *text = caught(0);
  assert_int_equal(status_exit_code(a), 2);
  assert_int_equal(status_exit_code(b), 2);
  assert_int_equal(status_exit_code(c), 2);
  assert_non_null(strstr(text, "usage: gridseg pack"));
  assert_fails(ERR_ARG, pack("mnist", at("study"), "train", NULL, NULL), "mnist", "study, folder or csv");
  assert_fails(ERR_ARG, pack("study", at("nowhere"), "train", NULL, NULL), "nowhere");
  assert_fails(ERR_ARG, pack("study", at("study"), "train", "--name", "a/b"), "a/b");
}

// The same picture in two splits of a name, and twice in one, under other file names and as other bytes.
static void test_twins(void **state) {
  (void)state;
  assert_ok(file_make_directories(at("twins/images")));
  assert_ok(file_make_directories(at("twins/masks")));
  write_image(at("twins/images/one.png"), 1, 40, 50);
  write_image(at("twins/images/two.png"), 1, 40, 50);
  write_image(at("twins/images/three.png"), 9, 40, 50);
  write_mask(at("twins/masks/one.png"), 1, 40, 50);
  write_mask(at("twins/masks/two.png"), 2, 40, 50);
  write_mask(at("twins/masks/three.png"), 2, 40, 50);
  caught(1);
  status_t st = pack("folder", at("twins"), "test", "--name", "study");
  const char *text = caught(0);
  assert_ok(st);
  const char *line = strstr(text, "same picture twice: ");
  assert_non_null(line);
  assert_non_null(strstr(text, "one.png and two.png"));
  assert_non_null(strstr(text, "split train: b.png"));
  assert_null(strstr(text, "three.png"));
}

static void test_folder_layout(void **state) {
  (void)state;
  struct pool *pool = NULL;
  assert_ok(pack("folder", at("twins"), "all", "--prompt", "skin lesion"));
  assert_ok(pool_open(at("pools"), "twins", "all", SIZE, 1, &pool));
  assert_int_equal(pool_get_info(pool)->samples, 3);
  assert_string_equal(pool_get_prompt(pool, 0, pool_find_kind(pool, "p1"), 0), "skin lesion");
  assert_int_equal(pool_get_info(pool)->prompt_source[pool_find_kind(pool, "p1")], PROMPT_PERSON);
  pool_close(&pool);
  write_image(at("twins/images/four.png"), 5, 40, 50);
  assert_fails(ERR_ARG, pack("folder", at("twins"), "more", NULL, NULL), "images/four.png", "no partner");
  write_mask(at("twins/masks/four.tif"), 5, 40, 50); // another ending, and a PNG all the same
  assert_ok(pack("folder", at("twins"), "more", NULL, NULL));
  write_image(at("twins/images/four.jpg"), 5, 40, 50);
  assert_fails(ERR_ARG, pack("folder", at("twins"), "again", NULL, NULL), "four.jpg", "four.png", "same stem");
}

static void test_csv(void **state) {
  (void)state;
  struct pool *pool = NULL;
  struct pool_sample s;
  write_text(at("study/table.csv"), "\xef\xbb\xbfgroup,image,mask,class,prompt\r\n"
                                    "\"case, 1\",images/b.png,masks/m1/b.png,,\"a \"\"small\"\"\npolyp\"\r\n"
                                    "\r\n"
                                    ",images/patient07_a.png,masks/p.png,lesion,\n");
  assert_ok(pack("csv", at("study"), "table", "--prompt", "given"));
  assert_ok(pool_open(at("pools"), "study", "table", SIZE, 1, &pool));
  assert_int_equal(pool_get_info(pool)->samples, 2);
  assert_ok(pool_get_sample(pool, 0, &s));
  assert_string_equal(s.group, "case, 1");
  assert_string_equal(pool_get_prompt(pool, 0, pool_find_kind(pool, "p1"), 0), "a \"small\"\npolyp");
  assert_ok(pool_get_sample(pool, 1, &s));
  assert_string_equal(s.group, "patient07");
  assert_string_equal(s.class_name, "lesion");
  assert_string_equal(pool_get_prompt(pool, 1, pool_find_kind(pool, "p1"), 0), "given");
  pool_close(&pool);
  write_text(at("study/bad.csv"), "image,mask\nimages/b.png\n");
  assert_fails(ERR_FORMAT, pack("csv", at("study/bad.csv"), "x", NULL, NULL), "bad.csv: line 2 has 1 fields");
  write_text(at("study/bad.csv"), "image,mask\nimages/b.png,\"masks/p.png\n");
  assert_fails(ERR_FORMAT, pack("csv", at("study/bad.csv"), "x", NULL, NULL), "line 2", "quote is not closed");
  write_text(at("study/bad.csv"), "image,label\n");
  assert_fails(ERR_FORMAT, pack("csv", at("study/bad.csv"), "x", NULL, NULL), "column 'label'");
  write_text(at("study/bad.csv"), "image,mask\n/etc/passwd,masks/p.png\n");
  assert_fails(ERR_FORMAT, pack("csv", at("study/bad.csv"), "x", NULL, NULL), "line 2", "/etc/passwd");
  write_text(at("study/bad.csv"), "image,mask\n");
  assert_fails(ERR_ARG, pack("csv", at("study/bad.csv"), "x", NULL, NULL), "no samples");
}

// Any number of threads gives the same pool, bit for bit.
static void test_threads(void **state) {
  (void)state;
  struct key one, many;
  assert_ok(pack("study", at("study"), "train", "--force", NULL));
  assert_ok(key_sha256_file(at("pools/study/train/24/shard-00000.h5"), &one));
  assert_ok(file_remove_tree(at("pools/study/train")));
  assert_ok(pack("study", at("study"), "train", "--threads", "7"));
  assert_ok(key_sha256_file(at("pools/study/train/24/shard-00000.h5"), &many));
  assert_true(key_equal(&one, &many));
}

static void test_bench(void **state) {
  (void)state;
  double rate = 0.0;
  assert_ok(pack_bench(at("study"), "train", SIZE, &rate));
  assert_true(rate > 0.0);
}

static const char *class_of(const char *set, const char *split, int64_t sample) {
  static char name[64];
  struct pool *pool = NULL;
  struct pool_sample s;
  assert_ok(pool_open(at("pools"), set, split, SIZE, 1, &pool));
  assert_ok(pool_get_sample(pool, sample, &s));
  (void)snprintf(name, sizeof name, "%s", s.class_name);
  pool_close(&pool);
  return name;
}

// The masks' class: given, else what the study calls it, else what the layout says.
static void test_class(void **state) {
  (void)state;
  assert_fails(ERR_ARG, pack("study", at("study"), "train", "--class", ""), "--class is empty");
  assert_ok(file_remove_tree(at("pools/study/train")));
  assert_ok(pack("study", at("study"), "train", "--class", "lesion"));
  for (int64_t i = 0; i < 3; i++) assert_string_equal(class_of("study", "train", i), "lesion");
  static const char *const study[][3] = {
      {"kvasir_polyp", "patientless_1.png", "polyp"},
      {"camus", "mask_2/1.png", "myocardium"},
      {"camus", "mask_4/1.png", "mask_4"},
      {"chexlocalize", "a_enlarged_cardiomediastinum.png", "enlarged_cardiomediastinum"},
      {"chexlocalize", "a_rib.png", "chexlocalize"}};
  for (size_t i = 0; i < sizeof study / sizeof *study; i++) {
    char split[16], list[256];
    (void)snprintf(split, sizeof split, "s%zu", i);
    assert_ok(file_make_directories(at("%s/images", study[i][0])));
    assert_ok(file_make_directories(at("%s/anns", study[i][0])));
    assert_ok(file_make_directories(at("%s/masks/mask_2", study[i][0])));
    assert_ok(file_make_directories(at("%s/masks/mask_4", study[i][0])));
    write_image(at("%s/images/a.png", study[i][0]), 9, 30, 40);
    write_mask(at("%s/masks/%s", study[i][0], study[i][1]), 4, 30, 40);
    (void)snprintf(list, sizeof list, "[{\"img_name\": \"a.png\", \"mask_name\": \"%s\", \"prompts\": {\"p0\": \"\"}}]",
                   study[i][1]);
    write_text(at("%s/anns/%s.json", study[i][0], split), list);
    assert_ok(pack("study", at(study[i][0]), split, NULL, NULL));
    assert_string_equal(class_of(study[i][0], split, 0), study[i][2]);
  }
}

static void test_shared_data(void **state) {
  (void)state;
  const char *shared = test_shared();
  char source[1200];
  struct pool *pool = NULL;
  if (!shared) skip();
  (void)snprintf(source, sizeof source, "%s/data/camus", shared);
  assert_ok(pack("study", source, "val", NULL, NULL));
  assert_ok(pool_open(at("pools"), "camus", "val", SIZE, 1, &pool));
  const struct pool_info *info = pool_get_info(pool);
  assert_int_equal(info->images, 4); // three masks each
  assert_int_equal(info->samples, 12);
  assert_int_equal(info->prompt_source[pool_find_kind(pool, "p3")], PROMPT_METADATA);
  assert_int_equal(info->prompt_source[pool_find_kind(pool, "p7")], PROMPT_GROUND_TRUTH);
  for (int64_t i = 0; i < 12; i++) {
    struct pool_sample s;
    assert_ok(pool_get_sample(pool, i, &s));
    assert_string_equal(s.group, "patient0004");
  }
  pool_close(&pool);
}

int main(void) {
  log_set_level(LOG_WARN);
  (void)snprintf(root, sizeof root, "%s", test_folder());
  make_study();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_study), cmocka_unit_test(test_again),      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_usage), cmocka_unit_test(test_twins),      cmocka_unit_test(test_folder_layout),
      cmocka_unit_test(test_csv),   cmocka_unit_test(test_threads),    cmocka_unit_test(test_bench),
      cmocka_unit_test(test_class), cmocka_unit_test(test_shared_data)};
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  if (!failed) failed = file_remove_tree(root) != OK;
  return failed;
}
