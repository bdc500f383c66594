// metric.c: see metric.h. Dice and IoU from pixel counts; HD95 and surface Dice from distances between edges, as MONAI 1.4
// computes them on the CPU (get_mask_edges, get_surface_distance, torch.quantile; use_subvoxels false).
//
// An edge pixel is a mask pixel with a 4-neighbour outside the mask, the world beyond the picture included (scipy's
// binary_erosion with border value 0; MONAI's crop with a margin of 1 changes nothing in that). Distances are exact
// Euclidean ones, taken where they are asked for only: the vertical distance to the nearest edge for the union's
// bounding box, then per edge pixel of the other mask a search along its row, or, where a row asks for many, the lower
// envelope of the row's parabolas (Meijster, Roerdink, Hesselink 2000: integers throughout).
#include "train/metric.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

enum { FAR = 1 << 29 }; // "no edge in this column"; its square and a squared width still fit in 63 bits

struct box { // [top, bottom) x [left, right)
  int top, bottom, left, right;
};

struct surfaces { // all of the union's box: [height, width]
  int height, width;
  uint8_t *edge[2];  // predicted, truth
  int32_t *vertical; // distance to the nearest edge of the same column
  int64_t *squared;  // of one direction: room for every edge pixel
  int64_t *start;    // lower envelope: where the parabola of apex[] begins
  int32_t *apex;
};

// Pixels of both masks, and the box around their union.
static void count_pixels(const uint8_t *predicted, const uint8_t *truth, int height, int width, uint8_t *column,
                         struct metric_counts *counts, struct box *box) {
  *counts = (struct metric_counts){0};
  *box = (struct box){.top = height, .bottom = 0, .left = 0, .right = 0};
  for (int y = 0; y < height; y++) {
    const uint8_t *p = predicted + (size_t)y * (size_t)width, *t = truth + (size_t)y * (size_t)width;
    uint32_t a = 0, b = 0, c = 0;
    for (int x = 0; x < width; x++) {
      a += p[x];
      b += t[x];
      c += p[x] & t[x];
    }
    counts->predicted += a;
    counts->truth += b;
    counts->both += c;
    if (a + b == 0) continue;
    if (y < box->top) box->top = y;
    box->bottom = y + 1;
    for (int x = 0; x < width; x++) column[x] |= (uint8_t)(p[x] | t[x]);
  }
  if (box->bottom == 0) return;
  while (!column[box->left]) box->left++;
  box->right = width;
  while (!column[box->right - 1]) box->right--;
}

// Edges of `mask` (its rows `stride` apart) inside the box: beyond it nothing is set.
static int64_t find_edges(const uint8_t *mask, size_t stride, int height, int width, uint8_t *edge) {
  int64_t count = 0;
  for (int y = 0; y < height; y++) {
    const uint8_t *m = mask + (size_t)y * stride;
    uint8_t *e = edge + (size_t)y * (size_t)width;
    if (y == 0 || y == height - 1) {
      memcpy(e, m, (size_t)width);
    } else {
      const uint8_t *up = m - stride, *down = m + stride;
      e[0] = m[0];
      for (int x = 1; x < width - 1; x++) e[x] = (uint8_t)(m[x] & (1 ^ (up[x] & down[x] & m[x - 1] & m[x + 1])));
      e[width - 1] = m[width - 1];
    }
    uint32_t n = 0;
    for (int x = 0; x < width; x++) n += e[x];
    count += n;
  }
  return count;
}

static void measure_columns(const uint8_t *edge, int height, int width, int32_t *vertical) {
  size_t w = (size_t)width;
  for (int x = 0; x < width; x++) vertical[x] = edge[x] ? 0 : FAR;
  for (int y = 1; y < height; y++) {
    const uint8_t *e = edge + (size_t)y * w;
    int32_t *v = vertical + (size_t)y * w;
    const int32_t *above = v - w;
    for (int x = 0; x < width; x++) v[x] = (above[x] + 1) & ((int32_t)e[x] - 1); // 0 on an edge
  }
  for (int y = height - 2; y >= 0; y--) {
    int32_t *v = vertical + (size_t)y * w;
    const int32_t *below = v + w;
    for (int x = 0; x < width; x++) v[x] = v[x] < below[x] + 1 ? v[x] : below[x] + 1;
  }
}

