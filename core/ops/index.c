/* Reading and writing by index tensors and masks: index_select, gather, scatter, index, index_put,
 * masked_select, nonzero, embedding, one_hot, tril, triu. Indices count from 1 and are checked
 * before anything is written. Relies on views of shape.c. Spec: spec/ops/index_spec.lua. */
#include <string.h>

#include "autograd/op.h"
#include "base/par.h"

enum { GATHER, SET, ADD };

static int64_t product_of(const int64_t *v, int from, int to) {
  int64_t n = 1;
  for (int i = from; i < to; i++) n *= v[i];
  return n;
}

enum { CHECKS = 64 };

typedef struct check {
  const int64_t *index;
  int64_t n, grain, bad[CHECKS];
  bool negatives;
} check;

static void check_range(void *arg, int64_t begin, int64_t end) {
  check *q = arg;
  const int64_t *index = q->index, n = q->n;
  const bool negatives = q->negatives;
  int64_t bad = 0;
  for (int64_t i = begin; i < end; i++) {
    int64_t v = index[i];
    bad += (v < 1) & !(negatives & (v < 0) & (v >= -n));
    bad += v > n;
  }
  q->bad[begin / q->grain] = bad;
}

/* Are count indices within 1..n, or -n..-1 if negatives are allowed? */
static pg_status check_indices(pg_ctx *ctx, const char *what, const int64_t *index, int64_t count,
                               int64_t n, bool negatives) {
  check q = {index, n, pg_max64(16384, (count + CHECKS - 1) / CHECKS), {0}, negatives};
  pg_par_for(ctx, count, q.grain, check_range, &q);
  int64_t bad = 0;
  for (int i = 0; i < CHECKS; i++) bad += q.bad[i];
  if (!bad) return PG_OK;
  for (int64_t i = 0; i < count; i++) {
    int64_t v = index[i];
    if ((v >= 1 && v <= n) || (negatives && v < 0 && v >= -n)) continue;
    return pg_fail(ctx, PG_EINDEX, "argument '%s': expected 1..%lld%s, got %lld at position %lld",
                   what, (long long)n, negatives ? " or from the end" : "", (long long)v,
                   (long long)i + 1);
  }
  return PG_OK;
}

/* Results whose shape depends on the data: infer says so, forward puts the tensor in place. */
static pg_status out_unknown(pg_call *c, pg_dtype dtype) {
  for (int i = 0; i < c->nin; i++)
    if (c->in[i] && c->in[i]->storage->device == PG_META)
      return pg_fail(c->ctx, PG_EUNSUPPORTED,
                     "the shape of the result depends on the data and is not known here");
  return pg_out_shape(c, 0, dtype, 1, (int64_t[]){0});
}
static void put_out(pg_call *c, pg_tensor *t) {
  pg_tensor_unref(c->out[0]);
  c->out[0] = t;
}

static pg_status want_index(pg_call *c, int i) { return pg_want(c, i, 1u << PG_I64); }

/* *out = zeros in the dtype and shape of m. */
static pg_status zeros_of(pg_ctx *ctx, const pg_meta *m, pg_tensor **out) {
  return pg_tensor_zeros(ctx, (pg_dtype)m->dtype, m->nd, m->shape, out);
}

/* --- rows: a[outer x n x inner] and b[outer x count x inner] meet at a's rows index[i] - 1 ------
 */
typedef struct rows {
  int what;
  pg_dtype dtype;
  int64_t outer, n, count, inner;
  const int64_t *index; /* from 1, or negative from the end */
  char *a, *b;
  double alpha; /* ADD: a += alpha b */
} rows;

static inline int64_t row_at(const rows *q, int64_t i) {
  return q->index[i] > 0 ? q->index[i] - 1 : q->n + q->index[i];
}

/* MOVE(uint32_t): rows of one element, from i of a to b or the other way. */
#define MOVE(T)                                                   \
  do {                                                            \
    T *restrict x = (T *)a, *restrict y = (T *)b;                 \
    if (q->what == GATHER)                                        \
      for (int64_t j = 0; j < n; j++) y[j] = x[row_at(q, i + j)]; \
    else                                                          \
      for (int64_t j = 0; j < n; j++) x[row_at(q, i + j)] = y[j]; \
  } while (0)

/* Items [begin, end) of outer x count, each one row. */
static void move_rows(void *arg, int64_t begin, int64_t end) {
  const rows *q = arg;
  size_t size = pg_dtype_size(q->dtype), bytes = (size_t)q->inner * size;
  for (int64_t n; begin < end; begin += n) {
    int64_t o = begin / q->count, i = begin % q->count;
    n = pg_min64(end - begin, q->count - i);
    char *a = q->a + (size_t)(o * q->n) * bytes, *b = q->b + (size_t)begin * bytes;
    if (bytes == 4) {
      MOVE(uint32_t);
    } else if (bytes == 8) {
      MOVE(uint64_t);
    } else {
      for (int64_t j = 0; j < n; j++) {
        char *row = a + (size_t)row_at(q, i + j) * bytes, *item = b + (size_t)j * bytes;
        memcpy(q->what == GATHER ? item : row, q->what == GATHER ? row : item, bytes);
      }
    }
  }
}

/* ADD_COLUMNS(float, f32): a += alpha b in columns [begin, end), row after row. */
#define ADD_COLUMNS(T, name)                                                   \
  static void add_columns_##name(void *arg, int64_t begin, int64_t end) {      \
    const rows *q = arg;                                                       \
    T alpha = (T)q->alpha;                                                     \
    for (int64_t o = 0; o < q->outer && q->inner == 1; o++) {                  \
      T *restrict a = (T *)q->a + o * q->n;                                    \
      const T *restrict b = (const T *)q->b + o * q->count;                    \
      for (int64_t i = 0; i < q->count; i++) a[row_at(q, i)] += alpha * b[i];  \
    }                                                                          \
    for (int64_t o = 0; o < q->outer && q->inner != 1; o++)                    \
      for (int64_t i = 0; i < q->count; i++) {                                 \
        T *restrict a = (T *)q->a + (o * q->n + row_at(q, i)) * q->inner;      \
        const T *restrict b = (const T *)q->b + (o * q->count + i) * q->inner; \
        for (int64_t j = begin; j < end; j++) a[j] += alpha * b[j];            \
      }                                                                        \
  }                                                                            \
  /* The same for items [begin, end) of outer, all columns. */                 \
  static void add_items_##name(void *arg, int64_t begin, int64_t end) {        \
    rows part = *(const rows *)arg;                                            \
    size_t size = sizeof(T);                                                   \
    part.a += (size_t)(begin * part.n * part.inner) * size;                    \
    part.b += (size_t)(begin * part.count * part.inner) * size;                \
    part.outer = end - begin;                                                  \
    add_columns_##name(&part, 0, part.inner);                                  \
  }
ADD_COLUMNS(float, f32)
ADD_COLUMNS(double, f64)
ADD_COLUMNS(int64_t, i64)

static void run_rows(pg_ctx *ctx, rows *q) {
  if (q->outer == 0 || q->count == 0 || q->inner == 0) return;
  if (q->what == GATHER) {
    pg_par_for(ctx, q->outer * q->count, pg_grain(q->inner), move_rows, q);
  } else if (q->what == SET) { /* in order: the last of equal indices stays */
    move_rows(q, 0, q->outer * q->count);
  } else if (q->outer >= 8) {
    pg_par_for(ctx, q->outer, pg_grain(q->count * q->inner),
               q->dtype == PG_F32   ? add_items_f32
               : q->dtype == PG_F64 ? add_items_f64
                                    : add_items_i64,
               q);
  } else {
    pg_par_for(ctx, q->inner, pg_max64(32, pg_grain(q->outer * q->count)),
               q->dtype == PG_F32   ? add_columns_f32
               : q->dtype == PG_F64 ? add_columns_f64
                                    : add_columns_i64,
               q);
  }
}

/* Sizes of q for a tensor of this shape indexed along dim. */
static void split_at(rows *q, int nd, const int64_t *shape, int dim) {
  q->outer = product_of(shape, 0, dim);
  q->n = nd ? shape[dim] : 1;
  q->inner = product_of(shape, dim + 1, nd);
}

/* --- index_select, index_add, index_copy, index_fill -------------------------------------------
 * in[1] is a vector of indices along dim, arg[0] the dim. */
static pg_status want_vector(pg_call *c, int *dim) {
  PG_TRY(want_index(c, 1));
  if (c->in[1]->nd > 1)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'index': expected one dim, got %s",
                   pg_shape_str(c->in[1]).s);
  return pg_arg_dim(c, 0, c->in[0]->nd, dim);
}

