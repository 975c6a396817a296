/* Gradients for scripts: backward, grad, hooks, functions with a backward in Lua, anomaly mode.
 * Relies on pgl.h. Spec: spec/autograd/backward_spec.lua, spec/autograd/function_spec.lua. */
#include <stdio.h>
#include <string.h>

#include "tape.h"

/* Raises for a key of the table at idx that is not in the NULL-ended list. */
static void check_keys(lua_State *L, int idx, const char *fn, const char *const *keys) {
  pgl_table(L, idx, "options");
  int n = 0;
  while (keys[n]) n++;
  char list[200] = "";
  for (int i = 0; i < n; i++)
    snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", keys[i]);
  lua_pushnil(L);
  while (lua_next(L, idx)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    bool known = false;
    for (int i = 0; i < n; i++) known = known || strcmp(key, keys[i]) == 0;
    const char *near = known ? NULL : pgl_nearest(key, keys, n);
    if (!known)
      luaL_error(L, "%s: unknown option '%s'%s%s%s; options are %s", fn, key,
                 near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "", list);
    lua_pop(L, 1);
  }
}

static bool option(lua_State *L, int idx, const char *name, bool otherwise) {
  if (!lua_istable(L, idx)) return otherwise;
  lua_getfield(L, idx, name);
  bool on = lua_isnil(L, -1) ? otherwise : lua_toboolean(L, -1);
  lua_pop(L, 1);
  return on;
}

/* backward(t [, gradient] [, {retain_graph=, create_graph=, gradient=}]) */
static int l_backward(lua_State *L) {
  pgl_state *st = pgl_state_of(L);
  pg_tensor *root = pgl_peek_tensor(L, 1), *grad = NULL;
  int options = lua_gettop(L) >= 3 ? 3 : 2;
  static const char *const keys[] = {"retain_graph", "create_graph", "gradient", NULL};
  if (pgl_to_box(L, 2)) grad = pgl_peek_tensor(L, 2);
  if (lua_istable(L, options)) {
    check_keys(L, options, "backward", keys);
    lua_getfield(L, options, "gradient");
    if (!lua_isnil(L, -1)) grad = pgl_peek_tensor(L, -1);
    lua_pop(L, 1);
  } else if (!lua_isnoneornil(L, options) && !pgl_to_box(L, options)) {
    return pgl_wrong(L, "gradient", "a tensor or options", options);
  }
  bool create = option(L, options, "create_graph", false);
  pgl_before_backward(L, st);
  lua_State *before = st->running;
  st->running = L;
  bool retain = option(L, options, "retain_graph", create);
  if (st->tape) pgl_tape_backward(L, st->tape, root, grad, retain, create);
  pg_status s = pg_backward(st->ctx, root, grad, retain, create);
  st->running = before;
  if (s != PG_OK) pgl_spoil(st);
  pgl_check(L, s);
  pgl_pressure(L, st);
  return 0;
}

/* Reads a tensor or a list of tensors at idx into an array that lies on the stack. [-0, +1] */
static pg_tensor **check_tensors(lua_State *L, int idx, const char *what, int *n) {
  if (pgl_to_box(L, idx)) {
    pg_tensor **list = lua_newuserdatauv(L, sizeof *list, 0);
    list[0] = pgl_check_tensor(L, idx);
    *n = 1;
    return list;
  }
  pgl_table(L, idx, what);
  *n = (int)lua_rawlen(L, idx);
  pg_tensor **list = lua_newuserdatauv(L, sizeof *list * (size_t)(*n ? *n : 1), 0);
  for (int i = 0; i < *n; i++) {
    lua_rawgeti(L, idx, i + 1);
    pgl_box *b = pgl_to_box(L, -1);
    if (!b || !b->t) pgl_wrong(L, what, "tensors", -1);
    list[i] = b->t;
    lua_pop(L, 1);
  }
  return list;
}

/* grad(outputs, inputs [, {grad_outputs=, retain_graph=, create_graph=, allow_unused=}]) -> list of
 * tensors; false for an unused input where that is allowed */
