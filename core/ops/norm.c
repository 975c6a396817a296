/* Normalisation within a sample: layer_norm, rms_norm, group_norm, instance_norm,
 * local_response_norm. Relies on norm.h. Spec: spec/ops/norm_spec.lua. */
#include "ops/norm.h"

#include <string.h>

#include "ops/layout.h"

/* Rows of n elements, each with its own mean and variance. A row is `blocks` blocks of `block`
 * elements. In group_norm weight and bias have one value a channel, and row r's blocks are the
 * channels from (r % groups) blocks on; in layer_norm and rms_norm (groups 0) a row is one block
 * and they have one value an element. */
typedef struct row_job {
  int64_t rows, n, groups, blocks, block, piece;
  int64_t stride; /* backward of groups: of part from sample to sample, a channel */
  bool centered;  /* false: mean is 0 */
  double eps;
  const void *x, *g, *weight, *bias;
  void *y;             /* the result, or the gradient of x; may be NULL in backward */
  double *mean, *rstd; /* per row */
  double *part; /* backward: sums of g and g xhat. Group: 2 a block; layer: 2 n a piece of rows, and
                   room for those of 8 rows */
} row_job;

#define ROWS(S, T)                                                                                \
  static void forward_##S(void *arg, int64_t begin, int64_t end) {                                \
    const row_job *j = arg;                                                                       \
    const T *restrict w = j->weight, *restrict b = j->bias;                                       \
    const double part = 1 / (double)j->n;                                                         \
    for (int64_t r = begin; r < end; r++) {                                                       \
      const T *restrict x = (const T *)j->x + r * j->n;                                           \
      T *restrict y = (T *)j->y + r * j->n;                                                       \
      double s[2], mean = 0;                                                                      \
      if (j->centered) {                                                                          \
        mean = (double)lanes_sum_##S(j->n, x) * part; /* about; `off` is what it lacks */         \
      }                                                                                           \
      norm_sums_##S(j->n, x, (T)mean, s);                                                         \
      double off = j->centered ? s[0] * part : 0, var = s[1] * part - off * off;                  \
      double rstd = 1 / sqrt((var < 0 ? 0 : var) + j->eps);                                       \
      mean = j->centered ? (double)(T)mean + off : 0;                                             \
      j->mean[r] = mean;                                                                          \
      j->rstd[r] = rstd;                                                                          \
      const T m = (T)mean, f = (T)rstd;                                                           \
      if (!j->groups) {                                                                           \
        if (w && b)                                                                               \
          for (int64_t i = 0; i < j->n; i++) y[i] = (x[i] - m) * f * w[i] + b[i];                 \
        else if (w)                                                                               \
          for (int64_t i = 0; i < j->n; i++) y[i] = (x[i] - m) * f * w[i];                        \
        else                                                                                      \
          for (int64_t i = 0; i < j->n; i++) y[i] = (x[i] - m) * f + (b ? b[i] : 0);              \
        continue;                                                                                 \
      }                                                                                           \
      for (int64_t k = 0; k < j->blocks; k++) {                                                   \
        int64_t channel = r % j->groups * j->blocks + k;                                          \
        const T a = f * (w ? w[channel] : 1), d = b ? b[channel] : 0;                             \
        for (int64_t i = k * j->block; i < (k + 1) * j->block; i++) y[i] = (x[i] - m) * a + d;    \
      }                                                                                           \
    }                                                                                             \
  }                                                                                               \
  /* With h = g weight: d x = rstd (h - mean(h) - xhat mean(h xhat)). */                          \
  static void backward_row_##S(const row_job *j, int64_t r, double *restrict sum,                 \
                               T *restrict few) {                                                 \
    const T *restrict w = j->weight;                                                              \
    const T *restrict x = (const T *)j->x + r * j->n, *restrict g = (const T *)j->g + r * j->n;   \
    T *restrict y = j->y ? (T *)j->y + r * j->n : NULL;                                           \
    const T m = (T)j->mean[r], f = (T)j->rstd[r];                                                 \
    double a = 0, b = 0, s[2];                                                                    \
    for (int64_t k = 0; k < j->blocks && j->groups; k++) {                                        \
      norm_products_##S(j->block, g + k * j->block, x + k * j->block, m, s);                      \
      double v = w ? (double)w[r % j->groups * j->blocks + k] : 1;                                \
      a += v * s[0];                                                                              \
      b += v * s[1] * j->rstd[r];                                                                 \
      sum[2 * k] = s[0];                                                                          \
      sum[2 * k + 1] = s[1] * j->rstd[r];                                                         \
    }                                                                                             \
    if (!j->groups) {                                                                             \
      for (int64_t i = 0; i < j->n; i++) {                                                        \
        few[i] += g[i];                                                                           \
        few[j->n + i] += g[i] * (x[i] - m) * f;                                                   \
      }                                                                                           \
      if (!y) return;                                                                             \
      if (w)                                                                                      \
        for (int64_t i = 0; i < j->n; i++) y[i] = g[i] * w[i];                                    \
      norm_products_##S(j->n, w ? y : g, x, m, s);                                                \
      a = s[0];                                                                                   \
      b = s[1] * j->rstd[r];                                                                      \
    }                                                                                             \
    if (!y) return;                                                                               \
    const T p = j->centered ? (T)(a / (double)j->n) : 0, q = (T)(b / (double)j->n) * f;           \
    if (!j->groups) {                                                                             \
      if (w)                                                                                      \
        for (int64_t i = 0; i < j->n; i++) y[i] = f * (y[i] - p - (x[i] - m) * q);                \
      else                                                                                        \
        for (int64_t i = 0; i < j->n; i++) y[i] = f * (g[i] - p - (x[i] - m) * q);                \
      return;                                                                                     \
    }                                                                                             \
    for (int64_t k = 0; k < j->blocks; k++) {                                                     \
      const T v = w ? w[r % j->groups * j->blocks + k] : 1;                                       \
      for (int64_t i = k * j->block; i < (k + 1) * j->block; i++)                                 \
        y[i] = f * (g[i] * v - p - (x[i] - m) * q);                                               \
    }                                                                                             \
  }                                                                                               \
  static void backward_##S(void *arg, int64_t begin, int64_t end) {                               \
    const row_job *j = arg;                                                                       \
    int64_t n = 2 * j->n;                                                                         \
    for (int64_t u = begin; u < end; u++) {                                                       \
      int64_t r = u * j->piece, last = pg_min64(j->rows, r + j->piece);                           \
      double *restrict sum = j->part + (j->groups ? 2 * j->blocks * r : 2 * n * u);               \
      T *restrict few = (T *)(sum + n);                                                           \
      for (; r < last && j->groups; r++, sum += 2 * j->blocks) backward_row_##S(j, r, sum, NULL); \
      if (j->groups) continue;                                                                    \
      for (int64_t i = 0; i < n; i++) sum[i] = 0;                                                 \
      while (r < last) {                                                                          \
        for (int64_t i = 0; i < n; i++) few[i] = 0;                                               \
        for (int k = 0; k < 8 && r < last; k++) backward_row_##S(j, r++, sum, few);               \
        for (int64_t i = 0; i < n; i++) sum[i] += (double)few[i];                                 \
      }                                                                                           \
    }                                                                                             \
  }
