--- Datasets in memory, parts of datasets.
-- Relies on core.data. Spec: spec/data/dataset_spec.lua.

local core = require "perigee.core"
local blame = require "perigee.blame"
local util = require "perigee.util"

local M = {}

--- The base of all datasets; a dataset of one's own overrides `__len` and `get`:
-- `local Mine = data.Dataset:extend "Mine"`.
M.Dataset = util.class "Dataset"

--- A list of 1-based indices as an int64 tensor.
local function to_index(fn, index)
  if core.is_tensor(index) then
    if index.dtype ~= "int64" or index:dim() ~= 1 then
      blame.raise("%s: argument 'index': expected one dim of int64, got %s of %d dims", fn,
        index.dtype, index:dim())
    end
    return index:contiguous()
  elseif type(index) == "table" then
    return core.tensor(index, {dtype = "int64"})
  end
  blame.raise("%s: expected a list of indices, got %s", fn, util.type_name(index))
end

--- Part of the set, without copying: samples first..last, both included and negative from the end,
-- or those of a list of indices.
-- `train:subset(1, 1000)`, `train:subset(index_tensor)`
-- @return a Subset
function M.Dataset:subset(first, last)
  if last == nil and math.type(first) == nil then
    return M.Subset(self, first)
  end
  first = util.expect("subset", "first", first, "integer")
  last = util.expect("subset", "last", last == nil and -1 or last, "integer")
  local n = #self
  local from, to = first < 0 and n + 1 + first or first, last < 0 and n + 1 + last or last
  if from < 1 or to > n or to < from - 1 then
    blame.raise("subset: argument 'last': expected a range within 1..%d, got %d..%d", n, first,
      last)
  end
  return M.Subset(self, core.data.range(from, to))
end

--- One value of each sample as one tensor with a new first dim.
local function collate(values)
  local first = values[1]
  if core.is_tensor(first) then return core.ops.stack(values) end
  if type(first) == "number" then
    local whole = true
    for _, value in ipairs(values) do whole = whole and math.type(value) == "integer" end
    return core.tensor(values, {dtype = whole and "int64" or "float32"})
  elseif type(first) == "boolean" then
    return core.tensor(values)
  end
  return values
end

--- The samples of an index as one table of tensors: here made from `get`, one by one.
-- @param index int64 tensor
function M.Dataset:batch(index)
  local lists = {}
  local places = index:totable()
  for i, place in ipairs(places) do
    local sample = self:get(place)
    if type(sample) ~= "table" then
      blame.raise("%s:get(%d): expected a table of fields, got %s", util.type_name(self), place,
        util.type_name(sample))
    end
    for name, value in pairs(sample) do
      local list = lists[name]
      if not list then
        list = {}
        lists[name] = list
      end
      list[i] = value
    end
  end
  local batch = {}
  for name, list in pairs(lists) do
    for i = 1, #places do
      if list[i] == nil then
        blame.raise("%s:get(%d): expected the field '%s', as other samples have it, got nothing",
          util.type_name(self), places[i], name)
      end
    end
    batch[name] = collate(list)
  end
  return batch
end

-- TensorDataset -----------------------------------------------------------------------------------

--- Named tensors of one length: `data.TensorDataset {image = images, label = labels}`. The tensors
-- are fields of the set (`set.label`) and of its batches.
M.TensorDataset = M.Dataset:extend "TensorDataset"

--- @param fields tensors by name; the first dim counts the samples
-- @param opt transforms: by field, "unit" (uint8 0..255 becomes float32 0..1 in batches) or a
-- function from the batch's tensor to another; classes: names of the labels 1, 2, ..
function M.TensorDataset:init(fields, opt)
  opt = util.options("data.TensorDataset", opt, {"transforms", "classes"})
  if type(fields) ~= "table" or getmetatable(fields) ~= nil or next(fields) == nil then
    blame.raise("data.TensorDataset: expected a table of tensors by field name, got %s",
      type(fields) == "table" and next(fields) == nil and "an empty one" or util.type_name(fields))
  end
  self._names, self._tensors = util.sorted_keys(fields), {}
  for _, name in ipairs(self._names) do
    local t = fields[name]
    if type(name) ~= "string" or not core.is_tensor(t) then
      blame.raise("data.TensorDataset: argument 'fields': expected tensors by name, got %s at %s",
        util.type_name(t), util.show(name))
    elseif name:find "^_" or name == "classes" or self[name] ~= nil then
      blame.raise("data.TensorDataset: argument 'fields': expected names that datasets do not use, "
        .. "got '%s'", name)
    elseif t:dim() == 0 then
      blame.raise("data.TensorDataset: argument 'fields': expected at least 1 dim, got [] as '%s'",
        name)
    elseif self._size and self._size ~= t:size(1) then
      blame.raise("data.TensorDataset: argument 'fields': expected %d rows as '%s' has, got %d in "
        .. "'%s'", self._size, self._names[1], t:size(1), name)
    end
    self._size = self._size or t:size(1)
    self._tensors[name] = core.keep(t:detach():contiguous())
    self[name] = self._tensors[name]
  end
  self._transforms = opt.transforms or {}
  for name, transform in pairs(self._transforms) do
    local t = self._tensors[name]
    if not t then
      local near = util.suggest(name, self._names)
      blame.raise("data.TensorDataset: argument 'transforms': expected names of fields, got %s%s",
        util.show(name), near and (", did you mean '%s'?"):format(near) or "")
    elseif transform == "unit" and t.dtype ~= "uint8" then
      blame.raise("data.TensorDataset: argument 'transforms': expected uint8 for 'unit', got %s "
        .. "in '%s'", t.dtype, name)
    elseif transform ~= "unit" then
      util.expect("data.TensorDataset", "transforms." .. name, transform, "callable")
    end
  end
  self.classes = opt.classes
