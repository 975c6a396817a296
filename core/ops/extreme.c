/* Selections along a dim that know where they come from: max, min, argmax, argmin, median. Indices
 * count from 1. Relies on reduction.h. Spec: spec/ops/extreme_spec.lua. */
#include "ops/reduction.h"

/* --- kernels: the first largest (smallest) element, NaN above all ------------------------------
 */

enum { BLOCK = 256, PIECE = 65536, SCAN = 64 };

typedef struct found {
  union {
    float f32;
    double f64;
    int64_t i64;
    uint8_t u8;
  } v;
  int64_t at; /* from 0 */
} found;

/* row: r = first best of n >= 1 elements x[i s]. col: value[j], at[j] likewise down the rows
 * x[i rs + j s], j < n <= BLOCK. */
typedef struct select_kern {
  void (*row)(int64_t n, int64_t s, const void *x, found *r);
  void (*col)(int64_t rows, int64_t rs, int64_t n, int64_t s, const void *x, void *value,
              int64_t *at);
} select_kern;

/* name_lanes32(n, x): the best of n >= 32 elements, in 32 lanes. */
#define SELECT_LANES(name, T, BETTER, N)                                                 \
  static inline T name##_lanes##N(int64_t n, const T *restrict x) {                      \
    T t[N];                                                                              \
    int64_t i = N;                                                                       \
    for (int64_t j = 0; j < N; j++) t[j] = x[j];                                         \
    for (; i + N <= n; i += N)                                                           \
      for (int64_t j = 0; j < N; j++) t[j] = BETTER(x[i + j], t[j]) ? x[i + j] : t[j];   \
    for (int64_t j = 0; j < n - i; j++) t[j] = BETTER(x[i + j], t[j]) ? x[i + j] : t[j]; \
    LANES_HALF(t, N / 2, name##_pick);                                                   \
    LANES_HALF(t, N / 4, name##_pick);                                                   \
    if (N > 32) LANES_HALF(t, 8, name##_pick);                                           \
    T nan = t[0];                                                                        \
    for (int64_t j = 1; j < 8; j++) nan = t[j] != t[j] ? t[j] : nan;                     \
    LANES_FOLD8(t, name##_beyond);                                                       \
    return nan != nan ? nan : t[0];                                                      \
  }

#define SELECT(name, T, F, BETTER, OP)                                                   \
  static inline T name##_pick(T a, T b) { return BETTER(b, a) ? b : a; }                 \
  static inline T name##_beyond(T a, T b) { return a OP b ? a : b; }                     \
  SELECT_LANES(name, T, BETTER, 32)                                                      \
  SELECT_LANES(name, T, BETTER, 64)                                                      \
  /* Where the best of n elements lies first. */                                         \
  static inline int64_t name##_place(int64_t n, const T *restrict x, T best) {           \
    int64_t i = 0;                                                                       \
    for (; i + SCAN <= n; i += SCAN) {                                                   \
      int32_t at = SCAN;                                                                 \
      for (int32_t j = 0; j < SCAN; j++) {                                               \
        const int32_t here = BETTER(best, x[i + j]) ? SCAN : j;                          \
        at = here < at ? here : at;                                                      \
      }                                                                                  \
      if (at < SCAN) return i + at;                                                      \
    }                                                                                    \
    while (BETTER(best, x[i])) i++;                                                      \
    return i;                                                                            \
  }                                                                                      \
  static void name##_row(int64_t n, int64_t s, const void *px, found *r) {               \
    const T *restrict x = px;                                                            \
    if (s == 1 && n >= LANES) {                                                          \
      r->v.F = n < 8 * LANES ? name##_lanes32(n, x) : name##_lanes64(n, x);              \
      r->at = name##_place(n, x, r->v.F); /* 0 and -0 are equal: take what lies there */ \
      r->v.F = x[r->at];                                                                 \
      return;                                                                            \
    }                                                                                    \
    T best = x[0];                                                                       \
    int64_t at = 0;                                                                      \
    for (int64_t i = 1; i < n; i++) {                                                    \
      T v = x[i * s];                                                                    \
      bool take = BETTER(v, best);                                                       \
      best = take ? v : best;                                                            \
      at = take ? i : at;                                                                \
    }                                                                                    \
    r->v.F = best;                                                                       \
    r->at = at;                                                                          \
  }                                                                                      \
  static void name##_col(int64_t rows, int64_t rs, int64_t n, int64_t s, const void *px, \
                         void *pvalue, int64_t *restrict at) {                           \
    const T *restrict x = px;                                                            \
    T *restrict best = pvalue;                                                           \
    for (int64_t j = 0; j < n; j++) {                                                    \
      best[j] = x[j * s];                                                                \
      at[j] = 0;                                                                         \
    }                                                                                    \
    for (int64_t i = 1; i < rows; i++) {                                                 \
      x += rs;                                                                           \
      for (int64_t j = 0; j < n; j++) {                                                  \
        T v = x[j * s], b = best[j];                                                     \
        bool take = BETTER(v, b);                                                        \
        best[j] = take ? v : b;                                                          \
        at[j] = take ? i : at[j];                                                        \
      }                                                                                  \
    }                                                                                    \
  }