ROWS(f32, float)
ROWS(f64, double)

/* Images whose channels lie together: samples of pixels x channels, in which a group is some
 * columns. part has room for a sample: 8 values a channel. */
static int64_t channels_of(const row_job *j) { return j->groups * j->blocks; }

#define COLUMNS(S, T)                                                                          \
  /* mean[c], and f[c] = rstd, of every channel's group, from row r on. */                     \
  static void spread_statistics_##S(const row_job *j, int64_t r, double *mean, T *f) {         \
    for (int64_t c = 0; c < channels_of(j); c++) {                                             \
      mean[c] = (double)(T)j->mean[r + c / j->blocks];                                         \
      f[c] = (T)j->rstd[r + c / j->blocks];                                                    \
    }                                                                                          \
  }                                                                                            \
  static double group_sum_##S(const row_job *j, const double *restrict s, int64_t group) {     \
    double sum = 0;                                                                            \
    for (int64_t k = 0; k < j->blocks; k++) sum += s[group * j->blocks + k];                   \
    return sum / (double)j->n;                                                                 \
  }                                                                                            \
  static void columns_forward_##S(void *arg, int64_t begin, int64_t end) {                     \
    const row_job *j = arg;                                                                    \
    const int64_t c = channels_of(j), pixels = j->block;                                       \
    const T *restrict w = j->weight, *restrict b = j->bias;                                    \
    for (int64_t u = begin; u < end; u++) {                                                    \
      const T *restrict x = (const T *)j->x + u * pixels * c;                                  \
      T *restrict y = (T *)j->y + u * pixels * c;                                              \
      double *m = j->part + u * 8 * c, *s = m + c;                                             \
      T *restrict f = (T *)(s + 2 * c), *restrict near = f + c, *restrict d = near + c;        \
      for (int64_t i = 0; i < 3 * c; i++) m[i] = 0;                                            \
      norm_column_sums_##S(pixels, c, x, m, s);                                                \
      for (int64_t i = 0; i < c; i++) m[i] = (double)(T)group_sum_##S(j, s, i / j->blocks);    \
      for (int64_t i = 0; i < 2 * c; i++) s[i] = 0;                                            \
      norm_column_sums_##S(pixels, c, x, m, s);                                                \
      for (int64_t g = 0; g < j->groups; g++) {                                                \
        double off = group_sum_##S(j, s, g), var = group_sum_##S(j, s + c, g) - off * off;     \
        j->mean[u * j->groups + g] = m[g * j->blocks] + off;                                   \
        j->rstd[u * j->groups + g] = 1 / sqrt((var < 0 ? 0 : var) + j->eps);                   \
      }                                                                                        \
      spread_statistics_##S(j, u * j->groups, m, f);                                           \
      for (int64_t i = 0; i < c; i++) {                                                        \
        near[i] = (T)m[i];                                                                     \
        f[i] *= w ? w[i] : 1;                                                                  \
        d[i] = b ? b[i] : 0;                                                                   \
      }                                                                                        \
      for (int64_t q = 0; q < pixels; q++)                                                     \
        for (int64_t i = 0; i < c; i++) y[q * c + i] = (x[q * c + i] - near[i]) * f[i] + d[i]; \
    }                                                                                          \
  }                                                                                            \
  static void columns_backward_##S(void *arg, int64_t begin, int64_t end) {                    \
    const row_job *j = arg;                                                                    \
    const int64_t c = channels_of(j), pixels = j->block;                                       \
    const T *restrict w = j->weight;                                                           \
    for (int64_t u = begin; u < end; u++) {                                                    \
      const T *restrict x = (const T *)j->x + u * pixels * c;                                  \
      const T *restrict g = (const T *)j->g + u * pixels * c;                                  \
      double *sum = j->part + u * 8 * c, *m = sum + 2 * c, *s = m + c;                         \
      T *restrict f = (T *)(s + 2 * c), *restrict near = f + c, *restrict v = near + c;        \
      for (int64_t i = 0; i < 2 * c; i++) s[i] = 0;                                            \
      spread_statistics_##S(j, u * j->groups, m, f);                                           \
      norm_column_products_##S(pixels, c, g, x, m, NULL, NULL, s);                             \
      for (int64_t i = 0; i < c; i++) {                                                        \
        near[i] = (T)m[i];                                                                     \
        v[i] = w ? w[i] : 1;                                                                   \
        s[i + c] *= j->rstd[u * j->groups + i / j->blocks];                                    \
        sum[2 * i] = s[i];                                                                     \
        sum[2 * i + 1] = s[i + c];                                                             \
        s[i] *= (double)v[i];                                                                  \
        s[i + c] *= (double)v[i];                                                              \
      }                                                                                        \
      if (!j->y) continue;                                                                     \
      T *restrict y = (T *)j->y + u * pixels * c, *restrict p = (T *)m;                        \
      for (int64_t k = 0; k < j->groups; k++) {                                                \
        const T mean_h = (T)group_sum_##S(j, s, k), slope = (T)group_sum_##S(j, s + c, k);     \
        for (int64_t i = k * j->blocks; i < (k + 1) * j->blocks; i++) {                        \
          p[i] = f[i] * mean_h;                                                                \
          v[i] *= f[i];                                                                        \
          f[i] *= slope * f[i];                                                                \
        }                                                                                      \
      }                                                                                        \
      for (int64_t r = 0; r < pixels; r++)                                                     \
        for (int64_t i = 0; i < c; i++)                                                        \
          y[r * c + i] = g[r * c + i] * v[i] - p[i] - (x[r * c + i] - near[i]) * f[i];         \
    }                                                                                          \
  }
