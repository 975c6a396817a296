/* core.io: files of tensors by format, pictures, folders, and JSON text. What the world may refuse
 * gives nil and a message; misuse raises. Relies on pgl.h, io/io.h, io/image.h and cJSON.
 * Spec: spec/binding/io_spec.lua, spec/io/image_spec.lua. */
#include "io/io.h"

#include <cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/image.h"
#include "pgl.h"

#define JSON_DEPTH 200

static const char *const bundle_type = "perigee.bundle", *const tree_type = "perigee.json";

/* --- files of tensors --------------------------------------------------------------------------
 */
static int bundle_gc(lua_State *L) {
  pg_bundle *b = luaL_checkudata(L, 1, bundle_type);
  if (b->ctx != NULL) pg_bundle_clear(b);
  return 0;
}

/* [-0, +1] An empty bundle that the collector clears. */
static pg_bundle *new_bundle(lua_State *L) {
  pg_bundle *b = lua_newuserdatauv(L, sizeof *b, 0);
  *b = pg_bundle_empty(pgl_ctx(L));
  luaL_setmetatable(L, bundle_type);
  return b;
}

/* A string without zero bytes, which a path or a name cannot hold. */
static const char *check_text(lua_State *L, const char *fn, int idx, const char *what) {
  size_t n;
  const char *text = lua_type(L, idx) == LUA_TSTRING ? lua_tolstring(L, idx, &n) : NULL;
  if (text == NULL) {
    luaL_error(L, "%s: argument '%s': expected a string, got %s", fn, what, pgl_given(L, idx));
  }
  if (strlen(text) != n)
    luaL_error(L, "%s: argument '%s': expected a string without zero bytes, got one", fn, what);
  return text;
}

/* The format named at idx, or the one that path's ending tells. */
static pg_status find_format(lua_State *L, const char *fn, int idx, const char *path,
                             const pg_format **format) {
  if (lua_isnoneornil(L, idx)) return pg_format_for(pgl_ctx(L), path, format);
  const char *name = check_text(L, fn, idx, "format");
  *format = pg_format_find(name);
  if (*format != NULL) return PG_OK;
  const char *names[32];
  int n = 0;
  for (const pg_format *f; n < 32 && (f = pg_format_at(n)) != NULL;) names[n++] = f->name;
  const char *near = pgl_nearest(name, names, n);
  luaL_error(L, "%s: argument 'format': expected the name of a format, got '%s'%s%s%s", fn, name,
             near != NULL ? ", did you mean '" : "", near != NULL ? near : "",
             near != NULL ? "'?" : "");
  return PG_EARG;
}

/* nil and the core's message. */
static int refuse(lua_State *L) {
  lua_pushnil(L);
  lua_pushstring(L, pg_error(pgl_ctx(L)));
  return 2;
}

static int raise(lua_State *L, const char *fn) {
  return luaL_error(L, "%s: %s", fn, pg_error(pgl_ctx(L)));
}

static void push_tensor(lua_State *L, pg_tensor *t) {
  pgl_box *box = pgl_box_new(L, true);
  box->t = pg_tensor_ref(t);
}

/* load(path [, format]) -> a tensor or a table of tensors by name; table of the file's notes */
static int l_load(lua_State *L) {
  const char *path = check_text(L, "load", 1, "path");
  pgl_state *st = pgl_state_of(L);
  const pg_format *format;
  if (find_format(L, "load", 2, path, &format) != PG_OK) return refuse(L);
  pg_bundle *b = new_bundle(L);
  pg_status s = pg_load(st->ctx, format, path, b);
  if (s == PG_ENOMEM && !st->injecting) {
    pg_bundle_clear(b);
    lua_gc(L, LUA_GCCOLLECT);
    s = pg_load(st->ctx, format, path, b);
  }
  if (s != PG_OK) {
    pg_bundle_clear(b);
    return s == PG_ENOMEM ? raise(L, "load") : refuse(L);
  }
  if (b->single) {
    push_tensor(L, b->entry[0].tensor);
  } else {
    lua_createtable(L, 0, b->n);
    for (int i = 0; i < b->n; i++) {
      push_tensor(L, b->entry[i].tensor);
      lua_setfield(L, -2, b->entry[i].name);
    }
  }
  lua_createtable(L, 0, b->nnotes);
  for (int i = 0; i < b->nnotes; i++) {
    lua_pushstring(L, b->note[i].value);
    lua_setfield(L, -2, b->note[i].key);
  }
  pg_bundle_clear(b);
  pgl_pressure(L, st);
  return 2;
}

