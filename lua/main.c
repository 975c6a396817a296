/* The command `perigee`: runs scripts and -e chunks, else the REPL of perigee.repl with libedit's
 * lines. Sets package.path and package.cpath to the build tree or to where it is installed.
 * Relies on liblua. Spec: spec/command_spec.lua. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(PG_HAVE_EDITLINE)
#include <editline/readline.h>
#endif

static lua_State *interrupted;

static void stop_hook(lua_State *L, lua_Debug *ar) {
  (void)ar;
  lua_sethook(L, NULL, 0, 0);
  luaL_error(L, "interrupted!");
}

/* Ctrl-C raises an error in the running chunk; a second one before that ends the process. */
static void on_interrupt(int sig) {
  signal(sig, SIG_DFL);
  lua_sethook(interrupted, stop_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

static int traceback(lua_State *L) {
  const char *message = lua_tostring(L, 1);
  if (!message) message = luaL_tolstring(L, 1, NULL);
  luaL_traceback(L, L, message, 1);
  return 1;
}

/* Calls the function below n arguments; prints an error with traceback. [-(n + 1), +results | 0] */
static int call(lua_State *L, int n, int results) {
  int base = lua_gettop(L) - n;
  lua_pushcfunction(L, traceback);
  lua_insert(L, base);
  interrupted = L;
  signal(SIGINT, on_interrupt);
  int status = lua_pcall(L, n, results, base);
  signal(SIGINT, SIG_DFL);
  lua_remove(L, base);
  if (status != LUA_OK) {
    fprintf(stderr, "perigee: %s\n", lua_tostring(L, -1));
    lua_pop(L, 1);
  }
  return status;
}

/* Puts `dir/what` before package[field]. */
static void prepend(lua_State *L, const char *field, const char *text) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, field);
  lua_pushfstring(L, "%s;%s", text, lua_tostring(L, -1));
  lua_setfield(L, -3, field);
  lua_pop(L, 2);
}

/* The folder of this executable, without a slash at its end; "" if unknown. */
static void own_folder(char *buf, size_t n) {
  ssize_t len = readlink("/proc/self/exe", buf, n - 1);
  buf[len > 0 ? len : 0] = 0;
  char *slash = strrchr(buf, '/');
  if (slash) *slash = 0;
}

static void set_paths(lua_State *L) {
  char here[4096];
  own_folder(here, sizeof here);
  if (strcmp(here, PG_BUILD_DIR) == 0) {
    prepend(L, "path", PG_SOURCE_LUA "/?.lua;" PG_SOURCE_LUA "/?/init.lua");
    prepend(L, "cpath", PG_BUILD_DIR "/lib/?.so");
    return;
  }
  lua_pushfstring(L, "%s/../" PG_INSTALL_SHARE "/?.lua;%s/../" PG_INSTALL_SHARE "/?/init.lua", here,
                  here);
  prepend(L, "path", lua_tostring(L, -1));
  lua_pushfstring(L, "%s/../" PG_INSTALL_LIB "/?.so", here);
  prepend(L, "cpath", lua_tostring(L, -1));
  lua_pop(L, 2);
}

/* --- lines ------------------------------------------------------------------------------------ */

#if defined(PG_HAVE_EDITLINE)
static lua_State *completing;

/* Words from the Lua function `complete(line, word)`, one a call. */
static char *next_word(const char *text, int state) {
  static int at;
  lua_State *L = completing;
  if (state == 0) {
    at = 0;
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    lua_pushstring(L, rl_line_buffer);
    lua_pushstring(L, text);
    if (lua_pcall(L, 2, 1, 0) != LUA_OK || !lua_istable(L, -1)) return NULL;
  }
  if (!lua_istable(L, -1)) return NULL;
  lua_rawgeti(L, -1, ++at);
  const char *word = lua_tostring(L, -1);
  char *copy = word ? strdup(word) : NULL;
  lua_pop(L, 1);
  return copy;
}

static char **complete(const char *text, int start, int end) {
  (void)start;
  (void)end;
  rl_attempted_completion_over = 1;
  return rl_completion_matches(text, next_word);
}

