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

/* row: *acc = *acc joined with n elements x[i s]. rows: acc[r] = acc[r] joined with n elements
 * x[r rs + i], n < FOLD_SHORT, where joining with `start` changes nothing. col: acc[j] = acc[j]
 * joined with x[r rs + j s] of all rows, j < n. join: acc[j] = acc[j] joined with other[j]. shift
 * has a value per output (NULL where the kernel has no use for it). */
typedef struct fold_kern {
  void (*row)(int64_t n, int64_t s, const void *x, const double *shift, fold_acc start,
              fold_acc *acc);
  void (*rows)(int64_t rows, int64_t rs, int64_t n, const void *x, const double *shift,
               fold_acc start, fold_acc *acc);
  void (*col)(int64_t rows, int64_t rs, int64_t n, int64_t s, const void *x, const double *shift,
              fold_acc *acc);
  void (*join)(int64_t n, fold_acc *acc, const fold_acc *other);
  fold_acc start;
} fold_kern;

/* A walk over all elements. put takes the results acc[0 .. n) of outputs [first, first + n) over,
 * from any thread, and may change them. */
typedef struct fold_stage {
  const fold_kern *k;
  void (*put)(void *to, int64_t first, int64_t n, fold_acc *acc);
} fold_stage;

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
  FOLD_SHORT = 1024,
  FOLD_ROWS = 16,
  FOLD_CHUNK = 16384
};

/* How the work is cut. A task is a block of neighbouring outputs; it is cut into `pieces` along the
 * reduced elements where tasks alone would be few. */
