/* Parsing a call's arguments by a parameter list: positions in order, one trailing table by name.
 * Nothing here raises while it owns something. Relies on pgl.h. Spec: spec/binding/args_spec.lua.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "pgl.h"

PG_PRINTF(2, 3) static bool fail(pgl_args *a, const char *fmt, ...) {
  char text[PG_ERROR_LEN - 64];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  snprintf(a->st->error, sizeof a->st->error, "%.60s: %s", a->fn, text);
  return false;
}

/* What stands at idx, in the words of a message. */
static const char *given(lua_State *L, int idx, char *buf, size_t n) {
  pgl_box *b = pgl_to_box(L, idx);
  if (b && b->t) snprintf(buf, n, "a tensor %s", pg_shape_str(b->t).s);
  else if (b) snprintf(buf, n, "a tensor that was released");
  else if (lua_type(L, idx) == LUA_TSTRING) snprintf(buf, n, "'%.40s'", lua_tostring(L, idx));
  else if (lua_isinteger(L, idx)) snprintf(buf, n, "%lld", (long long)lua_tointeger(L, idx));
  else if (lua_type(L, idx) == LUA_TNUMBER) snprintf(buf, n, "%.14g", lua_tonumber(L, idx));
  else if (lua_isnoneornil(L, idx)) snprintf(buf, n, "nothing");
  else snprintf(buf, n, "a %s", luaL_typename(L, idx));
  return buf;
}

/* Levenshtein distance, without regard to case. */
static int distance(const char *a, const char *b) {
  enum { ROOM = 48 };
  int row[ROOM + 1], na = (int)strlen(a), nb = (int)strlen(b);
  if (na > ROOM || nb > ROOM) return ROOM;
  for (int j = 0; j <= nb; j++) row[j] = j;
  for (int i = 1; i <= na; i++) {
    int diagonal = row[0];
    row[0] = i;
    for (int j = 1; j <= nb; j++) {
      int cost = diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
      diagonal = row[j];
      if (row[j] + 1 < cost) cost = row[j] + 1;
      if (row[j - 1] + 1 < cost) cost = row[j - 1] + 1;
      row[j] = cost;
    }
  }
  return row[nb];
}

const char *pgl_nearest(const char *word, const char *const *list, int n) {
  const char *best = NULL;
  int least = 2 + (int)strlen(word) / 2; /* farther ones are no help */
  for (int i = 0; i < n; i++) {
    int d = distance(word, list[i]);
    if (d >= least) continue;
    least = d;
    best = list[i];
  }
  return best;
}

int pgl_dtype(const char *name) {
  static const struct {
    const char *name;
    int dtype;
  } alias[] = {
      {"float", PG_F32}, {"double", PG_F64}, {"long", PG_I64}, {"int", PG_I64}, {"byte", PG_U8}};
  for (int d = 0; d < PG_NDTYPES; d++)
    if (strcmp(name, pg_dtype_name((pg_dtype)d)) == 0) return d;
  for (size_t i = 0; i < sizeof alias / sizeof *alias; i++)
    if (strcmp(name, alias[i].name) == 0) return alias[i].dtype;
  return -1;
}

/* Number of `word` among choices "a|b|c", or -1. */
static int word_number(const char *choices, const char *word) {
  size_t n = strlen(word);
  int k = 0;
  for (const char *s = choices; s; k++) {
    size_t len = strcspn(s, "|");
    if (len == n && memcmp(s, word, n) == 0) return k;
    s = s[len] ? s + len + 1 : NULL;
  }
  return -1;
}

static bool to_integer(lua_State *L, int idx, int64_t *out) {
  int ok;
  if (lua_type(L, idx) != LUA_TNUMBER) return false;
  *out = lua_tointegerx(L, idx, &ok);
  return ok;
}

static bool wrong(lua_State *L, pgl_args *a, const pg_param *p, const char *expected, int idx) {
  char buf[240];
  return fail(a, "argument '%s': expected %s, got %s", p->name, expected,
              given(L, idx, buf, sizeof buf));
}

