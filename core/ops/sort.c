/* Ordering: sort, argsort, topk, kthvalue, searchsorted, bucketize, unique. Sorting is stable, NaN
 * counts as the largest number and both zeros as equal. Relies on base/par.h. Spec:
 * spec/ops/sort_spec.lua. */
#include <string.h>

#include "autograd/op.h"
#include "base/par.h"

/* A key orders like the element it stands for; its place in the row goes with it. */
typedef struct entry {
  uint64_t key;
  int64_t at;
} entry;

#define TOP ((uint64_t)1 << 63)

static inline uint64_t key_of_f64(double v) {
  uint64_t bits;
  if (v != v) return UINT64_MAX;
  if (v == 0) v = 0; /* -0 too */
  memcpy(&bits, &v, sizeof bits);
  return bits & TOP ? ~bits : bits | TOP;
}

/* KEYS(float, key_of_f64((double)x[i])) */
#define KEYS(T, expression)                                                 \
  do {                                                                      \
    const T *x = from;                                                      \
    for (int64_t i = 0; i < n; i++) e[i] = (entry){(expression) ^ flip, i}; \
  } while (0)

/* Entries of a contiguous row; with flip = UINT64_MAX they sort downwards. */
static void make_entries(pg_dtype dtype, const void *from, int64_t n, uint64_t flip, entry *e) {
  if (dtype == PG_F32) KEYS(float, key_of_f64((double)x[i]));
  else if (dtype == PG_F64) KEYS(double, key_of_f64(x[i]));
  else if (dtype == PG_BF16) KEYS(uint16_t, key_of_f64((double)pg_bf16_f32(x[i])));
  else if (dtype == PG_I64) KEYS(int64_t, (uint64_t)x[i] ^ TOP);
  else KEYS(uint8_t, (uint64_t)x[i]);
}

static void insertion_sort(entry *e, int64_t n) {
  for (int64_t i = 1; i < n; i++) {
    entry v = e[i];
    int64_t j = i;
    for (; j > 0 && e[j - 1].key > v.key; j--) e[j] = e[j - 1];
    e[j] = v;
  }
}

/* Sorts e by key with tmp of the same size: byte by byte from the lowest, bytes that all keys share
 * left out. */
static void sort_entries(entry *e, entry *tmp, int64_t n) {
  if (n <= 48) {
    insertion_sort(e, n);
    return;
  }
  uint64_t all = ~(uint64_t)0, any = 0;
  for (int64_t i = 0; i < n; i++) {
    all &= e[i].key;
    any |= e[i].key;
  }
  entry *from = e, *to = tmp;
  for (int shift = 0; shift < 64; shift += 8) {
    if (((all ^ any) >> shift & 255) == 0) continue;
    int64_t count[257] = {0};
    for (int64_t i = 0; i < n; i++) count[(from[i].key >> shift & 255) + 1]++;
    for (int k = 0; k < 256; k++) count[k + 1] += count[k];
    for (int64_t i = 0; i < n; i++) to[count[from[i].key >> shift & 255]++] = from[i];
    entry *swap = from;
    from = to;
    to = swap;
  }
  if (from != e) memcpy(e, from, (size_t)n * sizeof *e);
}

/* Rows of n elements; the first `keep` of each row's order are written. */
typedef struct ordering {
  pg_dtype dtype;
  size_t size;
  int64_t n, first, keep;        /* elements [first, first + keep) of the order */
  bool downwards, most_frequent; /* most_frequent: one element, mode */
  const char *x;
  char *values; /* NULL: not wanted */
  int64_t *indices;
  entry *room; /* 2 n for each row */
} ordering;

enum { FEW = 64 };

/* The k smallest keys in order at the front of e: every further entry that is small enough moves
 * in. */
static void select_few(entry *e, int64_t n, int64_t k) {
  insertion_sort(e, k);
  for (int64_t i = k; i < n; i++) {
    entry v = e[i];
    if (v.key >= e[k - 1].key) continue;
    int64_t j = k - 1;
    for (; j > 0 && e[j - 1].key > v.key; j--) e[j] = e[j - 1];
    e[j] = v;
  }
}

