/* Casts between all dtypes, fill and accumulate: the loops of pg_kern for one instruction level.
 * Relies on kern.h and bf16.h.
 * Spec: spec/tensor/copy_spec.lua. */
#include "kernels/kern.h"

#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "kernels/bf16.h"
#include "kernels/level.h"

/* Element types by dtype code. */
typedef float F32;
typedef double F64;
typedef uint16_t BF16;
typedef int64_t I64;
typedef uint8_t U8;
typedef uint8_t BOOL;

/* Truncates toward zero; what int64 cannot hold becomes its nearest end, NaN becomes 0. */
static inline int64_t f64_to_i64(double x) {
  int64_t v = x > -0x1p63 && x < 0x1p63 ? (int64_t)x : 0;
  v = x >= 0x1p63 ? INT64_MAX : v;
  return x <= -0x1p63 ? INT64_MIN : v;
}
static inline int64_t f32_to_i64(float x) {
  int64_t v = x > -0x1p63f && x < 0x1p63f ? (int64_t)x : 0;
  v = x >= 0x1p63f ? INT64_MAX : v;
  return x <= -0x1p63f ? INT64_MIN : v;
}
/* Likewise into 0..255. */
static inline uint8_t f64_to_u8(double x) {
  double v = x > 0 ? x : 0; /* NaN too */
  v = v < 255 ? v : 255;
  return (uint8_t)(int)v;
}
static inline uint8_t f32_to_u8(float x) {
  float v = x > 0 ? x : 0;
  v = v < 255 ? v : 255;
  return (uint8_t)(int)v;
}

/* TO_FROM(x): one element. int64 -> uint8 keeps the low 8 bits. */
#define F32_F32(x)   (x)
#define F32_F64(x)   ((float)(x))
#define F32_BF16(x)  pg_bf16_f32(x)
#define F32_I64(x)   ((float)(x))
#define F32_U8(x)    ((float)(x))
#define F32_BOOL(x)  ((float)(x))
#define F64_F32(x)   ((double)(x))
#define F64_F64(x)   (x)
#define F64_BF16(x)  ((double)pg_bf16_f32(x))
#define F64_I64(x)   ((double)(x))
#define F64_U8(x)    ((double)(x))
#define F64_BOOL(x)  ((double)(x))
#define BF16_F32(x)  pg_f32_bf16(x)
#define BF16_F64(x)  pg_f32_bf16((float)(x))
#define BF16_BF16(x) (x)
#define BF16_I64(x)  pg_f32_bf16((float)(x))
#define BF16_U8(x)   pg_f32_bf16((float)(x))
#define BF16_BOOL(x) pg_f32_bf16((float)(x))
#define I64_F32(x)   f32_to_i64(x)
#define I64_F64(x)   f64_to_i64(x)
#define I64_BF16(x)  f32_to_i64(pg_bf16_f32(x))
#define I64_I64(x)   (x)
#define I64_U8(x)    ((int64_t)(x))
#define I64_BOOL(x)  ((int64_t)(x))
#define U8_F32(x)    f32_to_u8(x)
#define U8_F64(x)    f64_to_u8(x)
#define U8_BF16(x)   f32_to_u8(pg_bf16_f32(x))
#define U8_I64(x)    ((uint8_t)(x))
#define U8_U8(x)     (x)
#define U8_BOOL(x)   (x)
#define BOOL_F32(x)  ((x) != 0)
#define BOOL_F64(x)  ((x) != 0)
#define BOOL_BF16(x) (((x)&0x7fff) != 0)
#define BOOL_I64(x)  ((x) != 0)
#define BOOL_U8(x)   ((x) != 0)
#define BOOL_BOOL(x) (x)

/* Every k-th element of x, one after another. */
#define EVERY(k, T)                                           \
  do {                                                        \
    T *y = (T *)p[0];                                         \
    const T *x = (const T *)p[1];                             \
    PG_IVDEP for (int64_t i = 0; i < n; i++) y[i] = x[(k)*i]; \
  } while (0)

/* COPY(32) -> static bool copy_32(n, p, s): does p[0][i] = p[1][i] for elements of 32 bits if p[0]
 * is contiguous and p[1] has one of the steps for which there is vector code. */
