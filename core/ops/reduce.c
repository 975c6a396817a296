/* Reductions over any dims: sum, mean, prod, amax, amin, any, all, count_nonzero, norm, logsumexp,
 * var, std, var_mean. Relies on reduction.h. Spec: spec/ops/reduce_spec.lua. */
#if defined(__AVX512F__) && !defined(__clang__)
#pragma GCC target("prefer-vector-width=256") /* loads from the last cache are faster so */
#endif
#include <math.h>

#include "kernels/vmath.h"
#include "ops/reduction.h"

/* --- kernels ---------------------------------------------------------------------------------- */

#define MAP_F32(v, k)  (v)
#define MAP_F64(v, k)  ((double)(v))
#define MAP_U64(v, k)  ((uint64_t)(v))
#define MAP_U32(v, k)  ((uint32_t)(v))
#define MAP_I64(v, k)  (v)
#define MAP_U8(v, k)   (v)
#define MAP_ANY(v, k)  ((uint32_t)((v) != 0))
#define MAP_ABSF(v, k) fabsf(v)
#define MAP_ABS(v, k)  fabs(v)
#define MAP_SQ(v, k)   ((v) * (v))
#define MAP_VAR(v, k)  (((v) - (k)) * ((v) - (k)))
#define MAP_EXPF(v, k) pg_exp_f32((v) - (k))
#define MAP_EXP(v, k)  pg_exp_f64((v) - (k))

FOLD_KERNELS(sum_f32, float, float, double, f, MAP_F32, fold_add_f32, fold_add_f64, 0, 2)
FOLD_KERNELS(sum_f64, double, double, double, f, MAP_F64, fold_add_f64, fold_add_f64, 0, 2)
FOLD_KERNELS(sum_i64, int64_t, uint64_t, uint64_t, u, MAP_U64, fold_add_u64, fold_add_u64, 0, 2)
FOLD_KERNELS(sum_u8, uint8_t, uint32_t, uint64_t, u, MAP_U32, fold_add_u32, fold_add_u64, 0, 2)
FOLD_KERNELS(prod_f32, float, double, double, f, MAP_F64, fold_mul_f64, fold_mul_f64, 0, 2)
FOLD_KERNELS(prod_f64, double, double, double, f, MAP_F64, fold_mul_f64, fold_mul_f64, 0, 2)
FOLD_KERNELS(prod_i64, int64_t, uint64_t, uint64_t, u, MAP_U64, fold_mul_u64, fold_mul_u64, 0, 2)
FOLD_KERNELS(prod_u8, uint8_t, uint64_t, uint64_t, u, MAP_U64, fold_mul_u64, fold_mul_u64, 0, 2)
FOLD_KERNELS(max_f32, float, float, double, f, MAP_F32, fold_max_f32, fold_max_f64, 0, 0)
FOLD_KERNELS(max_f64, double, double, double, f, MAP_F64, fold_max_f64, fold_max_f64, 0, 0)
FOLD_KERNELS(max_i64, int64_t, int64_t, int64_t, i, MAP_I64, fold_max_i64, fold_max_i64, 0, 2)
FOLD_KERNELS(max_u8, uint8_t, uint8_t, int64_t, i, MAP_U8, fold_max_u8, fold_max_i64, 0, 2)
FOLD_KERNELS(min_f32, float, float, double, f, MAP_F32, fold_min_f32, fold_min_f64, 0, 0)
FOLD_KERNELS(min_f64, double, double, double, f, MAP_F64, fold_min_f64, fold_min_f64, 0, 0)
FOLD_KERNELS(min_i64, int64_t, int64_t, int64_t, i, MAP_I64, fold_min_i64, fold_min_i64, 0, 2)
FOLD_KERNELS(min_u8, uint8_t, uint8_t, int64_t, i, MAP_U8, fold_min_u8, fold_min_i64, 0, 2)
FOLD_KERNELS(any_f32, float, uint32_t, uint64_t, u, MAP_ANY, fold_max_u32, fold_max_u64, 0, 2)
FOLD_KERNELS(any_f64, double, uint32_t, uint64_t, u, MAP_ANY, fold_max_u32, fold_max_u64, 0, 2)
FOLD_KERNELS(any_i64, int64_t, uint32_t, uint64_t, u, MAP_ANY, fold_max_u32, fold_max_u64, 0, 2)
FOLD_KERNELS(any_u8, uint8_t, uint32_t, uint64_t, u, MAP_ANY, fold_max_u32, fold_max_u64, 0, 2)
FOLD_KERNELS(all_f32, float, uint32_t, uint64_t, u, MAP_ANY, fold_min_u32, fold_min_u64, 0, 2)
FOLD_KERNELS(all_f64, double, uint32_t, uint64_t, u, MAP_ANY, fold_min_u32, fold_min_u64, 0, 2)
FOLD_KERNELS(all_i64, int64_t, uint32_t, uint64_t, u, MAP_ANY, fold_min_u32, fold_min_u64, 0, 2)
FOLD_KERNELS(all_u8, uint8_t, uint32_t, uint64_t, u, MAP_ANY, fold_min_u32, fold_min_u64, 0, 2)
FOLD_KERNELS(count_f32, float, uint32_t, uint64_t, u, MAP_ANY, fold_add_u32, fold_add_u64, 0, 2)
FOLD_KERNELS(count_f64, double, uint32_t, uint64_t, u, MAP_ANY, fold_add_u32, fold_add_u64, 0, 2)
FOLD_KERNELS(count_i64, int64_t, uint32_t, uint64_t, u, MAP_ANY, fold_add_u32, fold_add_u64, 0, 2)
FOLD_KERNELS(count_u8, uint8_t, uint32_t, uint64_t, u, MAP_ANY, fold_add_u32, fold_add_u64, 0, 2)
FOLD_KERNELS(abs_f32, float, float, double, f, MAP_ABSF, fold_add_f32, fold_add_f64, 0, 2)
FOLD_KERNELS(abs_f64, double, double, double, f, MAP_ABS, fold_add_f64, fold_add_f64, 0, 2)
FOLD_KERNELS(sq_f32, float, float, double, f, MAP_SQ, fold_add_f32, fold_add_f64, 0, 2)
FOLD_KERNELS(sq_f64, double, double, double, f, MAP_SQ, fold_add_f64, fold_add_f64, 0, 2)
FOLD_KERNELS(absmax_f32, float, float, double, f, MAP_ABSF, fold_max_f32, fold_max_f64, 0, 0)
FOLD_KERNELS(absmax_f64, double, double, double, f, MAP_ABS, fold_max_f64, fold_max_f64, 0, 0)
FOLD_KERNELS(absmin_f32, float, float, double, f, MAP_ABSF, fold_min_f32, fold_min_f64, 0, 0)
FOLD_KERNELS(absmin_f64, double, double, double, f, MAP_ABS, fold_min_f64, fold_min_f64, 0, 0)
FOLD_KERNELS(var_f32, float, float, double, f, MAP_VAR, fold_add_f32, fold_add_f64, 1, 2)
FOLD_KERNELS(var_f64, double, double, double, f, MAP_VAR, fold_add_f64, fold_add_f64, 1, 2)
FOLD_KERNELS(exp_f32, float, float, double, f, MAP_EXPF, fold_add_f32, fold_add_f64, 1, 1)
FOLD_KERNELS(exp_f64, double, double, double, f, MAP_EXP, fold_add_f64, fold_add_f64, 1, 1)

