/* Center loss (Wen et al., ECCV 2016): the loss with its gradient x - c, and the steps of the
 * center update, each in O(batch x features). Relies on the tensor floor and pg_par_for. Spec:
 * spec/ops/center_loss_spec.lua. */
#include <math.h>
#include <string.h>

#include "autograd/op.h"
#include "base/par.h"

/* --- checks -------------------------------------------------------------------------------------
 */

/* in[x] features [b x f], in[y] labels [b] or [b x 1], in[k] centers [c x f]; y < 0: no labels. */
static pg_status check(pg_call *c, int x, int y, int k) {
  PG_TRY(pg_want(c, x, PG_M_REAL));
  PG_TRY(pg_want_dim(c, x, 2));
  PG_TRY(pg_want_dim(c, k, 2));
  PG_TRY(pg_want_same_dtype(c, x, k));
  const pg_tensor *f = c->in[x], *m = c->in[k];
  if (f->shape[1] != m->shape[1])
    return pg_bad_in(c, PG_ESHAPE, x, "%s to follow %s %s", pg_shape_only(2, 1, m->shape[1]).s,
                     pg_in_name(c, k), pg_shape_str(m).s);
  if (y < 0) return PG_OK;
  PG_TRY(pg_want(c, y, PG_M_INT));
  const pg_tensor *t = c->in[y];
  bool fits =
      t->nd >= 1 && t->nd <= 2 && t->shape[0] == f->shape[0] && (t->nd == 1 || t->shape[1] == 1);
  if (!fits)
    return pg_bad_in(c, PG_ESHAPE, y, "[%lld] or [%lld x 1] to follow %s %s",
                     (long long)f->shape[0], (long long)f->shape[0], pg_in_name(c, x),
                     pg_shape_str(f).s);
  return PG_OK;
}

/* in[k] centers, contiguous; in[n] counts and in[d] drift have a value for each class. */
static pg_status check_companions(pg_call *c, int k, int n, int d) {
  const pg_tensor *m = c->in[k];
  PG_TRY(pg_want_same_dtype(c, d, k));
  if (pg_is_contiguous(m) && pg_numel(c->in[d]) == m->shape[0] && c->in[n]->dtype == PG_I64 &&
      pg_numel(c->in[n]) == m->shape[0])
    return PG_OK;
  return pg_fail(c->ctx, PG_ESTATE,
                 "centers %s do not belong to counts %s and drift %s, or are not contiguous",
                 pg_shape_str(m).s, pg_shape_str(c->in[n]).s, pg_shape_str(c->in[d]).s);
}

/* *out = in[y] as contiguous int64, every value of it in 1..classes. */
static pg_status labels(pg_call *c, int y, int64_t classes, pg_tensor **out) {
  PG_TRY(pg__as(c->ctx, c->in[y], PG_I64, out));
  const int64_t *v = pg_data(*out);
  int64_t n = pg_numel(*out);
  for (int64_t i = 0; i < n; i++) {
    if (v[i] >= 1 && v[i] <= classes) continue;
    pg_status s =
        pg_fail(c->ctx, PG_EINDEX, "argument '%s': expected 1..%lld, got label %lld in row %lld",
                pg_in_name(c, y), (long long)classes, (long long)v[i], (long long)i + 1);
    pg_tensor_unref(*out);
    *out = NULL;
    return s;
  }
  return PG_OK;
}

/* --- kernels ------------------------------------------------------------------------------------
 */

enum { WIDE = 16, BLOCK = 8, PIECE = 256 };

/* Has memory on its way that is read and written next: rows of many classes lie far apart. */
static void fetch(const void *from, size_t bytes) {
  enum { LINE = 64, MOST = 4096 };
  for (size_t i = 0; i < bytes && i < MOST; i += LINE)
    __builtin_prefetch((const char *)from + i, 1);
}

/* distance2: sum of (x - c)^2, in WIDE partial sums that are added in order.
 * measure: rows [begin, end): y = factor distance2; d = x - c where it is wanted.
 * gather: for classes [begin, end) of the sorted rows, s = sum of c - x, in the order of the rows.
 * move: for classes [begin, end): velocity = momentum velocity + rate s; c -= it.
 * step: for classes [begin, end) of the sorted rows before = c, then gather and move without
 * velocity, in pieces, then measure with the new c.
 * search: for rows [begin, end) the nearest center and its distance.
 * scale: rows [begin, end): g = factor * up * d. */
