/* Negative log likelihoods of counts and of measurements: poisson_nll_loss, gaussian_nll_loss.
 * Relies on composed.h. Spec: spec/ops/likelihood_spec.lua. */
#include "ops/composed.h"

#define LOG_2_PI 1.8378770664093453

static pg_status check_poisson(pg_call *c) { return pg_want_broadcast(c, 2); }

/* arg log_input, full, eps, reduction */
static pg_status run_poisson(pg_call *c) {
  pg_chain k = {.ctx = c->ctx};
  pg_tensor *t = c->arg[0].i ? pg_chain_formula(&k, c, "exp(a) - b * a", 0, 0)
                             : pg_chain_formula(&k, c, "a - b * log(a + p)", c->arg[2].f, 0);
  if (c->arg[1].i) /* Stirling's approximation of log target! */
    t = PG_STEP(&k, "add", "tt", t,
                pg_chain_formula(&k, c, "where(gt(b, 1), b * log(b) - b + p * log(q * b), 0)", 0.5,
                                 6.283185307179586));
  return pg_chain_result(&k, pg_chain_reduce(&k, t, c->arg[3].i), &c->out[0]);
}

/* var: of input's shape, with a last dim of 1, or without the last dim; a number. */
static pg_status check_gaussian(pg_call *c) {
  const pg_tensor *x = c->in[0], *var = c->in[2];
  PG_TRY(pg_want_broadcast(c, 2));
  PG_TRY(pg_want(c, 2, var->is_number ? PG_M_NUM : PG_M_REAL));
  bool fits = var->nd == 0 || var->nd == x->nd || var->nd == x->nd - 1;
  for (int i = 0; i < var->nd && fits; i++)
    fits = var->shape[i] == x->shape[i] || (i == x->nd - 1 && var->shape[i] == 1);
  if (!fits)
    return pg_fail(c->ctx, PG_ESHAPE,
                   "argument 'var': expected %s, 1 in its last dim or without "
                   "it, got %s",
                   pg_shape_str(x).s, pg_shape_str(var).s);
  if (c->arg[1].f > 0) return PG_OK;
  return pg_fail(c->ctx, PG_EARG, "argument 'eps': expected more than 0, got %g", c->arg[1].f);
}

/* PG_EARG where a variance is negative. */
static pg_status check_positive(pg_call *c) {
  pg_tensor *var;
  if (c->in[2]->storage->device != PG_HOST) return PG_OK;
  PG_TRY(pg__contiguous(c->ctx, c->in[2], &var));
  int64_t n = pg_numel(var), i = 0;
  while (i < n && !(pg_at_f64(var, i) < 0)) i++;
  pg_status s = PG_OK;
  if (i < n)
    s = pg_fail(c->ctx, PG_EARG, "argument 'var': expected at least 0, got %g at element %lld",
                pg_at_f64(var, i), (long long)(i + 1));
  pg_tensor_unref(var);
  return s;
}

/* 1/2 (log var + (input - target)^2 / var); arg full, eps, reduction */
static pg_status run_gaussian(pg_call *c) {
  pg_chain k = {.ctx = c->ctx, .status = check_positive(c)};
  pg_tensor *var = c->in[2];
  if (var->nd && var->nd == c->in[0]->nd - 1)
    var = PG_STEP(&k, "unsqueeze", "ti", var, (int64_t)-1);
  var = pg_chain_raise(&k, var, c->arg[1].f);
  pg_tensor *d = PG_STEP(&k, "sub", "tt", c->in[0], c->in[1]);
  pg_tensor *t = PG_STEP(&k, "div", "tt", PG_STEP(&k, "mul", "tt", d, d), var);
  t = PG_STEP(&k, "add", "tt", PG_STEP(&k, "log", "t", var), t);
  t = PG_STEP(&k, "mul", "tt", t, pg_chain_number(&k, 0.5));
  if (c->arg[0].i) t = PG_STEP(&k, "add", "tt", t, pg_chain_number(&k, LOG_2_PI / 2));
  return pg_chain_result(&k, pg_chain_reduce(&k, t, c->arg[2].i), &c->out[0]);
}

const pg_op PG_AT(pg_ops_likelihood)[] = {
    PG_COMPOSED_OP("poisson_nll_loss",
                   "exp(input) - target input, or input - target log(input + eps) without "
                   "log_input; full adds Stirling's log target! where target > 1.",
                   PG_NN | PG_FULL, check_poisson, run_poisson, PG_T("input"), PG_T("target"),
                   PG_DEF("log_input", PG_FLAG, 1), PG_DEF("full", PG_FLAG, 0),
                   PG_DEF("eps", PG_FLOAT, 1e-8), PG_REDUCTION),
    PG_COMPOSED_OP("gaussian_nll_loss",
                   "1/2 (log var + (input - target)^2 / var) with var at least eps; full adds "
                   "1/2 log 2 pi.",
                   PG_NN | PG_FULL, check_gaussian, run_gaussian, PG_T("input"), PG_T("target"),
                   PG_TN("var"), PG_DEF("full", PG_FLAG, 0), PG_DEF("eps", PG_FLOAT, 1e-6),
                   PG_REDUCTION),
    {0}};
