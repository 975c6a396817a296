/* Clipping gradients by their joint norm. Relies on optim.h, tensor/iter.h, base/par.h.
 * Spec: spec/optim/optim_spec.lua. */
#include <math.h>

#include "base/par.h"
#include "optim/optim.h"
#include "tensor/iter.h"

enum { WIDE = 8 };
enum { SQUARES, MAGNITUDES, LARGEST, POWERS };

static double term(double v, int kind, double p) {
  v = fabs(v);
  return kind == POWERS ? pow(v, p) : v;
}

/* Sum (or maximum) over the elements of a contiguous tensor, in a fixed order. */
#define MEASURE(T, S)                                                    \
  static double measure_##S(int64_t n, const T *x, int kind, double p) { \
    double part[WIDE] = {0}, all = 0;                                    \
    for (int64_t i = 0; i < n; i++) {                                    \
      double v = term((double)x[i], kind, p), *at = &part[i % WIDE];     \
      if (kind != LARGEST) *at += v;                                     \
      else if (v > *at || v != v) *at = v; /* NaN stays */               \
    }                                                                    \
    for (int j = 0; j < WIDE; j++) {                                     \
      if (kind != LARGEST) all += part[j];                               \
      else if (part[j] > all || part[j] != part[j]) all = part[j];       \
    }                                                                    \
    return all;                                                          \
  }

MEASURE(float, f32)
MEASURE(double, f64)

/* Gradients of one call, contiguous and owned; their pieces are measured by all threads. */
typedef struct clip {
  const pg_kern *kern;
  int kind, count;
  double p;
  pg_tensor **grad;
  int64_t *first; /* number of the first piece of each gradient; at the end: of all pieces */
  double *part;   /* of each piece */
  size_t bytes, part_bytes;
} clip;

enum { PIECE = 16384 };

static double measure(const clip *c, const pg_tensor *g, int64_t at) {
  const int64_t n = pg_min64(PIECE, pg_numel(g) - at);
  if (g->dtype == PG_F32) {
    const float *x = (const float *)pg_data(g) + at;
    return c->kind == SQUARES ? c->kern->squares_f32(n, x) : measure_f32(n, x, c->kind, c->p);
  }
  const double *x = (const double *)pg_data(g) + at;
  return c->kind == SQUARES ? c->kern->squares_f64(n, x) : measure_f64(n, x, c->kind, c->p);
}

static void measure_pieces(void *arg, int64_t begin, int64_t end) {
  const clip *c = arg;
  int i = 0;
  for (int64_t k = begin; k < end; k++) {
    while (c->first[i + 1] <= k) i++;
    c->part[k] = measure(c, c->grad[i], (k - c->first[i]) * PIECE);
  }
}

static pg_status open_clip(pg_ctx *ctx, clip *c, int n, pg_tensor *const *params) {
  c->kern = pg__kern(ctx);
  c->bytes = (size_t)(n + 1) * (sizeof *c->grad + sizeof *c->first);
  PG_TRY(pg_alloc(ctx, c->bytes, (void **)&c->grad));
  c->first = (int64_t *)(c->grad + n + 1);
  c->first[0] = 0;
  for (int i = 0; i < n; i++) {
    pg_tensor *g = params[i]->grad;
    if (!g) continue;
    if (g->dtype != PG_F32 && g->dtype != PG_F64)
      return pg_fail(ctx, PG_EDTYPE,
                     "clip_grad_norm_: argument 'parameters': expected gradients of float32 or "
                     "float64, got %s",
                     pg_dtype_name((pg_dtype)g->dtype));
    if (pg_is_dense(g)) c->grad[c->count] = pg_tensor_ref(g);
    else PG_TRY(pg__contiguous(ctx, g, &c->grad[c->count]));
    const int64_t pieces = (pg_numel(g) + PIECE - 1) / PIECE;
    c->first[c->count + 1] = c->first[c->count] + pieces;
    c->count++;
  }
  c->part_bytes = sizeof *c->part * (size_t)pg_max64(c->first[c->count], 1);
  return pg_alloc(ctx, c->part_bytes, (void **)&c->part);
}

static void close_clip(pg_ctx *ctx, clip *c) {
  for (int i = 0; i < c->count; i++) pg_tensor_unref(c->grad[i]);
  if (c->part) pg_free(ctx, c->part, c->part_bytes);
  pg_free(ctx, c->grad, c->bytes);
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
  clip c = {.kind = kind, .p = p};
  double all = 0;
  pg_status s = open_clip(ctx, &c, n, params);
  if (s == PG_OK) {
    const int64_t pieces = c.first[c.count];
    pg_par_for(ctx, pieces, pieces > 1 ? 1 : pieces, measure_pieces, &c);
    for (int64_t k = 0; k < pieces; k++) {
      if (kind != LARGEST) all += c.part[k];
      else if (c.part[k] > all || c.part[k] != c.part[k]) all = c.part[k];
    }
  }
  if (c.grad) close_clip(ctx, &c);
  PG_TRY(s);
  *norm = kind == SQUARES ? sqrt(all) : kind == POWERS ? pow(all, 1 / p) : all;
  double scale = max / (*norm + 1e-6);
  if (scale >= 1) return PG_OK;
  pg_tensor *k;
  PG_TRY(pg_tensor_number(ctx, scale, false, &k));
  bool mode = ctx->grad_mode;
  ctx->grad_mode = false;
  for (int i = 0; i < n && s == PG_OK; i++)
    if (params[i]->grad) s = pg_do(ctx, NULL, "mul_", "tt", params[i]->grad, k);
  ctx->grad_mode = mode;
  pg_tensor_unref(k);
  return s;
}
