/* Activation functions, prelu and glu.
 * Relies on vmath.h through loops.h; where second derivatives are asked for, on formulas.
 * Spec: spec/ops/activation_spec.lua. */
#include "autograd/formula.h"
#include "autograd/node.h"
#include "base/par.h"
#include "ops/loops.h"

/* p and q of the loops: the op's first two numbers; of one number, q is 1 / its float32. */
static void numbers(const pg_call *c, double k[2]) {
  int at = 0;
  k[0] = k[1] = 0;
  for (const pg_param *p = c->op->param; p->kind != PG_END && at < 2; p++)
    if (p->kind == PG_FLOAT) {
      k[at] = c->arg[at].f;
      at++;
    }
  if (at == 1) k[1] = 1 / (double)(float)k[0];
}

static pg_status infer_number(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_LOOP));
  return pg_out_like(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0]);
}
static pg_status infer_real(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_FLOAT));
  return pg_out_like(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0]);
}

/* ACTIVATION(name, cost, forward, saved, cost, gradient, text): loops of one function. In forward a
 * is x; in gradient a is the gradient and b what was saved, in or out; text is the same gradient as
 * a formula. */
#define ACTIVATION(name, cost, expr, saved, grad_cost, grad_expr, text) \
  PG_REAL1(name##_loop, expr)                                           \
  RUN(name, cost, saved, grad_cost, grad_expr, text)
/* One that takes integers too; bytes with an expression of their own. */
#define WHOLE(name, cost, expr, u8, saved, grad_cost, grad_expr, text)        \
  PG_LOOPS1(name##_loop, expr)                                                \
  PG_MAP1(name##_loop_i64, int64_t, int64_t, expr)                            \
  PG_MAP1(name##_loop_u8, uint8_t, uint8_t, u8)                               \
  static const pg_loop name##_loop[PG_NDTYPES] = {[PG_F32] = name##_loop_f32, \
                                                  [PG_F64] = name##_loop_f64, \
                                                  [PG_I64] = name##_loop_i64, \
                                                  [PG_U8] = name##_loop_u8};  \
  RUN(name, cost, saved, grad_cost, grad_expr, text)
#define RUN(name, cost, saved, grad_cost, grad_expr, text)       \
  PG_REAL2(name##_grad, grad_expr)                               \
  static pg_status name##_forward(pg_call *c) {                  \
    double k[2];                                                 \
    numbers(c, k);                                               \
    return pg__map(c, 1, cost, name##_loop, k);                  \
  }                                                              \
  static pg_status name##_backward(pg_call *c) {                 \
    double k[2];                                                 \
    numbers(c, k);                                               \
    if (c->recording) return pg_formula(c, 0, text, k[0], k[1]); \
    pg_tensor *t[PG_ITER_MAX] = {NULL, c->gout[0], c->saved[0]}; \
    return pg__map_back(c, 0, 2, t, grad_cost, name##_grad, k);  \
  }

/* --- piecewise linear ------------------------------------------------------------------------- */

/* x moved into lo..hi; NaN stays. */
#define BOUNDED(x, lo, hi) ((x) < (lo) ? (lo) : (x) > (hi) ? (hi) : (x))
WHOLE(relu, 1, a < 0 ? 0 : a, a, out, 1, b <= 0 ? 0 : a, "where(le(y, 0), 0, g)")
WHOLE(relu6, 1, BOUNDED(a, 0, 6), a > 6 ? 6 : a, in, 1, b <= 0 || b >= 6 ? 0 : a,
      "where(logical_or(le(x, 0), ge(x, 6)), 0, g)")
ACTIVATION(leaky_relu, 1, (a > 0 ? a : a * p), in, 1, (b > 0 ? a : a * p),
           "where(gt(x, 0), g, g * p)")
WHOLE(hardtanh, 1, BOUNDED(a, p, q), BOUNDED(a, p, q), in, 1, (b <= p || b >= q ? 0 : a),
      "where(logical_or(le(x, p), ge(x, q)), 0, g)")
/* PyTorch's slope is float32's 1/6 in float64 too. */
ACTIVATION(hardsigmoid, 2, BOUNDED(a + 3, 0, 6) / 6, in, 1,
           (b > -3 && b < 3 ? a * (T)(1 / 6.0f) : 0),
           "where(logical_and(gt(x, -3), lt(x, 3)), g * 0.16666667163372039795, 0)")
#define RISING(x, low, middle, high) ((x) <= -3 ? (low) : (x) < 3 ? (middle) : (high))
ACTIVATION(hardswish, 2, (a * BOUNDED(a + 3, 0, 6) / 6), in, 2,
           RISING(b, 0, a *(b / 3 + (T)0.5), a),
           "where(le(x, -3), 0, where(lt(x, 3), g * (x / 3 + 0.5), g))")
#define SHRUNK(x, by) ((x) > (by) ? (x) - (by) : (x) < -(by) ? (x) + (by) : (x) != (x) ? (x) : 0)
ACTIVATION(softshrink, 1, SHRUNK(a, p), in, 1, (b >= -p && b <= p ? 0 : a),
           "where(logical_and(ge(x, -p), le(x, p)), 0, g)")
ACTIVATION(hardshrink, 1, (a >= -p && a <= p ? 0 : a), in, 1, (b >= -p && b <= p ? 0 : a),
           "where(logical_and(ge(x, -p), le(x, p)), 0, g)")
WHOLE(threshold, 1, (a <= p ? q : a), (a <= p ? q : a), in, 1, (b <= p ? 0 : a),
      "where(le(x, p), 0, g)")

/* --- smooth ----------------------------------------------------------------------------------- */

#define SELU_SCALE 1.0507009873554805
#define SELU_ALPHA 1.6732632423543772
ACTIVATION(elu, 10, (a > 0 ? a : p * V1(expm1, a)), in, 10, (b <= 0 ? a * p * V1(exp, b) : a),
           "where(le(x, 0), g * p * exp(clamp_max(x, 0)), g)")
ACTIVATION(selu, 10, (a > 0 ? (T)SELU_SCALE * a : (T)(SELU_SCALE * SELU_ALPHA) * V1(expm1, a)), in,
           10, (b <= 0 ? (T)(SELU_SCALE * SELU_ALPHA) * a * V1(exp, b) : (T)SELU_SCALE * a),
           "where(le(x, 0), g * 1.7580993408473766 * exp(clamp_max(x, 0)), g * 1.0507009873554805)")
/* PyTorch's gradient divides by float32's alpha in float64 too: q is 1 / that. */
ACTIVATION(celu, 10, (a > 0 ? a : p * V1(expm1, a / p)), in, 10,
           (b <= 0 ? a * q * p * V1(exp, b *q) : a),
           "where(le(x, 0), g * (q * p) * exp(clamp_max(x, 0) * q), g)")
ACTIVATION(silu, 10, a / (1 + V1(exp, -a)), in, 12,
           (a * V1(sigmoid, b) * (1 + b * (1 - V1(sigmoid, b)))),
           "g * sigmoid(x) * (1 + x * (1 - sigmoid(x)))")
ACTIVATION(softplus, 16, (a * p > q ? a : V1(softplus, (a * p)) / p), in, 10,
           (b * p > q ? a : a * V1(sigmoid, (b * p))), "where(gt(x * p, q), g, g * sigmoid(x * p))")
/* NaN at the infinities, as the function itself. */
ACTIVATION(softsign, 3, a / (1 + M1(fabs, a)), in, 3,
           a / ((1 + M1(fabs, b)) * (1 + M1(fabs, b))) + (b - b),
           "g / square(1 + abs(x)) + (x - x)")
ACTIVATION(logsigmoid, 16, (a < 0 ? a : 0) - V1(log1p, V1(exp, -M1(fabs, a))), in, 10,
           (a * V1(sigmoid, -b)), "g * sigmoid(-x)")
ACTIVATION(tanhshrink, 10, a - V1(tanh, a), in, 10, (a * V1(tanh, b) * V1(tanh, b)),
           "g * square(tanh(x))")

/* tanh(softplus(x)), which rounds to 1 beyond 20. */
#define CAPPED_EXP(x) V1(exp, (x) > 20 ? 20 : (x))
#define MISH_OF(e)    ((e) * ((e) + 2) / ((e) * ((e) + 2) + 2))
#define MISH(x)       MISH_OF(CAPPED_EXP(x))
ACTIVATION(mish, 12, (a * MISH(a)), in, 20,
           (a * (MISH(b) + b * V1(sigmoid, b) * (1 - MISH(b) * MISH(b)))),
           "g * (tanh(softplus(x)) + x * sigmoid(x) * (1 - square(tanh(softplus(x)))))")

/* gelu: x Phi(x) with the normal distribution's Phi, and the form with tanh(u),
 * u = sqrt(2/pi) (x + 0.044715 x^3). */
#define TANH_U(x)  V1(tanh, (T)0.79788456080286536 * ((x) + (T)0.044715 * (x) * (x) * (x)))
#define SLOPE_U(x) ((T)0.79788456080286536 * (1 + (T)0.134145 * (x) * (x)))
#define TEXT_U     "(0.79788456080286536 * (x + 0.044715 * x * x * x))"
ACTIVATION(gelu_erf, 8, (a * V1(phi, a)), in, 8, (a * V1(phi_slope, b)),
           "g * (0.5 * (1 + erf(x * 0.70710678118654752)) + x * 0.39894228040143268 * "
           "exp(-0.5 * x * x))")
ACTIVATION(gelu_tanh, 12, ((T)0.5 * a * (1 + TANH_U(a))), in, 14,
           ((T)0.5 * a * (1 + TANH_U(b) + b * (1 - TANH_U(b) * TANH_U(b)) * SLOPE_U(b))),
           "0.5 * g * (1 + tanh" TEXT_U " + x * (1 - square(tanh" TEXT_U ")) * "
           "0.79788456080286536 * (1 + 0.134145 * x * x))")
static pg_status gelu_forward(pg_call *c) {
  return c->arg[0].i ? gelu_tanh_forward(c) : gelu_erf_forward(c);
}
static pg_status gelu_backward(pg_call *c) {
  return c->arg[0].i ? gelu_tanh_backward(c) : gelu_erf_backward(c);
}

/* --- checks of arguments -----------------------------------------------------------------------
 */

static pg_status hardtanh_infer(pg_call *c) {
  if (c->arg[0].f > c->arg[1].f)
    return pg_bad_arg(c, PG_EVALUE, 0, "at most max_val %g", c->arg[1].f);
  if (c->in[0]->dtype == PG_U8 && c->arg[0].f < 0)
    return pg_bad_arg(c, PG_EVALUE, 0, "at least 0 for uint8");
  return infer_number(c);
}
static pg_status celu_infer(pg_call *c) {
  if (c->arg[0].f == 0) return pg_bad_arg(c, PG_EVALUE, 0, "a number but 0");
  return infer_real(c);
}
static pg_status shrink_infer(pg_call *c) {
  if (!(c->arg[0].f >= 0))
    return pg_fail(c->ctx, PG_EVALUE, "argument 'lambd': expected at least 0, got %g", c->arg[0].f);
  return infer_real(c);
}

/* --- prelu ------------------------------------------------------------------------------------ */

/* How channels lie in memory: element i has channel (i / inner) % channels. inner 1: the period
 * form, for which the weights are repeated to a tile of at least PG_BLOCK elements. */
typedef struct prelu_run {
  int64_t n, channels, inner, tile;
  const void *x, *g;
  const void *weight; /* the tile, or one number per channel */
  void *y;            /* forward: the result; backward: the gradient of x, or NULL */
  void *sum;          /* backward: a tile for each chunk, or a number for each plane; or NULL */
  int64_t grain;
} prelu_run;

/* The sums add g * min(x, 0) unconditionally: gcc 12 miscompiles `lane += x > 0 ? 0 : g * x` for
 * AVX2 under -fno-trapping-math. */
#define LANES 16
/* PRELU(T, S, dtype, LOAD, STORE): elements of T in memory, S in arithmetic, weights and sums. */
#define PRELU(T, S, dtype, LOAD, STORE)                                                       \
  static void prelu_period_##dtype(void *arg, int64_t begin, int64_t end) {                   \
    const prelu_run *r = arg;                                                                 \
    const S *w = r->weight;                                                                   \
    for (int64_t at = begin * r->tile; at < end * r->tile && at < r->n; at += r->tile) {      \
      const T *from = (const T *)r->x + at;                                                   \
      T *y = (T *)r->y + at;                                                                  \
      const int64_t m = pg_min64(r->tile, r->n - at);                                         \
      PG_IVDEP for (int64_t i = 0; i < m; i++) {                                              \
        const S x = LOAD(from[i]);                                                            \
        y[i] = STORE(x > 0 ? x : w[i] * x);                                                   \
      }                                                                                       \
    }                                                                                         \
  }                                                                                           \
  static void prelu_planes_##dtype(void *arg, int64_t begin, int64_t end) {                   \
    const prelu_run *r = arg;                                                                 \
    for (int64_t k = begin; k < end; k++) {                                                   \
      const T *from = (const T *)r->x + k * r->inner;                                         \
      const S w = ((const S *)r->weight)[k % r->channels];                                    \
      T *y = (T *)r->y + k * r->inner;                                                        \
      PG_IVDEP for (int64_t i = 0; i < r->inner; i++) {                                       \
        const S x = LOAD(from[i]);                                                            \
        y[i] = STORE(x > 0 ? x : w * x);                                                      \
      }                                                                                       \
    }                                                                                         \
  }                                                                                           \
  static void prelu_period_grad_##dtype(void *arg, int64_t begin, int64_t end) {              \
    const prelu_run *r = arg;                                                                 \
    const S *w = r->weight;                                                                   \
    S *sum = r->sum ? (S *)r->sum + begin / r->grain * r->tile : NULL;                        \
    for (int64_t i = 0; sum && i < r->tile; i++) sum[i] = 0;                                  \
    for (int64_t at = begin * r->tile; at < end * r->tile && at < r->n; at += r->tile) {      \
      const T *from = (const T *)r->x + at, *grad = (const T *)r->g + at;                     \
      const int64_t m = pg_min64(r->tile, r->n - at);                                         \
      if (sum) PG_IVDEP for (int64_t i = 0; i < m; i++) {                                     \
          const S x = LOAD(from[i]);                                                          \
          sum[i] += LOAD(grad[i]) * (x > 0 ? 0 : x);                                          \
        }                                                                                     \
      if (!r->y) continue;                                                                    \
      T *y = (T *)r->y + at;                                                                  \
      PG_IVDEP for (int64_t i = 0; i < m; i++) {                                              \
        const S x = LOAD(from[i]), g = LOAD(grad[i]);                                         \
        y[i] = STORE(x > 0 ? g : w[i] * g);                                                   \
      }                                                                                       \
    }                                                                                         \
  }                                                                                           \
  static void prelu_planes_grad_##dtype(void *arg, int64_t begin, int64_t end) {              \
    const prelu_run *r = arg;                                                                 \
    for (int64_t k = begin; k < end; k++) {                                                   \
      const T *from = (const T *)r->x + k * r->inner, *grad = (const T *)r->g + k * r->inner; \
      const S w = ((const S *)r->weight)[k % r->channels];                                    \
      if (r->sum) {                                                                           \
        S lane[LANES] = {0}, total = 0;                                                       \
        int64_t i = 0;                                                                        \
        for (; i + LANES <= r->inner; i += LANES)                                             \
          for (int j = 0; j < LANES; j++) {                                                   \
            const S x = LOAD(from[i + j]);                                                    \
            lane[j] += LOAD(grad[i + j]) * (x > 0 ? 0 : x);                                   \
          }                                                                                   \
        for (; i < r->inner; i++) {                                                           \
          const S x = LOAD(from[i]);                                                          \
          lane[0] += LOAD(grad[i]) * (x > 0 ? 0 : x);                                         \
        }                                                                                     \
        for (int j = 0; j < LANES; j++) total += lane[j];                                     \
        ((S *)r->sum)[k] = total;                                                             \
      }                                                                                       \
      if (!r->y) continue;                                                                    \
      T *y = (T *)r->y + k * r->inner;                                                        \
      PG_IVDEP for (int64_t i = 0; i < r->inner; i++) {                                       \
        const S x = LOAD(from[i]), g = LOAD(grad[i]);                                         \
        y[i] = STORE(x > 0 ? g : w * g);                                                      \
      }                                                                                       \
    }                                                                                         \
  }
#define PRELU_SUMS(S, dtype)                                                                     \
  static void prelu_tile_##dtype(const prelu_run *r, const void *weight, void *tile) {           \
    for (int64_t i = 0; i < r->tile; i++) ((S *)tile)[i] = ((const S *)weight)[i % r->channels]; \
  }                                                                                              \
  /* Adds the partial sums of `rows` rows of `width`, in order, into one number per channel. */  \
  static void prelu_fold_##dtype(const prelu_run *r, int64_t rows, int64_t width, void *out) {   \
    for (int64_t k = 0; k < r->channels; k++) {                                                  \
      double total = 0;                                                                          \
      for (int64_t row = 0; row < rows; row++)                                                   \
        for (int64_t i = k; i < width; i += r->channels)                                         \
          total += (double)((const S *)r->sum)[row * width + i];                                 \
      ((S *)out)[k] = (S)total;                                                                  \
    }                                                                                            \
  }
