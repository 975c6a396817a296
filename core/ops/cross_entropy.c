/* Losses over classes: cross_entropy (one fused kernel) and nll_loss. Labels are 1-based. Relies on
 * vmath.h, reduction.h. Spec: spec/ops/cross_entropy_spec.lua. */
#include <math.h>

#include "kernels/vmath.h"
#include "ops/lanes.h"
#include "ops/reduction.h"

enum { NONE, MEAN, SUM }; /* arg reduction */
/* STACK_ROWS: losses of so few rows need no allocation. FEW: so few classes are worked on BLOCK
 * rows at a time, a lane a row. */
enum { STACK_ROWS = 64, FEW = 16, BLOCK = 16 };

/* Everything a row needs. Rows are the places that have a label; a row has `classes` scores, side
 * by side in memory. */
typedef struct loss_job {
  int64_t rows, classes, ignore;
  double smooth; /* label_smoothing */
  const void *x, *weight;
  const int64_t *label; /* hard targets, or NULL .. */
  const void *target;   /* .. and soft ones */
  void *lse;            /* log sum exp of each row */
  double *loss;         /* of each row */
  void *gx, *gt;        /* backward */
  const void *g;
  int64_t gs;   /* step of g: 0 where it is one number */
  double scale; /* 1 / denominator */
} loss_job;

/* What is taken off the scores of a row whose largest is m: NaN where that is infinite, which makes
 * NaN of the row's loss and gradient. */
#define FINITE_TOP(m) ((m) - (m) == 0 ? (m) : (m) > 0 ? NAN : 0)

/* Per row of class scores x, with l = log sum exp(x) and q the wanted distribution
 * (weight[y] (1 - s) at label y, + weight[c] s / C everywhere; or weight[c] (target[c] (1 - s) + s
 * / C)): loss = sum q (l - x), d x = sum(q) exp(x - l) - q, d target = weight (1 - s) (l - x). */
