--- max, min, median, argmax, argmin: PyTorch's values and gradients, ties, NaN, messages.
-- Relies on spec/helper.lua. Source: core/ops/extreme.c.

local H = require "spec.helper"
local core = require "perigee.core"
local ops = core.ops

H.fixtures("extreme")

local function x(...)
  local rest = table.pack(...)
  return function(t) return {t.distinct(2, 3, 4), table.unpack(rest, 1, rest.n)} end
end

for _, name in ipairs {"max", "min", "median"} do
  H.op(name, {
    args = x(2), more = {x(), x(1), x(-1, true)},
    large = function(t) return {t.distinct(90, 500), 1} end,
    empty = {function(t) return {t.randn(0, 3), 2} end, {0}},
    wrong_shape = {{x(4), "%.%.%-1, got 4"},
      {function(t) return {t.randn(3, 0), 2} end, "'input': .*got %[3 x 0%]"},
      {function(t) return {t.randn(0)} end, "in dim 1, got %[0%]"}},
  })
end
for _, name in ipairs {"argmax", "argmin"} do
  H.op(name, {
    args = x(2), more = {x(), x(1), x(-1, true)},
    large = function(t) return {t.distinct(90, 900)} end,
    empty = {function(t) return {t.randn(0, 3), 2} end, {0}},
    wrong_shape = {{x(4), "%.%.%-1, got 4"},
      {function(t) return {t.randn(3, 0), 2} end, "'input': .*got %[3 x 0%]"}},
  })
end

describe("selections", function()
  it("name the first of equal elements", function()
    local t = H.make({2, 5, 5, 1, 1, 5}, "float32", {2, 3})
    local _, at = t:max(2)
    H.same(at, H.make({2, 3}, "int64", {2}))
    H.same(t:argmin():item(), 4)
    local long = ops.zeros({1, 1000})
    long[{1, 700}], long[{1, 300}] = 1, 1
    H.same(long:argmax():item(), 300)
    _, at = long:max(2)
    H.same(at:item(), 300)
  end)

  it("find NaN wherever it is", function()
    for _, n in ipairs {5, 1000} do
      local t = ops.zeros({n})
      t[n - 1] = 0 / 0
      H.same(t:argmax():item(), n - 1)
      local _, at = t:min(1)
      H.same(at:item(), n - 1)
      assert(t:max():item() ~= t:max():item())
    end
  end)

  it("work through long tensors in pieces", function()
    local t = ops.zeros({200000})
    t[150001], t[190000] = 3, 3
    H.same(t:argmax():item(), 150001)
    H.same(t:max():item(), 3)
  end)
end)
