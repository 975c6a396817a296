/* Scopes and grad modes as to-be-closed objects. Relies on pgl.h. Spec:
 * spec/binding/scope_spec.lua. */
#include <string.h>

#include "pgl.h"

static const char scope_tag = 0;

struct pgl_scope {
  const void *tag;
  pgl_state *state;
  pgl_scope *parent;
  pgl_box *boxes;
  bool open;
};

void pgl_scope_remove(pgl_box *b) {
  if (!b->scope) return;
  if (b->prev) b->prev->next = b->next;
  else b->scope->boxes = b->next;
  if (b->next) b->next->prev = b->prev;
  b->scope = NULL;
  b->prev = b->next = NULL;
}

static void link_box(pgl_scope *s, pgl_box *b) {
  b->scope = s;
  b->prev = NULL;
  b->next = s->boxes;
  if (s->boxes) s->boxes->prev = b;
  s->boxes = b;
}

void pgl_scope_add(pgl_state *st, pgl_box *b) {
  if (st->scope) link_box(st->scope, b);
}

static void hand_up(pgl_scope *s, pgl_box *b) {
  pgl_scope_remove(b);
  if (s->parent) link_box(s->parent, b);
}

/* Takes s out of the chain. Its boxes are released, or handed to the parent where release is false.
 */
static void leave(pgl_scope *s, bool release) {
  if (!s->open) return;
  s->open = false;
  for (pgl_scope **at = &s->state->scope; *at; at = &(*at)->parent)
    if (*at == s) {
      *at = s->parent;
      break;
    }
  while (s->boxes) {
    pgl_box *b = s->boxes;
    if (!release || !b->t || b->t->is_param) {
      hand_up(s, b);
      continue;
    }
    pgl_scope_remove(b);
    pg_tensor *t = b->t;
    b->t = NULL;
    b->by_scope = true;
    pg_tensor_unref(t);
  }
}

static pgl_scope *check_scope(lua_State *L) {
  pgl_scope *s = lua_touserdata(L, 1);
  if (!s || lua_rawlen(L, 1) != sizeof *s || s->tag != &scope_tag)
    luaL_error(L, "expected a scope, got %s", luaL_typename(L, 1));
  return s;
}

static int scope_close(lua_State *L) {
  leave(check_scope(L), true);
  return 0;
}

static int scope_gc(lua_State *L) {
  leave(check_scope(L), false);
  return 0;
}

/* scope:keep(...) -> ...: hands tensors to the enclosing scope. */
static int scope_keep(lua_State *L) {
  pgl_scope *s = check_scope(L);
  for (int i = 2; i <= lua_gettop(L); i++) {
    pgl_peek_tensor(L, i);
    pgl_box *b = pgl_to_box(L, i);
    if (b->scope == s) hand_up(s, b);
  }
  return lua_gettop(L) - 1;
}

/* scope() -> a to-be-closed object. Upvalues: state, its metatable. */
static int l_scope(lua_State *L) {
  pgl_state *st = lua_touserdata(L, lua_upvalueindex(1));
  pgl_scope *s = lua_newuserdatauv(L, sizeof *s, 0);
  *s = (pgl_scope){.tag = &scope_tag, .state = st, .parent = st->scope, .open = true};
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_setmetatable(L, -2);
  st->scope = s;
  return 1;
}

/* --- grad modes ------------------------------------------------------------------------------- */

typedef struct mode {
  pg_ctx *ctx;
  bool before, open;
} mode;

static int mode_close(lua_State *L) {
  mode *m = luaL_checkudata(L, 1, "perigee.grad_mode");
  if (m->open) m->ctx->grad_mode = m->before;
  m->open = false;
  return 0;
}

/* With a function: calls it in the mode and returns its results. Else a to-be-closed object. */
static int set_mode(lua_State *L, bool on) {
  pg_ctx *ctx = pgl_ctx(L);
  bool before = ctx->grad_mode;
  if (lua_isfunction(L, 1)) {
    ctx->grad_mode = on;
    int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    ctx->grad_mode = before;
    return status == LUA_OK ? lua_gettop(L) : lua_error(L);
  }
  mode *m = lua_newuserdatauv(L, sizeof *m, 0);
  *m = (mode){ctx, before, true};
  luaL_setmetatable(L, "perigee.grad_mode");
  ctx->grad_mode = on;
  return 1;
}

static int l_no_grad(lua_State *L) { return set_mode(L, false); }
static int l_enable_grad(lua_State *L) { return set_mode(L, true); }

/* --- autocast --------------------------------------------------------------------------------- */

static int autocast_close(lua_State *L) {
  mode *m = luaL_checkudata(L, 1, "perigee.autocast");
  if (m->open) m->ctx->autocast = m->before;
  m->open = false;
  return 0;
}

/* autocast(dtype) -> to-be-closed object; autocast(dtype, fn, ..) -> what fn(..) returns. "float32"
 * turns an outer autocast off. */
static int l_autocast(lua_State *L) {
  pg_ctx *ctx = pgl_ctx(L);
  const char *dtype = luaL_optstring(L, 1, "bfloat16");
  const bool on = strcmp(dtype, "bfloat16") == 0, before = ctx->autocast;
  if (!on && strcmp(dtype, "float32") != 0)
    return luaL_error(L, "autocast: expected 'bfloat16' or 'float32', got '%s'", dtype);
  if (lua_isfunction(L, 2)) {
    ctx->autocast = on;
    int status = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 0);
    ctx->autocast = before;
    return status == LUA_OK ? lua_gettop(L) - 1 : lua_error(L);
  }
  mode *m = lua_newuserdatauv(L, sizeof *m, 0);
  *m = (mode){ctx, before, true};
  luaL_setmetatable(L, "perigee.autocast");
  ctx->autocast = on;
  return 1;
}

static int l_is_autocast_enabled(lua_State *L) {
  lua_pushboolean(L, pgl_ctx(L)->autocast);
  return 1;
}

static int l_is_grad_enabled(lua_State *L) {
  lua_pushboolean(L, pgl_ctx(L)->grad_mode);
  return 1;
}

static void set_function(lua_State *L, const char *name, lua_CFunction f) {
  lua_pushcfunction(L, f);
  lua_setfield(L, -2, name);
}

void pgl_open_scope(lua_State *L) {
  luaL_newmetatable(L, "perigee.scope");
  set_function(L, "__close", scope_close);
  set_function(L, "__gc", scope_gc);
  lua_createtable(L, 0, 2);
  set_function(L, "keep", scope_keep);
  set_function(L, "close", scope_close);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  luaL_newmetatable(L, "perigee.grad_mode");
  set_function(L, "__close", mode_close);
  set_function(L, "__gc", mode_close);
  lua_pop(L, 1);
  luaL_newmetatable(L, "perigee.autocast");
  set_function(L, "__close", autocast_close);
  set_function(L, "__gc", autocast_close);
  lua_pop(L, 1);
  lua_pushlightuserdata(L, pgl_state_of(L));
  luaL_getmetatable(L, "perigee.scope");
  lua_pushcclosure(L, l_scope, 2);
  lua_setfield(L, -2, "scope");
  static const luaL_Reg functions[] = {{"no_grad", l_no_grad},
                                       {"enable_grad", l_enable_grad},
                                       {"autocast", l_autocast},
                                       {"is_autocast_enabled", l_is_autocast_enabled},
                                       {"is_grad_enabled", l_is_grad_enabled},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
