// pixels_tool.c: pixels as we read them, raw on standard output, for tests/peer/pixels.py.
//   pixels_tool FILE CHANNELS HEIGHT WIDTH     bilinear for 3 channels, nearest for 1; 0 0: the size of the file
// Written: height and width as text lines, then the bytes.
#include "data/image.h"

#include <stdio.h>
#include <stdlib.h>

static status_t show(const char *path, int channels, int height, int width) {
  struct image image = {0}, sized = {0};
  TRY(image_read(path, channels, 0, &image));
  if (height > 0) {
    TRY(channels == 3 ? image_resize_bilinear(&image, height, width, &sized)
                      : image_resize_nearest(&image, height, width, &sized));
    image_free(&image);
    image = sized;
  }
  size_t size = (size_t)image.height * (size_t)image.width * (size_t)image.channels;
  (void)printf("%d\n%d\n", image.height, image.width);
  size_t written = fwrite(image.pixels, 1, size, stdout);
  image_free(&image);
  return written == size ? OK : FAIL(ERR_IO, "standard output");
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  status_t st = show(argv[1], atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
  if (st != OK) (void)fprintf(stderr, "%s\n", status_message());
  return status_exit_code(st);
}
