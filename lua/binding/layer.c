/* Layers as handles. Relies on pgl.h, nn/layer.h. Spec: spec/binding/layer_spec.lua. */
#include <stdio.h>
#include <string.h>

#include "nn/layer.h"
#include "tape.h"

static const char layer_tag = 0;

typedef struct layer_box {
  const void *tag;
  pg_layer *layer;
  bool hooked; /* calls go the long way through Lua */
} layer_box;

static layer_box *to_layer(lua_State *L, int idx) {
  layer_box *b = lua_touserdata(L, idx);
  return b && lua_rawlen(L, idx) == sizeof *b && b->tag == &layer_tag ? b : NULL;
}

static layer_box *check_box(lua_State *L) {
  layer_box *b = to_layer(L, 1);
  if (!b) luaL_error(L, "expected a layer, got %s", luaL_typename(L, 1));
  return b;
}

static pg_layer *check_layer(lua_State *L) {
  layer_box *b = check_box(L);
  if (!b->layer) luaL_error(L, "the layer was not built");
  return b->layer;
}

static int layer_gc(lua_State *L) {
  layer_box *b = check_box(L);
  pg_layer *l = b->layer;
  b->layer = NULL;
  if (l) pg_layer_unref(l);
  return 0;
}

static const char *const layer_keys[] = {"name", NULL};

/* layer_new(class, ...) */
static int l_layer_new(lua_State *L) {
  pgl_state *st = pgl_state_of(L);
  const char *name = pgl_string(L, 1, "name", NULL);
  const pg_layer_def *def = pg_layer_find(name);
  if (!def) return luaL_error(L, "there is no layer '%s'", name);
  pgl_args a;
  memset(&a, 0, sizeof a);
  a.st = st;
  a.fn = def->name;
  a.extra = layer_keys;
  a.last = lua_gettop(L);
  layer_box *box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = (layer_box){.tag = &layer_tag};
  luaL_setmetatable(L, "perigee.layer");
  int top = lua_gettop(L);
  pg_call c;
  pgl_defaults(&c, st->ctx, def->param);
  if (!pgl_parse(L, &a, 2, def->param, &c)) return luaL_error(L, "%s", st->error);
  pgl_check(L, pg_layer_new(st->ctx, def, &c, &box->layer));
  lua_settop(L, top);
  return 1;
}

/* Runs l on the n tensors from stack index `first`, and `then` (NULL: none) with it where *joined
 * is set afterwards. Pushes the results and returns their number; or -1 with the text in st->error.
 * A single result goes into `reuse` where that is not NULL: nothing is pushed. */
static int run_layer(lua_State *L, pgl_state *st, pg_layer *l, int first, int n, const pg_op *then,
                     bool *joined, pgl_box *reuse) {
  pg_tensor *in[PG_MAX_IN], *out[PG_MAX_OUT] = {0};
  pgl_box *box[PG_MAX_OUT];
  const pg_layer_def *def = l->def;
  int least = def->nin_least ? def->nin_least : def->nin;
  *joined = false;
  if (n < least || n > def->nin) {
    snprintf(st->error, sizeof st->error, "%s: argument 'input': expected %d tensor%s, got %d",
             def->name, least, least == 1 ? "" : "s", n);
    return -1;
  }
  for (int i = 0; i < n; i++) {
    pgl_box *b = pgl_to_box(L, first + i);
    if (!b || !b->t) {
      snprintf(st->error, sizeof st->error, "%s: argument '%s': expected a tensor, got %s",
               def->name, i ? "input 2" : "input",
               b ? "one that was released" : luaL_typename(L, first + i));
      return -1;
    }
    in[i] = b->t;
  }
  if (def->nout != 1) reuse = NULL;
  for (int j = 0; j < def->nout && !reuse; j++) box[j] = pgl_box_new_in(L, st, true);
  pg_status s = pg_layer_forward_join(l, then, n, in, out, joined);
  if (s == PG_ENOMEM && !st->injecting) {
    lua_gc(L, LUA_GCCOLLECT);
    s = pg_layer_forward_join(l, then, n, in, out, joined);
  }
  if (s != PG_OK) {
    snprintf(st->error, sizeof st->error, "%s", pg_error(st->ctx));
    return -1;
  }
  if (st->tape) pgl_tape_layer(L, st->tape, l, *joined ? then : NULL, n, in, def->nout, out);
  if (reuse) {
    pg_tensor *old = reuse->t;
    reuse->t = out[0];
    pg_tensor_unref(old);
  } else {
    for (int j = 0; j < def->nout; j++) box[j]->t = out[j];
  }
  pgl_pressure(L, st);
  return reuse ? 0 : def->nout;
}