#define CLASS_LOSS(suffix, T)                                                                     \
  static inline T log_sum_exp_##suffix(int64_t n, const T *restrict x) {                          \
    T m = lanes_max_##suffix(n, x), top = FINITE_TOP(m), e[LANES];                                \
    int64_t whole = n / LANES * LANES, rest = n - whole;                                          \
    double sum = 0;                                                                               \
    if (whole) {                                                                                  \
      for (int j = 0; j < LANES; j++) e[j] = 0;                                                   \
      for (int64_t i = 0; i < whole; i += LANES)                                                  \
        for (int j = 0; j < LANES; j++) e[j] += pg_exp_##suffix(x[i + j] - top);                  \
      LANES_FOLD(e, LANES_ADD);                                                                   \
      sum = (double)e[0];                                                                         \
    }                                                                                             \
    for (int64_t j = 0; j < rest; j++) e[j] = pg_exp_##suffix(x[whole + j] - top);                \
    for (int64_t j = 0; j < rest; j++) sum += (double)e[j];                                       \
    return top + (T)log(sum);                                                                     \
  }                                                                                               \
  /* log_sum_exp of `rows` (at most BLOCK) rows of n (at most FEW) scores. */                     \
  static void few_log_sum_exp_##suffix(int64_t rows, int64_t n, const T *restrict x,              \
                                       T *restrict out) {                                         \
    T col[FEW][BLOCK], top[BLOCK];                                                                \
    double sum[BLOCK];                                                                            \
    for (int64_t c = 0; c < n; c++)                                                               \
      for (int r = 0; r < BLOCK; r++) col[c][r] = 0;                                              \
    for (int64_t r = 0; r < rows; r++)                                                            \
      for (int64_t c = 0; c < n; c++) col[c][r] = x[r * n + c];                                   \
    for (int r = 0; r < BLOCK; r++) top[r] = -INFINITY;                                           \
    for (int64_t c = 0; c < n; c++)                                                               \
      for (int r = 0; r < BLOCK; r++) top[r] = LANES_MAX(col[c][r], top[r]);                      \
    for (int r = 0; r < BLOCK; r++) {                                                             \
      top[r] = FINITE_TOP(top[r]);                                                                \
      sum[r] = 0;                                                                                 \
    }                                                                                             \
    for (int64_t c = 0; c < n; c++)                                                               \
      for (int r = 0; r < BLOCK; r++) sum[r] += (double)pg_exp_##suffix(col[c][r] - top[r]);      \
    for (int r = 0; r < BLOCK; r++) top[r] += (T)pg_log_f64(sum[r]);                              \
    for (int64_t r = 0; r < rows; r++) out[r] = top[r];                                           \
  }                                                                                               \
  /* gx = f exp(x - l) over `rows` (at most BLOCK) rows of n (at most FEW) scores, f a row. */    \
  static void few_exp_##suffix(int64_t rows, int64_t n, const T *restrict x, const T *restrict l, \
                               const T *restrict f, T *restrict gx) {                             \
    T part[FEW * BLOCK];                                                                          \
    for (int64_t r = 0; r < rows; r++)                                                            \
      for (int64_t c = 0; c < n; c++) part[r * n + c] = x[r * n + c] - l[r];                      \
    for (int64_t i = 0; i < rows * n; i++) part[i] = pg_exp_##suffix(part[i]);                    \
    for (int64_t r = 0; r < rows; r++)                                                            \
      for (int64_t c = 0; c < n; c++) gx[r * n + c] = f[r] * part[r * n + c];                     \
  }                                                                                               \
  static void forward_##suffix(void *arg, int64_t begin, int64_t end) {                           \
    const loss_job *j = arg;                                                                      \
    int64_t n = j->classes;                                                                       \
    bool few = n <= FEW;                                                                          \
    for (int64_t r = begin; r < end && few; r += BLOCK)                                           \
      few_log_sum_exp_##suffix(pg_min64(BLOCK, end - r), n, (const T *)j->x + r * n,              \
                               (T *)j->lse + r);                                                  \
    const T *w = j->weight;                                                                       \
    double s = j->smooth, each = n ? s / (double)n : 0;                                           \
    for (int64_t r = begin; r < end; r++) {                                                       \
      const T *restrict x = (const T *)j->x + r * n;                                              \
      T l = few ? ((T *)j->lse)[r] : log_sum_exp_##suffix(n, x);                                  \
      double loss = 0;                                                                            \
      ((T *)j->lse)[r] = l;                                                                       \
      if (j->label) {                                                                             \
        int64_t y = j->label[r];                                                                  \
        if (y == j->ignore) {                                                                     \
          j->loss[r] = 0;                                                                         \
          continue;                                                                               \
        }                                                                                         \
        loss = (1 - s) * (w ? (double)w[y - 1] : 1) * (double)(l - x[y - 1]);                     \
        if (s > 0)                                                                                \
          for (int64_t c = 0; c < n; c++)                                                         \
            loss += each * (w ? (double)w[c] : 1) * (double)(l - x[c]);                           \
      } else {                                                                                    \
        const T *restrict t = (const T *)j->target + r * n;                                       \
        for (int64_t c = 0; c < n; c++)                                                           \
          loss += (w ? (double)w[c] : 1) * ((1 - s) * (double)t[c] + each) * (double)(l - x[c]);  \
      }                                                                                           \
      j->loss[r] = loss;                                                                          \
    }                                                                                             \
  }                                                                                               \
  static void backward_##suffix(void *arg, int64_t begin, int64_t end) {                          \
    const loss_job *j = arg;                                                                      \
    int64_t n = j->classes;                                                                       \
    const T *w = j->weight;                                                                       \
    double s = j->smooth, each = n ? s / (double)n : 0, all = 0;                                  \
    for (int64_t c = 0; c < n && s > 0; c++) all += each * (w ? (double)w[c] : 1);                \
    bool few = n <= FEW && j->label;                                                              \
    for (int64_t r0 = begin; r0 < end && few; r0 += BLOCK) {                                      \
      int64_t rows = pg_min64(BLOCK, end - r0);                                                   \
      T f[BLOCK];                                                                                 \
      for (int64_t r = 0; r < rows; r++) {                                                        \
        int64_t y = j->label[r0 + r];                                                             \
        double hit = y == j->ignore ? 0 : (1 - s) * (w ? (double)w[y - 1] : 1);                   \
        f[r] = (T)(j->scale * (double)((const T *)j->g)[(r0 + r) * j->gs] * (hit + all));         \
      }                                                                                           \
      few_exp_##suffix(rows, n, (const T *)j->x + r0 * n, (const T *)j->lse + r0, f,              \
                       (T *)j->gx + r0 * n);                                                      \
    }                                                                                             \
    for (int64_t r = begin; r < end; r++) {                                                       \
      const T *restrict x = (const T *)j->x + r * n;                                              \
      T *restrict gx = j->gx ? (T *)j->gx + r * n : NULL;                                         \
      T l = ((const T *)j->lse)[r];                                                               \
      double scale = j->scale * (double)((const T *)j->g)[r * j->gs];                             \
      if (j->label) {                                                                             \
        int64_t y = j->label[r];                                                                  \
        if (y == j->ignore) {                                                                     \
          for (int64_t c = 0; c < n; c++) gx[c] = 0;                                              \
          continue;                                                                               \
        }                                                                                         \
        double hit = (1 - s) * (w ? (double)w[y - 1] : 1);                                        \
        T f = (T)(scale * (hit + all)), low = (T)(scale * each);                                  \
        for (int64_t c = 0; c < n && !few; c++) gx[c] = f * pg_exp_##suffix(x[c] - l);            \
        if (s > 0)                                                                                \
          for (int64_t c = 0; c < n; c++) gx[c] -= low * (w ? w[c] : 1);                          \
        gx[y - 1] -= (T)(scale * hit);                                                            \
        continue;                                                                                 \
      }                                                                                           \
      const T *restrict t = (const T *)j->target + r * n;                                         \
      if (gx) {                                                                                   \
        double sum = all;                                                                         \
        for (int64_t c = 0; c < n; c++) sum += (1 - s) * (double)t[c] * (w ? (double)w[c] : 1);   \
        T f = (T)(scale * sum), part = (T)(scale * (1 - s)), low = (T)(scale * each);             \
        for (int64_t c = 0; c < n; c++)                                                           \
          gx[c] = f * pg_exp_##suffix(x[c] - l) - (part * t[c] + low) * (w ? w[c] : 1);           \
      }                                                                                           \
      if (j->gt) {                                                                                \
        T *restrict gt = (T *)j->gt + r * n, f = (T)(scale * (1 - s));                            \
        for (int64_t c = 0; c < n; c++) gt[c] = f * (l - x[c]) * (w ? w[c] : 1);                  \
      }                                                                                           \
    }                                                                                             \
  }                                                                                               \
  /* nll: loss = - weight[y] x[y] */                                                              \
  static void forward_nll_##suffix(void *arg, int64_t begin, int64_t end) {                       \
    const loss_job *j = arg;                                                                      \
    const T *x = j->x, *w = j->weight;                                                            \
    for (int64_t r = begin; r < end; r++) {                                                       \
      int64_t y = j->label[r] - 1;                                                                \
      bool skip = y + 1 == j->ignore;                                                             \
      j->loss[r] = skip ? 0 : -(w ? (double)w[y] : 1) * (double)x[r * j->classes + y];            \
    }                                                                                             \
  }                                                                                               \
  static void backward_nll_##suffix(void *arg, int64_t begin, int64_t end) {                      \
    const loss_job *j = arg;                                                                      \
    const T *w = j->weight;                                                                       \
    for (int64_t r = begin; r < end; r++) {                                                       \
      T *gx = (T *)j->gx + r * j->classes;                                                        \
      int64_t y = j->label[r] - 1;                                                                \
      for (int64_t c = 0; c < j->classes; c++) gx[c] = 0;                                         \
      if (y + 1 == j->ignore) continue;                                                           \
      double scale = j->scale * (double)((const T *)j->g)[r * j->gs];                             \
      gx[y] = (T)(-scale * (w ? (double)w[y] : 1));                                               \
    }                                                                                             \
  }                                                                                               \
  static void store_##suffix(int64_t n, const double *loss, void *out) {                          \
    for (int64_t i = 0; i < n; i++) ((T *)out)[i] = (T)loss[i];                                   \
  }
