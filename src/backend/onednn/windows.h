// windows.h: CONV and CONV_TRANSPOSE whose windows tile the picture (kernel = stride, no padding): a product between the
// small picture and a matrix with one window a row. ViT's patch embedding and CLIPSeg's upsampling are of this kind.
#ifndef GRIDSEG_BACKEND_ONEDNN_WINDOWS_H
#define GRIDSEG_BACKEND_ONEDNN_WINDOWS_H

#include "backend/onednn/inside.h"

bool windows_apply(const struct op *op);
status_t windows_create(struct plan *p);

#endif
