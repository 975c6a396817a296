/* Losses that ask for a margin: hinge_embedding, margin_ranking, soft_margin, multi_margin,
 * multilabel_margin, multilabel_soft_margin. Relies on composed.h.
 * Spec: spec/ops/margin_loss_spec.lua. */
#include <string.h>

#include "ops/composed.h"

/* --- pairs: in input (, input2), target; arg (margin,) reduction --------------------------------
 */

/* PG_EDTYPE unless the target is of numbers, PG_ESHAPE unless it broadcasts with the n - 1 inputs
 * before it. */
static pg_status check_pair(pg_call *c, int n) {
  for (int i = 0; i < n - 1; i++) PG_TRY(pg_want(c, i, PG_M_REAL));
  PG_TRY(pg_want(c, n - 1, PG_M_NUM));
  return pg_out_broadcast(c, 0, (pg_dtype)c->in[0]->dtype, n);
}

static pg_status check_two(pg_call *c) { return check_pair(c, 2); }
static pg_status check_three(pg_call *c) { return check_pair(c, 3); }

static pg_status run_pair(pg_call *c, const char *text, double margin, int64_t reduction) {
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *t = pg_chain_formula(&k, c, text, margin, 0);
  return pg_chain_result(&k, pg_chain_reduce(&k, t, reduction), &c->out[0]);
}

static pg_status run_hinge(pg_call *c) {
  return run_pair(c, "where(ne(b, 1), clamp_min(p - a, 0), 0) + where(ne(b, -1), a, 0)",
                  c->arg[0].f, c->arg[1].i);
}

static pg_status run_ranking(pg_call *c) {
  return run_pair(c, "clamp_min(-c * (a - b) + p, 0)", c->arg[0].f, c->arg[1].i);
}

static pg_status run_soft(pg_call *c) {
  return run_pair(c, "logaddexp(-b * a, 0)", 0, c->arg[0].i);
}

/* --- classes ------------------------------------------------------------------------------------
 */

/* Scores [n x c], or [c] for one sample. */
static pg_status check_scores(pg_call *c) {
  const pg_tensor *x = c->in[0];
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  if (x->nd == 1 || x->nd == 2) return PG_OK;
  return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected n x c scores, or c, got %s",
                 pg_shape_str(x).s);
}

static pg_status check_weight(pg_call *c, int i) {
  const pg_tensor *x = c->in[0], *w = c->in[i];
  if (!w) return PG_OK;
  PG_TRY(pg_want_same_dtype(c, i, 0));
  int64_t classes = x->shape[x->nd - 1];
  if (w->nd == 1 && w->shape[0] == classes) return PG_OK;
  return pg_fail(c->ctx, PG_ESHAPE, "argument 'weight': expected [%lld], one a class, got %s",
                 (long long)classes, pg_shape_str(w).s);
}

/* max(0, z), and 0 for NaN; borrowed. */
static pg_tensor *positive(pg_chain *k, pg_tensor *z) {
  pg_tensor *zero = pg_chain_number(k, 0);
  return PG_STEP(k, "where", "ttt", PG_STEP(k, "gt", "tt", z, zero), z, zero);
}

/* Labels 1 .. classes, or least .. classes. */
static pg_status check_labels(pg_call *c, int64_t least) {
  pg_tensor *t;
  if (c->in[1]->storage->device != PG_HOST) return PG_OK;
  PG_TRY(pg__contiguous(c->ctx, c->in[1], &t));
  int64_t n = pg_numel(t), classes = c->in[0]->shape[c->in[0]->nd - 1], bad = -1;
  for (int64_t i = 0; i < n && bad < 0; i++) {
    int64_t label = pg_at_i64(t, i);
    if (label < least || label > classes) bad = i;
  }
  pg_status s = PG_OK;
  if (bad >= 0)
    s = pg_fail(
        c->ctx, PG_EINDEX, "argument 'target': expected %lld..%lld, got label %lld at element %lld",
        (long long)least, (long long)classes, (long long)pg_at_i64(t, bad), (long long)(bad + 1));
  pg_tensor_unref(t);
  return s;
}

static pg_status infer_multi(pg_call *c) {
  const pg_tensor *x = c->in[0], *t = c->in[1];
  PG_TRY(check_scores(c));
  PG_TRY(pg_want(c, 1, PG_M_INT));
  bool fits = x->nd == 1 ? t->nd == 0 || (t->nd == 1 && t->shape[0] == 1)
                         : t->nd == 1 && t->shape[0] == x->shape[0];
  if (!fits)
    return pg_bad_in(c, PG_ESHAPE, 1, "labels %s to follow input %s",
                     x->nd == 1 ? "[]" : pg_shape_str_of(1, x->shape).s, pg_shape_str(x).s);
  if (c->arg[0].i != 1 && c->arg[0].i != 2)
    return pg_fail(c->ctx, PG_EARG, "argument 'p': expected 1 or 2, got %lld",
                   (long long)c->arg[0].i);
  PG_TRY(check_weight(c, 2));
  pg_cast_in(c, 1, PG_I64);
  return PG_OK;
}

