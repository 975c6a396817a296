/* Batches of matrices for LAPACK: copies that lie by columns, one call after another or on threads,
 * what went wrong with which matrix. Relies on op.h, chain.h, base/par.
 * Spec: spec/ops/linalg_spec.lua, spec/ops/spectral_spec.lua. */
#ifndef PG_OPS_MATRICES_H
#define PG_OPS_MATRICES_H

#include <math.h>
#include <string.h>

#include "base/par.h"
#include "kernels/blas.h"
#include "ops/chain.h"

/* PG_ESHAPE unless in[i] is a matrix or a batch of them, whose sizes LAPACK can count. */
static inline pg_status matrices_want(pg_call *c, int i) {
  const pg_tensor *x = c->in[i];
  PG_TRY(pg_want(c, i, PG_M_REAL));
  if (x->nd < 2)
    return pg_fail(c->ctx, PG_ESHAPE,
                   "argument '%s': expected a matrix or a batch of matrices, got %s",
                   pg_in_name(c, i), pg_shape_str(x).s);
  for (int d = x->nd - 2; d < x->nd; d++)
    if (x->shape[d] > 1 << 24)
      return pg_bad_in(c, PG_ESHAPE, i, "sizes up to %d, as LAPACK takes", 1 << 24);
  return PG_OK;
}
static inline pg_status matrices_want_square(pg_call *c, int i) {
  const pg_tensor *x = c->in[i];
  PG_TRY(matrices_want(c, i));
  if (x->shape[x->nd - 1] != x->shape[x->nd - 2])
    return pg_fail(c->ctx, PG_ESHAPE, "argument '%s': expected square matrices, got %s",
                   pg_in_name(c, i), pg_shape_str(x).s);
  return PG_OK;
}

/* Output j: in[0]'s batch dims, then rows x cols, each matrix by columns (flip: by rows). */
static inline pg_status matrices_out(pg_call *c, int j, int nd, const int64_t *batch, int64_t rows,
                                     int64_t cols, bool flip) {
  int64_t shape[PG_MAX_DIMS + 2];
  if (nd + 2 > PG_MAX_DIMS)
    return pg_fail(c->ctx, PG_ESHAPE, "the result: expected at most %d dims, got %d", PG_MAX_DIMS,
                   nd + 2);
  memcpy(shape, batch, sizeof *shape * (size_t)nd);
  shape[nd] = rows;
  shape[nd + 1] = cols;
  PG_TRY(pg_out_shape(c, j, (pg_dtype)c->in[0]->dtype, nd + 2, shape));
  pg_out *o = &c->os[j];
  o->strided = !flip;
  pg_contiguous_strides(nd + 2, shape, o->stride);
  o->stride[nd] = 1;
  o->stride[nd + 1] = pg_max64(rows, 1);
  return PG_OK;
}

/* *out = a copy of t, its batch dims broadcast to batch[nd], each matrix by columns (flip: by
 * rows). Owned; no graph. */
static inline pg_status matrices_copy(pg_ctx *ctx, const pg_tensor *t, int nd, const int64_t *batch,
                                      bool flip, pg_tensor **out) {
  int64_t shape[PG_MAX_DIMS + 2], stride[PG_MAX_DIMS + 2];
  memcpy(shape, batch, sizeof *shape * (size_t)nd);
  int64_t rows = shape[nd] = t->shape[t->nd - 2];
  shape[nd + 1] = t->shape[t->nd - 1];
  pg_contiguous_strides(nd + 2, shape, stride);
  if (!flip) {
    stride[nd] = 1;
    stride[nd + 1] = pg_max64(rows, 1);
  }
  PG_TRY(pg_tensor_new_strided(ctx, (pg_dtype)t->dtype, nd + 2, shape, stride, PG_HOST, out));
  pg_status s = pg_tensor_copy(*out, t);
  if (s == PG_OK) return PG_OK;
  pg_tensor_unref(*out);
  *out = NULL;
  return s;
}

/* A batch of count equal pieces of work. run does number i with work memory of its own and returns
 * LAPACK's info. */
typedef struct matrices {
  int64_t count;
  double cost;     /* rough number of operations for one */
  size_t bytes;    /* of work memory */
  bool wide;       /* float64 */
  int64_t m, n, k; /* sizes, as run wants them */
  int64_t nwork, niwork;
  int flags;
  void *p[4];      /* first matrices */
  int64_t step[4]; /* bytes from one to the next */
  int (*run)(const struct matrices *b, int64_t i, void *work);
  int64_t grain;
  char *work;
  int *info;
} matrices;

