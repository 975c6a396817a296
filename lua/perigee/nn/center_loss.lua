--- What scripts do with the centers of `nn.CenterLoss`: methods that the class gets.
-- Relies on the layer's slots (centers, counts, drift) and the op nearest_center.
-- Spec: spec/nn/center_loss_spec.lua.

local core = require "perigee.core"
local util = require "perigee.util"

local M = {}

--- The centers, classes x features: a copy, at any time, without any input.
function M:centers() return core.layer_get(self._handle, "centers"):clone() end

--- How many updates each class has seen: a copy.
function M:counts() return core.layer_get(self._handle, "counts"):clone() end

--- How far each class's center moved in its last update: a copy.
function M:drift() return core.layer_get(self._handle, "drift"):clone() end

local function shape_text(t) return "[" .. table.concat(t.shape, " x ") .. "]" end

--- Puts these centers in place of the present ones.
-- @param centers a tensor (or table) classes x features; cast to the layer's dtype
-- @return the layer
function M:set_centers(centers)
  if type(centers) == "table" and getmetatable(centers) == nil then
    centers = core.tensor(centers)
  end
  local own = core.layer_get(self._handle, "centers")
  if not core.is_tensor(centers) then
    util.fail("CenterLoss:set_centers", "expected a tensor %s, got %s", shape_text(own),
      util.type_name(centers))
  elseif shape_text(centers) ~= shape_text(own) then
    util.fail("CenterLoss:set_centers", "expected %s, got %s", shape_text(own),
      shape_text(centers))
  end
  local _ <close> = core.no_grad()
  core.layer_set(self._handle, "centers", centers:detach():to(own.dtype):contiguous():clone())
  return self
end

--- Features and labels of a data set as two tensors.
local function from_dataset(self, set)
  local fields = set.tensors or set.fields
  local function field(name) return set[name] or type(fields) == "table" and fields[name] end
  local features, labels = field "features" or field "feature", field "label" or field "labels"
  if not (core.is_tensor(features) and core.is_tensor(labels)) then
    util.fail("CenterLoss:init_from",
      "argument 'set': expected tensors 'features' [n x %d] and 'label', got another",
      self.num_features)
  end
  return features, labels
end

--- Puts each class's center at the mean of its features; classes without any keep theirs.
-- @param features n x features, or a data set with tensors `features` and `label`
-- @param labels n, counting from 1
-- @return the layer
function M:init_from(features, labels)
  if type(features) == "table" and labels == nil then
    features, labels = from_dataset(self, features)
  end
  for name, value in pairs {features = features, labels = labels or false} do
    if not core.is_tensor(value) then
      util.fail("CenterLoss:init_from", "argument '%s': expected a tensor, got %s", name,
        util.type_name(value))
    end
  end
  local _ <close> = core.no_grad()
  local centers = core.layer_get(self._handle, "centers")
  local helper = require("perigee.nn").CenterLoss(self.num_classes, self.num_features,
    {alpha = 1, denominator = "n"})
  helper:to(centers.dtype)
  helper:set_centers(centers)
  helper(features:detach():to(centers.dtype), labels)
  return self:set_centers(core.layer_get(helper._handle, "centers"))
end

--- The class of the nearest center for each row of features.
-- @param features n x features
-- @param opt reject: a distance above which the label is 0
-- @return labels (int64, n) and distances (n)
function M:nearest(features, opt)
  opt = util.options("CenterLoss:nearest", opt, {"reject"})
  util.expect("CenterLoss:nearest", "reject", opt.reject, "number|nil")
  if not core.is_tensor(features) then
    util.fail("CenterLoss:nearest", "argument 'features': expected a tensor, got %s",
      util.type_name(features))
  end
  local _ <close> = core.no_grad()
  local centers = core.layer_get(self._handle, "centers")
  return core.ops.nearest_center(features:detach(), centers, opt)
end

--- Writes the centers, rows in class order: .npy, .csv or .safetensors (as "centers").
-- @return true; or nil, message
function M:export(path)
  util.expect("CenterLoss:export", "path", path, "string")
  local kind = path:match "%.([%w]+)$"
  util.choice("CenterLoss:export", "path", kind, {"npy", "csv", "safetensors"})
  local centers = self:centers()
  if kind == "safetensors" then centers = {centers = centers} end
  return require("perigee.io").save(path, centers)
end

--- Called by fit after an epoch: warns when classes were never updated, and when the features have
-- collapsed: all centers within 1e-3 of one another while a cross entropy stays at ln(classes).
-- @param info logs: the epoch's numbers by name
function M:on_epoch_end(info)
  local absent = core.layer_get(self._handle, "counts"):eq(0)
  local never = self.alpha > 0 and absent:sum():item() or 0
  local who = self.name or "CenterLoss"
  if never > 0 then
    warn(("%s: %d of %d classes were never updated (the first is %d); are their labels in the "):
      format(who, never, self.num_classes, absent:to("int64"):argmax(1):item()), "training data?")
  end
  local centers = self:centers()
  local spread = (centers:amax(1) - centers:amin(1)):max():item()
  if self.num_classes < 2 or spread > 1e-3 or never == self.num_classes then return end
  local chance = math.log(self.num_classes)
  for name, value in pairs(info and info.logs or {}) do
    local stays = type(value) == "number" and name:find "loss$" ~= nil
      and math.abs(value - chance) < 0.02 * chance
    if stays then
      warn(("%s: the features have collapsed: all centers lie within 1e-3 of one another and %s "):
        format(who, name), ("stays at ln %d; give the center loss a smaller weight"):
        format(self.num_classes))
      return
    end
  end
end

return M