#define SAME(x) (x)
PRELU(float, float, f32, SAME, SAME)
PRELU(double, double, f64, SAME, SAME)
PRELU(uint16_t, float, bf16, pg_bf16_f32, pg_f32_bf16)
PRELU_SUMS(float, f32)
PRELU_SUMS(double, f64)

#define PRELU_TABLE(name)                     \
  static const pg_par_fn name[PG_NDTYPES] = { \
      [PG_F32] = name##_f32, [PG_F64] = name##_f64, [PG_BF16] = name##_bf16};
PRELU_TABLE(prelu_period)
PRELU_TABLE(prelu_planes)
PRELU_TABLE(prelu_period_grad)
PRELU_TABLE(prelu_planes_grad)
PG_REAL2(prelu_loop, (a > 0 ? a : a * b))

static int64_t channels_of(const pg_tensor *x) { return x->nd > 1 ? x->shape[1] : 1; }

static pg_status prelu_infer(pg_call *c) {
  const pg_tensor *x = c->in[0], *w = c->in[1];
  PG_TRY(pg_want(c, 0, PG_M_FLOAT));
  if (x->dtype != PG_BF16 || w->dtype != PG_F32) PG_TRY(pg_want_same_dtype(c, 1, 0));
  if (w->nd > 1)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'weight': expected one dim, got %s",
                   pg_shape_str(w).s);
  if (pg_numel(w) != 1 && pg_numel(w) != channels_of(x))
    return pg_fail(
        c->ctx, PG_ESHAPE,
        "argument 'weight': expected 1 or %lld numbers, one for each channel of %s, got %s",
        (long long)channels_of(x), pg_shape_str(x).s, pg_shape_str(w).s);
  return pg_out_like(c, 0, (pg_dtype)x->dtype, x);
}

