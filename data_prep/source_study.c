// source_study.c: the study's layout (MedVLSM, arXiv 2308.07706: data/<set>/anns/<split>.json).
#include "data_prep/source.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#include <stdbool.h>
#include <string.h>

// Where the words of p0..p9 come from, by data set, read from the study's annotation files. What describes the lesion
// in this very picture (shape, colour, size, number, place) was computed from its mask: 'ground_truth'.
//                        p0 p1 p2 p3 p4 p5 p6 p7 p8 p9      c class, m metadata, g ground truth
//   polyps, isic, dfu    c  c  g  g  g  g  g  c  g  g       p7: the class in general words; p8 = p5+p7, p9 = p6+p7
//   busi                 c  c  m  g  g  g  g                p2: benign or malignant
//   camus                c  c  m  m  m  m  m  g             view, cycle, sex, age, image quality; p7: shape
//   chexlocalize         c  c  m  g  g  g  m                p2: view; p3 shape, p4 place; p6: other findings
static const struct {
  const char *prefix, *letters;
} scheme[] = {{"busi", "ccmggggggg"}, {"camus", "ccmmmmmggg"}, {"chexlocalize", "ccmgggmggg"}, {"", "ccgggggcgg"}};

static prompt_source_t table_source(const char *dataset, const char *kind) {
  size_t i = 0;
  while (strncmp(dataset, scheme[i].prefix, strlen(scheme[i].prefix)) != 0) i++; // the last matches all
  if (kind[0] != 'p' || kind[1] < '0' || kind[1] > '9' || kind[2]) return PROMPT_PERSON;
  char letter = scheme[i].letters[kind[1] - '0'];
  return letter == 'c' ? PROMPT_CLASS : letter == 'm' ? PROMPT_METADATA : PROMPT_GROUND_TRUTH;
}

// What a data set's masks are about, as the study names its classes (src/utils/configs.py): the planes of its pooled CNNs.
// Where a data set is about several, the mask's folder or the end of its stem tells.
static const struct {
  const char *dataset, *mask, *class_name; // `dataset`: the end of its name; `mask`: "" for all, "FOLDER/", or the end
} study_class[] = {{"_polyp", "", "polyp"},
                   {"dfu", "", "foot_ulcer"},
                   {"isic", "", "skin_cancer"},
                   {"camus", "mask_1/", "ventricle"},
                   {"camus", "mask_2/", "myocardium"},
                   {"camus", "mask_3/", "atrium"},
                   {"busi", "", "tumor"},
                   {"chexlocalize", "_airspace_opacity", "airspace_opacity"},
                   {"chexlocalize", "_atelectasis", "atelectasis"},
                   {"chexlocalize", "_cardiomegaly", "cardiomegaly"},
                   {"chexlocalize", "_consolidation", "consolidation"},
                   {"chexlocalize", "_edema", "edema"},
                   {"chexlocalize", "_enlarged_cardiomediastinum", "enlarged_cardiomediastinum"},
                   {"chexlocalize", "_lung_lesion", "lung_lesion"},
                   {"chexlocalize", "_pleural_effusion", "pleural_effusion"},
                   {"chexlocalize", "_pneumothorax", "pneumothorax"},
                   {"chexlocalize", "_support_devices", "support_devices"}};

static bool ends_with(const char *text, size_t length, const char *end) {
  size_t n = strlen(end);
  return length >= n && strncmp(text + length - n, end, n) == 0;
}

// NULL: none of the study's.
static const char *class_of(const char *dataset, const char *mask) {
  const char *dot = strrchr(mask, '.');
  size_t stem = dot ? (size_t)(dot - mask) : strlen(mask);
  for (size_t i = 0; i < sizeof study_class / sizeof *study_class; i++) {
    const char *part = study_class[i].mask;
    size_t n = strlen(part);
    if (!ends_with(dataset, strlen(dataset), study_class[i].dataset)) continue;
    if (n && part[n - 1] == '/' ? strncmp(mask, part, n) == 0 : ends_with(mask, stem, part))
      return study_class[i].class_name;
  }
  return NULL;
}

