/* Convolutions of channels-last images by Winograd's minimal filtering: a tile of side x side
 * results of a kernel is made of points x points products per pair of channels, points = side +
 * kernel - 1, in place of (side kernel)^2. Tiles of 6 points make 4 x 4 results of a 3 x 3 kernel
 * or 2 x 2 of a 5 x 5 one, tiles of 8 points 6 x 6 or 4 x 4 (Lavin and Gray, Fast Algorithms for
 * Convolutional Neural Networks, 2016). Relies on level.h, onednn.h for pgk_conv. Spec:
 * spec/kernels/winograd_spec.lua.
 *
 * Images and weight are float32 or bfloat16; all between is float32. Errors grow by about one
 * decimal digit over a direct sum: of the largest result, 8e-6 with 64 channels and 2e-5 with 512
 * were the most that was seen, against 2e-6. bfloat16, whose results are rounded to 4e-3 of
 * themselves, may use tiles of up to 12 points: 2.5e-4. An infinity or NaN spoils all results of
 * its tile. */
#ifndef PG_KERNELS_WINOGRAD_H
#define PG_KERNELS_WINOGRAD_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/level.h"
#include "kernels/onednn.h"

/* How to run one convolution; sizes are in floats. */
typedef struct pgk_winograd {
  pgk_conv s;
  int64_t points, side;  /* of a tile, along one dimension */
  int64_t rows, columns; /* tiles of an image */
  int64_t tiles;         /* of all images */
  int64_t block, blocks; /* tiles that are worked on together; blocks in all */
  int64_t depth;       /* tiles that lie side by side in scratch: a block, or of one sum a round */
  int64_t sums;        /* of a weight gradient, each of weight_size and over some blocks */
  int64_t weight_size; /* of transformed weights, 64-byte aligned */
  int64_t zeros;       /* that scratch begins with */
  int64_t lane_size;   /* of scratch for depth tiles, 64-byte aligned */
  bool relu;           /* the caller's wish: forward gives max(y, 0) */
} pgk_winograd;

/* Plans a convolution, or for weight its weight gradient, with stride 1, no dilation, one group and
 * a 3 x 3 or 5 x 5 kernel, channels multiples of 16; false where this is another one, or where a
 * direct one is as fast. */
bool PG_AT(pgk_winograd_plan)(const pgk_conv *s, bool weight, pgk_winograd *p);
/* The convolution whose result is the gradient of the image of s. */
void PG_AT(pgk_winograd_turn)(const pgk_conv *s, pgk_conv *turned);

/* u = the transformed weights of panels [begin, end) of out channels; w: oc x ic x kernel, for
 * turned those of the convolution before it was turned. */
int64_t PG_AT(pgk_winograd_panels)(const pgk_winograd *p);
void PG_AT(pgk_winograd_weight)(const pgk_winograd *p, bool turned, const void *w, int64_t begin,
                                int64_t end, float *u);
/* y = x * w + bias for the tiles of block b, or max(that, 0); bias may be NULL. */
void PG_AT(pgk_winograd_forward)(const pgk_winograd *p, int64_t b, const void *x, const float *u,
                                 const float *bias, void *y, float *lane);
/* The factors of the weight gradient for the tiles of block b, from the image x and the gradient gy
 * of the result, into lane, which begins with zeros; bias (may be NULL) += the gradient of the
 * bias. */
void PG_AT(pgk_winograd_factors)(const pgk_winograd *p, int64_t b, const void *x, const void *gy,
                                 float *bias, float *lane);
/* sum = the transformed weight gradient at points [begin, end) of points x points, from the factors
 * of depth tiles, those from block `first` on; for add sum += it. */
void PG_AT(pgk_winograd_multiply)(const pgk_winograd *p, int64_t first, bool add, int64_t begin,
                                  int64_t end, float *lane, float *sum);
/* gw = the weight gradient for in channels [begin, end) from all sums. */
void PG_AT(pgk_winograd_collect)(const pgk_winograd *p, const float *sums, int64_t begin,
                                 int64_t end, float *gw);

#endif
