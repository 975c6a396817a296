/* The kernels of the floors that are compiled once (tensor, autograd, optim): one table per level.
 * Relies on perigee.h. Spec: spec/tensor/copy_spec.lua. */
#ifndef PG_KERNELS_KERN_H
#define PG_KERNELS_KERN_H

#include "perigee.h"

/* An inner loop: p[k] is tensor k's first element of the run, s[k] its step in bytes (0 = the same
 * element again). p[0] is written. */
typedef void (*pg_loop)(int64_t n, char *const *p, const int64_t *s, const void *arg);

typedef struct pg_kern {
  pg_loop cast[PG_NDTYPES][PG_NDTYPES]; /* [to][from]; same dtype copies */
  pg_loop fill[PG_NDTYPES];             /* arg: const double * */
  pg_loop add[PG_NDTYPES];              /* p[0] += p[1]; floats only, else NULL */
  /* Copies bytes past the caches where the processor can: for results that do not fit into them.
   * Another thread may read them after `settle`. */
  void (*stream)(char *restrict to, const char *restrict from, size_t bytes);
  void (*settle)(void);
  /* y[j sy + i] = x[i sx + j], i < n, j < m: 32-bit elements. */
  void (*turn)(int64_t n, int64_t m, const uint32_t *restrict x, int64_t sx, uint32_t *restrict y,
               int64_t sy);
  /* Sum of squares, in float64. */
  double (*squares_f32)(int64_t n, const float *x);
  double (*squares_f64)(int64_t n, const double *x);
  /* Copies count rows of `bytes` each, whose starts lie sy and sx bytes apart. */
  void (*rows)(int64_t count, size_t bytes, char *restrict to, int64_t sy,
               const char *restrict from, int64_t sx);
  /* Lays rows of n elements of `size` bytes one after another at `to`: they lie at `from`, `row`
   * bytes apart, their elements `step` bytes (0: one element for all). Up to PG_LAY_PAST bytes
   * behind the last are written too. */
  void (*lay)(size_t size, int64_t rows, int64_t n, char *restrict to, const char *restrict from,
              int64_t row, int64_t step);
} pg_kern;

enum { PG_LAY_PAST = 64 };

extern const pg_kern pg_kern_base, pg_kern_v3, pg_kern_v4;

#endif