/* layer_forward(h, x ..) -> y .. */
static int l_layer_forward(lua_State *L) {
  pgl_state *st = pgl_state_of(L);
  pg_layer *l = check_layer(L);
  bool joined;
  int n = run_layer(L, st, l, 2, lua_gettop(L) - 1, NULL, &joined, NULL);
  return n >= 0 ? n : luaL_error(L, "%s", st->error);
}

/* layer_join(h, next, x) -> y, whether it is next's result already: h's op and that of next were
 * one */
static int l_layer_join(lua_State *L) {
  pgl_state *st = pgl_state_of(L);
  pg_layer *l = check_layer(L);
  layer_box *next = to_layer(L, 2);
  if (!next || !next->layer) return luaL_error(L, "expected a layer, got %s", luaL_typename(L, 2));
  bool joined;
  int n = run_layer(L, st, l, 3, lua_gettop(L) - 2, pg_layer_follows(next->layer), &joined, NULL);
  if (n < 0) return luaL_error(L, "%s", st->error);
  lua_pushboolean(L, joined);
  return n + 1;
}

static int all_results(lua_State *L, int status, lua_KContext k) {
  (void)status;
  (void)k;
  return lua_gettop(L);
}

/* What a layer's class has as __call. Upvalues: state; "_handle"; the long way, for what is no
 * plain call of an unhooked layer with tensors; what raises an error (layer, text). */
static int call_layer(lua_State *L) {
  pgl_state *st = lua_touserdata(L, lua_upvalueindex(1));
  int n = lua_gettop(L) - 1;
  if (!st->observed && lua_type(L, 1) == LUA_TTABLE) {
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_rawget(L, 1);
    layer_box *b = to_layer(L, -1);
    bool plain = b && b->layer && !b->hooked;
    for (int i = 2; i <= n + 1 && plain; i++) plain = pgl_to_box(L, i) != NULL;
    if (plain) {
      pg_layer *l = b->layer; /* the module holds the handle */
      bool joined;
      int results = run_layer(L, st, l, 2, n, NULL, &joined, NULL);
      if (results >= 0) return results;
      lua_settop(L, 1);
      lua_pushstring(L, st->error);
      lua_pushvalue(L, lua_upvalueindex(4));
      lua_insert(L, 1);
      lua_call(L, 2, 0);
      return 0;
    }
    lua_settop(L, n + 1);
  }
  lua_pushvalue(L, lua_upvalueindex(3));
  lua_insert(L, 1);
  lua_callk(L, n + 1, LUA_MULTRET, 0, all_results);
  return lua_gettop(L);
}

/* layer_caller(long_way, fail) -> the function for __call */
static int l_layer_caller(lua_State *L) {
  lua_settop(L, 2);
  lua_pushlightuserdata(L, pgl_state_of(L));
  lua_insert(L, 1);
  lua_pushliteral(L, "_handle");
  lua_insert(L, 2);
  lua_pushcclosure(L, call_layer, 4);
  return 1;
}

/* --- chains -------------------------------------------------------------------------------------
 */

/* The layer at the top of the stack where a call of that module is nothing but a run of the layer;
 * else NULL. Upvalues as run_chain's. */
static pg_layer *plain_layer(lua_State *L) {
  int top = lua_gettop(L);
  bool plain = false;
  layer_box *b = NULL;
  if (lua_type(L, top) == LUA_TTABLE && lua_getmetatable(L, top)) {
    lua_pushvalue(L, lua_upvalueindex(3));
    lua_rawget(L, -2);
    plain = lua_tocfunction(L, -1) == call_layer;
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_rawget(L, top);
    b = to_layer(L, -1);
  }
  lua_settop(L, top);
  return plain && b && b->layer && !b->hooked ? b->layer : NULL;
}

static int run_chain_on(lua_State *L, int status, lua_KContext i);

/* The rest of a chain from module i on; the values that it gets lie at 3 and above. A result that
 * no Lua code has seen makes room for the next one at once. */
