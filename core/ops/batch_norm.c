/* batch_norm over channels, contiguous or channels-last in memory. Relies on norm.h.
 * Spec: spec/ops/batch_norm_spec.lua. */
#include <string.h>

#include "ops/norm.h"

/* x as memory: `rows` of c channels side by side (planes 0), or n c planes of `plane` elements. */
typedef struct batch_job {
  int64_t n, c, plane, rows, piece;
  bool by_rows, f64, relu;
  const void *x, *g, *weight, *bias;
  void *y;
  const double *center;    /* per channel: what sums are taken around */
  double *part;            /* per piece: 2 c sums; per plane: 2 */
  const double *a, *b, *d; /* per channel: y = a x + b, or gx = a g + b x + d */
  const double *u, *v;     /* per channel, backward with relu, by rows only: g counts where
                              u x + v > 0 */
} batch_job;

/* Channels whose coefficients are at hand in the type of the elements. */
enum { COLUMNS = NORM_COLUMNS };

/* What is done to a result: nothing, or relu. */
#define AS_IS(v)   (v)
#define CLAMPED(v) ((v) < 0 ? 0 : (v))
/* The gradient that counts: all of it, or as relu gives it for the result u x + v. */
#define REACHED(g, x, j) (u[j] * (x) + v[j] <= 0 ? 0 : (g))

#define BATCH_APPLY(name, T, END)                                                                 \
  static void name(int64_t n, const T *restrict x, T a, T b, T *restrict y) {                     \
    for (int64_t i = 0; i < n; i++) {                                                             \
      const T v = a * x[i] + b;                                                                   \
      y[i] = END(v);                                                                              \
    }                                                                                             \
  }                                                                                               \
  static void rows_##name(int64_t rows, int64_t c, const T *restrict x, const double *restrict a, \
                          const double *restrict b, T *restrict y) {                              \
    T p[COLUMNS], q[COLUMNS];                                                                     \
    for (int64_t from = 0; from < c; from += COLUMNS) {                                           \
      const int64_t n = pg_min64(COLUMNS, c - from);                                              \
      for (int64_t j = 0; j < n; j++) {                                                           \
        p[j] = (T)a[from + j];                                                                    \
        q[j] = (T)b[from + j];                                                                    \
      }                                                                                           \
      const T *restrict xr = x + from;                                                            \
      T *restrict yr = y + from;                                                                  \
      for (int64_t r = 0; r < rows; r++, xr += c, yr += c)                                        \
        for (int64_t j = 0; j < n; j++) {                                                         \
          const T v = p[j] * xr[j] + q[j];                                                        \
          yr[j] = END(v);                                                                         \
        }                                                                                         \
    }                                                                                             \
  }
#define BATCH_GRAD_ROWS(name, T, G)                                                                \
  static void name(int64_t rows, int64_t c, const T *restrict g, const T *restrict x,              \
                   const batch_job *job, T *restrict y) {                                          \
    T p[COLUMNS], q[COLUMNS], t[COLUMNS], u[COLUMNS], v[COLUMNS];                                  \
    (void)u, (void)v;                                                                              \
    for (int64_t from = 0; from < c; from += COLUMNS) {                                            \
      const int64_t n = pg_min64(COLUMNS, c - from);                                               \
      for (int64_t j = 0; j < n; j++) {                                                            \
        p[j] = (T)job->a[from + j];                                                                \
        q[j] = (T)job->b[from + j];                                                                \
        t[j] = (T)job->d[from + j];                                                                \
      }                                                                                            \
      for (int64_t j = 0; j < n && job->u; j++) {                                                  \
        u[j] = (T)job->u[from + j];                                                                \
        v[j] = (T)job->v[from + j];                                                                \
      }                                                                                            \
      const T *restrict xr = x + from, *restrict gr = g + from;                                    \
      T *restrict yr = y + from;                                                                   \
      for (int64_t r = 0; r < rows; r++, xr += c, gr += c, yr += c)                                \
        for (int64_t j = 0; j < n; j++) yr[j] = p[j] * G(gr[j], xr[j], j) + (q[j] * xr[j] + t[j]); \
    }                                                                                              \
  }