static pg_status infer_index_select(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int dim;
  int64_t shape[PG_MAX_DIMS];
  PG_TRY(want_vector(c, &dim));
  memcpy(shape, x->shape, sizeof shape);
  if (x->nd) shape[dim] = pg_numel(c->in[1]);
  else if (pg_numel(c->in[1]) != 1)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'index': expected one index into a scalar, got %s",
                   pg_shape_str(c->in[1]).s);
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, shape);
}

/* Opens the index: *index is contiguous and owned, every value checked. */
static pg_status open_index(pg_call *c, int i, int64_t n, bool negatives, pg_tensor **index) {
  PG_TRY(pg__contiguous(c->ctx, c->in[i], index));
  pg_status s =
      check_indices(c->ctx, pg_in_name(c, i), pg_data(*index), pg_numel(*index), n, negatives);
  if (s == PG_OK) return PG_OK;
  pg_tensor_unref(*index);
  *index = NULL;
  return s;
}

static pg_status forward_index_select(pg_call *c) {
  pg_tensor *x = c->in[0], *index, *dense = NULL;
  int dim;
  rows q = {.what = GATHER, .dtype = (pg_dtype)x->dtype};
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  split_at(&q, x->nd, x->shape, dim);
  PG_TRY(open_index(c, 1, q.n, false, &index));
  pg_status s = pg__contiguous(c->ctx, x, &dense);
  if (s == PG_OK) {
    q.count = pg_numel(index);
    q.index = pg_data(index);
    q.a = pg_data(dense);
    q.b = pg_data(c->out[0]);
    run_rows(c->ctx, &q);
  }
  pg_tensor_unref(dense);
  pg_tensor_unref(index);
  return s;
}

static pg_status backward_index_select(pg_call *c) {
  pg_tensor *zeros;
  PG_TRY(zeros_of(c->ctx, &c->meta[0], &zeros));
  pg_status s =
      pg_do(c->ctx, &c->gin[0], "index_add_", "titt", zeros, c->arg[0].i, c->in[1], c->gout[0]);
  pg_tensor_unref(zeros);
  return s;
}

/* For ops with a source in in[2]: it has input's shape but at dim, where it is as long as index. */
static pg_status infer_index_write(pg_call *c) {
  const pg_tensor *x = c->in[0], *src = c->in[2];
  int dim;
  PG_TRY(want_vector(c, &dim));
  PG_TRY(pg_want_same_dtype(c, 2, 0));
  bool fits = src->nd == x->nd;
  int64_t shape[PG_MAX_DIMS];
  for (int i = 0; i < x->nd; i++) {
    shape[i] = i == dim ? pg_numel(c->in[1]) : x->shape[i];
    fits = fits && src->shape[i] == shape[i];
  }
  if (!fits)
    return pg_bad_in(c, PG_ESHAPE, 2, "%s to follow input %s and %lld indices into dim %d",
                     pg_shape_str_of(x->nd, shape).s, pg_shape_str(x).s,
                     (long long)pg_numel(c->in[1]), dim + 1);
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, x->shape);
}

static pg_status infer_index_add(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_REAL | 1u << PG_I64));
  return infer_index_write(c);
}

/* out = input with rows of dim written from source (a tensor, or NULL: the number value). */
static pg_status write_rows(pg_call *c, int what, pg_tensor *source, double alpha, double value) {
  pg_tensor *x = c->in[0], *index, *y = NULL, *src = NULL;
  int dim;
  rows q = {.what = what, .dtype = (pg_dtype)x->dtype, .alpha = alpha};
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  split_at(&q, x->nd, x->shape, dim);
  PG_TRY(open_index(c, 1, q.n, false, &index));
  q.count = pg_numel(index);
  q.index = pg_data(index);
  pg_status s = PG_OK;
  if (source) {
    s = pg__contiguous(c->ctx, source, &src);
  } else {
    int64_t shape[3] = {q.outer, q.count, q.inner};
    s = pg_tensor_new(c->ctx, (pg_dtype)x->dtype, 3, shape, &src);
    if (s == PG_OK) pg_tensor_fill(src, value);
  }
  if (s == PG_OK && !c->inplace) s = pg_tensor_copy(c->out[0], x);
  if (s == PG_OK) s = pg__contiguous(c->ctx, c->out[0], &y);
  if (s == PG_OK) {
    q.a = pg_data(y);
    q.b = pg_data(src);
    run_rows(c->ctx, &q);
    if (y != c->out[0]) s = pg_tensor_copy(c->out[0], y);
  }
  pg_tensor_unref(y);
  pg_tensor_unref(src);
  pg_tensor_unref(index);
  return s;
}

static pg_status forward_index_add(pg_call *c) {
  return write_rows(c, ADD, c->in[2], c->arg[1].f, 0);
}

static pg_status select_gradient(pg_call *c, int i) {
  return pg_do(c->ctx, &c->gin[i], "index_select", "tit", c->gout[0], c->arg[0].i, c->in[1]);
}

static pg_status backward_index_add(pg_call *c) {
  double alpha = c->arg[1].f;
  if (c->need[0]) c->gin[0] = pg_tensor_ref(c->gout[0]);
  if (!c->need[2]) return PG_OK;
  if (alpha == 1) return select_gradient(c, 2);
  pg_tensor *part = NULL, *number = NULL;
  pg_status s = pg_do(c->ctx, &part, "index_select", "tit", c->gout[0], c->arg[0].i, c->in[1]);
  if (s == PG_OK) s = pg_tensor_number(c->ctx, alpha, false, &number);
  if (s == PG_OK) s = pg_do(c->ctx, &c->gin[2], "mul", "tt", part, number);
  pg_tensor_unref(number);
  pg_tensor_unref(part);
  return s;
}

static pg_status forward_index_copy(pg_call *c) { return write_rows(c, SET, c->in[2], 1, 0); }

static pg_status backward_index_copy(pg_call *c) {
  if (c->need[0])
    PG_TRY(pg_do(c->ctx, &c->gin[0], "index_fill", "titf", c->gout[0], c->arg[0].i, c->in[1], 0.0));
  return c->need[2] ? select_gradient(c, 2) : PG_OK;
}

static pg_status infer_index_fill(pg_call *c) {
  int dim;
  PG_TRY(pg_want_fit(c, "value", c->arg[1].f, (pg_dtype)c->in[0]->dtype));
  PG_TRY(want_vector(c, &dim));
  return pg_out_shape(c, 0, (pg_dtype)c->in[0]->dtype, c->in[0]->nd, c->in[0]->shape);
}

static pg_status forward_index_fill(pg_call *c) { return write_rows(c, SET, NULL, 1, c->arg[1].f); }

static pg_status backward_index_fill(pg_call *c) {
  return pg_do(c->ctx, &c->gin[0], "index_fill", "titf", c->gout[0], c->arg[0].i, c->in[1], 0.0);
}

/* --- gather, scatter, scatter_add, take --------------------------------------------------------
 * a is read or written at index along dim; b has index's shape. Strides in elements. */
typedef struct walk {
  int what, nd, dim; /* dim -1: index has one element along it, and it is not among the nd */
  pg_dtype dtype;
  int64_t n, da; /* a's size and step along dim, where sa has 0 */
  int64_t shape[PG_MAX_DIMS], sa[PG_MAX_DIMS], sb[PG_MAX_DIMS];
  const int64_t *index; /* contiguous, from 1 */
  char *a, *b;
  int64_t grain;    /* of a gathering walk */
  bool bad[CHECKS]; /* by its chunks: has an index out of range, and was left */
} walk;

/* WALK_ROW(float, a += b): statement on *pa and *pb for columns [j0, j1) of one row. */
#define WALK_ROW(T, statement)                                    \
  do {                                                            \
    T *a = (T *)q->a + oa, *b = (T *)q->b + ob;                   \
    for (int64_t j = j0; j < j1; j++) {                           \
      T *pa = a + j * la + (index[j] - 1) * da, *pb = b + j * lb; \
      statement;                                                  \
    }                                                             \
  } while (0)
/* The common case: both rows contiguous, indices into the row. */
#define GATHER_ROW(T)                                         \
  do {                                                        \
    const T *restrict a = (const T *)q->a + oa;               \
    T *restrict b = (T *)q->b + ob;                           \
    for (int64_t j = j0; j < j1; j++) b[j] = a[index[j] - 1]; \
  } while (0)