#define KERNELS(T, S, SQRT)                                                                       \
  static T distance2_##S(int64_t f, const T *restrict x, const T *restrict c) {                   \
    T part[WIDE] = {0}, sum = 0;                                                                  \
    int64_t i = 0;                                                                                \
    for (; i + WIDE <= f; i += WIDE)                                                              \
      for (int j = 0; j < WIDE; j++) {                                                            \
        T v = x[i + j] - c[i + j];                                                                \
        part[j] += v * v;                                                                         \
      }                                                                                           \
    for (; i < f; i++) {                                                                          \
      T v = x[i] - c[i];                                                                          \
      sum += v * v;                                                                               \
    }                                                                                             \
    for (int j = 0; j < WIDE && f >= WIDE; j++) sum += part[j];                                   \
    return sum;                                                                                   \
  }                                                                                               \
  static void measure_row_##S(const job *w, int64_t b, const T *restrict c) {                     \
    const T *restrict x = (const T *)w->x + b * w->f;                                             \
    ((T *)w->y)[b] = (T)w->factor * distance2_##S(w->f, x, c);                                    \
    if (!w->d) return;                                                                            \
    T *restrict d = (T *)w->d + b * w->f;                                                         \
    for (int64_t i = 0; i < w->f; i++) d[i] = x[i] - c[i];                                        \
  }                                                                                               \
  static void measure_##S(void *arg, int64_t begin, int64_t end) {                                \
    const job *w = arg;                                                                           \
    for (int64_t b = begin; b < end; b++)                                                         \
      measure_row_##S(w, b, (const T *)w->c + (w->label[b] - 1) * w->f);                          \
  }                                                                                               \
  static void scale_##S(void *arg, int64_t begin, int64_t end) {                                  \
    const job *w = arg;                                                                           \
    const T *up = w->x, *d = w->d;                                                                \
    T *g = w->y;                                                                                  \
    for (int64_t b = begin; b < end; b++) {                                                       \
      T k = (T)w->factor * up[b];                                                                 \
      const T *restrict db = d + b * w->f;                                                        \
      T *restrict gb = g + b * w->f;                                                              \
      for (int64_t i = 0; i < w->f; i++) gb[i] = k * db[i];                                       \
    }                                                                                             \
  }                                                                                               \
  static void sum_rows_##S(int64_t n, const T *x, int64_t f, const int64_t *row, int64_t rows,    \
                           const T *restrict c, T *restrict s) {                                  \
    for (int64_t i = 0; i < n; i++) s[i] = 0;                                                     \
    for (int64_t k = 0; k < rows; k++) {                                                          \
      const T *restrict xk = x + row[k] * f;                                                      \
      for (int64_t i = 0; i < n; i++) s[i] += c[i] - xk[i];                                       \
    }                                                                                             \
  }                                                                                               \
  static void gather_##S(void *arg, int64_t begin, int64_t end) {                                 \
    const job *w = arg;                                                                           \
    for (int64_t u = begin; u < end; u++)                                                         \
      sum_rows_##S(w->f, w->x, w->f, w->row + w->first[u], w->count[u],                           \
                   (const T *)w->c + (w->label[u] - 1) * w->f, (T *)w->y + u * w->f);             \
  }                                                                                               \
  static T move_by_##S(int64_t f, T rate, const T *restrict s, T *restrict c) {                   \
    T part[WIDE] = {0}, length = 0;                                                               \
    int64_t i = 0;                                                                                \
    for (; i + WIDE <= f; i += WIDE)                                                              \
      for (int j = 0; j < WIDE; j++) {                                                            \
        T step = rate * s[i + j];                                                                 \
        c[i + j] -= step;                                                                         \
        part[j] += step * step;                                                                   \
      }                                                                                           \
    for (; i < f; i++) {                                                                          \
      T step = rate * s[i];                                                                       \
      c[i] -= step;                                                                               \
      length += step * step;                                                                      \
    }                                                                                             \
    for (int j = 0; j < WIDE && f >= WIDE; j++) length += part[j];                                \
    return length;                                                                                \
  }                                                                                               \
  static T move_by_velocity_##S(int64_t f, T rate, T m, const T *restrict s, T *restrict v,       \
                                T *restrict c) {                                                  \
    T length = 0;                                                                                 \
    for (int64_t i = 0; i < f; i++) {                                                             \
      T step = v[i] = m * v[i] + rate * s[i];                                                     \
      c[i] -= step;                                                                               \
      length += step * step;                                                                      \
    }                                                                                             \
    return length;                                                                                \
  }                                                                                               \
  static void move_##S(void *arg, int64_t begin, int64_t end) {                                   \
    const job *w = arg;                                                                           \
    const T *s = w->x;                                                                            \
    T *c = w->y, *v = w->d, *drift = w->drift;                                                    \
    for (int64_t u = begin; u < end; u++) {                                                       \
      int64_t at = w->label[u] - 1;                                                               \
      T rate = (T)rate_of(w, w->count[u]), m = (T)w->momentum;                                    \
      T *restrict cu = c + at * w->f, *restrict vu = v ? v + at * w->f : NULL;                    \
      const T *restrict su = s + u * w->f;                                                        \
      T length =                                                                                  \
          vu ? move_by_velocity_##S(w->f, rate, m, su, vu, cu) : move_by_##S(w->f, rate, su, cu); \
      if (!w->count[u]) continue;                                                                 \
      drift[at] = SQRT(length);                                                                   \
      w->counts[at]++;                                                                            \
    }                                                                                             \
  }                                                                                               \
  static void step_##S(void *arg, int64_t begin, int64_t end) {                                   \
    const job *w = arg;                                                                           \
    T *drift = w->drift;                                                                          \
    for (int64_t u = begin; u < end; u++) {                                                       \
      if (u + 1 < end) fetch((const T *)w->c + (w->label[u + 1] - 1) * w->f, w->f * sizeof(T));   \
      int64_t at = w->label[u] - 1, first = w->first[u], n = w->count[u];                         \
      T rate = (T)rate_of(w, n), length = 0;                                                      \
      T *cu = (T *)w->c + at * w->f;                                                              \
      memcpy((T *)w->before + u * w->f, cu, (size_t)w->f * sizeof(T));                            \
      for (int64_t from = 0; from < w->f; from += PIECE) {                                        \
        int64_t f = pg_min64(PIECE, w->f - from);                                                 \
        T s[PIECE];                                                                               \
        sum_rows_##S(f, (const T *)w->x + from, w->f, w->row + first, n, cu + from, s);           \
        length += move_by_##S(f, rate, s, cu + from);                                             \
      }                                                                                           \
      drift[at] = SQRT(length);                                                                   \
      w->counts[at]++;                                                                            \
      for (int64_t k = first; k < first + n; k++) measure_row_##S(w, w->row[k], cu);              \
    }                                                                                             \
  }                                                                                               \
  static void search_##S(void *arg, int64_t begin, int64_t end) {                                 \
    const job *w = arg;                                                                           \
    const T *x = w->x, *c = w->c;                                                                 \
    T *y = w->y;                                                                                  \
    for (int64_t at = begin; at < end; at += BLOCK) {                                             \
      int64_t n = pg_min64(BLOCK, end - at), label[BLOCK] = {0};                                  \
      T best[BLOCK];                                                                              \
      for (int64_t b = 0; b < n; b++) best[b] = (T)INFINITY;                                      \
      for (int64_t k = 0; k < w->classes; k++)                                                    \
        for (int64_t b = 0; b < n; b++) {                                                         \
          T d = distance2_##S(w->f, x + (at + b) * w->f, c + k * w->f);                           \
          if (d < best[b]) label[b] = k + 1;                                                      \
          if (d < best[b] || d != d) best[b] = d;                                                 \
        }                                                                                         \
      for (int64_t b = 0; b < n; b++) {                                                           \
        y[at + b] = SQRT(best[b]);                                                                \
        w->counts[at + b] = y[at + b] <= (T)w->factor ? label[b] : 0;                             \
      }                                                                                           \
    }                                                                                             \
  }                                                                                               \
  static int64_t bad_row_##S(int64_t rows, int64_t f, const T *restrict x) {                      \
    for (int64_t b = 0; b < rows; b++) {                                                          \
      const T *restrict xb = x + b * f;                                                           \
      T part[WIDE] = {0}, sum = 0; /* 0 * x is NaN for what is not finite */                      \
      int64_t i = 0;                                                                              \
      for (; i + WIDE <= f; i += WIDE)                                                            \
        for (int j = 0; j < WIDE; j++) part[j] += 0 * xb[i + j];                                  \
      for (; i < f; i++) sum += 0 * xb[i];                                                        \
      for (int j = 0; j < WIDE; j++) sum += part[j];                                              \
      if (sum != 0) return b;                                                                     \
    }                                                                                             \
    return -1;                                                                                    \
  }                                                                                               \
  static void merge_row_##S(int64_t f, const void *a, int64_t ia, const void *b, int64_t ib,      \
                            void *to, int64_t it) {                                               \
    T *restrict y = (T *)to + it * f;                                                             \
    const T *restrict p = (const T *)a + ia * f, *restrict q = (const T *)b + ib * f;             \
    for (int64_t i = 0; i < f; i++) y[i] = (ia < 0 ? 0 : p[i]) + (ib < 0 ? 0 : q[i]);             \
  }