/* sum over j ~= y of weight[y] max(0, margin - x[y] + x[j])^p / c; arg p, margin, reduction. */
static pg_status run_multi(pg_call *c) {
  pg_tensor *x = c->in[0];
  bool one = x->nd == 1;
  int64_t classes = x->shape[x->nd - 1], dim = 2, column[2] = {one ? 1 : x->shape[0], 1};
  pg_chain k = {.ctx = c->ctx, .status = check_labels(c, 1)};
  if (one) x = PG_STEP(&k, "unsqueeze", "ti", x, (int64_t)1);
  pg_tensor *y = PG_STEP(&k, "reshape", "tl", c->in[1], 2, column);
  pg_tensor *own = PG_STEP(&k, "gather", "tit", x, dim, y);
  pg_tensor *z = PG_STEP(&k, "sub", "tt", x, own);
  z = PG_STEP(&k, "add", "tt", z, pg_chain_number(&k, c->arg[1].f));
  z = positive(&k, z);
  if (c->arg[0].i == 2) z = PG_STEP(&k, "mul", "tt", z, z);
  pg_tensor *numbers = PG_STEP(&k, "arange", "ff", 1.0, (double)classes);
  numbers = PG_STEP(&k, "eq", "tt", numbers, y);
  z = PG_STEP(&k, "where", "ttt", numbers, pg_chain_number(&k, 0), z);
  if (c->in[2]) {
    int64_t flat = -1;
    y = PG_STEP(&k, "reshape", "tl", y, 1, &flat);
    pg_tensor *w = PG_STEP(&k, "index_select", "tit", c->in[2], (int64_t)1, y);
    z = PG_STEP(&k, "mul", "tt", z, PG_STEP(&k, "unsqueeze", "ti", w, dim));
  }
  z = PG_STEP(&k, "sum", "tl", z, 1, &dim);
  z = PG_STEP(&k, "div", "tt", z, pg_chain_number(&k, (double)classes));
  if (one) z = PG_STEP(&k, "squeeze", "tl", z, 1, &(int64_t){1});
  return pg_chain_result(&k, pg_chain_reduce(&k, z, c->arg[2].i), &c->out[0]);
}

static pg_status infer_multilabel(pg_call *c) {
  PG_TRY(check_scores(c));
  PG_TRY(pg_want(c, 1, PG_M_INT));
  if (!pg_same_shape(c->in[0], c->in[1]))
    return pg_bad_in(c, PG_ESHAPE, 1, "labels of the shape of input %s", pg_shape_str(c->in[0]).s);
  pg_cast_in(c, 1, PG_I64);
  return PG_OK;
}

/* *out [n x c], of in[0]'s dtype = how often each class is listed in the target's rows, whose lists
 * end at the first 0. */
static pg_status count_labels(pg_call *c, pg_tensor **out) {
  const pg_tensor *x = c->in[0];
  int64_t shape[2] = {x->nd == 2 ? x->shape[0] : 1, x->shape[x->nd - 1]};
  pg_tensor *labels;
  if (c->in[1]->storage->device != PG_HOST)
    return pg_tensor_new_strided(c->ctx, (pg_dtype)x->dtype, 2, shape, NULL, PG_META, out);
  PG_TRY(check_labels(c, 0));
  PG_TRY(pg_tensor_zeros(c->ctx, (pg_dtype)x->dtype, 2, shape, out));
  PG_TRY(pg__contiguous(c->ctx, c->in[1], &labels));
  for (int64_t r = 0; r < shape[0]; r++)
    for (int64_t i = 0; i < shape[1]; i++) {
      int64_t label = pg_at_i64(labels, r * shape[1] + i);
      if (label == 0) break;
      int64_t at = r * shape[1] + label - 1;
      pg_put_f64(*out, at, pg_at_f64(*out, at) + 1);
    }
  pg_tensor_unref(labels);
  return PG_OK;
}