#define BATCH(S, T)                                                                                \
  NORM_COLUMN_PRODUCTS(reached_products_##S, T, REACHED)                                           \
  BATCH_APPLY(apply_##S, T, AS_IS)                                                                 \
  BATCH_APPLY(apply_relu_##S, T, CLAMPED)                                                          \
  BATCH_GRAD_ROWS(grad_rows_##S, T, NORM_WHOLE)                                                    \
  BATCH_GRAD_ROWS(grad_relu_rows_##S, T, REACHED)                                                  \
  static void grad_##S(int64_t n, const T *restrict g, const T *restrict x, T a, T b, T d,         \
                       T *restrict y) {                                                            \
    for (int64_t i = 0; i < n; i++) y[i] = a * g[i] + (b * x[i] + d);                              \
  }                                                                                                \
  static void sum_##S(const batch_job *j, int64_t u) {                                             \
    if (j->by_rows) {                                                                              \
      int64_t at = u * j->piece, rows = pg_min64(j->piece, j->rows - at);                          \
      double *s = j->part + u * 2 * j->c;                                                          \
      const T *x = (const T *)j->x + at * j->c;                                                    \
      memset(s, 0, sizeof *s * 2 * (size_t)j->c);                                                  \
      if (j->g)                                                                                    \
        (j->u ? reached_products_##S : norm_column_products_##S)(                                  \
            rows, j->c, (const T *)j->g + at * j->c, x, j->center, j->u, j->v, s);                 \
      else norm_column_sums_##S(rows, j->c, x, j->center, s);                                      \
    } else {                                                                                       \
      T m = (T)j->center[u % j->c];                                                                \
      const T *x = (const T *)j->x + u * j->plane;                                                 \
      if (j->g)                                                                                    \
        norm_products_##S(j->plane, (const T *)j->g + u * j->plane, x, m, j->part + 2 * u);        \
      else norm_sums_##S(j->plane, x, m, j->part + 2 * u);                                         \
    }                                                                                              \
  }                                                                                                \
  static void write_##S(const batch_job *j, int64_t u) {                                           \
    if (j->by_rows) {                                                                              \
      int64_t at = u * j->piece, rows = pg_min64(j->piece, j->rows - at);                          \
      const T *x = (const T *)j->x + at * j->c;                                                    \
      T *y = (T *)j->y + at * j->c;                                                                \
      if (j->g)                                                                                    \
        (j->u ? grad_relu_rows_##S : grad_rows_##S)(rows, j->c, (const T *)j->g + at * j->c, x, j, \
                                                    y);                                            \
      else (j->relu ? rows_apply_relu_##S : rows_apply_##S)(rows, j->c, x, j->a, j->b, y);         \
    } else {                                                                                       \
      int64_t k = u % j->c, at = u * j->plane;                                                     \
      const T *x = (const T *)j->x + at;                                                           \
      T *y = (T *)j->y + at;                                                                       \
      if (j->g)                                                                                    \
        grad_##S(j->plane, (const T *)j->g + at, x, (T)j->a[k], (T)j->b[k], (T)j->d[k], y);        \
      else (j->relu ? apply_relu_##S : apply_##S)(j->plane, x, (T)j->a[k], (T)j->b[k], y);         \
    }                                                                                              \
  }
BATCH(f32, float)
BATCH(f64, double)

static void sum_units(void *arg, int64_t begin, int64_t end) {
  const batch_job *j = arg;
  for (int64_t u = begin; u < end; u++) {
    if (j->f64) sum_f64(j, u);
    else sum_f32(j, u);
  }
}

static void write_units(void *arg, int64_t begin, int64_t end) {
  const batch_job *j = arg;
  for (int64_t u = begin; u < end; u++) {
    if (j->f64) write_f64(j, u);
    else write_f32(j, u);
  }
}

static int64_t units_of(const batch_job *j) {
  return j->by_rows ? (j->rows + j->piece - 1) / j->piece : j->n * j->c;
}

static void run_units(pg_ctx *ctx, batch_job *j, pg_par_fn fn) {
  int64_t each = j->by_rows ? j->piece * j->c : j->plane;
  pg_par_for(ctx, units_of(j), pg_grain(2 * each), fn, j);
}

/* sum[0 .. c) and sum[c .. 2 c): the sums of all pieces or planes, in order. */
static pg_status gather(pg_ctx *ctx, batch_job *j, double *sum) {
  int64_t units = units_of(j), c = j->c;
  size_t bytes = sizeof(double) * 2 * (size_t)(units * (j->by_rows ? c : 1));
  PG_TRY(pg_alloc(ctx, bytes, (void **)&j->part));
  run_units(ctx, j, sum_units);
  for (int64_t k = 0; k < 2 * c; k++) sum[k] = 0;
  for (int64_t u = 0; u < units; u++) {
    if (j->by_rows) {
      for (int64_t k = 0; k < 2 * c; k++) sum[k] += j->part[u * 2 * c + k];
    } else {
      sum[u % c] += j->part[2 * u];
      sum[c + u % c] += j->part[2 * u + 1];
    }
  }
  pg_free(ctx, j->part, bytes);
  return PG_OK;
}

/* Are the channels side by side in memory, everything else in order around them? */
static bool channels_inside(const pg_tensor *x) {
  int64_t n = 1;
  for (int k = 0; k < x->nd; k++) {
    int i = k == 0 ? 1 : k == x->nd - 1 ? 0 : x->nd - k; /* 1, last, .., 2, 0 */
    if (x->shape[i] == 1) continue;
    if (x->stride[i] != n) return false;
    n *= x->shape[i];
  }
  return true;
}

static double at(const pg_tensor *t, int64_t i, double otherwise) {
  return t ? pg_at_f64(t, i * (t->nd ? t->stride[0] : 0)) : otherwise;
}

/* The sizes of x and how it lies. */
static void describe(batch_job *j, const pg_tensor *x) {
  *j = (batch_job){.n = x->shape[0], .c = x->shape[1], .plane = 1, .f64 = x->dtype == PG_F64};
  for (int i = 2; i < x->nd; i++) j->plane *= x->shape[i];
  j->by_rows = channels_inside(x);
  j->rows = j->n * j->plane;
  j->piece = pg_max64(16, NORM_PIECE / pg_max64(1, j->c));
}

/* in input, running_mean, running_var, weight, bias; arg training, momentum, eps */
enum { X, MEAN, VAR, WEIGHT, BIAS };

static pg_status infer_batch(pg_call *c) {
  const pg_tensor *x = c->in[X];
  PG_TRY(pg_want(c, X, PG_M_REAL));
  if (x->nd < 2)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected n x c or n x c x .., got %s",
                   pg_shape_str(x).s);
  for (int i = MEAN; i <= BIAS; i++) {
    const pg_tensor *t = c->in[i];
    if (!t) continue;
    PG_TRY(pg_want_same_dtype(c, i, X));
    if (t->nd != 1 || t->shape[0] != x->shape[1])
      return pg_fail(
          c->ctx, PG_ESHAPE, "argument '%s': expected [%lld], one a channel of %s, got %s",
          pg_in_name(c, i), (long long)x->shape[1], pg_shape_str(x).s, pg_shape_str(t).s);
  }
  bool training = c->arg[0].i != 0;
  if (!training && (!c->in[MEAN] || !c->in[VAR]))
    return pg_bad_in(c, PG_EARG, c->in[MEAN] ? VAR : MEAN, "a tensor where training is false");
  if (!c->in[MEAN] != !c->in[VAR])
    return pg_bad_in(c, PG_EARG, c->in[MEAN] ? VAR : MEAN, "a tensor beside %s",
                     pg_in_name(c, c->in[MEAN] ? MEAN : VAR));
  int64_t each = pg_numel(x) / pg_max64(1, x->shape[1]);
  if (training && each == 1)
    return pg_bad_in(c, PG_EVALUE, X, "more than one value per channel in training");
  if (channels_inside(x)) return pg_out_like(c, 0, (pg_dtype)x->dtype, x);
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, x->shape);
}

/* x where it lies in one of the two ways, else a contiguous copy. */
static pg_status usable(pg_ctx *ctx, pg_tensor *x, pg_tensor **out) {
  if (!channels_inside(x)) return pg__contiguous(ctx, x, out);
  *out = pg_tensor_ref(x);
  return PG_OK;
}

/* Mean and 1 / sqrt(var + eps) of the batch, which also moves the running statistics. The sums are
 * taken around the first element of each channel. */
static pg_status batch_statistics(pg_call *c, batch_job *j, double *mean, double *rstd) {
  double momentum = c->arg[1].f, eps = c->arg[2].f, n = (double)j->rows;
  for (int64_t k = 0; k < j->c; k++) {
    int64_t first = j->by_rows ? k : k * j->plane;
    mean[k] = j->f64 ? ((const double *)j->x)[first] : (double)((const float *)j->x)[first];
    if (!isfinite(mean[k])) mean[k] = 0;
  }
  size_t bytes = sizeof(double) * 2 * (size_t)j->c;
  double *sum;
  PG_TRY(pg_alloc(c->ctx, bytes, (void **)&sum));
  j->center = mean;
  pg_status s = gather(c->ctx, j, sum);
  for (int64_t k = 0; k < j->c && s == PG_OK; k++) {
    double off = sum[k] / n, var = sum[j->c + k] / n - off * off;
    if (var < 0) var = 0;
    mean[k] += off;
    rstd[k] = 1 / sqrt(var + eps);
    if (!c->in[MEAN]) continue;
    pg_tensor *rm = c->in[MEAN], *rv = c->in[VAR];
    pg_put_f64(rm, k * rm->stride[0], (1 - momentum) * at(rm, k, 0) + momentum * mean[k]);
    pg_put_f64(rv, k * rv->stride[0], (1 - momentum) * at(rv, k, 0) + momentum * var * n / (n - 1));
  }
  pg_free(c->ctx, sum, bytes);
  if (s == PG_OK && c->in[MEAN]) {
    c->in[MEAN]->storage->version++;
    c->in[VAR]->storage->version++;
  }
  return s;
}

static pg_status forward_batch(pg_call *c) {
  pg_ctx *ctx = c->ctx;
  if (!pg_numel(c->out[0])) return PG_OK;
  int64_t channels = c->in[X]->shape[1], four = 4 * channels;
  pg_tensor *x = NULL, *stats = NULL; /* stats: mean, rstd, a, b of each channel */
  pg_status s = usable(ctx, c->in[X], &x);
  if (s == PG_OK) s = pg_tensor_new(ctx, PG_F64, 1, &four, &stats);
  if (s != PG_OK) goto done;
  batch_job j;
  describe(&j, x);
  double *mean = pg_data(stats), *rstd = mean + channels, *a = rstd + channels, *b = a + channels;
  j.x = pg_data(x);
  if (c->arg[0].i) {
    s = batch_statistics(c, &j, mean, rstd);
  } else {
    for (int64_t k = 0; k < channels; k++) {
      mean[k] = at(c->in[MEAN], k, 0);
      rstd[k] = 1 / sqrt(at(c->in[VAR], k, 1) + c->arg[2].f);
    }
  }
  if (s != PG_OK) goto done;
  for (int64_t k = 0; k < channels; k++) {
    a[k] = at(c->in[WEIGHT], k, 1) * rstd[k];
    b[k] = at(c->in[BIAS], k, 0) - mean[k] * a[k];
  }
  j.a = a;
  j.b = b;
  j.y = pg_data(c->out[0]);
  j.relu = c->joined = c->then && c->then->flags & PG_RELU;
  run_units(ctx, &j, write_units);
  if (c->recording) {
    c->keep[0] = stats;
    stats = NULL;
  }
done:
  pg_tensor_unref(stats);
  pg_tensor_unref(x);
  return s;
}

/* With xhat = (x - mean) rstd: d weight = sum g xhat, d bias = sum g, and in training
 * d x = weight rstd (g - mean(g) - xhat mean(g xhat)), else weight rstd g. */
static pg_status fused_batch(pg_call *c) {
  pg_ctx *ctx = c->ctx;
  const pg_meta *m = &c->meta[X];
  int64_t channels = m->shape[1];
  pg_tensor *x = NULL, *g = NULL, *gx = NULL;
  double *sum = NULL;
  size_t bytes = sizeof(double) * 5 * (size_t)channels;
  pg_status s = usable(ctx, c->in[X], &x);
  if (s == PG_OK) s = pg_tensor_new_like(ctx, x, (pg_dtype)m->dtype, &gx);
  if (s == PG_OK) s = pg_alloc(ctx, bytes, (void **)&sum);
  if (s == PG_OK) {
    bool same = true;
    for (int i = 0; i < m->nd; i++)
      same = same && (m->shape[i] == 1 || c->gout[0]->stride[i] == x->stride[i]);
    if (same) {
      g = pg_tensor_ref(c->gout[0]);
    } else {
      s = pg_tensor_new_like(ctx, x, (pg_dtype)m->dtype, &g);
      if (s == PG_OK) s = pg_tensor_copy(g, c->gout[0]);
    }
  }
  if (s != PG_OK) goto done;
  batch_job j;
  describe(&j, x);
  const double *mean = pg_data(c->keep[0]), *rstd = mean + channels;
  double *a = sum + 2 * channels, *b = a + channels, *d = b + channels, n = (double)j.rows;
  j.x = pg_data(x);
  j.g = pg_data(g);
  j.center = mean;
  if (c->then) {
    j.u = rstd + channels;
    j.v = j.u + channels;
  }
  s = gather(ctx, &j, sum);
  if (s != PG_OK) goto done;
  for (int64_t k = 0; k < channels; k++) {
    a[k] = at(c->in[WEIGHT], k, 1) * rstd[k];
    b[k] = c->arg[0].i ? -a[k] * rstd[k] * rstd[k] * sum[channels + k] / n : 0;
    d[k] = c->arg[0].i ? -a[k] * sum[k] / n - b[k] * mean[k] : 0;
  }
  j.a = a;
  j.b = b;
  j.d = d;
  j.y = pg_data(gx);
  if (c->need[X]) {
    run_units(ctx, &j, write_units);
    c->gin[X] = pg_tensor_ref(gx);
  }
  for (int i = WEIGHT; i <= BIAS; i++) {
    if (!c->need[i]) continue;
    s = pg_tensor_new(ctx, (pg_dtype)m->dtype, 1, &channels, &c->gin[i]);
    if (s != PG_OK) goto done;
    for (int64_t k = 0; k < channels; k++)
      pg_put_f64(c->gin[i], k, i == BIAS ? sum[k] : sum[channels + k] * rstd[k]);
  }
done:
  pg_free(ctx, sum, bytes);
  pg_tensor_unref(gx);
  pg_tensor_unref(g);
  pg_tensor_unref(x);
  return s;
}

static pg_status backward_batch(pg_call *c) {
  const pg_meta *m = &c->meta[X];
  const bool fused = !c->recording && c->keep[0];
  if (fused && (!c->then || channels_inside(c->in[X]))) return fused_batch(c);
  if (c->then) {
    pg_tensor *given = c->gout[0], *own;
    PG_TRY(pg_unjoin(c, &own));
    c->gout[0] = own;
    c->then = NULL;
    pg_status s = backward_batch(c);
    c->gout[0] = given;
    pg_tensor_unref(own);
    return s;
  }
  int64_t shape[4] = {m->shape[0], m->shape[1], 1, 1};
  for (int i = 2; i < m->nd; i++) shape[3] *= m->shape[i];
  pg_tensor *mean = NULL, *var = NULL;
  pg_status s = PG_OK;
  if (!c->arg[0].i) { /* as they were in forward */
    s = pg_tensor_new(c->ctx, (pg_dtype)m->dtype, 1, &m->shape[1], &mean);
    if (s == PG_OK) s = pg_tensor_new(c->ctx, (pg_dtype)m->dtype, 1, &m->shape[1], &var);
    const double *kept = s == PG_OK && c->keep[0] ? pg_data(c->keep[0]) : NULL;
    for (int64_t k = 0; k < m->shape[1] && kept; k++) {
      double rstd = kept[m->shape[1] + k];
      pg_put_f64(mean, k, kept[k]);
      pg_put_f64(var, k, 1 / (rstd * rstd) - c->arg[2].f);
    }
  }
  if (s == PG_OK)
    s = norm_recorded(c, shape, 1 | 4 | 8, 2, true, c->arg[2].f, mean, var, WEIGHT, BIAS);
  pg_tensor_unref(var);
  pg_tensor_unref(mean);
  return s;
}

#define CONSTANT(n) \
  { n, PG_TENSOR, PG_OPTIONAL | PG_NOGRAD, 0, NULL }

const pg_op PG_AT(pg_ops_batch_norm)[] = {
    {"batch_norm",
     "weight (x - mean) / sqrt(var + eps) + bias per channel of n x c (x ..); in training mean and "
     "var are the batch's and the running ones follow: (1 - momentum) old + momentum new.",
     {PG_T("input"), CONSTANT("running_mean"), CONSTANT("running_var"), PG_TOPT("weight"),
      PG_TOPT("bias"), PG_DEF("training", PG_FLAG, 0), PG_DEF("momentum", PG_FLOAT, 0.1),
      PG_DEF("eps", PG_FLOAT, 1e-5)},
     PG_NN | PG_JOINS,
     PG_SAVE_IN(X) | PG_SAVE_IN(WEIGHT),
     1,
     infer_batch,
     {forward_batch},
     backward_batch},
    {0}};