/* NaN is better than any number, and no NaN is better than another. */
#define ABOVE(a, b)     (!((a) <= (b)) & ((b) == (b)))
#define BELOW(a, b)     (!((a) >= (b)) & ((b) == (b)))
#define ABOVE_INT(a, b) ((a) > (b))
#define BELOW_INT(a, b) ((a) < (b))
SELECT(max_f32, float, f32, ABOVE, >)
SELECT(max_f64, double, f64, ABOVE, >)
SELECT(max_i64, int64_t, i64, ABOVE_INT, >)
SELECT(max_u8, uint8_t, u8, ABOVE_INT, >)
SELECT(min_f32, float, f32, BELOW, <)
SELECT(min_f64, double, f64, BELOW, <)
SELECT(min_i64, int64_t, i64, BELOW_INT, <)
SELECT(min_u8, uint8_t, u8, BELOW_INT, <)

static const select_kern max_kern[PG_NDTYPES] = {[PG_F32] = {max_f32_row, max_f32_col},
                                                 [PG_F64] = {max_f64_row, max_f64_col},
                                                 [PG_I64] = {max_i64_row, max_i64_col},
                                                 [PG_U8] = {max_u8_row, max_u8_col},
                                                 [PG_BOOL] = {max_u8_row, max_u8_col}};
static const select_kern min_kern[PG_NDTYPES] = {[PG_F32] = {min_f32_row, min_f32_col},
                                                 [PG_F64] = {min_f64_row, min_f64_col},
                                                 [PG_I64] = {min_i64_row, min_i64_col},
                                                 [PG_U8] = {min_u8_row, min_u8_col},
                                                 [PG_BOOL] = {min_u8_row, min_u8_col}};

/* --- walks -------------------------------------------------------------------------------------
 */

typedef struct select_job {
  const fold_plan *p;
  const select_kern *k;
  int64_t blocks; /* column walk: blocks of kept dim 0; 0: row walk */
  char *value;    /* NULL where only the indices are wanted */
  int64_t *index;
} select_job;

static void put(const select_job *j, int64_t at, const void *value, int64_t idx) {
  if (j->value) memcpy(j->value + at * j->p->esize, value, (size_t)j->p->esize);
  if (j->index) j->index[at] = idx + 1;
}

static void select_rows(void *arg, int64_t begin, int64_t end) {
  const select_job *j = arg;
  const fold_plan *p = j->p;
  for (int64_t m = begin; m < end; m++) {
    found r;
    j->k->row(p->rsize[0], p->rx[0], p->x + fold_offset(m, 0, p->nk, p->ksize, p->kx) * p->esize,
              &r);
    put(j, fold_offset(m, 0, p->nk, p->ksize, p->ko), &r.v, r.at);
  }
}

static void select_columns(void *arg, int64_t begin, int64_t end) {
  const select_job *j = arg;
  const fold_plan *p = j->p;
  for (int64_t u = begin; u < end; u++) {
    int64_t run = u / j->blocks, j0 = u % j->blocks * BLOCK;
    int64_t n = pg_min64(BLOCK, p->ksize[0] - j0), at[BLOCK];
    double value[BLOCK];
    int64_t from = fold_offset(run, 1, p->nk, p->ksize, p->kx) + j0 * p->kx[0];
    int64_t to = fold_offset(run, 1, p->nk, p->ksize, p->ko) + j0 * p->ko[0];
    j->k->col(p->rsize[0], p->rx[0], n, p->kx[0], p->x + from * p->esize, value, at);
    for (int64_t i = 0; i < n; i++)
      put(j, to + i * p->ko[0], (const char *)value + i * p->esize, at[i]);
  }
}

