/* Relatives of Adam: Adamax, NAdam, RAdam, and Lion. Relies on hyper.h.
 * Spec: spec/optim/rules_spec.lua. */
#include <math.h>

#include "optim/hyper.h"

/* Places that the four share; NAdam and RAdam have more behind. */
enum { LR, BETA1, BETA2, EPS, DECAY };
enum { LION_DECAY = 3, LION_MAXIMIZE };
enum { ADAMAX_MAXIMIZE = 5 };
enum { NADAM_MOMENTUM_DECAY = 5, NADAM_DECOUPLED, NADAM_MAXIMIZE };
enum { RADAM_DECOUPLED = 5, RADAM_MAXIMIZE };

static pg_status check(pg_ctx *ctx, const double *h) {
  PG_TRY(pg_hyper_range(ctx, "lr", h[LR], 0, PG_NO_LIMIT));
  PG_TRY(pg_hyper_range(ctx, "betas", h[BETA1], 0, 1));
  PG_TRY(pg_hyper_range(ctx, "betas", h[BETA2], 0, 1));
  PG_TRY(pg_hyper_range(ctx, "eps", h[EPS], 0, PG_NO_LIMIT));
  return pg_hyper_range(ctx, "weight_decay", h[DECAY], 0, PG_NO_LIMIT);
}

static pg_status check_lion(pg_ctx *ctx, const double *h) {
  PG_TRY(pg_hyper_range(ctx, "lr", h[LR], 0, PG_NO_LIMIT));
  PG_TRY(pg_hyper_range(ctx, "betas", h[BETA1], 0, 1));
  PG_TRY(pg_hyper_range(ctx, "betas", h[BETA2], 0, 1));
  return pg_hyper_range(ctx, "weight_decay", h[LION_DECAY], 0, PG_NO_LIMIT);
}

enum { C_SIGN, C_DECAY, C_SHRINK, C_KEEP1, C_BETA2, C_KEEP2, C_EPS, C_A, C_B, C_C };

static void common(const double *h, double *c, bool maximize, bool decoupled) {
  c[C_SIGN] = maximize ? -1 : 1;
  c[C_DECAY] = decoupled ? 0 : h[DECAY];
  c[C_SHRINK] = decoupled ? 1 - h[LR] * h[DECAY] : 1;
  c[C_KEEP1] = 1 - h[BETA1];
  c[C_BETA2] = h[BETA2];
  c[C_KEEP2] = 1 - h[BETA2];
  c[C_EPS] = h[EPS];
}

static void prepare_adamax(const double *h, int64_t step, double *scalar, double *c) {
  (void)scalar;
  common(h, c, h[ADAMAX_MAXIMIZE] != 0, false);
  c[C_A] = h[LR] / (1 - pow(h[BETA1], (double)step));
}

static void prepare_nadam(const double *h, int64_t step, double *scalar, double *c) {
  common(h, c, h[NADAM_MAXIMIZE] != 0, h[NADAM_DECOUPLED] != 0);
  double t = (double)step, decay = h[NADAM_MOMENTUM_DECAY];
  double mu = h[BETA1] * (1 - 0.5 * pow(0.96, t * decay));
  double next = h[BETA1] * (1 - 0.5 * pow(0.96, (t + 1) * decay));
  /* The product of all mu, a float32 as PyTorch keeps it. */
  scalar[0] = step == 1 ? (float)mu : (float)scalar[0] * (float)mu;
  c[C_A] = h[LR] * (1 - mu) / (1 - scalar[0]);
  c[C_B] = h[LR] * next / (1 - scalar[0] * next);
  c[C_C] = 1 / (1 - pow(h[BETA2], t));
}

static void prepare_radam(const double *h, int64_t step, double *scalar, double *c) {
  (void)scalar;
  common(h, c, h[RADAM_MAXIMIZE] != 0, h[RADAM_DECOUPLED] != 0);
  double t = (double)step, power = pow(h[BETA2], t), end = 2 / (1 - h[BETA2]) - 1;
  double rho = end - 2 * t * power / (1 - power);
  c[C_A] = h[LR] / (1 - pow(h[BETA1], t));
  c[C_B] = rho > 5; /* the variance is tractable */
  c[C_C] = rho > 5
               ? sqrt((rho - 4) * (rho - 2) * end / ((end - 4) * (end - 2) * rho)) * sqrt(1 - power)
               : 0;
}

static void prepare_lion(const double *h, int64_t step, double *scalar, double *c) {
  (void)step, (void)scalar;
  c[C_SIGN] = h[LION_MAXIMIZE] != 0 ? -1 : 1;
  c[C_SHRINK] = 1 - h[LR] * h[LION_DECAY];
  c[C_KEEP1] = 1 - h[BETA1];
  c[C_KEEP2] = 1 - h[BETA2];
  c[C_A] = h[LR];
}

#define HEAD(T)                                                                \
  T *restrict m = state[0], *restrict v = state[1];                            \
  const T sign = (T)c[C_SIGN], decay = (T)c[C_DECAY], shrink = (T)c[C_SHRINK]; \
  const T keep1 = (T)c[C_KEEP1], beta2 = (T)c[C_BETA2], keep2 = (T)c[C_KEEP2]; \
  const T eps = (T)c[C_EPS], a = (T)c[C_A], b = (T)c[C_B], k = (T)c[C_C];      \
  (void)v, (void)decay, (void)shrink, (void)beta2, (void)keep2, (void)eps, (void)b, (void)k
