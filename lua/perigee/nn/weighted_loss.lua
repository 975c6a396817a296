--- What losses with weights (`nn.CrossEntropyLoss(weight)`) do beside their layer in C: tensors
-- among the constructor's arguments become buffers. Relies on perigee.core.
-- Spec: spec/nn/loss_spec.lua.

local blame = require "perigee.blame"
local core = require "perigee.core"
local util = require "perigee.util"

local M = {}

--- Where `weight` stands among the arguments; 1 where nothing is said.
local PLACE = {MultiMarginLoss = 3}

local function is_options(value)
  return type(value) == "table" and getmetatable(value) == nil and type(next(value)) == "string"
end

local function buffer(self, name, value)
  if value == nil then return nil end
  if type(value) == "table" and getmetatable(value) == nil then
    value = blame.named("nn." .. self.class_name, core.tensor, value)
  end
  if not core.is_tensor(value) then
    util.fail("nn." .. self.class_name, "argument '%s': expected a tensor, got %s", name,
      util.type_name(value))
  end
  return value:detach()
end

--- The layer's arguments, with tensors `weight` (and `pos_weight`) among them.
function M:init(...)
  local args = table.pack(...)
  local options, found = {}, {}
  if args.n > 0 and is_options(args[args.n]) then
    for key, value in pairs(args[args.n]) do options[key] = value end
    args.n = args.n - 1
  end
  local place = PLACE[self.class_name] or 1
  if args.n >= place then
    found.weight = args[place]
    table.remove(args, place)
    args.n = args.n - 1
  end
  local slots, positive = {}, self.class_name == "BCEWithLogitsLoss"
  if positive and args.n >= 2 then
    found.pos_weight = args[2]
    args.n = 1
  end
  for _, name in ipairs {"weight", "pos_weight"} do
    if options[name] ~= nil and (name == "weight" or positive) then
      found[name] = options[name]
      options[name] = nil
    end
    slots[name] = buffer(self, name, found[name])
  end
  args[args.n + 1] = options
  getmetatable(self)._base.init(self, table.unpack(args, 1, args.n + 1))
  for name, tensor in pairs(slots) do self:replace_tensor("buffer", name, tensor) end
end

--- The constructor's arguments, tensors as tables of numbers.
function M:config()
  local args = core.layer_args(self._handle)
  for _, name in ipairs {"weight", "pos_weight"} do
    local tensor = self._slots[name] and core.layer_get(self._handle, name)
    if tensor then args[name] = tensor:totable() end
  end
  return {args, n = 1}
end

return M
