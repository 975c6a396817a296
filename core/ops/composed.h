/* What ops made of other ops share: their reduction, checks of their operands, detached copies.
 * Relies on chain.h, formula.h. Spec: the specs of the ops that use it. */
#ifndef PG_OPS_COMPOSED_H
#define PG_OPS_COMPOSED_H

#include "autograd/formula.h"
#include "ops/chain.h"

enum { PG_REDUCE_NONE, PG_REDUCE_MEAN, PG_REDUCE_SUM };
#define PG_REDUCTION PG_WORD("reduction", PG_REDUCE_MEAN, "none|mean|sum")

/* An op that is recorded as what it is made of. */
#define PG_COMPOSED_OP(title, text, where, check, run, ...)                                        \
  {                                                                                                \
    .name = title, .doc = text, .param = {__VA_ARGS__}, .flags = PG_COMPOSED | (where), .nout = 1, \
    .infer = check, .forward = {                                                                   \
      run                                                                                          \
    }                                                                                              \
  }

/* The step's result: t, its mean or its sum; borrowed. */
static inline pg_tensor *pg_chain_reduce(pg_chain *k, pg_tensor *t, int64_t reduction) {
  if (reduction == PG_REDUCE_NONE) return t;
  return PG_STEP(k, reduction == PG_REDUCE_MEAN ? "mean" : "sum", "t", t);
}

/* A formula over the call's inputs; borrowed. */
static inline pg_tensor *pg_chain_formula(pg_chain *k, pg_call *c, const char *text, double p,
                                          double q) {
  if (k->status != PG_OK) return NULL;
  return pg_chain_push(k, pg_formula_value(c, text, p, q, &k->made));
}

/* max(t, least) whose gradient goes to t everywhere; borrowed. */
static inline pg_tensor *pg_chain_raise(pg_chain *k, pg_tensor *t, double least) {
  pg_tensor *cut = PG_STEP(k, "detach", "t", t), *floor = pg_chain_number(k, least);
  pg_tensor *up = PG_STEP(k, "add", "tt", PG_STEP(k, "sub", "tt", t, cut), floor);
  return PG_STEP(k, "where", "ttt", PG_STEP(k, "lt", "tt", cut, floor), up, t);
}

/* Frees the temporaries; *out = t, owned, unless something failed. */
static inline pg_status pg_chain_result(pg_chain *k, pg_tensor *t, pg_tensor **out) {
  pg_chain_give(k, t, out);
  return pg_chain_end(k);
}

/* PG_EDTYPE unless in[0..n) are floating, PG_ESHAPE unless they broadcast. */
static inline pg_status pg_want_broadcast(pg_call *c, int n) {
  for (int i = 0; i < n; i++) PG_TRY(pg_want(c, i, PG_M_REAL));
  return pg_out_broadcast(c, 0, (pg_dtype)c->in[0]->dtype, n);
}

#endif