FOLD_JOIN(add_f, f, fold_add_f64)
FOLD_JOIN(mul_f, f, fold_mul_f64)
FOLD_JOIN(max_f, f, fold_max_f64)
FOLD_JOIN(min_f, f, fold_min_f64)
FOLD_JOIN(add_u, u, fold_add_u64)
FOLD_JOIN(mul_u, u, fold_mul_u64)
FOLD_JOIN(max_u, u, fold_max_u64)
FOLD_JOIN(min_u, u, fold_min_u64)
FOLD_JOIN(max_i, i, fold_max_i64)
FOLD_JOIN(min_i, i, fold_min_i64)

/* KERN(sum, f32, add_f, .f = 0) ->
 * {sum_f32_row, sum_f32_rows, sum_f32_col, add_f_join, {.f = 0}} */
#define KERN(name, dtype, join, ...) \
  { name##_##dtype##_row, name##_##dtype##_rows, name##_##dtype##_col, join##_join, {__VA_ARGS__}, }
#define KERNS(name, jf, sf, ji, ...)                                                             \
  static const fold_kern name##_kern[PG_NDTYPES] = {[PG_F32] = KERN(name, f32, jf, sf),          \
                                                    [PG_F64] = KERN(name, f64, jf, sf),          \
                                                    [PG_I64] = KERN(name, i64, ji, __VA_ARGS__), \
                                                    [PG_U8] = KERN(name, u8, ji, __VA_ARGS__),   \
                                                    [PG_BOOL] = KERN(name, u8, ji, __VA_ARGS__)};
#define KERNS_REAL(name, join, ...)                                                                \
  static const fold_kern name##_kern[PG_NDTYPES] = {[PG_F32] = KERN(name, f32, join, __VA_ARGS__), \
                                                    [PG_F64] =                                     \
                                                        KERN(name, f64, join, __VA_ARGS__)};

