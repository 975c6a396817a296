--- Statistics of what is in a tensor: quantiles, histograms, distinct values, covariances.
-- Relies on tensor/define. Spec: spec/tensor/statistics_spec.lua.

local define = require "perigee.tensor.define"
local core = require "perigee.core"

local ops = core.ops
local fail, whole_dim, shape_text = define.fail, define.dim, define.shape_text
define = define.define

local function is_float(x) return x.dtype:find "float" ~= nil end

local function want_float(x, name)
  if not is_float(x) then
    fail("argument '%s': expected a floating dtype, got %s", name or "input", x.dtype)
  end
end

--- dim as an options table for a reduction over it, or over everything.
local function over(dim, keepdim)
  return {dim = dim, keepdim = keepdim}
end

-- Reductions that leave NaN out -------------------------------------------------------------------

define {
  "nansum",
  "input: tensor; dim: integers?; keepdim: boolean = false; dtype: dtype?",
  "Sum over dim, or over all elements, with NaN as zero.",
  function(x, dim, keepdim, dtype)
    if is_float(x) then x = ops.where(ops.isnan(x), 0, x) end
    return ops.sum(x, {dim = dim, keepdim = keepdim, dtype = dtype})
  end,
}

define {
  "nanmean",
  "input: tensor; dim: integers?; keepdim: boolean = false; dtype: dtype?",
  "Mean over dim, or over all elements, of what is not NaN.",
  function(x, dim, keepdim, dtype)
    if dtype then x = ops.to(x, dtype) end
    want_float(x)
    local there = ops.logical_not(ops.isnan(x))
    local count = ops.sum(ops.to(there, x.dtype), over(dim, keepdim))
    return ops.div(ops.sum(ops.where(there, x, 0), over(dim, keepdim)), count)
  end,
}

define {
  "aminmax",
  "input: tensor; dim: dim?; keepdim: boolean = false",
  "Smallest and largest values over dim, or of all elements.",
  function(x, dim, keepdim)
    return ops.amin(x, over(dim, keepdim)), ops.amax(x, over(dim, keepdim))
  end,
}

-- Order -------------------------------------------------------------------------------------------

--- x with dim last, or flat; sorted upwards, NaN behind. Also the places.
local function sorted(x, dim)
  if x:dim() == 0 then x = ops.reshape(x, 1) end
  if not dim then return ops.sort(ops.reshape(x, -1)) end
  return ops.sort(ops.movedim(x, dim, -1))
end

--- How many elements of each row of a sorted float tensor are not NaN: [.., 1], in its dtype.
local function counted(x)
  return ops.sum(ops.to(ops.logical_not(ops.isnan(x)), x.dtype), -1, true)
end

local function quantile(x, q, dim, keepdim, interpolation, skip)
  want_float(x)
  local nd = x:dim()
  if dim then dim = whole_dim(dim, nd) end
  local scalar = not core.is_tensor(q) or q:dim() == 0
  if not core.is_tensor(q) then q = core.tensor({q}, {dtype = x.dtype}) end
  if q.dtype ~= x.dtype then
    fail("argument 'q': expected %s as input, got %s", x.dtype, q.dtype)
  end
  if q:dim() > 1 then fail("argument 'q': expected a number or a vector, got %s", shape_text(q)) end
  q = ops.reshape(q, -1)
  if q:numel() > 0 and not (ops.amin(q):item() >= 0 and ops.amax(q):item() <= 1) then
    fail("argument 'q': expected values in 0..1, got %g to %g", ops.amin(q):item(),
      ops.amax(q):item())
  end
  if x:numel() == 0 then fail("argument 'input': expected some elements, got %s", shape_text(x)) end
  local rows = sorted(x, dim)
  local n = rows:size(-1)
  local count = counted(rows)
  local rank
  if skip then
    rank = ops.mul(ops.clamp(ops.sub(count, 1), 0), q)
  else -- a row with a NaN yields its last element, which is one
    rank = ops.where(ops.eq(count, n), ops.mul(q, n - 1), n - 1)
  end
  rank = ops.detach(rank)
  if interpolation == "lower" then rank = ops.floor(rank)
  elseif interpolation == "higher" then rank = ops.ceil(rank)
  elseif interpolation == "nearest" then rank = ops.round(rank)
  end
  local below = ops.floor(rank)
  local y = ops.gather(rows, -1, ops.add(ops.to(below, "int64"), 1))
  if interpolation == "linear" or interpolation == "midpoint" then
    local above = ops.gather(rows, -1, ops.add(ops.to(ops.ceil(rank), "int64"), 1))
    local weight = ops.sub(rank, below)
    if interpolation == "midpoint" then weight = ops.full_like(weight, 0.5) end
    y = ops.lerp(y, above, weight)
  end
  if keepdim and nd > 0 then
    if dim then
      y = ops.movedim(ops.unsqueeze(y, -2), -2, dim) -- [.., 1 .., k]
    else
      local ones = {}
      for i = 1, nd do ones[i] = 1 end
      ones[nd + 1] = q:numel()
      y = ops.reshape(y, ones)
    end
  end
  if scalar then return ops.select(y, -1, 1) end
  return ops.movedim(y, -1, 1)
