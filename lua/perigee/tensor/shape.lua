--- Turning, mirroring, diagonals: shapes made of views and single writes.
-- Relies on tensor/define. Spec: spec/tensor/shape_spec.lua.

local define = require "perigee.tensor.define"
local core = require "perigee.core"

local ops = core.ops
local fail, whole_dim, shape_text = define.fail, define.dim, define.shape_text
define = define.define

define {
  "rot90",
  "input: tensor; k: integer = 1; dims: integers = {1, 2}",
  "Input turned by k quarter turns in the plane of dims, from the first towards the second.",
  function(x, k, dims)
    if type(dims) ~= "table" or #dims ~= 2 then
      fail("argument 'dims': expected two dims, got %s", type(dims) == "table" and #dims or dims)
    end
    if x:dim() < 2 then
      fail("argument 'input': expected at least 2 dims, got %s", shape_text(x))
    end
    local a, b = whole_dim(dims[1], x:dim(), "dims"), whole_dim(dims[2], x:dim(), "dims")
    if a == b then fail("argument 'dims': expected two different dims, got %d twice", a) end
    k = k % 4
    if k == 0 then return ops.clone(x) end
    if k == 2 then return ops.flip(x, a, b) end
    return ops.transpose(ops.flip(x, k == 1 and b or a), a, b)
  end,
}

for name, item in pairs {fliplr = {2, "columns"}, flipud = {1, "rows"}} do
  define {
    name,
    "input: tensor",
    ("Input with its %s in reverse order."):format(item[2]),
    function(x)
      if x:dim() < item[1] then
        fail("argument 'input': expected at least %d dims, got %s", item[1], shape_text(x))
      end
      return ops.flip(x, item[1])
    end,
  }
end

-- mT is no method, as it is a field: x.mT.
for _, names in ipairs {"mT", "adjoint|matrix_transpose"} do
  define {
    names,
    "input: tensor",
    "View with the last two dims swapped.",
    function(x)
      if x:dim() < 2 then
        fail("argument 'input': expected at least 2 dims, got %s", shape_text(x))
      end
      return ops.transpose(x, -2, -1)
    end,
    method = names ~= "mT",
  }
end

local function diag_embed(x, offset, dim1, dim2)
  local nd = x:dim() + 1
  dim1, dim2 = whole_dim(dim1, nd, "dim1"), whole_dim(dim2, nd, "dim2")
  if dim1 == dim2 then fail("argument 'dim2': expected another dim than dim1, got %d", dim1) end
  local n, away = x:size(-1), math.abs(offset)
  local square = ops.where(ops.eye(n, {dtype = "bool"}), ops.unsqueeze(x, -1),
    ops.zeros({}, {dtype = x.dtype}))
  if away > 0 then
    square = ops.pad(square, offset > 0 and {away, 0, 0, away} or {0, away, away, 0})
  end
  return ops.movedim(square, {-2, -1}, {dim1, dim2})
end

define {
  "diag_embed",
  "input: tensor; offset: integer = 0; dim1: dim = -2; dim2: dim = -1",
  "Zeros with the last dim of input on the diagonal of dim1 and dim2; offset > 0 lies above the "
    .. "main one.",
  function(x, offset, dim1, dim2)
    if x:dim() == 0 then fail("argument 'input': expected at least 1 dim, got []") end
    return diag_embed(x, offset, dim1, dim2)
  end,
}

define {
  "diag",
  "input: tensor; diagonal: integer = 0",
  "The matrix with a vector on its diagonal, or the diagonal of a matrix.",
  function(x, offset)
    if x:dim() == 1 then return diag_embed(x, offset, -2, -1) end
    if x:dim() ~= 2 then
      fail("argument 'input': expected a vector or a matrix, got %s", shape_text(x))
    end
    return ops.clone(ops.diagonal(x, offset))
  end,
}

define {
  "diagflat",
  "input: tensor; offset: integer = 0",
  "The matrix with all elements of input on its diagonal.",
  function(x, offset) return diag_embed(ops.reshape(x, -1), offset, -2, -1) end,
}

define {
  "repeat_interleave",
  "input: tensor; repeats: any?; dim: dim?; output_size: integer?",
  "Every element (or slice along dim) as often as repeats says, one number or a vector of them; "
    .. "alone, a vector of numbers gives the indices 1 (n1 times), 2 (n2 times) ..",
  function(x, repeats, dim)
    if repeats == nil then
      x, repeats = ops.arange(1, x:numel(), {dtype = "int64"}), x
    end
    if math.type(repeats) and math.tointeger(repeats) then
      return ops.repeat_each(x, math.tointeger(repeats), dim)
    elseif type(repeats) == "table" and getmetatable(repeats) == nil then
      repeats = core.tensor(repeats, {dtype = "int64"})
    elseif not core.is_tensor(repeats) then
      fail("argument 'repeats': expected an integer or a vector of them, got %s", type(repeats))
    end
    if repeats.dtype ~= "int64" or repeats:dim() > 1 then
      fail("argument 'repeats': expected an integer or a vector of them, got %s %s", repeats.dtype,
        shape_text(repeats))
    end
    if repeats:numel() == 1 then return ops.repeat_each(x, repeats:item(), dim) end
    if not dim or x:dim() == 0 then
      x, dim = ops.reshape(x, -1), 1
    end
    dim = whole_dim(dim, x:dim())
    if repeats:numel() ~= x:size(dim) then
      fail("argument 'repeats': expected %d numbers for dim %d of %s, got %d", x:size(dim), dim,
        shape_text(x), repeats:numel())
    end
    if repeats:numel() > 0 and ops.amin(repeats):item() < 0 then
      fail("argument 'repeats': expected numbers from 0, got %d", ops.amin(repeats):item())
    end
    local ends = ops.cumsum(repeats, 1)
    local total = repeats:numel() > 0 and ends[-1]:item() or 0
    local places = total == 0 and ops.zeros(0, {dtype = "int64"})
      or ops.searchsorted(ends, ops.arange(1, total, {dtype = "int64"}))
    return ops.index_select(x, dim, places)
  end,
}

define {
  "take_along_dim",
  "input: tensor; indices: tensor; dim: dim?",
  "Elements of input at indices along dim (the other dims broadcast), or of all elements in a row.",
  function(x, indices, dim)
    if not dim then
      return ops.gather(ops.reshape(x, -1), 1, ops.reshape(indices, -1))
    end
    if x:dim() ~= indices:dim() then
      fail("argument 'indices': expected as many dims as input %s, got %s", shape_text(x),
        shape_text(indices))
    end
    dim = whole_dim(dim, x:dim())
    local a, b = x.shape, indices.shape
    for i = 1, #a do
      if i ~= dim and a[i] ~= b[i] then
        if a[i] == 1 then a[i] = b[i]
        elseif b[i] == 1 then b[i] = a[i]
        else
          fail("argument 'indices': expected sizes that broadcast with input %s but in dim %d, "
            .. "got %s", shape_text(x), dim, shape_text(indices))
        end
      end
    end
    return ops.gather(ops.expand(x, a), dim, ops.expand(indices, b))
  end,
}

local function written(x, write)
  local y = ops.clone(x)
  write(y)
  return y
end

define {
  "select_scatter",
  "input: tensor; src: tensor; dim: dim; index: integer",
  "Copy of input with src in place of the slice number index along dim.",
  function(x, src, dim, index)
    local n = x:dim()
    dim = whole_dim(dim, n)
    local key = {}
    for i = 1, dim - 1 do key[i] = {} end
    key[dim] = index
    local wanted = ops.select(x, dim, index)
    if shape_text(wanted) ~= shape_text(src) then
      fail("argument 'src': expected %s, got %s", shape_text(wanted), shape_text(src))
    end
    return written(x, function(y) y[key] = src end)
  end,
}

define {
  "slice_scatter",
  "input: tensor; src: tensor; dim: dim = 1; start: integer?; stop: integer?; step: integer = 1",
  "Copy of input with src in place of the elements start..stop along dim, both included.",
  function(x, src, dim, start, stop, step)
    dim = whole_dim(dim, x:dim())
    local key = {}
    for i = 1, dim - 1 do key[i] = {} end
    key[dim] = {start or 1, stop or -1, step}
    local wanted = x[key]
    if shape_text(wanted) ~= shape_text(src) then
      fail("argument 'src': expected %s, got %s", shape_text(wanted), shape_text(src))
    end
    return written(x, function(y) y[key] = src end)
  end,
}

for name, keep in pairs {tril_indices = "tril", triu_indices = "triu"} do
  define {
    name,
    "row: integer; col: integer; offset: integer = 0",
    ("Row and column numbers (2 x n) of what %s keeps of a row x col matrix."):format(keep),
    function(row, col, offset)
      if row < 0 or col < 0 then
        fail("argument '%s': expected at least 0, got %d", row < 0 and "row" or "col",
          math.min(row, col))
      end
      return ops.contiguous(ops.t(ops.nonzero(ops[keep](ops.ones(row, col), offset))))
    end,
    nodiff = true,
  }
end

define {
  "vander",
  "x: tensor; N: integer?; increasing: boolean = false",
  "Powers of a vector, one a column: x^(N - 1) .. x^0, or from x^0 on.",
  function(x, n, increasing)
    if x:dim() ~= 1 then fail("argument 'x': expected 1 dim, got %s", shape_text(x)) end
    n = n or x:numel()
    if n < 0 then fail("argument 'N': expected at least 0, got %d", n) end
    if n == 0 then return ops.empty(x:numel(), 0, {dtype = x.dtype}) end
    local column = ops.unsqueeze(x, 2)
    local factors = ops.cat({ops.ones_like(column), ops.expand(column, x:numel(), n - 1)}, 2)
    local powers = ops.cumprod(factors, 2)
    return increasing and powers or ops.flip(powers, 2)
  end,
}