KERNS(sum, add_f, .f = 0, add_u, .u = 0)
KERNS(prod, mul_f, .f = 1, mul_u, .u = 1)
KERNS(max, max_f, .f = -INFINITY, max_i, .i = INT64_MIN)
KERNS(min, min_f, .f = INFINITY, min_i, .i = INT64_MAX)
KERNS(any, max_u, .u = 0, max_u, .u = 0)
KERNS(all, min_u, .u = 1, min_u, .u = 1)
KERNS(count, add_u, .u = 0, add_u, .u = 0)
KERNS_REAL(abs, add_f, .f = 0)
KERNS_REAL(sq, add_f, .f = 0)
KERNS_REAL(absmax, max_f, .f = -INFINITY)
KERNS_REAL(absmin, min_f, .f = INFINITY)
KERNS_REAL(var, add_f, .f = 0)
KERNS_REAL(exp, add_f, .f = 0)

/* --- shared ----------------------------------------------------------------------------------- */

typedef void (*finish_fn)(const reduction *r, int64_t first, int64_t n, fold_acc *acc);

/* One walk of r's plan. */
static pg_status fold_once(pg_ctx *ctx, reduction *r, const fold_kern *k) {
  return fold_run(ctx, &r->plan, 1, &(fold_stage){k, reduction_put}, NULL, r);
}

/* out[0] = finish(fold of in[0] over the dims in arg 0). */
static pg_status run_fold(pg_call *c, const fold_kern *kerns, finish_fn finish) {
  const pg_tensor *x = c->in[0];
  reduction r = reduction_plan(x, reduction_mask(c, x->nd), c->out[0]);
  r.finish = finish;
  return fold_once(c->ctx, &r, &kerns[x->dtype]);
}

static void finish_mean(const reduction *r, int64_t first, int64_t n, fold_acc *acc) {
  const double count = (double)r->plan.count, part = 1 / count;
  (void)first;
  if (r->out->dtype == PG_F32)
    for (int64_t i = 0; i < n; i++) acc[i].f *= part;
  else
    for (int64_t i = 0; i < n; i++) acc[i].f /= count;
}
static void finish_sqrt(const reduction *r, int64_t first, int64_t n, fold_acc *acc) {
  (void)r, (void)first;
  for (int64_t i = 0; i < n; i++) acc[i].f = sqrt(acc[i].f);
}
static void finish_count(const reduction *r, int64_t first, int64_t n, fold_acc *acc) {
  (void)r, (void)first;
  for (int64_t i = 0; i < n; i++) acc[i].f = (double)acc[i].u;
}
static void finish_root(const reduction *r, int64_t first, int64_t n, fold_acc *acc) {
  (void)first;
  for (int64_t i = 0; i < n; i++) acc[i].f = pow(acc[i].f, 1 / r->number);
}

/* gin[0] = g (owned, freed here) over in[0]'s shape. */
static pg_status give_spread(pg_call *c, pg_tensor *g, unsigned mask) {
  pg_status s = reduction_widen(c, g, mask, true, &c->gin[0]);
  pg_tensor_unref(g);
  return s;
}

/* --- sum, mean -------------------------------------------------------------------------------- */

/* arg: dim, keepdim, dtype */
static pg_status infer_sum(pg_call *c) {
  pg_dtype d = (pg_dtype)c->in[0]->dtype;
  if (c->arg[2].set) {
    d = (pg_dtype)c->arg[2].i;
    if (!((PG_M_NUM | PG_M_BOOL) >> d & 1))
      return pg_bad_arg(c, PG_EDTYPE, 2, "a dtype that sums have");
    pg_cast_in(c, 0, d);
  } else {
    PG_TRY(pg_want(c, 0, PG_M_NUM | PG_M_BOOL));
  }
  return reduction_infer(c, 1, pg_is_float(d) ? d : PG_I64, 1);
}

static pg_status forward_sum(pg_call *c) { return run_fold(c, sum_kern, NULL); }

static pg_status backward_sum(pg_call *c) {
  return give_spread(c, pg_tensor_ref(c->gout[0]), reduction_mask(c, c->meta[0].nd));
}

static pg_status infer_mean(pg_call *c) {
  pg_dtype d = (pg_dtype)c->in[0]->dtype;
  if (c->arg[2].set) {
    d = (pg_dtype)c->arg[2].i;
    if (!(PG_M_REAL >> d & 1))
      return pg_fail(c->ctx, PG_EDTYPE, "argument 'dtype': expected float32 or float64, got %s",
                     pg_dtype_name(d));
    pg_cast_in(c, 0, d);
  } else {
    PG_TRY(pg_want(c, 0, PG_M_REAL));
  }
  return reduction_infer(c, 1, d, 1);
}

static pg_status forward_mean(pg_call *c) { return run_fold(c, sum_kern, finish_mean); }

static pg_status backward_mean(pg_call *c) {
  unsigned mask = reduction_mask(c, c->meta[0].nd);
  double n = (double)reduction_count(&c->meta[0], mask);
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *g = PG_STEP(&k, "div", "tt", c->gout[0], pg_chain_number(&k, n)), *own = NULL;
  pg_chain_give(&k, g, &own);
  pg_status s = pg_chain_end(&k);
  return s == PG_OK ? give_spread(c, own, mask) : s;
}

