/* Choosing among several ways to compute the same by measuring them at first use. Relies on ctx.
 * Spec: spec/autograd/autocast_spec.lua. */
#ifndef PG_BASE_CHOICE_H
#define PG_BASE_CHOICE_H

#include "base/ctx.h"

/* Computes the whole result in way 0, 1, ..; PG_EUNSUPPORTED: this way does not exist here. */
typedef pg_status (*pg_way_fn)(void *arg, int way);

/* Runs the way that was the fastest for this key (bytes without holes) and this kind, a constant
 * text. At the first call each way runs some times and the fastest run but the first counts; a
 * later way has to win by a tenth. Where ctx->deterministic is set nothing is measured, and the
 * first way that exists is taken. PG_EUNSUPPORTED where none does. */
pg_status pg_choose(pg_ctx *ctx, const char *kind, const void *key, size_t bytes, int ways,
                    pg_way_fn run, void *arg);
/* The way chosen for this key, -1 where none is. */
int pg_chosen(const pg_ctx *ctx, const char *kind, const void *key, size_t bytes);

#endif