/* Describes x, which must be contiguous, channels-last, or dense with one weight. */
static void prelu_describe(prelu_run *r, const pg_tensor *x, int64_t channels) {
  r->n = pg_numel(x);
  r->channels = channels;
  r->inner = 1;
  if (channels > 1 && !pg_is_channels_last(x))
    for (int d = 2; d < x->nd; d++) r->inner *= x->shape[d];
  r->tile = channels * ((PG_BLOCK + channels - 1) / channels);
  r->x = pg_data(x);
}
/* The dtype of weights and sums for elements of dtype d. */
static pg_dtype prelu_wide(pg_dtype d) { return d == PG_BF16 ? PG_F32 : d; }
/* Sets weight: a tile that the caller frees with prelu_free, or w itself. */
static pg_status prelu_weight(pg_ctx *ctx, prelu_run *r, const pg_tensor *w, void **block) {
  *block = NULL;
  r->weight = pg_data(w);
  if (r->inner > 1) return PG_OK;
  PG_TRY(pg_alloc(ctx, (size_t)r->tile * pg_dtype_size((pg_dtype)w->dtype), block));
  (w->dtype == PG_F32 ? prelu_tile_f32 : prelu_tile_f64)(r, pg_data(w), *block);
  r->weight = *block;
  return PG_OK;
}
static void prelu_free(pg_ctx *ctx, const prelu_run *r, const pg_tensor *w, void *block) {
  pg_free(ctx, block, (size_t)r->tile * pg_dtype_size((pg_dtype)w->dtype));
}
/* Items of the parallel loop: tiles or planes. */
static int64_t prelu_items(prelu_run *r) {
  r->grain = pg_grain(2 * (r->inner > 1 ? r->inner : r->tile));
  return r->inner > 1 ? r->n / r->inner : (r->n + r->tile - 1) / r->tile;
}