/* value, index (either may be NULL, same layout): the best of x along dim. */
static void select_dim(pg_ctx *ctx, const select_kern *kerns, const pg_tensor *x, int dim,
                       pg_tensor *value, pg_tensor *index) {
  const pg_tensor *out = value ? value : index;
  int64_t stride[PG_MAX_DIMS];
  bool keep = out->nd == x->nd;
  for (int i = 0, k = 0; i < x->nd; i++) {
    stride[i] = 0;
    if (i != dim) stride[i] = out->stride[keep ? i : k++];
  }
  fold_plan p;
  fold_plan_make(&p, x, x->nd ? 1u << dim : 0, stride);
  if (!p.outputs) return;
  select_job j = {&p, &kerns[x->dtype], 0, value ? pg_data(value) : NULL,
                  index ? pg_data(index) : NULL};
  if (p.outputs > 1 &&
      (fold_rank(p.kx[0]) < fold_rank(p.rx[0]) || (p.rsize[0] < 16 && p.ksize[0] >= 16))) {
    j.blocks = (p.ksize[0] + BLOCK - 1) / BLOCK;
    pg_par_for(ctx, p.outputs / p.ksize[0] * j.blocks,
               pg_grain(pg_min64(BLOCK, p.ksize[0]) * p.rsize[0]), select_columns, &j);
  } else {
    pg_par_for(ctx, p.outputs, pg_grain(p.rsize[0]), select_rows, &j);
  }
}

typedef struct whole_job {
  const select_kern *k;
  const char *x;
  int64_t n, esize;
  char *value;
  int64_t *index;
} whole_job;

static void select_pieces(void *arg, int64_t begin, int64_t end) {
  const whole_job *j = arg;
  for (int64_t u = begin; u < end; u++) {
    found r;
    j->k->row(pg_min64(PIECE, j->n - u * PIECE), 1, j->x + u * PIECE * j->esize, &r);
    memcpy(j->value + u * j->esize, &r.v, (size_t)j->esize);
    j->index[u] = u * PIECE + r.at;
  }
}

/* The best of all of x in its logical order: by pieces, then the best of those. */
static pg_status select_whole(pg_ctx *ctx, const select_kern *kerns, pg_tensor *x, found *r) {
  pg_tensor *t = NULL;
  PG_TRY(pg__contiguous(ctx, x, &t));
  whole_job j = {
      &kerns[x->dtype], pg_data(t), pg_numel(t), (int64_t)pg_dtype_size(x->dtype), NULL, NULL};
  pg_status s = PG_OK;
  if (j.n <= PIECE) {
    j.k->row(j.n, 1, j.x, r);
  } else {
    int64_t pieces = (j.n + PIECE - 1) / PIECE;
    size_t bytes = (sizeof *j.index + sizeof(double)) * (size_t)pieces;
    s = pg_alloc(ctx, bytes, (void **)&j.index);
    if (s == PG_OK) {
      j.value = (char *)(j.index + pieces);
      pg_par_for(ctx, pieces, 1, select_pieces, &j);
      j.k->row(pieces, 1, j.value, r);
      r->at = j.index[r->at];
      pg_free(ctx, j.index, bytes);
    }
  }
  pg_tensor_unref(t);
  return s;
}

/* --- max, min: arg dim?, keepdim ---------------------------------------------------------------
 */

static pg_status not_empty(pg_call *c, unsigned mask) {
  PG_TRY(pg_want(c, 0, PG_M_NUM | PG_M_BOOL));
  return reduction_not_empty(c, mask);
}

static pg_status infer_select(pg_call *c) {
  pg_tensor *x = c->in[0];
  pg_dtype d = (pg_dtype)x->dtype;
  if (!c->arg[0].set) {
    PG_TRY(not_empty(c, (1u << x->nd) - 1));
    c->nout = 1;
    return pg_out_shape(c, 0, d, 0, NULL);
  }
  int dim;
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  PG_TRY(not_empty(c, 1u << dim));
  PG_TRY(reduction_out(c, 0, d, 1u << dim, c->arg[1].i != 0));
  return reduction_out(c, 1, PG_I64, 1u << dim, c->arg[1].i != 0);
}

static pg_status forward_select(pg_call *c, const select_kern *kerns) {
  pg_tensor *x = c->in[0];
  if (c->arg[0].set) {
    select_dim(c->ctx, kerns, x, reduction_dim(c, x->nd), c->out[0], c->out[1]);
    return PG_OK;
  }
  found r;
  PG_TRY(select_whole(c->ctx, kerns, x, &r));
  memcpy(pg_data(c->out[0]), &r.v, pg_dtype_size((pg_dtype)x->dtype));
  return PG_OK;
}

static pg_status forward_max(pg_call *c) { return forward_select(c, max_kern); }
static pg_status forward_min(pg_call *c) { return forward_select(c, min_kern); }