/* --- prod ------------------------------------------------------------------------------------- */

static pg_status forward_prod(pg_call *c) { return run_fold(c, prod_kern, NULL); }

/* Row r: gx[i] = g y / x[i] where no x of any row is 0, else g times the product of all x but x[i].
 */
#define PROD_GRAD(T)                                                                               \
  {                                                                                                \
    const T *all = pg_data(xr);                                                                    \
    int64_t zeros = 0;                                                                             \
    for (int64_t i = 0; i < rows * n; i++) zeros += all[i] == 0;                                   \
    for (int64_t r = 0; r < rows; r++) {                                                           \
      const T *restrict x = all + r * n;                                                           \
      T *restrict gx = (T *)pg_data(gr) + r * n;                                                   \
      const T gy = ((const T *)pg_data(g))[r], y = ((const T *)pg_data(yr))[r];                    \
      double left = (double)gy, right = 1;                                                         \
      if (!zeros || zeros >= most) {                                                               \
        for (int64_t i = 0; i < n; i++) gx[i] = zeros ? 0 : gy * (y / x[i]);                       \
        continue;                                                                                  \
      }                                                                                            \
      for (int64_t i = 0; i < n; left *= (double)x[i++]) gx[i] = (T)left;                          \
      for (int64_t i = n - 1; i >= 0; right *= (double)x[i--]) gx[i] = (T)((double)gx[i] * right); \
    }                                                                                              \
  }

/* The step's result: for rows of x [rows x n], the product of all before (after) each element. */
static pg_tensor *products_before(pg_chain *k, pg_tensor *x, bool after) {
  const int64_t last = -1;
  if (after) x = PG_STEP(k, "flip", "tl", x, 1, &last);
  if (x) x = PG_STEP(k, "narrow", "tiii", x, last, (int64_t)1, x->shape[1] - 1);
  x = PG_STEP(k, "pad", "tlsf", x, 2, (int64_t[]){1, 0}, "constant", 1.0);
  x = PG_STEP(k, "cumprod", "ti", x, last);
  return after ? PG_STEP(k, "flip", "tl", x, 1, &last) : x;
}

/* The gradient as ops, exact where some elements are zero: in rows, then back. wide: g over x. */
static pg_tensor *prod_slope(pg_call *c, pg_chain *k, unsigned mask, pg_tensor *wide) {
  const pg_meta *m = &c->meta[0];
  int64_t order[PG_MAX_DIMS], back[PG_MAX_DIMS], shape[PG_MAX_DIMS], rows[2] = {1, 1};
  int n = 0;
  for (int reduced = 0; reduced < 2; reduced++)
    for (int d = 0; d < m->nd; d++) {
      if ((int)(mask >> d & 1) != reduced) continue;
      rows[reduced] *= m->shape[d];
      shape[n] = m->shape[d];
      back[d] = n + 1;
      order[n++] = d + 1;
    }
  pg_tensor *x = PG_STEP(k, "permute", "tl", c->in[0], n, order);
  x = PG_STEP(k, "reshape", "tl", x, 2, rows);
  x = PG_STEP(k, "mul", "tt", products_before(k, x, false), products_before(k, x, true));
  x = PG_STEP(k, "reshape", "tl", x, n, shape);
  return PG_STEP(k, "mul", "tt", PG_STEP(k, "permute", "tl", x, n, back), wide);
}

static pg_status backward_prod(pg_call *c) {
  unsigned mask = reduction_mask(c, c->meta[0].nd);
  pg_tensor *xr = NULL, *g = NULL, *gr = NULL, *yr = NULL;
  if (c->recording && reduction_has_zero(c->out[0])) {
    pg_chain k = {.ctx = c->ctx};
    pg_tensor *wide = NULL;
    k.status = reduction_widen(c, c->gout[0], mask, false, &wide);
    pg_chain_give(&k, prod_slope(c, &k, mask, wide), &c->gin[0]);
    pg_tensor_unref(wide);
    return pg_chain_end(&k);
  }
  if (c->recording) {
    pg_chain k = {.ctx = c->ctx};
    pg_tensor *t = PG_STEP(&k, "mul", "tt", c->gout[0], c->out[0]), *wide = NULL;
    if (t) k.status = reduction_widen(c, t, mask, false, &wide);
    pg_chain_give(&k, PG_STEP(&k, "div", "tt", wide, c->in[0]), &c->gin[0]);
    pg_tensor_unref(wide);
    return pg_chain_end(&k);
  }
  pg_status s = reduction_rows(c->ctx, c->in[0], mask, &xr);
  if (s == PG_OK) s = pg__contiguous(c->ctx, c->gout[0], &g);
  if (s == PG_OK) s = pg__contiguous(c->ctx, c->out[0], &yr);
  if (s == PG_OK) s = reduction_new_rows(c->ctx, &c->meta[0], mask, &gr);
  if (s == PG_OK) {
    int64_t rows = pg_numel(g), n = reduction_count(&c->meta[0], mask);
    int64_t most = c->arg[0].set ? INT64_MAX : 2; /* so many zeros of all leave nothing */
    if (xr->dtype == PG_F32) PROD_GRAD(float)
    else PROD_GRAD(double)
    c->gin[0] = gr;
    gr = NULL;
  }
  pg_tensor_unref(gr);
  pg_tensor_unref(yr);
  pg_tensor_unref(g);
  pg_tensor_unref(xr);
  return s;
}

