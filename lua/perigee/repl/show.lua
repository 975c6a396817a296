--- Values as the REPL prints them: tables opened one level and cut, everything else by tostring.
-- Relies on nothing. Spec: spec/repl/repl_spec.lua.

local M = {}

local MOST = 20

local function key_text(key)
  if type(key) == "string" then return key:match "^[%a_][%w_]*$" or ("[%q]"):format(key) end
  return "[" .. tostring(key) .. "]"
end

local function short(value)
  if type(value) == "string" then
    return #value > 60 and ("%q..."):format(value:sub(1, 57)) or ("%q"):format(value)
  elseif type(value) == "table" and not getmetatable(value) then
    return next(value) == nil and "{}" or "{...}"
  end
  return (tostring(value):gsub("\n%s*", " "))
end

--- The text of a value.
function M.value(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) ~= "table" then return tostring(value) end
  local meta = getmetatable(value)
  if meta then return tostring(value) end
  local parts, n = {}, 0
  for i, v in ipairs(value) do
    n = i
    if i <= MOST then parts[i] = short(v) end
  end
  if n > MOST then parts[#parts + 1] = ("... %d in all"):format(n) end
  local keys = {}
  for key in next, value do
    if not (math.type(key) == "integer" and key >= 1 and key <= n) then keys[#keys + 1] = key end
  end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for i, key in ipairs(keys) do
    if i > MOST then
      parts[#parts + 1] = ("... %d keys in all"):format(#keys)
      break
    end
    parts[#parts + 1] = key_text(key) .. " = " .. short(value[key])
  end
  local line = "{" .. table.concat(parts, ", ") .. "}"
  if #line <= 100 then return line end
  return "{\n  " .. table.concat(parts, ",\n  ") .. "\n}"
end

return M
