/* Matrix products of bfloat16 from register tiles of ROWS x (VECTORS vectors) sums in float32: each
 * step multiplies pairs of neighbours along k, which packing puts into one word. Relies on
 * kernels/half.h, AVX512_BF16. Spec: spec/kernels/half_spec.lua. */
#include "kernels/half.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>

#include "kernels/bf16.h"

/* The level has AVX-512, but not these instructions: functions with them are marked. */
#define WITH_BF16 __attribute__((target("avx512bf16")))
#define ALWAYS    static inline __attribute__((always_inline)) WITH_BF16

enum {
  ROWS = 14,   /* of a tile: with VECTORS, as many sums as fit in registers */
  VECTORS = 2, /* the loads of b stay below two for every three multiply-adds */
  LANES = 16,  /* words of a vector */
  STAGE = 16,  /* words of a row of a staged tile of a */
  TILES = 5,   /* staged together */
  COLUMNS = VECTORS * LANES,
  DEEP = 1024,       /* elements along k that are summed before the next: 2 DEEP bytes of a row */
  GROUP = 256,       /* columns at once: with DEEP rows they fit in the second cache */
  AHEAD = 16,        /* words long enough to fetch c meanwhile */
  ROUND = 1 << 21,   /* words of a packed b that lie in scratch */
  ALONE = 1 << 19,   /* multiply-adds below which no second thread is woken */
  PORTION = 1 << 23, /* multiply-adds of an item, but each thread gets one */
  FEW_ROWS = 4,      /* so few times a transposed b are dot products */
  MOST = 64,         /* items that a product is cut into, but for more threads */
  BROAD = 128        /* columns for which it is worth while to stage a once more */
};

typedef uint32_t word __attribute__((may_alias)); /* a pair as it lies */
typedef int32_t words __attribute__((vector_size(64)));

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t parts_of(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }
static inline int64_t whole(int64_t n, int64_t unit) { return parts_of(n, unit) * unit; }
static inline uint32_t first_bits(int64_t n) { return n >= 32 ? ~0u : n <= 0 ? 0 : (1u << n) - 1; }

#define EACH_ROW    _Pragma("GCC unroll 16") for (int i = 0; i < rows; i++)
#define EACH_VECTOR _Pragma("GCC unroll 2") for (int v = 0; v < vectors; v++)
#define EACH_LANE   _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++)
#define LOW(a, b) \
  __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH(a, b) \
  __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)

/* --- packing -----------------------------------------------------------------------------------
 */

/* Address of element i of a float32 or bfloat16 array. */
static inline const void *at(bool wide, const void *p, int64_t i) {
  return (const char *)p + i * (wide ? 4 : 2);
}

/* The first n <= 32 elements from p on as 16 words, then zeros. */
ALWAYS words load_words(const bool wide, const void *p, int64_t n) {
  const uint32_t mask = first_bits(n);
  if (!wide) return (words)_mm512_maskz_loadu_epi16(mask, p);
  const __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, p);
  const __m512 high = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), (const float *)p + 16);
  return (words)_mm512_cvtne2ps_pbh(high, low);
}

/* The first n <= 16 elements from p on as the low halves of words, then zeros. */
ALWAYS __m512i load_low(const bool wide, const void *p, int64_t n) {
  const __mmask16 mask = (__mmask16)first_bits(n);
  if (!wide) return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p));
  return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, p)));
}

/* n <= 16 words of elements of two rows; `second`: NULL for a row of zeros. */
ALWAYS __m512i woven(const bool wide, const void *one, const void *second, int64_t n) {
  const __m512i low = load_low(wide, one, n);
  if (!second) return low;
  return _mm512_or_si512(low, _mm512_slli_epi32(load_low(wide, second, n), 16));
}

/* to[p step + q] = word p of row q of from for the q < rows, 0 for rows <= q < LANES; rows have k
 * elements. */