#define COPY(BITS)                                                       \
  static bool copy_##BITS(int64_t n, char *const *p, const int64_t *s) { \
    const int64_t size = BITS / 8;                                       \
    if (s[0] != size) return false;                                      \
    if (s[1] == 2 * size) EVERY(2, uint##BITS##_t);                      \
    else if (s[1] == 3 * size) EVERY(3, uint##BITS##_t);                 \
    else if (s[1] == 4 * size) EVERY(4, uint##BITS##_t);                 \
    else if (s[1] == -size) EVERY(-1, uint##BITS##_t);                   \
    else return false;                                                   \
    return true;                                                         \
  }
COPY(8)
COPY(16)
COPY(32)
COPY(64)
static bool copy_every(size_t size, int64_t n, char *const *p, const int64_t *s) {
  switch (size) {
  case 1:
    return copy_8(n, p, s);
  case 2:
    return copy_16(n, p, s);
  case 4:
    return copy_32(n, p, s);
  default:
    return copy_64(n, p, s);
  }
}

/* CAST(F64, F32) -> static void cast_F64_F32(n, p, s, arg): p[0][i] = (double)p[1][i]. */
#define CAST(TO, FROM)                                                                           \
  static void cast_##TO##_##FROM(int64_t n, char *const *p, const int64_t *s, const void *arg) { \
    (void)arg;                                                                                   \
    const int64_t to_size = sizeof(TO), from_size = sizeof(FROM);                                \
    if (s[0] == to_size && s[1] == from_size) {                                                  \
      TO *y = (TO *)p[0];                                                                        \
      const FROM *x = (const FROM *)p[1];                                                        \
      PG_IVDEP for (int64_t i = 0; i < n; i++) y[i] = TO##_##FROM(x[i]);                         \
    } else if (s[0] == to_size && s[1] == 0) {                                                   \
      TO *y = (TO *)p[0];                                                                        \
      const TO v = TO##_##FROM(*(const FROM *)p[1]);                                             \
      PG_IVDEP for (int64_t i = 0; i < n; i++) y[i] = v;                                         \
    } else if (PG_##TO != PG_##FROM || !copy_every(sizeof(TO), n, p, s)) {                       \
      for (int64_t i = 0; i < n; i++)                                                            \
        *(TO *)(p[0] + i * s[0]) = TO##_##FROM(*(const FROM *)(p[1] + i * s[1]));                \
    }                                                                                            \
  }
#define CASTS(TO) \
  CAST(TO, F32) CAST(TO, F64) CAST(TO, BF16) CAST(TO, I64) CAST(TO, U8) CAST(TO, BOOL)
CASTS(F32)
CASTS(F64)
CASTS(BF16)
CASTS(I64)
CASTS(U8)
CASTS(BOOL)

/* FILL(F32) -> static void fill_F32(n, p, s, arg): p[0][i] = (float)*(const double *)arg. */
#define FILL(TO)                                                                        \
  static void fill_##TO(int64_t n, char *const *p, const int64_t *s, const void *arg) { \
    const TO v = TO##_F64(*(const double *)arg);                                        \
    if (s[0] == (int64_t)sizeof(TO)) {                                                  \
      TO *y = (TO *)p[0];                                                               \
      PG_IVDEP for (int64_t i = 0; i < n; i++) y[i] = v;                                \
    } else {                                                                            \
      for (int64_t i = 0; i < n; i++) *(TO *)(p[0] + i * s[0]) = v;                     \
    }                                                                                   \
  }
FILL(F32)
FILL(F64)
FILL(BF16)
FILL(I64)
FILL(U8)
FILL(BOOL)

#define SUM_F32(a, b)  ((a) + (b))
#define SUM_F64(a, b)  ((a) + (b))
#define SUM_BF16(a, b) pg_f32_bf16(pg_bf16_f32(a) + pg_bf16_f32(b))

/* ADD(F32) -> static void add_F32(n, p, s, arg): p[0][i] += p[1][i]. */
#define ADD(T)                                                                        \
  static void add_##T(int64_t n, char *const *p, const int64_t *s, const void *arg) { \
    (void)arg;                                                                        \
    const int64_t size = sizeof(T);                                                   \
    if (s[0] == size && s[1] == size) {                                               \
      T *y = (T *)p[0];                                                               \
      const T *x = (const T *)p[1];                                                   \
      PG_IVDEP for (int64_t i = 0; i < n; i++) y[i] = SUM_##T(y[i], x[i]);            \
    } else {                                                                          \
      for (int64_t i = 0; i < n; i++) {                                               \
        T *y = (T *)(p[0] + i * s[0]);                                                \
        *y = SUM_##T(*y, *(const T *)(p[1] + i * s[1]));                              \
      }                                                                               \
    }                                                                                 \
  }
ADD(F32)
ADD(F64)
ADD(BF16)