static int l_grad(lua_State *L) {
  pgl_state *st = pgl_state_of(L);
  lua_settop(L, 3);
  int nroot, ninput, ngrad = 0;
  pg_tensor **root = check_tensors(L, 1, "outputs", &nroot),
            **input = check_tensors(L, 2, "inputs", &ninput);
  pg_tensor **grad = NULL;
  static const char *const keys[] = {"grad_outputs", "retain_graph", "create_graph", "allow_unused",
                                     NULL};
  if (!lua_isnil(L, 3)) {
    check_keys(L, 3, "grad", keys);
    lua_getfield(L, 3, "grad_outputs");
    if (!lua_isnil(L, -1)) grad = check_tensors(L, lua_gettop(L), "grad_outputs", &ngrad);
    if (grad && ngrad != nroot)
      return luaL_error(L, "grad: argument 'grad_outputs': expected as many as outputs, %d, got %d",
                        nroot, ngrad);
  }
  bool create = option(L, 3, "create_graph", false);
  pg_tensor **result = lua_newuserdatauv(L, sizeof *result * (size_t)(ninput ? ninput : 1), 0);
  lua_createtable(L, ninput, 0);
  pgl_box **box = lua_newuserdatauv(L, sizeof *box * (size_t)(ninput ? ninput : 1), 0);
  for (int i = 0; i < ninput; i++) {
    box[i] = pgl_box_new(L, true);
    lua_rawseti(L, -3, i + 1);
  }
  bool allow = option(L, 3, "allow_unused", false);
  lua_State *before = st->running;
  st->running = L;
  pg_status s = pg_grad(st->ctx, nroot, root, grad, ninput, input,
                        option(L, 3, "retain_graph", create), create, result);
  st->running = before;
  pgl_check(L, s);
  lua_pop(L, 1);
  for (int i = 0; i < ninput; i++) box[i]->t = result[i];
  for (int i = 0; i < ninput; i++) {
    if (result[i]) continue;
    if (!allow)
      return luaL_error(L,
                        "grad: argument 'inputs': expected tensors that the outputs depend on, got "
                        "another as input %d; give {allow_unused = true} to get false for it",
                        i + 1);
    lua_pushboolean(L, false);
    lua_rawseti(L, -2, i + 1);
  }
  pgl_pressure(L, st);
  return 1;
}

/* --- Lua functions that the engine calls ------------------------------------------------------ */

/* A Lua function by its place in the registry, as a hook or as a function of the graph. */
typedef struct lua_hook {
  pg_hook hook;
  pgl_state *state;
  lua_State *home; /* where the reference can be dropped at any time */
  int ref;
} lua_hook;

typedef struct lua_function {
  pg_function function;
  pgl_state *state;
  lua_State *home;
  int ref;
} lua_function;

static lua_State *main_thread(lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  lua_State *main = lua_tothread(L, -1);
  lua_pop(L, 1);
  return main;
}

/* Body of a protected call: pushes boxes for grads and calls the function at index 1. Its results
 * stay on the stack. Index 2: light userdata, the grads; 3: their number. */
static int call_with_grads(lua_State *L) {
  pg_tensor **grad = lua_touserdata(L, 2);
  int n = (int)lua_tointeger(L, 3);
  lua_settop(L, 1);
  luaL_checkstack(L, n + 4, NULL);
  for (int i = 0; i < n; i++) {
    if (!grad[i]) {
      lua_pushnil(L);
      continue;
    }
    pgl_box *b = pgl_box_new(L, true);
    b->t = pg_tensor_ref(grad[i]);
  }
  lua_call(L, n, LUA_MULTRET);
  return lua_gettop(L);
}

/* Calls the referenced function with grads; on PG_OK its results stand above *top on the stack of
 * the running state, which is *out. */
static pg_status call_lua(pgl_state *st, int ref, int n, pg_tensor **grad, lua_State **out,
                          int *top) {
  lua_State *L = st->running;
  pgl_spoil(st);
  *out = L;
  *top = lua_gettop(L);
  if (!lua_checkstack(L, 8)) return pg_fail(st->ctx, PG_ENOMEM, "the Lua stack is full");
  lua_pushcfunction(L, call_with_grads);
  lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
  lua_pushlightuserdata(L, grad);
  lua_pushinteger(L, n);
  if (lua_pcall(L, 3, LUA_MULTRET, 0) == LUA_OK) return PG_OK;
  const char *message = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "error in Lua";
  pg_status s = pg_fail(st->ctx, PG_ESTATE, "%s", message);
  lua_settop(L, *top);
  return s;
}

static pg_status hook_run(pg_hook *h, pg_tensor **grad) {
  lua_hook *own = (lua_hook *)h;
  lua_State *L;
  int top;
  PG_TRY(call_lua(own->state, own->ref, 1, grad, &L, &top));
  pg_status s = PG_OK;
  if (lua_gettop(L) > top && !lua_isnil(L, top + 1)) {
    pgl_box *b = pgl_to_box(L, top + 1);
    if (b && b->t) {
      pg_tensor *old = *grad;
      *grad = pg_tensor_ref(b->t);
      pg_tensor_unref(old);
    } else {
      s = pg_fail(own->state->ctx, PG_EARG,
                  "a hook's result: expected a tensor or nothing, got a %s",
                  luaL_typename(L, top + 1));
    }
  }
  lua_settop(L, top);
  return s;
}