ALWAYS void turn(const bool wide, int64_t rows, int64_t k, const void *from, int64_t ld,
                 uint32_t *to, int64_t step) {
  for (int64_t p = 0; p < k; p += 2 * LANES) {
    const int64_t n = least(2 * LANES, k - p), count = parts_of(n, 2);
    words x[LANES], y[LANES];
    if (rows == LANES) {
      EACH_LANE x[i] = load_words(wide, at(wide, from, i * ld + p), n);
    } else {
      for (int i = 0; i < LANES; i++) x[i] = (words){0};
      for (int i = 0; i < rows; i++) x[i] = load_words(wide, at(wide, from, i * ld + p), n);
    }
    /* A round moves the highest bit of the lane into the number of the vector and that of the
     * number into the lane. */
    _Pragma("GCC unroll 4") for (int s = 1; s < LANES; s *= 2) {
      _Pragma("GCC unroll 8") for (int i = 0; i < LANES / 2; i++) {
        y[2 * i] = LOW(x[i], x[i + LANES / 2]);
        y[2 * i + 1] = HIGH(x[i], x[i + LANES / 2]);
      }
      EACH_LANE x[i] = y[i];
    }
    uint32_t *row = to + p / 2 * step;
    if (count == LANES) {
      EACH_LANE _mm512_storeu_si512(row + i * step, (__m512i)x[i]);
    } else {
      for (int i = 0; i < count; i++) _mm512_storeu_si512(row + i * step, (__m512i)x[i]);
    }
  }
}

/* Panels of n columns of b [k x n]: two at a time, so that whole cache lines are read. */
ALWAYS void weave_panels(const bool wide, int64_t k, int64_t n, const void *b, int64_t ldb,
                         uint32_t *to) {
  const int64_t panel = parts_of(k, 2) * LANES;
  for (int64_t j = 0; j < n; j += COLUMNS, to += 2 * panel)
    for (int64_t p = 0; p < k; p += 2) {
      const void *one = at(wide, b, p * ldb + j), *two = NULL;
      if (p + 1 < k) two = at(wide, b, (p + 1) * ldb + j);
      uint32_t *row = to + p / 2 * LANES;
      _mm512_store_si512(row, woven(wide, one, two, n - j));
      if (n - j <= LANES) continue;
      one = at(wide, one, LANES);
      if (two) two = at(wide, two, LANES);
      _mm512_store_si512(row + panel, woven(wide, one, two, n - j - LANES));
    }
}

ALWAYS void pack(const bool wide, bool flip, int64_t k, int64_t n, const void *b, int64_t ldb,
                 uint32_t *to) {
  if (!flip) {
    weave_panels(wide, k, n, b, ldb, to);
    return;
  }
  for (int64_t j = 0; j < n; j += LANES, to += parts_of(k, 2) * LANES)
    turn(wide, least(LANES, n - j), k, at(wide, b, j * ldb), ldb, to, LANES);
}

WITH_BF16 static void kern_pack(bool flip, bool wide, int64_t k, int64_t n, const void *b,
                                int64_t ldb, int64_t begin, int64_t end, uint32_t *to) {
  const int64_t j = begin * LANES, w = least(n, end * LANES) - j;
  b = at(wide, b, flip ? j * ldb : j);
  to += j * parts_of(k, 2);
  if (wide) pack(true, flip, k, w, b, ldb, to);
  else pack(false, flip, k, w, b, ldb, to);
}

WITH_BF16 static void kern_weave(int64_t k, int64_t n, const float *from, int64_t ld, uint32_t *to,
                                 int64_t ldto) {
  for (int64_t p = 0; p < k; p += 2, to += ldto)
    for (int64_t j = 0; j < n; j += LANES) {
      const float *one = from + p * ld + j;
      _mm512_mask_storeu_epi32(to + j, (__mmask16)first_bits(n - j),
                               woven(true, one, p + 1 < k ? one + ld : NULL, n - j));
    }
}

/* --- tiles -------------------------------------------------------------------------------------
 */

/* Where a tile goes: c = base + sum, or sum where base is NULL; c and base are float32 or bfloat16.
 */
typedef struct target {
  const void *base;
  void *c;
  int64_t base_ld, ldc;
  bool base_wide, wide;
} target;

/* The target `rows` rows and `cols` columns on. */
static inline target moved(target t, int64_t rows, int64_t cols) {
  t.c = (char *)t.c + (rows * t.ldc + cols) * (t.wide ? 4 : 2);
  if (t.base) t.base = at(t.base_wide, t.base, rows * t.base_ld + cols);
  return t;
}

/* One tile of `rows` rows and `vectors` vectors, constants where this is inlined; w columns of it
 * are written. Word p of row i of the left operand is a[i row + p step], row p of the right one
 * b[p LANES], its vectors `next` apart. */
