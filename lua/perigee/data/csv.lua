--- A table file as a dataset.
-- Relies on perigee.io. Spec: spec/data/csv_spec.lua.

local core = require "perigee.core"
local blame = require "perigee.blame"
local util = require "perigee.util"
local dataset = require "perigee.data.dataset"
local files = require "perigee.io"

--- The names of the columns in order, and the columns by name; unnamed ones are counted.
local function read(path)
  local value, info = files.load(path)
  if value == nil then return nil, info end
  local names, columns = info.columns, value
  if core.is_tensor(value) then
    names, columns = {}, {}
    for i = 1, value:size(2) do
      names[i] = i
      columns[i] = value:select(2, i)
    end
  elseif not names then
    names = util.sorted_keys(value)
  end
  return names, columns, info.classes
end

--- A numeric column as classes 1, 2, .. in the order of its values.
local function classes_of(column)
  local values, seen = {}, {}
  local list = column:totable()
  for _, v in ipairs(list) do
    if not seen[v] then
      seen[v] = true
      values[#values + 1] = v
    end
  end
  table.sort(values)
  local words = {}
  for k, v in ipairs(values) do
    seen[v] = k
    words[k] = ("%g"):format(v)
  end
  for i, v in ipairs(list) do list[i] = seen[v] end
  return core.tensor(list, {dtype = "int64"}), words
end

--- A table file as a dataset with the fields input (N x columns, float32) and, where a column is
-- named for it, label (N, int64, with `classes`) or target (N, float32).
-- `local iris = data.csv("iris.csv", {label = 5})`
-- @param path a .csv or .tsv file
-- @param opt label or target: a column, by name or by number (negative from the end); columns: the
-- ones for input (all others)
-- @return a TensorDataset, or nil and a message where the file cannot be read
return function(path, opt)
  local fn = "data.csv"
  util.expect(fn, "path", path, "string")
  opt = util.options(fn, opt, {"label", "target", "columns"})
  if opt.label ~= nil and opt.target ~= nil then
    blame.raise("%s: argument 'target': expected nothing beside label, got %s", fn,
      util.show(opt.target))
  end
  local names, columns, classes = read(path)
  if names == nil then return nil, columns end

  local function find(what, wanted)
    if math.type(wanted) == "integer" then
      local name = names[wanted < 0 and #names + 1 + wanted or wanted]
      if name ~= nil then return name end
    elseif type(wanted) == "string" and columns[wanted] then
      return wanted
    end
    local near = util.suggest(wanted, names)
    blame.raise("%s: argument '%s': expected a column of %s, got %s%s", fn, what, path,
      util.show(wanted), near and (", did you mean '%s'?"):format(near) or "")
  end

  local goal
  if opt.label ~= nil then goal = find("label", opt.label) end
  if opt.target ~= nil then goal = find("target", opt.target) end
  local chosen = {}
  for _, wanted in ipairs(opt.columns or names) do
    local name = opt.columns and find("columns", wanted) or wanted
    if opt.columns or name ~= goal then chosen[#chosen + 1] = columns[name]:to("float32") end
  end
  if #chosen == 0 then
    blame.raise("%s: argument 'path': expected columns that are left for input, got none in %s", fn,
      path)
  end
  local fields, words = {input = core.ops.stack(chosen, 2)}, nil
  if opt.label ~= nil then
    words = classes[goal]
    if words then
      fields.label = columns[goal]
    else
      fields.label, words = classes_of(columns[goal])
    end
  elseif opt.target ~= nil then
    fields.target = columns[goal]:to("float32")
  end
  return dataset.TensorDataset(fields, {classes = words})
end
