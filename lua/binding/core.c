/* The module perigee.core: state, errors, memory policy, small services.
 * Relies on pgl.h. Spec: spec/binding/core_spec.lua. */
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/isa.h"
#include "kernels/blas.h"
#include "pgl.h"

static const char state_key = 0, module_key = 0;

pgl_state *pgl_state_of(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &state_key);
  pgl_state *st = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return st;
}

static int state_gc(lua_State *L) {
  pgl_state *st = lua_touserdata(L, 1);
  pg_ctx_free(st->ctx);
  st->ctx = NULL;
  return 0;
}

void pgl_check(lua_State *L, pg_status s) {
  if (s != PG_OK) luaL_error(L, "%s", pg_error(pgl_ctx(L)));
}

int pgl_refuse(lua_State *L, pg_status s) {
  if (s != PG_EIO && s != PG_EFORMAT) pgl_check(L, s);
  lua_pushnil(L);
  lua_pushstring(L, pg_error(pgl_ctx(L)));
  return 2;
}

/* Young boxes go early: after a share of what is live, or a number of calls whatever their size, so
 * that a loop which makes the same garbage again and again finds its final size in a few rounds. */
enum {
  YOUNG_BYTES = 256 << 10,
  YOUNG_SHARE = 16,
  FEW_CALLS = 64,
  MANY_CALLS = 256,
  GRAPH_BYTES = 4 << 20
};

static void collect_young(lua_State *L, pgl_state *st) {
  if (lua_gc(L, LUA_GCISRUNNING)) lua_gc(L, LUA_GCSTEP, 0);
  st->live_before = st->ctx->mem.live;
  st->calls = 0;
}

void pgl_pressure(lua_State *L, pgl_state *st) {
  size_t live = st->ctx->mem.live, allowed = st->live_before / YOUNG_SHARE;
  if (live > st->soft_max) {
    lua_gc(L, LUA_GCCOLLECT);
    while (st->ctx->mem.live > st->soft_max / 5 * 4) st->soft_max += st->soft_max / 2;
    return;
  }
  if (++st->calls < FEW_CALLS) return;
  if (allowed < YOUNG_BYTES) allowed = YOUNG_BYTES;
  if (st->calls >= MANY_CALLS || live > st->live_before + allowed) collect_young(L, st);
}

void pgl_before_backward(lua_State *L, pgl_state *st) {
  size_t least = st->live_before / YOUNG_SHARE;
  if (least < GRAPH_BYTES) least = GRAPH_BYTES;
  if (st->ctx->mem.live > st->live_before + least) collect_young(L, st);
}

static int l_manual_seed(lua_State *L) {
  pgl_spoil(pgl_state_of(L));
  pg_manual_seed(pgl_ctx(L), (uint64_t)pgl_integer(L, 1, "seed"));
  return 0;
}

/* -> {seed, position} */
static int l_rng_state(lua_State *L) {
  pgl_spoil(pgl_state_of(L));
  pg_ctx *ctx = pgl_ctx(L);
  lua_createtable(L, 2, 0);
  lua_pushinteger(L, (lua_Integer)ctx->rng.seed);
  lua_rawseti(L, -2, 1);
  lua_pushinteger(L, (lua_Integer)ctx->rng.position);
  lua_rawseti(L, -2, 2);
  return 1;
}

static int l_set_rng_state(lua_State *L) {
  pgl_spoil(pgl_state_of(L));
  pgl_table(L, 1, "state");
  lua_rawgeti(L, 1, 1);
  lua_rawgeti(L, 1, 2);
  if (!lua_isinteger(L, -1) || !lua_isinteger(L, -2))
    return luaL_error(L, "set_rng_state: argument 'state': expected {seed, position}, got %s",
                      pgl_given(L, 1));
  pgl_ctx(L)->rng = (pg_rng){(uint64_t)lua_tointeger(L, -2), (uint64_t)lua_tointeger(L, -1)};
  return 0;
}

/* Monotonic seconds. */
static int l_clock(lua_State *L) {
  pgl_spoil(pgl_state_of(L));
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  lua_pushnumber(L, (double)t.tv_sec + 1e-9 * (double)t.tv_nsec);
  return 1;
}

static int l_num_threads(lua_State *L) {
  pg_ctx *ctx = pgl_ctx(L);
  if (!lua_isnoneornil(L, 1)) pg_set_num_threads(ctx, (int)pgl_integer(L, 1, "n"));
  lua_pushinteger(L, pg_get_num_threads(ctx));
  return 1;
}

/* deterministic([on]) -> before */
static int l_deterministic(lua_State *L) {
  pg_ctx *ctx = pgl_ctx(L);
  if (!lua_isnone(L, 1) && !lua_isboolean(L, 1))
    return luaL_error(L, "deterministic: expected true or false, got %s", luaL_typename(L, 1));
  lua_pushboolean(L, pg_get_deterministic(ctx));
  if (!lua_isnone(L, 1)) pg_set_deterministic(ctx, lua_toboolean(L, 1));
  return 1;
}

