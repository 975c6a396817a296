/* Optimizers as handles. Relies on pgl.h, optim/optim.h. Spec: spec/optim/optim_spec.lua. */

#include <string.h>

#include "optim/optim.h"
#include "tape.h"

static const char optim_tag = 0;

typedef struct optim_box {
  const void *tag;
  pg_optim *o;
  const pg_rule *rule;
} optim_box;

static optim_box *check_box(lua_State *L) {
  optim_box *b = lua_touserdata(L, 1);
  if (!b || lua_rawlen(L, 1) != sizeof *b || b->tag != &optim_tag)
    luaL_error(L, "expected an optimizer, got %s", luaL_typename(L, 1));
  else if (!b->o) luaL_error(L, "the optimizer was not built");
  return b;
}

static int optim_gc(lua_State *L) {
  optim_box *b = luaL_checkudata(L, 1, "perigee.optim");
  pg_optim *o = b->o;
  b->o = NULL;
  if (o) pg_optim_free(o);
  return 0;
}

static int l_optim_new(lua_State *L) {
  pg_ctx *ctx = pgl_ctx(L);
  const char *name = pgl_string(L, 1, "name", NULL);
  const pg_rule *rule = pg_rule_find(ctx, name);
  if (!rule) return luaL_error(L, "there is no optimizer '%s'", name);
  optim_box *b = lua_newuserdatauv(L, sizeof *b, 0);
  *b = (optim_box){.tag = &optim_tag, .rule = rule};
  luaL_setmetatable(L, "perigee.optim");
  pgl_check(L, pg_optim_new(ctx, rule, &b->o));
  return 1;
}

/* Reads the table of options at idx over the values in hyper. */
static void read_hyper(lua_State *L, int idx, const pg_rule *rule, double *hyper) {
  const char *names[PG_MAX_PARAM];
  int n = 0;
  while (rule->param[n].kind != PG_END) {
    names[n] = rule->param[n].name;
    n++;
  }
  pgl_table(L, idx, "options");
  lua_pushnil(L);
  while (lua_next(L, idx)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    int k = 0;
    while (k < n && strcmp(names[k], key) != 0) k++;
    if (k == n) {
      const char *near = pgl_nearest(key, names, n);
      luaL_error(L, "%s: unknown option '%s'%s%s%s", rule->name, key,
                 near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    bool flag = rule->param[k].kind == PG_FLAG;
    if (flag ? !lua_isboolean(L, -1) : lua_type(L, -1) != LUA_TNUMBER)
      luaL_error(L, "%s: argument '%s': expected %s, got %s", rule->name, key,
                 flag ? "true or false" : "a number", pgl_given(L, -1));
    hyper[k] = flag ? lua_toboolean(L, -1) : lua_tonumber(L, -1);
    lua_pop(L, 1);
  }
}

static void push_hyper(lua_State *L, const pg_rule *rule, const double *hyper) {
  lua_newtable(L);
  for (int k = 0; rule->param[k].kind != PG_END; k++) {
    if (rule->param[k].kind == PG_FLAG) lua_pushboolean(L, hyper[k] != 0);
    else lua_pushnumber(L, hyper[k]);
    lua_setfield(L, -2, rule->param[k].name);
  }
}

/* Place of a hyperparameter of the rule, or -1. */
static int find_hyper(const pg_rule *rule, const char *name) {
  for (int k = 0; rule->param[k].kind != PG_END; k++)
    if (strcmp(rule->param[k].name, name) == 0) return k;
  return -1;
}

/* optim_add_group(h, params, options) */
static int l_optim_add_group(lua_State *L) {
  optim_box *b = check_box(L);
  pgl_spoil(pgl_state_of(L));
  pgl_table(L, 2, "params");
  int n = (int)lua_rawlen(L, 2);
  double hyper[PG_MAX_PARAM] = {0};
  for (int k = 0; b->rule->param[k].kind != PG_END; k++) hyper[k] = b->rule->param[k].def;
  if (!lua_isnoneornil(L, 3)) read_hyper(L, 3, b->rule, hyper);
  pg_tensor **list = lua_newuserdatauv(L, sizeof *list * (size_t)(n ? n : 1), 0);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, 2, i + 1);
    pgl_box *p = pgl_to_box(L, -1);
    if (!p || !p->t)
      return luaL_error(L, "%s: argument 'params': expected tensors, got %s as parameter %d",
                        b->rule->name, pgl_given(L, -1), i + 1);
    list[i] = p->t;
    lua_pop(L, 1);
  }
  pgl_check(L, pg_optim_add_group(b->o, hyper, n, list));
  return 0;
}