CLASS_LOSS(f32, float)
CLASS_LOSS(f64, double)

/* --- shared: in input, target, weight; arg ignore_index, reduction (, label_smoothing) ----------
 */

static int class_dim(int nd) { return nd > 1 ? 1 : 0; }

static pg_status infer_classes(pg_call *c, bool soft_allowed) {
  const pg_tensor *x = c->in[0], *t = c->in[1], *w = c->in[2];
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  if (x->nd == 0)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected scores of classes, got []");
  int64_t shape[PG_MAX_DIMS], classes = x->shape[class_dim(x->nd)];
  int nd = 0;
  for (int i = 0; i < x->nd; i++)
    if (i != class_dim(x->nd)) shape[nd++] = x->shape[i];
  bool soft = soft_allowed && pg_is_float((pg_dtype)t->dtype);
  if (soft) {
    if (!pg_same_shape(x, t))
      return pg_bad_in(c, PG_ESHAPE, 1, "class probabilities of the shape of input %s",
                       pg_shape_str(x).s);
    pg_cast_in(c, 1, (pg_dtype)x->dtype);
  } else {
    PG_TRY(pg_want(c, 1, PG_M_INT | (soft_allowed ? PG_M_REAL : 0)));
    if (t->nd != nd || memcmp(shape, t->shape, sizeof *shape * (size_t)nd) != 0)
      return pg_bad_in(c, PG_ESHAPE, 1, "labels %s to follow input %s",
                       pg_shape_str_of(nd, shape).s, pg_shape_str(x).s);
    pg_cast_in(c, 1, PG_I64);
  }
  if (w) {
    PG_TRY(pg_want_same_dtype(c, 2, 0));
    if (w->nd != 1 || w->shape[0] != classes)
      return pg_fail(c->ctx, PG_ESHAPE, "argument 'weight': expected [%lld], one a class, got %s",
                     (long long)classes, pg_shape_str(w).s);
  }
  if (c->arg[1].i == NONE) return pg_out_shape(c, 0, (pg_dtype)x->dtype, nd, shape);
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, 0, NULL);
}