typedef struct job {
  const void *x, *c;
  void *y, *d, *drift, *before;
  int64_t f, classes, batch;
  const int64_t *label, *count, *first, *row;
  int64_t *counts;
  double factor, alpha, momentum;
  int denominator;
} job;

/* What the sum over a class is multiplied by. */
static double rate_of(const job *w, int64_t n) {
  if (!n) return 0;
  switch (w->denominator) {
  case 0:
    return w->alpha / (double)(1 + n);
  case 1:
    return w->alpha / (double)n;
  case 2:
    return w->alpha;
  case 3:
    return w->alpha / ((double)(1 + n) * (double)w->batch);
  default:
    return w->alpha * 2 / (double)w->batch;
  }
}

KERNELS(float, f32, sqrtf)
KERNELS(double, f64, sqrt)

static void spread(pg_ctx *ctx, const job *w, int64_t n, bool f32, pg_par_fn one, pg_par_fn two,
                   int64_t cost) {
  pg_par_for(ctx, n, pg_grain(cost * (w->f > 0 ? w->f : 1)), f32 ? one : two, (void *)w);
}

/* --- center_loss --------------------------------------------------------------------------------
 */

enum { FEATURES, LABELS, CENTERS, TICKET };

static pg_status infer_loss(pg_call *c) {
  PG_TRY(check(c, FEATURES, LABELS, CENTERS));
  const pg_tensor *t = c->in[TICKET];
  if (t && (t->dtype != PG_I64 || pg_numel(t) != 1))
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'ticket': expected one int64, got %s %s",
                   pg_dtype_name((pg_dtype)t->dtype), pg_shape_str(t).s);
  return pg_out_shape(c, 0, (pg_dtype)c->in[FEATURES]->dtype, 2,
                      (int64_t[]){c->in[FEATURES]->shape[0], 1});
}

