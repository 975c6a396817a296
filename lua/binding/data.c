/* core.data: the order of an epoch and the rows of a batch, for perigee.data.
 * Relies on pgl.h and data/data.h.
 * Spec: spec/data/loader_spec.lua. */
#include "data/data.h"

#include "pgl.h"

/* rows(tensor, index [, unit]) -> rows of the tensor by 1-based index; unit: uint8 to 0 .. 1 */
static int l_rows(lua_State *L) {
  lua_settop(L, 3);
  pgl_state *st = pgl_state_of(L);
  pg_tensor *t = pgl_check_tensor(L, 1), *index = pgl_check_tensor(L, 2);
  pgl_box *out = pgl_box_new(L, true);
  pgl_check(L, pg_rows(st->ctx, t, index, lua_toboolean(L, 3), &out->t));
  pgl_pressure(L, st);
  return 1;
}

/* range(first, last) -> int64, both ends included */
static int l_range(lua_State *L) {
  lua_settop(L, 2);
  pgl_box *out = pgl_box_new(L, true);
  pgl_check(L,
            pg_range(pgl_ctx(L), pgl_integer(L, 1, "first"), pgl_integer(L, 2, "last"), &out->t));
  return 1;
}

/* permutation(n [, seed [, epoch]]) -> 1 .. n shuffled: by seed and epoch only, or by the state of
 * the global generator, which moves on. */
static int l_permutation(lua_State *L) {
  pg_ctx *ctx = pgl_ctx(L);
  lua_Integer n = pgl_integer(L, 1, "n"),
              epoch = lua_isnoneornil(L, 3) ? 1 : pgl_integer(L, 3, "epoch");
  bool seeded = !lua_isnoneornil(L, 2);
  pg_rng own = {0, 0};
  if (seeded) own = pg_epoch_rng((uint64_t)pgl_integer(L, 2, "seed"), (uint64_t)epoch);
  pgl_box *out = pgl_box_new(L, true);
  pgl_check(L, pg_permutation(ctx, n, seeded ? &own : &ctx->rng, &out->t));
  return 1;
}

void pgl_open_data(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"rows", l_rows}, {"range", l_range}, {"permutation", l_permutation}, {NULL, NULL}};
  luaL_newlib(L, functions);
  lua_setfield(L, -2, "data");
}
