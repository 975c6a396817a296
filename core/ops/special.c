/* Special functions: lgamma, digamma, polygamma, i0, i1, erfinv, sinc, logaddexp2, and heaviside,
 * nextafter, gcd, lcm. Relies on loops.h, and formulas for gradients. Spec:
 * spec/ops/special_spec.lua. */
#include "autograd/formula.h"
#include "ops/loops.h"

#define BOTH (PG_METHOD | PG_INPLACE)

/* --- functions of one number ------------------------------------------------------------------ */

static inline double lgamma_of(double x) {
  int sign;
  return lgamma_r(x, &sign);
}

/* sum over k >= 0 of (q + k)^-s for an integer s > 1: the first terms, then Euler and Maclaurin's
 * formula from a number above 10. Infinite at 0 and the negative integers. */
static double zeta_of(double s, double q) {
  static const double bernoulli[] = {
      /* B(2j) / (2j)! */
      8.3333333333333329e-02,  -1.3888888888888889e-03, 3.3068783068783071e-05,
      -8.2671957671957675e-07, 2.0876756987868099e-08,  -5.2841901386874932e-10,
      1.3382536530684679e-11,  -3.3896802963225829e-13, 8.5860620562778446e-15,
      -2.1748686985580619e-16, 5.5090028283602295e-18,  -1.3954464685812523e-19};
  if (q != q) return q;
  if (q <= 0 && q == floor(q)) return (double)INFINITY;
  if (q > 1e30) return 0;
  if (q < -1e6) return (double)NAN; /* too many terms */
  double sum = 0;
  for (; q < 10; q++) sum += pow(q, -s);
  double power = pow(q, -s);
  sum += power * q / (s - 1) + power / 2;
  double rising = s, factor = power / q;
  for (int j = 0; j < (int)(sizeof bernoulli / sizeof *bernoulli); j++) {
    sum += bernoulli[j] * rising * factor;
    rising *= (s + 2 * j + 1) * (s + 2 * j + 2);
    factor /= q * q;
  }
  return sum;
}

/* (log Gamma)'. A pole at 0 has the sign that comes from x's side; the others give NaN. */
static double digamma_of(double x) {
  double sum = 0;
  if (x == 0) return copysign((double)INFINITY, -x);
  if (x < 0) {
    if (x == trunc(x)) return (double)NAN;
    double whole;
    sum = -M_PI / tan(M_PI * modf(x, &whole));
    x = 1 - x;
  }
  for (; x < 10; x++) sum -= 1 / x;
  if (isinf(x)) return x;
  double z = 1 / (x * x);
  double tail =
      z * (1.0 / 12 -
           z * (1.0 / 120 -
                z * (1.0 / 252 -
                     z * (1.0 / 240 - z * (1.0 / 132 - z * (691.0 / 32760 - z * (1.0 / 12)))))));
  return sum + log(x) - 0.5 / x - tail;
}

/* The derivative of order n of digamma: (-1)^(n + 1) n! zeta(n + 1, x). */
static double polygamma_of(double n, double x) {
  if (n == 0) return digamma_of(x);
  if (n == 1 && x < 0) { /* by reflection */
    double s = sin(M_PI * x);
    return M_PI * M_PI / (s * s) - zeta_of(2, 1 - x);
  }
  double v = exp(lgamma_of(n + 1)) * zeta_of(n + 1, x);
  return fmod(n, 2) == 0 ? -v : v;
}

/* x with erf(x) = y: Winitzki's approximation, then Halley's steps; for |y| above a half on erfc,
 * which keeps the digits of 1 - |y|. */
static double erfinv_of(double y) {
  double size = fabs(y);
  if (!(size < 1)) return size == 1 ? copysign((double)INFINITY, y) : (double)NAN;
  if (size == 0) return y;
  double l = log1p(-size * size), b = 2 / (M_PI * 0.147) + l / 2;
  double x = sqrt(sqrt(b * b - l / 0.147) - b);
  for (int i = 0; i < 3; i++) {
    double off = size > 0.5 ? (1 - size) - erfc(x) : erf(x) - size;
    double step = off / (2 / sqrt(M_PI) * exp(-x * x));
    x -= step / (1 + x * step);
  }
  return copysign(x, y);
}

/* The modified Bessel function of the first kind of order 0 or 1: the sum over k of
 * (x/2)^(2k + order) / (k! (k + order)!), from |x| = 30 on its expansion at infinity (Abramowitz
 * and Stegun, 9.6.10 and 9.7.1). */
static double bessel_of(int order, double x) {
  double a = fabs(x), sum = 1, term = 1;
  if (a < 30) {
    const double q = a * a / 4;
    for (int k = 1; term > sum * 1e-17; k++) sum += term *= q / ((double)k * (k + order));
    if (order) sum *= a / 2;
  } else if (a < INFINITY) {
    for (int k = 1; k < 30 && fabs(term) > 1e-17; k++) {
      const double odd = 2 * k - 1;
      sum += term *= (odd * odd - 4 * order) / (8 * k * a);
    }
    const double half = exp(a / 2); /* in two steps, as exp(a) is infinite before the result is */
    sum *= half / sqrt(2 * M_PI * a) * half;
  } else {
    sum = a;
  }
  return order && x < 0 ? -sum : sum;
}

