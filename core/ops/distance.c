/* Distances and angles between vectors, and the losses made of them: cosine_similarity,
 * pairwise_distance, normalize, cosine_embedding_loss, triplet_margin_loss. Relies on composed.h.
 * Spec: spec/ops/distance_spec.lua. */
#include "ops/composed.h"

static pg_status check_two(pg_call *c) { return pg_want_broadcast(c, 2); }
static pg_status check_three(pg_call *c) { return pg_want_broadcast(c, 3); }

/* --- cosine_similarity: arg dim, eps ------------------------------------------------------------
 */

static pg_status check_cosine(pg_call *c) {
  int dim;
  PG_TRY(check_two(c));
  return pg_arg_dim(c, 0, c->os[0].nd, &dim);
}

static pg_tensor *unit(pg_chain *k, pg_tensor *x, int64_t dim, double eps) {
  pg_tensor *norm = PG_STEP(k, "norm", "tflb", x, 2.0, 1, &dim, 1);
  return PG_STEP(k, "div", "tt", x, pg_chain_raise(k, norm, eps));
}

static pg_status run_cosine(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  int nd = c->os[0].nd;
  int64_t dim = c->arg[0].i;
  pg_tensor *x[2];
  for (int i = 0; i < 2; i++) {
    x[i] = c->in[i];
    if (x[i]->nd < nd) x[i] = PG_STEP(&k, "expand", "tl", x[i], nd, c->os[0].shape);
    x[i] = unit(&k, x[i], dim, c->arg[1].f);
  }
  pg_tensor *t = PG_STEP(&k, "mul", "tt", x[0], x[1]);
  return pg_chain_result(&k, PG_STEP(&k, "sum", "tl", t, 1, &dim), &c->out[0]);
}

/* --- pairwise_distance: arg p, eps, keepdim; normalize: arg p, dim, eps -------------------------
 */

static pg_tensor *distance(pg_chain *k, pg_tensor *a, pg_tensor *b, double p, double eps,
                           bool keep) {
  int64_t last = -1;
  pg_tensor *d = PG_STEP(k, "sub", "tt", a, b);
  d = PG_STEP(k, "add", "tt", d, pg_chain_number(k, eps));
  return PG_STEP(k, "norm", "tflb", d, p, 1, &last, keep);
}

static pg_status check_pairwise(pg_call *c) {
  PG_TRY(check_two(c));
  if (c->os[0].nd) return PG_OK;
  return pg_fail(c->ctx, PG_ESHAPE, "argument 'x1': expected vectors, got []");
}

static pg_status run_pairwise(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *d = distance(&k, c->in[0], c->in[1], c->arg[0].f, c->arg[1].f, c->arg[2].i != 0);
  return pg_chain_result(&k, d, &c->out[0]);
}

static pg_status check_normalize(pg_call *c) {
  unsigned mask;
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  return pg_arg_dims(c, 1, c->in[0]->nd, &mask);
}

static pg_status run_normalize(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  const pg_arg *dim = &c->arg[1];
  pg_tensor *norm = PG_STEP(&k, "norm", "tflb", c->in[0], c->arg[0].f, (int)dim->n, dim->v, 1);
  norm = PG_STEP(&k, "clamp_min", "tt", norm, pg_chain_number(&k, c->arg[2].f));
  return pg_chain_result(&k, PG_STEP(&k, "div", "tt", c->in[0], norm), &c->out[0]);
}

/* --- losses: arg .., reduction ------------------------------------------------------------------
 */

static pg_status check_cosine_loss(pg_call *c) {
  const pg_tensor *a = c->in[0], *t = c->in[2];
  for (int i = 0; i < 2; i++) PG_TRY(pg_want(c, i, PG_M_REAL));
  PG_TRY(pg_want(c, 2, PG_M_NUM));
  if (!pg_same_shape(a, c->in[1]))
    return pg_bad_in(c, PG_ESHAPE, 1, "the shape of %s %s", pg_in_name(c, 0), pg_shape_str(a).s);
  bool fits =
      (a->nd == 1 && t->nd == 0) || (a->nd == 2 && t->nd == 1 && t->shape[0] == a->shape[0]);
  if (fits) return PG_OK;
  if (a->nd != 1 && a->nd != 2) return pg_bad_in(c, PG_ESHAPE, 0, "n x c or c");
  return pg_bad_in(c, PG_ESHAPE, 2, "%s to follow input1 %s",
                   a->nd == 1 ? "[]" : pg_shape_str_of(1, a->shape).s, pg_shape_str(a).s);
}