/* Place in sorted entries of the last one of the longest run of equal values, the smallest of such
 * values; every NaN is a run of its own. */
static int64_t longest_run(pg_dtype dtype, const entry *e, int64_t n) {
  int64_t best = 0, length = 0, run = 0;
  for (int64_t i = 0; i < n; i++) {
    bool nan = pg_is_float(dtype) && e[i].key == UINT64_MAX;
    run = i > 0 && !nan && e[i].key == e[i - 1].key ? run + 1 : 1;
    if (run > length) {
      length = run;
      best = i;
    }
  }
  return best;
}

static void order_rows(void *arg, int64_t begin, int64_t end) {
  const ordering *q = arg;
  for (int64_t r = begin; r < end; r++) {
    entry *e = q->room + 2 * r * q->n;
    const char *x = q->x + (size_t)(r * q->n) * q->size;
    make_entries(q->dtype, x, q->n, q->downwards ? UINT64_MAX : 0, e);
    int64_t last = q->first + q->keep;
    if (last > 0 && last <= FEW && last < q->n && !q->most_frequent) select_few(e, q->n, last);
    else sort_entries(e, e + q->n, q->n);
    int64_t first = q->most_frequent ? longest_run(q->dtype, e, q->n) : q->first;
    for (int64_t i = 0; i < q->keep; i++) {
      int64_t at = e[first + i].at;
      q->indices[r * q->keep + i] = at + 1;
      if (q->values)
        memcpy(q->values + (size_t)(r * q->keep + i) * q->size, x + (size_t)at * q->size, q->size);
    }
  }
}

/* *out = contiguous tensor whose last dim is t's dim number dim (a scalar is one row of one). */
static pg_status rows_of(pg_ctx *ctx, const pg_tensor *t, int dim, pg_tensor **out) {
  int64_t shape[PG_MAX_DIMS] = {1}, stride[PG_MAX_DIMS] = {1};
  pg_tensor *view;
  int nd = 0;
  for (int i = 0; i < t->nd; i++) {
    if (i == dim) continue;
    shape[nd] = t->shape[i];
    stride[nd++] = t->stride[i];
  }
  shape[nd] = t->nd ? t->shape[dim] : 1;
  stride[nd++] = t->nd ? t->stride[dim] : 1;
  PG_TRY(pg_tensor_alias(ctx, t, nd, shape, stride, t->offset, &view));
  pg_status s = pg__contiguous(ctx, view, out);
  pg_tensor_unref(view);
  return s;
}

/* Copies rows (as rows_of lays them, `width` long, contiguous) into y, whose dim number dim has
 * that size; without dim in y (width 1) the row goes away. */
static pg_status put_rows(pg_ctx *ctx, pg_tensor *y, int dim, bool dropped, int64_t width,
                          pg_tensor *rows) {
  int64_t shape[PG_MAX_DIMS + 1], stride[PG_MAX_DIMS + 1];
  int nd = 0;
  pg_tensor *view;
  for (int i = 0; i < y->nd; i++) {
    if (i == dim && !dropped) continue;
    shape[nd] = y->shape[i];
    stride[nd++] = y->stride[i];
  }
  bool scalar = y->nd == 0;
  if (!dropped && !scalar) {
    shape[nd] = width;
    stride[nd++] = y->stride[dim];
  }
  PG_TRY(pg_tensor_alias(ctx, y, nd, shape, stride, y->offset, &view));
  pg_tensor *flat = NULL;
  pg_status s = pg_tensor_alias(ctx, rows, nd, shape, NULL, rows->offset, &flat);
  if (s == PG_OK) s = pg_tensor_copy(view, flat);
  pg_tensor_unref(flat);
  pg_tensor_unref(view);
  return s;
}

/* Orders in[0] along dim and writes elements [first, first + keep) of the order: values to out[0]
 * and places to the last output, or places only. first -1, keep 1: the most frequent element. */