/* Reads a list of integers from the table at idx into c->ints. */
static bool read_list(lua_State *L, pgl_args *a, const pg_param *p, int idx, pg_call *c,
                      pg_arg *arg) {
  lua_Unsigned n = lua_rawlen(L, idx);
  if (n > (lua_Unsigned)(PG_MAX_INTS - c->nints))
    return fail(a, "argument '%s': expected at most %d integers, got %lld", p->name,
                PG_MAX_INTS - c->nints, (long long)n);
  arg->v = c->ints + c->nints;
  arg->n = (short)n;
  for (lua_Unsigned i = 1; i <= n; i++) {
    lua_rawgeti(L, idx, (lua_Integer)i);
    int64_t v = 0;
    bool ok = to_integer(L, -1, &v) || wrong(L, a, p, "integers", -1);
    lua_pop(L, 1);
    if (!ok) return false;
    c->ints[c->nints++] = v;
  }
  return true;
}

/* PG_INTS and PG_SHAPE. *used: positions taken. */
static bool read_ints(lua_State *L, pgl_args *a, const pg_param *p, int idx, int last, pg_call *c,
                      pg_arg *arg, int *used) {
  int64_t i;
  arg->s = NULL;
  arg->n = 0;
  if (lua_type(L, idx) == LUA_TTABLE) return read_list(L, a, p, idx, c, arg);
  if (lua_type(L, idx) == LUA_TSTRING && p->choices &&
      word_number(p->choices, lua_tostring(L, idx)) >= 0) {
    arg->s = lua_tostring(L, idx);
    return true;
  }
  if (!to_integer(L, idx, &i)) {
    char expected[120];
    snprintf(expected, sizeof expected, "an integer or a list of integers%s%s",
             p->choices ? " or one of " : "", p->choices ? p->choices : "");
    return wrong(L, a, p, expected, idx);
  }
  arg->v = c->ints + c->nints;
  do {
    if (!to_integer(L, idx, &i)) return wrong(L, a, p, "an integer", idx);
    if (c->nints == PG_MAX_INTS)
      return fail(a, "argument '%s': expected at most %d integers, got more", p->name, PG_MAX_INTS);
    c->ints[c->nints++] = i;
    arg->n++;
    idx++;
  } while (p->kind == PG_SHAPE && idx <= last);
  *used = arg->n;
  return true;
}

/* Reads the value at idx for parameter p; positions end at last. *used: positions taken. */
static bool read_arg(lua_State *L, pgl_args *a, const pg_param *p, int idx, int last, pg_call *c,
                     pg_arg *arg, int *used) {
  *used = 1;
  arg->set = true;
  switch (p->kind) {
  case PG_FLOAT: {
    pgl_box *b = pgl_to_box(L, idx);
    if (lua_type(L, idx) == LUA_TNUMBER) {
      arg->f = lua_tonumber(L, idx);
      arg->is_int = lua_isinteger(L, idx);
    } else if ((p->flags & PG_NUMBER) && lua_isboolean(L, idx)) {
      arg->f = lua_toboolean(L, idx);
      arg->is_int = arg->is_bool = true;
    } else if (b && b->t && pg_numel(b->t) == 1 && b->t->storage->device == PG_HOST) {
      pgl_spoil(a->st);
      arg->f = pg_item_f64(b->t);
      arg->is_int = !pg_is_float((pg_dtype)b->t->dtype);
    } else {
      return wrong(L, a, p, "a number", idx);
    }
    return true;
  }
  case PG_INT:
  case PG_DIM:
    return to_integer(L, idx, &arg->i) || wrong(L, a, p, "an integer", idx);
  case PG_FLAG:
    if (!lua_isboolean(L, idx)) return wrong(L, a, p, "true or false", idx);
    arg->i = lua_toboolean(L, idx);
    return true;
  case PG_ENUM: {
    int k = lua_type(L, idx) == LUA_TSTRING ? word_number(p->choices, lua_tostring(L, idx)) : -1;
    char expected[200];
    snprintf(expected, sizeof expected, "one of %s", p->choices);
    if (k < 0) return wrong(L, a, p, expected, idx);
    arg->i = k;
    return true;
  }
  case PG_DTYPE: {
    int d = lua_type(L, idx) == LUA_TSTRING ? pgl_dtype(lua_tostring(L, idx)) : -1;
    if (d < 0) return wrong(L, a, p, "a dtype such as \"float32\"", idx);
    arg->i = d;
    return true;
  }
  case PG_STRING:
    if (lua_type(L, idx) != LUA_TSTRING) return wrong(L, a, p, "a string", idx);
    arg->s = lua_tostring(L, idx);
    return true;
  default:
    return read_ints(L, a, p, idx, last, c, arg, used);
  }
}

