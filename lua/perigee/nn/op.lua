--- Modules that a graph is made of beside layers: `Op` (a tensor op with its arguments) and
-- `Constant` (a tensor). Relies on nn.Module and core.ops. They are made by nn/graph.lua.
-- Spec: spec/nn/graph_spec.lua.

local core = require "perigee.core"
local Module = require("perigee.nn").Module
local blame = require "perigee.blame"
local graph = require "perigee.nn.graph"

local M = {}

local function index(x, key) return x[key] end

local Op = Module:extend "Op"
M.Op = Op

--- @param name an op of core.ops, or "getitem" for x[key]
-- @param template the op's arguments, packed; marks of graph.place stand for the tensors that
-- forward gets
function Op:init(name, template)
  local fn = name == "getitem" and index or core.ops[name]
  if not fn then
    blame.raise("op: argument 'name': expected the name of an op, got '%s'", tostring(name))
  end
  rawset(self, "op", name)
  rawset(self, "template", template)
  local straight = true
  for i = 1, template.n do
    straight = straight and graph.place_of(template[i]) == i
  end
  rawset(self, "_run", straight and fn or function(...)
    local tensors = {...}
    local filled = graph.map(template, function(leaf)
      local k = graph.place_of(leaf)
      if k then return tensors[k] end
      return leaf
    end)
    return fn(table.unpack(filled, 1, template.n))
  end)
end

function Op:forward(...) return self._run(...) end

--- What names of unnamed ops start with.
function Op:auto_name() return self.op end

local Constant = Module:extend "Constant"
M.Constant = Constant

--- @param tensor a tensor; one that wants a gradient becomes a parameter. From a file: its shape,
-- then dtype and whether it is a parameter.
function Constant:init(tensor, dtype, trains)
  if not core.is_tensor(tensor) then
    tensor = core.ops.zeros(tensor, {dtype = dtype, requires_grad = trains})
  end
  if tensor.requires_grad then
    self:register_parameter("value", tensor)
  else
    self:register_buffer("value", tensor)
  end
end

function Constant:forward() return self.value end

return M
