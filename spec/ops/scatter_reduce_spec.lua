--- scatter_reduce: PyTorch's values and gradients, messages. Relies on spec/helper.lua.
-- Source: core/ops/scatter_reduce.c.

local H = require "spec.helper"
local core = require "perigee.core"

H.fixtures("scatter_reduce")

local function i64(values, shape) return H.make(values, "int64", shape or {#values}) end
local function with(how, own)
  return function(t)
    return {t.distinct(3, 2), 1, i64({1, 3, 3, 1}, {2, 2}), t.away(0, 3, 2), how, own}
  end
end

H.op("scatter_reduce", {
  args = with "prod",
  more = {with("sum", false), with("mean", false), with "mean", with("amax", false), with "amin",
    with("prod", false)},
  large = function(t)
    return {t.randn(50, 90), 1, t.int(1, 50, {200, 90}), t.randn(200, 90), "prod"}
  end,
  empty = function(t) return {t.randn(3), 1, i64 {}, t.randn(0), "sum"} end,
  wrong_shape = {
    {function(t) return {t.randn(3), 1, i64 {1, 2}, t.randn(1), "sum"} end,
      "'index': .*got %[2%]"},
    {function(t) return {t.randn(3), 1, i64 {1, 4}, t.randn(2), "sum"} end,
      "expected 1%.%.3.*, got 4 at position 2"},
    {function(t) return {t.randn(3), 1, i64 {1}, t.randn(1)} end, "'reduce': .*got nothing"},
    {function(t) return {t.randn(3), 1, i64 {1}, t.randn(1), "max"} end,
      "'reduce': expected one of sum|prod|mean|amax|amin, got 'max'"}},
  wrong_dtype = {{function(t) return {t.randn(3), 1, t.randn(1), t.randn(1), "sum"} end,
    "'index': expected int64"},
    {function(t) return {t.randn(3), 1, i64 {1}, i64 {1}, "sum"} end, "expected float32"}},
})

describe("scatter_reduce", function()
  it("shares the gradient of an extreme value", function()
    local x = H.leaf(core.tensor {1, 5}, true)
    local src = H.leaf(core.tensor {5, 5, 0}, true)
    core.ops.scatter_reduce(x, 1, i64 {2, 2, 1}, src, "amax"):sum():backward()
    H.same(x.grad, {1, 1 / 3})
    H.same(src.grad, {1 / 3, 1 / 3, 0})
  end)
end)
