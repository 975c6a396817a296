--- Reductions: PyTorch's values and gradients, every dim and layout, accuracy, messages.
-- Relies on spec/helper.lua. Sources: core/ops/reduce.c, core/ops/fold.h, core/ops/reduction.h.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("reduce")
H.fixtures("spread")

local function x(...)
  local shape, rest = {2, 3, 4}, table.pack(...)
  return function(t) return {t.distinct(shape), table.unpack(rest, 1, rest.n)} end
end
local function ints(...)
  local rest = table.pack(...)
  return function(t) return {t.int(1, 5, {2, 3}), table.unpack(rest, 1, rest.n)} end
end

local more = {x(1), x(-1, true), x({1, 3}), x({2, 3}, true)}
local large = function(t) return {t.distinct(70, 1100), 1} end
for _, name in ipairs {"sum", "mean"} do
  H.op(name, {
    args = x(2), more = {x(), table.unpack(more)}, large = large,
    empty = {function(t) return {t.randn(0, 3), 1} end, {3}},
    wrong_shape = {{x(4), "expected 1%.%.3 or %-3%.%.%-1, got 4"}, {x(0), "%.%.%-1, got 0"},
      {x({1, -3}), "expected each dim once"}},
    wrong_dtype = name == "mean" and {ints(1), "expected float32 or float64, got int64"} or nil,
  })
end
H.op("prod", {
  args = function(t) return {t.away(0, 3, 4), 2} end,
  more = {function(t) return {t.away(0, 2, 3)} end}, large = function(t)
    return {t.uniform(0.9, 1.1, 70, 300), 1}
  end,
  empty = {function(t) return {t.randn(0, 3), 1} end, {3}},
  wrong_shape = {x(4), "%.%.%-1, got 4"},
})
for _, name in ipairs {"amax", "amin"} do
  H.op(name, {
    args = x(2), more = {x(), table.unpack(more)}, large = large,
    empty = {function(t) return {t.randn(0, 3), 2} end, {0}},
    wrong_shape = {{function(t) return {t.randn(3, 0), 2} end,
      "'input': expected elements to reduce in dim 2, got %[3 x 0%]"},
      {function(t) return {t.randn(0)} end, "in dim 1, got %[0%]"}},
  })
end
for _, name in ipairs {"any", "all"} do
  H.op(name, {
    args = function(t) return {t.bool(3, 4), 2} end,
    more = {function(t) return {t.byte(3, 4)} end, function(t) return {t.randn(3, 4), 1, true} end},
    empty = {function(t) return {t.bool(0, 3), 1} end, {3}},
    wrong_shape = {x(4), "%.%.%-1, got 4"},
  })
end
H.op("count_nonzero", {
  args = function(t) return {t.int(-1, 1, {3, 4}), 2} end,
  more = {function(t) return {t.bool(3, 4, 2), {1, 3}} end},
  empty = {function(t) return {t.bool(0, 3), 1} end, {3}},
  wrong_shape = {x(4), "%.%.%-1, got 4"},
})
for _, name in ipairs {"var", "std", "var_mean", "std_mean"} do
  H.op(name, {
    args = x(2), more = {x(), x({1, 3}, false), x(3, true, true), x(1, {correction = 0})},
    large = large, empty = {function(t) return {t.randn(0, 3), 2} end, {0}},
    wrong_shape = {{x(4), "%.%.%-1, got 4"},
      {x(1, true, {correction = 2}), "'correction': expected nothing beside 'unbiased', got 2"}},
    wrong_dtype = {ints(1), "expected float32 or float64, got int64"},
  })
