/* Reductions of one contiguous row in 64 lanes, whose sums are then folded in halves: vector code
 * that always adds in the same order. Relies on nothing. Spec: spec/ops/softmax_spec.lua. */
#ifndef PG_OPS_LANES_H
#define PG_OPS_LANES_H

#include <math.h>
#include <stdint.h>

enum { LANES = 64 };

/* Before a loop of a few turns that are known: gcc is to vectorise it, not to write the turns out.
 */
#if defined(__GNUC__) && !defined(__clang__)
#define LANES_LOOP _Pragma("GCC unroll 1")
#else
#define LANES_LOOP
#endif

/* LANES_FOLD(t, +) leaves t[0] + .. + t[63] in t[0]; t is destroyed. */
#define LANES_HALF(t, h, JOIN) \
  for (int lane = 0; lane < (h); lane++) (t)[lane] = JOIN((t)[lane], (t)[lane + (h)])
#define LANES_FOLD8(t, JOIN)                                      \
  (t)[0] = JOIN(JOIN(JOIN((t)[0], (t)[4]), JOIN((t)[2], (t)[6])), \
                JOIN(JOIN((t)[1], (t)[5]), JOIN((t)[3], (t)[7])))
#define LANES_FOLD(t, JOIN)  \
  do {                       \
    LANES_HALF(t, 32, JOIN); \
    LANES_HALF(t, 16, JOIN); \
    LANES_HALF(t, 8, JOIN);  \
    LANES_FOLD8(t, JOIN);    \
  } while (0)

#define LANES_ADD(a, b) ((a) + (b))
#define LANES_MAX(a, b) ((a) > (b) ? (a) : (b))

/* lanes_max_f32: the largest of n elements, -inf for none; NaN is passed over. lanes_sum_f32: their
 * sum. */
#define LANES_FUNCTIONS(S, T)                                               \
  static inline T lanes_max_##S(int64_t n, const T *restrict x) {           \
    T m = -INFINITY;                                                        \
    int64_t i = 0;                                                          \
    if (n >= LANES) {                                                       \
      T t[LANES];                                                           \
      for (int j = 0; j < LANES; j++) t[j] = -INFINITY;                     \
      for (; i + LANES <= n; i += LANES)                                    \
        for (int j = 0; j < LANES; j++) t[j] = LANES_MAX(x[i + j], t[j]);   \
      for (int64_t j = 0; j < n - i; j++) t[j] = LANES_MAX(x[i + j], t[j]); \
      LANES_FOLD(t, LANES_MAX);                                             \
      return t[0];                                                          \
    }                                                                       \
    for (; i < n; i++) m = LANES_MAX(x[i], m);                              \
    return m;                                                               \
  }                                                                         \
  static inline T lanes_sum_##S(int64_t n, const T *restrict x) {           \
    T sum = 0;                                                              \
    int64_t i = 0;                                                          \
    if (n >= LANES) {                                                       \
      T t[LANES];                                                           \
      for (int j = 0; j < LANES; j++) t[j] = 0;                             \
      for (; i + LANES <= n; i += LANES)                                    \
        for (int j = 0; j < LANES; j++) t[j] += x[i + j];                   \
      for (int64_t j = 0; j < n - i; j++) t[j] += x[i + j];                 \
      LANES_FOLD(t, LANES_ADD);                                             \
      return t[0];                                                          \
    }                                                                       \
    for (; i < n; i++) sum += x[i];                                         \
    return sum;                                                             \
  }
LANES_FUNCTIONS(f32, float)
LANES_FUNCTIONS(f64, double)

#endif
