/* Matrix products through OpenBLAS (cblas), with sizes beyond int split into blocks and products
 * with one row or column sent to gemv; LAPACK by its Fortran names, which OpenBLAS holds too.
 * Relies on kernels/blas.h; the only file that includes cblas.h. Spec: spec/ops/matmul_spec.lua,
 * spec/ops/linalg_spec.lua. */
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

/* --- LAPACK --------------------------------------------------------------------------------------
 * Every argument is a pointer; the lengths of the words come last, as Fortran compilers pass them.
 */
#define LAPACK(T, s)                                                                              \
  void s##getrf_(const int *m, const int *n, T *a, const int *lda, int *pivot, int *info);        \
  void s##getrs_(const char *trans, const int *n, const int *k, const T *a, const int *lda,       \
                 const int *pivot, T *b, const int *ldb, int *info, size_t len);                  \
  void s##getri_(const int *n, T *a, const int *lda, const int *pivot, T *work, const int *lwork, \
                 int *info);                                                                      \
  void s##potrf_(const char *uplo, const int *n, T *a, const int *lda, int *info, size_t len);    \
  void s##geqrf_(const int *m, const int *n, T *a, const int *lda, T *tau, T *work,               \
                 const int *lwork, int *info);                                                    \
  void s##orgqr_(const int *m, const int *n, const int *k, T *a, const int *lda, const T *tau,    \
                 T *work, const int *lwork, int *info);                                           \
  void s##gesdd_(const char *job, const int *m, const int *n, T *a, const int *lda, T *s, T *u,   \
                 const int *ldu, T *vt, const int *ldvt, T *work, const int *lwork, int *iwork,   \
                 int *info, size_t len);                                                          \
  void s##syevd_(const char *job, const char *uplo, const int *n, T *a, const int *lda, T *w,     \
                 T *work, const int *lwork, int *iwork, const int *liwork, int *info, size_t len, \
                 size_t len2);
LAPACK(float, s)
LAPACK(double, d)

/* Row length of an array of n rows: LAPACK wants at least 1. */
static inline int rows_of(int64_t n) { return n > 0 ? (int)n : 1; }
/* Work beyond what an int counts is not used. */
static inline int count_of(int64_t n) { return (int)least(n, INT_MAX); }

/* SOLVERS(float, f32, s) -> pgk_lu_f32 on sgetrf and so on. */
#define SOLVERS(T, name, s)                                                                        \
  int pgk_lu_##name(int64_t size, T *a, int *pivot) {                                              \
    int n = (int)size, lda = rows_of(size), info = 0;                                              \
    s##getrf_(&n, &n, a, &lda, pivot, &info);                                                      \
    return info;                                                                                   \
  }                                                                                                \
  void pgk_lu_solve_##name(bool turned, int64_t size, int64_t cols, const T *lu, const int *pivot, \
                           T *b) {                                                                 \
    int n = (int)size, k = (int)cols, lda = rows_of(size), info = 0;                               \
    s##getrs_(turned ? "T" : "N", &n, &k, lu, &lda, pivot, b, &lda, &info, 1);                     \
  }                                                                                                \
  int pgk_lu_invert_##name(int64_t size, T *lu, const int *pivot, T *work) {                       \
    int n = (int)size, lda = rows_of(size), info = 0;                                              \
    int lwork = count_of(lda * (int64_t)PGK_BLOCK);                                                \
    s##getri_(&n, lu, &lda, pivot, work, &lwork, &info);                                           \
    return info;                                                                                   \
  }                                                                                                \
  int pgk_cholesky_##name(bool upper, int64_t size, T *a) {                                        \
    int n = (int)size, lda = rows_of(size), info = 0;                                              \
    s##potrf_(upper ? "U" : "L", &n, a, &lda, &info, 1);                                           \
    return info;                                                                                   \
  }                                                                                                \
  void pgk_triangle_solve_##name(bool right, bool upper, bool turned, bool unit, int64_t m,        \
                                 int64_t n, const T *a, T *b) {                                    \
    cblas_##s##trsm(CblasColMajor, right ? CblasRight : CblasLeft,                                 \
                    upper ? CblasUpper : CblasLower, flag(turned),                                 \
                    unit ? CblasUnit : CblasNonUnit, (int)m, (int)n, 1, a, rows_of(right ? n : m), \
                    b, rows_of(m));                                                                \
  }                                                                                                \
  int pgk_qr_##name(int64_t rows, int64_t cols, T *a, T *tau, T *work) {                           \
    int m = (int)rows, n = (int)cols, lda = rows_of(rows), info = 0;                               \
    int lwork = count_of(rows_of(cols) * (int64_t)PGK_BLOCK);                                      \
    s##geqrf_(&m, &n, a, &lda, tau, work, &lwork, &info);                                          \
    return info;                                                                                   \
  }                                                                                                \
  int pgk_qr_q_##name(int64_t rows, int64_t cols, int64_t known, T *q, const T *tau, T *work) {    \
    int m = (int)rows, n = (int)cols, k = (int)known, lda = rows_of(rows), info = 0;               \
    int lwork = count_of(rows_of(cols) * (int64_t)PGK_BLOCK);                                      \
    s##orgqr_(&m, &n, &k, q, &lda, tau, work, &lwork, &info);                                      \
    return info;                                                                                   \
  }                                                                                                \
  int pgk_svd_##name(char job, int64_t rows, int64_t cols, T *a, T *values, T *u, T *vt, T *work,  \
                     int64_t nwork, int *iwork) {                                                  \
    int m = (int)rows, n = (int)cols, lda = rows_of(rows), lwork = count_of(nwork), info = 0;      \
    int ldvt = rows_of(job == 'A' ? cols : least(rows, cols));                                     \
    s##gesdd_(&job, &m, &n, a, &lda, values, u, &lda, vt, &ldvt, work, &lwork, iwork, &info, 1);   \
    return info;                                                                                   \
  }                                                                                                \
  int pgk_eigh_##name(bool vectors, bool upper, int64_t size, T *a, T *w, T *work, int64_t nwork,  \
                      int *iwork, int64_t niwork) {                                                \
    int n = (int)size, lda = rows_of(size), lwork = count_of(nwork), liwork = count_of(niwork);    \
    int info = 0;                                                                                  \
    s##syevd_(vectors ? "V" : "N", upper ? "U" : "L", &n, a, &lda, w, work, &lwork, iwork,         \
              &liwork, &info, 1, 1);                                                               \
    return info;                                                                                   \
  }

SOLVERS(float, f32, s)
SOLVERS(double, f64, d)

int64_t pgk_svd_work(char job, int64_t rows, int64_t cols) {
  int m = (int)rows, n = (int)cols, lda = rows_of(rows), lwork = -1, iwork = 0, info = 0;
  int ldvt = rows_of(job == 'A' ? cols : least(rows, cols));
  double a = 0, best = 0;
  dgesdd_(&job, &m, &n, &a, &lda, &a, &a, &lda, &a, &ldvt, &best, &lwork, &iwork, &info, 1);
  return (int64_t)best + 1;
}

int64_t pgk_eigh_work(bool vectors, int64_t size, int64_t *niwork) {
  int n = (int)size, lda = rows_of(size), lwork = -1, liwork = -1, iwork = 0, info = 0;
  double a = 0, best = 0;
  dsyevd_(vectors ? "V" : "N", "L", &n, &a, &lda, &a, &best, &lwork, &iwork, &liwork, &info, 1, 1);
  *niwork = iwork;
  return (int64_t)best + 1;
}

const char *pgk_blas_name(void) { return openblas_get_config(); }