typedef struct fold_job {
  const fold_plan *p;
  const fold_stage *from, *end; /* the stages to run */
  const double *shift;          /* a value per output, for stages past the first */
  bool shifted;                 /* `from` is past the first */
  void *to;
  fold_acc *part; /* results of the pieces, `width` each; NULL where a piece is all of a task */
  bool by_col;
  int64_t block, blocks, width, tasks; /* blocks of a run of kept dim 0 */
  int64_t outer;                       /* combinations of the reduced dims past the first */
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

/* The outputs of a task: their number, the first of them, and where that starts in x. */
static inline int64_t fold_task(const fold_job *j, int64_t task, int64_t *first, int64_t *at) {
  const fold_plan *p = j->p;
  int64_t run = task / j->blocks, j0 = task % j->blocks * j->block;
  *first = run * p->ksize[0] + j0;
  *at = fold_offset(run, 1, p->nk, p->ksize, p->kx) + j0 * p->kx[0];
  return pg_min64(j->block, p->ksize[0] - j0);
}

/* acc[i] = output i of n, over this piece of its elements; x is where output 0 starts. */
static inline void fold_piece(const fold_job *j, const fold_kern *k, const double *shift,
                              int64_t piece, int64_t n, const char *x, fold_acc *acc) {
  const fold_plan *p = j->p;
  int64_t q0 = piece / j->cuts * j->group, q1 = pg_min64(j->outer, q0 + j->group);
  int64_t r0 = piece % j->cuts * j->length, rows = pg_min64(p->rsize[0] - r0, j->length);
  const fold_acc start = k->start;
  for (int64_t i = 0; i < n; i++) acc[i].u = start.u;
  for (int64_t q = q0; q < q1; q++) {
    int64_t o = r0 * p->rx[0] + (q ? fold_offset(q, 1, p->nr, p->rsize, p->rx) : 0);
    const char *at = x + o * p->esize;
    if (!j->by_col && p->rx[0] == 1 && rows < FOLD_SHORT) {
      k->rows(n, p->kx[0], rows, at, shift, start, acc);
    } else if (!j->by_col) {
      for (int64_t i = 0; i < n; i++)
        k->row(rows, p->rx[0], at + i * p->kx[0] * p->esize, shift ? shift + i : NULL, start,
               acc + i);
    } else if (n < FOLD_NARROW && n == p->rx[0] && p->kx[0] == 1 && !shift && rows >= 64) {
      fold_narrow(k, rows, n, at, p->esize, acc);
    } else {
      k->col(rows, p->rx[0], n, p->kx[0], at, shift, acc);
    }
  }
}

static inline void fold_units(void *arg, int64_t begin, int64_t end) {
  const fold_job *j = arg;
  fold_acc room[FOLD_BLOCK];
  for (int64_t u = begin; u < end; u++) {
    int64_t first, at, n = fold_task(j, u / j->pieces, &first, &at);
    fold_acc *acc = j->part ? j->part + u * j->width : room;
    for (const fold_stage *s = j->from; s < j->end; s++) {
      const double *shift = s > j->from || j->shifted ? j->shift + first : NULL;
      fold_piece(j, s->k, shift, u % j->pieces, n, j->p->x + at * j->p->esize, acc);
      if (!j->part) s->put(j->to, first, n, acc);
    }
  }
}

/* Walks x once for each stage, in order; every output's result of one stage is put before its next.
 * The kernels of stages past the first see shift. */
static inline pg_status fold_run(pg_ctx *ctx, const fold_plan *p, int stages,
                                 const fold_stage *stage, const double *shift, void *to) {
  if (!p->outputs) return PG_OK;
  if (!p->count) {
    fold_acc none[FOLD_BLOCK];
    for (int s = 0; s < stages; s++)
      for (int64_t first = 0; first < p->outputs; first += FOLD_BLOCK) {
        int64_t n = pg_min64(FOLD_BLOCK, p->outputs - first);
        for (int64_t i = 0; i < n; i++) none[i] = stage[s].k->start;
        stage[s].put(to, first, n, none);
      }
    return PG_OK;
  }
  fold_job j = {.p = p, .from = stage, .end = stage + stages, .shift = shift, .to = to};
  j.by_col =
      p->outputs > 1 && (fold_rank(p->kx[0]) < fold_rank(p->rx[0]) ||
                         (p->rx[0] != 1 && p->rsize[0] < FOLD_ROWS && p->ksize[0] >= FOLD_ROWS));
  const int64_t least_rows = p->rsize[0] < FOLD_SHORT ? FOLD_ROWS : 1;
  j.block = FOLD_BLOCK;
  if (!j.by_col) j.block = pg_max64(least_rows, pg_min64(FOLD_BLOCK, FOLD_PIECE / 2 / p->count));
  j.blocks = (p->ksize[0] + j.block - 1) / j.block;
  j.tasks = p->outputs / p->ksize[0] * j.blocks;
  j.width = pg_min64(j.block, p->ksize[0]);
  j.outer = p->count / p->rsize[0];
  j.group = j.outer;
  j.length = p->rsize[0];
  j.cuts = j.pieces = 1;
  if (j.tasks < 32 && p->count > FOLD_PIECE / j.width) {
    int64_t least = pg_max64(256, FOLD_PIECE / j.width); /* reduced elements in a piece */
    j.group = pg_max64(1, least / p->rsize[0]);
    if (j.group == 1) {
      j.length = pg_min64(p->rsize[0], least);
      j.cuts = (p->rsize[0] + j.length - 1) / j.length;
    }
    j.pieces = (j.outer + j.group - 1) / j.group * j.cuts;
  }
  int64_t units = j.tasks * j.pieces;
  int64_t grain = pg_grain(j.width * pg_min64(j.group * j.length, p->count));
  if (j.pieces == 1) {
    pg_par_for(ctx, units, grain, fold_units, &j);
    return PG_OK;
  }
  size_t bytes = sizeof *j.part * (size_t)(units * j.width);
  PG_TRY(pg_alloc(ctx, bytes, (void **)&j.part));
  for (int s = 0; s < stages; s++) {
    j.from = stage + s;
    j.end = j.from + 1;
    j.shifted = s > 0;
    pg_par_for(ctx, units, grain, fold_units, &j);
    for (int64_t t = 0; t < j.tasks; t++) {
      int64_t first, at, n = fold_task(&j, t, &first, &at);
      fold_acc *acc = j.part + t * j.pieces * j.width;
      for (int64_t c = 1; c < j.pieces; c++) stage[s].k->join(n, acc, acc + c * j.width);
      stage[s].put(to, first, n, acc);
    }
  }
  pg_free(ctx, j.part, bytes);
  return PG_OK;
}

/* The kernels of one fold. T: element; L: lane, in which neighbours are joined by LOP; A: field F
 * of fold_acc, joined by AOP; MAP(v, k): element as a lane, k its shift if SHIFTED. A row is folded
 * into 64 bytes of lanes (16, or 8 of eight bytes), then neighbours among these, for 16 rows at
 * once. TREE 1: eight elements of a column are joined as a tree first; 2: those of a row too, where
 * MAP is short. 0: any number of elements may be joined in a lane, and there is no shift; this is
 * for largest and smallest floats, whose trees gcc does not vectorise. */
#define FOLD_MAP2(MAP, LOP, x, at, s, k) LOP(MAP((x)[at], k), MAP((x)[(at) + (s)], k))
#define FOLD_MAP4(MAP, LOP, x, at, s, k)             \
  LOP(LOP(MAP((x)[at], k), MAP((x)[(at) + (s)], k)), \
      LOP(MAP((x)[(at) + 2 * (s)], k), MAP((x)[(at) + 3 * (s)], k)))
#define FOLD_MAP8(MAP, LOP, x, at, s, k) \
  LOP(FOLD_MAP4(MAP, LOP, x, at, s, k), FOLD_MAP4(MAP, LOP, x, (at) + 4 * (s), s, k))

/* Joins N rows x[r rs + i s] as a tree with acc[i], i < n. */
#define FOLD_COL(N, LOP, L, A, F, MAP, AOP, SHIFTED)                         \
  do {                                                                       \
    if (s == 1) {                                                            \
      PG_IVDEP for (int64_t i = 0; i < n; i++) {                             \
        const L k = SHIFTED ? (L)shift[i] : (L)0;                            \
        (void)k;                                                             \
        acc[i].F = AOP(acc[i].F, (A)FOLD_MAP##N(MAP, LOP, x, i, rs, k));     \
      }                                                                      \
    } else {                                                                 \
      for (int64_t i = 0; i < n; i++) {                                      \
        const L k = SHIFTED ? (L)shift[i] : (L)0;                            \
        (void)k;                                                             \
        acc[i].F = AOP(acc[i].F, (A)FOLD_MAP##N(MAP, LOP, x, i * s, rs, k)); \
      }                                                                      \
    }                                                                        \
  } while (0)

/* u[i] = t[2 i] and t[2 i + 1] joined, i < n. */
#define FOLD_PAIRS(n, t, u, LOP) \
  LANES_LOOP for (int i = 0; i < (n); i++)(u)[i] = LOP((t)[2 * i], (t)[2 * i + 1])

#define FOLD_KERNELS(name, T, L, A, F, MAP, LOP, AOP, SHIFTED, TREE)                              \
  enum { name##_width = sizeof(L) > 4 ? 8 : 16 };                                                 \
  /* t = n elements of a row, joined in lanes. */                                                 \
  static inline void name##_lanes(int64_t n, const T *restrict x, L k, L none, L *restrict t) {   \
    enum { W = name##_width };                                                                    \
    int64_t i = 0;                                                                                \
    (void)k;                                                                                      \
    if (TREE == 2 && n >= 8 * W) {                                                                \
      LANES_LOOP for (int j = 0; j < W; j++) t[j] = FOLD_MAP8(MAP, LOP, x, j, W, k);              \
      for (i = 8 * W; i + 8 * W <= n; i += 8 * W)                                                 \
        LANES_LOOP for (int j = 0; j < W; j++) t[j] =                                             \
            LOP(t[j], FOLD_MAP8(MAP, LOP, x, i + j, W, k));                                       \
    } else if (TREE < 2 && n >= 4 * W) {                                                          \
      L w[4 * W];                                                                                 \
      LANES_LOOP for (int j = 0; j < 4 * W; j++) w[j] = MAP(x[j], k);                             \
      for (i = 4 * W; i + 4 * W <= n; i += 4 * W)                                                 \
        LANES_LOOP for (int j = 0; j < 4 * W; j++) w[j] = LOP(w[j], MAP(x[i + j], k));            \
      LANES_LOOP for (int j = 0; j < 2 * W; j++) w[j] = LOP(w[j], w[j + 2 * W]);                  \
      LANES_LOOP for (int j = 0; j < W; j++) t[j] = LOP(w[j], w[j + W]);                          \
    } else if (n >= W) {                                                                          \
      LANES_LOOP for (int j = 0; j < W; j++) t[j] = MAP(x[j], k);                                 \
      i = W;                                                                                      \
    } else {                                                                                      \
      LANES_LOOP for (int j = 0; j < W; j++) t[j] = none;                                         \
    }                                                                                             \
    if (TREE == 2 && i + 4 * W <= n) {                                                            \
      LANES_LOOP for (int j = 0; j < W; j++) t[j] =                                               \
          LOP(t[j], FOLD_MAP4(MAP, LOP, x, i + j, W, k));                                         \
      i += 4 * W;                                                                                 \
    }                                                                                             \
    for (; i + W <= n; i += W)                                                                    \
      LANES_LOOP for (int j = 0; j < W; j++) t[j] = LOP(t[j], MAP(x[i + j], k));                  \
    if (i < n) {                                                                                  \
      const int left = (int)(n - i);                                                              \
      LANES_LOOP for (int j = 0; j < W; j++) {                                                    \
        L v = t[j];                                                                               \
        if (j < left) v = LOP(v, MAP(x[i + j], k));                                               \
        t[j] = v;                                                                                 \
      }                                                                                           \
    }                                                                                             \
  }                                                                                               \
  static void name##_rows(int64_t rows, int64_t rs, int64_t n, const void *px,                    \
                          const double *restrict shift, fold_acc start, fold_acc *restrict acc) { \
    enum { W = name##_width };                                                                    \
    const T *x = px;                                                                              \
    const L none = (L)start.F;                                                                    \
    L t[16 * FOLD_ROWS], u[8 * FOLD_ROWS], *lanes = W == 16 ? t : u;                              \
    (void)shift;                                                                                  \
    for (int i = 0; i < W * FOLD_ROWS; i++) lanes[i] = none;                                      \
    for (; rows > 0; rows -= FOLD_ROWS, acc += FOLD_ROWS) {                                       \
      const int m = rows < FOLD_ROWS ? (int)rows : FOLD_ROWS;                                     \
      for (int r = 0; r < m; r++, x += rs)                                                        \
        name##_lanes(n, x, SHIFTED ? (L)*shift++ : (L)0, none, lanes + W * r);                    \
      if (W == 16) FOLD_PAIRS(8 * FOLD_ROWS, t, u, LOP);                                          \
      FOLD_PAIRS(4 * FOLD_ROWS, u, t, LOP);                                                       \
      FOLD_PAIRS(2 * FOLD_ROWS, t, u, LOP);                                                       \
      FOLD_PAIRS(FOLD_ROWS, u, t, LOP);                                                           \
      if (m == FOLD_ROWS)                                                                         \
        LANES_LOOP for (int r = 0; r < FOLD_ROWS; r++) acc[r].F = AOP(acc[r].F, (A)t[r]);         \
      else                                                                                        \
        for (int r = 0; r < m; r++) acc[r].F = AOP(acc[r].F, (A)t[r]);                            \
    }                                                                                             \
  }                                                                                               \
  static void name##_row(int64_t n, int64_t s, const void *px, const double *shift,               \
                         fold_acc start, fold_acc *acc) {                                         \
    const T *restrict x = px;                                                                     \
    const L k = SHIFTED ? (L)*shift : (L)0;                                                       \
    (void)k, (void)shift;                                                                         \
    if (s != 1) {                                                                                 \
      for (int64_t i = 0; i < n; i++) acc->F = AOP(acc->F, (A)MAP(x[i * s], k));                  \
      return;                                                                                     \
    }                                                                                             \
    for (; n > 0; n -= FOLD_CHUNK, x += FOLD_CHUNK) {                                             \
      L t[16];                                                                                    \
      name##_lanes(n < FOLD_CHUNK ? n : FOLD_CHUNK, x, k, (L)start.F, t);                         \
      if (name##_width == 16) LANES_HALF(t, 8, LOP);                                              \
      LANES_FOLD8(t, LOP);                                                                        \
      acc->F = AOP(acc->F, (A)t[0]);                                                              \
    }                                                                                             \
  }                                                                                               \
  static void name##_col(int64_t rows, int64_t rs, int64_t n, int64_t s, const void *px,          \
                         const double *restrict shift, fold_acc *restrict acc) {                  \
    const T *restrict x = px;                                                                     \
    for (; TREE && rows >= 8; rows -= 8, x += 8 * rs)                                             \
      FOLD_COL(8, LOP, L, A, F, MAP, AOP, SHIFTED);                                               \
    for (; TREE && rows >= 2; rows -= 2, x += 2 * rs)                                             \
      FOLD_COL(2, LOP, L, A, F, MAP, AOP, SHIFTED);                                               \
    if (!TREE && s == 1 && rows >= 2) {                                                           \
      L w[FOLD_BLOCK];                                                                            \
      PG_ASSERT(n <= FOLD_BLOCK);                                                                 \
      for (int64_t i = 0; i < n; i++) w[i] = MAP(x[i], 0);                                        \
      for (rows--, x += rs; rows > 0; rows--, x += rs)                                            \
        for (int64_t i = 0; i < n; i++) w[i] = LOP(w[i], MAP(x[i], 0));                           \
      for (int64_t i = 0; i < n; i++) acc[i].F = AOP(acc[i].F, (A)w[i]);                          \
    }                                                                                             \
    for (; rows > 0; rows--, x += rs)                                                             \
      for (int64_t i = 0; i < n; i++) {                                                           \
        const L k = SHIFTED ? (L)shift[i] : (L)0;                                                 \
        (void)k;                                                                                  \
        acc[i].F = AOP(acc[i].F, (A)MAP(x[i * s], k));                                            \
      }                                                                                           \
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
