/* Matrix products from register tiles: with a matrix that is packed once and used many times (small
 * steps of a long loop), and blocked products of any size and layout, cut into pieces that threads
 * can take. Relies on level.h. Spec: spec/kernels/pack_spec.lua. */
#ifndef PG_KERNELS_PACK_H
#define PG_KERNELS_PACK_H

#include <stdbool.h>
#include <stddef.h>
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
 * depend on m. Without turn lda should be no multiple of a page: 14 rows are read side by side. */
void PG_AT(pgk_packed_gemm_f32)(bool turn, int64_t m, int64_t n, int64_t k, const float *a,
                                int64_t lda, const float *b, int64_t depth, bool add, float *c,
                                int64_t ldc);
void PG_AT(pgk_packed_gemm_f64)(bool turn, int64_t m, int64_t n, int64_t k, const double *a,
                                int64_t lda, const double *b, int64_t depth, bool add, double *c,
                                int64_t ldc);

/* c [m x n] = op(a) op(b), + c for add, + bias[n] in every row where bias is not NULL (not both);
 * ta, tb: the transpose of a [k x m], b [n x k]; lda.. are row lengths in elements. The rest is the
 * plan. What an element of c becomes does not depend on how the work is cut. */
typedef struct pgk_product {
  bool ta, tb, add;
  int64_t m, n, k, lda, ldb, ldc;
  const void *a, *b, *bias;
  void *c;
  unsigned char way;   /* how it is done */
  int64_t rows, cols;  /* of an item: a piece of c */
  int64_t first, last; /* columns of c that this round makes, in a step of `round` columns */
  int64_t round;
  int64_t packs, items; /* what pgk_product_pack and pgk_product_run count in this round */
  size_t bytes;         /* scratch, 64-byte aligned; none needed: 0 */
  void *scratch;
} pgk_product;

/* Plans a product. split: threads can share it. false: there is nothing to multiply. */
bool PG_AT(pgk_product_plan_f32)(pgk_product *p, bool split);
bool PG_AT(pgk_product_plan_f64)(pgk_product *p, bool split);
/* Sets the round that begins at column `first`; all packs of it come before its items, in any
 * order. */
void PG_AT(pgk_product_round_f32)(pgk_product *p, int64_t first);
void PG_AT(pgk_product_round_f64)(pgk_product *p, int64_t first);
void PG_AT(pgk_product_pack_f32)(const pgk_product *p, int64_t begin, int64_t end);
void PG_AT(pgk_product_pack_f64)(const pgk_product *p, int64_t begin, int64_t end);
void PG_AT(pgk_product_run_f32)(const pgk_product *p, int64_t begin, int64_t end);
void PG_AT(pgk_product_run_f64)(const pgk_product *p, int64_t begin, int64_t end);

#endif
