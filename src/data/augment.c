// augment.c: see augment.h.
#include "data/augment.h"

#include "base/mem.h"
#include "base/rng.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

bool augment_is_on(const struct augment *a) {
  return a && (a->mirror || a->flip || a->turns || a->scale > 0 || a->brightness > 0 || a->contrast > 0);
}

// The random numbers of one picture: `number` of at most 2^48 views, a few blocks each.
static struct rng stream_of(const struct augment *a, const char *use, const char *pool, const char *image,
                            uint64_t number) {
  char name[512];
  (void)snprintf(name, sizeof name, "augment %s %s/%s", use, pool, image);
  struct rng r;
  rng_init(&r, a->seed, rng_stream(name));
  r.counter = number << 16;
  return r;
}

static double between(struct rng *r, double low, double high) {
  return low + (high - low) * rng_uniform(r);
}

void augment_draw(const struct augment *a, const char *pool, const char *image, int side, uint64_t number,
                  struct augment_view *v) {
  struct rng r = stream_of(a, "view", pool, image, number);
  bool mirror = rng_below(&r, 2), flip = rng_below(&r, 2);
  int turns = (int)rng_below(&r, 4);
  double zoom = exp(between(&r, -1, 1) * log1p(a->scale)), room = side - side / zoom;
  *v = (struct augment_view){.mirror = a->mirror && mirror, .flip = a->flip && flip, .turns = a->turns ? turns : 0};
  v->zoom = zoom;
  v->left = rng_uniform(&r) * room;
  v->top = rng_uniform(&r) * room;
  v->contrast = 1 + a->contrast * between(&r, -1, 1);
  v->brightness = 255 * a->brightness * between(&r, -1, 1);
}

int64_t augment_pick(const struct augment *a, const char *pool, const char *image, uint64_t epoch) {
  struct rng r = stream_of(a, "pick", pool, image, epoch);
  return (int64_t)rng_below(&r, (uint64_t)a->views);
}

// Where the pixel (y, x) of the turned picture was.
static void source_of(const struct augment_view *v, int side, int y, int x, int *from_y, int *from_x) {
  for (int t = 0; t < v->turns; t++) { // anticlockwise: the right edge becomes the top
    int was = y;
    y = x;
    x = side - 1 - was;
  }
  *from_y = v->flip ? side - 1 - y : y;
  *from_x = v->mirror ? side - 1 - x : x;
}

static void turn(const struct augment_view *v, int side, int channels, uint8_t *pixels, uint8_t *scratch) {
  size_t each = (size_t)channels, row = (size_t)side * each;
  memcpy(scratch, pixels, row * (size_t)side);
  for (int y = 0; y < side; y++) {
    for (int x = 0; x < side; x++) {
      int fy, fx;
      source_of(v, side, y, x, &fy, &fx);
      memcpy(pixels + (size_t)y * row + (size_t)x * each, scratch + (size_t)fy * row + (size_t)fx * each, each);
    }
  }
}

// One axis of the window: pixel i lies between `low` and `high`, the second with weight `part`; false: outside.
struct place {
  int low, high;
  double part;
  bool inside;
};

static struct place place_of(double start, double zoom, int side, int i) {
  double at = (i + 0.5) / zoom + start;
  struct place p = {.inside = at >= 0 && at < side};
  at -= 0.5;
  double below = floor(at);
  p.low = below < 0 ? 0 : (int)below;
  p.high = below + 1 > side - 1 ? side - 1 : (int)below + 1;
  p.part = at - below;
  return p;
}

static uint8_t rounded(double x) {
  return x <= 0 ? 0 : x >= 255 ? 255 : (uint8_t)lround(x);
}

static uint8_t value_at(const uint8_t *in, size_t row, size_t each, size_t c, const struct place *y,
                        const struct place *x) {
  const uint8_t *low = in + (size_t)y->low * row + c, *high = in + (size_t)y->high * row + c;
  if (each == 1) { // a mask: the nearest
    const uint8_t *line = y->part < 0.5 ? low : high;
    return line[x->part < 0.5 ? x->low : x->high];
  }
  size_t a = (size_t)x->low * each, b = (size_t)x->high * each;
  double top = low[a] + x->part * (low[b] - low[a]), bottom = high[a] + x->part * (high[b] - high[a]);
  return rounded(top + y->part * (bottom - top));
}

static void zoom(const struct augment_view *v, int side, int channels, uint8_t *pixels, uint8_t *scratch) {
  size_t each = (size_t)channels, row = (size_t)side * each;
  memcpy(scratch, pixels, row * (size_t)side);
  for (int i = 0; i < side; i++) {
    struct place y = place_of(v->top, v->zoom, side, i);
    uint8_t *out = pixels + (size_t)i * row;
    for (int k = 0; k < side; k++, out += each) {
      struct place x = place_of(v->left, v->zoom, side, k);
      for (size_t c = 0; c < each; c++) out[c] = y.inside && x.inside ? value_at(scratch, row, each, c, &y, &x) : 0;
    }
  }
}

static void recolour(const struct augment_view *v, size_t pixels, uint8_t *rgb) {
  double sum = 0;
  for (size_t i = 0; i < pixels; i++) sum += 0.299 * rgb[3 * i] + 0.587 * rgb[3 * i + 1] + 0.114 * rgb[3 * i + 2];
  double mean = sum / (double)pixels;
  uint8_t table[256];
  for (int x = 0; x < 256; x++) table[x] = rounded((x - mean) * v->contrast + mean + v->brightness);
  for (size_t i = 0; i < 3 * pixels; i++) rgb[i] = table[rgb[i]];
}