/* set_completion(function(line, word) -> list) */
static int l_set_completion(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  completing = lua_newthread(L);
  lua_setfield(L, LUA_REGISTRYINDEX, "perigee.completing");
  lua_pushvalue(L, 1);
  lua_xmove(L, completing, 1);
  rl_readline_name = "perigee";
  rl_completer_word_break_characters = " \t\n\"'`@$><=;|&{(+-*/^%#~,)}[]";
  rl_attempted_completion_function = complete;
  return 0;
}

/* read_line(prompt) -> text or nil at the end */
static int l_read_line(lua_State *L) {
  char *line = readline(luaL_checkstring(L, 1));
  if (!line) return 0;
  lua_pushstring(L, line);
  free(line);
  return 1;
}

static int l_add_history(lua_State *L) {
  add_history(luaL_checkstring(L, 1));
  return 0;
}

/* load_history(path), save_history(path): a missing file is no error */
static int l_load_history(lua_State *L) {
  using_history();
  stifle_history(2000);
  read_history(luaL_checkstring(L, 1));
  return 0;
}

static int l_save_history(lua_State *L) {
  write_history(luaL_checkstring(L, 1));
  return 0;
}

static const luaL_Reg line_functions[] = {
    {"set_completion", l_set_completion}, {"read_line", l_read_line},
    {"add_history", l_add_history},       {"load_history", l_load_history},
    {"save_history", l_save_history},     {NULL, NULL}};
#else
/* Plain lines: no history, no completion. */
static int l_read_line(lua_State *L) {
  fputs(luaL_checkstring(L, 1), stdout);
  fflush(stdout);
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  int ch, any = 0;
  while ((ch = getchar()) != EOF && ch != '\n') {
    luaL_addchar(&b, (char)ch);
    any = 1;
  }
  luaL_pushresult(&b);
  return any || ch == '\n';
}

static const luaL_Reg line_functions[] = {{"read_line", l_read_line}, {NULL, NULL}};
#endif

/* protect(f, ...) -> true, results | false, message: Ctrl-C interrupts f */
static int l_protect(lua_State *L) {
  interrupted = L;
  signal(SIGINT, on_interrupt);
  lua_pushcfunction(L, traceback);
  lua_insert(L, 1);
  int status = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 1);
  signal(SIGINT, SIG_DFL);
  lua_pushboolean(L, status == LUA_OK);
  lua_replace(L, 1);
  return lua_gettop(L);
}

static int open_lines(lua_State *L) {
  luaL_newlib(L, line_functions);
  lua_pushcfunction(L, l_protect);
  lua_setfield(L, -2, "protect");
  return 1;
}

/* --- the command ------------------------------------------------------------------------------ */

static const char usage[] =
    "usage: perigee [options] [script [args]]\n"
    "  -e CHUNK       runs CHUNK (pg is required already)\n"
    "  -i [MODEL]     the REPL after the script or chunks; a .perigee file is loaded as `model`\n"
    "  -v, --version  version, processor, libraries\n"
    "  -h, --help     this text\n"
    "Without script or -e: the REPL, or a script from standard input where that is no terminal.\n";

static void set_arg(lua_State *L, int argc, char **argv, int script) {
  lua_createtable(L, argc, 1);
  for (int i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i - script);
  }
  lua_setglobal(L, "arg");
}

static int require_global(lua_State *L, const char *module, const char *name) {
  lua_getglobal(L, "require");
  lua_pushstring(L, module);
  if (call(L, 1, 1) != LUA_OK) return 1;
  lua_setglobal(L, name);
  return 0;
}

static int run_chunk(lua_State *L, const char *text) {
  if (require_global(L, "perigee", "pg") != 0) return 1;
  if (luaL_loadbuffer(L, text, strlen(text), "=(command line)") != LUA_OK) {
    fprintf(stderr, "perigee: %s\n", lua_tostring(L, -1));
    lua_pop(L, 1);
    return 1;
  }
  return call(L, 0, 0) != LUA_OK;
}

