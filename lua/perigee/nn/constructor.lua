--- Constructors of modules written in Lua: arguments in PyTorch's order by position, the rest by
-- name, each of a kind. Relies on util, blame and optim/arguments.lua. Spec: spec/nn/rnn_spec.lua.

local arguments = require "perigee.optim.arguments"
local blame = require "perigee.blame"
local module = require "perigee.nn.module"
local util = require "perigee.util"

local M = {}

--- Reads a constructor's arguments into fields of the module and keeps them for `config`. Modules
-- among them become no fields.
-- @param self a module made by nn.Module:extend
-- @param params a list of {name, kinds, default}; kinds as util.expect takes them; without a
-- default the argument is required, unless the kinds include nil
-- @return the arguments by name
function M.read(self, params, ...)
  local fn, given = "nn." .. self.class_name, table.pack(...)
  local last = given[given.n]
  if arguments.is_options(last) and last.name ~= nil then
    self.name = util.expect(fn, "name", last.name, "string")
    local rest = {}
    for key, value in pairs(last) do rest[key] = key ~= "name" and value or nil end
    given[given.n] = rest
  end
  local list = {}
  for i, p in ipairs(params) do
    list[i] = {p[1], p[3], want = p[2], optional = p[2]:find("nil", 1, true) ~= nil}
  end
  local values = blame.call("", arguments.read, fn, list, table.unpack(given, 1, given.n))
  for _, p in ipairs(params) do
    local name = p[1]
    if not module.is_module(values[name]) then self[name] = values[name] end
  end
  rawset(self, "_given", {values, n = 1})
  return values
end

--- Raises unless the named arguments are at least `least`.
function M.at_least(self, least, ...)
  for _, name in ipairs {...} do
    if self[name] < least then
      util.fail("nn." .. self.class_name, "argument '%s': expected at least %d, got %s", name,
        least, util.show(self[name]))
    end
  end
end

--- Raises unless the named argument is a probability. @return it
function M.probability(self, name)
  local p = self[name]
  if not (p >= 0 and p <= 1) then
    util.fail("nn." .. self.class_name, "argument '%s': expected 0 to 1, got %s", name,
      util.show(p))
  end
  return p
end

--- A value as Python prints it.
function M.python(value)
  if type(value) == "boolean" then return value and "True" or "False" end
  return tostring(value)
end

--- ", name=value" for those of the named fields that differ from their default.
-- @param defaults a list of {name, default}
function M.changed(self, defaults)
  local text = ""
  for _, p in ipairs(defaults) do
    local name, default = p[1], p[2]
    if self[name] ~= default then
      text = text .. (", %s=%s"):format(name, M.python(self[name]))
    end
  end
  return text
end

return M
