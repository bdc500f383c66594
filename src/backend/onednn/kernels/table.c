// table.c: the table of one instruction set.
#include "backend/onednn/kernels/kernels.h"
#include "backend/onednn/kernels/vector.h"

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

extern const struct pointwise_kernels K(pointwise_kernels);
extern const struct norm_kernels K(norm_kernels);
extern const struct batchnorm_kernels K(batchnorm_kernels);
extern const struct dropout_kernels K(dropout_kernels);
extern const struct reduce_kernels K(reduce_kernels);
extern const struct product_kernels K(product_kernels);
extern const struct attention_kernels K(attention_kernels);
extern const struct picture_kernels K(picture_kernels);
extern const struct pool_kernels K(pool_kernels);
extern const struct depthwise_kernels K(depthwise_kernels);
extern const struct each_kernels K(each_kernels);
extern const struct loss_kernels K(loss_kernels);

const struct kernels K(kernels) = {
    .isa = TEXT(KERNEL_ISA),
    .pointwise = &K(pointwise_kernels),
    .norm = &K(norm_kernels),
    .batchnorm = &K(batchnorm_kernels),
    .dropout = &K(dropout_kernels),
    .reduce = &K(reduce_kernels),
    .product = &K(product_kernels),
    .attention = &K(attention_kernels),
    .picture = &K(picture_kernels),
    .pool = &K(pool_kernels),
    .depthwise = &K(depthwise_kernels),
    .each = &K(each_kernels),
    .loss = &K(loss_kernels),
};
