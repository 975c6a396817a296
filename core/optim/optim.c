/* The step loop over all parameters of an optimizer, and its groups and state. Relies on optim.h,
 * pg_par_for.
 * Spec: spec/optim/optim_spec.lua. */
#include "optim/optim.h"

#include <string.h>

#include "autograd/profile.h"
#include "base/par.h"

enum { NSCALAR = 4, CHUNK = 16384 };

typedef struct param {
  pg_tensor *t;                   /* owned */
  pg_tensor *state[PG_MAX_STATE]; /* owned; NULL until it is used */
  int64_t steps;
  double scalar[NSCALAR];
  int group;
  pg_tensor *grad; /* during a step: the gradient in t's memory order, owned; NULL: not moved */
  double coef[PG_MAX_COEF];
} param;

typedef struct group {
  double hyper[PG_MAX_PARAM];
} group;

/* One chunk of one parameter. */
typedef struct piece {
  int param;
  int64_t begin, end;
} piece;

struct pg_optim {
  pg_ctx *ctx;
  const pg_rule *rule;
  int nparam, param_room, ngroup, group_room;
  param *param;
  group *group;
  piece *piece; /* of the current step */
  int64_t npiece, piece_room;
};

const pg_rule *pg_rule_at(const pg_ctx *ctx, int i) {
  const pg_rule *const *tables = pg_rule_tables(ctx->level);
  for (int k = 0; tables[k]; k++)
    for (const pg_rule *r = tables[k]; r->name; r++)
      if (i-- == 0) return r;
  return NULL;
}

const pg_rule *pg_rule_find(const pg_ctx *ctx, const char *name) {
  const pg_rule *r;
  for (int i = 0; (r = pg_rule_at(ctx, i)) != NULL; i++)
    if (strcmp(r->name, name) == 0) return r;
  return NULL;
}

/* Makes *list hold `need` items of `size` bytes, keeping the first `used`. */
static pg_status grow(pg_ctx *ctx, void **list, size_t size, int64_t used, int64_t need,
                      int64_t *room) {
  if (need <= *room) return PG_OK;
  int64_t more = need < 8 ? 8 : need + need / 2;
  void *wider;
  PG_TRY(pg_alloc(ctx, size * (size_t)more, &wider));
  if (used) memcpy(wider, *list, size * (size_t)used);
  pg_free(ctx, *list, size * (size_t)*room);
  *list = wider;
  *room = more;
  return PG_OK;
}

static pg_status grow_int(pg_ctx *ctx, void **list, size_t size, int used, int need, int *room) {
  int64_t wide = *room;
  PG_TRY(grow(ctx, list, size, used, need, &wide));
  *room = (int)wide;
  return PG_OK;
}

/* --- making -------------------------------------------------------------------------------------
 */

pg_status pg_optim_new(pg_ctx *ctx, const pg_rule *rule, pg_optim **out) {
  *out = NULL;
  pg_optim *o;
  PG_TRY(pg_alloc_zero(ctx, sizeof *o, (void **)&o));
  o->ctx = ctx;
  o->rule = rule;
  *out = o;
  return PG_OK;
}

void pg_optim_free(pg_optim *o) {
  if (!o) return;
  for (int i = 0; i < o->nparam; i++) {
    pg_tensor_unref(o->param[i].t);
    for (int k = 0; k < PG_MAX_STATE; k++) pg_tensor_unref(o->param[i].state[k]);
  }
  pg_free(o->ctx, o->param, sizeof *o->param * (size_t)o->param_room);
  pg_free(o->ctx, o->group, sizeof *o->group * (size_t)o->group_room);
  pg_free(o->ctx, o->piece, sizeof *o->piece * (size_t)o->piece_room);
  pg_free(o->ctx, o, sizeof *o);
}

static pg_status check_hyper(pg_optim *o, const double *hyper) {
  const char *doing = o->ctx->doing;
  o->ctx->doing = o->rule->name;
  pg_status s = PG_OK;
  for (int k = 0; o->rule->param[k].kind != PG_END && s == PG_OK; k++)
    if (hyper[k] != hyper[k])
      s = pg_fail(o->ctx, PG_EARG, "argument '%s': expected a number, got nan",
                  o->rule->param[k].name);
  if (s == PG_OK && o->rule->check) s = o->rule->check(o->ctx, hyper);
  o->ctx->doing = doing;
  return s;
}

