/* Adagrad, Adadelta, RMSprop: rates from squared gradients. Relies on hyper.h.
 * Spec: spec/optim/rules_spec.lua. */
#include <math.h>

#include "optim/hyper.h"

#define ARGS(T) (int64_t n, T *restrict p, const T *restrict g, T *const *state, const double *c)

/* --- Adagrad ------------------------------------------------------------------------------------
 */

enum { G_LR, G_LR_DECAY, G_DECAY, G_START, G_EPS, G_MAXIMIZE };

static pg_status check_adagrad(pg_ctx *ctx, const double *h) {
  PG_TRY(pg_hyper_range(ctx, "lr", h[G_LR], 0, PG_NO_LIMIT));
  PG_TRY(pg_hyper_range(ctx, "lr_decay", h[G_LR_DECAY], 0, PG_NO_LIMIT));
  PG_TRY(pg_hyper_range(ctx, "weight_decay", h[G_DECAY], 0, PG_NO_LIMIT));
  PG_TRY(pg_hyper_range(ctx, "initial_accumulator_value", h[G_START], 0, PG_NO_LIMIT));
  return pg_hyper_range(ctx, "eps", h[G_EPS], 0, PG_NO_LIMIT);
}

static void prepare_adagrad(const double *h, int64_t step, double *scalar, double *c) {
  (void)scalar;
  c[0] = h[G_LR] / (1 + (double)(step - 1) * h[G_LR_DECAY]);
  c[1] = h[G_DECAY];
  c[2] = h[G_EPS];
  c[3] = step == 1 ? h[G_START] : 0; /* the state starts at zero, and is raised once */
  c[4] = h[G_MAXIMIZE] != 0 ? -1 : 1;
}

/* d = sign g + decay p;  s = start + s + d^2;  p -= rate d / (sqrt(s) + eps) */
#define ADAGRAD(T, S, SQRT)                                                                  \
  static void adagrad_##S ARGS(T) {                                                          \
    T *restrict s = state[0];                                                                \
    const T rate = (T)c[0], decay = (T)c[1], eps = (T)c[2], start = (T)c[3], sign = (T)c[4]; \
    for (int64_t i = 0; i < n; i++) {                                                        \
      T d = sign * g[i] + decay * p[i];                                                      \
      s[i] = (start + s[i]) + d * d;                                                         \
      p[i] -= rate * d / (SQRT(s[i]) + eps);                                                 \
    }                                                                                        \
  }
ADAGRAD(float, f32, sqrtf)
ADAGRAD(double, f64, sqrt)

/* --- Adadelta -----------------------------------------------------------------------------------
 */

enum { D_LR, D_RHO, D_EPS, D_DECAY, D_MAXIMIZE };

static pg_status check_adadelta(pg_ctx *ctx, const double *h) {
  PG_TRY(pg_hyper_range(ctx, "lr", h[D_LR], 0, PG_NO_LIMIT));
  if (!(h[D_RHO] >= 0 && h[D_RHO] <= 1))
    return pg_fail(ctx, PG_EARG, "argument 'rho': expected 0 to 1, got %g", h[D_RHO]);
  PG_TRY(pg_hyper_range(ctx, "eps", h[D_EPS], 0, PG_NO_LIMIT));
  return pg_hyper_range(ctx, "weight_decay", h[D_DECAY], 0, PG_NO_LIMIT);
}

static void prepare_adadelta(const double *h, int64_t step, double *scalar, double *c) {
  (void)step, (void)scalar;
  c[0] = h[D_LR];
  c[1] = h[D_RHO];
  c[2] = h[D_EPS];
  c[3] = h[D_DECAY];
  c[4] = h[D_MAXIMIZE] != 0 ? -1 : 1;
}

/* s = rho s + (1 - rho) d^2;  u = sqrt(a + eps) / sqrt(s + eps) d;  a = rho a + (1 - rho) u^2;
 * p -= lr u */
#define ADADELTA(T, S, SQRT)                                                  \
  static void adadelta_##S ARGS(T) {                                          \
    T *restrict s = state[0], *restrict a = state[1];                         \
    const T lr = (T)c[0], rho = (T)c[1], rest = (T)(1 - c[1]), eps = (T)c[2]; \
    const T decay = (T)c[3], sign = (T)c[4];                                  \
    for (int64_t i = 0; i < n; i++) {                                         \
      T d = sign * g[i] + decay * p[i];                                       \
      s[i] = rho * s[i] + rest * d * d;                                       \
      T u = SQRT(a[i] + eps) / SQRT(s[i] + eps) * d;                          \
      a[i] = rho * a[i] + rest * u * u;                                       \
      p[i] -= lr * u;                                                         \
    }                                                                         \
  }
ADADELTA(float, f32, sqrtf)
ADADELTA(double, f64, sqrt)

/* --- RMSprop ------------------------------------------------------------------------------------
 */

enum { R_LR, R_ALPHA, R_EPS, R_DECAY, R_MOMENTUM, R_CENTERED, R_MAXIMIZE };