static void walk_row(const walk *q, int64_t row, int64_t j0, int64_t j1) {
  int last = q->nd - 1;
  int64_t rest = row, oa = 0, ob = 0, width = q->shape[last];
  for (int d = last - 1; d >= 0; d--) {
    int64_t at = d ? rest % q->shape[d] : rest;
    if (d) rest /= q->shape[d];
    oa += at * q->sa[d];
    ob += at * q->sb[d];
  }
  const int64_t *index = q->index + row * width;
  const int64_t la = q->sa[last], lb = q->sb[last], da = q->da;
  size_t size = pg_dtype_size(q->dtype);
  if (q->what == GATHER && la == 0 && da == 1 && lb == 1) {
    if (size == 4) GATHER_ROW(uint32_t);
    else if (size == 8) GATHER_ROW(uint64_t);
    else if (size == 2) GATHER_ROW(uint16_t);
    else GATHER_ROW(uint8_t);
    return;
  }
  if (q->what == ADD) {
    if (q->dtype == PG_F32) WALK_ROW(float, *pa += *pb);
    else if (q->dtype == PG_F64) WALK_ROW(double, *pa += *pb);
    else WALK_ROW(int64_t, *pa += *pb);
  } else if (q->what == SET) {
    if (size == 4) WALK_ROW(uint32_t, *pa = *pb);
    else if (size == 8) WALK_ROW(uint64_t, *pa = *pb);
    else if (size == 2) WALK_ROW(uint16_t, *pa = *pb);
    else WALK_ROW(uint8_t, *pa = *pb);
  } else {
    if (size == 4) WALK_ROW(uint32_t, *pb = *pa);
    else if (size == 8) WALK_ROW(uint64_t, *pb = *pa);
    else if (size == 2) WALK_ROW(uint16_t, *pb = *pa);
    else WALK_ROW(uint8_t, *pb = *pa);
  }
}

static void walk_rows(void *arg, int64_t begin, int64_t end) {
  const walk *q = arg;
  for (int64_t r = begin; r < end; r++) walk_row(q, r, 0, q->shape[q->nd - 1]);
}

static void walk_columns(void *arg, int64_t begin, int64_t end) {
  const walk *q = arg;
  int64_t count = product_of(q->shape, 0, q->nd - 1);
  for (int64_t r = 0; r < count; r++) walk_row(q, r, begin, end);
}

/* Elements [begin, end) of an index with short rows. */
#define GATHER_NARROW(T)                              \
  do {                                                \
    const T *a = (const T *)q->a + row * q->sa[0];    \
    T *b = (T *)q->b + row * q->sb[0];                \
    for (int64_t i = begin; i < end; i++) {           \
      b[j * lb] = a[j * la + (q->index[i] - 1) * da]; \
      const bool whole = ++j == width;                \
      j = whole ? 0 : j;                              \
      a += whole ? q->sa[0] : 0;                      \
      b += whole ? q->sb[0] : 0;                      \
    }                                                 \
  } while (0)
static void gather_narrow(const walk *q, int64_t begin, int64_t end) {
  const int64_t width = q->shape[1], la = q->sa[1], lb = q->sb[1], da = q->da;
  const int64_t row = begin / width;
  int64_t j = begin % width;
  const size_t size = pg_dtype_size(q->dtype);
  if (size == 4) GATHER_NARROW(uint32_t);
  else if (size == 8) GATHER_NARROW(uint64_t);
  else if (size == 2) GATHER_NARROW(uint16_t);
  else GATHER_NARROW(uint8_t);
}

/* Elements [begin, end) of index, a block that stays in the nearest cache after the other: are its
 * indices in range? Then it is gathered. */
static void gather_items(void *arg, int64_t begin, int64_t end) {
  walk *q = arg;
  const int64_t width = q->shape[q->nd - 1], chunk = begin / q->grain;
  for (int64_t m; begin < end; begin += m) {
    const int64_t *index = q->index + begin;
    uint64_t bad = 0;
    m = pg_min64(end - begin, 1024);
    for (int64_t i = 0; i < m; i++) bad += (uint64_t)index[i] - 1 >= (uint64_t)q->n;
    q->bad[chunk] = bad > 0;
    if (bad) return;
    if (q->nd == 2 && width < 16) {
      gather_narrow(q, begin, begin + m);
      continue;
    }
    int64_t row = begin / width, j0 = begin % width;
    for (int64_t n, left = m; left > 0; left -= n, row++, j0 = 0) {
      n = pg_min64(left, width - j0);
      walk_row(q, row, j0, j0 + n);
    }
  }
}

/* b = a at index, whose values are checked on the way: false if one was out of range. */
static bool run_gather(pg_ctx *ctx, walk *q) {
  int64_t total = product_of(q->shape, 0, q->nd);
  q->grain = pg_max64(16384, (total + CHECKS - 1) / CHECKS);
  pg_par_for(ctx, total, q->grain, gather_items, q);
  bool bad = false;
  for (int i = 0; i < CHECKS; i++) bad = bad || q->bad[i];
  return !bad;
}

/* Splits so that two threads never write to one element: along dim everything stays in order. */
static void run_walk(pg_ctx *ctx, walk *q) {
  int64_t width = q->shape[q->nd - 1], count = product_of(q->shape, 0, q->nd - 1);
  if (width == 0 || count == 0) return;
  if (q->dim == q->nd - 1) pg_par_for(ctx, count, pg_grain(2 * width), walk_rows, q);
  else pg_par_for(ctx, width, pg_max64(32, pg_grain(2 * count)), walk_columns, q);
}

/* Fills q for a indexed at dim, index, and b; a scalar counts as one dim. Dims of one element are
 * left out and others merged where they can be. */
static void walk_init(walk *q, const pg_tensor *a, int dim, const pg_tensor *index,
                      const pg_tensor *b) {
  int n = 0;
  q->dim = -1;
  q->n = a->nd ? a->shape[dim] : 1;
  q->da = a->nd ? a->stride[dim] : 0;
  q->dtype = (pg_dtype)a->dtype;
  for (int i = 0; i < index->nd; i++) {
    const int64_t size = index->shape[i], sa = a->nd && i != dim ? a->stride[i] : 0;
    const int64_t sb = b->nd ? b->stride[i] : 0;
    if (size == 1) continue;
    const bool merge = n > 0 && i != dim && q->dim != n - 1 && q->sa[n - 1] == sa * size &&
                       q->sb[n - 1] == sb * size;
    if (merge) n--;
    if (i == dim) q->dim = n;
    q->shape[n] = merge ? q->shape[n] * size : size;
    q->sa[n] = sa;
    q->sb[n++] = sb;
  }
  if (n == 0) {
    q->shape[n] = 1;
    q->sa[n] = q->sb[n] = 0;
    n++;
  }
  q->nd = n;
  q->index = pg_data(index);
  q->a = pg_data(a);
  q->b = pg_data(b);
}

/* index (in[1]) has as many dims as input and is no larger but at dim. */
static pg_status want_gather_index(pg_call *c, int *dim) {
  const pg_tensor *x = c->in[0], *index = c->in[1];
  PG_TRY(want_index(c, 1));
  PG_TRY(pg_arg_dim(c, 0, x->nd, dim));
  bool fits = (x->nd ? x->nd : 1) == (index->nd ? index->nd : 1);
  for (int i = 0; i < index->nd && x->nd && fits; i++)
    fits = i == *dim || index->shape[i] <= x->shape[i];
  if (!fits && pg_numel(index) > 0)
    return pg_bad_in(c, PG_ESHAPE, 1, "at most the sizes of input %s but in dim %d",
                     pg_shape_str(x).s, *dim + 1);
  return PG_OK;
}

static pg_status infer_gather(pg_call *c) {
  int dim;
  PG_TRY(want_gather_index(c, &dim));
  return pg_out_shape(c, 0, (pg_dtype)c->in[0]->dtype, c->in[1]->nd, c->in[1]->shape);
}

static pg_status forward_gather(pg_call *c) {
  pg_tensor *x = c->in[0], *index;
  int dim;
  walk q = {.what = GATHER};
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  if (pg_numel(c->in[1]) == 0) return PG_OK;
  PG_TRY(pg__contiguous(c->ctx, c->in[1], &index));
  walk_init(&q, x, dim, index, c->out[0]);
  pg_status s = PG_OK;
  if (!run_gather(c->ctx, &q)) /* says where */
    s = check_indices(c->ctx, pg_in_name(c, 1), q.index, pg_numel(index), q.n, false);
  pg_tensor_unref(index);
  return s;
}

static pg_status backward_gather(pg_call *c) {
  pg_tensor *zeros;
  PG_TRY(zeros_of(c->ctx, &c->meta[0], &zeros));
  pg_status s =
      pg_do(c->ctx, &c->gin[0], "scatter_add_", "titt", zeros, c->arg[0].i, c->in[1], c->gout[0]);
  pg_tensor_unref(zeros);
  return s;
}