static bool read_tensor(lua_State *L, pgl_args *a, const pg_param *p, int idx, int i, pg_call *c) {
  pgl_box *b = pgl_to_box(L, idx);
  if (b) {
    if (!b->t)
      return fail(a, "argument '%s': expected a tensor, got one that was released%s", p->name,
                  b->by_scope ? " when its scope closed" : "");
    c->in[i] = b->t;
    if (!a->tensor_at) a->tensor_at = idx;
    return true;
  }
  int type = lua_type(L, idx);
  if ((p->flags & PG_NUMBER) && (type == LUA_TNUMBER || type == LUA_TBOOLEAN)) {
    bool number = type == LUA_TNUMBER;
    pg_status s =
        pg_tensor_number(a->st->ctx, number ? lua_tonumber(L, idx) : lua_toboolean(L, idx),
                         !number || lua_isinteger(L, idx), &a->owned[i]);
    if (s != PG_OK) return fail(a, "out of memory");
    a->owned[i]->is_bool_number = !number;
    c->in[i] = a->owned[i];
    return true;
  }
  return wrong(L, a, p, p->flags & PG_NUMBER ? "a tensor or a number" : "a tensor", idx);
}

/* A PG_TENSORS parameter: a table of tensors. Pushes the array that holds them. */
static bool read_tensors(lua_State *L, pgl_args *a, const pg_param *p, int idx, pg_call *c) {
  if (lua_type(L, idx) != LUA_TTABLE) return wrong(L, a, p, "a list of tensors", idx);
  lua_Unsigned n = lua_rawlen(L, idx);
  if (n > 65536)
    return fail(a, "argument '%s': expected at most 65536 tensors, got %lld", p->name,
                (long long)n);
  a->list = lua_newuserdatauv(L, sizeof *a->list * (size_t)(n ? n : 1), 0);
  for (lua_Unsigned i = 0; i < n; i++) {
    lua_rawgeti(L, idx, (lua_Integer)i + 1);
    pgl_box *b = pgl_to_box(L, -1);
    char expected[40];
    snprintf(expected, sizeof expected, "a tensor at %d", (int)i + 1);
    bool ok = (b && b->t) || wrong(L, a, p, expected, -1);
    lua_pop(L, 1);
    if (!ok) return false;
    a->list[i] = b->t;
  }
  c->in = a->list;
  c->nin = (int)n;
  return true;
}

/* Is the table at idx one of options, rather than a value for the position it stands at? */
static bool is_options(lua_State *L, int idx, const pg_param *param, int position) {
  if (lua_type(L, idx) != LUA_TTABLE || lua_rawlen(L, idx) > 0) return false;
  lua_pushnil(L);
  if (lua_next(L, idx)) {
    bool word = lua_type(L, -2) == LUA_TSTRING;
    lua_pop(L, 2);
    return word;
  }
  for (const pg_param *p = param; p->kind != PG_END; p++) /* {}: an empty list, or no options */
    if (position-- == 0) return p->kind != PG_INTS && p->kind != PG_SHAPE && p->kind != PG_TENSORS;
  return true;
}

/* "unknown option 'bais', did you mean 'bias'?; options are .." */
static bool unknown(pgl_args *a, const char *key, const char *const *names, int n) {
  const char *near = pgl_nearest(key, names, n);
  char list[400] = "";
  size_t at = 0;
  for (int i = 0; i < n && at < sizeof list; i++)
    at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", names[i]);
  return fail(a, "unknown option '%.60s'%s%s%s; options are %s", key,
              near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "",
              n ? list : "none");
}

