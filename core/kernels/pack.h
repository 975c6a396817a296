/* Products with a matrix that is packed once and used many times: small steps of a long loop.
 * Relies on level.h. Spec: spec/ops/rnn_spec.lua. */
#ifndef PG_KERNELS_PACK_H
#define PG_KERNELS_PACK_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/level.h"

/* Columns of a panel: b [k x n] packs into ceil(n / panel) panels of k x panel elements. */
int64_t PG_AT(pgk_panel_f32)(void);
int64_t PG_AT(pgk_panel_f64)(void);
/* Packs panels [begin, end) of b [k x n], or for flip of the transpose of b [n x k]. to: 64-byte
 * aligned, where panel 0 lies. */
void PG_AT(pgk_pack_f32)(bool flip, int64_t k, int64_t n, const float *b, int64_t ldb,
                         int64_t begin, int64_t end, float *to);
void PG_AT(pgk_pack_f64)(bool flip, int64_t k, int64_t n, const double *b, int64_t ldb,
                         int64_t begin, int64_t end, double *to);
/* c [m x n] = op(a) b with the first k of the `depth` rows of the packed b; or for add c += op(a)
 * b. op(a) is a [m x k], for turn the transpose of a [k x m]. What a row of c becomes does not
 * depend on m. Without turn lda should be no multiple of a page: 16 rows are read side by side. */
void PG_AT(pgk_packed_gemm_f32)(bool turn, int64_t m, int64_t n, int64_t k, const float *a,
                                int64_t lda, const float *b, int64_t depth, bool add, float *c,
                                int64_t ldc);
void PG_AT(pgk_packed_gemm_f64)(bool turn, int64_t m, int64_t n, int64_t k, const double *a,
                                int64_t lda, const double *b, int64_t depth, bool add, double *c,
                                int64_t ldc);

#endif
