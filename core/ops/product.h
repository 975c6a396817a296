/* Products of matrices on raw pointers with ctx's threads and scratch: blocked products of pack.h
 * and the library's for what those do not plan. Relies on kernels/pack.h, kernels/blas.h. */
#ifndef PG_OPS_PRODUCT_H
#define PG_OPS_PRODUCT_H

#include "base/ctx.h"
#include "base/par.h"
#include "kernels/blas.h"
#include "kernels/pack.h"

/* PG_PRODUCT(f32, float): pg__run_plan_f32 does a planned product, pg__run_alone_f32 does it on the
 * calling thread in scratch that is there, pg__library_f32 does c = alpha op(a) op(b) + beta c, or
 * + bias. */
#define PG_PRODUCT(S, T)                                                                         \
  static inline void pg__pack_##S(void *arg, int64_t begin, int64_t end) {                       \
    PG_AT(pgk_product_pack_##S)(arg, begin, end);                                                \
  }                                                                                              \
  static inline void pg__run_##S(void *arg, int64_t begin, int64_t end) {                        \
    PG_AT(pgk_product_run_##S)(arg, begin, end);                                                 \
  }                                                                                              \
  static inline pg_status pg__run_plan_##S(pg_ctx *ctx, pgk_product *p) {                        \
    p->scratch = NULL;                                                                           \
    if (p->bytes > 0) PG_TRY(pg_alloc(ctx, p->bytes, &p->scratch));                              \
    for (int64_t first = 0; first < p->n; first += p->round) {                                   \
      PG_AT(pgk_product_round_##S)(p, first);                                                    \
      if (p->packs > 0) pg_par_for(ctx, p->packs, p->items > 1 ? 2 : p->packs, pg__pack_##S, p); \
      pg_par_for(ctx, p->items, 1, pg__run_##S, p);                                              \
    }                                                                                            \
    if (p->bytes > 0) pg_free(ctx, p->scratch, p->bytes);                                        \
    return PG_OK;                                                                                \
  }                                                                                              \
  static inline void pg__run_alone_##S(pgk_product *p) {                                         \
    for (int64_t first = 0; first < p->n; first += p->round) {                                   \
      PG_AT(pgk_product_round_##S)(p, first);                                                    \
      PG_AT(pgk_product_pack_##S)(p, 0, p->packs);                                               \
      PG_AT(pgk_product_run_##S)(p, 0, p->items);                                                \
    }                                                                                            \
  }                                                                                              \
  static inline void pg__library_##S(const pgk_product *p, double alpha, double beta) {          \
    const T *bias = p->bias;                                                                     \
    T *c = p->c;                                                                                 \
    if (bias)                                                                                    \
      for (int64_t i = 0; i < p->m; i++)                                                         \
        for (int64_t j = 0; j < p->n; j++) c[i * p->ldc + j] = bias[j];                          \
    pgk_gemm_##S(p->ta, p->tb, p->m, p->n, p->k, (T)alpha, p->a, p->lda, p->b, p->ldb,           \
                 bias ? 1 : (T)beta, c, p->ldc);                                                 \
  }
PG_PRODUCT(f32, float)
PG_PRODUCT(f64, double)

/* c = op(a) op(b) as the first fields of p say, of dtype PG_F32 or PG_F64; PG_ENOMEM: c is as it
 * was. */
static inline pg_status pg__product(pg_ctx *ctx, pg_dtype dtype, pgk_product *p) {
  if (dtype == PG_F32) {
    if (PG_AT(pgk_product_plan_f32)(p, ctx->threads > 1)) return pg__run_plan_f32(ctx, p);
    pg__library_f32(p, 1, p->add);
  } else {
    if (PG_AT(pgk_product_plan_f64)(p, ctx->threads > 1)) return pg__run_plan_f64(ctx, p);
    pg__library_f64(p, 1, p->add);
  }
  return PG_OK;
}

#endif