static pg_status order(pg_call *c, int dim, int64_t first, int64_t keep, bool downwards,
                       bool dropped) {
  pg_tensor *x = NULL, *values = NULL, *indices = NULL;
  void *room = NULL;
  size_t bytes = 0;
  if (pg_numel(c->out[0]) == 0) return PG_OK;
  pg_status s = rows_of(c->ctx, c->in[0], dim, &x);
  if (s != PG_OK) return s;
  int64_t n = x->shape[x->nd - 1], rows = pg_numel(x) / n, shape[2] = {rows, keep};
  ordering q = {.dtype = (pg_dtype)x->dtype, .n = n, .first = first, .keep = keep};
  q.most_frequent = first < 0;
  q.downwards = downwards;
  q.size = pg_dtype_size(q.dtype);
  bytes = 2 * (size_t)pg_numel(x) * sizeof(entry);
  s = pg_alloc(c->ctx, bytes, &room);
  if (s == PG_OK) s = pg_tensor_new(c->ctx, PG_I64, 2, shape, &indices);
  if (s == PG_OK && c->nout > 1) s = pg_tensor_new(c->ctx, q.dtype, 2, shape, &values);
  if (s != PG_OK) goto done;
  q.x = pg_data(x);
  q.values = values ? pg_data(values) : NULL;
  q.indices = pg_data(indices);
  q.room = room;
  pg_par_for(c->ctx, rows, pg_grain(32 * n), order_rows, &q);
  if (values) s = put_rows(c->ctx, c->out[0], dim, dropped, keep, values);
  if (s == PG_OK) s = put_rows(c->ctx, c->out[c->nout - 1], dim, dropped, keep, indices);
done:
  pg_tensor_unref(values);
  pg_tensor_unref(indices);
  pg_free(c->ctx, room, bytes);
  pg_tensor_unref(x);
  return s;
}

/* --- sort and argsort: arg dim, descending, stable ---------------------------------------------
 */
static pg_status infer_argsort(pg_call *c) {
  int dim;
  PG_TRY(pg_arg_dim(c, 0, c->in[0]->nd, &dim));
  return pg_out_shape(c, 0, PG_I64, c->in[0]->nd, c->in[0]->shape);
}
static pg_status infer_sort(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(infer_argsort(c));
  PG_TRY(pg_out_shape(c, 1, PG_I64, x->nd, x->shape));
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, x->shape);
}

static pg_status forward_sort(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int dim;
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  return order(c, dim, 0, x->nd ? x->shape[dim] : 1, c->arg[1].i != 0, false);
}

/* gin = zeros with g written where the values came from; dim is 0-based. */
static pg_status scatter_back(pg_call *c, pg_tensor *g, pg_tensor *places, int dim) {
  const pg_meta *m = &c->meta[0];
  pg_tensor *zeros;
  PG_TRY(pg_tensor_zeros(c->ctx, (pg_dtype)m->dtype, m->nd, m->shape, &zeros));
  pg_status s = pg_do(c->ctx, &c->gin[0], "scatter_", "titt", zeros, (int64_t)dim + 1, places, g);
  pg_tensor_unref(zeros);
  return s;
}

static pg_status backward_sort(pg_call *c) {
  int dim;
  PG_TRY(pg_arg_dim(c, 0, c->meta[0].nd, &dim));
  return c->gout[0] ? scatter_back(c, c->gout[0], c->out[1], dim) : PG_OK;
}

/* --- topk: arg k, dim, largest, sorted ---------------------------------------------------------
 */
static pg_status infer_topk(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int dim;
  PG_TRY(pg_arg_dim(c, 1, x->nd, &dim));
  int64_t n = x->nd ? x->shape[dim] : 1, k = c->arg[0].i, shape[PG_MAX_DIMS];
  if (k < 0 || k > n)
    return pg_fail(c->ctx, PG_EARG, "argument 'k': expected 0..%lld for dim %d of %s, got %lld",
                   (long long)n, dim + 1, pg_shape_str(x).s, (long long)k);
  memcpy(shape, x->shape, sizeof shape);
  shape[dim] = k;
  int nd = x->nd || k ? x->nd : 1; /* none of a scalar: an empty vector */
  PG_TRY(pg_out_shape(c, 0, (pg_dtype)x->dtype, nd, shape));
  return pg_out_shape(c, 1, PG_I64, nd, shape);
}

