--- The DataLoader: batches of a dataset, in order or shuffled.
-- Relies on core.data. Spec: spec/data/loader_spec.lua.

local core = require "perigee.core"
local blame = require "perigee.blame"
local util = require "perigee.util"
local dataset = require "perigee.data.dataset"

--- `for batch in data.DataLoader(train, {batch_size = 128, shuffle = true}) do`: a fresh epoch each
-- time it is iterated. A batch is a table of tensors by field. `#loader` counts the batches;
-- `loader.epoch` the epochs begun, and may be set: with a seed the order of epoch k depends on seed
-- and k only, without one on the state of the global generator.
local DataLoader = util.class "DataLoader"

--- @param set a dataset: `#set` and `set:get(i)`, or `set:batch(index)` for speed
-- @param opt batch_size (1), shuffle (false), seed, drop_last (false: the last batch may be short)
function DataLoader:init(set, opt)
  opt = util.options("data.DataLoader", opt,
    {batch_size = 1, shuffle = false, drop_last = false, "seed"})
  local meta = getmetatable(set)
  if type(set) ~= "table" or type(meta) ~= "table" or not meta.__len
      or type(set.get or set.batch) ~= "function" then
    blame.raise("data.DataLoader: argument 'set': expected a dataset (with # and get), got %s%s",
      util.show(set), type(set) == "table" and meta == nil
      and "; data.TensorDataset makes one of a table of tensors" or "")
  end
  self.batch_size = util.expect("data.DataLoader", "batch_size", opt.batch_size, "integer")
  if self.batch_size < 1 then
    blame.raise("data.DataLoader: argument 'batch_size': expected at least 1, got %d",
      self.batch_size)
  end
  self.seed = util.expect("data.DataLoader", "seed", opt.seed, "integer|nil")
  self.shuffle, self.drop_last = opt.shuffle, opt.drop_last
  self.dataset = set
  self.epoch = 0
  self._running = setmetatable({}, {__mode = "k"})
end

DataLoader.__len = function(self)
  local n, size = #self.dataset, self.batch_size
  return self.drop_last and n // size or (n + size - 1) // size
end

--- An iterator over the batches of a fresh epoch.
function DataLoader:batches()
  local set, size, count, at = self.dataset, self.batch_size, #self, 0
  local n = #set
  local batch = set.batch or dataset.Dataset.batch
  self.epoch = self.epoch + 1
  local order
  if self.shuffle then
    order = core.keep(core.data.permutation(n, self.seed, self.epoch))
  end
  return function()
    if at == count then return nil end
    local first = at * size + 1
    local last = math.min(first + size - 1, n)
    at = at + 1
    local index = order and order:narrow(1, first, last - first + 1)
      or core.data.range(first, last)
    if at == count and order then   -- 8 bytes a sample, which the collector does not see
      order:release()
      order = nil
    end
    return batch(set, index)
  end
end

--- The generic `for` calls the loader itself: with the last batch, or with nil to begin.
DataLoader.__call = function(self, _, last)
  local step = last == nil and self:batches() or self._running[last]
  if not step then
    blame.raise("data.DataLoader: argument 'last': expected a batch that this loader gave, got "
      .. "another")
  end
  local batch = step()
  if batch ~= nil then self._running[batch] = step end
  return batch
end

return DataLoader
