/* Softmax, log_softmax and softmin along a dim of any layout. Relies on vmath.h, reduction.h,
 * layout.h. Spec: spec/ops/softmax_spec.lua. */
#include <math.h>

#include "kernels/vmath.h"
#include "ops/lanes.h"
#include "ops/layout.h"
#include "ops/reduction.h"

/* --- kernels -----------------------------------------------------------------------------------
 */

enum { BLOCK = 256, ROWS = 16, SHORT = 512 };

typedef enum soft_kind { SOFTMAX, LOG_SOFTMAX, SOFTMIN } soft_kind;

/* rows: lines along memory, rs apart; at most ROWS, whose long waits are for one another then. The
 * others see w <= BLOCK lines side by side, n elements each: element i of line j at i s + j;
 * backward also one line along memory (w = s = 1). */
typedef struct soft_kern {
  void (*rows)(soft_kind k, int64_t rows, int64_t rs, int64_t n, const void *x, void *y);
  void (*forward)(soft_kind k, int64_t n, int64_t w, int64_t s, const void *x, void *y);
  void (*backward)(soft_kind k, int64_t n, int64_t w, int64_t s, const void *y, const void *g,
                   void *gx);
} soft_kern;

/* softmax: e / sum e with e = exp(x - max); log_softmax: x - max - log sum e; softmin: softmax of
 * -x. Backward: y (g - sum g y), g - exp(y) sum g. */