static pg_status infer_scatter(pg_call *c) {
  const pg_tensor *x = c->in[0], *index = c->in[1], *src = c->in[2];
  int dim;
  PG_TRY(want_gather_index(c, &dim));
  if (src->is_number) {
    pg_cast_in(c, 2, (pg_dtype)x->dtype);
  } else {
    PG_TRY(pg_want_same_dtype(c, 2, 0));
    bool fits = src->nd == index->nd;
    for (int i = 0; i < index->nd && fits; i++) fits = index->shape[i] <= src->shape[i];
    if (!fits && pg_numel(index) > 0)
      return pg_bad_in(c, PG_ESHAPE, 2, "at least the sizes of index %s", pg_shape_str(index).s);
  }
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, x->shape);
}

static pg_status infer_scatter_add(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_REAL | 1u << PG_I64));
  return infer_scatter(c);
}

static pg_status scatter(pg_call *c, int what) {
  pg_tensor *x = c->in[0], *index, *src = c->in[2];
  int dim;
  walk q = {.what = what};
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  PG_TRY(open_index(c, 1, x->nd ? x->shape[dim] : 1, false, &index));
  pg_status s = c->inplace ? PG_OK : pg_tensor_copy(c->out[0], x);
  if (s == PG_OK && pg_numel(index) > 0) {
    walk_init(&q, c->out[0], dim, index, src);
    run_walk(c->ctx, &q);
  }
  pg_tensor_unref(index);
  return s;
}
static pg_status forward_scatter(pg_call *c) { return scatter(c, SET); }
static pg_status forward_scatter_add(pg_call *c) { return scatter(c, ADD); }

/* gin[2] = gout gathered, with zeros where src is larger than index. */
static pg_status gather_gradient(pg_call *c) {
  const pg_meta *m = &c->meta[2];
  if (!c->need[2]) return PG_OK;
  pg_tensor *part = NULL;
  pg_status s = pg_do(c->ctx, &part, "gather", "tit", c->gout[0], c->arg[0].i, c->in[1]);
  PG_TRY(s);
  if (part->nd == m->nd && pg_numel(part) < pg_numel_of(m->nd, m->shape)) {
    int64_t stride[PG_MAX_DIMS];
    pg_contiguous_strides(m->nd, m->shape, stride);
    s = pg_do(c->ctx, &c->gin[2], "scatter_view", "tlli", part, (int)m->nd, m->shape, (int)m->nd,
              stride, (int64_t)0);
    pg_tensor_unref(part);
    return s;
  }
  c->gin[2] = part;
  return PG_OK;
}

static pg_status backward_scatter(pg_call *c) {
  if (c->need[0]) {
    pg_tensor *zero;
    PG_TRY(pg_tensor_number(c->ctx, 0, false, &zero));
    pg_status s =
        pg_do(c->ctx, &c->gin[0], "scatter", "titt", c->gout[0], c->arg[0].i, c->in[1], zero);
    pg_tensor_unref(zero);
    PG_TRY(s);
  }
  return gather_gradient(c);
}

static pg_status backward_scatter_add(pg_call *c) {
  if (c->need[0]) c->gin[0] = pg_tensor_ref(c->gout[0]);
  return gather_gradient(c);
}

static pg_status infer_take(pg_call *c) {
  PG_TRY(want_index(c, 1));
  return pg_out_shape(c, 0, (pg_dtype)c->in[0]->dtype, c->in[1]->nd, c->in[1]->shape);
}

static pg_status forward_take(pg_call *c) {
  pg_tensor *x = NULL, *index;
  rows q = {.what = GATHER, .dtype = (pg_dtype)c->in[0]->dtype, .outer = 1, .inner = 1};
  q.n = pg_numel(c->in[0]);
  PG_TRY(open_index(c, 1, q.n, true, &index));
  pg_status s = pg__contiguous(c->ctx, c->in[0], &x);
  if (s == PG_OK) {
    q.count = pg_numel(index);
    q.index = pg_data(index);
    q.a = pg_data(x);
    q.b = pg_data(c->out[0]);
    run_rows(c->ctx, &q);
  }
  pg_tensor_unref(x);
  pg_tensor_unref(index);
  return s;
}

static pg_status backward_take(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  pg_meta flat = {.dtype = m->dtype, .nd = 1, .shape = {pg_numel_of(m->nd, m->shape)}};
  pg_tensor *zeros = NULL, *sum = NULL;
  pg_status s = zeros_of(c->ctx, &flat, &zeros);
  if (s == PG_OK)
    s = pg_do(c->ctx, &sum, "index_put_", "ttt-----b", zeros, c->gout[0], c->in[1], 1);
  if (s == PG_OK) s = pg_do(c->ctx, &c->gin[0], "view", "tl", sum, (int)m->nd, m->shape);
  pg_tensor_unref(sum);
  pg_tensor_unref(zeros);
  return s;
}

/* --- index and index_put -----------------------------------------------------------------------
 * Index tensors i1, i2, .. stand for the dims of input in order; an absent one means the whole dim,
 * a mask stands for as many dims as it has. The indexed dims go to the place of the first of them
 * if they are neighbours, else to the front. */
enum { MOST_INDICES = 6 };

typedef struct plan {
  int nd, order[PG_MAX_DIMS]; /* dims of input as [before.., indexed.., after..] */
  int before, indexed, after; /* how many of each */
  int nb;                     /* dims of the joint shape of the index tensors */
  int64_t joint[PG_MAX_DIMS];
  int out_nd;
  int64_t out_shape[PG_MAX_DIMS];
  pg_tensor *index[PG_MAX_DIMS]; /* by dim of input; NULL: the whole dim; owned */
  int64_t *flat; /* one index into the joined dims for each place of joint, from 1 */
  int64_t count;
} plan;

static void plan_free(pg_ctx *ctx, plan *p) {
  if (p->flat) pg_free(ctx, p->flat, (size_t)p->count * sizeof *p->flat);
  for (int i = 0; i < PG_MAX_DIMS; i++) pg_tensor_unref(p->index[i]);
}

/* The true elements of a mask of n. They are counted by parts, first[i] being those before part i;
 * then take gets them in order, by blocks and from any thread: m of them from number k on are
 * elements base + at[0 .. m). */
typedef struct picks {
  const uint8_t *mask;
  int64_t n, count, *first;
  void (*take)(const struct picks *q, int64_t k, int64_t m, int64_t base, const uint8_t *at);
  int nd; /* take's own: where places go along each dim, every `step`; or elements from and to */
  const int64_t *shape;
  int64_t *place[PG_MAX_DIMS], step;
  size_t size;
  const char *from;
  char *to;
} picks;

enum { PICKS_PART = 1 << 14, PICKS_BLOCK = 256 };

static int64_t picks_parts(const picks *q) { return (q->n + PICKS_PART - 1) / PICKS_PART; }

static void picks_count(void *arg, int64_t begin, int64_t end) {
  const picks *q = arg;
  for (int64_t p = begin; p < end; p++) {
    const uint8_t *m = q->mask + p * PICKS_PART;
    int64_t count = 0, n = pg_min64(PICKS_PART, q->n - p * PICKS_PART);
    for (int64_t i = 0; i < n; i++) count += m[i] != 0;
    q->first[p + 1] = count;
  }
}

/* Counts; picks_close gives back what this took. */
static pg_status picks_open(pg_ctx *ctx, picks *q, const pg_tensor *mask) {
  q->mask = pg_data(mask);
  q->n = pg_numel(mask);
  q->nd = mask->nd;
  q->shape = mask->shape;
  const int64_t parts = picks_parts(q);
  PG_TRY(pg_alloc(ctx, sizeof *q->first * (size_t)(parts + 1), (void **)&q->first));
  q->first[0] = 0;
  pg_par_for(ctx, parts, 1, picks_count, q);
  for (int64_t p = 0; p < parts; p++) q->first[p + 1] += q->first[p];
  q->count = q->first[parts];
  return PG_OK;
}

static void picks_close(pg_ctx *ctx, picks *q) {
  pg_free(ctx, q->first, sizeof *q->first * (size_t)(picks_parts(q) + 1));
}

static void picks_part(void *arg, int64_t begin, int64_t end) {
  const picks *q = arg;
  for (int64_t p = begin; p < end; p++) {
    int64_t k = q->first[p];
    const int64_t last = pg_min64(q->n, (p + 1) * PICKS_PART);
    for (int64_t base = p * PICKS_PART; base < last; base += PICKS_BLOCK) {
      const int n = (int)pg_min64(PICKS_BLOCK, last - base);
      uint8_t at[PICKS_BLOCK + 1];
      int m = 0;
      for (int i = 0; i < n; i++) {
        at[m] = (uint8_t)i;
        m += q->mask[base + i] != 0;
      }
      if (m) q->take(q, k, m, base, at);
      k += m;
    }
  }
}

