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

for name, dtype in pairs {float = "float32", double = "float64", long = "int64", byte = "uint8",
                          bool = "bool"} do
  Tensor[name] = function(x) return ops.to(x, dtype) end
end

return M
