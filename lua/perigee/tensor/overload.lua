--- Functions that PyTorch overloads by the kind of an argument: max and min of two tensors,
-- index_put with a list of indices, polygamma(n, x), randint from 1, to(other), var(unbiased),
-- searchsorted with side and sorter, where(condition), nonzero as a list, bernoulli(x, p), scatter
-- of a value or with a reduction. Elsewhere they are the ops of the same name.
-- Relies on perigee.core, blame, tensor/define, util. Spec: spec/tensor/overload_spec.lua.

local blame = require "perigee.blame"
local core = require "perigee.core"
local define = require "perigee.tensor.define"
local util = require "perigee.util"

local ops = core.ops

local function overload(name, f)
  define.functions[name], core.Tensor[name] = f, f
end

--- max(x) and max(x, dim ..) are the op; max(x, other) is elementwise.
local function pairwise(name, elementwise)
  local op, pair = ops[name], ops[elementwise]
  overload(name, function(input, other, ...)
    if core.is_tensor(other) then return blame.call("", pair, input, other, ...) end
    return blame.call("", op, input, other, ...)
  end)
end

pairwise("max", "maximum")
pairwise("min", "minimum")

--- index_put(x, {i, j ..}, values, accumulate = false): x with values at these indices (1-based
-- tensors, one a dim, or masks). accumulate adds them, equal indices too.
local function put(name)
  local op = ops[name]
  overload(name, function(input, indices, values, accumulate, ...)
    if core.is_tensor(indices) or indices == nil then
      return blame.call("", op, input, indices, values, accumulate, ...)
    end
    if type(indices) ~= "table" or #indices == 0 then
      blame.raise("%s: argument 'indices': expected a list of tensors, got %s", name,
        util.show(indices))
    end
    local options = type(accumulate) == "table" and accumulate or {accumulate = accumulate}
    options = util.options(name, options, {accumulate = false})
    util.expect(name, "accumulate", options.accumulate, "boolean")
    local list = table.move(indices, 1, #indices, 1, {})
    list[#list + 1] = {accumulate = options.accumulate}
    return blame.call("", op, input, values, table.unpack(list))
  end)
end

put "index_put"
put "index_put_"

--- polygamma(n, x) as PyTorch's function has it, and polygamma(x, n) as its method.
local polygamma = ops.polygamma
overload("polygamma", function(first, second, ...)
  if core.is_tensor(second) then first, second = second, first end
  return blame.call("", polygamma, first, second, ...)
end)

--- randint(high, size) and randint_like(x, high) count from 1.
local function is_size(value) return type(value) == "table" and #value > 0 end
local randint, randint_like = ops.randint, ops.randint_like
define.functions.randint = function(low, high, ...)
  if is_size(high) then return blame.call("", randint, 1, low, high, ...) end
  return blame.call("", randint, low, high, ...)
end
define.functions.randint_like = function(x, low, high, ...)
  if math.type(low) and not math.type(high) then
    return blame.call("", randint_like, x, 1, low, high, ...)
  end
  return blame.call("", randint_like, x, low, high, ...)
end

--- to(other) is type_as; to("cpu") is the tensor itself.
local to = ops.to
overload("to", function(input, other, ...)
  if core.is_tensor(other) then return blame.call("", ops.type_as, input, other) end
  if other == "cpu" then return input end
  return blame.call("", to, input, other, ...)
end)

--- var(x, unbiased) and its kin over all elements.
for _, name in ipairs {"var", "std", "var_mean", "std_mean"} do
  local op = ops[name]
  overload(name, function(input, dim, ...)
    if type(dim) == "boolean" then return blame.call("", op, input, {unbiased = dim}) end
    return blame.call("", op, input, dim, ...)
  end)
end

--- searchsorted(sequence, values, {right, side = "left" or "right", sorter, out_int32}): sorter
-- holds the places that put the sequence in order; results are int64 either way.
for _, name in ipairs {"searchsorted", "bucketize"} do
  local op = ops[name]
  overload(name, function(first, second, options, ...)
    if type(options) ~= "table" or core.is_tensor(options) or select("#", ...) > 0 then
      return blame.call("", op, first, second, options, ...)
    end
    local defaults = {right = false, out_int32 = false}
    if name == "searchsorted" then defaults[1], defaults[2] = "side", "sorter" end
    local opt = util.options(name, options, defaults)
    local right = opt.right
    if opt.side then
      right = util.choice(name, "side", opt.side, {"left", "right"}) == "right" or right
    end
    if opt.sorter then first = ops.gather(first, -1, opt.sorter) end
    return blame.call("", op, first, second, right)
  end)
end

--- The places of true elements as a list of index vectors, one a dim.
local nonzero, where = ops.nonzero, ops.where
local function places(x) return ops.unbind(ops.nonzero(x), 2) end

overload("where", function(condition, ...)
  if select("#", ...) == 0 and core.is_tensor(condition) then
    return blame.call("", places, condition)
  end
  return blame.call("", where, condition, ...)
end)

overload("nonzero", function(input, options)
  local as_tuple = options
  if type(options) == "table" then
    as_tuple = util.options("nonzero", options, {as_tuple = false}).as_tuple
  end
  return blame.call("", as_tuple and places or nonzero, input)
end)

--- bernoulli(x, p): every element 1 with probability p, x giving the shape alone.
local bernoulli = ops.bernoulli
overload("bernoulli", function(input, p)
  if type(p) == "table" and not core.is_tensor(p) then
    p = util.options("bernoulli", p, {"p"}).p
  end
  if p == nil then return blame.call("", bernoulli, input) end
  return blame.call("", function() return ops.bernoulli_(ops.empty_like(input), p) end)
end)

--- scatter(x, dim, index, source or value, {reduce = "add" or "multiply"}); the source may be named
-- src, the number value.
for _, mark in ipairs {"", "_"} do
  local name = "scatter" .. mark
  local plain, add, reduce = ops[name], ops["scatter_add" .. mark], ops["scatter_reduce" .. mark]
  overload(name, function(input, dim, index, source, ...)
    if index == nil then return blame.call("", plain, input, dim) end -- all by name
    local options = select("#", ...) > 0 and (...) or source
    local named = type(options) == "table" and not core.is_tensor(options)
    if not named or options.value == nil and options.reduce == nil then
      return blame.call("", plain, input, dim, index, source, ...)
    end
    local opt = util.options(name, options, {"src", "value", "reduce"})
    if source == options then source = opt.value == nil and opt.src or opt.value end
    if opt.reduce == nil then return blame.call("", plain, input, dim, index, source) end
    local how = util.choice(name, "reduce", opt.reduce, {"add", "multiply"})
    if not core.is_tensor(source) then
      util.expect(name, "value", source, "number")
      source = ops.full(index.shape, source, {dtype = input.dtype})
    end
    if how == "add" then return blame.call("", add, input, dim, index, source) end
    return blame.call("", reduce, input, dim, index, source, "prod")
  end)
end
