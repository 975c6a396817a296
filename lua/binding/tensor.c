/* Tensors as Lua values: boxes, fields, indexing, conversion to and from tables and bytes.
 * Relies on pgl.h. Spec: spec/binding/tensor_spec.lua. */
#include <string.h>

#include "tape.h"

static const char tensor_tag = 0;

pgl_box *pgl_box_new_in(lua_State *L, pgl_state *st, bool tracked) {
  pgl_box *b = lua_newuserdatauv(L, sizeof *b, 0);
  memset(b, 0, sizeof *b);
  b->tag = &tensor_tag;
  b->state = st;
  lua_rawgeti(L, LUA_REGISTRYINDEX, st->tensor_meta);
  lua_setmetatable(L, -2);
  if (tracked) pgl_scope_add(st, b);
  return b;
}

pgl_box *pgl_box_new(lua_State *L, bool tracked) {
  pgl_state *st = pgl_state_of(L);
  pgl_spoil(st);
  return pgl_box_new_in(L, st, tracked);
}

void pgl_push(lua_State *L, pg_tensor *t) {
  if (!t) {
    lua_pushnil(L);
    return;
  }
  pgl_box *b = pgl_box_new(L, false);
  b->t = pg_tensor_ref(t);
}

pgl_box *pgl_to_box(lua_State *L, int idx) {
  pgl_box *b = lua_touserdata(L, idx);
  return b && lua_rawlen(L, idx) == sizeof *b && b->tag == &tensor_tag ? b : NULL;
}

static pg_tensor *live(lua_State *L, pgl_box *b, const char *what) {
  if (!b->t)
    luaL_error(L, "%s: argument '%s': expected a tensor, got one that was released%s", pgl_fn(L),
               what, b->by_scope ? " when its scope closed" : "");
  return b->t;
}

pg_tensor *pgl_peek_tensor(lua_State *L, int idx) {
  pgl_box *b = pgl_to_box(L, idx);
  const char *what = idx == 1 ? "self" : "tensor";
  if (!b) pgl_wrong(L, what, "a tensor", idx);
  return live(L, b, what);
}

pg_tensor *pgl_check_tensor(lua_State *L, int idx) {
  pg_tensor *t = pgl_peek_tensor(L, idx);
  pgl_spoil(pgl_to_box(L, idx)->state);
  return t;
}

static int box_release(lua_State *L) {
  pgl_box *b = pgl_to_box(L, 1);
  if (!b) return pgl_wrong(L, "self", "a tensor", 1);
  pg_tensor *t = b->t;
  pgl_scope_remove(b);
  b->t = NULL;
  pg_tensor_unref(t);
  return 0;
}

/* --- construction ----------------------------------------------------------------------------- */

/* Shape of nested tables at idx, taken along the first elements. */
static int table_shape(lua_State *L, int idx, int64_t *shape) {
  int nd = 0;
  luaL_checkstack(L, PG_MAX_DIMS + 4, NULL);
  lua_pushvalue(L, idx);
  while (lua_istable(L, -1)) {
    if (nd == PG_MAX_DIMS)
      return luaL_error(L, "tensor: argument 'data': expected tables at most %d deep, got more",
                        PG_MAX_DIMS);
    shape[nd++] = (int64_t)lua_rawlen(L, -1);
    if (!shape[nd - 1]) {
      lua_pop(L, 1);
      return nd;
    }
    lua_rawgeti(L, -1, 1);
    lua_remove(L, -2);
  }
  lua_pop(L, 1);
  return nd;
}