static pg_status forward_topk(pg_call *c) {
  int dim;
  PG_TRY(pg_arg_dim(c, 1, c->in[0]->nd, &dim));
  return order(c, dim, 0, c->arg[0].i, c->arg[2].i != 0, false);
}

static pg_status backward_topk(pg_call *c) {
  int dim;
  PG_TRY(pg_arg_dim(c, 1, c->meta[0].nd, &dim));
  return c->gout[0] ? scatter_back(c, c->gout[0], c->out[1], dim) : PG_OK;
}

/* --- kthvalue: arg k, dim, keepdim -------------------------------------------------------------
 */
static pg_status infer_kthvalue(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int dim, nd = 0;
  PG_TRY(pg_arg_dim(c, 1, x->nd, &dim));
  int64_t n = x->nd ? x->shape[dim] : 1, k = c->arg[0].i, shape[PG_MAX_DIMS];
  if (k < 1 || k > n)
    return pg_fail(c->ctx, PG_EARG, "argument 'k': expected 1..%lld for dim %d of %s, got %lld",
                   (long long)n, dim + 1, pg_shape_str(x).s, (long long)k);
  for (int i = 0; i < x->nd; i++) {
    if (i == dim && !c->arg[2].i) continue;
    shape[nd++] = i == dim ? 1 : x->shape[i];
  }
  PG_TRY(pg_out_shape(c, 0, (pg_dtype)x->dtype, nd, shape));
  return pg_out_shape(c, 1, PG_I64, nd, shape);
}

static pg_status forward_kthvalue(pg_call *c) {
  int dim;
  PG_TRY(pg_arg_dim(c, 1, c->in[0]->nd, &dim));
  return order(c, dim, c->arg[0].i - 1, 1, false, !c->arg[2].i);
}

/* dim is arg number arg, keepdim the one behind it. */
static pg_status backward_one(pg_call *c, int arg) {
  int dim;
  int64_t at;
  pg_tensor *g = NULL, *places = NULL;
  if (!c->gout[0]) return PG_OK;
  PG_TRY(pg_arg_dim(c, arg, c->meta[0].nd, &dim));
  if (c->arg[arg + 1].i || c->meta[0].nd == 0) return scatter_back(c, c->gout[0], c->out[1], dim);
  at = dim + 1;
  pg_status s = pg_do(c->ctx, &g, "unsqueeze", "ti", c->gout[0], at);
  if (s == PG_OK) s = pg_do(c->ctx, &places, "unsqueeze", "ti", c->out[1], at);
  if (s == PG_OK) s = scatter_back(c, g, places, dim);
  pg_tensor_unref(places);
  pg_tensor_unref(g);
  return s;
}

static pg_status backward_kthvalue(pg_call *c) { return backward_one(c, 1); }

/* --- mode: arg dim, keepdim --------------------------------------------------------------------
 */
static pg_status infer_mode(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int dim, nd = 0;
  PG_TRY(pg_arg_dim(c, 0, x->nd, &dim));
  int64_t shape[PG_MAX_DIMS];
  if (x->nd && x->shape[dim] == 0)
    return pg_bad_in(c, PG_ESHAPE, 0, "elements to reduce in dim %d", dim + 1);
  for (int i = 0; i < x->nd; i++) {
    if (i == dim && !c->arg[1].i) continue;
    shape[nd++] = i == dim ? 1 : x->shape[i];
  }
  PG_TRY(pg_out_shape(c, 0, (pg_dtype)x->dtype, nd, shape));
  return pg_out_shape(c, 1, PG_I64, nd, shape);
}

static pg_status forward_mode(pg_call *c) {
  int dim;
  PG_TRY(pg_arg_dim(c, 0, c->in[0]->nd, &dim));
  return order(c, dim, -1, 1, false, !c->arg[1].i);
}

static pg_status backward_mode(pg_call *c) { return backward_one(c, 0); }

/* --- searchsorted and bucketize ----------------------------------------------------------------
 * in[seq] sorted rows, in[values] what is looked for. */