/* --- amax, amin ------------------------------------------------------------------------------- */

/* arg: dim, keepdim */
static pg_status infer_extreme(pg_call *c) {
  unsigned mask;
  PG_TRY(pg_want(c, 0, PG_M_NUM | PG_M_BOOL));
  PG_TRY(pg_arg_dims(c, 0, c->in[0]->nd, &mask));
  PG_TRY(reduction_not_empty(c, mask));
  return reduction_out(c, 0, (pg_dtype)c->in[0]->dtype, mask, c->arg[1].i != 0);
}

static pg_status forward_amax(pg_call *c) { return run_fold(c, max_kern, NULL); }
static pg_status forward_amin(pg_call *c) { return run_fold(c, min_kern, NULL); }

static pg_status backward_extreme(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  reduction_share(c, &k, c->in[0], c->out[0], c->gout[0], reduction_mask(c, c->meta[0].nd),
                  SHARE_EQUAL);
  return pg_chain_end(&k);
}

/* --- any, all, count_nonzero ------------------------------------------------------------------ */

static pg_status infer_truth(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_NUM | PG_M_BOOL));
  return reduction_infer(c, 1, c->in[0]->dtype == PG_U8 ? PG_U8 : PG_BOOL, 1);
}

static pg_status infer_count(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_NUM | PG_M_BOOL));
  unsigned mask;
  PG_TRY(pg_arg_dims(c, 0, c->in[0]->nd, &mask));
  return reduction_out(c, 0, PG_I64, mask, false);
}

static pg_status forward_any(pg_call *c) { return run_fold(c, any_kern, NULL); }
static pg_status forward_all(pg_call *c) { return run_fold(c, all_kern, NULL); }
static pg_status forward_count(pg_call *c) { return run_fold(c, count_kern, NULL); }

/* --- var, std --------------------------------------------------------------------------------- */

/* arg: dim, unbiased, keepdim, correction */
static double correction_of(const pg_call *c) {
  if (c->arg[3].set) return c->arg[3].f;
  return c->arg[1].set && !c->arg[1].i ? 0 : 1;
}

static pg_status infer_var(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  if (c->arg[1].set && c->arg[3].set) return pg_bad_arg(c, PG_EARG, 3, "nothing beside 'unbiased'");
  return reduction_infer(c, c->op->nout, (pg_dtype)c->in[0]->dtype, 2);
}

/* The first of two walks: shift = mean. */
static void put_mean(void *to, int64_t first, int64_t n, fold_acc *acc) {
  const reduction *r = to;
  finish_mean(r, first, n, acc);
  for (int64_t i = 0; i < n; i++) r->shift[first + i] = acc[i].f;
  if (r->mean) reduction_store(&r->plan, r->mean, first, n, acc);
}

/* acc: the squares around shift (around its nearest float32, and corrected). */
static void finish_var(const reduction *r, int64_t first, int64_t n, fold_acc *acc) {
  const bool single = r->out->dtype == PG_F32;
  const double count = (double)r->plan.count, left = r->number > 0 ? r->number : 0;
  const double *center = r->shift + first;
  for (int64_t i = 0; i < n; i++) {
    double off = single ? center[i] - (double)(float)center[i] : 0;
    acc[i].f = (acc[i].f - count * off * off) / left;
  }
}
static void finish_std(const reduction *r, int64_t first, int64_t n, fold_acc *acc) {
  finish_var(r, first, n, acc);
  finish_sqrt(r, first, n, acc);
}

/* Two walks, the second around what the first one found for each output. */
static pg_status fold_twice(pg_ctx *ctx, reduction *r, const fold_stage *stage) {
  size_t bytes = sizeof *r->shift * (size_t)r->plan.outputs;
  PG_TRY(pg_alloc(ctx, bytes, (void **)&r->shift));
  pg_status s = fold_run(ctx, &r->plan, 2, stage, r->shift, r);
  pg_free(ctx, r->shift, bytes);
  return s;
}