static void hook_drop(pg_hook *h) {
  lua_hook *own = (lua_hook *)h;
  luaL_unref(own->home, LUA_REGISTRYINDEX, own->ref);
  pg_free(own->state->ctx, own, sizeof *own);
}

/* hook(t, f): f(gradient) may return another one */
static int l_hook(lua_State *L) {
  pgl_state *st = pgl_state_of(L);
  pg_tensor *t = pgl_check_tensor(L, 1);
  if (!lua_isfunction(L, 2)) return pgl_wrong(L, "hook", "a function", 2);
  lua_settop(L, 2);
  int ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_hook *h;
  pg_status s = pg_alloc(st->ctx, sizeof *h, (void **)&h);
  if (s != PG_OK) {
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
    pgl_check(L, s);
  }
  *h = (lua_hook){.hook = {.run = hook_run, .drop = hook_drop},
                  .state = st,
                  .home = main_thread(L),
                  .ref = ref};
  pgl_check(L, pg_tensor_hook(t, &h->hook));
  return 0;
}

static pg_status function_backward(pg_function *f, pg_call *c) {
  lua_function *own = (lua_function *)f;
  lua_State *L;
  int top;
  PG_TRY(call_lua(own->state, own->ref, c->nout, c->gout, &L, &top));
  pg_status s = PG_OK;
  for (int i = 0; i < c->nin && s == PG_OK; i++) {
    if (!c->need[i] || top + 1 + i > lua_gettop(L) || !lua_toboolean(L, top + 1 + i)) continue;
    pgl_box *b = pgl_to_box(L, top + 1 + i);
    const pg_meta *m = &c->meta[i];
    if (!b || !b->t)
      s = pg_fail(c->ctx, PG_EARG, "gradient %d: expected a tensor, got a %s", i + 1,
                  luaL_typename(L, top + 1 + i));
    else if (b->t->nd != m->nd || memcmp(b->t->shape, m->shape, sizeof *m->shape * m->nd) != 0)
      s = pg_fail(c->ctx, PG_ESHAPE, "gradient %d: expected %s, got %s", i + 1,
                  pg_shape_str_of(m->nd, m->shape).s, pg_shape_str(b->t).s);
    else c->gin[i] = pg_tensor_ref(b->t);
  }
  lua_settop(L, top);
  return s;
}

static void function_drop(pg_function *f) {
  lua_function *own = (lua_function *)f;
  luaL_unref(own->home, LUA_REGISTRYINDEX, own->ref);
  pg_free(own->state->ctx, own, sizeof *own);
}

/* function_record(inputs, outputs, backward) -> outputs .., as the graph's results of inputs */
static int l_function_record(lua_State *L) {
  pgl_state *st = pgl_state_of(L);
  lua_settop(L, 3);
  if (!lua_isfunction(L, 3)) return pgl_wrong(L, "backward", "a function", 3);
  int nin, nout;
  pg_tensor **in = check_tensors(L, 1, "inputs", &nin),
            **given = check_tensors(L, 2, "outputs", &nout);
  luaL_checkstack(L, nout + 4, NULL);
  pg_tensor **out = lua_newuserdatauv(L, sizeof *out * (size_t)(nout ? nout : 1), 0);
  int first = lua_gettop(L) + 1;
  for (int j = 0; j < nout; j++) {
    pgl_box *b = pgl_box_new(L, true);
    pgl_check(L, pg_tensor_detach(st->ctx, given[j], &b->t));
    out[j] = b->t;
  }
  lua_pushvalue(L, 3);
  int ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_function *f;
  pg_status s = pg_alloc(st->ctx, sizeof *f, (void **)&f);
  if (s != PG_OK) {
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
    pgl_check(L, s);
  }
  *f = (lua_function){.function = {.backward = function_backward, .drop = function_drop},
                      .state = st,
                      .home = main_thread(L),
                      .ref = ref};
  pgl_check(L, pg_function_record(st->ctx, &f->function, nin, in, nout, out));
  lua_settop(L, first + nout - 1);
  return nout;
}

/* anomaly([on]) -> before */
static int l_anomaly(lua_State *L) {
  pg_ctx *ctx = pgl_ctx(L);
  lua_pushboolean(L, ctx->anomaly);
  pgl_spoil(pgl_state_of(L));
  if (!lua_isnone(L, 1)) ctx->anomaly = lua_toboolean(L, 1);
  return 1;
}

void pgl_open_autograd(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"backward", l_backward}, {"grad", l_grad},
      {"hook", l_hook},         {"function_record", l_function_record},
      {"anomaly", l_anomaly},   {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  lua_getfield(L, -1, "Tensor");
  lua_pushcfunction(L, l_backward);
  lua_setfield(L, -2, "backward");
  lua_pop(L, 1);
}
