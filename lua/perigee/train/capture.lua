--- The steps of `fit {capture = true}`: forward and backward passes as compiled functions.
-- Relies on perigee.compile. Spec: spec/train/capture_spec.lua.

local compile = require("perigee.compile").compile
local util = require "perigee.util"

local Capture = util.class "Capture"

local function same_list(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

--- What a forward pass gave as a list: the number of its layout (which names there are, the same
-- for all that have those), the loss, the outputs, the parts of the loss.
local function flatten(self, outputs, value, parts)
  local names, logs, list = util.sorted_keys(outputs), {}, {}
  local n = #names
  for i, name in ipairs(names) do list[i] = outputs[name] end
  for i, part in ipairs(parts) do logs[i], list[n + i] = part[1], part[2] end
  local at = 1
  while self.layouts[at] and not (same_list(self.layouts[at].names, names)
      and same_list(self.layouts[at].logs, logs)) do
    at = at + 1
  end
  self.layouts[at] = {names = names, logs = logs}
  return at, value, table.unpack(list, 1, n + #logs)
end

--- The other way. @return outputs by name, the loss
local function unflatten(layouts, parts, at, value, first, ...)
  local names, logs = layouts[at].names, layouts[at].logs
  local outputs, n = {}, #names
  if n > 0 then outputs[names[1]] = first end
  for i = 2, n do outputs[names[i]] = (select(i - 1, ...)) end
  for i = 1, #logs do parts[#parts + 1] = {logs[i], (select(n + i - 1, ...))} end
  return outputs, value
end

--- @param forward function of (batch, parts) that returns outputs by name and the loss, and adds
-- {log, tensor} to parts
-- @param backward function of the loss
function Capture:init(forward, backward)
  self.plain, self.layouts = forward, {}
  self.backward = compile(backward)
  -- called with the tensors of the batch, which are thereby known to be what differs
  self.run = compile(function()
    local parts = {}
    local outputs, value = forward(self.batch, parts)
    return flatten(self, outputs, value, parts)
  end)
end

--- What `forward` gives for the batch. One with other fields than the first had goes the plain way.
function Capture:forward(batch, parts)
  local fields, n = self.fields, 0
  if not fields then
    fields = util.sorted_keys(batch)
    self.fields = fields
  end
  for _ in next, batch do n = n + 1 end
  if n ~= #fields then return self.plain(batch, parts) end
  self.batch = batch
  local a, b = batch[fields[1]], batch[fields[2]]
  if n == 2 and a ~= nil and b ~= nil then
    return unflatten(self.layouts, parts, self.run(a, b))
  end
  local values = {}
  for i = 1, n do
    if batch[fields[i]] == nil then return self.plain(batch, parts) end
    values[i] = batch[fields[i]]
  end
  return unflatten(self.layouts, parts, self.run(table.unpack(values, 1, n)))
end

return Capture
