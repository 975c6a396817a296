/* Bringing operands into one memory order, so that kernels may run over them flat. Relies on
 * tensor.h. Spec: spec/ops/softmax_spec.lua, spec/ops/loss_spec.lua. */
#ifndef PG_OPS_LAYOUT_H
#define PG_OPS_LAYOUT_H

#include "tensor/tensor.h"

/* Same shape, and every element at the same offset? */
static inline bool layout_same(const pg_tensor *a, const pg_tensor *b) {
  if (!pg_same_shape(a, b)) return false;
  for (int i = 0; i < a->nd; i++)
    if (a->shape[i] > 1 && a->stride[i] != b->stride[i]) return false;
  return true;
}

/* *out = t itself where it lies like `like`, a dense tensor; else a copy that does, broadcast to
 * its shape. Owned; no graph. */
static inline pg_status layout_like(pg_ctx *ctx, pg_tensor *t, const pg_tensor *like,
                                    pg_tensor **out) {
  if (layout_same(t, like)) {
    *out = pg_tensor_ref(t);
    return PG_OK;
  }
  PG_TRY(pg_tensor_new_like(ctx, like, (pg_dtype)t->dtype, out));
  pg_status s = pg_tensor_copy(*out, t);
  if (s == PG_OK) return PG_OK;
  pg_tensor_unref(*out);
  *out = NULL;
  return s;
}

/* *out = t itself where it is dense, else a contiguous copy. Owned; no graph. */
static inline pg_status layout_dense(pg_ctx *ctx, pg_tensor *t, pg_tensor **out) {
  if (!pg_is_dense(t)) return pg__contiguous(ctx, t, out);
  *out = pg_tensor_ref(t);
  return PG_OK;
}

#endif
