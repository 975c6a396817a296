/* pg_par_for: the one way to use threads, and the only file with OpenMP in it is par.c.
 * Chunks depend on n and grain, never on the number of threads. Spec: spec/base/par_spec.lua. */
#ifndef PG_BASE_PAR_H
#define PG_BASE_PAR_H

#include "perigee.h"

typedef void (*pg_par_fn)(void *arg, int64_t begin, int64_t end);

/* Calls fn on [0, grain), [grain, 2 grain) .. of [0, n), in any order, on ctx's threads; fn cannot
 * fail. n <= grain runs on the caller. Chunk number = begin / grain: partial results go there and
 * are added in order. */
void pg_par_for(pg_ctx *ctx, int64_t n, int64_t grain, pg_par_fn fn, void *arg);

/* A grain for loops whose n items cost about `cost` simple element operations each. */
static inline int64_t pg_grain(int64_t cost) {
  int64_t g = 32768 / (cost < 1 ? 1 : cost);
  return g < 1 ? 1 : g;
}

/* Flush denormals in the calling thread and in every worker; called by pg_ctx_new. */
void pg_par_init(pg_ctx *ctx);

#endif