static pg_status infer_cross_entropy(pg_call *c) {
  double s = c->arg[2].f;
  if (!(s >= 0 && s <= 1))
    return pg_fail(c->ctx, PG_EARG, "argument 'label_smoothing': expected 0 to 1, got %g", s);
  return infer_classes(c, true);
}

static pg_status infer_nll(pg_call *c) { return infer_classes(c, false); }

/* The tensors of a job, contiguous with the classes last. */
typedef struct loss_tensors {
  pg_tensor *x, *target, *weight;
} loss_tensors;

static void close_job(loss_tensors *t) {
  pg_tensor_unref(t->weight);
  pg_tensor_unref(t->target);
  pg_tensor_unref(t->x);
}

/* Fills job and t from the call's inputs; x may be missing (nll's backward). */
static pg_status open_job(pg_call *c, loss_job *job, loss_tensors *t, int nd, int64_t classes) {
  pg_ctx *ctx = c->ctx;
  *t = (loss_tensors){0};
  *job = (loss_job){.classes = classes, .ignore = c->arg[0].i};
  unsigned mask = 1u << class_dim(nd);
  pg_status s = c->in[0] ? reduction_rows(ctx, c->in[0], mask, &t->x) : PG_OK;
  bool soft = pg_is_float((pg_dtype)c->in[1]->dtype);
  if (s == PG_OK && soft) s = reduction_rows(ctx, c->in[1], mask, &t->target);
  if (s == PG_OK && !soft) s = pg__as(ctx, c->in[1], PG_I64, &t->target);
  if (s == PG_OK && c->in[2]) s = pg__contiguous(ctx, c->in[2], &t->weight);
  if (s != PG_OK) {
    close_job(t);
    return s;
  }
  if (t->x) job->x = pg_data(t->x);
  if (t->weight) job->weight = pg_data(t->weight);
  if (soft) job->target = pg_data(t->target);
  else job->label = pg_data(t->target);
  job->rows = pg_numel(t->target);
  if (soft) job->rows = classes ? job->rows / classes : 0;
  return PG_OK;
}

