/* Profiles as handles. Relies on pgl.h, autograd/profile.h. Spec: spec/autograd/profile_spec.lua.
 */
#include "autograd/profile.h"

#include "pgl.h"

static pg_profile *check_profile(lua_State *L) {
  pg_profile **box = luaL_checkudata(L, 1, "perigee.profile");
  if (!*box) luaL_error(L, "the profile was not started");
  return *box;
}

static int profile_gc(lua_State *L) {
  pg_profile **box = luaL_checkudata(L, 1, "perigee.profile");
  pg_profile *p = *box;
  *box = NULL;
  pg_profile_free(p);
  return 0;
}

/* profile_start(shapes) -> handle */
static int l_profile_start(lua_State *L) {
  pg_profile **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  luaL_setmetatable(L, "perigee.profile");
  pgl_check(L, pg_profile_start(pgl_ctx(L), lua_toboolean(L, 1), box));
  return 1;
}

static int l_profile_stop(lua_State *L) {
  pg_profile_stop(check_profile(L));
  return 0;
}

/* Where a string of the profile's own lies, as light userdata: profile_text(h, s) */
static int l_profile_text(lua_State *L) {
  const char *s;
  pgl_check(L, pg_profile_text(check_profile(L), luaL_checkstring(L, 2), &s));
  lua_pushlightuserdata(L, (void *)s);
  return 1;
}

/* profile_enter(h, kind, name [, path]) -> event, with texts of profile_text */
static int l_profile_enter(lua_State *L) {
  static const char *const kinds[] = {"layer", "label", NULL};
  static const pg_event_kind kind[] = {PG_EVENT_LAYER, PG_EVENT_LABEL};
  pg_profile *p = check_profile(L);
  int k = luaL_checkoption(L, 2, NULL, kinds);
  luaL_checktype(L, 3, LUA_TLIGHTUSERDATA);
  lua_pushinteger(L, pg_profile_enter(p, kind[k], lua_touserdata(L, 3), lua_touserdata(L, 4)));
  return 1;
}

static int l_profile_leave(lua_State *L) {
  pg_profile_leave(check_profile(L), (int)luaL_checkinteger(L, 2));
  return 0;
}

/* profile_count(h) -> events, events that found no memory */
static int l_profile_count(lua_State *L) {
  const pg_profile *p = check_profile(L);
  lua_pushinteger(L, pg_profile_count(p));
  lua_pushinteger(L, pg_profile_lost(p));
  return 2;
}

/* profile_event(h, i) -> kind, name, path, parent, forward (0: none), start, time, self (ns),
 * flops, bytes, memory, allocations, shapes or nil; the last five are the event's own */
static int l_profile_event(lua_State *L) {
  static const char *const kinds[] = {[PG_EVENT_OP] = "op",
                                      [PG_EVENT_BACKWARD] = "backward",
                                      [PG_EVENT_ENGINE] = "engine",
                                      [PG_EVENT_LAYER] = "layer",
                                      [PG_EVENT_LABEL] = "label",
                                      [PG_EVENT_STEP] = "step",
                                      [PG_EVENT_ZERO_GRAD] = "zero_grad"};
  const pg_profile *p = check_profile(L);
  lua_Integer i = luaL_checkinteger(L, 2);
  if (i < 1 || i > pg_profile_count(p)) return luaL_error(L, "there is no event %d", (int)i);
  const pg_event *e = pg_profile_event(p, (int)i - 1);
  lua_settop(L, 0);
  lua_pushstring(L, kinds[e->kind]);
  lua_pushstring(L, e->name);
  lua_pushstring(L, e->path);
  int64_t numbers[] = {e->parent + 1,           e->forward + 1, e->start, e->time,
                       e->time - e->inner_time, e->flops,       e->bytes, e->memory,
                       e->allocations};
  for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
    lua_pushinteger(L, (lua_Integer)numbers[k]);
  lua_pushstring(L, e->shapes); /* nil for NULL */
  return 13;
}

void pgl_open_profile(lua_State *L) {
  luaL_newmetatable(L, "perigee.profile");
  lua_pushcfunction(L, profile_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  static const luaL_Reg functions[] = {
      {"profile_start", l_profile_start}, {"profile_stop", l_profile_stop},
      {"profile_text", l_profile_text},   {"profile_enter", l_profile_enter},
      {"profile_leave", l_profile_leave}, {"profile_count", l_profile_count},
      {"profile_event", l_profile_event}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
