/* One closure for all ops: parsed by the descriptor, run by pg_apply, boxed.
 * Relies on pgl.h. Spec: spec/binding/op_spec.lua. */
#include <stdio.h>
#include <string.h>

#include "tape.h"

enum {
  PGL_PLAIN = 0,
  PGL_INPLACE = 1,
  PGL_UNARY = 2, /* metamethods pass the operand twice */
  PGL_NAMED = 4  /* called by another name than the op's first */
};

static const char *const creation_keys[] = {"requires_grad", NULL};

static int raise_text(lua_State *L, const char *text) { return luaL_error(L, "%s", text); }

/* Is the value at idx a table whose metatable has the field "__op"? Then that is pushed. [-0, +0|1]
 */
static bool push_handler(lua_State *L, int idx) {
  return lua_type(L, idx) == LUA_TTABLE && luaL_getmetafield(L, idx, "__op") != LUA_TNIL;
}

/* An argument, or an element of a list among the arguments, may stand for a tensor (nn/graph.lua):
 * then its metafield "__op" is called with the op's name and the arguments 1..last, and its results
 * are the op's. Returns their number, or -1 where no argument does. */
static int call_handler(lua_State *L, int last, const char *name) {
  lua_settop(L, last);
  bool found = false;
  for (int i = 1; i <= last && !found; i++) {
    found = push_handler(L, i);
    lua_Unsigned n = !found && lua_type(L, i) == LUA_TTABLE ? lua_rawlen(L, i) : 0;
    for (lua_Unsigned k = 1; k <= n && !found; k++) {
      lua_rawgeti(L, i, (lua_Integer)k);
      found = push_handler(L, lua_gettop(L));
      lua_remove(L, found ? -2 : -1);
    }
  }
  if (!found) return -1;
  lua_insert(L, 1);
  lua_pushstring(L, name);
  lua_insert(L, 2);
  if (lua_pcall(L, last + 1, LUA_MULTRET, 0) != LUA_OK) return lua_error(L);
  return lua_gettop(L);
}

/* Functions of nn.functional with an in-place form take PyTorch's last argument, inplace, by
 * position (which is taken off the stack) or by name. */
static const char *const nn_keys[] = {"inplace", NULL};
static bool takes_inplace(const pg_op *op) {
  return (op->flags & PG_NN) && (op->flags & PG_INPLACE);
}
static bool read_inplace(lua_State *L, const pg_op *op) {
  int last = lua_gettop(L), n = 0;
  bool on = false;
  if (last < 2) return false;
  while (op->param[n].kind != PG_END) n++;
  if (last == n + 1 && lua_isboolean(L, last)) {
    on = lua_toboolean(L, last);
    lua_settop(L, n);
  } else if (lua_type(L, last) == LUA_TTABLE) {
    lua_pushliteral(L, "inplace");
    lua_rawget(L, last);
    on = lua_toboolean(L, -1);
    lua_pop(L, 1);
  }
  return on;
}

/* Upvalues: op, state, mode, name. */
static int call_op(lua_State *L) {
  const pg_op *op = lua_touserdata(L, lua_upvalueindex(1));
  pgl_state *st = lua_touserdata(L, lua_upvalueindex(2));
  int mode = (int)lua_tointeger(L, lua_upvalueindex(3));
  if (mode & PGL_UNARY) lua_settop(L, 1);
  bool inplace = mode & PGL_INPLACE;
  pgl_args a;
  pgl_args_init(&a, st);
  bool creates = op->param[0].kind != PG_TENSOR && op->param[0].kind != PG_TENSORS;
  if (creates) a.extra = creation_keys;
  if (!inplace && takes_inplace(op)) {
    a.extra = nn_keys;
    inplace = read_inplace(L, op);
  }
  pg_call c;
  pg_call_init(&c, st->ctx, op);
  c.inplace = inplace;
  if (mode & PGL_NAMED) c.name = lua_tostring(L, lua_upvalueindex(4));
  pgl_box *box[PG_MAX_OUT];
  a.last = lua_gettop(L);
  if (!inplace) /* boxes before anything is owned */
    for (int j = 0; j < op->nout; j++) box[j] = pgl_box_new_in(L, st, true);
  int top = lua_gettop(L);
  if (!pgl_take_tensors(L, &a, op->param, &c)) {
    a.fn = lua_tostring(L, lua_upvalueindex(4));
    luaL_checkstack(L, 16, NULL);
    if (!pgl_parse(L, &a, 1, op->param, &c)) {
      pgl_spoil(st);
      int n = call_handler(L, a.last, a.fn);
      return n >= 0 ? n : raise_text(L, st->error);
    }
  }
  struct pgl_tape *tape = st->tape;
  if (tape) pgl_tape_op(L, tape, &c);
  bool on = false;
  if (creates && a.options) { /* no tensor parameters: nothing is owned yet */
    lua_getfield(L, a.options, "requires_grad");
    on = lua_toboolean(L, -1);
    if (on) pgl_spoil(st);
  }
  pg_status s = pg_apply(&c);
  if (s == PG_ENOMEM && !st->injecting) {
    for (int j = 0; j < PG_MAX_OUT; j++) c.out[j] = NULL;
    lua_gc(L, LUA_GCCOLLECT);
    s = pg_apply(&c);
  }
  pgl_args_free(&a);
  if (tape) pgl_tape_op_done(tape, &c, s);
  if (s != PG_OK) return raise_text(L, pg_error(st->ctx));
  if (inplace) {
    pg_tensor_unref(c.out[0]);
    lua_pushvalue(L, a.tensor_at ? a.tensor_at : 1);
    return 1;
  }
  lua_settop(L, top);
  for (int j = 0; j < c.nout; j++) {
    if (on) pg_tensor_requires_grad(c.out[j], true);
    box[j]->t = c.out[j];
  }
  lua_pop(L, op->nout - c.nout);
  pgl_pressure(L, st);
  return c.nout;
}