static pg_status forward_loss(pg_call *c) {
  pg_tensor *label = NULL, *x = NULL, *centers = NULL;
  pg_status s = labels(c, LABELS, c->in[CENTERS]->shape[0], &label);
  if (s == PG_OK) s = pg__contiguous(c->ctx, c->in[FEATURES], &x);
  if (s == PG_OK) s = pg__contiguous(c->ctx, c->in[CENTERS], &centers);
  if (s == PG_OK && c->recording)
    s = pg_tensor_new(c->ctx, (pg_dtype)x->dtype, 2, x->shape, &c->keep[0]);
  if (s == PG_OK) {
    job w = {.x = pg_data(x),
             .c = pg_data(centers),
             .y = pg_data(c->out[0]),
             .d = c->recording ? pg_data(c->keep[0]) : NULL,
             .f = x->shape[1],
             .label = pg_data(label),
             .factor = c->arg[0].f};
    spread(c->ctx, &w, x->shape[0], x->dtype == PG_F32, measure_f32, measure_f64, 3);
  }
  pg_tensor_unref(label);
  pg_tensor_unref(x);
  pg_tensor_unref(centers);
  return s;
}

/* The gradient as ops, so that it can be differentiated: 2 factor gout (x - c), c = x' - diff with
 * x' cut off. */
static pg_status backward_ops(pg_call *c) {
  pg_tensor *cut = NULL, *center = NULL, *diff = NULL, *k = NULL, *g = NULL;
  pg_status s = pg_tensor_detach(c->ctx, c->in[FEATURES], &cut);
  if (s == PG_OK) s = pg_do(c->ctx, &center, "sub", "tt", cut, c->keep[0]);
  if (s == PG_OK) s = pg_do(c->ctx, &diff, "sub", "tt", c->in[FEATURES], center);
  if (s == PG_OK) s = pg_tensor_number(c->ctx, 2 * c->arg[0].f, false, &k);
  if (s == PG_OK) s = pg_do(c->ctx, &g, "mul", "tt", c->gout[0], k);
  if (s == PG_OK) s = pg_do(c->ctx, &c->gin[FEATURES], "mul", "tt", diff, g);
  pg_tensor_unref(cut);
  pg_tensor_unref(center);
  pg_tensor_unref(diff);
  pg_tensor_unref(k);
  pg_tensor_unref(g);
  return s;
}

/* gin = 2 factor gout (x - c), from the x - c that forward kept. */
static pg_status gradient(pg_call *c) {
  if (c->recording) return backward_ops(c);
  pg_tensor *up;
  PG_TRY(pg__contiguous(c->ctx, c->gout[0], &up));
  pg_tensor *d = c->keep[0];
  pg_status s = pg_tensor_new(c->ctx, (pg_dtype)d->dtype, 2, d->shape, &c->gin[FEATURES]);
  if (s == PG_OK) {
    job w = {.x = pg_data(up),
             .d = pg_data(d),
             .y = pg_data(c->gin[FEATURES]),
             .f = d->shape[1],
             .factor = 2 * c->arg[0].f};
    spread(c->ctx, &w, d->shape[0], d->dtype == PG_F32, scale_f32, scale_f64, 1);
  }
  pg_tensor_unref(up);
  return s;
}

