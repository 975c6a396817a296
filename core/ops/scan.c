/* Running results along a dim: cumsum, cumprod, cummax, cummin, logcumsumexp. Relies on
 * reduction.h. Spec: spec/ops/scan_spec.lua. */
#include <math.h>

#include "ops/reduction.h"

enum { BLOCK = 256, LINES = 4 };

/* One line of n elements: y[i ys] = join of x[0], .., x[i xs]. A block of w <= BLOCK lines side by
 * side, w steps xw, yw apart. The running value is kept in A. LINES lines go together, so that one
 * need not wait for the sums of another. */
typedef void (*scan_fn)(int64_t n, int64_t w, const void *x, int64_t xs, int64_t xw, void *y,
                        int64_t ys, int64_t yw);

#define SCAN(name, T, A, OP, START)                                                        \
  static void name(int64_t n, int64_t w, const void *px, int64_t xs, int64_t xw, void *py, \
                   int64_t ys, int64_t yw) {                                               \
    const T *restrict x = px;                                                              \
    T *restrict y = py;                                                                    \
    if (w == LINES) {                                                                      \
      const T *restrict x1 = x + xw, *restrict x2 = x1 + xw, *restrict x3 = x2 + xw;       \
      T *restrict y1 = y + yw, *restrict y2 = y1 + yw, *restrict y3 = y2 + yw;             \
      A a0 = START, a1 = START, a2 = START, a3 = START;                                    \
      for (int64_t i = 0, ix = 0, iy = 0; i < n; i++, ix += xs, iy += ys) {                \
        a0 = a0 OP(A) x[ix];                                                               \
        y[iy] = (T)a0;                                                                     \
        a1 = a1 OP(A) x1[ix];                                                              \
        y1[iy] = (T)a1;                                                                    \
        a2 = a2 OP(A) x2[ix];                                                              \
        y2[iy] = (T)a2;                                                                    \
        a3 = a3 OP(A) x3[ix];                                                              \
        y3[iy] = (T)a3;                                                                    \
      }                                                                                    \
      return;                                                                              \
    }                                                                                      \
    if (w < LINES) {                                                                       \
      for (int64_t j = 0; j < w; j++, x += xw, y += yw) {                                  \
        A a = START;                                                                       \
        for (int64_t i = 0; i < n; i++) {                                                  \
          a = a OP(A) x[i * xs];                                                           \
          y[i * ys] = (T)a;                                                                \
        }                                                                                  \
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
  bool by_row;       /* a unit's lines in LINES runs, which are read side by side */
  int64_t block, blocks;
  const char *x;
  char *y;
} scan_job;

static void scan_units(void *arg, int64_t begin, int64_t end) {
  const scan_job *j = arg;
  const fold_plan *p = j->p;
  for (int64_t u = begin; u < end; u++) {
    int64_t run = u / j->blocks, j0 = u % j->blocks * j->block;
    int64_t w = pg_min64(j->block, p->ksize[0] - j0);
    const char *x = j->x + (fold_offset(run, 1, p->nk, p->ksize, p->kx) + j0 * p->kx[0]) * p->esize;
    char *y = j->y + (fold_offset(run, 1, p->nk, p->ksize, p->ko) + j0 * p->ko[0]) * p->esize;
    int64_t xw = p->kx[0], yw = p->ko[0], far = w / LINES, left = j->by_row ? w % LINES : w;
    for (int64_t i = 0; i < far && j->by_row; i++)
      j->fn(j->n, LINES, x + i * xw * p->esize, j->xs, far * xw, y + i * yw * p->esize, j->ys,
            far * yw);
    if (left)
      j->fn(j->n, left, x + (w - left) * xw * p->esize, j->xs, xw, y + (w - left) * yw * p->esize,
            j->ys, yw);
  }
}

/* How many lines of so many bytes lie between those that are read side by side: far enough for each
 * to be a stream of its own, and not by the size of a way of the cache. */
static int64_t lines_apart(int64_t bytes) {
  enum { FAR = 16896, WAY = 4096, EDGE = 512 };
  int64_t m = pg_max64(1, FAR / bytes);
  for (int i = 0; i < 16 && m * bytes % WAY + EDGE > WAY; i++) m++;
  for (int i = 0; i < 16 && m * bytes % WAY < EDGE; i++) m++;
  return m;
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
  j.by_row = llabs(j.xs) < llabs(p.kx[0]) || !p.kx[0];
  j.block = j.by_row ? LINES * lines_apart(j.n * p.esize) : BLOCK;
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

/* The gradient as ops where some products are zero: every product is made again without x[i], one
 * row for each i. */
static pg_status cumprod_slope(pg_call *c) {
  const int64_t dim = reduction_dim(c, c->meta[0].nd) + 1, last = -1, n = c->meta[0].shape[dim - 1];
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *x = PG_STEP(&k, "transpose", "tii", c->in[0], dim, last);
  pg_tensor *g = PG_STEP(&k, "transpose", "tii", c->gout[0], dim, last);
  pg_tensor *own = PG_STEP(&k, "eye", "iii", n, n, (int64_t)PG_BOOL);
  x = PG_STEP(&k, "unsqueeze", "ti", x, (int64_t)-2);
  x = PG_STEP(&k, "where", "ttt", own, pg_chain_number(&k, 1), x);
  x = PG_STEP(&k, "triu", "t", PG_STEP(&k, "cumprod", "ti", x, last));
  x = PG_STEP(&k, "mul", "tt", x, PG_STEP(&k, "unsqueeze", "ti", g, (int64_t)-2));
  x = PG_STEP(&k, "sum", "tl", x, 1, &last);
  pg_chain_give(&k, PG_STEP(&k, "transpose", "tii", x, dim, last), &c->gin[0]);
  return pg_chain_end(&k);
}

static pg_status backward_cumprod(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  if (c->recording && m->nd == 0) {
    c->gin[0] = pg_tensor_ref(c->gout[0]);
    return PG_OK;
  }
  if (c->recording && reduction_has_zero(c->out[0])) return cumprod_slope(c);
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

/* --- one line after another: cummax, cummin, logcumsumexp --------------------------------------
 */
/* A line of n elements: x, out[0] and out[1], each with its step. */
typedef void (*line_fn)(int64_t n, const void *x, int64_t xs, void *y, int64_t ys, void *z,
                        int64_t zs);

/* The largest (smallest) element so far and where the last such one stands; NaN wins. */
#define EXTREME(name, T, OP, IS_NAN)                                                      \
  static void name(int64_t n, const void *px, int64_t xs, void *py, int64_t ys, void *pz, \
                   int64_t zs) {                                                          \
    const T *x = px;                                                                      \
    T *y = py, best = *x;                                                                 \
    int64_t *z = pz, at = 1;                                                              \
    for (int64_t i = 0; i < n; i++) {                                                     \
      T v = x[i * xs];                                                                    \
      if (IS_NAN(v) || (!IS_NAN(best) && v OP best)) {                                    \
        best = v;                                                                         \
        at = i + 1;                                                                       \
      }                                                                                   \
      y[i * ys] = best;                                                                   \
      z[i * zs] = at;                                                                     \
    }                                                                                     \
  }
#define UNEQUAL(v) ((v) != (v))
#define NEVER(v)   ((void)(v), false)
EXTREME(max_f32, float, >=, UNEQUAL)
EXTREME(max_f64, double, >=, UNEQUAL)
EXTREME(max_i64, int64_t, >=, NEVER)
EXTREME(max_u8, uint8_t, >=, NEVER)
EXTREME(min_f32, float, <=, UNEQUAL)
EXTREME(min_f64, double, <=, UNEQUAL)
EXTREME(min_i64, int64_t, <=, NEVER)
EXTREME(min_u8, uint8_t, <=, NEVER)

static const line_fn max_line[PG_NDTYPES] = {[PG_F32] = max_f32,
                                             [PG_F64] = max_f64,
                                             [PG_I64] = max_i64,
                                             [PG_U8] = max_u8,
                                             [PG_BOOL] = max_u8};
static const line_fn min_line[PG_NDTYPES] = {[PG_F32] = min_f32,
                                             [PG_F64] = min_f64,
                                             [PG_I64] = min_i64,
                                             [PG_U8] = min_u8,
                                             [PG_BOOL] = min_u8};

/* y[i] = log(exp(x[0]) + .. + exp(x[i])) by the largest element so far and the sum of what the
 * others are to it. */
#define LOG_SUM(name, T)                                                                  \
  static void name(int64_t n, const void *px, int64_t xs, void *py, int64_t ys, void *pz, \
                   int64_t zs) {                                                          \
    const T *x = px;                                                                      \
    T *y = py;                                                                            \
    double most = -INFINITY, sum = 0;                                                     \
    (void)pz;                                                                             \
    (void)zs;                                                                             \
    for (int64_t i = 0; i < n; i++) {                                                     \
      double v = (double)x[i * xs];                                                       \
      if (v > most) {                                                                     \
        sum = sum * exp(most - v) + 1;                                                    \
        most = v;                                                                         \
      } else {                                                                            \
        sum += v == most ? 1 : exp(v - most);                                             \
      }                                                                                   \
      y[i * ys] = (T)(most + log(sum));                                                   \
    }                                                                                     \
  }
LOG_SUM(log_sum_f32, float)
LOG_SUM(log_sum_f64, double)
static const line_fn log_sum_line[PG_NDTYPES] = {[PG_F32] = log_sum_f32, [PG_F64] = log_sum_f64};

typedef struct line_job {
  const fold_plan *p;
  line_fn fn;
  int64_t n, xs, ys, zs, zsize;
  const char *x;
  char *y, *z;
} line_job;

static void line_units(void *arg, int64_t begin, int64_t end) {
  const line_job *j = arg;
  const fold_plan *p = j->p;
  for (int64_t u = begin; u < end; u++) {
    int64_t at = fold_offset(u, 0, p->nk, p->ksize, p->ko);
    j->fn(j->n, j->x + fold_offset(u, 0, p->nk, p->ksize, p->kx) * p->esize, j->xs,
          j->y + at * p->esize, j->ys, j->z ? j->z + at * (int64_t)sizeof(int64_t) : NULL, j->zs);
  }
}

/* Runs fns over the lines of in[0] along dim; out[0] and out[1] lie alike. */
static pg_status lines(pg_call *c, const line_fn *fns) {
  const pg_tensor *x = c->in[0];
  pg_tensor *y = c->out[0], *z = c->nout > 1 ? c->out[1] : NULL;
  if (!pg_numel(x)) return PG_OK;
  fold_plan p;
  int dim = reduction_dim(c, x->nd);
  fold_plan_make(&p, x, x->nd ? 1u << dim : 0, y->stride);
  line_job j = {.p = &p, .fn = fns[x->dtype], .n = x->nd ? x->shape[dim] : 1, .x = p.x};
  j.xs = x->nd ? x->stride[dim] : 0;
  j.ys = x->nd ? y->stride[dim] : 0;
  j.zs = j.ys;
  j.y = pg_data(y);
  j.z = z ? pg_data(z) : NULL;
  pg_par_for(c->ctx, p.outputs, pg_grain(8 * j.n), line_units, &j);
  return PG_OK;
}

static pg_status infer_extreme(pg_call *c) {
  pg_tensor *x = c->in[0];
  int dim;
  PG_TRY(pg_want(c, 0, PG_M_NUM | PG_M_BOOL));
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  PG_TRY(pg_out_like(c, 0, (pg_dtype)x->dtype, x));
  return pg_out_like(c, 1, PG_I64, x);
}
static pg_status forward_cummax(pg_call *c) { return lines(c, max_line); }
static pg_status forward_cummin(pg_call *c) { return lines(c, min_line); }

/* g is added where each value came from. */
static pg_status backward_extreme(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  pg_tensor *zeros;
  if (!c->gout[0]) return PG_OK;
  PG_TRY(pg_tensor_zeros(c->ctx, (pg_dtype)m->dtype, m->nd, m->shape, &zeros));
  pg_status s =
      pg_do(c->ctx, &c->gin[0], "scatter_add", "titt", zeros, c->arg[0].i, c->out[1], c->gout[0]);
  pg_tensor_unref(zeros);
  return s;
}

static pg_status infer_logcumsumexp(pg_call *c) {
  int dim;
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  PG_TRY(pg_arg_dim(c, 0, c->in[0]->nd, &dim));
  return pg_out_like(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0]);
}
static pg_status forward_logcumsumexp(pg_call *c) { return lines(c, log_sum_line); }

/* gx[i] = t[i] exp(x[i] - y[i]), t[i] = g[i] + t[i + 1] exp(y[i] - y[i + 1]): no factor exceeds 1.
 */
#define LOG_SUM_GRAD(T)                                                                       \
  for (int64_t r = 0; r < rows; r++) {                                                        \
    const T *x = (const T *)pg_data(row[0]) + r * n, *y = (const T *)pg_data(row[1]) + r * n; \
    const T *g = (const T *)pg_data(row[2]) + r * n;                                          \
    T *gx = (T *)pg_data(out) + r * n;                                                        \
    double t = 0;                                                                             \
    for (int64_t i = n - 1; i >= 0; i--) {                                                    \
      if (i < n - 1 && y[i] != y[i + 1]) t *= exp((double)y[i] - (double)y[i + 1]);           \
      t += (double)g[i];                                                                      \
      gx[i] = (T)(t * (x[i] == y[i] ? 1 : exp((double)x[i] - (double)y[i])));                 \
    }                                                                                         \
  }

/* Step: log(exp(..) + ..) of the elements from each one to the end of dim. */
static pg_tensor *log_sum_back(pg_chain *k, pg_tensor *t, int64_t dim) {
  t = PG_STEP(k, "flip", "tl", t, 1, &dim);
  t = PG_STEP(k, "logcumsumexp", "ti", t, dim);
  return PG_STEP(k, "flip", "tl", t, 1, &dim);
}

static pg_status backward_logcumsumexp(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  if (c->recording) { /* the gradient's positive and negative parts, by their logarithms */
    pg_chain k = {.ctx = c->ctx};
    pg_tensor *g = c->gout[0], *part[2], *zero = pg_chain_number(&k, 0);
    pg_tensor *log_g = PG_STEP(&k, "log", "t", PG_STEP(&k, "abs", "t", g));
    pg_tensor *none = pg_chain_number(&k, -INFINITY);
    for (int i = 0; i < 2; i++) {
      pg_tensor *on = PG_STEP(&k, i ? "lt" : "gt", "tt", g, zero);
      pg_tensor *t = PG_STEP(&k, "where", "ttt", on, log_g, none);
      t = log_sum_back(&k, PG_STEP(&k, "sub", "tt", t, c->out[0]), c->arg[0].i);
      part[i] = PG_STEP(&k, "exp", "t", PG_STEP(&k, "add", "tt", t, c->in[0]));
    }
    pg_chain_give(&k, PG_STEP(&k, "sub", "tt", part[0], part[1]), &c->gin[0]);
    return pg_chain_end(&k);
  }
  unsigned mask = m->nd ? 1u << reduction_dim(c, m->nd) : 0;
  pg_tensor *row[3] = {NULL}, *out = NULL, *from[3] = {c->in[0], c->out[0], c->gout[0]};
  pg_status s = PG_OK;
  for (int i = 0; i < 3 && s == PG_OK; i++) s = reduction_rows(c->ctx, from[i], mask, &row[i]);
  if (s == PG_OK) s = reduction_new_rows(c->ctx, m, mask, &out);
  if (s == PG_OK) {
    int64_t n = reduction_count(m, mask), rows = n ? pg_numel(row[0]) / n : 0;
    if (row[0]->dtype == PG_F32) LOG_SUM_GRAD(float)
    else LOG_SUM_GRAD(double)
    c->gin[0] = out;
  }
  for (int i = 0; i < 3; i++) pg_tensor_unref(row[i]);
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
    {"cummax",
     "The largest element so far along dim, and where it stands; of equal ones the last.",
     {PG_T("input"), PG_REQ("dim", PG_DIM)},
     PG_METHOD,
     PG_SAVE_OUT(1),
     2,
     infer_extreme,
     {forward_cummax},
     backward_extreme},
    {"cummin",
     "The smallest element so far along dim, and where it stands; of equal ones the last.",
     {PG_T("input"), PG_REQ("dim", PG_DIM)},
     PG_METHOD,
     PG_SAVE_OUT(1),
     2,
     infer_extreme,
     {forward_cummin},
     backward_extreme},
    {"logcumsumexp",
     "y[i] = log(exp(x[1]) + .. + exp(x[i])) along dim.",
     {PG_T("input"), PG_REQ("dim", PG_DIM)},
     PG_METHOD,
     PG_SAVE_IN(0) | PG_SAVE_OUT(0),
     1,
     infer_logcumsumexp,
     {forward_logcumsumexp},
     backward_logcumsumexp},
    {0}};