static int run_chain_from(lua_State *L, lua_Integer i) {
  pgl_state *st = lua_touserdata(L, lua_upvalueindex(1));
  pgl_box *own = NULL; /* the box at 3, where it is the chain's alone */
  for (;;) {
    const int n = lua_gettop(L) - 2, module = n + 3;
    luaL_checkstack(L, n + 8, NULL);
    if (lua_rawgeti(L, 2, i++) == LUA_TNIL) {
      lua_pop(L, 1);
      return n;
    }
    lua_rawget(L, 1);
    pg_layer *l = plain_layer(L);
    for (int k = 3; k < module && l; k++)
      if (!pgl_to_box(L, k)) l = NULL;
    const pg_op *then = NULL;
    if (l && l->def->nout == 1) {
      if (lua_rawgeti(L, 2, i) != LUA_TNIL) lua_rawget(L, 1);
      const pg_layer *next = plain_layer(L);
      then = next ? pg_layer_follows(next) : NULL;
    }
    if (then && st->observed) { /* by way of Lua: both are shown */
      lua_pushvalue(L, lua_upvalueindex(5));
      lua_insert(L, 3);
      lua_rotate(L, 4, 2);
      own = NULL;
      lua_callk(L, n + 2, LUA_MULTRET, ++i, run_chain_on);
      continue;
    }
    lua_settop(L, module);
    if (!l || st->observed) {
      lua_insert(L, 3);
      own = NULL;
      lua_callk(L, n, LUA_MULTRET, i, run_chain_on);
      continue;
    }
    bool joined;
    const int results = run_layer(L, st, l, 3, n, then, &joined, own);
    if (results < 0) {
      lua_settop(L, module);
      lua_pushvalue(L, lua_upvalueindex(4));
      lua_insert(L, module);
      lua_pushstring(L, st->error);
      lua_call(L, 2, 0);
      return 0;
    }
    if (results > 0) {
      lua_rotate(L, 3, results);
      lua_settop(L, 2 + results);
      own = results == 1 ? pgl_to_box(L, 3) : NULL;
    } else {
      lua_settop(L, 3);
    }
    i += joined;
  }
}

static int run_chain_on(lua_State *L, int status, lua_KContext i) {
  (void)status;
  return run_chain_from(L, (lua_Integer)i);
}

/* A chain: (modules by name, names in order, ..) -> what the last gives when each gets the results
 * of the one before. Upvalues: state; "_handle"; "__call"; what raises an error (layer, text); what
 * runs two layers as one where somebody looks (layer, next, ..). */
static int run_chain(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 2, LUA_TTABLE);
  return run_chain_from(L, 1);
}

/* layer_chainer(fail, pair) -> run_chain */
static int l_layer_chainer(lua_State *L) {
  lua_settop(L, 2);
  lua_pushlightuserdata(L, pgl_state_of(L));
  lua_pushliteral(L, "_handle");
  lua_pushliteral(L, "__call");
  lua_rotate(L, 1, 3);
  lua_pushcclosure(L, run_chain, 5);
  return 1;
}

/* layer_hooked(h): from now on calls go the long way. */
static int l_layer_hooked(lua_State *L) {
  check_box(L)->hooked = true;
  pgl_changed(pgl_state_of(L));
  return 0;
}

/* observe(on): while it is on, calls of all layers go the long way. */
static int l_observe(lua_State *L) {
  pgl_state_of(L)->observed = lua_toboolean(L, 1);
  return 0;
}

static int find_slot(lua_State *L, const pg_layer *l, const char *name) {
  for (int i = 0; i < PG_MAX_SLOT && l->def->slot[i].name; i++)
    if (strcmp(l->def->slot[i].name, name) == 0) return i;
  return luaL_error(L, "%s: expected the name of a parameter or buffer, got '%s'", l->def->name,
                    name);
}

/* layer_slots(h) -> {{name=, kind=}} */
static int l_layer_slots(lua_State *L) {
  const pg_layer *l = check_layer(L);
  lua_newtable(L);
  for (int i = 0; i < PG_MAX_SLOT && l->def->slot[i].name; i++) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, l->def->slot[i].name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, l->def->slot[i].kind == PG_SLOT_PARAM ? "param" : "buffer");
    lua_setfield(L, -2, "kind");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int l_layer_get(lua_State *L) {
  pg_layer *l = check_layer(L);
  pg_tensor *t;
  pgl_check(L, pg_layer_get(l, find_slot(L, l, pgl_string(L, 2, "name", NULL)), &t));
  pgl_push(L, t);
  return 1;
}

/* layer_set(h, slot, tensor or nil [, computed]) */
static int l_layer_set(lua_State *L) {
  pg_layer *l = check_layer(L);
  pgl_changed(pgl_state_of(L));
  int i = find_slot(L, l, pgl_string(L, 2, "name", NULL));
  pg_tensor *t = lua_isnil(L, 3) ? NULL : pgl_check_tensor(L, 3);
  if (t && l->slot[i] && !pg_same_shape(t, l->slot[i]))
    return luaL_error(L, "%s: argument '%s': expected %s, got %s", l->def->name,
                      l->def->slot[i].name, pg_shape_str(l->slot[i]).s, pg_shape_str(t).s);
  pgl_check(L, t && lua_toboolean(L, 4) ? pg_layer_put(l, i, t) : pg_layer_set(l, i, t));
  return 0;
}