static pg_status backward_loss(pg_call *c) {
  if (!c->gout[0]) return PG_OK;
  if (c->in[TICKET]) { /* the number of the optimizer step that this gradient is for */
    int64_t *ticket = pg_data(c->in[TICKET]);
    if (!*ticket) *ticket = (int64_t)c->ctx->steps + 1;
  }
  return c->need[FEATURES] ? gradient(c) : PG_OK;
}

/* --- center_sum ---------------------------------------------------------------------------------
 */

static pg_status infer_sum(pg_call *c) {
  c->ctx->doing = "center_loss"; /* what the script called */
  PG_TRY(check(c, FEATURES, LABELS, CENTERS));
  const pg_tensor *x = c->in[FEATURES];
  PG_TRY(pg_out_shape(c, 0, (pg_dtype)x->dtype, 2, x->shape));
  PG_TRY(pg_out_shape(c, 1, PG_I64, 1, x->shape));
  return pg_out_shape(c, 2, PG_I64, 1, x->shape);
}

/* row = the numbers 0..n-1 in the order of their labels, equal ones as they come; labels
 * are 1..most. tmp holds n values. Radix sort by bytes: O(n) for each byte of most. */
static void sort_rows(int64_t n, const int64_t *label, int64_t most, int64_t *row, int64_t *tmp) {
  for (int64_t i = 0; i < n; i++) row[i] = i;
  for (int shift = 0; shift < 63 && most >> shift; shift += 8) {
    int64_t at[257] = {0};
    for (int64_t i = 0; i < n; i++) at[(label[i] >> shift & 255) + 1]++;
    for (int k = 0; k < 256; k++) at[k + 1] += at[k];
    for (int64_t i = 0; i < n; i++) tmp[at[label[row[i]] >> shift & 255]++] = row[i];
    memcpy(row, tmp, (size_t)n * sizeof *row);
  }
}

/* The rows of a batch sorted by class, and for each class that occurs, in ascending order: its
 * label, its first position in row, how often it occurs. */
typedef struct groups {
  int64_t *row, *first, unique;
  int64_t *class, *count; /* the caller's, zeros beyond unique */
  void *room;             /* to be freed: bytes of it */
  size_t bytes;
} groups;

static pg_status groups_new(pg_ctx *ctx, int64_t n, const int64_t *label, int64_t classes,
                            int64_t *class, int64_t *count, groups *g) {
  *g = (groups){.class = class, .count = count, .bytes = 3 * (size_t)n * sizeof *label};
  PG_TRY(pg_alloc(ctx, g->bytes, &g->room));
  g->row = g->room;
  g->first = g->row + n;
  sort_rows(n, label, classes, g->row, g->row + 2 * n);
  for (int64_t k = 0; k < n; k++) {
    int64_t at = label[g->row[k]];
    if (k == 0 || at != class[g->unique - 1]) {
      class[g->unique] = at;
      count[g->unique] = 0;
      g->first[g->unique++] = k;
    }
    count[g->unique - 1]++;
  }
  for (int64_t u = g->unique; u < n; u++) class[u] = count[u] = 0;
  return PG_OK;
}

static pg_status check_finite(pg_ctx *ctx, const pg_tensor *x) {
  int64_t n = x->shape[0], f = x->shape[1];
  int64_t bad = x->dtype == PG_F32 ? bad_row_f32(n, f, pg_data(x)) : bad_row_f64(n, f, pg_data(x));
  if (bad < 0) return PG_OK;
  return pg_fail(ctx, PG_EVALUE,
                 "argument 'features': expected finite numbers, got others in row %lld; the "
                 "centers were left as they are",
                 (long long)bad + 1);
}

static pg_status forward_sum(pg_call *c) {
  c->ctx->doing = "center_loss";
  pg_tensor *label = NULL, *x = NULL, *centers = NULL;
  int64_t n = c->in[FEATURES]->shape[0], f = c->in[FEATURES]->shape[1];
  groups g = {0};
  pg_status s = labels(c, LABELS, c->in[CENTERS]->shape[0], &label);
  if (s == PG_OK) s = pg__contiguous(c->ctx, c->in[FEATURES], &x);
  if (s == PG_OK) s = pg__contiguous(c->ctx, c->in[CENTERS], &centers);
  if (s == PG_OK) s = check_finite(c->ctx, x);
  if (s == PG_OK)
    s = groups_new(c->ctx, n, pg_data(label), centers->shape[0], pg_data(c->out[1]),
                   pg_data(c->out[2]), &g);
  if (s != PG_OK) goto done;
  job w = {.x = pg_data(x),
           .c = pg_data(centers),
           .y = pg_data(c->out[0]),
           .f = f,
           .label = g.class,
           .count = g.count,
           .first = g.first,
           .row = g.row};
  spread(c->ctx, &w, g.unique, x->dtype == PG_F32, gather_f32, gather_f64,
         g.unique ? 2 * n / g.unique : 1);
  size_t size = pg_dtype_size((pg_dtype)x->dtype);
  if (g.unique < n)
    memset((char *)pg_data(c->out[0]) + (size_t)(g.unique * f) * size, 0,
           (size_t)((n - g.unique) * f) * size);
done:
  pg_free(c->ctx, g.room, g.bytes);
  pg_tensor_unref(label);
  pg_tensor_unref(x);
  pg_tensor_unref(centers);
  return s;
}

