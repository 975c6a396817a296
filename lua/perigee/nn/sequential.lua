--- `nn.Sequential`: modules one after the other. Relies on nn/module.lua, nn/layer.lua.
-- Spec: spec/nn/sequential_spec.lua.

local module = require "perigee.nn.module"
local run_chain = require("perigee.nn.layer").run_chain
local util = require "perigee.util"

local Sequential = module.Module:extend "Sequential"
Sequential._numbered = true

--- `nn.Sequential {nn.Linear(4, 8), nn.ReLU()}` or `nn.Sequential(a, b)`; `name = ".."` in the
-- table names the whole. Children count from "1"; one made with {name = ".."} goes by its name.
-- A ReLU, Sigmoid or Tanh directly behind a layer runs as one op with it, with the same results,
-- unless one of the two has hooks; results between layers are given up at once.
function Sequential:init(first, ...)
  local list = {first, ...}
  if type(first) == "table" and getmetatable(first) == nil then
    list = first
    for key in pairs(first) do
      if math.type(key) ~= "integer" and key ~= "name" then
        util.fail("nn.Sequential", "unknown option %s; options are name, and children stand by "
          .. "position", util.show(key))
      end
    end
    if first.name then self.name = first.name end
  end
  for _, child in ipairs(list) do self:append(child) end
  rawset(self, "_given", nil)
end

--- Adds a module at the end. @return the Sequential
function Sequential:append(child)
  if not module.is_module(child) then
    util.fail("nn.Sequential", "argument 'child': expected a module, got %s as child %d",
      util.show(child), #self + 1)
  end
  local name = child.name or tostring(#self + 1)
  if self._modules[name] then
    util.fail("nn.Sequential", "argument 'name': expected names of children that differ, got '%s' "
      .. "twice", name)
  end
  return self:add_module(name, child)
end
Sequential.add = Sequential.append

function Sequential:config()
  local list = self:children()
  list.n = nil
  return {list, n = 1}
end

function Sequential:forward(...) return run_chain(self._modules, self._order, ...) end

function Sequential:__len() return #self._order end

local index = Sequential.__index
--- `net[2]` is the second child, `net[-1]` the last.
function Sequential:__index(key)
  if math.type(key) == "integer" then
    local order = rawget(self, "_order")
    local name = order[key < 0 and #order + 1 + key or key]
    return name and rawget(self, "_modules")[name]
  end
  return index(self, key)
end

return Sequential