static pg_status spread_of(pg_call *c, finish_fn finish, pg_tensor *mean) {
  const pg_tensor *x = c->in[0];
  reduction r = reduction_plan(x, reduction_mask(c, x->nd), c->out[0]);
  r.finish = finish;
  r.number = (double)r.plan.count - correction_of(c);
  r.mean = mean;
  const fold_stage stage[] = {{&sum_kern[x->dtype], put_mean},
                              {&var_kern[x->dtype], reduction_put}};
  return fold_twice(c->ctx, &r, stage);
}

static pg_status forward_var(pg_call *c) { return spread_of(c, finish_var, NULL); }
static pg_status forward_std(pg_call *c) { return spread_of(c, finish_std, NULL); }
static pg_status forward_var_mean(pg_call *c) { return spread_of(c, finish_var, c->out[1]); }
static pg_status forward_std_mean(pg_call *c) { return spread_of(c, finish_std, c->out[1]); }

/* d var: (x - mean) 2 / (n - correction); d std: that / (2 std), 0 where std is 0. */
static pg_status spread_grad(pg_call *c, bool root) {
  pg_tensor *x = c->in[0], *wide = NULL, *flat = NULL;
  unsigned mask = reduction_mask(c, c->meta[0].nd);
  double n = (double)reduction_count(&c->meta[0], mask), left = n - correction_of(c);
  int64_t dims[PG_MAX_DIMS];
  int nd = 0;
  for (int i = 0; i < c->meta[0].nd; i++)
    if (mask >> i & 1) dims[nd++] = i + 1;
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *t = NULL;
  if (c->gout[0]) {
    pg_tensor *g = PG_STEP(&k, "mul", "tt", c->gout[0], pg_chain_number(&k, (root ? 1 : 2) / left));
    if (root) {
      pg_tensor *zero = PG_STEP(&k, "eq", "tt", c->out[0], pg_chain_number(&k, 0));
      pg_tensor *safe = PG_STEP(&k, "add", "tt", c->out[0], zero);
      pg_tensor *some = PG_STEP(&k, "ne", "tt", c->out[0], pg_chain_number(&k, 0));
      g = PG_STEP(&k, "mul", "tt", PG_STEP(&k, "div", "tt", g, safe), some);
    }
    if (g) k.status = reduction_widen(c, g, mask, false, &wide);
    pg_tensor *mean = nd ? PG_STEP(&k, "mean", "tlb", x, nd, dims, 1) : x;
    t = PG_STEP(&k, "mul", "tt", PG_STEP(&k, "sub", "tt", x, mean), wide);
  }
  if (c->op->nout > 1 && c->gout[1]) {
    pg_tensor *g = PG_STEP(&k, "div", "tt", c->gout[1], pg_chain_number(&k, n));
    if (g) k.status = reduction_widen(c, g, mask, true, &flat);
    t = t ? PG_STEP(&k, "add", "tt", t, flat) : flat;
  }
  if (t) pg_chain_give(&k, t, &c->gin[0]);
  pg_tensor_unref(flat);
  pg_tensor_unref(wide);
  return pg_chain_end(&k);
}

static pg_status backward_var(pg_call *c) { return spread_grad(c, false); }
static pg_status backward_std(pg_call *c) { return spread_grad(c, true); }

/* --- norm ------------------------------------------------------------------------------------- */

/* arg: p, dim, keepdim */
static pg_status infer_norm(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  unsigned mask;
  PG_TRY(pg_arg_dims(c, 1, c->in[0]->nd, &mask));
  if (isnan(c->arg[0].f))
    return pg_fail(c->ctx, PG_EARG, "argument 'p': expected a number, got nan");
  if (isinf(c->arg[0].f)) PG_TRY(reduction_not_empty(c, mask));
  return reduction_out(c, 0, (pg_dtype)c->in[0]->dtype, mask, c->arg[2].i != 0);
}

/* *out = |x|^p, outside the graph. */
static pg_status powers(pg_ctx *ctx, pg_tensor *x, double p, pg_tensor **out) {
  bool mode = ctx->grad_mode;
  ctx->grad_mode = false;
  pg_chain k = {.ctx = ctx};
  pg_tensor *a = PG_STEP(&k, "abs", "t", x);
  pg_chain_give(&k, PG_STEP(&k, "pow", "tt", a, pg_chain_number(&k, p)), out);
  ctx->grad_mode = mode;
  return pg_chain_end(&k);
}

static pg_status forward_norm(pg_call *c) {
  pg_tensor *x = c->in[0], *power = NULL;
  double p = c->arg[0].f;
  unsigned mask;
  PG_TRY(pg_arg_dims(c, 1, x->nd, &mask));
  const fold_kern *kern = sum_kern;
  if (p == 2) kern = sq_kern;
  else if (p == 1) kern = abs_kern;
  else if (p == 0) kern = count_kern;
  else if (p == INFINITY) kern = absmax_kern;
  else if (p == -INFINITY) kern = absmin_kern;
  else PG_TRY(powers(c->ctx, x, p, &power));
  reduction r = reduction_plan(power ? power : x, mask, c->out[0]);
  r.number = p;
  if (p == 2) r.finish = finish_sqrt;
  else if (p == 0) r.finish = finish_count;
  else if (power) r.finish = finish_root;
  pg_status s = fold_once(c->ctx, &r, &kern[x->dtype]);
  pg_tensor_unref(power);
  return s;
}