static void picks_run(pg_ctx *ctx, picks *q) {
  if (q->count) pg_par_for(ctx, picks_parts(q), 1, picks_part, q);
}

/* Their places along each dim, from 1. */
static void take_places(const picks *q, int64_t k, int64_t m, int64_t base, const uint8_t *at) {
  int64_t place[PG_MAX_DIMS], rest = base, before = 0;
  for (int d = q->nd - 1; d >= 0; d--) {
    place[d] = rest % q->shape[d];
    rest /= q->shape[d];
  }
  for (int64_t j = 0; j < m; j++) {
    int64_t to = (k + j) * q->step;
    if (q->nd) place[q->nd - 1] += at[j] - before;
    before = at[j];
    for (int d = q->nd - 1; d > 0; d--)
      while (place[d] >= q->shape[d]) {
        place[d] -= q->shape[d];
        place[d - 1]++;
      }
    for (int d = 0; d < q->nd; d++) q->place[d][to] = place[d] + 1;
  }
}

/* BY_SIZE(TAKE) is TAKE(the unsigned integer of q->size bytes). */
#define BY_SIZE(WORK)                      \
  do {                                     \
    if (q->size == 4) WORK(uint32_t);      \
    else if (q->size == 8) WORK(uint64_t); \
    else if (q->size == 2) WORK(uint16_t); \
    else WORK(uint8_t);                    \
  } while (0)
#define TAKE(T) \
  for (int64_t j = 0; j < m; j++) ((T *)q->to)[k + j] = ((const T *)q->from)[base + at[j]]
#define PUT(T) \
  for (int64_t j = 0; j < m; j++) ((T *)q->to)[base + at[j]] = ((const T *)q->from)[k + j]
static void take_elements(const picks *q, int64_t k, int64_t m, int64_t base, const uint8_t *at) {
  BY_SIZE(TAKE);
}
static void put_elements(const picks *q, int64_t k, int64_t m, int64_t base, const uint8_t *at) {
  BY_SIZE(PUT);
}

/* Puts one index vector for each dim of mask into out[0..mask->nd). */
static pg_status mask_to_indices(pg_ctx *ctx, pg_tensor *mask, pg_tensor **out) {
  pg_tensor *dense;
  picks q = {.take = take_places, .step = 1};
  PG_TRY(pg__contiguous(ctx, mask, &dense));
  pg_status s = picks_open(ctx, &q, dense);
  if (s == PG_OK) {
    for (int d = 0; d < mask->nd && s == PG_OK; d++) {
      s = pg_tensor_new(ctx, PG_I64, 1, &q.count, &out[d]);
      if (s == PG_OK) q.place[d] = pg_data(out[d]);
    }
    if (s == PG_OK) picks_run(ctx, &q);
    picks_close(ctx, &q);
  }
  pg_tensor_unref(dense);
  return s;
}

/* Checks index tensors in[first..] against x and says whether masks are among them. */
static pg_status check_index_list(pg_call *c, const pg_tensor *x, int first, bool *masks) {
  int dim = 0;
  bool any = false;
  *masks = false;
  for (int i = first; i < first + MOST_INDICES; i++) {
    const pg_tensor *t = c->in[i];
    if (!t) {
      dim++;
      continue;
    }
    any = true;
    PG_TRY(pg_want(c, i, 1u << PG_I64 | 1u << PG_BOOL));
    int takes = t->dtype == PG_BOOL ? t->nd : 1;
    if (takes == 0 || dim + takes > x->nd)
      return pg_bad_in(c, PG_EINDEX, i, "no more indices than input %s has dims",
                       pg_shape_str(x).s);
    if (t->dtype == PG_BOOL) {
      *masks = true;
      if (memcmp(t->shape, x->shape + dim, sizeof *t->shape * (size_t)takes) != 0)
        return pg_bad_in(c, PG_ESHAPE, i, "a mask %s for dims %d..%d of input %s",
                         pg_shape_str_of(takes, x->shape + dim).s, dim + 1, dim + takes,
                         pg_shape_str(x).s);
    }
    dim += takes;
  }
  if (!any) return pg_bad_in(c, PG_EARG, first, "at least one index tensor");
  return PG_OK;
}

/* Places of dims and the shape of the result; index[] is there (or masks are taken as one vector of
 * unknown length, which cannot be asked for). */
static pg_status plan_shape(pg_ctx *ctx, plan *p, const pg_tensor *x) {
  int first = -1, last = -1;
  p->nd = x->nd;
  p->nb = 0;
  p->indexed = 0;
  for (int i = 0; i < x->nd; i++) {
    if (!p->index[i]) continue;
    if (first < 0) first = i;
    last = i;
    p->indexed++;
    PG_TRY(
        pg_broadcast(ctx, p->nb, p->joint, p->index[i]->nd, p->index[i]->shape, &p->nb, p->joint));
  }
  bool neighbours = last - first + 1 == p->indexed;
  p->before = neighbours ? first : 0;
  p->after = x->nd - p->before - p->indexed;
  int at[3] = {0, p->before, p->before + p->indexed};
  for (int i = 0; i < x->nd; i++) {
    int group = p->index[i] ? 1 : neighbours && i < first ? 0 : 2;
    p->order[at[group]++] = i;
  }
  p->out_nd = 0;
  if (p->before + p->nb + p->after > PG_MAX_DIMS)
    return pg_fail(ctx, PG_ESHAPE, "the result: expected at most %d dims, got %d", PG_MAX_DIMS,
                   p->before + p->nb + p->after);
  for (int i = 0; i < p->before; i++) p->out_shape[p->out_nd++] = x->shape[p->order[i]];
  for (int i = 0; i < p->nb; i++) p->out_shape[p->out_nd++] = p->joint[i];
  for (int i = p->before + p->indexed; i < x->nd; i++)
    p->out_shape[p->out_nd++] = x->shape[p->order[i]];
  return PG_OK;
}

/* Gathers the index tensors of the call by dim of x; masks are turned into indices. */
static pg_status plan_open(pg_call *c, const pg_tensor *x, int first, plan *p) {
  int dim = 0;
  *p = (plan){0};
  for (int i = first; i < first + MOST_INDICES; i++) {
    pg_tensor *t = c->in[i];
    if (!t) {
      dim++;
    } else if (t->dtype == PG_BOOL) {
      PG_TRY(mask_to_indices(c->ctx, t, &p->index[dim]));
      dim += t->nd;
    } else {
      p->index[dim++] = pg_tensor_ref(t);
    }
  }
  return plan_shape(c->ctx, p, x);
}

/* Joins the index tensors into p->flat, every value checked. */
static pg_status plan_flatten(pg_ctx *ctx, const pg_tensor *x, plan *p) {
  p->count = product_of(p->joint, 0, p->nb);
  PG_TRY(pg_alloc_zero(ctx, (size_t)p->count * sizeof *p->flat, (void **)&p->flat));
  pg_tensor *wide;
  for (int i = 0; i < x->nd; i++) {
    pg_tensor *t = p->index[i];
    if (!t) continue;
    int64_t n = x->shape[i];
    PG_TRY(pg_tensor_new(ctx, PG_I64, p->nb, p->joint, &wide));
    pg_status s = pg_tensor_copy(wide, t);
    const int64_t *v = pg_data(wide);
    if (s == PG_OK) s = check_indices(ctx, "index", v, p->count, n, true);
    if (s == PG_OK)
      for (int64_t k = 0; k < p->count; k++)
        p->flat[k] = p->flat[k] * n + (v[k] > 0 ? v[k] - 1 : n + v[k]);
    pg_tensor_unref(wide);
    PG_TRY(s);
  }
  for (int64_t k = 0; k < p->count; k++) p->flat[k]++;
  return PG_OK;
}

/* *out = view of x with dims in p's order. */
static pg_status plan_view(pg_ctx *ctx, const pg_tensor *x, const plan *p, pg_tensor **out) {
  int64_t shape[PG_MAX_DIMS], stride[PG_MAX_DIMS];
  for (int i = 0; i < x->nd; i++) {
    shape[i] = x->shape[p->order[i]];
    stride[i] = x->stride[p->order[i]];
  }
  return pg_tensor_alias(ctx, x, x->nd, shape, stride, x->offset, out);
}

static void plan_rows(const plan *p, const pg_tensor *ordered, rows *q) {
  q->dtype = (pg_dtype)ordered->dtype;
  q->outer = product_of(ordered->shape, 0, p->before);
  q->n = product_of(ordered->shape, p->before, p->before + p->indexed);
  q->inner = product_of(ordered->shape, p->before + p->indexed, p->nd);
  q->count = p->count;
  q->index = p->flat;
}