/* w as a view that broadcasts over x. */
static pg_status prelu_spread(pg_ctx *ctx, const pg_tensor *w, const pg_tensor *x,
                              pg_tensor **out) {
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS] = {0};
  for (int d = 0; d < x->nd; d++) shape[d] = 1;
  if (pg_numel(w) > 1) {
    shape[1] = x->shape[1];
    stride[1] = w->stride[0];
  }
  return pg_tensor_alias(ctx, w, x->nd, shape, stride, w->offset, out);
}

static pg_status prelu_forward(pg_call *c) {
  pg_ctx *ctx = c->ctx;
  pg_tensor *x = c->in[0], *w = NULL, *spread = NULL;
  void *block = NULL;
  prelu_run r = {0};
  int64_t channels = pg_numel(c->in[1]);
  if (!pg_numel(x)) return PG_OK;
  bool plain = pg_is_contiguous(x) || pg_is_channels_last(x) || (channels == 1 && pg_is_dense(x));
  if (!plain) {
    PG_TRY(prelu_spread(ctx, c->in[1], x, &spread));
    pg_tensor *t[3] = {c->out[0], x, spread};
    pg__over(ctx, 3, t, 1, 1, prelu_loop, NULL);
    pg_tensor_unref(spread);
    return PG_OK;
  }
  PG_TRY(pg__as(ctx, c->in[1], prelu_wide((pg_dtype)x->dtype), &w));
  prelu_describe(&r, x, channels);
  r.y = pg_data(c->out[0]);
  pg_status s = prelu_weight(ctx, &r, w, &block);
  if (s == PG_OK) {
    int64_t items = prelu_items(&r);
    pg_par_for(ctx, items, r.grain, (r.inner > 1 ? prelu_planes : prelu_period)[x->dtype], &r);
    prelu_free(ctx, &r, w, block);
  }
  pg_tensor_unref(w);
  return s;
}