static pg_status check_rmsprop(pg_ctx *ctx, const double *h) {
  PG_TRY(pg_hyper_range(ctx, "lr", h[R_LR], 0, PG_NO_LIMIT));
  PG_TRY(pg_hyper_range(ctx, "alpha", h[R_ALPHA], 0, PG_NO_LIMIT));
  PG_TRY(pg_hyper_range(ctx, "eps", h[R_EPS], 0, PG_NO_LIMIT));
  PG_TRY(pg_hyper_range(ctx, "weight_decay", h[R_DECAY], 0, PG_NO_LIMIT));
  return pg_hyper_range(ctx, "momentum", h[R_MOMENTUM], 0, PG_NO_LIMIT);
}

static unsigned uses_rmsprop(const double *h) {
  return 1u | (h[R_MOMENTUM] > 0 ? 2u : 0) | (h[R_CENTERED] != 0 ? 4u : 0);
}

static void prepare_rmsprop(const double *h, int64_t step, double *scalar, double *c) {
  (void)step, (void)scalar;
  c[0] = h[R_LR];
  c[1] = h[R_ALPHA];
  c[2] = h[R_EPS];
  c[3] = h[R_DECAY];
  c[4] = h[R_MOMENTUM];
  c[5] = h[R_CENTERED];
  c[6] = h[R_MAXIMIZE] != 0 ? -1 : 1;
}

/* s = alpha s + (1 - alpha) d^2;  r = sqrt(s), centered: a += (1 - alpha) (d - a), sqrt(s - a^2);
 * p -= lr d / (r + eps), with momentum: b = momentum b + d / (r + eps), p -= lr b */
#define RMSPROP(T, S, SQRT)                                                     \
  static void rmsprop_##S ARGS(T) {                                             \
    T *restrict s = state[0], *restrict b = state[1], *restrict a = state[2];   \
    const T lr = (T)c[0], alpha = (T)c[1], rest = (T)(1 - c[1]), eps = (T)c[2]; \
    const T decay = (T)c[3], mu = (T)c[4], sign = (T)c[6];                      \
    const bool centered = c[5] != 0, momentum = c[4] > 0;                       \
    for (int64_t i = 0; i < n; i++) {                                           \
      T d = sign * g[i] + decay * p[i];                                         \
      s[i] = alpha * s[i] + rest * d * d;                                       \
      T r = s[i];                                                               \
      if (centered) {                                                           \
        a[i] += rest * (d - a[i]);                                              \
        r -= a[i] * a[i];                                                       \
      }                                                                         \
      T u = d / (SQRT(r) + eps);                                                \
      if (momentum) u = b[i] = mu * b[i] + u;                                   \
      p[i] -= lr * u;                                                           \
    }                                                                           \
  }
RMSPROP(float, f32, sqrtf)
RMSPROP(double, f64, sqrt)

const pg_rule PG_AT(pg_rules_adaptive)[] = {
    {.name = "Adagrad",
     .doc = "s += g^2, p -= lr g / (sqrt(s) + eps) (Duchi et al. 2011).",
     .param = {PG_DEF("lr", PG_FLOAT, 1e-2), PG_DEF("lr_decay", PG_FLOAT, 0),
               PG_DEF("weight_decay", PG_FLOAT, 0),
               PG_DEF("initial_accumulator_value", PG_FLOAT, 0), PG_DEF("eps", PG_FLOAT, 1e-10),
               PG_MAXIMIZE},
     .state = {"sum"},
     .check = check_adagrad,
     .prepare = prepare_adagrad,
     .step_f32 = adagrad_f32,
     .step_f64 = adagrad_f64},
    {.name = "Adadelta",
     .doc = "p -= lr sqrt(a + eps) / sqrt(s + eps) g with running means s of g^2 and a of the "
            "squared steps (Zeiler 2012).",
     .param = {PG_DEF("lr", PG_FLOAT, 1), PG_DEF("rho", PG_FLOAT, 0.9),
               PG_DEF("eps", PG_FLOAT, 1e-6), PG_DEF("weight_decay", PG_FLOAT, 0), PG_MAXIMIZE},
     .state = {"square_avg", "acc_delta"},
     .check = check_adadelta,
     .prepare = prepare_adadelta,
     .step_f32 = adadelta_f32,
     .step_f64 = adadelta_f64},
    {.name = "RMSprop",
     .doc = "p -= lr g / (sqrt(s) + eps) with a running mean s of g^2, centered on request, and "
            "with momentum (Hinton 2012, Graves 2013).",
     .param = {PG_DEF("lr", PG_FLOAT, 1e-2), PG_DEF("alpha", PG_FLOAT, 0.99),
               PG_DEF("eps", PG_FLOAT, 1e-8), PG_DEF("weight_decay", PG_FLOAT, 0),
               PG_DEF("momentum", PG_FLOAT, 0), PG_DEF("centered", PG_FLAG, 0), PG_MAXIMIZE},
     .state = {"square_avg", "momentum_buffer", "grad_avg"},
     .uses = uses_rmsprop,
     .check = check_rmsprop,
     .prepare = prepare_rmsprop,
     .step_f32 = rmsprop_f32,
     .step_f64 = rmsprop_f64},
    {0}};
