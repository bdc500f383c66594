// phantom_prompt.c: the study's prompt schemes, filled with measured words.
#include "data_prep/phantom_prompt.h"

#include "base/mem.h"

#include <stdarg.h>
#include <string.h>

static status_t put_text(json_t *prompts, const char *kind, const char *text) {
  return json_put(prompts, kind, json_string(text));
}

static status_t put_format(json_t *prompts, const char *kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static status_t put_format(json_t *prompts, const char *kind, const char *format, ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (n < 0 || (size_t)n >= sizeof text) return FAIL(ERR_FORMAT, "prompt %s is too long", kind);
  return put_text(prompts, kind, text);
}

// "top left, center": one place for each object, largest first.
static void list_places(const struct description *d, char *text, size_t size) {
  text[0] = '\0';
  for (int k = 0; k < d->count && k < DESCRIBE_PARTS; k++) {
    size_t used = strlen(text);
    (void)snprintf(text + used, size - used, "%s%s", k ? ", " : "", describe_place(d->part[k].x, d->part[k].y));
  }
}

// Each kind adds one attribute: class, shape, colour, size, number, place.
status_t prompt_polyp_scheme(const struct description *d, const char *class_name, json_t *prompts) {
  char places[256];
  const char *shape = describe_shape(d->part[0].ratio), *colour = describe_colour(d->colour);
  const char *size = describe_size(d->part[0].fraction), *number = describe_number(d->count);
  list_places(d, places, sizeof places);
  TRY(put_text(prompts, "p0", ""));
  TRY(put_text(prompts, "p1", class_name));
  TRY(put_format(prompts, "p2", "%s %s", shape, class_name));
  TRY(put_format(prompts, "p3", "%s %s %s", colour, shape, class_name));
  TRY(put_format(prompts, "p4", "%s %s %s %s", size, colour, shape, class_name));
  TRY(put_format(prompts, "p5", "%s %s %s %s %s", number, size, colour, shape, class_name));
  return put_format(prompts, "p6", "%s %s %s %s %s, located in %s of the image", number, size, colour, shape,
                    class_name, places);
}

// Two wordings of one kind, as the study has them: by nature and by border.
static status_t put_two(json_t *prompts, const char *kind, const char *front, const char *nature, const char *border,
                        const char *rest) {
  char first[512], second[512];
  (void)snprintf(first, sizeof first, "%s%s%s", front, nature, rest);
  (void)snprintf(second, sizeof second, "%s%s%s", front, border, rest);
  if (!*front) {
    first[0] = (char)(first[0] - 'a' + 'A');
    second[0] = (char)(second[0] - 'a' + 'A');
  }
  json_t *list = json_array();
  if (!list || json_array_append_new(list, json_string(first)) != 0 ||
      json_array_append_new(list, json_string(second)) != 0) {
    json_decref(list);
    return FAIL(ERR_NOMEM, "no memory for prompt %s", kind);
  }
  return json_put(prompts, kind, list);
}

// Class, nature of the border, number, size, place, shape.
status_t prompt_ultrasound_scheme(const struct description *d, bool irregular, json_t *prompts) {
  static const char tail[] = " in the breast ultrasound image.";
  const char *nature = irregular ? "malignant" : "benign", *border = irregular ? "irregular-shaped" : "regular-shaped";
  const char *plain = irregular ? "irregular" : "regular", *s = d->count > 1 ? "s" : "";
  const char *shape = irregular ? "star" : strcmp(describe_shape(d->part[0].ratio), "round") == 0 ? "circle" : "oval";
  char places[256], rest[320], front[64], number[16];
  list_places(d, places, sizeof places);
  (void)snprintf(number, sizeof number, "%s", describe_number(d->count));
  number[0] = (char)(number[0] - 'a' + 'A');
  TRY(put_text(prompts, "p0", ""));
  TRY(put_text(prompts, "p1", "Tumor in the breast ultrasound image."));
  (void)snprintf(rest, sizeof rest, " tumor%s", tail);
  TRY(put_two(prompts, "p2", "", nature, border, rest));
  (void)snprintf(rest, sizeof rest, " tumor%s%s", s, tail);
  (void)snprintf(front, sizeof front, "%s ", number);
  TRY(put_two(prompts, "p3", front, nature, border, rest));
  (void)snprintf(front, sizeof front, "%s %s ", number, describe_size(d->part[0].fraction));
  TRY(put_two(prompts, "p4", front, nature, border, rest));
  (void)snprintf(rest, sizeof rest, " tumor%s at the %s%s", s, places, tail);
  TRY(put_two(prompts, "p5", front, nature, border, rest));
  (void)snprintf(front, sizeof front, "%s %s %s-shaped ", number, describe_size(d->part[0].fraction), shape);
  return put_two(prompts, "p6", front, nature, plain, rest);
}
