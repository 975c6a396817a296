--- What `fit`, `evaluate` and `predict` read from: datasets, loaders, tables of tensors.
-- Relies on perigee.data. Spec: spec/train/fit_spec.lua.

local core = require "perigee.core"
local blame = require "perigee.blame"
local util = require "perigee.util"

local M = {}

--- Names of a batch's tensors, sorted.
function M.fields(batch)
  local names = {}
  for key, value in pairs(batch) do
    if type(key) == "string" and core.is_tensor(value) then names[#names + 1] = key end
  end
  table.sort(names)
  return names
end

--- Raises that a field is missing, naming the ones there are.
-- @param who "input 'image'"
function M.missing(fn, who, field, batch)
  local names = M.fields(batch)
  local near = util.suggest(field, names)
  blame.raise("%s: argument 'data': expected the batch field '%s' for %s, got %s%s", fn, field, who,
    #names > 0 and table.concat(names, ", ") or "none",
    near and ("; did you mean '%s'?"):format(near) or "")
end

--- How many samples a batch has.
function M.size(batch)
  for _, value in pairs(batch) do
    if core.is_tensor(value) and value:dim() > 0 then return value:size(1) end
  end
  return 1
end

local function is_table_of_tensors(value)
  if type(value) ~= "table" or getmetatable(value) ~= nil then return false end
  for key, field in pairs(value) do
    if type(key) ~= "string" or not core.is_tensor(field) then return false end
  end
  return next(value) ~= nil
end

--- A loader for what the script gave.
-- @param fn name of the public function
-- @param given a dataset, a DataLoader, or a table of tensors by field
-- @param opt batch_size, shuffle, seed
-- @return a DataLoader
function M.loader(fn, given, opt)
  local data = require "perigee.data"
  if util.type_name(given) == "DataLoader" then return given end
  if is_table_of_tensors(given) then given = data.TensorDataset(given) end
  if type(given) ~= "table" or getmetatable(given) == nil then
    blame.raise("%s: argument 'data': expected a dataset, a DataLoader or a table of tensors by "
      .. "field name, got %s", fn, type(given) == "table" and "a table that holds something else"
      or util.show(given))
  end
  return data.DataLoader(given, {batch_size = opt.batch_size, shuffle = opt.shuffle or false,
    seed = opt.seed})
end

--- Whether a dataset's batches are tensors made for the batch, that nobody else holds.
local function makes_fresh(set)
  local dataset = require "perigee.data.dataset"
  while util.type_name(set) == "Subset" do set = rawget(set, "_set") end
  return set.batch == dataset.TensorDataset.batch
end

--- A function that gives the next batch of a new pass, or nil; and whether it may run inside the
-- step's scope, so that the batch is freed with it. A dataset of one's own runs outside: it may
-- keep tensors that it makes while it is asked.
function M.reader(loader)
  return loader:batches(), makes_fresh(loader.dataset)
end

return M