/* --- loops ------------------------------------------------------------------------------------ */

PG_REAL1(lgamma_loop, (T)lgamma_of((double)a))
PG_REAL1(digamma_loop, (T)digamma_of((double)a))
PG_REAL1(polygamma_loop, (T)polygamma_of((double)p, (double)a))
PG_REAL1(i0_loop, (T)bessel_of(0, (double)a))
PG_REAL1(i1_loop, (T)bessel_of(1, (double)a))
PG_REAL1(erfinv_loop, (T)erfinv_of((double)a))
#define PI_TIMES(x) ((T)M_PI * (x))
PG_REAL1(sinc_loop, (a == 0 ? 1 : M1(sin, PI_TIMES(a)) / PI_TIMES(a)))
PG_REAL2(logaddexp2_loop, a == b && M1(fabs, a) == (T)INFINITY
                              ? a
                              : (a > b || a != a ? a : b) +
                                    M1(log1p, M1(exp2, -M1(fabs, a - b))) * (T)1.4426950408889634)
PG_REAL2(nextafter_loop, M2(nextafter, a, b))

#define STEP_AT(name, T_) PG_MAP2(name, T_, T_, T_, a == 0 ? b : (T_)(a > 0))
STEP_AT(heaviside_f32, float)
STEP_AT(heaviside_f64, double)
STEP_AT(heaviside_i64, int64_t)
STEP_AT(heaviside_u8, uint8_t)
static const pg_loop heaviside_loop[PG_NDTYPES] = {[PG_F32] = heaviside_f32,
                                                   [PG_F64] = heaviside_f64,
                                                   [PG_I64] = heaviside_i64,
                                                   [PG_U8] = heaviside_u8,
                                                   [PG_BOOL] = heaviside_u8};