#define SOFT(suffix, T)                                                                            \
  /* The sum of exp(sign x - m); they are written to y where there is one. */                      \
  static inline T exp_sum_##suffix(int64_t n, const T *restrict x, T sign, T m, T *restrict y) {   \
    T t[16];                                                                                       \
    int64_t i = 0;                                                                                 \
    LANES_LOOP for (int j = 0; j < 16; j++) t[j] = 0;                                              \
    for (; i + 16 <= n; i += 16) LANES_LOOP for (int j = 0; j < 16; j++) {                         \
        const T e = pg_exp_##suffix(sign * x[i + j] - m);                                          \
        if (y) y[i + j] = e;                                                                       \
        t[j] += e;                                                                                 \
      }                                                                                            \
    if (i < n) {                                                                                   \
      const int left = (int)(n - i);                                                               \
      LANES_LOOP for (int j = 0; j < 16; j++) {                                                    \
        T v = m;                                                                                   \
        if (j < left) v = sign * x[i + j];                                                         \
        const T e = pg_exp_##suffix(v - m);                                                        \
        if (y && j < left) y[i + j] = e;                                                           \
        t[j] += j < left ? e : 0;                                                                  \
      }                                                                                            \
    }                                                                                              \
    LANES_HALF(t, 8, LANES_ADD);                                                                   \
    LANES_FOLD8(t, LANES_ADD);                                                                     \
    return t[0];                                                                                   \
  }                                                                                                \
  static void rows_##suffix(soft_kind k, int64_t rows, int64_t rs, int64_t n, const void *px,      \
                            void *py) {                                                            \
    const T *x = px;                                                                               \
    T *y = py, m[ROWS], f[ROWS], sign = k == SOFTMIN ? -1 : 1;                                     \
    for (int r = 0; r < ROWS; r++) f[r] = 1;                                                       \
    for (int r = 0; r < rows; r++) {                                                               \
      if (k == SOFTMIN) PG_IVDEP for (int64_t i = 0; i < n; i++) y[r * rs + i] = -x[r * rs + i];   \
      m[r] = lanes_max_##suffix(n, (k == SOFTMIN ? y : x) + r * rs);                               \
    }                                                                                              \
    if (k == LOG_SOFTMAX) {                                                                        \
      for (int r = 0; r < rows; r++) f[r] = exp_sum_##suffix(n, x + r * rs, 1, m[r], NULL);        \
      LANES_LOOP for (int r = 0; r < ROWS; r++) f[r] = pg_log_##suffix(f[r]);                      \
      for (int r = 0; r < rows; r++)                                                               \
        PG_IVDEP for (int64_t i = 0; i < n; i++) y[r * rs + i] = x[r * rs + i] - m[r] - f[r];      \
      return;                                                                                      \
    }                                                                                              \
    for (int r = 0; r < rows; r++) f[r] = exp_sum_##suffix(n, x + r * rs, sign, m[r], y + r * rs); \
    LANES_LOOP for (int r = 0; r < ROWS; r++) f[r] = 1 / f[r];                                     \
    for (int r = 0; r < rows; r++) PG_IVDEP for (int64_t i = 0; i < n; i++) y[r * rs + i] *= f[r]; \
  }                                                                                                \
  static void forward_##suffix(soft_kind k, int64_t n, int64_t w, int64_t s, const void *px,       \
                               void *py) {                                                         \
    const T *restrict x = px;                                                                      \
    T *restrict y = py;                                                                            \
    T m[BLOCK], sum[BLOCK], sign = k == SOFTMIN ? -1 : 1;                                          \
    for (int64_t j = 0; j < w; j++) {                                                              \
      m[j] = -INFINITY;                                                                            \
      sum[j] = 0;                                                                                  \
    }                                                                                              \
    for (int64_t i = 0; i < n; i++)                                                                \
      for (int64_t j = 0; j < w; j++) {                                                            \
        T v = sign * x[i * s + j];                                                                 \
        m[j] = v > m[j] ? v : m[j];                                                                \
      }                                                                                            \
    for (int64_t i = 0; i < n; i++)                                                                \
      for (int64_t j = 0; j < w; j++) {                                                            \
        T e = pg_exp_##suffix(sign * x[i * s + j] - m[j]);                                         \
        y[i * s + j] = e;                                                                          \
        sum[j] += e;                                                                               \
      }                                                                                            \
    if (k == LOG_SOFTMAX) {                                                                        \
      for (int64_t j = 0; j < w; j++) sum[j] = pg_log_##suffix(sum[j]);                            \
      for (int64_t i = 0; i < n; i++)                                                              \
        for (int64_t j = 0; j < w; j++) y[i * s + j] = x[i * s + j] - m[j] - sum[j];               \
    } else {                                                                                       \
      for (int64_t j = 0; j < w; j++) sum[j] = 1 / sum[j];                                         \
      for (int64_t i = 0; i < n; i++)                                                              \
        for (int64_t j = 0; j < w; j++) y[i * s + j] *= sum[j];                                    \
    }                                                                                              \
  }                                                                                                \
  static void backward_row_##suffix(soft_kind k, int64_t n, const T *restrict y,                   \
                                    const T *restrict g, T *restrict gx) {                         \
    if (k == LOG_SOFTMAX) {                                                                        \
      T sum = lanes_sum_##suffix(n, g);                                                            \
      for (int64_t i = 0; i < n; i++) gx[i] = g[i] - pg_exp_##suffix(y[i]) * sum;                  \
      return;                                                                                      \
    }                                                                                              \
    for (int64_t i = 0; i < n; i++) gx[i] = g[i] * y[i];                                           \
    T sum = lanes_sum_##suffix(n, gx), sign = k == SOFTMIN ? -1 : 1;                               \
    for (int64_t i = 0; i < n; i++) gx[i] = sign * y[i] * (g[i] - sum);                            \
  }                                                                                                \
  static void backward_##suffix(soft_kind k, int64_t n, int64_t w, int64_t s, const void *py,      \
                                const void *pg, void *pgx) {                                       \
    const T *restrict y = py;                                                                      \
    const T *restrict g = pg;                                                                      \
    T *restrict gx = pgx;                                                                          \
    if (s == 1 && w == 1) {                                                                        \
      backward_row_##suffix(k, n, y, g, gx);                                                       \
      return;                                                                                      \
    }                                                                                              \
    T sum[BLOCK], sign = k == SOFTMIN ? -1 : 1;                                                    \
    for (int64_t j = 0; j < w; j++) sum[j] = 0;                                                    \
    if (k == LOG_SOFTMAX) {                                                                        \
      for (int64_t i = 0; i < n; i++)                                                              \
        for (int64_t j = 0; j < w; j++) sum[j] += g[i * s + j];                                    \
      for (int64_t i = 0; i < n; i++)                                                              \
        for (int64_t j = 0; j < w; j++)                                                            \
          gx[i * s + j] = g[i * s + j] - pg_exp_##suffix(y[i * s + j]) * sum[j];                   \
    } else {                                                                                       \
      for (int64_t i = 0; i < n; i++)                                                              \
        for (int64_t j = 0; j < w; j++) sum[j] += g[i * s + j] * y[i * s + j];                     \
      for (int64_t i = 0; i < n; i++)                                                              \
        for (int64_t j = 0; j < w; j++)                                                            \
          gx[i * s + j] = sign * y[i * s + j] * (g[i * s + j] - sum[j]);                           \
    }                                                                                              \
  }
