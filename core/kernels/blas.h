/* Matrix products and solvers on raw pointers, row-major, through OpenBLAS. blas.c alone includes
 * cblas.h. */
#ifndef PG_KERNELS_BLAS_H
#define PG_KERNELS_BLAS_H

#include <stdbool.h>
#include <stdint.h>

/* c[m x n] = alpha op(a) op(b) + beta c; lda.. are row lengths in elements; beta 0 never reads c.
 */
void pgk_gemm_f32(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                  int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
void pgk_gemm_f64(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
                  int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc);
/* Name and threading of the library: "OpenBLAS 0.3.21 ... (openmp)". */
const char *pgk_blas_name(void);

#endif