COLUMNS(f32, float)
COLUMNS(f64, double)

/* --- shared -------------------------------------------------------------------------------------
 */

/* How an op names its operands. */
typedef struct row_op {
  int weight, bias; /* their places in in[]; bias 0: none */
  bool centered;
  double eps;
  int64_t rows, n, groups, blocks;
} row_op;

/* Do the channels of x lie together, sample after sample? */
static bool columns_lie(const pg_tensor *x) {
  if (x->nd < 3 || pg_is_contiguous(x) || !pg_is_dense(x) || x->stride[1] != 1) return false;
  return x->shape[1] > 1 && x->shape[0] > 0 &&
         (x->shape[0] == 1 || x->stride[0] == pg_numel(x) / x->shape[0]);
}

/* Declares the output in x's order of memory where that is one of these two. */
static pg_status out_of_columns(pg_call *c) {
  const pg_tensor *x = c->in[0];
  if (columns_lie(x)) return pg_out_like(c, 0, (pg_dtype)x->dtype, x);
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, x->shape);
}

static size_t columns_bytes(const row_op *o) {
  return sizeof(double) * 8 * (size_t)(o->rows * o->blocks);
}

static pg_status row_forward(pg_call *c, const row_op *o) {
  pg_ctx *ctx = c->ctx;
  pg_tensor *x = NULL, *w = NULL, *b = NULL, *stats = NULL;
  int64_t two = 2 * o->rows;
  const bool columns = o->groups && columns_lie(c->in[0]);
  void *part = NULL;
  pg_status s = pg_tensor_new(ctx, PG_F64, 1, &two, &stats);
  if (s == PG_OK && columns) x = pg_tensor_ref(c->in[0]);
  else if (s == PG_OK) s = pg__contiguous(ctx, c->in[0], &x);
  if (s == PG_OK && columns) s = pg_alloc(ctx, columns_bytes(o), &part);
  if (s == PG_OK && c->in[o->weight]) s = pg__contiguous(ctx, c->in[o->weight], &w);
  if (s == PG_OK && o->bias && c->in[o->bias]) s = pg__contiguous(ctx, c->in[o->bias], &b);
  if (s == PG_OK) {
    row_job j = {.rows = o->rows, .n = o->n, .groups = o->groups, .blocks = o->blocks};
    j.block = o->blocks ? o->n / o->blocks : 0;
    j.centered = o->centered;
    j.eps = o->eps;
    j.x = pg_data(x);
    j.weight = w ? pg_data(w) : NULL;
    j.bias = b ? pg_data(b) : NULL;
    j.y = pg_data(c->out[0]);
    j.mean = pg_data(stats);
    j.rstd = j.mean + o->rows;
    j.part = part;
    if (columns)
      pg_par_for(ctx, o->rows / o->groups, pg_grain(4 * o->n * o->groups),
                 x->dtype == PG_F32 ? columns_forward_f32 : columns_forward_f64, &j);
    else
      pg_par_for(ctx, o->rows, pg_grain(4 * o->n), x->dtype == PG_F32 ? forward_f32 : forward_f64,
                 &j);
  }
  if (part) pg_free(ctx, part, columns_bytes(o));
  if (s == PG_OK && c->recording) {
    c->keep[0] = stats;
    stats = NULL;
  }
  pg_tensor_unref(b);
  pg_tensor_unref(w);
  pg_tensor_unref(x);
  pg_tensor_unref(stats);
  return s;
}