/* Runs a file (NULL: standard input) with the arguments of `arg`. */
static int run_script(lua_State *L, const char *file) {
  if (luaL_loadfile(L, file) != LUA_OK) {
    fprintf(stderr, "perigee: %s\n", lua_tostring(L, -1));
    lua_pop(L, 1);
    return 1;
  }
  lua_getglobal(L, "arg");
  int n = (int)lua_rawlen(L, -1), table = lua_gettop(L);
  luaL_checkstack(L, n + 3, "too many arguments");
  for (int i = 1; i <= n; i++) lua_rawgeti(L, table, i);
  lua_remove(L, table);
  return call(L, n, 0) != LUA_OK;
}

/* perigee.repl's start(lines, model file or nil) */
static int run_repl(lua_State *L, const char *model) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "perigee.repl");
  if (call(L, 1, 1) != LUA_OK) return 1;
  lua_getfield(L, -1, "start");
  lua_remove(L, -2);
  open_lines(L);
  lua_pushstring(L, model);
  lua_call(L, 2, 0);
  return 0;
}

static int print_version(lua_State *L) {
  static const char chunk[] =
      "local core = require 'perigee.core' local version, blas = core.version()\n"
      "print(('Perigee %s, %s'):format(version, _VERSION))\n"
      "print(('%s, level %s, %d threads'):format(core.processor(), core.isa(), "
      "core.num_threads()))\n"
      "print(blas)";
  if (luaL_loadstring(L, chunk) != LUA_OK) return 1;
  return call(L, 0, 0) != LUA_OK;
}

static int usage_error(const char *what, const char *text) {
  fprintf(stderr, "perigee: %s%s\n%s", what, text, usage);
  return 1;
}

typedef struct command {
  int argc, status;
  char **argv;
} command;

static int perform(lua_State *L) {
  command *cmd = lua_touserdata(L, 1);
  char **argv = cmd->argv;
  int i = 1, did = 0, repl = 0;
  const char *model = NULL;
  luaL_openlibs(L);
  set_paths(L);
  lua_warning(L, "@on", 0);
  int script = 1;
  while (script < cmd->argc && argv[script][0] == '-' && argv[script][1]) {
    if (strcmp(argv[script], "-e") == 0) script++;
    if (strcmp(argv[script], "-i") == 0 && script + 1 < cmd->argc &&
        strstr(argv[script + 1], ".perigee"))
      script++;
    if (script < cmd->argc) script++;
  }
  set_arg(L, cmd->argc, argv, script < cmd->argc ? script : 0);
  cmd->status = 0;
  for (; i < cmd->argc && argv[i][0] == '-' && argv[i][1]; i++) {
    const char *a = argv[i];
    if (strcmp(a, "-e") == 0) {
      if (++i == cmd->argc) return cmd->status = usage_error("-e needs a chunk", ""), 0;
      if ((cmd->status = run_chunk(L, argv[i])) != 0) return 0;
      did = 1;
    } else if (strcmp(a, "-i") == 0) {
      repl = 1;
      if (i + 1 < cmd->argc && strstr(argv[i + 1], ".perigee")) model = argv[++i];
    } else if (strcmp(a, "-v") == 0 || strcmp(a, "--version") == 0) {
      if ((cmd->status = print_version(L)) != 0) return 0;
      did = 1;
    } else if (strcmp(a, "-h") == 0 || strcmp(a, "--help") == 0) {
      fputs(usage, stdout);
      did = 1;
    } else {
      return cmd->status = usage_error("unknown option ", a), 0;
    }
  }
  if (i < cmd->argc) {
    cmd->status = run_script(L, strcmp(argv[i], "-") == 0 ? NULL : argv[i]);
    did = 1;
    if (cmd->status) return 0;
  }
  if (repl || (!did && isatty(STDIN_FILENO))) cmd->status = run_repl(L, model);
  else if (!did) cmd->status = run_script(L, NULL);
  return 0;
}

int main(int argc, char **argv) {
  lua_State *L = luaL_newstate();
  if (!L) {
    fputs("perigee: out of memory\n", stderr);
    return 1;
  }
  lua_gc(L, LUA_GCGEN, 0, 0);
  command cmd = {argc, 1, argv};
  lua_pushcfunction(L, perform);
  lua_pushlightuserdata(L, &cmd);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
    fprintf(stderr, "perigee: %s\n", lua_tostring(L, -1));
    cmd.status = 1;
  }
  lua_close(L);
  return cmd.status;
}