/* Every key of the options table must be a parameter (not given by position) or an extra. */
static bool check_options(lua_State *L, pgl_args *a, const pg_param *param, int by_position) {
  const char *names[PG_MAX_PARAM + 8];
  int n = 0;
  for (const pg_param *p = param; p->kind != PG_END; p++) names[n++] = p->name;
  for (const char *const *e = a->extra; e && *e && n < PG_MAX_PARAM + 8; e++) names[n++] = *e;
  bool ok = true;
  lua_pushnil(L);
  while (ok && lua_next(L, a->options)) {
    const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
    int k = 0;
    while (key && k < n && strcmp(names[k], key) != 0) k++;
    if (!key) {
      ok = fail(a, "options: expected names as keys, got a %s", luaL_typename(L, -2));
    } else if (k == n) {
      ok = unknown(a, key, names, n);
    } else if (k < by_position) {
      ok = fail(a, "argument '%s': expected it once, got it by position and by name", key);
    }
    lua_pop(L, ok ? 1 : 2);
  }
  return ok;
}

/* What a parameter takes, in the words of a message. */
static const char *kind_words(const pg_param *p) {
  switch (p->kind) {
  case PG_TENSOR:
    return p->flags & PG_NUMBER ? "a tensor or a number" : "a tensor";
  case PG_TENSORS:
    return "a list of tensors";
  case PG_INTS:
  case PG_SHAPE:
    return "integers";
  case PG_INT:
  case PG_DIM:
    return "an integer";
  case PG_FLOAT:
    return "a number";
  case PG_FLAG:
    return "true or false";
  case PG_DTYPE:
    return "a dtype such as \"float32\"";
  default:
    return "a string";
  }
}

static bool parse(lua_State *L, pgl_args *a, int first, const pg_param *param, pg_call *c) {
  int last = a->last;
  a->options = 0;
  if (last >= first && is_options(L, last, param, last - first)) a->options = last--;
  int at = first, tensors = 0, args = 0, by_position = 0;
  for (const pg_param *p = param; p->kind != PG_END; p++) {
    int idx = 0, used = 1;
    bool by_name = false, tensor = p->kind == PG_TENSOR || p->kind == PG_TENSORS, ok = true;
    if (at <= last) {
      idx = at;
      by_position++;
    } else if (a->options) {
      lua_pushstring(L, p->name);
      lua_rawget(L, a->options);
      idx = lua_gettop(L);
      by_name = true;
    }
    if (!idx || lua_isnil(L, idx)) {
      if (p->kind == PG_TENSORS) c->nin = 0;
      if (!(p->flags & (PG_OPTIONAL | PG_DEFAULT)))
        ok = fail(a, "argument '%s': expected %s, got nothing", p->name, kind_words(p));
    } else if (p->kind == PG_TENSORS) {
      ok = read_tensors(L, a, p, idx, c);
      if (ok && by_name) lua_remove(L, idx);
      by_name = by_name && !ok;
    } else if (tensor) {
      ok = read_tensor(L, a, p, idx, tensors, c);
    } else {
      ok = read_arg(L, a, p, idx, by_name ? idx : last, c, &c->arg[args], &used);
    }
    if (by_name) lua_pop(L, 1);
    if (!ok) return false;
    if (at <= last) at += used;
    if (tensor) tensors++;
    else args++;
  }
  if (at <= last) {
    int n = 0;
    for (const pg_param *p = param; p->kind != PG_END; p++) n++;
    return fail(a, "expected at most %d arguments, got %d", n, last - first + 1);
  }
  return !a->options || check_options(L, a, param, by_position);
}

/* The number at idx as a tensor that the state owns; NULL while a graph holds that. */
static pg_tensor *number_at(lua_State *L, pgl_state *st, int idx) {
  pg_tensor *t = &st->number;
  if (t->refs != 1 || st->number_storage.refs != 1) return NULL;
  t->dtype = PG_F64;
  t->is_int_number = lua_isinteger(L, idx);
  st->number_value = lua_tonumber(L, idx);
  return t;
}

