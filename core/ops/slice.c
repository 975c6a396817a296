/* Basic indexing: getitem (a view) and setitem, behind x[..] and x[..] = v.
 * Relies on autograd/op.h. Spec: spec/ops/slice_spec.lua. */
#include "autograd/node.h"

/* spec holds start, count, step, drop for each dim of in[0]; start counts from 0. */
static pg_status check_spec(pg_call *c) {
  const pg_arg *a = &c->arg[0];
  const pg_tensor *t = c->in[0];
  if (a->n != 4 * t->nd)
    return pg_fail(c->ctx, PG_EARG, "argument 'spec': expected %d integers, got %d", 4 * t->nd,
                   a->n);
  for (int d = 0; d < t->nd; d++) {
    const int64_t *v = a->v + 4 * d;
    if (v[1] < 0 || v[2] < 1 || (v[1] && (v[0] < 0 || v[0] + (v[1] - 1) * v[2] >= t->shape[d])))
      return pg_bad_arg(c, PG_EINDEX, 0, "ranges within %s", pg_shape_str(t).s);
  }
  return PG_OK;
}

typedef struct region {
  int nd;
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS], offset;
} region;

static region region_of(const pg_tensor *t, const int64_t *spec) {
  region r = {.offset = t->offset};
  for (int d = 0; d < t->nd; d++) {
    const int64_t *v = spec + 4 * d;
    r.offset += v[0] * t->stride[d];
    if (v[3]) continue;
    r.shape[r.nd] = v[1];
    r.stride[r.nd++] = v[2] * t->stride[d];
  }
  return r;
}

static pg_status alias_region(pg_ctx *ctx, const pg_tensor *t, const int64_t *spec,
                              pg_tensor **out) {
  region r = region_of(t, spec);
  return pg_tensor_alias(ctx, t, r.nd, r.shape, r.stride, r.offset, out);
}

static pg_status getitem_infer(pg_call *c) {
  PG_TRY(check_spec(c));
  region r = region_of(c->in[0], c->arg[0].v);
  return pg_out_view(c, 0, r.nd, r.shape, r.stride, r.offset);
}

/* gin = zeros, with gout in the region. */
static pg_status getitem_backward(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  pg_tensor *g;
  PG_TRY(pg_tensor_zeros(c->ctx, (pg_dtype)m->dtype, m->nd, m->shape, &g));
  pg_status s = pg_do(c->ctx, NULL, "setitem_", "ttl", g, c->gout[0], c->arg[0].n, c->arg[0].v);
  if (s == PG_OK) c->gin[0] = g;
  else pg_tensor_unref(g);
  return s;
}

static pg_status setitem_infer(pg_call *c) {
  PG_TRY(check_spec(c));
  const pg_tensor *t = c->in[0];
  region r = region_of(t, c->arg[0].v);
  PG_TRY(pg_want_spread(c, 1, "the place", r.nd, r.shape));
  return pg_out_like(c, 0, (pg_dtype)t->dtype, t);
}

static pg_status setitem_forward(pg_call *c) {
  if (!c->inplace) PG_TRY(pg_tensor_copy(c->out[0], c->in[0]));
  pg_tensor *place;
  PG_TRY(alias_region(c->ctx, c->out[0], c->arg[0].v, &place));
  pg_status s = pg_tensor_copy(place, c->in[1]);
  pg_tensor_unref(place);
  return s;
}

/* The old tensor gets gout with zeros in the region, the value gets the region. */
static pg_status setitem_backward(pg_call *c) {
  pg_ctx *ctx = c->ctx;
  const pg_arg *spec = &c->arg[0];
  if (c->need[0]) {
    pg_tensor *zero;
    PG_TRY(pg_tensor_zeros(ctx, (pg_dtype)c->meta[0].dtype, 0, NULL, &zero));
    pg_status s = pg_do(ctx, &c->gin[0], "setitem", "ttl", c->gout[0], zero, spec->n, spec->v);
    pg_tensor_unref(zero);
    PG_TRY(s);
  }
  if (!c->need[1]) return PG_OK;
  pg_tensor *part;
  PG_TRY(pg_do(ctx, &part, "getitem", "tl", c->gout[0], spec->n, spec->v));
  pg_status s = pg_sum_to(ctx, part, &c->meta[1], &c->gin[1]);
  pg_tensor_unref(part);
  return s;
}

const pg_op PG_AT(pg_ops_slice)[] = {
    {.name = "indexing|getitem",
     .doc = "y = the part of input that spec names: start, count, step, drop for each dim; a view.",
     .param = {PG_T("input"), PG_REQ("spec", PG_INTS)},
     .flags = PG_HIDDEN,
     .nout = 1,
     .infer = getitem_infer,
     .backward = getitem_backward},
    {.name = "assignment|setitem",
     .doc = "y = input with source broadcast into the part that spec names.",
     .param = {PG_T("input"), PG_TN("source"), PG_REQ("spec", PG_INTS)},
     .flags = PG_HIDDEN | PG_INPLACE,
     .nout = 1,
     .infer = setitem_infer,
     .forward = {setitem_forward},
     .backward = setitem_backward},
    {0}};
