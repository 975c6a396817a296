--- Files for specs: fixtures, files of given bytes, and what every malformed file must give.
-- Relies on spec/helper.lua and perigee.core.
-- Spec: spec/io/files_spec.lua.

local core = require "perigee.core"
local H = require "spec.helper"

local M = {}

--- Path of a file that spec/fixtures/io/generate.py wrote.
function M.fixture(name) return "spec/fixtures/io/" .. name end

function M.read(path)
  local file = assert(io.open(path, "rb"))
  local bytes = file:read "a"
  file:close()
  return bytes
end

function M.write(path, bytes)
  local file = assert(io.open(path, "wb"))
  file:write(bytes)
  file:close()
end

--- Calls fn with the path of a file of this name and these bytes, which is removed afterwards.
function M.with(name, bytes, fn)
  return H.in_folder(function(folder)
    local path = folder .. "/" .. name
    M.write(path, bytes)
    return fn(path)
  end)
end

--- Fails unless loading these bytes gives nil and a message that names the file and the fault, and
-- leaves no memory in use.
-- @param pattern Lua pattern for the fault
function M.refused(name, bytes, pattern)
  M.with(name, bytes, function(path)
    collectgarbage()
    collectgarbage()
    local before = core.memory().live
    local value, message = core.io.load(path)
    assert(value == nil, "the file was read")
    assert(message:sub(1, #path) == path, "the message does not begin with the path: " .. message)
    assert(message:find(pattern), ("expected '%s' in: %s"):format(pattern, message))
    assert(core.memory().live == before, "memory is still in use")
  end)
end

--- Fails unless every allocation of load(path) may fail: a clean error, nothing left in use.
function M.survives_failures(path)
  collectgarbage()
  collectgarbage()
  local before = core.memory().live
  for n = 1, 10000 do
    core.trim()
    core.fail_after(n)
    local ok, value, message = pcall(core.io.load, path)
    core.fail_after(0)
    if ok then
      assert(value ~= nil, message)
      return
    end
    assert(tostring(value):find "memory", value)
    collectgarbage()
    collectgarbage()
    assert(core.memory().live == before, ("allocation %d leaves memory in use"):format(n))
  end
  error "it never succeeded"
end

return M