/* sum over listed y and unlisted j of max(0, 1 - x[y] + x[j]) / c; arg reduction. */
static pg_status run_multilabel(pg_call *c) {
  pg_tensor *x = c->in[0], *count = NULL;
  bool one = x->nd == 1;
  double classes = (double)x->shape[x->nd - 1];
  int64_t pair[2] = {2, 3};
  pg_chain k = {.ctx = c->ctx, .status = count_labels(c, &count)};
  if (one) x = PG_STEP(&k, "unsqueeze", "ti", x, (int64_t)1);
  pg_tensor *z = PG_STEP(&k, "sub", "tt", PG_STEP(&k, "unsqueeze", "ti", x, (int64_t)2),
                         PG_STEP(&k, "unsqueeze", "ti", x, (int64_t)3));
  z = PG_STEP(&k, "add", "tt", z, pg_chain_number(&k, 1));
  z = positive(&k, z);
  pg_tensor *absent = PG_STEP(&k, "eq", "tt", count, pg_chain_number(&k, 0));
  z = PG_STEP(&k, "mul", "tt", z, PG_STEP(&k, "unsqueeze", "ti", count, (int64_t)3));
  z = PG_STEP(&k, "where", "ttt", PG_STEP(&k, "unsqueeze", "ti", absent, (int64_t)2), z,
              pg_chain_number(&k, 0));
  z = PG_STEP(&k, "sum", "tl", z, 2, pair);
  z = PG_STEP(&k, "div", "tt", z, pg_chain_number(&k, classes));
  if (one) z = PG_STEP(&k, "squeeze", "tl", z, 1, &(int64_t){1});
  z = pg_chain_reduce(&k, z, c->arg[0].i);
  pg_status s = pg_chain_result(&k, z, &c->out[0]);
  pg_tensor_unref(count);
  return s;
}

static pg_status infer_multilabel_soft(pg_call *c) {
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  PG_TRY(pg_want(c, 1, PG_M_NUM));
  if (!pg_same_shape(c->in[0], c->in[1]) || c->in[0]->nd == 0)
    return pg_bad_in(c, PG_ESHAPE, 1, "the shape of input %s and at least 1 dim",
                     pg_shape_str(c->in[0]).s);
  return check_weight(c, 2);
}

/* mean over the classes of -weight (y log sigmoid(x) + (1 - y) log sigmoid(-x)); arg reduction. */
static pg_status run_multilabel_soft(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  int64_t last = -1;
  pg_tensor *z = pg_chain_formula(&k, c, "-b * logsigmoid(a) - (1 - b) * logsigmoid(-a)", 0, 0);
  if (c->in[2]) z = PG_STEP(&k, "mul", "tt", z, c->in[2]);
  z = PG_STEP(&k, "mean", "tl", z, 1, &last);
  return pg_chain_result(&k, pg_chain_reduce(&k, z, c->arg[0].i), &c->out[0]);
}

/* --- the table ----------------------------------------------------------------------------------
 */

#define LOSS(title, text, check, run, ...) \
  PG_COMPOSED_OP(title, text, PG_NN | PG_FULL, check, run, PG_T("input"), __VA_ARGS__)
#define WEIGHT \
  { "weight", PG_TENSOR, PG_OPTIONAL | PG_NOGRAD, 0, NULL }

const pg_op PG_AT(pg_ops_margin_loss)[] = {
    LOSS("hinge_embedding_loss", "input where target is 1, max(0, margin - input) where it is -1.",
         check_two, run_hinge, PG_T("target"), PG_DEF("margin", PG_FLOAT, 1), PG_REDUCTION),
    PG_COMPOSED_OP("margin_ranking_loss",
                   "max(0, -target (input1 - input2) + margin); target 1 ranks input1 higher, -1 "
                   "input2.",
                   PG_NN | PG_FULL, check_three, run_ranking, PG_T("input1"), PG_T("input2"),
                   PG_T("target"), PG_DEF("margin", PG_FLOAT, 0), PG_REDUCTION),
    LOSS("soft_margin_loss", "log(1 + exp(-target input)) for targets 1 and -1.", check_two,
         run_soft, PG_T("target"), PG_REDUCTION),
    LOSS("multi_margin_loss",
         "sum over j ~= y of weight[y] max(0, margin - x[y] + x[j])^p / C for scores N x C and "
         "labels y, 1..C.",
         infer_multi, run_multi, PG_TIDX("target"), PG_DEF("p", PG_INT, 1),
         PG_DEF("margin", PG_FLOAT, 1), WEIGHT, PG_REDUCTION),
    LOSS(
        "multilabel_margin_loss",
        "sum over listed y and unlisted j of max(0, 1 - x[y] + x[j]) / C; each row of target lists "
        "labels 1..C up to the first 0.",
        infer_multilabel, run_multilabel, PG_TIDX("target"), PG_REDUCTION),
    LOSS("multilabel_soft_margin_loss",
         "mean over C of -weight (y log sigmoid(x) + (1 - y) log sigmoid(-x)), y 0 or 1.",
         infer_multilabel_soft, run_multilabel_soft, PG_T("target"), WEIGHT, PG_REDUCTION),
    {0}};
