/* What ops that reduce over dims share: shapes of results, running a fold into an output, gradients
 * spread back over the input's shape. Relies on fold.h, chain.h. Spec: spec/ops/reduce_spec.lua. */
#ifndef PG_OPS_REDUCTION_H
#define PG_OPS_REDUCTION_H

#include <string.h>

#include "ops/chain.h"
#include "ops/fold.h"

/* Output j: in[0] without the dims of mask (or with 1 in their place), in in[0]'s memory order. */
static inline pg_status reduction_out(pg_call *c, int j, pg_dtype dtype, unsigned mask, bool keep) {
  const pg_tensor *x = c->in[0];
  int64_t shape[PG_MAX_DIMS], step[PG_MAX_DIMS], stride[PG_MAX_DIMS];
  int nd = 0;
  bool order = !pg_is_contiguous(x) && pg_is_dense(x);
  for (int i = 0; i < x->nd; i++) {
    if (mask >> i & 1) {
      if (!keep) continue;
      shape[nd] = 1;
      step[nd++] = 0;
    } else {
      shape[nd] = x->shape[i];
      step[nd++] = x->stride[i];
    }
  }
  PG_TRY(pg_out_shape(c, j, dtype, nd, shape));
  if (!order) return PG_OK;
  for (int i = 0; i < nd; i++) {
    stride[i] = 1;
    for (int k = 0; k < nd; k++)
      if (shape[k] > 1 && step[k] < step[i]) stride[i] *= shape[k];
  }
  pg_out *o = &c->os[j];
  o->strided = true;
  memcpy(o->stride, stride, sizeof *stride * (size_t)nd);
  return PG_OK;
}

/* Checks dims (arg 0) and declares outputs [0, n) of this dtype; keepdim is arg `keep`. */
static inline pg_status reduction_infer(pg_call *c, int n, pg_dtype dtype, int keep) {
  unsigned mask;
  PG_TRY(pg_arg_dims(c, 0, c->in[0]->nd, &mask));
  for (int j = 0; j < n; j++) PG_TRY(reduction_out(c, j, dtype, mask, c->arg[keep].i != 0));
  return PG_OK;
}

/* PG_ESHAPE where a reduced dim has no elements. */
static inline pg_status reduction_not_empty(pg_call *c, unsigned mask) {
  const pg_tensor *x = c->in[0];
  for (int i = 0; i < x->nd; i++)
    if ((mask >> i & 1) && x->shape[i] == 0)
      return pg_bad_in(c, PG_ESHAPE, 0, "elements to reduce in dim %d", i + 1);
  return PG_OK;
}

static inline unsigned reduction_mask(pg_call *c, int nd) {
  unsigned mask = 0;
  pg_status s = pg_arg_dims(c, 0, nd, &mask);
  PG_ASSERT(s == PG_OK);
  (void)s;
  return mask;
}

/* Is an element of t, which is dense, zero? */
static inline bool reduction_has_zero(const pg_tensor *t) {
  bool found = false;
  for (int64_t i = 0, n = pg_numel(t); i < n; i++) found = found || pg_at_f64(t, i) == 0;
  return found;
}

/* A plan, and where its results go: finish makes results of the folds, out gets them. */
typedef struct reduction {
  fold_plan plan;
  void (*finish)(const struct reduction *r, int64_t first, int64_t n, fold_acc *acc);
  double number; /* finish's own */
  double *shift; /* a value per output, or NULL */
  pg_tensor *out;
  pg_tensor *mean; /* var and std: a second result, or NULL */
} reduction;

/* Plans the reduction of x over mask into an output like out. */
static inline reduction reduction_plan(const pg_tensor *x, unsigned mask, pg_tensor *out) {
  reduction r = {.out = out};
  int64_t stride[PG_MAX_DIMS];
  bool keep = out->nd == x->nd;
  for (int i = 0, j = 0; i < x->nd; i++) {
    stride[i] = 0;
    if (!(mask >> i & 1)) stride[i] = out->stride[keep ? i : j++];
  }
  fold_plan_make(&r.plan, x, mask, stride);
  return r;
}

#define REDUCTION_STORE(T, F)                                     \
  do {                                                            \
    T *restrict to = (T *)pg_data(out) + at;                      \
    if (step == 1)                                                \
      for (int64_t i = 0; i < m; i++) to[i] = (T)acc[i].F;        \
    else                                                          \
      for (int64_t i = 0; i < m; i++) to[i * step] = (T)acc[i].F; \
  } while (0)

/* Outputs [first, first + n) of out = acc, in out's dtype. */
static inline void reduction_store(const fold_plan *p, pg_tensor *out, int64_t first, int64_t n,
                                   const fold_acc *restrict acc) {
  int64_t step = p->ko[0];
  while (n > 0) {
    int64_t run = first / p->ksize[0], i0 = first % p->ksize[0];
    int64_t m = pg_min64(n, p->ksize[0] - i0);
    int64_t at = fold_offset(run, 1, p->nk, p->ksize, p->ko) + i0 * step;
    if (out->dtype == PG_F32) REDUCTION_STORE(float, f);
    else if (out->dtype == PG_F64) REDUCTION_STORE(double, f);
    else if (out->dtype == PG_I64) REDUCTION_STORE(int64_t, i);
    else REDUCTION_STORE(uint8_t, i);
    first += m;
    n -= m;
    acc += m;
  }
}

/* The put of a last stage; to is a reduction. */
static inline void reduction_put(void *to, int64_t first, int64_t n, fold_acc *acc) {
  const reduction *r = to;
  if (r->finish) r->finish(r, first, n, acc);
  reduction_store(&r->plan, r->out, first, n, acc);
}

