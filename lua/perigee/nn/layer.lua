--- Classes for the layers that are written in C, made from their descriptors.
-- Relies on nn/module.lua and core.layers(). Spec: spec/nn/layers_spec.lua.

local blame = require "perigee.blame"
local core = require "perigee.core"
local module = require "perigee.nn.module"
local util = require "perigee.util"

local M = {}

local Layer = setmetatable({}, {__index = module.Module})
for key, value in pairs(module.Module) do
  if type(key) == "string" and key:sub(1, 2) == "__" then Layer[key] = value end
end
Layer._base = module.Module

function Layer:init(...)
  local info = self._info
  local n = select("#", ...)
  local options = n > 0 and select(n, ...) or nil
  local name
  if type(options) == "table" and getmetatable(options) == nil then name = options.name end
  util.expect("nn." .. info.name, "name", name, "string|nil")
  local handle = blame.call("", core.layer_new, info.name, ...)
  rawset(self, "_handle", handle)
  rawset(self, "_name", name)
  rawset(self, "_given", nil)
  local slots, cache = {}, {}
  for _, slot in ipairs(core.layer_slots(handle)) do
    slots[#slots + 1] = slot
    slots[slot.name] = slot
    if slot.kind == "param" then
      local p = core.layer_get(handle, slot.name)
      if p then cache[slot.name] = module.mark_parameter(p) end
    end
  end
  rawset(self, "_slots", slots)
  rawset(self, "_cache", cache)
end

local layer_forward = core.layer_forward

--- Raises the error of a forward on the script's line, with the layer's name where it has one.
local function fail(self, message)
  if type(message) ~= "string" then error(message, 0) end
  local name = rawget(self, "_name")
  if name then
    message = message:gsub("%(in layer " .. self.class_name .. "%)$",
      function() return ("(in layer %s '%s')"):format(self.class_name, name) end)
  end
  error(blame.where() .. message, 0)
end

local function finish(self, ok, first, ...)
  if ok then return first, ... end
  fail(self, first)
end

function Layer:forward(...) return finish(self, pcall(layer_forward, self._handle, ...)) end

-- The way of most calls past Lua: an unhooked layer of a class whose forward is the one above.
module.call_layer = core.layer_caller(Layer.__call, fail)

--- Two layers one after the other, for an observer of both: an event of the second alone is empty
-- where the two are one op.
local function pair(first, second, ...)
  local y, joined
  do
    local _ <close> = module.observed(first)
    y, joined = finish(first, pcall(core.layer_join, first._handle, second._handle, ...))
  end
  if not joined then return second(y) end
  do local _ <close> = module.observed(second) end
  return y
end

--- run_chain(modules, order, ..): modules by name, one after the other in this order. A layer and
-- an activation behind it that needs nothing but its result run as one op; results between layers
-- are given up at once. Hooks and whatever else wants to see a call see the calls one by one.
M.run_chain = core.layer_chainer(fail, pair)

--- A class whose forward is replaced is called through Lua from then on.
local function set_class_field(class, key, value)
  rawset(class, key, value)
  if key == "forward" then class.__call = Layer.__call end
end

--- A parameter is always the same value; a buffer is asked for, because C may bring it up to date.
local function slot_value(self, slot)
  if slot.kind == "param" then return rawget(self, "_cache")[slot.name] end
  return core.layer_get(rawget(self, "_handle"), slot.name)
end

local base_index = module.Module.__index
function Layer:__index(key)
  local value = base_index(self, key)
  if value ~= nil then return value end
  local slots = rawget(self, "_slots")
  if slots and slots[key] then return slot_value(self, slots[key]) end
  local info = getmetatable(self)._info
  if info.kinds[key] and rawget(self, "_handle") then
    return core.layer_arg(rawget(self, "_handle"), key)
  end
  return nil
end

local base_newindex = module.Module.__newindex
function Layer:__newindex(key, value)
  local slots, info = rawget(self, "_slots"), getmetatable(self)._info
  local slot = slots and slots[key]
  if slot then
    if slot.kind == "param" and value ~= nil and not module.is_parameter(value) then
      error(("%s.%s is a parameter: expected an nn.Parameter or nil, got %s"):format(
        self.class_name, key, util.type_name(value)), 2)
    end
    self:replace_tensor(slot.kind, key, value)
  elseif slots and info.kinds[key] then
    local ok, message = pcall(core.layer_set_arg, rawget(self, "_handle"), key, value)
    if not ok then error((message:gsub("^[^\n:]-%.lua:%d+: ", "")), 2) end
  else
    base_newindex(self, key, value)
  end
end

function Layer:own_tensors(kind)
  local list = {}
  for _, slot in ipairs(self._slots) do
    if slot.kind == kind then
      local value = slot_value(self, slot)
      if value then list[#list + 1] = {slot.name, value} end
    end
  end
  for _, own in ipairs(module.Module.own_tensors(self, kind)) do list[#list + 1] = own end
  return list
end

function Layer:replace_tensor(kind, name, tensor)
  if not self._slots[name] then return module.Module.replace_tensor(self, kind, name, tensor) end
  core.layer_set(self._handle, name, tensor)
  if kind == "param" then
    self._cache[name] = tensor and module.mark_parameter(tensor)
  end
end

--- Tells C that the values of a slot were replaced.
function Layer:loaded(name)
  if self._slots[name] then
    core.layer_set(self._handle, name, core.layer_get(self._handle, name))
  end
end

function Layer:set_training(mode)
  module.Module.set_training(self, mode)
  core.layer_train(self._handle, mode)
end

--- Every argument by name: what makes the layer again.
function Layer:config()
  local args = core.layer_args(self._handle)
  return next(args) == nil and {n = 0} or {args, n = 1}
end

-- Printing --------------------------------------------------------------------------------------

--- A number as Python writes a float: 1e-05, 0.1, 1.0.
local function float_text(v)
  if v ~= v or v == math.huge or v == -math.huge then return (tostring(v):gsub("^%-nan", "nan")) end
  for digits = 1, 17 do
    local text = ("%." .. digits .. "g"):format(v)
    if tonumber(text) == v then
      if math.abs(v) >= 1e-4 and math.abs(v) < 1e16 and text:find "e" then
        text = ("%.0f"):format(v)
      end
      return text:find "[%.e]" and text or text .. ".0"
    end
  end
end

--- float: a whole number is shown as one that was not given as an integer.
local function value_text(value, kind, times, float)
  if value == nil then return "None" end
  if kind == "boolean" then return value and "True" or "False" end
  if kind == "number" and (float or math.type(value) == "float") then return float_text(value) end
  if times and type(value) == "number" then
    local list = {}
    for i = 1, times ~= "" and tonumber(times) or 1 do list[i] = value end
    value = list
  end
  if type(value) == "table" then
    return "(" .. table.concat(value, ", ") .. (#value == 1 and ",)" or ")")
  end
  return tostring(value)
end

local function same(a, b)
  if type(a) == "table" and #a > 0 then
    for _, v in ipairs(a) do
      if v ~= b then return false end
    end
    return true
  end
  return a == b
end

--- What PyTorch prints in the brackets, by the descriptor's template.
function Layer:extra_repr()
  local info, args = self._info, core.layer_args(self._handle)
  local template = info.show
  if not template then
    local parts = {}
    for _, p in ipairs(info.params) do
      if not same(args[p.name], p.default) then
        parts[#parts + 1] = p.name .. "=" .. value_text(args[p.name], p.kind)
      end
    end
    return table.concat(parts, ", ")
  end
  local function fill(text)
    return (text:gsub("{([%w_]+)(%*?)(%d*)}", function(name, star, times)
      return value_text(args[name], info.kinds[name], star ~= "" and times or nil,
        args[name] == info.defaults[name])
    end))
  end
  template = template:gsub("%[(.-)%]", function(part)
    local changed = false
    for name in part:gmatch "{([%w_]+)" do
      changed = changed or not same(args[name], info.defaults[name])
    end
    return changed and part or ""
  end)
  return fill(template)
end

-- Classes ---------------------------------------------------------------------------------------

local infos

--- Descriptors by class name.
local function described()
  if infos then return infos end
  infos = {}
  for _, info in ipairs(core.layers()) do
    info.kinds, info.defaults = {}, {}
    for _, p in ipairs(info.params) do
      info.kinds[p.name] = p.kind
      info.defaults[p.name] = p.default
    end
    infos[info.name] = info
  end
  return infos
end

--- Names of all layers in C, sorted.
function M.names() return util.sorted_keys(described()) end

local classes = {}

--- The class of a layer in C, or nil.
function M.class(name)
  local info = described()[name]
  if not info or classes[name] then return classes[name] end
  local class = {}
  for key, value in pairs(Layer) do
    if type(key) == "string" and key:sub(1, 2) == "__" then class[key] = value end
  end
  class.__name = name
  class.class_name = name
  class._base = Layer
  class._info = info
  classes[name] = setmetatable(class, {__index = Layer, __name = "module class",
    __newindex = set_class_field, __call = getmetatable(module.Module).__call})
  class.__call = module.call_layer
  if info.lua then
    for key, value in pairs(require(info.lua)) do class[key] = value end
  end
  return class
end

return M
