// nearest.h: how far two names are apart, to say which one was probably meant.
#ifndef GRIDSEG_BASE_NEAREST_H
#define GRIDSEG_BASE_NEAREST_H

// Edit distance with insertion, deletion, substitution and swap of neighbours (optimal string alignment) of the first
// NEAREST_ROOM characters.
enum { NEAREST_ROOM = 160 };
int nearest_distance(const char *a, const char *b);

#endif