static int check_group(lua_State *L, const optim_box *b) {
  lua_Integer g = pgl_integer(L, 2, "group");
  if (g < 1 || g > pg_optim_groups(b->o))
    luaL_error(L, "%s: argument 'group': expected 1..%d, got %d", b->rule->name,
               pg_optim_groups(b->o), (int)g);
  return (int)g - 1;
}

static int l_optim_hyper(lua_State *L) {
  optim_box *b = check_box(L);
  pgl_spoil(pgl_state_of(L));
  push_hyper(L, b->rule, pg_optim_hyper(b->o, check_group(L, b)));
  return 1;
}

/* optim_set_hyper(h, group, options): a rate may be negative here, because schedules that are
 * chained, and sums that round, go below 0 as PyTorch's do. */
static int l_optim_set_hyper(lua_State *L) {
  optim_box *b = check_box(L);
  pgl_spoil(pgl_state_of(L));
  int g = check_group(L, b);
  double *hyper = pg_optim_hyper(b->o, g), wanted[PG_MAX_PARAM];
  memcpy(wanted, hyper, sizeof wanted);
  read_hyper(L, 3, b->rule, wanted);
  const int rate = find_hyper(b->rule, "lr");
  const double given = rate >= 0 ? wanted[rate] : 0;
  if (given < 0) wanted[rate] = 0;
  pgl_check(L, pg_optim_check(b->o, g, wanted));
  if (given < 0) wanted[rate] = given;
  memcpy(hyper, wanted, sizeof wanted);
  return 0;
}

static int l_optim_step(lua_State *L) {
  pg_optim *o = check_box(L)->o;
  pgl_state *st = pgl_state_of(L);
  if (st->tape) pgl_tape_step(L, st->tape, o, 1);
  pg_status s = pg_optim_step(o);
  if (s != PG_OK) pgl_spoil(st);
  pgl_check(L, s);
  return 0;
}

static int l_optim_zero_grad(lua_State *L) {
  pg_optim *o = check_box(L)->o;
  pgl_state *st = pgl_state_of(L);
  bool to_none = lua_isnoneornil(L, 2) || lua_toboolean(L, 2);
  if (st->tape) pgl_tape_zero_grad(L, st->tape, o, 1, to_none);
  pg_optim_zero_grad(o, to_none);
  return 0;
}

static int l_optim_groups(lua_State *L) {
  lua_pushinteger(L, pg_optim_groups(check_box(L)->o));
  return 1;
}

static int check_param(lua_State *L, const optim_box *b) {
  lua_Integer i = pgl_integer(L, 2, "parameter");
  if (i < 1 || i > pg_optim_params(b->o))
    luaL_error(L, "%s: argument 'parameter': expected 1..%d, got %d", b->rule->name,
               pg_optim_params(b->o), (int)i);
  return (int)i - 1;
}

/* optim_state(h, i) -> {step=, scalars={..}, [name]=tensor} */
static int l_optim_state(lua_State *L) {
  optim_box *b = check_box(L);
  pgl_spoil(pgl_state_of(L));
  int i = check_param(L, b);
  lua_newtable(L);
  lua_pushinteger(L, *pg_optim_steps(b->o, i));
  lua_setfield(L, -2, "step");
  lua_createtable(L, 4, 0);
  for (int k = 0; k < 4; k++) {
    lua_pushnumber(L, pg_optim_scalar(b->o, i)[k]);
    lua_rawseti(L, -2, k + 1);
  }
  lua_setfield(L, -2, "scalars");
  for (int k = 0; k < PG_MAX_STATE && b->rule->state[k]; k++) {
    pg_tensor *t;
    pgl_check(L, pg_optim_state(b->o, i, k, &t));
    pgl_push(L, t);
    lua_setfield(L, -2, b->rule->state[k]);
  }
  return 1;
}