/* gin[0] = zeros with g at the indices in out[1]; without a dim, shared among equals. */
static pg_status backward_select(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  pg_tensor *g = c->gout[0];
  if (!g) return PG_OK;
  pg_chain k = {.ctx = c->ctx};
  if (!c->arg[0].set) {
    reduction_share(c, &k, c->in[0], c->out[0], g, (1u << m->nd) - 1, SHARE_NAN);
    return pg_chain_end(&k);
  }
  int dim = reduction_dim(c, m->nd);
  unsigned mask = m->nd ? 1u << dim : 0;
  pg_tensor *gin = NULL, *idx = NULL, *wide = NULL;
  k.status = pg_tensor_zeros(c->ctx, (pg_dtype)m->dtype, m->nd, m->shape, &gin);
  if (k.status == PG_OK) k.status = reduction_widen(c, g, mask, false, &wide);
  if (k.status == PG_OK) {
    bool recording = c->recording;
    c->recording = false; /* indices have no graph */
    k.status = reduction_widen(c, c->out[1], mask, false, &idx);
    c->recording = recording;
  }
  if (k.status != PG_OK) goto done;
  if (c->recording) {
    pg_chain_give(&k, PG_STEP(&k, "scatter", "titt", gin, (int64_t)(dim + 1), idx, wide),
                  &c->gin[0]);
    goto done;
  }
  int64_t n = pg_numel(wide);
  for (int64_t e = 0; e < n; e++) {
    int64_t rest = e, to = 0, at_idx = 0, at_g = 0;
    for (int i = m->nd - 1; i >= 0; i--) {
      int64_t at = rest % wide->shape[i];
      rest /= wide->shape[i];
      to += at * gin->stride[i];
      at_idx += at * idx->stride[i];
      at_g += at * wide->stride[i];
    }
    to += (((const int64_t *)pg_data(idx))[at_idx] - 1) * (m->nd ? gin->stride[dim] : 0);
    if (m->dtype == PG_F32) ((float *)pg_data(gin))[to] = ((const float *)pg_data(wide))[at_g];
    else ((double *)pg_data(gin))[to] = ((const double *)pg_data(wide))[at_g];
  }
  c->gin[0] = pg_tensor_ref(gin);
done:
  pg_tensor_unref(wide);
  pg_tensor_unref(idx);
  pg_tensor_unref(gin);
  return pg_chain_end(&k);
}

/* --- argmax, argmin: arg dim?, keepdim ---------------------------------------------------------
 */

static pg_status infer_arg(pg_call *c) {
  pg_tensor *x = c->in[0];
  unsigned mask = (1u << x->nd) - 1;
  if (c->arg[0].set) {
    int dim;
    PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
    mask = 1u << dim;
  }
  PG_TRY(not_empty(c, mask));
  return reduction_out(c, 0, PG_I64, mask, c->arg[1].i != 0);
}

static pg_status forward_arg(pg_call *c, const select_kern *kerns) {
  pg_tensor *x = c->in[0];
  if (c->arg[0].set) {
    select_dim(c->ctx, kerns, x, reduction_dim(c, x->nd), NULL, c->out[0]);
    return PG_OK;
  }
  found r;
  PG_TRY(select_whole(c->ctx, kerns, x, &r));
  *(int64_t *)pg_data(c->out[0]) = r.at + 1;
  return PG_OK;
}

static pg_status forward_argmax(pg_call *c) { return forward_arg(c, max_kern); }
static pg_status forward_argmin(pg_call *c) { return forward_arg(c, min_kern); }

/* --- median: arg dim?, keepdim -----------------------------------------------------------------
 */

typedef struct median_job {
  pg_dtype dtype;
  int64_t n;
  const char *x; /* rows of n */
  char *room;    /* like x */
  char *value;
  int64_t *index; /* may be NULL */
} median_job;

/* MEDIAN(median_f32, float): the lower middle element by quickselect on a copy of the row, NaN if
 * there is one; its place in the row, where equal elements follow each other in the row's order. */
#define MEDIAN(name, T)                                                            \
  static int64_t name(int64_t n, const T *restrict x, T *restrict t, T *value) {   \
    for (int64_t i = 0; i < n; i++)                                                \
      if (!(x[i] == x[i])) {                                                       \
        *value = x[i];                                                             \
        return i;                                                                  \
      }                                                                            \
    memcpy(t, x, sizeof *t *(size_t)n);                                            \
    int64_t k = (n - 1) / 2, lo = 0, hi = n - 1;                                   \
    while (lo < hi) {                                                              \
      T a = t[lo], b = t[(lo + hi) / 2], d = t[hi];                                \
      T pivot = a < b ? (b < d ? b : a < d ? d : a) : (a < d ? a : b < d ? d : b); \
      int64_t i = lo, j = hi;                                                      \
      while (i <= j) {                                                             \
        while (t[i] < pivot) i++;                                                  \
        while (pivot < t[j]) j--;                                                  \
        if (i <= j) {                                                              \
          T swap = t[i];                                                           \
          t[i++] = t[j];                                                           \
          t[j--] = swap;                                                           \
        }                                                                          \
      }                                                                            \
      if (k <= j) hi = j;                                                          \
      else if (k >= i) lo = i;                                                     \
      else break;                                                                  \
    }                                                                              \
    int64_t rank = k, at = -1; /* among the equal ones, in the row's order */      \
    for (int64_t i = 0; i < n; i++) rank -= x[i] < t[k];                           \
    do at += 1;                                                                    \
    while (x[at] != t[k] || rank-- > 0);                                           \
    *value = x[at];                                                                \
    return at;                                                                     \
  }
