--- Cutting tensors into lists of views: split, chunk, unbind and their kin.
-- Relies on tensor/define. Spec: spec/tensor/pieces_spec.lua.

local define = require "perigee.tensor.define"
local ops = require("perigee.core").ops

local fail, whole_dim, shape_text = define.fail, define.dim, define.shape_text
define = define.define

local function want_dim(x, dim)
  if x:dim() == 0 then fail("argument 'input': expected at least 1 dim, got []") end
  return whole_dim(dim, x:dim())
end

--- Views of x along dim, each of sizes[i] elements.
local function cut(x, sizes, dim)
  local pieces, at = {}, 1
  for i, k in ipairs(sizes) do
    pieces[i] = ops.narrow(x, dim, at, k)
    at = at + k
  end
  return pieces
end

local function split(x, size, dim)
  dim = want_dim(x, dim)
  local n = x:size(dim)
  if type(size) == "number" then
    if size < 1 then
      fail("argument 'split_size': expected a positive integer, got %d", size)
    end
    local sizes = {}
    for first = 1, math.max(n, 1), size do
      sizes[#sizes + 1] = math.min(size, n - first + 1)
    end
    return cut(x, sizes, dim)
  end
  local total = 0
  for i, k in ipairs(size) do
    if k < 0 then fail("argument 'split_size': expected sizes from 0, got %d at %d", k, i) end
    total = total + k
  end
  if total ~= n then
    fail("argument 'split_size': expected sizes that add up to %d, as dim %d of %s has, got %d", n,
      dim, shape_text(x), total)
  end
  return cut(x, size, dim)
end

define {
  "split|split_with_sizes",
  "input: tensor; split_size: integers; dim: dim = 1",
  "List of views along dim, each of split_size elements (the last may be smaller) or of the sizes "
    .. "in a list.",
  split,
}

define {
  "chunk",
  "input: tensor; chunks: integer; dim: dim = 1",
  "List of at most `chunks` views of equal length along dim.",
  function(x, n, dim)
    if n < 1 then fail("argument 'chunks': expected a positive integer, got %d", n) end
    dim = want_dim(x, dim)
    return split(x, math.max(1, (x:size(dim) + n - 1) // n), dim)
  end,
}

define {
  "unbind",
  "input: tensor; dim: dim = 1",
  "List of the slices along dim, without that dim.",
  function(x, dim)
    dim = want_dim(x, dim)
    local rows = {}
    for i = 1, x:size(dim) do rows[i] = ops.select(x, dim, i) end
    return rows
  end,
}

--- Where: a number of pieces, as equal as can be, or the last index of every piece but the last.
local function tensor_split(x, where, dim)
  dim = want_dim(x, dim)
  local n, sizes = x:size(dim), {}
  if type(where) == "number" then
    if where < 1 then
      fail("argument 'indices_or_sections': expected a positive integer, got %d", where)
    elseif where > 65536 then
      fail("argument 'indices_or_sections': expected at most 65536 pieces, got %d", where)
    end
    for i = 1, where do sizes[i] = n // where + (i <= n % where and 1 or 0) end
    return cut(x, sizes, dim)
  end
  local pieces, at = {}, 0
  for i = 1, #where + 1 do
    local last = where[i] or n
    last = math.min(n, math.max(0, last < 0 and n + 1 + last or last))
    local first = math.min(at, n) + 1
    pieces[i] = ops.narrow(x, dim, math.min(first, math.max(n, 1)), math.max(0, last - at))
    at = last
  end
  return pieces
end

define {
  "tensor_split",
  "input: tensor; indices_or_sections: integers; dim: dim = 1",
  "List of views along dim: a number of them, as equal as can be, or pieces that end at the listed "
    .. "indices, and the rest.",
  tensor_split,
}

for name, item in pairs {hsplit = {2, 1, "columns (elements of a vector)"},
                         vsplit = {1, 2, "rows"}, dsplit = {3, 3, "planes of dim 3"}} do
  local dim, least, what = item[1], item[2], item[3]
  define {
    name,
    "input: tensor; indices_or_sections: integers",
    ("List of views: tensor_split over the %s."):format(what),
    function(x, where)
      if x:dim() < least then
        fail("argument 'input': expected at least %d dims, got %s", least,
          require("perigee.tensor.define").shape_text(x))
      end
      return tensor_split(x, where, name == "hsplit" and x:dim() == 1 and 1 or dim)
    end,
  }
end
