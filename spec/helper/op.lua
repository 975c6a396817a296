--- H.op: the checks that every op must pass, generated from one table per op.
-- Relies on spec/helper/values.lua, check.lua and perigee.core.
-- Spec: spec/helper_spec.lua.

local busted = require "busted"
local core = require "perigee.core"
require "perigee.tensor" -- puts its functions into core.ops
local V = require "spec.helper.values"
local C = require "spec.helper.check"

local M = {}

local infos
--- core.op_info() by name.
function M.op_info(name)
  if not infos then
    infos = {}
    for _, info in ipairs(core.op_info()) do
      for _, word in ipairs(info.names) do infos[word] = info end
    end
  end
  return infos[name]
end

local function fail(fmt, ...) busted.fail(fmt:format(...), 3) end

-- Arguments as a packed list; spec functions return {a, b, ..}, with n where it contains nil.
local function arguments(make, dtype, seed)
  local list = make(V.generator(dtype, seed or 11))
  list.n = list.n or #list
  return list
end

local function call(fn, args)
  return V.results(fn(table.unpack(args, 1, args.n)))
end

-- Leaves for every tensor of args (float ones want a gradient where `grad`), laid out by `layout`.
local function prepare(args, grad, layout, fixed)
  local leaves, known = {}, {}
  local copies = V.replace(args, function(t)
    if known[t] then return known[t] end
    local leaf = V.leaf(t)
    if layout then leaf = layout(leaf) end
    if grad and V.is_float(t) and not fixed[t] then
      leaf.requires_grad = true
      leaves[#leaves + 1] = leaf
    end
    known[t] = leaf
    return leaf
  end)
  return copies, leaves
end

-- Runs fn on fresh leaves and backward through every output that carries a gradient.
-- Returns the results and the gradients (false where there is none).
local function run(fn, args, opt)
  core.manual_seed(3)
  local copies, leaves = prepare(args, opt.grad, opt.layout, opt.fixed or {})
  local results = call(fn, copies)
  local places = {}
  for j = 1, results.n do
    local y = results[j]
    if V.is_float(y) and y.requires_grad then places[#places + 1] = j end
  end
  for n, j in ipairs(places) do
    local g = opt.spread and core.ops.expand(V.make({1.25}, results[j].dtype, {}), results[j].shape)
      or C.cotangent(results[j], j)
    if opt.rounded then g = core.ops.to(core.ops.to(g, "bfloat16"), g.dtype) end
    if opt.layout then g = opt.layout(g) end
    core.backward(results[j], g, {retain_graph = n < #places})
  end
  local grads = {}
  for k, leaf in ipairs(leaves) do grads[k] = leaf.grad or false end
  return results, grads
end

local function check_equal(results, grads, expected, expected_grads, tol, what, any_dtype)
  for j = 1, expected.n do
    local different = (core.is_tensor(expected[j]) or type(expected[j]) == "number")
      and C.compare(results[j], expected[j], {tol = tol, any_dtype = any_dtype})
    if different then fail("%s: output %d: %s", what, j, different) end
  end
  for k, grad in ipairs(expected_grads) do
    local mine = grads[k]
    if (mine == false) ~= (grad == false) then
      fail("%s: gradient %d: there in one run only", what, k)
    end
    local different = grad and C.compare(mine, grad, {tol = tol})
    if different then fail("%s: gradient %d: %s", what, k, different) end
  end
end

local function rounded(t)
  return t.dtype == "float32" and t:to "bfloat16":to "float32" or t
end

-- Results of bfloat16 against those of float32: equal up to tol at the scale of the largest
-- element, and bfloat16 where those are float32.
local function check_half(ours, expected, what, tol)
  for j = 1, expected.n or #expected do
    local mine, wide = ours[j], expected[j]
    if core.is_tensor(wide) and wide.dtype == "float32" then
      if not mine then fail("%s %d: there in float32 only", what, j) end
      if mine.dtype ~= "bfloat16" then
        fail("%s %d: expected bfloat16, got %s", what, j, mine.dtype)
      end
      local got, values, largest = V.values(mine), V.values(wide), 0
      for _, v in ipairs(values) do
        if math.abs(v) < math.huge then largest = math.max(largest, math.abs(v)) end
      end
      for i, e in ipairs(values) do
        local a = got[i]
        local near = math.abs(a - e) <= largest * tol or (a ~= a and e ~= e)
        if a ~= e and not near then
          fail("%s %d: element %d: expected %.9g, got %.9g", what, j, i, e, a)
        end
      end
    elseif core.is_tensor(wide) then
      local different = C.compare(mine, wide, {})
      if different then fail("%s %d: %s", what, j, different) end
    end
  end
end

local function positions(list, args)
  local set = {}
  for _, at in ipairs(list or {}) do
    for _, t in ipairs(V.tensors(args[at])) do set[t] = true end
  end
  return set
end

-- One pair {function, pattern}, or a list of such pairs.
local function pairs_of(spec)
  if not spec then return {} end
  return type(spec[1]) == "function" and {spec} or spec
end

local function shapes(results)
  local text = {}
  for j = 1, results.n do
    local y = results[j]
    text[j] = core.is_tensor(y)
      and ("%s[%s]"):format(y.dtype, table.concat(y.shape, " x ")) or tostring(y)
  end
  return table.concat(text, ", ")
end

-- One run with its n-th allocation failing (-1: none); everything it made is dropped.
-- Returns whether it passed, and the message.
local function attempt(fn, make, dtype, grad, fixed, n)
  local args = arguments(make, dtype)
  local unmoved = positions(fixed, args)
  local cotangents = {}
  core.manual_seed(3)
  do -- a dry run for the shapes of the outputs, so that only the op's own work is starved
    local results = call(fn, (prepare(args, grad, nil, unmoved)))
    for j = 1, results.n do
      if V.is_float(results[j]) and results[j].requires_grad then
        cotangents[j] = C.cotangent(results[j], j)
      end
    end
  end
  local copies, leaves = prepare(args, grad, nil, unmoved)
  core.manual_seed(3)
  core.fail_after(n)
  local ok, message = pcall(function()
    local results = call(fn, copies)
    for j = 1, results.n do
      if cotangents[j] then core.backward(results[j], cotangents[j], {retain_graph = true}) end
    end
  end)
  core.fail_after(-1)
  for _, leaf in ipairs(leaves) do leaf.grad = nil end
  return ok, message
end

local function live()
  collectgarbage()
  collectgarbage()
  return core.memory().live
end

-- Lets the n-th allocation of one run fail, for n = 1, 2, .. until the run passes: each failure is
-- clean, and nothing is left over at the end.
local function starve(...)
  local given = table.pack(...)
  local function try(n)
    given[given.n + 1] = n
    return attempt(table.unpack(given, 1, given.n + 1))
  end
  try(-1) -- what is made once and kept (primitives by shape, scratch memory) is made here
  local before = live()
  local n, ok, message = 0
  repeat
    n = n + 1
    ok, message = try(n)
    if not ok and not tostring(message):find "out of memory" then
      fail("allocation %d failed: expected 'out of memory', got: %s", n, tostring(message))
    end
  until ok or n == 10000
  if not ok then fail "still failing after 10000 allocations" end
  local rest = live() - before
  if rest == 0 then return end
  for k = 1, n do -- whose failure was it?
    before = live()
    try(k)
    local left = live() - before
    if left ~= 0 then fail("allocation %d failed: %d bytes are left over", k, left) end
  end
  fail("%d bytes are left over", rest)
end

--- Declares the tests that every op must pass, in a `describe` block named after it: gradients
-- against central differences, strided equals contiguous, shape-only equals real, empty input,
-- wrong shape, wrong dtype, failing allocations, 1 thread equals 2 threads bit for bit, in-place
-- equals pure where the op has that form.
-- @param name the op's name in core.ops
-- @param spec table:
--   args(t) -> list of arguments as a script gives them (required; n = where nil is among them)
--   fn: what to call instead of core.ops[name]
--   more: list of further args functions for gradcheck, strided and, up to 100 numbers, second
--     gradients
--   large(t): arguments big enough to be split over threads (default: args)
--   empty(t): arguments with an empty tensor; false where there is no such thing; {f, shape} checks
--   wrong_shape, wrong_dtype = {f, pattern} or a list of them: messages name the op and match
--   bfloat16 = false: not to be compared with float32 in bfloat16; a number: tolerance of gradients
--   nograd: no gradient; smooth = false: no second gradient; fixed: positions without a gradient
--   inplace = false: do not try the in-place form; meta = false: shapes depend on data
--   threads = false: a library does the work whose bits depend on threads (BLAS); compared to 1e-5
--   tol, rtol, atol, eps: terms of comparison
function M.op(name, spec)
  local describe, it = busted.describe, busted.it
  local fn = spec.fn or core.ops[name]
  local info = M.op_info(name) or {}
  local grad = not (spec.nograd or info.nodiff)
  local cases = {spec.args}
  for _, more in ipairs(spec.more or {}) do cases[#cases + 1] = more end

  describe(name, function()
    it("exists", function()
      if not fn then fail("core.ops has no '%s'", name) end
    end)
    if not fn then return end

    -- Arguments of case k, the terms of comparison behind them.
    local function with_terms(make, k)
      local args = arguments(make, "float64", k)
      local fixed = {}
      for t in pairs(positions(spec.fixed, args)) do fixed[#fixed + 1] = t end
      local terms = {fixed = fixed, eps = spec.eps, rtol = spec.rtol, atol = spec.atol}
      args.n = args.n + 1
      args[args.n] = terms
      return args, terms
    end

    if grad then
      it("has the gradient of its central differences", function()
        for k, make in ipairs(cases) do
          local args = with_terms(make, k)
          C.gradcheck(fn, table.unpack(args, 1, args.n))
        end
      end)
      if spec.smooth ~= false then
        it("has second gradients", function()
          for k, make in ipairs(cases) do
            local args, terms = with_terms(make, k)
            terms.eps = spec.eps or 1e-5
            local count = 0
            for _, t in ipairs(V.tensors(args)) do count = count + #V.values(t) end
            if k == 1 or count <= 100 then C.gradgradcheck(fn, table.unpack(args, 1, args.n)) end
          end
        end)
      end
    end

    it("computes the same from strided inputs", function()
      for k, make in ipairs(cases) do
        for _, dtype in ipairs(V.FLOATS) do
          local args = arguments(make, dtype, k)
          local opt = {grad = grad, fixed = positions(spec.fixed, args)}
          local tol = dtype == "float64" and (spec.tol or 1e-11) or 1e-5
          local results, grads = run(fn, args, opt)
          for layout, view in pairs(V.layouts) do
            opt.layout = view
            local ours, our_grads = run(fn, args, opt)
            check_equal(ours, our_grads, results, grads, tol, layout .. " " .. dtype)
          end
          if grad then -- a gradient without strides of its own, as sum() sends it back
            opt.layout, opt.spread = nil, true
            local ours, our_grads = run(fn, args, opt)
            opt.layout = function(t) return t:contiguous() end
            results, grads = run(fn, args, opt)
            check_equal(ours, our_grads, results, grads, tol, "expanded gradient " .. dtype)
          end
        end
      end
    end)

    if #V.tensors(arguments(spec.args, "float32")) > 0 and spec.bfloat16 ~= false then
      it("computes in bfloat16 as float32 rounded at the end", function()
        for k, make in ipairs(cases) do
          local args = V.replace(arguments(make, "float32", k), rounded)
          local opt = {grad = grad, fixed = positions(spec.fixed, args), rounded = true}
          local results, grads = run(fn, args, opt)
          local narrow = {}
          local halves = V.replace(args, function(t)
            narrow[t] = narrow[t] or (t.dtype == "float32" and t:to "bfloat16") or t
            return narrow[t]
          end)
          opt.fixed = positions(spec.fixed, halves)
          local ours, our_grads = run(fn, halves, opt)
          check_half(ours, results, "output", 1 / 128)
          check_half(our_grads, grads, "gradient", tonumber(spec.bfloat16) or 1 / 32)
        end
      end)
    end

    if spec.meta ~= false then
      it("knows its shapes without data", function()
        for _, make in ipairs(cases) do
          local args = arguments(make, "float32")
          local real = call(fn, args)
          local only = call(fn, V.replace(args, function(t) return core.meta(t.dtype, t.shape) end))
          if shapes(only) ~= shapes(real) then
            fail("shape-only: %s, with data: %s", shapes(only), shapes(real))
          end
        end
      end)
    end

    if spec.empty ~= false then
      it("runs on an empty input", function()
        local make = spec.empty
        if not make then fail("H.op('%s') names no empty input", name) end
        local shape
        if type(make) == "table" then make, shape = make[1], make[2] end
        local args = arguments(make, "float32")
        local results = run(fn, args, {grad = grad, fixed = positions(spec.fixed, args)})
        if spec.meta ~= false then
          local only = call(fn, V.replace(args, function(t) return core.meta(t.dtype, t.shape) end))
          if shapes(only) ~= shapes(results) then
            fail("shape-only: %s, with data: %s", shapes(only), shapes(results))
          end
        end
        if shape then
          local got = table.concat(results[1].shape, " x ")
          if got ~= table.concat(shape, " x ") then
            fail("expected shape [%s], got [%s]", table.concat(shape, " x "), got)
          end
        end
      end)
    end

    for what, list in pairs {shape = pairs_of(spec.wrong_shape), dtype = pairs_of(spec.wrong_dtype)}
    do
      for k, pair in ipairs(list) do
        it(("refuses a wrong %s%s"):format(what, #list > 1 and " (" .. k .. ")" or ""), function()
          local args = arguments(pair[1], "float32")
          C.raises(function() fn(table.unpack(args, 1, args.n)) end,
            {pair[2], spec.fn and "" or name:gsub("%p", "%%%0")})
        end)
      end
    end

    it("survives every failing allocation", function()
      starve(fn, spec.args, "float32", grad, spec.fixed)
    end)

    it("gives the same " .. (spec.threads == false and "numbers" or "bits")
      .. " with 1 and 2 threads", function()
      local threads = core.num_threads()
      for _, dtype in ipairs(V.FLOATS) do
        local args = arguments(spec.large or spec.args, dtype)
        local opt = {grad = grad, fixed = positions(spec.fixed, args)}
        local found = {}
        for n = 1, 2 do
          core.num_threads(n)
          local ok, results, grads = pcall(run, fn, args, opt)
          core.num_threads(threads)
          if not ok then error(results, 0) end
          found[n] = V.tensors {table.move(results, 1, results.n, 1, {}), grads}
        end
        for j, one in ipairs(found[1]) do
          local two = found[2][j]
          if spec.threads == false then
            local different = C.compare(two, one, {tol = 1e-5})
            if different then fail("%s: result %d: %s", dtype, j, different) end
          elseif one:bytes() ~= two:bytes() then
            fail("%s: result %d differs", dtype, j)
          end
        end
      end
    end)

    local changing = core.ops[name .. "_"]
    if changing and not spec.fn and spec.inplace ~= false and (info.inplace or spec.inplace) then
      it("works in place", function()
        for _, dtype in ipairs(V.FLOATS) do
          local args = arguments(spec.args, dtype)
          local opt = {grad = grad, fixed = positions(spec.fixed, args)}
          local results, grads = run(fn, args, opt)
          local function there(x, ...)
            local y = x:clone()
            local same = changing(y, ...)
            if not rawequal(same, y) then fail("%s_ does not return its tensor", name) end
            return y
          end
          local ours, our_grads = run(there, args, opt)
          check_equal(ours, our_grads, results, grads, dtype == "float64" and 1e-12 or 1e-6,
            "in place " .. dtype, true)
        end
      end)
    end
  end)
end

return M