end

M.TensorDataset.__len = function(self) return self._size end

--- The samples of an index, as a table of fresh tensors by field.
-- @param index int64 tensor or list of integers
function M.TensorDataset:batch(index)
  index = to_index("batch", index)
  local batch = {}
  for _, name in ipairs(self._names) do
    local transform = self._transforms[name]
    local t = core.data.rows(self._tensors[name], index, transform == "unit")
    if transform and transform ~= "unit" then t = transform(t) end
    batch[name] = t
  end
  return batch
end

--- Sample i, as a table of tensors by field, without the dim that counts samples.
function M.TensorDataset:get(i)
  i = util.expect("get", "i", i, "integer")
  if i < 1 or i > self._size then
    blame.raise("get: argument 'i': expected 1..%d, got %d", self._size, i)
  end
  local sample = self:batch(core.data.range(i, i))
  for name, t in pairs(sample) do sample[name] = t:select(1, 1) end
  return sample
end

-- Subset ------------------------------------------------------------------------------------------

--- Some samples of another set, in the order of a list of indices. Its fields (`part.label`) are
-- the other set's, cut to its samples.
M.Subset = M.Dataset:extend "Subset"

local subset_index = function(self, key)
  local method = M.Subset[key]
  if method ~= nil then return method end
  local base = rawget(self, "_set")
  local value = base and base[key]
  if core.is_tensor(value) and value:dim() > 0 and value:size(1) == #base then
    value = core.keep(core.data.rows(value:contiguous(), self._index))
    rawset(self, key, value)
  end
  return value
end
M.Subset.__index = subset_index

--- @param set any dataset
-- @param index int64 tensor or list of integers
function M.Subset:init(set, index)
  self._set = set
  index = core.keep(to_index("subset", index):clone())
  local n = #set
  if index:numel() > 0 then
    local least, most = index:min():item(), index:max():item()
    if least < 1 or most > n then
      blame.raise("subset: argument 'index': expected 1..%d, got %d", n,
        least < 1 and least or most)
    end
  end
  self._index = index
end

M.Subset.__len = function(self) return self._index:size(1) end

function M.Subset:get(i)
  i = util.expect("get", "i", i, "integer")
  if i < 1 or i > #self then
    blame.raise("get: argument 'i': expected 1..%d, got %d", #self, i)
  end
  return self._set:get(self._index[i]:item())
end

function M.Subset:batch(index)
  local own = core.data.rows(self._index, to_index("batch", index))
  local batch = self._set.batch or M.Dataset.batch
  return batch(self._set, own)
end

--- Parts of a set without common samples, drawn at random.
-- `local train, held = data.random_split(set, {0.9, 0.1}, {seed = 7})`
-- @param set any dataset
-- @param lengths how many samples each part has, or fractions that add up to 1 (what rounding
-- leaves over goes to the first parts, one each)
-- @param opt seed
-- @return as many Subsets
function M.random_split(set, lengths, opt)
  opt = util.options("data.random_split", opt, {"seed"})
  util.expect("data.random_split", "lengths", lengths, "table")
  local n, total, fractions, sizes = #set, 0, false, {}
  for i, length in ipairs(lengths) do
    util.expect("data.random_split", "lengths", length, "number")
    if length < 0 then
      blame.raise("data.random_split: argument 'lengths': expected at least 0, got %s", length)
    end
    fractions = fractions or length ~= math.floor(length)
    total = total + length
    sizes[i] = math.tointeger(length)
  end
  if #lengths > 0 and (fractions or (total == 1 and n ~= 1)) then
    if math.abs(total - 1) > 1e-6 then
      blame.raise("data.random_split: argument 'lengths': expected fractions that add up to 1, "
        .. "got %g", total)
    end
    local left = n
    for i, fraction in ipairs(lengths) do
      sizes[i] = math.floor(fraction * n + 1e-9)
      left = left - sizes[i]
    end
    for i = 1, left do
      local k = (i - 1) % #sizes + 1
      sizes[k] = sizes[k] + 1
    end
  elseif total ~= n then
    blame.raise("data.random_split: argument 'lengths': expected %d samples in all, got %g", n,
      total)
  end
  local order, at, parts = core.data.permutation(n, opt.seed), 1, {}
  for i, size in ipairs(sizes) do
    parts[i] = M.Subset(set, order:narrow(1, at, size))
    at = at + size
  end
  return table.unpack(parts)
end

return M