/* The widest store past the caches of this level. */
#if defined(__AVX512F__)
#define STREAM_WIDTH           64
#define STREAM_STORE(to, from) _mm512_stream_si512((void *)(to), _mm512_loadu_si512(from))
#elif defined(__AVX2__)
#define STREAM_WIDTH 32
#define STREAM_STORE(to, from) \
  _mm256_stream_si256((__m256i *)(to), _mm256_loadu_si256((const __m256i *)(from)))
#elif defined(__SSE2__)
#define STREAM_WIDTH 16
#define STREAM_STORE(to, from) \
  _mm_stream_si128((__m128i *)(to), _mm_loadu_si128((const __m128i *)(from)))
#endif

static void stream(char *restrict to, const char *restrict from, size_t bytes) {
#if defined(STREAM_WIDTH)
  size_t head = (size_t)(-(uintptr_t)to) % STREAM_WIDTH;
  head = head < bytes ? head : bytes;
  memcpy(to, from, head);
  to += head;
  from += head;
  bytes -= head;
  for (; bytes >= STREAM_WIDTH; bytes -= STREAM_WIDTH, to += STREAM_WIDTH, from += STREAM_WIDTH)
    STREAM_STORE(to, from);
#endif
  memcpy(to, from, bytes);
}

static void settle(void) {
#if defined(STREAM_WIDTH)
  _mm_sfence();
#endif
}

/* 16 x 16 elements in vectors. Interleaving each row with the one 8 further on, four times, swaps
 * the four bits of the row's number with those of the column's. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define TURN_VECTORS
#endif
#endif
#if defined(TURN_VECTORS)
typedef uint32_t lanes __attribute__((vector_size(64)));
#define INTERLEAVE(a, b, k)                                                                    \
  __builtin_shufflevector(a, b, k, k + 16, k + 1, k + 17, k + 2, k + 18, k + 3, k + 19, k + 4, \
                          k + 20, k + 5, k + 21, k + 6, k + 22, k + 7, k + 23)

static inline void interleave(const lanes *from, lanes *to) {
  for (int r = 0; r < 8; r++) {
    to[2 * r] = INTERLEAVE(from[r], from[r + 8], 0);
    to[2 * r + 1] = INTERLEAVE(from[r], from[r + 8], 8);
  }
}

static inline void turn_block(const uint32_t *x, int64_t sx, uint32_t *y, int64_t sy) {
  lanes a[16], b[16];
  for (int r = 0; r < 16; r++) memcpy(&a[r], x + r * sx, sizeof a[r]);
  interleave(a, b);
  interleave(b, a);
  interleave(a, b);
  interleave(b, a);
  for (int r = 0; r < 16; r++) memcpy(y + r * sy, &a[r], sizeof a[r]);
}
#endif

static void turn(int64_t n, int64_t m, const uint32_t *restrict x, int64_t sx, uint32_t *restrict y,
                 int64_t sy) {
  int64_t whole_n = 0, whole_m = 0;
#if defined(TURN_VECTORS)
  whole_n = n / 16 * 16;
  whole_m = m / 16 * 16;
  for (int64_t i = 0; i < whole_n; i += 16)
    for (int64_t j = 0; j < whole_m; j += 16) turn_block(x + i * sx + j, sx, y + j * sy + i, sy);
#endif
  for (int64_t j = 0; j < m; j++)
    for (int64_t i = j < whole_m ? whole_n : 0; i < n; i++) y[j * sy + i] = x[i * sx + j];
}

/* 64 bytes, wherever they lie. */
typedef char wide __attribute__((vector_size(64), aligned(1), may_alias));

/* Rows of w bytes, or of up to 2 w: two moves that may overlap. */
static inline void short_rows(int64_t count, size_t bytes, size_t w, char *restrict to, int64_t sy,
                              const char *restrict from, int64_t sx) {
  const size_t last = bytes - w;
  if (!last)
    for (; count > 0; count--, to += sy, from += sx) memcpy(to, from, w);
  for (; count > 0; count--, to += sy, from += sx) {
    char a[32], b[32];
    memcpy(a, from, w);
    memcpy(b, from + last, w);
    memcpy(to, a, w);
    memcpy(to + last, b, w);
  }
}