/* g, a gradient with in[0]'s dims of mask reduced, as a tensor with all of in[0]'s dims: 1 in place
 * of the reduced ones, or expanded over them. *out is owned. */
static inline pg_status reduction_widen(pg_call *c, pg_tensor *g, unsigned mask, bool expand,
                                        pg_tensor **out) {
  const pg_meta *m = &c->meta[0];
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS];
  bool keep = g->nd == m->nd;
  for (int i = 0, j = 0; i < m->nd; i++) {
    bool reduced = mask >> i & 1;
    shape[i] = reduced && !expand ? 1 : m->shape[i];
    stride[i] = reduced ? 0 : g->stride[keep ? i : j++];
  }
  if (!c->recording) return pg_tensor_alias(c->ctx, g, m->nd, shape, stride, g->offset, out);
  int64_t ones[PG_MAX_DIMS];
  for (int i = 0; i < m->nd; i++) ones[i] = mask >> i & 1 ? 1 : m->shape[i];
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *t = keep ? g : PG_STEP(&k, "view", "tl", g, m->nd, ones);
  if (expand) t = PG_STEP(&k, "expand", "tl", t, m->nd, m->shape);
  pg_chain_give(&k, t, out);
  return pg_chain_end(&k);
}

/* Elements that mask reduces into one. */
static inline int64_t reduction_count(const pg_meta *m, unsigned mask) {
  int64_t n = 1;
  for (int i = 0; i < m->nd; i++)
    if (mask >> i & 1) n *= m->shape[i];
  return n;
}

/* x with the dims of mask last, contiguous (owned): rows of reduction_count elements. */
static inline pg_status reduction_rows(pg_ctx *ctx, pg_tensor *x, unsigned mask, pg_tensor **out) {
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS];
  int n = 0;
  for (unsigned pass = 0; pass < 2; pass++)
    for (int i = 0; i < x->nd; i++)
      if ((mask >> i & 1) == pass) {
        shape[n] = x->shape[i];
        stride[n++] = x->stride[i];
      }
  pg_tensor *view;
  PG_TRY(pg_tensor_alias(ctx, x, x->nd, shape, stride, x->offset, &view));
  pg_status s = pg__contiguous(ctx, view, out);
  pg_tensor_unref(view);
  return s;
}

/* A new tensor of m's shape whose memory lies as reduction_rows gives it. */
static inline pg_status reduction_new_rows(pg_ctx *ctx, const pg_meta *m, unsigned mask,
                                           pg_tensor **out) {
  int64_t stride[PG_MAX_DIMS], n = 1;
  for (unsigned pass = 2; pass-- > 0;)
    for (int i = m->nd - 1; i >= 0; i--)
      if ((mask >> i & 1) == pass) {
        stride[i] = n;
        n *= m->shape[i] > 1 ? m->shape[i] : 1;
      }
  return pg_tensor_new_strided(ctx, (pg_dtype)m->dtype, m->nd, m->shape, stride, PG_HOST, out);
}

/* How reduction_share treats NaN: as nothing; a NaN value as the share of every NaN; every NaN as a
 * share, and times sign(in[0]). */
enum { SHARE_EQUAL, SHARE_NAN, SHARE_SIGN };

/* gin[0] = g over the elements of x that equal `value`, shared evenly. x: in[0] or |in[0]|; value
 * and g lack the dims of mask. */
static inline void reduction_share(pg_call *c, pg_chain *k, pg_tensor *x, pg_tensor *value,
                                   pg_tensor *g, unsigned mask, int how) {
  if (k->status != PG_OK) return;
  pg_tensor *wide = NULL, *gw = NULL;
  int64_t dims[PG_MAX_DIMS];
  int n = 0;
  for (int i = 0; i < x->nd; i++)
    if (mask >> i & 1) dims[n++] = i + 1;
  k->status = reduction_widen(c, value, mask, false, &wide);
  if (k->status == PG_OK) k->status = reduction_widen(c, g, mask, false, &gw);
  pg_tensor *hit = PG_STEP(k, "eq", "tt", x, wide);
  if (how != SHARE_EQUAL && hit) {
    pg_tensor *nan = PG_STEP(k, "isnan", "t", x);
    if (how == SHARE_NAN)
      nan = PG_STEP(k, "logical_and", "tt", nan, PG_STEP(k, "isnan", "t", wide));
    hit = PG_STEP(k, "logical_or", "tt", hit, nan);
  }
  hit = PG_STEP(k, "to", "ti", hit, (int64_t)x->dtype);
  pg_tensor *count = n ? PG_STEP(k, "sum", "tlb", hit, n, dims, 1) : hit;
  pg_tensor *t = PG_STEP(k, "mul", "tt", hit, PG_STEP(k, "div", "tt", gw, count));
  if (how == SHARE_SIGN) t = PG_STEP(k, "mul", "tt", t, PG_STEP(k, "sign", "t", c->in[0]));
  pg_chain_give(k, t, &c->gin[0]);
  pg_tensor_unref(gw);
  pg_tensor_unref(wide);
}

/* arg 0 (PG_DIM), checked by infer, of a tensor with nd dims; 0-based. */
static inline int reduction_dim(pg_call *c, int nd) {
  int dim = 0;
  pg_status s = pg_arg_dim(c, 0, nd, &dim);
  PG_ASSERT(s == PG_OK);
  (void)s;
  return dim;
}

#endif