/* The gradients as ops, for second derivatives. */
static pg_status prelu_recorded(pg_call *c) {
  pg_ctx *ctx = c->ctx;
  pg_tensor *x = c->in[0], *w = c->in[1], *product = NULL;
  int64_t shape[PG_MAX_DIMS], dims[PG_MAX_DIMS];
  int n = 0;
  bool many = pg_numel(w) > 1;
  for (int d = 0; d < x->nd; d++) {
    shape[d] = many && d == 1 ? x->shape[1] : 1;
    if (!many || d != 1) dims[n++] = d + 1;
  }
  pg_tensor *spread;
  PG_TRY(pg_do(ctx, &spread, "view", "tl", w, x->nd, shape));
  c->in[1] = spread;
  pg_status s = pg_formula(c, 0, "where(gt(x, 0), g, g * b)", 0, 0);
  if (s == PG_OK) s = pg_formula(c, 1, "where(gt(x, 0), 0, g * x)", 0, 0);
  c->in[1] = w;
  pg_tensor_unref(spread);
  if (s != PG_OK || !c->need[1]) return s;
  product = c->gin[1];
  c->gin[1] = NULL;
  if (n) {
    pg_tensor *sum;
    s = pg_do(ctx, &sum, "sum", "tlb", product, n, dims, 0);
    pg_tensor_unref(product);
    PG_TRY(s);
    product = sum;
  }
  s = pg_do(ctx, &c->gin[1], "view", "tl", product, w->nd, w->shape);
  pg_tensor_unref(product);
  return s;
}