static pg_status infer_index(pg_call *c) {
  const pg_tensor *x = c->in[0];
  bool masks;
  PG_TRY(check_index_list(c, x, 1, &masks));
  if (masks) return out_unknown(c, (pg_dtype)x->dtype);
  plan p = {0};
  int dim = 0;
  for (int i = 1; i <= MOST_INDICES; i++) p.index[dim++] = c->in[i]; /* borrowed */
  PG_TRY(plan_shape(c->ctx, &p, x));
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, p.out_nd, p.out_shape);
}

/* *out = x at the index tensors in[first..]. */
static pg_status read_at(pg_call *c, pg_tensor *x, int first, pg_tensor **out) {
  plan p;
  pg_tensor *ordered = NULL, *dense = NULL;
  rows q = {.what = GATHER};
  *out = NULL;
  pg_status s = plan_open(c, x, first, &p);
  if (s == PG_OK) s = plan_flatten(c->ctx, x, &p);
  if (s == PG_OK) s = plan_view(c->ctx, x, &p, &ordered);
  if (s == PG_OK) s = pg__contiguous(c->ctx, ordered, &dense);
  if (s == PG_OK) s = pg_tensor_new(c->ctx, (pg_dtype)x->dtype, p.out_nd, p.out_shape, out);
  if (s == PG_OK) {
    plan_rows(&p, dense, &q);
    q.a = pg_data(dense);
    q.b = pg_data(*out);
    run_rows(c->ctx, &q);
  }
  pg_tensor_unref(dense);
  pg_tensor_unref(ordered);
  plan_free(c->ctx, &p);
  return s;
}

static pg_status forward_index(pg_call *c) {
  pg_tensor *y;
  PG_TRY(read_at(c, c->in[0], 1, &y));
  put_out(c, y);
  return PG_OK;
}

static pg_status backward_index(pg_call *c) {
  pg_tensor *zeros;
  PG_TRY(zeros_of(c->ctx, &c->meta[0], &zeros));
  pg_status s = pg_do(c->ctx, &c->gin[0], "index_put_", "ttttttttb", zeros, c->gout[0], c->in[1],
                      c->in[2], c->in[3], c->in[4], c->in[5], c->in[6], 1);
  pg_tensor_unref(zeros);
  return s;
}

static pg_status infer_index_put(pg_call *c) {
  const pg_tensor *x = c->in[0], *values = c->in[1];
  bool masks;
  PG_TRY(check_index_list(c, x, 2, &masks));
  if (c->arg[0].i) PG_TRY(pg_want(c, 0, PG_M_REAL | 1u << PG_I64));
  if (!values->is_number) PG_TRY(pg_want_same_dtype(c, 1, 0));
  if (!masks) {
    plan p = {0};
    int dim = 0;
    for (int i = 2; i < 2 + MOST_INDICES; i++) p.index[dim++] = c->in[i]; /* borrowed */
    PG_TRY(plan_shape(c->ctx, &p, x));
    PG_TRY(pg_want_spread(c, 1, "the indexed part", p.out_nd, p.out_shape));
  }
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, x->shape);
}

static pg_status forward_index_put(pg_call *c) {
  pg_tensor *x = c->in[0], *y = c->out[0], *values = NULL, *ordered = NULL, *dense = NULL;
  plan p;
  rows q = {.what = c->arg[0].i ? ADD : SET, .alpha = 1};
  pg_status s = plan_open(c, x, 2, &p);
  if (s == PG_OK) s = plan_flatten(c->ctx, x, &p);
  if (s == PG_OK) s = pg_tensor_new(c->ctx, (pg_dtype)x->dtype, p.out_nd, p.out_shape, &values);
  if (s == PG_OK) s = pg_tensor_copy(values, c->in[1]);
  if (s == PG_OK && !c->inplace) s = pg_tensor_copy(y, x);
  if (s == PG_OK) s = plan_view(c->ctx, y, &p, &ordered);
  if (s == PG_OK) s = pg__contiguous(c->ctx, ordered, &dense);
  if (s == PG_OK) {
    plan_rows(&p, dense, &q);
    q.a = pg_data(dense);
    q.b = pg_data(values);
    run_rows(c->ctx, &q);
    if (dense != ordered) s = pg_tensor_copy(ordered, dense);
  }
  pg_tensor_unref(dense);
  pg_tensor_unref(ordered);
  pg_tensor_unref(values);
  plan_free(c->ctx, &p);
  return s;
}

static pg_status backward_index_put(pg_call *c) {
  pg_tensor **i = c->in + 2;
  if (c->need[0] && c->arg[0].i) {
    c->gin[0] = pg_tensor_ref(c->gout[0]);
  } else if (c->need[0]) {
    pg_tensor *zero;
    PG_TRY(pg_tensor_number(c->ctx, 0, false, &zero));
    pg_status s = pg_do(c->ctx, &c->gin[0], "index_put", "ttttttttb", c->gout[0], zero, i[0], i[1],
                        i[2], i[3], i[4], i[5], 0);
    pg_tensor_unref(zero);
    PG_TRY(s);
  }
  if (!c->need[1]) return PG_OK;
  return pg_do(c->ctx, &c->gin[1], "index", "ttttttt", c->gout[0], i[0], i[1], i[2], i[3], i[4],
               i[5]);
}

/* --- masks -------------------------------------------------------------------------------------
 */
static pg_status joint_shape(pg_call *c, int *nd, int64_t *shape) {
  PG_TRY(pg_want(c, 1, PG_M_BOOL));
  *nd = c->in[0]->nd;
  memcpy(shape, c->in[0]->shape, sizeof *shape * PG_MAX_DIMS);
  return pg_broadcast_in(c, 1, 0, nd, shape);
}

static pg_status infer_masked_select(pg_call *c) {
  int nd;
  int64_t shape[PG_MAX_DIMS];
  PG_TRY(joint_shape(c, &nd, shape));
  return out_unknown(c, (pg_dtype)c->in[0]->dtype);
}

/* *out = t broadcast to shape, contiguous. */
static pg_status widened(pg_ctx *ctx, pg_tensor *t, int nd, const int64_t *shape, pg_tensor **out) {
  if (t->nd == nd && memcmp(t->shape, shape, sizeof *shape * (size_t)nd) == 0)
    return pg__contiguous(ctx, t, out);
  PG_TRY(pg_tensor_new(ctx, (pg_dtype)t->dtype, nd, shape, out));
  return pg_tensor_copy(*out, t);
}

static pg_status forward_masked_select(pg_call *c) {
  int nd;
  int64_t shape[PG_MAX_DIMS];
  pg_tensor *x = NULL, *mask = NULL, *y = NULL;
  picks q = {.take = take_elements};
  PG_TRY(joint_shape(c, &nd, shape));
  pg_status s = widened(c->ctx, c->in[0], nd, shape, &x);
  if (s == PG_OK) s = widened(c->ctx, c->in[1], nd, shape, &mask);
  if (s == PG_OK) s = picks_open(c->ctx, &q, mask);
  if (s == PG_OK) {
    s = pg_tensor_new(c->ctx, (pg_dtype)x->dtype, 1, &q.count, &y);
    if (s == PG_OK) {
      q.size = pg_dtype_size((pg_dtype)x->dtype);
      q.from = pg_data(x);
      q.to = pg_data(y);
      picks_run(c->ctx, &q);
      put_out(c, y);
    }
    picks_close(c->ctx, &q);
  }
  pg_tensor_unref(mask);
  pg_tensor_unref(x);
  return s;
}

static pg_status backward_masked_select(pg_call *c) {
  const pg_meta *a = &c->meta[0], *b = &c->meta[1];
  int nd;
  int64_t shape[PG_MAX_DIMS];
  pg_tensor *mask = NULL, *zeros = NULL;
  PG_TRY(pg_broadcast(c->ctx, a->nd, a->shape, b->nd, b->shape, &nd, shape));
  pg_status s = pg_do(c->ctx, &mask, "expand", "tl", c->in[1], nd, shape);
  if (s == PG_OK) s = pg_tensor_zeros(c->ctx, (pg_dtype)a->dtype, nd, shape, &zeros);
  if (s == PG_OK) s = pg_do(c->ctx, &c->gin[0], "masked_scatter_", "ttt", zeros, mask, c->gout[0]);
  pg_tensor_unref(zeros);
  pg_tensor_unref(mask);
  return s;
}

static pg_status infer_masked_scatter(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(pg_want_spread(c, 1, "input", x->nd, x->shape));
  PG_TRY(pg_want_same_dtype(c, 2, 0));
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, x->shape);
}