ALWAYS void tile(const int rows, const int vectors, int64_t w, int64_t count, const word *a,
                 int64_t row, int64_t step, const uint32_t *b, int64_t next, const target *to) {
  __m512 sum[ROWS][VECTORS];
  EACH_ROW EACH_VECTOR sum[i][v] = _mm512_setzero_ps();
  if (count > AHEAD) EACH_ROW __builtin_prefetch(at(to->wide, to->c, i * to->ldc), 1);
  for (int64_t p = 0; p < count; p++, a += step, b += LANES) {
    __m512i x[VECTORS];
    EACH_VECTOR x[v] = _mm512_load_si512(b + v * next);
    EACH_ROW {
      const __m512i y = _mm512_set1_epi32((int)a[i * row]);
      EACH_VECTOR sum[i][v] = _mm512_dpbf16_ps(sum[i][v], (__m512bh)y, (__m512bh)x[v]);
    }
  }
  EACH_VECTOR {
    const __mmask16 mask = (__mmask16)first_bits(w - v * LANES);
    if (to->base && to->base_wide) {
      EACH_ROW sum[i][v] =
          _mm512_add_ps(sum[i][v], _mm512_maskz_loadu_ps(mask, (const float *)to->base +
                                                                   i * to->base_ld + v * LANES));
    } else if (to->base) {
      EACH_ROW sum[i][v] = _mm512_add_ps(
          sum[i][v],
          (__m512)_mm512_slli_epi32(
              load_low(false, at(false, to->base, i * to->base_ld + v * LANES), w - v * LANES),
              16));
    }
    if (to->wide) {
      EACH_ROW _mm512_mask_storeu_ps((float *)to->c + i * to->ldc + v * LANES, mask, sum[i][v]);
    } else {
      EACH_ROW _mm256_mask_storeu_epi16((uint16_t *)to->c + i * to->ldc + v * LANES, mask,
                                        (__m256i)_mm512_cvtneps_pbh(sum[i][v]));
    }
  }
}

/* `rows` rows of the left operand times all n columns, whose panels are `next` words apart. */
ALWAYS void band(const int rows, int64_t n, int64_t count, const word *a, int64_t row, int64_t step,
                 const uint32_t *b, int64_t next, target to) {
  for (int64_t j = 0; j < n; j += COLUMNS, b += 2 * next, to = moved(to, 0, COLUMNS)) {
    if (n - j > LANES) tile(rows, VECTORS, n - j, count, a, row, step, b, next, &to);
    else tile(rows, 1, n - j, count, a, row, step, b, next, &to);
  }
}

/* m <= ROWS rows, whose words lie side by side or a row length apart. */
#define BANDS(name, row, step)                                                                \
  WITH_BF16 static void name(int64_t m, int64_t n, int64_t count, const word *a, int64_t lda, \
                             const uint32_t *b, int64_t next, target to) {                    \
    if (m == ROWS) {                                                                          \
      band(ROWS, n, count, a, row, step, b, next, to);                                        \
      return;                                                                                 \
    }                                                                                         \
    for (int64_t i = 0, rows; i < m; i += rows) {                                             \
      const word *x = a + i * (row);                                                          \
      const target t = moved(to, i, 0);                                                       \
      rows = m - i >= 8 ? 8 : m - i >= 4 ? 4 : m - i >= 2 ? 2 : 1;                            \
      if (rows == 8) band(8, n, count, x, row, step, b, next, t);                             \
      else if (rows == 4) band(4, n, count, x, row, step, b, next, t);                        \
      else if (rows == 2) band(2, n, count, x, row, step, b, next, t);                        \
      else band(1, n, count, x, row, step, b, next, t);                                       \
    }                                                                                         \
  }
BANDS(rows_close, 1, lda)
BANDS(rows_apart, lda, 1)
#undef BANDS

