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
  LANES_LOOP for (int lane = 0; lane < (h); lane++)(t)[lane] = JOIN((t)[lane], (t)[lane + (h)])
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
#define LANES_ROW(name, T, START, JOIN)                                         \
  static inline T name(int64_t n, const T *restrict x) {                        \
    T t[16];                                                                    \
    int64_t i = 0;                                                              \
    if (n >= LANES) {                                                           \
      T w[LANES];                                                               \
      LANES_LOOP for (int j = 0; j < LANES; j++) w[j] = x[j];                   \
      for (i = LANES; i + LANES <= n; i += LANES)                               \
        LANES_LOOP for (int j = 0; j < LANES; j++) w[j] = JOIN(x[i + j], w[j]); \
      LANES_HALF(w, 32, JOIN);                                                  \
      LANES_LOOP for (int j = 0; j < 16; j++) t[j] = JOIN(w[j], w[j + 16]);     \
    } else {                                                                    \
      LANES_LOOP for (int j = 0; j < 16; j++) t[j] = START;                     \
    }                                                                           \
    for (; i + 16 <= n; i += 16)                                                \
      LANES_LOOP for (int j = 0; j < 16; j++) t[j] = JOIN(x[i + j], t[j]);      \
    if (i < n) {                                                                \
      const int left = (int)(n - i);                                            \
      LANES_LOOP for (int j = 0; j < 16; j++) {                                 \
        T v = t[j];                                                             \
        if (j < left) v = JOIN(x[i + j], v);                                    \
        t[j] = v;                                                               \
      }                                                                         \
    }                                                                           \
    LANES_HALF(t, 8, JOIN);                                                     \
    LANES_FOLD8(t, JOIN);                                                       \
    return t[0];                                                                \
  }
LANES_ROW(lanes_max_f32, float, -INFINITY, LANES_MAX)
LANES_ROW(lanes_max_f64, double, -INFINITY, LANES_MAX)
LANES_ROW(lanes_sum_f32, float, 0, LANES_ADD)
LANES_ROW(lanes_sum_f64, double, 0, LANES_ADD)

#endif
