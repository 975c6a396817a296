/* Matrix products from register tiles of ROWS x (VECTORS vectors) sums, in float32 and float64.
 * Relies on kernels/pack.h; the code for one dtype is kernels/tiles.h. Spec:
 * spec/kernels/pack_spec.lua, spec/ops/rnn_spec.lua. */
#include "kernels/pack.h"

#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

/* Bytes of a vector register, the largest tile whose sums and one row of b fit in registers, the
 * vectors of a packed panel, the rows of a staged tile of a (whole vectors) and how many tiles are
 * staged together. At AVX-512 a row of b of two vectors keeps the loads below two for every three
 * multiply-adds. */
#if defined(__AVX512F__)
enum { WIDTH = 64, ROWS = 14, VECTORS = 2, PACKED_VECTORS = 1, STAGE = 16, TILES = 10 };
#elif defined(__AVX2__)
enum { WIDTH = 32, ROWS = 6, VECTORS = 2, PACKED_VECTORS = 2, STAGE = 8, TILES = 22 };
#else
enum { WIDTH = 16, ROWS = 6, VECTORS = 2, PACKED_VECTORS = 2, STAGE = 8, TILES = 22 };
#endif

enum { DIRECT, TURNED, PACKED, DOTS, SUMS }; /* pgk_product.way */
enum {
  AHEAD = 32,        /* products long enough to fetch c meanwhile */
  PAGE = 4096,       /* bytes between rows that fall on the same lines of the first cache */
  DEPTH = 1024,      /* bytes of a row of a tile that are summed before the next */
  GROUP = 512,       /* columns at once: with DEPTH rows they fit in the second cache */
  MANY_ROWS = 256,   /* from here on a large b that lies by rows is packed too */
  LARGE = 1 << 18,   /* elements of such a b */
  FEW_ROWS = 4,      /* so few times a transposed b are dot products */
  ROUND = 1 << 20,   /* elements of a packed b that lie in scratch */
  ALONE = 1 << 18,   /* multiply-adds below which no second thread is woken */
  PORTION = 1 << 22, /* multiply-adds of an item */
  FEW = 8,           /* items that even small products are cut into */
  MOST = 64          /* items that a product is cut into */
};

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t parts_of(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }
static inline int64_t whole(int64_t n, int64_t unit) { return parts_of(n, unit) * unit; }

/* Code for constant trip counts, so that the sums stay in registers. */
#define EACH_ROW    _Pragma("GCC unroll 16") for (int i = 0; i < rows; i++)
#define EACH_VECTOR _Pragma("GCC unroll 2") for (int v = 0; v < vectors; v++)
#define EACH_LANE   _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++)

/* The lanes of the lower and the upper halves of two vectors, by turns. */
#define LOW_2(a, b)  __builtin_shufflevector(a, b, 0, 2)
#define HIGH_2(a, b) __builtin_shufflevector(a, b, 1, 3)
#define LOW_4(a, b)  __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define HIGH_4(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define LOW_8(a, b)  __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH_8(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define LOW_16(a, b) \
  __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH_16(a, b) \
  __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)

#if defined(__AVX512F__)
#define LOW_F32  LOW_16
#define HIGH_F32 HIGH_16
#define LOW_F64  LOW_8
#define HIGH_F64 HIGH_8
#elif defined(__AVX2__)
#define LOW_F32  LOW_8
#define HIGH_F32 HIGH_8
#define LOW_F64  LOW_4
#define HIGH_F64 HIGH_4
#else
#define LOW_F32  LOW_4
#define HIGH_F32 HIGH_4
#define LOW_F64  LOW_2
#define HIGH_F64 HIGH_2
#endif

#define T                     float
#define AT(n)                 n##_f32
#define LANES                 (WIDTH / 4)
#define LOW                   LOW_F32
#define HIGH                  HIGH_F32
#define LOAD_MASKED(m, p)     (vec_f32) _mm512_maskz_loadu_ps((__mmask16)(m), p)
#define STORE_MASKED(p, m, x) _mm512_mask_storeu_ps(p, (__mmask16)(m), (__m512)(x))
#include "kernels/tiles.h"
#undef T
#undef AT
#undef LANES
#undef LOW
#undef HIGH
#undef LOAD_MASKED
#undef STORE_MASKED

#define T                     double
#define AT(n)                 n##_f64
#define LANES                 (WIDTH / 8)
#define LOW                   LOW_F64
#define HIGH                  HIGH_F64
#define LOAD_MASKED(m, p)     (vec_f64) _mm512_maskz_loadu_pd((__mmask8)(m), p)
#define STORE_MASKED(p, m, x) _mm512_mask_storeu_pd(p, (__mmask8)(m), (__m512d)(x))
#include "kernels/tiles.h"
