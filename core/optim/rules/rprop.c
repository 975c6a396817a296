/* Rprop (signs only) and ASGD (averaged SGD). Relies on hyper.h.
 * Spec: spec/optim/rules_spec.lua. */
#include <math.h>

#include "optim/hyper.h"

#define ARGS(T) (int64_t n, T *restrict p, const T *restrict g, T *const *state, const double *c)

enum { LR, ETA_MINUS, ETA_PLUS, STEP_MIN, STEP_MAX, RPROP_MAXIMIZE };

static pg_status check_rprop(pg_ctx *ctx, const double *h) {
  PG_TRY(pg_hyper_range(ctx, "lr", h[LR], 0, PG_NO_LIMIT));
  if (!(h[ETA_MINUS] > 0 && h[ETA_MINUS] < 1 && h[ETA_PLUS] > 1))
    return pg_fail(ctx, PG_EARG, "argument 'etas': expected 0 < first < 1 < second, got %g and %g",
                   h[ETA_MINUS], h[ETA_PLUS]);
  return PG_OK;
}

static void prepare_rprop(const double *h, int64_t step, double *scalar, double *c) {
  (void)scalar;
  c[0] = h[ETA_MINUS];
  c[1] = h[ETA_PLUS];
  c[2] = h[STEP_MIN];
  c[3] = h[STEP_MAX];
  c[4] = step == 1 ? h[LR] : 0; /* the step sizes start at lr */
  c[5] = h[RPROP_MAXIMIZE] != 0 ? -1 : 1;
}

/* Step sizes grow where the gradient keeps its sign and shrink where it changes; there the gradient
 * counts as 0. p -= sign(gradient) step size. */
#define RPROP(T, S)                                                        \
  static void rprop_##S ARGS(T) {                                          \
    T *restrict prev = state[0], *restrict size = state[1];                \
    const T down = (T)c[0], up = (T)c[1], least = (T)c[2], most = (T)c[3]; \
    const T start = (T)c[4], sign = (T)c[5];                               \
    for (int64_t i = 0; i < n; i++) {                                      \
      T d = sign * g[i], turn = d * prev[i];                               \
      T s = (start + size[i]) * (turn > 0 ? up : turn < 0 ? down : 1);     \
      s = s < least ? least : s;                                           \
      s = s > most ? most : s;                                             \
      d = turn < 0 ? 0 : d;                                                \
      p[i] -= d > 0 ? s : d < 0 ? -s : 0;                                  \
      prev[i] = d;                                                         \
      size[i] = s;                                                         \
    }                                                                      \
  }
RPROP(float, f32)
RPROP(double, f64)

enum { A_LR, A_LAMBD, A_ALPHA, A_T0, A_DECAY, A_MAXIMIZE };

static pg_status check_asgd(pg_ctx *ctx, const double *h) {
  PG_TRY(pg_hyper_range(ctx, "lr", h[A_LR], 0, PG_NO_LIMIT));
  return pg_hyper_range(ctx, "weight_decay", h[A_DECAY], 0, PG_NO_LIMIT);
}

static void prepare_asgd(const double *h, int64_t step, double *scalar, double *c) {
  double t = (double)step, past = t - h[A_T0];
  double eta = step == 1 ? (float)h[A_LR] : scalar[0], mu = step == 1 ? 1 : scalar[1];
  c[0] = eta;
  c[1] = 1 - h[A_LAMBD] * eta;
  c[2] = mu;
  c[3] = h[A_DECAY];
  c[4] = h[A_MAXIMIZE] != 0 ? -1 : 1;
  /* float32 numbers, as PyTorch keeps them */
  scalar[0] = (float)(h[A_LR] / pow(1 + h[A_LAMBD] * h[A_LR] * t, h[A_ALPHA]));
  scalar[1] = (float)(1 / (past > 1 ? past : 1));
}

/* p = (1 - lambd eta) p - eta d;  the average ax += mu (p - ax), or p itself while mu is 1 */
#define ASGD(T, S)                                                                          \
  static void asgd_##S ARGS(T) {                                                            \
    T *restrict ax = state[0];                                                              \
    const T eta = (T)c[0], shrink = (T)c[1], mu = (T)c[2], decay = (T)c[3], sign = (T)c[4]; \
    for (int64_t i = 0; i < n; i++) {                                                       \
      T d = sign * g[i] + decay * p[i];                                                     \
      p[i] = shrink * p[i] - eta * d;                                                       \
      ax[i] = mu == 1 ? p[i] : ax[i] + mu * (p[i] - ax[i]);                                 \
    }                                                                                       \
  }
ASGD(float, f32)
ASGD(double, f64)

const pg_rule PG_AT(pg_rules_rprop)[] = {
    {.name = "Rprop",
     .doc = "Resilient propagation: p -= sign(g) s with step sizes s that grow by etas[2] while "
            "signs stay and shrink by etas[1] where they change (Riedmiller and Braun 1993).",
     .param = {PG_DEF("lr", PG_FLOAT, 1e-2), PG_DEF("etas.1", PG_FLOAT, 0.5),
               PG_DEF("etas.2", PG_FLOAT, 1.2), PG_DEF("step_sizes.1", PG_FLOAT, 1e-6),
               PG_DEF("step_sizes.2", PG_FLOAT, 50), PG_MAXIMIZE},
     .state = {"prev", "step_size"},
     .check = check_rprop,
     .prepare = prepare_rprop,
     .step_f32 = rprop_f32,
     .step_f64 = rprop_f64},
    {.name = "ASGD",
     .doc = "SGD with rate eta = lr / (1 + lambd lr t)^alpha and an average ax of the parameters "
            "from step t0 on (Polyak and Juditsky 1992).",
     .param = {PG_DEF("lr", PG_FLOAT, 1e-2), PG_DEF("lambd", PG_FLOAT, 1e-4),
               PG_DEF("alpha", PG_FLOAT, 0.75), PG_DEF("t0", PG_FLOAT, 1e6),
               PG_DEF("weight_decay", PG_FLOAT, 0), PG_MAXIMIZE},
     .state = {"ax"},
     .check = check_asgd,
     .prepare = prepare_asgd,
     .step_f32 = asgd_f32,
     .step_f64 = asgd_f64},
    {0}};