static int l_isa(lua_State *L) {
  lua_pushstring(L, pg_isa(pgl_ctx(L)));
  return 1;
}

static int l_processor(lua_State *L) {
  char buf[160];
  lua_pushstring(L, pg_isa_features(buf, sizeof buf));
  return 1;
}

static void set_size(lua_State *L, const char *name, size_t n) {
  lua_pushinteger(L, (lua_Integer)n);
  lua_setfield(L, -2, name);
}

static int l_memory(lua_State *L) {
  const pg_mem *m = &pgl_ctx(L)->mem;
  lua_createtable(L, 0, 5);
  set_size(L, "live", m->live);
  set_size(L, "peak", m->peak);
  set_size(L, "cached", pg_mem_cached(pgl_ctx(L)));
  set_size(L, "allocations", m->allocations);
  set_size(L, "system", m->system);
  return 1;
}

/* macs() -> multiply-adds of the products run so far, shape-only runs included */
static int l_macs(lua_State *L) {
  lua_pushinteger(L, pgl_ctx(L)->macs);
  return 1;
}

/* Gives cached blocks back to the system; the peak starts anew. */
static int l_trim(lua_State *L) {
  pg_ctx *ctx = pgl_ctx(L);
  pg_mem_trim(ctx);
  ctx->mem.peak = ctx->mem.live;
  ctx->mem.held_peak = ctx->mem.held;
  return 0;
}

/* memory_limit(n) -> the limit before: no allocation may bring the live bytes over n. 0: off. */
static int l_memory_limit(lua_State *L) {
  pg_mem *m = &pgl_ctx(L)->mem;
  lua_Integer n = pgl_integer(L, 1, "n");
  lua_pushinteger(L, (lua_Integer)m->limit);
  m->limit = n > 0 ? (size_t)n : 0;
  return 1;
}

/* fail_after(n): the n-th allocation from now fails, once. n < 1: off. */
static int l_fail_after(lua_State *L) {
  pgl_state *st = pgl_state_of(L);
  lua_Integer n = pgl_integer(L, 1, "n");
  st->injecting = n >= 1;
  st->ctx->mem.fail_once = true;
  st->ctx->mem.fail_after = n >= 1 ? n - 1 : -1;
  return 0;
}

static int l_isatty(lua_State *L) {
  lua_pushboolean(L, isatty((int)pgl_integer(L, 1, "fd")));
  return 1;
}

static int l_term_width(lua_State *L) {
  struct winsize w;
  int ok = ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 || ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0;
  lua_pushinteger(L, ok && w.ws_col ? w.ws_col : 80);
  return 1;
}

/* -> version, name of the BLAS */
static int l_version(lua_State *L) {
  lua_pushstring(L, PG_VERSION);
  lua_pushstring(L, pgk_blas_name());
  return 2;
}

int luaopen_perigee_core(lua_State *L);
__attribute__((visibility("default"))) int luaopen_perigee_core(lua_State *L) {
  luaL_checkversion(L);
  /* A program that clears package.loaded and requires again gets the same module: one ctx owns
   * whatever is alive. */
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &module_key) == LUA_TTABLE) return 1;
  lua_pop(L, 1);
  pgl_state *st = lua_newuserdatauv(L, sizeof *st, 0);
  memset(st, 0, sizeof *st);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, state_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  if (pg_ctx_new(&st->ctx) != PG_OK) return luaL_error(L, "perigee: out of memory");
  st->soft_max = (size_t)256 << 20;
  st->number_storage =
      (pg_storage){.refs = 1, .bytes = sizeof st->number_value, .data = &st->number_value};
  st->number = (pg_tensor){.ctx = st->ctx,
                           .storage = &st->number_storage,
                           .refs = 1,
                           .dtype = PG_F64,
                           .is_number = true};
  lua_rawsetp(L, LUA_REGISTRYINDEX, &state_key);
  static const luaL_Reg functions[] = {{"manual_seed", l_manual_seed},
                                       {"rng_state", l_rng_state},
                                       {"set_rng_state", l_set_rng_state},
                                       {"clock", l_clock},
                                       {"num_threads", l_num_threads},
                                       {"deterministic", l_deterministic},
                                       {"isa", l_isa},
                                       {"processor", l_processor},
                                       {"memory", l_memory},
                                       {"macs", l_macs},
                                       {"trim", l_trim},
                                       {"fail_after", l_fail_after},
                                       {"memory_limit", l_memory_limit},
                                       {"isatty", l_isatty},
                                       {"term_width", l_term_width},
                                       {"version", l_version},
                                       {NULL, NULL}};
  luaL_newlib(L, functions);
  pgl_open_tensor(L);
  pgl_open_op(L);
  pgl_open_autograd(L);
  pgl_open_scope(L);
  pgl_open_layer(L);
  pgl_open_optim(L);
  pgl_open_io(L);
  pgl_open_data(L);
  pgl_open_profile(L);
  pgl_open_tape(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &module_key);
  return 1;
}