bool pgl_take_tensors(lua_State *L, pgl_args *a, const pg_param *param, pg_call *c) {
  int n = a->last;
  if (n < 1 || n > PG_MAX_IN) return false;
  pg_tensor *in[PG_MAX_IN];
  int number = 0;
  for (int i = 0; i < n; i++) {
    if (param[i].kind != PG_TENSOR) return false;
    pgl_box *b = pgl_to_box(L, i + 1);
    in[i] = b ? b->t : NULL;
    if (in[i]) continue;
    if (i != 1 || n != 2 || !(param[i].flags & PG_NUMBER) || lua_type(L, 2) != LUA_TNUMBER)
      return false;
    number = i;
  }
  for (const pg_param *p = param + n; p->kind != PG_END; p++)
    if (!(p->flags & (PG_OPTIONAL | PG_DEFAULT)) || p->kind == PG_TENSORS) return false;
  if (number) {
    in[number] = number_at(L, a->st, number + 1);
    if (!in[number]) return false;
  }
  for (int i = 0; i < n; i++) c->in[i] = in[i];
  a->tensor_at = 1;
  return true;
}

bool pgl_parse(lua_State *L, pgl_args *a, int first, const pg_param *param, pg_call *c) {
  if (parse(L, a, first, param, c)) return true;
  pgl_args_free(a);
  return false;
}

void pgl_args_free(pgl_args *a) {
  for (int i = 0; i < PG_MAX_IN; i++) {
    if (!a->owned[i]) continue;
    pg_tensor_unref(a->owned[i]);
    a->owned[i] = NULL;
  }
}

void pgl_defaults(pg_call *c, pg_ctx *ctx, const pg_param *param) {
  pg_op op = {0};
  for (int i = 0; i < PG_MAX_PARAM && param[i].kind != PG_END; i++) op.param[i] = param[i];
  pg_call_init(c, ctx, &op);
  c->op = NULL;
}

/* Key of the function at the top in the table below it; pushed where found. [-0, +0|1] */
static const char *key_of_top(lua_State *L) {
  if (lua_type(L, -2) != LUA_TTABLE) return NULL;
  lua_pushnil(L);
  while (lua_next(L, -3)) {
    bool same = lua_rawequal(L, -1, -3);
    lua_pop(L, 1);
    if (same && lua_type(L, -1) == LUA_TSTRING) return lua_tostring(L, -1);
  }
  return NULL;
}

const char *pgl_fn(lua_State *L) {
  lua_Debug at;
  if (!lua_getstack(L, 0, &at)) return "?";
  luaL_checkstack(L, 8, NULL);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield(L, -1, "perigee.core");
  lua_getinfo(L, "nf", &at);
  const char *name = key_of_top(L);
  if (!name && lua_type(L, -2) == LUA_TTABLE) {
    lua_getfield(L, -2, "Tensor");
    lua_insert(L, -2);
    name = key_of_top(L);
  }
  if (name) return name;
  if (!at.name) return "?";
  return strcmp(at.namewhat, "metamethod") != 0 ? at.name
         : strcmp(at.name, "index") == 0        ? "indexing"
         : strcmp(at.name, "newindex") == 0     ? "assignment"
                                                : at.name;
}

int pgl_wrong(lua_State *L, const char *what, const char *expected, int idx) {
  char got[240];
  given(L, idx, got, sizeof got);
  return luaL_error(L, "%s: argument '%s': expected %s, got %s", pgl_fn(L), what, expected, got);
}

lua_Integer pgl_integer(lua_State *L, int idx, const char *what) {
  int64_t v = 0;
  if (!to_integer(L, idx, &v)) pgl_wrong(L, what, "an integer", idx);
  return v;
}

lua_Number pgl_number(lua_State *L, int idx, const char *what) {
  if (lua_type(L, idx) != LUA_TNUMBER) pgl_wrong(L, what, "a number", idx);
  return lua_tonumber(L, idx);
}

const char *pgl_given(lua_State *L, int idx) {
  char got[240];
  return lua_pushstring(L, given(L, idx, got, sizeof got));
}

