/* Elementwise functions of one tensor, rounding, tests for special values, clamp.
 * Relies on vmath.h through loops.h, and formulas for gradients.
 * Spec: spec/ops/unary_spec.lua. */
#include <float.h>

#include "autograd/formula.h"
#include "ops/loops.h"

/* --- infer ----------------------------------------------------------------------------------- */

/* Floating result: other dtypes are taken as float32. */
static pg_status infer_float(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_LOOP | PG_M_BOOL));
  pg_dtype d = (pg_dtype)c->in[0]->dtype;
  if (!pg_is_float(d)) d = PG_F32;
  pg__cast(c, 0, d);
  return pg_out_like(c, 0, d, c->in[0]);
}
static pg_status infer_same(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_LOOP));
  return pg_out_like(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0]);
}
static pg_status infer_same_or_bool(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_LOOP | PG_M_BOOL));
  return pg_out_like(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0]);
}
static pg_status infer_square(pg_call *c) { /* of bool: int64 */
  PG_TRY(pg_want(c, 0, PG_M_LOOP | PG_M_BOOL));
  pg_dtype d = c->in[0]->dtype == PG_BOOL ? PG_I64 : (pg_dtype)c->in[0]->dtype;
  pg__cast(c, 0, d);
  return pg_out_like(c, 0, d, c->in[0]);
}
static pg_status infer_real(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_FLOAT));
  return pg_out_like(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0]);
}
static pg_status infer_test(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_LOOP | PG_M_BOOL));
  return pg_out_like(c, 0, PG_BOOL, c->in[0]);
}
static pg_status infer_bits(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_INT | PG_M_BOOL));
  return pg_out_like(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0]);
}

/* --- gradients ------------------------------------------------------------------------------- */

/* A gradient of zeros, as the rounding functions have it. */
static pg_status backward_zero(pg_call *c) {
  return pg_tensor_zeros(c->ctx, (pg_dtype)c->meta[0].dtype, c->meta[0].nd, c->meta[0].shape,
                         &c->gin[0]);
}
static pg_status backward_one(pg_call *c) {
  c->gin[0] = pg_tensor_ref(c->gout[0]);
  return PG_OK;
}

/* saved: what backward kept, x or y. */
static pg_status fused(pg_call *c, pg_tensor *saved, int cost, const pg_loop *loop) {
  pg_tensor *t[PG_ITER_MAX] = {NULL, c->gout[0], saved};
  return pg__map_back(c, 0, 2, t, cost, loop, NULL);
}

