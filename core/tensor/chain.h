/* Chains: elementwise work that is put off, to be done together block by block, so that what lies
 * between two steps of it stays in the nearest cache, and needs no memory where nobody keeps it.
 * Relies on iter.h, base/par. Spec: spec/tensor/chain_spec.lua. */
#ifndef PG_TENSOR_CHAIN_H
#define PG_TENSOR_CHAIN_H

#include "tensor/iter.h"

typedef struct pg_chain_info {
  int64_t runs;    /* chains that were done */
  int64_t steps;   /* .. and the loops in them */
  int64_t skipped; /* loops whose results nobody could have seen */
  int64_t unmade;  /* tensors that were never in memory */
} pg_chain_info;

/* From here to pg_chain_end loops over many elements may be put off. Whoever looks at elements by
 * pg_data, and whatever runs on threads, makes them happen first, so nobody sees a difference.
 * false: work goes on as ever, as there is a chain already or no memory. */
bool pg_chain_begin(pg_ctx *ctx);
/* Does what is left. */
void pg_chain_end(pg_ctx *ctx);
/* What chains did so far in this ctx. */
pg_chain_info pg_chain_counts(const pg_ctx *ctx);

enum {
  PG_CHAIN_ARG = 48,    /* bytes of an argument that a loop may have in a chain */
  PG_CHAIN_LEAST = 8192 /* elements that are worth a chain */
};

/* Takes pg_iter_over(ctx, count, t, cost, loop, arg) to do it later; false: nothing was done. arg
 * is `bytes` long, or NULL, and is copied. updates: the loop reads t[0] too. */
bool pg__chain_take(pg_ctx *ctx, int count, pg_tensor *const *t, int cost, pg_loop loop,
                    const void *arg, size_t bytes, bool updates);
static inline bool pg__put_off(pg_ctx *ctx, int count, pg_tensor *const *t, int cost, pg_loop loop,
                               const void *arg, size_t bytes, bool updates) {
  return __builtin_expect(ctx->chain != NULL, 0) &&
         pg__chain_take(ctx, count, t, cost, loop, arg, bytes, updates);
}

/* make.c: nobody holds s any more, but work on it was put off: the chain frees it. */
void pg__chain_keep(pg_ctx *ctx, pg_storage *s);
/* Frees what no tensor holds. */
void pg__storage_free(pg_ctx *ctx, pg_storage *s);

#endif