SOFT(f32, float)
SOFT(f64, double)

static const soft_kern kerns[PG_NDTYPES] = {[PG_F32] = {rows_f32, forward_f32, backward_f32},
                                            [PG_F64] = {rows_f64, forward_f64, backward_f64}};

/* --- the walk ----------------------------------------------------------------------------------
 */

typedef struct soft_job {
  const fold_plan *p;
  const soft_kern *k;
  soft_kind kind;
  int64_t n, s, block, blocks;
  const char *a, *b; /* b NULL: forward */
  char *out;
} soft_job;

static void soft_units(void *arg, int64_t begin, int64_t end) {
  const soft_job *j = arg;
  const fold_plan *p = j->p;
  for (int64_t u = begin; u < end; u++) {
    int64_t run = u / j->blocks, j0 = u % j->blocks * j->block;
    int64_t w = pg_min64(j->block, p->ksize[0] - j0);
    int64_t at = (fold_offset(run, 1, p->nk, p->ksize, p->kx) + j0 * p->kx[0]) * p->esize;
    if (!j->b && j->s == 1) j->k->rows(j->kind, w, p->kx[0], j->n, j->a + at, j->out + at);
    else if (j->b && j->s == 1)
      for (int64_t i = 0; i < w; i++, at += p->kx[0] * p->esize)
        j->k->backward(j->kind, j->n, 1, 1, j->a + at, j->b + at, j->out + at);
    else if (j->b) j->k->backward(j->kind, j->n, w, j->s, j->a + at, j->b + at, j->out + at);
    else j->k->forward(j->kind, j->n, w, j->s, j->a + at, j->out + at);
  }
}

/* a, b and out are dense with the same strides; b may be NULL. */
static void soft_run(pg_ctx *ctx, soft_kind kind, int dim, const pg_tensor *a, const pg_tensor *b,
                     pg_tensor *out) {
  if (!pg_numel(out)) return;
  fold_plan p;
  fold_plan_make(&p, out, out->nd ? 1u << dim : 0, out->stride);
  soft_job j = {.p = &p, .k = &kerns[out->dtype], .kind = kind, .n = p.rsize[0], .s = p.rx[0]};
  if (p.count == 1) j.s = 1;
  j.block = j.s != 1 ? BLOCK : j.n < SHORT ? ROWS : 1;
  j.blocks = (p.ksize[0] + j.block - 1) / j.block;
  j.a = pg_data(a);
  j.b = b ? pg_data(b) : NULL;
  j.out = pg_data(out);
  pg_par_for(ctx, p.outputs / p.ksize[0] * j.blocks,
             pg_grain(8 * j.n * pg_min64(j.block, p.ksize[0])), soft_units, &j);
}

/* --- the ops: arg dim, dtype -------------------------------------------------------------------
 */

