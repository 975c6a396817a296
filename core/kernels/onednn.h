/* Convolutions on raw channels-last pointers and products of bfloat16 matrices through oneDNN;
 * onednn.c alone includes dnnl.h and loads the library at first use. Spec:
 * spec/kernels/onednn_spec.lua. */
#ifndef PG_KERNELS_ONEDNN_H
#define PG_KERNELS_ONEDNN_H

#include <stdbool.h>
#include <stdint.h>

/* One convolution. Images are n x channels x depth x height x width, channels fastest in memory;
 * the weight is oc x ic/groups x kernel, contiguous. Triples are depth, height, width; what has no
 * depth is 1 deep. dilation 1 = none. */
typedef struct pgk_conv {
  int64_t n, ic, oc, groups;
  int64_t in[3], out[3], kernel[3], stride[3], dilation[3];
  int64_t before[3], after[3]; /* padding */
  int threads;                 /* that will run it */
  bool bf16; /* images and weight are bfloat16, sums float32; bias and weight gradients float32 */
} pgk_conv;

typedef struct pgk_dnn pgk_dnn; /* engine, stream, primitives by shape, scratch memory */

/* NULL where the build or the machine has no oneDNN. */
pgk_dnn *pgk_dnn_new(void);
void pgk_dnn_free(pgk_dnn *d);
const char *pgk_dnn_version(const pgk_dnn *d);
/* Each returns 0, or a oneDNN status that the caller answers by taking the portable path. bias may
 * be NULL. */
int pgk_dnn_conv_forward(pgk_dnn *d, const pgk_conv *s, const void *x, const void *weight,
                         const float *bias, void *y);
int pgk_dnn_conv_backward_data(pgk_dnn *d, const pgk_conv *s, const void *gy, const void *weight,
                               void *gx);
/* gbias may be NULL. */
int pgk_dnn_conv_backward_weight(pgk_dnn *d, const pgk_conv *s, const void *x, const void *gy,
                                 void *gweight, float *gbias);

enum { PGK_HALF_DIMS = 6 };

/* c = a b + bias over batch dims: the last two of nd dims are m x k, k x n and m x n. Sizes and
 * strides in elements of any order; a batch dim of size 1 in a or b broadcasts. */
typedef struct pgk_half_product {
  int64_t nd;
  int64_t a[PGK_HALF_DIMS], b[PGK_HALF_DIMS], c[PGK_HALF_DIMS];
  int64_t a_stride[PGK_HALF_DIMS], b_stride[PGK_HALF_DIMS], c_stride[PGK_HALF_DIMS];
  int64_t threads; /* that will run it */
  int64_t wide;    /* c is float32, else bfloat16 like a and b; sums are float32 anyway */
} pgk_half_product;

/* bias: n float32, may be NULL. Unused places of p are 0. */
int pgk_dnn_product(pgk_dnn *d, const pgk_half_product *p, const void *a, const void *b,
                    const float *bias, void *c);

#endif
