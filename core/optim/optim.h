/* Optimizers: a rule says how one parameter moves; groups, the step loop and clipping are written
 * once here. Relies on autograd. A file in rules/ exports const pg_rule PG_AT(pg_rules_<file>)[],
 * ended by {0}. Spec: spec/optim/optim_spec.lua. */
#ifndef PG_OPTIM_OPTIM_H
#define PG_OPTIM_OPTIM_H

#include "autograd/op.h"

#define PG_MAX_STATE 6
#define PG_MAX_COEF  12

typedef struct pg_rule {
  const char *name, *doc;          /* "SGD" */
  pg_param param[PG_MAX_PARAM];    /* hyperparameters in PyTorch's order: PG_FLOAT, PG_INT, PG_FLAG;
                                      list values as two params */
  const char *state[PG_MAX_STATE]; /* PyTorch's names ("momentum_buffer", "exp_avg"); made as zeros
                                      like the parameter */
  /* Which state tensors these hyperparameters use (bit mask). NULL: all. */
  unsigned (*uses)(const double *hyper);
  pg_status (*check)(pg_ctx *ctx, const double *hyper); /* ranges; NULL: none */
  /* Scalars of this step, computed once a parameter: hyper by place in param, step counts from 1,
   * scalar is state that persists with the parameter. */
  void (*prepare)(const double *hyper, int64_t step, double *scalar, double *coef);
  /* Moves n elements. state[k] is NULL where unused. */
  void (*step_f32)(int64_t n, float *p, const float *g, float *const *state, const double *coef);
  void (*step_f64)(int64_t n, double *p, const double *g, double *const *state, const double *coef);
} pg_rule;

typedef struct pg_optim pg_optim;

const pg_rule *const *pg_rule_tables(pg_level level); /* generated */
const pg_rule *pg_rule_at(const pg_ctx *ctx, int i);  /* NULL past the end */
const pg_rule *pg_rule_find(const pg_ctx *ctx, const char *name);

pg_status pg_optim_new(pg_ctx *ctx, const pg_rule *rule, pg_optim **out);
void pg_optim_free(pg_optim *o);
/* hyper: one value for each param. Parameters must be floating leaves, each in one group only. */
pg_status pg_optim_add_group(pg_optim *o, const double *hyper, int n, pg_tensor *const *params);
int pg_optim_groups(const pg_optim *o);
double *pg_optim_hyper(pg_optim *o, int group); /* borrowed; writing it changes the next step */
pg_status pg_optim_check(pg_optim *o, int group, const double *hyper);
/* Moves every parameter that has a gradient. */
pg_status pg_optim_step(pg_optim *o);
/* Frees gradients (set_to_none) or fills them with zeros. */
void pg_optim_zero_grad(pg_optim *o, bool set_to_none);
int pg_optim_params(const pg_optim *o);              /* over all groups, in order */
pg_tensor *pg_optim_param(const pg_optim *o, int i); /* borrowed */
/* State k of parameter i, made where missing; borrowed. */
pg_status pg_optim_state(pg_optim *o, int i, int k, pg_tensor **out);
int64_t *pg_optim_steps(pg_optim *o, int i); /* steps that parameter i has made */
double *pg_optim_scalar(pg_optim *o, int i); /* 4 scalars of parameter i */
/* Scales gradients so that their joint norm is at most max; *norm is what it was. p: 2, 1, or
 * INFINITY. */
pg_status pg_clip_grad_norm(pg_ctx *ctx, int n, pg_tensor *const *params, double max, double p,
                            double *norm);

#endif
