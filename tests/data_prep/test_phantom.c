// test_phantom.c: the prompts of drawn datasets are true (measured again from the written files by other means than the
// generator's), the same seed gives the same bytes, the splits are disjoint. ranks 1, label unit.
#include "base/file.h"
#include "base/key.h"
#include "base/mem.h"
#include "data_prep/phantom.h"
#include "testing.h"

#include <math.h>
#include <sys/stat.h>

enum { MOST = 8 };

// Components by merging row runs (union-find), not by flooding.
struct blob {
  double n, x, y, xx, xy, yy;
};
struct picture {
  int h, w, count;
  struct blob blob[MOST];
  double rgb[3]; // mean under the mask
  int box[4];
};

static int find(int *up, int i) {
  while (up[i] != i) i = up[i] = up[up[i]];
  return i;
}

static void measure(const struct image *mask, const struct image *image, struct picture *out) {
  int h = mask->height, w = mask->width, *up = malloc((size_t)(h * w) * sizeof *up),
      *slot = malloc((size_t)(h * w) * sizeof *slot);
  double n = 0;
  *out = (struct picture){.h = h, .w = w, .box = {w, h, 0, 0}};
  assert_int_equal(image->height, h);
  assert_int_equal(image->width, w);
  for (int i = 0; i < h * w; i++) {
    up[i] = i;
    slot[i] = -1;
    if (mask->pixels[i] < 128) continue;
    int x = i % w, y = i / w;
    const int near[4] = {x ? i - 1 : -1, y ? i - w : -1, x && y ? i - w - 1 : -1, y && x + 1 < w ? i - w + 1 : -1};
    for (int k = 0; k < 4; k++)
      if (near[k] >= 0 && mask->pixels[near[k]] > 127) up[find(up, i)] = find(up, near[k]);
  }
  for (int i = 0; i < h * w; i++) {
    if (mask->pixels[i] < 128) continue;
    int root = find(up, i), x = i % w, y = i / w;
    if (slot[root] < 0) {
      slot[root] = out->count++;
      assert_true(out->count <= MOST);
    }
    struct blob *b = &out->blob[slot[root]];
    *b = (struct blob){b->n + 1, b->x + x, b->y + y, b->xx + x * x, b->xy + x * y, b->yy + y * y};
    n++;
    for (int k = 0; k < 3; k++) out->rgb[k] += image->pixels[3 * i + k];
    out->box[0] = x < out->box[0] ? x : out->box[0];
    out->box[1] = y < out->box[1] ? y : out->box[1];
    out->box[2] = x > out->box[2] ? x : out->box[2];
    out->box[3] = y > out->box[3] ? y : out->box[3];
  }
  for (int k = 0; k < 3; k++) out->rgb[k] /= 255 * n;
  free(up);
  free(slot);
}

static bool has(const char *text, const char *word) {
  size_t n = strlen(word);
  for (const char *p = text; (p = strstr(p, word)); p++) {
    bool front = p == text || p[-1] == ' ', back = p[n] == '\0' || p[n] == ' ' || p[n] == ',' || p[n] == '-';
    if (front && back) return true;
  }
  return false;
}

static void must_have(const char *text, const char *word, const char *file) {
  if (!has(text, word)) fail_msg("%s: '%s' should say '%s'", file, text, word);
}

// Ratio of the axes from the moments by the tangent of the ellipse's angle: not the closed form of describe.c.
static double axis_ratio(const struct blob *b) {
  double mx = b->x / b->n, my = b->y / b->n, xx = b->xx / b->n - mx * mx, yy = b->yy / b->n - my * my;
  double t = 0.5 * atan2(2 * (b->xy / b->n - mx * my), xx - yy), c = cos(t), s = sin(t), xy = b->xy / b->n - mx * my;
  double first = c * c * xx + 2 * c * s * xy + s * s * yy, second = s * s * xx - 2 * c * s * xy + c * c * yy;
  return sqrt(second / first);
}

