/* max_unpool1d .. max_unpool3d: maxima back where max_pool with return_indices found them.
 * Relies on composed.h. Spec: spec/ops/unpool_spec.lua. */
#include <string.h>

#include "ops/composed.h"

/* --- max_unpool: arg kernel_size, stride, padding, output_size ----------------------------------
 */

/* Pixels of the result. */
static pg_status unpooled(pg_call *c, int sp, int64_t *size) {
  const pg_tensor *x = c->in[0];
  int64_t kernel[3], stride[3], pad[3];
  PG_TRY(pg_arg_ints(c, 0, sp, 1, kernel));
  memcpy(stride, kernel, sizeof kernel);
  if (c->arg[1].set) PG_TRY(pg_arg_ints(c, 1, sp, 1, stride));
  PG_TRY(pg_arg_ints(c, 2, sp, 0, pad));
  for (int i = 0; i < sp; i++) {
    size[i] = (x->shape[x->nd - sp + i] - 1) * stride[i] - 2 * pad[i] + kernel[i];
    if (!c->arg[3].set) continue;
    const pg_arg *want = &c->arg[3];
    if (want->n != sp && want->n != x->nd)
      return pg_fail(c->ctx, PG_EARG, "argument 'output_size': expected %d sizes or %d, got %d", sp,
                     x->nd, want->n);
    int64_t given = want->v[want->n - sp + i];
    if (given <= size[i] - stride[i] || given >= size[i] + stride[i])
      return pg_fail(c->ctx, PG_EARG, "argument 'output_size': expected %lld to %lld, got %lld",
                     (long long)(size[i] - stride[i] + 1), (long long)(size[i] + stride[i] - 1),
                     (long long)given);
    size[i] = given;
  }
  return PG_OK;
}

static pg_status check_unpool(pg_call *c, int sp) {
  const pg_tensor *x = c->in[0];
  int64_t size[3];
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  PG_TRY(pg_want(c, 1, PG_M_INT));
  if (x->nd != sp + 1 && x->nd != sp + 2)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected %d or %d dims, got %s", sp + 1,
                   sp + 2, pg_shape_str(x).s);
  if (!pg_same_shape(x, c->in[1]))
    return pg_bad_in(c, PG_ESHAPE, 1, "the shape of input %s", pg_shape_str(x).s);
  return unpooled(c, sp, size);
}

static pg_status check_unpool1(pg_call *c) { return check_unpool(c, 1); }
static pg_status check_unpool2(pg_call *c) { return check_unpool(c, 2); }
static pg_status check_unpool3(pg_call *c) { return check_unpool(c, 3); }

/* PG_EINDEX unless every index lies in 1..area. */
static pg_status check_places(pg_call *c, int64_t area) {
  pg_tensor *at;
  if (c->in[1]->storage->device != PG_HOST) return PG_OK;
  PG_TRY(pg__contiguous(c->ctx, c->in[1], &at));
  int64_t n = pg_numel(at), i = 0;
  while (i < n && pg_at_i64(at, i) >= 1 && pg_at_i64(at, i) <= area) i++;
  pg_status s = PG_OK;
  if (i < n)
    s = pg_fail(c->ctx, PG_EINDEX, "argument 'indices': expected 1..%lld, got %lld at element %lld",
                (long long)area, (long long)pg_at_i64(at, i), (long long)(i + 1));
  pg_tensor_unref(at);
  return s;
}

static pg_status run_unpool(pg_call *c, int sp) {
  const pg_tensor *x = c->in[0];
  int64_t size[3], area = 1, taken = 1;
  PG_TRY(unpooled(c, sp, size));
  pg_chain k = {.ctx = c->ctx};
  int lead = x->nd - sp;
  int64_t shape[PG_MAX_DIMS], flat[PG_MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  memcpy(flat, x->shape, sizeof flat);
  for (int i = 0; i < sp; i++) {
    taken *= x->shape[lead + i];
    area *= size[i];
    shape[lead + i] = size[i];
  }
  PG_TRY(check_places(c, area));
  flat[lead] = area;
  pg_tensor *empty = NULL;
  k.status = pg_tensor_zeros(c->ctx, (pg_dtype)x->dtype, lead + 1, flat, &empty);
  flat[lead] = taken;
  pg_tensor *values = PG_STEP(&k, "reshape", "tl", c->in[0], lead + 1, flat);
  pg_tensor *places = PG_STEP(&k, "reshape", "tl", c->in[1], lead + 1, flat);
  pg_tensor *t = PG_STEP(&k, "scatter", "titt", empty, (int64_t)-1, places, values);
  t = PG_STEP(&k, "reshape", "tl", t, x->nd, shape);
  pg_status s = pg_chain_result(&k, t, &c->out[0]);
  pg_tensor_unref(empty);
  return s;
}

static pg_status run_unpool1(pg_call *c) { return run_unpool(c, 1); }
static pg_status run_unpool2(pg_call *c) { return run_unpool(c, 2); }
static pg_status run_unpool3(pg_call *c) { return run_unpool(c, 3); }

/* --- the table ----------------------------------------------------------------------------------
 */

#define UNPOOL_ARGS                                                                             \
  PG_T("input"), PG_TIDX("indices"), PG_REQ("kernel_size", PG_INTS), PG_OPT("stride", PG_INTS), \
      PG_DEF("padding", PG_INTS, 0), PG_OPT("output_size", PG_INTS)

const pg_op PG_AT(pg_ops_unpool)[] = {
    PG_COMPOSED_OP("max_unpool1d",
                   "Each value at the place where max_pool1d with return_indices found it; zeros "
                   "elsewhere.",
                   PG_NN, check_unpool1, run_unpool1, UNPOOL_ARGS),
    PG_COMPOSED_OP("max_unpool2d",
                   "Each value at the place where max_pool2d with return_indices found it; zeros "
                   "elsewhere.",
                   PG_NN, check_unpool2, run_unpool2, UNPOOL_ARGS),
    PG_COMPOSED_OP("max_unpool3d",
                   "Each value at the place where max_pool3d with return_indices found it; zeros "
                   "elsewhere.",
                   PG_NN, check_unpool3, run_unpool3, UNPOOL_ARGS),
    {0}};