/* optim_set_state(h, i, state): checked whole before anything is changed */
static int l_optim_set_state(lua_State *L) {
  optim_box *b = check_box(L);
  pgl_spoil(pgl_state_of(L));
  int i = check_param(L, b);
  pgl_table(L, 3, "state");
  pg_tensor *own[PG_MAX_STATE] = {0}, *given[PG_MAX_STATE] = {0};
  for (int k = 0; k < PG_MAX_STATE && b->rule->state[k]; k++) {
    pgl_check(L, pg_optim_state(b->o, i, k, &own[k]));
    lua_getfield(L, 3, b->rule->state[k]);
    if (own[k] && !lua_isnil(L, -1)) {
      given[k] = pgl_check_tensor(L, -1);
      if (!pg_same_shape(given[k], own[k]))
        return luaL_error(L, "%s: state '%s' of parameter %d: expected %s, got %s", b->rule->name,
                          b->rule->state[k], i + 1, pg_shape_str(own[k]).s,
                          pg_shape_str(given[k]).s);
    }
    lua_pop(L, 1);
  }
  double scalar[4] = {0};
  lua_getfield(L, 3, "scalars");
  for (int k = 0; lua_istable(L, -1) && k < 4; k++) {
    lua_rawgeti(L, -1, k + 1);
    scalar[k] = luaL_optnumber(L, -1, 0);
    lua_pop(L, 1);
  }
  lua_getfield(L, 3, "step");
  lua_Integer step = luaL_optinteger(L, -1, 0);
  for (int k = 0; k < PG_MAX_STATE; k++)
    if (given[k]) pgl_check(L, pg_tensor_copy(own[k], given[k]));
  memcpy(pg_optim_scalar(b->o, i), scalar, sizeof scalar);
  *pg_optim_steps(b->o, i) = step;
  return 0;
}

/* rules() -> {{name=, doc=, params=, state={names}}} */
static int l_rules(lua_State *L) {
  pg_ctx *ctx = pgl_ctx(L);
  lua_newtable(L);
  const pg_rule *rule;
  for (int i = 0; (rule = pg_rule_at(ctx, i)); i++) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, rule->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, rule->doc);
    lua_setfield(L, -2, "doc");
    pgl_push_params(L, rule->param);
    lua_setfield(L, -2, "params");
    lua_newtable(L);
    for (int k = 0; k < PG_MAX_STATE && rule->state[k]; k++) {
      lua_pushstring(L, rule->state[k]);
      lua_rawseti(L, -2, k + 1);
    }
    lua_setfield(L, -2, "state");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* clip_grad_norm(params, max [, p = 2]) -> norm before */
static int l_clip_grad_norm(lua_State *L) {
  pgl_table(L, 1, "parameters");
  int n = (int)lua_rawlen(L, 1);
  double max = pgl_number(L, 2, "max_norm"), norm;
  double p = lua_isnoneornil(L, 3) ? 2 : pgl_number(L, 3, "norm_type");
  pg_tensor **list = lua_newuserdatauv(L, sizeof *list * (size_t)(n ? n : 1), 0);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, 1, i + 1);
    list[i] = pgl_check_tensor(L, -1);
    lua_pop(L, 1);
  }
  pgl_check(L, pg_clip_grad_norm(pgl_ctx(L), n, list, max, p, &norm));
  lua_pushnumber(L, norm);
  return 1;
}

void pgl_open_optim(lua_State *L) {
  luaL_newmetatable(L, "perigee.optim");
  lua_pushcfunction(L, optim_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  static const luaL_Reg functions[] = {{"optim_new", l_optim_new},
                                       {"optim_add_group", l_optim_add_group},
                                       {"optim_groups", l_optim_groups},
                                       {"optim_hyper", l_optim_hyper},
                                       {"optim_set_hyper", l_optim_set_hyper},
                                       {"optim_step", l_optim_step},
                                       {"optim_zero_grad", l_optim_zero_grad},
                                       {"optim_state", l_optim_state},
                                       {"optim_set_state", l_optim_set_state},
                                       {"rules", l_rules},
                                       {"clip_grad_norm", l_clip_grad_norm},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