/* Walks the nested tables at idx in order; fills t. The tables of the path stand on the stack. */
static void fill_from_table(lua_State *L, int idx, pg_tensor *t) {
  int nd = t->nd, base = lua_gettop(L), d = 0;
  int64_t at[PG_MAX_DIMS] = {0}, n = 0;
  lua_pushvalue(L, idx);
  while (d >= 0) {
    if (at[d] == t->shape[d]) {
      lua_pop(L, 1);
      d--;
      continue;
    }
    lua_rawgeti(L, base + 1 + d, ++at[d]);
    if (d < nd - 1) {
      if (!lua_istable(L, -1) || (int64_t)lua_rawlen(L, -1) != t->shape[d + 1])
        luaL_error(
            L, "tensor: argument 'data': ragged table: expected %d elements at depth %d, got %s",
            (int)t->shape[d + 1], d + 2,
            lua_istable(L, -1) ? lua_pushfstring(L, "%d", (int)lua_rawlen(L, -1))
                               : luaL_typename(L, -1));
      at[++d] = 0;
      continue;
    }
    if (lua_isboolean(L, -1)) pg_put_f64(t, n++, lua_toboolean(L, -1));
    else if (t->dtype == PG_I64 && lua_isinteger(L, -1))
      ((int64_t *)pg_data(t))[n++] = lua_tointeger(L, -1);
    else if (lua_type(L, -1) == LUA_TNUMBER) pg_put_f64(t, n++, lua_tonumber(L, -1));
    else
      luaL_error(L, "tensor: argument 'data': expected numbers, got %s at element %d",
                 luaL_typename(L, -1), (int)n + 1);
    lua_pop(L, 1);
  }
}

#define DTYPE_WORDS "a dtype such as \"float32\""

static pg_dtype dtype_option(lua_State *L, int idx, pg_dtype otherwise) {
  if (!lua_istable(L, idx)) return otherwise;
  lua_getfield(L, idx, "dtype");
  if (!lua_isnil(L, -1)) {
    int d = lua_type(L, -1) == LUA_TSTRING ? pgl_dtype(lua_tostring(L, -1)) : -1;
    if (d < 0) pgl_wrong(L, "dtype", DTYPE_WORDS, -1);
    otherwise = (pg_dtype)d;
  }
  lua_pop(L, 1);
  return otherwise;
}

