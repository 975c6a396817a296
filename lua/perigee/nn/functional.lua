--- `nn.functional`: ops without state, under PyTorch's names. Every op of core that is a method or
-- marked for nn is here. Relies on core.ops. Spec: spec/nn/functional_spec.lua.

local core = require "perigee.core"
local lists = require "perigee.nn.lists"
local util = require "perigee.util"

--- Functions that are more than an op of their name.
local own = {}

--- Images N x C x (D x H x) W brought to another size; scale_factor may be a list, one a dim.
function own.interpolate(...)
  local args = lists.scale_factors("interpolate", 3, ...)
  return core.ops.interpolate(table.unpack(args, 1, args.n))
end

--- Patches of images as columns: im2col under PyTorch's name (x:unfold cuts windows along a dim).
function own.unfold(...) return core.ops.im2col(...) end

--- ctc_loss whose labels and lengths may be lists.
function own.ctc_loss(log_probs, targets, input_lengths, target_lengths, ...)
  return core.ops.ctc_loss(log_probs, lists.integers(targets), lists.integers(input_lengths),
    lists.integers(target_lengths), ...)
end

--- The old name of interpolate.
own.upsample = own.interpolate

--- The triplet margin loss for any distance.
function own.triplet_margin_with_distance_loss(...)
  return require("perigee.nn.triplet").triplet_margin_with_distance_loss(...)
end

local known

local function names()
  if known then return known end
  known = {}
  for name in pairs(own) do known[name] = true end
  for _, info in ipairs(core.op_info()) do
    if (info.nn or info.method) and not info.hidden and not info.inplace_only then
      for _, name in ipairs(info.names) do
        known[name] = true
        if info.inplace then known[name .. "_"] = true end
      end
    end
  end
  return known
end

return setmetatable({}, {
  __name = "nn.functional",
  __index = function(self, key)
    if type(key) == "string" and key:sub(1, 2) == "__" then return nil end
    if not names()[key] then
      local near = util.suggest(key, util.sorted_keys(names()))
      error(("nn.functional: there is no function %s%s"):format(util.show(key),
        near and (", did you mean '%s'?"):format(near) or ""), 2)
    end
    local fn = own[key] or core.ops[key]
    rawset(self, key, fn)
    return fn
  end,
})