/* gin of weight (which 1) or bias (which 0) from the partial sums, in their order. */
static pg_status give_sums(pg_call *c, const row_job *j, int at, int which) {
  const pg_meta *m = &c->meta[at];
  int64_t size = 1, units = (j->rows + j->piece - 1) / j->piece;
  for (int i = 0; i < m->nd; i++) size *= m->shape[i];
  pg_tensor *t;
  PG_TRY(pg_tensor_new(c->ctx, (pg_dtype)m->dtype, m->nd, m->shape, &t));
  for (int64_t i = 0; i < size; i++) {
    double sum = 0;
    if (j->groups)
      for (int64_t u = 0; u < j->rows / j->groups; u++)
        sum += j->part[j->stride * u * size + 2 * i + which];
    else
      for (int64_t u = 0; u < units; u++) sum += j->part[(4 * u + which) * j->n + i];
    pg_put_f64(t, i, sum);
  }
  c->gin[at] = t;
  return PG_OK;
}

static pg_status row_backward(pg_call *c, const row_op *o) {
  pg_ctx *ctx = c->ctx;
  const pg_meta *m = &c->meta[0];
  pg_tensor *x = NULL, *w = NULL, *g = NULL, *gx = NULL;
  row_job j = {.rows = o->rows, .n = o->n, .groups = o->groups, .blocks = o->blocks};
  j.block = o->blocks ? o->n / o->blocks : 0;
  j.piece = pg_max64(1, pg_max64(NORM_PIECE / pg_max64(1, o->n), (o->rows + 63) / 64));
  int64_t units = (o->rows + j.piece - 1) / j.piece;
  size_t bytes = sizeof(double) * 2 * (size_t)(o->groups ? o->rows * o->blocks : 2 * units * o->n);
  const bool columns = o->groups && columns_lie(c->in[0]);
  if (columns) bytes = columns_bytes(o);
  pg_status s = PG_OK;
  if (columns) x = pg_tensor_ref(c->in[0]);
  else s = pg__contiguous(ctx, c->in[0], &x);
  if (s == PG_OK && c->in[o->weight]) s = pg__contiguous(ctx, c->in[o->weight], &w);
  if (s == PG_OK) s = layout_like(ctx, c->gout[0], x, &g);
  if (s == PG_OK && c->need[0]) s = pg_tensor_new_like(ctx, x, (pg_dtype)m->dtype, &gx);
  if (s == PG_OK) s = pg_alloc(ctx, bytes, (void **)&j.part);
  if (s == PG_OK) {
    j.centered = o->centered;
    j.x = pg_data(x);
    j.g = pg_data(g);
    j.weight = w ? pg_data(w) : NULL;
    j.y = gx ? pg_data(gx) : NULL;
    j.mean = pg_data(c->keep[0]);
    j.rstd = j.mean + o->rows;
    j.stride = columns ? 8 : 2;
    if (columns)
      pg_par_for(ctx, o->rows / o->groups, pg_grain(4 * o->n * o->groups),
                 x->dtype == PG_F32 ? columns_backward_f32 : columns_backward_f64, &j);
    else pg_par_for(ctx, units, 1, x->dtype == PG_F32 ? backward_f32 : backward_f64, &j);
    c->gin[0] = gx;
    gx = NULL;
    if (c->need[o->weight]) s = give_sums(c, &j, o->weight, 1);
    if (s == PG_OK && o->bias && c->need[o->bias]) s = give_sums(c, &j, o->bias, 0);
    pg_free(ctx, j.part, bytes);
  }
  pg_tensor_unref(gx);
  pg_tensor_unref(g);
  pg_tensor_unref(w);
  pg_tensor_unref(x);
  return s;
}

