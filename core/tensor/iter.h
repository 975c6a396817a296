/* The iterator: walks up to 6 broadcast tensors as flat runs, dims sorted by stride and merged,
 * split over threads. A dense layout of any order becomes one run. Relies on tensor.h, base/par.
 * Spec: spec/tensor/iter_spec.lua. */
#ifndef PG_TENSOR_ITER_H
#define PG_TENSOR_ITER_H

#include "kernels/kern.h"
#include "tensor/tensor.h"

#define PG_ITER_MAX 6

typedef struct pg_iter {
  int count, nd; /* tensors, dims after merging; dim 0 is the innermost */
  int64_t numel;
  int64_t shape[PG_MAX_DIMS];
  int64_t stride[PG_MAX_DIMS][PG_ITER_MAX]; /* bytes */
  char *data[PG_ITER_MAX];
  const pg_kern *kern;        /* of the context's level */
  size_t size;                /* of an element of t[0] */
  uint8_t width[PG_ITER_MAX]; /* bytes of an element of each */
  bool narrow; /* t[0]'s runs are short and follow one another: loop gets blocks of them, and
                  copies of operands that lie otherwise */
  bool stream; /* t[0] goes past the caches: what is walked does not fit into them */
} pg_iter;

const pg_kern *pg__kern(const pg_ctx *ctx);

/* t[0] is the output by custom and rules the order of the walk; every t broadcasts to `shape`. A
 * loop that reads p[0] where t[0] is not among the other tensors must clear `stream`. */
void pg_iter_init(pg_iter *it, int nd, const int64_t *shape, int count, pg_tensor *const *t);
/* The dims and strides alone, as pg_iter_init finds them. */
void pg__iter_plan(pg_iter *it, int nd, const int64_t *shape, int count, pg_tensor *const *t);
/* Runs loop over everything; cost = rough work per element (1: an add) for splitting over threads.
 */
void pg_iter_run(pg_ctx *ctx, const pg_iter *it, int cost, pg_loop loop, const void *arg);
/* Both, with t[0]'s shape. */
void pg_iter_over(pg_ctx *ctx, int count, pg_tensor *const *t, int cost, pg_loop loop,
                  const void *arg);
/* transpose.c: copies t[1] to t[0] of an iterator over two tensors of one dtype (size bytes an
 * element) where tiles are the better way; false: not so, nothing was done. */
bool pg__copy_turned(pg_ctx *ctx, const pg_iter *it, size_t size);

#endif