static int find_arg(lua_State *L, const pg_layer *l, const char *name) {
  int i = pg_layer_arg(l->def, name);
  if (i < 0) luaL_error(L, "%s: expected the name of an argument, got '%s'", l->def->name, name);
  return i;
}

static int l_layer_arg(lua_State *L) {
  pg_layer *l = check_layer(L);
  int i = find_arg(L, l, pgl_string(L, 2, "name", NULL));
  pgl_push_arg(L, &l->def->param[i], &l->arg[i]);
  return 1;
}

static int l_layer_args(lua_State *L) {
  pg_layer *l = check_layer(L);
  lua_newtable(L);
  for (int i = 0; l->def->param[i].kind != PG_END; i++) {
    pgl_push_arg(L, &l->def->param[i], &l->arg[i]);
    lua_setfield(L, -2, l->def->param[i].name);
  }
  return 1;
}

/* layer_set_arg(h, name, value): numbers, booleans and words */
static int l_layer_set_arg(lua_State *L) {
  pgl_state *st = pgl_state_of(L);
  pg_layer *l = check_layer(L);
  pgl_changed(st);
  int i = find_arg(L, l, pgl_string(L, 2, "name", NULL));
  pg_param one[PG_MAX_PARAM];
  memset(one, 0, sizeof one);
  one[0] = l->def->param[i];
  if (one[0].kind == PG_INTS || one[0].kind == PG_SHAPE || one[0].kind == PG_STRING)
    return luaL_error(L,
                      "%s: argument '%s': expected what the layer was made with, got another value",
                      l->def->name, one[0].name);
  pgl_args a;
  memset(&a, 0, sizeof a);
  a.st = st;
  a.fn = l->def->name;
  lua_settop(L, 3);
  a.last = 3;
  pg_call c;
  pgl_defaults(&c, st->ctx, one);
  if (!pgl_parse(L, &a, 3, one, &c)) return luaL_error(L, "%s", st->error);
  pgl_check(L, pg_layer_set_arg(l, i, &c.arg[0]));
  return 0;
}

static int l_layer_train(lua_State *L) {
  pg_layer *l = check_layer(L);
  const bool on = lua_toboolean(L, 2);
  if (on != l->training) pgl_changed(pgl_state_of(L));
  l->training = on;
  return 0;
}

/* layers() -> {{name=, doc=, lua=, op=, show=, params=, inputs=}} */
static int l_layers(lua_State *L) {
  lua_newtable(L);
  const pg_layer_def *def;
  for (int i = 0; (def = pg_layer_def_at(i)); i++) {
    lua_createtable(L, 0, 7);
    lua_pushstring(L, def->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, def->doc);
    lua_setfield(L, -2, "doc");
    if (def->lua) {
      lua_pushstring(L, def->lua);
      lua_setfield(L, -2, "lua");
    }
    if (def->op) {
      lua_pushstring(L, def->op);
      lua_setfield(L, -2, "op");
    }
    if (def->show) {
      lua_pushstring(L, def->show);
      lua_setfield(L, -2, "show");
    }
    pgl_push_params(L, def->param);
    lua_setfield(L, -2, "params");
    lua_pushinteger(L, def->nin);
    lua_setfield(L, -2, "inputs");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

void pgl_open_layer(lua_State *L) {
  luaL_newmetatable(L, "perigee.layer");
  lua_pushcfunction(L, layer_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  static const luaL_Reg functions[] = {{"layer_new", l_layer_new},
                                       {"layer_forward", l_layer_forward},
                                       {"layer_join", l_layer_join},
                                       {"layer_caller", l_layer_caller},
                                       {"layer_chainer", l_layer_chainer},
                                       {"layer_hooked", l_layer_hooked},
                                       {"observe", l_observe},
                                       {"layer_slots", l_layer_slots},
                                       {"layer_get", l_layer_get},
                                       {"layer_set", l_layer_set},
                                       {"layer_arg", l_layer_arg},
                                       {"layer_args", l_layer_args},
                                       {"layer_set_arg", l_layer_set_arg},
                                       {"layer_train", l_layer_train},
                                       {"layers", l_layers},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