static void rows(int64_t count, size_t bytes, char *restrict to, int64_t sy,
                 const char *restrict from, int64_t sx) {
  if (bytes >= 64) {
    const size_t last = bytes - 64;
    for (; count > 0; count--, to += sy, from += sx) {
      for (size_t at = 0; at < last; at += 64) *(wide *)(to + at) = *(const wide *)(from + at);
      *(wide *)(to + last) = *(const wide *)(from + last);
    }
  } else if (bytes >= 32) {
    short_rows(count, bytes, 32, to, sy, from, sx);
  } else if (bytes >= 16) {
    short_rows(count, bytes, 16, to, sy, from, sx);
  } else if (bytes >= 8) {
    short_rows(count, bytes, 8, to, sy, from, sx);
  } else if (bytes >= 4) {
    short_rows(count, bytes, 4, to, sy, from, sx);
  } else if (bytes >= 2) {
    short_rows(count, bytes, 2, to, sy, from, sx);
  } else if (bytes) {
    for (; count > 0; count--, to += sy, from += sx) *to = *from;
  }
}

#define ROW(TO)                                                                                    \
  [PG_##                                                                                           \
      TO] = {[PG_F32] = cast_##TO##_F32, [PG_F64] = cast_##TO##_F64, [PG_BF16] = cast_##TO##_BF16, \
             [PG_I64] = cast_##TO##_I64, [PG_U8] = cast_##TO##_U8,   [PG_BOOL] = cast_##TO##_BOOL}

/* Sixteen sums, so that their order is the same at any vector length. */
#define SQUARES(T, S)                                                        \
  static double squares_##S(int64_t n, const T *restrict x) {                \
    enum { SUMS = 16 };                                                      \
    double part[SUMS] = {0}, all = 0;                                        \
    int64_t i = 0;                                                           \
    for (; i + SUMS <= n; i += SUMS)                                         \
      for (int j = 0; j < SUMS; j++) part[j] += (double)x[i + j] * x[i + j]; \
    for (; i < n; i++) all += (double)x[i] * x[i];                           \
    for (int j = 0; j < SUMS; j++) all += part[j];                           \
    return all;                                                              \
  }
SQUARES(float, f32)
SQUARES(double, f64)

/* LAY(32) -> static void lay_32(rows, n, to, from, row, step): `lay` for elements of 32 bits. */
#define LAY(BITS)                                                                               \
  static void lay_##BITS(int64_t rows, int64_t n, char *restrict to, const char *restrict from, \
                         int64_t row, int64_t step) {                                           \
    enum { SIZE = BITS / 8, LANES = PG_LAY_PAST / SIZE };                                       \
    for (; rows > 0; rows--, from += row, to += n * SIZE) {                                     \
      uint##BITS##_t x, many[LANES];                                                            \
      if (step == 0) {                                                                          \
        memcpy(&x, from, SIZE);                                                                 \
        for (int i = 0; i < LANES; i++) many[i] = x;                                            \
        for (int64_t i = 0; i < n; i += LANES) memcpy(to + i * SIZE, many, PG_LAY_PAST);        \
      } else if (step == -SIZE) {                                                               \
        PG_IVDEP for (int64_t i = 0; i < n; i++) memcpy(to + i * SIZE, from - i * SIZE, SIZE);  \
      } else {                                                                                  \
        for (int64_t i = 0; i < n; i++) memcpy(to + i * SIZE, from + i * step, SIZE);           \
      }                                                                                         \
    }                                                                                           \
  }
LAY(8)
LAY(16)
LAY(32)
LAY(64)

static void lay(size_t size, int64_t n_rows, int64_t n, char *restrict to,
                const char *restrict from, int64_t row, int64_t step) {
  if (step == (int64_t)size) rows(n_rows, (size_t)n * size, to, n * step, from, row);
  else if (size == 1) lay_8(n_rows, n, to, from, row, step);
  else if (size == 2) lay_16(n_rows, n, to, from, row, step);
  else if (size == 4) lay_32(n_rows, n, to, from, row, step);
  else lay_64(n_rows, n, to, from, row, step);
}

const pg_kern PG_AT(pg_kern) = {
    .cast = {ROW(F32), ROW(F64), ROW(BF16), ROW(I64), ROW(U8), ROW(BOOL)},
    .fill = {[PG_F32] = fill_F32,
             [PG_F64] = fill_F64,
             [PG_BF16] = fill_BF16,
             [PG_I64] = fill_I64,
             [PG_U8] = fill_U8,
             [PG_BOOL] = fill_BOOL},
    .add = {[PG_F32] = add_F32, [PG_F64] = add_F64, [PG_BF16] = add_BF16},
    .stream = stream,
    .settle = settle,
    .turn = turn,
    .rows = rows,
    .lay = lay,
    .squares_f32 = squares_f32,
    .squares_f64 = squares_f64,
};
