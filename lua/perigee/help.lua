--- Help by name: ops, layers and optimizers from their descriptors, everything else from the `---`
-- comment above a function in its source.
-- Relies on perigee.core and util. Spec: spec/repl/help_spec.lua.

local core = require "perigee.core"
local util = require "perigee.util"

local M = {}

local function value_text(v)
  if type(v) == "table" then return "{" .. table.concat(v, ", ") .. "}" end
  return type(v) == "string" and ("%q"):format(v) or tostring(v)
end

local function param_text(p)
  if p.default ~= nil then return ("%s = %s"):format(p.name, value_text(p.default)) end
  return p.optional and "[" .. p.name .. "]" or p.name
end

local function signature(name, params)
  local parts = {}
  for i, p in ipairs(params) do parts[i] = param_text(p) end
  return ("%s(%s)"):format(name, table.concat(parts, ", "))
end

local function details(params)
  local lines = {}
  for _, p in ipairs(params) do
    lines[#lines + 1] = ("  %-16s %s%s"):format(p.name, p.kind,
      p.choices and ": " .. p.choices:gsub("|", ", ") or "")
  end
  return table.concat(lines, "\n")
end

--- Everything that has a descriptor: name -> text.
local function described()
  local found = {}
  for _, info in ipairs(core.op_info()) do
    if not info.hidden then
      local room = info.nn and "nn.functional." or info.init and "nn.init." or "pg."
      for _, name in ipairs(info.names) do
        local notes = {}
        if info.method then notes[#notes + 1] = ("method x:%s(..)"):format(name) end
        if info.inplace then notes[#notes + 1] = ("in place %s_"):format(name) end
        if info.nodiff then notes[#notes + 1] = "no gradient" end
        found[name] = ("%s\n%s\n%s%s"):format(signature(room .. name, info.params), info.doc,
          details(info.params), #notes > 0 and "\n" .. table.concat(notes, "; ") or "")
      end
    end
  end
  for _, info in ipairs(core.layers()) do
    found[info.name] = ("%s\n%s\n%s"):format(signature("nn." .. info.name, info.params), info.doc,
      details(info.params))
  end
  for _, info in ipairs(core.rules()) do
    found[info.name] = ("%s\n%s\n%s"):format(
      signature("optim." .. info.name, {{name = "params"}, table.unpack(info.params)}), info.doc,
      details(info.params))
  end
  return found
end

--- The `---` comment that ends right above a line of a source file.
local function comment_above(path, line)
  local file = io.open(path)
  if not file then return nil end
  local lines = {}
  for text in file:lines() do
    if #lines >= line - 1 then break end
    lines[#lines + 1] = text
  end
  file:close()
  local first = #lines
  while first > 0 and lines[first]:match "^%s*%-%-" do first = first - 1 end
  if first == #lines then return nil end
  local out = {}
  for i = first + 1, #lines do out[#out + 1] = lines[i]:gsub("^%s*%-%-%-? ?", "") end
  return table.concat(out, "\n")
end

local function function_text(name, fn)
  local info = debug.getinfo(fn, "S")
  local params, k = {}, 1
  if info.what ~= "C" then
    local p = debug.getlocal(fn, k)
    while p do
      params[k], k = p, k + 1
      p = debug.getlocal(fn, k)
    end
  end
  local text = info.source:sub(1, 1) == "@" and comment_above(info.source:sub(2), info.linedefined)
  return ("%s(%s)\n%s"):format(name, table.concat(params, ", "), text or "No description.")
end

--- Follows a dotted name through tables without running functions.
local function resolve(name, env)
  local value = env
  for part in name:gmatch "[^.:]+" do
    if type(value) ~= "table" then return nil end
    local found = rawget(value, part)
    if found == nil then
      local meta = debug.getmetatable(value)
      local index = meta and rawget(meta, "__index")
      found = type(index) == "table" and rawget(index, part) or nil
    end
    value = found
    if value == nil then return nil end
  end
  return value
end

local GENERAL = [[
pg.zeros(2, 3)  pg.tensor {1, 2}   tensors; x[{ {1, 2}, 3 }] indexes, from 1
nn.Linear(4, 3)  nn.Sequential {..}  layers and models; model:fit(..)
optim.Adam(model:parameters(), {lr = 1e-3})
?conv2d  ?Linear  ?Adam  ?pg.save    what a name does and takes]]

--- The text for `?name`.
-- @param name "conv2d", "nn.Linear", "pg.save", a global; empty: an overview
-- @param env globals to look in
function M.text(name, env)
  if name == "" then return GENERAL end
  local docs = described()
  local whole, last = name:gsub("^pg%.", ""), name:match "([%w_]+)$" or name
  if docs[whole] or docs[last] then return docs[whole] or docs[last] end
  local value = resolve(name, env or _G)
  if type(value) == "function" then return function_text(name, value) end
  if value ~= nil then
    local text = tostring(value)
    return ("%s: %s"):format(name, text)
  end
  local near = util.suggest(last, util.sorted_keys(docs))
  local hint = near and (", did you mean '%s'"):format(near) or ""
  return ("Nothing is known about '%s'%s."):format(name, hint)
end

return M
