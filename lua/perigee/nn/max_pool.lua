--- What max pooling layers do beside their layer in C: return_indices gives a second output, and
-- MaxUnpool takes an output_size in its call. Relies on perigee.core.
-- Spec: spec/nn/layers_spec.lua.

local core = require "perigee.core"

local M = {}

function M:forward(x, ...)
  local handle, base = self._handle, getmetatable(self)._base
  local op = core.ops[self._info.op]
  if self._info.kinds.return_indices == nil then
    local indices, output_size = ...
    if output_size == nil then return base.forward(self, x, ...) end
    local args = core.layer_args(handle)
    return op(x, indices, args.kernel_size, args.stride, args.padding, output_size)
  end
  if not core.layer_arg(handle, "return_indices") then return base.forward(self, x, ...) end
  local args = core.layer_args(handle)
  if args.output_size then return op(x, args.output_size, true) end
  return op(x, args.kernel_size, args.stride, args.padding, args.dilation, args.ceil_mode, true)
end

return M