/* p 2: x g / y. p 1: sign(x) g. p inf: sign(x) g shared evenly. Others: sign(x) |x|^(p-1) g /
 * y^(p-1). 0 where y is 0. */
static pg_status backward_norm(pg_call *c) {
  pg_tensor *x = c->in[0], *y = c->out[0], *wide = NULL;
  double p = c->arg[0].f;
  unsigned mask;
  PG_TRY(pg_arg_dims(c, 1, c->meta[0].nd, &mask));
  if (p == 0) return PG_OK;
  pg_chain k = {.ctx = c->ctx};
  if (isinf(p)) {
    reduction_share(c, &k, PG_STEP(&k, "abs", "t", x), y, c->gout[0], mask, SHARE_SIGN);
    return pg_chain_end(&k);
  }
  pg_tensor *g = c->gout[0], *t = x, *none = pg_chain_number(&k, 0);
  if (p < 1) {
    pg_tensor *scale = PG_STEP(&k, "pow", "tt", y, pg_chain_number(&k, 1 - p));
    g = PG_STEP(&k, "mul", "tt", g, scale);
  } else if (p != 1) {
    pg_tensor *zero = PG_STEP(&k, "eq", "tt", y, none);
    pg_tensor *safe = PG_STEP(&k, "add", "tt", y, zero);
    if (p != 2) safe = PG_STEP(&k, "pow", "tt", safe, pg_chain_number(&k, p - 1));
    g = PG_STEP(&k, "div", "tt", g, safe);
  }
  if (p != 2) {
    t = PG_STEP(&k, "sign", "t", x);
    if (p != 1) {
      pg_tensor *a = PG_STEP(&k, "abs", "t", x), *zero = PG_STEP(&k, "eq", "tt", x, none);
      if (p < 1) a = PG_STEP(&k, "add", "tt", a, zero);
      t = PG_STEP(&k, "mul", "tt", t, PG_STEP(&k, "pow", "tt", a, pg_chain_number(&k, p - 1)));
    }
  }
  if (k.status == PG_OK) k.status = reduction_widen(c, g, mask, false, &wide);
  pg_chain_give(&k, PG_STEP(&k, "mul", "tt", t, wide), &c->gin[0]);
  pg_tensor_unref(wide);
  return pg_chain_end(&k);
}

/* --- logsumexp -------------------------------------------------------------------------------- */

static pg_status infer_logsumexp(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_NUM | PG_M_BOOL));
  pg_dtype d = (pg_dtype)c->in[0]->dtype;
  if (!pg_is_float(d)) d = PG_F32;
  pg_cast_in(c, 0, d);
  return reduction_infer(c, 1, d, 1);
}

/* The first of two walks: shift = the largest, where it is finite. */
static void put_top(void *to, int64_t first, int64_t n, fold_acc *acc) {
  const reduction *r = to;
  for (int64_t i = 0; i < n; i++) r->shift[first + i] = isinf(acc[i].f) ? 0 : acc[i].f;
}
static void finish_log(const reduction *r, int64_t first, int64_t n, fold_acc *acc) {
  for (int64_t i = 0; i < n; i++) acc[i].f = r->shift[first + i] + pg_log_f64(acc[i].f);
}

static pg_status forward_logsumexp(pg_call *c) {
  const pg_tensor *x = c->in[0];
  reduction r = reduction_plan(x, reduction_mask(c, x->nd), c->out[0]);
  r.finish = finish_log;
  const fold_stage stage[] = {{&max_kern[x->dtype], put_top}, {&exp_kern[x->dtype], reduction_put}};
  return fold_twice(c->ctx, &r, stage);
}

static pg_status backward_logsumexp(pg_call *c) {
  unsigned mask = reduction_mask(c, c->meta[0].nd);
  pg_tensor *y = NULL, *g = NULL;
  pg_chain k = {.ctx = c->ctx};
  k.status = reduction_widen(c, c->out[0], mask, false, &y);
  if (k.status == PG_OK) k.status = reduction_widen(c, c->gout[0], mask, false, &g);
  pg_tensor *e = PG_STEP(&k, "exp", "t", PG_STEP(&k, "sub", "tt", c->in[0], y));
  pg_chain_give(&k, PG_STEP(&k, "mul", "tt", e, g), &c->gin[0]);
  pg_tensor_unref(g);
  pg_tensor_unref(y);
  return pg_chain_end(&k);
}