void augment_apply(const struct augment_view *v, int side, int channels, uint8_t *pixels, uint8_t *scratch) {
  if (v->mirror || v->flip || v->turns) turn(v, side, channels, pixels, scratch);
  if (v->zoom != 1) zoom(v, side, channels, pixels, scratch);
  if (channels == 3 && (v->contrast != 1 || v->brightness != 0)) recolour(v, (size_t)side * (size_t)side, pixels);
}

int augment_poses(const struct augment *a, struct augment_view out[16]) {
  int n = 0;
  for (int mirror = 0; mirror <= a->mirror; mirror++) {
    for (int flip = 0; flip <= a->flip; flip++) {
      for (int turns = 0; turns < (a->turns ? 4 : 1); turns++) {
        out[n++] = (struct augment_view){.mirror = mirror, .flip = flip, .turns = turns, .zoom = 1, .contrast = 1};
      }
    }
  }
  return n;
}

// ---- words ----------------------------------------------------------------------------------------------------------

struct word {
  size_t start, length;
};

static bool is_one_of(const char *text, struct word w, const char *const *list) {
  for (; *list; list++) {
    if (strlen(*list) == w.length && !strncasecmp(text + w.start, *list, w.length)) return true;
  }
  return false;
}

static const char *const directions[] = {"left", "right", "top", "bottom", "upper", "lower", NULL};
static const char *const between_them[] = {"center", "centre", "middle", "and", "or", NULL};
static const char *const before[] = {"in", "at", "on", "the", "located", NULL};
static const char *const after[] = {"of",      "in",   "side", "corner",   "part", "region",
                                    "portion", "half", "area", "quadrant", "end",  NULL};

static int split(const char *text, struct word *out, int most) {
  int n = 0;
  for (size_t i = 0; text[i] && n < most;) {
    size_t start = i;
    while (isalpha((unsigned char)text[i]) || (text[i] & 0x80)) i++;
    if (i > start) {
      out[n++] = (struct word){start, i - start};
    } else {
      i++;
    }
  }
  return n;
}

static bool is_place(const char *text, struct word w) {
  return is_one_of(text, w, directions) || is_one_of(text, w, between_them);
}

// Where a direction points to in the turned picture (x to the right, y down).
static const char *turned(const struct augment_view *v, const char *text, struct word w) {
  static const struct {
    const char *word;
    int x, y;
  } vectors[] = {{"left", -1, 0}, {"right", 1, 0}, {"top", 0, -1}, {"bottom", 0, 1}, {"upper", 0, -1}, {"lower", 0, 1}};
  size_t i = 0;
  while (strlen(vectors[i].word) != w.length || strncasecmp(text + w.start, vectors[i].word, w.length)) i++;
  int x = v->mirror ? -vectors[i].x : vectors[i].x, y = v->flip ? -vectors[i].y : vectors[i].y;
  for (int t = 0; t < v->turns; t++) {
    int was = x;
    x = y;
    y = -was;
  }
  if (x) return x < 0 ? "left" : "right";
  return i >= 4 ? (y < 0 ? "upper" : "lower") : y < 0 ? "top" : "bottom";
}

static bool is_upright(const char *direction) {
  return strcmp(direction, "left") && strcmp(direction, "right");
}

struct writer {
  char *out;
  size_t used;
  const char *text;
  size_t copied; // of text
};

static void put(struct writer *w, size_t until, struct word old, const char *fresh) {
  memcpy(w->out + w->used, w->text + w->copied, until - w->copied);
  w->used += until - w->copied;
  size_t n = strlen(fresh);
  memcpy(w->out + w->used, fresh, n);
  if (isupper((unsigned char)w->text[old.start])) w->out[w->used] = (char)toupper((unsigned char)fresh[0]);
  w->used += n;
  w->copied = old.start + old.length;
}

// Words [from, to) are a phrase of a place: turn its directions; of two neighbours the upright one goes first ("top left").
static void turn_phrase(const struct augment_view *v, const char *text, const struct word *word, int from, int to,
                        struct writer *w) {
  for (int i = from; i < to; i++) {
    if (!is_one_of(text, word[i], directions)) continue;
    const char *a = turned(v, text, word[i]), *b = NULL;
    bool pair = i + 1 < to && is_one_of(text, word[i + 1], directions) &&
                word[i + 1].start == word[i].start + word[i].length + 1 && text[word[i + 1].start - 1] == ' ';
    if (pair) b = turned(v, text, word[i + 1]);
    if (pair && !is_upright(a) && is_upright(b)) {
      const char *first = b;
      b = a;
      a = first;
    }
    put(w, word[i].start, word[i], a);
    if (pair) {
      i++;
      put(w, word[i].start, word[i], b);
    }
  }
}

enum { MOST_WORDS = 512 };

status_t augment_text(const struct augment_view *v, const char *text, char **out) {
  size_t length = strlen(text);
  struct word word[MOST_WORDS];
  int words = split(text, word, MOST_WORDS);
  *out = NULL;
  TRY(mem_alloc(out, length * 2 + 1, 1)); // "top" may become "bottom", "left" "bottom"
  struct writer w = {.out = *out, .text = text};
  bool moves = v->mirror || v->flip || v->turns;
  for (int i = 1; moves && i < words; i++) {
    int end = i;
    while (end < words && is_place(text, word[end])) end++;
    if (end == i) continue;
    bool placed = is_one_of(text, word[i - 1], before) && end < words && is_one_of(text, word[end], after);
    if (placed) turn_phrase(v, text, word, i, end, &w);
    i = end;
  }
  memcpy(w.out + w.used, text + w.copied, length - w.copied + 1);
  return OK;
}