/* FORWARD(exp, 8, V1(exp, a)) -> loops exp_loop_f32, _f64 and static pg_status exp_forward(c). */
#define FORWARD(name, cost, expr) \
  PG_REAL1(name##_loop, expr)     \
  static pg_status name##_forward(pg_call *c) { return pg__map(c, 1, cost, name##_loop, NULL); }
#define FORMULA(name, text) \
  static pg_status name##_backward(pg_call *c) { return pg_formula(c, 0, text, 0, 0); }
/* A gradient with a loop of its own: a is the gradient, b the saved tensor; text says the same. */
#define FUSED(name, saved, cost, expr, text)               \
  PG_REAL2(name##_grad, expr)                              \
  static pg_status name##_backward(pg_call *c) {           \
    if (c->recording) return pg_formula(c, 0, text, 0, 0); \
    return fused(c, c->saved[0], cost, name##_grad);       \
  }

/* --- floating functions ---------------------------------------------------------------------- */

FORWARD(exp, 8, V1(exp, a))
FUSED(exp, out, 1, (a * b), "g * y")
FORWARD(exp2, 16, M1(exp2, a))
FORMULA(exp2, "g * y * 0.69314718055994531")
FORWARD(expm1, 8, V1(expm1, a))
FORMULA(expm1, "g * (y + 1)")
FORWARD(log, 8, V1(log, a))
FUSED(log, in, 2, a / b, "g / x")
FORWARD(log1p, 8, V1(log1p, a))
FORMULA(log1p, "g / (x + 1)")
FORWARD(log2, 8, V1(log2, a))
FORMULA(log2, "g / (x * 0.69314718055994531)")
FORWARD(log10, 8, V1(log10, a))
FORMULA(log10, "g / (x * 2.30258509299404568)")
FORWARD(sqrt, 4, M1(sqrt, a))
FUSED(sqrt, out, 2, a / (2 * b), "g / (2 * y)")
FORWARD(rsqrt, 6, 1 / M1(sqrt, a))
FUSED(rsqrt, out, 2, (T)-0.5 * a * b * b * b, "-0.5 * g * (y * y * y)")
FORWARD(reciprocal, 2, 1 / a)
FUSED(reciprocal, out, 1, (-a * b * b), "-g * y * y")
FORWARD(tan, 30, M1(tan, a))
FORMULA(tan, "g * (1 + y * y)")
FORWARD(asin, 30, M1(asin, a))
FORMULA(asin, "g * rsqrt(1 - x * x)")
FORWARD(acos, 30, M1(acos, a))
FORMULA(acos, "-g * rsqrt(1 - x * x)")
FORWARD(atan, 30, M1(atan, a))
FORMULA(atan, "g / (x * x + 1)")
FORWARD(sinh, 30, M1(sinh, a))
FORMULA(sinh, "g * cosh(x)")
FORWARD(cosh, 30, M1(cosh, a))
FORMULA(cosh, "g * sinh(x)")
FORWARD(tanh, 10, V1(tanh, a))
FUSED(tanh, out, 1, (a * (1 - b * b)), "g * (1 - y * y)")
FORWARD(asinh, 40, M1(asinh, a))
FORMULA(asinh, "g * rsqrt(x * x + 1)")
FORWARD(acosh, 40, M1(acosh, a))
FORMULA(acosh, "g * rsqrt(x * x - 1)")
FORWARD(atanh, 40, M1(atanh, a))
FORMULA(atanh, "g / (1 - x * x)")
FORWARD(erf, 12, V1(erf, a))
FORMULA(erf, "g * 1.12837916709551257 * exp(-(x * x))")
FORWARD(erfc, 40, V1(erfc, a))
FORMULA(erfc, "-g * 1.12837916709551257 * exp(-(x * x))")
FORWARD(sigmoid, 8, V1(sigmoid, a))
FUSED(sigmoid, out, 1, (a * (1 - b) * b), "g * (1 - y) * y")
FORWARD(deg2rad, 1, (a * (T)0.017453292519943295))
FORMULA(deg2rad, "g * 0.017453292519943295")
FORWARD(rad2deg, 1, (a * (T)57.29577951308232))
FORMULA(rad2deg, "g * 57.29577951308232")
FORWARD(frac, 2, a - M1(trunc, a))

/* sin and cos: the vector form in its range, the C library's for elements beyond it. */
PG_LOOPS1(near_sin, V1(sin, a))
PG_LOOPS1(near_cos, V1(cos, a))
#define TRIG(name, dtype, type)                                                                   \
  static void name##_loop_##dtype(int64_t n, char *const *p, const int64_t *s, const void *arg) { \
    type x[PG_BLOCK];                                                                             \
    for (int64_t at = 0, m; at < n; at += m) {                                                    \
      char *const q[2] = {p[0] + at * s[0], p[1] + at * s[1]};                                    \
      int far = 0;                                                                                \
      m = n - at < PG_BLOCK ? n - at : PG_BLOCK;                                                  \
      for (int64_t i = 0; i < m; i++) {                                                           \
        x[i] = *(const type *)(q[1] + i * s[1]);                                                  \
        far |= !(M1(fabs, x[i]) <= (type)PG_TRIG_MAX);                                            \
      }                                                                                           \
      near_##name##_##dtype(m, q, s, arg);                                                        \
      for (int64_t i = 0; far && i < m; i++)                                                      \
        if (!(M1(fabs, x[i]) <= (type)PG_TRIG_MAX)) *(type *)(q[0] + i * s[0]) = M1(name, x[i]);  \
    }                                                                                             \
  }
TRIG(sin, f32, float)
TRIG(sin, f64, double)
TRIG(cos, f32, float)
TRIG(cos, f64, double)
PG__TABLE(sin_loop)
PG__TABLE(cos_loop)
static pg_status sin_forward(pg_call *c) { return pg__map(c, 1, 12, sin_loop, NULL); }
static pg_status cos_forward(pg_call *c) { return pg__map(c, 1, 12, cos_loop, NULL); }
FORMULA(sin, "g * cos(x)")
FORMULA(cos, "-g * sin(x)")

/* logit(x, eps): log(x / (1 - x)), x moved into [eps, 1 - eps] first. */
#define BOUNDED(x, lo, hi) ((x) < (lo) ? (lo) : (x) > (hi) ? (hi) : (x))
PG_REAL1(logit_loop, V1(log, a / (1 - a)))
PG_REAL1(logit_eps_loop, V1(log, BOUNDED(a, p, q) / (1 - BOUNDED(a, p, q))))
static pg_status logit_infer(pg_call *c) {
  if (c->arg[0].set && !(c->arg[0].f >= 0 && c->arg[0].f <= 0.5))
    return pg_fail(c->ctx, PG_EVALUE, "argument 'eps': expected 0 to 0.5, got %g", c->arg[0].f);
  return infer_float(c);
}
static pg_status logit_forward(pg_call *c) {
  if (!c->arg[0].set) return pg__map(c, 1, 12, logit_loop, NULL);
  const double bounds[2] = {c->arg[0].f, 1 - c->arg[0].f};
  return pg__map(c, 1, 12, logit_eps_loop, bounds);
}
static pg_status logit_backward(pg_call *c) {
  if (!c->arg[0].set)
    return pg_formula(c, 0, "where(logical_or(lt(x, 0), gt(x, 1)), p, g / (x * (1 - x)))",
                      (double)NAN, 0);
  return pg_formula(c, 0, "where(logical_or(lt(x, p), gt(x, q)), 0, g / (x * (1 - x)))",
                    c->arg[0].f, 1 - c->arg[0].f);
}

/* --- functions that keep the dtype ----------------------------------------------------------- */

/* Loops of all numeric dtypes: name_i64 and name_u8 have expr of their own. */
#define NUMERIC(name, cost, real, i64, u8)                                     \
  PG_MAP1(name##_loop_f32, float, float, real)                                 \
  PG_MAP1(name##_loop_f64, double, double, real)                               \
  PG_MAP1(name##_loop_i64, int64_t, int64_t, i64)                              \
  PG_MAP1(name##_loop_u8, uint8_t, uint8_t, u8)                                \
  static const pg_loop name##_loop[PG_NDTYPES] = {[PG_F32] = name##_loop_f32,  \
                                                  [PG_F64] = name##_loop_f64,  \
                                                  [PG_I64] = name##_loop_i64,  \
                                                  [PG_U8] = name##_loop_u8,    \
                                                  [PG_BOOL] = name##_loop_u8}; \
  static pg_status name##_forward(pg_call *c) { return pg__map(c, 1, cost, name##_loop, NULL); }

#define WRAP(x) ((int64_t)(x)) /* from uint64_t: two's complement */
NUMERIC(abs, 1, M1(fabs, a), a < 0 ? WRAP(0 - (uint64_t)a) : a, a)
FUSED(abs, in, 1, (a * (T)((b > 0) - (b < 0))), "g * sign(x)")
NUMERIC(neg, 1, -a, WRAP(0 - (uint64_t)a), 0 - a)
FORMULA(neg, "-g")
NUMERIC(square, 1, (a * a), WRAP(((uint64_t)a * (uint64_t)a)), (a * a))
FUSED(square, in, 1, 2 * a * b, "2 * g * x")
NUMERIC(sign, 1, (T)((a > 0) - (a < 0)), (a > 0) - (a < 0), a != 0)
NUMERIC(positive, 1, a, a, a)
NUMERIC(floor, 1, M1(floor, a), a, a)
NUMERIC(ceil, 1, M1(ceil, a), a, a)
NUMERIC(trunc, 1, M1(trunc, a), a, a)
NUMERIC(round, 1, M1(rint, a), a, a)

/* round(x, decimals): half to even at that decimal. */
PG_REAL1(round_up, M1(rint, (a * p)) / p)
PG_REAL1(round_down, M1(rint, a / p) * p)
static pg_status round_to(pg_call *c) {
  int64_t decimals = c->arg[0].i;
  if (!decimals || !pg_is_float((pg_dtype)c->in[0]->dtype)) return round_forward(c);
  const double unit[2] = {pow(10, fabs((double)decimals)), 0};
  return pg__map(c, 1, 3, decimals > 0 ? round_up : round_down, unit);
}

PG_MAP1(bitwise_not_i64, int64_t, int64_t, ~a)
PG_MAP1(bitwise_not_u8, uint8_t, uint8_t, ~a)
PG_MAP1(bitwise_not_bool, uint8_t, uint8_t, a == 0)
static pg_status bitwise_not_forward(pg_call *c) {
  static const pg_loop loop[PG_NDTYPES] = {
      [PG_I64] = bitwise_not_i64, [PG_U8] = bitwise_not_u8, [PG_BOOL] = bitwise_not_bool};
  return pg__map(c, 1, 1, loop, NULL);
}

/* nan_to_num(x, nan, posinf, neginf): one number for NaN, two for the infinities. */
PG_REAL2(nan_to_num_loop, a != a ? b : a == (T)INFINITY ? p : a == -(T)INFINITY ? q : a)
static pg_status nan_to_num_forward(pg_call *c) {
  pg_dtype d = (pg_dtype)c->in[0]->dtype;
  if (!pg_is_float(d)) return positive_forward(c);
  const double most = d == PG_F64 ? DBL_MAX : d == PG_F32 ? FLT_MAX : 0x1.fep127;
  const double ends[2] = {c->arg[1].set ? c->arg[1].f : most, c->arg[2].set ? c->arg[2].f : -most};
  pg_tensor *nan;
  PG_TRY(pg_tensor_new(c->ctx, d == PG_BF16 ? PG_F32 : d, 0, NULL, &nan));
  pg_put_f64(nan, 0, c->arg[0].f);
  pg_tensor *t[3] = {c->out[0], c->in[0], nan};
  pg__over(c->ctx, 3, t, 1, 2, nan_to_num_loop, ends);
  pg_tensor_unref(nan);
  return PG_OK;
}
FORMULA(nan_to_num, "where(isfinite(x), g, 0)")

/* --- tests ------------------------------------------------------------------------------------ */

/* TEST(isnan, a != a, 0, 0): the tests for floating elements, int64 and uint8. */
#define TEST(name, real, i64, u8)                                    \
  PG_MAP1(name##_f32, uint8_t, float, real)                          \
  PG_MAP1(name##_f64, uint8_t, double, real)                         \
  PG_MAP1(name##_i64, uint8_t, int64_t, ((void)a, i64))              \
  PG_MAP1(name##_u8, uint8_t, uint8_t, ((void)a, u8))                \
  static pg_status name##_forward(pg_call *c) {                      \
    static const pg_loop loop[PG_NDTYPES] = {[PG_F32] = name##_f32,  \
                                             [PG_F64] = name##_f64,  \
                                             [PG_I64] = name##_i64,  \
                                             [PG_U8] = name##_u8,    \
                                             [PG_BOOL] = name##_u8}; \
    return pg__map(c, 1, 1, loop, NULL);                             \
  }
TEST(isnan, a != a, 0, 0)
TEST(isinf, M1(fabs, a) == (T)INFINITY, 0, 0)
TEST(isfinite, M1(fabs, a) < (T)INFINITY, 1, 1)
TEST(isposinf, a == (T)INFINITY, 0, 0)
TEST(isneginf, a == -(T)INFINITY, 0, 0)
TEST(signbit, signbit(a) != 0, a < 0, 0)
TEST(logical_not, a == 0, a == 0, a == 0)

/* --- clamp ------------------------------------------------------------------------------------ */

/* NaN in x or a bound stays NaN; a lower bound above the upper one gives the upper one. */
#define LOW(x, lo)  ((lo) != (lo) || (x) < (lo) ? (lo) : (x))
#define HIGH(x, hi) ((hi) != (hi) || (x) > (hi) ? (hi) : (x))
/* The same for bounds that are not NaN. */
#define QUICK_LOW(x, lo)  ((x) < (lo) ? (lo) : (x))
#define QUICK_HIGH(x, hi) ((x) > (hi) ? (hi) : (x))
/* A loop of MAP and expr, or of `quick` where operands 2..last are numbers beside a contiguous x.
 */
#define BETWEEN(name, MAP, last, T_, expr, quick)                                     \
  MAP(name##_any, T_, expr)                                                           \
  static void name(int64_t n, char *const *ptr, const int64_t *s, const void *arg) {  \
    typedef T_ T;                                                                     \
    bool numbers = n > 0 && s[0] == (int64_t)sizeof(T) && s[1] == (int64_t)sizeof(T); \
    for (int k = 2; k <= last && numbers; k++)                                        \
      numbers = s[k] == 0 && *(const T *)ptr[k] == *(const T *)ptr[k];                \
    if (!numbers) {                                                                   \
      name##_any(n, ptr, s, arg);                                                     \
      return;                                                                         \
    }                                                                                 \
    const T b = *(const T *)ptr[2], c = *(const T *)ptr[last];                        \
    (void)c;                                                                          \
    T *to = (T *)ptr[0];                                                              \
    const T *a_at = (const T *)ptr[1];                                                \
    PG_IVDEP for (int64_t i = 0; i < n; i++) {                                        \
      const T a = a_at[i];                                                            \
      to[i] = (quick);                                                                \
    }                                                                                 \
  }
#define CLAMP(name, MAP, last, quick, ...)                   \
  BETWEEN(name##_f32, MAP, last, float, __VA_ARGS__, quick)  \
  BETWEEN(name##_f64, MAP, last, double, __VA_ARGS__, quick) \
  MAP(name##_i64, int64_t, __VA_ARGS__)                      \
  MAP(name##_u8, uint8_t, __VA_ARGS__)                       \
  static const pg_loop name[PG_NDTYPES] = {                  \
      [PG_F32] = name##_f32, [PG_F64] = name##_f64, [PG_I64] = name##_i64, [PG_U8] = name##_u8};
#define SAME2(name, T_, expr) PG_MAP2(name, T_, T_, T_, expr)
#define SAME3(name, T_, expr) PG_MAP3(name, T_, T_, T_, T_, expr)
CLAMP(clamp_low, SAME2, 2, QUICK_LOW(a, b), LOW(a, b))
CLAMP(clamp_high, SAME2, 2, QUICK_HIGH(a, b), HIGH(a, b))
CLAMP(clamp_both, SAME3, 3, QUICK_HIGH(QUICK_LOW(a, b), c), HIGH(LOW(a, b), c))

/* A number for uint8 beyond the end it bounds from is an error, beyond the other one that end. */
static pg_status clamp_bytes(pg_call *c, pg_dtype d) {
  for (int i = 1; i < c->nin && d == PG_U8; i++) {
    if (!c->in[i] || !c->in[i]->is_number) continue;
    double v = pg_item_f64(c->in[i]);
    bool low = pg_in_name(c, i)[1] == 'i'; /* min */
    if (low ? v > 255 : v < 0)
      return pg_fail(c->ctx, PG_EVALUE, "argument '%s': expected 0 to 255 for uint8, got %g",
                     pg_in_name(c, i), v);
    pg_put_f64(c->in[i], 0, v < 0 ? 0 : v > 255 ? 255 : v);
  }
  return PG_OK;
}
static pg_status clamp_infer(pg_call *c) {
  bool any = false;
  for (int i = 0; i < c->nin; i++) {
    PG_TRY(pg_want(c, i, PG_M_LOOP | PG_M_BOOL));
    any = any || (i > 0 && c->in[i]);
  }
  if (!any) return pg_bad_in(c, PG_EARG, 1, "a number or a tensor for 'min' or 'max'");
  pg_dtype d = pg_promote(c, c->nin);
  if (d == PG_BOOL) return pg_bad_in(c, PG_EDTYPE, 0, "numbers");
  PG_TRY(clamp_bytes(c, d));
  for (int i = 0; i < c->nin; i++) pg__cast(c, i, d);
  return pg_out_broadcast(c, 0, d, c->nin);
}
static pg_status clamp_forward(pg_call *c) {
  pg_tensor *t[4] = {c->out[0], c->in[0]};
  int n = 2;
  pg_tensor *max = c->nin > 2 ? c->in[2] : NULL;
  if (c->in[1]) t[n++] = c->in[1];
  if (max) t[n++] = max;
  const pg_loop *loop = n == 4 ? clamp_both : max ? clamp_high : clamp_low;
  pg__over(c->ctx, n, t, 1, 1, loop, NULL);
  return PG_OK;
}
/* Where x is at a bound, nothing flows to x if the bound is a number; else the two share. */
static pg_status clamp_min_backward(pg_call *c) {
  if (c->in[1]->is_number) return pg_formula(c, 0, "where(gt(x, b), g, 0)", 0, 0);
  PG_TRY(pg_formula(c, 0, "where(eq(x, b), g * 0.5, where(lt(x, b), 0, g))", 0, 0));
  return pg_formula(c, 1, "where(eq(x, b), g * 0.5, where(ge(x, b), 0, g))", 0, 0);
}
/* The upper bound is in[at]. */
static pg_status upper_backward(pg_call *c, int at) {
  bool second = at == 1;
  if (c->in[at]->is_number)
    return pg_formula(c, 0, second ? "where(lt(x, b), g, 0)" : "where(lt(x, c), g, 0)", 0, 0);
  PG_TRY(pg_formula(c, 0,
                    second ? "where(eq(x, b), g * 0.5, where(gt(x, b), 0, g))"
                           : "where(eq(x, c), g * 0.5, where(gt(x, c), 0, g))",
                    0, 0));
  return pg_formula(c, at,
                    second ? "where(eq(x, b), g * 0.5, where(le(x, b), 0, g))"
                           : "where(eq(x, c), g * 0.5, where(le(x, c), 0, g))",
                    0, 0);
}
static pg_status clamp_max_backward(pg_call *c) { return upper_backward(c, 1); }
static pg_status clamp_backward(pg_call *c) {
  if (!c->in[2]) return clamp_min_backward(c);
  if (!c->in[1]) return upper_backward(c, 2);
  if (c->in[1]->is_number && c->in[2]->is_number)
    return pg_formula(c, 0, "where(logical_and(gt(x, b), lt(x, c)), g, 0)", 0, 0);
  PG_TRY(pg_formula(c, 0,
                    "where(logical_or(lt(x, b), gt(x, c)), 0, where(logical_and(lt(b, c), "
                    "logical_or(eq(x, b), eq(x, c))), g * 0.5, g))",
                    0, 0));
  PG_TRY(pg_formula(c, 1,
                    "where(le(b, c), where(lt(x, b), g, "
                    "where(logical_and(lt(b, c), eq(x, b)), g * 0.5, 0)), 0)",
                    0, 0));
  return pg_formula(c, 2,
                    "where(isnan(b), 0, where(logical_or(gt(x, c), lt(c, b)), g, "
                    "where(logical_and(lt(b, c), eq(x, c)), g * 0.5, 0)))",
                    0, 0);
}

static pg_status clamp_max_forward(pg_call *c) { return pg__map(c, 2, 1, clamp_high, NULL); }
static pg_status clamp_min_forward(pg_call *c) { return pg__map(c, 2, 1, clamp_low, NULL); }

/* --- table ------------------------------------------------------------------------------------ */

#define BOTH (PG_METHOD | PG_INPLACE)
/* FUNCTION(exp, "exp", "e^x", PG_SAVE_OUT(0)): a floating function of one tensor. */
#define FUNCTION(fn, name, doc, saves) \
  { name, doc, {PG_T("input")}, BOTH, saves, 1, infer_float, {fn##_forward}, fn##_backward }
/* A function that keeps the dtype, with its infer and backward. */
#define KEEPS(fn, name, doc, saves, infer, backward) \
  { name, doc, {PG_T("input")}, BOTH, saves, 1, infer, {fn##_forward}, backward }
/* A test with a bool result. */
#define TESTS(fn, doc) \
  { #fn, doc, {PG_T("input") }, PG_METHOD | PG_NODIFF, 0, 1, infer_test, {fn##_forward }, NULL }
#define PG_BOUND(n) \
  { n, PG_TENSOR, PG_OPTIONAL | PG_NUMBER, 0, NULL }

const pg_op PG_AT(pg_ops_unary)[] = {
    FUNCTION(exp, "exp", "e^x of each element.", PG_SAVE_OUT(0)),
    FUNCTION(exp2, "exp2", "2^x of each element.", PG_SAVE_OUT(0)),
    FUNCTION(expm1, "expm1", "e^x - 1 of each element, exact near 0.", PG_SAVE_OUT(0)),
    FUNCTION(log, "log", "Natural logarithm of each element.", PG_SAVE_IN(0)),
    FUNCTION(log1p, "log1p", "log(1 + x) of each element, exact near 0.", PG_SAVE_IN(0)),
    FUNCTION(log2, "log2", "Logarithm to base 2 of each element.", PG_SAVE_IN(0)),
    FUNCTION(log10, "log10", "Logarithm to base 10 of each element.", PG_SAVE_IN(0)),
    FUNCTION(sqrt, "sqrt", "Square root of each element.", PG_SAVE_OUT(0)),
    FUNCTION(rsqrt, "rsqrt", "1 / sqrt(x) of each element.", PG_SAVE_OUT(0)),
    FUNCTION(reciprocal, "reciprocal", "1 / x of each element.", PG_SAVE_OUT(0)),
    FUNCTION(sin, "sin", "Sine of each element, in radians.", PG_SAVE_IN(0)),
    FUNCTION(cos, "cos", "Cosine of each element, in radians.", PG_SAVE_IN(0)),
    FUNCTION(tan, "tan", "Tangent of each element, in radians.", PG_SAVE_OUT(0)),
    FUNCTION(asin, "asin|arcsin", "Arc sine of each element.", PG_SAVE_IN(0)),
    FUNCTION(acos, "acos|arccos", "Arc cosine of each element.", PG_SAVE_IN(0)),
    FUNCTION(atan, "atan|arctan", "Arc tangent of each element.", PG_SAVE_IN(0)),
    FUNCTION(sinh, "sinh", "Hyperbolic sine of each element.", PG_SAVE_IN(0)),
    FUNCTION(cosh, "cosh", "Hyperbolic cosine of each element.", PG_SAVE_IN(0)),
    FUNCTION(tanh, "tanh", "Hyperbolic tangent of each element.", PG_SAVE_OUT(0)),
    FUNCTION(asinh, "asinh|arcsinh", "Inverse hyperbolic sine of each element.", PG_SAVE_IN(0)),
    FUNCTION(acosh, "acosh|arccosh", "Inverse hyperbolic cosine of each element.", PG_SAVE_IN(0)),
    FUNCTION(atanh, "atanh|arctanh", "Inverse hyperbolic tangent of each element.", PG_SAVE_IN(0)),
    FUNCTION(erf, "erf", "2 / sqrt(pi) * integral of e^(-t^2) from 0 to x.", PG_SAVE_IN(0)),
    FUNCTION(erfc, "erfc", "1 - erf(x), exact where it is small.", PG_SAVE_IN(0)),
    FUNCTION(sigmoid, "sigmoid", "1 / (1 + e^-x) of each element.", PG_SAVE_OUT(0)),
    FUNCTION(deg2rad, "deg2rad", "x * pi / 180 of each element.", 0),
    FUNCTION(rad2deg, "rad2deg", "x * 180 / pi of each element.", 0),
    {"logit",
     "log(x / (1 - x)); with eps, x is moved into [eps, 1 - eps] first.",
     {PG_T("input"), PG_OPT("eps", PG_FLOAT)},
     BOTH,
     PG_SAVE_IN(0),
     1,
     logit_infer,
     {logit_forward},
     logit_backward},
    KEEPS(abs, "abs|absolute", "|x| of each element.", PG_SAVE_IN(0), infer_same, abs_backward),
    KEEPS(neg, "neg|negative", "-x of each element.", 0, infer_same, neg_backward),
    KEEPS(positive, "positive", "x itself, copied.", 0, infer_same, backward_one),
    KEEPS(square, "square", "x * x of each element.", PG_SAVE_IN(0), infer_square, square_backward),
    KEEPS(sign, "sign|sgn", "-1, 0 or 1 with the sign of each element.", 0, infer_same_or_bool,
          backward_zero),
    KEEPS(floor, "floor", "Largest integer <= x.", 0, infer_same, backward_zero),
    KEEPS(ceil, "ceil", "Smallest integer >= x.", 0, infer_same, backward_zero),
    KEEPS(trunc, "trunc|fix", "x without its fraction.", 0, infer_same, backward_zero),
    KEEPS(frac, "frac", "x - trunc(x).", 0, infer_real, backward_one),
    {"round",
     "Nearest integer, half to even; with decimals, at that decimal.",
     {PG_T("input"), PG_DEF("decimals", PG_INT, 0)},
     BOTH,
     0,
     1,
     infer_same,
     {round_to},
     backward_zero},
    {"nan_to_num",
     "x with NaN and the infinities replaced; the infinities by the dtype's largest numbers unless "
     "given.",
     {PG_T("input"), PG_DEF("nan", PG_FLOAT, 0), PG_OPT("posinf", PG_FLOAT),
      PG_OPT("neginf", PG_FLOAT)},
     BOTH,
     PG_SAVE_IN(0),
     1,
     infer_same_or_bool,
     {nan_to_num_forward},
     nan_to_num_backward},
    {"clamp|clip",
     "min(max(x, min), max); either bound may be left out, a number or a tensor.",
     {PG_T("input"), PG_BOUND("min"), PG_BOUND("max")},
     BOTH,
     PG_SAVE_IN(0) | PG_SAVE_IN(1) | PG_SAVE_IN(2),
     1,
     clamp_infer,
     {clamp_forward},
     clamp_backward},
    {"clamp_min",
     "max(x, min).",
     {PG_T("input"), PG_TN("min")},
     BOTH,
     PG_SAVE_IN(0) | PG_SAVE_IN(1),
     1,
     clamp_infer,
     {clamp_min_forward},
     clamp_min_backward},
    {"clamp_max",
     "min(x, max).",
     {PG_T("input"), PG_TN("max")},
     BOTH,
     PG_SAVE_IN(0) | PG_SAVE_IN(1),
     1,
     clamp_infer,
     {clamp_max_forward},
     clamp_max_backward},
    {"logical_not",
     "true where x is zero.",
     {PG_T("input")},
     PG_METHOD | PG_INPLACE | PG_NODIFF,
     0,
     1,
     infer_test,
     {logical_not_forward},
     NULL},
    {"bitwise_not",
     "The bits of x inverted; of a bool, its opposite.",
     {PG_T("input")},
     PG_METHOD | PG_INPLACE | PG_NODIFF,
     0,
     1,
     infer_bits,
     {bitwise_not_forward},
     NULL},
    TESTS(isnan, "true where x is not a number."),
    TESTS(isinf, "true where x is infinite."),
    TESTS(isfinite, "true where x is neither infinite nor NaN."),
    TESTS(isposinf, "true where x is +infinity."),
    TESTS(isneginf, "true where x is -infinity."),
    TESTS(signbit, "true where the sign of x is set, -0 too."),
    {0}};
