/* scatter_reduce: elements joined where gather would read. Relies on chain.h, base/par.
 * Spec: spec/ops/scatter_reduce_spec.lua. */
#include <math.h>
#include <string.h>

#include "base/par.h"
#include "ops/chain.h"

enum { SUM, PROD, MEAN, AMAX, AMIN, SET };

/* a[.. index[i] ..] = a joined with b[i] for every i of index's shape; b steps 0 where it is one
 * number. Strides in elements. split: a dim other than `dim`, or -1. */
typedef struct walk {
  int how, nd, dim, split;
  pg_dtype dtype;
  int64_t n, shape[PG_MAX_DIMS], si[PG_MAX_DIMS], sa[PG_MAX_DIMS], sb[PG_MAX_DIMS];
  const int64_t *index;
  char *a;
  const char *b;
} walk;

#define JOIN(T, expr)                                           \
  {                                                             \
    T *to = (T *)q->a + oa, x = *to, y = ((const T *)q->b)[ob]; \
    *to = (T)(expr);                                            \
  }
#define LARGER(x, y)  ((y) > (x) || (y) != (y) ? (y) : (x))
#define SMALLER(x, y) ((y) < (x) || (y) != (y) ? (y) : (x))
#define JOINS(T)                  \
  switch (q->how) {               \
  case SUM:                       \
  case MEAN:                      \
    JOIN(T, x + y) break;         \
  case PROD:                      \
    JOIN(T, x *y) break;          \
  case AMAX:                      \
    JOIN(T, LARGER(x, y)) break;  \
  case AMIN:                      \
    JOIN(T, SMALLER(x, y)) break; \
  default:                        \
    JOIN(T, ((void)x, y))         \
  }

/* Slices [begin, end) of the split dim, one element after another in index's order. */
static void walk_units(void *arg, int64_t begin, int64_t end) {
  const walk *q = arg;
  int64_t at[PG_MAX_DIMS] = {0}, first[PG_MAX_DIMS] = {0}, past[PG_MAX_DIMS];
  for (int d = 0; d < q->nd; d++) past[d] = q->shape[d];
  if (q->split >= 0) {
    first[q->split] = at[q->split] = begin;
    past[q->split] = end;
  }
  for (bool more = true; more;) {
    int64_t oi = 0, oa = 0, ob = 0;
    for (int d = 0; d < q->nd; d++) {
      oi += at[d] * q->si[d];
      ob += at[d] * q->sb[d];
      if (d != q->dim) oa += at[d] * q->sa[d];
    }
    int64_t place = q->index[oi];
    oa += (place > 0 ? place - 1 : q->n + place) * q->sa[q->dim];
    if (q->dtype == PG_F32) JOINS(float)
    else if (q->dtype == PG_F64) JOINS(double)
    else JOINS(int64_t)
    more = false;
    for (int d = q->nd - 1; d >= 0 && !more; d--) {
      more = ++at[d] < past[d];
      if (!more) at[d] = first[d];
    }
  }
}

/* b NULL: `number` everywhere. */
static pg_status run(pg_ctx *ctx, int how, pg_tensor *a, int dim, const pg_tensor *index,
                     const pg_tensor *b, double number) {
  walk q = {.how = how, .nd = index->nd ? index->nd : 1, .dim = dim, .split = -1};
  union {
    float f;
    double d;
    int64_t i;
  } one;
  if (pg_numel(index) == 0) return PG_OK;
  q.dtype = (pg_dtype)a->dtype;
  if (q.dtype == PG_F32) one.f = (float)number;
  else if (q.dtype == PG_F64) one.d = number;
  else one.i = number <= -0x1p63 ? INT64_MIN : number >= 0x1p63 ? INT64_MAX : (int64_t)number;
  q.n = a->nd ? a->shape[dim] : 1;
  for (int d = 0; d < q.nd; d++) {
    q.shape[d] = index->nd ? index->shape[d] : 1;
    q.si[d] = index->nd ? index->stride[d] : 0;
    q.sa[d] = a->nd ? a->stride[d] : 0;
    q.sb[d] = b && b->nd ? b->stride[d] : 0;
    if (d != dim && q.shape[d] > 1 && (q.split < 0 || q.shape[d] > q.shape[q.split])) q.split = d;
  }
  q.index = pg_data(index);
  q.a = pg_data(a);
  q.b = b ? pg_data(b) : (const void *)&one;
  int64_t units = q.split < 0 ? 1 : q.shape[q.split];
  pg_par_for(ctx, units, pg_grain(8 * pg_numel(index) / units), walk_units, &q);
  return PG_OK;
}

