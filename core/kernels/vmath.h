/* Inline elementary functions without branches, so that loops over them become vector code.
 * Relies on the C library's math.h; polynomials are minimax fits of the named function.
 * Spec: spec/ops/unary_spec.lua.
 *
 * Largest errors found against the C library's long double, over the whole range: 2.5 ulp in both
 * dtypes (exp, log 1 ulp; pow of float32 half an ulp). Infinities, NaN and signed zeros as in C's
 * annex F; denormal results may be flushed. Those marked "scalar" call the C library and are not
 * vectorised. */
#ifndef PG_KERNELS_VMATH_H
#define PG_KERNELS_VMATH_H

#include <math.h>
#include <stdint.h>

#include "kernels/bf16.h"

#ifndef M_PI
#define M_PI 3.14159265358979323846
#endif

static inline uint32_t pg__bits_f32(float x) {
  union {
    float f;
    uint32_t u;
  } v = {x};
  return v.u;
}
static inline float pg__from_bits_f32(uint32_t u) {
  union {
    uint32_t u;
    float f;
  } v = {u};
  return v.f;
}
static inline uint64_t pg__bits_f64(double x) {
  union {
    double f;
    uint64_t u;
  } v = {x};
  return v.u;
}
static inline double pg__from_bits_f64(uint64_t u) {
  union {
    uint64_t u;
    double f;
  } v = {u};
  return v.f;
}

/* Adding and subtracting one of these rounds to an integer, half to even; after the addition the
 * low bits of the sum are that integer. |x| < 2^22 / 2^51. */
#define PG__ROUND_F32 0x1.8p23f
#define PG__ROUND_F64 0x1.8p52

/* 2^n for an integer -126 <= n <= 127 / -1022 <= n <= 1023. */
static inline float pg__exp2i_f32(float n) {
  return pg__from_bits_f32((pg__bits_f32(n + PG__ROUND_F32) << 23) + 0x3f800000u);
}
static inline double pg__exp2i_f64(double n) {
  return pg__from_bits_f64((pg__bits_f64(n + PG__ROUND_F64) << 52) + 0x3ff0000000000000u);
}

/* --- exp ------------------------------------------------------------------------------------ */

/* exp(x) = 2^n (1 + q) with |x - n ln 2| <= ln 2 / 2. */
static inline float pg__exp_parts_f32(float x, float *n) {
  float k = x * 0x1.715476p+0f + PG__ROUND_F32;
  k -= PG__ROUND_F32;
  float r = x - k * 0x1.62e4p-1f;
  r -= k * 0x1.7f7d1cp-20f;
  float p = 0.000199182177f;
  p = p * r + 0.00139458547f;
  p = p * r + 0.00833326485f;
  p = p * r + 0.041666273f;
  p = p * r + 0.166666672f;
  p = p * r + 0.5f;
  *n = k;
  return r + r * r * p;
}
static inline double pg__exp_parts_f64(double x, double *n) {
  double k = x * 0x1.71547652b82fep+0 + PG__ROUND_F64;
  k -= PG__ROUND_F64;
  double r = x - k * 0x1.62e42fefa2000p-1;
  r -= k * 0x1.9ef35793c7673p-41;
  double p = 2.0926764967933905e-09;
  p = p * r + 2.5112089300674126e-08;
  p = p * r + 2.7557234068268626e-07;
  p = p * r + 2.7557234749471772e-06;
  p = p * r + 2.4801587372674904e-05;
  p = p * r + 0.00019841269896436693;
  p = p * r + 0.0013888888888859189;
  p = p * r + 0.0083333333333170528;
  p = p * r + 0.04166666666666672;
  p = p * r + 0.16666666666666682;
  p = p * r + 0.5;
  *n = k;
  return r + r * r * p;
}

static inline float pg_exp_f32(float x) {
  float n;
  x = x > 89.0f ? 89.0f : x;
  x = x < -104.0f ? -104.0f : x;
  float q = pg__exp_parts_f32(x, &n);
  float half = n * 0.5f + PG__ROUND_F32; /* two factors: 2^n alone may not be a float */
  half -= PG__ROUND_F32;
  float s = pg__exp2i_f32(half);
  return (s + s * q) * pg__exp2i_f32(n - half);
}
static inline double pg_exp_f64(double x) {
  double n;
  x = x > 710.0 ? 710.0 : x;
  x = x < -746.0 ? -746.0 : x;
  double q = pg__exp_parts_f64(x, &n);
  double half = n * 0.5 + PG__ROUND_F64;
  half -= PG__ROUND_F64;
  double s = pg__exp2i_f64(half);
  return (s + s * q) * pg__exp2i_f64(n - half);
}