/* 1 - cos where target is 1, max(0, cos - margin) where it is -1. */
static pg_status run_cosine_loss(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  int64_t last = -1;
  pg_tensor *zero = pg_chain_number(&k, 0), *one = pg_chain_number(&k, 1), *square[2];
  pg_tensor *dot = pg_chain_formula(&k, c, "a * b", 0, 0);
  dot = PG_STEP(&k, "sum", "tl", dot, 1, &last);
  for (int i = 0; i < 2; i++) {
    square[i] = PG_STEP(&k, "mul", "tt", c->in[i], c->in[i]);
    square[i] = PG_STEP(&k, "sum", "tl", square[i], 1, &last);
    square[i] = PG_STEP(&k, "add", "tt", square[i], pg_chain_number(&k, (double)1e-12f));
  }
  pg_tensor *root = PG_STEP(&k, "mul", "tt", square[0], square[1]);
  pg_tensor *cos = PG_STEP(&k, "div", "tt", dot, PG_STEP(&k, "sqrt", "t", root));
  pg_tensor *far = PG_STEP(&k, "sub", "tt", cos, pg_chain_number(&k, c->arg[0].f));
  far = PG_STEP(&k, "relu", "t", far);
  pg_tensor *near = PG_STEP(&k, "sub", "tt", one, cos);
  pg_tensor *alike = PG_STEP(&k, "eq", "tt", c->in[2], one);
  pg_tensor *apart = PG_STEP(&k, "eq", "tt", c->in[2], pg_chain_number(&k, -1));
  near = PG_STEP(&k, "where", "ttt", alike, near, zero);
  far = PG_STEP(&k, "where", "ttt", apart, far, zero);
  pg_tensor *t = PG_STEP(&k, "add", "tt", near, far);
  return pg_chain_result(&k, pg_chain_reduce(&k, t, c->arg[1].i), &c->out[0]);
}

static pg_status check_triplet(pg_call *c) {
  PG_TRY(check_three(c));
  if (!(c->arg[0].f > 0))
    return pg_fail(c->ctx, PG_EARG, "argument 'margin': expected more than 0, got %g", c->arg[0].f);
  int i = 0, nd = c->in[0]->nd;
  while (nd && i < 3 && c->in[i]->nd == nd) i++;
  if (i == 3) return PG_OK;
  if (!nd) return pg_bad_in(c, PG_ESHAPE, 0, "at least 1 dim");
  return pg_bad_in(c, PG_ESHAPE, i, "as many dims as anchor %s", pg_shape_str(c->in[0]).s);
}

/* arg margin, p, eps, swap, reduction */
static pg_status run_triplet(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  double p = c->arg[1].f, eps = c->arg[2].f;
  pg_tensor *near = distance(&k, c->in[0], c->in[1], p, eps, false);
  pg_tensor *far = distance(&k, c->in[0], c->in[2], p, eps, false);
  if (c->arg[3].i)
    far = PG_STEP(&k, "minimum", "tt", far, distance(&k, c->in[1], c->in[2], p, eps, false));
  pg_tensor *t = PG_STEP(&k, "sub", "tt", near, far);
  t = PG_STEP(&k, "add", "tt", t, pg_chain_number(&k, c->arg[0].f));
  t = PG_STEP(&k, "relu", "t", t);
  return pg_chain_result(&k, pg_chain_reduce(&k, t, c->arg[4].i), &c->out[0]);
}

/* --- the table ----------------------------------------------------------------------------------
 */

const pg_op PG_AT(pg_ops_distance)[] = {
    PG_COMPOSED_OP("cosine_similarity", "x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along dim.",
                   PG_METHOD, check_cosine, run_cosine, PG_T("x1"), PG_T("x2"),
                   PG_DEF("dim", PG_DIM, 2), PG_DEF("eps", PG_FLOAT, 1e-8)),
    PG_COMPOSED_OP("pairwise_distance", "The p-norm of x1 - x2 + eps along the last dim.",
                   PG_METHOD, check_pairwise, run_pairwise, PG_T("x1"), PG_T("x2"),
                   PG_DEF("p", PG_FLOAT, 2), PG_DEF("eps", PG_FLOAT, 1e-6),
                   PG_DEF("keepdim", PG_FLAG, 0)),
    PG_COMPOSED_OP("normalize", "input / max(|input|_p, eps) along dim.", PG_NN, check_normalize,
                   run_normalize, PG_T("input"), PG_DEF("p", PG_FLOAT, 2),
                   PG_DEF("dim", PG_INTS, 2), PG_DEF("eps", PG_FLOAT, 1e-12)),
    PG_COMPOSED_OP(
        "cosine_embedding_loss",
        "1 - cos(input1, input2) where target is 1, max(0, cos - margin) where it is -1.",
        PG_NN | PG_FULL, check_cosine_loss, run_cosine_loss, PG_T("input1"), PG_T("input2"),
        PG_T("target"), PG_DEF("margin", PG_FLOAT, 0), PG_REDUCTION),
    PG_COMPOSED_OP(
        "triplet_margin_loss",
        "max(0, d(anchor, positive) - d(anchor, negative) + margin), d the p-norm of the "
        "difference; swap: d(positive, negative) where that is smaller.",
        PG_NN | PG_FULL, check_triplet, run_triplet, PG_T("anchor"), PG_T("positive"),
        PG_T("negative"), PG_DEF("margin", PG_FLOAT, 1), PG_DEF("p", PG_FLOAT, 2),
        PG_DEF("eps", PG_FLOAT, 1e-6), PG_DEF("swap", PG_FLAG, 0), PG_REDUCTION),
    {0}};