// Squared distance from column x of a row to the nearest edge; `v` holds the row's vertical distances.
static int64_t search_row(const int32_t *v, int width, int x) {
  int64_t best = (int64_t)v[x] * v[x];
  int right = width - 1 - x, furthest = x > right ? x : right;
  for (int64_t d = 1; d <= furthest && d * d < best; d++) {
    if (d <= x) {
      int64_t s = (int64_t)v[x - d] * v[x - d] + d * d;
      if (s < best) best = s;
    }
    if (d <= right) {
      int64_t s = (int64_t)v[x + d] * v[x + d] + d * d;
      if (s < best) best = s;
    }
  }
  return best;
}

// Every edge pixel of `asks` in a row, by the lower envelope of the parabolas (x - i)^2 + v[i]^2. The last parabola that
// starts at or before x is the lowest there.
static int64_t *walk_envelope(const struct surfaces *s, const int32_t *v, const uint8_t *asks, int64_t *out) {
  int top = -1;
  for (int i = 0; i < s->width; i++) {
    if (v[i] >= FAR) continue;
    int64_t begin = 0;
    for (; top >= 0; top--) {
      int64_t j = s->apex[top], rise = (int64_t)i * i - j * j + (int64_t)v[i] * v[i] - (int64_t)v[j] * v[j];
      // The first column where i is lower: below column 0 when it always is.
      begin = rise < 0 ? 0 : rise / (2 * (i - j)) + 1;
      if (begin > s->start[top]) break;
    }
    if (top < 0) begin = 0;
    if (begin >= s->width) continue;
    top++;
    s->apex[top] = i;
    s->start[top] = begin;
  }
  for (int x = 0, k = 0; x < s->width; x++) {
    while (k < top && s->start[k + 1] <= x) k++;
    if (!asks[x]) continue;
    int64_t d = x - s->apex[k], g = v[s->apex[k]];
    *out++ = d * d + g * g;
  }
  return out;
}

// Squared distances from every edge pixel of mask `from` to the nearest edge pixel of the other into s->squared, of which there
// is at least one.
static void measure_distances(struct surfaces *s, int from) {
  measure_columns(s->edge[1 - from], s->height, s->width, s->vertical);
  int64_t *out = s->squared;
  for (int y = 0; y < s->height; y++) {
    const uint8_t *asks = s->edge[from] + (size_t)y * (size_t)s->width;
    const int32_t *v = s->vertical + (size_t)y * (size_t)s->width;
    int many = 0;
    for (int x = 0; x < s->width; x++) many += asks[x];
    if (many > 16 && many > s->width / 16) { // then one pass over the row is cheaper than that many searches
      out = walk_envelope(s, v, asks, out);
      continue;
    }
    for (const uint8_t *p = asks, *end = asks + s->width; many > 0 && (p = memchr(p, 1, (size_t)(end - p))); p++) {
      *out++ = search_row(v, s->width, (int)(p - asks));
    }
  }
}

static void swap_values(int64_t *a, int64_t *b) {
  int64_t kept = *a;
  *a = *b;
  *b = kept;
}

// The value at `rank` in sorted order; partly sorts: what lies behind `rank` is not smaller.
static int64_t select_rank(int64_t *values, int64_t count, int64_t rank) {
  int64_t low = 0, high = count; // the answer lies in [low, high)
  uint64_t seed = 0x9E3779B97F4A7C15u;
  while (high - low > 1) {
    seed = seed * 6364136223846793005u + 1442695040888963407u; // no input makes every pivot a bad one
    int64_t pivot = values[low + (int64_t)((seed >> 33) % (uint64_t)(high - low))];
    int64_t less = low, i = low, more = high;
    while (i < more) {
      if (values[i] < pivot) {
        swap_values(&values[less++], &values[i++]);
      } else if (values[i] > pivot) {
        swap_values(&values[i], &values[--more]);
      } else {
        i++;
      }
    }
    if (rank < less) {
      high = less;
    } else if (rank >= more) {
      low = more;
    } else {
      return pivot;
    }
  }
  return values[low];
}