static inline float pg_expm1_f32(float x) {
  float n;
  float t = x > 89.0f ? 89.0f : x;
  t = t < -20.0f ? -20.0f : t;
  float q = pg__exp_parts_f32(t, &n);
  float s = pg__exp2i_f32(n - 1.0f);
  float y = 2.0f * (s * q + (s - 0.5f));
  return x == 0.0f ? x : y;
}
static inline double pg_expm1_f64(double x) {
  double n;
  double t = x > 710.0 ? 710.0 : x;
  t = t < -40.0 ? -40.0 : t;
  double q = pg__exp_parts_f64(t, &n);
  double s = pg__exp2i_f64(n - 1.0);
  double y = 2.0 * (s * q + (s - 0.5));
  return x == 0.0 ? x : y;
}

/* --- log ------------------------------------------------------------------------------------ */

/* log(m) with x = 2^e m, sqrt(1/2) <= m < sqrt(2), for 0 < x < inf; x is scaled up if denormal. */
static inline float pg__log_parts_f32(float x, float *e) {
  float small = x < 0x1p-126f ? 23.0f : 0.0f;
  x = x < 0x1p-126f ? x * 0x1p23f : x;
  uint32_t u = pg__bits_f32(x) + (0x3f800000u - 0x3f3504f3u);
  float k = (float)((int32_t)(u >> 23) - 127) - small;
  float f = pg__from_bits_f32((u & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  float p = 0.0692096576f;
  p = p * f - 0.117806412f;
  p = p * f + 0.11865136f;
  p = p * f - 0.123855628f;
  p = p * f + 0.142200232f;
  p = p * f - 0.166692153f;
  p = p * f + 0.200021461f;
  p = p * f - 0.249999866f;
  p = p * f + 0.333333105f;
  float z = f * f;
  *e = k;
  return f + (z * f * p - 0.5f * z);
}
static inline double pg__log_parts_f64(double x, double *e) {
  double small = x < 0x1p-1022 ? 54.0 : 0.0;
  x = x < 0x1p-1022 ? x * 0x1p54 : x;
  uint64_t u = pg__bits_f64(x) + (0x3ff0000000000000u - 0x3fe6a09e667f3bcdu);
  double k = pg__from_bits_f64((u >> 52) | 0x4330000000000000u) - (0x1p52 + 1023.0) - small;
  double f = pg__from_bits_f64((u & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu) - 1.0;
  double s = f / (2.0 + f); /* log(1 + f) = 2 atanh(s) */
  double z = s * s;
  double p = 0.13089213847649372;
  p = p * z + 0.13268516694204482;
  p = p * z + 0.15386249671237048;
  p = p * z + 0.1818179544831422;
  p = p * z + 0.22222222393605218;
  p = p * z + 0.28571428570794749;
  p = p * z + 0.4000000000000089;
  p = p * z + 0.66666666666666663;
  double h = 0.5 * f * f;
  *e = k;
  return f - (h - s * (h + z * p));
}

/* Puts the results for 0, negative numbers, infinity and NaN over y. */
static inline float pg__log_ends_f32(float x, float y) {
  y = x < INFINITY ? y : x;
  y = x == 0.0f ? -INFINITY : y;
  return x < 0.0f ? NAN : y;
}
static inline double pg__log_ends_f64(double x, double y) {
  y = x < (double)INFINITY ? y : x;
  y = x == 0.0 ? -(double)INFINITY : y;
  return x < 0.0 ? (double)NAN : y;
}

static inline float pg_log_f32(float x) {
  float e;
  float p = pg__log_parts_f32(x, &e);
  return pg__log_ends_f32(x, e * 0x1.62e4p-1f + (p + e * 0x1.7f7d1cp-20f));
}
static inline double pg_log_f64(double x) {
  double e;
  double p = pg__log_parts_f64(x, &e);
  return pg__log_ends_f64(x, e * 0x1.62e42fefa2000p-1 + (p + e * 0x1.9ef35793c7673p-41));
}

static inline float pg_log2_f32(float x) {
  float e;
  float p = pg__log_parts_f32(x, &e);
  return pg__log_ends_f32(x, e + p * 0x1.715476p+0f);
}
static inline double pg_log2_f64(double x) {
  double e;
  double p = pg__log_parts_f64(x, &e);
  return pg__log_ends_f64(x, e + p * 0x1.71547652b82fep+0);
}

static inline float pg_log10_f32(float x) {
  float e;
  float p = pg__log_parts_f32(x, &e);
  return pg__log_ends_f32(x, e * 0x1.344p-2f + (p * 0x1.bcb7b2p-2f + e * 0x1.3509f8p-18f));
}
static inline double pg_log10_f64(double x) {
  double e;
  double p = pg__log_parts_f64(x, &e);
  return pg__log_ends_f64(x, e * 0x1.34413509f6000p-2 +
                                 (p * 0x1.bcb7b1526e50ep-2 + e * 0x1.9fef311f12b36p-42));
}

/* log(u) + c / u, where c is what rounding 1 + x to u lost. */
static inline float pg_log1p_f32(float x) {
  float e;
  float u = 1.0f + x;
  float c = x - (u - 1.0f);
  float p = pg__log_parts_f32(u, &e) + c / u;
  float y = pg__log_ends_f32(u, e * 0x1.62e4p-1f + (p + e * 0x1.7f7d1cp-20f));
  return x == 0.0f ? x : y;
}
static inline double pg_log1p_f64(double x) {
  double e;
  double u = 1.0 + x;
  double c = x - (u - 1.0);
  double p = pg__log_parts_f64(u, &e) + c / u;
  double y = pg__log_ends_f64(u, e * 0x1.62e42fefa2000p-1 + (p + e * 0x1.9ef35793c7673p-41));
  return x == 0.0 ? x : y;
}

/* --- made of exp and log -------------------------------------------------------------------- */

static inline float pg_tanh_f32(float x) {
  float t = pg_expm1_f32(-2.0f * fabsf(x));
  return copysignf(t / (t + 2.0f), x);
}
static inline double pg_tanh_f64(double x) {
  double t = pg_expm1_f64(-2.0 * fabs(x));
  return copysign(t / (t + 2.0), x);
}

static inline float pg_sigmoid_f32(float x) { return 1.0f / (1.0f + pg_exp_f32(-x)); }
static inline double pg_sigmoid_f64(double x) { return 1.0 / (1.0 + pg_exp_f64(-x)); }

/* log(1 + exp(x)) */
static inline float pg_softplus_f32(float x) {
  return (x > 0.0f ? x : 0.0f) + pg_log1p_f32(pg_exp_f32(-fabsf(x)));
}
static inline double pg_softplus_f64(double x) {
  return (x > 0.0 ? x : 0.0) + pg_log1p_f64(pg_exp_f64(-fabs(x)));
}

/* |x|^y through float64, signs and special cases after that. */
static inline float pg_pow_f32(float x, float y) {
  double b = (double)fabsf(x), d = (double)y;
  double r = pg_exp_f64(d * pg_log_f64(b));
  double c = fabs(d) < 0x1p30 ? d : 0.0; /* larger ones are even integers */
  double whole = c + PG__ROUND_F64;
  whole -= PG__ROUND_F64;
  double half = 0.5 * c + PG__ROUND_F64;
  half -= PG__ROUND_F64;
  double odd = half == 0.5 * c ? r : -r; /* for an integer y */
  double negative = whole == c ? odd : (b == 0.0 ? r : (double)NAN);
  negative = b == (double)INFINITY && whole != c ? r : negative;
  r = signbit(x) ? negative : r;
  r = y == 0.0f || x == 1.0f ? 1.0 : r;
  r = b == 1.0 && fabsf(y) == INFINITY ? 1.0 : r;
  return (float)r;
}
static inline double pg_pow_f64(double x, double y) { return pow(x, y); } /* scalar */

/* --- error function ------------------------------------------------------------------------- */

static inline float pg_erf_f32(float x) {
  float a = fabsf(x);
  float z = a * a;
  float p = 8.5388092e-05f; /* erf(a) / a - 1 for a < 0.9 */
  p = p * z - 0.000818191969f;
  p = p * z + 0.00520443544f;
  p = p * z - 0.0268607531f;
  p = p * z + 0.112837195f;
  p = p * z - 0.376126349f;
  p = p * z + 0.128379166f;
  float near = x + x * p;
  float b = a > 4.0f ? 4.0f : a;
  float q = -2.07736794e-05f; /* log(erfc(b)) for 0.9 <= b <= 4 */
  q = q * b + 0.000430740241f;
  q = q * b - 0.00415300159f;
  q = q * b + 0.0250718221f;
  q = q * b - 0.108206443f;
  q = q * b - 0.633413792f;
  q = q * b - 1.12948191f;
  q = q * b + 0.000167816252f;
  float far = copysignf(1.0f - pg_exp_f32(q), x);
  return a < 0.9f ? near : far;
}
static inline double pg_erf_f64(double x) {
  double a = fabs(x);
  double b = a > 6.0 ? 6.0 : a;
  double z = b * b;
  double p = -2.0297672111516486e-05; /* p / q: erf(a) / a - 1 for a < 1 */
  p = p * z - 0.0004862613908420821;
  p = p * z - 0.008754931185140289;
  p = p * z - 0.04794889926553841;
  p = p * z - 0.3171605782524065;
  p = p * z + 0.12837916709551256;
  double q = 2.0297672111516486e-05;
  q = q * z + 0.0006812191337824952;
  q = q * z + 0.010582229449867692;
  q = q * z + 0.09325285699530068;
  q = q * z + 0.45930980947680344;
  q = q * z + 1.0;
  double u = 0.008945994753588732; /* u / v: erfc(b) exp(b^2) for 1 <= b <= 6 */
  u = u * b + 0.0844541282075407;
  u = u * b + 0.37393141901862703;
  u = u * b + 0.9500795854120322;
  u = u * b + 1.3910294739681424;
  u = u * b + 0.999999885323869;
  double v = 0.015856484449250127;
  v = v * b + 0.14968716258822573;
  v = v * b + 0.6707635922459431;
  v = v * b + 1.7582442439065855;
  v = v * b + 2.792932504711138;
  v = v * b + 2.519407434177342;
  v = v * b + 1.0;
  double n;
  double e = pg__exp_parts_f64(-z, &n), s = pg__exp2i_f64(n);
  p = a < 1.0 ? p : u;
  q = a < 1.0 ? q : v;
  double r = p / q;
  double far = copysign(1.0 - (s + s * e) * r, x);
  return a < 1.0 ? x + x * r : far;
}
static inline float pg_erfc_f32(float x) { return (float)erfc((double)x); } /* scalar */
static inline double pg_erfc_f64(double x) { return erfc(x); }              /* scalar */

/* --- gelu ----------------------------------------------------------------------------------- */

/* The normal distribution's function Phi; in float32 to 1.8e-7 (0.5 + x R(x^2) with a rational R
 * that is off by less than 9e-9), exactly 0 and 1 beyond 5.6. */
static inline float pg_phi_f32(float x) {
  float z = x * x;
  z = z > 30.6916f ? 30.6916f : z;
  float p = 2.2505413e-08f;
  p = p * z + 6.3494685e-06f;
  p = p * z + 0.00017059957f;
  p = p * z + 0.004687783f;
  p = p * z + 0.034041718f;
  p = p * z + 0.39894223f;
  float q = 1.1901981e-06f;
  q = q * z + 7.4139076e-05f;
  q = q * z + 0.0018945317f;
  q = q * z + 0.028751327f;
  q = q * z + 0.2519958f;
  q = q * z + 1.0f;
  float y = 0.5f + x * (p / q);
  y = y > 1.0f ? 1.0f : y;
  return y < 0.0f ? 0.0f : y;
}
static inline double pg_phi_f64(double x) {
  return 0.5 * (1.0 + pg_erf_f64(x * 0.70710678118654752));
}

/* d(x Phi(x)) / dx = Phi(x) + x Phi'(x), in float32 to 2.1e-7 (made like Phi); NaN at infinity. */
static inline float pg_phi_slope_f32(float x) {
  float z = x * x;
  float p = -2.9152156e-11f;
  p = p * z + 1.3393613e-08f;
  p = p * z + 1.1810563e-06f;
  p = p * z + 3.2028383e-05f;
  p = p * z + 0.000307509f;
  p = p * z + 0.013520314f;
  p = p * z - 0.016804509f;
  p = p * z + 0.7978845f;
  float q = 3.7953703e-07f;
  q = q * z + 1.110344e-05f;
  q = q * z + 0.00026414508f;
  q = q * z + 0.004213526f;
  q = q * z + 0.04603719f;
  q = q * z + 0.3122715f;
  q = q * z + 1.0f;
  float y = 0.5f + x * (p / q);
  float end = x > 0.0f ? 1.0f : 0.0f;
  return z > 36.6025f ? end + x * 0.0f : y;
}
static inline double pg_phi_slope_f64(double x) {
  return pg_phi_f64(x) + x * (0.39894228040143268 * pg_exp_f64(-0.5 * x * x));
}

/* --- sin, cos ------------------------------------------------------------------------------- */

/* The vector forms hold for |x| up to this; beyond it take the C library's sin and cos. */
#define PG_TRIG_MAX 1e6

/* x - n pi/2, |x| <= PG_TRIG_MAX: pi/2 in three parts, of which n times the first two is exact. */
static inline double pg__trig_reduce(double x, uint64_t *n) {
  double k = x * 0x1.45f306dc9c883p-1 + PG__ROUND_F64;
  *n = pg__bits_f64(k);
  k -= PG__ROUND_F64;
  double r = x - k * 0x1.921fb54400000p+0;
  r -= k * 0x1.0b4611a600000p-34;
  return r - k * 0x1.3198a2e037073p-69;
}

/* sin (shift 0) or cos (shift 1) of r + (n + shift) pi/2. */
static inline float pg__trig_f32(float x, uint64_t shift) {
  uint64_t n;
  float r = (float)pg__trig_reduce((double)x, &n);
  n += shift;
  float z = r * r;
  float s = 2.71833187e-06f;
  s = s * z - 0.000198393376f;
  s = s * z + 0.00833332911f;
  s = s * z - 0.166666672f;
  s = r + r * z * s;
  float c = -2.72116637e-07f;
  c = c * z + 2.47995395e-05f;
  c = c * z - 0.00138888834f;
  c = c * z + 0.0416666679f;
  c = 1.0f - (0.5f * z - z * z * c);
  float y = (n & 1) ? c : s;
  y = pg__from_bits_f32(pg__bits_f32(y) ^ ((uint32_t)(n & 2) << 30));
  return shift == 0 && x == 0.0f ? x : y;
}
static inline double pg__trig_f64(double x, uint64_t shift) {
  uint64_t n;
  double r = pg__trig_reduce(x, &n);
  n += shift;
  double z = r * r;
  double s = -7.5788132300660464e-13;
  s = s * z + 1.6058369136477475e-10;
  s = s * z - 2.505210493315873e-08;
  s = s * z + 2.7557319214283122e-06;
  s = s * z - 0.00019841269841255275;
  s = s * z + 0.0083333333333333228;
  s = s * z - 0.16666666666666666;
  s = r + r * z * s;
  double c = 4.7391882849272614e-14;
  c = c * z - 1.1470319486336728e-11;
  c = c * z + 2.0876754622258425e-09;
  c = c * z - 2.7557319216654352e-07;
  c = c * z + 2.4801587301574904e-05;
  c = c * z - 0.0013888888888888879;
  c = c * z + 0.041666666666666664;
  c = 1.0 - (0.5 * z - z * z * c);
  double y = (n & 1) ? c : s;
  y = pg__from_bits_f64(pg__bits_f64(y) ^ ((n & 2) << 62));
  return shift == 0 && x == 0.0 ? x : y;
}
static inline float pg_sin_f32(float x) { return pg__trig_f32(x, 0); }
static inline float pg_cos_f32(float x) { return pg__trig_f32(x, 1); }
static inline double pg_sin_f64(double x) { return pg__trig_f64(x, 0); }
static inline double pg_cos_f64(double x) { return pg__trig_f64(x, 1); }

#endif