static pg_status prelu_backward(pg_call *c) {
  if (c->recording) return prelu_recorded(c);
  pg_ctx *ctx = c->ctx;
  const pg_dtype d = (pg_dtype)c->in[0]->dtype, wide = prelu_wide(d);
  pg_tensor *x = NULL, *g = NULL, *w = NULL;
  void *block = NULL;
  size_t sum_bytes = 0;
  prelu_run r = {0};
  if (!pg_numel(c->in[0])) {
    if (c->need[0]) PG_TRY(pg_tensor_new_like(ctx, c->in[0], d, &c->gin[0]));
    if (!c->need[1]) return PG_OK;
    return pg_tensor_zeros(ctx, wide, c->meta[1].nd, c->meta[1].shape, &c->gin[1]);
  }
  pg_status (*same)(pg_ctx *, pg_tensor *, pg_tensor **) =
      pg_is_channels_last(c->in[0]) ? pg__channels_last : pg__contiguous;
  pg_status s = same(ctx, c->in[0], &x);
  if (s == PG_OK) s = same(ctx, c->gout[0], &g);
  if (s == PG_OK) s = pg__as(ctx, c->in[1], wide, &w);
  if (s != PG_OK) goto done;
  prelu_describe(&r, x, pg_numel(w));
  r.g = pg_data(g);
  s = prelu_weight(ctx, &r, w, &block);
  if (s == PG_OK && c->need[0]) s = pg_tensor_new_like(ctx, x, d, &c->gin[0]);
  if (s != PG_OK) goto done;
  if (c->need[0]) r.y = pg_data(c->gin[0]);
  int64_t items = prelu_items(&r);
  int64_t rows = r.inner > 1 ? items / r.channels : (items + r.grain - 1) / r.grain;
  int64_t width = r.inner > 1 ? r.channels : r.tile;
  if (c->need[1]) {
    s = pg_tensor_new(ctx, wide, c->meta[1].nd, c->meta[1].shape, &c->gin[1]);
    if (s == PG_OK) {
      sum_bytes = (size_t)(rows * width) * pg_dtype_size(wide);
      s = pg_alloc(ctx, sum_bytes, &r.sum);
    }
    if (s != PG_OK) goto done;
  }
  pg_par_for(ctx, items, r.grain, (r.inner > 1 ? prelu_planes_grad : prelu_period_grad)[d], &r);
  if (r.sum)
    (wide == PG_F32 ? prelu_fold_f32 : prelu_fold_f64)(&r, rows, width, pg_data(c->gin[1]));
done:
  pg_free(ctx, r.sum, sum_bytes);
  if (block) prelu_free(ctx, &r, w, block);
  pg_tensor_unref(w);
  pg_tensor_unref(g);
  pg_tensor_unref(x);
  return s;
}

