--- Completion of names: follows fields by rawget and the documented `__methods` tables of
-- metatables; no function of the user's and no __index function is ever run.
-- Relies on nothing. Spec: spec/repl/repl_spec.lua.

local M = {}

local KEYWORDS = {"and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto",
  "if", "in", "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while"}

--- Tables in which the fields of value may be found, nearest first.
local function places(value)
  local list, seen = {}, {}
  local function add(t)
    if type(t) == "table" and not seen[t] then
      seen[t] = true
      list[#list + 1] = t
    end
  end
  add(value)
  local at = value
  for _ = 1, 8 do -- class chains are short; a cycle ends here
    local meta = debug.getmetatable(at)
    if type(meta) ~= "table" then break end
    add(rawget(meta, "__methods"))
    local index = rawget(meta, "__index")
    if type(index) ~= "table" then break end
    add(index)
    at = index
  end
  return list
end

local function field(value, name)
  for _, t in ipairs(places(value)) do
    local found = rawget(t, name)
    if found ~= nil then return found end
  end
  return nil
end

--- Words that may stand for `word`: "pg.nn.Co" gives "pg.nn.Conv2d" and more.
-- @param word what is to be completed, without blanks
-- @param env table of globals
-- @return sorted list of strings
function M.words(word, env)
  local path, sep, last = word:match "^(.-)([.:]?)([%a_]?[%w_]*)$"
  if not path then return {} end
  local value = env
  for name in path:gmatch "[^.:]+" do
    if not name:match "^[%a_][%w_]*$" then return {} end
    value = field(value, name)
    if value == nil then return {} end
  end
  local words, seen = {}, {}
  local function offer(name, item)
    if type(name) ~= "string" or seen[name] or name:sub(1, #last) ~= last then return end
    if not name:match "^[%a_][%w_]*$" then return end
    if name:sub(1, 1) == "_" and last:sub(1, 1) ~= "_" then return end
    if sep == ":" and type(item) ~= "function" then return end
    seen[name] = true
    words[#words + 1] = path .. sep .. name
  end
  for _, t in ipairs(places(value)) do
    for name, item in next, t do offer(name, item) end
  end
  if path == "" and sep == "" then
    for _, name in ipairs(KEYWORDS) do offer(name) end
  end
  table.sort(words)
  return words
end

return M
