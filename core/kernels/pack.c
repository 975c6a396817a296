/* Products with a packed matrix: register tiles of ROWS x (VECTORS vectors) sums; the panels of b
 * lie in the order in which they are read. Relies on kernels/pack.h. Spec: spec/ops/rnn_spec.lua.
 */
#include "kernels/pack.h"

#include <string.h>

/* Bytes of a vector register, and the largest tile whose sums and one row of b fit in registers. */
#if defined(__AVX512F__)
enum { WIDTH = 64, ROWS = 16, VECTORS = 1 };
#elif defined(__AVX2__)
enum { WIDTH = 32, ROWS = 6, VECTORS = 2 };
#else
enum { WIDTH = 16, ROWS = 6, VECTORS = 2 };
#endif

/* Code for constant trip counts, so that the sums stay in registers. */
#define EACH_ROW    _Pragma("GCC unroll 16") for (int i = 0; i < rows; i++)
#define EACH_VECTOR _Pragma("GCC unroll 2") for (int v = 0; v < VECTORS; v++)

#define PACK(T, S)                                                                             \
  typedef T vec_##S __attribute__((vector_size(WIDTH)));                                       \
  typedef T loose_##S __attribute__((vector_size(WIDTH), aligned(sizeof(T)), may_alias));      \
  enum { LANES_##S = WIDTH / sizeof(T), COLUMNS_##S = VECTORS * LANES_##S };                   \
                                                                                               \
  int64_t PG_AT(pgk_panel_##S)(void) { return COLUMNS_##S; }                                   \
                                                                                               \
  void PG_AT(pgk_pack_##S)(bool flip, int64_t k, int64_t n, const T *b, int64_t ldb,           \
                           int64_t begin, int64_t end, T *to) {                                \
    to += begin * COLUMNS_##S * k;                                                             \
    for (int64_t panel = begin; panel < end; panel++, to += COLUMNS_##S * k) {                 \
      int64_t j = panel * COLUMNS_##S, w = n - j < COLUMNS_##S ? n - j : COLUMNS_##S;          \
      if (w < COLUMNS_##S) memset(to, 0, sizeof(T) * (size_t)(COLUMNS_##S * k));               \
      if (flip) {                                                                              \
        for (int64_t p = 0; p < k; p++)                                                        \
          for (int64_t q = 0; q < w; q++) to[p * COLUMNS_##S + q] = b[(j + q) * ldb + p];      \
        continue;                                                                              \
      }                                                                                        \
      for (int64_t p = 0; p < k; p++)                                                          \
        memcpy(to + p * COLUMNS_##S, b + p * ldb + j, sizeof(T) * (size_t)w);                  \
    }                                                                                          \
  }                                                                                            \
                                                                                               \
  /* One tile of `rows` rows, a constant where this is inlined; w columns of it are written.   \
   * Element p of row i of the operand is a[i * row + p * step]. */                            \
  static inline __attribute__((always_inline)) void tile_##S(                                  \
      const int rows, int64_t w, int64_t k, const T *a, int64_t row, int64_t step, const T *b, \
      bool add, T *c, int64_t ldc) {                                                           \
    vec_##S sum[ROWS][VECTORS];                                                                \
    EACH_ROW                                                                                   \
    EACH_VECTOR sum[i][v] = (vec_##S){0};                                                      \
    for (int64_t p = 0; p < k; p++, a += step, b += COLUMNS_##S) {                             \
      vec_##S x[VECTORS];                                                                      \
      EACH_VECTOR                                                                              \
      x[v] = *(const vec_##S *)(b + v * LANES_##S);                                            \
      EACH_ROW                                                                                 \
      EACH_VECTOR                                                                              \
      sum[i][v] += a[i * row] * x[v];                                                          \
    }                                                                                          \
    if (w == COLUMNS_##S) {                                                                    \
      EACH_ROW                                                                                 \
      EACH_VECTOR {                                                                            \
        loose_##S *to = (loose_##S *)(c + i * ldc + v * LANES_##S);                            \
        if (add) sum[i][v] += *to;                                                             \
        *to = sum[i][v];                                                                       \
      }                                                                                        \
      return;                                                                                  \
    }                                                                                          \
    T all[ROWS * COLUMNS_##S];                                                                 \
    EACH_ROW                                                                                   \
    EACH_VECTOR                                                                                \
    *(loose_##S *)(all + i * COLUMNS_##S + v * LANES_##S) = sum[i][v];                         \
    for (int i = 0; i < rows; i++)                                                             \
      for (int64_t q = 0; q < w; q++) {                                                        \
        T x = all[i * COLUMNS_##S + q];                                                        \
        c[i * ldc + q] = add ? c[i * ldc + q] + x : x;                                         \
      }                                                                                        \
  }                                                                                            \
                                                                                               \
  /* A panel of b under all rows of the operand. */                                            \
  static inline __attribute__((always_inline)) void rows_##S(                                  \
      int64_t m, int64_t w, int64_t k, const T *a, const int64_t row, const int64_t step,      \
      const T *b, bool add, T *c, int64_t ldc) {                                               \
    int64_t i = 0;                                                                             \
    for (; i + ROWS <= m; i += ROWS)                                                           \
      tile_##S(ROWS, w, k, a + i * row, row, step, b, add, c + i * ldc, ldc);                  \
    for (; ROWS > 8 && i + 8 <= m; i += 8)                                                     \
      tile_##S(ROWS > 8 ? 8 : 1, w, k, a + i * row, row, step, b, add, c + i * ldc, ldc);      \
    for (; i + 4 <= m; i += 4)                                                                 \
      tile_##S(4, w, k, a + i * row, row, step, b, add, c + i * ldc, ldc);                     \
    for (; i < m; i++) tile_##S(1, w, k, a + i * row, row, step, b, add, c + i * ldc, ldc);    \
  }                                                                                            \
                                                                                               \
  void PG_AT(pgk_packed_gemm_##S)(bool turn, int64_t m, int64_t n, int64_t k, const T *a,      \
                                  int64_t lda, const T *b, int64_t depth, bool add, T *c,      \
                                  int64_t ldc) {                                               \
    for (int64_t j = 0; j < n; j += COLUMNS_##S, b += COLUMNS_##S * depth) {                   \
      int64_t w = n - j < COLUMNS_##S ? n - j : COLUMNS_##S;                                   \
      if (turn) rows_##S(m, w, k, a, 1, lda, b, add, c + j, ldc);                              \
      else rows_##S(m, w, k, a, lda, 1, b, add, c + j, ldc);                                   \
    }                                                                                          \
  }
PACK(float, f32)
PACK(double, f64)
