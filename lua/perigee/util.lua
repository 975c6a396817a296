--- What every Lua module of Perigee shares: option tables, argument checks, suggestions, classes.
-- Relies on perigee.blame, which finds the script's line for every error.
-- Spec: spec/util_spec.lua.

local blame = require "perigee.blame"

local M = {}

--- Edit distance of two words (Damerau: a swap of neighbours counts once), at most `limit`.
local function distance(a, b, limit)
  if math.abs(#a - #b) > limit then return limit + 1 end
  local before, last, row = {}, {}, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    row[0] = i
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      local best = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same and 0 or 1))
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        best = math.min(best, before[j - 2] + 1)
      end
      row[j] = best
    end
    before, last, row = last, row, before
  end
  return last[#b]
end

--- The word of `list` nearest to `word`, or nil where none is near.
-- Case, underscores and a common beginning ("lr" for "lr_decay") count little.
-- @param word a string
-- @param list an array of strings
-- @return the nearest string or nil
function M.suggest(word, list)
  if type(word) ~= "string" then return nil end
  local function plain(s) return (s:lower():gsub("[_%-%s%.]", "")) end
  local wanted = plain(word)
  local limit = math.max(1, #wanted // 3)
  local best, best_score
  for _, candidate in ipairs(list) do
    local other = plain(candidate)
    local score = distance(wanted, other, limit)
    if score > limit and #wanted >= 2 and #other >= 2 then
      local starts = other:sub(1, #wanted) == wanted or wanted:sub(1, #other) == other
      score = starts and limit or score
    end
    if score <= limit and (not best_score or score < best_score
        or (score == best_score and candidate < best)) then
      best, best_score = candidate, score
    end
  end
  return best
end

--- What a value is, for messages: "nil", "integer", "float", "string", "Tensor", "Conv2d" ...
function M.type_name(value)
  local kind = math.type(value) or type(value)
  if kind == "table" or kind == "userdata" then
    local meta = getmetatable(value)
    local name = type(meta) == "table" and rawget(meta, "__name")
    if type(name) == "string" then return (name:gsub("^perigee%.", "")) end
  end
  return kind
end

--- The value as a short text for messages: strings in quotes and cut, tables by their type.
function M.show(value)
  if type(value) == "string" then
    if #value > 40 then value = value:sub(1, 37) .. "..." end
    return "'" .. value .. "'"
  elseif type(value) == "number" or type(value) == "boolean" or value == nil then
    return tostring(value)
  end
  return M.type_name(value)
end

--- Raises "fn: text", blamed on the script's line.
-- @param fn name of the public function, as a script writes it ("data.DataLoader")
-- @param fmt a format for string.format, and its values
function M.fail(fn, fmt, ...)
  blame.raise("%s: %s", fn, select("#", ...) > 0 and fmt:format(...) or fmt)
end

local tests = {
  integer = function(v)
    return math.type(v) == "integer" or (math.type(v) == "float" and math.tointeger(v) ~= nil)
  end,
  callable = function(v)
    if type(v) == "function" then return true end
    local meta = getmetatable(v)
    return type(meta) == "table" and meta.__call ~= nil
  end,
}

local function article(kind)
  return (kind:find("^[aeiouAEIOU]") and "an " or "a ") .. kind
end

--- Kinds as util.expect takes them, in the words of a message: "a number or an integer".
function M.kind_text(kinds)
  local words = {}
  for wanted in kinds:gmatch "[^|]+" do
    words[#words + 1] = wanted == "nil" and wanted or article(wanted)
  end
  return table.concat(words, " or ")
end

--- Raises unless the value is of one of the kinds: "number", "integer", "string", "boolean",
-- "table", "function", "callable", "nil", or a class name as in `__name`.
-- @param fn name of the public function
-- @param name name of the argument
-- @param value what came
-- @param kinds one kind, or several joined by "|" ("integer|nil")
-- @return the value; a float with an integer value comes back as an integer where one is asked for
function M.expect(fn, name, value, kinds)
  local kind = type(value)
  local named = M.type_name(value)
  for wanted in kinds:gmatch "[^|]+" do
    local test = tests[wanted]
    if test and test(value) then
      return wanted == "integer" and math.tointeger(value) or value
    elseif not test and (kind == wanted or named == wanted) then
      return value
    end
  end
  blame.raise("%s: argument '%s': expected %s, got %s", fn, name, M.kind_text(kinds),
    value == nil and "nothing" or (kind == "string" or kind == "number") and M.show(value) or named)
end

--- Raises unless the value is one of the words; suggests the nearest.
-- @return the value
function M.choice(fn, name, value, words)
  for _, word in ipairs(words) do
    if value == word then return value end
  end
  local near = M.suggest(value, words)
  near = near and (", did you mean '%s'?"):format(near) or ""
  blame.raise("%s: argument '%s': expected one of '%s', got %s%s", fn, name,
    table.concat(words, "', '"), M.show(value), near)
end

--- Checks an option table and fills in what is missing.
-- `local opt = util.options("data.DataLoader", opt, {batch_size = 1, shuffle = false, "seed"})`
-- @param fn name of the public function, for messages
-- @param given the caller's table, or nil
-- @param defaults key = default; keys without a default are listed by position
-- @return a new table
function M.options(fn, given, defaults)
  if given == nil then given = {} end
  if type(given) ~= "table" or getmetatable(given) ~= nil then
    blame.raise("%s: argument 'options': expected a table of options, got %s", fn, M.show(given))
  end
  local known, allowed = {}, {}
  for key, value in pairs(defaults) do
    local name = math.type(key) == "integer" and value or key
    known[#known + 1] = name
    allowed[name] = true
  end
  local result = {}
  for key, value in pairs(given) do
    if type(key) ~= "string" then
      blame.raise("%s: argument 'options': expected options by name, got %s by position", fn,
        M.show(value))
    elseif not allowed[key] then
      table.sort(known)
      local near = M.suggest(key, known)
      blame.raise("%s: unknown option %s%s; options are %s", fn, M.show(key),
        near and (", did you mean '%s'?"):format(near) or "",
        #known > 0 and table.concat(known, ", ") or "none")
    end
    result[key] = value
  end
  for key, value in pairs(defaults) do
    if math.type(key) ~= "integer" and result[key] == nil then result[key] = value end
  end
  return result
end

--- A new class: `local Sampler = util.class "Sampler"`, `util.class("Random", Sampler)`.
-- Calling the class makes an object and runs its `init`; metamethods are inherited;
-- `Class:extend(name)` makes a subclass; `object:is(Class)` asks for a class or a base of it.
-- @param name shown by `tostring` and in messages
-- @param base class to inherit from, or nil
function M.class(name, base)
  local class = {}
  if base then
    for key, value in pairs(base) do
      if type(key) == "string" and key:sub(1, 2) == "__" then class[key] = value end
    end
  else
    class.extend = function(self, child) return M.class(child, self) end
    class.is = function(self, other)
      local at = getmetatable(self)
      while at do
        if at == other then return true end
        at = rawget(at, "_base")
      end
      return false
    end
    class.__tostring = function(self) return M.type_name(self) end
  end
  class.__name = name
  class._base = base
  if not base or rawget(base, "__index") == base then class.__index = class end
  return setmetatable(class, {
    __index = base,
    __name = "class " .. name,
    __call = function(self, ...)
      local object = setmetatable({}, self)
      local init = self.init
      if init then init(object, ...) end
      return object
    end,
  })
end

--- Keys of a table, sorted: integers first, then the rest as text.
function M.sorted_keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    local na, nb = math.type(a) == "integer", math.type(b) == "integer"
    if na ~= nb then return na end
    if na then return a < b end
    return tostring(a) < tostring(b)
  end)
  return keys
end

return M
