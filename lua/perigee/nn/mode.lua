--- A while of evaluation: modules switched over and back. Relies on nn.Module's methods only.
-- Spec: spec/nn/graph_spec.lua.

local core = require "perigee.core"

local M = {}

--- The training flags of a module and of all modules below it, put back when the result closes.
-- `local _ <close> = mode.keep(model)`
function M.keep(module)
  local modes = {}
  for _, child in module:named_modules() do modes[child] = child.training end
  return setmetatable({}, {__close = function()
    for child, training in pairs(modes) do
      if child.training ~= training then child:set_training(training) end
    end
  end})
end

--- Evaluation mode without gradients until the result closes.
-- `local _ <close> = mode.inference(model)`
function M.inference(module)
  local kept = M.keep(module)
  module:eval()
  local guard = core.no_grad()
  return setmetatable({}, {__close = function()
    getmetatable(guard).__close(guard)
    getmetatable(kept).__close(kept)
  end})
end

return M
