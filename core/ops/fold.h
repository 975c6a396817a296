/* The walk of a reduction: any strides, any set of dims, split into fixed pieces whose partial
 * results are joined in order. Relies on tensor, base/par. Spec: spec/ops/reduce_spec.lua. */
#ifndef PG_OPS_FOLD_H
#define PG_OPS_FOLD_H

#include <stdlib.h>

#include "base/par.h"
#include "kernels/level.h"
#include "ops/lanes.h"
#include "tensor/tensor.h"

/* Every partial result is 8 bytes wide: a double, or an integer. */
typedef union fold_acc {
  double f;
  int64_t i;
  uint64_t u;
} fold_acc;

/* row: *acc = *acc joined with n elements x[i s]. col: acc[j] = acc[j] joined with x[r rs + j s] of
 * all rows, j < n. join: acc[j] = acc[j] joined with other[j]. shift has a value per output (NULL
 * where the kernel has no use for it). */
typedef struct fold_kern {
  void (*row)(int64_t n, int64_t s, const void *x, const double *shift, fold_acc *acc);
  void (*col)(int64_t rows, int64_t rs, int64_t n, int64_t s, const void *x, const double *shift,
              fold_acc *acc);
  void (*join)(int64_t n, fold_acc *acc, const fold_acc *other);
  fold_acc start;
} fold_kern;

/* Dims of x by role, innermost first, merged where they can be. Outputs are numbered in this order:
 * kept dim 0 fastest. */
typedef struct fold_plan {
  int nk, nr;
  int64_t ksize[PG_MAX_DIMS + 1], kx[PG_MAX_DIMS + 1], ko[PG_MAX_DIMS + 1];
  int64_t rsize[PG_MAX_DIMS + 1], rx[PG_MAX_DIMS + 1];
  int64_t outputs, count; /* number of results, elements in each */
  int64_t esize;
  const char *x;
} fold_plan;

static inline uint64_t fold_rank(int64_t stride) {
  return stride ? (uint64_t)llabs(stride) : UINT64_MAX;
}

/* mask: reduced dims of x. ostride[i]: stride of the output along x's dim i (unused where
 * reduced). */
static inline void fold_plan_make(fold_plan *p, const pg_tensor *x, unsigned mask,
                                  const int64_t *ostride) {
  int order[PG_MAX_DIMS], n = 0;
  p->outputs = p->count = 1;
  for (int i = x->nd - 1; i >= 0; i--) {
    if (mask >> i & 1) p->count *= x->shape[i];
    else p->outputs *= x->shape[i];
    if (x->shape[i] == 1) continue;
    int j = n++;
    for (; j > 0 && fold_rank(x->stride[i]) < fold_rank(x->stride[order[j - 1]]); j--)
      order[j] = order[j - 1];
    order[j] = i;
  }
  p->nk = p->nr = 0;
  for (int j = 0; j < n; j++) {
    int i = order[j];
    int64_t size = x->shape[i], s = x->stride[i];
    if (mask >> i & 1) {
      int d = p->nr - 1;
      if (d >= 0 && s == p->rx[d] * p->rsize[d]) {
        p->rsize[d] *= size;
        continue;
      }
      p->rsize[++d] = size;
      p->rx[d] = s;
      p->nr++;
    } else {
      int d = p->nk - 1;
      if (d >= 0 && s == p->kx[d] * p->ksize[d] && ostride[i] == p->ko[d] * p->ksize[d]) {
        p->ksize[d] *= size;
        continue;
      }
      p->ksize[++d] = size;
      p->kx[d] = s;
      p->ko[d] = ostride[i];
      p->nk++;
    }
  }
  if (!p->nk) {
    p->ksize[p->nk] = 1;
    p->kx[p->nk] = p->ko[p->nk] = 0;
    p->nk++;
  }
  if (!p->nr) {
    p->rsize[p->nr] = 1;
    p->rx[p->nr++] = 0;
  }
  p->esize = (int64_t)pg_dtype_size((pg_dtype)x->dtype);
  p->x = x->storage->device == PG_HOST ? pg_data(x) : NULL;
}

/* Offset of number m among dims [from, n) of size and step. */
static inline int64_t fold_offset(int64_t m, int from, int n, const int64_t *size,
                                  const int64_t *step) {
  int64_t at = 0;
  for (int d = from; d < n - 1; d++) {
    at += m % size[d] * step[d];
    m /= size[d];
  }
  return from < n ? at + m * step[n - 1] : 0;
}

enum {
  FOLD_BLOCK = 1024,
  FOLD_PIECE = 65536,
  FOLD_NARROW = 32,
  FOLD_WIDE = 128,
  FOLD_SHORT = 1024
};