// torch.quantile(distances, 0.95) in its own fp32 arithmetic, so that HD95 has MONAI's bits.
static float quantile_95(int64_t *squared, int64_t count) {
  float rank = 0.95f * (float)(count - 1);
  int64_t below = (int64_t)rank;
  if (below > count - 1) below = count - 1; // fp32 counts exactly to 2^24 only
  float weight = rank - (float)below;
  int64_t a = select_rank(squared, count, below), b = a;
  if (weight > 0 && below + 1 < count) {
    b = squared[below + 1];
    for (int64_t i = below + 2; i < count; i++) b = squared[i] < b ? squared[i] : b;
  }
  float start = (float)sqrt((double)a), end = (float)sqrt((double)b);
  return weight < 0.5f ? start + weight * (end - start) : end - (end - start) * (1.0f - weight); // torch's lerp
}

static status_t compare_surfaces(const uint8_t *predicted, const uint8_t *truth, int width, const struct box *box,
                                 double tolerance, struct metrics *out) {
  status_t st = OK;
  struct surfaces s = {.height = box->bottom - box->top, .width = box->right - box->left};
  size_t area = (size_t)s.height * (size_t)s.width, offset = (size_t)box->top * (size_t)width + (size_t)box->left;
  int64_t edges[2], within = 0;
  float hd[2];
  TRY_GOTO(mem_alloc(&s.edge[0], area, 1), done);
  TRY_GOTO(mem_alloc(&s.edge[1], area, 1), done);
  TRY_GOTO(mem_alloc(&s.vertical, area, sizeof *s.vertical), done);
  TRY_GOTO(mem_alloc(&s.start, (size_t)s.width, sizeof *s.start), done);
  TRY_GOTO(mem_alloc(&s.apex, (size_t)s.width, sizeof *s.apex), done);
  edges[0] = find_edges(predicted + offset, (size_t)width, s.height, s.width, s.edge[0]);
  edges[1] = find_edges(truth + offset, (size_t)width, s.height, s.width, s.edge[1]);
  TRY_GOTO(mem_alloc(&s.squared, (size_t)(edges[0] > edges[1] ? edges[0] : edges[1]), sizeof *s.squared), done);
  for (int from = 0; from < 2; from++) {
    measure_distances(&s, from);
    for (int64_t i = 0; i < edges[from]; i++) within += (float)sqrt((double)s.squared[i]) <= (float)tolerance;
    hd[from] = quantile_95(s.squared, edges[from]);
  }
  out->hd95 = hd[0] > hd[1] ? hd[0] : hd[1];
  out->surface_dice = (double)within / (double)(edges[0] + edges[1]);
done:
  mem_free(&s.squared);
  mem_free(&s.apex);
  mem_free(&s.start);
  mem_free(&s.vertical);
  mem_free(&s.edge[1]);
  mem_free(&s.edge[0]);
  return st;
}

double metric_dice(const struct metric_counts *c) {
  int64_t sum = c->predicted + c->truth;
  return sum == 0 ? 1.0 : 2.0 * (double)c->both / (double)sum;
}

double metric_iou(const struct metric_counts *c) {
  int64_t either = c->predicted + c->truth - c->both;
  return either == 0 ? 1.0 : (double)c->both / (double)either;
}

status_t metric_compute(const uint8_t *predicted, const uint8_t *truth, int height, int width, double tolerance,
                        struct metrics *out) {
  status_t st = OK;
  uint8_t *column = NULL;
  struct box box;
  *out = (struct metrics){.hd95 = NAN, .surface_dice = NAN};
  TRY_GOTO(mem_alloc(&column, (size_t)width, 1), done);
  count_pixels(predicted, truth, height, width, column, &out->counts, &box);
  out->dice = metric_dice(&out->counts);
  out->iou = metric_iou(&out->counts);
  if (out->counts.predicted > 0 && out->counts.truth > 0) {
    TRY_GOTO(compare_surfaces(predicted, truth, width, &box, tolerance, out), done);
  }
done:
  mem_free(&column);
  return st;
}
