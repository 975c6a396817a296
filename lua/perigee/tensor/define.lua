--- Functions that are compositions of ops: one entry gives the function, the method, argument
-- checks, help, and a place in `core.ops`, where graphs, nn.functional and specs find it as they
-- find an op of C. Relies on perigee.core, util, blame. Spec: spec/tensor/define_spec.lua.
--
--   define {
--     "rot90",                                                -- names, separated by |
--     "input: tensor; k: integer = 1; dims: integers = {1, 2}",  -- parameters in PyTorch's order
--     "Input turned by k quarter turns in the plane of dims.",   -- one sentence
--     function(x, k, dims) .. end,
--   }
--
-- Kinds of parameters: tensor, operand (a tensor or a number), tensors (a list), loose (a list, or
-- all remaining positions), number, integer, dim, integers (one or a list), boolean, string, dtype,
-- any, or words (sum|mean). "?" behind the kind: may be absent. Further fields: nodiff (no
-- gradient), method (true where the first parameter is a tensor), room ("linalg", "nn"), full
-- (works in float32 under autocast and on bfloat16).

local blame = require "perigee.blame"
local core = require "perigee.core"
local util = require "perigee.util"

local ops, Tensor = core.ops, core.Tensor

local M = {
  functions = {}, -- by name: what pg gets
  list = {},      -- every entry, in order
}

local DTYPES = {float32 = "float32", float64 = "float64", bfloat16 = "bfloat16", int64 = "int64",
  uint8 = "uint8", bool = "bool", float = "float32", double = "float64", long = "int64",
  int = "int64", byte = "uint8"}