/* --- layer_norm, rms_norm ------------------------------------------------------------------------
 */

/* arg normalized_shape, eps; in input, weight (, bias) */
static row_op layer_op(const pg_call *c, int nd, const int64_t *shape, bool centered, double eps) {
  row_op o = {.weight = 1, .bias = centered ? 2 : 0, .centered = centered, .eps = eps, .n = 1};
  int tail = c->arg[0].n;
  o.rows = 1;
  for (int i = 0; i < nd; i++) {
    if (i < nd - tail) o.rows *= shape[i];
    else o.n *= shape[i];
  }
  return o;
}

static pg_status infer_layer(pg_call *c) {
  const pg_tensor *x = c->in[0];
  const pg_arg *size = &c->arg[0];
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  if (size->n < 1 || size->n > x->nd ||
      memcmp(size->v, x->shape + (x->nd - size->n), sizeof *x->shape * (size_t)size->n) != 0)
    return pg_bad_in(c, PG_ESHAPE, 0, "its last sizes to be normalized_shape %s",
                     pg_shape_str_of(size->n, size->v).s);
  for (int i = 1; i < c->nin; i++) {
    const pg_tensor *t = c->in[i];
    if (!t) continue;
    PG_TRY(pg_want_same_dtype(c, i, 0));
    if (t->nd != size->n || memcmp(size->v, t->shape, sizeof *t->shape * (size_t)size->n) != 0)
      return pg_fail(c->ctx, PG_ESHAPE, "argument '%s': expected normalized_shape %s, got %s",
                     pg_in_name(c, i), pg_shape_str_of(size->n, size->v).s, pg_shape_str(t).s);
  }
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, x->nd, x->shape);
}

static pg_status recorded_layer(pg_call *c, const row_op *o) {
  int64_t shape[4] = {o->rows, o->n, 1, 1};
  return norm_recorded(c, shape, 2, 2, o->centered, o->eps, NULL, NULL, o->weight, o->bias);
}

static pg_status forward_layer(pg_call *c) {
  row_op o = layer_op(c, c->in[0]->nd, c->in[0]->shape, true, c->arg[1].f);
  return row_forward(c, &o);
}

static pg_status backward_layer(pg_call *c) {
  row_op o = layer_op(c, c->meta[0].nd, c->meta[0].shape, true, c->arg[1].f);
  return c->recording ? recorded_layer(c, &o) : row_backward(c, &o);
}

/* eps is the smallest step of the dtype where none is given. */
static double rms_eps(const pg_call *c, int dtype) {
  if (c->arg[1].set) return c->arg[1].f;
  return dtype == PG_F32 ? 0x1p-23 : 0x1p-52;
}

static pg_status forward_rms(pg_call *c) {
  const pg_tensor *x = c->in[0];
  row_op o = layer_op(c, x->nd, x->shape, false, rms_eps(c, x->dtype));
  return row_forward(c, &o);
}

static pg_status backward_rms(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  row_op o = layer_op(c, m->nd, m->shape, false, rms_eps(c, m->dtype));
  return c->recording ? recorded_layer(c, &o) : row_backward(c, &o);
}

/* --- group_norm, instance_norm
 * -------------------------------------------------------------------- */

static row_op group_op(int nd, const int64_t *shape, int64_t groups, int weight, double eps) {
  row_op o = {.weight = weight, .bias = weight + 1, .centered = true, .eps = eps, .groups = groups};
  o.rows = shape[0] * groups;
  o.blocks = shape[1] / groups;
  o.n = o.blocks;
  for (int i = 2; i < nd; i++) o.n *= shape[i];
  return o;
}

