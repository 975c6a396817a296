/* Losses over pairs of elements: mse, l1, smooth_l1, huber, binary cross entropy (of probabilities
 * and of logits), kl_div. Relies on vmath.h, layout.h, formula.h. Spec: spec/ops/loss_spec.lua. */
#include <math.h>
#include <string.h>

#include "autograd/formula.h"
#include "base/par.h"
#include "kernels/vmath.h"
#include "ops/layout.h"

enum { NONE, MEAN, SUM, BATCHMEAN }; /* arg reduction */
enum { CHUNK = 8192, BLOCK = 256 };

/* --- kernels ------------------------------------------------------------------------------------
 */

/* One loss: its value, and its derivatives by input x and target y, over n <= BLOCK elements. p is
 * the positive weight of each element (NULL: 1), a the loss's own number. */
typedef struct pair_kern {
  void (*value)(int64_t n, const void *x, const void *y, const void *p, double a, void *out);
  void (*by_input)(int64_t n, const void *x, const void *y, const void *p, double a, void *out);
  void (*by_target)(int64_t n, const void *x, const void *y, const void *p, double a, void *out);
} pair_kern;

#define LOOP(name, T, EXPR)                                                             \
  static void name(int64_t n, const void *px, const void *py, const void *pp, double a, \
                   void *pout) {                                                        \
    const T *restrict xs = px, *restrict ys = py, *restrict ps = pp;                    \
    T *restrict out = pout;                                                             \
    const T k = (T)a;                                                                   \
    (void)k, (void)ps, (void)xs, (void)ys;                                              \
    for (int64_t i = 0; i < n; i++) {                                                   \
      const T x = xs[i], y = ys[i], d = x - y;                                          \
      (void)d, (void)x, (void)y;                                                        \
      out[i] = EXPR;                                                                    \
    }                                                                                   \
  }

