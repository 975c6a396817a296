/* Patches of channels-last images as rows of a matrix, and back: the portable convolution.
 * Relies on level.h, onednn.h for pgk_conv. Spec: spec/kernels/conv_spec.lua. */
#ifndef PG_KERNELS_IM2COL_H
#define PG_KERNELS_IM2COL_H

#include "kernels/level.h"
#include "kernels/onednn.h"

/* Below, t numbers the taps of the kernel: (kz * height + ky) * width + kx, and r the output
 * pixels:
 * ((image * depth + z) * height + y) * width + x. A patch has taps * ic / groups elements. */

/* col[r - begin][t][c]: the patch of output pixel r, for the channels of one group; zeros where it
 * leaves the image. x: channels last. */
void PG_AT(pgk_im2col_f32)(const pgk_conv *s, const float *x, int64_t group, int64_t begin,
                           int64_t end, float *col);
void PG_AT(pgk_im2col_f64)(const pgk_conv *s, const double *x, int64_t group, int64_t begin,
                           int64_t end, double *col);
/* x += the transpose of im2col, for whole images [begin, end); col starts at image begin. */
void PG_AT(pgk_col2im_f32)(const pgk_conv *s, const float *col, int64_t group, int64_t begin,
                           int64_t end, float *x);
void PG_AT(pgk_col2im_f64)(const pgk_conv *s, const double *col, int64_t group, int64_t begin,
                           int64_t end, double *x);
/* to[o][t][i] = from[o][i][t], or back. */
void PG_AT(pgk_weight_in_f32)(const pgk_conv *s, const float *from, float *to);
void PG_AT(pgk_weight_in_f64)(const pgk_conv *s, const double *from, double *to);
void PG_AT(pgk_weight_out_f32)(const pgk_conv *s, const float *from, float *to);
void PG_AT(pgk_weight_out_f64)(const pgk_conv *s, const double *from, double *to);

#endif