static pg_status check_labels(pg_ctx *ctx, const loss_job *j) {
  if (!j->label) return PG_OK;
  bool bad = false;
  for (int64_t r = 0; r < j->rows; r++) {
    int64_t y = j->label[r];
    bad |= (y < 1 || y > j->classes) && y != j->ignore;
  }
  if (!bad) return PG_OK;
  int64_t r = 0;
  while ((j->label[r] >= 1 && j->label[r] <= j->classes) || j->label[r] == j->ignore) r++;
  return pg_fail(ctx, PG_EINDEX, "argument 'target': expected 1..%lld, got label %lld in row %lld",
                 (long long)j->classes, (long long)j->label[r], (long long)(r + 1));
}

/* What a mean divides by: the weights of the labels that count, or the rows of soft targets. */
static double denominator(const loss_job *j, pg_dtype dtype) {
  if (!j->label) return (double)j->rows;
  double sum = 0;
  for (int64_t r = 0; r < j->rows; r++) {
    int64_t y = j->label[r];
    if (y == j->ignore) continue;
    if (!j->weight) sum += 1;
    else if (dtype == PG_F32) sum += (double)((const float *)j->weight)[y - 1];
    else sum += ((const double *)j->weight)[y - 1];
  }
  return sum;
}

/* Runs the rows and reduces their losses into out[0]. */
static pg_status run_forward(pg_call *c, loss_job *j, pg_par_fn rows) {
  pg_dtype dtype = (pg_dtype)c->out[0]->dtype;
  double room[STACK_ROWS];
  size_t bytes = sizeof(double) * (size_t)j->rows;
  j->loss = room;
  if (j->rows > STACK_ROWS) PG_TRY(pg_alloc(c->ctx, bytes, (void **)&j->loss));
  pg_par_for(c->ctx, j->rows, pg_grain(8 * j->classes), rows, j);
  double result = 0;
  if (c->arg[1].i != NONE) {
    double part[8] = {0};
    int64_t whole = j->rows / 8 * 8;
    for (int64_t r = 0; r < whole; r += 8)
      for (int64_t k = 0; k < 8; k++) part[k] += j->loss[r + k];
    for (int64_t r = whole; r < j->rows; r++) part[r - whole] += j->loss[r];
    for (int64_t k = 0; k < 8; k++) result += part[k];
    if (c->arg[1].i == MEAN) result /= denominator(j, dtype);
  }
  int64_t n = c->arg[1].i == NONE ? j->rows : 1;
  const double *from = c->arg[1].i == NONE ? j->loss : &result;
  if (dtype == PG_F32) store_f32(n, from, pg_data(c->out[0]));
  else store_f64(n, from, pg_data(c->out[0]));
  if (j->loss != room) pg_free(c->ctx, j->loss, bytes);
  return PG_OK;
}

/* Runs the rows of a backward: gin[0], and gin[1] where the targets are soft. */
static pg_status run_backward(pg_call *c, loss_job *j, pg_par_fn rows) {
  const pg_meta *m = &c->meta[0];
  unsigned mask = 1u << class_dim(m->nd);
  pg_tensor *g = NULL, *gx = NULL, *gt = NULL;
  pg_status s = pg__contiguous(c->ctx, c->gout[0], &g);
  if (s == PG_OK && (c->need[0] || j->label)) s = reduction_new_rows(c->ctx, m, mask, &gx);
  if (s == PG_OK && c->need[1] && !j->label) s = reduction_new_rows(c->ctx, m, mask, &gt);
  if (s == PG_OK) {
    j->scale = c->arg[1].i == MEAN ? 1 / denominator(j, (pg_dtype)m->dtype) : 1;
    j->g = pg_data(g);
    j->gs = c->arg[1].i == NONE;
    j->gx = gx ? pg_data(gx) : NULL;
    j->gt = gt ? pg_data(gt) : NULL;
    pg_par_for(c->ctx, j->rows, pg_grain(8 * j->classes), rows, j);
    c->gin[0] = gx;
    c->gin[1] = gt;
    gx = gt = NULL;
  }
  pg_tensor_unref(gt);
  pg_tensor_unref(gx);
  pg_tensor_unref(g);
  return s;
}

