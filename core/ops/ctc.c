/* ctc_loss: connectionist temporal classification by the forward-backward algorithm in log space
 * (Graves et al., Connectionist Temporal Classification, ICML 2006). Relies on composed.h,
 * base/par.h. Spec: spec/ops/ctc_spec.lua. */
#include <math.h>
#include <string.h>

#include "base/par.h"
#include "ops/composed.h"

/* in log_probs, targets, input_lengths, target_lengths; arg blank, reduction, zero_infinity */
enum { LOG_PROBS, TARGETS, INPUT_LENGTHS, TARGET_LENGTHS };
enum { BLANK, REDUCTION, ZERO_INFINITY };

/* What the loops read: x [steps x n x classes], labels of sample b at label + start[b], from 0; a
 * row of alpha has width = 2 longest + 1 places: blank, label, blank .. blank. */
typedef struct ctc {
  int64_t steps, n, classes, longest, width, blank;
  bool zero_infinity;
  const void *x;
  const int64_t *label, *start, *length, *label_length;
  double *alpha;       /* [n x steps x width], kept for backward */
  double *loss;        /* [n] */
  const double *scale; /* backward: gradient of each loss */
  double *beta;        /* backward: two rows a sample, and the sums of a step by class */
  void *gx;
} ctc;

static double log_sum(double a, double b) {
  if (a < b) {
    double t = a;
    a = b;
    b = t;
  }
  return b == -INFINITY ? a : a + log1p(exp(b - a));
}

/* Class at place s of sample b's extended labels. */
static int64_t class_at(const ctc *j, int64_t b, int64_t s) {
  return s % 2 ? j->label[j->start[b] + s / 2] : j->blank;
}

/* May a path go from place s - 2 straight to s? */
static bool skips(const ctc *j, int64_t b, int64_t s) {
  return s % 2 && s > 2 && class_at(j, b, s) != class_at(j, b, s - 2);
}

#define CTC(S, T)                                                                                 \
  static void forward_##S(void *arg, int64_t begin, int64_t end) {                                \
    const ctc *j = arg;                                                                           \
    for (int64_t b = begin; b < end; b++) {                                                       \
      const T *x = (const T *)j->x + b * j->classes;                                              \
      const int64_t places = 2 * j->label_length[b] + 1, row = j->n * j->classes;                 \
      double *alpha = j->alpha + b * j->steps * j->width;                                         \
      j->loss[b] = places == 1 ? 0 : INFINITY;                                                    \
      if (!j->length[b]) continue;                                                                \
      for (int64_t s = 0; s < places; s++)                                                        \
        alpha[s] = s < 2 ? (double)x[class_at(j, b, s)] : -INFINITY;                              \
      for (int64_t t = 1; t < j->length[b]; t++) {                                                \
        const double *last = alpha + (t - 1) * j->width;                                          \
        double *now = alpha + t * j->width;                                                       \
        for (int64_t s = 0; s < places; s++) {                                                    \
          double a = last[s];                                                                     \
          if (s > 0) a = log_sum(a, last[s - 1]);                                                 \
          if (skips(j, b, s)) a = log_sum(a, last[s - 2]);                                        \
          now[s] = a + (double)x[t * row + class_at(j, b, s)];                                    \
        }                                                                                         \
      }                                                                                           \
      const double *final = alpha + (j->length[b] - 1) * j->width;                                \
      j->loss[b] = -(places == 1 ? final[0] : log_sum(final[places - 1], final[places - 2]));     \
    }                                                                                             \
  }                                                                                               \
  /* d loss / d x[t][k] = exp(x) - sum over places of class k of exp(alpha + beta - x + loss), */ \
  /* which is what reaches the scores behind a log_softmax. */                                    \
  static void backward_##S(void *arg, int64_t begin, int64_t end) {                               \
    const ctc *j = arg;                                                                           \
    const int64_t row = j->n * j->classes, room = 2 * j->width + j->classes;                      \
    for (int64_t b = begin; b < end; b++) {                                                       \
      const T *x = (const T *)j->x + b * j->classes;                                              \
      T *gx = (T *)j->gx + b * j->classes;                                                        \
      const int64_t places = 2 * j->label_length[b] + 1;                                          \
      double *now = j->beta + b * room, *next = now + j->width, *sum = now + 2 * j->width;        \
      const double loss = j->loss[b];                                                             \
      int64_t last = j->length[b] - 1;                                                            \
      if (j->zero_infinity && loss == INFINITY) last = -1;                                        \
      for (int64_t t = j->steps - 1; t > last; t--)                                               \
        for (int64_t k = 0; k < j->classes; k++) gx[t * row + k] = 0;                             \
      for (int64_t t = last; t >= 0; t--) {                                                       \
        const double *alpha = j->alpha + (b * j->steps + t) * j->width;                           \
        for (int64_t k = 0; k < j->classes; k++) sum[k] = -INFINITY;                              \
        for (int64_t s = places - 1; s >= 0; s--) {                                               \
          const int64_t k = class_at(j, b, s);                                                    \
          double v = t == last ? (s >= places - 2 ? 0 : -INFINITY) : next[s];                     \
          if (t < last && s + 1 < places) v = log_sum(v, next[s + 1]);                            \
          if (t < last && s + 2 < places && skips(j, b, s + 2)) v = log_sum(v, next[s + 2]);      \
          now[s] = v + (double)x[t * row + k];                                                    \
          sum[k] = log_sum(sum[k], alpha[s] + now[s]);                                            \
        }                                                                                         \
        for (int64_t k = 0; k < j->classes; k++) {                                                \
          const double p = (double)x[t * row + k];                                                \
          const double path = sum[k] == -INFINITY ? 0 : exp(sum[k] + loss - p);                   \
          gx[t * row + k] = (T)((exp(p) - path) * j->scale[b]);                                   \
        }                                                                                         \
        double *other = now;                                                                      \
        now = next;                                                                               \
        next = other;                                                                             \
      }                                                                                           \
    }                                                                                             \
  }
