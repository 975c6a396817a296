/* Running results along a dim: cumsum, cumprod. Relies on reduction.h.
 * Spec: spec/ops/scan_spec.lua. */
#include "ops/reduction.h"

enum { BLOCK = 256 };

/* One line of n elements: y[i ys] = join of x[0], .., x[i xs]. A block of w <= BLOCK lines side by
 * side, w steps xw, yw apart. The running value is kept in A. */
typedef void (*scan_fn)(int64_t n, int64_t w, const void *x, int64_t xs, int64_t xw, void *y,
                        int64_t ys, int64_t yw);

#define SCAN(name, T, A, OP, START)                                                        \
  static void name(int64_t n, int64_t w, const void *px, int64_t xs, int64_t xw, void *py, \
                   int64_t ys, int64_t yw) {                                               \
    const T *restrict x = px;                                                              \
    T *restrict y = py;                                                                    \
    if (w == 1) {                                                                          \
      A a = START;                                                                         \
      for (int64_t i = 0; i < n; i++) {                                                    \
        a = a OP(A) x[i * xs];                                                             \
        y[i * ys] = (T)a;                                                                  \
      }                                                                                    \
      return;                                                                              \
    }                                                                                      \
    A t[BLOCK];                                                                            \
    for (int64_t j = 0; j < w; j++) t[j] = START;                                          \
    for (int64_t i = 0; i < n; i++, x += xs, y += ys)                                      \
      for (int64_t j = 0; j < w; j++) {                                                    \
        t[j] = t[j] OP(A) x[j * xw];                                                       \
        y[j * yw] = (T)t[j];                                                               \
      }                                                                                    \
  }
SCAN(sum_f32, float, double, +, 0)
SCAN(sum_f64, double, double, +, 0)
SCAN(sum_i64, int64_t, uint64_t, +, 0)
SCAN(prod_f32, float, double, *, 1)
SCAN(prod_f64, double, double, *, 1)
SCAN(prod_i64, int64_t, uint64_t, *, 1)

static const scan_fn sum_scan[PG_NDTYPES] = {
    [PG_F32] = sum_f32, [PG_F64] = sum_f64, [PG_I64] = sum_i64};
static const scan_fn prod_scan[PG_NDTYPES] = {
    [PG_F32] = prod_f32, [PG_F64] = prod_f64, [PG_I64] = prod_i64};

typedef struct scan_job {
  const fold_plan *p;
  scan_fn fn;
  int64_t n, xs, ys; /* along the dim; from its end where they are negative */
  int64_t block, blocks;
  const char *x;
  char *y;
} scan_job;

static void scan_units(void *arg, int64_t begin, int64_t end) {
  const scan_job *j = arg;
  const fold_plan *p = j->p;
  for (int64_t u = begin; u < end; u++) {
    int64_t run = u / j->blocks, j0 = u % j->blocks * j->block;
    int64_t at_x = fold_offset(run, 1, p->nk, p->ksize, p->kx) + j0 * p->kx[0];
    int64_t at_y = fold_offset(run, 1, p->nk, p->ksize, p->ko) + j0 * p->ko[0];
    j->fn(j->n, pg_min64(j->block, p->ksize[0] - j0), j->x + at_x * p->esize, j->xs, p->kx[0],
          j->y + at_y * p->esize, j->ys, p->ko[0]);
  }
}

/* y, x's shape: running results of x along dim, from its end where reverse. */
static void scan(pg_ctx *ctx, const scan_fn *fns, const pg_tensor *x, int dim, bool reverse,
                 pg_tensor *y) {
  if (!pg_numel(x)) return;
  fold_plan p;
  fold_plan_make(&p, x, x->nd ? 1u << dim : 0, y->stride);
  scan_job j = {.p = &p, .fn = fns[x->dtype], .n = x->nd ? x->shape[dim] : 1};
  j.xs = x->nd ? x->stride[dim] : 0;
  j.ys = x->nd ? y->stride[dim] : 0;
  j.x = p.x;
  j.y = pg_data(y);
  bool by_row = llabs(j.xs) < llabs(p.kx[0]) || !p.kx[0];
  j.block = by_row ? 1 : BLOCK;
  j.blocks = (p.ksize[0] + j.block - 1) / j.block;
  if (reverse) {
    j.x += (j.n - 1) * j.xs * p.esize;
    j.y += (j.n - 1) * j.ys * p.esize;
    j.xs = -j.xs;
    j.ys = -j.ys;
  }
  int64_t units = p.outputs / p.ksize[0] * j.blocks;
  pg_par_for(ctx, units, pg_grain(4 * j.n * pg_min64(j.block, p.ksize[0])), scan_units, &j);
}

/* arg: dim, dtype */
static pg_status infer_scan(pg_call *c) {
  pg_tensor *x = c->in[0];
  pg_dtype d = (pg_dtype)x->dtype;
  PG_TRY(pg_want(c, 0, PG_M_NUM | PG_M_BOOL));
  int dim;
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  if (c->arg[1].set) d = (pg_dtype)c->arg[1].i;
  else if (!pg_is_float(d)) d = PG_I64;
  if (!((PG_M_REAL | 1 << PG_I64) >> d & 1))
    return pg_fail(c->ctx, PG_EDTYPE,
                   "argument 'dtype': expected float32, float64 or int64, got %s",
                   pg_dtype_name(d));
  pg_cast_in(c, 0, d);
  return pg_out_like(c, 0, d, x);
}

