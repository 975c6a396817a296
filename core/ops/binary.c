/* Elementwise functions of two and three tensors: arithmetic, comparisons, logic, choice.
 * Relies on loops.h; gradients are formulas where a fused loop is not worth it.
 * Spec: spec/ops/binary_spec.lua. */
#include "autograd/formula.h"
#include "ops/loops.h"

#define BOTH    (PG_METHOD | PG_INPLACE)
#define WRAP(x) ((int64_t)(x)) /* from uint64_t: two's complement */
#define U64(x)  ((uint64_t)(x))

/* --- loops ------------------------------------------------------------------------------------ */

/* Loops of one type for all operands, and the table of all numeric dtypes. */
#define SAME2(name, T_, expr) PG_MAP2(name, T_, T_, T_, expr)
#define SAME3(name, T_, expr) PG_MAP3(name, T_, T_, T_, T_, expr)
#define TABLE(name)                                               \
  static const pg_loop name[PG_NDTYPES] = {[PG_F32] = name##_f32, \
                                           [PG_F64] = name##_f64, \
                                           [PG_I64] = name##_i64, \
                                           [PG_U8] = name##_u8,   \
                                           [PG_BOOL] = name##_bool};
/* As SAME2; b may be one number beside a contiguous a (a column, a scalar) without being spread. */
#define BESIDE2(name, T_, expr)                                                        \
  SAME2(name##_any, T_, expr)                                                          \
  static void name(int64_t n, char *const *ptr, const int64_t *s, const void *arg) {   \
    typedef T_ T;                                                                      \
    if (s[2] != 0 || s[0] != (int64_t)sizeof(T) || s[1] != (int64_t)sizeof(T) || !n) { \
      name##_any(n, ptr, s, arg);                                                      \
      return;                                                                          \
    }                                                                                  \
    const double *number = arg;                                                        \
    const T p = number ? (T)number[0] : (T)0, b = *(const T *)ptr[2];                  \
    (void)p;                                                                           \
    T *to = (T *)ptr[0];                                                               \
    const T *a_at = (const T *)ptr[1];                                                 \
    PG_IVDEP for (int64_t i = 0; i < n; i++) {                                         \
      const T a = a_at[i];                                                             \
      to[i] = (T)(expr);                                                               \
    }                                                                                  \
  }
#define ARITH(name, REAL, real, i64, u8, truth) \
  REAL(name##_f32, float, real)                 \
  REAL(name##_f64, double, real)                \
  SAME2(name##_i64, int64_t, i64)               \
  SAME2(name##_u8, uint8_t, u8)                 \
  SAME2(name##_bool, uint8_t, truth)            \
  TABLE(name)

ARITH(add_loop, BESIDE2, a + b, WRAP(U64(a) + U64(b)), a + b, a | b)
ARITH(add_alpha_loop, SAME2, a + p * b, WRAP(U64(a) + U64(p) * U64(b)), a + p * b, a | (p & b))
ARITH(sub_loop, BESIDE2, a - b, WRAP(U64(a) - U64(b)), a - b, a ^ b)
ARITH(mul_loop, BESIDE2, (a * b), WRAP(U64(a) * U64(b)), (a * b), (a & b))
ARITH(maximum_loop, BESIDE2, (a > b || a != a ? a : b), (a > b ? a : b), (a > b ? a : b), a | b)
ARITH(minimum_loop, BESIDE2, (a < b || a != a ? a : b), (a < b ? a : b), (a < b ? a : b), (a & b))
ARITH(fmax_loop, BESIDE2, (a >= b || b != b ? a : b), (a > b ? a : b), (a > b ? a : b), a | b)
ARITH(fmin_loop, BESIDE2, (a <= b || b != b ? a : b), (a < b ? a : b), (a < b ? a : b), (a & b))

#define COMPARE(name, expr)                                                    \
  PG_MAP2(name##_loop_f32, uint8_t, float, float, expr)                        \
  PG_MAP2(name##_loop_f64, uint8_t, double, double, expr)                      \
  PG_MAP2(name##_loop_i64, uint8_t, int64_t, int64_t, expr)                    \
  PG_MAP2(name##_loop_u8, uint8_t, uint8_t, uint8_t, expr)                     \
  static const pg_loop name##_loop[PG_NDTYPES] = {[PG_F32] = name##_loop_f32,  \
                                                  [PG_F64] = name##_loop_f64,  \
                                                  [PG_I64] = name##_loop_i64,  \
                                                  [PG_U8] = name##_loop_u8,    \
                                                  [PG_BOOL] = name##_loop_u8}; \
  static pg_status name##_forward(pg_call *c) { return pg__map(c, 2, 1, name##_loop, NULL); }
COMPARE(eq, a == b)
COMPARE(ne, a != b)
COMPARE(lt, a < b)
COMPARE(le, a <= b)
COMPARE(gt, a > b)
COMPARE(ge, a >= b)

#define BITS(name, i64, u8, truth)                                                         \
  SAME2(name##_loop_i64, int64_t, i64)                                                     \
  SAME2(name##_loop_u8, uint8_t, u8)                                                       \
  SAME2(name##_loop_bool, uint8_t, truth)                                                  \
  static const pg_loop name##_loop[PG_NDTYPES] = {                                         \
      [PG_I64] = name##_loop_i64, [PG_U8] = name##_loop_u8, [PG_BOOL] = name##_loop_bool}; \
  static pg_status name##_forward(pg_call *c) { return pg__map(c, 2, 1, name##_loop, NULL); }
BITS(bitwise_and, (a & b), (a & b), (a & b))
BITS(bitwise_or, a | b, a | b, a | b)
BITS(bitwise_xor, a ^ b, a ^ b, a ^ b)
/* Shifts by less than 0 or more than the width leave 0, or the sign. */
#define SHIFT(name, i64, u8)                                 \
  SAME2(name##_loop_i64, int64_t, i64)                       \
  SAME2(name##_loop_u8, uint8_t, u8)                         \
  static const pg_loop name##_loop[PG_NDTYPES] = {           \
      [PG_I64] = name##_loop_i64, [PG_U8] = name##_loop_u8}; \
  static pg_status name##_forward(pg_call *c) { return pg__map(c, 2, 1, name##_loop, NULL); }
SHIFT(bitwise_left_shift, b<0 || b> 63 ? 0 : WRAP(U64(a) << b), b > 7 ? 0 : a << b)
SHIFT(bitwise_right_shift, a >> (b < 0 || b > 63 ? 63 : b), b > 7 ? 0 : a >> b)

SAME2(logical_and_loop, uint8_t, (a & b))
SAME2(logical_or_loop, uint8_t, a | b)
SAME2(logical_xor_loop, uint8_t, a ^ b)

/* Quotient and remainder whose sign is the divisor's, as Lua's // and % have them, from the C
 * library's m = fmod(a, b). */
#define DIVISION(T, dtype, f)                                                                    \
  static inline T remainder_of_##dtype(T b, T m) {                                               \
    return m != 0 && (b < 0) != (m < 0) ? m + b : m;                                             \
  }                                                                                              \
  static inline T floor_of_##dtype(T a, T b, T m) {                                              \
    T d = rint##f((a - m) / b) - (m != 0 && (b < 0) != (m < 0));                                 \
    return b == 0 ? a / b : d == 0 ? copysign##f(0, a / b) : d;                                  \
  }                                                                                              \
  static inline T remainder_##dtype(T a, T b) { return remainder_of_##dtype(b, fmod##f(a, b)); } \
  static inline T floor_##dtype(T a, T b) { return floor_of_##dtype(a, b, fmod##f(a, b)); }
DIVISION(float, f32, f)
DIVISION(double, f64, )
static inline int64_t trunc_i64(int64_t a, int64_t b) { return b == -1 ? WRAP(0 - U64(a)) : a / b; }
static inline int64_t fmod_i64(int64_t a, int64_t b) { return b == -1 ? 0 : a % b; }
static inline int64_t remainder_i64(int64_t a, int64_t b) {
  int64_t m = fmod_i64(a, b);
  return m != 0 && (b < 0) != (m < 0) ? m + b : m;
}
static inline int64_t floor_i64(int64_t a, int64_t b) {
  return trunc_i64(a, b) - (fmod_i64(a, b) != 0 && (a < 0) != (b < 0));
}
/* a^b, wrapping; a negative power of anything but 1 and -1 is 0. */
static inline int64_t pow_i64(int64_t a, int64_t b) {
  if (b < 0) return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
  uint64_t r = 1, x = U64(a);
  for (; b; b >>= 1, x *= x)
    if (b & 1) r *= x;
  return WRAP(r);
}

/* DIVIDE(trunc_loop, int64 function): the table, and the loops of whole numbers. */
#define DIVIDE(name, whole)                 \
  SAME2(name##_i64, int64_t, whole(a, b))   \
  SAME2(name##_u8, uint8_t, whole(a, b))    \
  static const pg_loop name[PG_NDTYPES] = { \
      [PG_F32] = name##_f32, [PG_F64] = name##_f64, [PG_I64] = name##_i64, [PG_U8] = name##_u8};
#if defined(__FMA__)
/* fmod(a, b) without a call where |a| < most |b| and least < |b| < 1 / least: the whole quotient q
 * is exact there but for one, |a| - q |b| is a multiple of the divisor's last place, and a fused
 * multiply-add gives it as it is. NEAR(f32, float, f, most, least) */
#define NEAR(dtype, T, f, most, least)                                             \
  static inline T near_##dtype(T a, T b) {                                         \
    const T x = fabs##f(a), y = fabs##f(b);                                        \
    T m = fma##f(-trunc##f(x / y), y, x);                                          \
    m = m < 0 ? m + y : m;                                                         \
    m = m >= y ? m - y : m;                                                        \
    return copysign##f(m, a);                                                      \
  }                                                                                \
  static bool all_near_##dtype(int64_t n, char *const *ptr, const int64_t *s) {    \
    unsigned far = 0;                                                              \
    if (s[1] == (int64_t)sizeof(T) && (s[2] == (int64_t)sizeof(T) || s[2] == 0)) { \
      const T *a = (const T *)ptr[1], *b = (const T *)ptr[2];                      \
      const int64_t step = s[2] != 0;                                              \
      for (int64_t i = 0; i < n; i++) {                                            \
        const T x = fabs##f(a[i]), y = fabs##f(b[i * step]);                       \
        far |= !(x < y * (T)(most)) | !(y > (T)(least)) | !(y < 1 / (T)(least));   \
      }                                                                            \
      return !far;                                                                 \
    }                                                                              \
    return false;                                                                  \
  }
NEAR(f32, float, f, 0x1p22, 1e-30)
NEAR(f64, double, , 0x1p51, 1e-290)

/* NEAR_OR(remainder_loop_f32, f32, float, near expr, C library's expr): a loop that takes the
 * latter for blocks with other operands. */
#define NEAR_OR(name, dtype, T_, near, expr)                                         \
  SAME2(name##_near, T_, near)                                                       \
  SAME2(name##_far, T_, expr)                                                        \
  static void name(int64_t n, char *const *ptr, const int64_t *s, const void *arg) { \
    char *p[3] = {ptr[0], ptr[1], ptr[2]};                                           \
    for (int64_t m; n > 0; n -= m) {                                                 \
      m = pg_min64(n, PG_BLOCK);                                                     \
      (all_near_##dtype(m, p, s) ? name##_near : name##_far)(m, p, s, arg);          \
      for (int k = 0; k < 3; k++) p[k] += m * s[k];                                  \
    }                                                                                \
  }
#else
#define NEAR_OR(name, dtype, T, near, expr) SAME2(name, T, expr)
#endif

SAME2(trunc_loop_f32, float, truncf(a / b))
SAME2(trunc_loop_f64, double, trunc(a / b))
NEAR_OR(floor_loop_f32, f32, float, floor_of_f32(a, b, near_f32(a, b)), floor_f32(a, b))
NEAR_OR(floor_loop_f64, f64, double, floor_of_f64(a, b, near_f64(a, b)), floor_f64(a, b))
NEAR_OR(remainder_loop_f32, f32, float, remainder_of_f32(b, near_f32(a, b)), remainder_f32(a, b))
NEAR_OR(remainder_loop_f64, f64, double, remainder_of_f64(b, near_f64(a, b)), remainder_f64(a, b))
NEAR_OR(fmod_loop_f32, f32, float, near_f32(a, b), fmodf(a, b))
NEAR_OR(fmod_loop_f64, f64, double, near_f64(a, b), fmod(a, b))
DIVIDE(trunc_loop, trunc_i64)
DIVIDE(floor_loop, floor_i64)
DIVIDE(remainder_loop, remainder_i64)
DIVIDE(fmod_loop, fmod_i64)

SAME2(pow_loop_f32, float, pg_pow_f32(a, b))
SAME2(pow_loop_f64, double, pg_pow_f64(a, b))
SAME2(pow_loop_i64, int64_t, pow_i64(a, b))
SAME2(pow_loop_u8, uint8_t, pow_i64(a, b))
SAME2(pow_loop_bool, uint8_t, a | !b)
TABLE(pow_loop)

BESIDE2(div_loop_f32, float, a / b)
BESIDE2(div_loop_f64, double, a / b)
PG__TABLE(div_loop)
PG_REAL2(atan2_loop, M2(atan2, a, b))
PG_REAL2(hypot_loop, M2(hypot, a, b))
PG_REAL2(copysign_loop, M2(copysign, a, b))
PG_REAL2(logaddexp_loop, a == b ? a + (T)0.69314718055994531
                                : (a > b || a != a ? a : b) + V1(log1p, V1(exp, -M1(fabs, a - b))))
PG_REAL2(xlogy_loop, b != b ? b : a == 0 ? 0 : a * V1(log, b))
PG_REAL3(lerp_loop, M1(fabs, c) < (T)0.5 ? a + c * (b - a) : b - (b - a) * (1 - c))

/* --- infer ------------------------------------------------------------------------------------ */

/* Numbers that a uint8 result cannot hold are refused. */
static pg_status check_numbers(pg_call *c, int n, pg_dtype d) {
  for (int i = 0; i < n; i++)
    if (c->in[i] && c->in[i]->is_number)
      PG_TRY(pg_want_fit(c, pg_in_name(c, i), pg_item_f64(c->in[i]), d));
  return PG_OK;
}

/* n inputs of the dtypes in mask, all converted to d; the result has that dtype and the joint
 * shape. */
static pg_status infer_as(pg_call *c, int n, pg_dtype d) {
  PG_TRY(check_numbers(c, n, d));
  for (int i = 0; i < n; i++) pg__cast(c, i, d);
  return pg_out_broadcast(c, 0, d, n);
}
static pg_status want_all(pg_call *c, int n, unsigned mask) {
  for (int i = 0; i < n; i++) PG_TRY(pg_want(c, i, mask));
  return PG_OK;
}
static pg_dtype floating(pg_dtype d) { return pg_is_float(d) ? d : PG_F32; }

static pg_status infer_arith(pg_call *c) { /* add, mul, maximum */
  PG_TRY(want_all(c, 2, PG_M_LOOP | PG_M_BOOL));
  return infer_as(c, 2, pg_promote(c, 2));
}
static pg_status infer_number(pg_call *c) { /* remainder, fmod, floor_divide */
  PG_TRY(want_all(c, 2, PG_M_LOOP | PG_M_BOOL));
  pg_dtype d = pg_promote(c, 2);
  if (d == PG_BOOL) return pg_bad_in(c, PG_EDTYPE, 0, "numbers");
  return infer_as(c, 2, d);
}
static pg_status infer_float(pg_call *c) { /* atan2, hypot */
  PG_TRY(want_all(c, 2, PG_M_LOOP | PG_M_BOOL));
  return infer_as(c, 2, floating(pg_promote(c, 2)));
}
/* Integers, and bool where `truth` says so. */
static pg_status infer_whole(pg_call *c, bool truth) {
  for (int i = 0; i < 2; i++) {
    if (!c->in[i]->is_number) PG_TRY(pg_want(c, i, PG_M_INT | (truth ? PG_M_BOOL : 0)));
    else if (!c->in[i]->is_int_number)
      return pg_fail(c->ctx, PG_EDTYPE, "argument '%s': expected an integer, got %g",
                     pg_in_name(c, i), pg_item_f64(c->in[i]));
  }
  return infer_as(c, 2, pg_promote(c, 2));
}
static pg_status infer_bits(pg_call *c) { return infer_whole(c, true); }
static pg_status infer_shift(pg_call *c) { return infer_whole(c, false); }
static pg_status infer_logic(pg_call *c) {
  PG_TRY(want_all(c, 2, PG_M_LOOP | PG_M_BOOL));
  return infer_as(c, 2, PG_BOOL);
}
static pg_status infer_compare(pg_call *c) {
  PG_TRY(want_all(c, 2, PG_M_LOOP | PG_M_BOOL));
  pg_dtype d = pg_promote(c, 2);
  if (d == PG_U8 && (c->in[0]->is_number || c->in[1]->is_number)) d = PG_I64;
  for (int i = 0; i < 2; i++) pg__cast(c, i, d);
  return pg_out_broadcast(c, 0, PG_BOOL, 2);
}

/* A zero among integer divisors is an error; nothing has been changed yet. */
static pg_status check_divisor(pg_call *c) {
  const pg_tensor *b = c->in[1];
  if (pg_is_float((pg_dtype)b->dtype) || !pg_numel(c->out[0])) return PG_OK;
  pg_tensor *flat;
  PG_TRY(pg__contiguous(c->ctx, c->in[1], &flat));
  int64_t n = pg_numel(flat);
  bool zero = false;
  const void *data = pg_data(flat);
  if (flat->dtype == PG_I64)
    for (int64_t i = 0; i < n; i++) zero |= ((const int64_t *)data)[i] == 0;
  else
    for (int64_t i = 0; i < n; i++) zero |= ((const uint8_t *)data)[i] == 0;
  pg_tensor_unref(flat);
  return zero ? pg_fail(c->ctx, PG_EVALUE, "argument '%s': expected integers without a zero, got 0",
                        pg_in_name(c, 1))
              : PG_OK;
}

/* gin[i] = zeros, if needed: the gradient of a step. */
static pg_status zeros(pg_call *c, int i) {
  if (!c->need[i]) return PG_OK;
  const pg_meta *m = &c->meta[i];
  return pg_tensor_zeros(c->ctx, (pg_dtype)m->dtype, m->nd, m->shape, &c->gin[i]);
}

/* gin[i] = loop over the gradient, u and v (NULL: only u), if needed. */
static pg_status fused(pg_call *c, int i, int cost, const pg_loop *loop, pg_tensor *u, pg_tensor *v,
                       const double *numbers) {
  if (!c->need[i]) return PG_OK;
  pg_tensor *t[PG_ITER_MAX] = {NULL, c->gout[0], u, v};
  return pg__map_back(c, i, v ? 3 : 2, t, cost, loop, numbers);
}

/* --- add, sub, mul, div ----------------------------------------------------------------------- */

static pg_status infer_alpha(pg_call *c) {
  PG_TRY(infer_arith(c));
  pg_dtype d = (pg_dtype)c->os[0].dtype;
  double alpha = c->arg[0].f;
  if (!pg_is_float(d) && alpha != floor(alpha))
    return pg_fail(c->ctx, PG_EVALUE, "argument 'alpha': expected an integer for %s, got %g",
                   pg_dtype_name(d), alpha);
  return PG_OK;
}
static pg_status infer_sub(pg_call *c) {
  PG_TRY(want_all(c, 2, PG_M_LOOP));
  return infer_alpha(c);
}
/* An integer factor as the dtype of out[0] holds it. */
static double wrapped(const pg_call *c, double v) {
  return c->out[0]->dtype == PG_U8 ? (double)((int64_t)v & 255) : v;
}
static pg_status add_scaled(pg_call *c, double alpha) {
  const double scale[2] = {wrapped(c, alpha), 0};
  return pg__map(c, 2, 1, add_alpha_loop, scale);
}
static pg_status add_forward(pg_call *c) {
  double alpha = c->arg[0].f;
  return alpha == 1 ? pg__map(c, 2, 1, add_loop, NULL) : add_scaled(c, alpha);
}
static pg_status sub_forward(pg_call *c) {
  double alpha = c->arg[0].f;
  if (alpha == 1) return pg__map(c, 2, 1, sub_loop, NULL);
  return add_scaled(c, -alpha);
}
/* gin[0] = gout, gin[1] = factor * gout */
static pg_status backward_sum(pg_call *c, double factor) {
  if (c->need[0]) c->gin[0] = pg_tensor_ref(c->gout[0]);
  if (!c->need[1]) return PG_OK;
  if (factor != 1) return pg_formula(c, 1, factor == -1 ? "-g" : "g * p", factor, 0);
  c->gin[1] = pg_tensor_ref(c->gout[0]);
  return PG_OK;
}
static pg_status add_backward(pg_call *c) { return backward_sum(c, c->arg[0].f); }
static pg_status sub_backward(pg_call *c) { return backward_sum(c, -c->arg[0].f); }

static pg_status mul_forward(pg_call *c) { return pg__map(c, 2, 1, mul_loop, NULL); }
static pg_status mul_backward(pg_call *c) {
  if (c->need[0]) PG_TRY(pg_do(c->ctx, &c->gin[0], "mul", "tt", c->gout[0], c->in[1]));
  if (c->need[1]) PG_TRY(pg_do(c->ctx, &c->gin[1], "mul", "tt", c->gout[0], c->in[0]));
  return PG_OK;
}

enum { DIV_TRUE, DIV_TRUNC, DIV_FLOOR };

static pg_status div_infer(pg_call *c) {
  if (c->arg[0].i == DIV_TRUE) return infer_float(c);
  return infer_number(c);
}
static pg_status div_forward(pg_call *c) {
  if (c->arg[0].i == DIV_TRUE) return pg__map(c, 2, 2, div_loop, NULL);
  PG_TRY(check_divisor(c));
  return pg__map(c, 2, 8, c->arg[0].i == DIV_TRUNC ? trunc_loop : floor_loop, NULL);
}
PG_REAL3(div_grad, (-a * ((b / c) / c)))
static pg_status div_backward(pg_call *c) {
  if (c->arg[0].i != DIV_TRUE) {
    PG_TRY(zeros(c, 0));
    return zeros(c, 1);
  }
  if (c->need[0]) PG_TRY(pg_do(c->ctx, &c->gin[0], "div", "tt", c->gout[0], c->in[1]));
  if (c->recording) return pg_formula(c, 1, "-g * ((a / b) / b)", 0, 0);
  return fused(c, 1, 4, div_grad, c->in[0], c->in[1], NULL);
}

static pg_status floor_divide_forward(pg_call *c) {
  PG_TRY(check_divisor(c));
  return pg__map(c, 2, 8, floor_loop, NULL);
}
static pg_status remainder_forward(pg_call *c) {
  PG_TRY(check_divisor(c));
  return pg__map(c, 2, 8, remainder_loop, NULL);
}
static pg_status fmod_forward(pg_call *c) {
  PG_TRY(check_divisor(c));
  return pg__map(c, 2, 8, fmod_loop, NULL);
}
static pg_status remainder_backward(pg_call *c) {
  PG_TRY(pg_formula(c, 0, "g", 0, 0));
  return pg_formula(c, 1, "-g * floor_divide(a, b)", 0, 0);
}
static pg_status fmod_backward(pg_call *c) {
  PG_TRY(pg_formula(c, 0, "g", 0, 0));
  return pg_formula(c, 1, "-g * trunc(a / b)", 0, 0);
}

/* --- pow -------------------------------------------------------------------------------------- */

PG_REAL1(pow_2, (a * a))
PG_REAL1(pow_3, (a * a * a))
PG_REAL1(pow_half, M1(sqrt, a))
PG_REAL1(pow_minus_half, 1 / M1(sqrt, a))
PG_REAL1(pow_minus_1, 1 / a)
PG_REAL1(pow_minus_2, 1 / (a * a))

/* The loop of a fixed exponent; NULL where the general one serves. */
static const pg_loop *pow_fixed(double v) {
  return v == 2      ? pow_2
         : v == 3    ? pow_3
         : v == 0.5  ? pow_half
         : v == -0.5 ? pow_minus_half
         : v == -1   ? pow_minus_1
         : v == -2   ? pow_minus_2
                     : NULL;
}
static pg_status pow_infer(pg_call *c) {
  PG_TRY(want_all(c, 2, PG_M_LOOP | PG_M_BOOL));
  pg_dtype d = pg_promote(c, 2);
  if (d == PG_BOOL && !c->in[1]->is_number) return pg_bad_in(c, PG_EDTYPE, 0, "numbers");
  if (!pg_is_float(d) && c->in[1]->is_number && pg_item_f64(c->in[1]) < 0)
    return pg_bad_in(c, PG_EVALUE, 1, "at least 0 for integers");
  return infer_as(c, 2, d);
}
static pg_status pow_forward(pg_call *c) {
  const pg_loop *fixed = NULL;
  if (c->in[1]->nd == 0 && pg_is_float((pg_dtype)c->in[1]->dtype))
    fixed = pow_fixed(pg_item_f64(c->in[1]));
  if (fixed) return pg__map(c, 1, 2, fixed, NULL);
  return pg__map(c, 2, 40, pow_loop, NULL);
}
PG_REAL2(pow_2_grad, 2 * a * b)
PG_REAL2(pow_grad, (a * (p * V2(pow, b, q))))
PG_REAL3(pow_base_grad, (c == 0 ? 0 : a * (c * V2(pow, b, c - 1))))
PG_REAL3(pow_exponent_grad, (b == 0 && c >= 0 ? 0 : a * (V2(pow, b, c) * V1(log, b))))

static pg_status pow_scalar_backward(pg_call *c, double v) {
  if (v == 0) return zeros(c, 0);
  if (c->recording || pow_fixed(v - 1)) /* with pow's own roots and powers */
    return pg_formula(c, 0, v == 2 ? "2 * g * a" : "g * (p * pow(a, q))", v, v - 1);
  const double numbers[2] = {v, v - 1};
  return fused(c, 0, v == 2 ? 1 : 40, v == 2 ? pow_2_grad : pow_grad, c->in[0], NULL, numbers);
}
static pg_status pow_backward(pg_call *c) {
  pg_tensor *a = c->in[0], *b = c->in[1];
  bool number = b->nd == 0 && !(c->recording && c->need[1]); /* no second gradient goes to it */
  if (number) PG_TRY(pow_scalar_backward(c, pg_item_f64(b)));
  if (c->recording) {
    if (!number) PG_TRY(pg_formula(c, 0, "where(eq(b, 0), 0, g * (b * pow(a, b - 1)))", 0, 0));
    return pg_formula(c, 1, "g * where(logical_and(eq(a, 0), ge(b, 0)), 0, pow(a, b) * log(a))", 0,
                      0);
  }
  if (!number) PG_TRY(fused(c, 0, 40, pow_base_grad, a, b, NULL));
  return fused(c, 1, 50, pow_exponent_grad, a, b, NULL);
}

/* --- others of two ---------------------------------------------------------------------------- */

#define FORWARD2(name, cost) \
  static pg_status name##_forward(pg_call *c) { return pg__map(c, 2, cost, name##_loop, NULL); }
#define BACKWARD2(name, first, second)           \
  static pg_status name##_backward(pg_call *c) { \
    PG_TRY(pg_formula(c, 0, first, 0, 0));       \
    return pg_formula(c, 1, second, 0, 0);       \
  }
FORWARD2(maximum, 1)
FORWARD2(minimum, 1)
FORWARD2(fmax, 1)
FORWARD2(fmin, 1)
FORWARD2(atan2, 40)
FORWARD2(hypot, 20)
FORWARD2(copysign, 1)
FORWARD2(logaddexp, 20)
FORWARD2(xlogy, 12)
/* Nothing flows where the point is the origin. */
BACKWARD2(atan2, "where(eq(a * a + b * b, 0), 0, g * b / (a * a + b * b))",
          "where(eq(a * a + b * b, 0), 0, -g * a / (a * a + b * b))")
BACKWARD2(hypot, "g * (a / y)", "g * (b / y)")
BACKWARD2(logaddexp, "g / (1 + exp(b - a))", "g / (1 + exp(a - b))")
BACKWARD2(xlogy, "where(logical_and(eq(a, 0), le(b, 0)), 0, g * log(b))", "g * (a / b)")
static pg_status copysign_backward(pg_call *c) {
  PG_TRY(pg_formula(c, 0, "where(eq(a, 0), 0, g * (copysign(a, b) / a))", 0, 0));
  return zeros(c, 1);
}

/* Where a and b are equal each gets half of the gradient. */
PG_REAL3(greater_grad, b == c ? a / 2 : b < c ? 0 : a)
PG_REAL3(less_grad, b == c ? a / 2 : b > c ? 0 : a)
static pg_status maximum_backward(pg_call *c) {
  if (c->recording) {
    PG_TRY(pg_formula(c, 0, "where(eq(a, b), g / 2, where(lt(a, b), 0, g))", 0, 0));
    return pg_formula(c, 1, "where(eq(a, b), g / 2, where(gt(a, b), 0, g))", 0, 0);
  }
  PG_TRY(fused(c, 0, 2, greater_grad, c->in[0], c->in[1], NULL));
  return fused(c, 1, 2, less_grad, c->in[0], c->in[1], NULL);
}
static pg_status minimum_backward(pg_call *c) {
  if (c->recording) {
    PG_TRY(pg_formula(c, 0, "where(eq(a, b), g / 2, where(gt(a, b), 0, g))", 0, 0));
    return pg_formula(c, 1, "where(eq(a, b), g / 2, where(lt(a, b), 0, g))", 0, 0);
  }
  PG_TRY(fused(c, 0, 2, less_grad, c->in[0], c->in[1], NULL));
  return fused(c, 1, 2, greater_grad, c->in[0], c->in[1], NULL);
}

/* fmax and fmin give nothing to NaN, except to the first of two; equal ones share. */
#define CHOSEN(name, op, word)                                                                    \
  PG_REAL3(name##_first_grad, c != c || b op c ? a : b == c ? a / 2 : 0)                          \
  PG_REAL3(name##_second_grad, c != c || b op c ? 0 : b == c ? a / 2 : a)                         \
  static pg_status name##_backward(pg_call *c) {                                                  \
    if (c->recording) {                                                                           \
      PG_TRY(pg_formula(                                                                          \
          c, 0, "where(logical_or(" word "(a, b), isnan(b)), g, where(eq(a, b), g * 0.5, 0))", 0, \
          0));                                                                                    \
      return pg_formula(                                                                          \
          c, 1, "where(logical_or(" word "(a, b), isnan(b)), 0, where(eq(a, b), g * 0.5, g))", 0, \
          0);                                                                                     \
    }                                                                                             \
    PG_TRY(fused(c, 0, 2, name##_first_grad, c->in[0], c->in[1], NULL));                          \
    return fused(c, 1, 2, name##_second_grad, c->in[0], c->in[1], NULL);                          \
  }
CHOSEN(fmax, >, "gt")
CHOSEN(fmin, <, "lt")

#define LOGIC(name)                                                    \
  static pg_status name##_forward(pg_call *c) {                        \
    static const pg_loop loop[PG_NDTYPES] = {[PG_BOOL] = name##_loop}; \
    return pg__map(c, 2, 1, loop, NULL);                               \
  }
LOGIC(logical_and)
LOGIC(logical_or)
LOGIC(logical_xor)

/* p is rtol, q is atol. */
#define CLOSE(a, b) \
  ((a) == (b) ||    \
   (M1(fabs, (a) - (b)) < (T)INFINITY && M1(fabs, (a) - (b)) <= q + M1(fabs, p * (b))))
#define CLOSE_LOOP(name, expr)                       \
  PG_MAP2(name##_f32, uint8_t, float, float, expr)   \
  PG_MAP2(name##_f64, uint8_t, double, double, expr) \
  PG__TABLE(name)
CLOSE_LOOP(isclose_loop, CLOSE(a, b))
CLOSE_LOOP(isclose_nan_loop, CLOSE(a, b) || (a != a && b != b))
static pg_status isclose_infer(pg_call *c) {
  PG_TRY(want_all(c, 2, PG_M_LOOP | PG_M_BOOL));
  pg_dtype d = pg_promote(c, 2);
  d = pg_is_float(d) ? d : PG_F64;
  for (int i = 0; i < 2; i++) pg__cast(c, i, d);
  return pg_out_broadcast(c, 0, PG_BOOL, 2);
}
static pg_status isclose_forward(pg_call *c) {
  const double tolerance[2] = {c->arg[0].f, c->arg[1].f};
  return pg__map(c, 2, 3, c->arg[2].i ? isclose_nan_loop : isclose_loop, tolerance);
}

/* --- of three --------------------------------------------------------------------------------- */

static pg_status infer_three(pg_call *c) {
  PG_TRY(want_all(c, 3, PG_M_LOOP));
  return infer_as(c, 3, floating(pg_promote(c, 3)));
}
static pg_status lerp_forward(pg_call *c) { return pg__map(c, 3, 2, lerp_loop, NULL); }
PG_REAL2(lerp_start_grad, (a * (1 - b)))
PG_REAL3(lerp_weight_grad, (a * (c - b)))
static pg_status lerp_backward(pg_call *c) {
  if (c->recording) {
    PG_TRY(pg_formula(c, 0, "g * (1 - c)", 0, 0));
    PG_TRY(pg_formula(c, 1, "g * c", 0, 0));
    return pg_formula(c, 2, "g * (b - a)", 0, 0);
  }
  PG_TRY(fused(c, 0, 1, lerp_start_grad, c->in[2], NULL, NULL));
  PG_TRY(fused(c, 1, 1, mul_loop, c->in[2], NULL, NULL));
  return fused(c, 2, 1, lerp_weight_grad, c->in[0], c->in[1], NULL);
}

SAME3(addcmul_loop_f32, float, a + p * b * c)
SAME3(addcmul_loop_f64, double, a + p * b * c)
SAME3(addcmul_loop_i64, int64_t, WRAP(U64(a) + U64(p) * U64(b) * U64(c)))
SAME3(addcmul_loop_u8, uint8_t, a + p * b * c)
PG_REAL3(addcdiv_loop, a + p * (b / c))
static pg_status addcmul_infer(pg_call *c) {
  PG_TRY(want_all(c, 3, PG_M_LOOP));
  pg_dtype d = pg_promote(c, 3);
  if (!pg_is_float(d) && c->arg[0].f != floor(c->arg[0].f))
    return pg_fail(c->ctx, PG_EVALUE, "argument 'value': expected an integer for %s, got %g",
                   pg_dtype_name(d), c->arg[0].f);
  return infer_as(c, 3, d);
}
static pg_status addcmul_forward(pg_call *c) {
  static const pg_loop loop[PG_NDTYPES] = {[PG_F32] = addcmul_loop_f32,
                                           [PG_F64] = addcmul_loop_f64,
                                           [PG_I64] = addcmul_loop_i64,
                                           [PG_U8] = addcmul_loop_u8};
  const double value[2] = {wrapped(c, c->arg[0].f), 0};
  return pg__map(c, 3, 2, loop, value);
}
PG_REAL2(addcmul_grad, (a * b * p))
static pg_status addcmul_backward(pg_call *c) {
  const double value[2] = {c->arg[0].f, 0};
  PG_TRY(pg_formula(c, 0, "g", 0, 0));
  if (c->recording) {
    PG_TRY(pg_formula(c, 1, "g * c * p", value[0], 0));
    return pg_formula(c, 2, "g * b * p", value[0], 0);
  }
  PG_TRY(fused(c, 1, 1, addcmul_grad, c->in[2], NULL, value));
  return fused(c, 2, 1, addcmul_grad, c->in[1], NULL, value);
}
static pg_status addcdiv_infer(pg_call *c) {
  PG_TRY(want_all(c, 3, PG_M_LOOP));
  pg_dtype d = pg_promote(c, 3);
  if (!pg_is_float(d))
    return pg_bad_in(c, PG_EDTYPE, 0, "float32 or float64 in one of the three tensors");
  return infer_as(c, 3, d);
}
static pg_status addcdiv_forward(pg_call *c) {
  const double value[2] = {c->arg[0].f, 0};
  return pg__map(c, 3, 3, addcdiv_loop, value);
}
PG_REAL2(addcdiv_grad, (a * p / b))
PG_REAL3(addcdiv_divisor_grad, (-a * p * (b / (c * c))))
static pg_status addcdiv_backward(pg_call *c) {
  const double value[2] = {c->arg[0].f, 0};
  PG_TRY(pg_formula(c, 0, "g", 0, 0));
  if (c->recording) {
    PG_TRY(pg_formula(c, 1, "g * p / c", value[0], 0));
    return pg_formula(c, 2, "-g * p * (b / (c * c))", value[0], 0);
  }
  PG_TRY(fused(c, 1, 2, addcdiv_grad, c->in[2], NULL, value));
  return fused(c, 2, 2, addcdiv_divisor_grad, c->in[1], c->in[2], value);
}

/* --- where, masked_fill ----------------------------------------------------------------------- */

/* Choice of b or c by the mask a, and of c or a by the mask b, for every element type. */
#define CHOICE(name, T_)                                \
  PG_MAP3(where_##name, T_, uint8_t, T_, T_, a ? b : c) \
  PG_MAP3(masked_fill_##name, T_, T_, uint8_t, T_, b ? c : a)
CHOICE(f32, float)
CHOICE(f64, double)
CHOICE(i64, int64_t)
CHOICE(u16, uint16_t)
CHOICE(u8, uint8_t)
#define CHOICES(name)                                                       \
  static const pg_loop name##_loop[PG_NDTYPES] = {                          \
      [PG_F32] = name##_f32,  [PG_F64] = name##_f64, [PG_I64] = name##_i64, \
      [PG_BF16] = name##_u16, [PG_U8] = name##_u8,   [PG_BOOL] = name##_u8};
CHOICES(where)
CHOICES(masked_fill)

/* Which input is the condition: the first, or the second where a method call, x:where(condition,
 * other), put it there. */
static int condition_of(int first, int second) {
  return first != PG_BOOL && second == PG_BOOL ? 1 : 0;
}
static pg_status where_infer(pg_call *c) {
  int at = condition_of(c->in[0]->dtype, c->in[1]->dtype);
  pg_tensor *condition = c->in[at];
  PG_TRY(pg_want(c, at, PG_M_BOOL | 1u << PG_U8));
  c->in[at] = NULL; /* promotion and memory order come from the others */
  pg_dtype d = pg_promote(c, 3);
  pg_status s = check_numbers(c, 3, d);
  c->in[at] = condition;
  PG_TRY(s);
  for (int i = 0; i < 3; i++)
    if (i != at) pg__cast(c, i, d);
  return pg_out_broadcast(c, 0, d, 3);
}
static pg_status where_forward(pg_call *c) {
  int at = condition_of(c->in[0]->dtype, c->in[1]->dtype);
  pg_tensor *t[4] = {c->out[0], c->in[at], c->in[1 - at], c->in[2]};
  pg__over(c->ctx, 4, t, 0, 1, where_loop, NULL);
  if (c->recording) c->keep[0] = pg_tensor_ref(c->in[at]);
  return PG_OK;
}
static pg_status where_backward(pg_call *c) {
  pg_tensor *zero = NULL;
  int first = 1 - condition_of(c->meta[0].dtype, c->meta[1].dtype);
  pg_status s = pg_tensor_number(c->ctx, 0, false, &zero);
  if (s == PG_OK && c->need[first])
    s = pg_do(c->ctx, &c->gin[first], "where", "ttt", c->keep[0], c->gout[0], zero);
  if (s == PG_OK && c->need[2])
    s = pg_do(c->ctx, &c->gin[2], "where", "ttt", c->keep[0], zero, c->gout[0]);
  pg_tensor_unref(zero);
  return s;
}

static pg_status masked_fill_infer(pg_call *c) {
  const pg_tensor *x = c->in[0], *value = c->in[2];
  PG_TRY(pg_want(c, 1, PG_M_BOOL | 1u << PG_U8));
  if (value->nd)
    return pg_fail(c->ctx, PG_ESHAPE,
                   "argument 'value': expected a number or a 0-dim tensor, got %s",
                   pg_shape_str(value).s);
  pg_dtype d = (pg_dtype)x->dtype;
  bool fraction = value->is_number ? !value->is_int_number : pg_is_float((pg_dtype)value->dtype);
  if (fraction && !pg_is_float(d))
    return pg_fail(c->ctx, PG_EDTYPE,
                   "argument 'value': expected an integer for %s, got a fraction",
                   pg_dtype_name(d));
  PG_TRY(check_numbers(c, 3, d));
  pg__cast(c, 2, d);
  return pg_out_broadcast(c, 0, d, 2);
}
static pg_status masked_fill_forward(pg_call *c) {
  return pg__map(c, 3, 1, masked_fill_loop, NULL);
}
static pg_status masked_fill_backward(pg_call *c) {
  PG_TRY(pg_formula(c, 0, "where(b, 0, g)", 0, 0));
  return pg_formula(c, 2, "where(b, g, 0)", 0, 0);
}

/* --- table ------------------------------------------------------------------------------------ */

#define SAVES (PG_SAVE_IN(0) | PG_SAVE_IN(1))
/* OP2(mul, "mul|multiply", doc, flags, saves, infer, backward): a function of two. */
#define OP2(fn, name, doc, flags, saves, infer, backward) \
  { name, doc, {PG_TN("input"), PG_TN("other")}, flags, saves, 1, infer, {fn##_forward}, backward }
#define TEST2(fn, name, doc) OP2(fn, name, doc, BOTH | PG_NODIFF, 0, infer_compare, NULL)

const pg_op PG_AT(pg_ops_binary)[] = {
    {"add",
     "input + alpha * other.",
     {PG_TN("input"), PG_TN("other"), PG_DEF("alpha", PG_FLOAT, 1)},
     BOTH,
     0,
     1,
     infer_alpha,
     {add_forward},
     add_backward},
    {"sub|subtract",
     "input - alpha * other.",
     {PG_TN("input"), PG_TN("other"), PG_DEF("alpha", PG_FLOAT, 1)},
     BOTH,
     0,
     1,
     infer_sub,
     {sub_forward},
     sub_backward},
    OP2(mul, "mul|multiply", "input * other.", BOTH, SAVES, infer_arith, mul_backward),
    {"div|divide|true_divide",
     "input / other; rounding_mode trunc and floor round the quotient and keep integers.",
     {PG_TN("input"), PG_TN("other"), PG_WORD("rounding_mode", DIV_TRUE, "none|trunc|floor")},
     BOTH,
     SAVES,
     1,
     div_infer,
     {div_forward},
     div_backward},
    OP2(floor_divide, "floor_divide", "Largest integer <= input / other.", BOTH | PG_NODIFF, 0,
        infer_number, NULL),
    OP2(remainder, "remainder", "input - other * floor(input / other); other's sign, as Lua's %.",
        BOTH, SAVES, infer_number, remainder_backward),
    OP2(fmod, "fmod", "input - other * trunc(input / other); input's sign, as C's fmod.", BOTH,
        SAVES, infer_number, fmod_backward),
    {"pow",
     "input to the power of exponent.",
     {PG_TN("input"), PG_TN("exponent")},
     BOTH,
     SAVES,
     1,
     pow_infer,
     {pow_forward},
     pow_backward},
    OP2(maximum, "maximum", "The larger of input and other; NaN if either is.", PG_METHOD, SAVES,
        infer_arith, maximum_backward),
    OP2(minimum, "minimum", "The smaller of input and other; NaN if either is.", PG_METHOD, SAVES,
        infer_arith, minimum_backward),
    OP2(fmax, "fmax", "The larger of input and other; a number rather than NaN.", PG_METHOD, SAVES,
        infer_arith, fmax_backward),
    OP2(fmin, "fmin", "The smaller of input and other; a number rather than NaN.", PG_METHOD, SAVES,
        infer_arith, fmin_backward),
    OP2(atan2, "atan2|arctan2", "The angle of the point (other, input), from -pi to pi.", BOTH,
        SAVES, infer_float, atan2_backward),
    OP2(hypot, "hypot", "sqrt(input^2 + other^2).", BOTH, SAVES | PG_SAVE_OUT(0), infer_float,
        hypot_backward),
    OP2(copysign, "copysign", "|input| with the sign of other.", BOTH, SAVES, infer_float,
        copysign_backward),
    OP2(logaddexp, "logaddexp", "log(e^input + e^other).", PG_METHOD, SAVES, infer_float,
        logaddexp_backward),
    OP2(xlogy, "xlogy", "input * log(other), 0 where input is 0.", BOTH, SAVES, infer_float,
        xlogy_backward),
    TEST2(eq, "eq", "true where input == other."),
    TEST2(ne, "ne|not_equal", "true where input ~= other."),
    TEST2(lt, "lt|less", "true where input < other."),
    TEST2(le, "le|less_equal", "true where input <= other."),
    TEST2(gt, "gt|greater", "true where input > other."),
    TEST2(ge, "ge|greater_equal", "true where input >= other."),
    {"isclose",
     "true where |input - other| <= atol + rtol * |other|.",
     {PG_TN("input"), PG_TN("other"), PG_DEF("rtol", PG_FLOAT, 1e-5),
      PG_DEF("atol", PG_FLOAT, 1e-8), PG_DEF("equal_nan", PG_FLAG, 0)},
     PG_METHOD | PG_NODIFF,
     0,
     1,
     isclose_infer,
     {isclose_forward},
     NULL},
    OP2(logical_and, "logical_and", "true where both are nonzero.", BOTH | PG_NODIFF, 0,
        infer_logic, NULL),
    OP2(logical_or, "logical_or", "true where either is nonzero.", BOTH | PG_NODIFF, 0, infer_logic,
        NULL),
    OP2(logical_xor, "logical_xor", "true where just one is nonzero.", BOTH | PG_NODIFF, 0,
        infer_logic, NULL),
    OP2(bitwise_and, "bitwise_and", "Bits set in both; of bools, and.", BOTH | PG_NODIFF, 0,
        infer_bits, NULL),
    OP2(bitwise_or, "bitwise_or", "Bits set in either; of bools, or.", BOTH | PG_NODIFF, 0,
        infer_bits, NULL),
    OP2(bitwise_xor, "bitwise_xor", "Bits set in just one; of bools, exclusive or.",
        BOTH | PG_NODIFF, 0, infer_bits, NULL),
    OP2(bitwise_left_shift, "bitwise_left_shift", "input * 2^other.", BOTH | PG_NODIFF, 0,
        infer_shift, NULL),
    OP2(bitwise_right_shift, "bitwise_right_shift", "floor(input / 2^other).", BOTH | PG_NODIFF, 0,
        infer_shift, NULL),
    {"lerp",
     "input + weight * (end - input).",
     {PG_T("input"), PG_T("end"), PG_TN("weight")},
     BOTH,
     PG_SAVE_IN(0) | PG_SAVE_IN(1) | PG_SAVE_IN(2),
     1,
     infer_three,
     {lerp_forward},
     lerp_backward},
    {"addcmul",
     "input + value * tensor1 * tensor2.",
     {PG_T("input"), PG_T("tensor1"), PG_T("tensor2"), PG_DEF("value", PG_FLOAT, 1)},
     BOTH,
     PG_SAVE_IN(1) | PG_SAVE_IN(2),
     1,
     addcmul_infer,
     {addcmul_forward},
     addcmul_backward},
    {"addcdiv",
     "input + value * tensor1 / tensor2.",
     {PG_T("input"), PG_T("tensor1"), PG_T("tensor2"), PG_DEF("value", PG_FLOAT, 1)},
     BOTH,
     PG_SAVE_IN(1) | PG_SAVE_IN(2),
     1,
     addcdiv_infer,
     {addcdiv_forward},
     addcdiv_backward},
    {"where",
     "input where condition is true, else other; as a method, x:where(condition, other).",
     {PG_T("condition"), PG_TN("input"), PG_TN("other")},
     PG_METHOD,
     0,
     1,
     where_infer,
     {where_forward},
     where_backward},
    {"masked_fill",
     "input with value where mask is true.",
     {PG_T("input"), PG_TIDX("mask"), PG_TN("value")},
     BOTH,
     PG_SAVE_IN(1),
     1,
     masked_fill_infer,
     {masked_fill_forward},
     masked_fill_backward},
    {0}};