/* --- glu -------------------------------------------------------------------------------------- */

PG_REAL2(glu_loop, (a * V1(sigmoid, b)))
/* With u and v the halves of x: the gradients of u (a gradient, b v) and of v (c u). */
PG_REAL2(glu_first_grad, (a * V1(sigmoid, b)))
PG_REAL3(glu_second_grad, (a * V1(sigmoid, b) * (1 - V1(sigmoid, b)) * c))

static pg_status glu_infer(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int dim;
  PG_TRY(pg_want(c, 0, PG_M_FLOAT));
  if (!x->nd) return pg_bad_in(c, PG_ESHAPE, 0, "at least 1 dim");
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  if (x->shape[dim] % 2) return pg_bad_in(c, PG_ESHAPE, 0, "an even size in dim %d", dim + 1);
  int64_t shape[PG_MAX_DIMS];
  for (int i = 0; i < x->nd; i++) shape[i] = i == dim ? x->shape[i] / 2 : x->shape[i];
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, shape);
}
/* Half 0 or 1 of t along arg 0, as a view. */
static pg_status half_of(pg_call *c, const pg_tensor *t, int half, pg_tensor **out) {
  int dim;
  PG_TRY(pg_arg_dim(c, 0, t->nd, &dim));
  int64_t shape[PG_MAX_DIMS];
  for (int i = 0; i < t->nd; i++) shape[i] = i == dim ? t->shape[i] / 2 : t->shape[i];
  return pg_tensor_alias(c->ctx, t, t->nd, shape, t->stride,
                         t->offset + half * shape[dim] * t->stride[dim], out);
}
static pg_status glu_forward(pg_call *c) {
  pg_tensor *u = NULL, *v = NULL;
  pg_status s = half_of(c, c->in[0], 0, &u);
  if (s == PG_OK) s = half_of(c, c->in[0], 1, &v);
  if (s == PG_OK) {
    pg_tensor *t[3] = {c->out[0], u, v};
    pg__over(c->ctx, 3, t, 1, 10, glu_loop, NULL);
  }
  pg_tensor_unref(v);
  pg_tensor_unref(u);
  return s;
}

/* The gradient as ops, for second derivatives. */
static pg_status glu_recorded(pg_call *c) {
  pg_ctx *ctx = c->ctx;
  int dim;
  PG_TRY(pg_arg_dim(c, 0, c->meta[0].nd, &dim));
  int64_t at = dim + 1, half = c->meta[0].shape[dim] / 2;
  pg_tensor *x = c->in[0], *u = NULL, *v = NULL, *gin[2] = {NULL, NULL};
  pg_status s = pg_do(ctx, &u, "narrow", "tiii", x, at, (int64_t)1, half);
  if (s == PG_OK) s = pg_do(ctx, &v, "narrow", "tiii", x, at, half + 1, half);
  for (int i = 0; i < 2 && s == PG_OK; i++) {
    c->in[0] = u;
    c->in[1] = v;
    s = pg_formula(c, 0, i ? "g * a * sigmoid(b) * (1 - sigmoid(b))" : "g * sigmoid(b)", 0, 0);
    gin[i] = c->gin[0];
    c->gin[0] = NULL;
  }
  c->in[0] = x;
  if (s == PG_OK) {
    pg_call join;
    pg_call_init(&join, ctx, pg_op_find(ctx, "cat"));
    join.in = gin;
    join.nin = 2;
    join.arg[0].set = true;
    join.arg[0].i = at;
    s = pg_apply(&join);
    if (s == PG_OK) c->gin[0] = join.out[0];
  }
  pg_tensor_unref(gin[1]);
  pg_tensor_unref(gin[0]);
  pg_tensor_unref(v);
  pg_tensor_unref(u);
  return s;
}
static pg_status glu_backward(pg_call *c) {
  if (c->recording) return glu_recorded(c);
  pg_ctx *ctx = c->ctx;
  pg_tensor *x = c->in[0], *g = c->gout[0], *u = NULL, *v = NULL, *gu = NULL, *gv = NULL;
  PG_TRY(pg_tensor_new(ctx, (pg_dtype)x->dtype, x->nd, x->shape, &c->gin[0]));
  pg_status s = half_of(c, x, 0, &u);
  if (s == PG_OK) s = half_of(c, x, 1, &v);
  if (s == PG_OK) s = half_of(c, c->gin[0], 0, &gu);
  if (s == PG_OK) s = half_of(c, c->gin[0], 1, &gv);
  if (s == PG_OK) {
    pg_tensor *first[3] = {gu, g, v}, *second[4] = {gv, g, v, u};
    pg__over(ctx, 3, first, 1, 10, glu_first_grad, NULL);
    pg__over(ctx, 4, second, 1, 12, glu_second_grad, NULL);
  }
  pg_tensor_unref(gv);
  pg_tensor_unref(gu);
  pg_tensor_unref(v);
  pg_tensor_unref(u);
  return s;
}