static int compare_names(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* [-0, +1] The keys of the table at idx, sorted, as an array of n C strings in a userdata; they
 * live as long as the table does. what: for messages. */
static const char **sorted_keys(lua_State *L, const char *fn, int idx, const char *what,
                                size_t *n) {
  *n = 0;
  lua_pushnil(L);
  while (lua_next(L, idx) != 0) {
    if (lua_type(L, -2) != LUA_TSTRING) {
      luaL_error(L, "%s: %s have string keys, got a key of type %s", fn, what,
                 luaL_typename(L, -2));
    }
    check_text(L, fn, lua_gettop(L) - 1, what);
    ++*n;
    lua_pop(L, 1);
  }
  const char **keys = lua_newuserdatauv(L, (*n + 1) * sizeof *keys, 0);
  size_t k = 0;
  lua_pushnil(L);
  while (lua_next(L, idx) != 0) {
    keys[k++] = lua_tostring(L, -2);
    lua_pop(L, 1);
  }
  if (*n > 1) qsort(keys, *n, sizeof *keys, compare_names);
  return keys;
}

static void add_tensors(lua_State *L, int idx, pg_bundle *b) {
  pgl_box *box = pgl_to_box(L, idx);
  if (box != NULL) {
    b->single = true;
    pgl_check(L, pg_bundle_add(b, "", pgl_check_tensor(L, idx)));
  } else if (!lua_istable(L, idx)) {
    luaL_error(L, "save: argument 'value': expected a tensor or a table of tensors, got %s",
               luaL_typename(L, idx));
  } else {
    size_t n;
    const char **keys = sorted_keys(L, "save", idx, "tables of tensors", &n);
    for (size_t i = 0; i < n; i++) {
      lua_getfield(L, idx, keys[i]);
      if (pgl_to_box(L, -1) == NULL) {
        luaL_error(L, "save: argument 'value': expected tensors, got %s at '%s'",
                   luaL_typename(L, -1), keys[i]);
      }
      pgl_check(L, pg_bundle_add(b, keys[i], pgl_check_tensor(L, -1)));
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  for (int i = 0; i < b->n; i++) {
    if (b->entry[i].tensor->storage->device != PG_HOST) {
      luaL_error(L, "save: '%s' has a shape but no data", b->entry[i].name);
    }
  }
}

static void add_notes(lua_State *L, int idx, pg_bundle *b) {
  if (lua_isnoneornil(L, idx)) return;
  luaL_checktype(L, idx, LUA_TTABLE);
  size_t n;
  const char **keys = sorted_keys(L, "save", idx, "metadata", &n);
  for (size_t i = 0; i < n; i++) {
    lua_getfield(L, idx, keys[i]);
    const char *value = check_text(L, "save", lua_gettop(L), keys[i]);
    pgl_check(L, pg_bundle_note(b, keys[i], value));
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* save(path, tensor or table of tensors [, metadata [, format]]) -> true */
static int l_save(lua_State *L) {
  lua_settop(L, 4);
  const char *path = check_text(L, "save", 1, "path");
  pgl_state *st = pgl_state_of(L);
  const pg_format *format;
  if (find_format(L, "save", 4, path, &format) != PG_OK) return raise(L, "save");
  pg_bundle *b = new_bundle(L);
  add_tensors(L, 2, b);
  add_notes(L, 3, b);
  pg_status s = pg_save(st->ctx, format, path, b);
  if (s == PG_ENOMEM && !st->injecting) {
    lua_gc(L, LUA_GCCOLLECT);
    s = pg_save(st->ctx, format, path, b);
  }
  pg_bundle_clear(b);
  if (s == PG_EIO) return refuse(L);
  if (s != PG_OK) return raise(L, "save");
  lua_pushboolean(L, 1);
  return 1;
}

/* idx(path) -> a tensor: load with the format given, whatever the file's name */
static int l_idx(lua_State *L) {
  lua_settop(L, 1);
  lua_pushliteral(L, "idx");
  int n = l_load(L);
  if (n == 2 && !lua_isnil(L, -2)) {
    lua_pop(L, 1);
    n = 1;
  }
  return n;
}

/* image(path [, channels [, limit]]) -> uint8, channels x height x width; channels 0: the file's */
static int l_image(lua_State *L) {
  const char *path = check_text(L, "image", 1, "path");
  pgl_state *st = pgl_state_of(L);
  int channels = (int)luaL_optinteger(L, 2, 0);
  int64_t limit = luaL_optinteger(L, 3, PG_IMAGE_LIMIT);
  lua_settop(L, 1);
  pgl_box *box = pgl_box_new(L, true);
  pg_status s = pg_image_read(st->ctx, path, channels, limit, &box->t);
  if (s == PG_ENOMEM && !st->injecting) {
    lua_gc(L, LUA_GCCOLLECT);
    s = pg_image_read(st->ctx, path, channels, limit, &box->t);
  }
  if (s == PG_ENOMEM || s == PG_EARG) return raise(L, "image");
  if (s != PG_OK) return refuse(L);
  pgl_pressure(L, st);
  return 1;
}

static int dir_gc(lua_State *L) {
  DIR **dir = luaL_checkudata(L, 1, "perigee.dir");
  if (*dir != NULL) closedir(*dir);
  *dir = NULL;
  return 0;
}

/* list(folder) -> names of its files, names of its folders, unsorted and without hidden ones */
static int l_list(lua_State *L) {
  const char *path = check_text(L, "list", 1, "path");
  DIR **dir = lua_newuserdatauv(L, sizeof *dir, 0);
  *dir = NULL;
  luaL_setmetatable(L, "perigee.dir");
  *dir = opendir(path);
  if (*dir == NULL) {
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", path, strerror(errno));
    return 2;
  }
  lua_newtable(L);
  lua_newtable(L);
  lua_Integer n[2] = {0, 0};
  const struct dirent *entry;
  while ((entry = readdir(*dir)) != NULL) {
    struct stat st;
    if (entry->d_name[0] == '.') continue;
    if (fstatat(dirfd(*dir), entry->d_name, &st, 0) != 0) continue; /* gone, or a dead link */
    bool folder = S_ISDIR(st.st_mode);
    if (!folder && !S_ISREG(st.st_mode)) continue;
    lua_pushstring(L, entry->d_name);
    lua_rawseti(L, folder ? -2 : -3, ++n[folder]);
  }
  closedir(*dir);
  *dir = NULL;
  return 2;
}

/* formats() -> {{name=, doc=, suffixes="a|b", writes=, metadata=}} */
static int l_formats(lua_State *L) {
  lua_newtable(L);
  const pg_format *f;
  for (int i = 0; (f = pg_format_at(i)) != NULL; i++) {
    lua_createtable(L, 0, 5);
    lua_pushstring(L, f->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, f->doc);
    lua_setfield(L, -2, "doc");
    lua_pushstring(L, f->suffixes);
    lua_setfield(L, -2, "suffixes");
    lua_pushboolean(L, f->save != NULL);
    lua_setfield(L, -2, "writes");
    lua_pushboolean(L, f->notes);
    lua_setfield(L, -2, "metadata");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* --- JSON ---------------------------------------------------------------------------------------
 */
static int tree_gc(lua_State *L) {
  cJSON **tree = luaL_checkudata(L, 1, tree_type);
  cJSON_Delete(*tree);
  *tree = NULL;
  return 0;
}

/* [-0, +1] A place for a tree that the collector deletes. */
static cJSON **new_tree(lua_State *L) {
  cJSON **tree = lua_newuserdatauv(L, sizeof *tree, 0);
  *tree = NULL;
  luaL_setmetatable(L, tree_type);
  return tree;
}

/* The node that stands for a number: integers in full, floats so that they read back the same and
 * are told from integers. */
static cJSON *number_node(lua_State *L, int idx) {
  char text[48];
  if (lua_isinteger(L, idx)) {
    snprintf(text, sizeof text, LUA_INTEGER_FMT, (LUAI_UACINT)lua_tointeger(L, idx));
    return cJSON_CreateRaw(text);
  }
  double v = lua_tonumber(L, idx);
  if (!(v - v == 0)) luaL_error(L, "json_encode: JSON has no %f", v);
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, v);
    if (strtod(text, NULL) == v) break;
  }
  char *point = strpbrk(text, localeconv()->decimal_point);
  if (point != NULL) {
    *point = '.';
  } else if (strpbrk(text, "e") == NULL) {
    strcat(text, ".0");
  }
  return cJSON_CreateRaw(text);
}

/* An empty list carries this metatable, which tells it from an empty table; others may. */
static bool marked_array(lua_State *L, int idx) {
  if (!lua_getmetatable(L, idx)) return false;
  luaL_getmetatable(L, "perigee.json.array");
  bool same = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return same;
}

/* One table on its way into the tree. It stands on the stack at `table`, its sorted keys behind. */
typedef struct frame {
  cJSON *node;
  int table;
  const char **keys; /* NULL: a list */
  size_t i, n;
} frame;

/* [-0, +0 or 2] The node for the value at idx; a table opens a frame at f. Raises. */
static cJSON *node_of(lua_State *L, int idx, frame *f) {
  f->node = NULL;
  switch (lua_type(L, idx)) {
  case LUA_TBOOLEAN:
    return cJSON_CreateBool(lua_toboolean(L, idx));
  case LUA_TNUMBER:
    return number_node(L, idx);
  case LUA_TSTRING: {
    size_t n;
    const char *text = lua_tolstring(L, idx, &n);
    if (!pg_utf8_ok(text, n))
      luaL_error(L, "json_encode: a string is not UTF-8 or holds a zero byte");
    return cJSON_CreateString(text);
  }
  case LUA_TLIGHTUSERDATA:
    if (lua_touserdata(L, idx) == NULL) return cJSON_CreateNull();
    break;
  case LUA_TTABLE: {
    lua_pushvalue(L, idx);
    f->table = lua_gettop(L);
    f->i = 0;
    f->n = (size_t)lua_rawlen(L, f->table);
    f->keys = NULL;
    if (f->n > 0 || marked_array(L, f->table)) {
      size_t count = 0;
      lua_pushnil(L);
      while (lua_next(L, f->table) != 0) {
        if (!lua_isinteger(L, -2)) {
          luaL_error(L, "json_encode: a table has both positions and the key '%s'",
                     luaL_tolstring(L, -2, NULL));
        }
        count++;
        lua_pop(L, 1);
      }
      if (count != f->n) luaL_error(L, "json_encode: a list has holes");
      lua_pushnil(L); /* where keys would be */
      return f->node = cJSON_CreateArray();
    }
    f->keys = sorted_keys(L, "json_encode", f->table, "tables without positions", &f->n);
    for (size_t i = 0; i < f->n; i++) {
      if (!pg_utf8_ok(f->keys[i], strlen(f->keys[i]))) {
        luaL_error(L, "json_encode: a key is not UTF-8");
      }
    }
    return f->node = cJSON_CreateObject();
  }
  default:
    break;
  }
  luaL_error(L, "json_encode: JSON has no %s", luaL_typename(L, idx));
  return NULL;
}

static int no_memory(lua_State *L, const char *fn) {
  return luaL_error(L, "%s: out of memory", fn);
}

/* json_encode(value [, pretty]) -> text. Tables with positions are lists, others objects. */
static int l_json_encode(lua_State *L) {
  luaL_checkany(L, 1);
  bool pretty = lua_toboolean(L, 2);
  lua_settop(L, 1);
  cJSON **tree = new_tree(L);
  frame stack[JSON_DEPTH + 1];
  int depth = 0;
  luaL_checkstack(L, 3 * JSON_DEPTH + 20, "json_encode");
  *tree = node_of(L, 1, &stack[0]);
  if (*tree == NULL) return no_memory(L, "json_encode");
  if (stack[0].node != NULL) depth = 1;
  while (depth > 0) {
    frame *f = &stack[depth - 1];
    if (f->i == f->n) {
      lua_settop(L, f->table - 1);
      depth--;
      continue;
    }
    const char *key = f->keys != NULL ? f->keys[f->i++] : NULL;
    if (key != NULL) {
      lua_getfield(L, f->table, key);
    } else {
      lua_rawgeti(L, f->table, (lua_Integer)++f->i);
    }
    int value = lua_gettop(L);
    cJSON *node = node_of(L, value, &stack[depth]);
    bool added = node != NULL && (key != NULL ? cJSON_AddItemToObject(f->node, key, node)
                                              : cJSON_AddItemToArray(f->node, node));
    if (!added) {
      cJSON_Delete(node);
      return no_memory(L, "json_encode");
    }
    if (stack[depth].node != NULL) {
      if (depth == JSON_DEPTH) {
        return luaL_error(L, "json_encode: deeper than %d tables", JSON_DEPTH);
      }
      stack[depth].table = value; /* the copy and its keys move down over the value */
      lua_remove(L, value);
      depth++;
    } else {
      lua_settop(L, value - 1);
    }
  }
  char *text = pretty ? cJSON_Print(*tree) : cJSON_PrintUnformatted(*tree);
  if (text == NULL) return no_memory(L, "json_encode");
  cJSON_Delete(*tree);
  *tree = cJSON_CreateString(""); /* now owns the text, should the push below throw */
  if (*tree == NULL) {
    cJSON_free(text);
    return no_memory(L, "json_encode");
  }
  cJSON_free((*tree)->valuestring);
  (*tree)->valuestring = text;
  lua_pushstring(L, text);
  return 1;
}

/* The next number of a valid JSON text, from *at on, copied to out; strings are skipped. cJSON
 * keeps numbers as doubles only, and visits them in this order. */
static void next_number(const char **at, char *out, size_t room) {
  const char *p = *at;
  while (*p != '-' && (*p < '0' || *p > '9')) {
    if (*p++ != '"') continue;
    for (; *p != '"'; p++) p += *p == '\\';
    p++;
  }
  size_t n = strspn(p, "+-.eE0123456789");
  *at = p + n;
  if (n >= room) n = room - 1;
  memcpy(out, p, n);
  out[n] = 0;
}

/* [-0, +1] A leaf of the tree, or a fresh table for a list or an object. */
static void push_node(lua_State *L, const cJSON *j, const char **at) {
  if (cJSON_IsNumber(j)) {
    char text[80];
    next_number(at, text, sizeof text);
    if (lua_stringtonumber(L, text) == 0) lua_pushnumber(L, j->valuedouble);
  } else if (cJSON_IsString(j)) {
    lua_pushstring(L, j->valuestring);
  } else if (cJSON_IsBool(j)) {
    lua_pushboolean(L, cJSON_IsTrue(j));
  } else if (cJSON_IsNull(j)) {
    lua_pushlightuserdata(L, NULL);
  } else {
    lua_newtable(L);
    if (cJSON_IsArray(j) && j->child == NULL) luaL_setmetatable(L, "perigee.json.array");
  }
}

/* What is wrong with the tree, or NULL. Walks without recursion: parents on a stack. */
static const char *check_tree(const cJSON *root) {
  const cJSON *parent[JSON_DEPTH], *j = root;
  int depth = 0;
  while (j != NULL) {
    if (j->child != NULL) {
      if (depth == JSON_DEPTH) return "nested too deeply";
      parent[depth++] = j;
      j = j->child;
      continue;
    }
    while (j->next == NULL && depth > 0) j = parent[--depth];
    j = j->next;
  }
  return NULL;
}

/* Puts the value on top into the table below it. False where the key is there already. */
static bool store(lua_State *L, const cJSON *j, lua_Integer position) {
  if (j->string == NULL) {
    lua_rawseti(L, -2, position);
    return true;
  }
  bool fresh = lua_getfield(L, -2, j->string) == LUA_TNIL;
  lua_pop(L, 1);
  lua_setfield(L, -2, j->string);
  return fresh;
}

static int malformed(lua_State *L, const char *fmt, const char *what) {
  lua_pushnil(L);
  lua_pushfstring(L, fmt, what);
  return 2;
}

/* [-0, +1] The tree as Lua values; false with a repeated key in *twice. */
static bool push_tree(lua_State *L, const cJSON *root, const char *text, const char **twice) {
  const cJSON *parent[JSON_DEPTH], *j = root;
  lua_Integer position[JSON_DEPTH] = {0};
  int depth = 0;
  luaL_checkstack(L, JSON_DEPTH + 10, "json_decode");
  push_node(L, j, &text);
  for (;;) {
    if (j->child != NULL) { /* its table stays on the stack until it is full */
      parent[depth] = j;
      position[depth++] = 0;
      j = j->child;
      push_node(L, j, &text);
      continue;
    }
    for (;;) { /* j is done and on top */
      if (depth == 0) return true;
      if (!store(L, j, ++position[depth - 1])) {
        *twice = j->string;
        return false;
      }
      if (j->next != NULL) break;
      j = parent[--depth];
    }
    j = j->next;
    push_node(L, j, &text);
  }
}

/* json_decode(text) -> value; nil, message where the text is malformed. null is core.io.null. */
static int l_json_decode(lua_State *L) {
  size_t n;
  const char *text = luaL_checklstring(L, 1, &n), *end = NULL;
  lua_settop(L, 1);
  if (!pg_utf8_ok(text, n)) return malformed(L, "JSON: %s", "not UTF-8");
  for (const char *p = text; (p = strchr(p, '\\')) != NULL && p[1] != 0; p += 2) {
    if (strncmp(p, "\\u0000", 6) == 0)
      return malformed(L, "JSON: %s", "a string holds a zero byte");
  }
  cJSON **tree = new_tree(L);
  *tree = cJSON_ParseWithLengthOpts(text, n + 1, &end, 1);
  if (*tree == NULL) {
    lua_pushnil(L);
    lua_pushfstring(L, "JSON: malformed at byte %d", (int)(end == NULL ? 0 : end - text) + 1);
    return 2;
  }
  const char *fault = check_tree(*tree), *twice = NULL;
  if (fault != NULL) return malformed(L, "JSON: %s", fault);
  if (!push_tree(L, *tree, text, &twice))
    return malformed(L, "JSON: the key '%s' occurs twice", twice);
  cJSON_Delete(*tree);
  *tree = NULL;
  return 1;
}

/* array(table) -> the same table, marked as a list for json_encode though it is empty */
static int l_array(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  luaL_setmetatable(L, "perigee.json.array");
  return 1;
}

static void new_type(lua_State *L, const char *name, lua_CFunction gc) {
  luaL_newmetatable(L, name);
  if (gc != NULL) {
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
  }
  lua_pop(L, 1);
}

void pgl_open_io(lua_State *L) {
  static const luaL_Reg functions[] = {{"load", l_load},
                                       {"save", l_save},
                                       {"idx", l_idx},
                                       {"image", l_image},
                                       {"list", l_list},
                                       {"formats", l_formats},
                                       {"array", l_array},
                                       {"json_encode", l_json_encode},
                                       {"json_decode", l_json_decode},
                                       {NULL, NULL}};
  new_type(L, bundle_type, bundle_gc);
  new_type(L, tree_type, tree_gc);
  new_type(L, "perigee.dir", dir_gc);
  new_type(L, "perigee.json.array", NULL);
  luaL_newlib(L, functions);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  lua_setfield(L, -2, "io");
}
