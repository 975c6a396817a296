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

--- The rows of weight with a p-norm above max_norm, among those that index names, are scaled down
-- to it in place.
local function renorm_rows(index, weight, max_norm, p)
  local _ <close> = core.no_grad()
  local at = (core.ops.unique_flat(index))
  local rows = core.ops.index_select(core.ops.detach(weight), 1, at)
  rows = core.ops.renorm(rows, p, 1, max_norm)
  core.ops.index_copy_(core.ops.detach(weight), 1, at, rows)
end

--- Rows of a table by 1-based index. max_norm (in place) and norm_type bound the rows that are
-- used, scale_grad_by_freq divides a row's gradient by how often index names it.
function own.embedding(index, weight, ...)
  local given = table.pack(...)
  local last = given[given.n]
  local options = type(last) == "table" and last or {}
  if given.n - (last == options and 1 or 0) < 2 and not (options.max_norm
      or options.scale_grad_by_freq or options.sparse ~= nil or options.norm_type) then
    return core.ops.embedding(index, weight, ...)
  end
  local opt = util.options("embedding", options, {"padding_idx", "max_norm", norm_type = 2,
    scale_grad_by_freq = false, sparse = false})
  for i, name in ipairs {"padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse"} do
    if i <= given.n and given[i] ~= options and given[i] ~= nil then opt[name] = given[i] end
  end
  if opt.sparse then util.fail("embedding", "argument 'sparse': sparse gradients do not exist") end
  util.expect("embedding", "input", index, "tensor")
  util.expect("embedding", "weight", weight, "tensor")
  if opt.max_norm then renorm_rows(index, weight, opt.max_norm, opt.norm_type) end
  local y = core.ops.embedding(index, weight, opt.padding_idx)
  if not opt.scale_grad_by_freq then return y end
  local _, place, count = core.ops.unique_flat(index)
  local often = core.ops.reshape(core.ops.index_select(count, 1, core.ops.reshape(place, -1)),
    table.unpack(index.shape))
  local fixed = core.ops.detach(y)
  local gap = core.ops.div(core.ops.sub(y, fixed), core.ops.unsqueeze(often, -1))
  return core.ops.add(fixed, gap)
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
      error(("nn.functional: argument 'name': expected the name of a function, got %s%s"):format(
        util.show(key), near and (", did you mean '%s'?"):format(near) or ""), 2)
    end
    local fn = own[key] or core.ops[key]
    rawset(self, key, fn)
    return fn
  end,
})
