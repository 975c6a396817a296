/* Shared by the rules: checks of hyperparameters and their parameter lists. Relies on optim.h.
 * Spec: spec/optim/optim_spec.lua. */
#ifndef PG_OPTIM_HYPER_H
#define PG_OPTIM_HYPER_H

#include "optim/optim.h"

/* PG_EARG unless least <= v and v < below. */
static inline pg_status pg_hyper_range(pg_ctx *ctx, const char *name, double v, double least,
                                       double below) {
  if (v >= least && v < below) return PG_OK;
  if (below == below + 1)
    return pg_fail(ctx, PG_EARG, "argument '%s': expected at least %g, got %g", name, least, v);
  return pg_fail(ctx, PG_EARG, "argument '%s': expected %g to below %g, got %g", name, least, below,
                 v);
}

#define PG_NO_LIMIT (1.0 / 0.0)

/* A pair {a, b} is two parameters "name.1", "name.2". */
#define PG_BETAS(a, b) PG_DEF("betas.1", PG_FLOAT, a), PG_DEF("betas.2", PG_FLOAT, b)
#define PG_MAXIMIZE    PG_DEF("maximize", PG_FLAG, 0)

#endif