static void kern_gemm(bool turn, int64_t m, int64_t n, int64_t count, const void *left, int64_t lda,
                      const uint32_t *b, int64_t depth, bool add, float *c, int64_t ldc) {
  const word *a = left;
  const int64_t next = LANES * depth;
  for (int64_t j = 0; j < n; j += COLUMNS, b += 2 * next) /* b's panels stay near */
    for (int64_t i = 0, rows; i < m; i += rows) {
      rows = m - i == 16 ? 8 : least(ROWS, m - i);
      float *at = c + i * ldc + j;
      const target to = {add ? at : NULL, at, ldc, ldc, true, true};
      if (turn) rows_close(rows, least(COLUMNS, n - j), count, a + i, lda, b, next, to);
      else rows_apart(rows, least(COLUMNS, n - j), count, a + i * lda, lda, b, next, to);
    }
}

/* --- dot products ------------------------------------------------------------------------------
 */

/* c[i][j] for `rows` rows and 4 columns, constants where this is inlined, `cols` of which are
 * there.
 */
ALWAYS void dots(const int rows, int64_t cols, const pgk_half *p, int64_t j) {
  __m512 sum[FEW_ROWS][4];
  const uint16_t *a = p->a, *b = (const uint16_t *)p->b + j * p->ldb;
  const int64_t next = cols > 1 ? p->ldb : 0, third = cols > 2 ? 2 * p->ldb : 0;
  const int64_t at_col[4] = {0, next, third, cols > 3 ? 3 * p->ldb : 0};
  EACH_ROW _Pragma("GCC unroll 4") for (int q = 0; q < 4; q++) sum[i][q] = _mm512_setzero_ps();
  for (int64_t l = 0; l < p->k; l += 2 * LANES) {
    const int64_t n = least(2 * LANES, p->k - l);
    __m512bh x[4];
    _Pragma("GCC unroll 4") for (int q = 0; q < 4; q++) x[q] =
        (__m512bh)load_words(false, b + at_col[q] + l, n);
    EACH_ROW {
      const __m512bh y = (__m512bh)load_words(false, a + i * p->lda + l, n);
      _Pragma("GCC unroll 4") for (int q = 0; q < 4; q++) sum[i][q] =
          _mm512_dpbf16_ps(sum[i][q], y, x[q]);
    }
  }
  EACH_ROW _Pragma("GCC unroll 4") for (int q = 0; q < 4; q++) {
    if (q >= cols) continue;
    float v = _mm512_reduce_add_ps(sum[i][q]);
    float *wide = (float *)p->c + i * p->ldc + j + q;
    uint16_t *half = (uint16_t *)p->c + i * p->ldc + j + q;
    if (p->bias) v += p->bias[j + q];
    if (p->add) v += p->c_wide ? *wide : pg_bf16_f32(*half);
    if (p->c_wide) *wide = v;
    else *half = pg_f32_bf16(v);
  }
}

WITH_BF16 static void run_dots(const pgk_half *p, int64_t begin, int64_t end) {
  for (int64_t j = begin; j < end; j += 4) {
    const int64_t cols = least(4, end - j);
    if (p->m == 1) dots(1, cols, p, j);
    else if (p->m == 2) dots(2, cols, p, j);
    else if (p->m == 3) dots(3, cols, p, j);
    else dots(4, cols, p, j);
  }
}

/* --- blocked products --------------------------------------------------------------------------
 */

/* `rows` rows of the left operand by tiles: word p of row i of a tile at to[p STAGE + i], the next
 * tile parts_of(k, 2) STAGE on. */
ALWAYS void stage_of(const bool wide, bool ta, int64_t rows, int64_t k, const void *a, int64_t lda,
                     uint32_t *to) {
  const int64_t apart = parts_of(k, 2) * STAGE;
  if (!ta) {
    for (int64_t i = 0; i < rows; i += ROWS, to += apart)
      turn(wide, least(ROWS, rows - i), k, at(wide, a, i * lda), lda, to, STAGE);
    return;
  }
  for (int64_t p = 0; p < k; p += 2, to += STAGE) {
    const void *one = at(wide, a, p * lda), *two = p + 1 < k ? at(wide, one, lda) : NULL;
    for (int64_t i = 0; i < rows; i += ROWS)
      _mm512_storeu_si512(
          to + i / ROWS * apart,
          woven(wide, at(wide, one, i), two ? at(wide, two, i) : NULL, least(ROWS, rows - i)));
  }
}
WITH_BF16 static void stage(bool wide, bool ta, int64_t rows, int64_t k, const void *a, int64_t lda,
                            uint32_t *to) {
  if (wide) stage_of(true, ta, rows, k, a, lda, to);
  else stage_of(false, ta, rows, k, a, lda, to);
}