/* --- center_step --------------------------------------------------------------------------------
 */

enum { S_COUNTS = CENTERS + 1, S_DRIFT, S_BEFORE, S_LABEL, S_COUNT };

static pg_status infer_step(pg_call *c) {
  c->ctx->doing = "center_loss"; /* what the script called */
  PG_TRY(check(c, FEATURES, LABELS, CENTERS));
  PG_TRY(check_companions(c, CENTERS, S_COUNTS, S_DRIFT));
  const pg_tensor *x = c->in[FEATURES], *b = c->in[S_BEFORE], *l = c->in[S_LABEL];
  PG_ASSERT(b->dtype == x->dtype && pg_same_shape(b, x) && pg_numel(l) == x->shape[0] &&
            pg_numel(c->in[S_COUNT]) == x->shape[0]);
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, 2, (int64_t[]){x->shape[0], 1});
}

static pg_status forward_step(pg_call *c) {
  c->ctx->doing = "center_loss";
  const pg_tensor *centers = c->in[CENTERS];
  pg_tensor *label = NULL, *x = NULL;
  int64_t n = c->in[FEATURES]->shape[0];
  groups g = {0};
  pg_status s = labels(c, LABELS, centers->shape[0], &label);
  if (s == PG_OK) s = pg__contiguous(c->ctx, c->in[FEATURES], &x);
  if (s == PG_OK) s = check_finite(c->ctx, x);
  if (s == PG_OK && c->recording)
    s = pg_tensor_new(c->ctx, (pg_dtype)x->dtype, 2, x->shape, &c->keep[0]);
  if (s == PG_OK)
    s = groups_new(c->ctx, n, pg_data(label), centers->shape[0], pg_data(c->in[S_LABEL]),
                   pg_data(c->in[S_COUNT]), &g);
  if (s == PG_OK) {
    job w = {.x = pg_data(x),
             .c = pg_data(centers),
             .before = pg_data(c->in[S_BEFORE]),
             .y = pg_data(c->out[0]),
             .d = c->recording ? pg_data(c->keep[0]) : NULL,
             .drift = pg_data(c->in[S_DRIFT]),
             .counts = pg_data(c->in[S_COUNTS]),
             .f = x->shape[1],
             .label = g.class,
             .count = g.count,
             .first = g.first,
             .row = g.row,
             .factor = c->arg[0].f,
             .alpha = c->arg[1].f,
             .denominator = (int)c->arg[2].i,
             .batch = n};
    spread(c->ctx, &w, g.unique, x->dtype == PG_F32, step_f32, step_f64,
           g.unique ? 5 + 5 * n / g.unique : 1);
    for (int k = CENTERS; k <= S_DRIFT; k++) c->in[k]->storage->version++;
  }
  pg_free(c->ctx, g.room, g.bytes);
  pg_tensor_unref(label);
  pg_tensor_unref(x);
  return s;
}

static pg_status backward_step(pg_call *c) {
  return c->gout[0] && c->need[FEATURES] ? gradient(c) : PG_OK;
}

/* --- center_merge -------------------------------------------------------------------------------
 */

static pg_status infer_merge(pg_call *c) {
  int64_t rows = c->in[1]->shape[0] + c->in[4]->shape[0];
  PG_TRY(pg_want_same_dtype(c, 3, 0));
  PG_TRY(pg_out_shape(c, 0, (pg_dtype)c->in[0]->dtype, 2, (int64_t[]){rows, c->in[0]->shape[1]}));
  PG_TRY(pg_out_shape(c, 1, PG_I64, 1, &rows));
  return pg_out_shape(c, 2, PG_I64, 1, &rows);
}

