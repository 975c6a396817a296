--- Joining tensors, and bringing several of them to one shape.
-- Relies on tensor/define. Spec: spec/tensor/join_spec.lua.

local define = require "perigee.tensor.define"
local ops = require("perigee.core").ops

local fail, shape_text = define.fail, define.shape_text
define = define.define

local function map(list, f)
  local out = {}
  for i, x in ipairs(list) do out[i] = f(x) end
  return out
end

local function want_some(list)
  if #list == 0 then fail("argument 'tensors': expected at least one tensor, got none") end
end

local function want_vectors(list, most)
  want_some(list)
  for i, x in ipairs(list) do
    if x:dim() > (most or 1) then
      fail("argument 'tensors': expected at most %d dims, got %s at %d", most or 1, shape_text(x),
        i)
    end
  end
end

local at_least = {
  function(x) return x:dim() == 0 and ops.reshape(x, 1) or x end,
  function(x)
    if x:dim() == 0 then return ops.reshape(x, 1, 1) end
    return x:dim() == 1 and ops.unsqueeze(x, 1) or x
  end,
  function(x)
    if x:dim() == 0 then return ops.reshape(x, 1, 1, 1) end
    if x:dim() == 1 then return ops.unsqueeze(ops.unsqueeze(x, 1), -1) end
    return x:dim() == 2 and ops.unsqueeze(x, -1) or x
  end,
}

for n, f in ipairs(at_least) do
  define {
    ("atleast_%dd"):format(n),
    "tensors: loose",
    ("Views with at least %d dims: of one tensor, or a list for several."):format(n),
    function(list)
      want_some(list)
      if #list == 1 then return f(list[1]) end
      return map(list, f)
    end,
    method = true,
  }
end

define {
  "hstack",
  "tensors: loose",
  "Tensors joined side by side: along dim 2, vectors along dim 1.",
  function(list)
    want_some(list)
    list = map(list, at_least[1])
    return ops.cat(list, list[1]:dim() == 1 and 1 or 2)
  end,
}
define {
  "vstack|row_stack",
  "tensors: loose",
  "Tensors joined on top of each other: along dim 1, vectors as rows.",
  function(list)
    want_some(list)
    return ops.cat(map(list, at_least[2]), 1)
  end,
}
define {
  "dstack",
  "tensors: loose",
  "Tensors joined along dim 3.",
  function(list)
    want_some(list)
    return ops.cat(map(list, at_least[3]), 3)
  end,
}
define {
  "column_stack",
  "tensors: loose",
  "Tensors joined along dim 2, vectors as columns.",
  function(list)
    want_some(list)
    return ops.cat(map(list, function(x)
      return x:dim() <= 1 and ops.reshape(x, x:numel(), 1) or x
    end), 2)
  end,
}

define {
  "broadcast_tensors",
  "tensors: loose",
  "List of the tensors expanded to their common shape.",
  function(list)
    want_some(list)
    local nd, shape = 0, {}
    for _, x in ipairs(list) do nd = math.max(nd, x:dim()) end
    for d = 1, nd do
      local size, from = 1, 1
      for i, x in ipairs(list) do
        local at = d - nd + x:dim()
        local k = at >= 1 and x:size(at) or 1
        if k ~= 1 and size ~= 1 and k ~= size then
          fail("argument 'tensors': expected a shape that broadcasts with %s, got %s",
            shape_text(list[from]), shape_text(x))
        end
        if k ~= 1 then size, from = k, i end
      end
      shape[d] = size
    end
    return map(list, function(x) return ops.expand(x, shape) end)
  end,
}

define {
  "meshgrid",
  "tensors: loose; indexing: ij|xy = ij",
  "List of the coordinates of a grid over vectors, each of the grid's shape; xy swaps the "
    .. "first two "
    .. "dims.",
  function(list, indexing)
    want_vectors(list)
    local swap = indexing == "xy" and #list >= 2
    local order = table.move(list, 1, #list, 1, {})
    if swap then order[1], order[2] = order[2], order[1] end
    local shape, grids = {}, {}
    for i, x in ipairs(order) do shape[i] = x:numel() end
    for i, x in ipairs(order) do
      local own = {}
      for k = 1, #order do own[k] = k == i and shape[i] or 1 end
      grids[i] = ops.expand(ops.reshape(x, own), shape)
    end
    if swap then grids[1], grids[2] = grids[2], grids[1] end
    return grids
  end,
}

define {
  "cartesian_prod",
  "tensors: loose",
  "All tuples of elements of the vectors, one a row, the last varying fastest.",
  function(list)
    want_vectors(list)
    if #list == 1 then return list[1] end
    local shape = map(list, function(x) return x:numel() end)
    local columns = {}
    for i, x in ipairs(list) do
      local own = map(shape, function() return 1 end)
      own[i] = shape[i]
      columns[i] = ops.reshape(ops.expand(ops.reshape(x, own), shape), -1)
    end
    return ops.stack(columns, 2)
  end,
}

define {
  "combinations",
  "input: tensor; r: integer = 2; with_replacement: boolean = false",
  "All ways to choose r elements of a vector, one a row, in the order of their places.",
  function(x, r, again)
    if x:dim() ~= 1 then fail("argument 'input': expected 1 dim, got %s", shape_text(x)) end
    if r < 0 then fail("argument 'r': expected at least 0, got %d", r) end
    local n, at, flat = x:numel(), {}, {}
    if r == 0 then return ops.empty(0, {dtype = x.dtype}) end
    for i = 1, r do at[i] = again and 1 or i end
    while n > 0 and at[r] <= n do
      for i = 1, r do flat[#flat + 1] = at[i] end
      local i = r
      while i > 0 and at[i] == (again and n or n - r + i) do i = i - 1 end
      if i == 0 then break end
      at[i] = at[i] + 1
      for k = i + 1, r do at[k] = again and at[i] or at[k - 1] + 1 end
    end
    local index = require("perigee.core").tensor(flat, {dtype = "int64"})
    return ops.reshape(ops.index_select(x, 1, index), #flat // r, r)
  end,
}

define {
  "block_diag",
  "tensors: loose",
  "Matrix with the given matrices (vectors: rows, numbers) along its diagonal, zeros elsewhere.",
  function(list)
    want_vectors(list, 2)
    list = map(list, at_least[2])
    local width, before, rows = 0, 0, {}
    for _, x in ipairs(list) do width = width + x:size(2) end
    for i, x in ipairs(list) do
      rows[i] = ops.pad(x, {before, width - before - x:size(2)})
      before = before + x:size(2)
    end
    return ops.cat(rows, 1)
  end,
}