CTC(f32, float)
CTC(f64, double)

/* --- operands -----------------------------------------------------------------------------------
 */

static pg_status infer_ctc(pg_call *c) {
  const pg_tensor *x = c->in[LOG_PROBS], *y = c->in[TARGETS];
  PG_TRY(pg_want(c, LOG_PROBS, PG_M_REAL));
  for (int i = TARGETS; i <= TARGET_LENGTHS; i++) {
    PG_TRY(pg_want(c, i, PG_M_INT));
    pg_cast_in(c, i, PG_I64);
  }
  if (x->nd != 2 && x->nd != 3)
    return pg_fail(c->ctx, PG_ESHAPE,
                   "argument 'log_probs': expected steps x n x classes, or steps x classes, got %s",
                   pg_shape_str(x).s);
  int64_t n = x->nd == 3 ? x->shape[1] : 1, classes = x->shape[x->nd - 1];
  if (y->nd != 1 && (y->nd != 2 || x->nd == 2 || y->shape[0] != n))
    return pg_fail(c->ctx, PG_ESHAPE,
                   "argument 'targets': expected %lld x longest labels, or all in one row, got %s",
                   (long long)n, pg_shape_str(y).s);
  for (int i = INPUT_LENGTHS; i <= TARGET_LENGTHS; i++) {
    const pg_tensor *t = c->in[i];
    if (pg_numel(t) != n || t->nd > 1 || (x->nd == 3 && t->nd == 0))
      return pg_fail(c->ctx, PG_ESHAPE, "argument '%s': expected [%lld], got %s", pg_in_name(c, i),
                     (long long)n, pg_shape_str(t).s);
  }
  if (c->arg[BLANK].i < 1 || c->arg[BLANK].i > classes)
    return pg_fail(c->ctx, PG_EARG, "argument 'blank': expected 1..%lld, got %lld",
                   (long long)classes, (long long)c->arg[BLANK].i);
  return pg_out_shape(c, 0, (pg_dtype)x->dtype, c->arg[REDUCTION].i || x->nd == 2 ? 0 : 1, &n);
}

/* The integers of a call in one block: labels from 0, start, length, label_length. */
typedef struct ctc_ints {
  int64_t *v;
  size_t bytes;
} ctc_ints;