static pg_status check_param(pg_optim *o, const pg_tensor *t, int n) {
  const char *rule = o->rule->name;
  if (t->dtype != PG_F32 && t->dtype != PG_F64)
    return pg_fail(o->ctx, PG_EDTYPE,
                   "%s: argument 'params': expected float32 or float64, got %s as parameter %d",
                   rule, pg_dtype_name((pg_dtype)t->dtype), n);
  if (t->node)
    return pg_fail(
        o->ctx, PG_ESTATE,
        "%s: argument 'params': expected leaves, got the result of an op, %s, as parameter %d",
        rule, pg_shape_str(t).s, n);
  if (!pg_is_dense(t))
    return pg_fail(o->ctx, PG_ESTATE,
                   "%s: argument 'params': expected tensors without gaps in memory, got %s as "
                   "parameter %d; clone() it first",
                   rule, pg_shape_str(t).s, n);
  for (int i = 0; i < o->nparam; i++)
    if (o->param[i].t == t)
      return pg_fail(
          o->ctx, PG_EARG,
          "%s: argument 'params': expected each tensor once, got %s again as parameter %d", rule,
          pg_shape_str(t).s, n);
  return PG_OK;
}

pg_status pg_optim_add_group(pg_optim *o, const double *hyper, int n, pg_tensor *const *params) {
  pg_ctx *ctx = o->ctx;
  PG_TRY(check_hyper(o, hyper));
  PG_TRY(grow_int(ctx, (void **)&o->group, sizeof *o->group, o->ngroup, o->ngroup + 1,
                  &o->group_room));
  PG_TRY(grow_int(ctx, (void **)&o->param, sizeof *o->param, o->nparam, o->nparam + n,
                  &o->param_room));
  int before = o->nparam;
  for (int i = 0; i < n; i++) {
    pg_status s = check_param(o, params[i], i + 1);
    if (s != PG_OK) { /* none of the group is taken */
      while (o->nparam > before) pg_tensor_unref(o->param[--o->nparam].t);
      return s;
    }
    o->param[o->nparam++] = (param){.t = pg_tensor_ref(params[i]), .group = o->ngroup};
  }
  memset(&o->group[o->ngroup], 0, sizeof *o->group);
  for (int k = 0; o->rule->param[k].kind != PG_END; k++) o->group[o->ngroup].hyper[k] = hyper[k];
  o->ngroup++;
  return PG_OK;
}

int pg_optim_groups(const pg_optim *o) { return o->ngroup; }
double *pg_optim_hyper(pg_optim *o, int g) { return o->group[g].hyper; }
pg_status pg_optim_check(pg_optim *o, int g, const double *hyper) {
  (void)g;
  return check_hyper(o, hyper);
}
int pg_optim_params(const pg_optim *o) { return o->nparam; }
pg_tensor *pg_optim_param(const pg_optim *o, int i) { return o->param[i].t; }
int64_t *pg_optim_steps(pg_optim *o, int i) { return &o->param[i].steps; }
double *pg_optim_scalar(pg_optim *o, int i) { return o->param[i].scalar; }

static unsigned used_states(const pg_optim *o, const param *p) {
  return o->rule->uses ? o->rule->uses(o->group[p->group].hyper) : ~0u;
}

/* Makes the state tensors that p's group uses. */
static pg_status make_state(pg_optim *o, param *p) {
  unsigned uses = used_states(o, p);
  for (int k = 0; k < PG_MAX_STATE && o->rule->state[k]; k++) {
    if (p->state[k] || !(uses >> k & 1)) continue;
    PG_TRY(pg_tensor_new_like(o->ctx, p->t, (pg_dtype)p->t->dtype, &p->state[k]));
    memset(p->state[k]->storage->data, 0, p->state[k]->storage->bytes);
    p->state[k]->is_param = true;
  }
  return PG_OK;
}

pg_status pg_optim_state(pg_optim *o, int i, int k, pg_tensor **out) {
  *out = NULL;
  PG_TRY(make_state(o, &o->param[i]));
  *out = o->param[i].state[k];
  return PG_OK;
}

/* --- the step -----------------------------------------------------------------------------------
 */

static bool same_order(const pg_tensor *a, const pg_tensor *b) {
  for (int i = 0; i < a->nd; i++)
    if (a->shape[i] != 1 && a->stride[i] != b->stride[i]) return false;
  return true;
}

/* p->grad = the gradient of p in p's dtype and memory order. */
static pg_status take_grad(pg_optim *o, param *p, int i) {
  pg_tensor *t = p->t, *g = t->grad;
  if (!pg_same_shape(t, g))
    return pg_fail(o->ctx, PG_ESHAPE, "%s: parameter %d: expected a gradient of shape %s, got %s",
                   o->rule->name, i + 1, pg_shape_str(t).s, pg_shape_str(g).s);
  if (g->dtype == t->dtype && same_order(t, g)) {
    p->grad = pg_tensor_ref(g);
    return PG_OK;
  }
  PG_TRY(pg_tensor_new_like(o->ctx, t, (pg_dtype)t->dtype, &p->grad));
  return pg_tensor_copy(p->grad, g);
}

