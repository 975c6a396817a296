/* Products of bfloat16 matrices on raw pointers with ctx's threads and scratch. Relies on
 * kernels/half.h. Spec: spec/kernels/half_spec.lua. */
#ifndef PG_OPS_HALF_H
#define PG_OPS_HALF_H

#include "autograd/op.h"
#include "base/isa.h"
#include "base/par.h"
#include "kernels/half.h"

/* The dtypes that an op takes t in, which does bfloat16 itself where our kernels are. */
static inline unsigned pg__half_dtypes(const pg_tensor *t) {
  const bool half = t->dtype == PG_BF16 && PG_AT(pgk_half_kern_of)() && pg_isa_has_bf16();
  return half ? PG_M_FLOAT : PG_M_REAL;
}

typedef struct pg__half_job {
  const pgk_half_kern *kern;
  const pgk_half *p;
} pg__half_job;

static inline void pg__half_packs(void *arg, int64_t begin, int64_t end) {
  const pg__half_job *j = arg;
  j->kern->packs(j->p, begin, end);
}
static inline void pg__half_items(void *arg, int64_t begin, int64_t end) {
  const pg__half_job *j = arg;
  j->kern->run(j->p, begin, end);
}

/* Does a product that threads share. PG_ENOMEM: c is as it was. Nothing where c or k is empty. */
static inline pg_status pg__half_shared(pg_ctx *ctx, const pgk_half_kern *kern, pgk_half *p) {
  pg__half_job j = {kern, p};
  if (!kern->plan(p, ctx->threads)) return PG_OK;
  PG_TRY(pg_alloc(ctx, p->bytes, &p->scratch));
  for (int64_t first = 0; first < p->n; first += p->round) {
    kern->round(p, first);
    if (p->packs > 0) pg_par_for(ctx, p->packs, p->items > 1 ? 2 : p->packs, pg__half_packs, &j);
    pg_par_for(ctx, p->items, 1, pg__half_items, &j);
  }
  pg_free(ctx, p->scratch, p->bytes);
  return PG_OK;
}

/* Does a planned product on the calling thread in scratch that is there. */
static inline void pg__half_alone(const pgk_half_kern *kern, pgk_half *p) {
  for (int64_t first = 0; first < p->n; first += p->round) {
    kern->round(p, first);
    kern->packs(p, 0, p->packs);
    kern->run(p, 0, p->items);
  }
}

#endif
