// image_libraries.c: which codecs are linked in.
#include "data/image.h"

#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>
#include <tiffio.h>

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)

const char *image_libraries(void) {
  static char text[256];
  char tiff[64];
  // "LIBTIFF, Version 4.5.0\nCopyright ..."
  const char *version = strstr(TIFFGetVersion(), "ersion ");
  (void)snprintf(tiff, sizeof tiff, "%s", version ? version + 7 : "?");
  tiff[strcspn(tiff, "\n")] = '\0';
  (void)snprintf(text, sizeof text, "libjpeg-turbo %s, libpng %s, libtiff %s", TEXT(LIBJPEG_TURBO_VERSION),
                 png_get_libpng_ver(NULL), tiff);
  return text;
}