/* *out = the gradient of each row's loss by -x (by -log probability) as a tensor of meta[0]'s
 * shape: weight[y] (1 - s) at the labels, + weight s / C; no graph. */
static pg_status wanted(pg_call *c, loss_job *j, double smooth, pg_tensor **out) {
  const pg_meta *m = &c->meta[0];
  PG_TRY(reduction_new_rows(c->ctx, m, 1u << class_dim(m->nd), out));
  pg_tensor_fill(*out, 0);
  int64_t n = j->classes;
  for (int64_t r = 0; r < j->rows; r++) {
    int64_t y = j->label[r];
    if (y == j->ignore) continue;
    for (int64_t k = 0; k < n; k++) {
      double q = smooth / (double)n + (k == y - 1 ? 1 - smooth : 0);
      if (m->dtype == PG_F32) {
        float w = j->weight ? ((const float *)j->weight)[k] : 1;
        ((float *)pg_data(*out))[r * n + k] = (float)q * w;
      } else {
        double w = j->weight ? ((const double *)j->weight)[k] : 1;
        ((double *)pg_data(*out))[r * n + k] = q * w;
      }
    }
  }
  return PG_OK;
}

/* The gradient that reached each row, with 1 in place of the classes, times scale; borrowed. */
static pg_tensor *row_gradient(pg_call *c, pg_chain *k, double scale) {
  pg_tensor *g = c->gout[0];
  if (c->arg[1].i == NONE && c->meta[0].nd > 1)
    g = PG_STEP(k, "unsqueeze", "ti", g, (int64_t)(class_dim(c->meta[0].nd) + 1));
  return scale == 1 ? g : PG_STEP(k, "mul", "tt", g, pg_chain_number(k, scale));
}

/* --- cross_entropy ------------------------------------------------------------------------------
 */

static pg_status forward_cross_entropy(pg_call *c) {
  pg_tensor *x = c->in[0], *lse = NULL;
  loss_job job;
  loss_tensors t;
  PG_TRY(open_job(c, &job, &t, x->nd, x->shape[class_dim(x->nd)]));
  pg_status s = check_labels(c->ctx, &job);
  if (s == PG_OK) s = pg_tensor_new(c->ctx, (pg_dtype)x->dtype, 1, &job.rows, &lse);
  if (s == PG_OK) {
    job.smooth = c->arg[2].f;
    job.lse = pg_data(lse);
    s = run_forward(c, &job, x->dtype == PG_F32 ? forward_f32 : forward_f64);
  }
  if (s == PG_OK && c->recording) {
    c->keep[0] = lse;
    lse = NULL;
  }
  pg_tensor_unref(lse);
  close_job(&t);
  return s;
}

/* From ops, so that it can be differentiated again. */
static pg_status recorded_cross_entropy(pg_call *c, loss_job *j) {
  const pg_meta *m = &c->meta[0];
  int64_t dim = class_dim(m->nd) + 1;
  double smooth = c->arg[2].f;
  double scale = c->arg[1].i == MEAN ? 1 / denominator(j, (pg_dtype)m->dtype) : 1;
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *q = NULL, *weight = NULL, *own = NULL;
  if (c->in[2]) {
    int64_t shape[PG_MAX_DIMS];
    for (int i = 0; i < m->nd; i++) shape[i] = i == dim - 1 ? m->shape[i] : 1;
    weight = PG_STEP(&k, "view", "tl", c->in[2], m->nd, shape);
  }
  if (j->label) {
    k.status = wanted(c, j, smooth, &own);
    q = own;
  } else {
    q = PG_STEP(&k, "mul", "tt", c->in[1], pg_chain_number(&k, 1 - smooth));
    if (smooth > 0)
      q = PG_STEP(&k, "add", "tt", q, pg_chain_number(&k, smooth / (double)j->classes));
    if (weight) q = PG_STEP(&k, "mul", "tt", q, weight);
  }
  pg_tensor *g = row_gradient(c, &k, scale);
  pg_tensor *logp = PG_STEP(&k, "log_softmax", "ti", c->in[0], dim);
  if (c->need[0]) {
    pg_tensor *t = PG_STEP(&k, "mul", "tt", PG_STEP(&k, "exp", "t", logp),
                           PG_STEP(&k, "sum", "tlb", q, 1, &dim, 1));
    t = PG_STEP(&k, "sub", "tt", t, q);
    pg_chain_give(&k, PG_STEP(&k, "mul", "tt", t, g), &c->gin[0]);
  }
  if (c->need[1] && !j->label) {
    pg_tensor *t = PG_STEP(&k, "mul", "tt", logp, pg_chain_number(&k, smooth - 1));
    if (weight) t = PG_STEP(&k, "mul", "tt", t, weight);
    pg_chain_give(&k, PG_STEP(&k, "mul", "tt", t, g), &c->gin[1]);
  }
  pg_tensor_unref(own);
  return pg_chain_end(&k);
}

