/* Adam (Kingma and Ba 2015) with AMSGrad, and AdamW (Loshchilov and Hutter 2019). Relies on
 * hyper.h. Spec: spec/optim/rules_spec.lua. */
#include <math.h>

#include "optim/hyper.h"

enum { LR, BETA1, BETA2, EPS, DECAY, AMSGRAD, MAXIMIZE, DECOUPLED };
enum { C_STEP, C_KEEP1, C_BETA2, C_KEEP2, C_ROOT, C_EPS, C_DECAY, C_SHRINK, C_AMSGRAD, C_SIGN };

static pg_status check(pg_ctx *ctx, const double *h) {
  PG_TRY(pg_hyper_range(ctx, "lr", h[LR], 0, PG_NO_LIMIT));
  PG_TRY(pg_hyper_range(ctx, "betas", h[BETA1], 0, 1));
  PG_TRY(pg_hyper_range(ctx, "betas", h[BETA2], 0, 1));
  PG_TRY(pg_hyper_range(ctx, "eps", h[EPS], 0, PG_NO_LIMIT));
  return pg_hyper_range(ctx, "weight_decay", h[DECAY], 0, PG_NO_LIMIT);
}

static unsigned uses(const double *h) { return h[AMSGRAD] != 0 ? 7 : 3; }

static void common(const double *h, int64_t step, double *c) {
  c[C_STEP] = h[LR] / (1 - pow(h[BETA1], (double)step));
  c[C_KEEP1] = 1 - h[BETA1];
  c[C_BETA2] = h[BETA2];
  c[C_KEEP2] = 1 - h[BETA2];
  c[C_ROOT] = 1 / sqrt(1 - pow(h[BETA2], (double)step));
  c[C_EPS] = h[EPS];
  c[C_AMSGRAD] = h[AMSGRAD];
  c[C_SIGN] = h[MAXIMIZE] != 0 ? -1 : 1;
}

static void prepare_adamw(const double *h, int64_t step, double *scalar, double *c) {
  (void)scalar;
  common(h, step, c);
  c[C_DECAY] = 0;
  c[C_SHRINK] = 1 - h[LR] * h[DECAY];
}

static void prepare_adam(const double *h, int64_t step, double *scalar, double *c) {
  if (h[DECOUPLED] != 0) {
    prepare_adamw(h, step, scalar, c);
    return;
  }
  common(h, step, c);
  c[C_DECAY] = h[DECAY];
  c[C_SHRINK] = 1;
}

/* d = sign g + decay p;  m += keep1 (d - m);  v = beta2 v + keep2 d^2
 * p = shrink p - step m / (sqrt(v) root + eps);  AMSGrad: the largest v so far */
#define STEP(T, S, SQRT)                                                               \
  static void step_##S(int64_t n, T *restrict p, const T *restrict g, T *const *state, \
                       const double *c) {                                              \
    T *restrict m = state[0], *restrict v = state[1], *restrict top = state[2];        \
    const T step = (T)c[C_STEP], keep1 = (T)c[C_KEEP1], beta2 = (T)c[C_BETA2];         \
    const T keep2 = (T)c[C_KEEP2], root = (T)c[C_ROOT], eps = (T)c[C_EPS];             \
    const T decay = (T)c[C_DECAY], shrink = (T)c[C_SHRINK], sign = (T)c[C_SIGN];       \
    if (c[C_AMSGRAD] == 0) {                                                           \
      for (int64_t i = 0; i < n; i++) {                                                \
        T d = sign * g[i] + decay * p[i];                                              \
        m[i] += keep1 * (d - m[i]);                                                    \
        v[i] = beta2 * v[i] + keep2 * d * d;                                           \
        p[i] = shrink * p[i] - step * m[i] / (SQRT(v[i]) * root + eps);                \
      }                                                                                \
    } else {                                                                           \
      for (int64_t i = 0; i < n; i++) {                                                \
        T d = sign * g[i] + decay * p[i];                                              \
        m[i] += keep1 * (d - m[i]);                                                    \
        v[i] = beta2 * v[i] + keep2 * d * d;                                           \
        top[i] = top[i] > v[i] ? top[i] : v[i];                                        \
        p[i] = shrink * p[i] - step * m[i] / (SQRT(top[i]) * root + eps);              \
      }                                                                                \
    }                                                                                  \
  }
STEP(float, f32, sqrtf)
STEP(double, f64, sqrt)

#define PARAMS(decay)                                                                \
  PG_DEF("lr", PG_FLOAT, 1e-3), PG_BETAS(0.9, 0.999), PG_DEF("eps", PG_FLOAT, 1e-8), \
      PG_DEF("weight_decay", PG_FLOAT, decay), PG_DEF("amsgrad", PG_FLAG, 0), PG_MAXIMIZE

const pg_rule PG_AT(pg_rules_adam)[] = {
    {.name = "Adam",
     .doc =
         "p -= lr m' / (sqrt(v') + eps) with bias-corrected running means m' of g + weight_decay "
         "p and v' of its square (Kingma and Ba 2015); decoupled_weight_decay makes it AdamW.",
     .param = {PARAMS(0), PG_DEF("decoupled_weight_decay", PG_FLAG, 0)},
     .state = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
     .uses = uses,
     .check = check,
     .prepare = prepare_adam,
     .step_f32 = step_f32,
     .step_f64 = step_f64},
    {.name = "AdamW",
     .doc = "Adam with the decay apart from the gradient: p = (1 - lr weight_decay) p - lr m' / "
            "(sqrt(v') + eps) (Loshchilov and Hutter 2019).",
     .param = {PARAMS(1e-2)},
     .state = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
     .uses = uses,
     .check = check,
     .prepare = prepare_adamw,
     .step_f32 = step_f32,
     .step_f64 = step_f64},
    {0}};
