--- Tensor functions that are compositions of ops: splitting, casts by name, indexing by tensors.

local core = require "perigee.core"

local ops, Tensor = core.ops, core.Tensor
local M = {functions = {}}

local function fail(fn, fmt, ...) error(fn .. ": " .. fmt:format(...), 3) end

--- 0-based checks are C's work; here a dim becomes positive.
local function whole_dim(fn, x, dim)
  dim = dim or 1
  local n = x:dim()
  if math.type(dim) ~= "integer" or dim == 0 or dim > n or dim < -n then
    fail(fn, "dim %s is out of range: expected 1..%d or -%d..-1", tostring(dim), n, n)
  end
  return dim > 0 and dim or n + 1 + dim
end

local function define(name, f)
  M.functions[name] = f
  Tensor[name] = f
end

--- Cuts x into pieces along dim; the last may be smaller.
-- @param x tensor
-- @param size length of a piece, or the list of all lengths
-- @param dim 1 by default
-- @return list of views
define("split", function(x, size, dim)
  dim = whole_dim("split", x, dim)
  local n, pieces, at = x:size(dim), {}, 1
  if type(size) == "number" then
    if math.type(size) ~= "integer" or size < 1 then
      fail("split", "argument 'split_size': expected a positive integer, got %s", tostring(size))
    end
    local sizes = {}
    for first = 1, math.max(n, 1), size do
      sizes[#sizes + 1] = math.min(size, n - first + 1)
    end
    size = sizes
  end
  local total = 0
  for _, k in ipairs(size) do total = total + k end
  if total ~= n then
    fail("split", "sizes add up to %d, but dim %d has %d elements", total, dim, n)
  end
  for i, k in ipairs(size) do
    pieces[i] = ops.narrow(x, dim, at, k)
    at = at + k
  end
  return pieces
end)

--- Cuts x into at most n pieces of equal length along dim.
-- @return list of views
define("chunk", function(x, n, dim)
  if math.type(n) ~= "integer" or n < 1 then
    fail("chunk", "argument 'chunks': expected a positive integer, got %s", tostring(n))
  end
  dim = whole_dim("chunk", x, dim)
  return Tensor.split(x, math.max(1, (x:size(dim) + n - 1) // n), dim)
end)

--- The slices of x along dim, without that dim.
-- @return list of views
define("unbind", function(x, dim)
  dim = whole_dim("unbind", x, dim)
  local rows = {}
  for i = 1, x:size(dim) do rows[i] = ops.select(x, dim, i) end
  return rows
end)

--- Parts of a key that holds tensors: the key of its integers and ranges, with {} where tensors
-- stand, and the tensors by the dim that they index once the integers have dropped theirs.
local function parts_of(x, key)
  if core.is_tensor(key) then return nil, {key}, 1 end
  local basic, tensors, last, dim, plain = {}, {}, 0, 0, true
  for _, item in ipairs(key) do
    if core.is_tensor(item) then
      local covers = item.dtype == "bool" and math.max(item:dim(), 1) or 1
      tensors[dim + 1] = item
      last = dim + 1
      dim = dim + covers
      for _ = 1, covers do basic[#basic + 1] = {} end
    else
      basic[#basic + 1] = item
      if type(item) ~= "number" then dim = dim + 1 end
      plain = plain and type(item) == "table" and next(item) == nil
    end
  end
  if #basic > x:dim() then
    error(("%d indices for a tensor of %d dims"):format(#basic, x:dim()), 4)
  end
  return not plain and basic or nil, tensors, last
end

--- x[key] where the key is, or holds, index tensors (1-based) or masks.
function core.index_get(x, key)
  local basic, tensors, last = parts_of(x, key)
  if basic then x = x[basic] end
  return ops.index(x, table.unpack(tensors, 1, last))
end

--- x[key] = value for such keys.
function core.index_set(x, key, value)
  local basic, tensors, last = parts_of(x, key)
  if not basic then
    ops.index_put_(x, value, table.unpack(tensors, 1, last))
    return
  end
  x[basic] = ops.index_put(x[basic], value, table.unpack(tensors, 1, last))
end

for name, dtype in pairs {float = "float32", double = "float64", long = "int64", byte = "uint8",
                          bool = "bool"} do
  Tensor[name] = function(x) return ops.to(x, dtype) end
end

return M