end

for _, name in ipairs {"quantile", "nanquantile"} do
  local skip = name == "nanquantile"
  define {
    name,
    "input: tensor; q: operand; dim: dim?; keepdim: boolean = false; "
      .. "interpolation: linear|lower|higher|nearest|midpoint = linear",
    "The q-quantiles (q in 0..1, a number or a vector) over dim or of all elements, "
      .. (skip and "NaN left out." or "NaN where a NaN is among them."),
    function(x, q, dim, keepdim, interpolation)
      return quantile(x, q, dim, keepdim, interpolation, skip)
    end,
  }
end

define {
  "nanmedian",
  "input: tensor; dim: dim?; keepdim: boolean = false",
  "The lower median of what is not NaN: of all elements, or over dim together with where it "
    .. "stands.",
  function(x, dim, keepdim)
    if dim then dim = whole_dim(dim, x:dim()) end
    local rows, places = sorted(x, dim)
    local n = rows:size(-1)
    local at
    if is_float(x) then
      at = ops.add(ops.floor(ops.div(ops.clamp(ops.sub(counted(rows), 1), 0), 2)), 1)
    else
      local shape = rows.shape
      shape[#shape] = 1
      at = ops.full(shape, (math.max(n, 1) - 1) // 2 + 1)
    end
    at = ops.to(ops.detach(at), "int64")
    local values, indices = ops.gather(rows, -1, at), ops.gather(places, -1, at)
    if not dim then -- equal elements share the gradient
      local value = ops.reshape(ops.detach(values), {})
      if not is_float(x) then return value end
      local hit = ops.eq(x, value) | (ops.isnan(x) & ops.isnan(value))
      local mean = ops.div(ops.sum(ops.where(hit, x, 0)), ops.sum(ops.to(hit, x.dtype)))
      local exact = ops.add(value, ops.sub(mean, ops.detach(mean)))
      return ops.where(ops.isfinite(value), exact, mean)
    end
    if keepdim and x:dim() > 0 then
      return ops.movedim(values, -1, dim), ops.movedim(indices, -1, dim)
    end
    return ops.select(values, -1, 1), ops.select(indices, -1, 1)
  end,
}

define {
  "msort",
  "input: tensor",
  "Input in order along dim 1.",
  function(x) return (ops.sort(x, 1)) end,
}

-- Counting ----------------------------------------------------------------------------------------

define {
  "bincount",
  "input: tensor; weights: tensor?; minlength: integer = 0",
  "How often 1, 2, .. occur in a vector of positive integers, or the sums of their weights; "
    .. "at least "
    .. "minlength numbers.",
  function(x, weights, least)
    if x:dim() ~= 1 or (x.dtype ~= "int64" and x.dtype ~= "uint8") then
      fail("argument 'input': expected a vector of integers, got %s %s", x.dtype, shape_text(x))
    end
    if weights and shape_text(weights) ~= shape_text(x) then
      fail("argument 'weights': expected %s as input, got %s", shape_text(x), shape_text(weights))
    end
    if least < 0 then fail("argument 'minlength': expected at least 0, got %d", least) end
    local dtype = not weights and "int64" or is_float(weights) and weights.dtype or "float64"
    local n = least
    if x:numel() > 0 then
      local low = ops.amin(x):item()
      if low < 1 then fail("argument 'input': expected values from 1, got %d", low) end
      n = math.max(n, ops.amax(x):item())
    end
    weights = weights and ops.to(weights, dtype) or ops.ones(x:numel(), {dtype = dtype})
    return ops.scatter_add(ops.zeros(n, {dtype = dtype}), 1, ops.to(x, "int64"), weights)
  end,
}

define {
  "histc",
  "input: tensor; bins: integer = 100; min: number = 0; max: number = 0",
  "How many elements fall into each of `bins` equal parts of min..max (both 0: the range of the "
    .. "data); others and NaN are left out.",
  function(x, bins, low, high)
    want_float(x)
    if bins < 1 then fail("argument 'bins': expected at least 1, got %d", bins) end
    x = ops.reshape(ops.detach(x), -1)
    if low == high and x:numel() > 0 then
      low, high = ops.amin(x):item(), ops.amax(x):item()
    end
    if low == high then low, high = low - 1, high + 1 end
    if not (low < high and high - low < math.huge) then
      fail("argument 'max': expected finite min < max, got %g and %g", low, high)
    end
    x = ops.masked_select(x, ops.ge(x, low) & ops.le(x, high))
    local at = ops.floor(ops.mul(ops.div(ops.sub(x, low), high - low), bins))
    at = ops.add(ops.to(ops.clamp(at, 0, bins - 1), "int64"), 1)
    return ops.scatter_add(ops.zeros(bins, {dtype = x.dtype}), 1, at, ops.ones_like(x))
  end,
  nodiff = true,
}

-- Distinct values ---------------------------------------------------------------------------------

local function pick(values, inverse, counts, want_inverse, want_counts)
  if want_inverse and want_counts then return values, inverse, counts end
  if want_inverse then return values, inverse end
  if want_counts then return values, counts end
  return values
end

--- Numbers the slices of x along dim so that equal ones have the same number, in lexicographic
-- order. Also how often each number occurs.
local function number_slices(x, dim)
  local n = x:size(dim)
  local rows = ops.reshape(ops.movedim(x, dim, 1), n, x:numel() // math.max(n, 1))
  local id, count = ops.ones(n, {dtype = "int64"}), ops.full({math.min(n, 1)}, n, {dtype = "int64"})
  for j = 1, rows:size(2) do
    local _, place = ops.unique_flat(ops.select(rows, 2, j))
    local _
    _, id, count = ops.unique_flat(ops.add(ops.mul(id, n + 1), place))
  end
  return id, count
end

define {
  "unique",
  "input: tensor; sorted: boolean = true; return_inverse: boolean = false; "
    .. "return_counts: boolean = false; dim: dim?",
  "The distinct values in order (with dim: the distinct slices), and where asked for, for each "
    .. "element the place of its value, and how often each value occurs.",
  function(x, _, want_inverse, want_counts, dim)
    if not dim then
      local values, inverse, counts = ops.unique_flat(x)
      return pick(values, inverse, counts, want_inverse, want_counts)
    end
    dim = whole_dim(dim, x:dim())
    if x:numel() == 0 and x:size(dim) > 0 then
      fail("argument 'input': expected slices with elements, got %s", shape_text(x))
    end
    x = ops.detach(x)
    local id, counts = number_slices(x, dim)
    local order = ops.argsort(id, {stable = true})
    local first = ops.add(ops.sub(ops.cumsum(counts, 1), counts), 1)
    local values = ops.index_select(x, dim, ops.index_select(order, 1, first))
    return pick(values, id, counts, want_inverse, want_counts)
  end,
  nodiff = true,
}

define {
  "unique_consecutive",
  "input: tensor; return_inverse: boolean = false; return_counts: boolean = false; dim: dim?",
  "Input (flat, or its slices along dim) without what equals its neighbour before it, and "
    .. "where asked "
    .. "for, the place that each element went to and the length of each run.",
  function(x, want_inverse, want_counts, dim)
    x = ops.detach(x)
    local shape = x.shape
    if dim then dim = whole_dim(dim, x:dim()) else x = ops.reshape(x, -1) end
    local at = dim or 1
    local n = x:size(at)
    if n == 0 then
      local none = ops.zeros(0, {dtype = "int64"})
      return pick(x, dim and none or ops.reshape(none, shape), none, want_inverse, want_counts)
    end
    local changed = ops.ne(ops.narrow(x, at, math.min(2, n), n - 1), ops.narrow(x, at, 1, n - 1))
    changed = ops.any(ops.reshape(ops.movedim(changed, at, 1), n - 1,
      x:numel() // n), 2)
    local starts = ops.cat({ops.ones(1, {dtype = "bool"}), changed}, 1)
    local inverse = ops.cumsum(starts, 1)
    local first = ops.reshape(ops.nonzero(starts), -1)
    local past = ops.cat({ops.narrow(first, 1, 1, first:numel())[{ {2, -1} }],
      ops.full({1}, n + 1, {dtype = "int64"})}, 1)
    local values = ops.index_select(x, at, first)
    if not dim then inverse = ops.reshape(inverse, shape) end
    return pick(values, inverse, ops.sub(past, first), want_inverse, want_counts)
  end,
  nodiff = true,
}

define {
  "isin",
  "elements: operand; test_elements: operand; assume_unique: boolean = false; "
    .. "invert: boolean = false",
  "True where an element is among test_elements (where it is not, if invert).",
  function(x, among, _, invert)
    if not core.is_tensor(x) and not core.is_tensor(among) then
      fail("argument 'elements': expected a tensor here or in 'test_elements', got two numbers")
    end
    if not core.is_tensor(x) then x = core.tensor(x, {dtype = among.dtype}) end
    if not core.is_tensor(among) then among = core.tensor({among}, {dtype = x.dtype}) end
    among = ops.reshape(ops.detach(among), -1)
    local n = among:numel()
    if n == 0 then return ops.full(x.shape, invert and 1 or 0, {dtype = "bool"}) end
    local order = ops.sort(among)
    local at = ops.clamp(ops.searchsorted(order, ops.detach(x)), {max = n})
    local found = ops.eq(ops.reshape(ops.index_select(order, 1, ops.reshape(at, -1)), x.shape), x)
    return invert and ops.logical_not(found) or found
  end,
  nodiff = true, method = true,
}

-- Differences and integrals -----------------------------------------------------------------------

define {
  "diff",
  "input: tensor; n: integer = 1; dim: dim = -1; prepend: tensor?; append: tensor?",
  "The n-th differences along dim, y[i] = x[i + 1] - x[i] n times over, with values joined "
    .. "before and "
    .. "behind first.",
  function(x, n, dim, before, behind)
    if n < 0 then fail("argument 'n': expected at least 0, got %d", n) end
    if x:dim() == 0 then fail("argument 'input': expected at least 1 dim, got []") end
    dim = whole_dim(dim, x:dim())
    if before or behind then
      local list = {}
      for _, part in ipairs {before or false, x, behind or false} do
        if part then list[#list + 1] = part end
      end
      x = ops.cat(list, dim)
    end
    local subtract = x.dtype == "bool" and ops.logical_xor or ops.sub
    for _ = 1, math.min(n, x:size(dim)) do
      local k = x:size(dim)
      if k == 0 then break end
      x = subtract(ops.narrow(x, dim, math.min(2, k), k - 1), ops.narrow(x, dim, 1, k - 1))
    end
    return x
  end,
}

--- The areas between neighbours along dim.
local function areas(y, x, dx, dim)
  dim = whole_dim(dim, y:dim())
  local n = y:size(dim)
  local function neighbours(t, d)
    local k = t:size(d)
    return ops.narrow(t, d, 1, math.max(k - 1, 0)), ops.narrow(t, d, math.min(2, math.max(k, 1)),
      math.max(k - 1, 0))
  end
  local left, right = neighbours(y, dim)
  local sum = ops.add(left, right)
  if not x then return ops.mul(sum, dx / 2), dim end
  local at, given = dim, shape_text(x)
  if x:dim() == 1 then
    local shape = {}
    for i = 1, y:dim() do shape[i] = i == dim and x:numel() or 1 end
    x = ops.reshape(x, shape)
  else
    at = dim - y:dim() + x:dim()
  end
  if at < 1 or x:size(at) ~= n then
    fail("argument 'x': expected %d points along dim %d, got %s", n, dim, given)
  end
  local a, b = neighbours(x, at)
  return ops.mul(ops.mul(sum, ops.sub(b, a)), 0.5), dim
end

define {
  "trapezoid|trapz",
  "y: tensor; x: tensor?; dx: number = 1; dim: dim = -1",
  "Integral of y along dim by the trapezoidal rule, at points x or dx apart.",
  function(y, x, dx, dim)
    local parts, at = areas(y, x, dx, dim)
    return ops.sum(parts, at)
  end,
}
define {
  "cumulative_trapezoid",
  "y: tensor; x: tensor?; dx: number = 1; dim: dim = -1",
  "Running integral of y along dim by the trapezoidal rule, at points x or dx apart.",
  function(y, x, dx, dim)
    local parts, at = areas(y, x, dx, dim)
    return ops.cumsum(parts, at)
  end,
}

-- Covariance --------------------------------------------------------------------------------------

local function cov(x, correction, fweights, aweights)
  if x:dim() > 2 then fail("argument 'input': expected at most 2 dims, got %s", shape_text(x)) end
  if x:dim() < 2 then x = ops.reshape(x, 1, x:numel()) end
  if not is_float(x) then x = ops.to(x, "float32") end
  local n = x:size(2)
  for name, w in pairs {fweights = fweights, aweights = aweights} do
    if shape_text(w) ~= ("[%d]"):format(n) then
      fail("argument '%s': expected [%d], got %s", name, n, shape_text(w))
    end
  end
  local w = fweights and ops.to(fweights, x.dtype)
  if aweights then
    aweights = ops.to(aweights, x.dtype)
    w = w and ops.mul(w, aweights) or aweights
  end
  local total = w and ops.sum(w) or n
  local mean = w and ops.div(ops.sum(ops.mul(x, w), 2, true), total) or ops.mean(x, 2, true)
  local norm
  if not w then norm = math.max(n - correction, 0)
  elseif aweights and correction ~= 0 then
    norm = ops.clamp(ops.sub(total, ops.div(ops.mul(ops.sum(ops.mul(w, aweights)), correction),
      total)), 0)
  else
    norm = ops.clamp(ops.sub(total, correction), 0)
  end
  x = ops.sub(x, mean)
  return ops.squeeze(ops.div(ops.matmul(x, ops.t(w and ops.mul(x, w) or x)), norm))
end

define {
  "cov",
  "input: tensor; correction: integer = 1; fweights: tensor?; aweights: tensor?",
  "Covariances of the rows of a matrix, whose columns are observations with the given weights.",
  cov,
}

define {
  "corrcoef",
  "input: tensor",
  "Correlations of the rows of a matrix, whose columns are observations.",
  function(x)
    local c = cov(x, 1)
    if c:dim() == 0 then return ops.div(c, c) end
    local scale = ops.sqrt(ops.diagonal(c))
    c = ops.div(ops.div(c, ops.unsqueeze(scale, 2)), ops.unsqueeze(scale, 1))
    return ops.clamp(c, -1, 1)
  end,
}
