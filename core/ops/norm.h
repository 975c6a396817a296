/* What the normalisation ops share: sums around a value, and the gradient as recorded ops. Relies
 * on chain.h, base/par. Spec: spec/ops/norm_spec.lua. */
#ifndef PG_OPS_NORM_H
#define PG_OPS_NORM_H

#include <math.h>

#include "base/par.h"
#include "kernels/level.h"
#include "ops/chain.h"
#include "ops/lanes.h"

enum { NORM_LANES = 64, NORM_PIECE = 65536, NORM_COLUMNS = 256 };

/* norm_sums: s[0] = sum (x - m), s[1] = sum (x - m)^2. norm_products: s[0] = sum g, s[1] = sum
 * g (x - m). The columns forms do so for c columns over rows of c elements, adding to s[0 .. c) and
 * s[c .. 2c). */
#define NORM_PAIR(name, T, FIRST, SECOND)                                                        \
  static inline void name(int64_t n, const T *restrict g, const T *restrict x, T m, double *s) { \
    double a = 0, b = 0;                                                                         \
    int64_t i = 0;                                                                               \
    (void)g;                                                                                     \
    while (i + LANES <= n) {                                                                     \
      T t[LANES], q[LANES];                                                                      \
      int64_t end = pg_min64(n / LANES * LANES, i + 64 * LANES);                                 \
      for (int j = 0; j < LANES; j++) t[j] = q[j] = 0;                                           \
      for (; i < end; i += LANES)                                                                \
        for (int j = 0; j < LANES; j++) {                                                        \
          T d = x[i + j] - m;                                                                    \
          t[j] += FIRST(g[i + j], d);                                                            \
          q[j] += SECOND(g[i + j], d);                                                           \
        }                                                                                        \
      LANES_FOLD(t, LANES_ADD);                                                                  \
      LANES_FOLD(q, LANES_ADD);                                                                  \
      a += (double)t[0];                                                                         \
      b += (double)q[0];                                                                         \
    }                                                                                            \
    for (; i < n; i++) {                                                                         \
      T d = x[i] - m;                                                                            \
      a += (double)FIRST(g[i], d);                                                               \
      b += (double)SECOND(g[i], d);                                                              \
    }                                                                                            \
    s[0] = a;                                                                                    \
    s[1] = b;                                                                                    \
  }
#define NORM_D(g, d)  (d)
#define NORM_DD(g, d) ((d) * (d))
#define NORM_G(g, d)  (g)
#define NORM_GD(g, d) ((g) * (d))

#define NORM_STATISTICS(S, T)                                                           \
  NORM_PAIR(norm_pair_##S, T, NORM_D, NORM_DD)                                          \
  NORM_PAIR(norm_products_##S, T, NORM_G, NORM_GD)                                      \
  static inline void norm_sums_##S(int64_t n, const T *x, T m, double *s) {             \
    norm_pair_##S(n, x, x, m, s);                                                       \
  }                                                                                     \
  static inline void norm_column_sums_##S(int64_t rows, int64_t c, const T *restrict x, \
                                          const double *m, double *restrict s) {        \
    T k[NORM_COLUMNS];                                                                  \
    for (int64_t from = 0; from < c; from += NORM_COLUMNS, s += NORM_COLUMNS) {         \
      const int64_t n = pg_min64(NORM_COLUMNS, c - from);                               \
      const T *restrict p = x + from;                                                   \
      int64_t r = rows;                                                                 \
      for (int64_t j = 0; j < n; j++) k[j] = (T)m[from + j];                            \
      for (; r >= 8; r -= 8, p += 8 * c) PG_IVDEP for (int64_t j = 0; j < n; j++) {     \
          T d0 = p[j] - k[j], d1 = p[j + c] - k[j];                                     \
          T d2 = p[j + 2 * c] - k[j], d3 = p[j + 3 * c] - k[j];                         \
          T d4 = p[j + 4 * c] - k[j], d5 = p[j + 5 * c] - k[j];                         \
          T d6 = p[j + 6 * c] - k[j], d7 = p[j + 7 * c] - k[j];                         \
          s[j] += (double)(((d0 + d1) + (d2 + d3)) + ((d4 + d5) + (d6 + d7)));          \
          s[j + c] += (double)(((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)) +            \
                               ((d4 * d4 + d5 * d5) + (d6 * d6 + d7 * d7)));            \
        }                                                                               \
      for (; r > 0; r--, p += c) PG_IVDEP for (int64_t j = 0; j < n; j++) {             \
          T d = p[j] - k[j];                                                            \
          s[j] += (double)d;                                                            \
          s[j + c] += (double)(d * d);                                                  \
        }                                                                               \
    }                                                                                   \
  }
NORM_STATISTICS(f32, float)
NORM_STATISTICS(f64, double)