/* --- the table -------------------------------------------------------------------------------- */

#define DIM       PG_OPT("dim", PG_INTS), PG_DEF("keepdim", PG_FLAG, 0)
#define DIM_DTYPE DIM, PG_OPT("dtype", PG_DTYPE)
#define DIM_SPREAD                                                                    \
  PG_OPT("dim", PG_INTS), PG_OPT("unbiased", PG_FLAG), PG_DEF("keepdim", PG_FLAG, 0), \
      PG_OPT("correction", PG_FLOAT)

const pg_op PG_AT(pg_ops_reduce)[] = {
    {"sum",
     "Sum over dim (an integer, a list, absent: all); integers and bools add up to int64.",
     {PG_T("input"), DIM_DTYPE},
     PG_METHOD | PG_FULL,
     0,
     1,
     infer_sum,
     {forward_sum},
     backward_sum},
    {"mean",
     "Mean over dim: sum / n; nan where there are no elements.",
     {PG_T("input"), DIM_DTYPE},
     PG_METHOD | PG_FULL,
     0,
     1,
     infer_mean,
     {forward_mean},
     backward_mean},
    {"prod",
     "Product over dim; integers and bools give int64.",
     {PG_T("input"), DIM_DTYPE},
     PG_METHOD | PG_FULL,
     PG_SAVE_IN(0) | PG_SAVE_OUT(0),
     1,
     infer_sum,
     {forward_prod},
     backward_prod},
    {"amax",
     "Largest element over dim; the gradient is shared evenly among equal ones.",
     {PG_T("input"), DIM},
     PG_METHOD,
     PG_SAVE_IN(0) | PG_SAVE_OUT(0),
     1,
     infer_extreme,
     {forward_amax},
     backward_extreme},
    {"amin",
     "Smallest element over dim; the gradient is shared evenly among equal ones.",
     {PG_T("input"), DIM},
     PG_METHOD,
     PG_SAVE_IN(0) | PG_SAVE_OUT(0),
     1,
     infer_extreme,
     {forward_amin},
     backward_extreme},
    {"any",
     "True where some element over dim is not zero.",
     {PG_T("input"), DIM},
     PG_METHOD | PG_NODIFF,
     0,
     1,
     infer_truth,
     {forward_any},
     NULL},
    {"all",
     "True where every element over dim is not zero.",
     {PG_T("input"), DIM},
     PG_METHOD | PG_NODIFF,
     0,
     1,
     infer_truth,
     {forward_all},
     NULL},
    {"count_nonzero",
     "How many elements over dim are not zero, as int64.",
     {PG_T("input"), PG_OPT("dim", PG_INTS)},
     PG_METHOD | PG_NODIFF,
     0,
     1,
     infer_count,
     {forward_count},
     NULL},
    {"var",
     "Variance over dim: sum (x - mean)^2 / (n - correction); correction 1 (unbiased) by default.",
     {PG_T("input"), DIM_SPREAD},
     PG_METHOD | PG_FULL,
     PG_SAVE_IN(0),
     1,
     infer_var,
     {forward_var},
     backward_var},
    {"std",
     "Standard deviation over dim: the square root of var.",
     {PG_T("input"), DIM_SPREAD},
     PG_METHOD | PG_FULL,
     PG_SAVE_IN(0) | PG_SAVE_OUT(0),
     1,
     infer_var,
     {forward_std},
     backward_std},
    {"var_mean",
     "Variance and mean over dim.",
     {PG_T("input"), DIM_SPREAD},
     PG_METHOD | PG_FULL,
     PG_SAVE_IN(0),
     2,
     infer_var,
     {forward_var_mean},
     backward_var},
    {"std_mean",
     "Standard deviation and mean over dim.",
     {PG_T("input"), DIM_SPREAD},
     PG_METHOD | PG_FULL,
     PG_SAVE_IN(0) | PG_SAVE_OUT(0),
     2,
     infer_var,
     {forward_std_mean},
     backward_std},
    {"norm",
     "(sum |x|^p)^(1/p) over dim; p may be 0 (count of nonzeros) or +-inf (largest, smallest |x|).",
     {PG_T("input"), PG_DEF("p", PG_FLOAT, 2), PG_OPT("dim", PG_INTS),
      PG_DEF("keepdim", PG_FLAG, 0)},
     PG_METHOD | PG_FULL,
     PG_SAVE_IN(0) | PG_SAVE_OUT(0),
     1,
     infer_norm,
     {forward_norm},
     backward_norm},
    {"logsumexp",
     "log sum exp(x) over dim, without overflow.",
     {PG_T("input"), DIM},
     PG_METHOD | PG_FULL,
     PG_SAVE_IN(0) | PG_SAVE_OUT(0),
     1,
     infer_logsumexp,
     {forward_logsumexp},
     backward_logsumexp},
    {0}};