static pg_status check_channels(pg_call *c, int from) {
  const pg_tensor *x = c->in[0];
  for (int i = from; i < c->nin; i++) {
    const pg_tensor *t = c->in[i];
    if (!t) continue;
    PG_TRY(pg_want_same_dtype(c, i, 0));
    if (t->nd != 1 || t->shape[0] != x->shape[1])
      return pg_fail(
          c->ctx, PG_ESHAPE, "argument '%s': expected [%lld], one a channel of %s, got %s",
          pg_in_name(c, i), (long long)x->shape[1], pg_shape_str(x).s, pg_shape_str(t).s);
  }
  return PG_OK;
}

/* in input, weight, bias; arg num_groups, eps */
static pg_status infer_group(pg_call *c) {
  const pg_tensor *x = c->in[0];
  int64_t groups = c->arg[0].i;
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  if (x->nd < 2)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected n x c (x ..), got %s",
                   pg_shape_str(x).s);
  if (groups < 1 || x->shape[1] % groups)
    return pg_bad_arg(c, PG_ESHAPE, 0, "a divisor of the channels of input %s", pg_shape_str(x).s);
  PG_TRY(check_channels(c, 1));
  return out_of_columns(c);
}

static pg_status forward_group(pg_call *c) {
  row_op o = group_op(c->in[0]->nd, c->in[0]->shape, c->arg[0].i, 1, c->arg[1].f);
  return row_forward(c, &o);
}

static pg_status recorded_group(pg_call *c, const row_op *o) {
  const pg_meta *m = &c->meta[0];
  int64_t block = o->blocks ? o->n / o->blocks : 0;
  int64_t shape[4] = {m->shape[0], o->groups, o->blocks, block};
  return norm_recorded(c, shape, 4 | 8, 2 | 4, true, o->eps, NULL, NULL, o->weight, o->bias);
}

static pg_status backward_group(pg_call *c) {
  row_op o = group_op(c->meta[0].nd, c->meta[0].shape, c->arg[0].i, 1, c->arg[1].f);
  return c->recording ? recorded_group(c, &o) : row_backward(c, &o);
}

/* in input, running_mean, running_var, weight, bias; arg use_input_stats, momentum, eps */
static pg_status infer_instance(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  if (x->nd < 3)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected n x c x .., got %s",
                   pg_shape_str(x).s);
  PG_TRY(check_channels(c, 1));
  if (!c->in[1] != !c->in[2])
    return pg_bad_in(c, PG_EARG, c->in[1] ? 2 : 1, "a tensor beside %s",
                     pg_in_name(c, c->in[1] ? 1 : 2));
  if (!c->arg[0].i && !c->in[1])
    return pg_bad_in(c, PG_EARG, 1, "a tensor where use_input_stats is false");
  int64_t plane = 1;
  for (int i = 2; i < x->nd; i++) plane *= x->shape[i];
  if (c->arg[0].i && plane == 1)
    return pg_bad_in(c, PG_EVALUE, 0, "more than one value per channel in training");
  return out_of_columns(c);
}

static row_op instance_op(const pg_call *c, int nd, const int64_t *shape) {
  return group_op(nd, shape, shape[1], 3, c->arg[2].f);
}

/* The running statistics move by the mean of the instances' ones. */
static void follow(pg_call *c, const pg_tensor *stats, const row_op *o) {
  int64_t channels = o->groups, batch = o->rows / channels;
  const double *mean = pg_data(stats), *rstd = mean + o->rows;
  double momentum = c->arg[1].f, n = (double)o->n;
  for (int64_t k = 0; k < channels && batch; k++) {
    double m = 0, v = 0;
    for (int64_t i = 0; i < batch; i++) {
      double r = rstd[i * channels + k];
      m += mean[i * channels + k];
      v += 1 / (r * r) - o->eps;
    }
    int64_t a = k * c->in[1]->stride[0], b = k * c->in[2]->stride[0];
    m = momentum * m / (double)batch + (1 - momentum) * pg_at_f64(c->in[1], a);
    v = momentum * v / (double)batch * n / (n - 1) + (1 - momentum) * pg_at_f64(c->in[2], b);
    pg_put_f64(c->in[1], a, m);
    pg_put_f64(c->in[2], b, v);
  }
  c->in[1]->storage->version++;
  c->in[2]->storage->version++;
}

