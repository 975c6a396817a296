/* Clipping gradients by their joint norm. Relies on optim.h.
 * Spec: spec/optim/clip_spec.lua. */
#include <math.h>

#include "optim/optim.h"

enum { WIDE = 8 };
enum { SQUARES, MAGNITUDES, LARGEST, POWERS };

static double term(double v, int kind, double p) {
  v = fabs(v);
  return kind == SQUARES ? v * v : kind == POWERS ? pow(v, p) : v;
}

/* Sum (or maximum) over the elements of a contiguous tensor, in a fixed order. */
#define MEASURE(T, S)                                                        \
  static double measure_##S(int64_t n, const T *x, int kind, double p) {     \
    double part[WIDE] = {0}, all = 0;                                        \
    for (int64_t i = 0; i < n; i++) {                                        \
      double v = term((double)x[i], kind, p), *at = &part[i % WIDE];         \
      if (kind != LARGEST) *at += v;                                         \
      else if (v > *at || v != v) *at = v; /* NaN stays */                   \
    }                                                                        \
    for (int j = 0; j < WIDE; j++) {                                         \
      if (kind != LARGEST) all += part[j];                                   \
      else if (part[j] > all || part[j] != part[j]) all = part[j];           \
    }                                                                        \
    return all;                                                              \
  }                                                                          \
  static double squares_##S(int64_t n, const T *x) {                         \
    double part[WIDE] = {0}, all = 0;                                        \
    int64_t i = 0;                                                           \
    for (; i + WIDE <= n; i += WIDE)                                         \
      for (int j = 0; j < WIDE; j++) part[j] += (double)x[i + j] * x[i + j]; \
    for (; i < n; i++) all += (double)x[i] * x[i];                           \
    for (int j = 0; j < WIDE; j++) all += part[j];                           \
    return all;                                                              \
  }

MEASURE(float, f32)
MEASURE(double, f64)

static double measure(const pg_tensor *g, int kind, double p) {
  int64_t n = pg_numel(g);
  if (kind == SQUARES)
    return g->dtype == PG_F32 ? squares_f32(n, pg_data(g)) : squares_f64(n, pg_data(g));
  return g->dtype == PG_F32 ? measure_f32(n, pg_data(g), kind, p)
                            : measure_f64(n, pg_data(g), kind, p);
}

pg_status pg_clip_grad_norm(pg_ctx *ctx, int n, pg_tensor *const *params, double max, double p,
                            double *norm) {
  *norm = 0;
  if (!(p > 0))
    return pg_fail(ctx, PG_EARG, "clip_grad_norm_: argument 'norm_type': expected above 0, got %g",
                   p);
  if (!(max >= 0))
    return pg_fail(ctx, PG_EARG,
                   "clip_grad_norm_: argument 'max_norm': expected at least 0, got %g", max);
  int kind = p == 2 ? SQUARES : p == 1 ? MAGNITUDES : isinf(p) ? LARGEST : POWERS;
  double all = 0;
  for (int i = 0; i < n; i++) {
    pg_tensor *g = params[i]->grad, *flat;
    if (!g) continue;
    if (g->dtype != PG_F32 && g->dtype != PG_F64)
      return pg_fail(ctx, PG_EDTYPE,
                     "clip_grad_norm_: argument 'parameters': expected gradients of float32 or "
                     "float64, got %s",
                     pg_dtype_name((pg_dtype)g->dtype));
    if (pg_is_dense(g)) flat = pg_tensor_ref(g);
    else PG_TRY(pg__contiguous(ctx, g, &flat));
    double v = measure(flat, kind, p);
    pg_tensor_unref(flat);
    if (kind != LARGEST) all += v;
    else if (v > all || v != v) all = v;
  }
  *norm = kind == SQUARES ? sqrt(all) : kind == POWERS ? pow(all, 1 / p) : all;
  double scale = max / (*norm + 1e-6);
  if (scale >= 1) return PG_OK;
  pg_tensor *k;
  PG_TRY(pg_tensor_number(ctx, scale, false, &k));
  bool mode = ctx->grad_mode;
  ctx->grad_mode = false;
  pg_status s = PG_OK;
  for (int i = 0; i < n && s == PG_OK; i++)
    if (params[i]->grad) s = pg_do(ctx, NULL, "mul_", "tt", params[i]->grad, k);
  ctx->grad_mode = mode;
  pg_tensor_unref(k);
  return s;
}
