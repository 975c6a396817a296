--- Errors that point at the script's line, however deep inside Perigee they were found.
-- Relies on nothing but Lua's own libraries.
-- Spec: spec/nn/graph_spec.lua.

local M = {}

local own = debug.getinfo(1, "S").source:match("^(.*)blame%.lua$")

--- Whether a chunk name (as debug.getinfo's source) is one of Perigee's own files.
local function is_own(source)
  return #own > 0 and source:sub(1, #own) == own
end

--- "file:line: " of the nearest caller that is not Perigee's own Lua, or "".
-- A function that a tail call replaced leaves no frame; its caller is found.
function M.where()
  local level = 2
  while true do
    local info = debug.getinfo(level, "Sl")
    if not info then return "" end
    if info.what ~= "C" and info.currentline > 0 and not is_own(info.source) then
      return ("%s:%d: "):format(info.short_src, info.currentline)
    end
    level = level + 1
  end
end

--- The message without the "file:line: " that Perigee's own files put before it.
function M.strip(message)
  if type(message) ~= "string" then return tostring(message) end
  local root = own:gsub("^@", "")
  while true do
    local file, rest = message:match("^([^\n:]-%.lua):%d+: (.*)$")
    if not file then return message end
    local short = file:gsub("^%.%.%.", "")
    if file:sub(1, #root) ~= root and not (short ~= file and file:find("perigee/", 1, true)) then
      return message
    end
    message = rest
  end
end

--- Raises the text, blamed on the script's line.
-- @param fmt a format for string.format, and its values
function M.raise(fmt, ...)
  local text = select("#", ...) > 0 and fmt:format(...) or fmt
  error(M.where() .. text, 0)
end

--- Calls fn(...); an error is raised again on the script's line with `prefix` before its text.
-- @return what fn returned
function M.call(prefix, fn, ...)
  local function handler(message)
    return {text = message}
  end
  local function finish(ok, first, ...)
    if ok then return first, ... end
    local message = first.text
    if type(message) ~= "string" then error(message, 0) end
    local text = M.strip(message)
    if text:find("^[^\n:]+:%d+: ") then error(text, 0) end
    error(M.where() .. prefix .. text, 0)
  end
  return finish(xpcall(fn, handler, ...))
end

--- Calls fn(...) as `name`: an error that begins with another function's name gets this one.
-- @return what fn returned
function M.named(name, fn, ...)
  local function finish(ok, first, ...)
    if ok then return first, ... end
    local text = M.strip(first)
    if text:find "^[^\n:]+:%d+: " then error(text, 0) end
    error(M.where() .. name .. ": " .. text:gsub("^[%w_%.]+: ", "", 1), 0)
  end
  return finish(pcall(fn, ...))
end

return M