static pg_status check_lengths(pg_call *c, const ctc *j, int64_t labels, bool padded) {
  int64_t total = 0;
  for (int64_t b = 0; b < j->n; b++) {
    if (j->length[b] < 0 || j->length[b] > j->steps)
      return pg_fail(c->ctx, PG_EARG,
                     "argument 'input_lengths': expected 0..%lld, got %lld at element %lld",
                     (long long)j->steps, (long long)j->length[b], (long long)(b + 1));
    int64_t most = padded ? labels : labels - total;
    if (j->label_length[b] < 0 || j->label_length[b] > most)
      return pg_fail(c->ctx, PG_EARG,
                     "argument 'target_lengths': expected 0..%lld, got %lld at element %lld",
                     (long long)most, (long long)j->label_length[b], (long long)(b + 1));
    total += j->label_length[b];
  }
  if (!padded && total != labels)
    return pg_fail(
        c->ctx, PG_EARG,
        "argument 'target_lengths': expected a sum of %lld, as targets has labels, got %lld",
        (long long)labels, (long long)total);
  return PG_OK;
}

/* Fills j and ints from the call. */
static pg_status open_ctc(pg_call *c, int nd, const int64_t *shape, ctc *j, ctc_ints *ints) {
  pg_tensor *t[4] = {NULL};
  *j = (ctc){.steps = shape[0], .n = nd == 3 ? shape[1] : 1, .classes = shape[nd - 1]};
  j->blank = c->arg[BLANK].i - 1;
  j->zero_infinity = c->arg[ZERO_INFINITY].i != 0;
  ints->v = NULL;
  pg_status s = PG_OK;
  for (int i = TARGETS; i <= TARGET_LENGTHS && s == PG_OK; i++)
    s = pg__as(c->ctx, c->in[i], PG_I64, &t[i]);
  int64_t count = s == PG_OK ? pg_numel(t[TARGETS]) : 0;
  ints->bytes = sizeof(int64_t) * (size_t)(count + 3 * j->n);
  if (s == PG_OK) s = pg_alloc(c->ctx, ints->bytes, (void **)&ints->v);
  if (s == PG_OK) {
    int64_t *label = ints->v, *start = label + count, *length = start + j->n;
    int64_t *label_length = length + j->n, at = 0;
    bool padded = t[TARGETS]->nd == 2;
    if (j->n) {
      memcpy(length, pg_data(t[INPUT_LENGTHS]), sizeof(int64_t) * (size_t)j->n);
      memcpy(label_length, pg_data(t[TARGET_LENGTHS]), sizeof(int64_t) * (size_t)j->n);
    }
    j->label = label;
    j->start = start;
    j->length = length;
    j->label_length = label_length;
    s = check_lengths(c, j, padded ? t[TARGETS]->shape[1] : count, padded);
    for (int64_t b = 0; b < j->n && s == PG_OK; b++) {
      start[b] = padded ? b * t[TARGETS]->shape[1] : at;
      at += label_length[b];
      j->longest = pg_max64(j->longest, label_length[b]);
      for (int64_t i = start[b]; i < start[b] + label_length[b] && s == PG_OK; i++) {
        int64_t y = pg_at_i64(t[TARGETS], i);
        label[i] = y - 1;
        if (y < 1 || y > j->classes || y == j->blank + 1)
          s = pg_fail(c->ctx, PG_EINDEX,
                      "argument 'targets': expected 1..%lld without blank %lld, got %lld as label "
                      "%lld of sample %lld",
                      (long long)j->classes, (long long)(j->blank + 1), (long long)y,
                      (long long)(i - start[b] + 1), (long long)(b + 1));
      }
    }
    j->width = 2 * j->longest + 1;
  }
  for (int i = 0; i < 4; i++) pg_tensor_unref(t[i]);
  if (s != PG_OK) {
    pg_free(c->ctx, ints->v, ints->bytes);
    ints->v = NULL;
  }
  return s;
}

/* --- forward and backward -----------------------------------------------------------------------
 */

/* What the loss of sample b counts with in a mean. */
static double share(const ctc *j, int64_t b) {
  return 1 / ((double)j->n * (double)pg_max64(1, j->label_length[b]));
}

