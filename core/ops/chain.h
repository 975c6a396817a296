/* A chain of recorded ops inside a backward: temporaries are kept until the end, a failure skips
 * the rest. Relies on perigee.h. Spec: the specs of the ops that use it. */
#ifndef PG_OPS_CHAIN_H
#define PG_OPS_CHAIN_H

#include "autograd/op.h"

#define PG_CHAIN_MAX 40

typedef struct pg_chain {
  pg_ctx *ctx;
  pg_status status; /* of the first step that failed */
  int n;
  pg_tensor *made; /* where a step leaves its result; steps may be nested */
  pg_tensor *t[PG_CHAIN_MAX];
} pg_chain;

static inline pg_tensor *pg_chain_push(pg_chain *k, pg_status s) {
  if (s == PG_OK) return k->t[k->n++] = k->made;
  if (k->status == PG_OK) k->status = s;
  return NULL;
}

/* PG_STEP(&k, "mul", "tt", a, b) -> the result, borrowed until pg_chain_end; NULL once something
 * failed. */
#define PG_STEP(k, ...) \
  ((k)->status == PG_OK ? pg_chain_push(k, pg_do((k)->ctx, &(k)->made, __VA_ARGS__)) : NULL)

/* A number as an operand. */
static inline pg_tensor *pg_chain_number(pg_chain *k, double v) {
  if (k->status != PG_OK) return NULL;
  return pg_chain_push(k, pg_tensor_number(k->ctx, v, false, &k->made));
}

/* *out = one more ref of t, unless something failed. */
static inline void pg_chain_give(pg_chain *k, pg_tensor *t, pg_tensor **out) {
  if (k->status == PG_OK) *out = pg_tensor_ref(t);
}

/* Frees the temporaries. */
static inline pg_status pg_chain_end(pg_chain *k) {
  while (k->n) pg_tensor_unref(k->t[--k->n]);
  return k->status;
}

#endif