static void check_place(const struct picture *p, const char *place, const char *file) {
  // Every listed place names the third in which one object's centroid lies, largest object first.
  bool used[MOST] = {false};
  for (int turn = 0; turn < p->count; turn++) {
    int best = -1;
    for (int k = 0; k < p->count; k++)
      if (!used[k] && (best < 0 || p->blob[k].n > p->blob[best].n)) best = k;
    used[best] = true;
    double x = p->blob[best].x / p->blob[best].n / p->w * 3, y = p->blob[best].y / p->blob[best].n / p->h * 3;
    const char *row = y < 1 ? "top" : y > 2 ? "bottom" : "", *column = x < 1 ? "left" : x > 2 ? "right" : "";
    char want[32];
    (void)snprintf(want, sizeof want, "%s%s%s", row, *row && *column ? " " : "", column);
    if (!*want) (void)snprintf(want, sizeof want, "center");
    size_t n = strlen(want);
    if (strncmp(place, want, n) != 0)
      fail_msg("%s: object %d lies '%s', the prompt goes on '%s'", file, turn, want, place);
    place += n;
    if (turn + 1 < p->count) {
      assert_memory_equal(place, ", ", 2);
      place += 2;
    }
  }
  assert_true(*place == ' ');
}

static void check_size(const struct picture *p, const char *text, const char *file) {
  for (int k = 0; k < p->count; k++) {
    double share = 100 * p->blob[k].n / (p->h * p->w);
    must_have(text, share < 8 ? "small" : share < 30 ? "medium" : "large", file);
  }
}

// CIE L*a*b* distance to everyday colours: the word in the prompt has to be the nearest or nearly the nearest.
static void to_lab(const double rgb[3], double lab[3]) {
  double l[3], f[3];
  for (int k = 0; k < 3; k++) l[k] = rgb[k] <= 0.04045 ? rgb[k] / 12.92 : pow((rgb[k] + 0.055) / 1.055, 2.4);
  const double xyz[3] = {(0.4124 * l[0] + 0.3576 * l[1] + 0.1805 * l[2]) / 0.9505,
                         0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2],
                         (0.0193 * l[0] + 0.1192 * l[1] + 0.9505 * l[2]) / 1.089};
  for (int k = 0; k < 3; k++) f[k] = xyz[k] > 0.008856 ? cbrt(xyz[k]) : 7.787 * xyz[k] + 16.0 / 116;
  lab[0] = 116 * f[1] - 16;
  lab[1] = 500 * (f[0] - f[1]);
  lab[2] = 200 * (f[1] - f[2]);
}

static void check_colour(const struct picture *p, const char *text, const char *file) {
  static const struct {
    const char *name;
    double rgb[3];
  } known[] = {{"white", {0.93, 0.92, 0.90}},  {"pink", {0.88, 0.56, 0.54}},  {"red", {0.70, 0.22, 0.20}},
               {"brown", {0.48, 0.32, 0.20}},  {"black", {0.10, 0.09, 0.08}}, {"yellow", {0.88, 0.82, 0.34}},
               {"orange", {0.92, 0.58, 0.22}}, {"blue", {0.25, 0.35, 0.75}},  {"green", {0.30, 0.60, 0.30}},
               {"gray", {0.50, 0.50, 0.50}}};
  double lab[3], least = 1e9, said = 1e9;
  to_lab(p->rgb, lab);
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    double other[3], d = 0;
    to_lab(known[i].rgb, other);
    for (int k = 0; k < 3; k++) d += (lab[k] - other[k]) * (lab[k] - other[k]);
    d = sqrt(d);
    if (d < least) least = d;
    if (has(text, known[i].name)) said = d;
  }
  if (said > least + 1e-9) {
    fail_msg("%s: '%s' for a mean colour of %.2f %.2f %.2f", file, text, p->rgb[0], p->rgb[1], p->rgb[2]);
  }
}

static const char *prompt(const json_t *row, const char *kind, size_t wording) {
  const json_t *v = json_object_get(json_object_get(row, "prompts"), kind);
  if (json_is_array(v)) v = json_array_get(v, wording);
  assert_non_null(json_string_value(v));
  return json_string_value(v);
}