static pg_status forward_masked_scatter(pg_call *c) {
  pg_tensor *x = c->in[0], *mask = NULL, *source = NULL, *y = NULL;
  picks q = {.take = put_elements};
  pg_status s = widened(c->ctx, c->in[1], x->nd, x->shape, &mask);
  if (s == PG_OK) s = pg__contiguous(c->ctx, c->in[2], &source);
  if (s == PG_OK) s = picks_open(c->ctx, &q, mask);
  if (s == PG_OK && q.count > pg_numel(source))
    s = pg_fail(c->ctx, PG_ESHAPE,
                "argument 'source': expected at least %lld elements, as the mask asks for, got %s",
                (long long)q.count, pg_shape_str(source).s);
  if (s == PG_OK && !c->inplace) s = pg_tensor_copy(c->out[0], x);
  if (s == PG_OK) s = pg__contiguous(c->ctx, c->out[0], &y);
  if (s == PG_OK) {
    q.size = pg_dtype_size((pg_dtype)x->dtype);
    q.from = pg_data(source);
    q.to = pg_data(y);
    picks_run(c->ctx, &q);
    if (y != c->out[0]) s = pg_tensor_copy(c->out[0], y);
  }
  if (q.first) picks_close(c->ctx, &q);
  pg_tensor_unref(y);
  pg_tensor_unref(source);
  pg_tensor_unref(mask);
  return s;
}

static pg_status backward_masked_scatter(pg_call *c) {
  const pg_meta *m = &c->meta[2];
  if (c->need[0]) {
    pg_tensor *zero;
    PG_TRY(zeros_of(c->ctx, &c->meta[0], &zero));
    pg_status s = pg_do(c->ctx, &c->gin[0], "masked_scatter", "ttt", c->gout[0], c->in[1], zero);
    pg_tensor_unref(zero);
    PG_TRY(s);
  }
  if (!c->need[2]) return PG_OK;
  pg_tensor *part = NULL, *all = NULL;
  int64_t n = pg_numel_of(m->nd, m->shape);
  pg_status s = pg_do(c->ctx, &part, "masked_select", "tt", c->gout[0], c->in[1]);
  if (s == PG_OK)
    s = pg_do(c->ctx, &all, "scatter_view", "tlli", part, 1, &n, 1, (int64_t[]){1}, (int64_t)0);
  if (s == PG_OK) s = pg_do(c->ctx, &c->gin[2], "view", "tl", all, (int)m->nd, m->shape);
  pg_tensor_unref(all);
  pg_tensor_unref(part);
  return s;
}

static pg_status infer_nonzero(pg_call *c) { return out_unknown(c, PG_I64); }

static pg_status forward_nonzero(pg_call *c) {
  pg_tensor *mask, *y = NULL;
  const int nd = c->in[0]->nd;
  picks q = {.take = take_places, .step = nd};
  PG_TRY(pg__as(c->ctx, c->in[0], PG_BOOL, &mask));
  pg_status s = picks_open(c->ctx, &q, mask);
  if (s == PG_OK) {
    s = pg_tensor_new(c->ctx, PG_I64, 2, (int64_t[]){q.count, nd}, &y);
    if (s == PG_OK) {
      for (int d = 0; d < nd; d++) q.place[d] = (int64_t *)pg_data(y) + d;
      picks_run(c->ctx, &q);
      put_out(c, y);
    }
    picks_close(c->ctx, &q);
  }
  pg_tensor_unref(mask);
  return s;
}

/* --- embedding and one_hot ---------------------------------------------------------------------
 */
static pg_status infer_embedding(pg_call *c) {
  const pg_tensor *index = c->in[0], *w = c->in[1];
  PG_TRY(want_index(c, 0));
  PG_TRY(pg_want(c, 1, PG_M_FLOAT));
  PG_TRY(pg_want_dim(c, 1, 2));
  int64_t shape[PG_MAX_DIMS], pad = c->arg[0].i;
  if (index->nd == PG_MAX_DIMS)
    return pg_bad_in(c, PG_ESHAPE, 0, "at most %d dims", PG_MAX_DIMS - 1);
  if (c->arg[0].set && (pad == 0 || pad > w->shape[0] || pad < -w->shape[0]))
    return pg_bad_arg(c, PG_EINDEX, 0, "1..%lld or -%lld..-1", (long long)w->shape[0],
                      (long long)w->shape[0]);
  memcpy(shape, index->shape, sizeof shape);
  shape[index->nd] = w->shape[1];
  return pg_out_shape(c, 0, (pg_dtype)w->dtype, index->nd + 1, shape);
}

static pg_status forward_embedding(pg_call *c) {
  pg_tensor *w = c->in[1], *index, *dense = NULL;
  rows q = {.what = GATHER, .dtype = (pg_dtype)w->dtype};
  split_at(&q, 2, w->shape, 0);
  PG_TRY(open_index(c, 0, q.n, false, &index));
  pg_status s = pg__contiguous(c->ctx, w, &dense);
  if (s == PG_OK) {
    q.count = pg_numel(index);
    q.index = pg_data(index);
    q.a = pg_data(dense);
    q.b = pg_data(c->out[0]);
    run_rows(c->ctx, &q);
  }
  pg_tensor_unref(dense);
  pg_tensor_unref(index);
  return s;
}

static pg_status backward_embedding(pg_call *c) {
  pg_tensor *index = NULL, *g = NULL, *zeros = NULL, *sum = NULL, *pad = NULL;
  int64_t count = pg_numel(c->in[0]), width = c->meta[1].shape[1];
  pg_status s = pg_do(c->ctx, &index, "view", "tl", c->in[0], 1, &count);
  if (s == PG_OK) s = pg_do(c->ctx, &g, "view", "tl", c->gout[0], 2, (int64_t[]){count, width});
  pg_tensor *there = c->arg[0].set ? NULL : pg_into(c, 1, c->meta[1].dtype);
  if (there) zeros = pg_tensor_ref(there);
  else if (s == PG_OK) s = zeros_of(c->ctx, &c->meta[1], &zeros);
  if (s == PG_OK) s = pg_do(c->ctx, &sum, "index_add_", "titt", zeros, (int64_t)1, index, g);
  if (s == PG_OK && c->arg[0].set) {
    int64_t at = c->arg[0].i;
    s = pg_tensor_new(c->ctx, PG_I64, 0, NULL, &pad);
    if (s == PG_OK) {
      *(int64_t *)pg_data(pad) = at > 0 ? at : c->meta[1].shape[0] + 1 + at;
      const char *fill = c->recording ? "index_fill" : "index_fill_";
      s = pg_do(c->ctx, &c->gin[1], fill, "titf", sum, (int64_t)1, pad, 0.0);
    }
  } else if (s == PG_OK) {
    c->gin[1] = pg_tensor_ref(sum);
  }
  pg_tensor_unref(pad);
  pg_tensor_unref(sum);
  pg_tensor_unref(zeros);
  pg_tensor_unref(g);
  pg_tensor_unref(index);
  return s;
}

static pg_status infer_one_hot(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int64_t n = c->arg[0].i, shape[PG_MAX_DIMS];
  PG_TRY(want_index(c, 0));
  if (x->nd == PG_MAX_DIMS) return pg_bad_in(c, PG_ESHAPE, 0, "at most %d dims", PG_MAX_DIMS - 1);
  if (n == -1) return out_unknown(c, PG_I64);
  if (n < 1)
    return pg_fail(c->ctx, PG_EARG, "argument 'num_classes': expected at least 1, or -1, got %lld",
                   (long long)n);
  memcpy(shape, x->shape, sizeof shape);
  shape[x->nd] = n;
  return pg_out_shape(c, 0, PG_I64, x->nd + 1, shape);
}

static pg_status forward_one_hot(pg_call *c) {
  pg_tensor *x;
  int64_t n = c->arg[0].i, shape[PG_MAX_DIMS];
  PG_TRY(pg__contiguous(c->ctx, c->in[0], &x));
  const int64_t *v = pg_data(x);
  int64_t count = pg_numel(x), most = 0;
  for (int64_t i = 0; i < count; i++) most = pg_max64(most, v[i]);
  pg_status s = check_indices(c->ctx, pg_in_name(c, 0), v, count, n == -1 ? most : n, false);
  if (s == PG_OK && n == -1) {
    pg_tensor *y;
    n = most;
    memcpy(shape, x->shape, sizeof shape);
    shape[x->nd] = n;
    s = pg_tensor_new(c->ctx, PG_I64, x->nd + 1, shape, &y);
    if (s == PG_OK) put_out(c, y);
  }
  if (s == PG_OK) {
    pg_tensor_fill(c->out[0], 0);
    int64_t *y = pg_data(c->out[0]);
    for (int64_t i = 0; i < count; i++) y[i * n + v[i] - 1] = 1;
  }
  pg_tensor_unref(x);
  return s;
}