static void push_op(lua_State *L, pgl_state *st, const pg_op *op, int mode, const char *name) {
  lua_pushlightuserdata(L, (void *)op);
  lua_pushlightuserdata(L, st);
  lua_pushinteger(L, mode);
  lua_pushstring(L, name);
  lua_pushcclosure(L, call_op, 4);
}

/* Puts the function on top under name into the table at `ops`, and at `methods` for methods. [-1,
 * +0] */
static void publish(lua_State *L, const pg_op *op, const char *name, int ops, int methods) {
  if (op->flags & PG_METHOD) {
    lua_pushvalue(L, -1);
    lua_setfield(L, methods, name);
  }
  lua_setfield(L, ops, name);
}

static void open_ops(lua_State *L, pgl_state *st, int ops, int methods) {
  const pg_op *const *tables = pg_op_tables(st->ctx->level);
  char name[64], inplace[72];
  for (int k = 0; tables[k]; k++)
    for (const pg_op *op = tables[k]; op->name; op++)
      for (int i = 0; pg_op_name(op, i, name, sizeof name); i++) {
        size_t n = strlen(name);
        if (op->flags & PG_INPLACE_ONLY) {
          snprintf(inplace, sizeof inplace, "%s%s", name, name[n - 1] == '_' ? "" : "_");
          push_op(L, st, op, PGL_INPLACE | PGL_NAMED, inplace);
          publish(L, op, inplace, ops, methods);
          continue;
        }
        push_op(L, st, op, i ? PGL_NAMED : PGL_PLAIN, name);
        publish(L, op, name, ops, methods);
        if (!(op->flags & PG_INPLACE)) continue;
        snprintf(inplace, sizeof inplace, "%s_", name);
        push_op(L, st, op, PGL_INPLACE | PGL_NAMED, inplace);
        publish(L, op, inplace, ops, methods);
      }
}

static void open_operators(lua_State *L, pgl_state *st, int meta) {
  static const struct {
    const char *event, *op;
    int mode;
  } table[] = {{"__add", "add", 0},
               {"__sub", "sub", 0},
               {"__mul", "mul", 0},
               {"__div", "div", 0},
               {"__mod", "remainder", 0},
               {"__pow", "pow", 0},
               {"__idiv", "floor_divide", 0},
               {"__unm", "neg", PGL_UNARY},
               {"__band", "bitwise_and", 0},
               {"__bor", "bitwise_or", 0},
               {"__bxor", "bitwise_xor", 0},
               {"__bnot", "bitwise_not", PGL_UNARY},
               {"__shl", "bitwise_left_shift", 0},
               {"__shr", "bitwise_right_shift", 0}};
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    const pg_op *op = pg_op_find(st->ctx, table[i].op);
    if (!op) continue;
    push_op(L, st, op, table[i].mode, table[i].op);
    lua_setfield(L, meta, table[i].event);
  }
}

static void set_flag(lua_State *L, const char *name, bool on) {
  lua_pushboolean(L, on);
  lua_setfield(L, -2, name);
}

/* -> list of {name=, names=, doc=, params=, flags ..} of every op */
static int l_op_info(lua_State *L) {
  pg_ctx *ctx = pgl_ctx(L);
  lua_newtable(L);
  const pg_op *op;
  for (int i = 0; (op = pg_op_at(ctx, i)); i++) {
    char name[64];
    lua_newtable(L);
    lua_newtable(L);
    for (int k = 0; pg_op_name(op, k, name, sizeof name); k++) {
      lua_pushstring(L, name);
      lua_rawseti(L, -2, k + 1);
    }
    lua_setfield(L, -2, "names");
    pg_op_name(op, 0, name, sizeof name);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, op->doc);
    lua_setfield(L, -2, "doc");
    pgl_push_params(L, op->param);
    lua_setfield(L, -2, "params");
    set_flag(L, "method", op->flags & PG_METHOD);
    set_flag(L, "nn", op->flags & PG_NN);
    set_flag(L, "linalg", op->flags & PG_LINALG);
    set_flag(L, "init", op->flags & PG_INIT);
    set_flag(L, "nodiff", (op->flags & PG_NODIFF) || !(op->backward || (op->flags & PG_COMPOSED)));
    set_flag(L, "random", op->flags & PG_RANDOM);
    set_flag(L, "inplace", op->flags & PG_INPLACE);
    set_flag(L, "inplace_only", op->flags & PG_INPLACE_ONLY);
    set_flag(L, "hidden", op->flags & PG_HIDDEN);
    lua_pushinteger(L, op->nout);
    lua_setfield(L, -2, "outputs");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

void pgl_open_op(lua_State *L) {
  pgl_state *st = pgl_state_of(L);
  int module = lua_gettop(L);
  lua_newtable(L);
  int ops = lua_gettop(L);
  lua_getfield(L, module, "Tensor");
  open_ops(L, st, ops, lua_gettop(L));
  lua_pop(L, 1);
  luaL_getmetatable(L, "perigee.tensor");
  open_operators(L, st, lua_gettop(L));
  lua_pop(L, 1);
  lua_setfield(L, module, "ops");
  lua_pushcfunction(L, l_op_info);
  lua_setfield(L, module, "op_info");
}
