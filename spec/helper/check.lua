--- Comparison of tensors, expected errors, and gradients against central differences.
-- Relies on spec/helper/values.lua and perigee.core.
-- Spec: spec/helper_spec.lua.

local busted = require "busted"
local core = require "perigee.core"
local V = require "spec.helper.values"

local M = {}

local function fail(level, fmt, ...)
  busted.fail(fmt:format(...), level + 1)
end

local TOLERANCE = {float64 = 1e-10, float32 = 2e-4, bfloat16 = 2e-2, int64 = 0, uint8 = 0, bool = 0}

local function shape_text(shape)
  return "[" .. table.concat(shape, " x ") .. "]"
end

-- Shape and flat numbers of what a spec may expect: tensor, number, boolean, nested tables.
local function flat(expected)
  if core.is_tensor(expected) then return expected.shape, V.values(expected) end
  local shape, values, at = {}, {}, expected
  while type(at) == "table" do
    shape[#shape + 1] = #at
    at = at[1]
  end
  local function walk(item)
    if type(item) == "table" then
      for _, each in ipairs(item) do walk(each) end
    else
      values[#values + 1] = type(item) == "boolean" and (item and 1 or 0) or item
    end
  end
  walk(expected)
  return shape, values
end

-- Place of the first difference in two arrays of numbers, or nil. tol is relative to the number
-- itself plus the largest one (at most 1). signs: -0.0 is not 0.0.
local function difference(actual, expected, tol, signs)
  local scale = 0
  for _, e in ipairs(expected) do
    if e == e and math.abs(e) ~= math.huge then scale = math.max(scale, math.abs(e)) end
  end
  scale = math.min(math.max(scale, 1e-3), 1)
  for i, e in ipairs(expected) do
    local a = actual[i]
    if a ~= e then
      local both_nan = a ~= a and e ~= e
      local near = math.abs(a - e) <= tol * (scale + math.abs(e)) and math.abs(e) ~= math.huge
      if not near and not both_nan then return i end
    elseif signs and a == 0 and 1 / a ~= 1 / e then
      return i
    end
  end
  return nil
end

local function place(i, shape)
  local at = {}
  for d = #shape, 1, -1 do
    at[d] = (i - 1) % shape[d] + 1
    i = (i - 1) // shape[d] + 1
  end
  return "{" .. table.concat(at, ", ") .. "}"
end

-- nil, or what differs. opt: tol, signs (-0.0 is not 0.0), any_dtype.
local function compare(actual, expected, opt)
  if not core.is_tensor(actual) then
    if type(expected) ~= "number" and type(expected) ~= "boolean" and not core.is_tensor(expected)
    then
      return ("expected a tensor, got %s"):format(tostring(actual))
    end
    if actual == expected then return nil end
    if type(actual) ~= "number" then
      return ("expected %s, got %s"):format(tostring(expected), tostring(actual))
    end
    local _, e = flat(expected)
    return difference({actual}, e, opt.tol or 1e-10, opt.signs)
      and ("expected %.17g, got %.17g"):format(e[1], actual) or nil
  end
  local dtype = actual.dtype
  if core.is_tensor(expected) and expected.dtype ~= dtype and not opt.any_dtype then
    return ("expected dtype %s, got %s"):format(expected.dtype, dtype)
  end
  local shape, values = flat(expected)
  local got = actual.shape
  if shape_text(shape) ~= shape_text(got) and not (#values == 0 and type(expected) == "table"
      and actual:numel() == 0) then
    return ("expected shape %s, got %s"):format(shape_text(shape), shape_text(got))
  end
  local tol = opt.tol
  if not tol then
    tol = TOLERANCE[dtype]
    if core.is_tensor(expected) then tol = math.max(tol, TOLERANCE[expected.dtype]) end
  end
  local mine = V.values(actual)
  local i = difference(mine, values, tol, opt.signs)
  if i then
    return ("element %s of %s: expected %.17g, got %.17g (tolerance %g)"):format(
      place(i, shape), shape_text(got), values[i], mine[i], tol)
  end
  return nil
end
M.compare = compare

--- Fails unless a tensor (or number) equals what is expected: shape, dtype where a tensor is
-- expected, and every element within tol * (|expected| + largest |expected|, at most 1). NaN equals
-- NaN.
-- @param actual a tensor or number
-- @param expected a tensor, a number, a boolean or nested tables of them
-- @param tol by dtype: float64 1e-10, float32 2e-4, integers exact; or a table with tol, signs
--   (-0.0 is not 0.0), any_dtype
function M.same(actual, expected, tol)
  local opt = type(tol) == "table" and tol or {tol = tol}
  local what = compare(actual, expected, opt)
  if what then fail(2, "%s", what) end
end

--- Fails unless two tensors have the same dtype, shape and bytes.
function M.identical(actual, expected)
  local what = compare(actual, expected, {tol = 0, signs = true})
  if not what and actual:bytes() ~= expected:bytes() then what = "bytes differ" end
  if what then fail(2, "%s", what) end
end

--- Fails unless fn(...) raises an error whose message matches each of the Lua patterns.
-- @param fn a function
-- @param pattern a Lua pattern, or a list of them
-- @return the message
function M.raises(fn, pattern, ...)
  local patterns = type(pattern) == "table" and pattern or {pattern}
  local ok, message = pcall(fn, ...)
  if ok then fail(2, "expected an error that matches %q, got none", patterns[1]) end
  message = tostring(message)
  for _, each in ipairs(patterns) do
    if not message:find(each) then
      fail(2, "expected an error that matches %q, got: %s", each, message)
    end
  end
  return message
end

-- --- gradients ----------------------------------------------------------------------------------

-- Fixed pseudo-random weights in +-[0.5, 1.5], the direction onto which outputs are projected.
local function weights(n, salt)
  local g, w = V.generator("float64", 77 + salt), {}
  for i = 1, n do
    local v = g:number()
    w[i] = v < 0.5 and -0.5 - 2 * v or 2 * v - 0.5
  end
  return w
end

--- A cotangent for a float tensor: fixed numbers in +-[0.5, 1.5], in its dtype.
function M.cotangent(t, salt)
  local w = weights(t:numel(), salt or 0)
  if t.dtype == "bfloat16" then return V.make(w, "float32", t.shape):to "bfloat16" end
  return V.make(w, t.dtype, t.shape)
end

-- The outputs of fn that carry a gradient, by place.
local function outputs(results)
  local found = {}
  for j = 1, results.n do
    local y = results[j]
    if V.is_float(y) and y.requires_grad then found[#found + 1] = j end
  end
  return found
end

-- Sum of the projected outputs, and of the magnitudes that went into it.
local function project(results, places)
  local total, size = 0, 0
  for _, j in ipairs(places) do
    local values = V.values(results[j])
    local w = weights(#values, j)
    for i, v in ipairs(values) do
      total = total + w[i] * v
      size = size + math.abs(w[i] * v)
    end
  end
  return total, size
end

local function run_backward(results, places)
  for n, j in ipairs(places) do
    core.backward(results[j], M.cotangent(results[j], j), {retain_graph = n < #places})
  end
end

-- One engine run over all outputs, so that backward sees every cotangent together.
local function run_jointly(results, places)
  local total
  for _, j in ipairs(places) do
    local term = (results[j] * M.cotangent(results[j], j)):sum()
    total = total and total + term or term
  end
  core.backward(total)
end

local function copy_args(args, wrt)
  local leaves = {}
  local copies = V.replace(args, function(t)
    local leaf = V.leaf(t, V.is_float(t) and wrt[t])
    if wrt[t] then leaves[#leaves + 1] = leaf end
    return leaf
  end)
  return copies, leaves
end

-- Compares the gradients of fn's outputs at `places` with central differences.
local function check_places(fn, args, wrt, sources, places, backward, opt, level)
  core.manual_seed(1)
  local copies, leaves = copy_args(args, wrt)
  backward(V.results(fn(table.unpack(copies, 1, args.n))), places)
  local inputs = table.move(args, 1, args.n, 1, {n = args.n})
  for k, source in ipairs(sources) do
    local grad = leaves[k].grad
    local shape = source.shape
    if grad and shape_text(grad.shape) ~= shape_text(shape) then
      fail(level + 1, "gradient %d: expected shape %s, got %s", k, shape_text(shape),
        shape_text(grad.shape))
    end
    local analytic = grad and V.values(grad)
    local values = V.values(source)
    local function value_at(i, v)
      local changed = table.move(values, 1, #values, 1, {})
      changed[i] = v
      local other = V.make(changed, "float64", shape)
      local moved = V.replace(inputs, function(t) return t == source and other or t end)
      core.manual_seed(1)
      return project(V.results(fn(table.unpack(moved, 1, args.n))), places)
    end
    for i, v in ipairs(values) do
      local eps = opt.eps * math.max(1, math.abs(v))
      local above, size = value_at(i, v + eps)
      local below = value_at(i, v - eps)
      local numeric = (above - below) / ((v + eps) - (v - eps))
      local mine = analytic and analytic[i] or 0
      local allowed = opt.rtol * math.max(math.abs(numeric), math.abs(mine)) + opt.atol
        + 1e-15 * (1 + size) / eps
      local near = math.abs(numeric - mine) <= allowed
      if not near then -- NaN is not near either
        fail(level + 1, "gradient of input %d at %s: backward says %.12g%s, differences say %.12g",
          k, place(i, shape), mine, grad and "" or " (none)", numeric)
      end
    end
  end
end

local function sources_of(args)
  local wrt, sources = {}, {}
  for _, t in ipairs(V.tensors(args)) do
    if t.dtype == "float64" and not wrt[t] then
      wrt[t] = true
      sources[#sources + 1] = t
    end
  end
  return wrt, sources
end

local function gradcheck(fn, args, opt, level)
  local wrt, sources = sources_of(args)
  for _, t in ipairs(opt.fixed or {}) do
    wrt[t] = nil
    for k, source in ipairs(sources) do
      if source == t then table.remove(sources, k) break end
    end
  end
  local linear = opt.linear
  opt = {eps = opt.eps or 1e-6, rtol = opt.rtol or 1e-6, atol = opt.atol or 1e-8}
  core.manual_seed(1)
  local copies = copy_args(args, wrt)
  local results = V.results(fn(table.unpack(copies, 1, args.n)))
  local places = outputs(results)
  if #places == 0 then
    if linear then return end
    fail(level + 1, "no output carries a gradient")
  end
  check_places(fn, args, wrt, sources, places, run_backward, opt, level + 1)
  if #places > 1 then
    check_places(fn, args, wrt, sources, places, run_jointly, opt, level + 1)
    for _, j in ipairs(places) do
      check_places(fn, args, wrt, sources, {j}, run_backward, opt, level + 1)
    end
  end
end

-- Inputs as a packed list, and the table of terms behind them or an empty one.
local function split(...)
  local args = table.pack(...)
  local last = args[args.n]
  if type(last) ~= "table" or getmetatable(last)
      or not (last.eps or last.rtol or last.atol or last.fixed) then
    return args, {}
  end
  args[args.n] = nil
  args.n = args.n - 1
  return args, last
end

--- Fails unless fn's gradients agree with central differences in float64 (step 1e-6, relative error
-- 1e-6). Outputs are projected on fixed random directions; several outputs are checked one by one
-- and together.
-- @param fn function of the inputs that returns tensors
-- @param ... inputs; every float64 tensor among them is differentiated; a last table with eps,
--   rtol, atol, fixed (list of inputs that are not differentiated) sets the terms
function M.gradcheck(fn, ...)
  local args, opt = split(...)
  gradcheck(fn, args, opt, 2)
end

--- Fails unless the gradients of fn's gradients agree with central differences. Passes where fn is
-- linear, so that they are zero.
-- @param fn function of the inputs that returns tensors
-- @param ... inputs; every float64 tensor among them is differentiated; a last table sets terms as
--   for gradcheck
function M.gradgradcheck(fn, ...)
  local args, opt = split(...)
  local function gradients(...)
    local leaf_of, leaves = {}, {n = 0}
    local given = V.replace(table.pack(...), function(t)
      if t.dtype ~= "float64" then return t end
      if not leaf_of[t] then
        leaf_of[t] = t.requires_grad and t or V.leaf(t, true)
        leaves.n = leaves.n + 1
        leaves[leaves.n] = leaf_of[t]
      end
      return leaf_of[t]
    end)
    local results = V.results(fn(table.unpack(given, 1, given.n)))
    local total
    for _, j in ipairs(outputs(results)) do
      local term = (results[j] * M.cotangent(results[j], j)):sum()
      total = total and total + term or term
    end
    -- not backward: a gradient with a graph, left in a parameter that fn holds, is never freed
    local grads = core.grad({total}, leaves, {create_graph = true, allow_unused = true})
    return table.unpack(grads, 1, leaves.n)
  end
  opt.linear = true
  gradcheck(gradients, args, opt, 2)
end

return M