/* arg: dim, reduce, include_self */
static pg_status infer_scatter_reduce(pg_call *c) {
  const pg_tensor *x = c->in[0], *index = c->in[1], *src = c->in[2];
  int dim;
  PG_TRY(pg_want(c, 0, PG_M_REAL | 1u << PG_I64));
  PG_TRY(pg_want(c, 1, 1u << PG_I64));
  PG_TRY(pg_want_same_dtype(c, 2, 0));
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  bool fits = (x->nd ? x->nd : 1) == (index->nd ? index->nd : 1) && index->nd == src->nd;
  for (int i = 0; i < index->nd && fits; i++)
    fits = index->shape[i] <= src->shape[i] &&
           (i == dim || (x->nd ? index->shape[i] <= x->shape[i] : true));
  if (!fits && pg_numel(index) > 0)
    return pg_bad_in(c, PG_ESHAPE, 1, "at most the sizes of src %s, and of input %s but in dim %d",
                     pg_shape_str(src).s, pg_shape_str(x).s, dim + 1);
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, x->shape);
}

static pg_status check_index(pg_call *c, const pg_tensor *index, int64_t n) {
  const int64_t *v = pg_data(index);
  for (int64_t i = 0, count = pg_numel(index); i < count; i++)
    if (v[i] == 0 || v[i] > n || v[i] < -n)
      return pg_fail(
          c->ctx, PG_EINDEX,
          "argument 'index': expected 1..%lld or from the end, got %lld at position %lld",
          (long long)n, (long long)v[i], (long long)i + 1);
  return PG_OK;
}

/* y /= how many elements it was made of, rounded down for integers. */
static pg_status divide(pg_call *c, int dim, const pg_tensor *index, pg_tensor *y) {
  pg_tensor *count = NULL, *quotient = NULL;
  PG_TRY(pg_tensor_new(c->ctx, (pg_dtype)y->dtype, y->nd, y->shape, &count));
  pg_tensor_fill(count, 1);
  pg_status s = PG_OK;
  if (!c->arg[2].i) s = run(c->ctx, SET, count, dim, index, NULL, 0);
  if (s == PG_OK) s = run(c->ctx, SUM, count, dim, index, NULL, 1);
  if (s == PG_OK)
    s = pg_do(c->ctx, &quotient, pg_is_float((pg_dtype)y->dtype) ? "div" : "floor_divide", "tt", y,
              count);
  if (s == PG_OK) s = pg_tensor_copy(y, quotient);
  pg_tensor_unref(quotient);
  pg_tensor_unref(count);
  return s;
}

static pg_status forward_scatter_reduce(pg_call *c) {
  static const double start[] = {[SUM] = 0, [PROD] = 1, [AMAX] = -INFINITY, [AMIN] = INFINITY};
  pg_tensor *x = c->in[0], *y = c->out[0], *index;
  int dim, how = (int)c->arg[1].i;
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  PG_TRY(pg__contiguous(c->ctx, c->in[1], &index));
  pg_status s = check_index(c, index, x->nd ? x->shape[dim] : 1);
  if (s == PG_OK && !c->inplace) s = pg_tensor_copy(y, x);
  if (s == PG_OK && !c->arg[2].i) s = run(c->ctx, SET, y, dim, index, NULL, start[how]);
  if (s == PG_OK) s = run(c->ctx, how, y, dim, index, c->in[2], 0);
  if (s == PG_OK && how == MEAN && pg_numel(index) > 0) s = divide(c, dim, index, y);
  pg_tensor_unref(index);
  return s;
}

/* --- gradients ---------------------------------------------------------------------------------
 */
typedef struct slope {
  pg_chain k;
  int64_t dim;
  pg_tensor *index, *src; /* src cut to index's shape */
} slope;

static pg_tensor *gathered(slope *p, pg_tensor *t) {
  return PG_STEP(&p->k, "gather", "tit", t, p->dim, p->index);
}
/* t with one number written at index. */
static pg_tensor *marked(slope *p, pg_tensor *t, double v) {
  return PG_STEP(&p->k, "scatter", "titt", t, p->dim, p->index, pg_chain_number(&p->k, v));
}
static pg_tensor *added(slope *p, pg_tensor *t, pg_tensor *src) {
  return PG_STEP(&p->k, "scatter_add", "titt", t, p->dim, p->index, src);
}
static pg_tensor *mul(slope *p, pg_tensor *a, pg_tensor *b) {
  return PG_STEP(&p->k, "mul", "tt", a, b);
}
static pg_tensor *divided(slope *p, pg_tensor *a, pg_tensor *b) {
  return PG_STEP(&p->k, "div", "tt", a, b);
}
/* 1 where a = b, else 0, in a's dtype. */
static pg_tensor *equal(slope *p, pg_tensor *a, pg_tensor *b) {
  pg_tensor *mask = PG_STEP(&p->k, "eq", "tt", a, b);
  return PG_STEP(&p->k, "to", "ti", mask, (int64_t)(a ? a->dtype : PG_F32));
}
/* t with 1 in place of zeros. */
static pg_tensor *solid(slope *p, pg_tensor *t, pg_tensor *zero) {
  return PG_STEP(&p->k, "where", "ttt", PG_STEP(&p->k, "eq", "tt", t, zero),
                 pg_chain_number(&p->k, 1), t);
}

