--- `nn.init`: initial values in place, under PyTorch's names. Relies on core.ops and
-- optim/arguments.lua.
-- Spec: spec/nn/initial_spec.lua.

local arguments = require "perigee.optim.arguments"
local core = require "perigee.core"
local util = require "perigee.util"

local M = {}

local gains = {linear = 1, conv1d = 1, conv2d = 1, conv3d = 1, sigmoid = 1, tanh = 5 / 3,
  relu = math.sqrt(2), selu = 3 / 4}

--- The recommended factor for a layer before this nonlinearity.
-- @param nonlinearity "relu", "leaky_relu", "tanh", "sigmoid", "selu", "linear", "conv2d" ..
-- @param param the slope of leaky_relu (0.01)
function M.calculate_gain(nonlinearity, param)
  if nonlinearity == "leaky_relu" then
    local slope = util.expect("calculate_gain", "param", param or 0.01, "number")
    return math.sqrt(2 / (1 + slope * slope))
  end
  return gains[util.choice("calculate_gain", "nonlinearity", nonlinearity,
    {"linear", "conv1d", "conv2d", "conv3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"})]
end

--- Uniform numbers of a..b.
-- @param tensor what is filled, and returned
-- @param a lower end (0)
-- @param b upper end (1); both may be given by name
function M.uniform_(tensor, a, b)
  if type(a) == "table" and not core.is_tensor(a) then
    a, b = nil, a
  end
  if type(b) == "table" and not core.is_tensor(b) then
    local given = util.options("uniform_", b, {a = a or 0, b = 1})
    a, b = given.a, given.b
  end
  return core.ops.uniform_(tensor, a or 0, b or 1)
end

--- Normal numbers, of which a share of every column is zero (Martens 2010).
-- @param tensor rows x columns; filled, and returned
-- @param sparsity share of a column that is zero, 0 to 1
-- @param std standard deviation of the others (0.01); both may be given by name
function M.sparse_(tensor, sparsity, ...)
  local given = arguments.read("sparse_", {{"sparsity", want = "number", least = 0},
    {"std", 0.01, want = "number", least = 0}}, sparsity, ...)
  util.expect("sparse_", "tensor", tensor, "tensor")
  if tensor:dim() ~= 2 then
    util.fail("sparse_", "argument 'tensor': expected 2 dims, got [%s]",
      table.concat(tensor.shape, " x "))
  elseif given.sparsity > 1 then
    util.fail("sparse_", "argument 'sparsity': expected 0 to 1, got %g", given.sparsity)
  end
  local rows, columns = tensor:size(1), tensor:size(2)
  local zeros = math.ceil(given.sparsity * rows)
  local _ <close> = core.no_grad()
  core.ops.normal_(tensor, 0, given.std)
  local order = core.ops.argsort(core.ops.rand(rows, columns), 1)
  return tensor:scatter_(1, order:narrow(1, 1, zeros), 0)
end

local known

local function names()
  if known then return known end
  known = {}
  for _, info in ipairs(core.op_info()) do
    if info.init then
      for _, name in ipairs(info.names) do
        local full = name:sub(-1) == "_" and name or name .. "_"
        known[full] = core.ops[full] or core.ops[name]
      end
    end
  end
  return known
end

return setmetatable(M, {
  __name = "nn.init",
  __index = function(self, key)
    if type(key) == "string" and key:sub(1, 2) == "__" then return nil end
    local fn = names()[key]
    if not fn then
      local near = util.suggest(key, util.sorted_keys(names()))
      error(("nn.init: argument 'name': expected the name of a function, got %s%s"):format(
        util.show(key), near and (", did you mean '%s'?"):format(near) or ""), 2)
    end
    rawset(self, key, fn)
    return fn
  end,
})
