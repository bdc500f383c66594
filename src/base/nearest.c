// nearest.c: see nearest.h.
#include "base/nearest.h"

#include <string.h>

int nearest_distance(const char *a, const char *b) {
  int d[3][NEAREST_ROOM + 1];
  int n = (int)strnlen(a, NEAREST_ROOM), m = (int)strnlen(b, NEAREST_ROOM);
  for (int j = 0; j <= m; j++) d[0][j] = j;
  for (int i = 1; i <= n; i++) {
    int *row = d[i % 3], *up = d[(i + 2) % 3], *up2 = d[(i + 1) % 3];
    row[0] = i;
    for (int j = 1; j <= m; j++) {
      int best = up[j - 1] + (a[i - 1] != b[j - 1]);
      if (up[j] + 1 < best) best = up[j] + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && up2[j - 2] + 1 < best) {
        best = up2[j - 2] + 1;
      }
      row[j] = best;
    }
  }
  return d[n % 3][m];
}