static pg_status backward_cross_entropy(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  loss_job job;
  loss_tensors t;
  PG_TRY(open_job(c, &job, &t, m->nd, m->shape[class_dim(m->nd)]));
  pg_status s;
  if (c->recording) {
    s = recorded_cross_entropy(c, &job);
  } else {
    job.smooth = c->arg[2].f;
    job.lse = pg_data(c->keep[0]);
    s = run_backward(c, &job, m->dtype == PG_F32 ? backward_f32 : backward_f64);
  }
  close_job(&t);
  return s;
}

/* --- nll_loss -----------------------------------------------------------------------------------
 */

static pg_status forward_nll(pg_call *c) {
  pg_tensor *x = c->in[0];
  loss_job job;
  loss_tensors t;
  PG_TRY(open_job(c, &job, &t, x->nd, x->shape[class_dim(x->nd)]));
  pg_status s = check_labels(c->ctx, &job);
  if (s == PG_OK) s = run_forward(c, &job, x->dtype == PG_F32 ? forward_nll_f32 : forward_nll_f64);
  close_job(&t);
  return s;
}

static pg_status backward_nll(pg_call *c) {
  const pg_meta *m = &c->meta[0];
  loss_job job;
  loss_tensors t;
  PG_TRY(open_job(c, &job, &t, m->nd, m->shape[class_dim(m->nd)]));
  pg_status s = PG_OK;
  if (c->recording) {
    double scale = c->arg[1].i == MEAN ? 1 / denominator(&job, (pg_dtype)m->dtype) : 1;
    pg_chain k = {.ctx = c->ctx};
    pg_tensor *q = NULL;
    k.status = wanted(c, &job, 0, &q);
    pg_tensor *g = row_gradient(c, &k, -scale);
    pg_chain_give(&k, PG_STEP(&k, "mul", "tt", q, g), &c->gin[0]);
    pg_tensor_unref(q);
    s = pg_chain_end(&k);
  } else {
    s = run_backward(c, &job, m->dtype == PG_F32 ? backward_nll_f32 : backward_nll_f64);
  }
  close_job(&t);
  return s;
}

/* --- the table ----------------------------------------------------------------------------------
 */

#define TARGET \
  PG_T("target"), { "weight", PG_TENSOR, PG_OPTIONAL | PG_NOGRAD, 0, NULL }
#define REDUCTION PG_DEF("ignore_index", PG_INT, -100), PG_WORD("reduction", MEAN, "none|mean|sum")

const pg_op PG_AT(pg_ops_cross_entropy)[] = {
    {"cross_entropy",
     "-log softmax(input)[target] over dim 2 of scores N x C (x d1 ..); target: labels 1..C, or "
     "class "
     "probabilities of input's shape.",
     {PG_T("input"), TARGET, REDUCTION, PG_DEF("label_smoothing", PG_FLOAT, 0)},
     PG_NN | PG_FULL,
     PG_SAVE_IN(0) | PG_SAVE_IN(1) | PG_SAVE_IN(2),
     1,
     infer_cross_entropy,
     {forward_cross_entropy},
     backward_cross_entropy},
    {"nll_loss",
     "-weight[target] input[target] of log probabilities N x C (x d1 ..); target: labels 1..C.",
     {PG_T("input"), TARGET, REDUCTION},
     PG_NN | PG_FULL,
     PG_SAVE_IN(1) | PG_SAVE_IN(2),
     1,
     infer_nll,
     {forward_nll},
     backward_nll},
    {0}};