struct study {
  const char *file;    // the annotation file, for messages
  const char *dataset; // folder name
  json_t *given;       // prompt_source.json, or NULL
  char *images, *masks;
};

static status_t find_source(const struct study *st, const char *kind, prompt_source_t *out) {
  const char *text = NULL;
  *out = table_source(st->dataset, kind);
  if (!st->given) return OK;
  TRY(json_get_text_or(st->given, "prompt_source.json", kind, NULL, &text));
  if (!text) return OK;
  for (int i = PROMPT_CLASS; i <= PROMPT_PERSON; i++) {
    *out = (prompt_source_t)i;
    if (strcmp(text, prompt_source_name(*out)) == 0) return OK;
  }
  return FAIL(ERR_FORMAT, "prompt_source.json: key '%s' is '%s'; wanted class, metadata, ground_truth or person", kind,
              text);
}

static status_t add_prompt(const struct study *st, struct source *s, size_t entry, const char *kind,
                           const json_t *value) {
  prompt_source_t source;
  TRY(find_source(st, kind, &source));
  if (json_is_string(value)) return source_add_prompt(s, kind, source, json_string_value(value));
  if (!json_is_array(value))
    return FAIL(ERR_FORMAT, "%s: entry %zu: prompt '%s' is neither a text nor a list of texts", st->file, entry, kind);
  for (size_t i = 0; i < json_array_size(value); i++) {
    const json_t *one = json_array_get(value, i);
    if (!json_is_string(one))
      return FAIL(ERR_FORMAT, "%s: entry %zu: prompt '%s' holds something that is no text", st->file, entry, kind);
    TRY(source_add_prompt(s, kind, source, json_string_value(one)));
  }
  return OK;
}

static status_t add_entry(const struct study *st, struct source *s, size_t entry, json_t *object) {
  const char *image, *mask, *kind;
  json_t *prompts, *value;
  if (!json_is_object(object)) return FAIL(ERR_FORMAT, "%s: entry %zu is not an object", st->file, entry);
  TRY(json_get_text(object, st->file, "img_name", &image));
  TRY(json_get_text(object, st->file, "mask_name", &mask));
  TRY(source_check_name(st->file, image));
  TRY(source_check_name(st->file, mask));
  TRY(source_add(s, st->images, image, st->masks, mask));
  const char *class_name = class_of(st->dataset, mask);
  if (class_name) TRY(mem_copy_text(&s->sample[s->samples - 1].class_name, class_name));
  TRY(json_get(object, st->file, "prompts", JSON_OBJECT, &prompts));
  json_object_foreach(prompts, kind, value) TRY(add_prompt(st, s, entry, kind, value));
  return OK;
}

static status_t read_list(const struct study *st, const json_t *list, struct source *out) {
  if (!json_is_array(list)) return FAIL(ERR_FORMAT, "%s: wanted a list of samples", st->file);
  size_t n = json_array_size(list);
  if (n == 0) return FAIL(ERR_ARG, "%s holds an empty list: this split has no samples to pack", st->file);
  for (size_t i = 0; i < n; i++) TRY(add_entry(st, out, i, json_array_get(list, i)));
  return source_complete(out, st->file, st->dataset);
}

status_t source_read_study(const char *folder, const char *split, struct source *out) {
  struct study study = {.dataset = file_base_name(folder)};
  char *file = NULL, *given = NULL;
  json_t *list = NULL;
  status_t st = OK;
  *out = (struct source){0};
  TRY_GOTO(mem_format(&file, "%s/anns/%s.json", folder, split), done);
  study.file = file;
  TRY_GOTO(file_join(&study.images, folder, "images"), done);
  TRY_GOTO(file_join(&study.masks, folder, "masks"), done);
  TRY_GOTO(file_join(&given, folder, "prompt_source.json"), done);
  if (file_exists(given)) TRY_GOTO(json_read(given, &study.given), done);
  TRY_GOTO(json_read(file, &list), done);
  TRY_GOTO(read_list(&study, list, out), done);
done:
  if (st != OK) source_free(out);
  json_decref(list);
  json_decref(study.given);
  mem_free(&given);
  mem_free(&study.images);
  mem_free(&study.masks);
  mem_free(&file);
  return st;
}
