-- The floors of the house, read from the sources: who may include whom, what may stand where.
-- Relies on lfs only, so that it also speaks about a tree that does not build.
-- Sources: everything under core/, lua/, spec/, examples/.

local lfs = require "lfs"

local FLOOR = {
  base = 0, kernels = 1, tensor = 2, autograd = 3, ops = 4,
  nn = 5, optim = 5, data = 5, io = 5, dist = 5,
}

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "a"
  file:close()
  return text
end

-- Every file below a folder whose name ends in one of the suffixes, sorted.
local function files(root, ...)
  local found, stack, suffixes = {}, {root}, {...}
  while #stack > 0 do
    local folder = table.remove(stack)
    if lfs.attributes(folder, "mode") == "directory" then
      for name in lfs.dir(folder) do
        local path = folder .. "/" .. name
        local mode = lfs.attributes(path, "mode")
        if mode == "directory" and not name:find "^%." then stack[#stack + 1] = path end
        for _, suffix in ipairs(suffixes) do
          if mode == "file" and name:sub(-#suffix) == suffix then found[#found + 1] = path end
        end
      end
    end
  end
  table.sort(found)
  return found
end

-- C text without comments and the insides of strings; lines stay where they are.
local function code_of(text)
  local out, at = {}, 1
  while at <= #text do
    local first = text:find('[/"\']', at)
    if not first then
      out[#out + 1] = text:sub(at)
      break
    end
    out[#out + 1] = text:sub(at, first - 1)
    local two = text:sub(first, first + 1)
    if two == "/*" then
      local past = select(2, text:find("*/", first + 2, true)) or #text
      out[#out + 1] = text:sub(first, past):gsub("[^\n]", "")
      at = past + 1
    elseif two == "//" then
      at = text:find("\n", first, true) or #text + 1
    elseif text:sub(first, first) == "/" then
      out[#out + 1] = "/"
      at = first + 1
    else
      local quote = text:sub(first, first)
      local past = first + 1
      while past <= #text and text:sub(past, past) ~= quote do
        past = past + (text:sub(past, past) == "\\" and 2 or 1)
      end
      out[#out + 1] = quote .. quote
      at = past + 1
    end
  end
  return table.concat(out)
end

-- The include lines of a C text: {name, "<" or '"'}.
local function includes(text)
  local found = {}
  for line in text:gmatch "[^\n]+" do
    local open, name = line:match '^%s*#%s*include%s*([<"])([^>"]+)[>"]'
    if name then found[#found + 1] = {name, open} end
  end
  return found
end

-- What is wrong with the includes of a core file, or nil.
local function wrong_include(path, text)
  local room = path:match "^core/([^/]+)/"
  for _, item in ipairs(includes(text)) do
    local name, open = item[1], item[2]
    local other = name:match "^([^/]+)/"
    if name:find "^lua" or name == "lauxlib.h" then return name end
    if (name == "omp.h") and path ~= "core/base/par.c" then return name end
    if (name:find "cblas" or name:find "lapack" or name:find "openblas")
      and path ~= "core/kernels/blas.c" then return name end
    if name:find "dnnl" and path ~= "core/kernels/onednn.c" then return name end
    if open == '"' and name ~= "perigee.h" then
      if not other then return name .. " (say which floor)" end
      local mine, theirs = FLOOR[room], FLOOR[other]
      if not theirs then return name .. " (no such floor)" end
      if not mine then return name .. " (perigee.h relies on nothing)" end
      if theirs > mine then return name .. " (above)" end
      if theirs == mine and other ~= room then return name .. " (sideways)" end
    end
  end
end

-- Definitions at the left margin of a C text that are neither static nor macros: a list of names.
local function exported(text)
  local names = {}
  local code = code_of(text):gsub("\\\n", " "):gsub("\n[ \t]*#[^\n]*", "\n"):gsub("^#[^\n]*", "")
  for line in ("\n" .. code):gmatch "\n([%a_][^\n;]*)" do
    local static = line:find "^static" or line:find "^typedef" or line:find "^extern"
    if not static then
      local name = line:match "PG_AT%(([%w_]+)%)" or line:match "([%w_]+)%s*%("
        or line:match "([%w_]+)%s*%[" or line:match "([%w_]+)%s*="
      local is_type = line:find "^struct%s+[%w_]+%s*{" or line:find "^enum" or line:find "^union"
      if name and not name:find "^[%u%d_]+$" and not is_type then names[#names + 1] = name end
    end
  end
  return names
end

-- Mutable data at file scope: the first such line, or nil.
local function global(text)
  local code = code_of(text):gsub("\\\n", " ")
  for line in ("\n" .. code):gmatch "\n(static [^\n]*)" do
    local head = line:match "^[^={]*"
    if not line:find "%f[%w_]const%f[^%w_]" and not head:find "%(" and
      not line:find "^static inline" and not line:find "^static struct [%w_]+ {"
      and (line:find "[;=]" or line:find "%[") then
      return line
    end
  end
end

local FORBIDDEN = {"printf", "vprintf", "puts", "putchar", "perror", "exit", "_exit", "quick_exit",
  "abort", "longjmp", "setjmp"}

-- A call that core must not make, or nil. Writing to a file of one's own is fine.
local function forbidden(text)
  local code = code_of(text)
  for _, name in ipairs(FORBIDDEN) do
    if code:find("%f[%w_]" .. name .. "%s*%(") then return name end
  end
  return code:match "%f[%w_]stderr%f[^%w_]" or code:match "%f[%w_]stdout%f[^%w_]"
end

local function offenders(paths, test)
  local list = {}
  for _, path in ipairs(paths) do
    local what = test(path, read(path))
    if what then list[#list + 1] = path .. ": " .. tostring(what) end
  end
  return table.concat(list, "\n")
end

local core_files = files("core", ".c", ".h")

describe("the floors", function()
  it("have these rooms only", function()
    for name in lfs.dir "core" do
      if not name:find "^%." and name ~= "perigee.h" then
        assert.is_not_nil(FLOOR[name], "core/" .. name .. " is no room of the design")
      end
    end
  end)
  it("include their own and lower ones, never sideways; each library has one door", function()
    assert.equal("", offenders(core_files, wrong_include))
  end)
  it("keep OpenMP in base/par.c", function()
    assert.equal("", offenders(files(".", ".c", ".h"), function(path, text)
      if path ~= "./core/base/par.c" and not path:find "^%./build" then
        return code_of(text):match "#%s*pragma%s+omp[^\n]*"
      end
    end))
  end)
  it("never print, exit, abort or jump in core", function()
    assert.equal("", offenders(core_files, function(_, text) return forbidden(text) end))
  end)
  it("have no globals", function()
    assert.equal("", offenders(core_files, function(_, text) return global(text) end))
  end)
  it("allocate nothing in kernels", function()
    assert.equal("", offenders(files("core/kernels", ".c", ".h"), function(path, text)
      local code = code_of(text)
      for _, item in ipairs(includes(text)) do
        if item[1] == "base/ctx.h" or item[1] == "base/mem.h" then return item[1] end
      end
      if path == "core/kernels/onednn.c" then return nil end -- keeps primitives by shape
      return code:match "%f[%w_]malloc%s*%(" or code:match "%f[%w_]calloc%s*%("
        or code:match "%f[%w_]realloc%s*%("
    end))
  end)
  it("let Lua into lua/ only", function()
    assert.equal("", offenders(core_files, function(_, text)
      return code_of(text):match "%f[%w_]lua_State%f[^%w_]"
    end))
  end)
  it("let lua/ know nothing of BLAS, oneDNN and OpenMP", function()
    assert.equal("", offenders(files("lua", ".c", ".h"), function(_, text)
      for _, item in ipairs(includes(text)) do
        if item[1]:find "cblas" or item[1]:find "dnnl" or item[1] == "omp.h" then return item[1] end
      end
    end))
  end)
end)

describe("every file", function()
  it("opens with what it holds, in C what it relies on too", function()
    local all = files("core", ".c", ".h")
    table.move(files("lua", ".c", ".h", ".lua"), 1, 1000, #all + 1, all)
    assert.equal("", offenders(all, function(path, text)
      if path:find "%.lua$" then
        return not text:find "^%-%-%-? ?[%a@`]" and text:match "^[^\n]*"
      end
      local comment = text:match "^/%*(.-)%*/"
      if not comment then return text:match "^[^\n]*" end
      if path:find "%.h$" then return nil end
      return not comment:find "[Rr]elies on" and "does not say 'Relies on'"
        or not comment:find "[Ss]pec" and "does not say where its spec is"
    end))
  end)
  it("names no folder of one machine", function()
    local all = files(".", ".c", ".h", ".lua", ".py", ".txt", ".md", "dev", "run")
    assert.equal("", offenders(all, function(path, text)
      if path:find "^%./build" or path == "./spec/arch_spec.lua" then return nil end
      return text:match "%f[^%w_.]/work/[^\n]*" or text:match "%f[^%w_.]/farm/[^\n]*"
        or text:match "/tmp/h/[^\n]*" or text:match "/tmp/peer[^\n]*"
    end))
  end)
  it("that is a family exports its table and nothing else", function()
    local want = {
      {"core/ops", "pg_ops_"}, {"core/optim/rules", "pg_rules_"}, {"core/nn/layers", "pg_layers_"},
    }
    local list = {}
    for _, pair in ipairs(want) do
      for _, path in ipairs(files(pair[1], ".c")) do
        local name = pair[2] .. path:match "([^/]+)%.c$"
        local names = table.concat(exported(read(path)), " ")
        if names ~= name then list[#list + 1] = path .. " exports: " .. names end
      end
    end
    assert.equal("", table.concat(list, "\n"))
  end)
end)

describe("the top level", function()
  it("is fixed", function()
    local known = {core = true, lua = true, examples = true, spec = true, ["CMakeLists.txt"] = true,
      ["README.md"] = true, LICENSE = true, dev = true}
    local extra = {}
    for name in lfs.dir "." do
      if not known[name] and not name:find "^%." and not name:find "^build" then
        extra[#extra + 1] = name
      end
    end
    assert.same({}, extra)
  end)
end)

describe("the checks themselves", function()
  it("see includes that go up, sideways, or past a door", function()
    assert.is_truthy(wrong_include("core/base/a.c", '#include "tensor/tensor.h"'))
    assert.is_truthy(wrong_include("core/nn/a.c", '#include "optim/optim.h"'))
    assert.is_truthy(wrong_include("core/nn/layers/a.c", '#include <lua.h>'))
    assert.is_truthy(wrong_include("core/ops/a.c", '# include <cblas.h>'))
    assert.is_truthy(wrong_include("core/ops/a.c", '#include "dnnl.h"'))
    assert.is_truthy(wrong_include("core/ops/a.c", '#include <omp.h>'))
    assert.is_truthy(wrong_include("core/perigee.h", '#include "base/ctx.h"'))
    assert.is_nil(wrong_include("core/ops/a.c", '#include "kernels/vmath.h"\n#include <math.h>'))
    assert.is_nil(wrong_include("core/kernels/blas.c", '#include <cblas.h>'))
  end)
  it("see calls, not comments or strings", function()
    assert.equal("exit", forbidden "void f(void) { exit(1); }")
    assert.equal("printf", forbidden "void f(void) { printf (\"x\"); }")
    assert.is_nil(forbidden "/* exit(1) */ // abort()\nf(\"printf(\\\"a\\\")\"); snprintf(a);")
  end)
  it("see globals and exports", function()
    assert.is_truthy(global "static int counter;\n")
    assert.is_truthy(global "static pg_tensor *list[4] = {NULL};\n")
    assert.is_nil(global "static const int table[] = {1};\nstatic int f(int a) { return a; }\n")
    assert.same({"f", "pg_ops_x"}, exported [[
#define M(a) \
  int g(a)
static int s(int a) {
  return a;
}
M(float)
int f(int a) {
  return s(a);
}
const pg_op PG_AT(pg_ops_x)[] = {
    {0},
};
]])
  end)
end)