static void check_tensor_options(lua_State *L, int idx) {
  static const char *const keys[] = {"dtype", "requires_grad"};
  if (lua_isnoneornil(L, idx)) return;
  if (!lua_istable(L, idx)) pgl_wrong(L, "options", "a table of dtype and requires_grad", idx);
  lua_pushnil(L);
  while (lua_next(L, idx)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
    if (strcmp(key, keys[0]) != 0 && strcmp(key, keys[1]) != 0) {
      const char *near = pgl_nearest(key, keys, 2);
      luaL_error(L, "tensor: unknown option '%s'%s%s%s; options are dtype, requires_grad", key,
                 near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    lua_pop(L, 1);
  }
}

/* tensor(data [, {dtype=, requires_grad=}]): data is a number, a boolean, nested tables, or a
 * tensor (copied). */
static int l_tensor(lua_State *L) {
  pg_ctx *ctx = pgl_ctx(L);
  lua_settop(L, 2);
  check_tensor_options(L, 2);
  pgl_box *b = pgl_box_new(L, true);
  if (pgl_to_box(L, 1)) {
    pg_tensor *src = pgl_check_tensor(L, 1);
    pg_dtype dtype = dtype_option(L, 2, (pg_dtype)src->dtype);
    pgl_check(L, pg_tensor_new_like(ctx, src, dtype, &b->t));
    pgl_check(L, pg_tensor_copy(b->t, src));
  } else if (lua_istable(L, 1)) {
    int64_t shape[PG_MAX_DIMS];
    int nd = table_shape(L, 1, shape);
    pg_dtype dtype = PG_F32;
    lua_pushvalue(L, 1); /* booleans make a bool tensor */
    for (int d = 0; d < nd; d++) {
      lua_rawgeti(L, -1, 1);
      lua_remove(L, -2);
    }
    if (lua_isboolean(L, -1)) dtype = PG_BOOL;
    lua_pop(L, 1);
    pgl_check(L, pg_tensor_new(ctx, dtype_option(L, 2, dtype), nd, shape, &b->t));
    fill_from_table(L, 1, b->t);
  } else if (lua_type(L, 1) == LUA_TNUMBER || lua_isboolean(L, 1)) {
    pg_dtype dtype = lua_isboolean(L, 1) ? PG_BOOL : PG_F32;
    pgl_check(L, pg_tensor_new(ctx, dtype_option(L, 2, dtype), 0, NULL, &b->t));
    if (b->t->dtype == PG_I64 && lua_isinteger(L, 1))
      *(int64_t *)pg_data(b->t) = lua_tointeger(L, 1);
    else pg_put_f64(b->t, 0, lua_isboolean(L, 1) ? lua_toboolean(L, 1) : lua_tonumber(L, 1));
  } else {
    return pgl_wrong(L, "data", "a number, a table of numbers or a tensor", 1);
  }
  if (lua_istable(L, 2)) {
    lua_getfield(L, 2, "requires_grad");
    if (lua_toboolean(L, -1)) pgl_check(L, pg_tensor_requires_grad(b->t, true));
    lua_pop(L, 1);
  }
  lua_settop(L, 3);
  return 1;
}

/* from_bytes(string, dtype, shape) */
static int l_from_bytes(lua_State *L) {
  size_t n;
  const char *s = pgl_string(L, 1, "bytes", &n);
  int d = pgl_dtype(pgl_string(L, 2, "dtype", NULL));
  int64_t shape[PG_MAX_DIMS], count;
  if (d < 0) return pgl_wrong(L, "dtype", DTYPE_WORDS, 2);
  int nd = pgl_check_shape(L, 3, shape);
  pg_ctx *ctx = pgl_ctx(L);
  pgl_check(L, pg_shape_check(ctx, (pg_dtype)d, nd, shape, &count));
  if (n != (size_t)count * pg_dtype_size((pg_dtype)d))
    return luaL_error(L, "from_bytes: argument 'bytes': expected %I bytes for %s of %s, got %I",
                      (LUAI_UACINT)(count * (int64_t)pg_dtype_size((pg_dtype)d)),
                      pg_shape_str_of(nd, shape).s, pg_dtype_name((pg_dtype)d), (LUAI_UACINT)n);
  pgl_box *b = pgl_box_new(L, true);
  pgl_check(L, pg_tensor_new(ctx, (pg_dtype)d, nd, shape, &b->t));
  memcpy(pg_data(b->t), s, n);
  return 1;
}

/* meta(dtype, shape): a tensor of shape only; ops on it infer shapes and dtypes without data */
static int l_meta(lua_State *L) {
  int d = pgl_dtype(pgl_string(L, 1, "dtype", NULL));
  if (d < 0) return pgl_wrong(L, "dtype", DTYPE_WORDS, 1);
  int64_t shape[PG_MAX_DIMS];
  int nd = pgl_check_shape(L, 2, shape);
  pgl_box *b = pgl_box_new(L, true);
  pgl_check(L, pg_tensor_new_strided(pgl_ctx(L), (pg_dtype)d, nd, shape, NULL, PG_META, &b->t));
  return 1;
}

static int l_is_tensor(lua_State *L) {
  lua_pushboolean(L, pgl_to_box(L, 1) != NULL);
  return 1;
}

/* has_data(t) -> false where t is a mere shape */
static int l_has_data(lua_State *L) {
  lua_pushboolean(L, pgl_peek_tensor(L, 1)->storage->device == PG_HOST);
  return 1;
}

/* keep(t) -> t: t outlives scopes */
static int l_keep(lua_State *L) {
  pgl_check_tensor(L, 1)->is_param = true;
  pgl_scope_remove(pgl_to_box(L, 1));
  lua_settop(L, 1);
  return 1;
}

/* become(x, view [, shared]) -> x: x takes over what view, a view of it, is; view is released.
 * Whoever else holds x's tensor keeps it as it was, which is an error unless shared. */
static int l_become(lua_State *L) {
  pg_tensor *t = pgl_check_tensor(L, 1);
  if (t->requires_grad && !t->node)
    return luaL_error(L, "argument 'input': expected a tensor that may change in place, got a leaf "
                         "that requires grad; use the function that gives a view");
  const bool shared = lua_toboolean(L, 3);
  if (t->refs > 1 && !shared) lua_gc(L, LUA_GCCOLLECT); /* it may be garbage that holds it */
  if (t->refs > 1 && !shared)
    return luaL_error(L, "argument 'input': expected a tensor that may change in place, got one "
                         "that a recorded operation, a layer or a gradient holds too; use the "
                         "function that gives a view");
  pgl_check_tensor(L, 2);
  pgl_spoil(pgl_state_of(L));
  pgl_box *b = pgl_to_box(L, 1), *from = pgl_to_box(L, 2);
  pgl_scope_remove(from);
  b->t = from->t;
  from->t = NULL;
  b->t->is_view = t->is_view;
  b->t->is_param = t->is_param;
  pg_tensor_unref(t);
  lua_settop(L, 1);
  return 1;
}

/* --- reading ---------------------------------------------------------------------------------- */

static pg_tensor *host(lua_State *L, const char *fn, pg_tensor *t) {
  if (t->storage->device != PG_HOST)
    luaL_error(L, "%s: argument 'self': expected a tensor with data, got the mere shape %s", fn,
               pg_shape_str(t).s);
  return t;
}

static void push_element(lua_State *L, const pg_tensor *t, int64_t offset) {
  if (t->dtype == PG_BOOL) lua_pushboolean(L, pg_at_i64(t, offset) != 0);
  else if (pg_is_float((pg_dtype)t->dtype)) lua_pushnumber(L, pg_at_f64(t, offset));
  else lua_pushinteger(L, pg_at_i64(t, offset));
}

static int t_item(lua_State *L) {
  pg_tensor *t = host(L, "item", pgl_check_tensor(L, 1));
  if (pg_numel(t) != 1)
    return luaL_error(L, "item: argument 'self': expected a tensor of one element, got %s",
                      pg_shape_str(t).s);
  push_element(L, t, 0);
  return 1;
}

/* Nested tables; a scalar gives its value. */
static int t_totable(lua_State *L) {
  pg_tensor *t = host(L, "totable", pgl_check_tensor(L, 1));
  if (!t->nd) {
    push_element(L, t, 0);
    return 1;
  }
  luaL_checkstack(L, 2 * PG_MAX_DIMS + 4, NULL);
  int64_t at[PG_MAX_DIMS] = {0}, offset[PG_MAX_DIMS + 1] = {0};
  int d = 0, base = lua_gettop(L);
  lua_createtable(L, (int)pg_min64(t->shape[0], 1 << 20), 0);
  for (;;) {
    if (at[d] == t->shape[d]) {
      if (d == 0) break;
      d--;
      lua_rawseti(L, base + 1 + d, at[d]);
      continue;
    }
    int64_t here = offset[d] + at[d] * t->stride[d];
    at[d]++;
    if (d == t->nd - 1) {
      push_element(L, t, here);
      lua_rawseti(L, base + 1 + d, at[d]);
    } else {
      d++;
      at[d] = 0;
      offset[d] = here;
      lua_createtable(L, (int)pg_min64(t->shape[d], 1 << 20), 0);
    }
  }
  return 1;
}

/* The elements in row-major order as a string of their bytes. */
static int t_bytes(lua_State *L) {
  pg_tensor *t = host(L, "bytes", pgl_check_tensor(L, 1));
  pgl_box *b = pgl_box_new(L, false);
  pgl_check(L, pg__contiguous(pgl_ctx(L), t, &b->t));
  lua_pushlstring(L, pg_data(b->t), (size_t)pg_numel(t) * pg_dtype_size((pg_dtype)t->dtype));
  return 1;
}

static void push_ints(lua_State *L, int n, const int64_t *v) {
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_pushinteger(L, v[i]);
    lua_rawseti(L, -2, i + 1);
  }
}

static int t_size(lua_State *L) {
  pg_tensor *t = pgl_peek_tensor(L, 1);
  if (lua_isnoneornil(L, 2)) {
    push_ints(L, t->nd, t->shape);
    return 1;
  }
  int d;
  pg_ctx *ctx = t->ctx;
  lua_Integer dim = pgl_integer(L, 2, "dim");
  ctx->doing = "size";
  pg_status s = pg_dim(ctx, "dim", dim, t->nd, &d);
  ctx->doing = NULL;
  pgl_check(L, s);
  lua_pushinteger(L, t->nd ? t->shape[d] : 1);
  return 1;
}

static int t_dim(lua_State *L) {
  lua_pushinteger(L, pgl_peek_tensor(L, 1)->nd);
  return 1;
}

static int t_numel(lua_State *L) {
  lua_pushinteger(L, pg_numel(pgl_peek_tensor(L, 1)));
  return 1;
}

static int t_stride(lua_State *L) {
  pg_tensor *t = pgl_peek_tensor(L, 1);
  push_ints(L, t->nd, t->stride);
  return 1;
}

static int t_is_contiguous(lua_State *L) {
  lua_pushboolean(L, pg_is_contiguous(pgl_peek_tensor(L, 1)));
  return 1;
}

static int t_requires_grad_(lua_State *L) {
  pg_tensor *t = pgl_check_tensor(L, 1);
  if (!lua_isnoneornil(L, 2) && !lua_isboolean(L, 2))
    return pgl_wrong(L, "requires_grad", "true or false", 2);
  t->ctx->doing = "requires_grad_";
  pg_status s = pg_tensor_requires_grad(t, lua_isnoneornil(L, 2) || lua_toboolean(L, 2));
  t->ctx->doing = NULL;
  pgl_check(L, s);
  lua_settop(L, 1);
  return 1;
}

static int t_tostring(lua_State *L) {
  pgl_box *b = pgl_to_box(L, 1);
  if (!b || !b->t) {
    lua_pushliteral(L, "[released tensor]");
    return 1;
  }
  char *text;
  size_t n;
  pg_ctx *ctx = b->state->ctx;
  pgl_check(L, pg_tensor_show(ctx, b->t, &text, &n));
  luaL_Buffer buffer;
  char *room = luaL_buffinitsize(L, &buffer, n);
  memcpy(room, text, n);
  pg_free(ctx, text, n + 1);
  luaL_pushresultsize(&buffer, n);
  return 1;
}

static int t_len(lua_State *L) {
  pg_tensor *t = pgl_peek_tensor(L, 1);
  lua_pushinteger(L, t->nd ? t->shape[0] : 0);
  return 1;
}

static int t_compare(lua_State *L) {
  return luaL_error(
      L, "comparison: argument 'self': expected a method such as x:lt(y), x:le(y), x:gt(y) or "
         "x:ge(y), got an operator");
}

/* --- fields ----------------------------------------------------------------------------------- */

enum { F_SHAPE = 1, F_DTYPE, F_GRAD, F_REQUIRES_GRAD, F_IS_LEAF, F_DATA, F_T, F_MT, F_H, F_NDIM };

static const struct {
  const char *name;
  int field;
} fields[] = {{"shape", F_SHAPE},
              {"dtype", F_DTYPE},
              {"grad", F_GRAD},
              {"requires_grad", F_REQUIRES_GRAD},
              {"is_leaf", F_IS_LEAF},
              {"data", F_DATA},
              {"T", F_T},
              {"mT", F_MT},
              {"H", F_H},
              {"ndim", F_NDIM}};

static int field_of(const char *key) {
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
    if (strcmp(key, fields[i].name) == 0) return fields[i].field;
  return 0;
}

static int push_field(lua_State *L, int field, pg_tensor *t) {
  switch (field) {
  case F_T: { /* all dims turned round */
    int64_t dims[PG_MAX_DIMS];
    for (int i = 0; i < t->nd; i++) dims[i] = t->nd - i;
    pgl_box *b = pgl_box_new(L, true);
    pgl_check(L, pg_do(t->ctx, &b->t, "permute", "tl", t, (int)t->nd, dims));
    break;
  }
  case F_MT:
  case F_H: { /* the last two dims swapped; H is for matrices alone */
    if (t->nd < 2 || (field == F_H && t->nd > 2))
      return luaL_error(L, "indexing: field '%s': expected %s 2 dims, got %s",
                        field == F_H ? "H" : "mT", field == F_H ? "exactly" : "at least",
                        pg_shape_str(t).s);
    pgl_box *b = pgl_box_new(L, true);
    pgl_check(L, pg_do(t->ctx, &b->t, "transpose", "tii", t, (int64_t)-2, (int64_t)-1));
    break;
  }
  case F_NDIM:
    lua_pushinteger(L, t->nd);
    break;
  case F_SHAPE:
    push_ints(L, t->nd, t->shape);
    break;
  case F_DTYPE:
    lua_pushstring(L, pg_dtype_name((pg_dtype)t->dtype));
    break;
  case F_GRAD:
    pgl_spoil(pgl_state_of(L));
    pgl_push(L, t->grad);
    break;
  case F_REQUIRES_GRAD:
    pgl_tape_flags(L, t);
    lua_pushboolean(L, t->requires_grad);
    break;
  case F_IS_LEAF:
    pgl_tape_flags(L, t);
    lua_pushboolean(L, !t->node);
    break;
  default: {
    pgl_box *b = pgl_box_new(L, true);
    pgl_check(L, pg_tensor_detach(t->ctx, t, &b->t));
  }
  }
  return 1;
}

static int unknown_field(lua_State *L, const char *key) {
  const char *names[512];
  int n = 0;
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) names[n++] = fields[i].name;
  lua_pushnil(L);
  while (lua_next(L, lua_upvalueindex(1))) {
    if (n < 512 && lua_type(L, -2) == LUA_TSTRING) names[n++] = lua_tostring(L, -2);
    lua_pop(L, 1);
  }
  const char *near = pgl_nearest(key, names, n);
  return luaL_error(
      L, "indexing: argument 'key': expected a field or method of tensors, got '%s'%s%s%s", key,
      near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* --- indexing --------------------------------------------------------------------------------- */

/* A basic index as the `spec` of the ops getitem and setitem: start, count, step, drop for each
 * dim. */
typedef struct basic {
  int n;
  int64_t v[4 * PG_MAX_DIMS];
} basic;

static bool to_index(lua_State *L, int idx, int64_t *out) {
  if (lua_type(L, idx) != LUA_TNUMBER) return false;
  int ok;
  *out = lua_tointegerx(L, idx, &ok);
  if (!ok) pgl_wrong(L, "index", "an integer", idx);
  return true;
}

static int64_t place(lua_State *L, int64_t i, int64_t size, int d) {
  if (i == 0 || i > size || i < -size)
    luaL_error(L, "%s: argument 'index': expected 1..%I or -%I..-1 in dim %d, got %I", pgl_fn(L),
               (LUAI_UACINT)size, (LUAI_UACINT)size, d + 1, (LUAI_UACINT)i);
  return i > 0 ? i - 1 : size + i;
}

static void add_dim(basic *b, int64_t start, int64_t count, int64_t step, bool drop) {
  int64_t *v = b->v + 4 * b->n++;
  v[0] = start;
  v[1] = count;
  v[2] = step;
  v[3] = drop;
}

static void add_rest(basic *b, const pg_tensor *t) {
  while (b->n < t->nd) add_dim(b, 0, t->shape[b->n], 1, false);
}

/* One dim by the value at idx: an integer, {} or {first, last [, step]}, both ends included. */
static void read_dim(lua_State *L, int idx, const pg_tensor *t, basic *b) {
  int d = b->n;
  int64_t i, size = t->shape[d];
  if (to_index(L, idx, &i)) {
    add_dim(b, place(L, i, size, d), 1, 1, true);
    return;
  }
  if (!lua_istable(L, idx))
    luaL_error(L,
               "%s: argument 'index': expected an integer, {}, {first, last} or a tensor in dim "
               "%d, got %s",
               pgl_fn(L), d + 1, luaL_typename(L, idx));
  int n = (int)lua_rawlen(L, idx);
  int64_t v[3] = {1, -1, 1};
  if (n > 3)
    luaL_error(L, "%s: argument 'index': expected {first, last, step} in dim %d, got %d numbers",
               pgl_fn(L), d + 1, n);
  for (int k = 0; k < n; k++) {
    lua_rawgeti(L, idx, k + 1);
    if (!to_index(L, -1, &v[k])) {
      const char *got = luaL_typename(L, -1);
      luaL_error(L, "%s: argument 'index': expected integers in dim %d, got %s", pgl_fn(L), d + 1,
                 got);
    }
    lua_pop(L, 1);
  }
  if (n == 1) v[1] = v[0];
  if (v[2] < 1)
    luaL_error(L, "%s: argument 'index': expected a step of at least 1 in dim %d, got %I",
               pgl_fn(L), d + 1, (LUAI_UACINT)v[2]);
  if (n == 0 || size == 0) {
    add_dim(b, 0, n == 0 ? size : 0, 1, false);
    return;
  }
  int64_t first = v[0] < 0 ? size + v[0] : v[0] - 1, last = v[1] < 0 ? size + v[1] : v[1] - 1;
  if (last == first - 1 && first >= 0 && first <= size) { /* {k, k - 1}: nothing */
    add_dim(b, first == size ? 0 : first, 0, 1, false);
    return;
  }
  first = place(L, v[0], size, d);
  last = place(L, v[1], size, d);
  if (last < first)
    luaL_error(L, "%s: argument 'index': expected first <= last in dim %d, got {%I, %I}", pgl_fn(L),
               d + 1, (LUAI_UACINT)v[0], (LUAI_UACINT)v[1]);
  add_dim(b, first, (last - first) / v[2] + 1, v[2], false);
}

/* Does the table at idx hold a tensor among its first n entries? */
static bool has_tensor(lua_State *L, int idx, int n) {
  bool found = false;
  for (int i = 1; i <= n && !found; i++) {
    lua_rawgeti(L, idx, i);
    found = pgl_to_box(L, -1) != NULL;
    lua_pop(L, 1);
  }
  return found;
}

/* Reads the key at idx as a basic index; false where it holds tensors. */
static bool read_basic(lua_State *L, int idx, const pg_tensor *t, basic *b) {
  int64_t i;
  b->n = 0;
  if (pgl_to_box(L, idx)) return false;
  if (to_index(L, idx, &i)) {
    if (!t->nd)
      luaL_error(L, "%s: argument 'self': expected a tensor with dims, got []", pgl_fn(L));
    add_dim(b, place(L, i, t->shape[0], 0), 1, 1, true);
  } else {
    int n = (int)lua_rawlen(L, idx);
    if (n > t->nd)
      luaL_error(L, "%s: argument 'index': expected at most %d indices for %s, got %d", pgl_fn(L),
                 t->nd, pg_shape_str(t).s, n);
    if (has_tensor(L, idx, n)) return false;
    for (int k = 1; k <= n; k++) {
      lua_rawgeti(L, idx, k);
      read_dim(L, lua_gettop(L), t, b);
      lua_pop(L, 1);
    }
  }
  add_rest(b, t);
  return true;
}

/* t:__index(key). Upvalue 1: methods; 2: the module, whose index_get takes keys with tensors in
 * them. */
static int t_index(lua_State *L) {
  if (lua_type(L, 2) == LUA_TSTRING) {
    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(1));
    if (!lua_isnil(L, -1)) return 1;
    const char *key = lua_tostring(L, 2);
    int field = field_of(key);
    return field ? push_field(L, field, pgl_peek_tensor(L, 1)) : unknown_field(L, key);
  }
  pg_tensor *t = pgl_check_tensor(L, 1);
  if (lua_type(L, 2) != LUA_TNUMBER && !lua_istable(L, 2) && !pgl_to_box(L, 2))
    return pgl_wrong(L, "index", "an integer, a table or a tensor", 2);
  basic b;
  if (!read_basic(L, 2, t, &b)) {
    lua_getfield(L, lua_upvalueindex(2), "index_get");
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_call(L, 2, 1);
    return 1;
  }
  pgl_box *box = pgl_box_new(L, true);
  pgl_check(L, pg_do(t->ctx, &box->t, "getitem", "tl", t, 4 * b.n, b.v));
  return 1;
}

static int set_field(lua_State *L, pg_tensor *t) {
  const char *key = lua_tostring(L, 2);
  switch (field_of(key)) {
  case F_REQUIRES_GRAD: {
    if (!lua_isboolean(L, 3)) return pgl_wrong(L, "requires_grad", "true or false", 3);
    t->ctx->doing = "assignment";
    pg_status s = pg_tensor_requires_grad(t, lua_toboolean(L, 3));
    t->ctx->doing = NULL;
    pgl_check(L, s);
    return 0;
  }
  case F_GRAD: {
    if (!lua_isnil(L, 3) && !pgl_to_box(L, 3)) return pgl_wrong(L, "grad", "a tensor or nil", 3);
    pg_tensor *grad = lua_isnil(L, 3) ? NULL : pgl_check_tensor(L, 3);
    if (grad && !pg_same_shape(grad, t))
      return luaL_error(L, "assignment: argument 'grad': expected %s, got %s", pg_shape_str(t).s,
                        pg_shape_str(grad).s);
    pg_tensor_ref(grad);
    pg_tensor_unref(t->grad);
    t->grad = grad;
    return 0;
  }
  default:
    return luaL_error(
        L, "assignment: argument 'index': expected requires_grad, grad or a part, got '%s'", key);
  }
}

/* t:__newindex(key, value): value is a tensor that broadcasts, or a number. */
static int t_newindex(lua_State *L) {
  pg_tensor *t = pgl_check_tensor(L, 1);
  if (lua_type(L, 2) == LUA_TSTRING) return set_field(L, t);
  basic b;
  if (lua_type(L, 2) != LUA_TNUMBER && !lua_istable(L, 2) && !pgl_to_box(L, 2))
    return pgl_wrong(L, "index", "an integer, a table or a tensor", 2);
  if (!read_basic(L, 2, t, &b)) {
    lua_getfield(L, lua_upvalueindex(2), "index_set");
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 3);
    lua_call(L, 3, 0);
    return 0;
  }
  pgl_box *value = pgl_to_box(L, 3);
  pg_tensor *src;
  if (value) {
    src = live(L, value, "value");
  } else {
    bool number = lua_type(L, 3) == LUA_TNUMBER;
    if (!number && !lua_isboolean(L, 3)) return pgl_wrong(L, "value", "a tensor or a number", 3);
    value = pgl_box_new(L, false);
    pgl_check(L, pg_tensor_number(t->ctx, number ? lua_tonumber(L, 3) : lua_toboolean(L, 3),
                                  !number || lua_isinteger(L, 3), &value->t));
    value->t->is_bool_number = !number;
    src = value->t;
  }
  pgl_check(L, pg_do(t->ctx, NULL, "setitem_", "ttl", t, src, 4 * b.n, b.v));
  return 0;
}

