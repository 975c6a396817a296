--- Arguments by position and by name, as optimizers and schedulers take them.
-- Relies on blame, util.
-- Spec: spec/optim/lr_scheduler_spec.lua.

local blame = require "perigee.blame"
local util = require "perigee.util"

local M = {}

--- Whether a value is a table of options: no positions in it, no class.
function M.is_options(value)
  return type(value) == "table" and getmetatable(value) == nil and #value == 0
end

--- Reads arguments: values by position, then one table for the rest by name.
-- @param fn name for messages
-- @param params a list of {name, default}; without a default the argument is required, unless
-- optional = true; want: what it must be, as util.expect takes it; least: the smallest number
-- @return a table by name
function M.read(fn, params, ...)
  local given = table.pack(...)
  local options = {}
  if given.n > 0 and M.is_options(given[given.n]) then
    options = given[given.n]
    given.n = given.n - 1
  end
  if given.n > #params then
    blame.raise("%s: expected at most %d arguments, got %d", fn, #params, given.n)
  end
  local values, names = {}, {}
  for i, p in ipairs(params) do
    local name, value = p[1], given[i]
    names[i] = name
    if i > given.n then value = nil end
    if options[name] ~= nil then
      if value ~= nil then
        blame.raise("%s: argument '%s': expected it once, got it by position and by name", fn,
          name)
      end
      value = options[name]
    end
    if value == nil then value = p[2] end
    if value == nil and not p.optional then
      blame.raise("%s: argument '%s': expected %s, got nothing", fn, name,
        p.want and util.kind_text(p.want) or "a value")
    end
    if p.want and value ~= nil then value = util.expect(fn, name, value, p.want) end
    if p.least and type(value) == "number" and (value < p.least or value ~= value) then
      blame.raise("%s: argument '%s': expected at least %g, got %s", fn, name, p.least,
        util.show(value))
    end
    values[name] = value
  end
  for key in pairs(options) do
    local known = false
    for _, name in ipairs(names) do known = known or name == key end
    if not known then
      local near = util.suggest(key, names)
      blame.raise("%s: unknown option %s%s; options are %s", fn, util.show(key),
        near and (", did you mean '%s'?"):format(near) or "", table.concat(names, ", "))
    end
  end
  return values
end

return M