/* --- tril and triu -----------------------------------------------------------------------------
 */
static pg_status infer_triangle(pg_call *c) {
  const pg_tensor *x = c->in[0];
  if (x->nd < 2) return pg_bad_in(c, PG_ESHAPE, 0, "at least 2 dims");
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, x->shape);
}

typedef struct triangle {
  bool lower;
  int64_t rows, cols, offset;
  size_t size;
  const char *x;
  char *y;
} triangle;

static void triangle_rows(void *arg, int64_t begin, int64_t end) {
  const triangle *q = arg;
  for (int64_t r = begin; r < end; r++) {
    int64_t edge = r % q->rows + q->offset + (q->lower ? 1 : 0); /* first column past / of it */
    edge = pg_max64(0, pg_min64(edge, q->cols));
    size_t left = (size_t)edge * q->size, all = (size_t)q->cols * q->size;
    const char *x = q->x + (size_t)r * all;
    char *y = q->y + (size_t)r * all;
    if (q->lower) {
      memcpy(y, x, left);
      memset(y + left, 0, all - left);
    } else {
      memset(y, 0, left);
      memcpy(y + left, x + left, all - left);
    }
  }
}

static pg_status forward_triangle(pg_call *c, bool lower) {
  pg_tensor *x;
  if (pg_numel(c->in[0]) == 0) return PG_OK;
  PG_TRY(pg__contiguous(c->ctx, c->in[0], &x));
  triangle q = {.lower = lower, .rows = x->shape[x->nd - 2], .cols = x->shape[x->nd - 1]};
  q.offset = pg_max64(-q.rows - 1, pg_min64(c->arg[0].i, q.cols + 1));
  q.size = pg_dtype_size((pg_dtype)x->dtype);
  q.x = pg_data(x);
  q.y = pg_data(c->out[0]);
  pg_par_for(c->ctx, pg_numel(x) / q.cols, pg_grain(q.cols), triangle_rows, &q);
  pg_tensor_unref(x);
  return PG_OK;
}
static pg_status forward_tril(pg_call *c) { return forward_triangle(c, true); }
static pg_status forward_triu(pg_call *c) { return forward_triangle(c, false); }
static pg_status backward_tril(pg_call *c) {
  return pg_do(c->ctx, &c->gin[0], "tril", "ti", c->gout[0], c->arg[0].i);
}
static pg_status backward_triu(pg_call *c) {
  return pg_do(c->ctx, &c->gin[0], "triu", "ti", c->gout[0], c->arg[0].i);
}

/* An optional index tensor. */
#define INDEX(n) \
  { n, PG_TENSOR, PG_OPTIONAL | PG_NOGRAD, 0, NULL }
#define INDICES INDEX("i1"), INDEX("i2"), INDEX("i3"), INDEX("i4"), INDEX("i5"), INDEX("i6")
#define SAVE_INDICES(first)                                                                    \
  (PG_SAVE_IN(first) | PG_SAVE_IN(first + 1) | PG_SAVE_IN(first + 2) | PG_SAVE_IN(first + 3) | \
   PG_SAVE_IN(first + 4) | PG_SAVE_IN(first + 5))

const pg_op PG_AT(pg_ops_index)[] = {
    {"index_select",
     "The slices number index[1], index[2], .. of dim.",
     {PG_T("input"), PG_REQ("dim", PG_DIM), PG_TIDX("index")},
     PG_METHOD,
     PG_SAVE_IN(1),
     1,
     infer_index_select,
     {forward_index_select},
     backward_index_select},
    {"index_add",
     "input with alpha source added slice by slice at index along dim.",
     {PG_T("input"), PG_REQ("dim", PG_DIM), PG_TIDX("index"), PG_T("source"),
      PG_DEF("alpha", PG_FLOAT, 1)},
     PG_METHOD | PG_INPLACE,
     PG_SAVE_IN(1),
     1,
     infer_index_add,
     {forward_index_add},
     backward_index_add},
    {"index_copy",
     "input with the slices at index along dim replaced by those of source.",
     {PG_T("input"), PG_REQ("dim", PG_DIM), PG_TIDX("index"), PG_T("source")},
     PG_METHOD | PG_INPLACE,
     PG_SAVE_IN(1),
     1,
     infer_index_write,
     {forward_index_copy},
     backward_index_copy},
    {"index_fill",
     "input with the slices at index along dim filled with value.",
     {PG_T("input"),
      PG_REQ("dim", PG_DIM),
      PG_TIDX("index"),
      {"value", PG_FLOAT, PG_NUMBER, 0, NULL}},
     PG_METHOD | PG_INPLACE,
     PG_SAVE_IN(1),
     1,
     infer_index_fill,
     {forward_index_fill},
     backward_index_fill},
    {"gather",
     "y[i, j, ..] = input at the same place, but at index[i, j, ..] along dim.",
     {PG_T("input"), PG_REQ("dim", PG_DIM), PG_TIDX("index")},
     PG_METHOD,
     PG_SAVE_IN(1),
     1,
     infer_gather,
     {forward_gather},
     backward_gather},
    {"scatter",
     "input with src (or a number) written where gather would read.",
     {PG_T("input"), PG_REQ("dim", PG_DIM), PG_TIDX("index"), PG_TN("src")},
     PG_METHOD | PG_INPLACE,
     PG_SAVE_IN(1),
     1,
     infer_scatter,
     {forward_scatter},
     backward_scatter},
    {"scatter_add",
     "input with src added where gather would read.",
     {PG_T("input"), PG_REQ("dim", PG_DIM), PG_TIDX("index"), PG_T("src")},
     PG_METHOD | PG_INPLACE,
     PG_SAVE_IN(1),
     1,
     infer_scatter_add,
     {forward_scatter_add},
     backward_scatter_add},
    {"take",
     "The elements number index of the flattened input.",
     {PG_T("input"), PG_TIDX("index")},
     PG_METHOD,
     PG_SAVE_IN(1),
     1,
     infer_take,
     {forward_take},
     backward_take},
    {"index",
     "input at index tensors, broadcast with one another, or masks; an absent one takes all.",
     {PG_T("input"), INDICES},
     PG_METHOD,
     SAVE_INDICES(1),
     1,
     infer_index,
     {forward_index},
     backward_index},
    {"index_put",
     "input with values written (or added) where index would read.",
     {PG_T("input"), PG_TN("values"), INDICES, PG_DEF("accumulate", PG_FLAG, 0)},
     PG_METHOD | PG_INPLACE,
     SAVE_INDICES(2),
     1,
     infer_index_put,
     {forward_index_put},
     backward_index_put},
    {"masked_select",
     "The elements where mask is true, as a vector.",
     {PG_T("input"), PG_TIDX("mask")},
     PG_METHOD,
     PG_SAVE_IN(1),
     1,
     infer_masked_select,
     {forward_masked_select},
     backward_masked_select},
    {"masked_scatter",
     "input with the elements where mask is true replaced by those of source, in order.",
     {PG_T("input"), PG_TIDX("mask"), PG_T("source")},
     PG_METHOD | PG_INPLACE,
     PG_SAVE_IN(1),
     1,
     infer_masked_scatter,
     {forward_masked_scatter},
     backward_masked_scatter},
    {"nonzero|argwhere",
     "The places of elements that are not zero, one row of indices each.",
     {PG_T("input")},
     PG_METHOD | PG_NODIFF,
     0,
     1,
     infer_nonzero,
     {forward_nonzero},
     NULL},
    {"embedding",
     "Rows number input of weight; the gradient skips padding_idx.",
     {PG_TIDX("input"), PG_T("weight"), PG_OPT("padding_idx", PG_INT)},
     PG_NN,
     PG_SAVE_IN(0),
     1,
     infer_embedding,
     {forward_embedding},
     backward_embedding},
    {"one_hot",
     "1 at the class and 0 elsewhere, along a new last dim; num_classes -1: the largest class.",
     {PG_TIDX("input"), PG_DEF("num_classes", PG_INT, -1)},
     PG_NN | PG_NODIFF,
     0,
     1,
     infer_one_hot,
     {forward_one_hot},
     NULL},
    {"tril",
     "Zeros above the diagonal number `diagonal` of the last two dims.",
     {PG_T("input"), PG_DEF("diagonal", PG_INT, 0)},
     PG_METHOD,
     0,
     1,
     infer_triangle,
     {forward_tril},
     backward_tril},
    {"triu",
     "Zeros below the diagonal number `diagonal` of the last two dims.",
     {PG_T("input"), PG_DEF("diagonal", PG_INT, 0)},
     PG_METHOD,
     0,
     1,
     infer_triangle,
     {forward_triu},
     backward_triu},
    {0}};