local function numbers_of(text)
  local list = {}
  for word in text:gmatch "[^{},%s]+" do list[#list + 1] = math.tointeger(word) end
  return list
end

--- "k: integer = 1; dims: integers = {1, 2}" as a list of {name=, kind=, optional=, default=}.
local function parse(text)
  local params = {}
  for part in text:gmatch "[^;]+" do
    local name, kind, mark, default = part:match "^%s*([%w_]+):%s*([%w_|]+)(%??)%s*=?%s*(.-)%s*$"
    local p = {name = name, kind = kind, optional = mark == "?" or default ~= ""}
    if kind:find("|", 1, true) then
      p.kind, p.choices, p.words = "word", kind, {}
      for word in kind:gmatch "[^|]+" do p.words[#p.words + 1] = word end
    end
    if default:find "^{" then p.default = numbers_of(default)
    elseif default == "true" or default == "false" then p.default = default == "true"
    elseif default ~= "" then p.default = math.tointeger(default) or tonumber(default) or default
    end
    params[#params + 1] = p
  end
  return params
end

local function params_of(entry)
  if not entry.params then entry.params = parse(entry[2]) end
  return entry.params
end

local EXPECTED = {
  tensor = "a tensor", operand = "a tensor or a number", tensors = "a list of tensors",
  loose = "tensors", number = "a number", integer = "an integer", dim = "an integer",
  integers = "an integer or a list of integers", boolean = "true or false", string = "a string",
  dtype = 'a dtype such as "float32"', any = "a value",
}

local function wrong(entry, p, value, expected)
  blame.raise("%s: argument '%s': expected %s, got %s", entry.name, p.name,
    expected or EXPECTED[p.kind], util.show(value))
end

local function tensors(entry, p, value)
  if type(value) ~= "table" or getmetatable(value) ~= nil then wrong(entry, p, value) end
  for i, item in ipairs(value) do
    if not core.is_tensor(item) then wrong(entry, p, item, "a tensor at " .. i) end
  end
  return value
end

local check = {
  tensor = function(entry, p, value)
    if not core.is_tensor(value) then wrong(entry, p, value) end
    return value
  end,
  operand = function(entry, p, value)
    if not core.is_tensor(value) and type(value) ~= "number" then wrong(entry, p, value) end
    return value
  end,
  tensors = tensors,
  loose = tensors,
  number = function(entry, p, value)
    if core.is_tensor(value) and value:numel() == 1 then value = value:item() end
    if type(value) ~= "number" then wrong(entry, p, value) end
    return value
  end,
  integer = function(entry, p, value)
    local whole = math.type(value) and math.tointeger(value)
    return whole or wrong(entry, p, value)
  end,
  integers = function(entry, p, value)
    if math.type(value) then return math.tointeger(value) or wrong(entry, p, value) end
    if type(value) ~= "table" or getmetatable(value) ~= nil then wrong(entry, p, value) end
    local list = {}
    for i, item in ipairs(value) do
      list[i] = math.type(item) and math.tointeger(item) or wrong(entry, p, item, "integers")
    end
    return list
  end,
  boolean = function(entry, p, value)
    if type(value) ~= "boolean" then wrong(entry, p, value) end
    return value
  end,
  string = function(entry, p, value)
    if type(value) ~= "string" then wrong(entry, p, value) end
    return value
  end,
  dtype = function(entry, p, value) return DTYPES[value] or wrong(entry, p, value) end,
  word = function(entry, p, value)
    for _, word in ipairs(p.words) do
      if value == word then return value end
    end
    local near = util.suggest(value, p.words)
    wrong(entry, p, value, ("one of '%s'%s"):format(table.concat(p.words, "', '"),
      near and (", did you mean '%s'?"):format(near) or ""))
  end,
  any = function(_, _, value) return value end,
}
check.dim = check.integer

--- Is the last argument a table of options? Its first key is a word; an empty table is one unless
-- a list is expected at its position.
local function is_options(value, p)
  if type(value) ~= "table" or getmetatable(value) ~= nil or #value > 0 then return false end
  local key = next(value)
  if key == nil then
    return not (p and (p.kind == "integers" or p.kind == "tensors" or p.kind == "loose"
      or p.kind == "any"))
  end
  return type(key) == "string"
end

--- Unknown keys and keys that repeat a position are errors.
local function check_options(entry, options, params, by_position)
  local place, names = {}, {}
  for i, p in ipairs(params) do place[p.name], names[i] = i, p.name end
  for key in pairs(options) do
    local at = place[key]
    if not at then
      local near = util.suggest(key, names)
      blame.raise("%s: unknown option %s%s; options are %s", entry.name, util.show(key),
        near and (", did you mean '%s'?"):format(near) or "", table.concat(names, ", "))
    elseif at <= by_position then
      blame.raise("%s: argument '%s': expected it once, got it by position and by name", entry.name,
        key)
    end
  end
end

--- The arguments in the order of the parameters, checked, defaults filled in.
local function bind(entry, n, given)
  local params = params_of(entry)
  local options
  if n > 0 and is_options(given[n], params[n]) then
    options = given[n]
    n = n - 1
  end
  for i, p in ipairs(params) do
    if p.kind == "loose" and i <= n and core.is_tensor(given[i]) then -- tensors one by one
      local list, past = {}, i
      while past <= n and core.is_tensor(given[past]) do
        list[#list + 1], past = given[past], past + 1
      end
      given = table.move(given, past, n, i + 1, table.move(given, 1, i - 1, 1, {}))
      given[i], n = list, n - #list + 1
    end
  end
  if n > #params then
    blame.raise("%s: expected at most %d arguments, got %d", entry.name, #params, n)
  end
  if options then check_options(entry, options, params, n) end
  local values = {}
  for i, p in ipairs(params) do
    local value
    if i <= n then value = given[i]
    elseif options then value = options[p.name] end
    if value == nil then
      value = p.default
      if not p.optional then
        blame.raise("%s: argument '%s': expected %s, got nothing", entry.name, p.name,
          EXPECTED[p.kind] or "one of '" .. table.concat(p.words, "', '") .. "'")
      end
    else
      value = check[p.kind](entry, p, value)
    end
    values[i] = value
  end
  return values, #params
end

--- The metafield __op of an argument, or of a list among the arguments, that stands for a tensor.
local function handler_of(n, given)
  for i = 1, n do
    local value = given[i]
    if type(value) == "table" then
      local meta = getmetatable(value)
      if meta and rawget(meta, "__op") then return meta.__op end
      for _, item in ipairs(meta == nil and value or {}) do
        local its = type(item) == "table" and getmetatable(item)
        if its and rawget(its, "__op") then return its.__op end
      end
    end
  end
end

local function finish(entry, ok, first, ...)
  if ok then return first, ... end
  local text = blame.strip(first)
  if text:find "^[^\n:]+:%d+: " then error(text, 0) end
  if text:sub(1, #entry.name + 1) ~= entry.name .. ":" then text = entry.name .. ": " .. text end
  error(blame.where() .. text, 0)
end

local function rounded(round, ...)
  if not round then return ... end
  local results = table.pack(...)
  for i = 1, results.n do
    local y = results[i]
    if core.is_tensor(y) and y.dtype == "float32" then results[i] = ops.to(y, "bfloat16") end
  end
  return table.unpack(results, 1, results.n)
end

--- body as an op that works in float32: bfloat16 arguments are widened, its results rounded where
-- autocast is off.
local function in_full(body)
  return function(...)
    local values, round = table.pack(...), false
    for i = 1, values.n do
      local x = values[i]
      if core.is_tensor(x) and x.dtype == "bfloat16" then
        values[i], round = ops.to(x, "float32"), not core.is_autocast_enabled()
      end
    end
    return rounded(round, core.autocast("float32", body, table.unpack(values, 1, values.n)))
  end
end

--- Registers a function; see the top of this file.
-- @param entry table
function M.define(entry)
  local names = {}
  for name in entry[1]:gmatch "[^|]+" do names[#names + 1] = name end
  entry.names, entry.name = names, names[1]
  local body = entry.full and in_full(entry[4]) or entry[4]
  --- The function under one of its names, which its messages begin with.
  local function named(name)
    local known = name == entry.name and entry or setmetatable({name = name}, {__index = entry})
    return function(...)
      local n, given = select("#", ...), {...}
      local handler = handler_of(n, given)
      if handler then return handler(entry.name, ...) end
      local values, count = bind(known, n, given)
      return finish(known, pcall(body, table.unpack(values, 1, count)))
    end
  end
  if entry.method == nil then
    entry.method = not entry.room and entry[2]:match "^%w+: (%w+)" == "tensor"
  end
  for _, name in ipairs(names) do
    local call = named(name)
    ops[name] = call
    if not entry.room then M.functions[name] = call end
    if entry.method then Tensor[name] = call end
  end
  M.list[#M.list + 1] = entry
end

--- Raises "name: text" of the running composition: its caller puts the name before the text.
function M.fail(fmt, ...) error(fmt:format(...), 0) end

--- dim from 1 to n for a dim that may be negative; n = 0 counts as one dim.
function M.dim(dim, n, name)
  local most = math.max(n, 1)
  if dim == 0 or dim > most or dim < -most then
    M.fail("argument '%s': expected 1..%d or -%d..-1, got %d", name or "dim", most, most, dim)
  end
  return dim > 0 and dim or most + 1 + dim
end

--- "[2 x 3]"
function M.shape_text(x) return "[" .. table.concat(x.shape, " x ") .. "]" end

local native = core.op_info

--- core.op_info() with the compositions behind the ops of C.
function core.op_info()
  local infos = native()
  for _, entry in ipairs(M.list) do
    infos[#infos + 1] = {
      name = entry.name, names = entry.names, doc = entry[3], params = params_of(entry),
      method = entry.method, nodiff = entry.nodiff or false, linalg = entry.room == "linalg",
      nn = entry.room == "nn",
      composed = true, outputs = 1,
    }
  end
  return infos
end

return M