static pg_status forward_cumsum(pg_call *c) {
  scan(c->ctx, sum_scan, c->in[0], reduction_dim(c, c->in[0]->nd), false, c->out[0]);
  return PG_OK;
}

static pg_status forward_cumsum_reverse(pg_call *c) {
  scan(c->ctx, sum_scan, c->in[0], reduction_dim(c, c->in[0]->nd), true, c->out[0]);
  return PG_OK;
}

static pg_status backward_cumsum(pg_call *c) {
  return pg_do(c->ctx, &c->gin[0], "cumsum_reverse", "ti", c->gout[0], c->arg[0].i);
}

static pg_status backward_cumsum_reverse(pg_call *c) {
  return pg_do(c->ctx, &c->gin[0], "cumsum", "ti", c->gout[0], c->arg[0].i);
}

static pg_status forward_cumprod(pg_call *c) {
  scan(c->ctx, prod_scan, c->in[0], reduction_dim(c, c->in[0]->nd), false, c->out[0]);
  return PG_OK;
}

/* gx[i] = sum over j >= i of g[j] * product of x[0..j] without x[i]; exact where one is zero: past
 * the first zero nothing changes the products, at it the sum runs without that factor. */
#define CUMPROD_GRAD(T)                                                                        \
  for (int64_t r = 0; r < rows; r++) {                                                         \
    const T *restrict x = (const T *)pg_data(xr) + r * n, *g = (const T *)pg_data(gr) + r * n; \
    T *restrict gx = (T *)pg_data(out) + r * n;                                                \
    int64_t z = 0;                                                                             \
    double left = 1, sum = 0;                                                                  \
    for (; z < n && x[z] != 0; z++) {                                                          \
      left *= (double)x[z];                                                                    \
      gx[z] = (T)left;                                                                         \
    }                                                                                          \
    double right = left;                                                                       \
    for (int64_t j = z; j < n; j++) {                                                          \
      if (j > z) right *= (double)x[j];                                                        \
      sum += (double)g[j] * right;                                                             \
      gx[j] = 0;                                                                               \
    }                                                                                          \
    if (z < n) gx[z] = (T)sum;                                                                 \
    sum = 0;                                                                                   \
    for (int64_t i = z - 1; i >= 0; i--) {                                                     \
      sum += (double)g[i] * (double)gx[i];                                                     \
      gx[i] = (T)(sum / (double)x[i]);                                                         \
    }                                                                                          \
  }

static pg_status backward_cumprod(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  if (c->recording) {
    pg_chain k = {.ctx = c->ctx};
    pg_tensor *t = PG_STEP(&k, "mul", "tt", c->gout[0], c->out[0]);
    t = PG_STEP(&k, "cumsum_reverse", "ti", t, c->arg[0].i);
    pg_chain_give(&k, PG_STEP(&k, "div", "tt", t, c->in[0]), &c->gin[0]);
    return pg_chain_end(&k);
  }
  unsigned mask = m->nd ? 1u << reduction_dim(c, m->nd) : 0;
  pg_tensor *xr = NULL, *gr = NULL, *out = NULL;
  pg_status s = reduction_rows(c->ctx, c->in[0], mask, &xr);
  if (s == PG_OK) s = reduction_rows(c->ctx, c->gout[0], mask, &gr);
  if (s == PG_OK) s = reduction_new_rows(c->ctx, m, mask, &out);
  if (s == PG_OK) {
    int64_t n = reduction_count(m, mask), rows = n ? pg_numel(xr) / n : 0;
    if (xr->dtype == PG_F32) CUMPROD_GRAD(float)
    else CUMPROD_GRAD(double)
    c->gin[0] = out;
  }
  pg_tensor_unref(gr);
  pg_tensor_unref(xr);
  return s;
}

#define DIM PG_REQ("dim", PG_DIM), PG_OPT("dtype", PG_DTYPE)

const pg_op PG_AT(pg_ops_scan)[] = {
    {"cumsum",
     "Running sum along dim: y[i] = x[1] + .. + x[i]; integers add up to int64.",
     {PG_T("input"), DIM},
     PG_METHOD,
     0,
     1,
     infer_scan,
     {forward_cumsum},
     backward_cumsum},
    {"cumsum_reverse",
     "Running sum along dim from its end: y[i] = x[i] + .. + x[n].",
     {PG_T("input"), DIM},
     PG_HIDDEN,
     0,
     1,
     infer_scan,
     {forward_cumsum_reverse},
     backward_cumsum_reverse},
    {"cumprod",
     "Running product along dim: y[i] = x[1] * .. * x[i].",
     {PG_T("input"), DIM},
     PG_METHOD,
     PG_SAVE_IN(0) | PG_SAVE_OUT(0),
     1,
     infer_scan,
     {forward_cumprod},
     backward_cumprod},
    {0}};