#define ARGS(T) (int64_t n, T *restrict p, const T *restrict g, T *const *state, const double *c)

/* Each: d = sign g + decay p;  p *= shrink;  m += keep1 (d - m);  v = beta2 v + keep2 d^2, then
 * Adamax: v = max(beta2 v, |d| + eps);  p -= a m / v
 * NAdam:  p -= (a d + b m) / (sqrt(k v) + eps)
 * RAdam:  p -= a m k / (sqrt(v) + eps), or a m where b is 0
 * Lion:   p -= a sign(m + keep1 (d - m));  m += keep2 (d - m) */
#define STEPS(T, S, SQRT, FABS)                                           \
  static void adamax_##S ARGS(T) {                                        \
    HEAD(T);                                                              \
    for (int64_t i = 0; i < n; i++) {                                     \
      T d = sign * g[i] + decay * p[i];                                   \
      T old = beta2 * v[i], now = FABS(d) + eps;                          \
      m[i] += keep1 * (d - m[i]);                                         \
      v[i] = old > now ? old : now;                                       \
      p[i] -= a * m[i] / v[i];                                            \
    }                                                                     \
  }                                                                       \
  static void nadam_##S ARGS(T) {                                         \
    HEAD(T);                                                              \
    for (int64_t i = 0; i < n; i++) {                                     \
      T d = sign * g[i] + decay * p[i];                                   \
      m[i] += keep1 * (d - m[i]);                                         \
      v[i] = beta2 * v[i] + keep2 * d * d;                                \
      p[i] = shrink * p[i] - (a * d + b * m[i]) / (SQRT(k * v[i]) + eps); \
    }                                                                     \
  }                                                                       \
  static void radam_##S ARGS(T) {                                         \
    HEAD(T);                                                              \
    for (int64_t i = 0; i < n; i++) {                                     \
      T d = sign * g[i] + decay * p[i];                                   \
      m[i] += keep1 * (d - m[i]);                                         \
      v[i] = beta2 * v[i] + keep2 * d * d;                                \
      T rate = b != 0 ? k / (SQRT(v[i]) + eps) : 1;                       \
      p[i] = shrink * p[i] - a * m[i] * rate;                             \
    }                                                                     \
  }                                                                       \
  static void lion_##S ARGS(T) {                                          \
    HEAD(T);                                                              \
    for (int64_t i = 0; i < n; i++) {                                     \
      T d = sign * g[i], u = m[i] + keep1 * (d - m[i]);                   \
      p[i] = shrink * p[i] - (u > 0 ? a : u < 0 ? -a : 0 * u);            \
      m[i] += keep2 * (d - m[i]);                                         \
    }                                                                     \
  }
STEPS(float, f32, sqrtf, fabsf)
STEPS(double, f64, sqrt, fabs)

const pg_rule PG_AT(pg_rules_adam_kin)[] = {
    {.name = "Adamax",
     .doc = "Adam with the infinity norm: u = max(beta2 u, |g| + eps), p -= lr m' / u (Kingma and "
            "Ba 2015).",
     .param = {PG_DEF("lr", PG_FLOAT, 2e-3), PG_BETAS(0.9, 0.999), PG_DEF("eps", PG_FLOAT, 1e-8),
               PG_DEF("weight_decay", PG_FLOAT, 0), PG_MAXIMIZE},
     .state = {"exp_avg", "exp_inf"},
     .check = check,
     .prepare = prepare_adamax,
     .step_f32 = adamax_f32,
     .step_f64 = adamax_f64},
    {.name = "NAdam",
     .doc = "Adam with Nesterov momentum that warms up (Dozat 2016).",
     .param = {PG_DEF("lr", PG_FLOAT, 2e-3), PG_BETAS(0.9, 0.999), PG_DEF("eps", PG_FLOAT, 1e-8),
               PG_DEF("weight_decay", PG_FLOAT, 0), PG_DEF("momentum_decay", PG_FLOAT, 4e-3),
               PG_DEF("decoupled_weight_decay", PG_FLAG, 0), PG_MAXIMIZE},
     .state = {"exp_avg", "exp_avg_sq"},
     .check = check,
     .prepare = prepare_nadam,
     .step_f32 = nadam_f32,
     .step_f64 = nadam_f64},
    {.name = "RAdam",
     .doc = "Adam whose adaptive rate is switched on and scaled as its variance becomes tractable "
            "(Liu et al. 2020).",
     .param = {PG_DEF("lr", PG_FLOAT, 1e-3), PG_BETAS(0.9, 0.999), PG_DEF("eps", PG_FLOAT, 1e-8),
               PG_DEF("weight_decay", PG_FLOAT, 0), PG_DEF("decoupled_weight_decay", PG_FLAG, 0),
               PG_MAXIMIZE},
     .state = {"exp_avg", "exp_avg_sq"},
     .check = check,
     .prepare = prepare_radam,
     .step_f32 = radam_f32,
     .step_f64 = radam_f64},
    {.name = "Lion",
     .doc = "p = (1 - lr weight_decay) p - lr sign(beta1 m + (1 - beta1) g), m = beta2 m + (1 - "
            "beta2) g (Chen et al. 2023).",
     .param = {PG_DEF("lr", PG_FLOAT, 1e-4), PG_BETAS(0.9, 0.99),
               PG_DEF("weight_decay", PG_FLOAT, 0), PG_MAXIMIZE},
     .state = {"exp_avg"},
     .check = check_lion,
     .prepare = prepare_lion,
     .step_f32 = lion_f32,
     .step_f64 = lion_f64},
    {0}};