/* LOSSES(f32, float, ..): mse_f32_value, mse_f32_by_input, mse_f32_by_target, .. */
#define LOSSES(S, T, FABS, FMAX)                                                                   \
  LOOP(mse_##S##_value, T, d *d)                                                                   \
  LOOP(mse_##S##_by_input, T, 2 * d)                                                               \
  LOOP(mse_##S##_by_target, T, -2 * d)                                                             \
  LOOP(l1_##S##_value, T, FABS(d))                                                                 \
  LOOP(l1_##S##_by_input, T, d > 0 ? 1 : (d < 0 ? -1 : 0))                                         \
  LOOP(l1_##S##_by_target, T, d > 0 ? -1 : (d < 0 ? 1 : 0))                                        \
  LOOP(smooth_##S##_value, T, FABS(d) < k ? d * d * ((T)0.5 / k) : FABS(d) - (T)0.5 * k)           \
  LOOP(smooth_##S##_by_input, T, FABS(d) < k ? d / k : (d > 0 ? 1 : (d < 0 ? -1 : d * 0)))         \
  LOOP(smooth_##S##_by_target, T, FABS(d) < k ? -d / k : (d > 0 ? -1 : (d < 0 ? 1 : d * 0)))       \
  LOOP(huber_##S##_value, T, FABS(d) <= k ? (T)0.5 * d * d : k * (FABS(d) - (T)0.5 * k))           \
  LOOP(huber_##S##_by_input, T, d > k ? k : (d < -k ? -k : d))                                     \
  LOOP(huber_##S##_by_target, T, d > k ? -k : (d < -k ? k : -d))                                   \
  LOOP(bce_##S##_value, T, (y - 1) * FMAX(pg_log1p_##S(-x), -100) - y * FMAX(pg_log_##S(x), -100)) \
  LOOP(bce_##S##_by_input, T, d / FMAX((1 - x) * x, (T)1e-12f))                                    \
  LOOP(bce_##S##_by_target, T, FMAX(pg_log1p_##S(-x), -100) - FMAX(pg_log_##S(x), -100))           \
  LOOP(logits_##S##_value, T, (1 - y) * x + pg_softplus_##S(-x))                                   \
  LOOP(logits_##S##_by_input, T, pg_sigmoid_##S(x) - y)                                            \
  LOOP(logits_##S##_by_target, T, -x)                                                              \
  LOOP(poslogits_##S##_value, T, (1 - y) * x + (1 + (ps[i] - 1) * y) * pg_softplus_##S(-x))        \
  LOOP(poslogits_##S##_by_input, T, 1 - y - (1 + (ps[i] - 1) * y) * pg_sigmoid_##S(-x))            \
  LOOP(poslogits_##S##_by_target, T, (ps[i] - 1) * pg_softplus_##S(-x) - x)                        \
  LOOP(kl_##S##_value, T, (y == 0 ? 0 : y * pg_log_##S(y)) - y * x)                                \
  LOOP(kl_##S##_by_input, T, -y)                                                                   \
  LOOP(kl_##S##_by_target, T, pg_log_##S(y) + y / y - x)                                           \
  LOOP(kllog_##S##_value, T, -d *pg_exp_##S(y))                                                    \
  LOOP(kllog_##S##_by_input, T, -pg_exp_##S(y))                                                    \
  LOOP(kllog_##S##_by_target, T, pg_exp_##S(y) - d * pg_exp_##S(y))                                \
  static double total_##S(int64_t n, const void *pv, const void *pw, double *block) {              \
    const T *restrict v = pv, *restrict w = pw;                                                    \
    double sum = 0;                                                                                \
    for (int64_t i = 0; i < n; i++) block[i] = (double)v[i] * (w ? (double)w[i] : 1);              \
    for (int64_t h = n; h > 1; h /= 2) {                                                           \
      if (h & 1) sum += block[h - 1];                                                              \
      PG_IVDEP for (int64_t i = 0; i < h / 2; i++) block[i] += block[i + h / 2];                   \
    }                                                                                              \
    return n ? sum + block[0] : 0;                                                                 \
  }                                                                                                \
  static void scale_##S(int64_t n, void *pv, const void *pw, double f, const void *pg) {           \
    T *restrict v = pv;                                                                            \
    const T *restrict w = pw, *restrict g = pg;                                                    \
    const T k = (T)f;                                                                              \
    if (g)                                                                                         \
      for (int64_t i = 0; i < n; i++) v[i] *= g[i];                                                \
    if (f != 1)                                                                                    \
      for (int64_t i = 0; i < n; i++) v[i] *= k;                                                   \
    if (w)                                                                                         \
      for (int64_t i = 0; i < n; i++) v[i] *= w[i];                                                \
  }

static inline float max_f32(float a, float b) { return a > b ? a : b; }
static inline double max_f64(double a, double b) { return a > b ? a : b; }
LOSSES(f32, float, fabsf, max_f32)
LOSSES(f64, double, fabs, max_f64)

/* The loss with its kernels by dtype, and the same derivatives as formulas for graphs that are
 * differentiated again: p scale, q the loss's number, c the positive weight. */
typedef struct pair_loss {
  pair_kern kern[2];
  const char *by_input, *by_target;
} pair_loss;

/* KERNS(mse) -> {{mse_f32_value, ..}, {mse_f64_value, ..}} */
#define KERNS(name)                                                  \
  {                                                                  \
    {name##_f32_value, name##_f32_by_input, name##_f32_by_target}, { \
      name##_f64_value, name##_f64_by_input, name##_f64_by_target    \
    }                                                                \
  }

static const pair_loss mse = {KERNS(mse), "2 * p * g * (a - b)", "2 * p * g * (b - a)"};
static const pair_loss l1 = {KERNS(l1), "p * g * sign(a - b)", "p * g * sign(b - a)"};
static const pair_loss smooth_l1 = {KERNS(smooth), "p * g * maximum(minimum((a - b) / q, 1), -1)",
                                    "p * g * maximum(minimum((b - a) / q, 1), -1)"};
static const pair_loss huber = {KERNS(huber), "p * g * maximum(minimum(a - b, q), -q)",
                                "p * g * maximum(minimum(b - a, q), -q)"};
static const pair_loss bce = {KERNS(bce), "p * g * (a - b) / (a * (1 - a))",
                              "p * g * (log(1 - a) - log(a))"};
static const pair_loss logits = {KERNS(logits), "p * g * (sigmoid(a) - b)", "-p * g * a"};
static const pair_loss poslogits = {KERNS(poslogits),
                                    "p * g * (1 - b - (1 + (c - 1) * b) * sigmoid(-a))",
                                    "p * g * ((c - 1) * log1p(exp(-a)) - a)"};
static const pair_loss kl = {KERNS(kl), "-p * g * b", "p * g * (log(b) + 1 - a)"};
static const pair_loss kllog = {KERNS(kllog), "-p * g * exp(b)", "p * g * exp(b) * (b - a + 1)"};

/* --- the walk -----------------------------------------------------------------------------------
 */

typedef void (*pair_fn)(int64_t n, const void *x, const void *y, const void *p, double a,
                        void *out);

typedef struct pair_job {
  bool f64;
  pair_fn fn;
  int64_t n, size;
  double a, scale;
  const char *x, *y, *pos, *weight, *g; /* the last three may be NULL */
  char *out;                            /* a value per element, or NULL: sums .. */
  double *part;                         /* .. per chunk */
} pair_job;

/* Elements [begin, end), begin a multiple of CHUNK. */
static void pair_range(void *arg, int64_t begin, int64_t end) {
  const pair_job *j = arg;
  double room[BLOCK], block[BLOCK], sum = 0;
  for (int64_t i = begin; i < end; i += BLOCK) {
    int64_t n = pg_min64(BLOCK, end - i), at = i * j->size;
    void *out = j->out ? (void *)(j->out + at) : (void *)room;
    const char *weight = j->weight ? j->weight + at : NULL;
    j->fn(n, j->x + at, j->y + at, j->pos ? j->pos + at : NULL, j->a, out);
    if (!j->out) {
      sum += j->f64 ? total_f64(n, out, weight, block) : total_f32(n, out, weight, block);
      continue;
    }
    const char *g = j->g ? j->g + at : NULL;
    if (j->f64) scale_f64(n, out, weight, j->scale, g);
    else scale_f32(n, out, weight, j->scale, g);
  }
  if (!j->out) j->part[begin / CHUNK] = sum;
}

/* The operands of a call in input's memory order; all owned. */
typedef struct pair_tensors {
  pg_tensor *x, *y, *weight, *pos;
} pair_tensors;

static void close_pair(pair_tensors *t) {
  pg_tensor_unref(t->pos);
  pg_tensor_unref(t->weight);
  pg_tensor_unref(t->y);
  pg_tensor_unref(t->x);
}

/* in: input, target, (weight, (pos_weight)). */
static pg_status open_pair(pg_call *c, pair_tensors *t, pair_job *j) {
  *t = (pair_tensors){0};
  pg_status s = layout_dense(c->ctx, c->in[0], &t->x);
  if (s == PG_OK) s = layout_like(c->ctx, c->in[1], t->x, &t->y);
  if (s == PG_OK && c->nin > 2 && c->in[2]) s = layout_like(c->ctx, c->in[2], t->x, &t->weight);
  if (s == PG_OK && c->nin > 3 && c->in[3]) s = layout_like(c->ctx, c->in[3], t->x, &t->pos);
  if (s != PG_OK) {
    close_pair(t);
    return s;
  }
  *j = (pair_job){.f64 = t->x->dtype == PG_F64, .n = pg_numel(t->x), .scale = 1};
  j->size = j->f64 ? 8 : 4;
  j->x = pg_data(t->x);
  j->y = pg_data(t->y);
  if (t->weight) j->weight = pg_data(t->weight);
  if (t->pos) j->pos = pg_data(t->pos);
  return PG_OK;
}

static double mean_of(const pg_call *c, const pg_tensor *x) {
  if (c->arg[0].i == MEAN) return 1 / (double)pg_numel(x);
  if (c->arg[0].i == BATCHMEAN) return 1 / (double)(x->nd ? x->shape[0] : 1);
  return 1;
}

static pg_status run_forward(pg_call *c, const pair_loss *loss, double a) {
  pair_tensors t;
  pair_job j;
  PG_TRY(open_pair(c, &t, &j));
  j.fn = loss->kern[j.f64].value;
  j.a = a;
  pg_tensor *out = c->out[0], *like = NULL;
  pg_status s = PG_OK;
  if (c->arg[0].i == NONE) {
    if (!layout_same(out, t.x)) s = pg_tensor_new_like(c->ctx, t.x, (pg_dtype)out->dtype, &like);
    if (s == PG_OK) {
      j.out = pg_data(like ? like : out);
      pg_par_for(c->ctx, j.n, CHUNK, pair_range, &j);
      if (like) s = pg_tensor_copy(out, like);
    }
  } else {
    double room[8], sum = 0;
    int64_t chunks = (j.n + CHUNK - 1) / CHUNK;
    size_t bytes = sizeof(double) * (size_t)chunks;
    j.part = room;
    if (chunks > 8) s = pg_alloc(c->ctx, bytes, (void **)&j.part);
    if (s == PG_OK) {
      pg_par_for(c->ctx, j.n, CHUNK, pair_range, &j);
      for (int64_t i = 0; i < chunks; i++) sum += j.part[i];
      if (c->arg[0].i == MEAN) sum /= (double)j.n;
      else if (c->arg[0].i == BATCHMEAN) sum *= mean_of(c, t.x);
      if (j.f64) *(double *)pg_data(out) = sum;
      else *(float *)pg_data(out) = (float)sum;
      if (chunks > 8) pg_free(c->ctx, j.part, bytes);
    }
  }
  pg_tensor_unref(like);
  close_pair(&t);
  return s;
}

/* The derivatives as recorded ops. */
static pg_status run_formulas(pg_call *c, const pair_loss *loss, double a) {
  pg_tensor *weight = c->nin > 2 ? c->in[2] : NULL;
  double scale = mean_of(c, c->in[0]);
  if (c->nin > 3) c->in[2] = c->in[3];
  pg_status s = pg_formula(c, 0, loss->by_input, scale, a);
  if (s == PG_OK) s = pg_formula(c, 1, loss->by_target, scale, a);
  if (c->nin > 3) c->in[2] = weight;
  for (int i = 0; i < 2 && s == PG_OK && weight; i++) {
    pg_tensor *g = c->gin[i];
    if (!g) continue;
    s = pg_do(c->ctx, &c->gin[i], "mul", "tt", g, weight);
    pg_tensor_unref(g);
  }
  return s;
}

static pg_status run_backward(pg_call *c, const pair_loss *loss, double a) {
  if (c->recording) return run_formulas(c, loss, a);
  pair_tensors t;
  pair_job j;
  pg_tensor *g = NULL;
  PG_TRY(open_pair(c, &t, &j));
  pg_status s = PG_OK;
  j.a = a;
  j.scale = mean_of(c, t.x);
  if (c->arg[0].i == NONE) {
    s = layout_like(c->ctx, c->gout[0], t.x, &g);
    if (s == PG_OK) j.g = pg_data(g);
  } else {
    j.scale *= pg_item_f64(c->gout[0]);
  }
  for (int i = 0; i < 2 && s == PG_OK; i++) {
    if (!c->need[i]) continue;
    s = pg_tensor_new_like(c->ctx, t.x, (pg_dtype)t.x->dtype, &c->gin[i]);
    if (s != PG_OK) break;
    j.fn = i ? loss->kern[j.f64].by_target : loss->kern[j.f64].by_input;
    j.out = pg_data(c->gin[i]);
    pg_par_for(c->ctx, j.n, CHUNK, pair_range, &j);
  }
  pg_tensor_unref(g);
  close_pair(&t);
  return s;
}

/* --- the ops: arg reduction, then the loss's own ------------------------------------------------
 */

static pg_status infer_pair(pg_call *c) {
  const pg_tensor *x = c->in[0], *y = c->in[1];
  if (!pg_same_shape(x, y) && y->nd)
    return pg_bad_in(c, PG_ESHAPE, 1, "the shape of %s %s", pg_in_name(c, 0), pg_shape_str(x).s);
  pg_dtype d = pg_promote(c, 2);
  if (!(PG_M_REAL >> d & 1)) PG_TRY(pg_want(c, 0, PG_M_REAL));
  if (!(PG_M_REAL >> d & 1)) PG_TRY(pg_want(c, 1, PG_M_REAL));
  for (int i = 0; i < c->nin; i++) {
    pg_cast_in(c, i, d);
    if (i < 2 || !c->in[i]) continue;
    PG_TRY(pg_want_spread(c, i, pg_in_name(c, 0), x->nd, x->shape));
  }
  if (c->arg[0].i == NONE) return pg_out_like(c, 0, d, x);
  return pg_out_shape(c, 0, d, 0, NULL);
}

static pg_status infer_smooth(pg_call *c) {
  if (!(c->arg[1].f >= 0))
    return pg_fail(c->ctx, PG_EARG, "argument 'beta': expected 0 or more, got %g", c->arg[1].f);
  return infer_pair(c);
}

static pg_status infer_huber(pg_call *c) {
  if (!(c->arg[1].f > 0))
    return pg_fail(c->ctx, PG_EARG, "argument 'delta': expected more than 0, got %g", c->arg[1].f);
  return infer_pair(c);
}

static pg_status forward_mse(pg_call *c) { return run_forward(c, &mse, 0); }
static pg_status backward_mse(pg_call *c) { return run_backward(c, &mse, 0); }
static pg_status forward_l1(pg_call *c) { return run_forward(c, &l1, 0); }
static pg_status backward_l1(pg_call *c) { return run_backward(c, &l1, 0); }
static pg_status forward_smooth(pg_call *c) {
  return run_forward(c, c->arg[1].f > 0 ? &smooth_l1 : &l1, c->arg[1].f);
}
static pg_status backward_smooth(pg_call *c) {
  return run_backward(c, c->arg[1].f > 0 ? &smooth_l1 : &l1, c->arg[1].f);
}
static pg_status forward_huber(pg_call *c) { return run_forward(c, &huber, c->arg[1].f); }
static pg_status backward_huber(pg_call *c) { return run_backward(c, &huber, c->arg[1].f); }

static pg_status forward_bce(pg_call *c) {
  pg_tensor *x = NULL;
  PG_TRY(layout_dense(c->ctx, c->in[0], &x));
  int64_t n = pg_numel(x), bad = 0;
  if (x->dtype == PG_F32) {
    const float *v = pg_data(x);
    for (int64_t i = 0; i < n; i++) bad += !(v[i] >= 0 && v[i] <= 1);
  } else {
    const double *v = pg_data(x);
    for (int64_t i = 0; i < n; i++) bad += !(v[i] >= 0 && v[i] <= 1);
  }
  pg_tensor_unref(x);
  if (bad)
    return pg_fail(c->ctx, PG_EVALUE,
                   "argument 'input': expected probabilities of 0..1 "
                   "(binary_cross_entropy_with_logits takes scores), got %lld others of %lld",
                   (long long)bad, (long long)n);
  return run_forward(c, &bce, 0);
}
static pg_status backward_bce(pg_call *c) { return run_backward(c, &bce, 0); }

static pg_status forward_logits(pg_call *c) {
  return run_forward(c, c->in[3] ? &poslogits : &logits, 0);
}
static pg_status backward_logits(pg_call *c) {
  return run_backward(c, c->in[3] ? &poslogits : &logits, 0);
}
static pg_status forward_kl(pg_call *c) { return run_forward(c, c->arg[1].i ? &kllog : &kl, 0); }
static pg_status backward_kl(pg_call *c) { return run_backward(c, c->arg[1].i ? &kllog : &kl, 0); }

#define PAIR      PG_T("input"), PG_TN("target")
#define REDUCTION PG_WORD("reduction", MEAN, "none|mean|sum")
#define CONSTANT(n) \
  { n, PG_TENSOR, PG_OPTIONAL | PG_NOGRAD, 0, NULL }
#define SAVED (PG_SAVE_IN(0) | PG_SAVE_IN(1))

const pg_op PG_AT(pg_ops_loss)[] = {
    {"mse_loss",
     "(input - target)^2.",
     {PAIR, REDUCTION},
     PG_NN | PG_FULL,
     SAVED,
     1,
     infer_pair,
     {forward_mse},
     backward_mse},
    {"l1_loss",
     "|input - target|.",
     {PAIR, REDUCTION},
     PG_NN | PG_FULL,
     SAVED,
     1,
     infer_pair,
     {forward_l1},
     backward_l1},
    {"smooth_l1_loss",
     "d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, with d = input - target.",
     {PAIR, REDUCTION, PG_DEF("beta", PG_FLOAT, 1)},
     PG_NN | PG_FULL,
     SAVED,
     1,
     infer_smooth,
     {forward_smooth},
     backward_smooth},
    {"huber_loss",
     "d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), with d = input - target.",
     {PAIR, REDUCTION, PG_DEF("delta", PG_FLOAT, 1)},
     PG_NN | PG_FULL,
     SAVED,
     1,
     infer_huber,
     {forward_huber},
     backward_huber},
    {"binary_cross_entropy",
     "-weight (target log input + (1 - target) log(1 - input)), logarithms not below -100.",
     {PAIR, CONSTANT("weight"), REDUCTION},
     PG_NN | PG_FULL,
     SAVED | PG_SAVE_IN(2),
     1,
     infer_pair,
     {forward_bce},
     backward_bce},
    {"binary_cross_entropy_with_logits",
     "binary_cross_entropy of sigmoid(input), without overflow; pos_weight multiplies the first "
     "term.",
     {PAIR, CONSTANT("weight"), REDUCTION, CONSTANT("pos_weight")},
     PG_NN | PG_FULL,
     SAVED | PG_SAVE_IN(2) | PG_SAVE_IN(3),
     1,
     infer_pair,
     {forward_logits},
     backward_logits},
    {"kl_div",
     "target (log target - input) of log probabilities input; batchmean: the sum over the first "
     "size.",
     {PAIR, PG_WORD("reduction", MEAN, "none|mean|sum|batchmean"),
      PG_DEF("log_target", PG_FLAG, 0)},
     PG_NN | PG_FULL,
     SAVED,
     1,
     infer_pair,
     {forward_kl},
     backward_kl},
    {0}};
