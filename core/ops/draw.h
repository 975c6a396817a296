/* Filling tensors with random numbers: element i comes from block base + i / 4 (float32) or
 * base + i / 2 (float64) in logical order, so neither threads nor layout change it. Relies on
 * base/rng.h, vmath.h. Spec: spec/ops/random_spec.lua. */
#ifndef PG_OPS_DRAW_H
#define PG_OPS_DRAW_H

#include <math.h>
#include <string.h>

#include "base/par.h"
#include "base/rng.h"
#include "kernels/vmath.h"
#include "tensor/tensor.h"

enum {
  DRAW_F32 = 4 * PG_RNG_LANES,
  DRAW_F64 = 2 * PG_RNG_LANES
}; /* elements of a group of blocks */

/* A fill of n elements: a group writes `per` of them. make may change the uniform numbers u in
 * [0, 1) of one group into others. */
typedef struct draw_job {
  uint64_t seed, first;
  int64_t n;
  double a, b;
  void *y;
  void (*make_f32)(float *u, double a, double b);
  void (*make_f64)(double *u, double a, double b);
} draw_job;

/* The uniform numbers of group i. */
static inline void draw_group_f32(uint64_t seed, uint64_t first, float *restrict u) {
  uint32_t w[4][PG_RNG_LANES];
  pg_rng_lanes(seed, first, w);
  for (int j = 0; j < PG_RNG_LANES; j++)
    for (int k = 0; k < 4; k++) u[4 * j + k] = pg_rng_f32(w[k][j]);
}
static inline void draw_group_f64(uint64_t seed, uint64_t first, double *restrict u) {
  uint32_t w[4][PG_RNG_LANES];
  pg_rng_lanes(seed, first, w);
  for (int j = 0; j < PG_RNG_LANES; j++)
    for (int k = 0; k < 2; k++) u[2 * j + k] = pg_rng_f64(w[2 * k][j], w[2 * k + 1][j]);
}

/* Scales to [a, b). */
static inline void draw_scale_f32(float *u, double a, double b) {
  for (int i = 0; i < DRAW_F32; i++) u[i] = (float)a + (float)(b - a) * u[i];
}
static inline void draw_scale_f64(double *u, double a, double b) {
  for (int i = 0; i < DRAW_F64; i++) u[i] = a + (b - a) * u[i];
}

/* Box and Muller (1958): pairs of normal numbers with mean a and deviation b. 1 - u is never 0. */
#define DRAW_NORMAL(S, T, N, SQRT, PI2)                          \
  static inline void draw_normal_##S(T *u, double a, double b) { \
    T r[N / 2], t[N / 2];                                        \
    for (int i = 0; i < N / 2; i++) {                            \
      r[i] = (T)b * SQRT(-2 * pg_log_##S(1 - u[2 * i]));         \
      t[i] = PI2 * u[2 * i + 1];                                 \
    }                                                            \
    for (int i = 0; i < N / 2; i++) {                            \
      u[2 * i] = (T)a + r[i] * pg_cos_##S(t[i]);                 \
      u[2 * i + 1] = (T)a + r[i] * pg_sin_##S(t[i]);             \
    }                                                            \
  }
DRAW_NORMAL(f32, float, DRAW_F32, sqrtf, 6.28318531f)
DRAW_NORMAL(f64, double, DRAW_F64, sqrt, 6.283185307179586477)

/* Exponential with rate a. */
static inline void draw_exponential_f32(float *u, double a, double b) {
  (void)b;
  for (int i = 0; i < DRAW_F32; i++) u[i] = -pg_log_f32(1 - u[i]) * (float)(1 / a);
}
static inline void draw_exponential_f64(double *u, double a, double b) {
  (void)b;
  for (int i = 0; i < DRAW_F64; i++) u[i] = -pg_log_f64(1 - u[i]) / a;
}

/* 1 with probability a, else 0. */
static inline void draw_bernoulli_f32(float *u, double a, double b) {
  (void)b;
  for (int i = 0; i < DRAW_F32; i++) u[i] = (double)u[i] < a ? 1 : 0;
}
static inline void draw_bernoulli_f64(double *u, double a, double b) {
  (void)b;
  for (int i = 0; i < DRAW_F64; i++) u[i] = u[i] < a ? 1 : 0;
}

/* Groups [begin, end). */
#define DRAW_GROUPS(S, T, N)                                                  \
  static inline void draw_groups_##S(void *arg, int64_t begin, int64_t end) { \
    const draw_job *j = arg;                                                  \
    T u[N];                                                                   \
    for (int64_t i = begin; i < end; i++) {                                   \
      int64_t n = pg_min64(N, j->n - i * N);                                  \
      draw_group_##S(j->seed, j->first + (uint64_t)(i * PG_RNG_LANES), u);    \
      j->make_##S(u, j->a, j->b);                                             \
      memcpy((T *)j->y + i * N, u, sizeof *u * (size_t)n);                    \
    }                                                                         \
  }
DRAW_GROUPS(f32, float, DRAW_F32)
DRAW_GROUPS(f64, double, DRAW_F64)

/* Fills y, of any dtype and layout: float64 through make_f64, the others through make_f32. */
static inline pg_status draw_fill(pg_ctx *ctx, pg_tensor *y, draw_job j) {
  pg_tensor *t = NULL;
  pg_dtype dtype = y->dtype == PG_F64 ? PG_F64 : PG_F32;
  if (y->dtype == dtype && pg_is_contiguous(y)) t = pg_tensor_ref(y);
  else PG_TRY(pg_tensor_new(ctx, dtype, y->nd, y->shape, &t));
  int64_t per = dtype == PG_F64 ? DRAW_F64 : DRAW_F32;
  j.n = pg_numel(t);
  j.y = pg_data(t);
  j.seed = ctx->rng.seed;
  j.first = pg_rng_take(&ctx->rng, (uint64_t)((j.n * PG_RNG_LANES + per - 1) / per));
  pg_par_for(ctx, (j.n + per - 1) / per, 256, dtype == PG_F64 ? draw_groups_f64 : draw_groups_f32,
             &j);
  pg_status s = t == y ? PG_OK : pg_tensor_copy(y, t);
  pg_tensor_unref(t);
  return s;
}

/* Uniform in [a, b). */
static inline pg_status draw_uniform(pg_ctx *ctx, pg_tensor *y, double a, double b) {
  return draw_fill(
      ctx, y, (draw_job){.a = a, .b = b, .make_f32 = draw_scale_f32, .make_f64 = draw_scale_f64});
}

static inline pg_status draw_normal(pg_ctx *ctx, pg_tensor *y, double mean, double std) {
  return draw_fill(
      ctx, y,
      (draw_job){.a = mean, .b = std, .make_f32 = draw_normal_f32, .make_f64 = draw_normal_f64});
}

#endif