/* G(g, x, j) is the gradient that counts, in which u and v are a and b, where they are given. */
#define NORM_COLUMN_PRODUCTS(name, T, G)                                                           \
  static inline void name(int64_t rows, int64_t c, const T *restrict g, const T *restrict x,       \
                          const double *m, const double *a, const double *b, double *restrict s) { \
    T k[NORM_COLUMNS], u[NORM_COLUMNS], v[NORM_COLUMNS];                                           \
    (void)u, (void)v;                                                                              \
    for (int64_t from = 0; from < c; from += NORM_COLUMNS, s += NORM_COLUMNS) {                    \
      const int64_t n = pg_min64(NORM_COLUMNS, c - from);                                          \
      const T *restrict p = x + from, *restrict q = g + from;                                      \
      int64_t r = rows;                                                                            \
      for (int64_t j = 0; j < n; j++) k[j] = (T)m[from + j];                                       \
      for (int64_t j = 0; j < n && a; j++) {                                                       \
        u[j] = (T)a[from + j];                                                                     \
        v[j] = (T)b[from + j];                                                                     \
      }                                                                                            \
      for (; r >= 4; r -= 4, p += 4 * c, q += 4 * c) PG_IVDEP for (int64_t j = 0; j < n; j++) {    \
          T x0 = p[j], x1 = p[j + c], x2 = p[j + 2 * c], x3 = p[j + 3 * c];                        \
          T g0 = G(q[j], x0, j), g1 = G(q[j + c], x1, j);                                          \
          T g2 = G(q[j + 2 * c], x2, j), g3 = G(q[j + 3 * c], x3, j);                              \
          s[j] += (double)((g0 + g1) + (g2 + g3));                                                 \
          s[j + c] += (double)((g0 * (x0 - k[j]) + g1 * (x1 - k[j])) +                             \
                               (g2 * (x2 - k[j]) + g3 * (x3 - k[j])));                             \
        }                                                                                          \
      for (; r > 0; r--, p += c, q += c) PG_IVDEP for (int64_t j = 0; j < n; j++) {                \
          T g0 = G(q[j], p[j], j);                                                                 \
          s[j] += (double)g0;                                                                      \
          s[j + c] += (double)(g0 * (p[j] - k[j]));                                                \
        }                                                                                          \
    }                                                                                              \
  }
#define NORM_WHOLE(g, x, j) (g)
NORM_COLUMN_PRODUCTS(norm_column_products_f32, float, NORM_WHOLE)
NORM_COLUMN_PRODUCTS(norm_column_products_f64, double, NORM_WHOLE)

/* The gradients of y = weight xhat + bias with xhat = (x - mean) / sqrt(var + eps) as recorded ops.
 * x and g are seen as `shape` (4 dims); mean and var are taken over the dims of stat, weight and
 * bias lie along those of param. With `mean` given (seen as shape[i] where param, else 1) the
 * statistics are constants; with `centered` false mean is 0. Fills gin[0], gin[at_weight],
 * gin[at_bias] as needed. */
static inline pg_status norm_recorded(pg_call *c, const int64_t *shape, unsigned stat,
                                      unsigned param, bool centered, double eps, pg_tensor *mean,
                                      pg_tensor *var, int at_weight, int at_bias) {
  pg_chain k = {.ctx = c->ctx};
  const pg_meta *m = &c->meta[0];
  int64_t over[4], around[4], wide[4];
  int nover = 0, naround = 0;
  for (int i = 0; i < 4; i++) {
    if (stat >> i & 1) over[nover++] = i + 1;
    if (!(param >> i & 1)) around[naround++] = i + 1;
    wide[i] = param >> i & 1 ? shape[i] : 1;
  }
  pg_tensor *x = PG_STEP(&k, "reshape", "tl", c->in[0], 4, shape);
  pg_tensor *g = PG_STEP(&k, "reshape", "tl", c->gout[0], 4, shape), *gx;
  pg_tensor *number = pg_chain_number(&k, eps), *w = NULL;
  if (at_weight && c->in[at_weight]) w = PG_STEP(&k, "reshape", "tl", c->in[at_weight], 4, wide);
  pg_tensor *gh = w ? PG_STEP(&k, "mul", "tt", g, w) : g;
  if (mean) {
    pg_tensor *r = PG_STEP(&k, "reshape", "tl", var, 4, wide);
    r = PG_STEP(&k, "rsqrt", "t", PG_STEP(&k, "add", "tt", r, number));
    x = PG_STEP(&k, "sub", "tt", x, PG_STEP(&k, "reshape", "tl", mean, 4, wide));
    x = PG_STEP(&k, "mul", "tt", x, r);
    gx = PG_STEP(&k, "mul", "tt", gh, r);
  } else {
    if (centered) x = PG_STEP(&k, "sub", "tt", x, PG_STEP(&k, "mean", "tlb", x, nover, over, 1));
    pg_tensor *v = PG_STEP(&k, "mean", "tlb", PG_STEP(&k, "mul", "tt", x, x), nover, over, 1);
    pg_tensor *r = PG_STEP(&k, "rsqrt", "t", PG_STEP(&k, "add", "tt", v, number));
    x = PG_STEP(&k, "mul", "tt", x, r);
    pg_tensor *along = PG_STEP(&k, "mul", "tt", gh, x);
    along = PG_STEP(&k, "mul", "tt", x, PG_STEP(&k, "mean", "tlb", along, nover, over, 1));
    gx = PG_STEP(&k, "sub", "tt", gh, along);
    if (centered) gx = PG_STEP(&k, "sub", "tt", gx, PG_STEP(&k, "mean", "tlb", gh, nover, over, 1));
    gx = PG_STEP(&k, "mul", "tt", gx, r);
  }
  if (c->need[0]) pg_chain_give(&k, PG_STEP(&k, "reshape", "tl", gx, m->nd, m->shape), &c->gin[0]);
  for (int pass = 0; pass < 2; pass++) {
    int at = pass ? at_bias : at_weight;
    if (!at || !c->need[at]) continue;
    pg_tensor *t = pass ? g : PG_STEP(&k, "mul", "tt", g, x);
    if (naround) t = PG_STEP(&k, "sum", "tlb", t, naround, around, 1);
    t = PG_STEP(&k, "reshape", "tl", t, c->meta[at].nd, c->meta[at].shape);
    pg_chain_give(&k, t, &c->gin[at]);
  }
  return pg_chain_end(&k);
}

#endif
