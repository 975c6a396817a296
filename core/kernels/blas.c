/* Matrix products through OpenBLAS (cblas), with sizes beyond int split into blocks and products
 * with one row or column sent to gemv. Relies on kernels/blas.h; the only file that includes
 * cblas.h. Spec: spec/ops/matmul_spec.lua. */
#include "kernels/blas.h"

#include <cblas.h>
#include <limits.h>
#include <stddef.h>

#define BLOCK ((int64_t)1 << 30) /* largest size of one call */

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline CBLAS_TRANSPOSE flag(bool t) { return t ? CblasTrans : CblasNoTrans; }

/* A matrix of one stored row never uses its row length. */
static inline int64_t row_length(int64_t rows, int64_t cols, int64_t ld) {
  return rows <= 1 ? (cols > 1 ? least(cols, INT_MAX) : 1) : ld;
}

/* GEMM(float, f32, s) -> pgk_gemm_f32 on cblas_sgemm and cblas_sgemv. */
#define GEMM(T, name, letter)                                                                      \
  static void plain_##name(bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha, const T *a, \
                           int64_t lda, const T *b, int64_t ldb, T beta, T *c, int64_t ldc) {      \
    for (int64_t i = 0; i < m; i++) {                                                              \
      for (int64_t j = 0; j < n; j++) {                                                            \
        T sum = 0;                                                                                 \
        for (int64_t p = 0; p < k; p++)                                                            \
          sum += a[ta ? p * lda + i : i * lda + p] * b[tb ? j * ldb + p : p * ldb + j];            \
        T *at = c + i * ldc + j;                                                                   \
        *at = beta == 0 ? alpha * sum : alpha * sum + beta * *at;                                  \
      }                                                                                            \
    }                                                                                              \
  }                                                                                                \
  static void block_##name(bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha, const T *a, \
                           int64_t lda, const T *b, int64_t ldb, T beta, T *c, int64_t ldc) {      \
    lda = row_length(ta ? k : m, ta ? m : k, lda);                                                 \
    ldb = row_length(tb ? n : k, tb ? k : n, ldb);                                                 \
    ldc = row_length(m, n, ldc);                                                                   \
    if (lda > INT_MAX || ldb > INT_MAX || ldc > INT_MAX) {                                         \
      plain_##name(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);                          \
    } else if ((n == 1 || m == 1) && k > 0) {                                                      \
      bool column = n == 1; /* c = op(a) b, or its transpose op(b)^T a^T */                        \
      int64_t len = column ? m : n;                                                                \
      int step = column ? (int)ldc : 1;                                                            \
      if (beta == 0)                                                                               \
        for (int64_t i = 0; i < len; i++) c[i * step] = 0;                                         \
      if (column)                                                                                  \
        cblas_##letter##gemv(CblasRowMajor, flag(ta), (int)(ta ? k : m), (int)(ta ? m : k), alpha, \
                             a, (int)lda, b, tb ? 1 : (int)ldb, beta, c, step);                    \
      else                                                                                         \
        cblas_##letter##gemv(CblasRowMajor, flag(!tb), (int)(tb ? n : k), (int)(tb ? k : n),       \
                             alpha, b, (int)ldb, a, ta ? (int)lda : 1, beta, c, step);             \
    } else {                                                                                       \
      cblas_##letter##gemm(CblasRowMajor, flag(ta), flag(tb), (int)m, (int)n, (int)k, alpha, a,    \
                           (int)lda, b, (int)ldb, beta, c, (int)ldc);                              \
    }                                                                                              \
  }                                                                                                \
  void pgk_gemm_##name(bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha, const T *a,     \
                       int64_t lda, const T *b, int64_t ldb, T beta, T *c, int64_t ldc) {          \
    for (int64_t i = 0; i < m; i += BLOCK)                                                         \
      for (int64_t j = 0; j < n; j += BLOCK) {                                                     \
        int64_t p = 0;                                                                             \
        do { /* once at least: k = 0 still scales c */                                             \
          block_##name(ta, tb, least(m - i, BLOCK), least(n - j, BLOCK), least(k - p, BLOCK),      \
                       alpha, a + (ta ? p * lda + i : i * lda + p), lda,                           \
                       b + (tb ? j * ldb + p : p * ldb + j), ldb, p == 0 ? beta : 1,               \
                       c + i * ldc + j, ldc);                                                      \
          p += BLOCK;                                                                              \
        } while (p < k);                                                                           \
      }                                                                                            \
  }

GEMM(float, f32, s)
GEMM(double, f64, d)

const char *pgk_blas_name(void) { return openblas_get_config(); }
