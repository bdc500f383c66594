// source.h: what a dataset on disk offers, whatever its layout: a list of samples (image, mask, names, prompts).
// Readers fill it, pack.c makes a pool of it. Paths in files that others wrote are kept inside the dataset's folder.
#ifndef GRIDSEG_DATA_PREP_SOURCE_H
#define GRIDSEG_DATA_PREP_SOURCE_H

#include "data/pool.h"

#include <stddef.h>
#include <stdint.h>

struct source_wordings {
  char **text;
  int count;
};

struct source_sample {
  char *image, *mask;               // paths
  char *image_name, *name;          // names inside the images' and the masks' folder
  char *class_name, *group;         // never NULL once the reader is done
  struct source_wordings *wordings; // [kinds of the source at the time it was added, see source_wordings_of]
  int kinds;
};

struct source {
  struct source_sample *sample;
  size_t samples, capacity;
  char **kind;                  // prompt kinds, ascending
  prompt_source_t *kind_source; // where each kind's words come from
  size_t kinds, kind_capacity, source_capacity;
};

void source_free(struct source *s);
void source_sample_free(struct source_sample *sample); // what it points to

// The study's layout: DIR/images, DIR/masks, DIR/anns/SPLIT.json, a list of objects with img_name, mask_name and
// prompts (p0..p9, each a text or a list of texts). A pair listed twice is kept once and reported. Where the words of a
// kind come from is the table of source_study.c, or DIR/prompt_source.json ({"p2": "metadata", ...}) where that is
// there. The classes of the study's own data sets (polyp, foot_ulcer, ...) are known there by the folder's name.
status_t source_read_study(const char *folder, const char *split, struct source *out);
// DIR/images and DIR/masks matched by stem; a picture without a partner is refused by name. `prompt` (may be NULL)
// becomes p1 of all samples.
status_t source_read_folder(const char *folder, const char *prompt, struct source *out);
// DIR/SPLIT.csv (or DIR itself where it is a file): a header naming the columns image, mask and, if wanted, prompt,
// class, group, in any order; RFC 4180 quotes. Paths stand relative to the file. `prompt` fills empty prompts.
status_t source_read_csv(const char *path, const char *split, const char *prompt, struct source *out);

// For the readers.
// A fresh sample at the end, with copies of the names; image and mask become IMAGES/image_name and MASKS/name.
status_t source_add(struct source *s, const char *images, const char *image_name, const char *masks, const char *name);
// Add a wording to the last sample. An empty wording counts only for p0, the empty prompt.
status_t source_add_prompt(struct source *s, const char *kind, prompt_source_t source, const char *text);
// Refuse absolute names and those with "..": `where` names the file that holds the name.
status_t source_check_name(const char *where, const char *name);
// Drop pairs of image and mask that are listed twice (named in a warning; `where` is the list), then fill in what the
// layout did not say. Group: the patient where the image's name begins with "patient" and digits
// (CAMUS, CheXpert), else the image. Class: the mask's sub-folder; else what follows the image's stem in the mask's
// name where an image has several masks; else `name` of the dataset.
status_t source_complete(struct source *s, const char *where, const char *name);
// One class for all samples, whatever the layout said.
status_t source_set_class(struct source *s, const char *class_name);
const struct source_wordings *source_wordings_of(const struct source_sample *sample, size_t kind);

#endif
