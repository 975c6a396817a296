--- What transposed convolutions do beside their layer in C: a call may name the size of its result.
-- Relies on perigee.core and util. Spec: spec/nn/layers_spec.lua.

local core = require "perigee.core"
local util = require "perigee.util"

local M = {}

local function at(value, i)
  if type(value) == "table" then return value[#value == 1 and 1 or i] end
  return value
end

--- The output_padding that gives output_size: spatial sizes, or all of them.
local function padding_for(self, x, args, output_size)
  local fn = "nn." .. self.class_name
  local n = math.tointeger(tonumber(self.class_name:match "(%d)d$"))
  util.expect(fn, "output_size", output_size, "table|integer")
  if type(output_size) == "number" then
    output_size = table.move({output_size, output_size, output_size}, 1, n, 1, {})
  end
  local skip = #output_size - n
  if skip ~= 0 and #output_size ~= x:dim() then
    util.fail(fn, "argument 'output_size': expected %d sizes or %d, got %d", n, x:dim(),
      #output_size)
  end
  local padding = {}
  for i = 1, n do
    local stride, wanted = at(args.stride, i), output_size[skip + i]
    local least = (x:size(x:dim() - n + i) - 1) * stride - 2 * at(args.padding, i)
      + at(args.dilation, i) * (at(args.kernel_size, i) - 1) + 1
    padding[i] = wanted - least
    if padding[i] < 0 or padding[i] >= stride then
      util.fail(fn, "argument 'output_size': expected %d to %d in spatial dim %d, got %s", least,
        least + stride - 1, i, util.show(wanted))
    end
  end
  return padding
end

--- @param output_size spatial sizes of the result, where several fit (output_padding chooses)
function M:forward(x, output_size)
  if output_size == nil then return getmetatable(self)._base.forward(self, x) end
  local args = core.layer_args(self._handle)
  return core.ops[self._info.op](x, self.weight, self.bias, args.stride, args.padding,
    padding_for(self, x, args, output_size), args.groups, args.dilation)
end

return M