static void check_polyp_words(const json_t *row, const struct picture *p, const char *class_name, const char *file) {
  static const char *const number[] = {"zero", "one", "two", "three"};
  char want[256];
  const char *p2 = prompt(row, "p2", 0), *p6 = prompt(row, "p6", 0);
  assert_string_equal(prompt(row, "p0", 0), "");
  assert_string_equal(prompt(row, "p1", 0), class_name);
  for (int k = 0; k < p->count; k++) {
    double ratio = axis_ratio(&p->blob[k]);
    must_have(p2, ratio > 0.8 ? "round" : "oval", file);
  }
  check_colour(p, prompt(row, "p3", 0), file);
  check_size(p, prompt(row, "p4", 0), file);
  must_have(prompt(row, "p5", 0), number[p->count], file);
  // Each kind adds one attribute to the one before.
  const char *kinds[] = {"p1", "p2", "p3", "p4", "p5"};
  for (int k = 1; k < 5; k++) {
    const char *less = prompt(row, kinds[k - 1], 0), *more = prompt(row, kinds[k], 0);
    assert_true(strlen(more) > strlen(less));
    assert_string_equal(more + strlen(more) - strlen(less), less);
  }
  (void)snprintf(want, sizeof want, "%s, located in ", prompt(row, "p5", 0));
  assert_memory_equal(p6, want, strlen(want));
  assert_string_equal(p6 + strlen(p6) - 13, " of the image");
  check_place(p, p6 + strlen(want), file);
}

// Share of the bounding ellipse's border that the outline leaves: ragged outlines are long for their area.
static double compactness(const struct image *mask) {
  double area = 0, border = 0;
  for (int y = 1; y + 1 < mask->height; y++) {
    for (int x = 1; x + 1 < mask->width; x++) {
      const uint8_t *m = mask->pixels + y * mask->width + x;
      if (*m < 128) continue;
      area++;
      border += m[-1] < 128 || m[1] < 128 || m[-mask->width] < 128 || m[mask->width] < 128;
    }
  }
  return 4 * 3.14159265358979 * area / (border * border);
}

static void check_tumor_words(const json_t *row, const struct picture *p, const struct image *mask, const char *file) {
  static const char *const number[] = {"Zero", "One", "Two", "Three"};
  const char *p6 = prompt(row, "p6", 0), *place = strstr(prompt(row, "p5", 0), " at the ");
  bool irregular = has(p6, "malignant");
  assert_string_equal(prompt(row, "p0", 0), "");
  assert_string_equal(prompt(row, "p1", 0), "Tumor in the breast ultrasound image.");
  assert_string_equal(prompt(row, "p2", 1), irregular ? "Irregular-shaped tumor in the breast ultrasound image."
                                                      : "Regular-shaped tumor in the breast ultrasound image.");
  must_have(prompt(row, "p3", 0), number[p->count], file);
  assert_int_equal(strstr(p6, "tumors ") != NULL, p->count > 1);
  check_size(p, prompt(row, "p4", 1), file);
  assert_non_null(place);
  check_place(p, place + 8, file);
  for (int k = 0; k < p->count; k++) {
    double ratio = axis_ratio(&p->blob[k]);
    must_have(p6, irregular ? "star-shaped" : ratio > 0.8 ? "circle-shaped" : "oval-shaped", file);
  }
  double compact = compactness(mask) * p->count; // the outlines add up, the areas too
  if (irregular != (compact < 0.72)) fail_msg("%s: compactness %.3f, '%s'", file, compact, p6);
}

static void check_row(const char *dir, const char *domain, const json_t *row) {
  char *path;
  struct image mask, image;
  struct picture p;
  const char *file = json_string_value(json_object_get(row, "mask_name"));
  assert_ok(mem_format(&path, "%s/masks/%s", dir, file));
  assert_ok(image_read(path, 1, 0, &mask));
  mem_free(&path);
  assert_ok(mem_format(&path, "%s/images/%s", dir, json_string_value(json_object_get(row, "img_name"))));
  assert_ok(image_read(path, 3, 0, &image));
  mem_free(&path);
  assert_true(image.width != image.height);
  assert_true(image.width >= 320 && image.width <= 480 && image.height >= 320 && image.height <= 480);
  measure(&mask, &image, &p);
  for (size_t k = 0; k < 4; k++) {
    assert_int_equal(json_integer_value(json_array_get(json_object_get(row, "bbox"), k)), p.box[k]);
  }
  if (strcmp(domain, "ultrasound") == 0) {
    check_tumor_words(row, &p, &mask, file);
  } else {
    check_polyp_words(row, &p, strcmp(domain, "endoscopy") == 0 ? "polyp" : "skin melanoma", file);
  }
  image_free(&image);
  image_free(&mask);
}