/* Elements along k that are summed before the next: even. */
static int64_t depth_of(int64_t k) { return whole(parts_of(k, parts_of(k, DEEP)), 2); }

/* Words of the packed columns of a round. */
static int64_t packed_words(const pgk_half *p) {
  return whole(p->round, COLUMNS) * parts_of(p->k, 2);
}

/* Whether sums of blocks of k meet in scratch, because c would round them. */
static bool sums_apart(const pgk_half *p) { return !p->c_wide && p->k > DEEP; }

/* Rows [i, i + m), columns [j, j + n) of c. */
static void piece(const pgk_half *p, int64_t i, int64_t m, int64_t j, int64_t n) {
  _Alignas(64) uint32_t staged[TILES * STAGE * DEEP / 2];
  const int64_t width = whole(p->last - p->first, COLUMNS), deep = depth_of(p->k);
  const int64_t some = whole(parts_of(m, parts_of(m, TILES * ROWS)), ROWS);
  /* Reading rows far apart is slow, worst where the distance is a power of two. */
  const bool close = p->ta || p->a_wide || p->k % 2 || p->lda % 2 || (uintptr_t)p->a % 4 ||
                     n > 3 * COLUMNS || (n > LANES && m > 1 && p->lda % 512 == 0);
  float *sums = sums_apart(p) ? (float *)((uint32_t *)p->scratch + packed_words(p)) : NULL;
  for (int64_t q = i; q < i + m; q += some) { /* these rows times all columns */
    const int64_t all = least(some, i + m - q);
    const target c = {NULL, p->c, 0, p->ldc, true, p->c_wide};
    const target part = {NULL, sums, 0, p->round, true, true};
    for (int64_t from = 0; from < p->k; from += deep) {
      const int64_t k = least(deep, p->k - from), count = parts_of(k, 2);
      const void *a = at(p->a_wide, p->a, p->ta ? from * p->lda + q : q * p->lda + from);
      const bool ends = from + k == p->k;
      if (close) stage(p->a_wide, p->ta, all, k, a, p->lda, staged);
      target to = moved(sums && !ends ? part : c, q, sums && !ends ? j - p->first : j);
      if (from) { /* what the blocks before left */
        const target before = moved(sums ? part : c, q, sums ? j - p->first : j);
        to.base = before.c;
        to.base_ld = before.ldc;
        to.base_wide = before.wide;
      } else if (p->add) {
        to.base = moved(c, q, j).c;
        to.base_ld = p->ldc;
        to.base_wide = p->c_wide;
      } else if (p->bias) {
        to.base = p->bias + j;
      }
      const uint32_t *b =
          (const uint32_t *)p->scratch + width * (from / 2) + (j - p->first) * count;
      for (int64_t g = 0; g < n; g += GROUP, b += GROUP * count) {
        const int64_t w = least(GROUP, n - g);
        for (int64_t t = 0; t < all; t += ROWS) {
          const int64_t rows = least(ROWS, all - t);
          const target here = moved(to, t, g);
          if (close) {
            rows_close(rows, w, count, staged + t / ROWS * count * STAGE, STAGE, b, LANES * count,
                       here);
          } else {
            rows_apart(rows, w, count, (const word *)at(false, a, t * p->lda), p->lda / 2, b,
                       LANES * count, here);
          }
        }
      }
    }
  }
}

/* Packs columns [j, j + n) of the round, a whole number of panels before, of the k elements from
 * `from` on. A block's panels lie together. */
WITH_BF16 static void pack_columns(const pgk_half *p, int64_t from, int64_t k, int64_t j,
                                   int64_t n) {
  const int64_t width = whole(p->last - p->first, COLUMNS), col = p->first + j;
  const void *b = at(p->b_wide, p->b, p->tb ? col * p->ldb + from : from * p->ldb + col);
  uint32_t *to = (uint32_t *)p->scratch + width * (from / 2) + j * parts_of(k, 2);
  if (p->b_wide) pack(true, p->tb, k, n, b, p->ldb, to);
  else pack(false, p->tb, k, n, b, p->ldb, to);
}