static pg_status infer_search(pg_call *c, int seq, int values) {
  const pg_tensor *a = c->in[seq], *v = c->in[values];
  bool fits = a->nd == 1 || (a->nd == v->nd && a->nd > 0);
  for (int i = 0; i < a->nd - 1 && fits; i++) fits = a->shape[i] == v->shape[i];
  if (!fits)
    return pg_bad_in(c, PG_ESHAPE, values, "rows like those of %s %s", pg_in_name(c, seq),
                     pg_shape_str(a).s);
  return pg_out_shape(c, 0, PG_I64, v->nd, v->shape);
}
static pg_status infer_searchsorted(pg_call *c) { return infer_search(c, 0, 1); }
static pg_status infer_bucketize(pg_call *c) {
  PG_TRY(pg_want_dim(c, 1, 1));
  return infer_search(c, 1, 0);
}

/* 1 + how many of the n numbers at a come before v (right: or equal it). */
static int64_t place_of(const double *a, int64_t n, double v, bool right) {
  int64_t low = 0, high = n;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    bool before = right ? !(v < a[middle]) && !(a[middle] != a[middle] && v == v)
                        : a[middle] < v || (v != v && a[middle] == a[middle]);
    if (before) low = middle + 1;
    else high = middle;
  }
  return low + 1;
}

static pg_status search(pg_call *c, int seq, int values) {
  pg_tensor *a = NULL, *v = NULL;
  bool right = c->arg[0].i != 0;
  pg_status s = pg__as(c->ctx, c->in[seq], PG_F64, &a);
  if (s == PG_OK) s = pg__as(c->ctx, c->in[values], PG_F64, &v);
  if (s == PG_OK && pg_numel(v) > 0) {
    int64_t n = a->shape[a->nd - 1], width = v->nd ? v->shape[v->nd - 1] : 1;
    const double *sorted = pg_data(a), *wanted = pg_data(v);
    int64_t *y = pg_data(c->out[0]);
    for (int64_t i = 0; i < pg_numel(v); i++)
      y[i] = place_of(a->nd == 1 ? sorted : sorted + i / width * n, n, wanted[i], right);
  }
  pg_tensor_unref(v);
  pg_tensor_unref(a);
  return s;
}
static pg_status forward_searchsorted(pg_call *c) { return search(c, 0, 1); }
static pg_status forward_bucketize(pg_call *c) { return search(c, 1, 0); }

/* --- unique ------------------------------------------------------------------------------------
 * Shapes depend on the data: forward puts the outputs in place. */
static pg_status infer_unique(pg_call *c) {
  const pg_tensor *x = c->in[0];
  if (x->storage->device == PG_META)
    return pg_fail(c->ctx, PG_EUNSUPPORTED,
                   "the shape of the result depends on the data and is not known here");
  PG_TRY(pg_out_shape(c, 0, (pg_dtype)x->dtype, 1, (int64_t[]){0}));
  PG_TRY(pg_out_shape(c, 1, PG_I64, x->nd, x->shape));
  return pg_out_shape(c, 2, PG_I64, 1, (int64_t[]){0});
}

static pg_status forward_unique(pg_call *c) {
  pg_tensor *x, *values = NULL, *counts = NULL;
  PG_TRY(pg__contiguous(c->ctx, c->in[0], &x));
  int64_t n = pg_numel(x), distinct = 0, *inverse = pg_data(c->out[1]);
  size_t size = pg_dtype_size((pg_dtype)x->dtype), bytes = 2 * (size_t)n * sizeof(entry);
  entry *e = NULL;
  pg_status s = pg_alloc(c->ctx, bytes, (void **)&e);
  if (s != PG_OK) goto done;
  make_entries((pg_dtype)x->dtype, pg_data(x), n, 0, e);
  sort_entries(e, e + n, n);
  /* Every NaN is a value of its own. */
  for (int64_t i = 0; i < n; i++) {
    bool nan = pg_is_float((pg_dtype)x->dtype) && e[i].key == UINT64_MAX;
    distinct += i == 0 || nan || e[i].key != e[i - 1].key;
    inverse[e[i].at] = distinct;
  }
  s = pg_tensor_new(c->ctx, (pg_dtype)x->dtype, 1, &distinct, &values);
  if (s == PG_OK) s = pg_tensor_new(c->ctx, PG_I64, 1, &distinct, &counts);
  if (s != PG_OK) goto done;
  pg_tensor_fill(counts, 0);
  int64_t *count = pg_data(counts);
  for (int64_t i = 0; i < n; i++) {
    int64_t k = inverse[e[i].at] - 1;
    if (count[k]++ == 0)
      memcpy((char *)pg_data(values) + (size_t)k * size,
             (const char *)pg_data(x) + (size_t)e[i].at * size, size);
  }
  pg_tensor_unref(c->out[0]);
  pg_tensor_unref(c->out[2]);
  c->out[0] = values;
  c->out[2] = counts;
  values = counts = NULL;
done:
  pg_tensor_unref(counts);
  pg_tensor_unref(values);
  pg_free(c->ctx, e, bytes);
  pg_tensor_unref(x);
  return s;
}