end
H.op("norm", {
  args = function(t) return {t.away(0, 3, 4), 2, 2} end,
  more = {function(t) return {t.away(0, 3, 4)} end, function(t) return {t.away(0, 3, 4), 1, 1} end,
    function(t) return {t.away(0, 3, 4), 3, {1, 2}} end,
    function(t) return {t.away(0, 3, 4), 1.5, 2, true} end,
    function(t) return {t.distinct(3, 4), math.huge, 2} end,
    function(t) return {t.distinct(3, 4), -math.huge, 1} end},
  large = function(t) return {t.randn(70, 1100), 2, 1} end,
  empty = {function(t) return {t.randn(0, 3), 2, 1} end, {3}},
  wrong_shape = {{function(t) return {t.randn(3), 2, 2} end, "%.%.%-1, got 2"},
    {function(t) return {t.randn(3), 0 / 0} end, "'p'"},
    {function(t) return {t.randn(0), math.huge} end, "'input': .*got %[0%]"}},
  wrong_dtype = {ints(), "expected float32 or float64, got int64"},
})
H.op("logsumexp", {
  args = x(2), more = more, large = large, empty = {function(t) return {t.randn(0, 3), 2} end, {0}},
  wrong_shape = {x(4), "%.%.%-1, got 4"},
})