MEDIAN(median_f32, float)
MEDIAN(median_f64, double)
MEDIAN(median_i64, int64_t)
MEDIAN(median_u8, uint8_t)

#define MEDIAN_ROW(name, T) \
  at = name(j->n, (const T *)j->x + r * j->n, (T *)j->room + r * j->n, (T *)j->value + r)

static void median_rows(void *arg, int64_t begin, int64_t end) {
  const median_job *j = arg;
  for (int64_t r = begin; r < end; r++) {
    int64_t at;
    if (j->dtype == PG_F32) MEDIAN_ROW(median_f32, float);
    else if (j->dtype == PG_F64) MEDIAN_ROW(median_f64, double);
    else if (j->dtype == PG_I64) MEDIAN_ROW(median_i64, int64_t);
    else MEDIAN_ROW(median_u8, uint8_t);
    if (j->index) j->index[r] = at + 1;
  }
}

static pg_status infer_median(pg_call *c) {
  PG_TRY(infer_select(c));
  for (int j = 0; j < c->nout; j++) c->os[j].strided = false; /* rows are written in order */
  return PG_OK;
}

static pg_status forward_median(pg_call *c) {
  pg_tensor *x = c->in[0], *rows = NULL, *room = NULL;
  unsigned mask = (1u << x->nd) - 1;
  if (c->arg[0].set) mask = x->nd ? 1u << reduction_dim(c, x->nd) : 0;
  if (!pg_numel(c->out[0])) return PG_OK;
  pg_status s = reduction_rows(c->ctx, x, mask, &rows);
  if (s == PG_OK) s = pg_tensor_new(c->ctx, (pg_dtype)x->dtype, rows->nd, rows->shape, &room);
  if (s == PG_OK) {
    int64_t n = pg_numel(x) / pg_numel(c->out[0]);
    median_job j = {(pg_dtype)x->dtype, n,
                    pg_data(rows),      pg_data(room),
                    pg_data(c->out[0]), c->nout > 1 ? pg_data(c->out[1]) : NULL};
    pg_par_for(c->ctx, pg_numel(c->out[0]), pg_grain(8 * n), median_rows, &j);
  }
  pg_tensor_unref(room);
  pg_tensor_unref(rows);
  return s;
}

/* --- the table ---------------------------------------------------------------------------------
 */

#define DIM   PG_OPT("dim", PG_DIM), PG_DEF("keepdim", PG_FLAG, 0)
#define SAVED PG_SAVE_IN(0) | PG_SAVE_OUT(0) | PG_SAVE_OUT(1)

const pg_op PG_AT(pg_ops_extreme)[] = {
    {"max",
     "Without dim the largest element; with dim the largest ones along it and their indices.",
     {PG_T("input"), DIM},
     PG_METHOD,
     SAVED,
     2,
     infer_select,
     {forward_max},
     backward_select},
    {"min",
     "Without dim the smallest element; with dim the smallest ones along it and their indices.",
     {PG_T("input"), DIM},
     PG_METHOD,
     SAVED,
     2,
     infer_select,
     {forward_min},
     backward_select},
    {"median",
     "The lower middle element, of all or along dim with its index.",
     {PG_T("input"), DIM},
     PG_METHOD,
     SAVED,
     2,
     infer_median,
     {forward_median},
     backward_select},
    {"argmax",
     "Index of the first largest element along dim, or in the flattened tensor.",
     {PG_T("input"), DIM},
     PG_METHOD | PG_NODIFF,
     0,
     1,
     infer_arg,
     {forward_argmax},
     NULL},
    {"argmin",
     "Index of the first smallest element along dim, or in the flattened tensor.",
     {PG_T("input"), DIM},
     PG_METHOD | PG_NODIFF,
     0,
     1,
     infer_arg,
     {forward_argmin},
     NULL},
    {0}};