static pg_status forward_instance(pg_call *c) {
  pg_tensor *x = c->in[0];
  if (!c->arg[0].i) {
    bool mode = c->ctx->grad_mode;
    pg_tensor *y = NULL;
    c->ctx->grad_mode = false;
    pg_status s = pg_do(c->ctx, &y, "batch_norm", "tttttbff", x, c->in[1], c->in[2], c->in[3],
                        c->in[4], 0, 0.0, c->arg[2].f);
    c->ctx->grad_mode = mode;
    if (s == PG_OK) s = pg_tensor_copy(c->out[0], y);
    pg_tensor_unref(y);
    return s;
  }
  row_op o = instance_op(c, x->nd, x->shape);
  bool recording = c->recording;
  c->recording = true; /* the statistics are needed */
  PG_TRY(row_forward(c, &o));
  c->recording = recording;
  if (c->in[1]) follow(c, c->keep[0], &o);
  return PG_OK;
}

static pg_status backward_instance(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  row_op o = instance_op(c, m->nd, m->shape);
  if (c->arg[0].i) return c->recording ? recorded_group(c, &o) : row_backward(c, &o);
  int64_t shape[4] = {m->shape[0], m->shape[1], 1, o.n};
  return norm_recorded(c, shape, 8, 2, true, o.eps, c->in[1], c->in[2], 3, 4);
}

/* --- local_response_norm: arg size, alpha, beta, k
 * ------------------------------------------------ */

static pg_status infer_local(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  if (x->nd < 3)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected n x c x .., got %s",
                   pg_shape_str(x).s);
  if (c->arg[0].i < 1)
    return pg_fail(c->ctx, PG_EARG, "argument 'size': expected at least 1, got %lld",
                   (long long)c->arg[0].i);
  return out_of_columns(c);
}

/* Sums of x over the channels from `before` before to `after` after each. x: rows of channels of
 * `plane` elements; where the channels lie together a row is a pixel, and plane is 1. */
typedef struct window_job {
  int64_t channels, plane, before, after;
  const void *x;
  void *y;
} window_job;

#define WINDOW(S, T)                                                           \
  static void window_##S(void *arg, int64_t begin, int64_t end) {              \
    const window_job *j = arg;                                                 \
    const int64_t n = j->channels, p = j->plane;                               \
    for (int64_t u = begin; u < end; u++) {                                    \
      const T *restrict x = (const T *)j->x + u * n * p;                       \
      T *restrict y = (T *)j->y + u * n * p;                                   \
      for (int64_t i = 0; i < n * p; i++) y[i] = 0;                            \
      for (int64_t d = -j->before; d <= j->after; d++) {                       \
        const int64_t from = pg_max64(0, -d) * p, to = pg_min64(n, n - d) * p; \
        for (int64_t i = from; i < to; i++) y[i] += x[i + d * p];              \
      }                                                                        \
    }                                                                          \
  }
WINDOW(f32, float)
WINDOW(f64, double)

static pg_status infer_window(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  if (x->nd < 2)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected n x c (x ..), got %s",
                   pg_shape_str(x).s);
  return out_of_columns(c);
}

static pg_status forward_window(pg_call *c) {
  pg_tensor *x;
  PG_TRY(layout_like(c->ctx, c->in[0], c->out[0], &x));
  int64_t rows = x->shape[0];
  window_job j = {.channels = x->shape[1], .plane = 1, .before = c->arg[0].i, .after = c->arg[1].i};
  for (int i = 2; i < x->nd; i++) j.plane *= x->shape[i];
  if (columns_lie(x)) {
    rows *= j.plane;
    j.plane = 1;
  }
  j.x = pg_data(x);
  j.y = pg_data(c->out[0]);
  pg_par_for(c->ctx, rows, pg_grain(j.channels * j.plane * (j.before + j.after + 1)),
             x->dtype == PG_F32 ? window_f32 : window_f64, &j);
  pg_tensor_unref(x);
  return PG_OK;
}

static pg_status backward_window(pg_call *c) {
  return pg_do(c->ctx, &c->gin[0], "channel_window_sum", "tii", c->gout[0], c->arg[1].i,
               c->arg[0].i);
}

/* d = k + alpha / size window(x^2), as ops. */
static pg_tensor *local_base(pg_call *c, pg_chain *k, pg_tensor *x) {
  int64_t size = c->arg[0].i;
  pg_tensor *t = PG_STEP(k, "mul", "tt", x, x);
  t = PG_STEP(k, "channel_window_sum", "tii", t, size / 2, (size - 1) / 2);
  t = PG_STEP(k, "mul", "tt", t, pg_chain_number(k, c->arg[1].f / (double)size));
  return PG_STEP(k, "add", "tt", t, pg_chain_number(k, c->arg[3].f));
}