/* --- table ------------------------------------------------------------------------------------ */

/* ACT(mish, doc, infer, params..): an activation of nn.functional that keeps its input. */
#define ACT(fn, doc, infer, ...)                                                    \
  {                                                                                 \
#fn, doc,                                                                       \
        {PG_T("input"), __VA_ARGS__ }, PG_NN | PG_INPLACE, PG_SAVE_IN(0), 1, infer, \
         {fn##_forward }, fn##_backward                                             \
  }
#define NO_PARAM \
  { NULL, PG_END, 0, 0, NULL }

const pg_op PG_AT(pg_ops_activation)[] = {
    {"relu",
     "max(x, 0).",
     {PG_T("input")},
     PG_NN | PG_METHOD | PG_INPLACE | PG_RELU,
     PG_SAVE_OUT(0),
     1,
     infer_number,
     {relu_forward},
     relu_backward},
    ACT(relu6, "min(max(x, 0), 6).", infer_number, NO_PARAM),
    ACT(leaky_relu, "x where x > 0, else negative_slope * x.", infer_real,
        PG_DEF("negative_slope", PG_FLOAT, 0.01)),
    {"prelu",
     "x where x > 0, else weight * x; one weight, or one for each channel (dim 2).",
     {PG_T("input"), PG_T("weight")},
     PG_NN | PG_METHOD,
     PG_SAVE_IN(0) | PG_SAVE_IN(1),
     1,
     prelu_infer,
     {prelu_forward},
     prelu_backward},
    ACT(elu, "x where x > 0, else alpha * (e^x - 1).", infer_real, PG_DEF("alpha", PG_FLOAT, 1)),
    ACT(selu, "1.0507 * elu(x, 1.6733): keeps mean 0 and variance 1 (Klambauer et al. 2017).",
        infer_real, NO_PARAM),
    ACT(celu, "max(x, 0) + min(0, alpha * (e^(x / alpha) - 1)).", celu_infer,
        PG_DEF("alpha", PG_FLOAT, 1)),
    {"gelu",
     "x * Phi(x), Phi the normal distribution's; approximate tanh uses its tanh form.",
     {PG_T("input"), PG_WORD("approximate", 0, "none|tanh")},
     PG_NN,
     PG_SAVE_IN(0),
     1,
     infer_real,
     {gelu_forward},
     gelu_backward},
    ACT(silu, "x * sigmoid(x).", infer_real, NO_PARAM),
    ACT(mish, "x * tanh(softplus(x)).", infer_real, NO_PARAM),
    ACT(softplus, "log(1 + e^(beta x)) / beta; x itself where beta x > threshold.", infer_real,
        PG_DEF("beta", PG_FLOAT, 1), PG_DEF("threshold", PG_FLOAT, 20)),
    ACT(softsign, "x / (1 + |x|).", infer_real, NO_PARAM),
    ACT(hardtanh, "min(max(x, min_val), max_val).", hardtanh_infer, PG_DEF("min_val", PG_FLOAT, -1),
        PG_DEF("max_val", PG_FLOAT, 1)),
    ACT(hardsigmoid, "min(max(x + 3, 0), 6) / 6.", infer_real, NO_PARAM),
    ACT(hardswish, "x * hardsigmoid(x).", infer_real, NO_PARAM),
    ACT(logsigmoid, "log(sigmoid(x)).", infer_real, NO_PARAM),
    ACT(tanhshrink, "x - tanh(x).", infer_real, NO_PARAM),
    ACT(softshrink, "x moved by lambd toward 0, and 0 where |x| <= lambd.", shrink_infer,
        PG_DEF("lambd", PG_FLOAT, 0.5)),
    ACT(hardshrink, "x where |x| > lambd, else 0.", infer_real, PG_DEF("lambd", PG_FLOAT, 0.5)),
    ACT(threshold, "x where x > threshold, else value.", infer_number,
        PG_REQ("threshold", PG_FLOAT), PG_REQ("value", PG_FLOAT)),
    {"glu",
     "u * sigmoid(v), where u and v are the two halves of input along dim.",
     {PG_T("input"), PG_DEF("dim", PG_DIM, -1)},
     PG_NN,
     PG_SAVE_IN(0),
     1,
     glu_infer,
     {glu_forward},
     glu_backward},
    {0}};