/* Everything that can fail, before anything moves. */
static pg_status prepare(pg_optim *o, int64_t *total) {
  *total = 0;
  o->npiece = 0;
  for (int i = 0; i < o->nparam; i++) {
    param *p = &o->param[i];
    if (!p->t->grad) continue;
    int64_t n = pg_numel(p->t), chunks = (n + CHUNK - 1) / CHUNK;
    PG_TRY(take_grad(o, p, i));
    PG_TRY(make_state(o, p));
    PG_TRY(grow(o->ctx, (void **)&o->piece, sizeof *o->piece, o->npiece, o->npiece + chunks,
                &o->piece_room));
    for (int64_t k = 0; k < chunks; k++)
      o->piece[o->npiece++] = (piece){i, k * CHUNK, pg_min64(n, (k + 1) * CHUNK)};
    *total += n;
  }
  return PG_OK;
}

static void run_pieces(void *arg, int64_t begin, int64_t end) {
  const pg_optim *o = arg;
  for (int64_t k = begin; k < end; k++) {
    const piece *w = &o->piece[k];
    const param *p = &o->param[w->param];
    int64_t n = w->end - w->begin;
    if (p->t->dtype == PG_F32) {
      float *state[PG_MAX_STATE];
      for (int j = 0; j < PG_MAX_STATE; j++)
        state[j] = p->state[j] ? (float *)pg_data(p->state[j]) + w->begin : NULL;
      o->rule->step_f32(n, (float *)pg_data(p->t) + w->begin,
                        (const float *)pg_data(p->grad) + w->begin, state, p->coef);
    } else {
      double *state[PG_MAX_STATE];
      for (int j = 0; j < PG_MAX_STATE; j++)
        state[j] = p->state[j] ? (double *)pg_data(p->state[j]) + w->begin : NULL;
      o->rule->step_f64(n, (double *)pg_data(p->t) + w->begin,
                        (const double *)pg_data(p->grad) + w->begin, state, p->coef);
    }
  }
}

static pg_status step(pg_optim *o) {
  int64_t total;
  pg_status s = prepare(o, &total);
  if (s == PG_OK) {
    for (int i = 0; i < o->nparam; i++) {
      param *p = &o->param[i];
      if (!p->grad) continue;
      p->t->storage->version++;
      p->steps++;
      memset(p->coef, 0, sizeof p->coef);
      o->rule->prepare(o->group[p->group].hyper, p->steps, p->scalar, p->coef);
    }
    pg_par_for(o->ctx, o->npiece, total > CHUNK ? 1 : o->npiece, run_pieces, o);
    o->ctx->steps++;
  }
  for (int i = 0; i < o->nparam; i++) {
    pg_tensor_unref(o->param[i].grad);
    o->param[i].grad = NULL;
  }
  return s;
}

/* Elements that a step moves, the states among them, in bytes. */
static int64_t bytes_moved(const pg_optim *o) {
  int64_t bytes = 0;
  for (int i = 0; i < o->nparam; i++) {
    const param *p = &o->param[i];
    if (!p->t->grad) continue;
    int64_t walks = 3;
    for (int k = 0; k < PG_MAX_STATE; k++) walks += p->state[k] ? 2 : 0;
    bytes += walks * pg_numel(p->t) * (int64_t)pg_dtype_size((pg_dtype)p->t->dtype);
  }
  return bytes;
}

pg_status pg_optim_step(pg_optim *o) {
  pg_profile *profile = o->ctx->profile;
  if (!profile) return step(o);
  int event = pg_profile_enter(profile, PG_EVENT_STEP, o->rule->name, NULL);
  pg_status s = step(o);
  pg_profile_add(profile, event, 0, bytes_moved(o));
  pg_profile_leave(profile, event);
  return s;
}

void pg_optim_zero_grad(pg_optim *o, bool set_to_none) {
  pg_profile *profile = o->ctx->profile;
  int event = profile ? pg_profile_enter(profile, PG_EVENT_ZERO_GRAD, o->rule->name, NULL) : -1;
  for (int i = 0; i < o->nparam; i++) {
    pg_tensor *t = o->param[i].t;
    if (!t->grad) continue;
    if (set_to_none) {
      pg_tensor_unref(t->grad);
      t->grad = NULL;
    } else {
      pg_tensor_fill(t->grad, 0);
    }
  }
  o->ctx->steps++;
  if (event >= 0) pg_profile_leave(profile, event);
}