/* How the work is cut. A task is one output (row walk) or a block of neighbouring ones (column
 * walk); it is cut into `pieces` along the reduced elements where tasks alone would be few. */
typedef struct fold_job {
  const fold_plan *p;
  const fold_kern *k;
  const double *shift;
  fold_acc *acc, *part;
  bool by_col;
  int64_t blocks, tasks;  /* blocks of a run of kept dim 0 */
  int64_t outer;          /* combinations of the reduced dims past the first */
  int64_t group, cuts;    /* a piece is `group` of those, or one of `cuts` parts of one */
  int64_t pieces, length; /* length: elements of the first reduced dim in a part */
} fold_job;

/* Narrow contiguous columns are seen as fewer, wider rows. */
static inline void fold_narrow(const fold_kern *k, int64_t rows, int64_t n, const char *x,
                               int64_t esize, fold_acc *acc) {
  fold_acc wide[FOLD_WIDE];
  int64_t times = FOLD_WIDE / n, width = n * times, whole = rows / times;
  for (int64_t j = 0; j < width; j++) wide[j] = k->start;
  k->col(whole, width, width, 1, x, NULL, wide);
  for (int64_t t = 0; t < times; t++) k->join(n, acc, wide + t * n);
  if (whole * times < rows)
    k->col(rows - whole * times, n, n, 1, x + whole * width * esize, NULL, acc);
}

/* Outputs [begin, end) of a row walk that is not cut into pieces. */
static inline void fold_rows(const fold_job *j, int64_t begin, int64_t end) {
  const fold_plan *p = j->p;
  for (int64_t n; begin < end; begin += n) {
    int64_t run = begin / p->ksize[0], at = begin % p->ksize[0];
    n = pg_min64(end - begin, p->ksize[0] - at);
    at = fold_offset(run, 1, p->nk, p->ksize, p->kx) + at * p->kx[0];
    for (int64_t i = begin; i < begin + n; i++, at += p->kx[0]) {
      fold_acc acc = j->k->start;
      const double *shift = j->shift ? j->shift + i : NULL;
      for (int64_t q = 0; q < j->outer; q++) {
        int64_t o = at + (q ? fold_offset(q, 1, p->nr, p->rsize, p->rx) : 0);
        j->k->row(p->rsize[0], p->rx[0], p->x + o * p->esize, shift, &acc);
      }
      j->acc[i] = acc;
    }
  }
}

static inline void fold_units(void *arg, int64_t begin, int64_t end) {
  const fold_job *j = arg;
  const fold_plan *p = j->p;
  if (!j->by_col && j->pieces == 1) {
    fold_rows(j, begin, end);
    return;
  }
  for (int64_t u = begin; u < end; u++) {
    int64_t task = u / j->pieces, piece = u % j->pieces;
    int64_t first, n; /* outputs of this task */
    int64_t at;       /* offset of the first one in x */
    if (j->by_col) {
      int64_t run = task / j->blocks, j0 = task % j->blocks * FOLD_BLOCK;
      n = pg_min64(FOLD_BLOCK, p->ksize[0] - j0);
      first = run * p->ksize[0] + j0;
      at = fold_offset(run, 1, p->nk, p->ksize, p->kx) + j0 * p->kx[0];
    } else {
      first = task;
      n = 1;
      at = fold_offset(task, 0, p->nk, p->ksize, p->kx);
    }
    fold_acc *acc = j->acc + first;
    if (j->pieces > 1) acc = j->part + u * (j->by_col ? pg_min64(FOLD_BLOCK, p->ksize[0]) : 1);
    for (int64_t i = 0; i < n; i++) acc[i] = j->k->start;
    int64_t q0 = piece / j->cuts * j->group, q1 = pg_min64(j->outer, q0 + j->group);
    int64_t r0 = piece % j->cuts * j->length, rows = pg_min64(p->rsize[0] - r0, j->length);
    const double *shift = j->shift ? j->shift + first : NULL;
    for (int64_t q = q0; q < q1; q++) {
      int64_t o = at + r0 * p->rx[0] + fold_offset(q, 1, p->nr, p->rsize, p->rx);
      const char *x = p->x + o * p->esize;
      if (!j->by_col) j->k->row(rows, p->rx[0], x, shift, acc);
      else if (n < FOLD_NARROW && n == p->rx[0] && p->kx[0] == 1 && !shift && rows >= 64)
        fold_narrow(j->k, rows, n, x, p->esize, acc);
      else j->k->col(rows, p->rx[0], n, p->kx[0], x, shift, acc);
    }
  }
}