static inline uint64_t gcd_of(uint64_t a, uint64_t b) {
  while (b) {
    uint64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}
static inline uint64_t size_of(int64_t a) { return a < 0 ? 0 - (uint64_t)a : (uint64_t)a; }
static inline int64_t lcm_of(int64_t a, int64_t b) {
  uint64_t g = gcd_of(size_of(a), size_of(b));
  return g ? (int64_t)(size_of(a) / g * size_of(b)) : 0;
}
PG_MAP2(gcd_i64, int64_t, int64_t, int64_t, (int64_t)gcd_of(size_of(a), size_of(b)))
PG_MAP2(gcd_u8, uint8_t, uint8_t, uint8_t, (uint8_t)gcd_of(a, b))
PG_MAP2(lcm_i64, int64_t, int64_t, int64_t, lcm_of(a, b))
PG_MAP2(lcm_u8, uint8_t, uint8_t, uint8_t, (uint8_t)lcm_of(a, b))
static const pg_loop gcd_loop[PG_NDTYPES] = {[PG_I64] = gcd_i64, [PG_U8] = gcd_u8};
static const pg_loop lcm_loop[PG_NDTYPES] = {[PG_I64] = lcm_i64, [PG_U8] = lcm_u8};

/* --- infer, forward, backward ----------------------------------------------------------------- */

/* n inputs, taken as float32 unless one of them is floating. */
static pg_status infer_float(pg_call *c) {
  for (int i = 0; i < c->nin; i++) PG_TRY(pg_want(c, i, PG_M_NUM | PG_M_BOOL));
  pg_dtype d = pg_promote(c, c->nin);
  if (!pg_is_float(d)) d = PG_F32;
  for (int i = 0; i < c->nin; i++) pg_cast_in(c, i, d);
  return pg_out_broadcast(c, 0, d, c->nin);
}
static pg_status infer_polygamma(pg_call *c) {
  if (c->arg[0].i < 0)
    return pg_fail(c->ctx, PG_EVALUE, "argument 'n': expected at least 0, got %lld",
                   (long long)c->arg[0].i);
  return infer_float(c);
}
/* Two of the dtypes in mask, as their common one. */
static pg_status infer_two(pg_call *c, unsigned mask) {
  for (int i = 0; i < 2; i++)
    if (!c->in[i]->is_number) PG_TRY(pg_want(c, i, mask));
  pg_dtype d = pg_promote(c, 2);
  if (!(mask >> d & 1))
    return pg_bad_in(c, PG_EDTYPE, pg_is_float((pg_dtype)c->in[0]->dtype) ? 0 : 1, "integers");
  for (int i = 0; i < 2; i++) pg_cast_in(c, i, d);
  return pg_out_broadcast(c, 0, d, 2);
}
static pg_status infer_heaviside(pg_call *c) { return infer_two(c, PG_M_NUM | PG_M_BOOL); }
static pg_status infer_whole(pg_call *c) { return infer_two(c, PG_M_INT); }

#define FORWARD(name, count, cost) \
  static pg_status name##_forward(pg_call *c) { return pg__map(c, count, cost, name##_loop, NULL); }
FORWARD(lgamma, 1, 60)
FORWARD(digamma, 1, 80)
FORWARD(i0, 1, 100)
FORWARD(i1, 1, 100)
FORWARD(erfinv, 1, 200)
FORWARD(sinc, 1, 30)
FORWARD(logaddexp2, 2, 40)
FORWARD(nextafter, 2, 10)
FORWARD(heaviside, 2, 1)
FORWARD(gcd, 2, 100)
FORWARD(lcm, 2, 100)
static pg_status polygamma_forward(pg_call *c) {
  const double order[2] = {(double)c->arg[0].i, 0};
  return pg__map(c, 1, 400, polygamma_loop, order);
}

static pg_status lgamma_backward(pg_call *c) { return pg_formula(c, 0, "g * digamma(x)", 0, 0); }
/* g times the derivative of order n of digamma. */
static pg_status times_polygamma(pg_call *c, int64_t n) {
  pg_tensor *slope;
  PG_TRY(pg_do(c->ctx, &slope, "polygamma", "ti", c->in[0], n));
  pg_status s = pg_do(c->ctx, &c->gin[0], "mul", "tt", c->gout[0], slope);
  pg_tensor_unref(slope);
  return s;
}
static pg_status digamma_backward(pg_call *c) { return times_polygamma(c, 1); }
static pg_status polygamma_backward(pg_call *c) { return times_polygamma(c, c->arg[0].i + 1); }
static pg_status i0_backward(pg_call *c) { return pg_formula(c, 0, "g * i1(x)", 0, 0); }
static pg_status i1_backward(pg_call *c) {
  return pg_formula(c, 0, "g * where(eq(x, 0), 0.5, i0(x) - i1(x) / x)", 0, 0);
}
static pg_status erfinv_backward(pg_call *c) {
  return pg_formula(c, 0, "g * 0.88622692545275801 * exp(y * y)", 0, 0);
}
static pg_status sinc_backward(pg_call *c) {
  return pg_formula(
      c, 0, "where(eq(x * x * p, 0), 0, g * ((x * p * cos(x * p) - sin(x * p)) / (x * x * p)))",
      M_PI, 0);
}
static pg_status logaddexp2_backward(pg_call *c) {
  PG_TRY(pg_formula(c, 0, "g / (1 + exp2(b - a))", 0, 0));
  return pg_formula(c, 1, "g / (1 + exp2(a - b))", 0, 0);
}

/* --- table ------------------------------------------------------------------------------------ */

#define FUNCTION(fn, doc, saves) \
  { #fn, doc, {PG_T("input") }, BOTH, saves, 1, infer_float, {fn##_forward }, fn##_backward }
#define OP2(fn, second, doc, flags, saves, infer, backward) \
  { #fn, doc, {PG_TN("input"), PG_TN(second) }, flags, saves, 1, infer, {fn##_forward }, backward }

const pg_op PG_AT(pg_ops_special)[] = {
    FUNCTION(lgamma, "Logarithm of |Gamma(x)|.", PG_SAVE_IN(0)),
    FUNCTION(digamma, "Derivative of log Gamma(x).", PG_SAVE_IN(0)),
    {"polygamma",
     "The n-th derivative of digamma(x); pg.polygamma(n, x) too.",
     {PG_T("input"), PG_REQ("n", PG_INT)},
     BOTH,
     PG_SAVE_IN(0),
     1,
     infer_polygamma,
     {polygamma_forward},
     polygamma_backward},
    FUNCTION(i0, "Modified Bessel function of the first kind, of order 0.", PG_SAVE_IN(0)),
    FUNCTION(i1, "Modified Bessel function of the first kind, of order 1.", PG_SAVE_IN(0)),
    FUNCTION(erfinv, "The number whose erf is x, for x in -1..1.", PG_SAVE_OUT(0)),
    FUNCTION(sinc, "sin(pi x) / (pi x), 1 at 0.", PG_SAVE_IN(0)),
    OP2(logaddexp2, "other", "log2(2^input + 2^other).", PG_METHOD, PG_SAVE_IN(0) | PG_SAVE_IN(1),
        infer_float, logaddexp2_backward),
    OP2(heaviside, "values", "0 where input < 0, values where it is 0, else 1.", BOTH | PG_NODIFF,
        0, infer_heaviside, NULL),
    OP2(nextafter, "other", "The next number after input in the direction of other.",
        BOTH | PG_NODIFF, 0, infer_float, NULL),
    OP2(gcd, "other", "Greatest common divisor of the sizes of input and other.", BOTH | PG_NODIFF,
        0, infer_whole, NULL),
    OP2(lcm, "other", "Least common multiple of the sizes of input and other.", BOTH | PG_NODIFF, 0,
        infer_whole, NULL),
    {0}};