const char *pgl_string(lua_State *L, int idx, const char *what, size_t *n) {
  if (lua_type(L, idx) != LUA_TSTRING) pgl_wrong(L, what, "a string", idx);
  return lua_tolstring(L, idx, n);
}

void pgl_table(lua_State *L, int idx, const char *what) {
  if (lua_type(L, idx) != LUA_TTABLE) pgl_wrong(L, what, "a table", idx);
}

int pgl_check_shape(lua_State *L, int idx, int64_t *shape) {
  pgl_table(L, idx, "shape");
  lua_Unsigned n = lua_rawlen(L, idx);
  if (n > PG_MAX_DIMS)
    luaL_error(L, "%s: argument 'shape': expected at most %d dims, got %d", pgl_fn(L), PG_MAX_DIMS,
               (int)n);
  for (int i = 0; i < (int)n; i++) {
    lua_rawgeti(L, idx, i + 1);
    if (!to_integer(L, -1, &shape[i]) || shape[i] < 0) pgl_wrong(L, "shape", "integers from 0", -1);
    lua_pop(L, 1);
  }
  return (int)n;
}

void pgl_push_arg(lua_State *L, const pg_param *p, const pg_arg *arg) {
  if (!arg->set) {
    lua_pushnil(L);
    return;
  }
  switch (p->kind) {
  case PG_FLOAT:
    if (arg->is_int) lua_pushinteger(L, (lua_Integer)arg->f);
    else lua_pushnumber(L, arg->f);
    break;
  case PG_FLAG:
    lua_pushboolean(L, arg->i != 0);
    break;
  case PG_ENUM: {
    const char *s = p->choices;
    for (int64_t k = arg->i; k > 0; k--) s += strcspn(s, "|") + 1;
    lua_pushlstring(L, s, strcspn(s, "|"));
    break;
  }
  case PG_DTYPE:
    lua_pushstring(L, pg_dtype_name((pg_dtype)arg->i));
    break;
  case PG_STRING:
    lua_pushstring(L, arg->s);
    break;
  case PG_INTS:
  case PG_SHAPE:
    if (arg->s) {
      lua_pushstring(L, arg->s);
    } else if (arg->n == 1 && p->kind == PG_INTS) {
      lua_pushinteger(L, arg->v[0]);
    } else {
      lua_createtable(L, arg->n, 0);
      for (int i = 0; i < arg->n; i++) {
        lua_pushinteger(L, arg->v[i]);
        lua_rawseti(L, -2, i + 1);
      }
    }
    break;
  default:
    lua_pushinteger(L, arg->i);
  }
}

void pgl_push_params(lua_State *L, const pg_param *param) {
  static const char *const kinds[] = {
      [PG_TENSOR] = "tensor", [PG_TENSORS] = "tensors", [PG_FLOAT] = "number",
      [PG_INT] = "integer",   [PG_FLAG] = "boolean",    [PG_ENUM] = "word",
      [PG_DIM] = "dim",       [PG_INTS] = "integers",   [PG_SHAPE] = "shape",
      [PG_DTYPE] = "dtype",   [PG_STRING] = "string"};
  lua_newtable(L);
  int i = 1;
  for (const pg_param *p = param; p->kind != PG_END; p++, i++) {
    lua_createtable(L, 0, 6);
    lua_pushstring(L, p->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, kinds[p->kind]);
    lua_setfield(L, -2, "kind");
    lua_pushboolean(L, (p->flags & (PG_OPTIONAL | PG_DEFAULT)) != 0);
    lua_setfield(L, -2, "optional");
    if (p->choices) {
      lua_pushstring(L, p->choices);
      lua_setfield(L, -2, "choices");
    }
    if (p->flags & PG_DEFAULT) {
      int64_t one = (int64_t)p->def;
      pg_arg arg = {.set = true, .n = 1};
      arg.is_int = p->def == (double)one;
      if (p->kind == PG_FLOAT) arg.f = p->def;
      else if (p->kind == PG_INTS || p->kind == PG_SHAPE) arg.v = &one;
      else arg.i = one;
      pgl_push_arg(L, p, &arg);
      lua_setfield(L, -2, "default");
    }
    lua_rawseti(L, -2, i);
  }
}