void pgl_open_tensor(lua_State *L) {
  int module = lua_gettop(L);
  luaL_newmetatable(L, "perigee.tensor");
  lua_pushvalue(L, -1);
  pgl_state_of(L)->tensor_meta = luaL_ref(L, LUA_REGISTRYINDEX);
  static const luaL_Reg events[] = {
      {"__gc", box_release}, {"__close", box_release}, {"__tostring", t_tostring},
      {"__len", t_len},      {"__lt", t_compare},      {"__le", t_compare},
      {NULL, NULL}};
  luaL_setfuncs(L, events, 0);
  lua_pushliteral(L, "tensor");
  lua_setfield(L, -2, "__name");
  static const luaL_Reg methods[] = {{"item", t_item},
                                     {"totable", t_totable},
                                     {"bytes", t_bytes},
                                     {"size", t_size},
                                     {"dim", t_dim},
                                     {"numel", t_numel},
                                     {"stride", t_stride},
                                     {"is_contiguous", t_is_contiguous},
                                     {"requires_grad_", t_requires_grad_},
                                     {"release", box_release},
                                     {NULL, NULL}};
  luaL_newlib(L, methods);
  lua_pushvalue(L, -1);
  lua_setfield(L, module, "Tensor");
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "__methods"); /* for completion, which must run no function */
  lua_pushvalue(L, -1);
  lua_pushvalue(L, module);
  lua_pushcclosure(L, t_index, 2);
  lua_setfield(L, -3, "__index");
  lua_pushvalue(L, module);
  lua_pushcclosure(L, t_newindex, 2);
  lua_setfield(L, -2, "__newindex");
  lua_pop(L, 1);
  static const luaL_Reg functions[] = {{"tensor", l_tensor},     {"from_bytes", l_from_bytes},
                                       {"meta", l_meta},         {"is_tensor", l_is_tensor},
                                       {"keep", l_keep},         {"become", l_become},
                                       {"has_data", l_has_data}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
