--- What `nn.Upsample` does beside its layer in C: scale_factor may be a list, one a dim.
-- Relies on nn/lists.lua. Spec: spec/nn/layers_spec.lua.

local core = require "perigee.core"
local lists = require "perigee.nn.lists"

local M = {}

function M:init(...)
  local args = lists.scale_factors("nn." .. self.class_name, 2, ...)
  getmetatable(self)._base.init(self, table.unpack(args, 1, args.n))
end

local function list_text(list)
  return "(" .. table.concat(list, ", ") .. ")"
end

--- "scale_factor=2.0, mode='nearest'", as PyTorch prints it.
function M:extra_repr()
  local args = core.layer_args(self._handle)
  local factors = {}
  for i = 1, 3 do
    local factor = args["scale_factor_" .. i]
    factors[i] = factor and tostring(factor + 0.0)
  end
  local size, text = args.size
  if size == nil then
    text = "scale_factor=" .. (#factors > 0 and list_text(factors)
      or tostring(args.scale_factor and args.scale_factor + 0.0))
  else
    text = "size=" .. (type(size) == "table" and list_text(size) or tostring(size))
  end
  return ("%s, mode='%s'"):format(text, args.mode)
end

return M