/* The gradients of a product: of the whole over each factor; where one src element alone is zero,
 * of the product of the others. */
static void product_slopes(slope *p, pg_call *c, pg_tensor **gx, pg_tensor **gs) {
  pg_chain *k = &p->k;
  pg_tensor *g = c->gout[0], *zero = pg_chain_number(k, 0), *one = pg_chain_number(k, 1);
  bool with_self = c->arg[2].i;
  pg_tensor *x = solid(p, c->in[0], zero);
  pg_tensor *whole =
      PG_STEP(k, "scatter_reduce", "tittsb", x, p->dim, p->index, p->src, "prod", with_self);
  *gx = divided(p, mul(p, g, whole), x);
  pg_tensor *is_zero = equal(p, p->src, zero);
  pg_tensor *count = added(p, PG_STEP(k, "zeros_like", "t", c->in[0]), is_zero);
  pg_tensor *alone = mul(p, is_zero, equal(p, gathered(p, count), one));
  alone = PG_STEP(k, "to", "ti", alone, (int64_t)PG_BOOL);
  pg_tensor *others = PG_STEP(k, "where", "ttt", alone, one, p->src);
  others =
      PG_STEP(k, "scatter_reduce", "tittsb", c->in[0], p->dim, p->index, others, "prod", with_self);
  pg_tensor *common = divided(p, gathered(p, mul(p, g, c->out[0])), solid(p, p->src, zero));
  *gs = PG_STEP(k, "where", "ttt", alone, gathered(p, mul(p, g, others)), common);
}

static pg_status backward_scatter_reduce(pg_call *c) {
  const pg_meta *m = &c->meta[2];
  slope p = {.k = {.ctx = c->ctx}, .dim = c->arg[0].i, .index = c->in[1], .src = c->in[2]};
  pg_chain *k = &p.k;
  pg_tensor *g = c->gout[0], *gx = NULL, *gs = NULL;
  bool with_self = c->arg[2].i;
  for (int d = 0; d < m->nd && pg_numel(p.index) > 0; d++)
    if (m->shape[d] > p.index->shape[d])
      p.src = PG_STEP(k, "narrow", "tiii", p.src, (int64_t)d + 1, (int64_t)1, p.index->shape[d]);
  if (pg_numel(p.index) == 0) {
    if (c->need[0]) c->gin[0] = pg_tensor_ref(g);
    return PG_OK;
  }
  switch (c->arg[1].i) {
  case SUM:
    gx = g;
    gs = gathered(&p, g);
    break;
  case MEAN: {
    pg_tensor *count = PG_STEP(k, with_self ? "ones_like" : "zeros_like", "t", c->in[0]);
    count = added(&p, count, PG_STEP(k, "ones_like", "t", p.src));
    gx = divided(&p, g, PG_STEP(k, "clamp_min", "tt", count, pg_chain_number(k, 1)));
    gs = gathered(&p, gx);
    break;
  }
  case PROD:
    product_slopes(&p, c, &gx, &gs);
    break;
  default: { /* shared evenly by all that equal it, as PyTorch does */
    pg_tensor *mine = equal(&p, c->in[0], c->out[0]);
    pg_tensor *theirs = equal(&p, p.src, gathered(&p, c->out[0]));
    pg_tensor *share = divided(&p, g, added(&p, mine, theirs));
    gx = mul(&p, mine, share);
    gs = mul(&p, theirs, gathered(&p, share));
  }
  }
  if (c->need[0]) pg_chain_give(k, with_self ? gx : marked(&p, gx, 0), &c->gin[0]);
  if (c->need[2]) {
    int64_t pad[2 * PG_MAX_DIMS] = {0};
    bool more = false;
    for (int d = 0; d < m->nd; d++) {
      pad[2 * (m->nd - 1 - d) + 1] = m->shape[d] - p.index->shape[d];
      more = more || m->shape[d] > p.index->shape[d];
    }
    if (more) gs = PG_STEP(k, "pad", "tl", gs, 2 * m->nd, pad);
    pg_chain_give(k, gs, &c->gin[2]);
  }
  return pg_chain_end(k);
}

const pg_op PG_AT(pg_ops_scatter_reduce)[] = {
    {"scatter_reduce",
     "input with src joined to it by sum, prod, mean, amax or amin where gather would read; "
     "without "
     "include_self what stood there does not count.",
     {PG_T("input"),
      PG_REQ("dim", PG_DIM),
      PG_TIDX("index"),
      PG_T("src"),
      {"reduce", PG_ENUM, 0, 0, "sum|prod|mean|amax|amin"},
      PG_DEF("include_self", PG_FLAG, 1)},
     PG_METHOD | PG_INPLACE,
     PG_SAVE_IN(0) | PG_SAVE_IN(1) | PG_SAVE_IN(2) | PG_SAVE_OUT(0),
     1,
     infer_scatter_reduce,
     {forward_scatter_reduce},
     backward_scatter_reduce},
    {0}};