// Draw `count`, check every row, and that each file stands in exactly one split.
static void check_dataset(const char *domain, int count) {
  static const char *const split[3] = {"train", "val", "test"};
  char dir[128], path[256];
  const char *root = test_folder();
  size_t rows = 0, tenth = count >= 10 ? (size_t)count / 10 : 1;
  bool *seen = calloc((size_t)count, sizeof *seen);
  (void)snprintf(dir, sizeof dir, "%s/d", root);
  assert_ok(phantom_write(domain, count, 11, dir));
  for (int k = 0; k < 3; k++) {
    json_t *list, *row;
    size_t i;
    (void)snprintf(path, sizeof path, "%s/anns/%s.json", dir, split[k]);
    assert_ok(json_read(path, &list));
    assert_int_equal(json_array_size(list), k ? tenth : (size_t)count - 2 * tenth);
    json_array_foreach(list, i, row) {
      const char *name = json_string_value(json_object_get(row, "segment_id"));
      int number = atoi(strrchr(name, '_') + 1);
      assert_true(number >= 0 && number < count && !seen[number]);
      seen[number] = true;
      check_row(dir, domain, row);
      rows++;
    }
    json_decref(list);
  }
  assert_int_equal(rows, count);
  free(seen);
  assert_ok(file_remove_tree(root));
}

static void endoscopy_prompts_are_true(void **state) {
  (void)state;
  check_dataset("endoscopy", 7);
}
static void ultrasound_prompts_are_true(void **state) {
  (void)state;
  check_dataset("ultrasound", 10);
}
static void dermoscopy_prompts_are_true(void **state) {
  (void)state;
  check_dataset("dermoscopy", 8);
}

// The check sums were made with GCC 12 at -O3; clang 14 at -O1 and at -O3 for AVX-512 gave the same: no libm, no contracted products.
static void same_seed_gives_same_bytes(void **state) {
  (void)state;
  static const char *const domain[3] = {"endoscopy", "ultrasound", "dermoscopy"};
  static const uint32_t crc[3] = {0xc345bca9, 0x99a9374f, 0x4a5e3648};
  for (int k = 0; k < 3; k++) {
    struct phantom a, b, c;
    assert_ok(phantom_draw(domain[k], 5, 3, &a));
    assert_ok(phantom_draw(domain[k], 5, 3, &b));
    assert_ok(phantom_draw(domain[k], 6, 3, &c));
    size_t size = (size_t)a.picture.height * (size_t)a.picture.width;
    assert_int_equal(a.picture.width, b.picture.width);
    assert_int_equal(a.picture.height, b.picture.height);
    assert_memory_equal(a.picture.pixels, b.picture.pixels, 3 * size);
    assert_memory_equal(a.mask.pixels, b.mask.pixels, size);
    assert_true(json_equal(a.prompts, b.prompts));
    assert_int_equal(key_crc32(a.picture.pixels, 3 * size), crc[k]);
    size_t other = (size_t)c.picture.height * (size_t)c.picture.width;
    assert_true(size != other || memcmp(a.picture.pixels, c.picture.pixels, 3 * size) != 0);
    phantom_free(&a);
    phantom_free(&b);
    phantom_free(&c);
  }
}

static void writing_is_idempotent_and_refuses_strangers(void **state) {
  (void)state;
  char dir[128], file[192];
  const char *root = test_folder();
  struct stat before, after;
  (void)snprintf(dir, sizeof dir, "%s/d", root);
  (void)snprintf(file, sizeof file, "%s/images/ultrasound_000000.png", dir);
  assert_fails(ERR_ARG, phantom_write("radiology", 1, 1, dir), "radiology", "endoscopy");
  assert_fails(ERR_ARG, phantom_write("ultrasound", 0, 1, dir), "between 1");
  assert_ok(phantom_write("ultrasound", 1, 1, dir));
  assert_int_equal(stat(file, &before), 0);
  assert_ok(phantom_write("ultrasound", 1, 1, dir));
  assert_int_equal(stat(file, &after), 0);
  assert_int_equal(before.st_ino, after.st_ino);
  assert_fails(ERR_ARG, phantom_write("ultrasound", 2, 1, dir), dir, "remove it");
  char **names;
  size_t count;
  assert_ok(file_list(root, &names, &count));
  assert_int_equal(count, 1); // no temporary folder is left
  file_free_names(&names, count);
  assert_ok(file_remove_tree(root));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(endoscopy_prompts_are_true),
      cmocka_unit_test(ultrasound_prompts_are_true),
      cmocka_unit_test(dermoscopy_prompts_are_true),
      cmocka_unit_test(same_seed_gives_same_bytes),
      cmocka_unit_test(writing_is_idempotent_and_refuses_strangers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