/* Panels of the round times blocks of k. */
static void kern_packs(const pgk_half *p, int64_t begin, int64_t end) {
  const int64_t all = p->last - p->first, panels = parts_of(all, COLUMNS), deep = depth_of(p->k);
  for (int64_t i = begin; i < end; i++) {
    const int64_t from = i / panels * deep, j = i % panels * COLUMNS;
    pack_columns(p, from, least(deep, p->k - from), j, least(COLUMNS, all - j));
  }
}

static void kern_run(const pgk_half *p, int64_t begin, int64_t end) {
  const int64_t across = parts_of(p->last - p->first, p->cols), deep = depth_of(p->k);
  for (int64_t item = begin; item < end; item++) {
    const int64_t i = item / across * p->rows, j = item % across * p->cols;
    const int64_t n = least(p->cols, p->last - p->first - j);
    if (p->dots) {
      run_dots(p, p->first + j, p->first + j + n);
      continue;
    }
    for (int64_t from = 0; p->each && from < p->k; from += deep)
      pack_columns(p, from, least(deep, p->k - from), j, n);
    piece(p, i, least(p->rows, p->m - i), p->first + j, n);
  }
}

static void kern_round(pgk_half *p, int64_t first) {
  p->first = first;
  p->last = least(p->n, first + p->round);
  const int64_t n = p->last - first;
  p->packs = p->each || p->dots ? 0 : parts_of(n, COLUMNS) * parts_of(p->k, depth_of(p->k));
  p->items = parts_of(p->m, p->rows) * parts_of(n, p->cols);
}

static bool kern_plan(pgk_half *p, int64_t threads) {
  const double work = (double)p->m * (double)p->n * (double)p->k;
  if (work == 0) return false;
  if (p->n == 1 && p->m > 1 && p->ldc == 1 && !p->bias) { /* the transposed product has one row */
    const pgk_half q = *p;
    p->a = q.b;
    p->b = q.a;
    p->a_wide = q.b_wide;
    p->b_wide = q.a_wide;
    p->lda = q.ldb;
    p->ldb = q.lda;
    p->ta = !q.tb;
    p->tb = !q.ta;
    p->m = 1;
    p->n = p->ldc = q.m;
  }
  p->dots = p->tb && p->m <= FEW_ROWS && !p->a_wide && !p->b_wide &&
            (!p->ta || (p->m == 1 && p->lda == 1));
  if (p->dots) { /* bound by memory: as if it were more work */
    p->bytes = 0;
    p->rows = p->m;
    p->round = p->n;
    p->cols = 4 * work < ALONE ? p->n : whole(parts_of(p->n, threads), COLUMNS);
    return true;
  }
  p->round = least(p->n, most(COLUMNS, ROUND / parts_of(p->k, 2) / COLUMNS * COLUMNS));
  p->bytes = sizeof(uint32_t) * (size_t)packed_words(p);
  if (sums_apart(p)) p->bytes += sizeof(float) * (size_t)(p->m * p->round);
  int64_t want = threads > 1 && work >= ALONE ? threads : 1, down = 1, across = 1;
  if (want > 1)
    while (want < MOST && (double)want * PORTION < work) want *= 2;
  /* A product of few rows is cut between columns, whose panels stay with the thread that packs
   * them; others first between rows, for which b is packed once. */
  const bool flat = p->m <= 2 * TILES * ROWS;
  if (flat && want > 1) {
    across = threads * most(1, (int64_t)(work / PORTION) / (4 * threads));
    across = most(1, least(across, p->round / BROAD));
  }
  while (!flat && down * across < want && p->m >= down * 2 * TILES * ROWS) down *= 2;
  while (!flat && down * across < want && p->round >= across * 2 * GROUP) across *= 2;
  if (down * across < threads && want > 1) {
    while (down * across < want && p->m >= down * 4 * ROWS) down *= 2;
    while (down * across < want && p->round >= across * 4 * COLUMNS) across *= 2;
  }
  p->rows = parts_of(p->m, down);
  p->cols = whole(parts_of(p->round, across), flat ? LANES : COLUMNS);
  p->each = down == 1;
  return true;
}

const pgk_half_kern *PG_AT(pgk_half_kern_of)(void) {
  static const pgk_half_kern kern = {kern_plan, kern_round, kern_packs, kern_run,
                                     kern_pack, kern_gemm,  kern_weave};
  return &kern;
}

#else

const pgk_half_kern *PG_AT(pgk_half_kern_of)(void) { return NULL; }

#endif
