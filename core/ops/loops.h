/* Writers of elementwise loops, and the few lines that run them for an op.
 * Relies on op.h, chain.h, vmath.h. A loop computes at most PG_BLOCK elements at once from memory
 * that is not contiguous, so that the arithmetic exists once and is always vector code.
 * Spec: spec/ops/binary_spec.lua. */
#ifndef PG_OPS_LOOPS_H
#define PG_OPS_LOOPS_H

#include <string.h>

#include "autograd/op.h"
#include "kernels/vmath.h"
#include "tensor/chain.h"

#define PG_BLOCK 512

/* A vmath.h function, or one of the C library's, for the type of its first argument. */
#define V1(fn, x)    _Generic((x), float : pg_##fn##_f32, default : pg_##fn##_f64)(x)
#define V2(fn, x, z) _Generic((x), float : pg_##fn##_f32, default : pg_##fn##_f64)(x, z)
#define M1(fn, x)    _Generic((x), float : fn##f, default : fn)(x)
#define M2(fn, x, z) _Generic((x), float : fn##f, default : fn)(x, z)

static inline const void *pg__gather(void *buf, const char *from, int64_t step, int64_t n,
                                     size_t size) {
  char *restrict to = buf;
  if (step == 0) { /* a number beside a tensor */
    char one[8];
    memcpy(one, from, size);
    for (int64_t i = 0; i < n; i++) memcpy(to + (size_t)i * size, one, size);
    return buf;
  }
  for (int64_t i = 0; i < n; i++) memcpy(to + (size_t)i * size, from + i * step, size);
  return buf;
}
static inline void pg__scatter(char *to, int64_t step, const void *buf, int64_t n, size_t size) {
  const char *from = buf;
  for (int64_t i = 0; i < n; i++) memcpy(to + i * step, from + (size_t)i * size, size);
}

/* The block of operand k: where it lies if contiguous, else gathered (a repeated element once). */
#define PG__LOAD(T, k, buf)                                        \
  (s[k] == (int64_t)sizeof(T) ? (const void *)(ptr[k] + at * s[k]) \
   : s[k] == 0 && at > 0      ? (const void *)(buf)                \
                              : pg__gather(buf, ptr[k] + at * s[k], s[k], m, sizeof(T)))

#define PG__HEAD(name, T_)                                                           \
  static void name(int64_t n, char *const *ptr, const int64_t *s, const void *arg) { \
    typedef T_ T;                                                                    \
    const double *number = arg;                                                      \
    const T p = number ? (T)number[0] : (T)0, q = number ? (T)number[1] : (T)0;      \
    (void)p;                                                                         \
    (void)q;
#define PG__TAIL(Y)                                                            \
  if (to == y_buf) pg__scatter(ptr[0] + at * s[0], s[0], y_buf, m, sizeof(Y)); \
  }                                                                            \
  }
#define PG__TO(Y) Y *to = s[0] == (int64_t)sizeof(Y) ? (Y *)(ptr[0] + at * s[0]) : y_buf;

/* A pg_loop y = expr. In expr a, b, c are the inputs' elements, T is the type of a, and p, q are
 * two numbers from arg (const double[2], or NULL). PG_MAP1(twice, float, float, a * p) ->
 *   static void twice(n, ptr, s, arg) { .. for (i..) { const float a = a_at[i]; to[i] = a * p; } }
 */