/* Memory of matrix i of operand k. */
static inline void *matrices_at(const matrices *b, int k, int64_t i) {
  return (char *)b->p[k] + i * b->step[k];
}

/* Operand k is t, whose last nd dims are one piece of work. */
static inline void matrices_set(matrices *b, int k, const pg_tensor *t, int nd) {
  b->p[k] = pg_data(t);
  b->step[k] = (int64_t)pg_dtype_size((pg_dtype)t->dtype) * pg_numel_of(nd, t->shape + t->nd - nd);
}

static inline void matrices_chunk(void *arg, int64_t begin, int64_t end) {
  const matrices *b = arg;
  for (int64_t i = begin; i < end; i++)
    b->info[i] = b->run(b, i, b->work + begin / b->grain * (int64_t)b->bytes);
}

/* Runs all of it: small pieces on threads, large ones one by one, since the library splits them.
 * *failed: number (from 1) of the first matrix whose info is not 0, else 0; *info: that. */
static inline pg_status matrices_run(pg_ctx *ctx, matrices *b, int64_t *failed, int *info) {
  *failed = 0;
  *info = 0;
  if (b->count == 0) return PG_OK;
  b->bytes = (b->bytes + 63) / 64 * 64;
  b->grain = b->cost < 1e6 ? (int64_t)(1e5 / (b->cost + 1)) + 1 : b->count;
  int64_t chunks = (b->count + b->grain - 1) / b->grain;
  size_t work = (size_t)chunks * b->bytes, infos = (size_t)b->count * sizeof *b->info;
  PG_TRY(pg_alloc(ctx, work, (void **)&b->work));
  pg_status s = pg_alloc(ctx, infos, (void **)&b->info);
  if (s == PG_OK) {
    pg_par_for(ctx, b->count, b->grain, matrices_chunk, b);
    for (int64_t i = b->count - 1; i >= 0; i--) {
      if (b->info[i] == 0) continue;
      *failed = i + 1;
      *info = b->info[i];
    }
    pg_free(ctx, b->info, infos);
  }
  pg_free(ctx, b->work, work);
  return s;
}

/* "the matrix is ..", "the matrix 2 of the batch is .." for an operand with nd dims. */
static inline pg_status matrices_fail(pg_ctx *ctx, int nd, int64_t which, const char *what) {
  if (nd <= 2) return pg_fail(ctx, PG_EVALUE, "the matrix %s", what);
  return pg_fail(ctx, PG_EVALUE, "the matrix %lld of the batch %s", (long long)which, what);
}

/* PG_EVALUE unless every element of t is finite: what LAPACK does otherwise is not defined. */
static inline pg_status matrices_want_finite(pg_ctx *ctx, const pg_tensor *t, const char *name) {
  pg_tensor *x;
  PG_TRY(pg__contiguous(ctx, (pg_tensor *)t, &x));
  int64_t n = pg_numel(x);
  double sum = 0; /* stays 0 unless an element is not finite */
  if (x->dtype == PG_F32)
    for (int64_t i = 0; i < n; i++) sum += (double)((const float *)pg_data(x))[i] * 0;
  else
    for (int64_t i = 0; i < n; i++) sum += ((const double *)pg_data(x))[i] * 0;
  pg_tensor_unref(x);
  if (sum == 0) return PG_OK;
  return pg_fail(ctx, PG_EVALUE, "argument '%s': expected finite elements, got NaN or infinity",
                 name);
}

/* Steps of a chain: t with its last two dims swapped; a b. */
static inline pg_tensor *matrices_turn(pg_chain *k, pg_tensor *t) {
  return PG_STEP(k, "transpose", "tii", t, (int64_t)-2, (int64_t)-1);
}
static inline pg_tensor *matrices_mul(pg_chain *k, pg_tensor *a, pg_tensor *b) {
  return PG_STEP(k, "matmul", "tt", a, b);
}
/* Step: t with a dim of size 1 put in at dim. */
static inline pg_tensor *matrices_wide(pg_chain *k, pg_tensor *t, int64_t dim) {
  return PG_STEP(k, "unsqueeze", "ti", t, dim);
}
/* Step: t seen as the sum that a broadcast operand with this meta gets. */
static inline pg_tensor *matrices_sum_to(pg_chain *k, pg_tensor *t, const pg_meta *m) {
  return k->status == PG_OK ? pg_chain_push(k, pg_sum_to(k->ctx, t, m, &k->made)) : NULL;
}

#endif
