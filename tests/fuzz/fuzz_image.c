// fuzz_image.c: any bytes as a picture and as a mask. Seeds: small files of tests/data/golden.
#include "base/log.h"
#include "data/mask.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const int channels[] = {3, 1, 0};
  struct image image = {0}, sized = {0};
  struct mask_note note;
  log_set_level(LOG_QUIET);
  if (image_decode("fuzz", bytes, size, channels[size % 3], (int)(size & 1), &image) == OK) {
    // Use what came out: every pixel is read, so that a sanitizer sees what was not written.
    if (image_resize_bilinear(&image, 17, 13, &sized) == OK) image_free(&sized);
    if (image_resize_nearest(&image, 13, 17, &sized) == OK) image_free(&sized);
    image_free(&image);
  }
  if (mask_decode("fuzz", bytes, size, 0, &image, &note) == OK) image_free(&image);
  return 0;
}