#define PG_MAP1(name, Y, A, expr)                                                       \
  PG__HEAD(name, A)                                                                     \
  Y y_buf[PG_BLOCK];                                                                    \
  A a_buf[PG_BLOCK];                                                                    \
  const int64_t most =                                                                  \
      s[0] == (int64_t)sizeof(Y) && s[1] == (int64_t)sizeof(A) ? n : (int64_t)PG_BLOCK; \
  for (int64_t at = 0, m; at < n; at += m) {                                            \
    m = n - at < most ? n - at : most;                                                  \
    const A *a_at = PG__LOAD(A, 1, a_buf);                                              \
    PG__TO(Y)                                                                           \
    PG_IVDEP for (int64_t i = 0; i < m; i++) {                                          \
      const A a = a_at[i];                                                              \
      to[i] = (Y)(expr);                                                                \
    }                                                                                   \
    PG__TAIL(Y)

#define PG_MAP2(name, Y, A, B, expr)                                                         \
  PG__HEAD(name, A)                                                                          \
  Y y_buf[PG_BLOCK];                                                                         \
  A a_buf[PG_BLOCK];                                                                         \
  B b_buf[PG_BLOCK];                                                                         \
  const int64_t most =                                                                       \
      s[0] == (int64_t)sizeof(Y) && s[1] == (int64_t)sizeof(A) && s[2] == (int64_t)sizeof(B) \
          ? n                                                                                \
          : (int64_t)PG_BLOCK;                                                               \
  for (int64_t at = 0, m; at < n; at += m) {                                                 \
    m = n - at < most ? n - at : most;                                                       \
    const A *a_at = PG__LOAD(A, 1, a_buf);                                                   \
    const B *b_at = PG__LOAD(B, 2, b_buf);                                                   \
    PG__TO(Y)                                                                                \
    PG_IVDEP for (int64_t i = 0; i < m; i++) {                                               \
      const A a = a_at[i];                                                                   \
      const B b = b_at[i];                                                                   \
      to[i] = (Y)(expr);                                                                     \
    }                                                                                        \
    PG__TAIL(Y)

#define PG_MAP3(name, Y, A, B, C, expr)                                                 \
  PG__HEAD(name, A)                                                                     \
  Y y_buf[PG_BLOCK];                                                                    \
  A a_buf[PG_BLOCK];                                                                    \
  B b_buf[PG_BLOCK];                                                                    \
  C c_buf[PG_BLOCK];                                                                    \
  const int64_t most = s[0] == (int64_t)sizeof(Y) && s[1] == (int64_t)sizeof(A) &&      \
                               s[2] == (int64_t)sizeof(B) && s[3] == (int64_t)sizeof(C) \
                           ? n                                                          \
                           : (int64_t)PG_BLOCK;                                         \
  for (int64_t at = 0, m; at < n; at += m) {                                            \
    m = n - at < most ? n - at : most;                                                  \
    const A *a_at = PG__LOAD(A, 1, a_buf);                                              \
    const B *b_at = PG__LOAD(B, 2, b_buf);                                              \
    const C *c_at = PG__LOAD(C, 3, c_buf);                                              \
    PG__TO(Y)                                                                           \
    PG_IVDEP for (int64_t i = 0; i < m; i++) {                                          \
      const A a = a_at[i];                                                              \
      const B b = b_at[i];                                                              \
      const C c = c_at[i];                                                              \
      to[i] = (Y)(expr);                                                                \
    }                                                                                   \
    PG__TAIL(Y)

/* Loops name_f32 and name_f64, and the table of them by dtype: name[PG_F32], name[PG_F64]. */
#define PG__TABLE(name) \
  static const pg_loop name[PG_NDTYPES] = {[PG_F32] = name##_f32, [PG_F64] = name##_f64};
#define PG_LOOPS1(name, expr)             \
  PG_MAP1(name##_f32, float, float, expr) \
  PG_MAP1(name##_f64, double, double, expr)
#define PG_REAL1(name, expr) \
  PG_LOOPS1(name, expr)      \
  PG__TABLE(name)
#define PG_REAL2(name, expr)                        \
  PG_MAP2(name##_f32, float, float, float, expr)    \
  PG_MAP2(name##_f64, double, double, double, expr) \
  PG__TABLE(name)
#define PG_REAL3(name, expr)                                \
  PG_MAP3(name##_f32, float, float, float, float, expr)     \
  PG_MAP3(name##_f64, double, double, double, double, expr) \
  PG__TABLE(name)

/* --- bfloat16: blocks are widened, computed in float32 and rounded -----------------------------
 */

/* For infer: in[i] in the dtype of the loop; a number beside bfloat16 tensors is float32. */
static inline void pg__cast(pg_call *c, int i, pg_dtype dtype) {
  const bool number = c->in[i] && c->in[i]->is_number;
  pg_cast_in(c, i, number && dtype == PG_BF16 ? PG_F32 : dtype);
}

typedef struct pg__half {
  pg_loop loop; /* of float32 */
  int count;
  unsigned mask; /* operands that are bfloat16 */
  bool has_number;
  double number[2]; /* the loop's argument */
} pg__half;
_Static_assert(sizeof(pg__half) <= PG_CHAIN_ARG, "loops of bfloat16 may be put off");

static inline void pg__widen_block(float *restrict to, const char *from, int64_t step, int64_t n) {
  if (step == 2) {
    const uint16_t *x = (const uint16_t *)from;
    for (int64_t i = 0; i < n; i++) to[i] = pg_bf16_f32(x[i]);
  } else {
    for (int64_t i = 0; i < n; i++) to[i] = pg_bf16_f32(*(const uint16_t *)(from + i * step));
  }
}
static inline void pg__round_block(char *to, int64_t step, const float *restrict from, int64_t n) {
  if (step == 2) {
    uint16_t *y = (uint16_t *)to;
    for (int64_t i = 0; i < n; i++) y[i] = pg_f32_bf16(from[i]);
  } else {
    for (int64_t i = 0; i < n; i++) *(uint16_t *)(to + i * step) = pg_f32_bf16(from[i]);
  }
}
static inline void pg__half_loop(int64_t n, char *const *ptr, const int64_t *s, const void *arg) {
  const pg__half *h = arg;
  float block[4][PG_BLOCK];
  char *p[PG_ITER_MAX];
  int64_t step[PG_ITER_MAX];
  for (int64_t at = 0, m; at < n; at += m) {
    m = n - at < PG_BLOCK ? n - at : PG_BLOCK;
    for (int k = 0; k < h->count; k++) {
      p[k] = ptr[k] + at * s[k];
      step[k] = s[k];
      if (!(h->mask >> k & 1)) continue;
      if (k > 0 && s[k]) pg__widen_block(block[k], p[k], s[k], m);
      else if (k > 0) block[k][0] = pg_bf16_f32(*(const uint16_t *)p[k]);
      p[k] = (char *)block[k];
      step[k] = k > 0 && !s[k] ? 0 : (int64_t)sizeof(float);
    }
    h->loop(m, p, step, h->has_number ? h->number : NULL);
    if (h->mask & 1) pg__round_block(ptr[0] + at * s[0], s[0], block[0], m);
  }
}

/* Runs the loop of t[at]'s dtype over t[0..count), count at most 4; an element of t[0] depends on
 * nothing but the same element of the others, t[0] itself aside, and on arg, two numbers or NULL.
 * In a chain that happens later. Beside bfloat16 tensors there may be float32 ones; without a loop
 * for bfloat16 that of float32 serves. */
static inline void pg__over(pg_ctx *ctx, int count, pg_tensor *const *t, int at, int cost,
                            const pg_loop *loop, const double *arg) {
  pg__half h = {.count = count};
  bool wide = false;
  for (int k = 0; k < count; k++) {
    h.mask |= (unsigned)(t[k]->dtype == PG_BF16) << k;
    wide = wide || t[k]->dtype == PG_F32;
  }
  if (!h.mask || (loop[PG_BF16] && !wide)) {
    const pg_loop own = loop[t[at]->dtype];
    PG_ASSERT(own);
    if (pg__put_off(ctx, count, t, cost, own, arg, 2 * sizeof *arg, false)) return;
    pg_iter_over(ctx, count, t, cost, own, arg);
    return;
  }
  h.loop = loop[PG_F32];
  h.has_number = arg != NULL;
  if (arg) memcpy(h.number, arg, sizeof h.number);
  PG_ASSERT(h.loop && count <= 4);
  if (pg__put_off(ctx, count, t, cost + 2, pg__half_loop, &h, sizeof h, false)) return;
  pg_iter_over(ctx, count, t, cost + 2, pg__half_loop, &h);
}

/* forward: out[0] = loop[dtype of in[0]] over in[0..count); arg as in PG_MAP1. */
static inline pg_status pg__map(pg_call *c, int count, int cost, const pg_loop *loop,
                                const double *arg) {
  pg_tensor *t[PG_ITER_MAX] = {c->out[0]};
  for (int i = 0; i < count; i++) t[i + 1] = c->in[i];
  pg__over(c->ctx, count + 1, t, 1, cost, loop, arg);
  return PG_OK;
}

/* backward: gin[i] = loop over t[1..count], with the shape of t[1], the gradient, and the memory
 * order of the first of them that has that shape and is dense, the last one tried first. */
static inline pg_status pg__map_back(pg_call *c, int i, int count, pg_tensor *t[PG_ITER_MAX],
                                     int cost, const pg_loop *loop, const double *arg) {
  const pg_tensor *like = t[1];
  for (int k = count; k > 1; k--)
    if (pg_same_shape(t[k], t[1]) && pg_is_dense(t[k])) {
      like = t[k];
      break;
    }
  PG_TRY(pg_tensor_new_like(c->ctx, like, (pg_dtype)t[1]->dtype, &c->gin[i]));
  t[0] = c->gin[i];
  pg__over(c->ctx, count + 1, t, 1, cost, loop, arg);
  return PG_OK;
}

#endif
