/* SGD with momentum, dampening, weight decay, Nesterov's form. Relies on hyper.h.
 * Spec: spec/optim/rules_spec.lua. */
#include "optim/hyper.h"

enum { LR, MOMENTUM, DAMPENING, DECAY, NESTEROV, MAXIMIZE };
enum { C_LR, C_MOMENTUM, C_KEEP, C_DECAY, C_NESTEROV, C_SIGN };

static pg_status check(pg_ctx *ctx, const double *h) {
  PG_TRY(pg_hyper_range(ctx, "lr", h[LR], 0, PG_NO_LIMIT));
  PG_TRY(pg_hyper_range(ctx, "momentum", h[MOMENTUM], 0, PG_NO_LIMIT));
  PG_TRY(pg_hyper_range(ctx, "weight_decay", h[DECAY], 0, PG_NO_LIMIT));
  if (h[NESTEROV] != 0 && (h[MOMENTUM] <= 0 || h[DAMPENING] != 0))
    return pg_fail(
        ctx, PG_EARG,
        "argument 'nesterov': expected momentum > 0 and dampening 0 with it, got %g and %g",
        h[MOMENTUM], h[DAMPENING]);
  return PG_OK;
}

static unsigned uses(const double *h) { return h[MOMENTUM] != 0; }

static void prepare(const double *h, int64_t step, double *scalar, double *c) {
  (void)scalar;
  c[C_LR] = h[LR];
  c[C_MOMENTUM] = h[MOMENTUM];
  c[C_KEEP] = step == 1 ? 1 : 1 - h[DAMPENING]; /* the first gradient is taken whole */
  c[C_DECAY] = h[DECAY];
  c[C_NESTEROV] = h[NESTEROV];
  c[C_SIGN] = h[MAXIMIZE] != 0 ? -1 : 1;
}

/* d = sign g + decay p;  m = momentum m + keep d;  p -= lr m  (Nesterov: lr (d + momentum m)) */
#define STEP(T, S)                                                                     \
  static void step_##S(int64_t n, T *restrict p, const T *restrict g, T *const *state, \
                       const double *c) {                                              \
    T *restrict m = state[0];                                                          \
    const T lr = (T)c[C_LR], mu = (T)c[C_MOMENTUM], keep = (T)c[C_KEEP];               \
    const T decay = (T)c[C_DECAY], sign = (T)c[C_SIGN];                                \
    if (c[C_MOMENTUM] == 0) {                                                          \
      for (int64_t i = 0; i < n; i++) p[i] -= lr * (sign * g[i] + decay * p[i]);       \
    } else if (c[C_NESTEROV] == 0) {                                                   \
      for (int64_t i = 0; i < n; i++) {                                                \
        m[i] = mu * m[i] + keep * (sign * g[i] + decay * p[i]);                        \
        p[i] -= lr * m[i];                                                             \
      }                                                                                \
    } else {                                                                           \
      for (int64_t i = 0; i < n; i++) {                                                \
        T d = sign * g[i] + decay * p[i];                                              \
        m[i] = mu * m[i] + keep * d;                                                   \
        p[i] -= lr * (d + mu * m[i]);                                                  \
      }                                                                                \
    }                                                                                  \
  }
STEP(float, f32)
STEP(double, f64)

const pg_rule PG_AT(pg_rules_sgd)[] = {
    {.name = "SGD",
     .doc = "Stochastic gradient descent: m = momentum m + (1 - dampening) (g + weight_decay p), "
            "p -= lr m.",
     .param = {PG_DEF("lr", PG_FLOAT, 1e-3), PG_DEF("momentum", PG_FLOAT, 0),
               PG_DEF("dampening", PG_FLOAT, 0), PG_DEF("weight_decay", PG_FLOAT, 0),
               PG_DEF("nesterov", PG_FLAG, 0), PG_MAXIMIZE},
     .state = {"momentum_buffer"},
     .uses = uses,
     .check = check,
     .prepare = prepare,
     .step_f32 = step_f32,
     .step_f64 = step_f64},
    {0}};
