--- Losses by name, for `compile`. Relies on the ops of core (nn.functional).
-- Spec: spec/train/fit_spec.lua.

local core = require "perigee.core"
local util = require "perigee.util"

local M = {}

-- Short names; every other name is the name of a function of nn.functional.
local SHORT = {
  mse = "mse_loss", mae = "l1_loss", l1 = "l1_loss", smooth_l1 = "smooth_l1_loss",
  huber = "huber_loss", nll = "nll_loss", ce = "cross_entropy", bce = "binary_cross_entropy",
  bce_with_logits = "binary_cross_entropy_with_logits",
}

-- Losses that compare element by element: a target of the output's size, but of another shape
-- ([b] for [b x 1]), takes the output's shape instead of broadcasting to [b x b].
local ELEMENTWISE = {
  mse_loss = true, l1_loss = true, smooth_l1_loss = true, huber_loss = true,
  binary_cross_entropy = true, binary_cross_entropy_with_logits = true,
}

--- "zero": the output is the loss already; its mean over the batch counts.
local function zero(output) return output:mean() end

local function same_shape(a, b)
  local n = a:dim()
  if n ~= b:dim() then return false end
  for i = 1, n do
    if a:size(i) ~= b:size(i) then return false end
  end
  return true
end

local function elementwise(fn)
  return function(output, target)
    if not same_shape(output, target) and output:numel() == target:numel() then
      target = target:reshape(output.shape)
    end
    return fn(output, target)
  end
end

--- Labels may come as a column, [b x 1].
local function classes(fn)
  return function(output, target)
    if target:dim() == 2 and target:size(2) == 1 and output:dim() == 2 and output:size(2) > 1 then
      target = target:reshape({-1})
    end
    return fn(output, target)
  end
end

local function is_loss(info)
  local second = info.params[2] and info.params[2].name
  return info.nn and not info.hidden and second == "target"
end

--- Names of the losses there are.
function M.names()
  local names = {"zero"}
  for _, info in ipairs(core.op_info()) do
    if is_loss(info) then names[#names + 1] = info.name end
  end
  for short, full in pairs(SHORT) do
    if core.ops[full] then names[#names + 1] = short end
  end
  table.sort(names)
  return names
end

--- Finds a loss.
-- @param given a name, a function of (output, target), or a module such as nn.CrossEntropyLoss()
-- @return function of (output, target) and whether it reads a target; or nil, message
function M.find(given)
  if given == "zero" then return zero, false end
  if type(given) == "string" then
    local full = SHORT[given] or given
    local names = M.names()
    for _, name in ipairs(names) do
      if name == given then
        local fn = core.ops[full]
        if ELEMENTWISE[full] then return elementwise(fn), true end
        if full == "cross_entropy" or full == "nll_loss" then return classes(fn), true end
        return fn, true
      end
    end
    local near = util.suggest(given, names)
    return nil, ("expected the name of a loss or a function of (output, target), got '%s'%s; "
      .. "losses are %s"):format(given, near and (", did you mean '%s'?"):format(near) or "",
        table.concat(names, ", "))
  end
  local meta = getmetatable(given)
  if type(given) == "function" or (type(meta) == "table" and meta.__call) then
    return given, true
  end
  return nil, ("expected the name of a loss or a function of (output, target), got %s"):format(
    util.type_name(given))
end

return M
