/* Matrix products of bfloat16 with sums in float32, on processors with AVX512_BF16: blocked ones of
 * any size and layout, and those with a matrix that is packed once and used many times. Relies on
 * level.h. Spec: spec/kernels/half_spec.lua. */
#ifndef PG_KERNELS_HALF_H
#define PG_KERNELS_HALF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/level.h"

/* c [m x n] = op(a) op(b), + c for add, + bias [n] in every row where it is not NULL (not both);
 * ta, tb: the transpose of a [k x m], b [n x k]; lda.. are row lengths in elements. c is rounded
 * once, to the nearest, ties to even. The rest is the plan. What an element of c becomes does not
 * depend on how the work is cut. Denormals count as zeros. */
typedef struct pgk_half {
  bool ta, tb, add;
  bool a_wide, b_wide, c_wide; /* float32 (a, b: rounded before), else bfloat16 */
  int64_t m, n, k, lda, ldb, ldc;
  const void *a, *b;
  const float *bias;
  void *c;
  bool dots;           /* of a few rows with rows of b, which is not packed */
  bool each;           /* items pack their columns of b themselves */
  int64_t rows, cols;  /* of an item: a piece of c */
  int64_t first, last; /* columns of c that this round makes, in a step of `round` columns */
  int64_t round;
  int64_t packs, items; /* what packs and run count in this round */
  size_t bytes;         /* scratch, 64-byte aligned */
  void *scratch;
} pgk_half;

enum { PGK_HALF_PANEL = 16 }; /* columns of a panel: its words lie row by row */

typedef struct pgk_half_kern {
  /* Plans a product that so many threads share. false: nothing is to be done but to fill c. */
  bool (*plan)(pgk_half *p, int64_t threads);
  /* Sets the round that begins at column `first`; all packs of it come before its items, in any
   * order. */
  void (*round)(pgk_half *p, int64_t first);
  void (*packs)(const pgk_half *p, int64_t begin, int64_t end);
  void (*run)(const pgk_half *p, int64_t begin, int64_t end);

  /* One step of a long loop. Operands are words: elements 2 p (low half) and 2 p + 1 of a sum, the
   * last of an odd k being 0. pack: panels [begin, end) of b [k x n], or for flip of the transpose
   * of b [n x k]; wide: b is float32. to: 64-byte aligned, ceil(k / 2) PGK_HALF_PANEL words for
   * each panel, panel 0 first. */
  void (*pack)(bool flip, bool wide, int64_t k, int64_t n, const void *b, int64_t ldb,
               int64_t begin, int64_t end, uint32_t *to);
  /* c [m x n] = op(a) b with the first `words` of the `depth` rows of words of the packed b; or
   * for add c += op(a) b. a is [m x words], or for turn [words x m]; lda counts words. What a row
   * of c becomes does not depend on m. */
  void (*gemm)(bool turn, int64_t m, int64_t n, int64_t words, const void *a, int64_t lda,
               const uint32_t *b, int64_t depth, bool add, float *c, int64_t ldc);
  /* to [ceil(k / 2) x n] words = from [k x n], rounded. */
  void (*weave)(int64_t k, int64_t n, const float *from, int64_t ld, uint32_t *to, int64_t ldto);
} pgk_half_kern;

/* NULL where this level was built without; the processor has to know AVX512_BF16 too
 * (pg_isa_has_bf16). */
const pgk_half_kern *PG_AT(pgk_half_kern_of)(void);

#endif
