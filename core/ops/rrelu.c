/* rrelu and feature_alpha_dropout: activations with random numbers, made of other ops. Relies on
 * composed.h. Spec: spec/ops/rrelu_spec.lua. */
#include <math.h>

#include "ops/composed.h"

/* arg lower, upper, training */
static pg_status check_rrelu(pg_call *c) {
  double lower = c->arg[0].f, upper = c->arg[1].f;
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  if (lower <= upper && upper < INFINITY) return PG_OK;
  return pg_bad_arg(c, PG_EARG, 0, "at most upper %g, and that finite", upper);
}

static pg_status run_rrelu(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  double lower = c->arg[0].f, upper = c->arg[1].f;
  if (!c->arg[2].i)
    return pg_do(c->ctx, &c->out[0], "leaky_relu", "tf", c->in[0], (lower + upper) / 2);
  pg_tensor *slope = PG_STEP(&k, "rand_like", "t", c->in[0]);
  slope = PG_STEP(&k, "mul", "tt", slope, pg_chain_number(&k, upper - lower));
  slope = PG_STEP(&k, "add", "tt", slope, pg_chain_number(&k, lower));
  pg_tensor *positive = PG_STEP(&k, "ge", "tt", c->in[0], pg_chain_number(&k, 0));
  slope = PG_STEP(&k, "where", "ttt", positive, pg_chain_number(&k, 1), slope);
  return pg_chain_result(&k, PG_STEP(&k, "mul", "tt", c->in[0], slope), &c->out[0]);
}

/* arg p, training */
static pg_status check_dropout(pg_call *c) {
  double p = c->arg[0].f;
  PG_TRY(pg_want(c, 0, PG_M_REAL));
  if (c->in[0]->nd < 2)
    return pg_fail(c->ctx, PG_ESHAPE, "argument 'input': expected n x c (x ..), got %s",
                   pg_shape_str(c->in[0]).s);
  if (p >= 0 && p <= 1) return PG_OK;
  return pg_fail(c->ctx, PG_EARG, "argument 'p': expected 0 to 1, got %g", p);
}

/* Channels that are dropped take SELU's lowest value a; then mean and variance are restored. */
static pg_status run_dropout(pg_call *c) {
  static const double lowest = -1.7580993408473766;
  double p = c->arg[0].f;
  pg_chain k = {.ctx = c->ctx};
  const pg_tensor *x = c->in[0];
  if (!c->arg[1].i || p == 0) return pg_do(c->ctx, &c->out[0], "clone", "t", x);
  int64_t shape[PG_MAX_DIMS];
  for (int i = 0; i < x->nd; i++) shape[i] = i < 2 ? x->shape[i] : 1;
  pg_tensor *mask = PG_STEP(&k, "rand", "l", x->nd, shape);
  mask = PG_STEP(&k, "lt", "tt", mask, pg_chain_number(&k, p));
  double scale = p < 1 ? 1 / sqrt((1 - p) * (1 + p * lowest * lowest)) : 0;
  pg_tensor *t = PG_STEP(&k, "where", "ttt", mask, pg_chain_number(&k, lowest), c->in[0]);
  t = PG_STEP(&k, "mul", "tt", t, pg_chain_number(&k, scale));
  t = PG_STEP(&k, "add", "tt", t, pg_chain_number(&k, -scale * p * lowest));
  return pg_chain_result(&k, t, &c->out[0]);
}

const pg_op PG_AT(pg_ops_rrelu)[] = {
    PG_COMPOSED_OP("rrelu",
                   "x for x >= 0, else a x with a uniform in lower .. upper; their mean outside of "
                   "training.",
                   PG_NN | PG_RANDOM, check_rrelu, run_rrelu, PG_T("input"),
                   PG_DEF("lower", PG_FLOAT, 1.0 / 8), PG_DEF("upper", PG_FLOAT, 1.0 / 3),
                   PG_DEF("training", PG_FLAG, 0)),
    PG_COMPOSED_OP("feature_alpha_dropout",
                   "alpha_dropout of whole channels of n x c x ..; the identity outside of "
                   "training.",
                   PG_NN | PG_RANDOM, check_dropout, run_dropout, PG_T("input"),
                   PG_DEF("p", PG_FLOAT, 0.5), PG_DEF("training", PG_FLAG, 0)),
    {0}};