static pg_status forward_merge(pg_call *c) {
  int64_t f = c->in[0]->shape[1], na = c->in[1]->shape[0], nb = c->in[4]->shape[0], u = 0;
  const int64_t *la = pg_data(c->in[1]), *ca = pg_data(c->in[2]);
  const int64_t *lb = pg_data(c->in[4]), *cb = pg_data(c->in[5]);
  int64_t *label = pg_data(c->out[1]), *count = pg_data(c->out[2]);
  while (na > 0 && !la[na - 1]) na--;
  while (nb > 0 && !lb[nb - 1]) nb--;
  for (int64_t a = 0, b = 0; a < na || b < nb; u++) {
    int64_t least = a == na ? lb[b] : b == nb ? la[a] : pg_min64(la[a], lb[b]);
    int64_t ia = a < na && la[a] == least ? a++ : -1, ib = b < nb && lb[b] == least ? b++ : -1;
    label[u] = least;
    count[u] = (ia < 0 ? 0 : ca[ia]) + (ib < 0 ? 0 : cb[ib]);
    (c->in[0]->dtype == PG_F32 ? merge_row_f32 : merge_row_f64)(
        f, pg_data(c->in[0]), ia, pg_data(c->in[3]), ib, pg_data(c->out[0]), u);
  }
  for (; u < c->in[1]->shape[0] + c->in[4]->shape[0]; u++) label[u] = count[u] = 0;
  return PG_OK;
}

/* --- center_move_ -------------------------------------------------------------------------------
 */

enum { M_CENTERS, M_SUM, M_LABEL, M_COUNT, M_COUNTS, M_DRIFT, M_VELOCITY };

static pg_status infer_move(pg_call *c) {
  const pg_tensor *m = c->in[M_CENTERS], *v = c->in[M_VELOCITY];
  PG_TRY(pg_want(c, M_CENTERS, PG_M_REAL));
  PG_TRY(pg_want_same_dtype(c, M_SUM, M_CENTERS));
  PG_TRY(check_companions(c, M_CENTERS, M_COUNTS, M_DRIFT));
  bool fits = c->in[M_SUM]->shape[1] == m->shape[1];
  if (v) fits = fits && v->dtype == m->dtype && pg_same_shape(v, m) && pg_is_contiguous(v);
  if (!fits)
    return pg_fail(c->ctx, PG_ESTATE, "centers %s do not belong to the sum %s or the velocity",
                   pg_shape_str(m).s, pg_shape_str(c->in[M_SUM]).s);
  return pg_out_like(c, 0, (pg_dtype)m->dtype, m);
}

static pg_status forward_move(pg_call *c) {
  const pg_tensor *m = c->in[M_CENTERS];
  const int64_t *label = pg_data(c->in[M_LABEL]);
  int64_t unique = c->in[M_LABEL]->shape[0];
  while (unique > 0 && !label[unique - 1]) unique--;
  job w = {.x = pg_data(c->in[M_SUM]),
           .y = pg_data(c->out[0]),
           .d = c->in[M_VELOCITY] ? pg_data(c->in[M_VELOCITY]) : NULL,
           .drift = pg_data(c->in[M_DRIFT]),
           .counts = pg_data(c->in[M_COUNTS]),
           .f = m->shape[1],
           .label = label,
           .count = pg_data(c->in[M_COUNT]),
           .alpha = c->arg[0].f,
           .denominator = (int)c->arg[1].i,
           .batch = c->arg[2].i,
           .momentum = c->arg[3].f};
  spread(c->ctx, &w, unique, m->dtype == PG_F32, move_f32, move_f64, 4);
  c->in[M_COUNTS]->storage->version++;
  c->in[M_DRIFT]->storage->version++;
  if (c->in[M_VELOCITY]) c->in[M_VELOCITY]->storage->version++;
  return PG_OK;
}

/* --- nearest_center -----------------------------------------------------------------------------
 */

static pg_status infer_nearest(pg_call *c) {
  PG_TRY(check(c, 0, -1, 1));
  if (c->arg[0].set && !(c->arg[0].f >= 0))
    return pg_fail(c->ctx, PG_EARG, "argument 'reject': expected a distance >= 0, got %g",
                   c->arg[0].f);
  PG_TRY(pg_out_shape(c, 0, PG_I64, 1, c->in[0]->shape));
  return pg_out_shape(c, 1, (pg_dtype)c->in[0]->dtype, 1, c->in[0]->shape);
}

static pg_status forward_nearest(pg_call *c) {
  pg_tensor *x = NULL, *centers = NULL;
  pg_status s = pg__contiguous(c->ctx, c->in[0], &x);
  if (s == PG_OK) s = pg__contiguous(c->ctx, c->in[1], &centers);
  if (s == PG_OK) {
    job w = {.x = pg_data(x),
             .c = pg_data(centers),
             .y = pg_data(c->out[1]),
             .counts = pg_data(c->out[0]),
             .f = x->shape[1],
             .classes = centers->shape[0],
             .factor = c->arg[0].set ? c->arg[0].f : INFINITY};
    int64_t grain = pg_grain(3 * w.f * (w.classes > 0 ? w.classes : 1));
    grain = (grain + BLOCK - 1) / BLOCK * BLOCK;
    pg_par_for(c->ctx, x->shape[0], grain, x->dtype == PG_F32 ? search_f32 : search_f64, &w);
  }
  pg_tensor_unref(x);
  pg_tensor_unref(centers);
  return s;
}

