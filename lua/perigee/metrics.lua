--- Metrics: functions of (output, target) that give a batch's mean as a number.
-- Relies on tensors only. `fit` and `evaluate` average them over batches, weighted by batch size.
-- Spec: spec/train/metrics_spec.lua.

local core = require "perigee.core"
local util = require "perigee.util"

local M = {}

local function expect_tensors(name, output, target)
  if not core.is_tensor(output) or not core.is_tensor(target) then
    error(("metrics.%s: expected tensors (output, target), got %s and %s"):format(name,
      util.type_name(output), util.type_name(target)), 3)
  end
end

--- Rows of labels as [b]: from [b], [b x 1], or one-hot or probability rows [b x c].
local function labels_of(target, output)
  if target:dim() == output:dim() then
    if target:size(2) == 1 and output:size(2) ~= 1 then return target:view(target:size(1)) end
    return (target:argmax(2))
  end
  return target
end

local function mean_of(mask)
  local n = mask:numel()
  return n > 0 and mask:sum():item() / n or 0
end

--- Share of right answers. Scores [b x c] (or [b x c x ...]) against labels 1..c, [b] or [b x 1],
-- or against one-hot rows; one score a row ([b] or [b x 1], a logit) counts as right where its
-- sign agrees with a target of 0 or 1.
-- @return a number in 0..1
function M.accuracy(output, target)
  expect_tensors("accuracy", output, target)
  local _ <close> = core.no_grad()
  if output:dim() < 2 or output:size(2) == 1 then
    local scores, wanted = output:reshape({-1}), target:reshape({-1})
    return mean_of(scores:gt(0):eq(wanted:gt(0.5)))
  end
  return mean_of((output:argmax(2)):eq(labels_of(target, output)))
end

--- As accuracy, for probabilities 0..1 against targets of 0 or 1: right on the same side of 0.5.
function M.binary_accuracy(output, target)
  expect_tensors("binary_accuracy", output, target)
  local _ <close> = core.no_grad()
  return mean_of(output:reshape({-1}):gt(0.5):eq(target:reshape({-1}):gt(0.5)))
end

--- Share of rows whose label is among the k highest scores: `metrics.top_k(5)` gives the metric
-- "top_5"; `metrics.top_k(5)(output, target)` is its value.
-- @param k how many scores count
-- @return a metric
function M.top_k(k)
  k = util.expect("metrics.top_k", "k", k == nil and 5 or k, "integer")
  local function value(_, output, target)
    expect_tensors("top_k", output, target)
    local _ <close> = core.no_grad()
    local _, indices = output:topk(math.min(k, output:size(2)), 2)
    local wanted = labels_of(target, output)
    local hits = indices:eq(wanted:view(wanted:size(1), 1))
    local n = output:size(1)
    return n > 0 and hits:sum():item() / n or 0
  end
  return setmetatable({name = "top_" .. k}, {__name = "metric", __call = value})
end

--- Mean squared error.
function M.mse(output, target)
  expect_tensors("mse", output, target)
  local _ <close> = core.no_grad()
  return (output - target:view(output.shape)):pow(2):mean():item()
end

--- Mean absolute error.
function M.mae(output, target)
  expect_tensors("mae", output, target)
  local _ <close> = core.no_grad()
  return (output - target:view(output.shape)):abs():mean():item()
end

--- Share of features whose nearest center is the label's: a metric for the output that feeds a
-- CenterLoss. `metrics = {feature = metrics.nearest_center(center_loss)}`
-- @param layer a module with `nearest(features)`, as nn.CenterLoss has
-- @return a metric named "nearest_center"
function M.nearest_center(layer)
  if type(layer) ~= "table" or not layer.nearest then
    util.fail("metrics.nearest_center", "expected a layer with the method 'nearest', got %s",
      util.type_name(layer))
  end
  local function value(_, features, target)
    expect_tensors("nearest_center", features, target)
    local _ <close> = core.no_grad()
    return mean_of((layer:nearest(features)):eq(target:view(features:size(1))))
  end
  return setmetatable({name = "nearest_center"}, {__name = "metric", __call = value})
end

local by_name = {
  accuracy = M.accuracy, acc = M.accuracy, binary_accuracy = M.binary_accuracy, mse = M.mse,
  mae = M.mae, top_k = M.top_k(5), top_5 = M.top_k(5),
}

--- Finds a metric: a name, a function of (output, target), or an object with a name.
-- @param given what the script wrote
-- @param i its place, for the name of a nameless function
-- @return name, function; or nil, message
function M.find(given, i)
  if type(given) == "string" then
    local fn = by_name[given]
    if fn then return type(fn) == "table" and fn.name or given, fn end
    local names = util.sorted_keys(by_name)
    local near = util.suggest(given, names)
    return nil, ("expected the name of a metric or a function of (output, target), got '%s'%s; "
      .. "metrics are %s"):format(given, near and (", did you mean '%s'?"):format(near) or "",
        table.concat(names, ", "))
  elseif type(given) == "function" then
    for name, fn in pairs(by_name) do
      if fn == given and name ~= "acc" then return name, fn end
    end
    return "metric" .. (i > 1 and "_" .. i or ""), given
  elseif type(given) == "table" and getmetatable(given) and getmetatable(given).__call then
    return given.name or "metric" .. (i > 1 and "_" .. i or ""), given
  end
  return nil, ("expected the name of a metric or a function of (output, target), got %s"):format(
    util.type_name(given))
end

return M
