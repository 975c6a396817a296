--- The triplet margin loss for any distance: a function and its layer.
-- Relies on perigee.core and nn/module.lua. Spec: spec/nn/loss_spec.lua.

local core = require "perigee.core"
local module = require "perigee.nn.module"
local util = require "perigee.util"

local ops = core.ops
local M = {}

local REDUCTIONS = {"none", "mean", "sum"}
local DEFAULTS = {"distance_function", margin = 1, swap = false, reduction = "mean"}

local function checked(fn, opt)
  opt = util.options(fn, opt, DEFAULTS)
  util.expect(fn, "distance_function", opt.distance_function, "callable|nil")
  util.expect(fn, "margin", opt.margin, "number")
  util.expect(fn, "swap", opt.swap, "boolean")
  util.choice(fn, "reduction", opt.reduction, REDUCTIONS)
  return opt
end

local function loss(anchor, positive, negative, opt)
  local distance = opt.distance_function or ops.pairwise_distance
  local near, far = distance(anchor, positive), distance(anchor, negative)
  if opt.swap then far = ops.minimum(far, distance(positive, negative)) end
  local rows = ops.clamp_min(near - far + opt.margin, 0)
  return opt.reduction == "none" and rows or rows[opt.reduction](rows)
end

--- max(0, d(anchor, positive) - d(anchor, negative) + margin).
-- @param opt distance_function (pairwise_distance), margin (1), swap (false): d(positive, negative)
-- where that is smaller, reduction ("mean")
function M.triplet_margin_with_distance_loss(anchor, positive, negative, opt)
  local fn = "triplet_margin_with_distance_loss"
  util.expect(fn, "anchor", anchor, "tensor|symbolic tensor")
  util.expect(fn, "positive", positive, "tensor|symbolic tensor")
  util.expect(fn, "negative", negative, "tensor|symbolic tensor")
  return loss(anchor, positive, negative, checked(fn, opt))
end

local Loss = module.Module:extend "TripletMarginWithDistanceLoss"
M.TripletMarginWithDistanceLoss = Loss

--- triplet_margin_with_distance_loss as a layer, with its options.
function Loss:init(opt)
  rawset(self, "_opt", checked("nn.TripletMarginWithDistanceLoss", opt))
end

function Loss:forward(anchor, positive, negative)
  return loss(anchor, positive, negative, self._opt)
end

return M