/* --- descriptors --------------------------------------------------------------------------------
 */

#define NOGRAD(n) \
  { n, PG_TENSOR, PG_NOGRAD, 0, NULL }
#define NOGRAD_OPT(n) \
  { n, PG_TENSOR, PG_NOGRAD | PG_OPTIONAL, 0, NULL }

const pg_op PG_AT(pg_ops_center_loss)[] = {
    {.name = "center_loss",
     .doc = "y[i] = factor ||features[i] - centers[labels[i]]||^2 as [n x 1], with gradient to the "
            "features only; backward writes into ticket, if given, which optimizer step it is for.",
     .param = {PG_T("features"), PG_TIDX("labels"), NOGRAD("centers"),
               PG_DEF("factor", PG_FLOAT, 0.5), NOGRAD_OPT("ticket")},
     .flags = PG_NN | PG_FULL,
     .saves = PG_SAVE_IN(FEATURES) | PG_SAVE_IN(TICKET),
     .nout = 1,
     .infer = infer_loss,
     .forward = {forward_loss},
     .backward = backward_loss},
    {.name = "nearest_center",
     .doc = "labels and distances of the centers nearest to the rows of features [n x f] among "
            "centers [c x f]; the label is 0 where the distance is above reject.",
     .param = {PG_T("features"), PG_T("centers"), PG_OPT("reject", PG_FLOAT)},
     .flags = PG_NN | PG_NODIFF | PG_FULL,
     .nout = 2,
     .infer = infer_nearest,
     .forward = {forward_nearest}},
    {.name = "center_sum",
     .doc = "For each label in a batch, ascending: sum of centers[label] - features over its rows, "
            "the label, how often it occurs; zeros fill the outputs up to the batch's size.",
     .param = {PG_T("features"), PG_TIDX("labels"), NOGRAD("centers")},
     .flags = PG_HIDDEN | PG_NODIFF,
     .nout = 3,
     .infer = infer_sum,
     .forward = {forward_sum}},
    {.name = "center_merge",
     .doc = "What center_sum gives for two batches joined, from what it gave for each.",
     .param = {PG_T("sum"), PG_TIDX("label"), PG_TIDX("count"), PG_T("sum2"), PG_TIDX("label2"),
               PG_TIDX("count2")},
     .flags = PG_HIDDEN | PG_NODIFF,
     .nout = 3,
     .infer = infer_merge,
     .forward = {forward_merge}},
    {.name = "center_step",
     .doc = "Moves the centers of the labels that occur by alpha sum(centers[label] - features) / "
            "denominator, then is center_loss with the new ones. counts[label] += 1, drift[label] "
            "= length of the step; label and count tell the classes as center_sum does, before "
            "gets their old centers.",
     .param = {PG_T("features"), PG_TIDX("labels"), NOGRAD("centers"), PG_TIDX("counts"),
               NOGRAD("drift"), NOGRAD("before"), PG_TIDX("label"), PG_TIDX("count"),
               PG_DEF("factor", PG_FLOAT, 0.5), PG_REQ("alpha", PG_FLOAT),
               PG_WORD("denominator", 0, "1+n|n|none|(1+n)B|B/2")},
     .flags = PG_HIDDEN,
     .saves = PG_SAVE_IN(FEATURES),
     .nout = 1,
     .infer = infer_step,
     .forward = {forward_step},
     .backward = backward_step},
    {.name = "center_move_",
     .doc =
         "centers[label] -= alpha sum / denominator, through velocity = momentum velocity + step "
         "where there is one; counts[label] += 1, drift[label] = length of the step.",
     .param = {PG_T("centers"), PG_T("sum"), PG_TIDX("label"), PG_TIDX("count"), PG_TIDX("counts"),
               NOGRAD("drift"), NOGRAD_OPT("velocity"), PG_REQ("alpha", PG_FLOAT),
               PG_WORD("denominator", 0, "1+n|n|none|(1+n)B|B/2"), PG_DEF("batch", PG_INT, 1),
               PG_DEF("momentum", PG_FLOAT, 0)},
     .flags = PG_HIDDEN | PG_NODIFF | PG_INPLACE_ONLY,
     .nout = 1,
     .infer = infer_move,
     .forward = {forward_move}},
    {0}};
