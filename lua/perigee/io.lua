--- Files: `pg.save` and `pg.load` choose the format by the file's name.
-- .npy and .npz (numpy), .safetensors, .perigee and .ckpt (safetensors), .csv and .tsv, pictures
-- (.png, .pgm, .ppm); IDX, JPEG and BMP files are only read. Relies on core.io.
-- Spec: spec/io/files_spec.lua.

local core = require "perigee.core"
local blame = require "perigee.blame"
local util = require "perigee.util"

local M = {}

--- What core.io knows: a list of {name=, doc=, suffixes=, writes=, metadata=}.
M.formats = core.io.formats
--- Reads an IDX file, plain or gzip'ed, whatever its name: a tensor, or nil and a message.
M.idx = core.io.idx
--- JSON text of a value. Tables with positions are lists, others objects; an empty list is
-- `pg.io.array {}`, null is `pg.io.null`. Integers stay integers.
M.json_encode = core.io.json_encode
--- The value of a JSON text, or nil and a message.
M.json_decode = core.io.json_decode
M.array = core.io.array
M.null = core.io.null

local function expect_path(fn, path)
  if type(path) ~= "string" then
    blame.raise("%s: argument 'path': expected a string, got %s", fn, util.show(path))
  end
end

--- A state dict of any depth as one table: {conv = {weight = t}} becomes {["conv.weight"] = t}.
local function flatten(value)
  local flat, work = {}, {{"", value}}
  local seen = {}
  while #work > 0 do
    local prefix, node = table.unpack(table.remove(work))
    if seen[node] then
      blame.raise("save: argument 'value': expected tables that do not hold themselves, got one at "
        .. "'%s'", prefix)
    end
    seen[node] = true
    for key, child in pairs(node) do
      if type(key) ~= "string" and math.type(key) ~= "integer" then
        blame.raise("save: argument 'value': expected strings or integers as keys, got a %s",
          type(key))
      end
      local name = (prefix == "" and "" or prefix .. ".") .. key
      if type(child) == "table" and not core.is_tensor(child) then
        work[#work + 1] = {name, child}
      elseif not core.is_tensor(child) then
        blame.raise("save: argument 'value': expected tensors or tables of tensors, got %s at '%s'",
          util.type_name(child), name)
      elseif flat[name] ~= nil then
        blame.raise("save: argument 'value': expected names that differ, got '%s' twice", name)
      else
        flat[name] = child
      end
    end
  end
  return flat
end

--- Reads a picture (PNG, JPEG, BMP, PGM or PPM, whatever its name) as uint8 of channels x height x
-- width.
-- Samples are as the file has them, without colour management; 16 bits are rounded to 8.
-- `pg.io.image("cat.jpg", {channels = 3})`
-- @param opt channels: 1 or 3 (the file's own: 1 grey, 2 grey and alpha, 3 colour, 4 colour and
-- alpha); limit: greatest size in bytes, of the file and of the decoded picture (2^28)
-- @return a tensor, or nil and a message where the file is missing, damaged or too large
function M.image(path, opt)
  expect_path("image", path)
  opt = util.options("image", opt, {"channels", "limit"})
  local channels = util.expect("image", "channels", opt.channels, "integer|nil")
  local limit = util.expect("image", "limit", opt.limit, "integer|nil")
  return blame.call("", core.io.image, path, channels, limit)
end

--- Writes a tensor or a table of tensors; nested tables get names with dots. The file is replaced
-- in one step: after a failure the old one is still there.
-- `pg.save("w.safetensors", model:state_dict())`
-- @param path its ending tells the format
-- @param value a tensor, or a table of tensors, nested as deep as one likes
-- @param opt format ("npz", where the ending does not tell), metadata (strings by name,
-- safetensors only)
-- @return true, or nil and a message where the file cannot be written
function M.save(path, value, opt)
  expect_path("save", path)
  opt = util.options("save", opt, {"format", "metadata"})
  if not core.is_tensor(value) then
    if type(value) ~= "table" then
      blame.raise("save: argument 'value': expected a tensor or a table of tensors, got %s",
        util.show(value))
    end
    value = flatten(value)
  end
  return blame.call("", core.io.save, path, value, opt.metadata, opt.format)
end

--- What a table file says beside its numbers: {columns = {names}, classes = {column = {words}}}.
local function table_notes(notes)
  local info = {classes = {}}
  for key, text in pairs(notes) do
    if key == "columns" then
      info.columns = core.io.json_decode(text)
    else
      local name = key:sub(#"classes." + 1)
      info.classes[name] = core.io.json_decode(text)
    end
  end
  if info.columns then return info end
  local classes = {} -- columns without names are counted
  for name, words in pairs(info.classes) do classes[math.tointeger(name)] = words end
  info.classes = classes
  return info
end

--- The columns of a table file: numbers in dtype, words as int64 classes; counted where unnamed.
local function table_columns(value, info, dtype)
  local function convert(column)
    return column.dtype == "float64" and dtype ~= "float64" and column:to(dtype) or column
  end
  if core.is_tensor(value) then return convert(value) end
  local columns = {}
  for name, column in pairs(value) do
    columns[info.columns and name or math.tointeger(name)] = convert(column)
  end
  return columns
end

local function is_table_file(path, format)
  if format then return format == "csv" end
  local ending = path:lower():match "%.(%w+)$"
  return ending == "csv" or ending == "tsv"
end

--- Reads what `pg.save` writes, and files of numpy, safetensors and the MNIST family.
-- A table file (.csv, .tsv) of numbers only gives a tensor, rows x columns; with a first line of
-- names, or columns of words, a tensor for each column. Words become classes, counted from 1 in
-- sorted order.
-- @param path its ending tells the format
-- @param opt format (where the ending does not tell); dtype (table files only; "float32")
-- @return a tensor, or a table of tensors by name; then the file's metadata, a table of strings,
-- for table files {columns = {names}, classes = {column = {words}}}. Or nil and a message.
function M.load(path, opt)
  expect_path("load", path)
  opt = util.options("load", opt, {"format", "dtype"})
  local tabular = is_table_file(path, opt.format)
  if opt.dtype and not tabular then
    blame.raise("load: argument 'dtype': expected nothing but for table files, got '%s'; convert "
      .. "with x:to(\"%s\")", opt.dtype, opt.dtype)
  end
  local value, notes = blame.call("", core.io.load, path, opt.format)
  if value == nil or not tabular then return value, notes end
  local info = table_notes(notes)
  return table_columns(value, info, opt.dtype or "float32"), info
end

return M