describe("reductions", function()
  -- sum over dims (a set), element by element in Lua
  local function naive(t, set)
    local shape, values, sums = t.shape, H.values(t), {}
    for n, v in ipairs(values) do
      local rest, key = n - 1, 0
      local unit = 1
      for d = #shape, 1, -1 do
        local at = rest % shape[d]
        rest = rest // shape[d]
        if not set[d] then
          key = key + at * unit
          unit = unit * shape[d]
        end
      end
      sums[key + 1] = (sums[key + 1] or 0) + v
    end
    return sums
  end

  it("sum over any dims of any layout", function()
    for _, shape in ipairs {{3, 5, 7, 2}, {20, 3, 4, 6}, {2, 1, 40, 33}, {70, 9, 3, 2}} do
      local plain = H.make(H.values(ops.cumsum(ops.ones(shape), 1)), "float64", shape)
      local views = {plain, ops.permute(plain, {1, 4, 2, 3}), ops.permute(plain, {4, 3, 2, 1}),
        ops.flip(plain, {3})}
      for _, view in ipairs(views) do
        for bits = 1, 15 do
          local dims, set = {}, {}
          for d = 1, 4 do
            if bits >> (d - 1) & 1 == 1 then
              dims[#dims + 1] = d
              set[d] = true
            end
          end
          assert.same(naive(view, set), H.values(ops.sum(view, dims)))
        end
      end
    end
  end)

  it("sum float32 as exactly as a float32 can say", function()
    local n = 3000001
    local t = ops.full({n}, 0.1)
    H.same(t:sum():item() / n, 0.1, 1e-6)
    H.same(ops.full({n, 2}, 0.1):sum(1)[1]:item() / n, 0.1, 1e-6)
  end)

  -- what each op makes of a list of numbers
  local lists = {
    sum = function(v)
      local total = 0
      for _, e in ipairs(v) do total = total + e end
      return total
    end,
    amax = function(v)
      local best = v[1]
      for _, e in ipairs(v) do
        if e ~= e or e > best then best = e end
        if e ~= e then break end
      end
      return best
    end,
    count_nonzero = function(v)
      local n = 0
      for _, e in ipairs(v) do n = n + (e ~= 0 and 1 or 0) end
      return n
    end,
  }
  lists.mean = function(v) return lists.sum(v) / #v end
  lists.var = function(v)
    local mean, total = lists.mean(v), 0
    for _, e in ipairs(v) do total = total + (e - mean) ^ 2 end
    return total / (#v - 1)
  end
  lists.logsumexp = function(v)
    local total = 0
    for _, e in ipairs(v) do total = total + math.exp(e) end
    return math.log(total)
  end

  it("fold rows of any length, whatever their number and distance", function()
    for _, n in ipairs {2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 130, 200,
      1023, 1024, 1500, 16385} do
      for _, dtype in ipairs {"float32", "float64"} do
        local rows = n > 1000 and 3 or 35
        core.manual_seed(n)
        local wide = ops.rand({rows, n + 3}):to(dtype)
        for _, t in ipairs {wide:narrow(2, 2, n), ops.transpose(wide:narrow(2, 1, n), 1, 2)} do
          local dim = t.shape[1] == rows and 2 or 1
          for name, of in pairs(lists) do
            local results = ops[name](t, dim)
            for r = 1, rows, 3 do
              local row = ops.select(t, 3 - dim, r)
              H.same(results[r]:item(), of(H.values(row)), dtype == "float32" and 2e-5 or 1e-11)
            end
          end
        end
      end
    end
  end)

  it("give a row the same bits wherever it stands", function()
    for _, n in ipairs {5, 16, 100, 128, 1500} do
      local row = ops.randn({n})
      local t = ops.repeat_interleave(ops.reshape(row, {1, n}), 37, 1)
      for _, name in ipairs {"sum", "mean", "var", "amin", "logsumexp", "prod"} do
        local results = ops[name](t, 2)
        for r = 1, 37 do assert(results[r]:item() == results[37]:item()) end
        assert(ops[name](t:narrow(1, 20, 1), 2):item() == results[1]:item())
      end
    end
  end)

  it("keep NaN, infinities and zeros' signs at every place of a row", function()
    local nan, inf = 0 / 0, math.huge
    for _, n in ipairs {1, 5, 17, 70, 140} do
      for _, dtype in ipairs {"float32", "float64"} do
        local t = ops.add(ops.eye(n), 1):to(dtype) -- row r has its 2 at place r
        local special = function(v) return ops.where(t:gt(1.5), ops.full({1}, v):to(dtype), t) end
        for _, dim in ipairs {1, 2} do
          for _, name in ipairs {"sum", "mean", "prod", "amax", "amin", "logsumexp", "norm"} do
            local args = name == "norm" and {2, dim} or {dim}
            for _, e in ipairs(H.values(ops[name](special(nan), table.unpack(args)))) do
              assert(e ~= e, name)
            end
          end
          for _, name in ipairs {"sum", "mean", "prod", "amax", "logsumexp"} do
            local results = H.values(ops[name](special(inf), dim))
            for _, e in ipairs(results) do assert(e == inf, name) end
          end
          for _, e in ipairs(H.values(ops.amin(special(-inf), dim))) do assert(e == -inf) end
        end
      end
      local zeros, least = ops.full({20, n}, -0.0), ops.full({20, n}, -inf)
      for _, e in ipairs(H.values(ops.amax(zeros, 2))) do assert(1 / e == -inf) end
      for _, e in ipairs(H.values(ops.amax(least, 2))) do assert(e == -inf) end
    end
  end)

  it("wrap integer sums and products as int64 does", function()
    local big = H.make({math.maxinteger, 1}, "int64", {2})
    assert(big:sum():item() == math.mininteger)
    assert(ops.prod(H.make({math.maxinteger, 2}, "int64", {2})):item() == -2)
  end)

  it("give a gradient that costs no memory", function()
    local t = ops.ones({500, 500})
    t.requires_grad = true
    t:sum():backward()
    H.same(t.grad:sum():item(), 250000)
  end)
end)

it("prod has the same gradients for the second ones, with zeros and without", function()
  local some = H.make({0, 1, -2, 0, 3, 0, 0.5, 2, 4, 0, 1.5, -1}, "float64", {2, 3, 2})
  for _, dim in ipairs {1, 2, {1, 3}, {}} do
    local fn = function(t) return t:prod(dim) end
    local grads = {}
    for i = 1, 2 do
      local leaf = some:clone()
      leaf.requires_grad = true
      local y = fn(leaf)
      grads[i] = core.grad((y * H.cotangent(y, 1)):sum(), {leaf}, {create_graph = i == 2})[1]
    end
    H.same(grads[2]:detach(), grads[1])
    H.gradgradcheck(fn, some)
  end
end)