static pg_status infer_soft(pg_call *c) {
  pg_dtype d = (pg_dtype)c->in[0]->dtype;
  int dim;
  PG_TRY(pg_arg_dim(c, 0, c->in[0]->nd, &dim));
  if (c->arg[1].set) {
    d = (pg_dtype)c->arg[1].i;
    if (!(PG_M_REAL >> d & 1))
      return pg_fail(c->ctx, PG_EDTYPE, "argument 'dtype': expected float32 or float64, got %s",
                     pg_dtype_name(d));
    pg_cast_in(c, 0, d);
  } else {
    PG_TRY(pg_want(c, 0, PG_M_REAL));
  }
  return pg_out_like(c, 0, d, c->in[0]);
}

static pg_status soft_forward(pg_call *c, soft_kind kind) {
  pg_tensor *x;
  PG_TRY(layout_like(c->ctx, c->in[0], c->out[0], &x));
  soft_run(c->ctx, kind, reduction_dim(c, x->nd), x, NULL, c->out[0]);
  pg_tensor_unref(x);
  return PG_OK;
}

static pg_status soft_backward(pg_call *c, soft_kind kind) {
  pg_tensor *y = c->out[0], *g = c->gout[0];
  int64_t dim = c->arg[0].i;
  if (c->recording) {
    pg_chain k = {.ctx = c->ctx};
    pg_tensor *t = kind == LOG_SOFTMAX ? g : PG_STEP(&k, "mul", "tt", g, y);
    t = PG_STEP(&k, "sum", "tlb", t, 1, &dim, 1);
    if (kind == LOG_SOFTMAX) {
      t = PG_STEP(&k, "mul", "tt", PG_STEP(&k, "exp", "t", y), t);
      t = PG_STEP(&k, "sub", "tt", g, t);
    } else {
      t = PG_STEP(&k, "mul", "tt", y, PG_STEP(&k, "sub", "tt", g, t));
      if (kind == SOFTMIN) t = PG_STEP(&k, "neg", "t", t);
    }
    pg_chain_give(&k, t, &c->gin[0]);
    return pg_chain_end(&k);
  }
  pg_tensor *gl = NULL, *gx = NULL;
  pg_status s = layout_like(c->ctx, g, y, &gl);
  if (s == PG_OK) s = pg_tensor_new_like(c->ctx, y, (pg_dtype)y->dtype, &gx);
  if (s == PG_OK) soft_run(c->ctx, kind, reduction_dim(c, y->nd), y, gl, gx);
  c->gin[0] = gx;
  pg_tensor_unref(gl);
  return s;
}

static pg_status forward_softmax(pg_call *c) { return soft_forward(c, SOFTMAX); }
static pg_status forward_log_softmax(pg_call *c) { return soft_forward(c, LOG_SOFTMAX); }
static pg_status forward_softmin(pg_call *c) { return soft_forward(c, SOFTMIN); }
static pg_status backward_softmax(pg_call *c) { return soft_backward(c, SOFTMAX); }
static pg_status backward_log_softmax(pg_call *c) { return soft_backward(c, LOG_SOFTMAX); }
static pg_status backward_softmin(pg_call *c) { return soft_backward(c, SOFTMIN); }

#define DIM PG_REQ("dim", PG_DIM), PG_OPT("dtype", PG_DTYPE)

const pg_op PG_AT(pg_ops_softmax)[] = {{"softmax",
                                        "exp(x) / sum exp(x) along dim.",
                                        {PG_T("input"), DIM},
                                        PG_METHOD | PG_FULL,
                                        PG_SAVE_OUT(0),
                                        1,
                                        infer_soft,
                                        {forward_softmax},
                                        backward_softmax},
                                       {"log_softmax",
                                        "x - log sum exp(x) along dim.",
                                        {PG_T("input"), DIM},
                                        PG_METHOD | PG_FULL,
                                        PG_SAVE_OUT(0),
                                        1,
                                        infer_soft,
                                        {forward_log_softmax},
                                        backward_log_softmax},
                                       {"softmin",
                                        "exp(-x) / sum exp(-x) along dim.",
                                        {PG_T("input"), DIM},
                                        PG_NN | PG_FULL,
                                        PG_SAVE_OUT(0),
                                        1,
                                        infer_soft,
                                        {forward_softmin},
                                        backward_softmin},
                                       {0}};
