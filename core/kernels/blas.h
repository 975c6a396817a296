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

/* --- LAPACK: matrices lie by columns, a[i + j lda] with lda = their rows. An int result is
 * LAPACK's info, 0 where all went well. Work sizes are in elements and the same for both dtypes.
 * ---------- */
enum { PGK_BLOCK = 64 }; /* columns that a blocked algorithm takes at once: n of them as work */

/* a[n x n] = its LU factors, rows exchanged as pivot[n] says; > 0: a is singular. */
int pgk_lu_f32(int64_t n, float *a, int *pivot);
int pgk_lu_f64(int64_t n, double *a, int *pivot);
/* b[n x k] = a^-1 b from the factors of a; turned: from those of a^T. */
void pgk_lu_solve_f32(bool turned, int64_t n, int64_t k, const float *lu, const int *pivot,
                      float *b);
void pgk_lu_solve_f64(bool turned, int64_t n, int64_t k, const double *lu, const int *pivot,
                      double *b);
/* lu[n x n] = the inverse of what it holds the factors of; work[n PGK_BLOCK]; > 0: singular. */
int pgk_lu_invert_f32(int64_t n, float *lu, const int *pivot, float *work);
int pgk_lu_invert_f64(int64_t n, double *lu, const int *pivot, double *work);
/* The lower (upper) triangle of a[n x n] = its Cholesky factor; > 0: order of the first leading
 * minor that is not positive. */
int pgk_cholesky_f32(bool upper, int64_t n, float *a);
int pgk_cholesky_f64(bool upper, int64_t n, double *a);
/* b[m x n] = op(a)^-1 b, or b op(a)^-1 where right; a a triangle, unit: with ones on its diagonal.
 */
void pgk_triangle_solve_f32(bool right, bool upper, bool turned, bool unit, int64_t m, int64_t n,
                            const float *a, float *b);
void pgk_triangle_solve_f64(bool right, bool upper, bool turned, bool unit, int64_t m, int64_t n,
                            const double *a, double *b);
/* a[m x n] = R above its diagonal and what Q is made of below and in tau[min(m, n)];
 * work[n PGK_BLOCK]. */
int pgk_qr_f32(int64_t m, int64_t n, float *a, float *tau, float *work);
int pgk_qr_f64(int64_t m, int64_t n, double *a, double *tau, double *work);
/* q[m x n], n <= m, from its first k columns and tau as pgk_qr left them; work[n PGK_BLOCK]. */
int pgk_qr_q_f32(int64_t m, int64_t n, int64_t k, float *q, const float *tau, float *work);
int pgk_qr_q_f64(int64_t m, int64_t n, int64_t k, double *q, const double *tau, double *work);
/* a[m x n] (destroyed) = u s vt; job 'N': s only, 'S': min(m, n) columns of u and rows of vt, 'A':
 * all. iwork[8 min(m, n)]. */
int64_t pgk_svd_work(char job, int64_t m, int64_t n);
int pgk_svd_f32(char job, int64_t m, int64_t n, float *a, float *s, float *u, float *vt,
                float *work, int64_t nwork, int *iwork);
int pgk_svd_f64(char job, int64_t m, int64_t n, double *a, double *s, double *u, double *vt,
                double *work, int64_t nwork, int *iwork);
/* Eigenvalues w[n], upwards, of the symmetric matrix in the lower (upper) triangle of a[n x n];
 * vectors: a becomes the eigenvectors, else it is destroyed. */
int64_t pgk_eigh_work(bool vectors, int64_t n, int64_t *niwork);
int pgk_eigh_f32(bool vectors, bool upper, int64_t n, float *a, float *w, float *work,
                 int64_t nwork, int *iwork, int64_t niwork);
int pgk_eigh_f64(bool vectors, bool upper, int64_t n, double *a, double *w, double *work,
                 int64_t nwork, int *iwork, int64_t niwork);

/* Name and threading of the library: "OpenBLAS 0.3.21 ... (openmp)". */
const char *pgk_blas_name(void);

#endif