/* acc[i] = result of output i, i < p->outputs. */
static inline pg_status fold_run(pg_ctx *ctx, const fold_plan *p, const fold_kern *k,
                                 const double *shift, fold_acc *acc) {
  if (!p->outputs) return PG_OK;
  if (!p->count) {
    for (int64_t i = 0; i < p->outputs; i++) acc[i] = k->start;
    return PG_OK;
  }
  fold_job j = {.p = p, .k = k, .shift = shift, .acc = acc};
  j.by_col = p->outputs > 1 &&
             (fold_rank(p->kx[0]) < fold_rank(p->rx[0]) || (p->rsize[0] < 16 && p->ksize[0] >= 16));
  j.blocks = j.by_col ? (p->ksize[0] + FOLD_BLOCK - 1) / FOLD_BLOCK : 1;
  j.tasks = j.by_col ? p->outputs / p->ksize[0] * j.blocks : p->outputs;
  int64_t width = j.by_col ? pg_min64(FOLD_BLOCK, p->ksize[0]) : 1;
  j.outer = p->count / p->rsize[0];
  j.group = j.outer;
  j.length = p->rsize[0];
  j.cuts = j.pieces = 1;
  if (j.tasks < 32 && p->count > FOLD_PIECE / width) {
    int64_t least = pg_max64(256, FOLD_PIECE / width); /* reduced elements in a piece */
    j.group = pg_max64(1, least / p->rsize[0]);
    if (j.group == 1) {
      j.length = pg_min64(p->rsize[0], least);
      j.cuts = (p->rsize[0] + j.length - 1) / j.length;
    }
    j.pieces = (j.outer + j.group - 1) / j.group * j.cuts;
  }
  int64_t units = j.tasks * j.pieces;
  size_t bytes = sizeof *acc * (size_t)(units * width);
  if (j.pieces > 1) PG_TRY(pg_alloc(ctx, bytes, (void **)&j.part));
  int64_t work = width * pg_min64(j.group * j.length, p->count);
  pg_par_for(ctx, units, pg_grain(work), fold_units, &j);
  if (j.pieces == 1) return PG_OK;
  for (int64_t t = 0; t < j.tasks; t++) {
    int64_t first = t, n = 1;
    if (j.by_col) {
      first = t / j.blocks * p->ksize[0] + t % j.blocks * FOLD_BLOCK;
      n = pg_min64(FOLD_BLOCK, p->ksize[0] - t % j.blocks * FOLD_BLOCK);
    }
    const fold_acc *part = j.part + t * j.pieces * width;
    for (int64_t i = 0; i < n; i++) acc[first + i] = part[i];
    for (int64_t c = 1; c < j.pieces; c++) k->join(n, acc + first, part + c * width);
  }
  pg_free(ctx, j.part, bytes);
  return PG_OK;
}

/* The kernels of one fold. T: element; L: lane, in which neighbours are joined by LOP; A: field F
 * of fold_acc, joined by AOP; MAP(v, k): element as a lane, k its shift if SHIFTED. A row is folded
 * into 64 lanes (32 or 8 if it is short), eight elements as a tree at a time, and the lanes in
 * halves. */
#define FOLD_MAP8(MAP, LOP, x, at, s, k)                                  \
  LOP(LOP(LOP(MAP((x)[at], k), MAP((x)[(at) + (s)], k)),                  \
          LOP(MAP((x)[(at) + 2 * (s)], k), MAP((x)[(at) + 3 * (s)], k))), \
      LOP(LOP(MAP((x)[(at) + 4 * (s)], k), MAP((x)[(at) + 5 * (s)], k)),  \
          LOP(MAP((x)[(at) + 6 * (s)], k), MAP((x)[(at) + 7 * (s)], k))))

