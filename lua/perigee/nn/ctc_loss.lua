--- What `nn.CTCLoss` does beside its layer in C: labels and lengths may be lists.
-- Relies on nn/lists.lua. Spec: spec/nn/loss_spec.lua.

local lists = require "perigee.nn.lists"

local M = {}

function M:forward(log_probs, targets, input_lengths, target_lengths)
  return getmetatable(self)._base.forward(self, log_probs, lists.integers(targets),
    lists.integers(input_lengths), lists.integers(target_lengths))
end

return M