const pg_op PG_AT(pg_ops_sort)[] = {
    {"sort",
     "Values in order along dim, and where they stood; equal ones keep their order, NaN is "
     "largest.",
     {PG_T("input"), PG_DEF("dim", PG_DIM, -1), PG_DEF("descending", PG_FLAG, 0),
      PG_DEF("stable", PG_FLAG, 1)},
     PG_METHOD,
     PG_SAVE_OUT(1),
     2,
     infer_sort,
     {forward_sort},
     backward_sort},
    {"argsort",
     "Where the values in order along dim stand.",
     {PG_T("input"), PG_DEF("dim", PG_DIM, -1), PG_DEF("descending", PG_FLAG, 0),
      PG_DEF("stable", PG_FLAG, 1)},
     PG_METHOD | PG_NODIFF,
     0,
     1,
     infer_argsort,
     {forward_sort},
     NULL},
    {"topk",
     "The k largest (or smallest) values along dim, in order, and where they stand.",
     {PG_T("input"), PG_REQ("k", PG_INT), PG_DEF("dim", PG_DIM, -1), PG_DEF("largest", PG_FLAG, 1),
      PG_DEF("sorted", PG_FLAG, 1)},
     PG_METHOD,
     PG_SAVE_OUT(1),
     2,
     infer_topk,
     {forward_topk},
     backward_topk},
    {"kthvalue",
     "The k-th smallest value along dim, and where it stands.",
     {PG_T("input"), PG_REQ("k", PG_INT), PG_DEF("dim", PG_DIM, -1), PG_DEF("keepdim", PG_FLAG, 0)},
     PG_METHOD,
     PG_SAVE_OUT(1),
     2,
     infer_kthvalue,
     {forward_kthvalue},
     backward_kthvalue},
    {"mode",
     "The most frequent value along dim (the smallest of such), and where it stands last.",
     {PG_T("input"), PG_DEF("dim", PG_DIM, -1), PG_DEF("keepdim", PG_FLAG, 0)},
     PG_METHOD,
     PG_SAVE_OUT(1),
     2,
     infer_mode,
     {forward_mode},
     backward_mode},
    {"searchsorted",
     "Where values would go into sorted_sequence (last dim): before equal ones, or behind if "
     "right.",
     {PG_TIDX("sorted_sequence"),
      {"values", PG_TENSOR, PG_NUMBER | PG_NOGRAD, 0, NULL},
      PG_DEF("right", PG_FLAG, 0)},
     PG_METHOD | PG_NODIFF,
     0,
     1,
     infer_searchsorted,
     {forward_searchsorted},
     NULL},
    {"bucketize",
     "The bucket of each element between sorted boundaries: 1 below the first of them.",
     {{"input", PG_TENSOR, PG_NUMBER | PG_NOGRAD, 0, NULL},
      PG_TIDX("boundaries"),
      PG_DEF("right", PG_FLAG, 0)},
     PG_METHOD | PG_NODIFF,
     0,
     1,
     infer_bucketize,
     {forward_bucketize},
     NULL},
    {"unique_flat",
     "The distinct values in order, for each element the place of its value, and how often each "
     "value occurs.",
     {PG_T("input")},
     PG_NODIFF | PG_HIDDEN,
     0,
     3,
     infer_unique,
     {forward_unique},
     NULL},
    {0}};