#define FOLD_KERNELS(name, T, L, A, F, MAP, LOP, AOP, SHIFTED)                                     \
  static void name##_row(int64_t n, int64_t s, const void *px, const double *shift,                \
                         fold_acc *acc) {                                                          \
    const T *restrict x = px;                                                                      \
    const L k = SHIFTED ? (L)*shift : (L)0;                                                        \
    A a = acc->F;                                                                                  \
    (void)k, (void)shift;                                                                          \
    if (s == 1 && n >= 32 && n < FOLD_SHORT) {                                                     \
      L t[32];                                                                                     \
      int64_t i = 32;                                                                              \
      for (int j = 0; j < 32; j++) t[j] = MAP(x[j], k);                                            \
      for (; i + 32 <= n; i += 32)                                                                 \
        for (int j = 0; j < 32; j++) t[j] = LOP(t[j], MAP(x[i + j], k));                           \
      LANES_HALF(t, 16, LOP);                                                                      \
      LANES_HALF(t, 8, LOP);                                                                       \
      LANES_FOLD8(t, LOP);                                                                         \
      a = AOP(a, (A)t[0]);                                                                         \
      x += i;                                                                                      \
      n -= i;                                                                                      \
    }                                                                                              \
    while (s == 1 && n >= LANES) {                                                                 \
      L t[LANES];                                                                                  \
      int64_t i, m = n < 65536 ? n : 65536;                                                        \
      for (int j = 0; j < LANES; j++) t[j] = MAP(x[j], k);                                         \
      for (i = LANES; i + 8 * LANES <= m; i += 8 * LANES)                                          \
        for (int j = 0; j < LANES; j++) t[j] = LOP(t[j], FOLD_MAP8(MAP, LOP, x, i + j, LANES, k)); \
      for (; i + LANES <= m; i += LANES)                                                           \
        for (int j = 0; j < LANES; j++) t[j] = LOP(t[j], MAP(x[i + j], k));                        \
      for (int64_t j = 0; j < m - i; j++) t[j] = LOP(t[j], MAP(x[i + j], k));                      \
      LANES_FOLD(t, LOP);                                                                          \
      a = AOP(a, (A)t[0]);                                                                         \
      x += m;                                                                                      \
      n -= m;                                                                                      \
    }                                                                                              \
    if (s == 1 && n >= 8) {                                                                        \
      L t[8];                                                                                      \
      for (int j = 0; j < 8; j++) t[j] = MAP(x[j], k);                                             \
      for (x += 8, n -= 8; n >= 8; x += 8, n -= 8)                                                 \
        for (int j = 0; j < 8; j++) t[j] = LOP(t[j], MAP(x[j], k));                                \
      LANES_FOLD8(t, LOP);                                                                         \
      a = AOP(a, (A)t[0]);                                                                         \
    }                                                                                              \
    for (int64_t i = 0; i < n; i++) a = AOP(a, (A)MAP(x[i * s], k));                               \
    acc->F = a;                                                                                    \
  }                                                                                                \
  static void name##_col(int64_t rows, int64_t rs, int64_t n, int64_t s, const void *px,           \
                         const double *restrict shift, fold_acc *restrict acc) {                   \
    const T *restrict x = px;                                                                      \
    for (; rows >= 8; rows -= 8, x += 8 * rs) {                                                    \
      if (s == 1) {                                                                                \
        PG_IVDEP for (int64_t i = 0; i < n; i++) {                                                 \
          const L k = SHIFTED ? (L)shift[i] : (L)0;                                                \
          (void)k;                                                                                 \
          acc[i].F = AOP(acc[i].F, (A)FOLD_MAP8(MAP, LOP, x, i, rs, k));                           \
        }                                                                                          \
      } else {                                                                                     \
        for (int64_t i = 0; i < n; i++) {                                                          \
          const L k = SHIFTED ? (L)shift[i] : (L)0;                                                \
          (void)k;                                                                                 \
          acc[i].F = AOP(acc[i].F, (A)FOLD_MAP8(MAP, LOP, x, i * s, rs, k));                       \
        }                                                                                          \
      }                                                                                            \
    }                                                                                              \
    for (; rows > 0; rows--, x += rs)                                                              \
      for (int64_t i = 0; i < n; i++) {                                                            \
        const L k = SHIFTED ? (L)shift[i] : (L)0;                                                  \
        (void)k;                                                                                   \
        acc[i].F = AOP(acc[i].F, (A)MAP(x[i * s], k));                                             \
      }                                                                                            \
  }

/* FOLD_JOIN(add_f, double, f, fold_add_f64) -> add_f_join: shared by folds with this AOP. */
#define FOLD_JOIN(name, F, AOP)                                                                \
  static void name##_join(int64_t n, fold_acc *restrict acc, const fold_acc *restrict other) { \
    for (int64_t i = 0; i < n; i++) acc[i].F = AOP(acc[i].F, other[i].F);                      \
  }

/* FOLD_OPS(f32, float, a != a ? a : m) -> fold_add_f32 ...; max and min of floats keep NaN. */
#define FOLD_OPS(suffix, T, RESULT)                                  \
  static inline T fold_add_##suffix(T a, T b) { return (T)(a + b); } \
  static inline T fold_mul_##suffix(T a, T b) { return (T)(a * b); } \
  static inline T fold_max_##suffix(T a, T b) {                      \
    T m = a > b ? a : b;                                             \
    return RESULT;                                                   \
  }                                                                  \
  static inline T fold_min_##suffix(T a, T b) {                      \
    T m = a < b ? a : b;                                             \
    return RESULT;                                                   \
  }
FOLD_OPS(f32, float, a != a ? a : m)
FOLD_OPS(f64, double, a != a ? a : m)
FOLD_OPS(i64, int64_t, m)
FOLD_OPS(u64, uint64_t, m)
FOLD_OPS(u32, uint32_t, m)
FOLD_OPS(u8, uint8_t, m)

#endif