static pg_status forward_ctc(pg_call *c) {
  pg_ctx *ctx = c->ctx;
  pg_tensor *x = NULL, *alpha = NULL, *loss = NULL;
  ctc j;
  ctc_ints ints;
  PG_TRY(open_ctc(c, c->in[0]->nd, c->in[0]->shape, &j, &ints));
  int64_t size = j.n * j.steps * j.width;
  pg_status s = pg__contiguous(ctx, c->in[0], &x);
  if (s == PG_OK) s = pg_tensor_new(ctx, PG_F64, 1, &size, &alpha);
  if (s == PG_OK) s = pg_tensor_new(ctx, PG_F64, 1, &j.n, &loss);
  if (s == PG_OK) {
    j.x = pg_data(x);
    j.alpha = pg_data(alpha);
    j.loss = pg_data(loss);
    pg_par_for(ctx, j.n, pg_grain(40 * j.steps * j.width),
               x->dtype == PG_F64 ? forward_f64 : forward_f32, &j);
    double sum = 0;
    for (int64_t b = 0; b < j.n; b++) {
      double v = j.zero_infinity && j.loss[b] == INFINITY ? 0 : j.loss[b];
      if (c->arg[REDUCTION].i == PG_REDUCE_NONE) pg_put_f64(c->out[0], b, v);
      else sum += c->arg[REDUCTION].i == PG_REDUCE_MEAN ? v * share(&j, b) : v;
    }
    if (c->arg[REDUCTION].i == PG_REDUCE_MEAN && !j.n) sum = NAN;
    if (c->arg[REDUCTION].i != PG_REDUCE_NONE) pg_put_f64(c->out[0], 0, sum);
  }
  if (s == PG_OK && c->recording) {
    c->keep[0] = alpha;
    c->keep[1] = loss;
    alpha = loss = NULL;
  }
  pg_tensor_unref(loss);
  pg_tensor_unref(alpha);
  pg_tensor_unref(x);
  pg_free(ctx, ints.v, ints.bytes);
  return s;
}

static pg_status backward_ctc(pg_call *c) {
  pg_ctx *ctx = c->ctx;
  const pg_meta *m = &c->meta[0];
  pg_tensor *x = NULL, *g = NULL;
  ctc j;
  ctc_ints ints;
  if (c->recording) return pg_fail(ctx, PG_EUNSUPPORTED, "has no second derivative (create_graph)");
  PG_TRY(open_ctc(c, m->nd, m->shape, &j, &ints));
  size_t bytes = sizeof(double) * (size_t)(j.n * (2 * j.width + j.classes + 1));
  double *room = NULL;
  pg_status s = pg__contiguous(ctx, c->in[0], &x);
  if (s == PG_OK) s = pg__contiguous(ctx, c->gout[0], &g);
  if (s == PG_OK) s = pg_alloc(ctx, bytes, (void **)&room);
  if (s == PG_OK) s = pg_tensor_new(ctx, (pg_dtype)m->dtype, m->nd, m->shape, &c->gin[0]);
  if (s == PG_OK) {
    double *scale = room + j.n * (2 * j.width + j.classes);
    for (int64_t b = 0; b < j.n; b++) {
      scale[b] = pg_at_f64(g, c->arg[REDUCTION].i == PG_REDUCE_NONE ? b : 0);
      if (c->arg[REDUCTION].i == PG_REDUCE_MEAN) scale[b] *= share(&j, b);
    }
    j.x = pg_data(x);
    j.alpha = pg_data(c->keep[0]);
    j.loss = pg_data(c->keep[1]);
    j.scale = scale;
    j.beta = room;
    j.gx = pg_data(c->gin[0]);
    pg_par_for(ctx, j.n, pg_grain(40 * j.steps * (j.width + j.classes)),
               m->dtype == PG_F64 ? backward_f64 : backward_f32, &j);
  }
  pg_free(ctx, room, bytes);
  pg_tensor_unref(g);
  pg_tensor_unref(x);
  pg_free(ctx, ints.v, ints.bytes);
  return s;
}

const pg_op PG_AT(pg_ops_ctc)[] = {
    {"ctc_loss",
     "-log of the probability of all alignments of targets (labels 1..C without blank, n x longest "
     "or in one row) with log_probs, steps x n x C; a mean divides by target_lengths first; "
     "it has no second gradient.",
     {PG_T("log_probs"), PG_TIDX("targets"), PG_TIDX("input_lengths"), PG_TIDX("target_lengths"),
      PG_DEF("blank", PG_INT, 1), PG_REDUCTION, PG_DEF("zero_infinity", PG_FLAG, 0)},
     PG_NN | PG_FULL,
     PG_SAVE_IN(0) | PG_SAVE_IN(1) | PG_SAVE_IN(2) | PG_SAVE_IN(3),
     1,
     infer_ctc,
     {forward_ctc},
     backward_ctc},
    {0}};
