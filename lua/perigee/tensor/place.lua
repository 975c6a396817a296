--- Writing at places: put, index_reduce.
-- Relies on tensor/define. Spec: spec/tensor/place_spec.lua.

local define = require "perigee.tensor.define"
local ops = require("perigee.core").ops

local fail, whole_dim, shape_text = define.fail, define.dim, define.shape_text
define = define.define

define {
  "put",
  "input: tensor; index: tensor; source: tensor; accumulate: boolean = false",
  "Input with source at the places index of its flattened elements; accumulate adds them there.",
  function(x, index, source, accumulate)
    if index.dtype ~= "int64" then fail("argument 'index': expected int64, got %s", index.dtype) end
    if source:numel() ~= index:numel() then
      fail("argument 'source': expected %d elements as index %s has, got %s", index:numel(),
        shape_text(index), shape_text(source))
    end
    local at = ops.reshape(index, -1)
    at = ops.where(ops.lt(at, 0), ops.add(at, x:numel() + 1), at)
    local write = accumulate and ops.scatter_add or ops.scatter
    local flat = write(ops.reshape(x, -1), 1, at, ops.reshape(source, -1))
    return ops.reshape(flat, x.shape)
  end,
}

define {
  "index_reduce",
  "input: tensor; dim: dim; index: tensor; source: tensor; reduce: prod|mean|amax|amin; "
    .. "include_self: boolean = true",
  "Input whose slice index[i] along dim is reduced with slice i of source, and with its own "
    .. "elements if include_self.",
  function(x, dim, index, source, reduce, own)
    local nd = x:dim()
    dim = whole_dim(dim, nd)
    if index:dim() > 1 then
      fail("argument 'index': expected a vector, got %s", shape_text(index))
    end
    local fits = source:dim() == nd and nd > 0 and source:size(dim) == index:numel()
    for i = 1, nd do fits = fits and (i == dim or source:size(i) == x:size(i)) end
    if not fits then
      fail("argument 'source': expected %s with %d along dim %d, got %s", shape_text(x),
        index:numel(), dim, shape_text(source))
    end
    local shape = {}
    for i = 1, nd do shape[i] = i == dim and index:numel() or 1 end
    local at = ops.contiguous(ops.expand(ops.reshape(index, shape), source.shape))
    return ops.scatter_reduce(x, dim, at, source, reduce, own)
  end,
}