static pg_status forward_local(pg_call *c) {
  bool mode = c->ctx->grad_mode;
  c->ctx->grad_mode = false;
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *d = local_base(c, &k, c->in[0]);
  d = PG_STEP(&k, "pow", "tt", d, pg_chain_number(&k, -c->arg[2].f));
  d = PG_STEP(&k, "mul", "tt", d, c->in[0]);
  if (k.status == PG_OK) k.status = pg_tensor_copy(c->out[0], d);
  c->ctx->grad_mode = mode;
  return pg_chain_end(&k);
}

/* d x = g d^-beta - 2 alpha beta / size x window'(g x d^(-beta - 1)) */
static pg_status backward_local(pg_call *c) {
  pg_tensor *x = c->in[0], *g = c->gout[0];
  int64_t size = c->arg[0].i;
  double alpha = c->arg[1].f, beta = c->arg[2].f;
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *d = local_base(c, &k, x);
  pg_tensor *p = PG_STEP(&k, "pow", "tt", d, pg_chain_number(&k, -beta));
  pg_tensor *t =
      PG_STEP(&k, "mul", "tt", PG_STEP(&k, "mul", "tt", x, g), PG_STEP(&k, "div", "tt", p, d));
  t = PG_STEP(&k, "channel_window_sum", "tii", t, (size - 1) / 2, size / 2);
  t = PG_STEP(&k, "mul", "tt", PG_STEP(&k, "mul", "tt", x, t),
              pg_chain_number(&k, 2 * alpha * beta / (double)size));
  pg_chain_give(&k, PG_STEP(&k, "sub", "tt", PG_STEP(&k, "mul", "tt", p, g), t), &c->gin[0]);
  return pg_chain_end(&k);
}

/* --- the table
 * ------------------------------------------------------------------------------------ */

#define CONSTANT(n) \
  { n, PG_TENSOR, PG_OPTIONAL | PG_NOGRAD, 0, NULL }
#define AFFINE PG_TOPT("weight"), PG_TOPT("bias")

const pg_op PG_AT(pg_ops_norm)[] = {
    {"layer_norm",
     "weight (x - mean) / sqrt(var + eps) + bias over the last dims, those of normalized_shape.",
     {PG_T("input"), PG_REQ("normalized_shape", PG_INTS), AFFINE, PG_DEF("eps", PG_FLOAT, 1e-5)},
     PG_NN,
     PG_SAVE_IN(0) | PG_SAVE_IN(1),
     1,
     infer_layer,
     {forward_layer},
     backward_layer},
    {"rms_norm",
     "weight x / sqrt(mean(x^2) + eps) over the last dims, those of normalized_shape.",
     {PG_T("input"), PG_REQ("normalized_shape", PG_INTS), PG_TOPT("weight"),
      PG_OPT("eps", PG_FLOAT)},
     PG_NN,
     PG_SAVE_IN(0) | PG_SAVE_IN(1),
     1,
     infer_layer,
     {forward_rms},
     backward_rms},
    {"group_norm",
     "weight (x - mean) / sqrt(var + eps) + bias over num_groups groups of channels of each "
     "sample.",
     {PG_T("input"), PG_REQ("num_groups", PG_INT), AFFINE, PG_DEF("eps", PG_FLOAT, 1e-5)},
     PG_NN,
     PG_SAVE_IN(0) | PG_SAVE_IN(1),
     1,
     infer_group,
     {forward_group},
     backward_group},
    {"instance_norm",
     "weight (x - mean) / sqrt(var + eps) + bias over each channel of each sample.",
     {PG_T("input"), CONSTANT("running_mean"), CONSTANT("running_var"), AFFINE,
      PG_DEF("use_input_stats", PG_FLAG, 1), PG_DEF("momentum", PG_FLOAT, 0.1),
      PG_DEF("eps", PG_FLOAT, 1e-5)},
     PG_NN,
     PG_SAVE_IN(0) | PG_SAVE_IN(1) | PG_SAVE_IN(2) | PG_SAVE_IN(3),
     1,
     infer_instance,
     {forward_instance},
     backward_instance},
    {"local_response_norm",
     "x / (k + alpha mean(x^2 over size neighbouring channels))^beta.",
     {PG_T("input"), PG_REQ("size", PG_INT), PG_DEF("alpha", PG_FLOAT, 1e-4),
      PG_DEF("beta", PG_FLOAT, 0.75), PG_DEF("k", PG_FLOAT, 1)},
     PG_NN,
     PG_SAVE_IN(0),
     1,
     infer_local,
     {forward_local},
     backward_local},
    {"channel_window_sum",
     "Sum over the channels from `before` before to `after` after each one.",
     {PG_T("input"), PG_REQ("before", PG_INT), PG_REQ("after", PG_INT)},
     PG_HIDDEN,
     0,
     1,
     infer_window,
     {forward_window},
     backward_window},
    {0}};
